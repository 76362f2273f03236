//! A fresh store with all that reads well of another: for compaction, backup, mending and salvage.

use sled::Batch;

use super::{
    StoreError,
    files::Files,
    layout,
    meta::{Entry, Meta},
    record,
    survey::{Met, Reach, Survey},
};

/// Operations in one batch; see the writer.
const OPERATIONS_MAX: usize = 100;
/// Batches between two flushes: sled holds in memory what is not flushed.
const BATCHES: u32 = 64;

/// What is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// All of it; records that fail their checksum go to quarantine. Counters that do not agree with what there is are an
    /// error: something is missing.
    Whole,
    /// What reads; the counters are made to agree.
    WhatReads,
}

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoCopy {
    #[error("{0}")]
    Sled(#[from] sled::Error),
    #[error("{0}")]
    Differs(String),
}

impl NoCopy {
    pub(super) fn of(self, files: &Files) -> StoreError {
        match self {
            Self::Sled(error) => files.failed(error),
            Self::Differs(how) => files.damaged(&how),
        }
    }
}

/// Copies the records of `from` into `to`, which is empty, and flushes it. `progress` hears of the bytes written so far.
/// Returns what there was, and the counters of the copy.
pub(super) fn copy(
    from: &sled::Db,
    to: &sled::Db,
    mode: Mode,
    progress: &mut dyn FnMut(u64),
) -> Result<(Survey, Meta), NoCopy> {
    let reach = match mode {
        Mode::Whole => Reach::ToTheFirstFault,
        Mode::WhatReads => Reach::AroundFaults,
    };
    let mut copy = Copy { to, batch: Batch::default(), operations: 0, batches: 0, written: 0 };
    let mut set_aside = 0;
    let survey = Survey::of(from, reach, &mut |key, met| {
        match met {
            Met::Record(_) if key == layout::META => return Ok(()),
            Met::Record(payload) => {
                let staged = record::put(&mut copy.batch, key, &[payload], None);
                copy.written += staged.bytes;
                copy.operations += staged.operations;
            }
            Met::Chunk(bytes) => {
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
    let mut meta = agreed(&survey, mode, set_aside)?;
    meta.put(&mut copy.batch);
    copy.apply()?;
    to.flush()?;
    Ok((survey, meta))
}

struct Copy<'d> {
    to: &'d sled::Db,
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
            self.to.flush()?;
        }
        Ok(())
    }
}

/// The counters of the copy: those of the store, as far as they agree with what there is.
fn agreed(survey: &Survey, mode: Mode, set_aside: i64) -> Result<Meta, NoCopy> {
    let mut meta = match (&survey.meta, mode) {
        (Some(meta), _) => meta.clone(),
        (None, Mode::WhatReads) => Meta::default(),
        (None, Mode::Whole) => return Err(NoCopy::Differs("its counters are gone".to_owned())),
    };
    let differences = survey.differences(&meta);
    if differences.is_empty() {
        return Ok(meta);
    }
    if mode == Mode::Whole && survey.damaged == 0 {
        return Err(NoCopy::Differs(differences.join("; ")));
    }
    meta.quarantined += survey.damaged;
    meta.profiles = survey.profiles;
    meta.last_profile = None;
    meta.live_bytes = survey.live_bytes + set_aside;
    meta.last_number = meta.last_number.max(survey.last_number);
    let next = meta.last_number + 1;
    for (number, share) in &survey.destinations {
        if meta.entry_numbered(*number).is_none() {
            let name = share.name.clone().unwrap_or_else(|| format!("salvaged-{number}"));
            let entry = Entry { number: *number, ..Entry::default() };
            drop(name.parse().map(|name| meta.destinations.insert(name, entry)));
        }
        if let Some(entry) = meta.entry_numbered(*number) {
            entry.dead = share.dead;
            let ended = entry.delivered + share.dead + share.waiting;
            entry.made = entry.made.max(ended);
            entry.damaged = entry.made - ended;
            entry.low_water = share.oldest.unwrap_or(next);
        }
    }
    Ok(meta)
}
