//! Everything at once: updates, deliveries, and all that a person may wish. Afterwards it adds up, and nothing went out of
//! order.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use tokio::task::JoinSet;

use super::{
    tests::{at, destination, identity, open},
    *,
};
use crate::{
    destination::Coalesce,
    export::{Attempt, Cause, DeadLetter, ExportId, NewExport, Outcome},
    profile::{Profile, ProfileKey, update::UpdateId},
    trigger::Reason,
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
    let counted = all_at_once(Coalesce::Off).await;
    assert_eq!(counted.superseded, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn all_at_once_adds_up_and_keeps_order_while_newer_exports_take_the_places_of_older_ones() {
    let counted = all_at_once(Coalesce::All).await;
    assert!(counted.superseded > 0, "{counted:?}");
}

async fn all_at_once(coalesce: Coalesce) -> DestinationCounters {
    let dir = tempfile::tempdir().unwrap();
    let owner = open(dir.path());
    let (store, sent) = (owner.store(), Arc::new(Mutex::new(BTreeMap::<ProfileKey, u64>::new())));
    let mut work = JoinSet::new();
    for lane in 0..4 {
        let store = store.clone();
        work.spawn(async move {
            for (second, person) in (0..UPDATES / 4).zip(lots(lane, UPDATES as usize / 4, PEOPLE as u64)) {
                send_as(&store, person as usize, second * 4 + lane, 1, coalesce).await;
            }
        });
    }
    let of = (store.clone(), sent.clone());
    let delivering = tokio::task::spawn_blocking(move || deliver(&of.0, &of.1));
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
                _ => redrive(&wisher, number, coalesce).await,
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
    owner.close();
    let report = upkeep::check(dir.path(), &mut |_, _| {}).unwrap();
    assert!(report.is_whole(), "{report:?}");
    counted
}

/// Claims, and settles as delivered or dead, until the store is about to close. No line may go backwards.
fn deliver(store: &Store, sent: &Mutex<BTreeMap<ProfileKey, u64>>) {
    let queue = store.queue(&destination(0)).unwrap();
    let mut turn = 0_u64;
    while !store.live.is_closing() {
        for claim in queue.claim_due(at(10_000), 16) {
            turn += 1;
            let number = claim.number();
            for line in &claim.export.lines {
                let before = sent.lock().unwrap().insert(*line, number);
                assert!(before.is_none_or(|before| before < number), "{before:?} went before {number}");
            }
            let export = claim.export.clone();
            let next = match turn % 3 {
                0 => Next::Dead(DeadLetter { export, at: at(turn), cause: Cause::Refused }),
                _ => delivered(turn),
            };
            store.settle(claim, next, None);
        }
        std::thread::yield_now();
    }
}

/// Redrives the first letter from a number on, as it is now.
async fn redrive(store: &Store, from: u64, coalesce: Coalesce) {
    let (of, to) = (store.clone(), destination(0));
    let letters = tokio::task::spawn_blocking(move || of.dead_letters(&to, from, 1).unwrap()).await.unwrap();
    let Some((number, _)) = letters.first() else { return };
    let remake = move |letter: &Letter, _: Found| {
        let (destination, lines) = (destination(0), letter.letter.export.lines.clone());
        let id = ExportId::of(UpdateId::new(at(1)), at(1), &destination);
        let reasons = vec![Reason::Redrive(letter.letter.export.id)];
        let export = NewExport { destination, id, body: letter.body.to_vec(), reasons, coalesce };
        Ok(Remade::Export { export, lines, accepted_at: at(1) })
    };
    match store.redrive(&destination(0), *number, Redrive::Present, vec![], remake).await {
        Ok(_) | Err(NotRedriven::Missing { .. }) => {}
        Err(why) => panic!("{why}"),
    }
}

/// Takes an update of a person at this second, which makes so many exports; returns the profile's key.
pub(super) async fn send(store: &Store, person: usize, second: u64, exports: usize) -> ProfileKey {
    send_as(store, person, second, exports, Coalesce::Off).await
}

/// As [`send`], to a destination that coalesces so.
pub(super) async fn send_as(
    store: &Store,
    person: usize,
    second: u64,
    exports: usize,
    coalesce: Coalesce,
) -> ProfileKey {
    let (update, to) = (UpdateId::new(at(second)), destination(0));
    let export = |_| NewExport {
        destination: to.clone(),
        id: ExportId::of(UpdateId::new(at(second)), at(second), &to),
        body: vec![7; 5000],
        reasons: vec![Reason::IdentityAdded],
        coalesce,
    };
    let exports = (0..exports).map(export).collect();
    let (tell, told) = tokio::sync::oneshot::channel();
    let decide = move |found: Found| {
        let mut profile =
            found.snapshots.first().and_then(|bytes| Profile::read(bytes)).unwrap_or(Profile::new(update.into()));
        profile.identities.extend([identity(person)]);
        let (absorbed, moved) = Default::default();
        let (committed, accepted_at) = (Committed::Applied, at(second));
        let (key, lines, snapshot) = (profile.key, profile.lines(), serde_json::to_vec(&profile).unwrap());
        tell.send(key).unwrap();
        let members = [("ups:gold".to_owned(), 1)].into();
        Ok(Change { committed, key, snapshot, absorbed, moved, members, lines, accepted_at, exports, skipped: vec![] })
    };
    store.update(vec![identity(person)], decide).await.unwrap();
    told.await.unwrap()
}

pub(super) fn delivered(second: u64) -> Next {
    Next::Delivered(Attempt::new(at(second), Outcome::Delivered(200)))
}
