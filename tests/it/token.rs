//! Tokens by OAuth 2: asked for once, refreshed ahead, and what becomes of exports when there is none.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use postern::clock::Clock;
use serde_json::json;

use crate::support::{
    appliance::{Appliance, clock, held},
    pki::{HOST, Pki, pin, valid},
    receiver::{Receiver, Request, SetUp},
    reply::{Gate, Reply},
    sender::update,
};

const BY_CLIENT: &str = r#"grant = "client_credentials""#;
const BY_PASSWORD: &str = r#"grant = "password", username = "änn&co", password = { file = "password" }"#;

/// A token as it is given.
fn token(text: &str) -> Reply {
    let answer = json!({ "access_token": text, "token_type": "Bearer", "expires_in": 300, "more": [1] });
    Reply::status(200).with_body(answer.to_string())
}

fn form(request: &Request) -> BTreeMap<String, String> {
    form_urlencoded::parse(&request.raw_body).into_owned().collect()
}

fn bearer(request: &Request) -> &str {
    request.header("authorization").and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default()
}

/// A token endpoint and a destination, both good, and an appliance by a clock that the test turns.
struct Both {
    endpoint: Receiver,
    receiver: Receiver,
    postern: Appliance,
    clock: Clock,
}

impl Both {
    /// The endpoint gives `token-1`, `token-2` and so on.
    async fn start(pki: &Pki, oauth2: &str) -> Self {
        Self::of(pki, Receiver::set_up(pki), oauth2, "/token").await
    }

    async fn of(pki: &Pki, endpoint: SetUp<'_>, oauth2: &str, path: &str) -> Self {
        let (endpoint, receiver, clock) = (endpoint.start().await, Receiver::start(pki).await, clock());
        endpoint.answer_by(|request| token(&format!("token-{}", request.number + 1)));
        let set_up = Appliance::set_up(pki).max_in_flight(100).oauth2(&endpoint.url_at(path), oauth2);
        let postern = set_up.destination("crm", &receiver.url()).start_by(&clock).await;
        Self { endpoint, receiver, postern, clock }
    }

    async fn export(&self, person: &str) {
        self.postern.post("web", &update(person, json!({ "plan": "gold" }))).await;
    }

    async fn delivers(&self, person: &str, in_all: u32) {
        self.export(person).await;
        self.postern.wait_for_exports("crm", [0, in_all, 0]).await;
    }

    /// The tokens that exports came with, in order.
    fn tokens(&self) -> Vec<String> {
        self.receiver.requests().iter().map(|request| bearer(request).to_owned()).collect()
    }
}

#[tokio::test]
async fn both_grants_are_asked_for_in_both_forms_with_every_character() {
    const SECRET: &str = "s&cr=t +%:ü";
    for (grant, credentials, basic) in [
        (BY_CLIENT, r#"credentials = "body""#, None),
        (BY_CLIENT, r#"credentials = "basic""#, Some("p%C3%B6stern%2F1:s%26cr%3Dt+%2B%25%3A%C3%BC".to_owned())),
        (BY_CLIENT, r#"credentials = "basic", basic_encoding = "plain""#, Some(format!("pöstern/1:{SECRET}"))),
        (BY_PASSWORD, r#"credentials = "body""#, None),
        (BY_PASSWORD, r#"credentials = "basic""#, Some("p%C3%B6stern%2F1:s%26cr%3Dt+%2B%25%3A%C3%BC".to_owned())),
    ] {
        let pki = Pki::new();
        let oauth2 = format!(r#"{grant}, {credentials}, scope = "profiles write""#);
        let both = Both::of(&pki, Receiver::set_up(&pki), &oauth2, "/token?tenant=a%20b&v=2").await;

        both.delivers("ada", 1).await;

        let [request] = &both.endpoint.requests()[..] else { panic!("not one request for a token") };
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/token?tenant=a%20b&v=2"));
        assert_eq!(request.header("content-type"), Some("application/x-www-form-urlencoded"));
        assert!(!request.certificate.is_empty(), "asked over mutual TLS");
        let said = request.header("authorization").map(|value| value.strip_prefix("Basic ").unwrap());
        let said = said.map(|value| String::from_utf8(BASE64_STANDARD.decode(value).unwrap()).unwrap());
        assert_eq!(said, basic);
        let mut expected = vec![("scope", "profiles write")];
        match grant {
            BY_CLIENT => expected.push(("grant_type", "client_credentials")),
            _ => expected.extend([("grant_type", "password"), ("username", "änn&co"), ("password", "p&ss wörd")]),
        }
        if basic.is_none() {
            expected.extend([("client_id", "pöstern/1"), ("client_secret", SECRET)]);
        }
        assert_eq!(form(request), expected.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect());
        assert_eq!(both.tokens(), ["token-1"]);
    }
}

#[tokio::test]
async fn a_hundred_waiting_exports_ask_once() {
    let pki = Pki::new();
    let (both, gate) = (Both::start(&pki, BY_CLIENT).await, Gate::default());
    both.endpoint.answer_in_turn([Reply::Behind(gate.clone(), Box::new(token("the-one")))]);
    for number in 0..100 {
        both.export(&format!("person-{number}")).await;
    }
    both.endpoint.wait_for(1).await;

    gate.open();

    both.postern.wait_for_exports("crm", [0, 100, 0]).await;
    assert_eq!((both.endpoint.requests().len(), both.tokens()), (1, vec!["the-one".to_owned(); 100]));
}

#[tokio::test]
async fn a_hundred_waiting_exports_meet_one_refusal() {
    let pki = Pki::new();
    let (both, gate) = (Both::start(&pki, BY_CLIENT).await, Gate::default());
    both.endpoint.answer_in_turn([Reply::Behind(gate.clone(), Box::new(Reply::status(500)))]);
    for number in 0..100 {
        both.export(&format!("person-{number}")).await;
    }
    both.endpoint.wait_for(1).await;

    gate.open();

    both.postern.wait_for_hold("crm", "token_refused_500").await;
    assert_eq!((both.endpoint.requests().len(), both.receiver.requests().len()), (1, 0));
    assert_eq!(both.postern.charged_failures("crm").await, 0);
    both.postern.turn_until_delivered(&both.clock, "crm", 100).await;
    assert_eq!(both.endpoint.requests().len(), 2);
}

#[tokio::test]
async fn token_is_refreshed_ahead_of_its_end_and_used_to_the_last_when_that_fails() {
    let pki = Pki::new();
    let both = Both::start(&pki, BY_CLIENT).await;
    let turn = |seconds| both.clock.advance(Duration::from_secs(seconds));

    both.delivers("ada", 1).await;
    turn(269);
    both.delivers("bob", 2).await;
    turn(1);
    both.delivers("cyd", 3).await;
    assert_eq!(both.tokens(), ["token-1", "token-1", "token-2"]);

    both.endpoint.answer_with(503);
    turn(299);
    both.delivers("dan", 4).await;
    assert_eq!((both.endpoint.requests().len(), both.postern.trials("crm").await), (3, 0));
    turn(1);
    both.export("eve").await;
    both.postern.wait_for_hold("crm", "token_refused_503").await;
    both.endpoint.answer_with(token("after"));
    both.postern.turn_until_delivered(&both.clock, "crm", 5).await;
    assert_eq!(both.tokens(), ["token-1", "token-1", "token-2", "token-2", "after"]);
    assert_eq!(both.postern.charged_failures("crm").await, 0);
}

#[tokio::test]
async fn token_that_is_answered_401_is_replaced_at_once() {
    let pki = Pki::new();
    let both = Both::start(&pki, BY_CLIENT).await;
    both.delivers("ada", 1).await;
    both.receiver.answer_by(|request| Reply::status(if bearer(request) == "token-1" { 401 } else { 200 }));

    both.delivers("bob", 2).await;

    assert_eq!(both.tokens(), ["token-1", "token-1", "token-2"]);
    assert_eq!((both.postern.trials("crm").await, both.postern.charged_failures("crm").await), (0, 0));
    let keys: Vec<_> =
        both.receiver.requests().iter().map(|request| request.idempotency_key().map(str::to_owned)).collect();
    assert_eq!(keys[1], keys[2]);
}

#[tokio::test]
async fn destination_that_takes_no_fresh_token_either_is_held() {
    let pki = Pki::new();
    let both = Both::start(&pki, BY_CLIENT).await;
    both.receiver.answer_with(401);

    both.export("ada").await;
    both.postern.wait_for_hold("crm", "token_not_accepted").await;
    assert_eq!(both.tokens(), ["token-1", "token-2"]);
    both.postern.turn_until_probed(&both.clock, "crm", 1).await;
    assert_eq!(both.tokens(), ["token-1", "token-2", "token-2", "token-3"], "a probe asks for one token");
    both.receiver.answer_with(200);
    both.postern.turn_until_delivered(&both.clock, "crm", 1).await;

    assert_eq!(both.postern.charged_failures("crm").await, 0);
    assert_eq!(both.postern.metric(&held("crm")).await, Some(0.0));
}

#[tokio::test]
async fn token_endpoint_that_gives_none_holds_with_its_reason_and_nothing_is_sent() {
    let json = |text: &str| Reply::status(200).with_body(text);
    for (reply, reason) in [
        (Reply::status(401).with_body(r#"{"error":"invalid_client"}"#), "token_refused_401"),
        (Reply::status(302).with_header("location", "https://127.0.0.1:1/"), "token_refused_302"),
        (Reply::Silent, "token_endpoint_gave_no_answer"),
        (Reply::Trickle, "token_endpoint_gave_no_answer"),
        (Reply::Close, "token_endpoint_gave_no_answer"),
        (Reply::CloseInBody, "token_endpoint_gave_no_answer"),
        (Reply::Garbage, "token_answer_bad"),
        (Reply::Endless, "token_answer_bad"),
        (Reply::EndlessHead, "token_answer_bad"),
        (json("<html>welcome</html>"), "token_answer_bad"),
        (json("{}"), "token_answer_bad"),
        (json(r#"{"access_token":"a","token_type":"mac"}"#), "token_answer_bad"),
        (json(r#"{"access_token":"a","token_type":"Bearer","expires_in":-1}"#), "token_answer_bad"),
        (json(&format!(r#"{{"access_token":"{}"}}"#, "x".repeat(64 << 20))), "token_answer_bad"),
    ] {
        let pki = Pki::new();
        let both = Both::start(&pki, &format!(r#"{BY_CLIENT}, timeout = "300ms""#)).await;
        both.endpoint.answer_with(reply);

        both.export("ada").await;
        both.postern.wait_for_hold("crm", reason).await;
        assert_eq!((both.receiver.plaintext_bytes(), both.postern.charged_failures("crm").await), (0, 0), "{reason}");
        both.endpoint.answer_with(token("at-last"));
        both.postern.turn_until_delivered(&both.clock, "crm", 1).await;

        assert_eq!(both.tokens(), ["at-last"]);
    }
}

#[tokio::test]
async fn token_endpoint_that_is_down_holds_and_is_probed() {
    let pki = Pki::new();
    let mut both = Both::start(&pki, BY_CLIENT).await;
    both.endpoint.stop().await;

    both.export("ada").await;
    both.postern.wait_for_hold("crm", "token_endpoint_unreachable").await;
    both.postern.turn_until_probed(&both.clock, "crm", 3).await;
    both.endpoint.start_again();
    both.postern.turn_until_delivered(&both.clock, "crm", 1).await;

    assert_eq!(both.postern.charged_failures("crm").await, 0);
}

#[tokio::test]
async fn credentials_go_over_mutual_tls_unless_the_settings_say_otherwise() {
    let (pki, other) = (Pki::new(), Pki::new());
    let offer = format!(r#"{BY_CLIENT}, token_mtls = "offer""#);
    for (endpoint, oauth2, reason) in [
        (Receiver::set_up(&pki).not_asking(), BY_CLIENT, "token_endpoint_did_not_ask_for_certificate"),
        (Receiver::set_up(&other), BY_CLIENT, "token_endpoint_not_trusted"),
        (Receiver::set_up(&other).not_asking(), &offer, "token_endpoint_not_trusted"),
    ] {
        let both = Both::of(&pki, endpoint, oauth2, "/token").await;
        both.export("ada").await;
        both.postern.wait_for_hold("crm", reason).await;
        assert_eq!((both.endpoint.plaintext_bytes(), both.receiver.plaintext_bytes()), (0, 0), "{reason}");
    }

    let both = Both::of(&pki, Receiver::set_up(&pki).not_asking(), &offer, "/token").await;
    both.delivers("ada", 1).await;
    assert!(both.endpoint.requests()[0].certificate.is_empty());
    let both = Both::start(&pki, &offer).await;
    both.delivers("ada", 1).await;
    assert!(!both.endpoint.requests()[0].certificate.is_empty(), "one that asks is given it");
}

#[tokio::test]
async fn what_is_offered_for_a_token_is_demanded_for_exports() {
    let pki = Pki::new();
    let offer = format!(r#"{BY_CLIENT}, token_mtls = "offer""#);
    let both = Both::of(&pki, Receiver::set_up(&pki).not_asking(), &offer, "/token").await;
    both.receiver.become_as(Receiver::set_up(&pki).not_asking()).await;

    both.export("ada").await;

    both.postern.wait_for_hold("crm", "server_did_not_ask_for_certificate").await;
    assert_eq!(both.receiver.plaintext_bytes(), 0);
}

#[tokio::test]
async fn keys_that_are_pinned_are_those_of_the_token_endpoint_too() {
    let pki = Pki::new();
    let own = pki.authority.server(&[HOST], valid()).unwrap();
    let receiver = Receiver::set_up(&pki).presenting(&own).start().await;
    let endpoint = Receiver::start(&pki).await;
    let pins = format!("pins = [\"{}\"]", pin(&own.certificate_pem));
    let set_up = Appliance::set_up(&pki).with_tls(&pins).oauth2(&endpoint.url_at("/token"), BY_CLIENT);
    let postern = set_up.destination("crm", &receiver.url()).start().await;

    postern.post("web", &update("ada", json!({ "plan": "gold" }))).await;

    postern.wait_for_hold("crm", "token_endpoint_not_trusted").await;
    assert_eq!((endpoint.plaintext_bytes(), receiver.plaintext_bytes()), (0, 0));
}

#[tokio::test]
async fn refresh_token_is_used_and_the_password_again_when_that_is_refused() {
    let pki = Pki::new();
    let both = Both::start(&pki, BY_PASSWORD).await;
    both.endpoint.answer_by(|request| match form(request)["grant_type"].as_str() {
        "refresh_token" if form(request)["refresh_token"] == "refresh-2" => Reply::status(400),
        _ => {
            let number = request.number + 1;
            let answer = json!({
                "access_token": format!("token-{number}"), "refresh_token": format!("refresh-{number}"), "expires_in": 300,
            });
            Reply::status(200).with_body(answer.to_string())
        }
    });

    for (number, person) in ["ada", "bob", "cyd"].into_iter().enumerate() {
        both.delivers(person, number as u32 + 1).await;
        both.clock.advance(Duration::from_secs(280));
    }

    assert_eq!(both.tokens(), ["token-1", "token-2", "token-4"]);
    let asked: Vec<_> = both.endpoint.requests().iter().map(|request| form(request)["grant_type"].clone()).collect();
    assert_eq!(asked, ["password", "refresh_token", "refresh_token", "password"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn test_of_a_destination_uses_the_token() {
    let pki = Pki::new();
    let (endpoint, receiver) = (Receiver::start(&pki).await, Receiver::start(&pki).await);
    endpoint.answer_with(token("for-tests-too"));
    let set_up = Appliance::set_up(&pki).oauth2(&endpoint.url_at("/token"), BY_CLIENT);
    let postern = set_up.destination("crm", &receiver.url()).start().await;

    postern.verb(&["destination", "test", "crm"]).succeeds();
    assert_eq!(bearer(&receiver.requests()[0]), "for-tests-too");

    endpoint.answer_with(Reply::status(400).with_body(r#"{"error":"invalid_scope"}"#));
    receiver.answer_with(401);
    let refused = postern.verb(&["destination", "test", "crm"]);
    refused.refuses(1, "would not arrive");
    assert!(refused.stdout.contains("token_refused_400") && refused.stdout.contains("invalid_scope"), "{refused:?}");
}

/// Its answer may take a minute; an end waits for no token at all.
#[tokio::test]
async fn end_does_not_wait_for_a_token_and_charges_nobody() {
    let (pki, clock) = (Pki::new(), clock());
    let (endpoint, receiver) = (Receiver::start(&pki).await, Receiver::start(&pki).await);
    endpoint.answer_with(Reply::Silent);
    let oauth2 = format!("{BY_CLIENT}, timeout = \"60s\"");
    let set_up = Appliance::set_up(&pki).oauth2(&endpoint.url_at("/token"), &oauth2);
    let mut postern = set_up.destination("crm", &receiver.url()).start_by(&clock).await;
    for person in ["ada", "bob", "cyd"] {
        postern.post("web", &update(person, json!({ "plan": "gold" }))).await;
    }
    endpoint.wait_for(1).await;

    let began = Instant::now();
    assert!(postern.stop().await.success());

    // By itself it would have been given up after the time for connecting and that for an answer, 7 s.
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    assert_eq!((endpoint.requests().len(), receiver.requests().len()), (1, 0));
    endpoint.answer_with(token("at-last"));
    postern.start_by(&clock).await;
    postern.wait_for_exports("crm", [0, 3, 0]).await;
    assert_eq!(receiver.requests().len(), 3);
    assert_eq!((postern.charged_failures("crm").await, postern.trials("crm").await), (0, 0));
}
