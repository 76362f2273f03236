//! Walks over all stored profiles, and what is known of rules and mappings.
//!
//! A slice of a walk is a wish like others: some profiles behind its cursor are read, what is decided of each is staged as of
//! an update, and with each that changes the cursor, so that one commit holds both. A process that is killed goes on behind
//! the last profile whose change is on disk. What is known changes in one commit with the walks that follow from that, so none is
//! forgotten and none is owed twice.

use std::{
    collections::BTreeMap,
    ops::Bound,
    time::{Duration, Instant},
};

use serde::{Serialize, de::DeserializeOwned};

use super::{
    Change, Store, StoreError, layout,
    record::{self, Unreadable},
    writer::{Failure, Lengths, Links, SLICE_OPERATIONS_MAX, Writer},
};
use crate::{
    clock::Timestamp,
    destination::DestinationId,
    profile::ProfileKey,
    walk::{
        Began, ENDED_MAX, End, Errand, Walk, WalkId,
        known::{Known, KnownMapping},
    },
};

/// What is decided of the profiles of a slice takes no longer, but for the last of them: updates wait meanwhile, and a rule may
/// take its time.
const DECIDED_WITHIN: Duration = Duration::from_millis(50);

/// A profile that was met and its snapshot; none where that is damaged.
type Met = (ProfileKey, Option<Vec<u8>>);

/// What came of taking a walk on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Where it stands.
    pub walk: Walk,
    /// Exports that were made, by destination.
    pub made: BTreeMap<DestinationId, usize>,
}

impl Store {
    /// What is known of rules and mappings; `None` of a store that never kept it.
    ///
    /// # Errors
    /// [`StoreError::Failed`] and [`StoreError::Full`].
    pub async fn learned(&self) -> Result<Option<Known>, StoreError> {
        self.wish(|writer| writer.known()).await
    }

    /// Keeps what is known from now on, and the walks that are owed for it, as one.
    ///
    /// # Errors
    /// [`StoreError::Failed`] and [`StoreError::Full`].
    pub async fn learn(&self, known: Known, walks: Vec<Walk>) -> Result<(), StoreError> {
        self.wish(move |writer| writer.learn(&known, &walks)).await
    }

    /// The walks that are owed, and the last that have ended; oldest first.
    ///
    /// # Errors
    /// [`StoreError::Failed`] and [`StoreError::Full`].
    pub async fn walks(&self) -> Result<Vec<Walk>, StoreError> {
        self.wish(|writer| writer.walks()).await
    }

    /// Owes a walk.
    ///
    /// # Errors
    /// [`StoreError::Failed`] and [`StoreError::Full`].
    pub async fn owe(&self, walk: Walk) -> Result<(), StoreError> {
        self.wish(move |writer| {
            writer.keep_walk(&walk, None);
            Ok(())
        })
        .await
    }

    /// Ends a walk before its time, and returns it; `None` when there is none of this id. One that has ended stays as it is.
    ///
    /// # Errors
    /// [`StoreError::Failed`] and [`StoreError::Full`].
    pub async fn cancel(&self, id: WalkId, why: String, now: Timestamp) -> Result<Option<Walk>, StoreError> {
        self.wish(move |writer| writer.cancel(id, why, now)).await
    }

    /// Takes a walk on by `most` profiles at most, and ends it behind the last one. `review` decides of each snapshot what
    /// is made of it; once exports to a destination have taken its `room`, or deciding has taken long, the rest is for the next time.
    /// `None` when there is no such walk.
    ///
    /// # Errors
    /// [`StoreError::Failed`] and [`StoreError::Full`].
    pub async fn walk_on(
        &self,
        id: WalkId,
        most: usize,
        room: BTreeMap<DestinationId, usize>,
        now: Timestamp,
        review: impl FnMut(&Errand, &[u8]) -> Option<Change> + Send + 'static,
    ) -> Result<Option<Step>, StoreError> {
        self.wish(move |writer| writer.walk_on(id, most, &room, now, review)).await
    }

    /// Up to `most` profiles behind a key, in the order of their keys, with their snapshots. Reads from disk: not for the
    /// runtime's threads.
    ///
    /// # Errors
    /// [`StoreError::Failed`] when the disk cannot be read.
    pub fn snapshots(&self, behind: Option<ProfileKey>, most: usize) -> Result<Vec<Met>, StoreError> {
        self.read(|db| {
            let mut met = Vec::new();
            for key in keys(db, behind, None).take(most) {
                let key = key?;
                match record::read(db, &layout::profile(&key)) {
                    Ok(Some(record)) => met.push((key, Some(record.payload))),
                    // It may be gone, or be written anew, between one chunk and the next.
                    Ok(None) | Err(Unreadable::Damaged) => met.push((key, None)),
                    Err(Unreadable::Failed(error)) => return Err(error),
                }
            }
            Ok(met)
        })
    }
}

/// The keys of the profiles behind one, up to another.
fn keys(
    db: &sled::Tree,
    behind: Option<ProfileKey>,
    until: Option<ProfileKey>,
) -> impl Iterator<Item = sled::Result<ProfileKey>> {
    let last_chunk = |key: ProfileKey| [layout::profile(&key), vec![u8::MAX]].concat();
    let from = behind.map_or(Bound::Included(layout::PROFILES.to_vec()), |key| Bound::Excluded(last_chunk(key)));
    let to = until.map_or(Bound::Excluded(vec![layout::PROFILES[0] + 1]), |key| Bound::Included(last_chunk(key)));
    let profile = |item: sled::Result<(sled::IVec, sled::IVec)>| {
        let (chunk, _) = match item {
            Ok(item) => item,
            Err(error) => return Some(Err(error)),
        };
        let (key, [0]) = chunk.split_last_chunk::<1>()? else { return None };
        key.last_chunk().map(|key| Ok(ProfileKey::from_bytes(*key)))
    };
    let mut failed = false;
    // sled returns the same error for ever.
    db.range((from, to)).filter_map(profile).take_while(move |key| !std::mem::replace(&mut failed, key.is_err()))
}

fn encode(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("it has text keys only")
}

impl Writer<'_> {
    fn known(&mut self) -> Result<Option<Known>, Failure> {
        self.apply_staged()?;
        let Some((rules, _)) = self.read_as(layout::KNOWN_RULES)? else { return Ok(None) };
        let mut known = Known { rules, mappings: BTreeMap::new() };
        for key in self.keys_of(layout::KNOWN_MAPPINGS)? {
            let name = String::from_utf8_lossy(&key[layout::KNOWN_MAPPINGS.len()..]).parse();
            if let (Ok(name), Some((mapping, _))) = (name, self.read_as::<KnownMapping>(&key)?) {
                known.mappings.insert(name, mapping);
            }
        }
        Ok(Some(known))
    }

    fn learn(&mut self, Known { rules, mappings }: &Known, walks: &[Walk]) -> Result<(), Failure> {
        self.apply_staged()?;
        let mut records = BTreeMap::from([(layout::KNOWN_RULES.to_vec(), encode(rules))]);
        records.extend(mappings.iter().map(|(id, mapping)| (layout::known_mapping(id), encode(mapping))));
        let gone = self.keys_of(layout::KNOWN_MAPPINGS)?.into_iter().filter(|key| !records.contains_key(key));
        let mut before = BTreeMap::new();
        for key in gone.chain(records.keys().cloned()).collect::<Vec<_>>() {
            before.insert(key.clone(), self.read(&key)?);
        }
        // All is read: putting a damaged record aside applies what was staged, and this is to be one commit.
        for (key, before) in before {
            let length = before.as_ref().map(|record| record.length);
            match records.get(&key) {
                None => self.remove(&key, length),
                Some(now) if before.as_ref().is_some_and(|record| record.payload == *now) => {}
                Some(now) => drop(self.put(&key, &[now], length)),
            }
        }
        for walk in walks {
            self.keep_walk(walk, None);
        }
        Ok(())
    }

    fn walks(&mut self) -> Result<Vec<Walk>, Failure> {
        self.apply_staged()?;
        let mut walks: Vec<Walk> = Vec::new();
        for key in self.keys_of(layout::WALKS)? {
            walks.extend(self.read_as(&key)?.map(|(walk, _)| walk));
        }
        walks.sort_by_key(Walk::turn);
        Ok(walks)
    }

    fn walk(&mut self, id: WalkId) -> Result<Option<(Walk, usize)>, Failure> {
        self.apply_staged()?;
        self.read_as(&layout::walk_record(&id))
    }

    /// Stages where a walk stands, and returns the record's length. `length` is that of the record before.
    fn keep_walk(&mut self, walk: &Walk, length: Option<usize>) -> usize {
        self.put(&layout::walk_record(&walk.id), &[&encode(walk)], length)
    }

    fn cancel(&mut self, id: WalkId, why: String, now: Timestamp) -> Result<Option<Walk>, Failure> {
        let Some((mut walk, length)) = self.walk(id)? else { return Ok(None) };
        if walk.is_owed() {
            walk.end = Some(End { at: now, cancelled: Some(why) });
            self.keep_walk(&walk, Some(length));
            self.drop_old_walks()?;
        }
        Ok(Some(walk))
    }

    fn walk_on(
        &mut self,
        id: WalkId,
        most: usize,
        room: &BTreeMap<DestinationId, usize>,
        now: Timestamp,
        mut review: impl FnMut(&Errand, &[u8]) -> Option<Change>,
    ) -> Result<Option<Step>, Failure> {
        let Some((mut walk, mut length)) = self.walk(id)? else { return Ok(None) };
        let mut made: BTreeMap<DestinationId, usize> = BTreeMap::new();
        if !walk.is_owed() {
            return Ok(Some(Step { walk, made }));
        }
        let Began { until, .. } = match walk.began {
            Some(began) => began,
            None => *walk.began.insert(Began { at: now, until: self.last_profile()?, total: self.meta.profiles }),
        };
        let page: Vec<ProfileKey> = match until {
            Some(_) => keys(&self.db, walk.cursor, until).take(most).collect::<Result<_, _>>()?,
            None => Vec::new(),
        };
        let mut records = Vec::with_capacity(page.len());
        for key in page {
            // One that is damaged is put aside by a commit of its own.
            records.push((key, self.read(&layout::profile(&key))?));
        }
        let is_last = records.len() < most;
        let (mut is_cut, mut deciding) = (false, Duration::ZERO);
        for (key, record) in records {
            if deciding >= DECIDED_WITHIN {
                is_cut = true;
                break;
            }
            walk.visited += 1;
            walk.cursor = Some(key);
            let Some(record) = record else { continue };
            let began = Instant::now();
            let change = review(&walk.errand, &record.payload);
            deciding += began.elapsed();
            let Some(change) = change else { continue };
            self.count_members(&change.members)?;
            for export in &change.exports {
                *made.entry(export.destination.clone()).or_default() += 1;
            }
            walk.made += change.exports.len() as u64;
            self.stage(change, Links::new(), &Lengths::from([(key, record.length)]))?;
            length = self.keep_walk(&walk, Some(length));
            if self.slice.operations >= SLICE_OPERATIONS_MAX {
                self.apply()?;
            }
            if room.iter().any(|(id, room)| made.get(id).is_some_and(|made| made >= room)) {
                is_cut = true;
                break;
            }
        }
        if is_last && !is_cut {
            walk.end = Some(End { at: now, cancelled: None });
        }
        self.keep_walk(&walk, Some(length));
        if !walk.is_owed() {
            self.drop_old_walks()?;
        }
        Ok(Some(Step { walk, made }))
    }

    fn last_profile(&self) -> Result<Option<ProfileKey>, Failure> {
        let last = self.db.scan_prefix(layout::PROFILES).next_back().transpose()?;
        let key = last.and_then(|(chunk, _)| chunk.split_last_chunk::<1>()?.0.last_chunk().copied());
        Ok(key.map(ProfileKey::from_bytes))
    }

    /// Lets go of the oldest walks that have ended, beyond those that are kept.
    fn drop_old_walks(&mut self) -> Result<(), Failure> {
        let mut ended = self.walks()?;
        ended.retain(|walk| !walk.is_owed());
        for walk in ended.iter().rev().skip(ENDED_MAX) {
            let key = layout::walk_record(&walk.id);
            let length = self.read(&key)?.map(|record| record.length);
            self.remove(&key, length);
        }
        Ok(())
    }

    /// The keys of the records that begin so. There are few.
    fn keys_of(&self, prefix: &[u8]) -> Result<Vec<Vec<u8>>, Failure> {
        let mut keys = Vec::new();
        for item in self.db.scan_prefix(prefix) {
            let (chunk, _) = item?;
            if let Some((key, [0])) = chunk.split_last_chunk::<1>() {
                keys.push(key.to_vec());
            }
        }
        Ok(keys)
    }

    /// Reads a record of JSON, with its stored length; one that is none counts as absent.
    fn read_as<T: DeserializeOwned>(&mut self, key: &[u8]) -> Result<Option<(T, usize)>, Failure> {
        let record = self.read(key)?;
        Ok(record.and_then(|record| Some((serde_json::from_slice(&record.payload).ok()?, record.length))))
    }
}
