//! A destination's queue: what may be sent now, as claims.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};
use tracing::error;

use super::{
    frozen::Frozen,
    layout::{self, Table},
    live::{Health, Live},
    meta::Entry,
    record::{self, Unreadable},
    window::{Claimed, Made, WINDOW_MAX, Window},
    writer::Command,
};
use crate::{clock::Timestamp, export::Export};

/// Exports are read from disk only where so many have room: each reading costs a walk.
const ROOM_MIN: usize = WINDOW_MAX / 4;

/// The waiting exports of one destination.
pub struct Queue {
    live: Arc<Live>,
    destination: u32,
    window: Mutex<Window>,
    /// Claims that there are.
    held: AtomicUsize,
    changed: Notify,
    commands: mpsc::UnboundedSender<Command>,
}

/// An export in somebody's hands: nobody else gets it. Settled by [`super::Store::settle`]; dropped, it is waiting again.
#[must_use = "a claim is settled, or given back by dropping it"]
pub struct Claim {
    queue: Arc<Queue>,
    number: u64,
    /// There once the claim is handed out.
    frozen: Option<Frozen>,
    /// The export as it is now.
    pub export: Export,
    /// What is to be sent.
    pub body: Bytes,
    settled: bool,
}

/// What settling a claim needs to know of it.
pub(super) struct Released {
    pub(super) queue: Arc<Queue>,
    pub(super) number: u64,
    pub(super) frozen: Frozen,
}

impl Queue {
    pub(super) fn new(live: Arc<Live>, entry: &Entry, synced: u64, commands: mpsc::UnboundedSender<Command>) -> Self {
        let window = Mutex::new(Window::new(entry.low_water, synced));
        let (destination, held, changed) = (entry.number, AtomicUsize::new(0), Notify::new());
        Self { live, destination, window, held, changed, commands }
    }

    /// Begins anew on a store that was opened again; false when somebody holds a claim, whose export must not go out twice.
    pub(super) fn reset(&self, entry: &Entry, synced: u64) -> bool {
        let mut window = self.window();
        let is_free = self.held() == 0;
        if is_free {
            *window = Window::new(entry.low_water, synced);
            self.changed.notify_one();
        }
        is_free
    }

    /// Claims up to `most` exports that are due at `now`: retries first, then by age. Reads from disk: not for the
    /// runtime's threads.
    pub fn claim_due(self: &Arc<Self>, now: Timestamp, most: usize) -> Vec<Claim> {
        self.refill();
        let due = self.take(&mut self.window(), |window| window.claim_due(now), most);
        self.claim(due)
    }

    /// As [`Queue::claim_due`], as long as nothing has to be read from disk: what was just made is in memory. `None` when
    /// the first already would have to be.
    pub fn claim_due_in_memory(self: &Arc<Self>, now: Timestamp, most: usize) -> Option<Vec<Claim>> {
        let mut window = self.window();
        if room_to_refill(&window).is_some() {
            return None;
        }
        let due = self.take(&mut window, |window| window.claim_due_in_memory(now), most);
        let on_disk = due.is_empty() && window.next_due(now).is_some_and(|due| due <= now);
        drop(window);
        (!on_disk).then(|| self.claim(due))
    }

    /// Claims the oldest export behind number `after` that is first in its line, due or not; from the front when there is
    /// none. Reads from disk.
    pub fn claim_head(self: &Arc<Self>, after: u64) -> Option<Claim> {
        self.refill();
        let head = self.take(&mut self.window(), |window| window.claim_head(after), 1);
        self.claim(head).pop()
    }

    /// Takes exports out of the window, and counts them as held in the same moment.
    fn take(&self, window: &mut Window, next: impl Fn(&mut Window) -> Option<Claimed>, most: usize) -> Vec<Claimed> {
        let taken: Vec<Claimed> = std::iter::from_fn(|| next(window)).take(most).collect();
        self.held.fetch_add(taken.len(), Ordering::Relaxed);
        taken
    }

    /// Makes all claims before it reads any body: should reading panic, as sled does on some damage, each is given back.
    fn claim(self: &Arc<Self>, exports: Vec<Claimed>) -> Vec<Claim> {
        let claim = |(number, export, frozen)| {
            let (queue, body) = (self.clone(), Bytes::new());
            Claim { queue, number, frozen, export, body, settled: false }
        };
        let mut claims: Vec<Claim> = exports.into_iter().map(claim).collect();
        let mut readable = true;
        claims.retain_mut(|claim| {
            let whole = if readable { claim.fill() } else { Ok(false) };
            whole.unwrap_or_else(|error| {
                self.fail(&error);
                readable = false;
                false
            })
        });
        claims
    }

    /// Reads on where the window has room for a good part of what is missing.
    fn refill(self: &Arc<Self>) {
        let Some((from, to, room)) = room_to_refill(&self.window()) else { return };
        let Some(db) = self.live.db() else { return };
        let (mut read, mut reached) = (Vec::new(), to);
        for item in layout::walk(&db, Table::Schedule, self.destination, from, to) {
            let (number, export): (u64, Option<Export>) = match item {
                Ok(item) => item,
                // Nothing is passed over: what was not read is not reached.
                Err(error) => return self.fail(&error),
            };
            match export {
                Some(export) => read.push((number, export)),
                None => self.put_aside(number),
            }
            if read.len() == room {
                reached = number;
                break;
            }
        }
        self.window().refill(read, from, reached);
    }

    fn put_aside(self: &Arc<Self>, number: u64) {
        // An error means that the writer has ended, and everything with it.
        let _ = self.commands.send(Command::PutAside { queue: self.clone(), number });
    }

    fn fail(&self, error: &sled::Error) {
        if self.live.fail(Health::Failed) {
            error!(%error, "cannot read from the store");
            let _ = self.commands.send(Command::Failed);
        }
    }

    /// Returns after something changed since the last call: exports came in, or an earlier one of their line was settled.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// True when claiming at `now` may find something: an export is due, or some are to be read from disk.
    pub fn has_due(&self, now: Timestamp) -> bool {
        let window = self.window();
        room_to_refill(&window).is_some() || window.next_due(now).is_some_and(|due| due <= now)
    }

    /// When the next export may go, as seen at `now`; `None` when none waits for that alone.
    pub fn next_due(&self, now: Timestamp) -> Option<Timestamp> {
        self.window().next_due(now)
    }

    /// How many are claimed: under way, or their settlement not yet on disk.
    pub fn claimed(&self) -> usize {
        self.window().claimed()
    }

    /// How many claims there are that are neither settled nor given back.
    pub(super) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// When the update of the oldest waiting export came in.
    pub fn oldest(&self) -> Option<Timestamp> {
        self.window().oldest()
    }

    pub(super) fn destination(&self) -> u32 {
        self.destination
    }

    pub(super) fn synced(&self) -> u64 {
        self.window().synced()
    }

    pub(super) fn low_water(&self) -> u64 {
        self.window().low_water()
    }

    pub(super) fn publish(&self, made: Vec<Made>, synced: u64) {
        let news = !made.is_empty();
        self.window().publish(made, synced);
        if news {
            self.changed.notify_one();
        }
    }

    pub(super) fn finish(&self, number: u64) {
        self.window().finish(number);
        self.changed.notify_one();
    }

    pub(super) fn give_back(&self, number: u64, changed: Option<Export>) {
        self.window().give_back(number, changed);
        self.changed.notify_one();
    }

    // A panic elsewhere leaves the window whole: its methods do not call out.
    fn window(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Claim {
    /// The export's number: its age among all.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Reads what is not in memory; false when that is damaged, and on its way to be put aside.
    fn fill(&mut self) -> Result<bool, sled::Error> {
        if self.frozen.is_none() {
            let key = layout::entry(Table::Schedule, self.queue.destination, self.number);
            let Some(db) = self.queue.live.db() else { return Ok(false) };
            self.frozen = match record::read(&db, &key) {
                Ok(record) => record.and_then(Frozen::part::<Export>).map(|(_, frozen)| frozen),
                Err(Unreadable::Damaged) => None,
                Err(Unreadable::Failed(error)) => return Err(error),
            };
        }
        let body = self.frozen.as_ref().and_then(Frozen::body);
        if body.is_none() {
            // It stays claimed until that is on disk.
            self.settled = true;
            self.queue.put_aside(self.number);
        }
        self.body = body.unwrap_or_default();
        Ok(!self.settled)
    }

    /// Parts with what settling needs. The claim is held until the rest is dropped.
    pub(super) fn release(mut self) -> (Released, Self) {
        self.settled = true;
        let frozen = self.frozen.take().expect("a claim is filled before it is handed out");
        (Released { queue: self.queue.clone(), number: self.number, frozen }, self)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.settled {
            self.queue.give_back(self.number, None);
        }
        self.queue.held.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What to read from disk next, where so much room is worth it.
fn room_to_refill(window: &Window) -> Option<(u64, u64, usize)> {
    window.missing().filter(|(_, _, room)| *room >= ROOM_MIN)
}
