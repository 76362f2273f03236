//! A fragment: one dataset's share of a profile, and how an update is merged into it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    identity::{Identity, Namespace},
    path::Attributes,
};
use crate::clock::Timestamp;

/// One dataset's share of a profile, under one primary identity.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Fragment {
    dataset: String,
    namespace: Namespace,
    id: String,
    /// When it was last written.
    pub written_at: Timestamp,
    /// What it says.
    pub attributes: Attributes,
}

/// Where a fragment stands in its profile: dataset, folded namespace and value of its primary identity.
pub type Place = (String, String, String);

/// The place of a dataset's fragment with this primary identity.
pub fn place(dataset: &str, primary: &Identity) -> Place {
    (dataset.to_owned(), primary.namespace().folded(), primary.value().to_owned())
}

impl Fragment {
    /// An empty fragment.
    pub fn new(dataset: &str, primary: &Identity) -> Self {
        Self {
            dataset: dataset.to_owned(),
            namespace: primary.namespace().clone(),
            id: primary.value().to_owned(),
            written_at: Timestamp::default(),
            attributes: Attributes::new(),
        }
    }

    /// Whose share it is.
    pub fn dataset(&self) -> &str {
        &self.dataset
    }

    /// Its place in the profile.
    pub fn place(&self) -> Place {
        (self.dataset.clone(), self.namespace.folded(), self.id.clone())
    }

    /// Writes a patch as RFC 7396 says: objects merge, `null` removes, all else replaces. True when that changes an
    /// attribute.
    pub fn merge(&mut self, patch: &Attributes, at: Timestamp) -> bool {
        // A wall clock that was set back must not make a later write look older.
        self.written_at = self.written_at.max(at);
        patch_object(&mut self.attributes, patch)
    }
}

/// Lays `upper` over `lower`: objects merge, all else replaces.
pub fn overlay(lower: &mut Attributes, upper: &Attributes) {
    for (name, value) in upper {
        match (lower.get_mut(name), value) {
            (Some(Value::Object(below)), Value::Object(above)) => overlay(below, above),
            _ => drop(lower.insert(name.clone(), value.clone())),
        }
    }
}

// The depth is bounded by the inlet, which refuses deeper entities.
fn patch_object(target: &mut Map<String, Value>, patch: &Map<String, Value>) -> bool {
    let mut changed = false;
    for (name, value) in patch {
        changed |= match (value, target.get_mut(name)) {
            (Value::Null, None) => false,
            (Value::Null, Some(_)) => target.remove(name).is_some(),
            (Value::Object(inner), Some(Value::Object(below))) => patch_object(below, inner),
            (Value::Object(inner), _) => {
                let mut below = Map::new();
                patch_object(&mut below, inner);
                target.insert(name.clone(), Value::Object(below));
                true
            }
            (new, Some(old)) if new == old => false,
            (new, Some(old)) => {
                *old = new.clone();
                true
            }
            (new, None) => target.insert(name.clone(), new.clone()).is_none(),
        };
    }
    changed
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Attributes {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn merge_follows_rfc_7396() {
        for (before, patch, after) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!({"a": [1]}), json!({"a": [1], "b": {}}), json!({"a": [1], "b": {}})),
            (json!({"a": {"b": 1}}), json!({"a": {"b": 1, "c": null}, "d": null}), json!({"a": {"b": 1}})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ] {
            let mut target = object(before.clone());
            let changed = patch_object(&mut target, &object(patch.clone()));
            assert_eq!((Value::Object(target), changed), (after.clone(), before != after), "{before} + {patch}");
        }
    }
}
