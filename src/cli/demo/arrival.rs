//! An export as it arrived at the receiver, and what one can see from its body.

use hyper::StatusCode;
use serde_json::{Map, Value};

use super::people::AUDIENCES;

/// An export that arrived, and what the receiver answered.
pub(super) struct Arrival {
    /// Its `Idempotency-Key`.
    pub(super) key: String,
    pub(super) body: Value,
    pub(super) answered: StatusCode,
}

impl Arrival {
    /// Whom it is about: first and last name.
    pub(super) fn person(&self) -> String {
        let name = |part: &str| self.body["person"]["name"][part].as_str().unwrap_or("?");
        format!("{} {}", name("firstName"), name("lastName"))
    }

    /// One line: who, what is new since the body `before`, and the answer.
    pub(super) fn line(&self, before: Option<&Value>) -> String {
        let mut news = memberships(before, &self.body);
        news.extend(identities(before, &self.body));
        news.extend(attributes(before, &self.body));
        let answered = match &self.answered {
            &StatusCode::OK => "200",
            &StatusCode::SERVICE_UNAVAILABLE => "503, come again",
            &StatusCode::UNPROCESSABLE_ENTITY => "422, not this one",
            other => other.as_str(),
        };
        format!("-> {}: {} [{answered}]", self.person(), news.join("; "))
    }

    /// The body with all membership times taken out: what can be compared.
    pub(super) fn timeless(mut body: Value) -> Value {
        let memberships = body.pointer_mut("/segmentMembership/ups").and_then(Value::as_object_mut);
        for membership in memberships.into_iter().flat_map(Map::values_mut).filter_map(Value::as_object_mut) {
            membership.remove("lastQualificationTime");
        }
        body
    }
}

fn memberships(before: Option<&Value>, after: &Value) -> Vec<String> {
    let status = |body: &Value, id: &str| body["segmentMembership"]["ups"][id]["status"].as_str().map(str::to_owned);
    let news = AUDIENCES.iter().filter_map(|audience| {
        let now = status(after, audience.id)?;
        let then = before.and_then(|before| status(before, audience.id));
        let verb = if now == "realized" { "entered" } else { "left" };
        (then.as_ref() != Some(&now)).then(|| format!("{verb} \"{}\"", audience.name))
    });
    news.collect()
}

fn identities(before: Option<&Value>, after: &Value) -> Option<String> {
    let count = |body: &Value| {
        let namespaces = body["identityMap"].as_object().into_iter().flat_map(Map::values);
        namespaces.filter_map(Value::as_array).map(Vec::len).sum::<usize>()
    };
    match (before.map_or(0, count), count(after)) {
        (then, now) if now > then => Some(format!("identities +{}", now - then)),
        _ => None,
    }
}

/// New values; all of them would be too much for the first time.
fn attributes(before: Option<&Value>, after: &Value) -> Vec<String> {
    const PATHS: [&str; 4] =
        ["/person/birthDate", "/person/name/firstName", "/person/name/lastName", "/personalEmail/address"];
    let Some(before) = before else {
        let known = PATHS.iter().filter(|path| after.pointer(path).is_some()).count();
        return vec![format!("attributes +{known}")];
    };
    let new = PATHS.iter().filter(|path| before.pointer(path) != after.pointer(path));
    new.map(|path| {
        let value = after.pointer(path).and_then(Value::as_str).unwrap_or("removed");
        format!("{} {value}", path.rsplit('/').next().unwrap_or(path))
    })
    .collect()
}
