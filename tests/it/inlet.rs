//! Updates come in: what is taken, what is refused and why, and that a refusal changes nothing.

use serde_json::{Value, json};

use crate::support::{
    appliance::Appliance,
    load::step,
    pki::Pki,
    receiver::Receiver,
    sender::update,
    set_up::{GOLD, SetUp},
    wire::{Answer, Wire},
};

/// As the published message needs it: an attribute is the identity.
const XDM_INLET: &str = r#"identities = [{ path = "workEmail.address", namespace = "Email", primary = true }]"#;
const MIB: usize = 1024 * 1024;

async fn start() -> (Appliance, Receiver) {
    start_as(|set_up| set_up).await
}

async fn start_as(more: impl FnOnce(SetUp) -> SetUp) -> (Appliance, Receiver) {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    let postern = more(Appliance::set_up(&pki)).destination("crm", &receiver.url()).start().await;
    (postern, receiver)
}

#[tokio::test]
async fn published_message_is_taken_as_it_is() {
    let (postern, receiver) = start_as(|set_up| {
        let set_up = set_up.inlet("xdm", XDM_INLET).audience("active-at-work", r#"workEmail.status = "active""#);
        set_up.mapping(&["active-at-work"], &["person.name.firstName", "_id"])
    })
    .await;
    let message: Value = serde_json::from_str(include_str!("../vectors/ingest-source-xdm-request.json")).unwrap();

    let answer = postern.post("xdm", &message).await;

    assert_eq!(answer["inletId"], "xdm");
    assert!(!answer["xactionId"].as_str().unwrap().is_empty());
    let received = answer["receivedTimeMs"].as_i64().unwrap();
    assert!((crate::support::pki::now().as_millis() - received).abs() < 60_000, "{answer}");
    let requests = receiver.wait_for(1).await;
    let body = &requests[0].body;
    assert_eq!(body["identityMap"], json!({ "Email": [{ "id": "suman@acme.com" }] }));
    assert_eq!(body["person"], json!({ "name": { "firstName": "suman" } }));
    assert_eq!(body["_id"], "http-source-connector-acme-01");
    assert_eq!(body["segmentMembership"]["ups"]["active-at-work"]["status"], "realized");
}

#[tokio::test]
async fn refusals_say_what_to_do_and_change_nothing() {
    let (postern, receiver) = start_as(|set_up| set_up.inlet("xdm", XDM_INLET)).await;
    postern.post("web", &update("ada", json!({ "plan": "gold", "version": 1 }))).await;
    let message = |operation: &str| {
        json!({
            "header": { "operations": { "data": operation, "identity": "create" } },
            "body": { "xdmEntity": update("ada", json!({ "plan": "bad" })) }
        })
    };
    let many: Vec<Value> = (0..51).map(|n| json!({ "id": format!("n{n}") })).collect();

    for (inlet, body, status, reason, words) in [
        ("web", json!(["plan", "gold"]), 400, "shape", "not a JSON object"),
        ("web", json!("gold"), 400, "shape", "not a JSON object"),
        ("web", json!({ "plan": "bad" }), 400, "no_identity", "identityMap"),
        ("xdm", json!({ "plan": "bad" }), 400, "no_identity", "workEmail.address"),
        ("xdm", json!({ "workEmail": { "address": ["a"] } }), 400, "shape", "workEmail.address"),
        ("web", json!({ "plan": "bad", "identityMap": {} }), 400, "no_identity", "identityMap"),
        ("web", json!({ "identityMap": [] }), 400, "shape", "identityMap is not a JSON object"),
        ("web", json!({ "identityMap": { "CRM": { "id": "ada" } } }), 400, "shape", "identityMap.CRM is not an array"),
        ("web", json!({ "identityMap": { "CRM": [{ "id": 7 }] } }), 400, "shape", "identityMap.CRM[0].id"),
        ("web", update("", json!({ "plan": "bad" })), 400, "identity", "identityMap.CRM[0]"),
        ("web", update(&"x".repeat(1025), json!({ "plan": "bad" })), 400, "identity", "1024 bytes"),
        ("web", json!({ "identityMap": { "": [{ "id": "ada" }] } }), 400, "identity", "namespace"),
        ("web", message("create"), 400, "operation", "`create` is not supported"),
        ("web", message("delete"), 400, "operation", "`delete` is not supported"),
        ("web", json!({ "header": {}, "body": {} }), 400, "shape", "body.xdmEntity is missing"),
        (
            "web",
            json!({ "header": {}, "body": { "xdmEntity": 1 } }),
            400,
            "shape",
            "body.xdmEntity is not a JSON object",
        ),
        ("nowhere", update("ada", json!({ "plan": "bad" })), 404, "not_found", "no inlet `nowhere`"),
        ("web", update("ada", json!({ "name": "x".repeat(200_000) })), 422, "profile_too_large", "131072"),
        ("web", json!({ "plan": "bad", "identityMap": { "CRM": many } }), 422, "too_many_identities", "at most 50"),
    ] {
        let (got, answer) = postern.try_post(inlet, &body).await.unwrap();
        assert_eq!((got, &answer["report"]["reason"]), (status, &json!(reason)), "{answer}");
        assert_eq!(answer["status"], status);
        let said = answer["report"]["message"].as_str().unwrap();
        assert!(said.contains(words), "{said} does not say {words}");
    }

    // One of the fifty-one is still nobody, and ada is as she was.
    postern.post("web", &update("n7", json!({ "plan": "gold", "version": 2 }))).await;
    postern.post("web", &update("ada", json!({ "version": 3 }))).await;
    postern.wait_for_exports("crm", [0, 3, 0]).await;
    let requests = receiver.requests();
    let of_version = |version| &requests.iter().find(|request| request.body["version"] == version).unwrap().body;
    assert_eq!(of_version(2)["identityMap"], json!({ "CRM": [{ "id": "n7" }] }));
    let ada = of_version(3);
    assert_eq!(ada["identityMap"], json!({ "CRM": [{ "id": "ada" }] }));
    assert_eq!((&ada["plan"], &ada["name"]), (&json!("gold"), &Value::Null));
    assert_eq!(postern.metric(r#"postern_updates_total{result="applied"}"#).await, Some(3.0));
    let refused = r#"postern_updates_refused_total{inlet="web",reason="profile_too_large"}"#;
    assert_eq!(postern.metric(refused).await, Some(1.0));
}

#[tokio::test]
async fn bodies_that_are_not_json_are_refused_however_deep_they_nest() {
    let (postern, _receiver) = start().await;
    let nested = |levels: usize| {
        let inner = format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels));
        format!(r#"{{"plan":{inner},"identityMap":{{"CRM":[{{"id":"ada"}}]}}}}"#)
    };
    let arrays = |levels: usize| "[".repeat(levels);

    for (body, reason) in [
        (String::new(), "not_json"),
        ("plan=gold".to_owned(), "not_json"),
        (r#"{"plan": "gold""#.to_owned(), "not_json"),
        (r#"{"plan": 1} trailing"#.to_owned(), "not_json"),
        (nested(100), "shape"),
        (nested(10_000), "not_json"),
        (arrays(500_000), "not_json"),
    ] {
        let (status, answer) = postern.sender().try_post_text("web", &body).await.unwrap();
        assert_eq!((status, &answer["report"]["reason"]), (400, &json!(reason)), "{answer}");
    }

    postern.sender().try_post_text("web", &nested(50)).await.filter(|(status, _)| *status == 200).unwrap();
}

#[tokio::test]
async fn body_over_the_limit_is_refused_whether_its_length_is_said_or_not() {
    let (postern, _receiver) = start().await;
    let large = vec![b' '; MIB + 1];

    let mut said = Wire::connect(&postern.inlets()).await;
    said.request("POST /collection/web", JSON, &large).await;
    is_refused(&said.answer().await, 413, "body_too_large");

    let mut chunked = Wire::connect(&postern.inlets()).await;
    chunked
        .write(format!("POST /collection/web HTTP/1.1\r\nhost: p\r\n{JSON}transfer-encoding: chunked\r\n\r\n"))
        .await;
    for chunk in large.chunks(64 * 1024) {
        chunked.write([format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat()).await;
    }
    is_refused(&chunked.answer().await, 413, "body_too_large");
    assert_eq!(postern.admin("/readyz").await.0, 200);
}

#[tokio::test]
async fn wrong_method_place_and_media_type_are_refused() {
    let (postern, _receiver) = start().await;
    let body = update("ada", json!({ "plan": "gold" })).to_string();
    let mut wire = Wire::connect(&postern.inlets()).await;

    wire.request("GET /collection/web", "", "").await;
    let answer = wire.answer().await;
    assert_eq!(answer.status, 405);
    assert!(answer.head.contains("allow: post"), "{}", answer.head);
    wire.request("POST /elsewhere", JSON, &body).await;
    is_refused(&wire.answer().await, 404, "not_found");
    for (headers, status) in [
        ("", 415),
        ("content-type: text/plain\r\n", 415),
        ("content-type: application/x-www-form-urlencoded\r\n", 415),
        ("content-type: application/json; charset=utf-8\r\n", 200),
        ("content-type: APPLICATION/vnd.adobe.xdm+JSON\r\n", 200),
    ] {
        wire.request("POST /collection/web", headers, &body).await;
        assert_eq!(wire.answer().await.status, status, "{headers}");
    }
}

#[tokio::test]
async fn connection_serves_many_updates() {
    let (postern, receiver) = start().await;
    let mut wire = Wire::connect(&postern.inlets()).await;

    for version in 1..=50 {
        let body = update("ada", json!({ "plan": "gold", "version": version })).to_string();
        wire.request("POST /collection/web", JSON, body).await;
        assert_eq!(wire.answer().await.status, 200);
    }

    let requests = receiver.wait_for(50).await;
    assert_eq!(requests[49].body["version"], 50);
}

#[tokio::test]
async fn sender_that_trickles_its_body_does_not_hurt_others() {
    let (postern, receiver) = start().await;
    let body = update("slow", json!({ "plan": "gold" })).to_string();
    let mut slow: Vec<Wire> = Vec::new();
    for _ in 0..50 {
        let mut wire = Wire::connect(&postern.inlets()).await;
        wire.write(begun(body.len())).await;
        assert_eq!(wire.answer().await.status, 100, "it waits for the body");
        slow.push(wire);
    }

    for (number, byte) in body.bytes().enumerate() {
        slow[0].write([byte]).await;
        postern.post("web", &update("quick", json!({ "plan": "gold", "version": number }))).await;
    }

    assert_eq!(slow[0].answer().await.status, 200);
    receiver.wait_for(body.len() + 1).await;
}

#[tokio::test]
async fn update_under_way_is_answered_when_told_to_stop() {
    let (mut postern, receiver) = start().await;
    let body = update("ada", json!({ "plan": "gold" })).to_string();
    let mut wire = Wire::connect(&postern.inlets()).await;
    wire.write(begun(body.len())).await;
    assert_eq!(wire.answer().await.status, 100, "it waits for the body");

    postern.terminate();
    postern.wait_for_log(|line| line["message"] == "stopping").await;
    wire.write(&body).await;

    assert_eq!(wire.answer().await.status, 200);
    assert!(postern.stop().await.success());
    postern.start_again().await;
    let requests = receiver.wait_for(1).await;
    assert_eq!(requests[0].body["segmentMembership"]["ups"][GOLD]["status"], "realized");
}

#[tokio::test]
async fn full_disk_is_answered_503_and_loses_nothing_acknowledged() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    let mut postern = Appliance::set_up(&pki).destination("crm", &receiver.url()).write();
    // A limit on the size of files is met as a full disk is: by a write that fails.
    let script = r#"trap '' XFSZ; ulimit -f 4096; exec "$0" "$@""#;
    let binary = env!("CARGO_BIN_EXE_postern");
    let mut limited = std::process::Command::new("bash");
    limited.args(["-c", script, binary, "run", "--config"]).arg(postern.config_file());
    postern.start_with(&mut limited).await;
    let mut random = 0x5EED;
    // What cannot be packed.
    let large: String = (0..50_000).map(|_| char::from(b'a' + (step(&mut random) >> 33) as u8 % 26)).collect();

    let mut acknowledged = 0;
    let (status, answer) = loop {
        let entity = update(&format!("p{acknowledged}"), json!({ "plan": "gold", "name": large }));
        match postern.try_post("web", &entity).await.expect("an answer") {
            (200, _) => acknowledged += 1,
            refused => break refused,
        }
        assert!(acknowledged < 1000, "the limit was never met");
    };

    assert_eq!((status, &answer["report"]["reason"]), (503, &json!("store_failed")), "{answer}");
    assert_eq!(postern.admin("/readyz").await.0, 503);
    assert_eq!(postern.admin("/livez").await.0, 200);
    postern.kill();
    postern.start_again().await;
    assert_eq!(postern.admin("/readyz").await.0, 200);
    postern.wait_for_metric(r#"postern_exports{destination="crm",state="waiting"}"#, 0.0).await;
    let requests = receiver.requests();
    for number in 0..acknowledged {
        let id = format!("p{number}");
        assert!(requests.iter().any(|request| crate::support::sender::who(&request.body) == id), "{id} is lost");
    }
}

const JSON: &str = "content-type: application/json\r\n";

/// The head of an update whose body is yet to come; the appliance says when it waits for it.
fn begun(length: usize) -> String {
    format!(
        "POST /collection/web HTTP/1.1\r\nhost: p\r\n{JSON}expect: 100-continue\r\ncontent-length: {length}\r\n\r\n"
    )
}

fn is_refused(answer: &Answer, status: u16, reason: &str) {
    assert_eq!((answer.status, &answer.body["report"]["reason"]), (status, &json!(reason)), "{answer:?}");
}
