//! Exports go out: one worker a destination claims what is due, POSTs it, and settles what came of it.
//!
//! ```text
//! queue ──claim──▶ post ──outcome──▶ gate: who pays? ──▶ export: where next? ──▶ store: settle, one commit
//! ```
//! Exports go one a request, or together, as the destination's `batch` says: what goes together is kept so on disk before it
//! is sent, and has one outcome.
//!
//! A worker keeps at most `max_in_flight` POSTs under way, and at most four times as many in hand until their
//! settlements are on disk. Only then the next export of a profile may go, so a crash repeats no more than what was in hand,
//! and never out of order.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    clock::{Clock, Timestamp},
    destination::{Batching, Destination, Hold, Standing},
    metrics,
    store::{Batch, Claim, Queue, Store, StoreError},
    tls::{ClientTls, Fingerprint, MutualClientError},
};

mod control;
mod echo;
mod expiry;
mod figures;
mod gate;
mod pace;
mod rotation;
mod sender;
mod settle;
mod shown;
mod together;
mod tokens;
mod verdict;

pub use control::{By, Control, Failure, NotDone, State, Test, Tested, View};
pub use figures::Percentiles;
pub use rotation::{Certificates, Newer};

use control::{ORDERS_MAX, Order};
use expiry::Expiry;
use figures::Figures;
use gate::{Allowance, Gate};
use rotation::Rotation;
use sender::{Ended, Met, Sender};
use shown::Shown;

/// How long connecting may take: name, TCP and TLS.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Exports that were sent and whose settlement is not on disk yet, for each that may be in flight: a disk that is slow to
/// sync slows sending down before much could be sent twice.
const UNSETTLED_MAX: usize = 4;
/// A worker looks again this often even when nothing wakes it: a lost wake-up must not stall a destination.
const BACKSTOP: Duration = Duration::from_secs(1);

/// Sends the exports of one destination.
pub struct Worker {
    destination: Destination,
    rotation: Rotation,
    /// Shows what connections are made with.
    in_use: watch::Sender<Arc<Sender>>,
    expiry: Expiry,
    shown: Shown,
    /// When certificates are looked at next.
    look_at: Timestamp,
    queue: Arc<Queue>,
    store: Store,
    clock: Clock,
    gate: Gate,
    /// None: it may be sent to as fast as it answers.
    pace: Option<pace::Shared>,
    orders: mpsc::Receiver<Order>,
    /// Wishes that are being written down.
    keeping: JoinSet<()>,
    figures: Figures,
    last_delivery: Option<Timestamp>,
    last_failure: Option<Failure>,
}

/// When a worker ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Never.
    Never,
    /// Once nothing waits: no more exports are made for its destination.
    Drained,
}

impl Worker {
    /// A worker for `destination`, whose queue the store has, and a handle on it. `before` is the pair of ours that was used
    /// before the destination's, if that is known.
    ///
    /// # Errors
    /// When the client cannot be built.
    ///
    /// # Panics
    /// When the store was opened without this destination.
    pub fn new(
        destination: Destination,
        before: Option<ClientTls>,
        store: Store,
        clock: Clock,
    ) -> Result<(Self, Control), MutualClientError> {
        let sender = Sender::new(&destination, clock.clone())?;
        let queue = store.queue(destination.id()).expect("the store is opened with all destinations");
        let gate = gate_as_left(&destination, &store, sender.fingerprint(), &clock);
        let (orders, inbox) = mpsc::channel(ORDERS_MAX);
        let (in_use, shown) = watch::channel(sender.clone());
        let pace = sender.pace.clone();
        let control = Control { orders, sender: shown };
        let rotation = Rotation::new(destination.id().clone(), sender, before, clock.clone())?;
        let (expiry, look_at, figures, keeping) = Default::default();
        let shown = Shown::new(destination.id().clone());
        let (last_delivery, last_failure) = (None, None);
        let worker = Self {
            destination,
            rotation,
            in_use,
            expiry,
            shown,
            look_at,
            queue,
            store,
            clock,
            gate,
            pace,
            orders: inbox,
            keeping,
            figures,
            last_delivery,
            last_failure,
        };
        Ok((worker, control))
    }

    /// Works until `stop` or the `ending`, then waits for the POSTs under way.
    pub async fn run(mut self, stop: CancellationToken, ending: Ending) {
        let mut posts: JoinSet<Ended> = JoinSet::new();
        // The worker before may have learned something since this one was made.
        let in_use = self.rotation.in_use().fingerprint();
        self.gate = gate_as_left(&self.destination, &self.store, in_use, &self.clock);
        self.rotation.accepted_before(self.gate.accepted_with());
        if let Some(Hold { fault, since }) = self.gate.held() {
            warn!(destination = %self.destination.id(), reason = %fault, %since, "destination is still held");
        }
        self.show_state();
        self.part_what_goes_otherwise().await;
        while !(stop.is_cancelled() || ending == Ending::Drained && self.queue.is_empty()) {
            self.look_at_certificates();
            let wake = self.send(&mut posts).await;
            let room = posts.len() < self.destination.max_in_flight;
            tokio::select! {
                Some(ended) = posts.join_next() => self.settle(ended),
                () = self.queue.changed(), if room => {}
                Some(order) = self.orders.recv() => self.obey(order, posts.len()),
                Some(_) = self.keeping.join_next() => {}
                () = self.clock.sleep_until(wake) => {}
                () = stop.cancelled() => {}
            }
            while let Some(ended) = posts.try_join_next() {
                self.settle(ended);
            }
        }
        self.rotation.in_use().stop();
        while let Some(ended) = posts.join_next().await {
            self.settle(ended);
        }
        while self.keeping.join_next().await.is_some() {}
        // Whoever comes next shows it anew; where nobody does, nothing is held any more.
        if let Some(Hold { fault, .. }) = self.gate.held() {
            metrics::hold_ended(self.destination.id(), fault);
        }
        metrics::destination_state(self.destination.id(), None, false);
    }

    /// Starts what the gate allows; returns when to look again, whatever else happens.
    async fn send(&mut self, posts: &mut JoinSet<Ended>) -> Timestamp {
        let now = self.clock.now();
        let look_again = now + BACKSTOP;
        if !self.store.is_healthy() {
            // What came of a POST could not be kept.
            return look_again;
        }
        let (queue, max, batch) = (self.queue.clone(), self.destination.max_in_flight, self.destination.batch);
        let exports = batch.map_or(1, |batch| batch.max_exports);
        let unsettled_room = (max * UNSETTLED_MAX * exports).saturating_sub(queue.claimed()).div_ceil(exports);
        let paced_room = self.pace.as_ref().map_or(usize::MAX, |pace| pace.lock().room(now));
        let room = max.saturating_sub(posts.len()).min(unsettled_room).min(paced_room);
        let batches = match self.gate.allowance(now) {
            Allowance::Nothing { until } => return until.min(look_again),
            Allowance::Probe { .. } | Allowance::Due if paced_room == 0 => return self.next_by_pace(now, look_again),
            Allowance::Probe { .. } if !posts.is_empty() => return look_again,
            Allowance::Probe { after } => alone(claim(move || queue.claim_head(after).into_iter().collect()).await),
            Allowance::Due if room == 0 => Vec::new(),
            Allowance::Due => match batch {
                Some(batch) if queue.has_batches(now, &batch) => {
                    claim(move || queue.claim_batches(now, room, &batch)).await
                }
                None if queue.has_due(now) => alone(match queue.claim_due_in_memory(now, room) {
                    Some(claims) => claims,
                    None => claim(move || queue.claim_due(now, room)).await,
                }),
                Some(_) | None => Vec::new(),
            },
        };
        if let Some(pace) = &self.pace {
            pace.lock().spend(batches.len());
        }
        for batch in batches {
            self.gate.probing(batch.first().number());
            let store = self.destination.batch.is_some().then(|| self.store.clone());
            // Boxed: tokio aligns its tasks to 128 bytes, which makes large ones slow to allocate.
            posts.spawn(Box::pin(Arc::clone(self.rotation.in_use()).send(batch, store)));
        }
        // What is due by now and was not claimed lacked room: a settlement will wake us, or the next token.
        match self.next_due(now) {
            Some(due) if due > now => due.min(look_again),
            Some(_) => self.next_by_pace(now, look_again),
            None => look_again,
        }
    }

    /// When something may go next, as far as that is a matter of time.
    fn next_due(&self, now: Timestamp) -> Option<Timestamp> {
        match &self.destination.batch {
            Some(batch) => self.queue.next_batch(now, batch),
            None => self.queue.next_due(now),
        }
    }

    /// What went together and was not delivered goes anew, unless it would be the same request.
    async fn part_what_goes_otherwise(&self) {
        let format = self.destination.batch.map(|Batching { format, .. }| format);
        if let Err(error) = self.store.part_all_but(self.destination.id(), format).await {
            // What stays together goes out one by one then, or as it was.
            warn!(destination = %self.destination.id(), error = crate::chain(&error), "batches are not parted");
        }
    }

    /// When the pace allows the next POST, if it allows none now.
    fn next_by_pace(&self, now: Timestamp, otherwise: Timestamp) -> Timestamp {
        self.pace.as_ref().and_then(|pace| pace.lock().next(now)).map_or(otherwise, |next| next.min(otherwise))
    }

    /// Looks at our certificates, once in a while.
    fn look_at_certificates(&mut self) {
        let now = self.clock.now();
        // One that is further away was set before the clock was set back.
        if now >= self.look_at || self.look_at.since(now) > BACKSTOP {
            self.look_at = now + BACKSTOP;
            self.rotate();
        }
    }

    /// Puts the pair in use that is to be by now, and shows and says what there is to say.
    fn rotate(&mut self) {
        match self.rotation.turn() {
            Ok(()) if self.certificate_changed() => self.gate.probe_soon(self.clock.now()),
            Ok(()) => {}
            Err(error) => {
                let (destination, error) = (self.destination.id(), crate::chain(&error));
                error!(%destination, error, "new certificate is not used; the one before stays in use");
            }
        }
        let (id, certificates) = (self.destination.id(), self.rotation.certificates());
        self.expiry.look(id, &self.rotation.in_use().tls, &self.clock);
        self.shown.show(&certificates, self.gate.accepted_with(), &self.clock);
    }

    /// Shows what POSTs go out with, if that has changed.
    fn certificate_changed(&mut self) -> bool {
        let in_use = self.rotation.in_use();
        self.gate.certificate = in_use.fingerprint();
        self.in_use.send_if_modified(|shown| {
            let differs = shown.tls != in_use.tls;
            if differs {
                *shown = in_use.clone();
            }
            differs
        })
    }

    fn obey(&mut self, order: Order, in_flight: usize) {
        let now = self.clock.now();
        // An error means that nobody waits for the answer any more.
        match order {
            Order::Show(answer) => drop(answer.send(self.view(in_flight, now))),
            Order::Pause(answer) => {
                let standing = self.gate.pause(now);
                self.keep(standing, answer, "destination paused");
            }
            Order::Resume(answer) => {
                let standing = self.gate.resume(now);
                self.rotation.try_again();
                self.keep(standing, answer, "destination resumed");
            }
            Order::OnFile(found, by, answer) => {
                self.rotation.on_file(match by {
                    By::Reload => found,
                    By::Watch => found.map(|tls| tls.with_policy_of(&self.rotation.in_use().tls)),
                });
                self.rotate();
                let _ = answer.send(());
            }
        }
    }

    /// Keeps what a person wished, and answers when that is on disk: beside the rest, for the store may be busy for long.
    fn keep(&mut self, standing: Standing, answer: oneshot::Sender<Result<(), StoreError>>, what: &'static str) {
        self.show_state();
        let (store, destination) = (self.store.clone(), self.destination.id().clone());
        self.keeping.spawn(async move {
            let kept = store.keep_standing(&destination, standing).await;
            if kept.is_ok() {
                info!(%destination, "{what}");
            }
            // An error means that nobody waits for the answer any more.
            let _ = answer.send(kept);
        });
    }

    fn view(&self, in_flight: usize, now: Timestamp) -> View {
        View {
            state: self.gate.state(now),
            in_flight,
            rate: self.figures.rate(now),
            latency: self.figures.latency(),
            last_delivery: self.last_delivery,
            last_failure: self.last_failure.clone(),
            accepted_with: self.gate.accepted_with(),
            certificates: self.rotation.certificates(),
            sends_from: self.rotation.in_use().origin.addresses(),
        }
    }

    fn show_state(&self) {
        let held = self.gate.held().map(|hold| &hold.fault);
        metrics::destination_state(self.destination.id(), held, self.gate.is_paused());
    }
}

fn gate_as_left(destination: &Destination, store: &Store, in_use: Fingerprint, clock: &Clock) -> Gate {
    Gate::new(store.standing(destination.id()), in_use, clock.now())
}

/// Claims on a thread that may wait for the disk.
async fn claim<T: Send + 'static>(claims: impl FnOnce() -> Vec<T> + Send + 'static) -> Vec<T> {
    tokio::task::spawn_blocking(claims).await.unwrap_or_else(|error| {
        error!(%error, "cannot claim exports: reading the store broke off");
        Vec::new()
    })
}

/// Each as a request of its own.
fn alone(claims: Vec<Claim>) -> Vec<Batch> {
    claims.into_iter().map(Batch::from).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{
        destination::Coalesce,
        export::{ExportId, NewExport},
        profile::update::UpdateId,
        store::{Change, Committed, Keeping, StoreOwner},
        tls::{
            ClientTlsFiles, RootsSource,
            issue::{Authority, Period},
        },
    };

    fn destination(dir: &std::path::Path) -> Destination {
        let period = Period::starting(Clock::system().now(), Duration::from_secs(3600));
        let authority = Authority::new("Test authority", period).unwrap();
        let client = authority.client("Test client", period).unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let (certificate, key) = (write("crt", &client.certificate_pem), write("key", &client.key_pem));
        fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let roots = RootsSource::File(write("ca", &authority.certificate_pem()));
        rotation::tests::destination(ClientTls::load(&ClientTlsFiles { certificate, key, roots }).unwrap())
    }

    #[tokio::test]
    async fn nothing_is_sent_once_the_store_takes_no_settlement() {
        let dir = tempfile::tempdir().unwrap();
        let (destination, clock) = (destination(dir.path()), Clock::system());
        let (id, now) = (UpdateId::new(clock.now()), clock.now());
        let owner =
            StoreOwner::open(&dir.path().join("state"), &[destination.id().clone()], &Keeping::default()).unwrap();
        let (export, to) = (ExportId::of(id, now, destination.id()), destination.id().clone());
        let decide = move |_| {
            Ok(Change {
                members: Default::default(),
                committed: Committed::Applied,
                key: id.into(),
                snapshot: Vec::new(),
                absorbed: Vec::new(),
                moved: Vec::new(),
                lines: vec![id.into()],
                accepted_at: now,
                skipped: vec![],
                exports: vec![NewExport {
                    destination: to,
                    id: export,
                    body: b"{}".to_vec(),
                    reasons: vec![],
                    coalesce: Coalesce::Off,
                }],
            })
        };
        owner.store().update(Vec::new(), decide).await.unwrap();
        let (mut worker, _control) = Worker::new(destination, None, owner.store(), clock).unwrap();
        let mut posts = JoinSet::new();

        worker.send(&mut posts).await;
        let sent_before = posts.len();
        posts.shutdown().await;
        let given_back = worker.queue.claimed();
        owner.close();
        worker.send(&mut posts).await;

        assert_eq!((sent_before, given_back, posts.len(), worker.queue.claimed()), (1, 0, 0, 0));
    }
}
