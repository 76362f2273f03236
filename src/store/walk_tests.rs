//! Walks over all profiles: for the model test, and for cases of its own.

use std::collections::{BTreeMap, BTreeSet};

use super::{tests::*, wish_tests::bend, *};
use crate::{
    audience::AudienceId,
    clock::Timestamp,
    destination::{Coalesce, MappedAt},
    export::{ExportId, NewExport},
    profile::{Profile, ProfileKey, update::UpdateId},
    trigger::Reason,
    walk::{
        Began, Cause, End, Errand, Walk,
        known::{Known, KnownMapping},
    },
};

/// What a visit makes of a profile in these tests: a snapshot that is longer by a space, and an export to each of `to`.
fn visited(snapshot: &[u8], id: UpdateId, to: [bool; 2], coalesce: [Coalesce; 2], now: Timestamp) -> Change {
    let profile = Profile::read(snapshot).unwrap();
    let export = |index: usize| NewExport {
        destination: destination(index),
        id: ExportId::of(id, now, &destination(index)),
        body: b"present".to_vec(),
        reasons: vec![Reason::Backfill("gold".parse().unwrap())],
        coalesce: coalesce[index],
    };
    Change {
        committed: Committed::Applied,
        key: profile.key,
        snapshot: [snapshot, b" "].concat(),
        absorbed: vec![],
        moved: vec![],
        members: Default::default(),
        lines: profile.lines(),
        accepted_at: now,
        exports: (0..2).filter(|index| to[*index]).map(export).collect(),
        skipped: vec![],
    }
}

impl Tried {
    /// Takes the walk that is owed on, or owes one where none is. The first destination has so much room.
    pub(super) async fn walk(&mut self, most: usize, room: usize, to: [bool; 2]) {
        let store = self.owner.store();
        let now = at(self.now);
        let profiles: BTreeSet<ProfileKey> = self.people.values().map(|person| person.key).collect();
        let Some(mut walk) = self.walks.pop_if(|walk| walk.is_owed()) else {
            let walk = Walk::new(Errand::Evaluate, Cause::Person, now);
            store.owe(walk.clone()).await.unwrap();
            return self.walks.push(walk);
        };
        let began = Began { at: now, until: profiles.last().copied(), total: profiles.len() as u64 };
        let until = walk.began.get_or_insert(began).until;
        let behind = walk.cursor;
        let left = profiles.into_iter().filter(|key| Some(*key) > behind && Some(*key) <= until);
        let page: Vec<(ProfileKey, UpdateId)> = left.take(most).map(|key| (key, UpdateId::new(now))).collect();
        let (ids, mut made, mut is_cut) = (BTreeMap::from_iter(page.clone()), BTreeMap::new(), false);
        for (key, id) in &page {
            walk.visited += 1;
            walk.cursor = Some(*key);
            let person = self.people.values().find(|person| person.key == *key).unwrap();
            let change = visited(&person.snapshot, *id, to, self.coalesce, now);
            self.people.values_mut().filter(|p| p.key == *key).for_each(|p| p.snapshot = change.snapshot.clone());
            for export in change.exports {
                let from = (0..2).find(|index| destination(*index) == export.destination).unwrap();
                self.expect(from, &export, &change.lines);
                walk.made += 1;
                *made.entry(export.destination).or_default() += 1;
            }
            if made.get(&destination(0)).is_some_and(|made| *made >= room) {
                is_cut = true;
                break;
            }
        }
        if page.len() < most && !is_cut {
            walk.end = Some(End { at: now, cancelled: None });
        }
        self.walks.push(walk.clone());
        let (expected, coalesce) = (Step { walk, made }, self.coalesce);

        let review = move |_: &Errand, snapshot: &[u8]| {
            let id = ids[&Profile::read(snapshot).unwrap().key];
            Some(visited(snapshot, id, to, coalesce, now))
        };
        let room = BTreeMap::from([(destination(0), room)]);
        assert_eq!(store.walk_on(expected.walk.id, most, room, now, review).await.unwrap(), Some(expected));
    }

    pub(super) async fn verify_walks(&self) {
        let mut walks = self.walks.clone();
        walks.sort_by_key(Walk::turn);
        assert_eq!(self.owner.store().walks().await.unwrap(), walks);
    }
}

fn known(audiences: &[&str]) -> Known {
    let rule = serde_json::from_str(r#""67e55044-10b1-426f-9247-bb680e5fe0c8""#).unwrap();
    let id = |id: &&str| id.parse::<AudienceId>().unwrap();
    let mapped = MappedAt { created: at(1), updated: at(2) };
    let mapping = KnownMapping { shape: rule, audiences: audiences.iter().map(|name| (id(name), mapped)).collect() };
    let mappings = audiences.iter().map(|name| (name.parse().unwrap(), mapping.clone())).collect();
    Known { rules: audiences.iter().map(|name| (id(name), rule)).collect(), mappings }
}

#[tokio::test]
async fn what_is_known_is_kept_with_its_walks_over_a_copy_and_until_it_is_known_otherwise() {
    let dir = tempfile::tempdir().unwrap();
    let owner = open(dir.path());
    let store = owner.store();
    assert_eq!(store.learned().await.unwrap(), None);
    // So many that it takes several chunks.
    let many: Vec<String> = (0..300).map(|n| format!("audience-{n}")).collect();
    let many = known(&many.iter().map(String::as_str).collect::<Vec<_>>());
    let crm = Errand::Backfill { destination: destination(0), audiences: many.rules.keys().cloned().collect() };
    let walks = vec![Walk::new(Errand::Evaluate, Cause::Rules, at(1)), Walk::new(crm, Cause::Mapping, at(1))];

    store.learn(many.clone(), walks.clone()).await.unwrap();
    owner.close();
    upkeep::compact(dir.path(), &mut |_, _| {}).unwrap();
    let owner = open(dir.path());
    let store = owner.store();
    let kept = (store.learned().await.unwrap(), store.walks().await.unwrap());
    let fewer = known(&["gold"]);
    store.learn(fewer.clone(), vec![]).await.unwrap();
    let cancelled = store.cancel(walks[1].id, "a person wished it".to_owned(), at(5)).await.unwrap().unwrap();

    assert_eq!(kept, (Some(many), walks.clone()));
    assert_eq!(store.learned().await.unwrap(), Some(fewer));
    let end = End { at: at(5), cancelled: Some("a person wished it".to_owned()) };
    assert_eq!(cancelled, Walk { end: Some(end), ..walks[1].clone() });
    assert_eq!(store.walks().await.unwrap(), [walks[0].clone(), cancelled.clone()]);
    let again = store.cancel(walks[1].id, "twice".to_owned(), at(9)).await.unwrap();
    assert_eq!(again, Some(cancelled), "one that has ended stays as it is");
    let nobody = Walk::new(Errand::Evaluate, Cause::Person, at(0)).id;
    assert_eq!(store.cancel(nobody, String::new(), at(0)).await.unwrap(), None);
    assert_eq!(store.walk_on(nobody, 9, BTreeMap::new(), at(0), |_, _| None).await.unwrap(), None);
    owner.close();
}

/// What it would export may be older than what was delivered since.
#[tokio::test]
async fn backfill_does_not_go_on_in_a_store_that_fell_back_to_an_older_state() {
    for (falls_back, owed) in [(false, [true, true]), (true, [true, false])] {
        let dir = tempfile::tempdir().unwrap();
        let owner = open(dir.path());
        let crm = Errand::Backfill { destination: destination(0), audiences: vec!["gold".parse().unwrap()] };
        for walk in [Walk::new(Errand::Evaluate, Cause::Rules, at(1)), Walk::new(crm, Cause::Mapping, at(1))] {
            owner.store().owe(walk).await.unwrap();
        }
        owner.store().learn(known(&["gold"]), Vec::new()).await.unwrap();
        owner.close();
        if falls_back {
            std::fs::write(dir.path().join("mark"), "").unwrap();
        }

        drop(upkeep::salvage(dir.path(), upkeep::Basis::AsItIs, at(3), &mut |_, _| {}).unwrap());

        let owner = open(dir.path());
        let walks = owner.store().walks().await.unwrap();
        assert_eq!(walks.iter().map(Walk::is_owed).collect::<Vec<_>>(), owed);
        let is_known = owner.store().learned().await.unwrap().is_some();
        assert_eq!(is_known, !falls_back, "what was mapped since would look new, and be backfilled");
        owner.close();
        assert!(upkeep::check(dir.path(), &mut |_, _| {}).unwrap().is_whole());
    }
}

#[tokio::test]
async fn walk_goes_on_behind_its_cursor_passes_damage_and_leaves_those_who_came_later() {
    let dir = tempfile::tempdir().unwrap();
    let owner = open(dir.path());
    let mut keys = Vec::new();
    for person in 0..40 {
        keys.push(send_quietly(&owner.store(), person).await);
    }
    let walk = Walk::new(Errand::Evaluate, Cause::Person, at(0));
    owner.store().owe(walk.clone()).await.unwrap();
    owner.close();
    keys.sort();
    bend(dir.path(), layout::profile(&keys[7]));

    let (mut seen, mut stands) = (Vec::new(), walk);
    while stands.is_owed() {
        let owner = open(dir.path());
        let (tell, told) = std::sync::mpsc::channel();
        let review = move |_: &Errand, snapshot: &[u8]| {
            tell.send(Profile::read(snapshot).unwrap().key).unwrap();
            None
        };
        let step = owner.store().walk_on(stands.id, 6, BTreeMap::new(), at(1), review).await.unwrap().unwrap();
        seen.extend(told);
        assert_eq!(step.made, BTreeMap::new());
        if stands.began.is_none() {
            send_quietly(&owner.store(), 99).await;
        }
        stands = step.walk;
        assert_eq!(owner.store().walks().await.unwrap(), [stands.clone()]);
        owner.close();
    }

    keys.remove(7);
    assert_eq!(seen, keys);
    let owner = open(dir.path());
    let counters = owner.store().counters().await.unwrap();
    assert_eq!((stands.visited, counters.quarantined, counters.profiles), (40, 1, 40));
    assert_eq!((counters.accepted, counters.differences()), (41, vec![]));
    owner.close();
}

#[tokio::test]
async fn slice_that_takes_long_to_decide_is_short() {
    let dir = tempfile::tempdir().unwrap();
    let owner = open(dir.path());
    for person in 0..5 {
        send_quietly(&owner.store(), person).await;
    }
    let walk = Walk::new(Errand::Evaluate, Cause::Person, at(0));
    owner.store().owe(walk.clone()).await.unwrap();
    let (mut visited, mut is_owed) = (vec![], true);
    while is_owed {
        let review = |_: &Errand, _: &[u8]| {
            std::thread::sleep(std::time::Duration::from_millis(60));
            None
        };
        let step = owner.store().walk_on(walk.id, 64, BTreeMap::new(), at(1), review).await.unwrap().unwrap();
        is_owed = step.walk.is_owed();
        visited.push(step.walk.visited);
    }

    assert_eq!(visited, [1, 2, 3, 4, 5]);
    owner.close();
}

#[tokio::test]
async fn those_that_ended_long_ago_are_let_go_of() {
    let dir = tempfile::tempdir().unwrap();
    let owner = open(dir.path());
    let store = owner.store();
    let walks: Vec<Walk> = (0..60).map(|second| Walk::new(Errand::Evaluate, Cause::Person, at(second))).collect();
    for walk in &walks {
        store.owe(walk.clone()).await.unwrap();
    }
    for walk in &walks[1..] {
        store.walk_on(walk.id, 9, BTreeMap::new(), at(99), |_, _| None).await.unwrap();
    }

    let kept: Vec<_> = store.walks().await.unwrap().into_iter().map(|walk| walk.id).collect();

    let expected: Vec<_> = [&walks[..1], &walks[10..]].concat().into_iter().map(|walk| walk.id).collect();
    assert_eq!(kept, expected, "one that is owed is never let go of");
    owner.close();
}

/// Makes a profile, and no export.
async fn send_quietly(store: &Store, person: usize) -> ProfileKey {
    let id = UpdateId::new(at(person as u64));
    let decide = move |_| {
        let mut profile = Profile::new(id.into());
        profile.identities.extend([identity(person)]);
        Ok(Change { exports: vec![], snapshot: serde_json::to_vec(&profile).unwrap(), ..blank(id) })
    };
    store.update(vec![identity(person)], decide).await.unwrap();
    id.into()
}

fn blank(id: UpdateId) -> Change {
    let (snapshot, absorbed, moved, members, exports, skipped) = Default::default();
    let (committed, lines, accepted_at) = (Committed::Applied, vec![id.into()], at(0));
    Change { committed, key: id.into(), snapshot, absorbed, moved, members, lines, accepted_at, exports, skipped }
}
