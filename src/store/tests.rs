//! The store against a simple model over generated actions, crashes included; and what it does with damage.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::Duration,
};

use proptest::prelude::*;
use tempfile::TempDir;

use super::{layout::Table, place_tests::coalesce, wish_tests::bend, *};
use crate::{
    clock::Timestamp,
    destination::Coalesce,
    export::{Attempt, Cause, DeadLetter, Export, NewExport, Outcome, Trouble},
    profile::{Profile, ProfileKey, identity::Namespace, update::UpdateId},
    trigger::Reason,
    walk::Walk,
};

const DESTINATIONS: [&str; 2] = ["crm", "erp"];

pub(super) fn destination(index: usize) -> DestinationId {
    DESTINATIONS[index].parse().unwrap()
}

/// One that comes while the store runs.
pub(super) fn late() -> DestinationId {
    "late".parse().unwrap()
}

pub(super) fn identity(person: usize) -> Identity {
    Identity::new(Namespace::parse("CRM").unwrap(), &person.to_string()).unwrap()
}

pub(super) fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(1_000_000) + Duration::from_secs(seconds)
}

/// A store and what should be in it.
pub(super) struct Tried {
    dir: TempDir,
    pub(super) keeping: Keeping,
    pub(super) owner: StoreOwner,
    pub(super) now: u64,
    pub(super) people: BTreeMap<usize, Person>,
    pub(super) queues: [BTreeMap<u64, Waiting>; 2],
    pub(super) claims: Vec<(usize, Claim)>,
    pub(super) last_number: u64,
    pub(super) expected: [DestinationCounters; 2],
    pub(super) dead: [BTreeMap<u64, DeadLetter>; 2],
    pub(super) receipts: Vec<(usize, u64, ProfileKey)>,
    /// Those of them that are gone again, as the youngest number of each destination.
    pub(super) swept: [u64; 2],
    pub(super) introduced: bool,
    pub(super) forgotten: u64,
    /// How each destination coalesces, and the export of each profile that was made last since it does.
    pub(super) coalesce: [Coalesce; 2],
    pub(super) placed: BTreeMap<(usize, ProfileKey), u64>,
    pub(super) walks: Vec<Walk>,
    applied: u64,
}

#[derive(Clone, PartialEq, Debug)]
pub(super) struct Person {
    pub(super) key: ProfileKey,
    pub(super) snapshot: Vec<u8>,
    pub(super) lines: Vec<ProfileKey>,
    /// Whether he is in the one audience that there is.
    is_in: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Waiting {
    pub(super) export: Export,
    pub(super) body: Vec<u8>,
    pub(super) reasons: Vec<Reason>,
    pub(super) claimed: bool,
}

#[derive(Clone, Debug)]
enum Action {
    Update { person: usize, bytes: usize, to: [bool; 2], turns: bool },
    Coalesce { from: usize, how: Coalesce },
    Join { one: usize, other: usize, to: [bool; 2] },
    Claim { from: usize, most: usize },
    Probe { from: usize, after: u64 },
    Settle { claim: usize, end: End },
    GiveBack { claim: usize },
    Wait { seconds: u64 },
    Drop { from: usize, number: u64 },
    DropLetter { from: usize, letter: usize },
    Discard { from: usize },
    Redrive { from: usize, letter: usize, how: Redrive, moot: bool },
    Forget { person: usize },
    Introduce,
    Walk { most: usize, room: usize, to: [bool; 2] },
    Reopen,
    Crash,
}

#[derive(Clone, Copy, Debug)]
enum End {
    Delivered,
    Retry { seconds: u64 },
    Dead,
}

pub(super) fn open(dir: &Path) -> StoreOwner {
    open_as(dir, &Keeping::default())
}

fn open_as(dir: &Path, keeping: &Keeping) -> StoreOwner {
    StoreOwner::open(dir, &[destination(0), destination(1)], keeping).unwrap()
}

impl Tried {
    fn new(keeping: Keeping) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let owner = open_as(dir.path(), &keeping);
        let (people, queues, claims, expected, dead, receipts) = Default::default();
        let (introduced, now, last_number, forgotten, walks, applied, swept, placed) = Default::default();
        Self {
            dir,
            keeping,
            owner,
            now,
            people,
            queues,
            claims,
            last_number,
            expected,
            dead,
            receipts,
            swept,
            introduced,
            forgotten,
            coalesce: [Coalesce::Off; 2],
            placed,
            walks,
            applied,
        }
    }

    async fn act(&mut self, action: Action) {
        match action {
            Action::Update { person, bytes, to, turns } => self.update(&[person], bytes, to, turns).await,
            Action::Coalesce { from, how } => self.coalesce[from] = how,
            Action::Join { one, other, to } if one != other => self.update(&[one, other], 10, to, false).await,
            Action::Join { .. } => {}
            Action::Claim { from, most } => self.claim(from, most),
            Action::Probe { from, after } => self.probe(from, after % (self.last_number + 2)),
            Action::Settle { claim, end } if !self.claims.is_empty() => self.settle(claim, end).await,
            Action::GiveBack { claim } if !self.claims.is_empty() => {
                let (from, claim) = self.claims.swap_remove(claim % self.claims.len());
                self.queues[from].get_mut(&claim.number()).unwrap().claimed = false;
                drop(claim);
            }
            Action::Settle { .. } | Action::GiveBack { .. } => {}
            Action::Wait { seconds } => self.now += seconds,
            Action::Drop { from, number } => self.drop_export(from, number % (self.last_number + 2)).await,
            Action::DropLetter { from, letter } => self.drop_letter(from, letter).await,
            Action::Discard { from } => self.discard(from).await,
            Action::Redrive { from, letter, how, moot } => self.redrive(from, letter, how, moot).await,
            Action::Forget { person } => self.forget(person).await,
            Action::Introduce => {
                self.owner.store().introduce(late()).await.unwrap();
                self.introduced = true;
            }
            Action::Walk { most, room, to } => self.walk(most, room, to).await,
            Action::Reopen => self.open_again(None),
            Action::Crash => {
                let copy = tempfile::tempdir().unwrap();
                copy_all(self.dir.path(), copy.path());
                self.open_again(Some(copy));
            }
        }
        self.verify().await;
    }

    async fn update(&mut self, people: &[usize], bytes: usize, to: [bool; 2], turns: bool) {
        let id = UpdateId::new(at(self.now));
        let mut found: Vec<Person> = people.iter().filter_map(|person| self.people.get(person).cloned()).collect();
        found.sort_by_key(|person| person.key);
        found.dedup();
        let key = found.first().map_or_else(|| id.into(), |person| person.key);
        let mut lines: Vec<ProfileKey> = found.iter().flat_map(|person| person.lines.clone()).collect();
        lines.extend(found.is_empty().then_some(key));
        let is_in = found.first().is_some_and(|person| person.is_in) ^ turns;
        let mut profile = Profile { absorbed: lines[1..].to_vec(), ..Profile::new(key) };
        let with = self.people.iter().filter(|(_, person)| found.iter().any(|part| part.key == person.key));
        profile.identities.extend(with.map(|(number, _)| *number).chain(people.iter().copied()).map(identity));
        let padding = (0..bytes).map(|at| b" \n\t"[(at * 7 + at / 3) % 3]);
        let snapshot = serde_json::to_vec(&profile).unwrap().into_iter().chain(padding).collect::<Vec<u8>>();
        let absorbed: Vec<ProfileKey> = found.iter().skip(1).map(|person| person.key).collect();
        let moved = self.people.iter().filter(|(_, p)| absorbed.contains(&p.key)).map(|(n, _)| identity(*n)).collect();
        let exports: Vec<NewExport> =
            (0..2).filter(|index| to[*index]).map(|index| self.news(index, id, is_in, turns, bytes / 2)).collect();
        for (index, export) in (0..2).filter(|index| to[*index]).zip(&exports) {
            self.expect(index, export, &lines);
        }
        let mut before: Vec<Vec<u8>> = found.iter().map(|person| person.snapshot.clone()).collect();
        before.sort();
        let change = Change {
            members: Default::default(),
            committed: Committed::Applied,
            key,
            snapshot: snapshot.clone(),
            absorbed: absorbed.clone(),
            moved,
            lines: lines.clone(),
            accepted_at: at(self.now),
            exports,
            skipped: vec![],
        };
        let decide = move |Found { mut snapshots, lost }: Found| {
            snapshots.sort();
            assert_eq!((snapshots, lost), (before, vec![]), "the snapshots that the identities lead to");
            Ok(change)
        };
        let identities = people.iter().map(|person| identity(*person)).collect();
        assert_eq!(self.owner.store().update(identities, decide).await.unwrap(), Committed::Applied);
        self.applied += 1;
        let person = Person { key, snapshot, lines, is_in };
        self.people
            .values_mut()
            .filter(|p| p.key == key || absorbed.contains(&p.key))
            .for_each(|p| *p = person.clone());
        people.iter().for_each(|number| drop(self.people.insert(*number, person.clone())));
    }

    /// Those that are first in all their lines, due or not.
    fn heads(&self, from: usize) -> Vec<u64> {
        let queue = &self.queues[from];
        let shares = |a: &Waiting, b: &Waiting| a.export.lines.iter().any(|line| b.export.lines.contains(line));
        let is_head = |number: u64, one: &Waiting| !queue.range(..number).any(|(_, other)| shares(one, other));
        queue.iter().filter(|(number, one)| !one.claimed && is_head(**number, one)).map(|(number, _)| *number).collect()
    }

    fn claim(&mut self, from: usize, most: usize) {
        let now = at(self.now);
        let (mut due, retries): (Vec<u64>, Vec<u64>) =
            self.heads(from).into_iter().partition(|number| self.queues[from][number].export.attempts.is_empty());
        let due_at = |number: &u64| self.queues[from][number].export.due;
        let mut retries: Vec<u64> = retries.into_iter().filter(|number| due_at(number) <= now).collect();
        retries.sort_by_key(|number| (due_at(number), *number));
        due.splice(0..0, retries);
        due.truncate(most);
        let claims = self.owner.store().queue(&destination(from)).unwrap().claim_due(now, most);
        self.took(from, claims, due);
    }

    fn probe(&mut self, from: usize, after: u64) {
        let heads = self.heads(from);
        let next = heads.iter().find(|number| **number > after).or(heads.first());
        let claim = self.owner.store().queue(&destination(from)).unwrap().claim_head(after);
        self.took(from, claim.into_iter().collect(), next.into_iter().copied().collect());
    }

    fn took(&mut self, from: usize, claims: Vec<Claim>, expected: Vec<u64>) {
        assert_eq!(claims.iter().map(Claim::number).collect::<Vec<_>>(), expected);
        for claim in claims {
            let waiting = self.queues[from].get_mut(&claim.number()).unwrap();
            assert_eq!((&claim.export, &claim.body[..]), (&waiting.export, waiting.body.as_slice()));
            waiting.claimed = true;
            self.claims.push((from, claim));
        }
    }

    async fn settle(&mut self, claim: usize, end: End) {
        let (from, claim) = self.claims.swap_remove(claim % self.claims.len());
        let (number, mut export) = (claim.number(), claim.export.clone());
        let attempt = Attempt::new(at(self.now), Outcome::Retryable(Trouble::Timeout));
        let next = match end {
            End::Delivered => {
                self.queues[from].remove(&number);
                self.expected[from].delivered += 1;
                self.receipts.push((from, number, export.lines[0]));
                Next::Delivered(Attempt::new(at(self.now), Outcome::Delivered(200)))
            }
            End::Dead => {
                self.queues[from].remove(&number);
                self.expected[from].died += 1;
                let letter = DeadLetter { export, at: at(self.now), cause: Cause::Refused };
                self.dead[from].insert(number, letter.clone());
                Next::Dead(letter)
            }
            End::Retry { seconds } => {
                export.attempts.push(attempt);
                export.due = at(self.now + seconds);
                let waiting = self.queues[from].get_mut(&number).unwrap();
                (waiting.export, waiting.claimed) = (export.clone(), false);
                Next::Waiting(export)
            }
        };
        self.owner.store().settle(claim, next, None);
    }

    fn open_again(&mut self, copy: Option<TempDir>) {
        self.claims.clear();
        self.queues.iter_mut().flat_map(BTreeMap::values_mut).for_each(|waiting| waiting.claimed = false);
        let fresh = tempfile::tempdir().unwrap();
        let next = open(fresh.path());
        std::mem::replace(&mut self.owner, next).close();
        // The stand-in goes, and the store comes from the old directory, or the copy of it.
        let dir = copy.unwrap_or_else(|| std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap()));
        let back = open_as(dir.path(), &self.keeping);
        std::mem::replace(&mut self.owner, back).close();
        self.dir = dir;
    }

    async fn verify(&mut self) {
        let counters = self.owner.store().counters().await.unwrap();
        assert_eq!((counters.accepted, counters.applied, counters.quarantined), (self.applied, self.applied, 0));
        let profiles: BTreeSet<ProfileKey> = self.people.values().map(|person| person.key).collect();
        assert_eq!((counters.profiles, counters.forgotten), (profiles.len() as u64, self.forgotten));
        assert_eq!(counters.destinations.contains_key(&late()), self.introduced);
        self.verify_receipts(&counters);
        self.verify_walks().await;
        assert_eq!(counters.differences(), [] as [String; 0]);
        for index in 0..2 {
            let (waiting, dead) = (self.queues[index].len() as u64, self.dead[index].len() as u64);
            let expected = DestinationCounters { waiting, dead, ..self.expected[index] };
            assert_eq!(counters.destinations[&destination(index)], expected);
            let store = self.owner.store();
            let stored = store.waiting(&destination(index), 0, usize::MAX).unwrap();
            let model = self.queues[index].iter().map(|(number, waiting)| (*number, Some(waiting.export.clone())));
            assert_eq!(stored, model.collect::<Vec<_>>());
            for (number, waiting) in &self.queues[index] {
                let whole = store.export(&destination(index), *number).unwrap().unwrap();
                assert_eq!((whole.reasons, &whole.body[..]), (waiting.reasons.clone(), waiting.body.as_slice()));
            }
            let dead = store.dead_letters(&destination(index), 0, usize::MAX).unwrap();
            let model = self.dead[index].iter().map(|(number, letter)| (*number, Some(letter.clone())));
            assert_eq!(dead, model.collect::<Vec<_>>());
        }
        let counted = |(key, _): &(sled::IVec, sled::IVec)| !b"mg".contains(&key[0]);
        let entries = self.owner.store.live.db().unwrap().iter().map(Result::unwrap).filter(counted);
        let live: usize = entries.map(|(key, value)| key.len() + value.len()).sum();
        assert_eq!(counters.live_bytes, live as u64, "live bytes are those of all records");
        self.verify_places();
        let blobs = fs::read_dir(self.dir.path().join("store/blobs")).map_or(0, Iterator::count);
        assert_eq!(blobs, 0, "sled never syncs what stands there");
    }
}

/// What an identity leads to: an update that looks, and is refused.
async fn look(store: &Store, identity: Identity) -> Found {
    let (tell, told) = std::sync::mpsc::channel();
    let decide = move |found| {
        tell.send(found).unwrap();
        Err(Refusal::Unreadable)
    };
    assert!(matches!(store.update(vec![identity], decide).await, Err(StoreError::Refused(_))));
    told.recv().unwrap()
}

fn copy_all(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => {
                fs::create_dir(&target).unwrap();
                copy_all(&entry.path(), &target);
            }
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let to = || any::<[bool; 2]>();
    let end = prop_oneof![Just(End::Delivered), (0..20u64).prop_map(|seconds| End::Retry { seconds }), Just(End::Dead)];
    let one = prop_oneof![
        12 => (0..6usize, prop_oneof![4 => 0..2_000usize, 1 => 4_000..20_000usize], to(), prop::bool::weighted(0.3))
            .prop_map(|(person, bytes, to, turns)| Action::Update { person, bytes, to, turns }),
        1 => (0..2usize, coalesce()).prop_map(|(from, how)| Action::Coalesce { from, how }),
        2 => (0..6usize, 0..6usize, to()).prop_map(|(one, other, to)| Action::Join { one, other, to }),
        5 => (0..2usize, 1..5usize).prop_map(|(from, most)| Action::Claim { from, most }),
        1 => (0..2usize, any::<u64>()).prop_map(|(from, after)| Action::Probe { from, after }),
        6 => (any::<usize>(), end).prop_map(|(claim, end)| Action::Settle { claim, end }),
        1 => any::<usize>().prop_map(|claim| Action::GiveBack { claim }),
        2 => (0..20u64).prop_map(|seconds| Action::Wait { seconds }),
        2 => (0..2usize, any::<u64>()).prop_map(|(from, number)| Action::Drop { from, number }),
        1 => (0..2usize, any::<usize>()).prop_map(|(from, letter)| Action::DropLetter { from, letter }),
        1 => (0..2usize).prop_map(|from| Action::Discard { from }),
        3 => (0..2usize, any::<usize>(), prop_oneof![Just(Redrive::Present), Just(Redrive::AsWas)], any::<bool>())
            .prop_map(|(from, letter, how, moot)| Action::Redrive { from, letter, how, moot }),
        1 => (0..6usize).prop_map(|person| Action::Forget { person }),
        1 => Just(Action::Introduce),
        4 => (1..5usize, 1..4usize, to()).prop_map(|(most, room, to)| Action::Walk { most, room, to }),
        1 => Just(Action::Reopen),
        1 => Just(Action::Crash),
    ];
    prop::collection::vec(one, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn store_does_what_a_simple_model_does(
        actions in actions(),
        coalesce in [coalesce(), coalesce()],
        few_receipts in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let count_max = if few_receipts { 4 } else { 1_000_000 };
            let receipts = Receipts { count_max, ..Receipts::default() };
            let mut tried = Tried::new(Keeping { receipts, ..Keeping::default() });
            tried.coalesce = coalesce;
            for action in actions {
                tried.act(action).await;
            }
        });
    }
}

#[tokio::test]
async fn updates_of_one_profile_in_one_group_see_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let owner = open(dir.path());
    let key = UpdateId::new(at(0)).into();
    let update = |number: usize, identities: Vec<Identity>| {
        let store = owner.store();
        let decide = move |Found { snapshots, .. }: Found| {
            let snapshot = [snapshots.concat(), vec![number as u8]].concat();
            let (absorbed, moved, lines, exports) = Default::default();
            let committed = Committed::Unchanged;
            Ok(Change {
                committed,
                key,
                snapshot,
                absorbed,
                moved,
                members: Default::default(),
                lines,
                accepted_at: at(0),
                exports,
                skipped: vec![],
            })
        };
        async move { store.update(identities, decide).await.unwrap() }
    };
    update(0, vec![identity(0), identity(1)]).await;

    let mut all = tokio::task::JoinSet::new();
    (1..=100).for_each(|number| drop(all.spawn(update(number, vec![identity(number % 2)]))));
    all.join_all().await;

    let seen = look(&owner.store(), identity(0)).await;
    assert_eq!(seen.snapshots[0].len(), 101, "each update added a byte to what the one before it left");
    owner.close();
}

#[tokio::test]
async fn store_in_use_and_store_of_a_later_version_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(StoreOwner::open_existing(dir.path()), Err(StoreError::Missing(_))));
    let owner = open(dir.path());
    assert!(matches!(StoreOwner::open(dir.path(), &[], &Keeping::default()), Err(StoreError::InUse(_))));
    owner.close();

    fs::write(dir.path().join("FORMAT"), "5\n").unwrap();

    assert!(
        matches!(StoreOwner::open(dir.path(), &[], &Keeping::default()), Err(StoreError::Newer { found, .. }) if found == "5")
    );
}

#[tokio::test]
async fn damaged_records_are_put_aside_and_the_rest_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut tried = Tried { owner: open(dir.path()), dir, ..Tried::new(Keeping::default()) };
    for person in 0..3 {
        tried.update(&[person], 100, [true, false], false).await;
    }
    let Tried { owner, dir, people, .. } = tried;
    owner.close();
    bend(dir.path(), layout::profile(&people[&0].key));
    bend(dir.path(), layout::entry(Table::Schedule, 0, 1));

    let owner = open(dir.path());
    let store = owner.store();
    let queue = store.queue(&destination(0)).unwrap();
    let claims = queue.claim_due(at(0), 10);

    assert_eq!(claims.iter().map(Claim::number).collect::<Vec<_>>(), [2, 3]);
    let seen = look(&store, identity(0)).await;
    assert_eq!((seen.snapshots.len(), seen.lost), (0, vec![people[&0].key]));
    let counters = store.counters().await.unwrap();
    assert_eq!(counters.quarantined, 2);
    let counted = counters.destinations[&destination(0)];
    assert_eq!((counted.made, counted.damaged, counted.waiting), (3, 1, 2));
    drop(claims);
    owner.close();
}
