//! What is wished of the store beside updates and settlements: run on the writer's thread, and answered when all that it
//! staged is on disk.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::{
    Queue, Store, StoreError, layout,
    writer::{Command, Failure, Writer},
};
use crate::destination::{DestinationId, Standing};

impl Store {
    /// Gives a destination its number and its queue, if it has none yet. To be called before any update may make an export
    /// for it; returns when that is on disk.
    ///
    /// # Errors
    /// [`StoreError::Failed`] and [`StoreError::Full`].
    pub async fn introduce(&self, destination: DestinationId) -> Result<Arc<Queue>, StoreError> {
        if let Some(queue) = self.queue(&destination) {
            return Ok(queue);
        }
        let (live, queues, commands) = (self.live.clone(), self.queues.clone(), self.commands.clone());
        let wish = move |writer: &mut Writer<'_>| {
            let entry = writer.introduce(&destination);
            let synced = writer.meta.last_number;
            // Two who wish for the same get the same.
            Ok(move || queues.get_or_make(&destination, || Queue::new(live, &entry, synced, commands, Vec::new())))
        };
        let make = self.wish(wish).await?;
        Ok(make())
    }

    /// Keeps what is known of a destination; returns when it is on disk. A settlement that carries a standing of its own may
    /// come after it and take its place.
    ///
    /// # Errors
    /// [`StoreError::Unknown`], [`StoreError::Failed`] and [`StoreError::Full`].
    pub async fn keep_standing(&self, destination: &DestinationId, standing: Standing) -> Result<(), StoreError> {
        let number = self.known(destination)?.destination();
        self.wish(move |writer| {
            writer.stand(number, &standing);
            Ok(())
        })
        .await
    }

    /// The queue of a destination that must be known.
    pub(super) fn known(&self, destination: &DestinationId) -> Result<Arc<Queue>, StoreError> {
        self.queue(destination).ok_or_else(|| StoreError::Unknown(destination.clone()))
    }

    /// Runs `work` on the writer's thread, and returns what it gives when that is on disk.
    pub(super) async fn wish<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Writer<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.granted(self.send_wish(work)?).await
    }

    /// As [`Store::wish`], without waiting: the sender of the answer is the syncer.
    pub(super) fn send_wish<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Writer<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<oneshot::Receiver<T>, StoreError> {
        if !self.live.is_good() {
            return Err(self.live.error());
        }
        let (tell, told) = oneshot::channel();
        let wish = Box::new(move |writer: &mut Writer<'_>| {
            let done = work(writer)?;
            // An error means that nobody waits any more.
            writer.group.after.push(Box::new(move || drop(tell.send(done))));
            Ok(())
        });
        self.commands.send(Command::Wish(wish)).map_err(|_| StoreError::Failed)?;
        Ok(told)
    }

    /// Waits for an answer; without one nobody knows what is on disk.
    pub(super) async fn granted<T>(&self, answer: oneshot::Receiver<T>) -> Result<T, StoreError> {
        answer.await.map_err(|_| self.live.error())
    }
}

impl Writer<'_> {
    /// Stages the number of a destination that has none.
    fn introduce(&mut self, destination: &DestinationId) -> super::meta::Entry {
        self.rename_in_memory(|renamed| drop(renamed.remove(destination)));
        if !self.meta.destinations.contains_key(destination) {
            let number = self.meta.number_of(destination);
            self.put(&layout::name(number), &[destination.as_str().as_bytes()], None);
        }
        self.meta.entry(destination).clone()
    }
}
