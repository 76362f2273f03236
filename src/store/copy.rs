//! A fresh store with all that reads well of another: for compaction, backup, mending and salvage.

use std::collections::BTreeSet;

use sled::Batch;

use super::{
    StoreError,
    files::Files,
    flush::Flusher,
    frozen::Frozen,
    head, layout,
    meta::{Entry, Meta},
    record::{self, Record},
    survey::{Damaged, Met, Reach, Share, Survey},
};
use crate::{
    clock::Timestamp,
    export::{Cause, DeadLetter, Export},
    walk::{End, Errand, Walk},
};

/// Operations in one batch; see the writer.
const OPERATIONS_MAX: usize = 100;
/// Batches between two flushes: sled holds in memory what is not flushed.
const BATCHES: u32 = 64;

/// What is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// All of it; records that fail their checksum go to quarantine. Counters that do not agree with what there is, damaged
    /// or not, are an error: something is missing.
    Whole,
    /// What reads; the counters are made to agree.
    WhatReads,
    /// The same of a store that fell back to an older state: what waited then may have been delivered since, so it becomes
    /// dead letters at this instant, for a person to look at, and backfills end. An older state never goes out after a newer one.
    Older(Timestamp),
}

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoCopy {
    #[error("{0}")]
    Sled(#[from] sled::Error),
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
    #[error("{0}")]
    Differs(String),
}

impl NoCopy {
    pub(super) fn of(self, files: &Files) -> StoreError {
        match self {
            Self::Sled(error) => files.failed(error),
            Self::Thread(error) => files.error(error),
            Self::Differs(how) => files.damaged(&how),
        }
    }
}

/// Copies the records of `from`, which stands in `source`, beside the store in `files`, to be swapped in; a copy that fails
/// leaves nothing behind.
pub(super) fn copy_beside(
    from: &sled::Db,
    source: &Files,
    files: &Files,
    mode: Mode,
    progress: &mut dyn FnMut(u64),
) -> Result<(Survey, Meta), StoreError> {
    let abandon = Abandon(Some(files));
    let copied = copy(from, &files.open_copy()?, mode, progress);
    let copied = copied.map_err(|error| error.of(source))?;
    abandon.keep();
    Ok(copied)
}

/// Removes a copy unless it is kept, also when sled panics.
struct Abandon<'f>(Option<&'f Files>);

impl Abandon<'_> {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Abandon<'_> {
    fn drop(&mut self) {
        if let Some(files) = self.0 {
            files.abandon_copy();
        }
    }
}

/// Copies the records of `from` into `to`, which is empty, and flushes it. `progress` hears of the bytes written so far.
/// Returns what there was, and the counters of the copy.
fn copy(from: &sled::Db, to: &sled::Db, mode: Mode, progress: &mut dyn FnMut(u64)) -> Result<(Survey, Meta), NoCopy> {
    let reach = match mode {
        Mode::Whole => Reach::ToTheFirstFault,
        Mode::WhatReads | Mode::Older(_) => Reach::AroundFaults,
    };
    let flusher = Flusher::new(to)?;
    let mut copy = Copy { to, flusher, batch: Batch::default(), operations: 0, batches: 0, written: 0 };
    let (mut set_aside, mut copied_chunks) = (0, 0);
    let survey = Survey::of(from, reach, &mut |key, met| {
        match met {
            Met::Record(_) if key == layout::META => return Ok(()),
            // Without it an export more may wait; with one that is older than what waits, exports would go out of order.
            Met::Record(_) | Met::Damaged if key[0] == layout::PLACES[0] && mode != Mode::Whole => return Ok(()),
            // Mappings made since are not in it, and would owe backfills of the older state: nothing is known then.
            Met::Record(_) | Met::Damaged if key[0] == layout::KNOWN_RULES[0] && matches!(mode, Mode::Older(_)) => {
                return Ok(());
            }
            Met::Record(payload) => {
                let (letter, walk) = match mode {
                    Mode::Older(now) => (letter(key, payload, now), ended_backfill(key, payload, now)),
                    Mode::Whole | Mode::WhatReads => (None, None),
                };
                let payload = walk.as_deref().unwrap_or(payload);
                let staged = match &letter {
                    Some((key, letter, frozen)) => {
                        record::put(&mut copy.batch, key, &[letter, frozen.as_bytes()], None)
                    }
                    None => record::put(&mut copy.batch, key, &[payload], None),
                };
                // Batches and standings are not counted as live.
                copy.written += if matches!(key[0], b'b' | b'g') { 0 } else { staged.bytes };
                copy.operations += staged.operations;
            }
            Met::Chunk(bytes) => {
                copied_chunks += (key.len() + bytes.len()) as i64;
                copy.batch.insert(key, bytes);
                copy.operations += 1;
            }
            Met::Damaged => {
                let staged = record::copy_away(from, &mut copy.batch, key, &layout::quarantined(key))?;
                copy.operations += staged.operations;
                set_aside += staged.bytes;
            }
        }
        copy.apply_if_full(progress)
    })?;
    let mut meta = agreed(&survey, mode, copy.written + copied_chunks + set_aside)?;
    meta.put(&mut copy.batch);
    copy.apply()?;
    copy.flusher.flush()?;
    Ok((survey, meta))
}

struct Copy<'d> {
    to: &'d sled::Db,
    flusher: Flusher,
    batch: Batch,
    operations: usize,
    batches: u32,
    written: i64,
}

impl Copy<'_> {
    fn apply_if_full(&mut self, progress: &mut dyn FnMut(u64)) -> Result<(), NoCopy> {
        if self.operations >= OPERATIONS_MAX {
            self.apply()?;
            progress(u64::try_from(self.written).unwrap_or_default());
        }
        Ok(())
    }

    fn apply(&mut self) -> Result<(), NoCopy> {
        self.operations = 0;
        self.to.apply_batch(std::mem::take(&mut self.batch))?;
        self.batches += 1;
        if self.batches.is_multiple_of(BATCHES) {
            self.flusher.flush()?;
        }
        Ok(())
    }
}

/// A waiting export as the record of a dead letter.
fn letter(key: &[u8], payload: &[u8], now: Timestamp) -> Option<(Vec<u8>, Vec<u8>, Frozen)> {
    let key = layout::letter_of(key)?;
    let record = Record { payload: payload.to_vec(), length: 0 };
    let (export, frozen) = Frozen::part::<Export>(record)?;
    let letter = DeadLetter { export, at: now, cause: Cause::Salvaged };
    Some((key, head::encode(&letter), frozen))
}

/// The record of a backfill that is owed, ended: what it would export may be older than what was delivered since.
fn ended_backfill(key: &[u8], payload: &[u8], now: Timestamp) -> Option<Vec<u8>> {
    let mut walk: Walk = serde_json::from_slice(payload).ok().filter(|_| key.starts_with(layout::WALKS))?;
    if !walk.is_owed() || walk.errand == Errand::Evaluate {
        return None;
    }
    walk.end = Some(End { at: now, cancelled: Some("the store fell back to an older state".to_owned()) });
    Some(serde_json::to_vec(&walk).expect("a walk has text keys only"))
}

/// The counters of the copy: those of the store, as far as they agree with what there is.
fn agreed(survey: &Survey, mode: Mode, live_bytes: i64) -> Result<Meta, NoCopy> {
    let mut meta = match (&survey.meta, mode) {
        (Some(meta), _) => meta.clone(),
        (None, Mode::WhatReads | Mode::Older(_)) => Meta::default(),
        (None, Mode::Whole) => return Err(NoCopy::Differs("its counters are gone".to_owned())),
    };
    if mode == Mode::Whole {
        // What is damaged excuses itself, and nothing that is missing besides.
        let missing = survey.differences(&meta, Damaged::Counted);
        if !missing.is_empty() {
            return Err(NoCopy::Differs(missing.join("; ")));
        }
    }
    let differences = survey.differences(&meta, Damaged::Gone);
    // Its own count is as good as any, and no reason to refuse a copy.
    meta.live_bytes = live_bytes;
    meta.quarantined += survey.damaged;
    if mode != Mode::Whole {
        meta.destinations.values_mut().for_each(|entry| (entry.placed_from, entry.placed_to) = (0, 0));
    }
    let is_older = matches!(mode, Mode::Older(_));
    if differences.is_empty() && !is_older {
        return Ok(meta);
    }
    meta.profiles = survey.profiles;
    meta.receipts = survey.receipts;
    meta.last_profile = None;
    meta.last_number = meta.last_number.max(survey.last_number);
    let next = meta.last_number + 1;
    let (nothing, counted) = (Share::default(), meta.destinations.values().map(|entry| entry.number));
    let numbers: BTreeSet<u32> = counted.chain(survey.destinations.keys().copied()).collect();
    for number in &numbers {
        let share = survey.destinations.get(number).unwrap_or(&nothing);
        if meta.entry_numbered(*number).is_none() {
            let name = share.name.clone().unwrap_or_else(|| format!("salvaged-{number}"));
            let entry = Entry { number: *number, ..Entry::default() };
            drop(name.parse().map(|name| meta.destinations.insert(name, entry)));
        }
        if let Some(entry) = meta.entry_numbered(*number) {
            let (waiting, dead) = if is_older { (0, share.dead + share.waiting) } else { (share.waiting, share.dead) };
            let there = entry.delivered
                + dead
                + waiting
                + entry.dropped
                + entry.redriven
                + entry.moot
                + entry.skipped
                + entry.superseded;
            entry.dead += dead.saturating_sub(entry.letters);
            (entry.waiting, entry.letters) = (waiting, dead);
            entry.made = entry.made.max(there);
            entry.damaged = entry.made - there;
            entry.low_water = share.oldest.filter(|_| !is_older).unwrap_or(next);
        }
    }
    // What was delivered and left no trace may be anything.
    meta.forget_receipts();
    Ok(meta)
}
