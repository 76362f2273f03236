//! What must not be written down is not: identities, attributes and tokens stay out of logs, answers and metrics.

use serde_json::json;

use crate::support::{
    appliance::{Appliance, command},
    pki::Pki,
    receiver::{Receiver, Request},
    reply::Reply,
    sender::{update, who},
};

const TOKEN: &str = "t0ken-MARKER-b3arer";
const CLIENT_SECRET: &str = "cl1ent-MARKER-secret";
const PASSWORD: &str = "passw0rd-MARKER";
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

#[tokio::test(flavor = "multi_thread")]
async fn neither_client_secret_nor_password_nor_token_is_shown_whoever_repeats_them() {
    let pki = Pki::new();
    let (endpoint, receiver) = (Receiver::start(&pki).await, Receiver::start(&pki).await);
    let refusing = Receiver::start(&pki).await;
    // What they were sent, and what they gave, said again.
    let echo = |request: &Request| {
        let (sent, headers) = (String::from_utf8_lossy(&request.raw_body), &request.headers);
        format!(r#"{{"error": "{CLIENT_SECRET}", "error_description": "{PASSWORD} {sent} {headers:?}"}}"#)
    };
    endpoint.answer_by(|_| {
        let [access, refresh] = ["access", "refresh"].map(|kind| format!("{TOKEN}-{kind}"));
        Reply::status(200).with_body(json!({ "access_token": access, "refresh_token": refresh }).to_string())
    });
    refusing.answer_by(move |request| Reply::status(400).with_body(echo(request)));
    receiver.answer_by(move |request| match who(&request.body) {
        "good" => Reply::status(200),
        _ => Reply::status(422).with_body(format!("no {:?}", request.headers)),
    });
    let grant = r#"grant = "password", username = "ann", password = { file = "password" }, credentials = "basic""#;
    let set_up = Appliance::set_up(&pki).oauth2_with(&endpoint.url_at("/token"), grant, CLIENT_SECRET, PASSWORD);
    let set_up = set_up.destination("crm", &receiver.url());
    let set_up = set_up.oauth2_with(&refusing.url_at("/token"), grant, CLIENT_SECRET, PASSWORD);
    let postern = set_up.destination("held", &receiver.url()).start().await;

    for person in ["good", "bad"] {
        postern.post("web", &update(person, json!({ "plan": "gold" }))).await;
    }
    postern.wait_for_exports("crm", [0, 1, 1]).await;
    postern.wait_for_hold("held", "token_refused_400").await;
    let lines = postern.verb(&["dead-letter", "list", "--json"]).lines();
    let id = lines[0]["id"].as_str().unwrap();
    let revealed = postern.verb(&["dead-letter", "show", id, "--reveal"]).succeeds().stdout;
    let mut said = vec![revealed.clone(), postern.admin("/metrics").await.1];
    for verb in [
        &["status", "--json"][..],
        &["destination", "show", "crm", "--json"],
        &["destination", "show", "held", "--json"],
        &["destination", "test", "held", "--json"],
        &["destination", "test", "crm", "--sample", "--json"],
        &["config", "show"],
        &["export", "list", "--json"],
    ] {
        said.push(format!("{:?}", postern.verb(verb)));
    }
    let mut log = postern.log();
    postern.terminate();
    postern.wait_for_log(|line| line["message"] == "stopped").await;
    log.extend(postern.log());
    let log = serde_json::to_string(&log).unwrap();

    assert!(revealed.contains("Bearer ***"), "{revealed}");
    assert!(log.contains("token_refused_400") && log.contains("the token endpoint answered 400"), "{log}");
    for text in said.into_iter().chain([log]) {
        assert!(!text.contains("MARKER"), "{text}");
    }
    assert!(receiver.requests().iter().all(|request| request.header("authorization").unwrap().contains("MARKER")));
    assert!(refusing.requests().iter().all(|request| String::from_utf8_lossy(&request.raw_body).contains("MARKER")));
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
