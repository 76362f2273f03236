//! A full disk and the intake gate: updates are refused with a reason, delivery goes on, and intake opens by itself.
//!
//! Those that fill a disk need root and loop devices: `cargo test --test it disk_full -- --include-ignored --nocapture`.
//! `POSTERN_FILLS` says how many times in a row.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{
    appliance::Appliance,
    disk::Disk,
    ledger::Ledger,
    load::step,
    number_from,
    pki::Pki,
    receiver::{PATIENCE, Receiver},
    sender::update,
};

const MIB: u64 = 1 << 20;
const SEED: u64 = 0x5EED_9057;
const OPEN: &str = "postern_store_intake_open";

#[tokio::test]
#[ignore = "needs root and loop devices"]
async fn full_disk_refuses_updates_and_intake_opens_again_without_a_restart_time_after_time() {
    let pki = Pki::new();
    let mut receiver = Receiver::start(&pki).await;
    let mut postern = Appliance::set_up(&pki).destination("crm", &receiver.url()).write();
    let disk = Disk::mount(postern.state_dir.clone(), 64 * MIB);
    postern.start_again().await;
    let (mut ledger, started, fills) = (Ledger::default(), Instant::now(), number_from("POSTERN_FILLS", 20));
    let mut refused = 0;

    for round in 0..fills {
        let receiver_is_down = round % 2 == 1;
        if receiver_is_down {
            receiver.stop().await;
        }
        for turn in 0..20 {
            assert!(post(&postern, &mut ledger, turn).await.is_ok(), "round {round}: refused before it is full");
        }
        disk.fill_but(0);
        let answer = refusal(&postern, &mut ledger).await;
        assert_eq!(answer["report"]["reason"], "disk_full", "round {round}: {answer}");
        postern.wait_for_readiness(503).await;
        refused += 1;

        disk.clear();

        postern.wait_for_readiness(200).await;
        acceptance(&postern, &mut ledger).await;
        if receiver_is_down {
            receiver.start_again();
        }
        assert!(postern.drains("crm", PATIENCE).await, "round {round}: {}", postern.admin("/metrics").await.1);
        assert!(postern.ended().is_none(), "round {round}: it ended");
    }

    let received = ledger.all_of(&receiver.requests()).unwrap();
    let reopened = postern.metric(r#"postern_store_recoveries_total{how="reopened"}"#).await.unwrap_or_default();
    println!(
        "{fills} fills, {refused} refusals, {reopened} times opened again, in {:?}: {} acknowledged, {} received, {} repeated",
        started.elapsed(),
        ledger.acknowledged(),
        received.count,
        received.repeats
    );
    assert!(postern.stop().await.success());
}

#[tokio::test]
#[ignore = "needs root and loop devices"]
async fn restart_on_a_full_disk_starts_and_drains() {
    for killed in [true, false] {
        let pki = Pki::new();
        let mut receiver = Receiver::start(&pki).await;
        receiver.stop().await;
        let mut postern = Appliance::set_up(&pki).destination("crm", &receiver.url()).write();
        let disk = Disk::mount(postern.state_dir.clone(), 64 * MIB);
        postern.start_again().await;
        let mut ledger = Ledger::default();
        for turn in 0..200 {
            post(&postern, &mut ledger, turn).await.unwrap();
        }
        disk.fill_but(0);
        let _ = refusal(&postern, &mut ledger).await;

        match killed {
            true => postern.kill(),
            false => assert!(postern.stop().await.success()),
        }
        // What the appliance gave back to go on is gone too.
        disk.fill_but(0);
        postern.start_again().await;
        receiver.start_again();

        assert!(postern.drains("crm", PATIENCE).await, "killed: {killed}: {}", postern.admin("/metrics").await.1);
        ledger.all_of(&receiver.requests()).unwrap();
        disk.clear();
        acceptance(&postern, &mut ledger).await;
        assert!(postern.stop().await.success());
    }
}

#[tokio::test]
#[ignore = "needs root and loop devices"]
async fn intake_closes_below_free_min_while_delivery_goes_on_and_opens_above_it() {
    let pki = Pki::new();
    let mut receiver = Receiver::start(&pki).await;
    receiver.stop().await;
    let set_up = Appliance::set_up(&pki).store("free_min = \"24MiB\"").destination("crm", &receiver.url());
    let mut postern = set_up.write();
    let disk = Disk::mount(postern.state_dir.clone(), 64 * MIB);
    postern.start_again().await;
    let mut ledger = Ledger::default();
    for turn in 0..50 {
        post(&postern, &mut ledger, turn).await.unwrap();
    }

    disk.fill_but(20 * MIB);
    assert_eq!(refusal(&postern, &mut ledger).await["report"]["reason"], "disk_full");
    postern.wait_for_metric(OPEN, 0.0).await;
    receiver.start_again();
    assert!(postern.drains("crm", PATIENCE).await, "{}", postern.admin("/metrics").await.1);
    assert_eq!(postern.metric(OPEN).await, Some(0.0));

    disk.clear();
    postern.wait_for_readiness(200).await;
    acceptance(&postern, &mut ledger).await;
    assert!(postern.drains("crm", PATIENCE).await);
    ledger.all_of(&receiver.requests()).unwrap();
}

#[tokio::test]
async fn intake_closes_at_the_hard_limit_and_draining_opens_it() {
    let pki = Pki::new();
    let mut receiver = Receiver::start(&pki).await;
    receiver.stop().await;
    let set_up = Appliance::set_up(&pki).store("hard_limit = \"1MiB\"").destination("crm", &receiver.url());
    let postern = set_up.start().await;
    // Records are packed: a text that repeats itself would take no room.
    let mut random = SEED;
    let long: String = (0..2_000).map(|_| format!("{:016x}", step(&mut random))).collect();
    let body = |version: usize| update("ada", json!({ "plan": "gold", "version": version, "name": long }));

    let mut version = 1;
    while let Some((200, _)) = postern.try_post("web", &body(version)).await {
        version += 1;
        assert!(version < 200, "it takes what it has no room for");
    }
    let (status, answer) = postern.try_post("web", &body(version)).await.unwrap();
    assert_eq!((status, &answer["report"]["reason"]), (503, &json!("disk_full")));
    postern.wait_for_metric(OPEN, 0.0).await;
    postern.wait_for_readiness(503).await;

    receiver.start_again();
    postern.wait_for_metric(OPEN, 1.0).await;
    postern.wait_for_readiness(200).await;
    postern.post("web", &body(version)).await;
    postern.wait_for_exports("crm", [0, u32::try_from(version).unwrap(), 0]).await;
    let versions: Vec<_> = receiver.requests().iter().map(|request| request.body["version"].as_u64()).collect();
    assert_eq!(versions, (1..=version as u64).map(Some).collect::<Vec<_>>());
}

/// Posts the next version of one of eight people; the error is the answer that it is full.
async fn post(postern: &Appliance, ledger: &mut Ledger, turn: usize) -> Result<(), Value> {
    let person = format!("p{}", turn % 8);
    let (version, update) = ledger.next(&person);
    let request = postern.http().post(format!("{}/collection/web", postern.inlets())).body(update.to_string());
    let response = request.header("content-type", "application/json").send().await.unwrap();
    let (status, retry_after) = (response.status().as_u16(), response.headers().get("retry-after").cloned());
    let answer = serde_json::from_str(&response.text().await.unwrap()).unwrap();
    match status {
        200 => {
            ledger.acknowledge(&person, version);
            Ok(())
        }
        503 => {
            assert!(retry_after.is_some(), "no Retry-After: {answer}");
            Err(answer)
        }
        _ => panic!("{status} {answer}"),
    }
}

/// Posts until an update is refused.
async fn refusal(postern: &Appliance, ledger: &mut Ledger) -> Value {
    for turn in 0..5_000 {
        if let Err(answer) = post(postern, ledger, turn).await {
            return answer;
        }
    }
    panic!("nothing is refused")
}

/// Posts until an update is taken.
async fn acceptance(postern: &Appliance, ledger: &mut Ledger) {
    let until = Instant::now() + PATIENCE;
    while let Err(answer) = post(postern, ledger, 0).await {
        assert!(Instant::now() < until, "nothing is taken: {answer}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
