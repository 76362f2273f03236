//! Wire formats to [`ProfileUpdate`]: AEP's message, or the bare entity.

use serde_json::{Map, Value};

use super::Inlet;
use crate::{
    clock::Timestamp,
    profile::{
        identity::{Identities, Identity, Namespace, NotAnIdentity},
        path::Attributes,
        update::{ProfileUpdate, UpdateId},
    },
};

/// Deepest nesting of an entity. Stored snapshots nest a little deeper, and JSON is read to 128 levels.
const DEPTH_MAX: usize = 64;

/// Why a body is not an update. The text goes to the sender and names paths, never values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAnUpdate {
    /// It is not JSON.
    #[error("the body is not JSON: {0}")]
    NotJson(String),
    /// It is JSON of another shape.
    #[error("{0}")]
    Shape(String),
    /// It asks for an operation that this inlet does not do.
    #[error("header.operations.data `{0}` is not supported, only `merge` is")]
    Operation(String),
    /// It names nobody.
    #[error("the message names no identity: give an identityMap, or one of the inlet's identity attributes ({0})")]
    NoIdentity(String),
    /// It names somebody in a way that cannot be.
    #[error("{path}: {source}")]
    Identity {
        /// Where.
        path: String,
        /// Why.
        source: NotAnIdentity,
    },
}

/// Reads a body as an update of `inlet`, received at `now`.
///
/// # Errors
/// [`NotAnUpdate`].
pub fn read(inlet: &Inlet, body: &[u8], now: Timestamp) -> Result<ProfileUpdate, NotAnUpdate> {
    let message = serde_json::from_slice(body).map_err(|error| NotAnUpdate::NotJson(error.to_string()))?;
    let mut attributes = entity(message)?;
    let map = attributes.remove("identityMap");
    // Memberships are ours to decide.
    attributes.remove("segmentMembership");
    if attributes.values().any(|value| deeper_than(value, DEPTH_MAX)) {
        return Err(NotAnUpdate::Shape(format!("the entity nests deeper than {DEPTH_MAX} levels")));
    }
    let mut named = map.map(identity_map).transpose()?.unwrap_or_default();
    named.extend(declared(inlet, &attributes)?);
    let first = named.first().map(|(identity, _)| identity);
    let Some(primary) = named.iter().find(|(_, primary)| *primary).map(|(identity, _)| identity).or(first).cloned()
    else {
        let paths: Vec<String> = inlet.identities.iter().map(|field| field.path.to_string()).collect();
        return Err(NotAnUpdate::NoIdentity(if paths.is_empty() {
            "it has none".to_owned()
        } else {
            paths.join(", ")
        }));
    };
    let identities: Identities = named.into_iter().map(|(identity, _)| identity).collect();
    let (id, dataset) = (UpdateId::new(now), inlet.dataset.clone());
    Ok(ProfileUpdate { id, received_at: now, dataset, primary, identities, attributes })
}

/// The entity of an AEP message (`header` and `body`), or the message itself.
fn entity(message: Value) -> Result<Attributes, NotAnUpdate> {
    let mut message = object(message, "the body")?;
    if !(message.contains_key("header") && message.contains_key("body")) {
        return Ok(message);
    }
    match message["header"].pointer("/operations/data") {
        None => {}
        Some(Value::String(operation)) if operation == "merge" => {}
        Some(other) => return Err(NotAnUpdate::Operation(other.as_str().unwrap_or("?").to_owned())),
    }
    let mut body = object(message.remove("body").unwrap_or_default(), "body")?;
    let entity = body.remove("xdmEntity");
    object(entity.ok_or_else(|| NotAnUpdate::Shape("body.xdmEntity is missing".to_owned()))?, "body.xdmEntity")
}

/// The identities of an `identityMap`, each with whether it is said to be primary. Takes XDM's `xdm:` prefix too.
fn identity_map(map: Value) -> Result<Vec<(Identity, bool)>, NotAnUpdate> {
    let mut named = Vec::new();
    for (name, items) in object(map, "identityMap")? {
        let Value::Array(items) = items else {
            return Err(NotAnUpdate::Shape(format!("identityMap.{name} is not an array")));
        };
        for (index, item) in items.into_iter().enumerate() {
            let path = format!("identityMap.{name}[{index}]");
            let item = object(item, &path)?;
            let member = |member: &str| item.get(member).or_else(|| item.get(&format!("xdm:{member}")));
            let Some(Value::String(id)) = member("id") else {
                return Err(NotAnUpdate::Shape(format!("{path}.id is not a text")));
            };
            let primary = member("primary") == Some(&Value::Bool(true));
            named.push((identity(&name, id, &path)?, primary));
        }
    }
    Ok(named)
}

/// The identities in the attributes that the inlet declares to be some.
fn declared(inlet: &Inlet, attributes: &Attributes) -> Result<Vec<(Identity, bool)>, NotAnUpdate> {
    let mut named = Vec::new();
    for field in &inlet.identities {
        let path = field.path.to_string();
        match field.path.lookup(attributes) {
            None | Some(Value::Null) => {}
            Some(Value::String(id)) => named.push((identity(field.namespace.as_str(), id, &path)?, field.primary)),
            // Beyond 64 bits a number has lost digits already, and two people would be one.
            Some(Value::Number(id)) if id.is_u64() || id.is_i64() => {
                named.push((identity(field.namespace.as_str(), &id.to_string(), &path)?, field.primary));
            }
            Some(_) => {
                return Err(NotAnUpdate::Shape(format!(
                    "{path} is an identity: send it as a text, or as a whole number below 2^64"
                )));
            }
        }
    }
    Ok(named)
}

fn identity(namespace: &str, id: &str, path: &str) -> Result<Identity, NotAnUpdate> {
    let read = Namespace::parse(namespace).and_then(|namespace| Identity::new(namespace, id));
    read.map_err(|source| NotAnUpdate::Identity { path: path.to_owned(), source })
}

fn object(value: Value, path: &str) -> Result<Map<String, Value>, NotAnUpdate> {
    match value {
        Value::Object(members) => Ok(members),
        _ => Err(NotAnUpdate::Shape(format!("{path} is not a JSON object"))),
    }
}

fn deeper_than(value: &Value, levels: usize) -> bool {
    let below = |inner: &Value| levels == 0 || deeper_than(inner, levels - 1);
    match value {
        Value::Array(items) => items.iter().any(below),
        Value::Object(members) => members.values().any(below),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::inlet::IdentityField;

    fn inlet() -> Inlet {
        let field = IdentityField {
            path: "card".parse().unwrap(),
            namespace: Namespace::parse("Card").unwrap(),
            primary: false,
        };
        Inlet { name: "web".to_owned(), dataset: "crm".to_owned(), identities: vec![field] }
    }

    fn ids(body: &str) -> Result<Vec<String>, NotAnUpdate> {
        let update = read(&inlet(), body.as_bytes(), Timestamp::from_millis(0))?;
        Ok(update.identities.iter().map(|identity| identity.value().to_owned()).collect())
    }

    #[test]
    fn number_that_would_lose_digits_is_no_identity() {
        assert_eq!(ids(r#"{"card": 18446744073709551615}"#).unwrap(), ["18446744073709551615"]);
        assert_eq!(ids(r#"{"card": "123456789012345678901"}"#).unwrap(), ["123456789012345678901"]);
        for number in ["123456789012345678901", "18446744073709551616", "1.0", "1e3"] {
            let refused = ids(&format!(r#"{{"card": {number}}}"#));
            assert!(matches!(refused, Err(NotAnUpdate::Shape(text)) if text.contains("send it as a text")), "{number}");
        }
    }

    #[test]
    fn primary_identity_is_the_one_named_so_and_else_the_first() {
        let primary = |body: Value| {
            let update = read(&inlet(), body.to_string().as_bytes(), Timestamp::from_millis(0)).unwrap();
            update.primary.value().to_owned()
        };
        let map = json!({"A": [{"id": "a"}], "B": [{"id": "b", "primary": true}, {"xdm:id": "c"}]});
        assert_eq!(primary(json!({"identityMap": map, "card": "d"})), "b");
        assert_eq!(primary(json!({"identityMap": {"A": [{"id": "a"}]}, "card": "d"})), "a");
        assert_eq!(primary(json!({"card": "d"})), "d");
    }

    proptest! {
        #[test]
        fn numbers_come_out_as_they_went_in(number in any::<f64>().prop_filter("JSON has no others", |n| n.is_finite())) {
            let body = json!({"card": "1", "number": number}).to_string();
            let update = read(&inlet(), body.as_bytes(), Timestamp::from_millis(0)).unwrap();
            prop_assert_eq!(update.attributes["number"].as_f64(), Some(number));
        }

        #[test]
        fn any_body_is_an_update_or_refused(body in any::<Vec<u8>>(), json in r#"[\[\]{}:,"a-z0-9 ]{0,64}"#) {
            drop(read(&inlet(), &body, Timestamp::from_millis(0)));
            drop(read(&inlet(), json.as_bytes(), Timestamp::from_millis(0)));
        }
    }
}
