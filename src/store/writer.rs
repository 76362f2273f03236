//! The one writer: gather, decide, apply in slices, flush and sync once, then answer.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fs::File,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use sled::Batch;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tracing::{error, warn};

use super::{
    Change, Committed, Counters, Found, StoreError,
    layout::{self, Table},
    meta::Meta,
    queue::{Frozen, Lengths, Queue},
    record::{self, Staged, Unreadable},
};
use crate::{
    destination::{DestinationId, Standing},
    export::{Export, Next},
    metrics,
    profile::{ProfileKey, Refusal, identity::Identity},
};

/// Commands behind one flush and one sync. Larger groups gain nothing more and make answers wait.
const GROUP_MAX: usize = 256;
/// Updates in one atomic batch: 16 are twice as fast as one, and 64 hardly faster.
const SLICE_UPDATES_MAX: usize = 16;
/// Operations in one atomic batch. While one is applied sled frees little: batches of 1500 take gigabytes.
const SLICE_OPERATIONS_MAX: usize = 100;

/// Decides what an update does, given what its identities lead to.
pub(super) type Decide = Box<dyn FnOnce(Found) -> Result<Change, Refusal> + Send>;
/// The identities that an update names, as keys, and the profile that each led to.
type Links = Vec<(Vec<u8>, Option<ProfileKey>)>;

/// Where an answer goes, and the place that the update takes among those that wait. A sender who goes away early frees no
/// place: his update is still here.
pub(super) struct Answer {
    pub(super) sender: oneshot::Sender<Result<Committed, StoreError>>,
    pub(super) _room: OwnedSemaphorePermit,
}

pub(super) enum Command {
    Update { identities: Vec<Identity>, decide: Decide, answer: Answer },
    Settle { queue: Arc<Queue>, number: u64, lengths: Lengths, next: Box<Next>, standing: Option<Standing> },
    PutAside { destination: u32, number: u64 },
    Count { answer: oneshot::Sender<Counters> },
    Close,
}

pub(super) struct Writer {
    db: sled::Db,
    /// sled's file: its own flush does not survive a power cut.
    file: File,
    meta: Meta,
    meta_length: Option<usize>,
    queues: Arc<BTreeMap<DestinationId, Arc<Queue>>>,
    failed: Arc<AtomicBool>,
    slice: Slice,
    group: Group,
    /// Something was applied since the last sync.
    unsynced: bool,
}

/// What goes into the next atomic batch.
#[derive(Default)]
struct Slice {
    batch: Batch,
    operations: usize,
    updates: usize,
    /// Profiles and identities that the batch writes, by key: what touches them too has to see them applied.
    touched: HashSet<Vec<u8>>,
}

/// What happens once everything applied is synced.
#[derive(Default)]
struct Group {
    answers: Vec<(Answer, Committed)>,
    made: BTreeMap<DestinationId, Vec<(u64, Export)>>,
    settled: Vec<(Arc<Queue>, u64, Next)>,
    counts: Vec<oneshot::Sender<Counters>>,
}

/// sled or the disk failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("cannot write to the store: {0}")]
    Sled(#[from] sled::Error),
    #[error("cannot sync the store: {0}")]
    Sync(#[from] std::io::Error),
}

impl Writer {
    pub(super) fn new(
        db: sled::Db,
        file: File,
        meta: Meta,
        queues: Arc<BTreeMap<DestinationId, Arc<Queue>>>,
        failed: Arc<AtomicBool>,
    ) -> Self {
        let meta_length = Meta::read(&db).ok().flatten().map(|stored| stored.encode().len());
        let (slice, group) = Default::default();
        Self { db, file, meta, meta_length, queues, failed, slice, group, unsynced: false }
    }

    /// Makes durable what opening has changed.
    pub(super) fn first_commit(&mut self) -> Result<(), Failure> {
        self.apply()?;
        self.sync()
    }

    /// Takes commands until it is told to close.
    pub(super) fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Command>) {
        let mut open = true;
        while open && let Some(first) = inbox.blocking_recv() {
            let waiting = std::iter::from_fn(|| inbox.try_recv().ok());
            let commands: Vec<Command> = std::iter::once(first).chain(waiting.take(GROUP_MAX - 1)).collect();
            open = !commands.iter().any(|command| matches!(command, Command::Close));
            // Once failed, nothing is written again: dropped answers say so.
            if !self.failed.load(Ordering::Relaxed)
                && let Err(failure) = self.commit(commands)
            {
                self.failed.store(true, Ordering::Relaxed);
                self.group = Group::default();
                error!(%failure, "the store failed; nothing more is accepted or sent until a restart");
            }
        }
    }

    fn commit(&mut self, commands: Vec<Command>) -> Result<(), Failure> {
        metrics::group_size(commands.len());
        for command in commands {
            match command {
                Command::Update { identities, decide, answer } => self.update(identities, decide, answer)?,
                Command::Settle { queue, number, lengths, next, standing } => {
                    self.settle(&queue, number, lengths, &next, standing);
                    self.group.settled.push((queue, number, *next));
                }
                Command::PutAside { destination, number } => self.put_aside_entry(destination, number)?,
                Command::Count { answer } => self.group.counts.push(answer),
                Command::Close => {}
            }
            if self.slice.operations >= SLICE_OPERATIONS_MAX || self.slice.updates >= SLICE_UPDATES_MAX {
                self.apply()?;
            }
        }
        if self.slice.operations > 0 || self.slice.updates > 0 {
            self.apply()?;
        }
        if self.unsynced {
            self.sync()?;
        }
        self.answer();
        Ok(())
    }

    fn update(&mut self, identities: Vec<Identity>, decide: Decide, answer: Answer) -> Result<(), Failure> {
        let named: Vec<Vec<u8>> = identities.iter().map(layout::identity).collect();
        if named.iter().any(|link| self.slice.touched.contains(link)) {
            self.apply()?;
        }
        let mut links: Links = Vec::with_capacity(named.len());
        for link in named {
            let leads_to = self.read(&link)?.and_then(|bytes| bytes.try_into().ok()).map(ProfileKey::from_bytes);
            links.push((link, leads_to));
        }
        let found: BTreeSet<ProfileKey> = links.iter().filter_map(|(_, leads_to)| *leads_to).collect();
        if found.iter().any(|key| self.slice.touched.contains(&layout::profile(key))) {
            self.apply()?;
        }
        let (mut snapshots, mut lost, mut lengths) = (Vec::new(), Vec::new(), BTreeMap::new());
        for key in found {
            match self.read(&layout::profile(&key))? {
                Some(snapshot) => {
                    lengths.insert(key, snapshot.len());
                    snapshots.push(snapshot);
                }
                None => lost.push(key),
            }
        }
        match decide(Found { snapshots, lost }) {
            // Nothing is to be synced for it; an error means that the sender has gone.
            Err(refusal) => drop(answer.sender.send(Err(refusal.into()))),
            Ok(change) => {
                self.group.answers.push((answer, change.committed));
                self.stage(change, links, &lengths);
            }
        }
        Ok(())
    }

    fn stage(&mut self, change: Change, links: Links, lengths: &BTreeMap<ProfileKey, usize>) {
        let Change { committed, key, snapshot, absorbed, moved, lines, accepted_at, exports } = change;
        let profile = layout::profile(&key);
        self.put(&profile, &snapshot, lengths.get(&key).copied());
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
                self.put(&link, key.as_bytes(), led_to.map(|other| other.as_bytes().len()));
            }
        }
        for export in exports {
            self.meta.last_number += 1;
            let number = self.meta.last_number;
            let destination = self.meta.number_of(&export.destination);
            let entry = Export::new(export.id, lines.clone(), accepted_at);
            let frozen = Frozen { reasons: export.reasons, body: export.body };
            self.put(&layout::entry(Table::Schedule, destination, number), &encode(&entry), None);
            self.put(&layout::body(number), &encode(&frozen), None);
            self.meta.entry(&export.destination).made += 1;
            self.group.made.entry(export.destination).or_default().push((number, entry));
        }
        match committed {
            Committed::Applied => self.meta.applied += 1,
            Committed::Unchanged => self.meta.unchanged += 1,
        }
        self.slice.updates += 1;
    }

    fn settle(&mut self, queue: &Queue, number: u64, lengths: Lengths, next: &Next, standing: Option<Standing>) {
        let destination = queue.destination();
        let entry = layout::entry(Table::Schedule, destination, number);
        match next {
            Next::Waiting(export) => self.put(&entry, &encode(export), Some(lengths.entry)),
            Next::Delivered => {
                self.remove(&entry, Some(lengths.entry));
                self.remove(&layout::body(number), lengths.body);
                self.count(destination, |counted| counted.delivered += 1);
            }
            Next::Dead(letter) => {
                self.remove(&entry, Some(lengths.entry));
                self.put(&layout::entry(Table::Dead, destination, number), &encode(letter), None);
                self.count(destination, |counted| counted.dead += 1);
            }
        }
        if let Some(standing) = standing {
            // One small record a destination: not worth counting, and it may stand twice in a slice.
            drop(record::put(&mut self.slice.batch, &layout::standing(destination), &encode(&standing), None));
        }
        self.count(destination, |counted| counted.low_water = counted.low_water.max(queue.low_water()));
    }

    fn count(&mut self, destination: u32, change: impl FnOnce(&mut super::meta::Entry)) {
        change(self.meta.entry_numbered(destination).expect("a queue's number comes from here"));
    }

    fn put(&mut self, key: &[u8], payload: &[u8], before: Option<usize>) {
        let staged = record::put(&mut self.slice.batch, key, payload, before);
        self.staged(staged);
    }

    fn remove(&mut self, key: &[u8], length: Option<usize>) {
        if let Some(length) = length {
            let staged = record::remove(&mut self.slice.batch, key, length);
            self.staged(staged);
        }
    }

    fn staged(&mut self, staged: Staged) {
        self.slice.operations += staged.operations;
        self.meta.live_bytes += staged.bytes;
    }

    /// Reads a record; one that fails its checksum is put aside and gone.
    fn read(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
        match record::read(&self.db, key) {
            Ok(payload) => Ok(payload),
            Err(Unreadable::Damaged) => self.put_aside(key).map(|()| None),
            Err(Unreadable::Failed(error)) => Err(error.into()),
        }
    }

    fn put_aside_entry(&mut self, destination: u32, number: u64) -> Result<(), Failure> {
        self.apply()?;
        self.count(destination, |counted| counted.damaged += 1);
        self.put_aside(&layout::entry(Table::Schedule, destination, number))?;
        // Nothing leads to its body any more.
        record::move_away(
            &self.db,
            &mut self.slice.batch,
            &layout::body(number),
            &layout::quarantined(&layout::body(number)),
        )?;
        self.apply()
    }

    /// Moves what stands under a key to quarantine, and counts it, in a batch of its own.
    fn put_aside(&mut self, key: &[u8]) -> Result<(), Failure> {
        if self.slice.operations > 0 {
            self.apply()?;
        }
        record::move_away(&self.db, &mut self.slice.batch, key, &layout::quarantined(key))?;
        self.meta.quarantined += 1;
        warn!(table = %char::from(key[0]), "a record failed its checksum and was put aside");
        self.apply()
    }

    /// Applies the slice, with the counters that it changed, as one atomic batch.
    fn apply(&mut self) -> Result<(), Failure> {
        let encoded = self.meta.encode();
        let staged = record::put(&mut self.slice.batch, layout::META, &encoded, self.meta_length);
        // Its own few bytes are not counted: they would change what they count.
        drop(staged);
        self.meta_length = Some(encoded.len());
        let Slice { batch, .. } = std::mem::take(&mut self.slice);
        self.unsynced = true;
        self.db.apply_batch(batch)?;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), Failure> {
        let start = Instant::now();
        self.db.flush()?;
        self.file.sync_data()?;
        self.unsynced = false;
        metrics::sync_time(start.elapsed());
        Ok(())
    }

    /// Tells everybody: what was committed is on disk.
    fn answer(&mut self) {
        let Group { answers, mut made, settled, counts } = std::mem::take(&mut self.group);
        for (queue, number, next) in settled {
            match next {
                Next::Delivered | Next::Dead(_) => queue.finish(number),
                Next::Waiting(export) => queue.give_back(number, Some(export)),
            }
        }
        for (destination, queue) in self.queues.iter() {
            queue.publish(made.remove(destination).unwrap_or_default(), self.meta.last_number);
        }
        for (answer, committed) in answers {
            // An error means that the sender has gone.
            let _ = answer.sender.send(Ok(committed));
        }
        counts.into_iter().for_each(|answer| drop(answer.send(self.meta.counters())));
    }
}

fn encode(value: &impl serde::Serialize) -> Vec<u8> {
    postcard::to_stdvec(value).expect("records have shapes that postcard writes")
}
