//! Updates through the pure core where audiences and destinations have merge policies of their own.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    tests::{ADA, Kept, body, identity, update},
    *,
};
use crate::{
    audience::rule::Rule,
    destination::Shown,
    profile::policy::{Merge, MergePolicy},
};

/// Both datasets, the later word wins; `crm` before `web`; `web` alone.
fn policy(id: &str) -> Arc<MergePolicy> {
    let listed = |names: &[&str]| Merge::DataSetPrecedence(names.iter().map(|name| (*name).to_owned()).collect());
    let merge = match id {
        "latest" => Merge::TimestampOrdered,
        "crm-first" => listed(&["crm", "web"]),
        "web-alone" => listed(&["web"]),
        other => panic!("{other}"),
    };
    Arc::new(MergePolicy { id: id.parse().unwrap(), name: id.to_owned(), merge })
}

fn audience(id: &str, rule: &str, by: &str) -> Audience {
    let rule = Rule::parse(rule).unwrap();
    let (id, name) = (id.parse().unwrap(), id.to_owned());
    Audience { id, name, created_at: None, updated_at: None, policy: policy(by), rule }
}

fn mapping(destination: &str, audience: &str, by: &str) -> Mapping {
    let attributes = ["plan", "city"].map(|path| path.parse().unwrap()).to_vec();
    let mapping = Mapping::new(destination.parse().unwrap(), vec![audience.parse().unwrap()], attributes);
    Mapping { policy: policy(by), ..mapping }
}

/// An update of Ada's fragment in a dataset.
fn to(dataset: &str, second: i64, attributes: Value) -> ProfileUpdate {
    let primary = identity(ADA[0].0, ADA[0].1);
    ProfileUpdate { dataset: dataset.to_owned(), primary, ..update(second, ADA, attributes) }
}

/// Who is gold by each policy, and a destination for each.
fn three() -> Kept {
    let policies = ["latest", "crm-first", "web-alone"];
    let audiences = policies.map(|by| audience(&format!("gold-{by}"), r#"plan = "gold""#, by));
    let mappings = policies.map(|by| mapping(by, &format!("gold-{by}"), by));
    Kept::by(Plan::new(audiences.to_vec(), mappings.to_vec()))
}

/// Where exports go, with the plan and the city that they show and the audiences.
fn seen(exports: &[NewExport]) -> Vec<(String, Value, Value, Vec<String>)> {
    let seen = exports.iter().map(|export| {
        let body = body(export);
        let ids = body["segmentMembership"]["ups"].as_object().unwrap().keys().cloned().collect();
        (export.destination.to_string(), body["plan"].clone(), body["city"].clone(), ids)
    });
    seen.collect()
}

#[test]
fn rule_and_export_see_the_view_of_their_policy() {
    let mut kept = three();

    let first = kept.take(&to("crm", 1, json!({ "plan": "gold", "city": "Rome" }))).unwrap();
    let second = kept.take(&to("web", 2, json!({ "plan": "silver", "city": "Oslo" }))).unwrap();
    let third = kept.take(&to("web", 3, json!({ "plan": "gold" }))).unwrap();
    let fourth = kept.take(&to("crm", 4, json!({ "plan": null }))).unwrap();

    let shown =
        |to: &str, plan: Value, city: &str| (to.to_owned(), plan, Value::from(city), vec![format!("gold-{to}")]);
    let gold = || json!("gold");
    assert_eq!(seen(&first), [shown("latest", gold(), "Rome"), shown("crm-first", gold(), "Rome")]);
    // By the latest word Ada is gold no more; where `crm` goes first she is, and yet the attributes were written.
    assert_eq!(seen(&second), [shown("latest", json!("silver"), "Oslo"), shown("crm-first", gold(), "Rome")]);
    assert_eq!(
        seen(&third),
        [shown("latest", gold(), "Oslo"), shown("crm-first", gold(), "Rome"), shown("web-alone", gold(), "Oslo")]
    );
    // What `crm` says is not seen where it is not listed; removed, it lets `web` be seen below it.
    let removed = seen(&fourth);
    assert_eq!(removed, [shown("latest", gold(), "Rome"), shown("crm-first", gold(), "Rome")]);
}

#[test]
fn attribute_is_written_where_its_dataset_is_read_whether_or_not_it_wins() {
    let written = |path: &str| Reason::AttributeWritten(path.to_owned());
    let mut kept = three();
    kept.take(&to("crm", 1, json!({ "plan": "gold", "city": "Rome" }))).unwrap();
    kept.take(&to("web", 2, json!({ "plan": "gold" }))).unwrap();

    let by_web = kept.take(&to("web", 3, json!({ "city": "Oslo" }))).unwrap();
    let by_crm = kept.take(&to("crm", 4, json!({ "city": "Rome" }))).unwrap();

    let reasons = |exports: &[NewExport]| -> Vec<_> {
        exports.iter().map(|export| (export.destination.to_string(), export.reasons.clone())).collect()
    };
    let of = |name: &str| (name.to_owned(), vec![written("city")]);
    assert_eq!(reasons(&by_web), [of("latest"), of("crm-first"), of("web-alone")]);
    assert_eq!(reasons(&by_crm), [of("latest"), of("crm-first")]);
}

#[test]
fn unmapped_audiences_are_shown_if_they_are_of_the_destinations_policy() {
    for (memberships, shown) in [
        (Shown::MergePolicy, &["crm", "gold"][..]),
        (Shown::Mapped, &["gold"]),
        (Shown::All, &["crm", "gold", "latest"]),
    ] {
        let audiences = [
            audience("gold", r#"plan = "gold""#, "crm-first"),
            audience("crm", r#"city = "Rome""#, "crm-first"),
            audience("latest", r#"city = "Rome""#, "latest"),
        ];
        let mapping = Mapping { memberships, ..mapping("one", "gold", "crm-first") };
        let mut kept = Kept::by(Plan::new(audiences.to_vec(), vec![mapping]));

        let exports = kept.take(&to("crm", 1, json!({ "plan": "gold", "city": "Rome" }))).unwrap();

        let [(_, _, _, ids)] = &seen(&exports)[..] else { panic!("not one export") };
        assert_eq!(ids, shown, "{memberships:?}");
    }
}
