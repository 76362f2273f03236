//! Whole updates through the pure core: what is kept, and what follows.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    audience::rule::Rule,
    destination::{Shown, UniqueId},
    profile::{
        IDENTITIES_MAX,
        identity::{Identity, Namespace},
        update::UpdateId,
    },
    trigger::Reason,
};

/// Profiles as the store would keep them, by identity, without a store.
#[derive(Default)]
pub(super) struct Kept {
    plan: Plan,
    profiles: BTreeMap<ProfileKey, Vec<u8>>,
    links: BTreeMap<(String, String), ProfileKey>,
}

impl Kept {
    /// Nothing yet, by this plan.
    pub(super) fn by(plan: Plan) -> Self {
        Self { plan, ..Self::default() }
    }

    fn new(audiences: &[(&str, &str)], mapped: &[&str], attributes: &[&str]) -> Self {
        let audience = |(id, rule): &(&str, &str)| Audience {
            id: id.parse().unwrap(),
            name: (*id).to_owned(),
            created_at: None,
            updated_at: None,
            policy: Default::default(),
            rule: Rule::parse(rule).unwrap(),
        };
        let mapping = Mapping::new(
            "crm".parse().unwrap(),
            mapped.iter().map(|id| id.parse().unwrap()).collect(),
            attributes.iter().map(|path| path.parse().unwrap()).collect(),
        );
        Self::by(Plan::new(audiences.iter().map(audience).collect(), vec![mapping]))
    }

    pub(super) fn take(&mut self, update: &ProfileUpdate) -> Result<Vec<NewExport>, Refusal> {
        let at = |identity: &Identity| (identity.namespace().folded(), identity.value().to_owned());
        let found: std::collections::BTreeSet<ProfileKey> =
            update.identities.iter().filter_map(|identity| self.links.get(&at(&identity)).copied()).collect();
        let before = found.iter().map(|key| serde_json::from_slice(&self.profiles[key]).unwrap()).collect();
        let change = decide(&self.plan, before, Vec::new(), update)?;
        change.absorbed.iter().for_each(|gone| drop(self.profiles.remove(gone)));
        for identity in update.identities.iter().chain(change.moved) {
            self.links.insert(at(&identity), change.key);
        }
        self.profiles.insert(change.key, change.snapshot);
        Ok(change.exports)
    }

    fn profile(&self, namespace: &str, id: &str) -> Profile {
        let key = self.links[&(namespace.to_lowercase(), id.to_owned())];
        serde_json::from_slice(&self.profiles[&key]).unwrap()
    }
}

pub(super) fn identity(namespace: &str, id: &str) -> Identity {
    Identity::new(Namespace::parse(namespace).unwrap(), id).unwrap()
}

pub(super) fn update(second: i64, ids: &[(&str, &str)], attributes: Value) -> ProfileUpdate {
    let now = Timestamp::from_millis(second * 1000);
    let Value::Object(attributes) = attributes else { panic!("attributes are an object") };
    ProfileUpdate {
        id: UpdateId::new(now),
        received_at: now,
        dataset: "crm".to_owned(),
        primary: identity(ids[0].0, ids[0].1),
        identities: ids.iter().map(|(namespace, id)| identity(namespace, id)).collect(),
        attributes,
    }
}

pub(super) fn body(export: &NewExport) -> Value {
    serde_json::from_slice(&export.body).unwrap()
}

const GOLD: (&str, &str) = ("gold", r#"plan = "gold""#);
const ADULT: (&str, &str) = ("adult", "age >= 18");
pub(super) const ADA: &[(&str, &str)] = &[("CRM", "ada")];

#[test]
fn profile_in_no_mapped_audience_is_not_exported() {
    let mut kept = Kept::new(&[GOLD, ADULT], &["gold"], &["plan"]);

    assert_eq!(kept.take(&update(1, ADA, json!({"plan": "silver", "age": 30}))).unwrap().len(), 0);

    assert!(kept.profile("CRM", "ada").memberships.status("ups", &"adult".parse().unwrap()).is_some());
}

#[test]
fn entering_writing_the_same_and_leaving_each_make_one_export_with_all_reasons() {
    let mut kept = Kept::new(&[GOLD], &["gold"], &["plan", "name"]);
    let gold: AudienceId = "gold".parse().unwrap();
    let written = |path: &str| Reason::AttributeWritten(path.to_owned());

    let entered = kept.take(&update(1, ADA, json!({"plan": "gold", "name": "Ada"}))).unwrap();
    let same = kept.take(&update(2, ADA, json!({"name": "Ada"}))).unwrap();
    let unmapped = kept.take(&update(3, ADA, json!({"shoe": 38}))).unwrap();
    let left = kept.take(&update(4, ADA, json!({"plan": null}))).unwrap();
    let after = kept.take(&update(5, ADA, json!({"name": "A."}))).unwrap();

    let all = [Reason::Realized(gold.clone()), Reason::IdentityAdded, written("plan"), written("name")];
    assert_eq!(entered[0].reasons, all);
    assert_eq!(same[0].reasons, [written("name")]);
    assert!(unmapped.is_empty());
    assert_eq!(left[0].reasons, [Reason::Exited(gold), written("plan")]);
    assert_eq!(body(&left[0])["segmentMembership"]["ups"]["gold"]["status"], "exited");
    assert_eq!(body(&left[0]).get("plan"), None);
    assert!(after.is_empty(), "it left before this change");
}

#[test]
fn new_identity_of_a_member_makes_an_export() {
    let mut kept = Kept::new(&[GOLD], &["gold"], &[]);
    kept.take(&update(1, ADA, json!({"plan": "gold"}))).unwrap();

    let exports = kept.take(&update(2, &[("CRM", "ada"), ("Email", "ada@example.com")], json!({}))).unwrap();

    assert_eq!(exports[0].reasons, [Reason::IdentityAdded]);
    assert_eq!(body(&exports[0])["identityMap"], json!({"CRM": [{"id": "ada"}], "Email": [{"id": "ada@example.com"}]}));
}

#[test]
fn export_shows_mapped_audiences_and_unmapped_ones_that_are_realized() {
    let mut kept = Kept::new(&[GOLD, ADULT, ("old", "age > 99")], &["gold"], &["plan"]);
    kept.take(&update(1, ADA, json!({"age": 100, "plan": "gold"}))).unwrap();
    kept.take(&update(2, ADA, json!({"age": 30}))).unwrap();

    let left = kept.take(&update(3, ADA, json!({"plan": "silver"}))).unwrap();

    let expected = json!({"ups": {
        "gold": {"lastQualificationTime": "1970-01-01T00:00:03Z", "status": "exited"},
        "adult": {"lastQualificationTime": "1970-01-01T00:00:01Z", "status": "realized"},
    }});
    assert_eq!(body(&left[0])["segmentMembership"], expected, "`old` was left and is not mapped");
}

#[test]
fn update_that_changes_nothing_is_unchanged_and_yet_the_latest_word() {
    let mut kept = Kept::new(&[GOLD], &["gold"], &["plan"]);
    let (a, b) = ([("CRM", "a")], [("Email", "b")]);
    kept.take(&update(1, &a, json!({"city": "Paris"}))).unwrap();
    kept.take(&update(2, &b, json!({"city": "Rome"}))).unwrap();

    let again = update(3, &a, json!({"city": "Paris"}));
    let change = decide(&kept.plan, vec![kept.profile("CRM", "a")], Vec::new(), &again).unwrap();
    kept.take(&again).unwrap();
    kept.take(&update(4, &[("Join", "c"), a[0], b[0]], json!({}))).unwrap();

    assert_eq!(change.committed, Committed::Unchanged);
    assert_eq!(
        kept.profile("CRM", "a").view(&Merge::default())["city"],
        "Paris",
        "it was written last, whenever the two were joined"
    );
}

#[test]
fn profile_in_the_place_of_a_damaged_one_waits_behind_its_exports() {
    let mut kept = Kept::new(&[GOLD], &["gold"], &["plan"]);
    kept.take(&update(1, ADA, json!({"plan": "gold"}))).unwrap();
    let lost = kept.profile("CRM", "ada").key;

    let change = decide(&kept.plan, Vec::new(), vec![lost], &update(2, ADA, json!({"plan": "gold"}))).unwrap();

    assert_ne!(change.key, lost);
    assert_eq!(change.lines, [change.key, lost]);
}

#[test]
fn memberships_of_an_audience_that_is_no_more_end() {
    let mut kept = Kept::new(&[GOLD, ADULT], &["gold"], &[]);
    kept.take(&update(1, ADA, json!({"plan": "gold", "age": 30}))).unwrap();
    let Kept { profiles, links, .. } = kept;
    let mut kept = Kept { profiles, links, ..Kept::new(&[GOLD], &["gold"], &["name"]) };

    let exports = kept.take(&update(2, ADA, json!({"name": "Ada"}))).unwrap();

    assert_eq!(body(&exports[0])["segmentMembership"]["ups"].as_object().unwrap().len(), 1);
}

#[test]
fn too_large_and_too_many_are_refused() {
    let mut kept = Kept::new(&[GOLD], &["gold"], &["plan"]);
    let half = "x".repeat(SNAPSHOT_BYTES_MAX / 2);
    kept.take(&update(1, ADA, json!({"a": half}))).unwrap();
    let ids: Vec<String> = (0..=IDENTITIES_MAX).map(|n| n.to_string()).collect();
    let ids: Vec<(&str, &str)> = ids.iter().map(|id| ("CRM", id.as_str())).collect();

    let large = kept.take(&update(2, ADA, json!({"b": half})));
    let many = kept.take(&update(3, &ids, json!({})));

    assert!(matches!(large, Err(Refusal::ProfileTooLarge { .. })));
    assert!(matches!(many, Err(Refusal::TooManyIdentities { count: 51 })));
    assert_eq!(kept.profile("CRM", "ada").view(&Merge::default()).len(), 1, "nothing of a refused update is kept");
}

#[test]
fn joined_profile_keeps_its_lines_and_exports_for_both() {
    let mut kept = Kept::new(&[GOLD], &["gold"], &["plan", "name"]);
    kept.take(&update(1, &[("CRM", "1")], json!({"plan": "gold"}))).unwrap();
    kept.take(&update(2, &[("Email", "a@example.com")], json!({"name": "Ada"}))).unwrap();
    let (one, two) = (kept.profile("CRM", "1").key, kept.profile("Email", "a@example.com").key);

    let exports = kept.take(&update(3, &[("Email", "a@example.com"), ("CRM", "1")], json!({}))).unwrap();

    let joined = kept.profile("CRM", "1");
    assert_eq!(joined, kept.profile("Email", "a@example.com"));
    assert_eq!(kept.profiles.len(), 1);
    let mut lines = joined.lines();
    lines.sort();
    assert_eq!(lines, if one < two { [one, two] } else { [two, one] });
    assert_eq!(exports[0].reasons, [Reason::IdentityAdded]);
    assert_eq!((&body(&exports[0])["plan"], &body(&exports[0])["name"]), (&json!("gold"), &json!("Ada")));
}

/// Updates of a few people under a few identities, each with a fragment of its own, so that no order decides who wins.
fn updates() -> impl Strategy<Value = Vec<ProfileUpdate>> {
    let one = (prop::collection::btree_set(0..6u8, 1..3), 0..5i64, any::<bool>());
    prop::collection::vec(one, 1..8).prop_map(|all| {
        let numbered = all.into_iter().zip(0..);
        let update_of = |((people, age, gold), number): ((std::collections::BTreeSet<u8>, i64, bool), i64)| {
            let own = format!("fragment-{number}");
            let people: Vec<String> = people.iter().map(u8::to_string).collect();
            let mut ids = vec![("Source", own.as_str())];
            ids.extend(people.iter().map(|id| ("CRM", id.as_str())));
            let plan = if gold { json!("gold") } else { Value::Null };
            update(100 + number, &ids, json!({"plan": plan, "age": age * 10, "by": {own.as_str(): number}}))
        };
        numbered.map(update_of).collect()
    })
}

proptest! {
    #[test]
    fn joining_in_any_order_gives_the_same_profiles(updates in updates(), seed in any::<u64>()) {
        let mut shuffled = updates.clone();
        let mut lot = seed;
        for at in (1..shuffled.len()).rev() {
            lot = lot.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            shuffled.swap(at, (lot >> 33) as usize % (at + 1));
        }
        let run = |order: &[ProfileUpdate]| {
            let mut kept = Kept::new(&[GOLD, ADULT], &["gold"], &["plan"]);
            order.iter().for_each(|update| drop(kept.take(update).unwrap()));
            kept
        };

        let (one, other) = (run(&updates), run(&shuffled));

        prop_assert_eq!(one.profiles.len(), other.profiles.len());
        for update in &updates {
            let (a, b) = (
                one.profile("Source", update.primary.value()),
                other.profile("Source", update.primary.value()),
            );
            prop_assert_eq!(&a.identities, &b.identities);
            prop_assert!(a.fragments == b.fragments);
            prop_assert_eq!(a.view(&Merge::default()), b.view(&Merge::default()));
            let is_in = |profile: &Profile, id: &str| {
                profile.memberships.status("ups", &id.parse().unwrap()) == Some(Status::Realized)
            };
            prop_assert_eq!(is_in(&a, "gold"), is_in(&b, "gold"));
            prop_assert_eq!(is_in(&a, "adult"), is_in(&b, "adult"));
        }
    }
}

#[test]
fn memberships_that_are_shown_are_those_that_were_chosen() {
    for (memberships, shown) in [
        (Shown::MergePolicy, &["in", "left", "other-in"][..]),
        (Shown::Mapped, &["in", "left"]),
        (Shown::All, &["in", "left", "other-in", "other-left"]),
    ] {
        let rules = [("in", "a = 1"), ("left", "b = 1"), ("other-in", "a = 1"), ("other-left", "b = 1")];
        let mut kept = Kept::new(&rules, &["in", "left"], &[]);
        kept.plan.mappings[0].memberships = memberships;
        kept.take(&update(1, &[("CRM", "ada")], json!({ "a": 1, "b": 1 }))).unwrap();

        let exports = kept.take(&update(2, &[("CRM", "ada")], json!({ "b": 2 }))).unwrap();

        let body: Value = serde_json::from_slice(&exports[0].body).unwrap();
        let names: Vec<_> = body["segmentMembership"]["ups"].as_object().unwrap().keys().collect();
        assert_eq!(names, shown, "{memberships:?}");
    }
}

#[test]
fn export_of_a_profile_that_cannot_be_told_from_others_is_left_out_and_counted() {
    let namespace = UniqueId::Namespace(Namespace::parse("crm").unwrap());
    let attribute = UniqueId::Attribute("card.number".parse().unwrap());
    for (unique_id, ids, attributes, is_made) in [
        (&namespace, [("CRM", "ada")], json!({}), true),
        (&namespace, [("Email", "ada")], json!({}), false),
        (&attribute, [("Email", "ada")], json!({ "card": { "number": "7" } }), true),
        (&attribute, [("Email", "ada")], json!({ "card": { "number": 7 } }), true),
        (&attribute, [("Email", "ada")], json!({ "card": { "number": "" } }), false),
        (&attribute, [("Email", "ada")], json!({ "card": { "number": { "a": 1 } } }), false),
        (&attribute, [("CRM", "ada")], json!({ "card": 7 }), false),
    ] {
        let mut plan = Kept::new(&[("gold", "plan = \"gold\"")], &["gold"], &["card"]).plan;
        plan.mappings[0].unique_id = Some(unique_id.clone());
        let mut attributes = attributes;
        attributes["plan"] = "gold".into();

        let change = decide(&plan, vec![], vec![], &update(1, &ids, attributes)).unwrap();

        assert_eq!((change.exports.len(), change.skipped.len()), (usize::from(is_made), usize::from(!is_made)));
    }
}

#[test]
fn five_who_qualify_beside_ninety_five_members_are_five_exports() {
    let mut kept = Kept::new(&[("gold", "plan = \"gold\"")], &["gold"], &["plan"]);
    let mut take = |second: i64, person: i64, plan: &str| {
        kept.take(&update(second, &[("CRM", &person.to_string())], json!({ "plan": plan }))).unwrap().len()
    };
    let before: usize = (0..100).map(|person| take(1, person, if person < 95 { "gold" } else { "silver" })).sum();

    let after: usize = (95..100).map(|person| take(2, person, "gold")).sum();

    assert_eq!((before, after), (95, 5));
}
