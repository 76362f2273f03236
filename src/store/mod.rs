//! All durable state, in sled. The only module that names it.
//!
//! # What stands where
//!
//! One sled tree; the first byte of a key names the table, numbers are big-endian so that keys sort as they count.
//!
//! | table | key | record | changes |
//! |---|---|---|---|
//! | `m` | | last commit number, counters, destination numbers | once a slice |
//! | `p` | profile key (16) | snapshot, as `pipeline` encodes it | each update |
//! | `i` | folded namespace, 0, value | profile key | when an identity is new or its profile was joined |
//! | `s` | destination (4), number (8) | [`Export`]: the scheduling entry, with attempts and due time | made, each attempt, gone when settled |
//! | `b` | number (8) | why the export was made, and its body | made and gone with the export |
//! | `d` | destination (4), number (8) | [`DeadLetter`]; its body stays in `b` | when an export dies |
//! | `g` | destination (4) | [`Standing`]: hold, last accepted certificate | with the settlement that changed it |
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
//! batch; then, once for the whole group, sled is flushed **and the database file is synced**, because sled's own flush
//! does not survive a power cut; only then is anybody answered. So a profile and its exports are one commit, and a 2xx
//! means that both are on disk.
//!
//! # What readers see
//!
//! Exports are numbered as they are made. A destination's [`Queue`] sees none above the last synced number, and holds no
//! more than a window of them in memory; due times are in the records, so a restart or a week makes no difference. A
//! [`Claim`] is an export in somebody's hands; it is settled, or given back when it is dropped. After a crash every claim
//! is simply a waiting export again.
//!
//! # When it fails
//!
//! After a failed write or sync nothing more is written: the page cache can no longer be believed. Every later call gets
//! [`StoreError::Failed`], nothing more is sent, readiness goes red, and a restart recovers what was synced. A record that fails its checksum is
//! moved to `x` and counted, and the rest goes on.
//!
//! Left out so far: compaction, salvage, the disk contract, receipts.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use tokio::sync::{Semaphore, TryAcquireError, mpsc, oneshot};

use crate::{
    destination::{DestinationId, Standing},
    export::{DeadLetter, Export, Next},
    profile::{Refusal, identity::Identity},
};

mod change;
mod files;
mod layout;
mod meta;
mod queue;
mod record;
mod window;
mod writer;

pub use change::{Change, Found};
pub use meta::{Counters, DestinationCounters};
pub use queue::{Claim, Queue};

use files::Files;
use layout::Table;
use meta::Meta;
use record::Unreadable;
use writer::{Answer, Command, Decide, Failure, Writer};

/// Updates that may wait for the writer. Beyond it the inlet says 503: a sender's retry costs less than our memory.
const UPDATES_WAITING_MAX: usize = 1024;
/// Memory that sled may use for pages.
const CACHE_BYTES: u64 = 64 * 1024 * 1024;

/// A handle to the store. Clones share it.
#[derive(Clone)]
pub struct Store {
    db: sled::Db,
    commands: mpsc::UnboundedSender<Command>,
    room: Arc<Semaphore>,
    failed: Arc<AtomicBool>,
    queues: Arc<BTreeMap<DestinationId, Arc<Queue>>>,
}

/// Owns the writer's thread and the lock on the directory. [Closed](StoreOwner::close), it ends in order and says when; only
/// dropped, the writer ends by itself some time later.
#[must_use]
pub struct StoreOwner {
    store: Store,
    writer: Option<JoinHandle<()>>,
    // Held until the end: nobody else opens the directory meanwhile.
    _files: Files,
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
    #[error("the store in {path} is damaged: {what}; keep a copy of the directory, then move it aside to start afresh")]
    Damaged {
        /// Where.
        path: String,
        /// What was found.
        what: String,
    },
    /// A write, a flush or a sync failed, now or before.
    #[error("the store failed and takes nothing more until a restart")]
    Failed,
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
    ///
    /// # Errors
    /// All of [`StoreError`] but `Failed`, `Busy`, `Refused` and `Missing`. Nothing is changed then.
    pub fn open(dir: &Path, destinations: &[DestinationId]) -> Result<Self, StoreError> {
        let files = Files::prepare(dir)?;
        Self::start(files, destinations)
    }

    /// Opens the store in `dir` if there is one.
    ///
    /// # Errors
    /// [`StoreError::Missing`], and as [`StoreOwner::open`].
    pub fn open_existing(dir: &Path) -> Result<Self, StoreError> {
        Self::start(Files::existing(dir)?, &[])
    }

    fn start(files: Files, destinations: &[DestinationId]) -> Result<Self, StoreError> {
        let db = files.open(CACHE_BYTES)?;
        let mut meta = match Meta::read(&db) {
            Ok(Some(meta)) => meta,
            Ok(None) if files.is_new() => Meta::default(),
            Ok(None) => return Err(files.damaged("its counters are gone")),
            Err(Unreadable::Damaged) => return Err(files.damaged("its counters fail their checksum")),
            Err(Unreadable::Failed(error)) => return Err(files.failed(error)),
        };
        for destination in destinations {
            meta.number_of(destination);
        }
        let failed = Arc::new(AtomicBool::new(false));
        let (commands, inbox) = mpsc::unbounded_channel();
        let queue = |entry| Arc::new(Queue::new(db.clone(), entry, meta.last_number, commands.clone(), failed.clone()));
        let queues: BTreeMap<_, _> = meta.destinations().map(|(id, entry)| (id.clone(), queue(entry))).collect();
        let queues = Arc::new(queues);
        let mut writer = Writer::new(db.clone(), files.database()?, meta, queues.clone(), failed.clone());
        writer.first_commit().map_err(|failure| match failure {
            Failure::Sync(source) => files.error(source),
            Failure::Sled(error) => files.failed(error),
        })?;
        files.finish()?;
        let thread = std::thread::Builder::new().name("store-writer".to_owned());
        let writer = Some(thread.spawn(move || writer.run(inbox)).map_err(|source| files.error(source))?);
        let room = Arc::new(Semaphore::new(UPDATES_WAITING_MAX));
        let store = Store { db, commands, room, failed, queues };
        Ok(Self { store, writer, _files: files })
    }

    /// A handle for others.
    pub fn store(&self) -> Store {
        self.store.clone()
    }

    /// Commits what was sent before this call, then ends the writer. Later calls on handles get [`StoreError::Failed`].
    /// Blocks until all is on disk.
    pub fn close(mut self) {
        // An error means that the writer has ended already.
        let _ = self.store.commands.send(Command::Close);
        if self.writer.take().is_some_and(|writer| writer.join().is_err()) {
            tracing::error!("the store's writer ended in a panic");
        }
    }
}

impl Drop for StoreOwner {
    fn drop(&mut self) {
        // The queues keep senders of their own, so the writer has to be told. An error means that it was.
        let _ = self.store.commands.send(Command::Close);
    }
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
    /// [`StoreError::Busy`] at once when too many wait, [`StoreError::Refused`] with what `decide` said,
    /// [`StoreError::Failed`] when it may not be on disk.
    pub async fn update(
        &self,
        identities: Vec<Identity>,
        decide: impl FnOnce(Found) -> Result<Change, Refusal> + Send + 'static,
    ) -> Result<Committed, StoreError> {
        let room = self.room.clone().try_acquire_owned().map_err(|error| match error {
            TryAcquireError::NoPermits => StoreError::Busy,
            TryAcquireError::Closed => StoreError::Failed,
        })?;
        let (sender, answered) = oneshot::channel();
        let answer = Answer { sender, _room: room };
        let decide: Decide = Box::new(decide);
        self.commands.send(Command::Update { identities, decide, answer }).map_err(|_| StoreError::Failed)?;
        answered.await.map_err(|_| StoreError::Failed)?
    }

    /// Settles a claim: where its export goes next, and what was learned of the destination, in one commit. The next
    /// export of the profile becomes due when that is on disk.
    ///
    /// Claims are bounded by the destination, so this does not wait.
    pub fn settle(&self, claim: Claim, next: Next, standing: Option<Standing>) {
        let (queue, number, lengths) = claim.release();
        // An error means that the writer has ended: after a restart the export is waiting, as if never sent.
        let _ = self.commands.send(Command::Settle { queue, number, lengths, next: Box::new(next), standing });
    }

    /// The queue of a destination.
    pub fn queue(&self, destination: &DestinationId) -> Option<Arc<Queue>> {
        self.queues.get(destination).cloned()
    }

    /// All queues, by destination.
    pub fn queues(&self) -> impl Iterator<Item = (&DestinationId, &Arc<Queue>)> {
        self.queues.iter()
    }

    /// True until a write or a sync has failed.
    pub fn is_healthy(&self) -> bool {
        !self.failed.load(Ordering::Relaxed) && !self.commands.is_closed()
    }

    /// The counters, as synced.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub async fn counters(&self) -> Result<Counters, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.commands.send(Command::Count { answer }).map_err(|_| StoreError::Failed)?;
        answered.await.map_err(|_| StoreError::Failed)
    }

    /// Bytes of the files that hold the store.
    pub fn bytes_on_disk(&self) -> u64 {
        self.db.size_on_disk().unwrap_or_default()
    }

    /// What was last known of a destination.
    pub fn standing(&self, destination: &DestinationId) -> Standing {
        let number = self.queues.get(destination).map(|queue| queue.destination());
        let read = number.and_then(|number| record::read(&self.db, &layout::standing(number)).ok().flatten());
        read.and_then(|bytes| postcard::from_bytes(&bytes).ok()).unwrap_or_default()
    }

    /// A page of dead letters of a destination, oldest first, from number `from` on.
    pub fn dead_letters(&self, destination: &DestinationId, from: u64, most: usize) -> Vec<(u64, DeadLetter)> {
        let Some(queue) = self.queues.get(destination) else { return Vec::new() };
        layout::scan(&self.db, Table::Dead, queue.destination(), from, u64::MAX).take(most).collect()
    }

    /// A page of waiting exports of a destination, oldest first, from number `from` on.
    pub fn waiting(&self, destination: &DestinationId, from: u64, most: usize) -> Vec<(u64, Export)> {
        let Some(queue) = self.queues.get(destination) else { return Vec::new() };
        layout::scan(&self.db, Table::Schedule, queue.destination(), from, queue.synced()).take(most).collect()
    }
}

#[cfg(test)]
mod tests;
