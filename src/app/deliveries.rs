//! The workers of all destinations: started, replaced, and ended while the rest goes on.

use std::{collections::BTreeMap, time::Duration};

use anyhow::bail;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    admin::scene::Served,
    clock::Clock,
    delivery::{By, CONNECT_TIMEOUT, Control, Ending, Worker},
    destination::{Destination, DestinationId},
    metrics,
    store::{Discarded, Renamed, Store},
    tls::MutualClientError,
};

/// All workers. A destination has one at a time; its successor begins when the one before has ended.
pub(super) struct Deliveries {
    store: Store,
    clock: Clock,
    running: BTreeMap<DestinationId, Running>,
    /// Destinations that are gone and whose exports are being dropped: should one come back, it waits for that.
    leaving: BTreeMap<DestinationId, CancellationToken>,
    tasks: JoinSet<Ended>,
    stop: CancellationToken,
}

struct Running {
    served: Served,
    stop: CancellationToken,
    ended: CancellationToken,
}

/// A worker that was made and has not begun.
pub(super) struct Ready {
    destination: Destination,
    worker: Worker,
    control: Control,
}

/// How a worker ended.
pub(super) enum Ended {
    /// Somebody wished it, or nothing waited any more.
    AsTold,
    /// It should not have: to accept and not send would be the worst of states.
    ByItself,
}

impl Deliveries {
    pub(super) fn new(store: Store, clock: Clock) -> Self {
        let (running, leaving, tasks, stop) = Default::default();
        Self { store, clock, running, leaving, tasks, stop }
    }

    /// Makes a worker for a destination whose queue the store has. The pair of ours before is the one that its present worker
    /// uses, or that was kept beside the files.
    ///
    /// # Errors
    /// When its client cannot be built.
    pub(super) fn prepare(&self, destination: Destination) -> Result<Ready, MutualClientError> {
        let used = self.running.get(destination.id()).map(|running| running.served.control.tls());
        let another = used.filter(|used| used.credentials() != destination.tls.credentials());
        // Two small files, at a start or a reload. Whether they are there does not matter.
        let before = another.or_else(|| destination.tls.load_previous().ok());
        let (worker, control) = Worker::new(destination.clone(), before, self.store.clone(), self.clock.clone())?;
        Ok(Ready { destination, worker, control })
    }

    /// Starts a worker, in place of the one that its destination has.
    pub(super) fn start(&mut self, ready: Ready) {
        let id = ready.destination.id().clone();
        self.begin(ready, Ending::Never, &id);
    }

    /// Starts a worker for a destination that is called otherwise now, in place of the one that it had as `old`.
    pub(super) fn take_over(&mut self, ready: Ready, old: &DestinationId) {
        self.begin(ready, Ending::Never, old);
    }

    /// Gives destinations their new names in the store, and makes a worker for each: all of them, or none.
    ///
    /// # Errors
    /// When one of them cannot be: they are called as before then.
    pub(super) async fn rename(
        &self,
        renamed: Vec<(DestinationId, Destination)>,
    ) -> anyhow::Result<Vec<(DestinationId, Ready)>> {
        let (mut done, mut ready) = (Vec::new(), Vec::new());
        for (old, destination) in renamed {
            match self.take_name(&old, destination, &mut done).await {
                Ok(made) => ready.push((old, made)),
                Err(error) => {
                    for (old, new) in done {
                        // An error means that the store has failed, and says so itself.
                        let _ = self.store.rename(&new, &old).await;
                    }
                    return Err(error);
                }
            }
        }
        ready.iter().for_each(|(old, _)| metrics::renamed(old));
        Ok(ready)
    }

    /// Gives destinations the names back that they had.
    pub(super) async fn call_back(&self, renamed: &[(DestinationId, Ready)]) {
        for (old, ready) in renamed {
            if let Err(error) = self.store.rename(ready.destination.id(), old).await {
                warn!(destination = %ready.destination.id(), %old, error = crate::chain(&error), "it is called otherwise on disk");
            }
        }
    }

    async fn take_name(
        &self,
        old: &DestinationId,
        destination: Destination,
        done: &mut Vec<(DestinationId, DestinationId)>,
    ) -> anyhow::Result<Ready> {
        let new = destination.id();
        match self.store.rename(old, new).await? {
            Renamed::Done => done.push((old.clone(), new.clone())),
            Renamed::Unknown | Renamed::Taken => bail!("destination {old} cannot be called {new}"),
        }
        Ok(self.prepare(destination)?)
    }

    /// Gives a destination's worker what its files hold now; who watches them does so too, should it not answer at once.
    pub(super) async fn rotate(&mut self, destination: Destination) {
        let Some(running) = self.running.get_mut(destination.id()) else { return };
        running.served.destination = destination;
        let Served { destination, control, .. } = &running.served;
        if running.served.is_changing() {
            return;
        }
        if let Err(error) = control.on_file(Ok(destination.tls.clone()), By::Reload).await {
            warn!(destination = %destination.id(), error = crate::chain(&error), "certificate is not changed yet");
        }
    }

    /// Sends what waits for a destination that is gone, and ends then.
    ///
    /// # Errors
    /// When its client cannot be built.
    pub(super) fn drain(&mut self, id: &DestinationId) -> Result<(), MutualClientError> {
        let Some(running) = self.running.get(id) else { return Ok(()) };
        // Its certificate may have been replaced since it was configured.
        let Served { destination, control, .. } = &running.served;
        let tls = destination.tls.with_credentials(control.tls().credentials().clone());
        let ready = self.prepare(Destination { tls, ..destination.clone() })?;
        self.begin(ready, Ending::Drained, id);
        Ok(())
    }

    /// Begins once whoever works for `old` has ended.
    fn begin(&mut self, Ready { destination, worker, control }: Ready, ending: Ending, old: &DestinationId) {
        let (stop, ended) = (self.stop.child_token(), CancellationToken::new());
        let guard = ended.clone().drop_guard();
        let (draining, id) = (ending == Ending::Drained, destination.id().clone());
        let before = self.running.remove(old).map(Running::end).or_else(|| self.leaving.remove(old));
        let served = Served { destination, control, draining, before: before.clone() };
        self.running.insert(id.clone(), Running { served, stop: stop.clone(), ended });
        let store = self.store.clone();
        self.tasks.spawn(async move {
            let _ended = guard;
            if let Some(before) = before {
                before.cancelled().await;
                // What that one learned last is on disk then, and read by this one.
                let _ = store.counters().await;
            }
            worker.run(stop.clone(), ending).await;
            match stop.is_cancelled() {
                true => Ended::AsTold,
                false if draining => {
                    info!(destination = %id, "destination drained");
                    Ended::AsTold
                }
                false => Ended::ByItself,
            }
        });
    }

    /// Ends the worker of a destination that is gone, if it has one, then drops what waits for it.
    pub(super) fn discard(&mut self, id: &DestinationId) {
        let before = self.running.remove(id).map(Running::end);
        let (discarding, ended) = (self.store.discard(id), CancellationToken::new());
        let guard = ended.clone().drop_guard();
        self.leaving.insert(id.clone(), ended);
        let id = id.clone();
        self.tasks.spawn(async move {
            let _ended = guard;
            if let Some(before) = before {
                before.cancelled().await;
            }
            match discarding.await {
                Ok(Discarded { dropped, stayed }) => {
                    info!(destination = %id, dropped, stayed, "waiting exports were dropped");
                }
                Err(error) => {
                    warn!(destination = %id, error = crate::chain(&error), "waiting exports were not dropped")
                }
            }
            Ended::AsTold
        });
    }

    /// Goes on with what a process that ended left to be forgotten, beside everything else.
    pub(super) fn finish_forgetting(&mut self) {
        let store = self.store.clone();
        self.tasks.spawn(async move {
            if let Err(error) = store.finish_forgetting().await {
                warn!(error = crate::chain(&error), "a profile is not forgotten whole; the next start goes on with it");
            }
            Ended::AsTold
        });
    }

    /// Those that have a worker: configured ones, and those that drain.
    pub(super) fn served(&mut self) -> BTreeMap<DestinationId, Served> {
        self.running.retain(|_, running| !(running.served.draining && running.ended.is_cancelled()));
        self.running.iter().map(|(id, running)| (id.clone(), running.served.clone())).collect()
    }

    /// Returns when a worker has ended, in whatever way.
    pub(super) async fn ended(&mut self) -> Ended {
        match self.tasks.join_next().await {
            Some(ended) => ended.unwrap_or(Ended::ByItself),
            None => std::future::pending().await,
        }
    }

    /// Ends all: POSTs under way end, or are given back when they take longer than any may.
    pub(super) async fn stop(mut self) {
        self.stop.cancel();
        let longest = self.running.values().map(|running| running.served.destination.timeout).max();
        let grace: Duration = CONNECT_TIMEOUT + longest.unwrap_or_default();
        if tokio::time::timeout(grace, super::join(&mut self.tasks)).await.is_err() {
            warn!("gave back deliveries that did not end in time");
            self.tasks.shutdown().await;
        }
    }
}

impl Running {
    /// Tells the worker to end; what is returned says when it has.
    fn end(self) -> CancellationToken {
        self.stop.cancel();
        self.ended
    }
}
