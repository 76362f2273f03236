//! Receipts: what was delivered, to whom, when. They tell what a profile's receivers have, and which dead letters are
//! overtaken.
//!
//! A receipt has at most 100 bytes, and costs next to nothing: those of one slice are one record, under `r` and the number
//! of the commit. Records go again, a few with each commit, once all of their receipts are older than they are kept, or there
//! are too many. Time is that of the updates and deliveries which are committed: while nothing comes, nothing goes.
//!
//! Of a delivery without a receipt the destination's entry in the counters keeps the export's number, if it is the highest:
//! above it the receipts are all there.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::{
    Store, StoreError,
    frozen::encode,
    layout,
    meta::Meta,
    record::{self, Unreadable},
    writer::{Failure, Writer},
};
use crate::{
    clock::Timestamp,
    destination::DestinationId,
    export::{Attempt, ExportId, Outcome},
    profile::ProfileKey,
};

/// Old records that are removed with one commit, which adds one at most: enough to catch up, and nothing one waits for.
const SWEPT_MAX: usize = 4;

/// How long receipts are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipts {
    /// So long; zero: there are none.
    pub kept: Duration,
    /// And no more than about so many: a week at full speed must not fill the disk.
    pub count_max: u64,
}

impl Default for Receipts {
    fn default() -> Self {
        Self { kept: Duration::from_secs(7 * 24 * 3600), count_max: 1_000_000 }
    }
}

/// A delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Who took it.
    pub destination: DestinationId,
    /// The export's number: its age among all.
    pub number: u64,
    /// The export's id.
    pub export: ExportId,
    /// Whose it was, as the profile was called when it was made.
    pub profile: ProfileKey,
    /// When the answer came.
    pub delivered_at: Timestamp,
    /// Its status.
    pub status: u16,
}

/// A receipt as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Packed {
    destination: u32,
    number: u64,
    profile: ProfileKey,
    export: ExportId,
    at: Timestamp,
    status: u16,
}

/// What the writer knows of the oldest receipts.
#[derive(Default)]
pub(super) struct Sweep {
    /// When what is being committed happened.
    pub(super) now: Timestamp,
    /// The oldest record, once it was read.
    oldest: Option<Oldest>,
}

struct Oldest {
    commit: u64,
    length: usize,
    youngest: Timestamp,
    receipts: Vec<Packed>,
}

impl Store {
    /// The receipts of a profile with these lines, oldest first. It reads all receipts that there are, from disk: not for
    /// the runtime's threads.
    ///
    /// # Errors
    /// [`StoreError::Failed`] when the disk cannot be read.
    pub fn receipts(&self, lines: &[ProfileKey]) -> Result<Vec<Receipt>, StoreError> {
        self.some_receipts(usize::MAX, |packed| lines.contains(&packed.profile))
    }

    /// The receipt of an export, if there is one still. Reads as [`Store::receipts`] does.
    ///
    /// # Errors
    /// As [`Store::receipts`].
    pub fn receipt(&self, export: ExportId) -> Result<Option<Receipt>, StoreError> {
        Ok(self.some_receipts(1, |packed| packed.export == export)?.pop())
    }

    fn some_receipts(&self, most: usize, wanted: impl Fn(&Packed) -> bool) -> Result<Vec<Receipt>, StoreError> {
        let names: BTreeMap<u32, DestinationId> =
            self.queues().into_iter().map(|(id, queue)| (queue.destination(), id)).collect();
        let named = |packed: Packed| {
            let Packed { destination, number, profile, export, at: delivered_at, status } = packed;
            let destination = names.get(&destination)?.clone();
            Some(Receipt { destination, number, export, profile, delivered_at, status })
        };
        self.read(|db| {
            let mut found = Vec::new();
            for item in walk(db, 0) {
                let (_, _, receipts) = item?;
                found.extend(receipts.unwrap_or_default().into_iter().filter(&wanted).filter_map(named));
                if found.len() >= most {
                    break;
                }
            }
            Ok(found)
        })
    }

    /// The commits whose receipts are of one of these lines.
    pub(super) fn commits_of(&self, lines: &[ProfileKey]) -> Result<Vec<u64>, StoreError> {
        let of_lines = |receipts: Vec<Packed>| receipts.iter().any(|packed| lines.contains(&packed.profile));
        self.read(|db| {
            let theirs = walk(db, 0).filter_map(|item| match item {
                Ok((commit, _, receipts)) => receipts.is_some_and(of_lines).then_some(Ok(commit)),
                Err(error) => Some(Err(error)),
            });
            theirs.collect()
        })
    }
}

/// What receipts say of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Delivered,
    NotDelivered,
    /// Some cannot be read.
    Uncertain,
}

/// Whether something younger than export `after` was delivered for one of these lines, by the receipts from commit `from` on.
pub(super) fn is_delivered(
    db: &sled::Tree,
    destination: u32,
    lines: &[ProfileKey],
    after: u64,
    from: u64,
) -> sled::Result<Said> {
    let mut said = Said::NotDelivered;
    let younger =
        |packed: &Packed| packed.destination == destination && packed.number > after && lines.contains(&packed.profile);
    for item in walk(db, from) {
        match item? {
            (_, _, Some(receipts)) if receipts.iter().any(younger) => return Ok(Said::Delivered),
            (_, _, Some(_)) => {}
            (_, _, None) => said = Said::Uncertain,
        }
    }
    Ok(said)
}

/// How many receipts a record holds.
pub(super) fn count(payload: &[u8]) -> u64 {
    postcard::from_bytes::<Vec<Packed>>(payload).map_or(0, |receipts| receipts.len() as u64)
}

/// The records from commit `from` on: commit, stored length, and receipts where they can be read.
fn walk(db: &sled::Tree, from: u64) -> impl Iterator<Item = sled::Result<(u64, usize, Option<Vec<Packed>>)>> {
    let mut last = layout::receipts(u64::MAX);
    last.push(u8::MAX);
    let (db, items) = (db.clone(), db.range(layout::receipts(from)..=last).fuse());
    items.filter_map(move |item| {
        let (key, first) = match item {
            Ok(item) => item,
            Err(error) => return Some(Err(error)),
        };
        let (key, chunk) = key.split_at(key.len() - 1);
        let commit = key.last_chunk().copied().map(u64::from_be_bytes).filter(|_| chunk == [0])?;
        let read = match record::assemble(&db, key, &first) {
            // It may be written anew between one chunk and the next.
            Err(Unreadable::Damaged) => record::read(&db, key).and_then(|read| read.ok_or(Unreadable::Damaged)),
            read => read,
        };
        match read {
            Ok(record) => Some(Ok((commit, record.length, postcard::from_bytes(&record.payload).ok()))),
            Err(Unreadable::Damaged) => Some(Ok((commit, 0, None))),
            Err(Unreadable::Failed(error)) => Some(Err(error)),
        }
    })
}

impl Meta {
    /// From here on any receipt may be missing.
    pub(super) fn forget_receipts(&mut self) {
        let last_number = self.last_number;
        self.destinations.values_mut().for_each(|entry| entry.without_receipt = last_number);
    }
}

impl Writer<'_> {
    /// Makes the receipt of a delivery.
    pub(super) fn receive(
        &mut self,
        destination: u32,
        number: u64,
        export: ExportId,
        profile: Option<ProfileKey>,
        attempt: &Attempt,
    ) {
        let Attempt { at, outcome, answer: _ } = attempt;
        self.sweep.now = *at;
        match (profile, outcome) {
            (Some(profile), Outcome::Delivered(status)) if !self.shared.receipts.kept.is_zero() => {
                let status = *status;
                self.slice.receipts.push(Packed { destination, number, profile, export, at: *at, status });
            }
            _ => self.lacks_receipt(destination, number),
        }
    }

    fn lacks_receipt(&mut self, destination: u32, number: u64) {
        self.count(destination, |counted| counted.without_receipt = counted.without_receipt.max(number));
    }

    /// Stages the receipts of the slice, and the removal of some that are too old or too many.
    pub(super) fn keep_receipts(&mut self) -> Result<(), Failure> {
        let receipts = std::mem::take(&mut self.slice.receipts);
        let staged = receipts.len() as u64;
        if !receipts.is_empty() {
            self.meta.receipts += staged;
            self.put(&layout::receipts(self.meta.commit + 1), &[&encode(&receipts)], None);
        }
        if std::mem::take(&mut self.slice.rewrites_receipts) {
            // What would be read is not what will be there.
            return Ok(());
        }
        let Receipts { kept, count_max } = self.shared.receipts;
        for _ in 0..SWEPT_MAX {
            let Some(oldest) = self.oldest_receipts(staged)? else { break };
            if self.meta.receipts <= count_max && oldest.youngest + kept >= self.sweep.now && !kept.is_zero() {
                self.sweep.oldest = Some(oldest);
                break;
            }
            let Oldest { commit, length, receipts, .. } = oldest;
            self.remove(&layout::receipts(commit), Some(length));
            self.meta.receipts_from = commit + 1;
            self.meta.receipts = self.meta.receipts.saturating_sub(receipts.len() as u64);
            receipts.iter().for_each(|gone| self.lacks_receipt(gone.destination, gone.number));
        }
        Ok(())
    }

    /// The oldest record that is applied; one that is damaged is put aside. So many receipts are staged.
    fn oldest_receipts(&mut self, staged: u64) -> Result<Option<Oldest>, Failure> {
        if let Some(oldest) = self.sweep.oldest.take() {
            return Ok(Some(oldest));
        }
        if self.meta.receipts == 0 {
            return Ok(None);
        }
        let Some((commit, length, receipts)) = walk(&self.db, self.meta.receipts_from).next().transpose()? else {
            return Ok(None);
        };
        if let Some(receipts) = receipts {
            let youngest = receipts.iter().map(|packed| packed.at).max().unwrap_or_default();
            return Ok(Some(Oldest { commit, length, youngest, receipts }));
        }
        warn!(commit, "receipts failed their checksum and were put aside");
        let key = layout::receipts(commit);
        let moved = record::move_away(&self.db, &mut self.slice.batch, &key, &layout::quarantined(&key))?;
        self.staged(moved);
        self.meta.quarantined += 1;
        self.meta.receipts_from = commit + 1;
        self.meta.receipts = staged;
        for item in walk(&self.db, commit + 1) {
            self.meta.receipts += item?.2.map_or(0, |receipts| receipts.len() as u64);
        }
        self.meta.forget_receipts();
        Ok(None)
    }

    /// Removes the receipts of these lines from the records of these commits; says how many there were.
    pub(super) fn remove_receipts(&mut self, commits: &[u64], lines: &[ProfileKey]) -> Result<u64, Failure> {
        self.apply_staged()?;
        self.sweep.oldest = None;
        let mut removed = 0;
        for commit in commits {
            let key = layout::receipts(*commit);
            let record = match record::read(&self.db, &key) {
                Ok(Some(record)) => record,
                // Gone meanwhile; or put aside when it is the oldest.
                Ok(None) | Err(Unreadable::Damaged) => continue,
                Err(Unreadable::Failed(error)) => return Err(error.into()),
            };
            let Ok(mut receipts) = postcard::from_bytes::<Vec<Packed>>(&record.payload) else { continue };
            self.slice.rewrites_receipts = true;
            let before = receipts.len();
            receipts.retain(|packed| !lines.contains(&packed.profile));
            removed += (before - receipts.len()) as u64;
            match receipts.is_empty() {
                true => self.remove(&key, Some(record.length)),
                false => drop(self.put(&key, &[&encode(&receipts)], Some(record.length))),
            }
        }
        self.meta.receipts = self.meta.receipts.saturating_sub(removed);
        Ok(removed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::update::UpdateId;

    #[test]
    fn receipt_takes_less_than_a_hundred_bytes() {
        let (at, update) = (Timestamp::from_millis(i64::MAX / 2), UpdateId::new(Timestamp::from_millis(0)));
        let export = ExportId::of(update, at, &"crm".parse().unwrap());
        let packed =
            Packed { destination: u32::MAX, number: u64::MAX, profile: update.into(), export, at, status: u16::MAX };
        assert!(encode(&packed).len() < 100);
    }
}
