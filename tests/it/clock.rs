//! A clock that cannot be trusted: nothing is judged by it, nothing is lost by it, and everybody can see it.

use std::{fs, time::Duration};

use hyper::Method;
use postern::clock::Timestamp;
use serde_json::{Value, json};

use crate::support::{
    appliance::{Appliance, clock, held},
    pki::{Pki, expired, now},
    receiver::Receiver,
    sender::update,
};

const TRUSTED: &str = "postern_clock_trusted";

/// The battery is empty: it is 1970, and certificates are not valid yet.
#[tokio::test]
async fn exports_go_out_while_the_clock_is_not_trusted() {
    let (pki, clock) = (Pki::new(), clock());
    let receiver = Receiver::start(&pki).await;
    let mut postern = Appliance::set_up(&pki).destination("crm", &receiver.url()).start_by(&clock).await;
    postern.post("web", &update("ada", json!({ "plan": "gold", "version": 1 }))).await;
    receiver.wait_for(1).await;
    postern.stop().await;
    assert!(Timestamp::parse(fs::read_to_string(postern.state_dir.join("clock")).unwrap().trim()).is_some());

    let wrong = postern::clock::Clock::manual(Timestamp::from_millis(1000));
    postern.start_by(&wrong).await;
    postern.post("web", &update("ada", json!({ "plan": "gold", "version": 2 }))).await;

    assert_eq!(receiver.wait_for(2).await[1].body["version"], 2);
    postern.wait_for_metric(TRUSTED, 0.0).await;
    assert_eq!(postern.metric(&held("crm")).await, Some(0.0));
    assert_eq!(postern.charged_failures("crm").await, 0);
    let (status, text) = postern.admin("/readyz").await;
    assert_eq!((status, text.contains("clock not trusted")), (200, true), "{text}");

    wrong.set(now());
    // It is looked at every ten seconds; what is asked is told at once.
    assert_eq!(postern.admin("/readyz").await.1, "ready\n");
}

/// The clock was once far ahead: only a person can tell that it is right now.
#[tokio::test(flavor = "multi_thread")]
async fn person_can_have_the_clock_trusted() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    let mut postern = Appliance::set_up(&pki).destination("crm", &receiver.url()).write();
    fs::create_dir_all(&postern.state_dir).unwrap();
    fs::write(postern.state_dir.join("clock"), "2099-01-01T00:00:00Z\n").unwrap();
    postern.start_again().await;

    let status = postern.verb(&["status", "--json"]).json();
    assert_eq!(
        (&status["clock"]["trusted"], &status["clock"]["mark"]),
        (&json!(false), &json!("2099-01-01T00:00:00Z"))
    );
    assert!(postern.verb(&["status"]).succeeds().stdout.contains("clock not trusted"));
    assert!(postern.verb(&["clock", "show"]).succeeds().stdout.contains("postern clock trust"));
    postern
        .wait_for_log(|line| line["level"] == "ERROR" && line["message"].to_string().contains("clock not trusted"))
        .await;
    // In 2099 our certificate has expired, and the server's has; today they are valid.
    postern.post("web", &update("ada", json!({ "plan": "gold" }))).await;
    postern.wait_for_exports("crm", [0, 1, 0]).await;

    let trusted = postern.verb(&["clock", "trust", "--json"]).json();

    assert_eq!(trusted["trusted"], true);
    assert_eq!(postern.charged_failures("crm").await, 0);
    postern.stop().await;
    postern.start_again().await;
    assert_eq!(postern.verb(&["status", "--json"]).json()["clock"]["trusted"], true);
    let audit = fs::read_to_string(postern.state_dir.join("audit.log")).unwrap();
    assert!(audit.contains("clock.trust"), "{audit}");
}

#[tokio::test(flavor = "multi_thread")]
async fn mark_that_cannot_be_read_begins_anew() {
    let mut postern = Appliance::set_up(&Pki::new()).write();
    fs::create_dir_all(&postern.state_dir).unwrap();
    fs::write(postern.state_dir.join("clock"), b"\xff\xfe half a line").unwrap();

    postern.start_again().await;

    postern
        .wait_for_log(|line| line["level"] == "WARN" && line["message"].to_string().contains("mark cannot be read"))
        .await;
    let (_, clock) = postern.ask(Method::GET, "/v1/status", None).await;
    assert_eq!(clock["clock"]["trusted"], true);
}

#[tokio::test]
async fn small_step_back_is_a_correction() {
    let (pki, clock) = (Pki::new(), clock());
    let postern = Appliance::set_up(&pki).start_by(&clock).await;
    postern.wait_for_metric(TRUSTED, 1.0).await;

    clock.set(now() - Duration::from_secs(120));

    assert_eq!(postern.admin("/readyz").await.1, "ready\n");
}

/// Nothing is known of the time but when this was built, and all certificates are younger.
#[tokio::test]
async fn exports_go_out_at_a_first_start_in_1970() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    let wrong = postern::clock::Clock::manual(Timestamp::from_millis(1000));
    let postern = Appliance::set_up(&pki).destination("crm", &receiver.url()).start_by(&wrong).await;

    postern.post("web", &update("ada", json!({ "plan": "gold" }))).await;

    receiver.wait_for(1).await;
}

#[tokio::test]
async fn server_that_was_renewed_while_we_were_off_is_trusted() {
    let day = Duration::from_secs(24 * 3600);
    let (pki, clock) = (Pki::lasting(30 * day), clock());
    let receiver = Receiver::start(&pki).await;
    let mut postern = Appliance::set_up(&pki).destination("crm", &receiver.url()).start_by(&clock).await;
    postern.stop().await;
    fs::write(postern.state_dir.join("clock"), format!("{}\n", now() - 2 * day)).unwrap();

    postern.start_by(&postern::clock::Clock::manual(Timestamp::from_millis(1000))).await;
    postern.post("web", &update("ada", json!({ "plan": "gold" }))).await;

    receiver.wait_for(1).await;
}

/// What had expired when the clock was right has expired.
#[tokio::test]
async fn server_that_expired_before_the_mark_is_not_trusted() {
    let pki = Pki::new();
    let old = pki.authority.server(&["127.0.0.1"], expired()).unwrap();
    let receiver = Receiver::set_up(&pki).presenting(&old).start().await;
    let mut postern = Appliance::set_up(&pki).destination("crm", &receiver.url()).start_by(&clock()).await;
    postern.stop().await;

    postern.start_by(&postern::clock::Clock::manual(Timestamp::from_millis(1000))).await;
    postern.post("web", &update("ada", json!({ "plan": "gold" }))).await;

    postern.wait_for_hold("crm", "server_not_trusted").await;
}

#[tokio::test]
async fn nobody_judges_our_certificate_while_the_clock_is_not_trusted() {
    let (pki, clock) = (Pki::new(), clock());
    let receiver = Receiver::start(&pki).await;
    let mut postern = Appliance::set_up(&pki).destination("crm", &receiver.url()).start_by(&clock).await;
    postern.stop().await;
    postern.start_by(&postern::clock::Clock::manual(Timestamp::from_millis(1000))).await;

    let (_, view) = postern.ask(Method::GET, "/v1/destinations/crm", None).await;

    assert_eq!((&view["certificate"]["valid"], &view["certificate"]["days_left"]), (&Value::Null, &Value::Null));
    let days = postern.metric(r#"postern_certificate_days_left{destination="crm",role="in_use"}"#).await;
    assert!(days.is_some_and(f64::is_nan), "{days:?}");
}
