//! Older formats are frozen: stores that were written when they were, which every later version must open.
//!
//! Each of `fixtures/format-*.tar.gz` was written by `write_the_fixture`, once, by the last version that wrote the format.

use std::{fs, path::PathBuf, process::Command};

use hyper::Method;
use serde_json::{Value, json};

use crate::support::{
    appliance::{Appliance, command},
    load::step,
    pki::Pki,
    receiver::Receiver,
    sender::{update, who},
    set_up::GOLD,
};

fn fixture(format: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/format-{format}.tar.gz"))
}

fn tar(arguments: &[&str], format: &str, postern: &Appliance) {
    let (folder, archive) = (postern.state_dir.parent().unwrap(), fixture(format));
    let done = Command::new("tar").args(arguments).arg(archive).arg("-C").arg(folder).arg("state").output().unwrap();
    assert!(done.status.success(), "{done:?}");
}

/// Text that no encoding makes shorter, so that it takes many chunks.
fn noise(length: usize) -> String {
    let mut random = 0x5EED;
    (0..length).map(|_| char::from(b'a' + (step(&mut random) >> 33) as u8 % 26)).collect()
}

fn both(one: &str, other: &str) -> Value {
    json!({ "plan": "gold", "name": "joined", "identityMap": { "CRM": [{ "id": one }, { "id": other }] } })
}

#[tokio::test]
#[ignore = "writes the fixture of the present format, which is frozen then"]
async fn write_the_fixture() {
    let pki = Pki::new();
    let mut receiver = Receiver::start(&pki).await;
    receiver.answer_by(|request| if who(&request.body) == "bob" { 422.into() } else { 200.into() });
    let set_up = Appliance::set_up(&pki).retry_delays(["1h", "1h"]).destination("crm", &receiver.url());
    let mut postern = set_up.start().await;
    for person in ["ada", "bob", "cyd", "dan"] {
        postern.post("web", &update(person, json!({ "plan": "gold", "version": 1 }))).await;
    }
    postern.wait_for_exports("crm", [0, 3, 1]).await;
    // One attempt, and then a hold with a trial.
    receiver.answer_with(500);
    postern.post("web", &update("ada", json!({ "version": 2 }))).await;
    postern.wait_for_posts("crm", "status_500", "attempt", 1).await;
    receiver.stop().await;
    postern.post("web", &both("cyd", "dan")).await;
    postern.wait_for_hold("crm", "unreachable").await;
    postern.post("web", &update("eve", json!({ "plan": "gold", "name": noise(50_000) }))).await;
    assert!(postern.stop().await.success());
    let format = fs::read_to_string(postern.state_dir.join("FORMAT")).unwrap();
    assert!(!fixture(format.trim()).exists(), "format {format} is frozen");
    tar(&["-czf"], format.trim(), &postern);
}

#[tokio::test]
async fn store_of_format_1_opens_with_all_that_is_in_it() {
    opens_with_all_that_is_in_it("1").await;
}

#[tokio::test]
async fn store_of_format_2_opens_with_all_that_is_in_it() {
    opens_with_all_that_is_in_it("2").await;
}

#[tokio::test]
async fn store_of_format_3_opens_with_all_that_is_in_it() {
    opens_with_all_that_is_in_it("3").await;
}

async fn opens_with_all_that_is_in_it(format: &str) {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    let mut postern = Appliance::set_up(&pki).destination("crm", &receiver.url()).write();
    tar(&["-xzf"], format, &postern);

    let check = command(&["store", "check", "--json", "--state-dir"]).arg(&postern.state_dir).output().unwrap();
    let check: Value = serde_json::from_slice(&check.stdout).unwrap();
    let counted = json!({
        "made": 7, "delivered": 3, "waiting": 3, "dead": 1, "damaged": 0, "dropped": 0, "redriven": 0, "moot": 0, "skipped": 0,
        "superseded": 0, "died": 1,
    });
    assert_eq!((&check["whole"], &check["counters"]["profiles"]), (&json!(true), &json!(4)), "{check}");
    assert_eq!(check["counters"]["destinations"]["crm"], counted);
    let letters = postern.dead_letters("crm").await;
    assert_eq!(letters.iter().map(|letter| letter.cause.to_string()).collect::<Vec<_>>(), ["refused"]);

    postern.start_again().await;
    // Ada's waits an hour for its retry, but the destination is held, and a probe takes the oldest, due or not.
    postern.wait_for_exports("crm", [0, 6, 1]).await;
    let bodies: Vec<Value> = receiver.requests().into_iter().map(|request| request.body).collect();
    assert_eq!(bodies[0]["version"], 2);
    let of = |person: &str| bodies.iter().find(|body| who(body) == person).unwrap();
    assert_eq!(of("eve")["name"], noise(50_000));
    assert_eq!(of("cyd")["identityMap"]["CRM"], json!([{ "id": "cyd" }, { "id": "dan" }]));
    assert_eq!(of("cyd")["segmentMembership"]["ups"][GOLD]["status"], "realized");

    // Nobody knew then what was evaluated: that is made up for once, and finds nothing.
    postern.wait_for_metric(r#"postern_backfills_owed{work="evaluation"}"#, 0.0).await;
    let walks = postern.ask(Method::GET, "/v1/backfills", None).await.1;
    let walk = |name: &str| walks[0][name].clone();
    assert_eq!((walk("cause"), walk("done"), walk("exports")), (json!("older_store"), json!(4), json!(0)), "{walks}");
    assert_eq!(walks.as_array().unwrap().len(), 1, "nothing is backfilled");

    // The profiles are as they were: nothing is news but an exit.
    postern.post("web", &update("dan", json!({ "plan": "silver" }))).await;
    postern.wait_for_exports("crm", [0, 7, 1]).await;
    let left = receiver.requests().pop().unwrap().body;
    assert_eq!(
        (&left["name"], &left["segmentMembership"]["ups"][GOLD]["status"]),
        (&json!("joined"), &json!("exited"))
    );
}
