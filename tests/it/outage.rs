//! A destination that is down for a day: its exports wait, cost nothing, and go out in order afterwards.
//!
//! `POSTERN_OUTAGE_EXPORTS=200000 cargo test --release --test it outage -- --nocapture` is the long form.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{
    appliance::{Appliance, clock, waiting},
    flood::{CONNECTIONS, flood},
    load::in_order,
    memory_bytes, number_from,
    pki::Pki,
    receiver::{PATIENCE, Receiver},
    sender::update,
};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// More than the longest pause between two probes.
const TURN: Duration = Duration::from_secs(70);
/// From so many exports on the memory is looked at: below it the test's own is all there is to see.
const MANY: u64 = 100_000;
/// What a day may add, of the allocator's own making.
const GROWTH_MAX: u64 = 16 << 20;
const PEOPLE: u64 = 2 * CONNECTIONS;

#[tokio::test]
async fn outage_of_a_day_loses_no_export_and_drains_in_order() {
    let (pki, clock, count) = (Pki::lasting(2 * DAY), clock(), number_from("POSTERN_OUTAGE_EXPORTS", 2_000));
    let mut receiver = Receiver::start(&pki).await;
    receiver.stop().await;
    let mut postern = Appliance::set_up(&pki).destination("crm", &receiver.url()).start_by(&clock).await;
    let posted = Instant::now();
    flood(&postern.inlets(), 0..count, |number| {
        let (person, version) = (number % PEOPLE, number / PEOPLE + 1);
        update(&format!("p{person}"), json!({ "plan": "gold", "version": version })).to_string()
    })
    .await;
    postern.wait_for_hold("crm", "unreachable").await;
    let (posted, before, began) = (posted.elapsed(), memory_bytes("self", "VmRSS"), clock.now());

    let mut probes = postern.trials("crm").await;
    while clock.now().since(began) < DAY {
        clock.advance(TURN);
        probes = wait_for_probe(&postern, probes).await;
    }

    let after = memory_bytes("self", "VmRSS");
    let mib = |bytes: u64| bytes >> 20;
    println!("{count} exports in {posted:?}; {probes} probes in a day; {} and {} MiB", mib(before), mib(after));
    assert!(count < MANY || after < before + GROWTH_MAX, "a day of waiting took memory");
    receiver.start_again();
    let drained = Instant::now();
    let until = drained + PATIENCE + Duration::from_millis(count);
    while postern.metric(&waiting("crm")).await != Some(0.0) {
        assert!(Instant::now() < until, "not drained: {}", postern.admin("/metrics").await.1);
        clock.advance(Duration::from_secs(1));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    println!("drained in {:?}", drained.elapsed());
    let (received, repeats) = in_order(&receiver.requests()).unwrap();
    assert_eq!((received.len() as u64, repeats), (count, 0));
    assert_eq!(postern.metric(r#"postern_exports_total{destination="crm",result="dead"}"#).await, Some(0.0));
    assert!(postern.stop().await.success());
}

async fn wait_for_probe(postern: &Appliance, before: u32) -> u32 {
    let until = Instant::now() + PATIENCE;
    loop {
        match postern.trials("crm").await {
            now if now > before => return now,
            _ => assert!(Instant::now() < until, "it is not probed"),
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
