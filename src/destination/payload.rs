//! The body of an export, in the shape of AEP's HTTP API destination.
//!
//! One JSON object: the mapped attributes that the profile has, nested as in the profile; `segmentMembership` by namespace
//! and audience; `identityMap` with all identities. Member names are AEP's.

use serde_json::{Map, Value, json};

use super::Mapping;
use crate::profile::{
    Profile,
    membership::{Membership, Status},
    path::Attributes,
};

/// The body for `profile`, whose attributes are seen as `view`.
pub fn body(mapping: &Mapping, profile: &Profile, view: &Attributes) -> Vec<u8> {
    let mut body = Map::new();
    mapping.attributes.iter().for_each(|path| path.copy(view, &mut body));
    body.insert("segmentMembership".to_owned(), segment_membership(mapping, profile));
    body.insert("identityMap".to_owned(), identity_map(profile));
    Value::Object(body).to_string().into_bytes()
}

/// All mapped audiences that the profile has a status for, and the unmapped ones that it is in.
fn segment_membership(mapping: &Mapping, profile: &Profile) -> Value {
    let mut namespaces = Map::new();
    for (namespace, audiences) in profile.memberships.namespaces() {
        let shown: Map<String, Value> = audiences
            .iter()
            .filter(|(id, held)| held.status == Status::Realized || mapping.audiences.contains(id))
            .map(|(id, held)| (id.as_str().to_owned(), membership(held)))
            .collect();
        if !shown.is_empty() {
            namespaces.insert(namespace.to_owned(), Value::Object(shown));
        }
    }
    Value::Object(namespaces)
}

fn membership(held: &Membership) -> Value {
    json!({ "lastQualificationTime": held.since.to_string(), "status": held.status.as_str() })
}

fn identity_map(profile: &Profile) -> Value {
    let items = |values: &std::collections::BTreeSet<String>| values.iter().map(|id| json!({ "id": id })).collect();
    let namespaces = profile.identities.namespaces();
    Value::Object(namespaces.map(|(name, values)| (name.as_str().to_owned(), Value::Array(items(values)))).collect())
}
