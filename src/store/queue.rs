//! A destination's queue: what may be sent now, as claims.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, mpsc};
use tracing::error;

use super::{
    layout::{self, Table},
    meta::Entry,
    record::{self, Unreadable},
    window::{WINDOW_MAX, Window},
    writer::Command,
};
use crate::{clock::Timestamp, export::Export, trigger::Reason};

/// Exports are read from disk only where so many have room: each reading costs a walk.
const ROOM_MIN: usize = WINDOW_MAX / 4;

/// The waiting exports of one destination.
pub struct Queue {
    db: sled::Db,
    destination: u32,
    window: Mutex<Window>,
    changed: Notify,
    commands: mpsc::UnboundedSender<Command>,
    failed: Arc<AtomicBool>,
}

/// An export in somebody's hands: nobody else gets it. Settled by [`super::Store::settle`]; dropped, it is waiting again.
#[must_use = "a claim is settled, or given back by dropping it"]
pub struct Claim {
    queue: Arc<Queue>,
    number: u64,
    lengths: Lengths,
    /// The export as it is now.
    pub export: Export,
    /// What is to be sent; `None` when it failed its checksum.
    pub body: Option<Bytes>,
    settled: bool,
}

/// How many bytes an export's records have, so that settling it need not read them again.
#[derive(Clone, Copy)]
pub(super) struct Lengths {
    /// Of the scheduling entry.
    pub(super) entry: usize,
    /// Of the body; none when it is damaged.
    pub(super) body: Option<usize>,
}

/// What is kept apart from the scheduling entry: why the export was made, and its body.
#[derive(Serialize, Deserialize)]
pub(super) struct Frozen {
    pub(super) reasons: Vec<Reason>,
    pub(super) body: Vec<u8>,
}

impl Queue {
    pub(super) fn new(
        db: sled::Db,
        entry: &Entry,
        synced: u64,
        commands: mpsc::UnboundedSender<Command>,
        failed: Arc<AtomicBool>,
    ) -> Self {
        let window = Mutex::new(Window::new(entry.low_water, synced));
        Self { db, destination: entry.number, window, changed: Notify::new(), commands, failed }
    }

    /// Claims up to `most` exports that are due at `now`: retries first, then by age. Reads from disk: not for the
    /// runtime's threads.
    pub fn claim_due(self: &Arc<Self>, now: Timestamp, most: usize) -> Vec<Claim> {
        self.refill();
        let due: Vec<(u64, Export)> = {
            let mut window = self.window();
            std::iter::from_fn(|| window.claim_due(now)).take(most).collect()
        };
        self.claim(due)
    }

    /// Claims the oldest export behind number `after` that is first in its line, due or not; from the front when there is
    /// none. Reads from disk.
    pub fn claim_head(self: &Arc<Self>, after: u64) -> Option<Claim> {
        self.refill();
        let head = self.window().claim_head(after);
        self.claim(head.into_iter().collect()).pop()
    }

    /// Makes all claims before it reads any body: should reading panic, as sled does on some damage, each is given back.
    fn claim(self: &Arc<Self>, exports: Vec<(u64, Export)>) -> Vec<Claim> {
        let empty = |(number, export): (u64, Export)| Claim {
            queue: self.clone(),
            number,
            lengths: Lengths { entry: encoded_length(&export), body: None },
            export,
            body: None,
            settled: false,
        };
        let mut claims: Vec<Claim> = exports.into_iter().map(empty).collect();
        let mut readable = true;
        claims.retain_mut(|claim| {
            readable = readable && claim.read().map_err(|error| self.fail(&error)).is_ok();
            readable
        });
        claims
    }

    /// Reads on where the window has room for a good part of what is missing.
    fn refill(&self) {
        let Some((from, to, room)) = self.window().missing() else { return };
        if room < ROOM_MIN {
            return;
        }
        let (mut read, mut reached) = (Vec::new(), to);
        for item in layout::walk(&self.db, Table::Schedule, self.destination, from, to) {
            let (number, export) = match item {
                Ok(item) => item,
                // Nothing is passed over: what was not read is not reached.
                Err(error) => return self.fail(&error),
            };
            match export {
                Some(export) => read.push((number, export)),
                // An error means that the writer has ended, and everything with it.
                None => drop(self.commands.send(Command::PutAside { destination: self.destination, number })),
            }
            if read.len() == room {
                reached = number;
                break;
            }
        }
        self.window().refill(read, reached);
    }

    fn fail(&self, error: &sled::Error) {
        if !self.failed.swap(true, Ordering::Relaxed) {
            error!(%error, "cannot read from the store; nothing more is accepted or sent until a restart");
        }
    }

    /// Returns after something changed since the last call: exports came in, or an earlier one of their line was settled.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// True when claiming at `now` may find something: an export is due, or some are to be read from disk.
    pub fn has_due(&self, now: Timestamp) -> bool {
        let window = self.window();
        let on_disk = window.missing().is_some_and(|(_, _, room)| room >= ROOM_MIN);
        on_disk || window.next_due(now).is_some_and(|due| due <= now)
    }

    /// When the next export may go, as seen at `now`; `None` when none waits for that alone.
    pub fn next_due(&self, now: Timestamp) -> Option<Timestamp> {
        self.window().next_due(now)
    }

    /// How many are claimed: under way, or their settlement not yet on disk.
    pub fn claimed(&self) -> usize {
        self.window().claimed()
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

    pub(super) fn publish(&self, made: Vec<(u64, Export)>, synced: u64) {
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

    fn read(&mut self) -> Result<(), sled::Error> {
        let payload = match record::read(&self.queue.db, &layout::body(self.number)) {
            Ok(payload) => payload,
            Err(Unreadable::Damaged) => None,
            Err(Unreadable::Failed(error)) => return Err(error),
        };
        self.lengths.body = payload.as_ref().map(Vec::len);
        let frozen = payload.and_then(|payload| postcard::from_bytes::<Frozen>(&payload).ok());
        self.body = frozen.map(|frozen| Bytes::from(frozen.body));
        Ok(())
    }

    pub(super) fn release(mut self) -> (Arc<Queue>, u64, Lengths) {
        self.settled = true;
        (self.queue.clone(), self.number, self.lengths)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.settled {
            self.queue.give_back(self.number, None);
        }
    }
}

fn encoded_length(export: &Export) -> usize {
    postcard::serialize_with_flavor(export, postcard::ser_flavors::Size::default()).expect("exports have a shape")
}
