//! Memory of the real binary, and how soon it is back, with many exports and many profiles.
//!
//! `cargo test --release --test it memory -- --ignored --nocapture --test-threads 1`.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{
    appliance::Appliance,
    flood::{CONNECTIONS, flood},
    memory_bytes, number_from,
    pki::Pki,
    receiver::Receiver,
    sender::update,
};

const MIB: u64 = 1 << 20;
const PEOPLE: u64 = 40 * CONNECTIONS;
/// Draining many thousands through a receiver that keeps each request.
const DRAIN_MAX: Duration = Duration::from_secs(600);

#[tokio::test]
#[ignore = "minutes, and for a release build"]
async fn many_exports_enqueued_and_drained_stay_below_150_mib() {
    let (pki, count) = (Pki::new(), number_from("POSTERN_MEMORY_EXPORTS", 200_000));
    let mut receiver = Receiver::start(&pki).await;
    receiver.stop().await;
    let mut postern = Appliance::set_up(&pki).quiet().destination("crm", &receiver.url()).start().await;

    let posted = Instant::now();
    flood(&postern.inlets(), 0..count, |number| body(number % PEOPLE, number / PEOPLE + 1)).await;
    let (posted, enqueued) = (posted.elapsed(), peak_bytes(&postern));
    receiver.start_again();
    let drained = Instant::now();
    assert!(postern.drains("crm", DRAIN_MAX).await, "{}", postern.admin("/metrics").await.1);

    let (drained, peak) = (drained.elapsed(), peak_bytes(&postern));
    println!(
        "{count} exports: posted in {posted:?}, {} MiB; drained in {drained:?}, {} MiB",
        enqueued / MIB,
        peak / MIB
    );
    assert!(peak < 150 * MIB, "{} MiB resident", peak / MIB);
    assert!(postern.stop().await.success());
}

#[tokio::test]
#[ignore = "minutes, and for a release build"]
async fn million_profiles_with_as_many_exports_waiting_stay_below_300_mib_and_open_within_5_s_after_a_kill() {
    let (pki, count) = (Pki::new(), number_from("POSTERN_MEMORY_PROFILES", 1_000_000));
    let mut receiver = Receiver::start(&pki).await;
    receiver.stop().await;
    let mut postern = Appliance::set_up(&pki).quiet().destination("crm", &receiver.url()).start().await;

    let posted = Instant::now();
    flood(&postern.inlets(), 0..count, |number| body(number, 1)).await;
    let (posted, filled) = (posted.elapsed(), peak_bytes(&postern));
    postern.kill();
    let start = Instant::now();
    postern.start_again().await;

    let (opened, peak) = (start.elapsed(), peak_bytes(&postern));
    let disk = postern.metric("postern_store_disk_bytes").await.unwrap_or_default() as u64;
    let mib = |bytes: u64| bytes / MIB;
    println!("{count} profiles and exports: posted in {posted:?}, {} MiB, {} MiB on disk", mib(filled), mib(disk));
    println!("listening {opened:?} after a kill, {} MiB", mib(peak));
    let waiting = postern.metric(r#"postern_exports{destination="crm",state="waiting"}"#).await;
    assert_eq!(waiting, Some(count as f64));
    for arguments in [&["status"][..], &["export", "list"], &["export", "list", "--state", "retrying"], &["audit"]] {
        println!("postern {}: {:?}", arguments.join(" "), quickest(&postern, arguments));
    }
    assert!(filled < 300 * MIB && peak < 300 * MIB, "{} and {} MiB resident", mib(filled), mib(peak));
    assert!(opened < Duration::from_secs(5), "listening after {opened:?}");
    assert!(postern.stop().await.success());
}

/// Some hundred bytes, as people's records are.
fn body(person: u64, version: u64) -> String {
    let name = format!("{person:032x}{version:032x}").repeat(4);
    update(&format!("p{person}"), json!({ "plan": "gold", "version": version, "name": name })).to_string()
}

/// The least time of a few that a command takes, its process included.
fn quickest(postern: &Appliance, arguments: &[&str]) -> Duration {
    let run = |_| {
        let start = Instant::now();
        postern.verb(arguments).succeeds();
        start.elapsed()
    };
    (0..5).map(run).min().unwrap()
}

/// The most that was resident since the process began.
fn peak_bytes(postern: &Appliance) -> u64 {
    memory_bytes(&postern.process().to_string(), "VmHWM")
}
