//! What stays together, over a restart, and what ends that.

use std::time::Duration;

use super::{
    tests::{at, destination, open},
    wish_tests::{delivered, send},
    *,
};
use crate::{
    clock::Timestamp,
    destination::{Batching, Format},
    export::{Attempt, Outcome, Trouble},
};

fn batching(format: Format) -> Batching {
    Batching { max_exports: 200, max_bytes: 1 << 20, max_wait: Duration::ZERO, format }
}

fn claim(store: &Store, now: Timestamp) -> Vec<Batch> {
    store.queue(&destination(0)).unwrap().claim_batches(now, 10, &batching(Format::Array))
}

fn numbers(batch: &Batch) -> Vec<u64> {
    batch.claims().iter().map(Claim::number).collect()
}

/// A store with an export of each of so many people, and a batch of all of them.
async fn kept(dir: &Path, people: usize) -> (StoreOwner, Batch) {
    let owner = open(dir);
    for person in 0..people {
        send(&owner.store(), person, 0, 1).await;
    }
    let mut batch = claim(&owner.store(), at(9)).pop().unwrap();
    assert_eq!(batch.count(), people);
    owner.store().keep_together(&mut batch, Format::Array).await.unwrap();
    (owner, batch)
}

/// Each fails, and waits until then.
fn failed(batch: &Batch, due: Timestamp) -> Vec<Next> {
    let failed = |claim: &Claim| {
        let mut export = claim.export.clone();
        export.attempts.push(Attempt::new(at(1), Outcome::Retryable(Trouble::Timeout)));
        export.due = due;
        Next::Waiting(export)
    };
    batch.claims().iter().map(failed).collect()
}

fn is_whole(dir: &Path) {
    let report = upkeep::check(dir, &mut |_, _| {}).unwrap();
    assert!(report.is_whole(), "{report:?}");
}

#[tokio::test]
async fn batch_is_the_same_after_its_sending_was_cut_off_and_after_it_failed() {
    let dir = tempfile::tempdir().unwrap();
    let (owner, batch) = kept(dir.path(), 3).await;
    let id = batch.id();
    drop(batch);
    owner.close();
    is_whole(dir.path());

    let owner = open(dir.path());
    send(&owner.store(), 9, 0, 1).await;
    let batches = claim(&owner.store(), at(9));
    assert_eq!(batches.iter().map(numbers).collect::<Vec<_>>(), [vec![1, 2, 3], vec![4]]);
    let [batch, other] = <[Batch; 2]>::try_from(batches).ok().unwrap();
    assert_eq!(batch.id(), id);
    let nexts = failed(&batch, at(20));
    owner.store().settle_batch(batch, nexts, Then::Stay, None);
    drop(other);
    owner.close();
    upkeep::compact(dir.path(), &mut |_, _| {}).unwrap();

    let owner = open(dir.path());
    assert_eq!(claim(&owner.store(), at(19)).iter().map(numbers).collect::<Vec<_>>(), [[4]]);
    let batches = claim(&owner.store(), at(20));
    assert_eq!(
        batches.iter().map(|batch| (numbers(batch), batch.id())).collect::<Vec<_>>(),
        [(vec![1, 2, 3], id), (vec![4], batches[1].id())]
    );
}

#[tokio::test]
async fn large_batch_ends_whole_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let (owner, batch) = kept(dir.path(), 150).await;
    let nexts = vec![delivered(3); 150];

    owner.store().settle_batch(batch, nexts, Then::Stay, None);

    let counted = owner.store().counters().await.unwrap().destinations[&destination(0)];
    assert_eq!((counted.delivered, counted.waiting), (150, 0));
    assert!(owner.store().live.db().unwrap().scan_prefix(layout::TOGETHER).next().is_none());
    owner.close();
    is_whole(dir.path());
}

#[tokio::test]
async fn batch_of_which_one_is_gone_is_over_in_memory_and_after_a_restart() {
    for restart in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let (mut owner, batch) = kept(dir.path(), 4).await;
        let nexts = failed(&batch, at(20));
        owner.store().settle_batch(batch, nexts, Then::Stay, None);
        owner.store().counters().await.unwrap();

        assert_eq!(owner.store().drop_export(&destination(0), 2).await.unwrap(), Dropped::Gone);
        if restart {
            owner.close();
            owner = open(dir.path());
        }

        let batches = claim(&owner.store(), at(30));
        assert_eq!(batches.iter().map(numbers).collect::<Vec<_>>(), [[1, 3, 4]]);
        assert!(owner.store().live.db().unwrap().scan_prefix(layout::TOGETHER).next().is_none());
        drop(batches);
        owner.close();
        is_whole(dir.path());
    }
}

#[tokio::test]
async fn record_of_what_does_not_all_wait_says_nothing_and_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let (owner, batch) = kept(dir.path(), 3).await;
    drop(batch);
    // As a crash between the slices of a large batch leaves it.
    let db = owner.store().live.db().unwrap();
    let (key, chunk) = db.scan_prefix(layout::TOGETHER).next().unwrap().unwrap();
    owner.store().drop_export(&destination(0), 3).await.unwrap();
    db.insert(key, chunk).unwrap();
    drop(db);
    owner.close();

    let owner = open(dir.path());

    assert_eq!(claim(&owner.store(), at(9)).iter().map(numbers).collect::<Vec<_>>(), [[1, 2]]);
    assert!(owner.store().live.db().unwrap().scan_prefix(layout::TOGETHER).next().is_none());
    owner.close();
    is_whole(dir.path());
}

#[tokio::test]
async fn halves_stay_halves_over_a_restart_down_to_one_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (mut owner, mut batch) = kept(dir.path(), 3).await;
    for expected in [vec![vec![1, 2], vec![3]], vec![vec![1], vec![2], vec![3]]] {
        let nexts = batch.claims().iter().map(|claim| Next::Waiting(claim.export.clone())).collect();
        owner.store().settle_batch(batch, nexts, Then::Halve, None);
        owner.close();

        owner = open(dir.path());
        let mut batches = claim(&owner.store(), at(9));

        assert_eq!(batches.iter().map(numbers).collect::<Vec<_>>(), expected);
        batch = batches.swap_remove(0);
    }
    drop(batch);
    owner.close();
    is_whole(dir.path());
}

#[tokio::test]
async fn batches_of_another_format_are_parted() {
    let dir = tempfile::tempdir().unwrap();
    let (owner, batch) = kept(dir.path(), 2).await;
    drop(batch);
    let store = owner.store();

    store.part_all_but(&destination(0), Some(Format::Array)).await.unwrap();
    let still = claim(&store, at(9));
    assert_eq!(still.iter().map(numbers).collect::<Vec<_>>(), [[1, 2]]);
    drop(still);
    store.part_all_but(&destination(0), None).await.unwrap();

    assert!(store.live.db().unwrap().scan_prefix(layout::TOGETHER).next().is_none());
    let queue = store.queue(&destination(0)).unwrap();
    assert_eq!(queue.claim_due(at(9), 9).iter().map(Claim::number).collect::<Vec<_>>(), [1, 2]);
    owner.close();
    is_whole(dir.path());
}
