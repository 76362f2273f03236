//! What a person wishes of the store: for the model test, and for cases of its own.

use std::{path::Path, time::Duration};

use super::{
    at_once_tests::{delivered, send},
    layout::Table,
    tests::*,
    window::WINDOW_MAX,
    *,
};
use crate::{
    clock::Timestamp,
    export::{Cause, DeadLetter, Export, ExportId, NewExport},
    profile::{ProfileKey, update::UpdateId},
    trigger::Reason,
};

impl Tried {
    pub(super) async fn drop_export(&mut self, from: usize, number: u64) {
        let expected = match self.queues[from].get(&number) {
            Some(waiting) if waiting.claimed => Dropped::InFlight,
            Some(_) => Dropped::Gone,
            None => Dropped::Missing,
        };
        assert_eq!(self.owner.store().drop_export(&destination(from), number).await.unwrap(), expected);
        if expected == Dropped::Gone {
            self.queues[from].remove(&number);
            self.expected[from].dropped += 1;
        }
    }

    pub(super) async fn drop_letter(&mut self, from: usize, letter: usize) {
        let number = self.nth_letter(from, letter).unwrap_or(letter as u64 % 50 + 1000);
        let is_there = self.dead[from].remove(&number).is_some();
        assert_eq!(self.owner.store().drop_letter(&destination(from), number).await.unwrap(), is_there);
        self.expected[from].dropped += u64::from(is_there);
    }

    fn nth_letter(&self, from: usize, letter: usize) -> Option<u64> {
        let letters = &self.dead[from];
        letters.keys().nth(letter.checked_rem(letters.len())?).copied()
    }

    pub(super) async fn discard(&mut self, from: usize) {
        self.let_go(|claimed_from, _| claimed_from == from);
        let dropped = std::mem::take(&mut self.queues[from]).len() as u64;
        let discarded = self.owner.store().discard(&destination(from)).await.unwrap();
        assert_eq!(discarded, Discarded { dropped, stayed: 0 });
        self.expected[from].dropped += dropped;
    }

    /// Gives claims back, so that nothing is waited for.
    fn let_go(&mut self, which: impl Fn(usize, &Export) -> bool) {
        for (from, claim) in std::mem::take(&mut self.claims) {
            match which(from, &claim.export) {
                true => self.queues[from].get_mut(&claim.number()).unwrap().claimed = false,
                false => self.claims.push((from, claim)),
            }
        }
    }

    pub(super) async fn redrive(&mut self, from: usize, letter: usize, how: Redrive, moot: bool) {
        let Some(number) = self.nth_letter(from, letter) else { return };
        let of = self.dead[from][&number].export.clone();
        let (id, now, to) = (UpdateId::new(at(self.now)), at(self.now), destination(from));
        let export = NewExport {
            destination: to.clone(),
            id: ExportId::of(id, now, &to),
            body: b"again".to_vec(),
            reasons: vec![Reason::Redrive(of.id)],
            coalesce: self.coalesce[from],
        };
        let (made, lines, expected) = (export.clone(), of.lines.clone(), of.id);
        let remake = move |letter: &Letter, _: Found| {
            assert_eq!(letter.letter.export.id, expected);
            let (export, lines, accepted_at) = (export.clone(), lines.clone(), now);
            Ok(if moot { Remade::Moot } else { Remade::Export { export, lines, accepted_at } })
        };

        let redriven = self.owner.store().redrive(&to, number, how, vec![], remake).await;

        let is_overtaken = || {
            let delivered = |(by, other, profile): &(usize, u64, ProfileKey)| {
                *by == from && *other > number && of.lines.contains(profile)
            };
            let waits = |other: &Waiting| other.export.lines.iter().any(|line| of.lines.contains(line));
            self.receipts.iter().any(delivered) || self.queues[from].range(number..).any(|(_, other)| waits(other))
        };
        match redriven {
            Ok(Redriven::Moot) => {
                assert!(moot);
                self.expected[from].moot += 1;
            }
            Ok(Redriven::Exported(id)) => {
                let newest = |number: u64| !is_overtaken() && self.swept[from] <= number;
                assert!(!moot && id == made.id && (how == Redrive::Present || newest(number)));
                self.expect(from, &made, &of.lines);
                self.expected[from].redriven += 1;
            }
            Err(why) => {
                let right = match why {
                    NotRedriven::Overtaken => is_overtaken(),
                    NotRedriven::Uncertain => self.swept[from] > number,
                    _ => false,
                };
                return assert!(!moot && how == Redrive::AsWas && right, "{why}");
            }
        }
        self.dead[from].remove(&number);
    }

    pub(super) async fn forget(&mut self, number: usize) {
        let Some(person) = self.people.get(&number).cloned() else {
            assert_eq!(self.owner.store().forget(&identity(number)).await.unwrap(), None);
            return;
        };
        let is_theirs = |export: &Export| export.lines.iter().any(|line| person.lines.contains(line));
        self.let_go(|_, export| is_theirs(export));
        let mut expected = Forgotten::default();
        for from in 0..2 {
            let (waiting, dead) = (self.queues[from].len(), self.dead[from].len());
            self.queues[from].retain(|_, waiting| !is_theirs(&waiting.export));
            self.dead[from].retain(|_, letter| !is_theirs(&letter.export));
            let exports = (waiting - self.queues[from].len()) as u64;
            let letters = (dead - self.dead[from].len()) as u64;
            self.expected[from].dropped += exports + letters;
            (expected.exports, expected.letters) = (expected.exports + exports, expected.letters + letters);
        }
        let before = self.receipts.len();
        self.receipts.retain(|(_, _, profile)| !person.lines.contains(profile));
        expected.receipts = (before - self.receipts.len()) as u64;
        self.people.retain(|_, other| other.key != person.key);
        self.forgotten += 1;

        let forgotten = self.owner.store().forget(&identity(number)).await.unwrap();

        assert_eq!(forgotten, Some(expected));
        let db = self.owner.store.live.db().unwrap();
        assert!(db.scan_prefix(layout::FORGETTING).next().is_none(), "nothing is left to be erased");
    }

    /// The oldest may be gone, where there are too many.
    pub(super) fn verify_receipts(&mut self, counters: &Counters) {
        let mut profiles: Vec<ProfileKey> = self.receipts.iter().map(|(_, _, profile)| *profile).collect();
        profiles.dedup();
        let found = self.owner.store().receipts(&profiles).unwrap();
        let gone = self.receipts.len() - found.len();
        assert!(gone == 0 || self.receipts.len() as u64 > self.keeping.receipts.count_max, "{gone} are gone");
        for (from, number, _) in self.receipts.drain(..gone) {
            self.swept[from] = self.swept[from].max(number);
        }
        let found: Vec<_> =
            found.into_iter().map(|receipt| (receipt.destination, receipt.number, receipt.profile)).collect();
        let expected: Vec<_> =
            self.receipts.iter().map(|(from, number, profile)| (destination(*from), *number, *profile)).collect();
        assert_eq!((counters.receipts, found), (expected.len() as u64, expected));
        assert!(counters.receipts <= self.keeping.receipts.count_max + 1);
    }
}

/// The database of a stopped store: threads of a sled that was closed let go of its file a little later.
fn open_database(dir: &Path) -> sled::Db {
    let until = std::time::Instant::now() + Duration::from_secs(10);
    loop {
        match sled::Config::new().path(dir.join("store")).open() {
            Ok(db) => return db,
            Err(error) => assert!(std::time::Instant::now() < until, "{error}"),
        }
        std::thread::yield_now();
    }
}

/// Changes a bit of a record in a stopped store.
pub(super) fn bend(dir: &Path, key: Vec<u8>) {
    let db = open_database(dir);
    let key = [key.as_slice(), &[0]].concat();
    let mut bytes = db.get(&key).unwrap().unwrap().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    db.insert(key, bytes).unwrap();
    db.flush().unwrap();
}

fn reopen(owner: StoreOwner, dir: &Path) -> StoreOwner {
    owner.close();
    open(dir)
}

#[tokio::test]
async fn exports_beyond_the_window_are_dropped_and_not_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let owner = open(dir.path());
    let store = owner.store();
    let all = WINDOW_MAX as u64 + 808;
    for second in 0..9 {
        send(&store, 0, second, 1000).await;
    }
    let queue = store.queue(&destination(0)).unwrap();
    assert_eq!((queue.claim_due(at(9), 10).len(), all), (1, 9000), "all stand in one line");

    assert_eq!(store.drop_export(&destination(0), all).await.unwrap(), Dropped::Gone);
    assert_eq!(store.drop_export(&destination(0), all).await.unwrap(), Dropped::Missing);
    let claim = queue.claim_head(0).unwrap();
    assert_eq!(store.drop_export(&destination(0), claim.number()).await.unwrap(), Dropped::InFlight);
    store.settle(claim, delivered(10), None);
    let discarded = store.discard(&destination(0)).await.unwrap();

    assert_eq!(discarded, Discarded { dropped: all - 2, stayed: 0 });
    assert!(queue.claim_due(at(11), 10).is_empty() && queue.claimed() == 0);
    let counted = store.counters().await.unwrap().destinations[&destination(0)];
    assert_eq!((counted.made, counted.delivered, counted.dropped, counted.waiting), (all, 1, all - 1, 0));
    owner.close();
    assert!(upkeep::check(dir.path(), &mut |_, _| {}).unwrap().is_whole());
}

#[tokio::test]
async fn profile_that_is_forgotten_takes_what_is_in_flight_along() {
    let dir = tempfile::tempdir().unwrap();
    let owner = open(dir.path());
    let store = owner.store();
    let key = send(&store, 0, 0, 2).await;
    let other = send(&store, 1, 0, 1).await;
    let claim = store.queue(&destination(0)).unwrap().claim_head(0).unwrap();
    let number = claim.number();
    let forgetting = tokio::spawn({
        let store = store.clone();
        async move { store.forget(&identity(0)).await.unwrap().unwrap() }
    });
    while store.waiting(&destination(0), 0, 10).unwrap().len() > 2 {
        tokio::task::yield_now().await;
    }
    assert!(!forgetting.is_finished(), "the one in flight is waited for");

    let letter = DeadLetter { export: claim.export.clone(), at: at(1), cause: Cause::Refused };
    store.settle(claim, Next::Dead(letter), None);

    assert_eq!(forgetting.await.unwrap(), Forgotten { exports: 1, letters: 1, receipts: 0, stayed: 0 });
    assert!(
        store.exports_of(&[key], 10).unwrap().is_empty() && store.export(&destination(0), number).unwrap().is_none()
    );
    assert_eq!((store.exports_of(&[other], 10).unwrap().len(), store.profile(&identity(0)).unwrap()), (1, None));
    owner.close();
    let report = upkeep::check(dir.path(), &mut |_, _| {}).unwrap();
    assert!(report.is_whole(), "{report:?}");
    assert_eq!((report.counters.profiles, report.counters.forgotten), (1, 1));
}

#[tokio::test]
async fn forgetting_that_was_cut_off_goes_on() {
    for repeated in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let mut owner = open(dir.path());
        let key = send(&owner.store(), 0, 0, 3).await;
        let claim = owner.store().queue(&destination(0)).unwrap().claim_head(0).unwrap();
        owner.store().settle(claim, delivered(1), None);
        // As if the process had ended after the first commit of it.
        owner.store().begin_to_forget(&identity(0)).await;
        owner = reopen(owner, dir.path());
        let store = owner.store();
        assert_eq!(
            (store.profile(&identity(0)).unwrap(), store.waiting(&destination(0), 0, 9).unwrap().len()),
            (None, 2)
        );

        let finished = match repeated {
            true => store.forget(&identity(0)).await.unwrap().unwrap(),
            false => store.finish_forgetting().await.unwrap(),
        };

        assert_eq!(finished, Forgotten { exports: 2, letters: 0, receipts: 1, stayed: 0 });
        assert!(store.exports_of(&[key], 9).unwrap().is_empty() && store.receipts(&[key]).unwrap().is_empty());
        assert_eq!(store.forget(&identity(0)).await.unwrap(), None);
        owner.close();
        assert!(upkeep::check(dir.path(), &mut |_, _| {}).unwrap().is_whole());
    }
}

#[tokio::test]
async fn profile_whose_snapshot_is_damaged_is_forgotten_with_all_its_identities() {
    let dir = tempfile::tempdir().unwrap();
    let owner = open(dir.path());
    let key = send(&owner.store(), 0, 0, 1).await;
    owner.close();
    bend(dir.path(), layout::profile(&key));
    let owner = open(dir.path());

    let forgotten = owner.store().forget(&identity(0)).await.unwrap();

    assert_eq!(forgotten, Some(Forgotten { exports: 1, ..Forgotten::default() }));
    let db = owner.store.live.db().unwrap();
    assert!(db.scan_prefix(layout::IDENTITIES).next().is_none());
    drop(db);
    owner.close();
}

#[tokio::test]
async fn receipts_go_when_they_are_old_or_too_many() {
    let dir = tempfile::tempdir().unwrap();
    let keep = |kept, count_max| Keeping { receipts: Receipts { kept, count_max }, ..Keeping::default() };
    let tries = [(Duration::from_secs(5), 1000, 6), (Duration::from_secs(1000), 3, 3), (Duration::ZERO, 1000, 0)];
    let mut numbers = 0;
    for (kept, count_max, left) in tries {
        let owner = StoreOwner::open(dir.path(), &[destination(0)], &keep(kept, count_max)).unwrap();
        let store = owner.store();
        let mut key = None;
        for _ in 0..20 {
            numbers += 1;
            key = Some(send(&store, 0, numbers, 1).await);
            let claim = store.queue(&destination(0)).unwrap().claim_head(0).unwrap();
            store.settle(claim, delivered(numbers), None);
            store.counters().await.unwrap();
        }
        let receipts = store.receipts(&[key.unwrap()]).unwrap();
        let found: Vec<u64> = receipts.iter().map(|receipt| receipt.number).collect();
        assert_eq!(found, (numbers + 1 - left..=numbers).collect::<Vec<_>>());
        assert_eq!(store.counters().await.unwrap().receipts, left);
        owner.close();
        assert!(upkeep::check(dir.path(), &mut |_, _| {}).unwrap().is_whole());
        upkeep::compact(dir.path(), &mut |_, _| {}).unwrap();
    }
}

#[tokio::test]
async fn standing_and_a_new_destination_outlive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut owner = open(dir.path());
    let paused = Standing { paused: Some(at(7)), ..Standing::default() };
    assert!(matches!(owner.store().keep_standing(&late(), paused.clone()).await, Err(StoreError::Unknown(_))));
    let queue = owner.store().introduce(late()).await.unwrap();
    assert!(std::sync::Arc::ptr_eq(&queue, &owner.store().introduce(late()).await.unwrap()));

    owner.store().keep_standing(&late(), paused.clone()).await.unwrap();

    owner = reopen(owner, dir.path());
    assert_eq!((owner.store().standing(&late()), owner.store().queues().len()), (paused, 3));
    owner.close();
}

#[tokio::test]
async fn damaged_entries_are_shown_as_such_and_exports_are_found_by_their_id() {
    let dir = tempfile::tempdir().unwrap();
    let mut owner = open(dir.path());
    for second in 0..200 {
        send(&owner.store(), second as usize, 100 * second, 1).await;
    }
    let waiting = owner.store().waiting(&destination(0), 0, 500).unwrap();
    for (number, export) in &waiting {
        let found = owner.store().find(export.as_ref().unwrap().id).unwrap();
        assert_eq!(found, Some((destination(0), *number)));
    }
    let claim = owner.store().queue(&destination(0)).unwrap().claim_head(0).unwrap();
    let letter = DeadLetter { export: claim.export.clone(), at: at(1), cause: Cause::Refused };
    owner.store().settle(claim, Next::Dead(letter), None);
    owner.close();
    bend(dir.path(), layout::entry(Table::Dead, 0, 1));
    bend(dir.path(), layout::entry(Table::Schedule, 0, 5));
    owner = open(dir.path());
    let store = owner.store();

    let (letters, waiting) =
        (store.dead_letters(&destination(0), 0, 9).unwrap(), store.waiting(&destination(0), 4, 2).unwrap());

    assert_eq!(letters, [(1, None)]);
    assert!(matches!(waiting[..], [(4, Some(_)), (5, None)]), "{waiting:?}");
    assert!(matches!(store.export(&destination(0), 1), Err(StoreError::Unreadable(_))));
    assert!(!store.drop_letter(&destination(0), 1).await.unwrap(), "it is put aside");
    let counters = store.counters().await.unwrap();
    let counted = counters.destinations[&destination(0)];
    assert_eq!((counted.dead, counted.damaged, counters.differences()), (0, 1, vec![]));
    let unknown = ExportId::of(UpdateId::new(Timestamp::default()), Timestamp::default(), &late());
    assert_eq!(store.find(unknown).unwrap(), None);
    owner.close();
}

#[tokio::test]
async fn damaged_record_excuses_none_that_is_missing() {
    for missing in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let owner = open(dir.path());
        let mut keys = Vec::new();
        for person in 0..4 {
            keys.push(send(&owner.store(), person, 0, 1).await);
        }
        owner.close();
        bend(dir.path(), layout::entry(Table::Schedule, 0, 2));
        if missing {
            let db = open_database(dir.path());
            // Not the last one: opening would find that out.
            db.remove([layout::profile(&keys[0]).as_slice(), &[0]].concat()).unwrap().unwrap();
            db.flush().unwrap();
        }

        let compacted = upkeep::compact(dir.path(), &mut |_, _| {});

        match missing {
            false => assert_eq!(compacted.unwrap().damaged, 1),
            true => assert!(compacted.is_err_and(|error| error.to_string().contains("profiles: 4 counted, 3 there"))),
        }
        assert!(!dir.path().join("store.new").exists(), "a copy that failed takes no space");
    }
}

#[tokio::test]
async fn full_count_finds_what_the_counters_do_not_know() {
    let dir = tempfile::tempdir().unwrap();
    let owner = open(dir.path());
    let store = owner.store();
    for person in 0..30 {
        send(&store, person, 0, 1).await;
    }
    let count = |store: &Store| {
        let store = store.clone();
        async move { tokio::task::spawn_blocking(move || store.count_all().unwrap()).await.unwrap() }
    };
    let busy = tokio::spawn({
        let store = store.clone();
        async move {
            for person in 0..200 {
                send(&store, person, 1, 1).await;
                let claim = store.queue(&destination(0)).unwrap().claim_due(at(2), 1).pop().unwrap();
                store.settle(claim, delivered(3), None);
            }
        }
    });
    while !busy.is_finished() {
        assert_eq!(count(&store).await.differences, [] as [String; 0], "while all moves");
    }
    busy.await.unwrap();
    let still = count(&store).await;
    assert_eq!((still.profiles, still.waiting, still.moved, &still.differences[..]), (200, 30, false, &[][..]));

    let first = store.waiting(&destination(0), 0, 1).unwrap()[0].0;
    let db = store.live.db().unwrap();
    for chunk in db.scan_prefix(layout::entry(Table::Schedule, 0, first)).keys() {
        db.remove(chunk.unwrap()).unwrap();
    }
    drop(db);

    assert_eq!(count(&store).await.differences, ["waiting exports of crm: 29 there, and the counters say 30 to 30"]);
    owner.close();
}

#[tokio::test]
async fn backup_under_load_has_all_that_was_acknowledged() {
    let (dir, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let owner = open(dir.path());
    let store = owner.store();
    let (stop, acknowledged) =
        (tokio_util::sync::CancellationToken::new(), std::sync::Arc::new(std::sync::Mutex::new(0)));
    let load = tokio::spawn({
        let (store, stop, acknowledged) = (store.clone(), stop.clone(), acknowledged.clone());
        async move {
            for person in 0.. {
                if stop.is_cancelled() {
                    break;
                }
                send(&store, person, 0, 1).await;
                *acknowledged.lock().unwrap() = person + 1;
            }
        }
    });
    for round in 1..=3 {
        while *acknowledged.lock().unwrap() < 50 * round {
            tokio::task::yield_now().await;
        }
        let before = *acknowledged.lock().unwrap();
        let (store, place) = (store.clone(), to.path().join(round.to_string()));
        let of = place.clone();
        let copied = tokio::task::spawn_blocking(move || store.backup(&of, &mut |_, _| {})).await.unwrap().unwrap();

        assert_eq!((copied.damaged, place.join("raw").exists()), (0, false));
        let report = upkeep::check(&place, &mut |_, _| {}).unwrap();
        assert!(report.is_whole() && report.counters.accepted >= before as u64, "{before}: {report:?}");
        let restored = tempfile::tempdir().unwrap();
        upkeep::restore(restored.path(), &place, &mut |_, _| {}).unwrap();
        let back = open(restored.path());
        for person in 0..before {
            assert!(back.store().profile(&identity(person)).unwrap().is_some(), "{person} of {before}");
        }
        back.close();
    }
    let taken = tokio::task::spawn_blocking(move || store.backup(&to.path().join("1"), &mut |_, _| {})).await.unwrap();
    assert!(matches!(taken, Err(upkeep::UpkeepError::Exists(_))));
    stop.cancel();
    load.await.unwrap();
    owner.close();
}
