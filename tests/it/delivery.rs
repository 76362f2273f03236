//! From an update to a settled export: attempts, dead letters, order, limits.

use std::{collections::BTreeMap, time::Duration};

use serde_json::json;

use crate::support::{
    appliance::{Appliance, clock, held},
    pki::Pki,
    receiver::{Receiver, Request},
    reply::{Gate, Reply},
    sender::{update, who},
    set_up::GOLD,
};

/// A second more than the longest first and second retry delay of `["15s", "30s"]`.
const FIRST_DELAY_MAX: Duration = Duration::from_millis(16_500);
const SECOND_DELAY_MAX: Duration = Duration::from_millis(33_000);

#[tokio::test]
async fn update_of_a_member_is_exported_and_settled() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    let mut postern = Appliance::set_up(&pki).destination("crm", &receiver.url()).start().await;

    let answer = postern.post("web", &update("ada", json!({ "plan": "gold", "name": { "first": "Ada" } }))).await;

    assert_eq!(answer["inletId"], "web");
    let requests = receiver.wait_for(1).await;
    let body = &requests[0].body;
    assert_eq!(body["identityMap"], json!({ "CRM": [{ "id": "ada" }] }));
    assert_eq!((&body["plan"], &body["name"]), (&json!("gold"), &json!({ "first": "Ada" })));
    assert_eq!(body["segmentMembership"]["ups"][GOLD]["status"], "realized");
    postern.wait_for_exports("crm", [0, 1, 0]).await;
    assert!(postern.stop().await.success());
}

#[tokio::test]
async fn export_is_tried_three_times_at_the_set_delays_and_then_a_dead_letter() {
    let (pki, clock) = (Pki::new(), clock());
    let receiver = Receiver::start(&pki).await;
    receiver.answer_with(500);
    let set_up = Appliance::set_up(&pki).retry_delays(["15s", "30s"]).destination("crm", &receiver.url());
    let mut postern = set_up.start_by(&clock).await;

    postern.post("web", &update("ada", json!({ "plan": "gold" }))).await;
    postern.wait_for_posts("crm", "status_500", "attempt", 1).await;
    for (number, delay_max) in [(2, FIRST_DELAY_MAX), (3, SECOND_DELAY_MAX)] {
        let too_early = delay_max.mul_f64(0.9 / 1.1) - Duration::from_millis(1);
        clock.advance(too_early);
        postern.wait_for_exports("crm", [1, 0, 0]).await;
        assert_eq!(receiver.requests().len(), number - 1, "sent before its delay was over");
        clock.advance(delay_max - too_early);
        receiver.wait_for(number).await;
        postern.wait_for_posts("crm", "status_500", "attempt", number as u32).await;
    }
    postern.wait_for_exports("crm", [0, 0, 1]).await;
    clock.advance(Duration::from_secs(3600));
    postern.wait_for_exports("crm", [0, 0, 1]).await;
    assert_eq!(postern.metric(r#"postern_audit_difference{compared="counters"}"#).await, Some(0.0));
    assert!(postern.stop().await.success());

    let requests = receiver.requests();
    assert_eq!(requests.len(), 3);
    assert!(requests[0].idempotency_key().is_some());
    for request in &requests {
        assert_eq!(request.idempotency_key(), requests[0].idempotency_key());
        assert_eq!(request.raw_body, requests[0].raw_body);
    }
    let [letter] = &postern.dead_letters("crm").await[..] else { panic!("not one letter") };
    assert_eq!(letter.cause.to_string(), "exhausted");
    assert_eq!(Some(letter.export.id.to_string().as_str()), requests[0].idempotency_key());
    let [first, second, third] = &letter.export.attempts[..] else { panic!("{letter:?}") };
    // An attempt that did not wait would have met the clock where it stood too early.
    assert_eq!(second.at.since(first.at), FIRST_DELAY_MAX);
    assert_eq!(third.at.since(second.at), SECOND_DELAY_MAX);
}

#[tokio::test(flavor = "multi_thread")]
async fn receiver_that_refuses_one_in_a_hundred_does_not_slow_the_others() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    receiver.answer_by(|request| match who(&request.body) {
        person if person.ends_with("50") => {
            Reply::status(400).with_body(format!("\u{1b}[2Jno room for {person}\n{}", "x".repeat(5000)))
        }
        _ => Reply::status(200).with_body("taken"),
    });
    // Whatever waited for a retry would wait for longer than the test does.
    let set_up = Appliance::set_up(&pki).retry_delays(["1h", "1h"]).destination("crm", &receiver.url());
    let mut postern = set_up.start().await;

    for number in 0..300 {
        postern.post("web", &update(&format!("person-{number:03}"), json!({ "plan": "gold" }))).await;
    }

    postern.wait_for_exports("crm", [0, 297, 3]).await;
    assert_eq!((receiver.requests().len(), postern.trials("crm").await), (300, 0));
    assert_eq!(postern.metric(&held("crm")).await, Some(0.0));
    let lines = postern.verb(&["dead-letter", "list", "--json"]).lines();
    let id = lines[0]["id"].as_str().unwrap();
    let shown = postern.verb(&["dead-letter", "show", id, "--json"]).json();
    let at = &shown["ended_at"];
    let attempts = json!([{ "at": at, "outcome": "refused_400", "answer_bytes": 1024, "answer": null }]);
    assert!(at.is_string() && shown["attempts"] == attempts, "{shown}");
    let text = postern.verb(&["dead-letter", "show", id]).succeeds().stdout;
    assert!(text.contains("answered") && text.contains("1024 bytes") && !text.contains("no room"), "{text}");
    let revealed = postern.verb(&["dead-letter", "show", id, "--reveal"]).succeeds().stdout;
    assert!(revealed.contains(r"\u{1b}[2Jno room for person-050\nxxx") && !revealed.contains('\u{1b}'), "{revealed}");
    assert!(postern.stop().await.success());
    let letters = postern.dead_letters("crm").await;
    let kept: Vec<usize> =
        letters.iter().flat_map(|letter| &letter.export.attempts).map(|one| one.answer.len()).collect();
    assert_eq!(kept, [1024; 3]);
}

#[tokio::test]
async fn outage_that_answers_costs_three_attempts_in_all_and_ends_without_a_restart() {
    let (pki, clock) = (Pki::new(), clock());
    let receiver = Receiver::start(&pki).await;
    receiver.answer_with(500);
    let set_up = Appliance::set_up(&pki).retry_delays(["15s", "30s"]).destination("crm", &receiver.url());
    let mut postern = set_up.start_by(&clock).await;

    for person in 0..35 {
        postern.post("web", &update(&format!("p{person}"), json!({ "plan": "gold", "version": 1 }))).await;
    }
    for version in 1..=5 {
        postern.post("web", &update("grace", json!({ "plan": "gold", "version": version }))).await;
    }
    postern.wait_for_hold("crm", "failing").await;
    clock.advance(Duration::from_secs(600));
    postern.turn_until_probed(&clock, "crm", 3).await;

    assert_eq!(postern.charged_failures("crm").await, 3);
    postern.wait_for_exports("crm", [40, 0, 0]).await;
    assert_eq!(postern.admin("/readyz").await.0, 200);

    let during_outage = receiver.requests().len();
    receiver.answer_with(200);
    postern.turn_until_delivered(&clock, "crm", 40).await;
    postern.wait_for_exports("crm", [0, 40, 0]).await;
    assert_eq!(postern.charged_failures("crm").await, 3);
    let delivered = receiver.requests().split_off(during_outage);
    let versions = versions(&delivered);
    assert_eq!(versions.len(), 36);
    assert_eq!(versions["grace"], [1, 2, 3, 4, 5]);
    assert!(postern.stop().await.success());
}

#[tokio::test]
async fn refused_export_is_a_dead_letter_after_one_request() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    receiver.answer_in_turn([422]);
    let mut postern = Appliance::set_up(&pki).destination("crm", &receiver.url()).start().await;

    postern.post("web", &update("ada", json!({ "plan": "gold", "version": 1 }))).await;
    postern.wait_for_exports("crm", [0, 0, 1]).await;
    postern.post("web", &update("ada", json!({ "version": 2 }))).await;
    postern.wait_for_exports("crm", [0, 1, 1]).await;
    assert!(postern.stop().await.success());

    assert_eq!(versions(&receiver.requests())["ada"], [1, 2], "a dead letter blocks nothing");
    let [letter] = &postern.dead_letters("crm").await[..] else { panic!("not one letter") };
    assert_eq!((letter.cause.to_string().as_str(), letter.export.attempts.len()), ("refused", 1));
}

#[tokio::test]
async fn later_version_of_a_profile_waits_for_the_retry_of_the_earlier_one() {
    let (pki, clock) = (Pki::new(), clock());
    let receiver = Receiver::start(&pki).await;
    receiver.answer_in_turn([500]);
    let set_up = Appliance::set_up(&pki).retry_delays(["15s", "30s"]).destination("crm", &receiver.url());
    let postern = set_up.start_by(&clock).await;

    postern.post("web", &update("ada", json!({ "plan": "gold", "version": 1 }))).await;
    postern.wait_for_posts("crm", "status_500", "attempt", 1).await;
    postern.post("web", &update("ada", json!({ "version": 2 }))).await;
    postern.post("web", &update("bob", json!({ "plan": "gold", "version": 1 }))).await;
    postern.wait_for_exports("crm", [2, 1, 0]).await;
    assert_eq!(who(&receiver.requests()[1].body), "bob");

    clock.advance(FIRST_DELAY_MAX);
    postern.wait_for_exports("crm", [0, 3, 0]).await;

    let requests = receiver.requests();
    assert_eq!(requests.len(), 4);
    assert_eq!(versions(&requests)["ada"], [1, 1, 2]);
}

#[tokio::test]
async fn receiver_that_asks_for_time_gets_it_and_nothing_is_charged() {
    let (pki, clock) = (Pki::new(), clock());
    let receiver = Receiver::start(&pki).await;
    receiver.answer_in_turn([Reply::status(503).with_header("Retry-After", "7")]);
    let postern = Appliance::set_up(&pki).destination("crm", &receiver.url()).start_by(&clock).await;

    postern.post("web", &update("ada", json!({ "plan": "gold" }))).await;
    postern.wait_for_posts("crm", "throttled_503", "trial", 1).await;
    postern.post("web", &update("bob", json!({ "plan": "gold" }))).await;
    clock.advance(Duration::from_millis(6_999));
    postern.wait_for_exports("crm", [2, 0, 0]).await;
    assert_eq!(receiver.requests().len(), 1, "the whole destination waits");

    clock.advance(Duration::from_millis(1));
    postern.wait_for_exports("crm", [0, 2, 0]).await;

    assert_eq!(postern.charged_failures("crm").await, 0);
}

#[tokio::test]
async fn no_more_requests_are_under_way_than_max_in_flight() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    let gate = Gate::default();
    receiver.answer_with(Reply::Behind(gate.clone(), Box::new(Reply::status(200))));
    let set_up = Appliance::set_up(&pki).timeout("20s").max_in_flight(3).destination("crm", &receiver.url());
    let postern = set_up.start().await;

    for person in 0..20 {
        postern.post("web", &update(&format!("p{person}"), json!({ "plan": "gold" }))).await;
    }
    receiver.wait_for(3).await;
    postern.wait_for_exports("crm", [20, 0, 0]).await;
    assert_eq!(receiver.requests().len(), 3);
    gate.open();
    postern.wait_for_exports("crm", [0, 20, 0]).await;

    assert_eq!((receiver.most_at_once(), receiver.requests().len()), (3, 20));
}

#[tokio::test]
async fn poisoned_export_does_not_keep_the_gate_shut_and_becomes_a_dead_letter() {
    let (pki, clock) = (Pki::new(), clock());
    let receiver = Receiver::start(&pki).await;
    receiver.answer_by(|request| Reply::status(if who(&request.body) == "poison" { 404 } else { 200 }));
    let mut postern = Appliance::set_up(&pki).destination("crm", &receiver.url()).start_by(&clock).await;

    postern.post("web", &update("poison", json!({ "plan": "gold" }))).await;
    postern.wait_for_hold("crm", "status_404").await;
    for person in 0..5 {
        postern.post("web", &update(&format!("p{person}"), json!({ "plan": "gold" }))).await;
    }
    postern.turn_until_delivered(&clock, "crm", 5).await;

    postern.wait_for_exports("crm", [0, 5, 1]).await;
    assert!(postern.stop().await.success());
    let [letter] = &postern.dead_letters("crm").await[..] else { panic!("not one letter") };
    assert_eq!((letter.cause.to_string().as_str(), letter.export.attempts.len()), ("refused", 1));
}

#[tokio::test]
async fn silence_of_a_receiver_is_a_charged_failure() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    receiver.answer_with(Reply::Silent);
    let set_up = Appliance::set_up(&pki).timeout("100ms").destination("crm", &receiver.url());
    let postern = set_up.start().await;

    postern.post("web", &update("ada", json!({ "plan": "gold" }))).await;
    postern.wait_for_exports("crm", [0, 0, 1]).await;

    postern.wait_for_posts("crm", "timeout", "attempt", 3).await;
    assert_eq!(receiver.requests().len(), 3);
}

#[tokio::test]
async fn destination_that_is_down_does_not_hurt_another() {
    let pki = Pki::new();
    let (good, mut down) = (Receiver::start(&pki).await, Receiver::start(&pki).await);
    down.stop().await;
    let set_up = Appliance::set_up(&pki).destination("crm", &good.url()).destination("erp", &down.url());
    let postern = set_up.start().await;

    for version in 1..=30 {
        postern.post("web", &update("ada", json!({ "plan": "gold", "version": version }))).await;
    }

    postern.wait_for_exports("crm", [0, 30, 0]).await;
    assert_eq!(versions(&good.requests())["ada"], Vec::from_iter(1..=30));
    postern.wait_for_hold("erp", "unreachable").await;
    postern.wait_for_exports("erp", [30, 0, 0]).await;
}

/// The versions that arrived of each person, in order.
fn versions(requests: &[Request]) -> BTreeMap<&str, Vec<u64>> {
    let mut versions: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for Request { body, .. } in requests {
        versions.entry(who(body)).or_default().push(body["version"].as_u64().unwrap_or_default());
    }
    versions
}
