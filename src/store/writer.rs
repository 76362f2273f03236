//! The one writer: gather, decide, apply in slices, and hand over to the syncer, group by group.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    io::ErrorKind,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError, mpsc::SyncSender},
};

use sled::Batch;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tracing::{error, warn};

use super::{
    Change, Committed, Counters, Found, StoreError,
    batch::Then,
    claim::Released,
    files::{Files, Mark},
    flush::Flusher,
    head,
    layout::{self, Table},
    live::{Health, Live},
    mend,
    meta::{Entry, Meta},
    open::Opened,
    queue::Queue,
    queues::Queues,
    receipts::{Packed, Receipts, Sweep},
    record::{self, Record, Staged, Unreadable},
    rename::{self, Renames},
    space::Space,
    syncer::{Group, Syncer},
};
use crate::{
    destination::Standing,
    export::Next,
    metrics,
    profile::{ProfileKey, Refusal, identity::Identity},
};

/// Commands behind one flush and one sync. Larger groups gain nothing more and make answers wait.
const GROUP_MAX: usize = 256;
/// Updates in one atomic batch: 16 are twice as fast as one, and 64 hardly faster.
const SLICE_UPDATES_MAX: usize = 16;
/// Operations in one atomic batch. While one is applied sled frees little: batches of 1500 take gigabytes.
pub(super) const SLICE_OPERATIONS_MAX: usize = 100;

/// Decides what an update does, given what its identities lead to.
pub(super) type Decide = Box<dyn FnOnce(Found) -> Result<Change, Refusal> + Send>;
/// The identities that an update names, as keys, and the profile that each led to.
pub(super) type Links = Vec<(Vec<u8>, Option<ProfileKey>)>;
/// Stored lengths of the profiles that were found.
pub(super) type Lengths = BTreeMap<ProfileKey, usize>;

/// Something else that is done on the writer's thread, and staged like all.
pub(super) type Wish = Box<dyn for<'w, 's> FnOnce(&'w mut Writer<'s>) -> Result<(), Failure> + Send>;

/// Where an answer goes, and the place that the update takes among those that wait. A sender who goes away early frees no
/// place: his update is still here.
pub(super) struct Answer {
    pub(super) sender: oneshot::Sender<Result<Committed, StoreError>>,
    pub(super) _room: OwnedSemaphorePermit,
}

pub(super) enum Command {
    Update {
        identities: Vec<Identity>,
        decide: Decide,
        answer: Answer,
    },
    Settle {
        settled: Vec<(Released, Next)>,
        then: Then,
        standing: Option<Standing>,
    },
    PutAside {
        queue: Arc<Queue>,
        number: u64,
    },
    Count {
        answer: oneshot::Sender<Counters>,
    },
    /// To be done while nothing is written; see [`super::still`].
    Still(Box<dyn FnOnce() + Send>),
    /// What somebody wishes beside updates and settlements; see [`super::wish`].
    Wish(Wish),
    /// Somebody met a failure of the store.
    Failed,
    Close,
}

/// What the writer, the syncer and mending share.
pub(super) struct Shared {
    pub(super) files: Files,
    pub(super) live: Arc<Live>,
    pub(super) space: Arc<Space>,
    pub(super) receipts: Receipts,
    pub(super) queues: Arc<Queues>,
    /// What destinations were called before, for the writer that comes after a failure.
    pub(super) renamed: Mutex<Renames>,
    /// To the writer itself.
    pub(super) commands: mpsc::UnboundedSender<Command>,
}

pub(super) type Inbox = mpsc::UnboundedReceiver<Command>;

/// sled or the disk failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("cannot write to the store: {0}")]
    Sled(#[from] sled::Error),
    #[error("cannot sync the store: {0}")]
    Sync(std::io::Error),
    #[error("cannot read from the store")]
    Read,
    #[error("the database broke off")]
    Panic,
}

impl Failure {
    pub(super) fn health(&self) -> Health {
        match self {
            Self::Sled(sled::Error::Io(error)) | Self::Sync(error) if error.kind() == ErrorKind::StorageFull => {
                Health::Full
            }
            Self::Sled(_) | Self::Sync(_) | Self::Read | Self::Panic => Health::Failed,
        }
    }
}

/// Works until it is told to close: on an open database, and, whenever that fails, on getting it back.
pub(super) fn run(shared: &Shared, opened: Opened, mut inbox: Inbox) {
    let mut next = Some(opened);
    while let Some(opened) = next.take() {
        match session(shared, opened, &mut inbox) {
            Ok(commit) => shared.files.settle_mark(Mark { commit, closed: true }),
            Err(failure) => {
                // Read by those whose answers are dropped.
                shared.live.fail(failure.health());
                error!(%failure, "the store failed; updates are answered 503 and nothing is sent until it is mended");
                next = mend::mend(shared, &failure, &mut inbox).filter(|_| !shared.live.is_closing());
            }
        }
    }
    // Handles that outlive the owner keep nothing open.
    shared.live.close();
}

/// Works on an open database; returns the last commit when it was told to close.
fn session(shared: &Shared, opened: Opened, inbox: &mut Inbox) -> Result<u64, Failure> {
    let Opened { db, file, meta, kept: _ } = opened;
    shared.space.load_ballast();
    shared.space.measure(meta.live_bytes());
    let flushing = Mutex::new(());
    let syncer = Syncer { flusher: Flusher::new(&db).map_err(Failure::Sync)?, file, shared, flushing: &flushing };
    std::thread::scope(|scope| {
        let (to_syncer, groups) = std::sync::mpsc::sync_channel(1);
        let syncing = std::thread::Builder::new().name("store-syncer".to_owned());
        let sync = move || {
            catch_unwind(AssertUnwindSafe(|| syncer.run(&groups))).unwrap_or_else(|_| {
                shared.live.fail(Health::Failed);
                let _ = shared.commands.send(Command::Failed);
                Err(Failure::Panic)
            })
        };
        let syncing = syncing.spawn_scoped(scope, sync).map_err(Failure::Sync)?;
        let writer = Writer::new(db, meta, shared, &flushing, to_syncer);
        // sled panics rather than errs on some damage.
        let written = catch_unwind(AssertUnwindSafe(|| writer.run(inbox)));
        let synced = syncing.join().unwrap_or(Err(Failure::Panic));
        synced.and(written.unwrap_or(Err(Failure::Panic)))
    })
}

pub(super) struct Writer<'s> {
    pub(super) db: sled::Db,
    pub(super) meta: Meta,
    pub(super) shared: &'s Shared,
    flushing: &'s Mutex<()>,
    to_syncer: SyncSender<Group>,
    pub(super) slice: Slice,
    pub(super) group: Group,
    pub(super) sweep: Sweep,
    /// How many are in each audience, as far as that was asked for.
    pub(super) members: HashMap<String, u64>,
    /// Destinations by the names that they had, as long as somebody may know them by those.
    pub(super) renamed: Renames,
}

/// What goes into the next atomic batch.
#[derive(Default)]
pub(super) struct Slice {
    pub(super) batch: Batch,
    pub(super) operations: usize,
    updates: usize,
    /// Profiles and identities that the batch writes, by key: what touches them too has to see them applied.
    pub(super) touched: HashSet<Vec<u8>>,
    /// What the batch does to the table of places, by key: the number that stands there then, if one does.
    pub(super) places: HashMap<Vec<u8>, Option<u64>>,
    /// What was delivered.
    pub(super) receipts: Vec<Packed>,
    /// The batch changes receipts that were there before.
    pub(super) rewrites_receipts: bool,
}

impl<'s> Writer<'s> {
    fn new(
        db: sled::Db,
        meta: Meta,
        shared: &'s Shared,
        flushing: &'s Mutex<()>,
        to_syncer: SyncSender<Group>,
    ) -> Self {
        let renamed = rename::as_left(shared, &meta);
        Self {
            db,
            meta,
            shared,
            flushing,
            to_syncer,
            slice: Slice::default(),
            members: HashMap::new(),
            renamed,
            group: Group::default(),
            sweep: Sweep::default(),
        }
    }

    /// Takes commands until it is told to close; returns the last commit.
    fn run(mut self, inbox: &mut Inbox) -> Result<u64, Failure> {
        while let Some(first) = inbox.blocking_recv() {
            let waiting = std::iter::from_fn(|| inbox.try_recv().ok());
            let commands: Vec<Command> = std::iter::once(first).chain(waiting.take(GROUP_MAX - 1)).collect();
            if !self.shared.live.is_good() {
                return Err(Failure::Read);
            }
            let close = commands.iter().any(|command| matches!(command, Command::Close));
            self.commit(commands)?;
            if close {
                break;
            }
        }
        Ok(self.meta.commit)
    }

    fn commit(&mut self, commands: Vec<Command>) -> Result<(), Failure> {
        metrics::group_size(commands.len());
        for command in commands {
            if let Err(failure) = self.take(command) {
                // Before the other answers are dropped: those who wait are told why.
                self.shared.live.fail(failure.health());
                return Err(failure);
            }
        }
        self.hand_over()
    }

    /// Hands the group to the syncer.
    pub(super) fn hand_over(&mut self) -> Result<(), Failure> {
        self.apply_staged()?;
        self.group.commit = self.meta.commit;
        self.group.last_number = self.meta.last_number;
        self.group.counters = self.meta.counters();
        let group = std::mem::take(&mut self.group);
        // An error means that the syncer has ended, in a failure of its own.
        self.to_syncer.send(group).map_err(|_| Failure::Read)
    }

    fn take(&mut self, command: Command) -> Result<(), Failure> {
        match command {
            Command::Update { identities, decide, answer } => self.update(identities, decide, answer)?,
            Command::Settle { settled, then, standing } => self.settle_batch(settled, then, standing)?,
            Command::PutAside { queue, number } => self.put_aside_export(queue, number)?,
            Command::Count { answer } => self.group.counts.push(answer),
            Command::Still(work) => self.be_still(work)?,
            Command::Wish(wish) => wish(self)?,
            Command::Failed | Command::Close => {}
        }
        if self.slice.operations >= SLICE_OPERATIONS_MAX || self.slice.updates >= SLICE_UPDATES_MAX {
            self.apply()?;
        }
        Ok(())
    }

    fn update(&mut self, identities: Vec<Identity>, decide: Decide, answer: Answer) -> Result<(), Failure> {
        let (links, found, lengths) = self.find(&identities)?;
        match decide(found) {
            // Nothing is to be synced for it; an error means that the sender has gone.
            Err(refusal) => drop(answer.sender.send(Err(refusal.into()))),
            Ok(change) => {
                self.count_members(&change.members)?;
                self.group.answers.push((answer, change.committed));
                self.meta.accepted += 1;
                match change.committed {
                    Committed::Applied => self.meta.applied += 1,
                    Committed::Unchanged => self.meta.unchanged += 1,
                }
                self.slice.updates += 1;
                self.stage(change, links, &lengths)?;
            }
        }
        Ok(())
    }

    /// Reads what identities lead to, and how long each snapshot is stored.
    pub(super) fn find(&mut self, identities: &[Identity]) -> Result<(Links, Found, Lengths), Failure> {
        let named: Vec<Vec<u8>> = identities.iter().map(layout::identity).collect();
        if named.iter().any(|link| self.slice.touched.contains(link)) {
            self.apply()?;
        }
        let mut links: Links = Vec::with_capacity(named.len());
        for link in named {
            let leads_to = self.read(&link)?.and_then(|record| record.payload.try_into().ok());
            let leads_to = leads_to.map(ProfileKey::from_bytes);
            links.push((link, leads_to));
        }
        let found: BTreeSet<ProfileKey> = links.iter().filter_map(|(_, leads_to)| *leads_to).collect();
        if found.iter().any(|key| self.slice.touched.contains(&layout::profile(key))) {
            self.apply()?;
        }
        let (mut snapshots, mut lost, mut lengths) = (Vec::new(), Vec::new(), Lengths::new());
        for key in found {
            match self.read(&layout::profile(&key))? {
                Some(snapshot) => {
                    lengths.insert(key, snapshot.length);
                    snapshots.push(snapshot.payload);
                }
                None => lost.push(key),
            }
        }
        Ok((links, Found { snapshots, lost }, lengths))
    }

    /// Stages a change; `lengths` has the stored lengths of the snapshots that it takes the place of.
    pub(super) fn stage(&mut self, change: Change, links: Links, lengths: &Lengths) -> Result<(), Failure> {
        let Change { committed: _, key, snapshot, absorbed, moved, lines, accepted_at, exports, skipped, members: _ } =
            change;
        let profile = layout::profile(&key);
        self.put(&profile, &[&snapshot], lengths.get(&key).copied());
        self.meta.profiles = self.meta.profiles + 1 - lengths.len() as u64;
        self.meta.last_profile = Some(key);
        self.slice.touched.insert(profile);
        for gone in &absorbed {
            let profile = layout::profile(gone);
            self.remove(&profile, lengths.get(gone).copied());
            self.slice.touched.insert(profile);
        }
        let moved = moved.iter().map(|identity| (layout::identity(identity), absorbed.first().copied()));
        for (link, led_to) in links.into_iter().chain(moved) {
            let news = self.slice.touched.insert(link.clone());
            if news && led_to != Some(key) {
                // A key is stored as it is, so the one before was as long.
                self.put(&link, &[key.as_bytes()], led_to.map(|other| other.as_bytes().len()));
            }
        }
        for export in exports {
            self.make(export, lines.clone(), accepted_at)?;
        }
        for destination in skipped {
            let destination = self.called(destination);
            let counted = self.meta.entry(&destination);
            (counted.made, counted.skipped) = (counted.made + 1, counted.skipped + 1);
        }
        self.sweep.now = accepted_at;
        Ok(())
    }

    pub(super) fn settle(&mut self, released: Released, next: Next, standing: Option<Standing>) -> Result<(), Failure> {
        let Released { queue, number, id, profile, frozen } = released;
        let length = frozen.record_length;
        let destination = queue.destination();
        match &next {
            Next::Waiting(_) => {}
            Next::Delivered(_) | Next::Dead(_) | Next::Dropped => self.vacate(destination, number, profile)?,
        }
        let entry = layout::entry(Table::Schedule, destination, number);
        if !matches!(next, Next::Waiting(_)) {
            self.part(&queue, number);
        }
        match &next {
            Next::Waiting(export) => drop(self.put(&entry, &[&head::encode(export), frozen.as_bytes()], Some(length))),
            Next::Delivered(attempt) => {
                self.remove(&entry, Some(length));
                self.count(destination, |counted| counted.ended().delivered += 1);
                self.receive(destination, number, id, profile, attempt);
            }
            Next::Dead(letter) => {
                self.remove(&entry, Some(length));
                let letter = head::encode(letter);
                self.put(&layout::entry(Table::Dead, destination, number), &[&letter, frozen.as_bytes()], None);
                let died =
                    |counted: &mut Entry| (counted.dead, counted.letters) = (counted.dead + 1, counted.letters + 1);
                self.count(destination, |counted| died(counted.ended()));
            }
            Next::Dropped => {
                self.remove(&entry, Some(length));
                self.count(destination, |counted| counted.ended().dropped += 1);
            }
        }
        if let Some(standing) = standing {
            self.stand(destination, &standing);
        }
        self.count(destination, |counted| counted.low_water = counted.low_water.max(queue.low_water()));
        self.group.settled.push((queue, number, next));
        Ok(())
    }

    pub(super) fn stand(&mut self, destination: u32, standing: &Standing) {
        // One small record a destination: not worth counting, and it may stand twice in a slice.
        let bytes = serde_json::to_vec(standing).expect("a standing has text keys only");
        drop(record::put(&mut self.slice.batch, &layout::standing(destination), &[&bytes], None));
        self.slice.operations += 1;
    }

    pub(super) fn count(&mut self, destination: u32, change: impl FnOnce(&mut Entry)) {
        change(self.meta.entry_numbered(destination).expect("a queue's number comes from here"));
    }

    /// Returns the stored length.
    pub(super) fn put(&mut self, key: &[u8], payload: &[&[u8]], before: Option<usize>) -> usize {
        let staged = record::put(&mut self.slice.batch, key, payload, before);
        let length = staged.length;
        self.staged(staged);
        length
    }

    pub(super) fn remove(&mut self, key: &[u8], length: Option<usize>) {
        if let Some(length) = length {
            let staged = record::remove(&mut self.slice.batch, key, length);
            self.staged(staged);
        }
    }

    pub(super) fn staged(&mut self, staged: Staged) {
        self.slice.operations += staged.operations;
        self.meta.live_bytes += staged.bytes;
    }

    /// Reads a record; one that fails its checksum is put aside and gone.
    pub(super) fn read(&mut self, key: &[u8]) -> Result<Option<Record>, Failure> {
        match record::read(&self.db, key) {
            Ok(record) => Ok(record),
            Err(Unreadable::Damaged) => {
                self.meta.profiles -= u64::from(key.starts_with(b"p")).min(self.meta.profiles);
                warn!(table = %char::from(key[0]), "a record failed its checksum and was put aside");
                self.put_aside(key).map(|()| None)
            }
            Err(Unreadable::Failed(error)) => Err(error.into()),
        }
    }

    fn put_aside_export(&mut self, queue: Arc<Queue>, number: u64) -> Result<(), Failure> {
        let destination = queue.destination();
        // Both the window and a reader of the disk may have found it.
        let key = layout::entry(Table::Schedule, destination, number);
        if record::is_there(&self.db, &key)? {
            self.count(destination, |counted| counted.ended().damaged += 1);
            error!(destination, number, "an export failed its checksum; it is not sent, and was put aside");
            self.put_aside(&key)?;
        }
        self.part(&queue, number);
        self.group.put_aside.push((queue, number));
        Ok(())
    }

    /// Moves what stands under a key to quarantine, and counts it, in a batch of its own.
    pub(super) fn put_aside(&mut self, key: &[u8]) -> Result<(), Failure> {
        if self.slice.operations > 0 {
            self.apply()?;
        }
        let moved = record::move_away(&self.db, &mut self.slice.batch, key, &layout::quarantined(key))?;
        self.staged(moved);
        self.meta.quarantined += 1;
        self.apply()
    }

    /// Applies what is staged, so that reading sees it.
    pub(super) fn apply_staged(&mut self) -> Result<(), Failure> {
        match self.slice.operations > 0 || self.slice.updates > 0 {
            true => self.apply(),
            false => Ok(()),
        }
    }

    /// Applies the slice, with the counters that it changed, as one atomic batch.
    pub(super) fn apply(&mut self) -> Result<(), Failure> {
        self.keep_receipts()?;
        self.meta.put(&mut self.slice.batch);
        let Slice { batch, .. } = std::mem::take(&mut self.slice);
        self.group.is_unsynced = true;
        let _not_flushing = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        self.db.apply_batch(batch)?;
        Ok(())
    }
}
