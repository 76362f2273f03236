//! Opening: what must be true of a store before it is used.

use std::fs::File;

use sled::Batch;

use super::{
    StoreError,
    batch::AllKept,
    files::{Files, Mark},
    flush::Flusher,
    layout::{self, Table},
    meta::Meta,
    record::{self, Unreadable},
    tally,
};
use crate::{destination::DestinationId, export::Export};

/// Waiting exports of a destination that are looked for: enough to see that they are there, in no time.
const SAMPLE: u64 = 1000;

/// An open database.
pub(super) struct Opened {
    pub(super) db: sled::Db,
    /// Its file, to be synced after sled's flush.
    pub(super) file: File,
    pub(super) meta: Meta,
    /// What stays together.
    pub(super) kept: AllKept,
}

/// Opens the store and looks whether it is all there: sled can open, without an error, with less than was written.
///
/// # Errors
/// [`StoreError::Damaged`] when something is missing that was there, and what opening meets.
pub(super) fn open(files: &Files) -> Result<Opened, StoreError> {
    let db = files.open()?;
    let meta = match Meta::read(&db) {
        Ok(Some(meta)) => meta,
        Ok(None) if files.is_new() => Meta::default(),
        Ok(None) => return Err(files.damaged("its counters are gone")),
        Err(Unreadable::Damaged) => return Err(files.damaged("its counters fail their checksum")),
        Err(Unreadable::Failed(error)) => return Err(files.failed(error)),
    };
    // What a killed process left may be in the page cache alone, and is taken for synced from here on.
    let file = files.database()?;
    file.sync_data().map_err(|source| files.error(source))?;
    let Mark { commit: marked, .. } = files.read_mark();
    if meta.commit < marked {
        let found = meta.commit;
        return Err(files.damaged(&format!("it ends at commit {found}, and {marked} was on disk")));
    }
    sample(&db, &meta).map_err(|error| match error {
        Missing::Of(what) => files.damaged(&what),
        Missing::Failed(error) => files.failed(error),
    })?;
    let kept = AllKept::read(&db).map_err(|error| files.failed(error))?;
    Ok(Opened { db, file, meta, kept })
}

impl Opened {
    /// Counts the members of each audience, where an older version wrote the store, and flushes. It reads every profile.
    pub(super) fn count_members(&mut self) -> sled::Result<()> {
        if !std::mem::take(&mut self.meta.lacks_members) {
            return Ok(());
        }
        let mut batch = Batch::default();
        for (name, count) in tally::of_all(&self.db)? {
            self.meta.live_bytes += tally::stage(&mut batch, &name, count).bytes;
        }
        self.meta.put(&mut batch);
        self.db.apply_batch(batch)?;
        Flusher::new(&self.db)?.flush()
    }

    /// Gives each destination that is new its number, removes what says nothing any more, and flushes.
    pub(super) fn introduce(&mut self, destinations: &[DestinationId]) -> sled::Result<()> {
        let mut batch = Batch::default();
        for destination in destinations {
            if self.meta.destinations.contains_key(destination) {
                continue;
            }
            let number = self.meta.number_of(destination);
            let staged = record::put(&mut batch, &layout::name(number), &[destination.as_str().as_bytes()], None);
            self.meta.live_bytes += staged.bytes;
        }
        for chunk in std::mem::take(&mut self.kept.stale) {
            batch.remove(chunk);
        }
        self.meta.put(&mut batch);
        self.db.apply_batch(batch)?;
        Flusher::new(&self.db)?.flush()
    }
}

enum Missing {
    Of(String),
    Failed(sled::Error),
}

/// Looks for the profile written last, and for the oldest waiting exports of each destination. A record that is there and
/// fails its checksum is dealt with when it is met.
fn sample(db: &sled::Db, meta: &Meta) -> Result<(), Missing> {
    if let Some(key) = meta.last_profile
        && !record::is_there(db, &layout::profile(&key)).map_err(Missing::Failed)?
    {
        return Err(Missing::Of("the profile that was written last is gone".to_owned()));
    }
    for (destination, entry) in meta.destinations() {
        let expected = entry.waiting.min(SAMPLE);
        let waiting = layout::walk::<Export>(db, Table::Schedule, entry.number, entry.low_water, u64::MAX);
        let mut found = 0;
        for item in waiting.take(usize::try_from(expected).expect("a sample is small")) {
            item.map_err(Missing::Failed)?;
            found += 1;
        }
        if found < expected {
            return Err(Missing::Of(format!("exports of {destination} are gone: {found} of {expected} were found")));
        }
    }
    Ok(())
}
