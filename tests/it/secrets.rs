//! What must not be written down is not: identities, attributes and tokens stay out of logs, answers and metrics.

use serde_json::json;

use crate::support::{
    appliance::{Appliance, command},
    pki::Pki,
    receiver::Receiver,
    reply::Reply,
    sender::{update, who},
};

const TOKEN: &str = "t0ken-MARKER-b3arer";
const IDENTITY: &str = "1dentity-MARKER";
const ATTRIBUTE: &str = "attr1bute-MARKER";

#[tokio::test]
async fn neither_identity_nor_attribute_nor_token_is_logged_at_any_level() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    let (wrong, mut down) = (Receiver::set_up(&pki).not_asking().start().await, Receiver::start(&pki).await);
    down.stop().await;
    receiver.answer_by(|request| match who(&request.body).rsplit('-').next().unwrap() {
        "refused" => Reply::status(422),
        "failing" => Reply::status(500),
        "missing" => Reply::status(404),
        "garbage" => Reply::Garbage,
        "closed" => Reply::Close,
        "silent" => Reply::Silent,
        _ => Reply::status(200),
    });
    let set_up = Appliance::set_up(&pki).timeout("100ms").bearer(TOKEN).destination("crm", &receiver.url());
    let mut postern =
        set_up.destination("wrong", &wrong.url()).destination("down", &down.url_at("/in?from=here")).start().await;
    let mut answers = String::new();

    let fates = ["good", "refused", "failing", "missing", "garbage", "closed", "silent"];
    for (version, fate) in fates.into_iter().enumerate() {
        let name = json!({ "first": format!("{ATTRIBUTE}-{version}") });
        let entity = update(&format!("{IDENTITY}-{fate}"), json!({ "plan": "gold", "version": version, "name": name }));
        answers += &postern.post("web", &entity).await.to_string();
    }
    let both = json!([{ "id": format!("{IDENTITY}-good") }, { "id": format!("{IDENTITY}-other") }]);
    postern.post("web", &json!({ "name": ATTRIBUTE, "identityMap": { "CRM": both } })).await;
    for bad in [
        format!(r#"{{"plan": "{ATTRIBUTE}" {IDENTITY}"#),
        format!(r#"["{IDENTITY}", "{ATTRIBUTE}"]"#),
        format!(r#"{{"name": "{ATTRIBUTE}"}}"#),
        format!(r#"{{"identityMap": {{"CRM": ["{IDENTITY}"]}}}}"#),
        update(&IDENTITY.repeat(100), json!({ "name": ATTRIBUTE })).to_string(),
        update(IDENTITY, json!({ "name": ATTRIBUTE.repeat(20_000) })).to_string(),
    ] {
        let (status, answer) = postern.sender().try_post_text("web", &bad).await.unwrap();
        assert!((400..500).contains(&status), "{answer}");
        answers += &answer.to_string();
    }
    postern.wait_for_metric(r#"postern_exports_total{destination="crm",result="made"}"#, 8.0).await;
    postern.wait_for_hold("wrong", "server_did_not_ask_for_certificate").await;
    postern.wait_for_hold("down", "unreachable").await;
    let refused = |line: &serde_json::Value| line["message"] == "export became a dead letter";
    postern.wait_for_log(refused).await;
    let figures = postern.admin("/metrics").await.1;
    let mut log = postern.log();
    postern.terminate();
    postern.wait_for_log(|line| line["message"] == "stopped").await;
    log.extend(postern.log());
    postern.kill();
    let listed = command(&["dead-letter", "list", "--json", "--state-dir"]).arg(&postern.state_dir).output().unwrap();

    let log = serde_json::to_string(&log).unwrap();
    // Which one, depends on what the receiver spoilt first: a hold makes trials of attempts.
    let failed = ["attempt failed", "trial failed"].iter().any(|text| log.contains(text));
    assert!(log.contains("DEBUG") && failed, "{log}");
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.contains("refused_422"), "{listed}");
    for text in [log, answers, figures, listed] {
        assert!(!text.contains("MARKER"), "{text}");
    }
    assert!(receiver.requests().iter().all(|request| {
        request.header("authorization") == Some(&format!("Bearer {TOKEN}")) && request.path == "/in"
    }));
    assert_eq!(wrong.plaintext_bytes(), 0);
}

#[test]
fn token_that_cannot_be_used_is_refused_without_being_shown() {
    for bad in [format!("{TOKEN}\u{e9}"), format!("{TOKEN}\nsecond line"), TOKEN.repeat(1000)] {
        let pki = Pki::new();
        let postern = Appliance::set_up(&pki).bearer(&bad).destination("crm", "https://127.0.0.1:1/").write();

        let output = command(&["check", "--config"]).arg(postern.config_file()).output().unwrap();

        assert_eq!(output.status.code(), Some(78));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(r#"destination "crm".authentication"#) && !said.contains("MARKER"), "{said}");
    }
}
