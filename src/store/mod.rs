//! All durable state, in sled. The only module that names it.
//!
//! # What stands where
//!
//! One sled tree; the first byte of a key names the table, numbers are big-endian so that keys sort as they count.
//!
//! | table | key | record | changes |
//! |---|---|---|---|
//! | `m` | | last commit and export numbers, counters, as JSON | once a slice |
//! | `n` | destination (4) | its name: what can be salvaged needs it | when a destination is new |
//! | `p` | profile key (16) | snapshot, as `pipeline` encodes it | each update |
//! | `i` | folded namespace, 0, value | profile key | when an identity is new or its profile was joined |
//! | `s` | destination (4), number (8) | [`Export`](crate::export::Export), with attempts and due time; then why it was made, and its body | made, each attempt, gone when settled |
//! | `d` | destination (4), number (8) | [`DeadLetter`](crate::export::DeadLetter); then the same | when an export dies |
//! | `g` | destination (4) | [`Standing`]: hold, last accepted certificate | with the settlement that changed it |
//! | `r` | commit (8) | the receipts of what that commit settled as delivered ([`receipts`]) | once a slice that delivers |
//! | `c` | audience | how many profiles are in it ([`tally`]) | when one enters or leaves |
//! | `b` | destination (4), number (8) | which exports go out as one request, the first of them being this ([`batch`]) | before they are first sent; gone when one of them ends |
//! | `l` | destination (4), profile key (16) | where the destination coalesces: the number of the export made last ([`place`]) | when an export is made at the end of a line, or ends |
//! | `f` | profile key (16) | what is still to be erased of a profile that is forgotten ([`forget`]) | when that begins and ends |
//! | `k` | `r`; `m` and destination | which rules were evaluated; since when audiences are mapped ([`walks`]) | at a start or reload that changes it |
//! | `w` | walk (16) | a [`Walk`](crate::walk::Walk) over all profiles and how far it is | with each slice of it |
//! | `x` | the key of another record | its bytes, as found | when a record fails its checksum |
//!
//! Each record carries a format version, a checksum over key and payload, and its length ([`record`]). It is cut into
//! chunks of at most 4 KiB, each under the key with the chunk's index behind it: sled writes pages above 128 KiB to files
//! that it never syncs, and a page has up to 16 entries.
//!
//! # One writer
//!
//! A thread of its own takes what is waiting ([`writer`]): for each update it reads the profiles that its identities lead
//! to, calls the `decide` it was handed, and stages the result. Slices of up to 16 updates are applied, each as one atomic
//! batch. The whole group goes to a second thread ([`syncer`]) while the next is decided: there sled is flushed **and the
//! database file is synced**, because sled's own flush does not survive a power cut; only then is anybody answered. So a
//! profile and its exports are one commit, and a 2xx means that both are on disk. Where the file system can, the kernel syncs
//! each write of sled besides ([`files`]): sled counts on that when it uses a place again.
//!
//! Whatever else is wished, by a person mostly, runs on the same thread and is answered after the same sync ([`wish`]): a new
//! destination, a standing, what is dropped ([`mod@drop`]), forgotten ([`forget`]), sent again ([`redrive`]) or called otherwise
//! ([`rename`]). So does going over all profiles, slice by slice ([`walks`]).
//!
//! # What readers see
//!
//! Exports are numbered as they are made. A destination's [`Queue`] sees none above the last synced number, and holds no
//! more than a window of them in memory; due times are in the records, so a restart or a week makes no difference. A
//! [`Claim`] is an export in somebody's hands; it is settled, or given back when it is dropped. After a crash every claim
//! is simply a waiting export again. Operators read the database itself, page by page ([`look`], [`count`]).
//!
//! # When it fails
//!
//! A failed write, sync or read turns health red: updates get [`StoreError::Failed`] or [`StoreError::Full`], nothing more
//! is sent, and the writer mends the store ([`mend`]) without a restart. A record that fails its checksum is moved to `x`
//! and counted, and the rest goes on. Opening ([`open`]) looks whether all is there, against a mark beside the database.
//! What cannot be opened is refused with the command that salvages it ([`upkeep`]).
//!
//! # How full it is
//!
//! Inlets close at a limit of live bytes or of free disk space ([`space`]), and open again as exports drain.

use std::{path::Path, sync::Arc, thread::JoinHandle};

use tokio::sync::{Semaphore, TryAcquireError, mpsc, oneshot};
use tracing::{error, info, warn};

use crate::{
    destination::{DestinationId, Standing},
    export::Next,
    profile::{Refusal, identity::Identity},
};

mod batch;
mod change;
mod claim;
mod copy;
mod count;
mod drop;
mod files;
mod flush;
mod forget;
mod frozen;
mod head;
mod layout;
mod live;
mod look;
mod mend;
mod meta;
mod open;
mod place;
mod queue;
mod queues;
mod receipts;
mod record;
mod redrive;
mod rename;
mod space;
mod still;
mod survey;
mod syncer;
mod tally;
pub mod upkeep;
mod walks;
mod window;
mod wish;
mod writer;

pub use batch::{Batch, Then, middle};
pub use change::{Change, Found};
pub use claim::Claim;
pub use count::FullCount;
pub use drop::{Discarded, Dropped};
pub use forget::Forgotten;
pub use live::Health;
pub use look::{Place, State, Whole};
pub use meta::{Counters, DestinationCounters};
pub use queue::Queue;
pub use receipts::{Receipt, Receipts};
pub use redrive::{Letter, NotRedriven, Redrive, Redriven, Remade};
pub use rename::Renamed;
pub use space::{Limits, Room};
pub use tally::Tally;
pub use walks::Step;

use files::{Files, Mark};
use live::Live;
use open::Opened;
use queues::Queues;
use space::Space;
use writer::{Answer, Command, Decide, Shared};

/// Updates that may wait for the writer. Beyond it the inlet says 503: a sender's retry costs less than our memory.
const UPDATES_WAITING_MAX: usize = 1024;
/// A store whose files have so many times its live bytes is mostly air, and is compacted when it is opened. sled levels off
/// at 3 to 5 under random writes.
const AIR_MAX: u64 = 8;
/// Smaller files are not worth it.
const AIR_BYTES_MIN: u64 = 256 * 1024 * 1024;

/// How a store is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keeping {
    /// When inlets close.
    pub limits: Limits,
    /// Whether what cannot be read may be left behind, rather than wait for a person.
    pub salvages: bool,
    /// How long it is known what was delivered.
    pub receipts: Receipts,
}

/// A handle to the store. Clones share it.
#[derive(Clone)]
pub struct Store {
    live: Arc<Live>,
    space: Arc<Space>,
    commands: mpsc::UnboundedSender<Command>,
    room: Arc<Semaphore>,
    queues: Arc<Queues>,
}

/// Owns the writer's thread, and with it the lock on the directory. [Closed](StoreOwner::close), it ends in order and says when; only
/// dropped, the writer ends by itself some time later.
#[must_use]
pub struct StoreOwner {
    store: Store,
    writer: Option<JoinHandle<()>>,
}

/// Why the store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory cannot be made or used.
    #[error("cannot use the state directory {path}")]
    Directory {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Another process has it.
    #[error("the store in {0} is in use; is postern running? stop it first")]
    InUse(String),
    /// A later version wrote it.
    #[error("the store in {path} has format {found}, this version reads {supported}; run the postern that wrote it")]
    Newer {
        /// Where.
        path: String,
        /// What stands in `FORMAT`.
        found: String,
        /// What we read.
        supported: u32,
    },
    /// There is no store.
    #[error("there is no store in {0}")]
    Missing(String),
    /// It opened, or did not, in a state that cannot be true.
    #[error(
        "the store in {path} is damaged: {what}; `postern store salvage --state-dir {path}` puts it aside and saves what reads"
    )]
    Damaged {
        /// Where.
        path: String,
        /// What was found.
        what: String,
    },
    /// A record of somebody's fails its checksum; the store as a whole is good.
    #[error("{0} fails its checksum; `postern store check` on the stopped store says what else does")]
    Unreadable(String),
    /// A write, a sync or a read failed, and it is not mended yet.
    #[error("the store failed and is being mended; the update may not be kept, send it again")]
    Failed,
    /// The disk is full, or the store has reached its limit.
    #[error("the store or its disk is full until exports have drained; send the update again then")]
    Full,

    /// No exports were ever made for it, and it is not configured.
    #[error("the store knows no destination {0}")]
    Unknown(DestinationId),
    /// More updates are waiting than we hold.
    #[error("{UPDATES_WAITING_MAX} updates are waiting for the disk")]
    Busy,
    /// The decision was to refuse.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// What became of an accepted update, which is on disk either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    /// It changed the profile, or made exports.
    Applied,
    /// The profile was as the update says; only when it was written is news.
    Unchanged,
}

impl StoreOwner {
    /// Opens the store in `dir`, or makes one there, with a queue for each of `destinations` and for all that ever had one.
    /// One that is mostly air is compacted first.
    ///
    /// # Errors
    /// Those of [`StoreError`] that speak of opening. Nothing is changed then.
    pub fn open(dir: &Path, destinations: &[DestinationId], keeping: &Keeping) -> Result<Self, StoreError> {
        Self::start(Files::prepare(dir)?, destinations, keeping)
    }

    /// Opens the store in `dir` if there is one.
    ///
    /// # Errors
    /// [`StoreError::Missing`], and as [`StoreOwner::open`].
    pub fn open_existing(dir: &Path) -> Result<Self, StoreError> {
        Self::start(Files::existing(dir)?, &[], &Keeping::default())
    }

    fn start(files: Files, destinations: &[DestinationId], keeping: &Keeping) -> Result<Self, StoreError> {
        let mut opened = open::open(&files)?;
        if is_mostly_air(&files, &opened) {
            info!(disk_bytes = files.disk_bytes(), live_bytes = opened.meta.live_bytes(), "compacting the store");
            match upkeep::compact_open(&files, opened, &mut |_, _| {}) {
                Ok(copied) => info!(disk_bytes = copied.disk_bytes[1], "compacted"),
                // As it is it works too.
                Err(error) => warn!(error = crate::chain(&error), "not compacted"),
            }
            opened = open::open(&files)?;
        }
        opened.count_members().map_err(|error| files.failed(error))?;
        opened.introduce(destinations).map_err(|error| files.failed(error))?;
        opened.file.sync_data().map_err(|source| files.error(source))?;
        files.settle_mark(Mark { commit: opened.meta.commit, closed: false });
        files.finish()?;

        let live = Arc::new(Live::new(opened.db.clone(), opened.meta.commit));
        let (commands, inbox) = mpsc::unbounded_channel();
        let queues = Arc::new(Queues::default());
        for (id, entry) in opened.meta.destinations() {
            let (synced, kept) = (opened.meta.last_number, opened.kept.of(entry.number));
            queues.get_or_make(id, || Queue::new(live.clone(), entry, synced, commands.clone(), kept));
        }
        let space = Arc::new(Space::new(files.dir(), &keeping.limits).map_err(|source| files.error(source))?);
        let shared = Shared {
            files,
            live: live.clone(),
            space: space.clone(),
            receipts: keeping.receipts,
            queues: queues.clone(),
            renamed: Default::default(),
            commands: commands.clone(),
        };
        let dir = shared.files.dir().display().to_string();
        let thread = std::thread::Builder::new().name("store-writer".to_owned());
        let writer = thread.spawn(move || writer::run(&shared, opened, inbox));
        let writer = writer.map_err(|source| StoreError::Directory { path: dir, source })?;
        let room = Arc::new(Semaphore::new(UPDATES_WAITING_MAX));
        Ok(Self { store: Store { live, space, commands, room, queues }, writer: Some(writer) })
    }

    /// A handle for others.
    pub fn store(&self) -> Store {
        self.store.clone()
    }

    /// Commits what was sent before this call, then ends the writer. Later calls on handles get [`StoreError::Failed`].
    /// Blocks until all is on disk.
    pub fn close(mut self) {
        self.store.live.closing();
        // An error means that the writer has ended already.
        let _ = self.store.commands.send(Command::Close);
        if self.writer.take().is_some_and(|writer| writer.join().is_err()) {
            error!("the store's writer ended in a panic");
        }
    }
}

impl Drop for StoreOwner {
    fn drop(&mut self) {
        self.store.live.closing();
        // The queues keep senders of their own, so the writer has to be told. An error means that it was.
        let _ = self.store.commands.send(Command::Close);
    }
}

fn is_mostly_air(files: &Files, opened: &Opened) -> bool {
    files.disk_bytes() > AIR_BYTES_MIN.max(opened.meta.live_bytes().saturating_mul(AIR_MAX))
}

/// Whether whoever had the store in `dir` last was killed, or it is in use: opening it may then take a process down.
pub fn was_cut_off(dir: &Path) -> bool {
    Files::existing(dir).is_ok_and(|files| !files.read_mark().closed)
}

/// Says whether `run` could read the store in `dir`, if there is one, by its format alone: nothing is opened.
///
/// # Errors
/// [`StoreError::Newer`], or [`StoreError::Directory`] when it cannot be told.
pub fn is_readable(dir: &Path) -> Result<(), StoreError> {
    files::is_new(dir).map(drop)
}

impl Store {
    /// Hands an update to the writer: `decide` gets what `identities` lead to, and runs on the writer's thread. Returns when
    /// what it decided is on disk.
    ///
    /// # Errors
    /// [`StoreError::Full`] at once when there is no room on disk and [`StoreError::Busy`] when too many wait,
    /// [`StoreError::Refused`] with what `decide` said, [`StoreError::Failed`] when it may not be on disk.
    pub async fn update(
        &self,
        identities: Vec<Identity>,
        decide: impl FnOnce(Found) -> Result<Change, Refusal> + Send + 'static,
    ) -> Result<Committed, StoreError> {
        if !self.live.is_good() {
            return Err(self.live.error());
        }
        if !self.space.admits() {
            return Err(StoreError::Full);
        }
        let room = self.room.clone().try_acquire_owned().map_err(|error| match error {
            TryAcquireError::NoPermits => StoreError::Busy,
            TryAcquireError::Closed => StoreError::Failed,
        })?;
        let (sender, answered) = oneshot::channel();
        let answer = Answer { sender, _room: room };
        let decide: Decide = Box::new(decide);
        self.commands.send(Command::Update { identities, decide, answer }).map_err(|_| StoreError::Failed)?;
        answered.await.map_err(|_| self.live.error())?
    }

    /// Settles a claim: where its export goes next, and what was learned of the destination, in one commit. The next
    /// export of the profile becomes due when that is on disk.
    ///
    /// Claims are bounded by the destination, so this does not wait.
    pub fn settle(&self, claim: Claim, next: Next, standing: Option<Standing>) {
        self.settle_batch(claim.into(), vec![next], Then::Stay, standing);
    }

    /// The queue of a destination.
    pub fn queue(&self, destination: &DestinationId) -> Option<Arc<Queue>> {
        self.queues.get(destination)
    }

    /// All queues, by destination.
    pub fn queues(&self) -> Vec<(DestinationId, Arc<Queue>)> {
        self.queues.all()
    }

    /// How it is doing.
    pub fn health(&self) -> Health {
        self.live.health()
    }

    /// True while it takes and gives.
    pub fn is_healthy(&self) -> bool {
        self.live.is_good() && !self.commands.is_closed()
    }

    /// Returns when the store has ended, in whatever way: nothing mends it any more.
    pub async fn ended(&self) {
        self.commands.closed().await;
    }

    /// Goes by other limits from now on.
    pub fn set_limits(&self, limits: &Limits) {
        self.space.set_limits(limits);
    }

    /// How full it is.
    pub fn room(&self) -> Room {
        self.space.room()
    }

    /// The counters, as synced.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub async fn counters(&self) -> Result<Counters, StoreError> {
        if !self.live.is_good() {
            return Err(self.live.error());
        }
        let (answer, answered) = oneshot::channel();
        self.commands.send(Command::Count { answer }).map_err(|_| StoreError::Failed)?;
        answered.await.map_err(|_| StoreError::Failed)
    }

    /// Bytes of the files that hold the store.
    pub fn bytes_on_disk(&self) -> u64 {
        self.live.db().and_then(|db| db.size_on_disk().ok()).unwrap_or_default()
    }

    /// What was last known of a destination.
    pub fn standing(&self, destination: &DestinationId) -> Standing {
        let read = || {
            let (db, queue) = (self.live.db()?, self.queue(destination)?);
            let record = record::read(&db, &layout::standing(queue.destination())).ok()??;
            serde_json::from_slice(&record.payload).ok()
        };
        read().unwrap_or_default()
    }
}

#[cfg(test)]
mod at_once_tests;
#[cfg(test)]
mod batch_tests;
#[cfg(test)]
mod place_tests;
#[cfg(test)]
mod rename_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod walk_tests;
#[cfg(test)]
mod wish_tests;
