//! Syncs what the writer has applied, group by group, and only then tells everybody. The next group is decided meanwhile.

use std::{
    collections::BTreeMap,
    fs::File,
    sync::{Arc, Mutex, PoisonError, mpsc::Receiver},
    time::Instant,
};

use tokio::sync::oneshot;

use super::{
    Committed, Counters,
    files::Mark,
    flush::Flusher,
    queue::Queue,
    still::Still,
    window::Made,
    writer::{Answer, Command, Failure, Shared},
};
use crate::{destination::DestinationId, export::Next, metrics};

/// What happens once everything that was applied is synced.
#[derive(Default)]
pub(super) struct Group {
    pub(super) answers: Vec<(Answer, Committed)>,
    pub(super) made: BTreeMap<DestinationId, Vec<Made>>,
    pub(super) settled: Vec<(Arc<Queue>, u64, Next)>,
    pub(super) put_aside: Vec<(Arc<Queue>, u64)>,
    pub(super) counts: Vec<oneshot::Sender<Counters>>,
    /// Those who wait for what they wished.
    pub(super) after: Vec<Box<dyn FnOnce() + Send>>,
    /// What is done before the writer goes on.
    pub(super) still: Option<Still>,
    /// Something was applied.
    pub(super) is_unsynced: bool,
    pub(super) commit: u64,
    pub(super) last_number: u64,
    pub(super) counters: Counters,
}

pub(super) struct Syncer<'s> {
    pub(super) flusher: Flusher,
    /// sled's file: its own flush does not survive a power cut.
    pub(super) file: File,
    pub(super) shared: &'s Shared,
    /// Held while sled flushes; see [`super::flush`].
    pub(super) flushing: &'s Mutex<()>,
}

impl Syncer<'_> {
    /// Syncs groups until the writer has ended.
    pub(super) fn run(self, groups: &Receiver<Group>) -> Result<(), Failure> {
        while let Ok(group) = groups.recv() {
            if group.is_unsynced
                && let Err(failure) = self.sync()
            {
                // First of all, so that those whose answers are dropped know why; and the writer may be asleep.
                self.shared.live.fail(failure.health());
                let _ = self.shared.commands.send(Command::Failed);
                return Err(failure);
            }
            self.shared.live.synced_to(group.commit);
            self.shared.files.write_mark(Mark { commit: group.commit, closed: false });
            self.answer(group);
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), Failure> {
        let start = Instant::now();
        {
            let _flushing = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
            self.flusher.flush()?;
        }
        self.file.sync_data().map_err(Failure::Sync)?;
        metrics::sync_time(start.elapsed());
        Ok(())
    }

    /// Tells everybody: what was committed is on disk.
    fn answer(&self, group: Group) {
        let Group { answers, mut made, settled, put_aside, counts, after, last_number, counters, still, .. } = group;
        let mut settled = settled.into_iter().peekable();
        while let Some((queue, number, next)) = settled.next() {
            let of_the_same = || settled.next_if(|(other, ..)| Arc::ptr_eq(other, &queue));
            let more = std::iter::from_fn(of_the_same).map(|(_, number, next)| (number, next));
            queue.settled(std::iter::once((number, next)).chain(more));
        }
        put_aside.into_iter().for_each(|(queue, number)| queue.finish(number));
        self.shared.queues.for_each(|destination, queue| {
            queue.publish(made.remove(destination).unwrap_or_default(), last_number);
        });
        after.into_iter().for_each(|tell| tell());
        for (answer, committed) in answers {
            // An error means that the sender has gone.
            let _ = answer.sender.send(Ok(committed));
        }
        self.shared.space.measure(counters.live_bytes);
        counts.into_iter().for_each(|answer| drop(answer.send(counters.clone())));
        if let Some(still) = still {
            still.run();
        }
    }
}
