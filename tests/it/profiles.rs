//! What makes an export follow, and what it says: joins, attributes, audiences.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    appliance::{Appliance, clock},
    pki::Pki,
    receiver::Receiver,
    sender::{update, who},
    set_up::GOLD,
};

async fn start() -> (Appliance, Receiver) {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    let postern = Appliance::set_up(&pki).destination("crm", &receiver.url()).start().await;
    (postern, receiver)
}

#[tokio::test]
async fn joined_profile_has_all_identities_and_attributes_and_waits_behind_both() {
    let (pki, clock) = (Pki::new(), clock());
    let receiver = Receiver::start(&pki).await;
    receiver.answer_in_turn([500, 500]);
    let set_up = Appliance::set_up(&pki).retry_delays(["15s", "30s"]).destination("crm", &receiver.url());
    let postern = set_up.start_by(&clock).await;
    postern.post("web", &update("ada", json!({ "plan": "gold", "version": 1 }))).await;
    postern.post("web", &update("countess", json!({ "plan": "gold", "name": "Lovelace" }))).await;
    postern.wait_for_posts("crm", "status_500", "attempt", 2).await;

    let both = json!({ "CRM": [{ "id": "ada", "primary": true }, { "id": "countess" }] });
    postern.post("web", &json!({ "version": 2, "identityMap": both })).await;
    postern.wait_for_exports("crm", [3, 0, 0]).await;
    assert_eq!(receiver.requests().len(), 2, "it did not wait");
    clock.advance(Duration::from_millis(16_500));
    postern.wait_for_exports("crm", [0, 3, 0]).await;

    let requests = receiver.requests();
    let mut retried = [who(&requests[2].body), who(&requests[3].body)];
    retried.sort_unstable();
    assert_eq!(retried, ["ada", "countess"]);
    let joined = &requests[4].body;
    assert_eq!(joined["identityMap"], json!({ "CRM": [{ "id": "ada" }, { "id": "countess" }] }));
    assert_eq!((&joined["plan"], &joined["name"]), (&json!("gold"), &json!("Lovelace")));
    assert_eq!(joined["version"], 2);
    assert_eq!(requests.len(), 5);

    // Either identity now leads to the one profile.
    postern.post("web", &update("countess", json!({ "version": 3 }))).await;
    let requests = receiver.wait_for(6).await;
    assert_eq!(requests[5].body["identityMap"], joined["identityMap"]);
    assert_eq!(requests[5].body["version"], 3);
}

#[tokio::test]
async fn null_removes_an_attribute() {
    let (postern, receiver) = start().await;
    let name = json!({ "first": "Ada", "last": "Lovelace" });

    postern.post("web", &update("ada", json!({ "plan": "gold", "name": name }))).await;
    postern.post("web", &update("ada", json!({ "name": { "last": null } }))).await;
    postern.post("web", &update("ada", json!({ "name": null }))).await;

    let requests = receiver.wait_for(3).await;
    assert_eq!(requests[0].body["name"], name);
    assert_eq!(requests[1].body["name"], json!({ "first": "Ada" }));
    assert!(!requests[2].body.as_object().unwrap().contains_key("name"));
    assert_eq!(requests[2].body["plan"], "gold");
}

#[tokio::test]
async fn writing_the_same_value_again_is_exported_again() {
    let (postern, receiver) = start().await;

    for _ in 0..3 {
        postern.post("web", &update("ada", json!({ "plan": "gold", "version": 1 }))).await;
    }

    let requests = receiver.wait_for(3).await;
    assert_eq!(requests[0].raw_body, requests[2].raw_body);
    assert_ne!(requests[0].idempotency_key(), requests[1].idempotency_key());
}

#[tokio::test]
async fn only_what_is_mapped_makes_an_export() {
    let (postern, receiver) = start().await;
    postern.post("web", &update("ada", json!({ "plan": "gold" }))).await;

    postern.post("web", &update("ada", json!({ "shoe": 38 }))).await;
    postern.post("web", &update("bob", json!({ "plan": "silver", "version": 1 }))).await;
    postern.post("web", &update("bob", json!({ "version": 2 }))).await;
    postern.post("web", &update("ada", json!({ "version": 9 }))).await;

    postern.wait_for_exports("crm", [0, 2, 0]).await;
    let requests = receiver.requests();
    let sent: Vec<_> = requests.iter().map(|request| (who(&request.body), request.body["version"].clone())).collect();
    assert_eq!(sent, [("ada", Value::Null), ("ada", json!(9))]);
    assert_eq!(requests[1].body["shoe"], Value::Null);
    assert_eq!(postern.metric(r#"postern_exports_total{destination="crm",result="made"}"#).await, Some(2.0));
}

#[tokio::test]
async fn leaving_an_audience_is_exported_once_with_the_attributes() {
    let (postern, receiver) = start().await;
    postern.post("web", &update("ada", json!({ "plan": "gold", "version": 1 }))).await;

    postern.post("web", &update("ada", json!({ "plan": "silver" }))).await;
    postern.post("web", &update("ada", json!({ "version": 2 }))).await;
    postern.post("web", &update("ada", json!({ "plan": "gold" }))).await;

    postern.wait_for_exports("crm", [0, 3, 0]).await;
    let requests = receiver.requests();
    let told = |number: usize| {
        let body = &requests[number].body;
        let status = body["segmentMembership"]["ups"][GOLD]["status"].as_str().unwrap();
        (status, body["plan"].as_str().unwrap(), body["version"].as_u64().unwrap())
    };
    assert_eq!(
        [told(0), told(1), told(2)],
        [("realized", "gold", 1), ("exited", "silver", 1), ("realized", "gold", 2)]
    );
}

#[tokio::test]
async fn namespaces_that_differ_in_case_are_one_and_values_are_not() {
    let (postern, receiver) = start().await;
    let in_namespace = |namespace: &str, id: &str, version: u64| json!({ "plan": "gold", "version": version, "identityMap": { namespace: [{ "id": id }] } });

    postern.post("web", &in_namespace("Email", "ada@example.com", 1)).await;
    postern.post("web", &in_namespace("EMAIL", "ada@example.com", 2)).await;
    postern.post("web", &in_namespace("email", "ADA@example.com", 3)).await;

    postern.wait_for_exports("crm", [0, 3, 0]).await;
    let requests = receiver.requests();
    let of_version = |version| requests.iter().find(|request| request.body["version"] == version).unwrap();
    assert_eq!(of_version(2).body["identityMap"], json!({ "Email": [{ "id": "ada@example.com" }] }));
    assert_eq!(of_version(3).body["identityMap"], json!({ "email": [{ "id": "ADA@example.com" }] }));
}

#[tokio::test]
async fn new_identity_of_a_member_is_exported() {
    let (postern, receiver) = start().await;
    postern.post("web", &update("ada", json!({ "plan": "gold" }))).await;

    let both = json!({ "CRM": [{ "id": "ada", "primary": true }], "Email": [{ "id": "ada@example.com" }] });
    postern.post("web", &json!({ "identityMap": both })).await;
    postern.post("web", &json!({ "identityMap": both })).await;
    postern.post("web", &update("ada", json!({ "version": 2 }))).await;

    postern.wait_for_exports("crm", [0, 3, 0]).await;
    let all = json!({ "CRM": [{ "id": "ada" }], "Email": [{ "id": "ada@example.com" }] });
    let requests = receiver.requests();
    assert_eq!((&requests[1].body["identityMap"], &requests[1].body["version"]), (&all, &Value::Null));
    assert_eq!(requests[2].body["version"], 2, "naming it again is no news");
    assert_eq!(postern.metric(r#"postern_updates_total{result="unchanged"}"#).await, Some(1.0));
}

#[tokio::test]
async fn memberships_that_a_sender_claims_are_not_believed() {
    let (postern, receiver) = start().await;
    let claimed = json!({ "ups": { GOLD: { "status": "realized", "lastQualificationTime": "2020-01-01T00:00:00Z" } } });

    postern.post("web", &update("eve", json!({ "version": 1, "segmentMembership": claimed }))).await;
    postern.post("web", &update("ada", json!({ "plan": "gold" }))).await;

    postern.wait_for_exports("crm", [0, 1, 0]).await;
    assert_eq!(who(&receiver.requests()[0].body), "ada");
}
