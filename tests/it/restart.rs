//! What was answered 2xx survives a stop and a kill, and goes out once, or again with the same key.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{
    appliance::{Appliance, clock},
    load::{Load, step},
    number_from,
    pki::Pki,
    receiver::Receiver,
    reply::{Gate, Reply},
    sender::update,
};

#[derive(Clone, Copy, Debug)]
enum End {
    Stop,
    Kill,
}

impl End {
    async fn of(self, postern: &mut Appliance) {
        match self {
            Self::Stop => assert!(postern.stop().await.success()),
            Self::Kill => postern.kill(),
        }
    }
}

#[tokio::test]
async fn exports_that_wait_for_a_destination_survive_stop_and_kill() {
    for end in [End::Stop, End::Kill] {
        let pki = Pki::new();
        let mut receiver = Receiver::start(&pki).await;
        receiver.stop().await;
        let mut postern = Appliance::set_up(&pki).destination("crm", &receiver.url()).start().await;
        for version in 1..=20 {
            postern.post("web", &update("ada", json!({ "plan": "gold", "version": version }))).await;
        }
        postern.wait_for_hold("crm", "unreachable").await;

        end.of(&mut postern).await;
        receiver.start_again();
        postern.start_again().await;

        postern.wait_for_exports("crm", [0, 20, 0]).await;
        let versions: Vec<_> = receiver.requests().iter().map(|request| request.body["version"].as_u64()).collect();
        assert_eq!(versions, (1..=20).map(Some).collect::<Vec<_>>(), "{end:?}");
    }
}

#[tokio::test]
async fn retry_waits_out_its_delay_across_stop_and_kill() {
    for end in [End::Stop, End::Kill] {
        let pki = Pki::new();
        let receiver = Receiver::start(&pki).await;
        receiver.answer_in_turn([500]);
        let set_up = Appliance::set_up(&pki).retry_delays(["2s", "2s"]).destination("crm", &receiver.url());
        let mut postern = set_up.start().await;
        postern.post("web", &update("ada", json!({ "plan": "gold" }))).await;
        postern.wait_for_posts("crm", "status_500", "attempt", 1).await;

        end.of(&mut postern).await;
        postern.start_again().await;

        postern.wait_for_exports("crm", [0, 1, 0]).await;
        let requests = receiver.requests();
        let [first, second] = &requests[..] else { panic!("{requests:#?}") };
        assert!(second.at.duration_since(first.at) >= Duration::from_millis(1_800), "{end:?}: sent too early");
        assert_eq!((first.idempotency_key(), &first.raw_body), (second.idempotency_key(), &second.raw_body));
    }
}

#[tokio::test]
async fn retry_that_fell_due_while_stopped_is_sent_at_once() {
    let (pki, clock) = (Pki::new(), clock());
    let receiver = Receiver::start(&pki).await;
    receiver.answer_in_turn([500]);
    let set_up = Appliance::set_up(&pki).retry_delays(["15s", "30s"]).destination("crm", &receiver.url());
    let mut postern = set_up.start_by(&clock).await;
    postern.post("web", &update("ada", json!({ "plan": "gold" }))).await;
    postern.wait_for_posts("crm", "status_500", "attempt", 1).await;

    assert!(postern.stop().await.success());
    clock.advance(Duration::from_secs(600));
    postern.start_by(&clock).await;

    postern.wait_for_exports("crm", [0, 1, 0]).await;
}

#[tokio::test]
async fn hold_survives_stop_and_kill_and_begins_with_one_probe() {
    for end in [End::Stop, End::Kill] {
        let pki = Pki::new();
        let receiver = Receiver::start(&pki).await;
        receiver.answer_with(404);
        let set_up = Appliance::set_up(&pki).timeout("20s").destination("crm", &receiver.url());
        let mut postern = set_up.start().await;
        for person in ["ada", "bob", "cyd", "dan"] {
            postern.post("web", &update(person, json!({ "plan": "gold" }))).await;
        }
        postern.wait_for_hold("crm", "status_404").await;
        end.of(&mut postern).await;

        let gate = Gate::default();
        receiver.answer_with(Reply::Behind(gate.clone(), Box::new(Reply::status(200))));
        let before = receiver.requests().len();
        postern.start_again().await;
        postern.wait_for_hold("crm", "status_404").await;
        receiver.wait_for(before + 1).await;
        postern.wait_for_exports("crm", [4, 0, 0]).await;

        assert_eq!(receiver.requests().len(), before + 1, "{end:?}: more than one probe");
        gate.open();
        postern.wait_for_exports("crm", [0, 4, 0]).await;
    }
}

#[tokio::test]
async fn destination_that_was_held_says_so_after_a_restart() {
    let pki = Pki::new();
    let receiver = Receiver::set_up(&pki).not_asking().start().await;
    let mut postern = Appliance::set_up(&pki).destination("crm", &receiver.url()).start().await;
    postern.post("web", &update("ada", json!({ "plan": "gold" }))).await;
    postern.wait_for_hold("crm", "server_did_not_ask_for_certificate").await;

    // An orderly end, so that the hold is on disk.
    assert!(postern.stop().await.success());
    postern.start_again().await;

    let line = postern.wait_for_log(|line| line["message"] == "destination is still held").await;
    assert_eq!(line["reason"], "server_did_not_ask_for_certificate");
    assert_eq!(receiver.plaintext_bytes(), 0);
}

#[tokio::test]
async fn dead_letters_and_counters_survive_stop_and_kill() {
    for end in [End::Stop, End::Kill] {
        let pki = Pki::new();
        let receiver = Receiver::start(&pki).await;
        receiver.answer_in_turn([422, 200]);
        let mut postern = Appliance::set_up(&pki).destination("crm", &receiver.url()).start().await;
        postern.post("web", &update("ada", json!({ "plan": "gold" }))).await;
        postern.wait_for_exports("crm", [0, 0, 1]).await;
        postern.post("web", &update("bob", json!({ "plan": "gold" }))).await;
        postern.wait_for_exports("crm", [0, 1, 1]).await;

        end.of(&mut postern).await;
        postern.start_again().await;

        postern.wait_for_exports("crm", [0, 1, 1]).await;
        assert_eq!(postern.metric(r#"postern_updates_total{result="applied"}"#).await, Some(2.0));
        assert!(postern.stop().await.success());
        assert_eq!(postern.dead_letters("crm").await.len(), 1);
    }
}

/// Unless `POSTERN_KILLS` says another number.
const KILLS: u64 = 40;
const SEED: u64 = 0x5EED_9057;

#[tokio::test]
async fn nothing_acknowledged_is_lost_and_order_holds_through_many_kills() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    let mut postern = Appliance::set_up(&pki).destination("crm", &receiver.url()).start().await;
    let mut load = Load::start(&postern, &receiver);
    let (started, mut random, kills) = (Instant::now(), SEED, number_from("POSTERN_KILLS", KILLS));

    for _ in 0..kills {
        load.wait_for(5 + step(&mut random) % 80).await;
        postern.kill();
        postern.start_again().await;
        load.go_on(&postern);
    }
    let took = started.elapsed();

    let counts = load.end(&postern, &receiver).await;
    println!("seed {SEED:#x}, {kills} kills in {took:?}: {counts:?}");
    assert!(postern.stop().await.success());
}

#[tokio::test]
async fn everything_is_counted_after_an_end_that_was_not_in_order() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    let mut postern = Appliance::set_up(&pki).destination("crm", &receiver.url()).start().await;
    postern.post("web", &update("ada", json!({ "plan": "gold" }))).await;

    postern.kill();
    postern.start_again().await;

    let counted = |line: &serde_json::Value| line["message"] == "everything adds up after an end that was not in order";
    postern.wait_for_log(counted).await;
}

#[tokio::test]
async fn start_that_waits_ends_when_it_is_told_to() {
    let pki = Pki::new();
    let mut postern = Appliance::set_up(&pki).destination("crm", "https://127.0.0.1:1/").start().await;
    assert!(postern.stop().await.success());
    // Somebody else has the database: opening it waits some seconds, and fails then.
    let database = std::fs::File::open(postern.state_dir.join("store/db")).unwrap();
    database.lock().unwrap();
    let mut run = postern.run();
    let mut child = run.stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut log = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("starting") {
        line.clear();
        assert!(std::io::BufRead::read_line(&mut log, &mut line).unwrap() > 0, "it ended before it started");
    }

    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());

    assert!(child.wait().unwrap().success());
}
