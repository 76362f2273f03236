//! The body of an export, in the shape of AEP's HTTP API destination.
//!
//! One JSON object: the mapped attributes that the profile has, nested as in the profile; `segmentMembership` by namespace
//! and audience; `identityMap` with all identities. Member names are AEP's.

use std::{borrow::Cow, collections::BTreeMap};

use serde::Serialize;
use serde_json::Value;

use super::Mapping;
use crate::profile::{
    Profile,
    identity::{Identity, Namespace},
    membership::{Membership, Status},
    path::{AttributePath, Attributes},
};

/// A part of a body. It borrows from the profile: an export is made with most updates, and copying attributes costs more
/// than writing them.
#[derive(Serialize)]
#[serde(untagged)]
enum Part<'a> {
    Attribute(&'a Value),
    Text(Cow<'a, str>),
    Items(Vec<Self>),
    Members(Members<'a>),
}

type Members<'a> = BTreeMap<&'a str, Part<'a>>;

/// The body for `profile`, whose attributes are seen as `view`.
pub fn body(mapping: &Mapping, profile: &Profile, view: &Attributes) -> Vec<u8> {
    let mut body = Members::new();
    mapping.attributes.iter().for_each(|path| place(path, view, &mut body));
    body.insert("segmentMembership", segment_membership(mapping, profile));
    body.insert("identityMap", identity_map(profile));
    serde_json::to_vec(&body).expect("a body has text keys only")
}

/// The identities that a body names; `None` when it has none that can be read.
pub fn identities(body: &[u8]) -> Option<Vec<Identity>> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let mut found = Vec::new();
    for (namespace, items) in body.get("identityMap")?.as_object()? {
        let namespace = Namespace::parse(namespace).ok()?;
        for item in items.as_array()? {
            found.push(Identity::new(namespace.clone(), item.get("id")?.as_str()?).ok()?);
        }
    }
    (!found.is_empty()).then_some(found)
}

/// Places what stands at `path` in `view` at the same place in `body`.
fn place<'a>(path: &'a AttributePath, view: &'a Attributes, body: &mut Members<'a>) {
    let (Some(value), Some((last, parents))) = (path.lookup(view), path.names().split_last()) else { return };
    let mut members = body;
    for name in parents {
        match members.entry(name).or_insert_with(|| Part::Members(Members::new())) {
            Part::Members(inner) => members = inner,
            // A mapped ancestor was placed before: it holds all there is.
            _ => return,
        }
    }
    members.insert(last, Part::Attribute(value));
}

/// All mapped audiences that the profile has a status for, and the unmapped ones that it is in.
fn segment_membership<'a>(mapping: &Mapping, profile: &'a Profile) -> Part<'a> {
    let mut namespaces = Members::new();
    for (namespace, audiences) in profile.memberships.namespaces() {
        let shown: Members<'a> = audiences
            .iter()
            .filter(|(id, held)| held.status == Status::Realized || mapping.audiences.contains(id))
            .map(|(id, held)| (id.as_str(), membership(held)))
            .collect();
        if !shown.is_empty() {
            namespaces.insert(namespace, Part::Members(shown));
        }
    }
    Part::Members(namespaces)
}

fn membership(held: &Membership) -> Part<'static> {
    let (since, status) = (held.since.to_string().into(), held.status.as_str().into());
    Part::Members(Members::from([("lastQualificationTime", Part::Text(since)), ("status", Part::Text(status))]))
}

fn identity_map(profile: &Profile) -> Part<'_> {
    let item = |id| Part::Members(Members::from([("id", Part::Text(Cow::Borrowed(id)))]));
    let namespaces = profile.identities.namespaces();
    let items =
        namespaces.map(|(name, ids)| (name.as_str(), Part::Items(ids.iter().map(|id| item(id.as_str())).collect())));
    Part::Members(items.collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn attributes_nest_as_their_paths_say() {
        let view = json!({"person": {"name": {"firstName": "Ada", "lastName": "L"}}, "x": 1});
        for (paths, placed) in [
            (
                &["person.name.firstName", "person.birthDate", "x"][..],
                json!({"person": {"name": {"firstName": "Ada"}}, "x": 1}),
            ),
            (&["person", "person.name.firstName"], json!({"person": view["person"]})),
            (&["person.name.firstName", "person"], json!({"person": view["person"]})),
        ] {
            let paths: Vec<AttributePath> = paths.iter().map(|path| path.parse().unwrap()).collect();
            let mut body = Members::new();
            paths.iter().for_each(|path| place(path, view.as_object().unwrap(), &mut body));
            assert_eq!(serde_json::to_value(&body).unwrap(), placed, "{paths:?}");
        }
    }
}
