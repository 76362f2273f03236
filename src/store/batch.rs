//! Batches: exports that go out as one request, and stay together until that is over.
//!
//! ```text
//! b, destination (4), number of the first (8): format and numbers, in order (postcard)
//! ```
//! That is on disk before the request is first sent, so that it goes out again as it was, whatever happens in between: with
//! the same exports in the same order, and so with the same bytes and the same key. It goes with the settlement of any of
//! them that ends. What stands there of exports that do not all wait any more, as after a crash between the slices of a large
//! batch, says nothing, and is removed when the store is opened: those that are left go out anew. That holds for one that goes
//! alone too: it does not go together with others later. Records are few, come and go within moments, and are not counted as live bytes; without them, as in a store
//! that an older version used, exports are as good as any that wait.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Claim, Queue, Store, StoreError,
    claim::Released,
    frozen::encode,
    layout::{self, Table},
    record::{self, Unreadable},
    window::Kept,
    writer::{Command, Failure, Writer},
};
use crate::{
    destination::{DestinationId, Format, Standing},
    export::{ExportId, Next},
};

/// Operations in the atomic batch of a settlement: a hundred exports and what goes with them end as one.
const OPERATIONS_MAX: usize = 128;

/// Exports in somebody's hands that are one request: at least one.
#[must_use = "a batch is settled, or given back by dropping it"]
pub struct Batch {
    claims: Vec<Claim>,
    kept: bool,
}

/// What of the exports in a database stays together, by destination.
#[derive(Default)]
pub(super) struct AllKept {
    whole: BTreeMap<u32, Vec<Kept>>,
    /// Keys of what says nothing any more.
    pub(super) stale: Vec<sled::IVec>,
}

/// What becomes of a batch of which none has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It stays together.
    Stay,
    /// Each half does.
    Halve,
    /// What went alone may go with others.
    Mix,
}

impl Batch {
    /// Claims that go together; `kept` says that they did before.
    pub(super) fn new(claims: Vec<Claim>, kept: bool) -> Self {
        assert!(!claims.is_empty(), "a request has an export");
        Self { claims, kept }
    }

    /// The exports, in order.
    pub fn claims(&self) -> &[Claim] {
        &self.claims
    }

    /// The oldest.
    pub fn first(&self) -> &Claim {
        &self.claims[0]
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.claims.len()
    }

    /// The request's id.
    pub fn id(&self) -> ExportId {
        let ids: Vec<ExportId> = self.claims.iter().map(|claim| claim.export.id).collect();
        ExportId::of_all(&ids)
    }

    fn numbers(&self) -> Vec<u64> {
        self.claims.iter().map(Claim::number).collect()
    }
}

/// One that goes alone.
impl From<Claim> for Batch {
    fn from(claim: Claim) -> Self {
        Self { claims: vec![claim], kept: false }
    }
}

/// The first half, which is the longer one, ends before this.
pub fn middle(count: usize) -> usize {
    count.div_ceil(2)
}

impl Store {
    /// Keeps the exports of a batch together, and apart from others, from now on; returns when that is on disk. One that is sent
    /// alone now stays with those that it was sent with before.
    ///
    /// # Errors
    /// [`StoreError::Failed`] and [`StoreError::Full`]: then it is not to be sent.
    pub async fn keep_together(&self, batch: &mut Batch, format: Format) -> Result<(), StoreError> {
        if batch.kept {
            return Ok(());
        }
        let (queue, numbers) = (batch.first().queue().clone(), batch.numbers());
        self.wish(move |writer| {
            writer.keep_together(&queue, numbers, format);
            Ok(())
        })
        .await?;
        batch.kept = true;
        Ok(())
    }

    /// Settles a batch: where each of its exports goes next, in one commit for up to a hundred of them, and what was learned
    /// of the destination. Where none has ended, `then` says what becomes of the batch.
    pub fn settle_batch(&self, batch: Batch, nexts: Vec<Next>, then: Then, standing: Option<Standing>) {
        // Held until the writer is told, so that no mending comes between.
        let (released, _held): (Vec<Released>, Vec<Claim>) = batch.claims.into_iter().map(Claim::release).unzip();
        let settled = released.into_iter().zip(nexts).collect();
        // An error means that the writer has ended: after a restart the exports are waiting, as if never sent.
        let _ = self.commands.send(Command::Settle { settled, then, standing });
    }

    /// Ends all batches of a destination whose exports are not to go together as `format` has it: they go out anew. Returns
    /// when that is on disk. Nobody may claim any meanwhile.
    ///
    /// # Errors
    /// [`StoreError::Unknown`], [`StoreError::Failed`] and [`StoreError::Full`].
    pub async fn part_all_but(&self, destination: &DestinationId, format: Option<Format>) -> Result<(), StoreError> {
        let queue = self.known(destination)?;
        let others = queue.together(|window| {
            window.kept().filter(|kept| Some(kept.format) != format).map(Kept::first).collect::<Vec<u64>>()
        });
        if others.is_empty() {
            return Ok(());
        }
        let (parted, of) = (others.clone(), queue.clone());
        self.wish(move |writer| {
            parted.into_iter().for_each(|first| writer.part(&of, first));
            Ok(())
        })
        .await?;
        queue.together(|window| others.into_iter().for_each(|first| window.part(first)));
        Ok(())
    }
}

impl Writer<'_> {
    fn keep_together(&mut self, queue: &Queue, numbers: Vec<u64>, format: Format) {
        if queue.together(|window| window.kept_with(numbers[0]).is_some()) {
            return;
        }
        let mut kept = Kept { numbers, format, length: None };
        let key = layout::together(queue.destination(), kept.first());
        let staged = record::put(&mut self.slice.batch, &key, &[&encode(&(kept.format, &kept.numbers))], None);
        self.slice.operations += staged.operations;
        kept.length = Some(staged.length);
        queue.together(|window| window.keep_together(kept));
    }

    /// Stages the end of what an export stays together with, if it does. In memory that ends with the export.
    pub(super) fn part(&mut self, queue: &Queue, number: u64) {
        let kept = queue.together(|window| {
            let kept = window.kept_with(number)?;
            Some((kept.first(), kept.length.take()?))
        });
        if let Some((first, length)) = kept {
            let key = layout::together(queue.destination(), first);
            self.slice.operations += record::remove(&mut self.slice.batch, &key, length).operations;
        }
    }

    pub(super) fn settle_batch(
        &mut self,
        settled: Vec<(Released, Next)>,
        then: Then,
        mut standing: Option<Standing>,
    ) -> Result<(), Failure> {
        if self.slice.operations + settled.len() > OPERATIONS_MAX {
            self.apply_staged()?;
        }
        match then {
            Then::Stay => {}
            Then::Halve => self.halve(&settled),
            Then::Mix => self.mix(&settled),
        }
        for (released, next) in settled {
            self.settle(released, next, standing.take())?;
            if self.slice.operations >= OPERATIONS_MAX {
                self.apply()?;
            }
        }
        Ok(())
    }

    /// Lets one that was kept apart go with others. What it was taken from as a probe stays together.
    fn mix(&mut self, settled: &[(Released, Next)]) {
        let Some((Released { queue, number, .. }, _)) = settled.first() else { return };
        if queue.together(|window| window.kept_with(*number).is_some_and(|kept| kept.numbers.len() == 1)) {
            self.part(queue, *number);
            queue.together(|window| window.part(*number));
        }
    }

    /// Keeps each half together, in place of the whole.
    fn halve(&mut self, settled: &[(Released, Next)]) {
        let Some((Released { queue, number: first, .. }, _)) = settled.first() else { return };
        let queue: Arc<Queue> = queue.clone();
        let Some(format) = queue.together(|window| window.kept_with(*first).map(|kept| kept.format)) else { return };
        self.part(&queue, *first);
        queue.together(|window| window.part(*first));
        let numbers: Vec<u64> = settled.iter().map(|(released, _)| released.number).collect();
        let (front, back) = numbers.split_at(middle(numbers.len()));
        for half in [front, back].into_iter().filter(|half| !half.is_empty()) {
            self.keep_together(&queue, half.to_vec(), format);
        }
    }
}

impl AllKept {
    /// Reads what stays together, of all destinations.
    pub(super) fn read(db: &sled::Tree) -> sled::Result<Self> {
        let mut all = Self::default();
        let (mut said, mut chunks) = (Vec::new(), Vec::new());
        for item in db.scan_prefix(layout::TOGETHER) {
            let (chunk, first) = item?;
            chunks.push(chunk.clone());
            let Some((key, [0])) = chunk.split_last_chunk::<1>() else { continue };
            match record::assemble(db, key, &first) {
                Ok(record) => said.extend(kept(key, &record.payload, record.length)),
                Err(Unreadable::Damaged) => {}
                Err(Unreadable::Failed(error)) => return Err(error),
            }
        }
        for (destination, kept) in said {
            let mut whole = true;
            for number in &kept.numbers {
                whole = whole && record::is_there(db, &layout::entry(Table::Schedule, destination, *number))?;
            }
            if whole {
                let key = layout::together(destination, kept.first());
                chunks.retain(|chunk| !chunk.starts_with(&key));
                all.whole.entry(destination).or_default().push(kept);
            }
        }
        all.stale = chunks;
        Ok(all)
    }

    /// What stays together of one destination.
    pub(super) fn of(&self, destination: u32) -> Vec<Kept> {
        self.whole.get(&destination).cloned().unwrap_or_default()
    }
}

/// What a record says; `None` when it has no known shape.
fn kept(key: &[u8], payload: &[u8], length: usize) -> Option<(u32, Kept)> {
    let destination = key.get(1..5)?.try_into().ok().map(u32::from_be_bytes)?;
    let (format, numbers): (Format, Vec<u64>) = postcard::from_bytes(payload).ok()?;
    let first = key.get(5..13)?.try_into().ok().map(u64::from_be_bytes)?;
    (numbers.first() == Some(&first)).then_some((destination, Kept { numbers, format, length: Some(length) }))
}
