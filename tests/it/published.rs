//! The export that AEP publishes, made from updates at the published instants and received over mutual TLS.

use std::fs;

use postern::clock::{Clock, Timestamp};
use serde_json::{Value, json};

use crate::support::{
    appliance::Appliance,
    pki::{Pki, now},
    receiver::Receiver,
    set_up::GOLD,
};
use postern::tls::issue::Period;

const AUDIENCES: [(&str, &str); 4] = [
    ("7841ba61-23c1-4bb3-a495-00d3g5fe1e93", "visits > 3"),
    ("59bd2fkd-3c48-4b18-bf56-4f5c5e6967ae", r#"country = "US""#),
    ("947c1c46-008d-40b0-92ec-3af86eaf41c1", "newsletter = true"),
    ("5114d758-ce71-43ba-b53e-e2a91d67b67f", r#"tier in ["gold", "platinum"]"#),
];

#[tokio::test]
async fn published_export_is_made_member_by_member() {
    let published: Value = serde_json::from_str(include_str!("../vectors/export-http-main.json")).unwrap();
    let at = |text: &str| Timestamp::parse(text).unwrap();
    let clock = Clock::manual(at("2021-08-25T23:37:33Z"));
    let pki = Pki::of(Period { from: clock.now(), until: now() + HOUR });
    let receiver = Receiver::start(&pki).await;
    let mut set_up = Appliance::set_up(&pki);
    for (id, rule) in AUDIENCES {
        set_up = set_up.audience(id, rule);
    }
    let attributes = [
        "person.birthDate",
        "person.name.firstName",
        "person.name.lastName",
        "personalEmail.address",
        "loyalty.points",
    ];
    let ids = AUDIENCES.map(|(id, _)| id);
    let mut postern = set_up.mapping(&ids, &attributes).destination("crm", &receiver.url()).start_by(&clock).await;

    let mut first = json!({ "newsletter": true, "visits": 4, "identityMap": published["identityMap"] });
    for member in ["person", "personalEmail"] {
        first[member] = published[member].clone();
    }
    let known = json!({ "ecid": [published["identityMap"]["ecid"][0]] });
    for (instant, update) in [
        ("2021-08-25T23:37:33Z", first),
        ("2022-01-02T23:37:33Z", json!({ "country": "US", "identityMap": known })),
        ("2022-01-11T21:24:39Z", json!({ "visits": 0, "identityMap": known })),
        ("2022-01-11T23:37:33Z", json!({ "tier": "gold", "identityMap": known })),
    ] {
        clock.advance(at(instant).since(clock.now()));
        postern.post("web", &update).await;
    }

    let requests = receiver.wait_for(4).await;
    let export = &requests[3];
    assert_eq!(members(&export.body), members(&published));
    assert_eq!((export.method.as_str(), export.header("content-type")), ("POST", Some("application/json")));
    postern.wait_for_exports("crm", [0, 4, 0]).await;
    assert!(postern.stop().await.success());
}

/// The audience is mapped when the profile is in it already: what is published is what its backfill sends.
#[tokio::test]
async fn published_names_and_timestamps_are_made_member_by_member() {
    let published: Value = serde_json::from_str(include_str!("../vectors/export-http-segment-names.json")).unwrap();
    let [mapped, other] = ["5b998cb9-9488-4ec3-8d95-fa8338ced490", "354e086f-2e11-49a2-9e39-e5d9a76be683"];
    let at = |text: &str| Timestamp::parse(text).unwrap();
    let clock = Clock::manual(at("2019-04-15T02:41:50Z"));
    let pki = Pki::of(Period { from: clock.now(), until: now() + HOUR });
    let receiver = Receiver::start(&pki).await;
    let said = "name = \"First name equals John\"\ncreated_at = \"2022-03-29T11:28:45Z\"\nupdated_at = \"2022-03-29T11:28:50Z\"";
    let set_up = Appliance::set_up(&pki)
        .audience_with(mapped, r#"person.name.firstName = "John""#, said)
        .audience(other, r#"person.name.lastName = "Doe""#)
        .with("include_segment_names = true\ninclude_segment_timestamps = true");
    let mut postern = set_up.mapping(&[GOLD], &[]).destination("crm", &receiver.url()).start_by(&clock).await;
    let known = json!({ "CRM": [{ "id": "john" }] });
    let john = json!({ "person": { "name": { "firstName": "John" } }, "identityMap": known });
    postern.post("web", &john).await;
    clock.advance(at("2020-04-15T02:41:50Z").since(clock.now()));
    postern.post("web", &json!({ "person": { "name": { "lastName": "Doe" } }, "identityMap": known })).await;
    assert!(postern.stop().await.success());

    clock.advance(at("2022-04-13T13:29:30Z").since(clock.now()));
    let text = fs::read_to_string(postern.config_file()).unwrap();
    let remapped = text.replace(&format!("audiences = [{GOLD:?}]"), &format!("audiences = [{mapped:?}]"));
    assert_ne!(remapped, text);
    fs::write(postern.config_file(), &remapped).unwrap();
    postern.start_by(&clock).await;

    let export = &receiver.wait_for(1).await[0];
    assert_eq!(members(&export.body["segmentMembership"]), members(&published["segmentMembership"]));
    assert!(postern.stop().await.success());

    // Another attribute is mapped: that is a change of the mapping.
    clock.advance(HOUR);
    fs::write(postern.config_file(), remapped.replace("attributes = []", "attributes = [\"plan\"]")).unwrap();
    postern.start_by(&clock).await;
    postern.post("web", &json!({ "plan": "gold", "identityMap": known })).await;
    let shown = &receiver.wait_for(2).await[1].body["segmentMembership"]["ups"][mapped];
    let mapped_at = at("2022-04-13T13:29:30Z").as_millis();
    assert_eq!(shown["mappingCreatedAt"], mapped_at);
    assert_eq!(shown["mappingUpdatedAt"], mapped_at + 3_600_000);
    assert!(postern.stop().await.success());
}

const HOUR: std::time::Duration = std::time::Duration::from_secs(3600);

/// Every member with its path, times as instants and arrays without an order that nobody promised.
fn members(value: &Value) -> Vec<(String, String)> {
    fn walk(path: &str, value: &Value, into: &mut Vec<(String, String)>) {
        match value {
            Value::Object(members) => {
                members.iter().for_each(|(name, value)| walk(&format!("{path}.{name}"), value, into))
            }
            Value::Array(items) => items.iter().for_each(|item| walk(&format!("{path}[]"), item, into)),
            Value::String(text) if path.ends_with("Time") => {
                into.push((path.to_owned(), Timestamp::parse(text).unwrap().as_millis().to_string()));
            }
            other => into.push((path.to_owned(), other.to_string())),
        }
    }
    let mut all = Vec::new();
    walk("", value, &mut all);
    all.sort();
    all
}
