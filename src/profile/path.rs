//! A dotted path to an attribute, such as `person.name.firstName`.

use std::{fmt, str::FromStr};

use serde_json::{Map, Value};

/// What a profile knows besides identities and memberships: a tree of JSON objects.
pub type Attributes = Map<String, Value>;

/// A path to an attribute: one or more names with dots between.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttributePath(Vec<String>);

/// Longer paths are refused: real schemas nest below ten levels.
const DEPTH_MAX: usize = 32;

/// Why a text is not a path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not an attribute path (names with single dots between, at most {DEPTH_MAX}, such as person.name.firstName)"
)]
pub struct NotAPath(String);

impl AttributePath {
    /// The names from the root down; never empty.
    pub fn names(&self) -> &[String] {
        &self.0
    }

    /// Returns what stands at this path, if anything does. `null` is a value here; merging removes it before it is kept.
    pub fn lookup<'a>(&self, attributes: &'a Attributes) -> Option<&'a Value> {
        let (first, rest) = self.0.split_first()?;
        rest.iter().try_fold(attributes.get(first)?, |value, name| value.get(name))
    }

    /// True when writing `patch` writes this path: it names the path, a descendant of it, or gives an ancestor a value
    /// that is not an object (which replaces or removes all below).
    pub fn is_written_by(&self, patch: &Attributes) -> bool {
        let mut object = patch;
        for name in &self.0 {
            match object.get(name) {
                None => return false,
                Some(Value::Object(inner)) => object = inner,
                Some(_) => return true,
            }
        }
        true
    }
}

impl FromStr for AttributePath {
    type Err = NotAPath;

    fn from_str(text: &str) -> Result<Self, NotAPath> {
        let names: Vec<String> = text.split('.').map(str::to_owned).collect();
        let good = |name: &String| !name.is_empty() && !name.chars().any(|c| c.is_control() || c.is_whitespace());
        match names.len() <= DEPTH_MAX && names.iter().all(good) {
            true => Ok(Self(names)),
            false => Err(NotAPath(text.to_owned())),
        }
    }
}

impl fmt::Display for AttributePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn attributes(value: Value) -> Attributes {
        match value {
            Value::Object(map) => map,
            other => panic!("not an object: {other}"),
        }
    }

    #[test]
    fn path_is_written_by_itself_ancestor_and_descendant() {
        let path: AttributePath = "person.name".parse().unwrap();
        for (patch, written) in [
            (json!({"person": {"name": "Ada"}}), true),
            (json!({"person": {"name": {"firstName": "Ada"}}}), true),
            (json!({"person": null}), true),
            (json!({"person": {"name": null}}), true),
            (json!({"person": {"birthDate": "1815-12-10"}}), false),
            (json!({"person": {}}), false),
            (json!({"name": "Ada"}), false),
        ] {
            assert_eq!(path.is_written_by(&attributes(patch.clone())), written, "{patch}");
        }
    }

    #[test]
    fn malformed_paths_are_refused() {
        for text in ["", ".", "a.", ".a", "a..b", "a b", "a.\n"] {
            assert!(text.parse::<AttributePath>().is_err(), "{text:?}");
        }
    }
}
