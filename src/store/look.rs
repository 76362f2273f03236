//! What an operator looks at while the store runs. All of it reads from disk and blocks: not for the runtime's threads. A
//! failure that is met turns health red, and the store is mended.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use tracing::error;

use super::{
    Queue, Store, StoreError,
    frozen::Frozen,
    head::Head,
    layout::{self, Table},
    live::Health,
    record::{self, Record, Unreadable},
    writer::Command,
};
use crate::{
    clock::Timestamp,
    destination::DestinationId,
    export::{DeadLetter, Export, ExportId},
    profile::{ProfileKey, identity::Identity},
    trigger::Reason,
};

/// Where an export stands: whose it is, and its number, that is its age among all.
pub type Place = (DestinationId, u64);
/// A page of entries by number; `None` for one that is damaged.
pub(super) type Page<T> = Vec<(u64, Option<T>)>;

/// Numbers and times of exports grow together but for this much: updates wait for the writer so long at most, and a clock
/// that is set back further costs a longer search.
const APART_MILLIS: i64 = 5_000;
/// How often a profile is looked for that is joined into another meanwhile.
const LOOKS_MAX: usize = 8;

/// What has become of an export that is still there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It is owed.
    Waiting(Export),
    /// It will not be tried again by itself.
    Dead(DeadLetter),
}

impl State {
    /// The export, as it was last.
    pub fn export(&self) -> &Export {
        match self {
            Self::Waiting(export) => export,
            Self::Dead(letter) => &letter.export,
        }
    }
}

/// All that is known of an export. `Debug` shows no body: it is personal data.
#[derive(Clone)]
pub struct Whole {
    /// What has become of it.
    pub state: State,
    /// Whether somebody holds it at this moment: it is under way, or being dropped.
    pub in_flight: bool,
    /// Why it was made.
    pub reasons: Vec<Reason>,
    /// What is sent.
    pub body: Bytes,
}

impl std::fmt::Debug for Whole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { state, in_flight, reasons, body: _ } = self;
        f.debug_struct("Whole").field("state", state).field("in_flight", in_flight).field("reasons", reasons).finish()
    }
}

impl Store {
    /// A page of a destination's dead letters, oldest first, from number `from` on; `None` for one that is damaged.
    ///
    /// # Errors
    /// [`StoreError::Unknown`], and [`StoreError::Failed`] when the disk cannot be read.
    pub fn dead_letters(
        &self,
        destination: &DestinationId,
        from: u64,
        most: usize,
    ) -> Result<Page<DeadLetter>, StoreError> {
        let queue = self.known(destination)?;
        self.page(Table::Dead, &queue, from, u64::MAX, most)
    }

    /// A page of a destination's waiting exports, oldest first, from number `from` on; `None` for one that is damaged.
    ///
    /// # Errors
    /// As [`Store::dead_letters`].
    pub fn waiting(&self, destination: &DestinationId, from: u64, most: usize) -> Result<Page<Export>, StoreError> {
        let queue = self.known(destination)?;
        self.page(Table::Schedule, &queue, from, queue.synced(), most)
    }

    fn page<T: Head>(
        &self,
        table: Table,
        queue: &Queue,
        from: u64,
        to: u64,
        most: usize,
    ) -> Result<Page<T>, StoreError> {
        let from = from.max(first(table, queue));
        self.read(|db| layout::walk(db, table, queue.destination(), from, to).take(most).collect())
    }

    /// An export that waits or is dead, with its body.
    ///
    /// # Errors
    /// As [`Store::dead_letters`]; [`StoreError::Unreadable`] when its record is damaged.
    pub fn export(&self, destination: &DestinationId, number: u64) -> Result<Option<Whole>, StoreError> {
        let queue = self.known(destination)?;
        // It may become a letter between the two looks; a letter never becomes an export of the same number.
        let waiting = match number <= queue.synced() {
            true => self.entry(Table::Schedule, &queue, number)?,
            false => None,
        };
        let (state, frozen) = match waiting {
            Some((export, frozen)) => (State::Waiting(export), frozen),
            None => match self.entry(Table::Dead, &queue, number)? {
                Some((letter, frozen)) => (State::Dead(letter), frozen),
                None => return Ok(None),
            },
        };
        let (reasons, body) = frozen.open().ok_or_else(|| Self::damaged(number))?;
        let in_flight = matches!(state, State::Waiting(_)) && queue.is_claimed(number);
        Ok(Some(Whole { state, in_flight, reasons, body }))
    }

    pub(super) fn entry<T: Head>(
        &self,
        table: Table,
        queue: &Queue,
        number: u64,
    ) -> Result<Option<(T, Frozen)>, StoreError> {
        let read = self.record(&layout::entry(table, queue.destination(), number))?;
        let Some(record) = read.ok_or_else(|| Self::damaged(number))? else { return Ok(None) };
        Frozen::part(record).map(Some).ok_or_else(|| Self::damaged(number))
    }

    fn damaged(number: u64) -> StoreError {
        StoreError::Unreadable(format!("the record of export {number}"))
    }

    /// A record; the outer `None` says that it is damaged.
    pub(super) fn record(&self, key: &[u8]) -> Result<Option<Option<Record>>, StoreError> {
        self.read(|db| match record::read(db, key) {
            Ok(record) => Ok(Some(record)),
            Err(Unreadable::Damaged) => Ok(None),
            Err(Unreadable::Failed(error)) => Err(error),
        })
    }

    /// Where the export of this id stands, if it waits or is dead. There is no index: the id tells when the export was made,
    /// and only where that leads nowhere all are looked at.
    ///
    /// # Errors
    /// [`StoreError::Failed`] when the disk cannot be read.
    pub fn find(&self, id: ExportId) -> Result<Option<Place>, StoreError> {
        let queues = self.queues();
        for near in [true, false] {
            for (destination, queue) in &queues {
                let at = |export: &Export| (export.id, export.accepted_at);
                let waiting = |db: &sled::Db| seek(db, Table::Schedule, queue, near, id, at);
                let dead =
                    |db: &sled::Db| seek(db, Table::Dead, queue, near, id, |letter: &DeadLetter| at(&letter.export));
                let found = match self.read(waiting)? {
                    Some(number) => Some(number),
                    None => self.read(dead)?,
                };
                if let Some(number) = found {
                    return Ok(Some((destination.clone(), number)));
                }
            }
        }
        Ok(None)
    }

    /// The snapshot of the profile that an identity leads to, as `pipeline` wrote it. It may be ahead of what was acknowledged
    /// by what is being synced.
    ///
    /// # Errors
    /// [`StoreError::Failed`] when the disk cannot be read; [`StoreError::Unreadable`] when the snapshot is damaged.
    pub fn profile(&self, identity: &Identity) -> Result<Option<Vec<u8>>, StoreError> {
        let link = layout::identity(identity);
        let whole = |record: Option<Option<Record>>| {
            record.ok_or_else(|| StoreError::Unreadable("the profile's record".to_owned()))
        };
        for _ in 0..LOOKS_MAX {
            let Some(key) = whole(self.record(&link)?)?.and_then(|record| record.payload.try_into().ok()) else {
                return Ok(None);
            };
            if let Some(snapshot) = whole(self.record(&layout::profile(&ProfileKey::from_bytes(key)))?)? {
                return Ok(Some(snapshot.payload));
            }
            // It was joined into another just now, and the identity leads there.
        }
        Ok(None)
    }

    /// What waits and what is dead of a profile with these lines, by destination, oldest first, `most` at most. It looks at
    /// every export that there is.
    ///
    /// # Errors
    /// [`StoreError::Failed`] when the disk cannot be read.
    pub fn exports_of(&self, lines: &[ProfileKey], most: usize) -> Result<Vec<(Place, State)>, StoreError> {
        let mut found = Vec::new();
        for (destination, queue) in self.queues() {
            let place = |number| (destination.clone(), number);
            let waiting = |number, export| (place(number), State::Waiting(export));
            let dead = |number, letter| (place(number), State::Dead(letter));
            let room = most.saturating_sub(found.len());
            found.extend(self.of_lines(Table::Schedule, &queue, lines, room, exported, waiting)?);
            let room = most.saturating_sub(found.len());
            found.extend(self.of_lines(Table::Dead, &queue, lines, room, lettered, dead)?);
        }
        Ok(found)
    }

    /// Entries of a destination that stand in one of these lines, as `keep` makes them.
    pub(super) fn of_lines<T: Head, R>(
        &self,
        table: Table,
        queue: &Queue,
        lines: &[ProfileKey],
        most: usize,
        export: impl Fn(&T) -> &Export,
        keep: impl Fn(u64, T) -> R,
    ) -> Result<Vec<R>, StoreError> {
        self.read(|db| {
            let of_lines = |entry: &T| export(entry).lines.iter().any(|line| lines.contains(line));
            let from = first(table, queue);
            let all = layout::walk::<T>(db, table, queue.destination(), from, queue.synced());
            let theirs = all.filter_map(|item| match item {
                Ok((number, entry)) => entry.filter(of_lines).map(|entry| Ok(keep(number, entry))),
                Err(error) => Some(Err(error)),
            });
            theirs.take(most).collect()
        })
    }

    /// Reads from the database. sled panics rather than errs on some damage; either turns health red.
    pub(super) fn read<T>(&self, read: impl FnOnce(&sled::Db) -> sled::Result<T>) -> Result<T, StoreError> {
        let Some(db) = self.live.db() else { return Err(self.live.error()) };
        catch_unwind(AssertUnwindSafe(|| read(&db))).unwrap_or_else(|_| Err(broke_off())).map_err(|error| {
            if self.live.fail(Health::Failed) {
                error!(%error, "cannot read from the store");
                let _ = self.commands.send(Command::Failed);
            }
            self.live.error()
        })
    }
}

/// Where a table begins: not at the graves of all that was delivered.
fn first(table: Table, queue: &Queue) -> u64 {
    match table {
        Table::Schedule => queue.low_water(),
        Table::Dead => 0,
    }
}

/// Where the export is in what the schedule holds.
pub(super) fn exported(export: &Export) -> &Export {
    export
}

/// Where the export is in a dead letter.
pub(super) fn lettered(letter: &DeadLetter) -> &Export {
    &letter.export
}

/// What a panic of sled's becomes.
pub(super) fn broke_off() -> sled::Error {
    sled::Error::ReportableBug("reading broke off".to_owned())
}

/// The number of an export in one table: where its time leads, or, not `near`, wherever it is.
fn seek<T: Head>(
    db: &sled::Db,
    table: Table,
    queue: &Queue,
    near: bool,
    id: ExportId,
    of: impl Fn(&T) -> (ExportId, Timestamp),
) -> sled::Result<Option<u64>> {
    let walk = |from| layout::walk::<T>(db, table, queue.destination(), from, queue.synced());
    let made_at = id.made_at().as_millis();
    let mut from = first(table, queue);
    if near {
        let (mut low, mut high) = (from, queue.synced());
        while low < high {
            let middle = low + (high - low) / 2;
            let first = walk(middle).find_map(|item| match item {
                Ok((number, entry)) => entry.map(|entry| Ok((number, of(&entry).1.as_millis()))),
                Err(error) => Some(Err(error)),
            });
            match first.transpose()? {
                Some((number, at)) if at < made_at - APART_MILLIS => low = number + 1,
                Some(_) | None => high = middle,
            }
        }
        from = low;
    }
    for item in walk(from) {
        let Some((number, (found, at))) = item.map(|(number, entry)| entry.map(|entry| (number, of(&entry))))? else {
            continue;
        };
        if found == id {
            return Ok(Some(number));
        }
        if near && at.as_millis() > made_at + APART_MILLIS {
            break;
        }
    }
    Ok(None)
}
