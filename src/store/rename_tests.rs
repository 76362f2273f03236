//! A destination that is called otherwise, while exports wait and are made.

use super::{
    at_once_tests::{delivered, send, send_as},
    tests::*,
    *,
};
use crate::{
    clock::Timestamp,
    destination::Coalesce,
    export::{Cause, DeadLetter},
};

fn named(name: &str) -> DestinationId {
    name.parse().unwrap()
}

#[tokio::test]
async fn renamed_destination_keeps_what_waits_its_letters_receipts_standing_and_counters() {
    let dir = tempfile::tempdir().unwrap();
    let mut owner = open(dir.path());
    let (old, new) = (destination(0), named("partner"));
    let mut keys = Vec::new();
    for person in 0..5 {
        keys.push(send(&owner.store(), person, 1, 1).await);
    }
    let queue = owner.store().queue(&old).unwrap();
    let mut claims = queue.claim_due(at(2), 2);
    let dead = claims.pop().unwrap();
    let letter = DeadLetter { export: dead.export.clone(), at: at(2), cause: Cause::Refused };
    owner.store().settle(dead, Next::Dead(letter), None);
    owner.store().settle(claims.pop().unwrap(), delivered(2), None);
    let in_flight = queue.claim_due(at(3), 1).pop().unwrap();
    let paused = Standing { paused: Some(at(3)), ..Standing::default() };
    owner.store().keep_standing(&old, paused.clone()).await.unwrap();
    // The configuration was read: the new name has a number that was never used.
    owner.store().introduce(new.clone()).await.unwrap();
    owner.store().keep_standing(&new, Standing::default()).await.unwrap();
    let before = owner.store().counters().await.unwrap();

    assert_eq!(owner.store().rename(&old, &new).await.unwrap(), Renamed::Done);
    // Decided before anybody knew: `send` makes it for the old name.
    send(&owner.store(), 6, 4, 1).await;
    owner.store().settle(in_flight, delivered(4), None);

    let counters = owner.store().counters().await.unwrap();
    let expected = DestinationCounters { made: 6, delivered: 2, ..before.destinations[&old] };
    assert_eq!((counters.destinations.get(&new), counters.destinations.get(&old)), (Some(&expected), None));
    let counted = |(key, _): &(sled::IVec, sled::IVec)| !b"mg".contains(&key[0]);
    let entries = owner.store.live.db().unwrap().iter().map(Result::unwrap).filter(counted);
    assert_eq!(counters.live_bytes, entries.map(|(key, value)| (key.len() + value.len()) as u64).sum::<u64>());
    for round in ["running", "opened again", "compacted"] {
        let store = owner.store();
        assert!(store.queue(&old).is_none_or(|queue| queue.is_empty()), "{round}");
        assert_eq!(store.waiting(&new, 0, 9).unwrap().len(), 3, "{round}");
        assert_eq!(store.dead_letters(&new, 0, 9).unwrap().len(), 1, "{round}");
        let receipts = store.receipts(&keys).unwrap();
        assert_eq!(receipts.iter().map(|receipt| &receipt.destination).collect::<Vec<_>>(), [&new, &new], "{round}");
        assert_eq!((store.standing(&new), store.counters().await.unwrap().differences()), (paused.clone(), vec![]));
        owner.close();
        if round == "opened again" {
            upkeep::compact(dir.path(), &mut |_, _| {}).unwrap();
        }
        let report = upkeep::check(dir.path(), &mut |_, _| {}).unwrap();
        assert!(report.is_whole(), "{round}: {report:?}");
        owner = StoreOwner::open(dir.path(), std::slice::from_ref(&new), &Keeping::default()).unwrap();
    }
    owner.close();
}

#[tokio::test]
async fn names_that_are_taken_or_unknown_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let owner = open(dir.path());
    let (crm, erp) = (destination(0), destination(1));
    send(&owner.store(), 0, 1, 1).await;

    assert_eq!(owner.store().rename(&named("gone"), &erp).await.unwrap(), Renamed::Unknown);
    assert_eq!(owner.store().rename(&erp, &crm).await.unwrap(), Renamed::Taken);
    assert_eq!(owner.store().rename(&crm, &erp).await.unwrap(), Renamed::Done, "that one was never used");
    assert_eq!(owner.store().rename(&erp, &crm).await.unwrap(), Renamed::Done, "and back");
    send(&owner.store(), 1, 2, 1).await;
    owner.store().rename(&crm, &erp).await.unwrap();
    owner.store().introduce(crm.clone()).await.unwrap();
    send(&owner.store(), 2, 3, 1).await;

    let waiting = |id: &DestinationId| owner.store().waiting(id, 0, 9).unwrap().len();
    assert_eq!((waiting(&crm), waiting(&erp)), (1, 2), "a name that comes back is another destination");
    owner.close();
    assert!(upkeep::check(dir.path(), &mut |_, _| {}).unwrap().is_whole());
}

/// Updates and deliveries go on while it is called now this, now that.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_lost_or_sent_twice_while_a_destination_is_renamed() {
    let (all, some) = (renamed_all_the_time(0).await, renamed_all_the_time(1).await);
    assert_eq!(all.superseded, 0);
    assert!(some.superseded > 0, "{some:?}");
}

async fn renamed_all_the_time(round: usize) -> DestinationCounters {
    const UPDATES: usize = 300;
    /// Before anything is delivered.
    const FIRST: usize = 50;
    let dir = tempfile::tempdir().unwrap();
    let owner = open(dir.path());
    let store = owner.store();
    let queue = store.queue(&destination(0)).unwrap();
    // Each profile changes all the time, and its places change hands.
    let coalesce = [Coalesce::Off, Coalesce::All][round];
    let change = async move |store: &Store, number: usize| {
        send_as(store, number % 7, number as u64, 1, coalesce).await;
    };
    for number in 0..FIRST {
        change(&store, number).await;
    }
    let sending = tokio::spawn({
        let store = store.clone();
        async move {
            for number in FIRST..UPDATES {
                change(&store, number).await;
            }
        }
    });
    let names = [destination(0), named("partner")];
    let mut seen: Vec<Timestamp> = Vec::new();
    for turn in 0.. {
        if turn < 40 || !sending.is_finished() {
            let [old, new] = if turn % 2 == 0 { [&names[0], &names[1]] } else { [&names[1], &names[0]] };
            assert_eq!(store.rename(old, new).await.unwrap(), Renamed::Done);
        } else if queue.is_empty() {
            break;
        }
        for claim in queue.claim_due(at(0), 8) {
            seen.push(claim.export.id.made_at());
            store.settle(claim, delivered(0), None);
        }
        store.counters().await.unwrap();
    }
    sending.await.unwrap();

    seen.sort();
    let seen_once = seen.len();
    seen.dedup();
    // The last state of each is among them.
    let last = (0..7).map(|back| at((UPDATES - 1 - back) as u64));
    assert!(seen.len() == seen_once && last.into_iter().all(|last| seen.contains(&last)), "{seen:?}");
    let counters = store.counters().await.unwrap();
    let counted = *names.iter().find_map(|id| counters.destinations.get(id)).unwrap();
    assert_eq!((counted.made, counted.delivered), (UPDATES as u64, seen_once as u64));
    assert_eq!((counted.superseded + counted.delivered, counters.differences()), (UPDATES as u64, vec![]));
    owner.close();
    assert!(upkeep::check(dir.path(), &mut |_, _| {}).unwrap().is_whole());
    counted
}

/// The plan before may be in force still when the store fails, and is mended.
#[tokio::test]
async fn what_is_made_for_the_old_name_is_the_renamed_ones_after_the_store_was_mended_too() {
    let dir = tempfile::tempdir().unwrap();
    let owner = open(dir.path());
    let (store, old, new) = (owner.store(), destination(0), named("partner"));
    send(&store, 0, 1, 1).await;
    assert_eq!(store.rename(&old, &new).await.unwrap(), Renamed::Done);

    assert!(store.live.fail(Health::Failed));
    store.commands.send(Command::Failed).unwrap();
    while !store.is_healthy() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    send(&store, 1, 2, 1).await;

    let counters = store.counters().await.unwrap();
    assert_eq!((counters.destinations.get(&old), counters.destinations[&new].waiting), (None, 2));
    assert_eq!(store.queue(&new).unwrap().claim_due(at(3), 9).len(), 2);
    owner.close();
}
