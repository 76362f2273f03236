//! Where an export is put: at the end, or in the place of an older one of its profile ([`crate::coalesce`]).
//!
//! For a destination that coalesces, table `l` has, by profile, the number of the export that was made last, until that has
//! ended. The newer export is written under that number, with its own id and body: it keeps the older one's place among
//! all and the instant since which the profile is waited for, and the older one is gone, in the same commit. So what waits
//! is bounded by the profiles, on disk and in memory.
//!
//! The older one must be the last of its profile's line and stand in the same lines: then nothing of the line stands
//! between, and what has a higher number is younger, as everywhere. It must have had no attempt, and be in nobody's
//! hands: the queue is asked, and hands it to nobody before the newer one is synced ([`super::window`]).
//!
//! An entry counts only if all exports since were entered too, which [`Entry`](super::meta::Entry) tells by number: while
//! the setting is off none is, so that nothing is read or written for it. An entry that is lost costs an export more.

use std::sync::Arc;

use super::{
    Queue,
    frozen::Frozen,
    head,
    layout::{self, Table},
    record::{self, Unreadable},
    writer::{Failure, Writer},
};
use crate::{
    clock::Timestamp,
    coalesce,
    destination::Coalesce,
    export::{Export, NewExport},
    profile::ProfileKey,
    trigger::Reason,
};

/// The stored length of a number.
const LENGTH: usize = size_of::<u64>();
/// Stands for an entry that cannot be read: no export has it.
const NONE: u64 = 0;

/// An export that took an older one's place.
pub(super) struct Replaced {
    pub(super) queue: Arc<Queue>,
    pub(super) export: Export,
    pub(super) frozen: Frozen,
}

impl Writer<'_> {
    /// Stages an export.
    pub(super) fn make(
        &mut self,
        export: NewExport,
        lines: Vec<ProfileKey>,
        accepted_at: Timestamp,
    ) -> Result<(), Failure> {
        let export = NewExport { destination: self.called(export.destination), ..export };
        let (Coalesce::KeepTransitions | Coalesce::All, Some(profile)) = (export.coalesce, lines.first()) else {
            self.append(export, lines, accepted_at);
            return Ok(());
        };
        let (id, profile) = (export.destination.clone(), *profile);
        let destination = self.meta.number_of(&id);
        let place = layout::place(destination, &profile);
        let last = self.last(&place)?;
        let from = self.meta.entry(&id).placed_from;
        let older = match last.filter(|number| *number != NONE && *number >= from) {
            Some(number) => self.older(&export, &lines, destination, number)?,
            None => None,
        };
        if let Some(older) = older {
            self.replace(export, destination, older);
            return Ok(());
        }
        let number = self.append(export, lines, accepted_at);
        self.put(&place, &[&number.to_le_bytes()], last.map(|_| LENGTH));
        self.slice.places.insert(place, Some(number));
        let counted = self.meta.entry(&id);
        if counted.placed_to == 0 {
            counted.placed_from = number;
        }
        counted.placed_to = number;
        Ok(())
    }

    /// Stages an export behind all others; returns its number.
    fn append(&mut self, export: NewExport, lines: Vec<ProfileKey>, accepted_at: Timestamp) -> u64 {
        self.meta.last_number += 1;
        let number = self.meta.last_number;
        let destination = self.meta.number_of(&export.destination);
        let entry = Export::new(export.id, lines, accepted_at);
        let mut frozen = Frozen::new(&export.reasons, &export.body);
        let key = layout::entry(Table::Schedule, destination, number);
        frozen.record_length = self.put(&key, &[&head::encode(&entry), frozen.as_bytes()], None);
        let counted = self.meta.entry(&export.destination);
        (counted.made, counted.waiting) = (counted.made + 1, counted.waiting + 1);
        if export.coalesce == Coalesce::Off && counted.placed_to > 0 {
            counted.placed_from = number + 1;
        }
        self.group.made.entry(export.destination).or_default().push((number, entry, frozen));
        number
    }

    /// The export of this number, if `newer` may take its place. From here on nobody else gets it.
    fn older(
        &mut self,
        newer: &NewExport,
        lines: &[ProfileKey],
        destination: u32,
        number: u64,
    ) -> Result<Option<Older>, Failure> {
        let made = self.group.made.get(&newer.destination).and_then(|made| {
            let at = made.binary_search_by_key(&number, |(number, ..)| *number).ok()?;
            Some((Held::Made(at), made[at].1.clone(), made[at].2.clone()))
        });
        let replaced = || {
            let Replaced { export, frozen, .. } = self.group.replaced.get(&(destination, number))?;
            Some((Held::Replaced, export.clone(), frozen.clone()))
        };
        let found = match made.or_else(replaced) {
            Some(found) => Some(found),
            None => self.on_disk(destination, number)?.map(|(export, frozen)| (Held::No, export, frozen)),
        };
        let Some((held, export, frozen)) = found else { return Ok(None) };
        let Some((reasons, _)) = frozen.open() else { return Ok(None) };
        if !export.attempts.is_empty() || export.lines != lines || !coalesce::may_replace(&reasons, newer) {
            return Ok(None);
        }
        // By its number: its name may have changed, and nobody was told yet.
        let queue = self.shared.queues.numbered(destination);
        let queue = match held {
            // Nobody has seen it yet, or it is ours by now.
            Held::Made(_) | Held::Replaced => queue,
            Held::No => queue.filter(|queue| queue.reserve(number)),
        };
        let older = |queue| Older { queue, held, number, export, reasons, record_length: frozen.record_length };
        Ok(queue.map(older))
    }

    /// A waiting export that the present group has not written. Only this thread changes it, so it is as it was read until
    /// somebody else's settlement comes, who has it in his hands till then.
    fn on_disk(&self, destination: u32, number: u64) -> Result<Option<(Export, Frozen)>, Failure> {
        match record::read(&self.db, &layout::entry(Table::Schedule, destination, number)) {
            Ok(record) => Ok(record.and_then(Frozen::part)),
            // Whoever is to send it puts it aside.
            Err(Unreadable::Damaged) => Ok(None),
            Err(Unreadable::Failed(error)) => Err(error.into()),
        }
    }

    fn replace(&mut self, newer: NewExport, destination: u32, older: Older) {
        let Older { queue, held, number, export: before, reasons, record_length } = older;
        let (trials, last_trial) = (before.trials, before.last_trial);
        // What the receiver said of this profile is not forgotten: the same again may be this profile's own.
        let export = Export { trials, last_trial, ..Export::new(newer.id, before.lines, before.accepted_at) };
        let mut frozen = Frozen::new(&coalesce::united(reasons, &newer.reasons), &newer.body);
        let key = layout::entry(Table::Schedule, destination, number);
        frozen.record_length = self.put(&key, &[&head::encode(&export), frozen.as_bytes()], Some(record_length));
        let counted = self.meta.entry(&newer.destination);
        (counted.made, counted.superseded) = (counted.made + 1, counted.superseded + 1);
        match held {
            Held::Made(at) => {
                let made = self.group.made.get_mut(&newer.destination).expect("it was found there");
                made[at] = (number, export, frozen);
            }
            Held::Replaced | Held::No => {
                self.group.replaced.insert((destination, number), Replaced { queue, export, frozen });
            }
        }
    }

    /// Stages that an export which ends has no place any more.
    pub(super) fn vacate(&mut self, destination: u32, number: u64, profile: Option<ProfileKey>) -> Result<(), Failure> {
        let placed_to = self.meta.entry_numbered(destination).map_or(0, |counted| counted.placed_to);
        let Some(profile) = profile.filter(|_| number <= placed_to) else { return Ok(()) };
        let place = layout::place(destination, &profile);
        if self.last(&place)? == Some(number) {
            self.remove(&place, Some(LENGTH));
            self.slice.places.insert(place, None);
        }
        Ok(())
    }

    /// Lets nobody take the place of what was made for a destination up to now; returns the last number.
    pub(super) fn end_places(&mut self, destination: u32) -> u64 {
        let last = self.meta.last_number;
        if let Some(counted) = self.meta.entry_numbered(destination).filter(|counted| counted.placed_to > 0) {
            counted.placed_from = last + 1;
        }
        last
    }

    /// The number that stands under a key of table `l`, as staged.
    fn last(&self, place: &[u8]) -> Result<Option<u64>, Failure> {
        if let Some(staged) = self.slice.places.get(place) {
            return Ok(*staged);
        }
        match record::read(&self.db, place) {
            Ok(record) => {
                let number = |payload: Vec<u8>| payload.try_into().map_or(NONE, u64::from_le_bytes);
                Ok(record.map(|record| number(record.payload)))
            }
            Err(Unreadable::Damaged) => Ok(Some(NONE)),
            Err(Unreadable::Failed(error)) => Err(error.into()),
        }
    }
}

/// An export whose place is taken.
struct Older {
    queue: Arc<Queue>,
    held: Held,
    number: u64,
    export: Export,
    reasons: Vec<Reason>,
    record_length: usize,
}

/// Whether the present group has written an export.
enum Held {
    /// It was made by it, and stands at this place of what was.
    Made(usize),
    /// It took a place.
    Replaced,
    /// It was not.
    No,
}
