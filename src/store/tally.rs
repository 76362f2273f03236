//! How many profiles are in each audience, kept in the commits that change it. The store knows audiences by name alone.

use std::collections::BTreeMap;

use sled::Batch;

use super::{
    Store, StoreError,
    layout::{self, MEMBERS},
    record::{self, Staged},
    writer::{Failure, Writer},
};
use crate::profile::Profile;

/// By name: what a commit adds to each count.
pub type Tally = BTreeMap<String, i64>;

const LENGTH: usize = size_of::<u64>();

impl Store {
    /// How many profiles are in each audience, by name. Reads from disk: not for the runtime's threads.
    ///
    /// # Errors
    /// [`StoreError::Failed`] when the disk cannot be read.
    pub fn members(&self) -> Result<BTreeMap<String, u64>, StoreError> {
        self.read(|db| {
            let count = |item: sled::Result<(sled::IVec, sled::IVec)>| {
                let (chunk, first) = item?;
                let Some((key, [0])) = chunk.split_last_chunk::<1>() else { return Ok(None) };
                let name = String::from_utf8_lossy(&key[MEMBERS.len()..]).into_owned();
                // A damaged one is put aside when it is next written.
                let count = record::assemble(db, key, &first).ok().and_then(|record| record.payload.try_into().ok());
                Ok(count.map(|count| (name, u64::from_le_bytes(count))))
            };
            db.scan_prefix(MEMBERS).filter_map(|item| count(item).transpose()).collect()
        })
    }
}

/// How many are in each audience, by the profiles themselves.
pub(super) fn of_all(db: &sled::Tree) -> sled::Result<BTreeMap<String, u64>> {
    let mut counts = BTreeMap::new();
    for item in db.scan_prefix(layout::PROFILES) {
        let (chunk, first) = item?;
        let Some((key, [0])) = chunk.split_last_chunk::<1>() else { continue };
        // A damaged one is in none.
        let record = record::assemble(db, key, &first).ok();
        let profile = record.and_then(|record| Profile::read(&record.payload));
        let names = profile.iter().flat_map(|profile| profile.memberships.realized());
        names.for_each(|name| *counts.entry(name).or_default() += 1);
    }
    Ok(counts)
}

/// Stages a count that was not there.
pub(super) fn stage(batch: &mut Batch, name: &str, count: u64) -> Staged {
    record::put(batch, &layout::members(name), &[&count.to_le_bytes()], None)
}

impl Writer<'_> {
    /// Stages what an update adds to the counts. To be called before anything else of it is staged.
    pub(super) fn count_members(&mut self, tally: &Tally) -> Result<(), Failure> {
        let mut counts = Vec::with_capacity(tally.len());
        for (name, change) in tally.iter().filter(|(_, change)| **change != 0) {
            let key = layout::members(name);
            let before = match self.members.get(name) {
                Some(count) => Some(*count),
                // Not while anything is staged: a damaged record is put aside by a commit of its own.
                None => self.read(&key)?.and_then(|record| record.payload.try_into().ok()).map(u64::from_le_bytes),
            };
            counts.push((name, key, before, before.unwrap_or_default().saturating_add_signed(*change)));
        }
        for (name, key, before, now) in counts {
            self.put(&key, &[&now.to_le_bytes()], before.map(|_| LENGTH));
            self.members.insert(name.clone(), now);
        }
        Ok(())
    }
}
