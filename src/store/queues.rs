//! The queues of all destinations. Destinations may come while the store runs; a queue that was made stays.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use super::queue::Queue;
use crate::destination::DestinationId;

#[derive(Default)]
pub(super) struct Queues(RwLock<BTreeMap<DestinationId, Arc<Queue>>>);

impl Queues {
    pub(super) fn get(&self, destination: &DestinationId) -> Option<Arc<Queue>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(destination).cloned()
    }

    /// All of them, by destination.
    pub(super) fn all(&self) -> Vec<(DestinationId, Arc<Queue>)> {
        let queues = self.0.read().unwrap_or_else(PoisonError::into_inner);
        queues.iter().map(|(id, queue)| (id.clone(), queue.clone())).collect()
    }

    /// Returns the destination's queue, made if there is none.
    pub(super) fn get_or_make(&self, destination: &DestinationId, make: impl FnOnce() -> Queue) -> Arc<Queue> {
        let mut queues = self.0.write().unwrap_or_else(PoisonError::into_inner);
        queues.entry(destination.clone()).or_insert_with(|| Arc::new(make())).clone()
    }

    /// The queue of the destination with this number.
    pub(super) fn numbered(&self, number: u32) -> Option<Arc<Queue>> {
        let queues = self.0.read().unwrap_or_else(PoisonError::into_inner);
        queues.values().find(|queue| queue.destination() == number).cloned()
    }

    /// Calls the queue of a destination's number so, whatever it was called.
    pub(super) fn name(&self, number: u32, destination: &DestinationId) {
        let mut queues = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let otherwise = queues.iter().find(|(id, queue)| queue.destination() == number && *id != destination);
        if let Some(queue) = otherwise.map(|(id, _)| id.clone()).and_then(|id| queues.remove(&id)) {
            queues.insert(destination.clone(), queue);
        }
    }

    /// Calls `each` for every queue.
    pub(super) fn for_each(&self, mut each: impl FnMut(&DestinationId, &Arc<Queue>)) {
        let queues = self.0.read().unwrap_or_else(PoisonError::into_inner);
        queues.iter().for_each(|(id, queue)| each(id, queue));
    }
}
