//! Dropping by a person's wish: an export is claimed like one that is sent, and settled as dropped.
//!
//! So nobody sends what is being dropped, and nothing is dropped that is being sent; the next of its line goes when the
//! removal is on disk.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};
use tracing::error;

use super::{
    Store, StoreError,
    claim::Claim,
    frozen::Frozen,
    layout::{self, Table},
    queue::{Queue, Seized},
    record::{self, Unreadable},
    writer::{Failure, Writer},
};
use crate::{
    destination::DestinationId,
    export::{DeadLetter, Next},
};

/// Exports that are taken at a time: their bodies are in memory until they are gone.
const PAGE: usize = 256;
/// How long exports in flight may take to end: longer than connecting and the longest timeout of a destination.
pub(super) const PATIENCE: Duration = Duration::from_secs(70);
/// How often we look for that.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What came of dropping an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// It is gone, and that is on disk.
    Gone,
    /// It is being sent, or somebody else is dropping it: to be asked again.
    InFlight,
    /// No such export waits; or it is damaged, and was put aside.
    Missing,
}

/// What came of discarding all that waited for a destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Discarded {
    /// Exports that are gone, on disk.
    pub dropped: u64,
    /// Exports that were in flight all the while, and stay.
    pub stayed: u64,
}

impl Store {
    /// Drops a waiting export.
    ///
    /// # Errors
    /// [`StoreError::Unknown`]; [`StoreError::Failed`] and [`StoreError::Full`] when nobody knows whether it is gone.
    pub async fn drop_export(&self, destination: &DestinationId, number: u64) -> Result<Dropped, StoreError> {
        let queue = self.known(destination)?;
        match blocking(move || Ok(queue.seize(number))).await? {
            Seized::InFlight => Ok(Dropped::InFlight),
            // While the store is mended nothing can be read.
            Seized::Missing if !self.live.is_good() => Err(self.live.error()),
            Seized::Missing => Ok(Dropped::Missing),
            Seized::Taken(claim) => {
                self.granted(self.settle_dropped(*claim)?).await?;
                Ok(Dropped::Gone)
            }
        }
    }

    /// Drops a dead letter; false when there is none of this number. A damaged one is put aside instead.
    ///
    /// # Errors
    /// As [`Store::drop_export`].
    pub async fn drop_letter(&self, destination: &DestinationId, number: u64) -> Result<bool, StoreError> {
        let destination = self.known(destination)?.destination();
        self.wish(move |writer| writer.drop_letter(destination, number)).await
    }

    /// Drops all exports that wait for a destination at this moment; what is made later takes the place of none of them. Those in flight are waited for, 70 seconds at
    /// most after the last of the others is gone; what is to be tried again then is dropped too. Safe to repeat.
    ///
    /// # Errors
    /// As [`Store::drop_export`].
    pub fn discard(
        &self,
        destination: &DestinationId,
    ) -> impl Future<Output = Result<Discarded, StoreError>> + Send + use<> {
        let store = self.clone();
        // At this moment, whenever the work begins.
        let begun = self.known(destination).and_then(|queue| {
            let number = queue.destination();
            Ok((queue, self.send_wish(move |writer| Ok(writer.end_places(number)))?))
        });
        async move {
            let (queue, told) = begun?;
            let to = store.granted(told).await?;
            store.discard_to(&queue, to).await
        }
    }

    async fn discard_to(&self, queue: &Arc<Queue>, to: u64) -> Result<Discarded, StoreError> {
        let (mut dropped, mut until) = (0, None);
        loop {
            let of = queue.clone();
            let claims = blocking(move || Ok(of.seize_oldest(to, PAGE))).await?;
            if claims.is_empty() {
                let stayed = queue.waiting_to(to);
                if stayed == 0 || Instant::now() >= *until.get_or_insert_with(|| Instant::now() + PATIENCE) {
                    return Ok(Discarded { dropped, stayed });
                }
                if !self.live.is_good() {
                    return Err(self.live.error());
                }
                sleep(LOOK_EVERY).await;
                continue;
            }
            until = None;
            let answers: Vec<_> =
                claims.into_iter().map(|claim| self.settle_dropped(claim)).collect::<Result<_, _>>()?;
            for answer in answers {
                self.granted(answer).await?;
                dropped += 1;
            }
        }
    }

    fn settle_dropped(&self, claim: Claim) -> Result<oneshot::Receiver<()>, StoreError> {
        // Held until the writer is told, as with every settlement.
        let (released, _held) = claim.release();
        self.send_wish(move |writer| writer.settle(released, Next::Dropped, None))
    }
}

/// Runs what reads from disk where it may wait.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(StoreError::Failed))
}

impl Writer<'_> {
    fn drop_letter(&mut self, destination: u32, number: u64) -> Result<bool, Failure> {
        let Some(length) = self.letter(destination, number)?.map(|(_, frozen)| frozen.record_length) else {
            return Ok(false);
        };
        self.remove(&layout::entry(Table::Dead, destination, number), Some(length));
        self.count(destination, |counted| {
            counted.letters = counted.letters.saturating_sub(1);
            counted.dropped += 1;
        });
        Ok(true)
    }
    /// Reads a dead letter; one that is damaged is put aside and gone.
    pub(super) fn letter(&mut self, destination: u32, number: u64) -> Result<Option<(DeadLetter, Frozen)>, Failure> {
        self.apply_staged()?;
        let key = layout::entry(Table::Dead, destination, number);
        let found = match record::read(&self.db, &key) {
            Ok(None) => return Ok(None),
            Ok(Some(record)) => Frozen::part(record),
            Err(Unreadable::Damaged) => None,
            Err(Unreadable::Failed(error)) => return Err(error.into()),
        };
        if found.is_none() {
            self.count(destination, |counted| {
                counted.letters = counted.letters.saturating_sub(1);
                counted.damaged += 1;
            });
            error!(destination, number, "a dead letter failed its checksum, and was put aside");
            self.put_aside(&key)?;
        }
        Ok(found)
    }
}
