//! Coalescing: for the model test, and for cases of its own.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use proptest::prelude::*;
use tokio::task::JoinSet;

use super::{
    at_once_tests::{delivered, send, send_as},
    frozen::Frozen,
    tests::*,
    window::{Read, WINDOW_MAX, Window},
    *,
};
use crate::{
    clock::Timestamp,
    destination::Coalesce,
    export::{Attempt, Export, ExportId, NewExport, Outcome, Trouble},
    profile::{Profile, ProfileKey, update::UpdateId},
    trigger::Reason,
};

const AUDIENCE: &str = "gold";

pub(super) fn coalesce() -> impl Strategy<Value = Coalesce> {
    prop_oneof![Just(Coalesce::Off), Just(Coalesce::KeepTransitions), Just(Coalesce::All)]
}

impl Tried {
    /// What is made for a destination of somebody who is in the audience or not, and has just turned or not.
    pub(super) fn news(&self, index: usize, id: UpdateId, is_in: bool, turns: bool, padding: usize) -> NewExport {
        let audience = AUDIENCE.parse().unwrap();
        let status = if is_in { "realized" } else { "exited" };
        let shown = format!(r#"{{"segmentMembership":{{"ups":{{"{AUDIENCE}":{{"status":"{status}"}}}}}},"padding":""#);
        NewExport {
            destination: destination(index),
            id: ExportId::of(id, at(self.now), &destination(index)),
            body: format!(r#"{shown}{}"}}"#, index.to_string().repeat(padding)).into_bytes(),
            reasons: vec![match (turns, is_in) {
                (true, true) => Reason::Realized(audience),
                (true, false) => Reason::Exited(audience),
                (false, _) => Reason::IdentityAdded,
            }],
            coalesce: self.coalesce[index],
        }
    }

    /// Whoever stands somewhere waits: nothing is left of those who went.
    pub(super) fn verify_places(&self) {
        for item in self.owner.store.live.db().unwrap().scan_prefix(layout::PLACES) {
            let key = item.unwrap().0;
            let record = record::read(&self.owner.store.live.db().unwrap(), &key[..key.len() - 1]).unwrap().unwrap();
            let number = u64::from_le_bytes(record.payload.try_into().unwrap());
            assert!(self.queues.iter().any(|queue| queue.contains_key(&number)), "{number} has ended");
        }
    }

    /// What a new export does to what waits.
    pub(super) fn expect(&mut self, index: usize, new: &NewExport, lines: &[ProfileKey]) {
        self.expected[index].made += 1;
        let place = (index, lines[0]);
        let last = self.placed.get(&place).filter(|_| new.coalesce != Coalesce::Off);
        let older = last.and_then(|number| self.queues[index].get_mut(number));
        if let Some(older) = older.filter(|older| takes_its_place(new, older, lines)) {
            let Export { accepted_at, trials, last_trial, .. } = older.export.clone();
            older.export = Export { trials, last_trial, ..Export::new(new.id, lines.to_vec(), accepted_at) };
            older.body = new.body.clone();
            older.reasons.retain(|reason| !new.reasons.contains(reason));
            older.reasons.extend(new.reasons.clone());
            self.expected[index].superseded += 1;
            return;
        }
        self.last_number += 1;
        match new.coalesce {
            Coalesce::Off => self.placed.retain(|(of, _), _| *of != index),
            Coalesce::KeepTransitions | Coalesce::All => drop(self.placed.insert(place, self.last_number)),
        }
        let export = Export::new(new.id, lines.to_vec(), at(self.now));
        let (body, reasons) = (new.body.clone(), new.reasons.clone());
        self.queues[index].insert(self.last_number, Waiting { export, body, reasons, claimed: false });
    }
}

fn takes_its_place(new: &NewExport, older: &Waiting, lines: &[ProfileKey]) -> bool {
    let is_untouched = !older.claimed && older.export.attempts.is_empty() && older.export.lines == lines;
    let is_told = older.reasons.iter().all(|reason| {
        let shown = String::from_utf8_lossy(&new.body);
        match reason {
            Reason::Realized(_) => shown.contains("realized"),
            Reason::Exited(_) => shown.contains("exited"),
            _ => true,
        }
    });
    is_untouched && !matches!(new.reasons[..], [Reason::Redrive(_)]) && (new.coalesce == Coalesce::All || is_told)
}

fn counted(counters: &Counters) -> DestinationCounters {
    counters.destinations[&destination(0)]
}

/// Far more than fits into memory, time and again: what waits is bounded by the people.
#[tokio::test]
async fn long_outage_leaves_one_export_a_profile() {
    let dir = tempfile::tempdir().unwrap();
    let owner = open(dir.path());
    let store = owner.store();
    let queue = store.queue(&destination(0)).unwrap();
    // One profile has more waiting than fits into memory, and it comes first.
    for second in 0..9 {
        send(&store, 0, second, 1000).await;
    }
    let before = counted(&store.counters().await.unwrap());
    let mut keys = Vec::new();
    for second in 10..20 {
        keys.clear();
        for person in 1..60 {
            keys.push(send_as(&store, person, second, 1, Coalesce::All).await);
        }
    }
    let bytes = store.counters().await.unwrap().live_bytes;
    for person in 1..60 {
        send_as(&store, person, 20, 1, Coalesce::All).await;
    }

    let after = store.counters().await.unwrap();
    assert_eq!((after.live_bytes, after.differences()), (bytes, vec![]), "an update more takes no room");
    let after = counted(&after);
    assert_eq!((after.waiting - before.waiting, after.superseded), (59, 590));
    assert!(before.waiting > WINDOW_MAX as u64, "what was replaced is on disk alone");
    let discarded = queue.seize_oldest(9000, usize::MAX);
    discarded.into_iter().for_each(|claim| store.settle(claim, Next::Dropped, None));
    store.counters().await.unwrap();
    while counted(&store.counters().await.unwrap()).waiting > 59 {
        let rest = queue.seize_oldest(9000, usize::MAX);
        rest.into_iter().for_each(|claim| store.settle(claim, Next::Dropped, None));
    }
    let claims = queue.claim_due(at(30), 100);
    let claimed: Vec<_> = claims.iter().map(|claim| (claim.export.lines[0], claim.export.id.made_at())).collect();
    assert_eq!(claimed, keys.iter().map(|key| (*key, at(20))).collect::<Vec<_>>(), "the last state, the oldest first");
    claims.into_iter().for_each(|claim| store.settle(claim, delivered(31), None));
    store.counters().await.unwrap();
    assert!(store.live.db().unwrap().scan_prefix(layout::PLACES).next().is_none(), "nobody stands anywhere any more");
    owner.close();
    assert!(upkeep::check(dir.path(), &mut |_, _| {}).unwrap().is_whole());
}

#[tokio::test]
async fn export_in_somebodys_hands_or_tried_keeps_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let owner = open(dir.path());
    let store = owner.store();
    let queue = store.queue(&destination(0)).unwrap();
    send_as(&store, 0, 1, 1, Coalesce::All).await;
    let claim = queue.claim_due(at(1), 1).pop().unwrap();

    send_as(&store, 0, 2, 1, Coalesce::All).await;
    send_as(&store, 0, 3, 1, Coalesce::All).await;
    let mut tried = claim.export.clone();
    tried.attempts.push(Attempt::new(at(3), Outcome::Retryable(Trouble::Timeout)));
    store.settle(claim, Next::Waiting(tried), None);
    send_as(&store, 0, 4, 1, Coalesce::All).await;

    let waiting = store.waiting(&destination(0), 0, 9).unwrap();
    let made: Vec<Timestamp> = waiting.iter().map(|(_, export)| export.as_ref().unwrap().id.made_at()).collect();
    assert_eq!(made, [at(1), at(4)]);
    assert_eq!(waiting[1].1.as_ref().unwrap().accepted_at, at(2), "so long the receiver has waited for it");
    assert_eq!(counted(&store.counters().await.unwrap()).superseded, 2);
    owner.close();
}

#[tokio::test]
async fn what_waits_from_while_it_was_off_stays() {
    let dir = tempfile::tempdir().unwrap();
    let owner = open(dir.path());
    let store = owner.store();
    for (second, how) in
        [Coalesce::All, Coalesce::Off, Coalesce::All, Coalesce::All, Coalesce::Off].into_iter().enumerate()
    {
        send_as(&store, 0, second as u64, 1, how).await;
    }
    let waiting = store.waiting(&destination(0), 0, 9).unwrap();
    let made: Vec<Timestamp> = waiting.iter().map(|(_, export)| export.as_ref().unwrap().id.made_at()).collect();
    assert_eq!(made, [at(0), at(1), at(3), at(4)], "each is younger than the one before");
    owner.close();
}

/// A destination that is gone may come back while what waited for it is being dropped.
#[tokio::test]
async fn what_is_made_after_all_was_discarded_takes_the_place_of_nothing_that_goes() {
    let dir = tempfile::tempdir().unwrap();
    let owner = open(dir.path());
    let store = owner.store();
    send_as(&store, 0, 1, 1, Coalesce::All).await;

    let discarding = store.discard(&destination(0));
    send_as(&store, 0, 2, 1, Coalesce::All).await;
    send_as(&store, 0, 3, 1, Coalesce::All).await;
    let Discarded { dropped, stayed } = discarding.await.unwrap();

    let waiting = store.waiting(&destination(0), 0, 9).unwrap();
    let made: Vec<Timestamp> = waiting.iter().map(|(_, export)| export.as_ref().unwrap().id.made_at()).collect();
    assert_eq!((made, dropped, stayed), (vec![at(3)], 1, 0));
    let counters = store.counters().await.unwrap();
    assert_eq!((counted(&counters).superseded, counters.differences()), (1, vec![]));
    owner.close();
    assert!(upkeep::check(dir.path(), &mut |_, _| {}).unwrap().is_whole());
}

/// What is read from disk meanwhile may be older than what took its place: it is read again when it is claimed.
#[test]
fn place_is_lent_to_newer_exports_and_comes_back_when_the_last_is_synced() {
    let [key]: [ProfileKey; 1] = [UpdateId::new(at(0)).into()];
    let made = |second| {
        let id = ExportId::of(UpdateId::new(at(second)), at(second), &destination(0));
        (Export::new(id, vec![key], at(0)), Frozen::new(&[], b"{}"))
    };
    let next =
        |window: &mut Window| window.claim_due(at(9)).map(|(number, export, frozen)| (number, export.id, frozen));
    let (older, frozen) = made(1);
    let mut window = Window::new(1, 0, Vec::new());
    // Not synced yet, and on its way here.
    assert!(window.reserve(1));
    window.publish(vec![(1, older.clone(), frozen)], 1);
    assert!(next(&mut window).is_none() && !window.is_claimed(1) && window.claimed() == 0);
    assert!(!window.reserve(1), "the sender waits for it by now");
    let (newer, frozen) = made(2);
    window.replace(1, newer.clone(), frozen);
    assert!(next(&mut window).is_some_and(|(number, id, frozen)| (number, id) == (1, newer.id) && frozen.is_some()));
    assert!(!window.reserve(1), "it is in somebody's hands");

    let mut window = Window::new(1, 1, Vec::new());
    window.begin_reading();
    assert!(window.reserve(1) && window.reserve(1), "two groups have it");
    for second in [2, 3] {
        assert!(next(&mut window).is_none());
        let (newer, frozen) = made(second);
        window.replace(1, newer, frozen);
    }
    let read = Read { number: 1, export: older.clone(), bytes: 2, frozen: Some(Frozen::new(&[], b"{}")) };
    window.refill(vec![read], 1, 1, window.cuts());
    assert!(next(&mut window).is_some_and(|(number, _, frozen)| number == 1 && frozen.is_none()));
}

/// Copies keep what is known of places, and what was saved from damage does not: it may be older than what waits.
#[tokio::test]
async fn places_are_compacted_and_not_salvaged() {
    for (how, superseded) in [("compact", 2), ("salvage", 1)] {
        let dir = tempfile::tempdir().unwrap();
        let owner = open(dir.path());
        send_as(&owner.store(), 0, 1, 1, Coalesce::All).await;
        send_as(&owner.store(), 0, 2, 1, Coalesce::All).await;
        owner.close();
        match how {
            "compact" => drop(upkeep::compact(dir.path(), &mut |_, _| {}).unwrap()),
            _ => drop(upkeep::salvage(dir.path(), upkeep::Basis::AsItIs, at(3), &mut |_, _| {}).unwrap()),
        }

        let owner = open(dir.path());
        send_as(&owner.store(), 0, 4, 1, Coalesce::All).await;

        let counters = owner.store().counters().await.unwrap();
        assert_eq!((counted(&counters).superseded, counters.differences()), (superseded, vec![]), "{how}");
        owner.close();
        assert!(upkeep::check(dir.path(), &mut |_, _| {}).unwrap().is_whole());
    }
}

/// One profile changes as fast as the store can, while it is sent: it goes out again and again, and never an older state.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn profile_that_never_rests_is_sent_all_the_same() {
    const UPDATES: u64 = 12_000;
    /// More than go into a group: the next has the place before the one before is synced.
    const LANES: usize = 600;
    let dir = tempfile::tempdir().unwrap();
    let owner = open(dir.path());
    let store = owner.store();
    let done = Arc::new(AtomicBool::new(false));
    let delivering = tokio::task::spawn_blocking({
        let (store, done) = (store.clone(), done.clone());
        move || {
            let queue = store.queue(&destination(0)).unwrap();
            let mut seen = Vec::new();
            while !(done.load(Ordering::Relaxed) && queue.is_empty()) {
                // As a worker does.
                let claims = if queue.has_due(at(0)) { queue.claim_due(at(UPDATES), 4) } else { vec![] };
                for claim in claims {
                    seen.push(claim.export.id.made_at());
                    store.settle(claim, delivered(UPDATES), None);
                }
            }
            seen
        }
    });

    let (made, mut lanes) = (Arc::new(AtomicU64::new(1)), JoinSet::new());
    send_as(&store, 0, 0, 1, Coalesce::All).await;
    for _ in 0..LANES {
        let (store, made) = (store.clone(), made.clone());
        lanes.spawn(async move { while change(&store, &made).await < UPDATES {} });
    }
    lanes.join_all().await;
    let updates = made.load(Ordering::Relaxed);
    done.store(true, Ordering::Relaxed);
    let seen = delivering.await.unwrap();

    assert!(seen.is_sorted() && seen.last() == Some(&at(updates - 1)), "{seen:?}");
    let counters = store.counters().await.unwrap();
    assert_eq!((counters.differences(), counted(&counters).waiting), (vec![], 0));
    assert_eq!(counted(&counters).superseded + seen.len() as u64, updates);
    println!("{updates} updates, {} exports", seen.len());
    assert!(seen.len() > 8, "{}", seen.len());
    owner.close();
}

/// Changes a profile as of the next second, as the writer counts them; returns which that was.
async fn change(store: &Store, made: &Arc<AtomicU64>) -> u64 {
    let (made, to) = (made.clone(), destination(0));
    let (tell, told) = tokio::sync::oneshot::channel();
    let decide = move |Found { mut snapshots, .. }: Found| {
        let second = made.fetch_add(1, Ordering::Relaxed);
        let (snapshot, id) = (snapshots.remove(0), UpdateId::new(at(second)));
        let profile = Profile::read(&snapshot).unwrap();
        tell.send(second).unwrap();
        let id = ExportId::of(id, at(second), &to);
        let (reasons, coalesce) = (vec![Reason::IdentityAdded], Coalesce::All);
        Ok(Change {
            committed: Committed::Applied,
            key: profile.key,
            lines: profile.lines(),
            snapshot,
            absorbed: vec![],
            moved: vec![],
            members: Default::default(),
            accepted_at: at(second),
            exports: vec![NewExport { destination: to, id, body: b"{}".to_vec(), reasons, coalesce }],
            skipped: vec![],
        })
    };
    store.update(vec![identity(0)], decide).await.unwrap();
    told.await.unwrap()
}
