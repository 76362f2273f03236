//! The body of an export, in the shape of AEP's HTTP API destination.
//!
//! One JSON object: the mapped attributes that the profile has, nested as in the profile; `segmentMembership` by namespace
//! and audience; `identityMap` with all identities. Member names are AEP's.

use std::{borrow::Cow, collections::BTreeMap};

use serde::Serialize;
use serde_json::Value;

use super::{Mapping, Shown};
use crate::{
    audience::{Audience, AudienceId},
    profile::{
        Profile,
        identity::{Identity, Namespace},
        membership::{Membership, Status},
        path::{AttributePath, Attributes},
    },
};

/// A part of a body. It borrows from the profile: an export is made with most updates, and copying attributes costs more
/// than writing them.
#[derive(Serialize)]
#[serde(untagged)]
enum Part<'a> {
    Attribute(&'a Value),
    Text(Cow<'a, str>),
    Number(i64),
    Items(Vec<Self>),
    Members(Members<'a>),
}

type Members<'a> = BTreeMap<&'a str, Part<'a>>;

/// The body for `profile`, whose attributes are seen as `view`; `defined` knows what is said of an audience.
pub fn body<'a>(
    mapping: &'a Mapping,
    profile: &'a Profile,
    view: &'a Attributes,
    defined: impl Fn(&AudienceId) -> Option<&'a Audience>,
) -> Vec<u8> {
    let mut body = Members::new();
    mapping.attributes.iter().for_each(|path| place(path, view, &mut body));
    body.insert("segmentMembership", segment_membership(mapping, profile, defined));
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

fn segment_membership<'a>(
    mapping: &Mapping,
    profile: &'a Profile,
    defined: impl Fn(&AudienceId) -> Option<&'a Audience>,
) -> Part<'a> {
    let is_of_policy = |id| defined(id).is_none_or(|audience| audience.policy.id == mapping.policy.id);
    let mut namespaces = Members::new();
    for (namespace, audiences) in profile.memberships.namespaces() {
        let mut shown = Members::new();
        for (id, held) in audiences {
            let is_mapped = mapping.audiences.contains(id);
            let is_shown = match mapping.memberships {
                Shown::MergePolicy => is_mapped || held.status == Status::Realized && is_of_policy(id),
                Shown::Mapped => is_mapped,
                Shown::All => true,
            };
            if is_shown {
                let mut members = membership(held);
                if is_mapped {
                    describe(mapping, id, defined(id), &mut members);
                }
                shown.insert(id.as_str(), Part::Members(members));
            }
        }
        if !shown.is_empty() {
            namespaces.insert(namespace, Part::Members(shown));
        }
    }
    Part::Members(namespaces)
}

fn membership(held: &Membership) -> Members<'static> {
    let (since, status) = (held.since.to_string().into(), held.status.as_str().into());
    Members::from([("lastQualificationTime", Part::Text(since)), ("status", Part::Text(status))])
}

/// Adds what is wished for of a mapped audience, as far as it is known.
fn describe<'a>(mapping: &Mapping, id: &AudienceId, audience: Option<&'a Audience>, members: &mut Members<'a>) {
    if mapping.segment_names {
        members.extend(audience.map(|audience| ("name", Part::Text(Cow::Borrowed(&audience.name)))));
    }
    if mapping.segment_timestamps {
        let mapped_at = mapping.mapped_at.get(id);
        let times = [
            ("createdAt", audience.and_then(|audience| audience.created_at)),
            ("updatedAt", audience.and_then(|audience| audience.updated_at)),
            ("mappingCreatedAt", mapped_at.map(|mapped_at| mapped_at.created)),
            ("mappingUpdatedAt", mapped_at.map(|mapped_at| mapped_at.updated)),
        ];
        let known = times.into_iter().filter_map(|(name, time)| Some((name, Part::Number(time?.as_millis()))));
        members.extend(known);
    }
}

/// A profile's identities as exports show them.
pub fn identity_map_of(profile: &Profile) -> Value {
    serde_json::to_value(identity_map(profile)).expect("it has text keys only")
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
    use crate::{audience::rule::Rule, clock::Timestamp, destination::MappedAt, profile::update::UpdateId};

    #[test]
    fn published_names_and_timestamps_are_made_member_by_member() {
        let published = |text| serde_json::from_str::<Value>(text).unwrap()["segmentMembership"].clone();
        let names = published(include_str!("../../tests/vectors/export-http-segment-names.json"));
        let times = published(include_str!("../../tests/vectors/export-http-segment-timestamps.json"));
        let [mapped, unmapped] = ["5b998cb9-9488-4ec3-8d95-fa8338ced490", "354e086f-2e11-49a2-9e39-e5d9a76be683"];
        let (mapped_id, at) = (mapped.parse::<AudienceId>().unwrap(), Timestamp::from_millis);
        let first_name = Audience {
            id: mapped_id.clone(),
            name: "First name equals John".to_owned(),
            created_at: Some(at(1_648_553_325_000)),
            updated_at: Some(at(1_648_553_330_000)),
            policy: Default::default(),
            rule: Rule::parse("x = 1").unwrap(),
        };
        let mapped_at = MappedAt { created: at(1_649_856_570_000), updated: at(1_649_856_570_000) };
        let mut profile = Profile::new(UpdateId::new(at(0)).into());
        for (id, since) in [(mapped, "2019-04-15T02:41:50Z"), (unmapped, "2020-04-15T02:41:50Z")] {
            let since = Timestamp::parse(since).unwrap();
            profile.memberships.set("ups", &id.parse().unwrap(), Status::Realized, since);
        }
        for (published, with_names, memberships) in [(names, true, Shown::MergePolicy), (times, false, Shown::Mapped)] {
            let mapping = Mapping {
                memberships,
                segment_names: with_names,
                segment_timestamps: true,
                mapped_at: BTreeMap::from([(mapped_id.clone(), mapped_at)]),
                ..Mapping::new("crm".parse().unwrap(), vec![mapped_id.clone()], vec![])
            };

            let body = body(&mapping, &profile, &Attributes::new(), |id| Some(&first_name).filter(|one| one.id == *id));

            let mut body: Value = serde_json::from_slice(&body).unwrap();
            // AEP spells the same instant in several ways.
            for (_, held) in body["segmentMembership"]["ups"].as_object_mut().unwrap() {
                held["lastQualificationTime"] =
                    held["lastQualificationTime"].as_str().unwrap().replace('Z', "+0000").into();
            }
            assert_eq!(body["segmentMembership"], published);
        }
    }

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
