//! Rules, as people try them and as they decide.

use std::{
    fs,
    io::Write,
    process::{Output, Stdio},
};

use serde_json::json;

use crate::support::{
    appliance::{Appliance, command},
    pki::Pki,
    receiver::Receiver,
    sender::{update, who},
};

fn told(Output { status, stdout, stderr }: Output) -> (i32, String, String) {
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[test]
fn expression_is_tried_without_an_appliance() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ada.json");
    let profile = json!({
        "orders": [{ "price": 10 }, { "price": 99 }],
        "identityMap": { "Email": [{ "id": "ada@example.com" }] },
        "segmentMembership": { "ups": { "gold": { "status": "existing" }, "silver": { "status": "exited" } } },
    });
    fs::write(&file, profile.to_string()).unwrap();
    let input = file.to_str().unwrap();
    let tried = |pql: &str| told(command(&["audience", "try", pql, "--input", input]).output().unwrap());

    for (pql, comes_to) in [
        ("orders[price > 50].count() = 1", "true"),
        ("orders.sum(price)", "109"),
        ("identityMap.keys()", "[\"Email\"]"),
        (r#"inSegment("gold") and not inSegment("silver")"#, "true"),
        ("gone", "null"),
    ] {
        assert_eq!(tried(pql), (0, format!("{comes_to}\n"), String::new()), "{pql}");
    }
    let (code, stdout, stderr) = tried("orders.cuont() = 1");
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(stderr.contains("the nearest is `count`") && stderr.contains("\n       ^"), "{stderr}");

    let mut piped = command(&["audience", "try", "a = 1", "--input", "-"]);
    let mut piped = piped.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    piped.stdin.take().unwrap().write_all(br#"{"a": 1.0}"#).unwrap();
    assert_eq!(told(piped.wait_with_output().unwrap()), (0, "true\n".to_owned(), String::new()));

    fs::write(&file, "[1]").unwrap();
    assert!(tried("a = 1").2.contains("not a profile"));
    fs::remove_file(&file).unwrap();
    assert_eq!(tried("a = 1").0, 66);
}

#[tokio::test]
async fn audience_asks_for_lists_identities_and_other_audiences() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    let set_up = Appliance::set_up(&pki)
        // The one that asks comes first by its id and in the file.
        .audience("a-vip", r#"inSegment("buyers") and identityMap.CRM.id.includes("ada")"#)
        .audience("buyers", "exists O from orders where O.price > 50")
        .mapping(&["a-vip"], &["orders"])
        .destination("crm", &receiver.url());
    let postern = set_up.start().await;

    postern.post("web", &update("bob", json!({ "orders": [{ "price": 99 }] }))).await;
    postern.post("web", &update("ada", json!({ "orders": [{ "price": 1 }] }))).await;
    postern.post("web", &update("ada", json!({ "orders": [{ "price": 1 }, { "price": 51 }] }))).await;
    postern.post("web", &update("ada", json!({ "orders": [{ "price": 2 }] }))).await;

    let requests = receiver.wait_for(2).await;
    let ups = |at: usize| requests[at].body["segmentMembership"]["ups"].clone();
    assert_eq!((requests.len(), who(&requests[0].body)), (2, "ada"));
    assert_eq!((&ups(0)["a-vip"]["status"], &ups(0)["buyers"]["status"]), (&json!("realized"), &json!("realized")));
    assert_eq!(ups(1)["a-vip"]["status"], "exited");
}

#[test]
fn audiences_that_ask_in_a_circle_or_for_strangers_are_refused() {
    let pki = Pki::new();
    let check = |first: &str, second: &str| {
        let postern = Appliance::set_up(&pki).audience("first", first).audience("second", second).write();
        let (code, _, stderr) = told(command(&["check"]).arg("--config").arg(postern.config_file()).output().unwrap());
        assert_eq!(code, 78, "{stderr}");
        stderr
    };
    assert!(check(r#"inSegment("second")"#, r#"inSegment("first")"#).contains("asks for itself"));
    assert!(check(r#"inSegment("nobody")"#, "a = 1").contains("first asks for nobody, which is not defined"));
}
