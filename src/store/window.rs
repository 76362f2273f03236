//! The waiting exports of one destination that are in memory: which may go now, and in which order. Pure.
//!
//! Exports come in by number, that is by age. Each stands in the line of its profile and of the profiles joined into it; it
//! may go when it is the first in all of them, nobody holds it, and it is due. What does not fit stays on disk until the
//! window has room, so ten million waiting exports cost no more memory than ten thousand. The youngest bodies stay too, within a
//! bound: what is sent at once need not be read from disk.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    time::Duration,
};

use super::frozen::Frozen;
use crate::{clock::Timestamp, export::Export, profile::ProfileKey};

mod together;

pub(super) use together::{Kept, Together};

/// Exports in memory for a destination, some 4 MiB of them, and at worst 24 MiB of what was answered to them. Exports between attempts stay here, so this many may wait for
/// a retry at once before younger ones have to wait too.
pub(super) const WINDOW_MAX: usize = 8192;

/// Bytes of bodies in memory for a destination. Beyond it they are read from disk when they are claimed.
const BODIES_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Where fewer may go at once, more are read even if there is no room for their bodies.
const FRESH_MIN: usize = 512;

/// No retry waits longer than an hour and a tenth. What is due later was written before the clock was set back, and is due.
const DUE_AHEAD_MAX: Duration = Duration::from_secs(66 * 60);

#[derive(Default)]
pub(super) struct Window {
    entries: BTreeMap<u64, Entry>,
    lines: HashMap<ProfileKey, VecDeque<u64>>,
    /// Heads of all their lines that nobody holds and that had no attempt yet: they may go at once, by age.
    fresh: BTreeSet<u64>,
    /// Heads of all their lines that nobody holds and that wait for a retry, by due time.
    retries: BTreeSet<(Timestamp, u64)>,
    /// Exports that stay together, by the number of the first. They go when all of them may, under that number.
    kept: BTreeMap<u64, Kept>,
    /// The first of those that an export stays together with.
    first_of: HashMap<u64, u64>,
    /// Handed out though they are still on disk alone: by number, not by line.
    beyond: BTreeSet<u64>,
    /// Exports in whose places the writer has put newer ones, and how many groups of its that are not synced have. They are
    /// claimed, by nobody.
    reserved: BTreeMap<u64, u32>,
    /// The sender has passed by what waits up to this number, or has come to the end.
    passed_to: u64,
    /// How often one of those was finished: what was read from disk meanwhile may hold it still.
    cuts: u64,
    /// How many read from disk.
    readings: usize,
    /// What got another export while somebody reads: what he has of it may be the one before, whose record is read again when it
    /// is claimed.
    overtaken: BTreeSet<u64>,
    claimed: usize,
    bodies_bytes: usize,
    /// All that wait up to this number are here.
    read_to: u64,
    /// Nothing above this number is on disk for certain.
    synced: u64,
}

struct Entry {
    export: Export,
    claimed: bool,
    /// How long its body is, and a little more.
    bytes: usize,
    /// Until it is claimed for the first time, if there was room.
    frozen: Option<Frozen>,
}

/// What an export that waits was read as.
pub(super) struct Read {
    pub(super) number: u64,
    pub(super) export: Export,
    /// How long its body is, and a little more.
    pub(super) bytes: usize,
    /// Where there may be room for it.
    pub(super) frozen: Option<Frozen>,
}

/// An export that was handed out, and its body where that is in memory.
pub(super) type Claimed = (u64, Export, Option<Frozen>);
/// What came of asking for one export by its number.
pub(super) enum Seized {
    /// It is handed out.
    Here(Box<Claimed>),
    /// It is handed out, and on disk alone, if it is there at all.
    Beyond,
    /// Somebody else has it.
    InFlight,
    /// It does not wait.
    Missing,
}

/// An export that was just synced.
pub(super) type Made = (u64, Export, Frozen);

impl Window {
    /// An empty window before the first number that may wait. `kept` says which exports stay together.
    pub(super) fn new(low_water: u64, synced: u64, kept: Vec<Kept>) -> Self {
        let mut window = Self { read_to: low_water.saturating_sub(1), synced, ..Self::default() };
        kept.into_iter().for_each(|kept| window.keep_together(kept));
        window
    }

    /// Takes in exports that have just been synced, and the number up to which everything is. They are left on disk when
    /// older ones are there still, or there is no room.
    pub(super) fn publish(&mut self, made: Vec<Made>, synced: u64) {
        let in_step = self.missing().is_none() && self.entries.len() + made.len() <= WINDOW_MAX;
        self.synced = synced;
        if in_step {
            for (number, export, frozen) in made {
                self.admit(Read { number, export, bytes: frozen.as_bytes().len(), frozen: Some(frozen) });
            }
            self.read_to = synced;
        }
    }

    /// The numbers to read from disk next, if there are any, and how many there is room for.
    pub(super) fn missing(&self) -> Option<(u64, u64, usize)> {
        (self.read_to < self.synced)
            .then(|| (self.read_to + 1, self.synced, WINDOW_MAX.saturating_sub(self.entries.len())))
    }

    /// Whether more are worth reading now: earlier, their bodies would have to be read twice.
    pub(super) fn is_short(&self) -> bool {
        self.bodies_bytes <= BODIES_BYTES_MAX / 2 || self.fresh.len() < FRESH_MIN
    }

    /// Somebody begins to read what is missing, and will call [`Window::refill`], unless the store fails.
    pub(super) fn begin_reading(&mut self) {
        self.readings += 1;
    }

    /// Takes in what was read of [`Window::missing`]: all that wait from number `from` to `to`. `cuts` is what
    /// [`Window::cuts`] said before it was read.
    pub(super) fn refill(&mut self, mut read: Vec<Read>, from: u64, to: u64, cuts: u64) {
        for read in read.iter_mut().filter(|read| self.overtaken.contains(&read.number)) {
            read.frozen = None;
        }
        self.readings = self.readings.saturating_sub(1);
        if self.readings == 0 {
            self.overtaken.clear();
        }
        if from > self.read_to + 1 || cuts != self.cuts {
            // It was read for a window that is no more, or may hold what is gone.
            return;
        }
        // Somebody else may have read the same meanwhile.
        let from = self.read_to;
        read.into_iter().filter(|read| read.number > from).for_each(|read| self.admit(read));
        self.read_to = self.read_to.max(to);
    }

    /// Changes when something is finished that is not here.
    pub(super) fn cuts(&self) -> u64 {
        self.cuts
    }

    /// Bytes of bodies that there is room for.
    pub(super) fn room_for_bodies(&self) -> usize {
        BODIES_BYTES_MAX.saturating_sub(self.bodies_bytes)
    }

    fn admit(&mut self, Read { number, export, bytes, frozen }: Read) {
        export.lines.iter().for_each(|line| self.lines.entry(*line).or_default().push_back(number));
        let frozen = frozen.filter(|_| bytes <= self.room_for_bodies());
        self.bodies_bytes += frozen.as_ref().map_or(0, |_| bytes);
        let claimed = self.beyond.remove(&number);
        self.entries.insert(number, Entry { export, claimed, bytes, frozen });
        self.ready_if_head(number);
    }

    fn is_head(&self, export: &Export, number: u64) -> bool {
        export.lines.iter().all(|line| self.lines.get(line).and_then(VecDeque::front) == Some(&number))
    }

    /// Whether nobody holds it and all before it in its lines are gone.
    fn may_go(&self, number: u64) -> bool {
        self.entries.get(&number).is_some_and(|entry| !entry.claimed && self.is_head(&entry.export, number))
    }

    fn ready_if_head(&mut self, number: u64) {
        let first = self.first_of.get(&number).copied().unwrap_or(number);
        if self.may_all_go(first) {
            let export = &self.entries[&first].export;
            match export.attempts.is_empty() {
                true => self.fresh.insert(first),
                false => self.retries.insert((export.due, first)),
            };
        }
    }

    fn unready(&mut self, number: u64) {
        let first = self.first_of.get(&number).copied().unwrap_or(number);
        self.fresh.remove(&first);
        if let Some(entry) = self.entries.get(&first) {
            self.retries.remove(&(entry.export.due, first));
        }
    }

    /// Hands out a retry that is due, the longest due first; else the oldest that had no attempt. Retries go first because
    /// they are few, and a long backlog must not starve them.
    pub(super) fn claim_due(&mut self, now: Timestamp) -> Option<Claimed> {
        let due = self.due(now);
        self.pass(due);
        self.claim(due?)
    }

    /// As [`Window::claim_due`], for one whose body is in memory.
    pub(super) fn claim_due_in_memory(&mut self, now: Timestamp) -> Option<Claimed> {
        let due = self.due(now);
        self.pass(due);
        self.claim(due.filter(|number| self.entries[number].frozen.is_some())?)
    }

    /// Whether one may go at `now`.
    pub(super) fn has_due(&mut self, now: Timestamp) -> bool {
        let due = self.due(now);
        self.pass(due);
        due.is_some()
    }

    /// The sender goes on to this export, or has come to the end.
    fn pass(&mut self, next: Option<u64>) {
        self.passed_to = self.passed_to.max(next.unwrap_or(self.read_to));
    }

    fn due(&self, now: Timestamp) -> Option<u64> {
        self.due_retry(now).or_else(|| self.fresh.first().copied())
    }

    fn due_retry(&self, now: Timestamp) -> Option<u64> {
        let stranded = || self.retries.last().filter(|(due, _)| *due > now + DUE_AHEAD_MAX);
        Some(self.retries.first().filter(|(due, _)| *due <= now).or_else(stranded)?.1)
    }

    /// Hands out the oldest that may go, due or not, with a number above `after`; from the front when there is none.
    pub(super) fn claim_head(&mut self, after: u64) -> Option<Claimed> {
        let may_go = |(number, _): &(&u64, &Entry)| self.may_go(**number);
        let behind = self.entries.range(after.saturating_add(1)..).find(may_go);
        let head = behind.or_else(|| self.entries.range(..=after).find(may_go)).map(|(number, _)| *number);
        if head.is_none() {
            self.pass(None);
        }
        self.claim(head?)
    }

    /// Hands out one export, due or not, first in its line or not: it is not to be sent.
    pub(super) fn seize(&mut self, number: u64) -> Seized {
        match self.entries.get(&number) {
            Some(Entry { claimed: true, .. }) => Seized::InFlight,
            Some(Entry { claimed: false, .. }) => {
                self.claim(number).map_or(Seized::Missing, |claimed| Seized::Here(Box::new(claimed)))
            }
            None if number <= self.read_to || number > self.synced => Seized::Missing,
            None if !self.beyond.insert(number) => Seized::InFlight,
            None => {
                self.claimed += 1;
                Seized::Beyond
            }
        }
    }

    /// Keeps an export from being handed out, for a newer one is being put in its place; true when that may be done, and
    /// [`Window::replace`] is to follow. Where an earlier group still has it, it is lent on, unless the sender waits for it:
    /// what changes all the time must go out some time too.
    ///
    /// What stays together with others, or was sent alone where exports go together, stays as it is.
    pub(super) fn reserve(&mut self, number: u64) -> bool {
        if self.kept_with(number).is_some() {
            return false;
        }
        if let Some(groups) = self.reserved.get_mut(&number) {
            let may_wait = number > self.passed_to;
            *groups += u32::from(may_wait);
            return may_wait;
        }
        let is_free = match self.entries.get_mut(&number) {
            Some(entry) if entry.claimed => false,
            Some(entry) => {
                entry.claimed = true;
                self.fresh.remove(&number);
                let frozen = entry.frozen.take();
                self.bodies_bytes -= frozen.map_or(0, |frozen| frozen.as_bytes().len());
                true
            }
            None => number > self.read_to && self.beyond.insert(number),
        };
        if is_free {
            self.reserved.insert(number, 1);
        }
        is_free
    }

    /// Takes in what was put in the place of an export, now that it is synced. Unless a later group has it too, it may go.
    pub(super) fn replace(&mut self, number: u64, export: Export, frozen: Frozen) {
        let Some(groups) = self.reserved.get_mut(&number) else { return };
        *groups -= 1;
        if *groups > 0 {
            return;
        }
        self.reserved.remove(&number);
        self.beyond.remove(&number);
        let Some(entry) = self.entries.get_mut(&number) else {
            if self.readings > 0 {
                self.overtaken.insert(number);
            }
            return;
        };
        let before = entry.frozen.take().map_or(0, |frozen| frozen.as_bytes().len());
        let bytes = frozen.as_bytes().len();
        self.bodies_bytes -= before;
        let fits = self.bodies_bytes + bytes <= BODIES_BYTES_MAX;
        self.bodies_bytes += if fits { bytes } else { 0 };
        *entry = Entry { export, claimed: false, bytes, frozen: Some(frozen).filter(|_| fits) };
        self.ready_if_head(number);
    }

    /// Hands out the oldest up to number `to` that nobody has, as [`Window::seize`] does.
    pub(super) fn seize_oldest(&mut self, to: u64) -> Option<Claimed> {
        let (number, _) = self.entries.range(..=to).find(|(_, entry)| !entry.claimed)?;
        self.claim(*number)
    }

    /// Whether any up to number `to` may wait.
    pub(super) fn waiting_to(&self, to: u64) -> u64 {
        let unread = u64::from(self.read_to < to.min(self.synced));
        self.entries.range(..=to).count() as u64 + unread
    }

    fn claim(&mut self, number: u64) -> Option<Claimed> {
        self.unready(number);
        let entry = self.entries.get_mut(&number)?;
        entry.claimed = true;
        self.claimed += 1;
        let frozen = entry.frozen.take();
        self.bodies_bytes -= frozen.as_ref().map_or(0, |_| entry.bytes);
        Some((number, entry.export.clone(), frozen))
    }

    /// Takes back an export that was not sent, or that waits again as `changed`.
    pub(super) fn give_back(&mut self, number: u64, changed: Option<Export>) {
        if self.beyond.remove(&number) {
            self.claimed -= 1;
            return;
        }
        let Some(entry) = self.entries.get_mut(&number) else { return };
        self.claimed -= usize::from(std::mem::take(&mut entry.claimed));
        if let Some(export) = changed {
            entry.export = export;
        }
        self.ready_if_head(number);
    }

    /// Lets go of an export that is delivered, dead or dropped; the next of its lines may go.
    pub(super) fn finish(&mut self, number: u64) {
        self.part(number);
        if self.beyond.remove(&number) {
            self.claimed -= 1;
            self.cuts += 1;
            return;
        }
        let Some(Entry { export, claimed, bytes, frozen }) = self.entries.remove(&number) else { return };
        self.claimed -= usize::from(claimed);
        self.bodies_bytes -= frozen.map_or(0, |_| bytes);
        for line in &export.lines {
            let Some(waiting) = self.lines.get_mut(line) else { continue };
            waiting.retain(|other| *other != number);
            match waiting.front().copied() {
                Some(next) => self.ready_if_head(next),
                None => drop(self.lines.remove(line)),
            }
        }
    }

    /// When the next may go, as seen at `now`.
    pub(super) fn next_due(&self, now: Timestamp) -> Option<Timestamp> {
        match self.due_retry(now).is_some() || !self.fresh.is_empty() {
            true => Some(now),
            false => self.retries.first().map(|(due, _)| *due),
        }
    }

    /// How many go before one that comes now, as far as they are here; where some are on disk alone, more than may ever be
    /// here.
    pub(super) fn standing(&self) -> usize {
        let on_disk = if self.missing().is_some() { WINDOW_MAX } else { 0 };
        self.fresh.len() + self.claimed + on_disk
    }

    /// How many are handed out.
    pub(super) fn claimed(&self) -> usize {
        self.claimed
    }

    /// Whether this export is handed out.
    pub(super) fn is_claimed(&self, number: u64) -> bool {
        self.entries.get(&number).is_some_and(|entry| entry.claimed) && !self.reserved.contains_key(&number)
    }

    /// When the update of the oldest waiting export came in.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        self.entries.values().next().map(|entry| entry.export.accepted_at)
    }

    /// No export below this number waits.
    pub(super) fn low_water(&self) -> u64 {
        self.entries.keys().next().copied().unwrap_or(self.read_to + 1)
    }

    pub(super) fn synced(&self) -> u64 {
        self.synced
    }
}

#[cfg(test)]
mod tests;
