//! A destination's queue: what may be sent now, as claims.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use tokio::sync::{Notify, mpsc};
use tracing::error;

use super::{
    batch::Batch,
    claim::Claim,
    frozen::Frozen,
    layout::{self, Table},
    live::{Health, Live},
    look,
    meta::Entry,
    record::{self, Unreadable},
    window::{self, Claimed, Kept, Made, Read, WINDOW_MAX, Window},
    writer::Command,
};
use crate::{
    clock::Timestamp,
    destination::Batching,
    export::{Export, Next},
};

/// Exports are read from disk only where so many have room: each reading costs a walk.
const ROOM_MIN: usize = WINDOW_MAX / 4;

/// The waiting exports of one destination.
pub struct Queue {
    live: Arc<Live>,
    destination: u32,
    window: Mutex<Window>,
    /// Claims that there are.
    held: AtomicUsize,
    /// How many have left it: delivered, dead or dropped.
    left: AtomicU64,
    changed: Notify,
    commands: mpsc::UnboundedSender<Command>,
}

/// What came of asking for one export by its number.
pub(super) enum Seized {
    /// Nobody else gets it.
    Taken(Box<Claim>),
    /// Somebody else has it.
    InFlight,
    /// It does not wait, or is damaged and on its way to be put aside.
    Missing,
}

impl Queue {
    /// `kept` are the exports that stay together.
    pub(super) fn new(
        live: Arc<Live>,
        entry: &Entry,
        synced: u64,
        commands: mpsc::UnboundedSender<Command>,
        kept: Vec<Kept>,
    ) -> Self {
        let window = Mutex::new(Window::new(entry.low_water, synced, kept));
        let (destination, held, left, changed) = (entry.number, Default::default(), Default::default(), Notify::new());
        Self { live, destination, window, held, left, changed, commands }
    }

    /// Begins anew on a store that was opened again; false when somebody holds a claim, whose export must not go out twice.
    pub(super) fn reset(&self, entry: &Entry, synced: u64, kept: Vec<Kept>) -> bool {
        let mut window = self.window();
        let is_free = self.held() == 0;
        if is_free {
            *window = Window::new(entry.low_water, synced, kept);
            self.changed.notify_one();
        }
        is_free
    }

    /// Claims up to `most` exports that are due at `now`: retries first, then by age. Reads from disk: not for the
    /// runtime's threads.
    pub fn claim_due(self: &Arc<Self>, now: Timestamp, most: usize) -> Vec<Claim> {
        self.reading(|| {
            self.refill();
            let due = self.take(&mut self.window(), |window| window.claim_due(now), most);
            self.claim(due)
        })
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

    /// Claims what is due at `now` as requests, `most` at most: each of one export or several. Reads from disk.
    pub fn claim_batches(self: &Arc<Self>, now: Timestamp, most: usize, batching: &Batching) -> Vec<Batch> {
        self.reading(|| {
            self.refill();
            let mut batches = Vec::new();
            while batches.len() < most && self.live.is_good() {
                let Some(together) = self.take_together(now, batching) else { break };
                let (kept, whole) = (together.kept, together.claimed.len());
                let claims = self.claim(together.claimed);
                // Without one that is damaged, what was kept together is over; the others are given back until that is on disk.
                if !claims.is_empty() && (!kept || claims.len() == whole) {
                    batches.push(Batch::new(claims, kept));
                }
            }
            batches
        })
    }

    fn take_together(&self, now: Timestamp, batching: &Batching) -> Option<window::Together> {
        let mut window = self.window();
        let together = window.claim_together(now, batching)?;
        self.held.fetch_add(together.claimed.len(), Ordering::Relaxed);
        Some(together)
    }

    /// Claims the oldest export behind number `after` that is first in its line, due or not; from the front when there is
    /// none. Reads from disk.
    pub fn claim_head(self: &Arc<Self>, after: u64) -> Option<Claim> {
        self.reading(|| {
            self.refill();
            let head = self.take(&mut self.window(), |window| window.claim_head(after), 1);
            self.claim(head).pop()
        })
    }

    /// Claims one export that is not to be sent, wherever it stands. Reads from disk.
    pub(super) fn seize(self: &Arc<Self>, number: u64) -> Seized {
        let seized = {
            let mut window = self.window();
            let seized = window.seize(number);
            let is_taken = matches!(seized, window::Seized::Here(_) | window::Seized::Beyond);
            self.held.fetch_add(usize::from(is_taken), Ordering::Relaxed);
            seized
        };
        let claim = match seized {
            window::Seized::InFlight => return Seized::InFlight,
            window::Seized::Missing => return Seized::Missing,
            window::Seized::Here(claimed) => self.reading(|| self.claim(vec![*claimed]).pop()),
            window::Seized::Beyond => self.claim_beyond(number),
        };
        claim.map_or(Seized::Missing, |claim| Seized::Taken(Box::new(claim)))
    }

    /// Claims the oldest up to number `to`, none of which is to be sent, `most` at most. Reads from disk.
    pub(super) fn seize_oldest(self: &Arc<Self>, to: u64, most: usize) -> Vec<Claim> {
        self.reading(|| {
            self.refill();
            let oldest = self.take(&mut self.window(), |window| window.seize_oldest(to), most);
            self.claim(oldest)
        })
    }

    /// How many up to number `to` are in memory, and one more where some are not.
    pub(super) fn waiting_to(&self, to: u64) -> u64 {
        self.window().waiting_to(to)
    }

    /// Makes the claim of an export that is on disk alone and held already.
    fn claim_beyond(self: &Arc<Self>, number: u64) -> Option<Claim> {
        let key = layout::entry(Table::Schedule, self.destination, number);
        let read = || {
            let record = self.live.db().map(|db| record::read(&db, &key));
            Some(record?.map(|record| record.map(Frozen::part::<Export>)))
        };
        match self.reading(read) {
            Some(Ok(Some(Some((export, frozen))))) => {
                let mut claim = Claim::new(self.clone(), number, export, Some(frozen));
                return claim.fill().unwrap_or_default().then_some(claim);
            }
            Some(Ok(Some(None)) | Err(Unreadable::Damaged)) => self.put_aside(number),
            Some(Err(Unreadable::Failed(error))) => self.fail(&error),
            Some(Ok(None)) | None => self.give_back(number, None),
        }
        self.held.fetch_sub(1, Ordering::Relaxed);
        None
    }

    /// Does what reads from disk. sled panics rather than errs on some damage; that turns health red as an error does.
    fn reading<T: Default>(&self, read: impl FnOnce() -> T) -> T {
        catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| {
            self.fail(&look::broke_off());
            T::default()
        })
    }

    /// Takes exports out of the window, and counts them as held in the same moment.
    fn take(&self, window: &mut Window, next: impl Fn(&mut Window) -> Option<Claimed>, most: usize) -> Vec<Claimed> {
        let taken: Vec<Claimed> = std::iter::from_fn(|| next(window)).take(most).collect();
        self.held.fetch_add(taken.len(), Ordering::Relaxed);
        taken
    }

    /// Makes all claims before it reads any body: should reading panic, as sled does on some damage, each is given back.
    fn claim(self: &Arc<Self>, exports: Vec<Claimed>) -> Vec<Claim> {
        let claim = |(number, export, frozen)| Claim::new(self.clone(), number, export, frozen);
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
        let Some(db) = self.live.db() else { return };
        let (from, to, room, cuts, mut room_for_bodies) = {
            let mut window = self.window();
            let Some((from, to, room)) = room_to_refill(&window) else { return };
            window.begin_reading();
            (from, to, room, window.cuts(), window.room_for_bodies())
        };
        let (mut read, mut reached) = (Vec::new(), to);
        for item in layout::walk_whole(&db, Table::Schedule, self.destination, from, to) {
            let (number, whole): (u64, Option<(Export, Frozen)>) = match item {
                Ok(item) => item,
                // Nothing is passed over: what was not read is not reached.
                Err(error) => return self.fail(&error),
            };
            match whole {
                Some((export, frozen)) => {
                    let bytes = frozen.as_bytes().len();
                    // With it goes all of its record, and what was sent before has what was answered in there.
                    let was_sent = export.trials > 0 || !export.attempts.is_empty();
                    let frozen = Some(frozen).filter(|_| bytes <= room_for_bodies && !was_sent);
                    room_for_bodies -= frozen.as_ref().map_or(0, |_| bytes);
                    read.push(Read { number, export, bytes, frozen });
                }
                None => self.put_aside(number),
            }
            let is_full = read.len() >= ROOM_MIN && read.last().is_some_and(|last| last.frozen.is_none());
            if read.len() == room || is_full {
                reached = number;
                break;
            }
        }
        self.window().refill(read, from, reached, cuts);
    }

    pub(super) fn put_aside(self: &Arc<Self>, number: u64) {
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
        let mut window = self.window();
        room_to_refill(&window).is_some() || window.has_due(now)
    }

    /// When the next export may go, as seen at `now`; `None` when none waits for that alone.
    pub fn next_due(&self, now: Timestamp) -> Option<Timestamp> {
        self.window().next_due(now)
    }

    /// True when claiming requests at `now` may find something.
    pub fn has_batches(&self, now: Timestamp, batching: &Batching) -> bool {
        let mut window = self.window();
        room_to_refill(&window).is_some() || window.has_together(now, batching)
    }

    /// As [`Queue::next_due`], where exports go together.
    pub fn next_batch(&self, now: Timestamp, batching: &Batching) -> Option<Timestamp> {
        self.window().next_together(now, batching)
    }

    /// How many are claimed: under way, or their settlement not yet on disk.
    pub fn claimed(&self) -> usize {
        self.window().claimed()
    }

    /// Whether somebody holds this export.
    pub fn is_claimed(&self, number: u64) -> bool {
        self.window().is_claimed(number)
    }

    /// Whether nothing waits: what was made is delivered, dead or dropped, and that is on disk.
    pub fn is_empty(&self) -> bool {
        let window = self.window();
        window.missing().is_none() && window.oldest().is_none()
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

    /// The database, while there is one.
    pub(super) fn db(&self) -> Option<sled::Db> {
        self.live.db()
    }

    /// A claim is no more.
    pub(super) fn let_go(&self) {
        self.held.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many may go before one that is made now: those that nothing holds back, and those that are under way.
    pub fn standing(&self) -> usize {
        self.window().standing()
    }

    /// How many have left it since it was opened: delivered, dead or dropped.
    pub fn left(&self) -> u64 {
        self.left.load(Ordering::Relaxed)
    }

    pub(super) fn finish(&self, number: u64) {
        self.left.fetch_add(1, Ordering::Relaxed);
        self.window().finish(number);
        self.changed.notify_one();
    }

    /// Keeps an export from everybody, if nobody has it; see [`super::place`].
    pub(super) fn reserve(&self, number: u64) -> bool {
        self.window().reserve(number)
    }

    pub(super) fn replace(&self, number: u64, export: Export, frozen: Frozen) {
        self.window().replace(number, export, frozen);
        self.changed.notify_one();
    }

    /// Takes note of what became of claims, on disk.
    pub(super) fn settled(&self, settled: impl Iterator<Item = (u64, Next)>) {
        let mut window = self.window();
        for (number, next) in settled {
            match next {
                Next::Delivered(_) | Next::Dead(_) | Next::Dropped => {
                    self.left.fetch_add(1, Ordering::Relaxed);
                    window.finish(number);
                }
                Next::Waiting(export) => window.give_back(number, Some(export)),
            }
        }
        drop(window);
        self.changed.notify_one();
    }

    /// Does something about what stays together.
    pub(super) fn together<T>(&self, work: impl FnOnce(&mut Window) -> T) -> T {
        work(&mut self.window())
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

/// What to read from disk next, where so much room is worth it.
fn room_to_refill(window: &Window) -> Option<(u64, u64, usize)> {
    window.missing().filter(|(_, _, room)| *room >= ROOM_MIN && window.is_short())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn database_that_breaks_off_while_it_is_read_turns_health_red() {
        let db = sled::Config::new().temporary(true).open().unwrap();
        let (live, (commands, mut inbox)) = (Arc::new(Live::new(db, 0)), mpsc::unbounded_channel());
        let queue = Queue::new(live.clone(), &Entry::default(), 0, commands, Vec::new());

        assert_eq!(queue.reading(|| -> Option<()> { panic!("as sled does on some damage") }), None);

        assert_eq!(live.health(), Health::Failed);
        assert!(matches!(inbox.try_recv(), Ok(Command::Failed)), "the writer is woken, and mends");
    }
}
