//! Every command of `docs/operations.md`, run in the situation that its page is about.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::support::{
    appliance::{Appliance, command},
    pki::{self, Pki},
    receiver::Receiver,
    reply::Reply,
    sender::update,
    socket::Done,
};

/// The commands of a page, in order.
fn commands(page: &str) -> Vec<String> {
    let docs = include_str!("../../docs/operations.md");
    let text = docs.split("\n## ").find(|text| text.starts_with(page)).unwrap_or_else(|| panic!("no page {page}"));
    let commands: Vec<String> = text.lines().filter_map(|line| line.strip_prefix("    ")).map(str::to_owned).collect();
    assert!(commands.len() > 2, "{page}: {commands:?}");
    commands
}

/// Runs the commands of a page with these words in place of those in capitals.
async fn run(postern: &mut Appliance, page: &str, words: &[(&str, &str)]) -> Vec<Done> {
    run_with(postern, page, words, |_| {}).await
}

/// As [`run`], with somebody else at work before each command.
async fn run_with(
    postern: &mut Appliance,
    page: &str,
    words: &[(&str, &str)],
    mut before: impl FnMut(&str),
) -> Vec<Done> {
    let put = |word: &str| {
        let named = |(name, _): &&(&str, &str)| word == *name || word.starts_with(&format!("{name}/"));
        words.iter().find(named).map_or(word.to_owned(), |(name, put)| word.replacen(name, put, 1))
    };
    let mut done = Vec::new();
    for command in commands(page) {
        before(&command);
        match command.as_str() {
            "systemctl stop postern" => assert!(postern.stop().await.success()),
            "systemctl start postern" => postern.start_again().await,
            // It needs no configuration.
            _ if command.starts_with("postern cert request") => {
                let arguments: Vec<String> = command.split(' ').skip(1).map(put).collect();
                let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
                done.push(Done::of(&mut postern.command(&arguments)).succeeds());
            }
            _ => {
                let arguments: Vec<String> = command.strip_prefix("postern ").unwrap().split(' ').map(put).collect();
                let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
                done.push(postern.verb(&arguments).succeeds());
            }
        }
    }
    done
}

#[tokio::test(flavor = "multi_thread")]
async fn destination_that_is_held() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    receiver.answer_by(|request| Reply::status(if request.method == "POST" { 404 } else { 200 }));
    let mut postern = Appliance::set_up(&pki).destination("crm", &receiver.url()).start().await;
    postern.post("web", &update("4711", json!({ "plan": "gold" }))).await;
    postern.wait_until(&["destination", "show", "crm"], |crm| crm["state"] == "held").await;
    receiver.answer_with(200);

    let done = run(&mut postern, "A destination is held", &[]).await;

    assert!(done[0].stdout.contains("held") && done[0].stdout.contains("status_404"), "{done:?}");
    receiver.wait_for(3).await;
    postern.wait_until(&["destination", "show", "crm"], |crm| crm["state"] == "open").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letter() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    let refuses = |request: &crate::support::receiver::Request| request.body["name"] == "bad";
    receiver.answer_by(move |request| Reply::status(if refuses(request) { 422 } else { 200 }));
    let mut postern = Appliance::set_up(&pki).destination("crm", &receiver.url()).start().await;
    postern.post("web", &update("good", json!({ "plan": "gold" }))).await;
    for name in ["ada", "bob"] {
        postern.post("web", &update(name, json!({ "plan": "gold", "name": "bad" }))).await;
    }
    postern.wait_for_metric(r#"postern_exports{destination="crm",state="dead"}"#, 2.0).await;
    let letters = postern.verb(&["dead-letter", "list", "--json"]).lines();
    receiver.answer_with(200);

    run(&mut postern, "A dead letter", &[("ID", letters[0]["id"].as_str().unwrap())]).await;

    postern.wait_for_metric(r#"postern_exports_total{destination="crm",result="delivered"}"#, 3.0).await;
    assert!(postern.verb(&["dead-letter", "list", "--json"]).lines().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn certificate_that_runs_out() {
    let pki = Pki::new();
    let path = |name: &str| pki.path().join(name);
    let text = |name: &str| path(name).display().to_string();
    Done::of(&mut command(&["cert", "issue", "authority", "--out", &text("company")])).succeeds();
    let company = fs::read_to_string(path("company/ca.crt")).unwrap();
    let receiver = Receiver::set_up(&pki).trusting(pki.authority.certificate_pem() + &company).start().await;
    let mut postern = Appliance::set_up(&pki).destination("crm", &receiver.url()).start().await;

    let words = [("NEW", &*text("new")), ("ANSWER", &*text("answer.pem"))];
    let done = run_with(&mut postern, "A certificate runs out", &words, |command| {
        if command.starts_with("postern cert install") {
            let request = fs::read_to_string(path("new/edge-001.csr")).unwrap();
            fs::write(path("answer.pem"), pki::answer(&path("company"), &request, |_| {})).unwrap();
        }
    })
    .await;

    assert!(done[0].stdout.contains("last day"), "{done:?}");
    assert!(done[4].stdout.starts_with("good"), "{done:?}");
    let new = fs::read_to_string(path("client.crt")).unwrap();
    assert!(done[6].stdout.contains(&new), "{done:?}");
    let before = pki::fingerprint_of(&pki.client);
    postern.wait_until(&["destination", "show", "crm"], |crm| crm["certificate"]["fingerprint"] != before).await;
    postern.post("web", &update("4711", json!({ "plan": "gold" }))).await;
    receiver.wait_for(1).await;
    let all_the_same = |crm: &Value| {
        let certificate = &crm["certificate"];
        certificate["fingerprint"] == certificate["accepted"] && certificate["fingerprint"] == certificate["on_file"]
    };
    postern.wait_until(&["destination", "show", "crm"], all_the_same).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn disk_that_is_filling() {
    let pki = Pki::new();
    let mut postern = Appliance::set_up(&pki).destination("crm", "https://127.0.0.1:1/").start().await;
    for number in 0..20 {
        postern.post("web", &update(&format!("p{number}"), json!({ "plan": "gold" }))).await;
    }

    let done = run(&mut postern, "The disk is filling", &[]).await;

    assert_eq!(done[2].stdout.lines().count(), 11, "a heading and ten exports: {done:?}");
    postern.wait_until(&["destination", "show", "crm"], |crm| crm["counted"]["waiting"] == 20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_profile_sent() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    let mut postern = Appliance::set_up(&pki).destination("crm", &receiver.url()).start().await;
    postern.post("web", &update("4711", json!({ "plan": "gold", "name": "Ada" }))).await;
    let sent = receiver.wait_for(1).await;
    postern.wait_until(&["destination", "show", "crm"], |crm| crm["counted"]["delivered"] == 1).await;
    let id = sent[0].idempotency_key().unwrap();

    let done = run(&mut postern, "What did profile X send", &[("ID", id)]).await;

    assert!(done[0].stdout.contains(id) && !done[0].stdout.contains("Ada"), "{done:?}");
    assert!(done[1].stdout.contains("Ada") && done[1].stdout.contains("4711"), "{done:?}");
    assert!(done[2].stdout.contains("delivered"), "{done:?}");
    postern.verb(&["export", "show", id]).refuses(66, "has a receipt");
}

#[tokio::test(flavor = "multi_thread")]
async fn receiver_that_needs_everybody_again() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    let mut postern = Appliance::set_up(&pki).destination("crm", &receiver.url()).start().await;
    for person in ["ada", "bob"] {
        postern.post("web", &update(person, json!({ "plan": "gold" }))).await;
    }
    receiver.wait_for(2).await;

    let done = run(&mut postern, "A receiver needs everybody again", &[]).await;

    assert!(done[0].stdout.contains('2'), "{done:?}");
    assert_eq!(receiver.wait_for(4).await.len(), 4);
    assert!(done[2].stdout.contains("done") && done[2].stdout.contains("crm"), "{done:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn move_to_a_new_machine() {
    let pki = Pki::new();
    let mut receiver = Receiver::start(&pki).await;
    receiver.stop().await;
    let mut postern = Appliance::set_up(&pki).destination("crm", &receiver.url()).start().await;
    postern.post("web", &update("4711", json!({ "plan": "gold" }))).await;
    let backup = tempfile::tempdir().unwrap();
    let backup: &Path = &backup.path().join("backup");

    run(&mut postern, "Move to a new machine", &[("BACKUP", backup.to_str().unwrap())]).await;
    receiver.start_again();

    receiver.wait_for(1).await;
}
