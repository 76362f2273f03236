//! What an operator does with a stopped store, and what the appliance does with one by itself.

use std::{
    fs::{self, File},
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

use serde_json::{Value, json};

use crate::support::{
    appliance::{Appliance, command},
    load::step,
    pki::Pki,
    receiver::Receiver,
    sender::update,
};

/// A stopped store with 60 profiles whose exports wait.
async fn waiting_store(pki: &Pki) -> (Appliance, Receiver) {
    let mut receiver = Receiver::start(pki).await;
    receiver.stop().await;
    let mut postern = Appliance::set_up(pki).destination("crm", &receiver.url()).start().await;
    for person in 0..60 {
        let name = "Ada ".repeat(person * 40);
        postern.post("web", &update(&person.to_string(), json!({ "plan": "gold", "name": name }))).await;
    }
    assert!(postern.stop().await.success());
    (postern, receiver)
}

fn store(postern: &Appliance, arguments: &[&str]) -> Command {
    let mut command = command(&["store"]);
    command.args(arguments).arg("--state-dir").arg(&postern.state_dir).arg("--json");
    command
}

fn result(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("{output:?}"))
}

fn check(postern: &Appliance) -> Value {
    result(&store(postern, &["check"]).output().unwrap())
}

async fn delivers_all(postern: &mut Appliance, receiver: &mut Receiver) {
    receiver.start_again();
    postern.start_again().await;
    postern.wait_for_exports("crm", [0, 60, 0]).await;
    assert_eq!(receiver.requests().len(), 60);
}

#[tokio::test]
async fn compacted_store_is_whole_and_delivers_all() {
    let pki = Pki::new();
    let (mut postern, mut receiver) = waiting_store(&pki).await;
    let before = check(&postern);

    let compacted = store(&postern, &["compact"]).output().unwrap();

    assert!(compacted.status.success(), "{compacted:?}");
    assert_eq!(check(&postern), before);
    assert_eq!(before["counters"]["destinations"]["crm"]["waiting"], 60);
    delivers_all(&mut postern, &mut receiver).await;
}

#[tokio::test]
async fn backup_is_a_store_and_is_restored_beside_the_one_before() {
    let pki = Pki::new();
    let (mut postern, mut receiver) = waiting_store(&pki).await;
    let (before, backup) = (check(&postern), postern.state_dir.with_file_name("backup"));
    let backup = backup.to_str().unwrap();
    assert!(store(&postern, &["backup", backup]).status().unwrap().success());
    assert_eq!(store(&postern, &["backup", backup]).output().unwrap().status.code(), Some(1), "it is there already");
    fs::remove_dir_all(&postern.state_dir).unwrap();

    assert_eq!(store(&postern, &["restore", backup]).output().unwrap().status.code(), Some(2), "without --yes");
    let restored = store(&postern, &["restore", backup, "--yes"]).output().unwrap();

    assert!(restored.status.success(), "{restored:?}");
    assert_eq!(result(&restored)["kept"], Value::Null);
    assert_eq!(check(&postern), before);
    let again = result(&store(&postern, &["restore", backup, "--yes"]).output().unwrap());
    assert!(Path::new(again["kept"].as_str().unwrap()).join("db").exists());
    delivers_all(&mut postern, &mut receiver).await;
}

#[tokio::test]
async fn killed_at_any_point_of_a_compaction_the_store_is_whole() {
    let pki = Pki::new();
    let (mut postern, mut receiver) = waiting_store(&pki).await;
    let (before, mut random) = (check(&postern), 0x5EED_9057);

    for _ in 0..20 {
        let mut child = store(&postern, &["compact"]).stdout(Stdio::null()).spawn().unwrap();
        // Not a wait for something: the point at which it is killed is what varies.
        std::thread::sleep(Duration::from_micros(step(&mut random) % 60_000));
        // An error means that it has ended.
        let _ = child.kill();
        child.wait().unwrap();
        assert_eq!(check(&postern), before);
    }

    assert!(["new", "done", "old"].iter().all(|word| !postern.state_dir.join(format!("store.{word}")).exists()));
    delivers_all(&mut postern, &mut receiver).await;
}

#[tokio::test]
async fn store_that_is_mostly_air_is_compacted_when_it_is_opened() {
    let pki = Pki::new();
    let (mut postern, mut receiver) = waiting_store(&pki).await;
    let air = postern.state_dir.join("store/air");
    rustix::fs::fallocate(File::create(&air).unwrap(), rustix::fs::FallocateFlags::empty(), 0, 300 << 20).unwrap();

    delivers_all(&mut postern, &mut receiver).await;

    postern.wait_for_log(|line| line["message"] == "compacted").await;
    assert!(!air.exists());
}

#[tokio::test]
async fn store_that_fell_back_is_refused_until_it_is_salvaged_and_sends_nothing_old() {
    let pki = Pki::new();
    let (mut postern, mut receiver) = waiting_store(&pki).await;
    // As if sled had opened silently with an older state.
    let older = postern.state_dir.with_file_name("older");
    let copy =
        |from: &Path, to: &Path| assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
    copy(&postern.state_dir.join("store"), &older);
    receiver.start_again();
    postern.start_again().await;
    postern.wait_for_exports("crm", [0, 60, 0]).await;
    assert!(postern.stop().await.success());
    fs::remove_dir_all(postern.state_dir.join("store")).unwrap();
    copy(&older, &postern.state_dir.join("store"));

    let run = postern.command(&["run", "--config"]).arg(postern.config_file()).output().unwrap();

    assert_eq!(run.status.code(), Some(1));
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(said.contains("was on disk") && said.contains("postern store salvage"), "{said}");
    let salvaged = store(&postern, &["salvage", "--yes"]).output().unwrap();
    assert!(salvaged.status.success(), "{salvaged:?}");
    assert_eq!((&check(&postern)["whole"], &result(&salvaged)["letters"]), (&json!(true), &json!(60)));
    postern.start_again().await;
    postern.wait_for_exports("crm", [0, 0, 60]).await;
    assert_eq!(receiver.requests().len(), 60, "all were delivered before");
    assert!(result(&salvaged)["kept"].as_str().unwrap().ends_with("store.damaged-1"));
}

#[tokio::test]
async fn what_sled_can_make_anew_may_be_damaged() {
    let pki = Pki::new();
    let (mut postern, mut receiver) = waiting_store(&pki).await;
    for entry in fs::read_dir(postern.state_dir.join("store")).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if name == "conf" || name.starts_with("snap.") {
            fs::write(entry.path(), "no more").unwrap();
        }
    }
    delivers_all(&mut postern, &mut receiver).await;
}

#[tokio::test]
async fn first_start_that_broke_off_is_put_aside() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    let mut postern = Appliance::set_up(&pki).destination("crm", &receiver.url()).write();
    fs::create_dir_all(postern.state_dir.join("store")).unwrap();
    fs::write(postern.state_dir.join("store/conf"), "half of what it should be").unwrap();

    postern.start_again().await;

    postern.post("web", &update("ada", json!({ "plan": "gold" }))).await;
    postern.wait_for_exports("crm", [0, 1, 0]).await;
    assert!(postern.state_dir.join("store.unfinished-1").exists());
}

#[test]
fn verbs_want_a_store() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("none");
    for verb in [&["check"][..], &["stats"], &["compact"], &["salvage", "--yes"], &["backup", "x"]] {
        let output = command(&["store"]).args(verb).arg("--state-dir").arg(&missing).output().unwrap();
        assert_eq!(output.status.code(), Some(66), "{verb:?}: {output:?}");
        assert!(!missing.exists(), "{verb:?} made something");
    }
}
