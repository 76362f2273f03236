//! A fault of the destination is not a fault of the export: held with its reason on show, charged to nobody.

use serde_json::json;

use crate::support::{
    appliance::{Appliance, clock, held},
    pki::{Pki, expired, valid},
    receiver::{Receiver, SetUp},
    sender::update,
};

#[tokio::test]
async fn nobody_listening_holds_and_charges_nothing() {
    let pki = Pki::new();
    let mut receiver = Receiver::start(&pki).await;
    receiver.stop().await;
    let mut held = Held::by(&pki, &receiver, "unreachable").await;

    receiver.start_again();

    held.is_delivered(&receiver).await;
}

#[tokio::test]
async fn status_of_a_wrong_endpoint_holds_and_charges_nothing() {
    for status in [302, 401, 404, 410, 501] {
        let pki = Pki::new();
        let receiver = Receiver::start(&pki).await;
        receiver.answer_with(status);
        let mut held = Held::by(&pki, &receiver, &format!("status_{status}")).await;

        receiver.answer_with(200);

        held.is_delivered(&receiver).await;
    }
}

#[tokio::test]
async fn status_that_may_speak_of_our_certificate_holds_until_it_was_accepted_once() {
    for status in [400, 403] {
        let pki = Pki::new();
        let receiver = Receiver::start(&pki).await;
        receiver.answer_with(status);
        let mut held = Held::by(&pki, &receiver, &format!("never_accepted_status_{status}")).await;

        receiver.answer_with(200);

        held.is_delivered(&receiver).await;
    }
}

#[tokio::test]
async fn server_that_does_not_ask_for_our_certificate_holds_and_gets_nothing() {
    let pki = Pki::new();
    is_held_by_handshake(&pki, Receiver::set_up(&pki).not_asking(), "server_did_not_ask_for_certificate").await;
}

#[tokio::test]
async fn server_of_another_authority_holds_and_gets_nothing() {
    let (pki, other) = (Pki::new(), Pki::new());
    is_held_by_handshake(&pki, Receiver::set_up(&other), "server_not_trusted").await;
}

#[tokio::test]
async fn server_whose_certificate_expired_holds_and_gets_nothing() {
    let pki = Pki::new();
    let old = pki.authority.server(&["127.0.0.1"], expired()).unwrap();
    is_held_by_handshake(&pki, Receiver::set_up(&pki).presenting(&old), "server_not_trusted").await;
}

#[tokio::test]
async fn server_of_another_name_holds_and_gets_nothing() {
    let pki = Pki::new();
    let other = pki.authority.server(&["crm.example"], valid()).unwrap();
    is_held_by_handshake(&pki, Receiver::set_up(&pki).presenting(&other), "server_not_trusted").await;
}

#[tokio::test]
async fn server_that_refuses_our_certificate_holds_and_charges_nothing() {
    let (pki, other) = (Pki::new(), Pki::new());
    let receiver = Receiver::set_up(&pki).trusting(other.authority.certificate_pem()).start().await;
    let mut held = Held::by(&pki, &receiver, "certificate_refused").await;

    receiver.become_as(Receiver::set_up(&pki)).await;

    held.is_delivered(&receiver).await;
}

#[tokio::test]
async fn hold_is_on_show_and_the_appliance_stays_ready() {
    let (pki, clock) = (Pki::new(), clock());
    let receiver = Receiver::start(&pki).await;
    receiver.answer_with(404);
    let postern = Appliance::set_up(&pki).destination("crm", &receiver.url()).start_by(&clock).await;
    assert_eq!(postern.metric(&held("crm")).await, Some(0.0));

    postern.post("web", &update("ada", json!({ "plan": "gold" }))).await;
    postern.wait_for_hold("crm", "status_404").await;
    receiver.answer_with(410);
    postern.turn_until_probed(&clock, "crm", 1).await;

    postern.wait_for_hold("crm", "status_410").await;
    let reason_of_before = r#"postern_destination_hold_reason{destination="crm",reason="status_404"}"#;
    assert_eq!(postern.metric(reason_of_before).await, Some(0.0));
    let oldest = postern.metric(r#"postern_exports_oldest_seconds{destination="crm"}"#).await;
    assert!(oldest.is_some_and(|seconds| seconds >= 1.0), "{oldest:?}");
    assert_eq!(postern.admin("/readyz").await, (200, "ready\n".to_owned()));
    assert_eq!(postern.admin("/livez").await.0, 200);
}

/// Held by a receiver that is `bad`, which gets not one byte; delivered once it is good.
async fn is_held_by_handshake(pki: &Pki, bad: SetUp<'_>, reason: &str) {
    let receiver = bad.start().await;
    let mut held = Held::by(pki, &receiver, reason).await;
    assert_eq!(receiver.plaintext_bytes(), 0);

    receiver.become_as(Receiver::set_up(pki)).await;

    held.is_delivered(&receiver).await;
}

/// An appliance with three exports for a receiver that it holds.
struct Held {
    postern: Appliance,
    clock: postern::clock::Clock,
}

impl Held {
    async fn by(pki: &Pki, receiver: &Receiver, reason: &str) -> Self {
        let clock = clock();
        let postern = Appliance::set_up(pki).destination("crm", &receiver.url()).start_by(&clock).await;
        for person in ["ada", "bob", "cyd"] {
            postern.post("web", &update(person, json!({ "plan": "gold" }))).await;
        }
        postern.wait_for_hold("crm", reason).await;
        postern.turn_until_probed(&clock, "crm", 4).await;
        assert_eq!(postern.admin("/readyz").await.0, 200);
        postern.wait_for_exports("crm", [3, 0, 0]).await;
        Self { postern, clock }
    }

    async fn is_delivered(&mut self, receiver: &Receiver) {
        let Self { postern, clock } = self;
        let before = receiver.requests().len();
        postern.turn_until_delivered(clock, "crm", 3).await;
        postern.wait_for_exports("crm", [0, 3, 0]).await;
        assert_eq!(postern.charged_failures("crm").await, 0);
        assert_eq!(receiver.requests().len(), before + 3);
        assert_eq!(postern.metric(&held("crm")).await, Some(0.0));
        assert!(postern.stop().await.success());
    }
}
