//! Everything at once: updates, deliveries, and all that a person may wish. Afterwards it adds up, and nothing went out of
//! order.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{runtime::Handle, task::JoinSet};

use super::{
    tests::{at, destination, identity, open},
    wish_tests::{delivered, send},
    *,
};
use crate::{
    destination::{Batching, Format},
    export::{Attempt, Cause, DeadLetter, Export, ExportId, NewExport, Outcome, Trouble},
    profile::{ProfileKey, update::UpdateId},
};

const PEOPLE: usize = 12;
const UPDATES: u64 = 600;

/// The same numbers each time; what varies is who comes first.
fn lots(seed: u64, count: usize, below: u64) -> Vec<u64> {
    let mut state = seed + 0x5EED;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    std::iter::repeat_with(next).take(count).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn all_at_once_adds_up_and_keeps_order() {
    all_at_once(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn all_at_once_adds_up_and_keeps_order_where_exports_go_together() {
    all_at_once(5).await;
}

async fn all_at_once(max_exports: usize) {
    let dir = tempfile::tempdir().unwrap();
    let owner = open(dir.path());
    let (store, sent) = (owner.store(), Arc::new(Mutex::new(BTreeMap::<ProfileKey, u64>::new())));
    let mut work = JoinSet::new();
    for lane in 0..4 {
        let store = store.clone();
        work.spawn(async move {
            for (second, person) in (0..UPDATES / 4).zip(lots(lane, UPDATES as usize / 4, PEOPLE as u64)) {
                send(&store, person as usize, second * 4 + lane, 1).await;
            }
        });
    }
    let of = (store.clone(), sent.clone());
    let runtime = tokio::runtime::Handle::current();
    let delivering = tokio::task::spawn_blocking(move || deliver(&of.0, &of.1, max_exports, &runtime));
    let wisher = store.clone();
    work.spawn(async move {
        for number in lots(8, 200, UPDATES) {
            wisher.drop_export(&destination(0), number).await.unwrap();
        }
    });
    let wisher = store.clone();
    work.spawn(async move {
        for (turn, number) in lots(9, 200, UPDATES).into_iter().enumerate() {
            match turn % 8 {
                0 => drop(wisher.forget(&identity(number as usize % PEOPLE)).await.unwrap()),
                1 => drop(wisher.drop_letter(&destination(0), number).await.unwrap()),
                _ => redrive(&wisher, number).await,
            }
        }
    });
    let counter = store.clone();
    let counting = tokio::task::spawn_blocking(move || {
        (0..20).for_each(|_| assert_eq!(counter.count_all().unwrap().differences, [] as [String; 0]));
    });

    while let Some(ended) = work.join_next().await {
        ended.unwrap();
    }
    counting.await.unwrap();
    let discarded = store.discard(&destination(0)).await.unwrap();
    store.live.closing();
    delivering.await.unwrap();

    let counters = store.counters().await.unwrap();
    let counted = counters.destinations[&destination(0)];
    assert_eq!((counters.differences(), counted.waiting, discarded.stayed), (vec![], 0, 0));
    assert!(counted.delivered > 0 && counted.dropped > 0 && counted.redriven > 0, "{counted:?}");
    assert!(
        store.live.db().unwrap().scan_prefix(layout::TOGETHER).next().is_none(),
        "nothing waits, so nothing is kept"
    );
    owner.close();
    let report = upkeep::check(dir.path(), &mut |_, _| {}).unwrap();
    assert!(report.is_whole(), "{report:?}");
}

/// Claims, and settles as delivered, dead, to be tried again or halved, until the store is about to close. No line may go
/// backwards.
fn deliver(store: &Store, sent: &Mutex<BTreeMap<ProfileKey, u64>>, max_exports: usize, runtime: &Handle) {
    let queue = store.queue(&destination(0)).unwrap();
    let batching = Batching { max_exports, max_bytes: 1 << 20, max_wait: Duration::ZERO, format: Format::Ndjson };
    let mut turn = 0_u64;
    while !store.live.is_closing() {
        for mut batch in queue.claim_batches(at(10_000), 4, &batching) {
            turn += 1;
            runtime.block_on(store.keep_together(&mut batch, batching.format)).unwrap();
            for claim in batch.claims() {
                for line in &claim.export.lines {
                    let before = sent.lock().unwrap().insert(*line, claim.number());
                    assert!(
                        before.is_none_or(|before| before <= claim.number()),
                        "{before:?} before {}",
                        claim.number()
                    );
                }
            }
            let (next, then): (fn(Export, u64) -> Next, Then) = match (turn % 4, batch.count()) {
                (0, 1) => (dead, Then::Stay),
                (0, _) => (|export, _| Next::Waiting(export), Then::Halve),
                (1, _) if batch.first().export.attempts.is_empty() => (failed, Then::Stay),
                _ => (|_, turn| delivered(turn), Then::Stay),
            };
            let nexts = batch.claims().iter().map(|claim| next(claim.export.clone(), turn)).collect();
            store.settle_batch(batch, nexts, then, None);
        }
        std::thread::yield_now();
    }
}

fn dead(export: Export, turn: u64) -> Next {
    Next::Dead(DeadLetter { export, at: at(turn), cause: Cause::Refused })
}

fn failed(mut export: Export, turn: u64) -> Next {
    export.attempts.push(Attempt::new(at(turn), Outcome::Retryable(Trouble::Timeout)));
    Next::Waiting(export)
}

/// Redrives the first letter from a number on, as it is now.
async fn redrive(store: &Store, from: u64) {
    let (of, to) = (store.clone(), destination(0));
    let letters = tokio::task::spawn_blocking(move || of.dead_letters(&to, from, 1).unwrap()).await.unwrap();
    let Some((number, _)) = letters.first() else { return };
    let remake = |letter: &Letter, _: Found| {
        let (destination, lines) = (destination(0), letter.letter.export.lines.clone());
        let id = ExportId::of(UpdateId::new(at(1)), at(1), &destination);
        let export = NewExport { destination, id, body: letter.body.to_vec(), reasons: letter.reasons.clone() };
        Ok(Remade::Export { export, lines, accepted_at: at(1) })
    };
    match store.redrive(&destination(0), *number, Redrive::Present, vec![], remake).await {
        Ok(_) | Err(NotRedriven::Missing { .. }) => {}
        Err(why) => panic!("{why}"),
    }
}
