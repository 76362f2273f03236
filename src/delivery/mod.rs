//! Exports go out: one worker a destination claims what is due, POSTs it, and settles what came of it.
//!
//! ```text
//! queue ──claim──▶ post ──outcome──▶ gate: who pays? ──▶ export: where next? ──▶ store: settle, one commit
//! ```
//! A worker keeps at most `max_in_flight` POSTs under way, and at most four times as many exports in hand until their
//! settlements are on disk. Only then the next export of a profile may go, so a crash repeats no more than what was in hand,
//! and never out of order.

use std::{sync::Arc, time::Duration};

use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};
use secrecy::ExposeSecret;
use tokio::{
    sync::{mpsc, oneshot},
    task::{JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::{
    clock::{Clock, Timestamp},
    destination::{Authentication, Destination, Hold, Standing},
    export::{Charge, Fault, Next, Outcome},
    metrics,
    store::{Claim, Queue, Store, StoreError},
    tls::{Credentials, HttpsUrl, Limits, MutualClient, MutualClientError, Validity},
};

mod control;
mod figures;
mod gate;
mod verdict;

pub use control::{Control, Failure, NotDone, State, Test, Tested, View};
pub use figures::Percentiles;

use control::{ORDERS_MAX, Order};
use figures::Figures;
use gate::{Allowance, Gate};

/// How long connecting may take: name, TCP and TLS.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a request that was certainly not processed is sent again at once.
const UNPROCESSED_MAX: u32 = 3;
/// Exports that were sent and whose settlement is not on disk yet, for each that may be in flight: a disk that is slow to
/// sync slows sending down before much could be sent twice.
const UNSETTLED_MAX: usize = 4;
/// A worker looks again this often even when nothing wakes it: a lost wake-up must not stall a destination.
const BACKSTOP: Duration = Duration::from_secs(1);

/// Sends the exports of one destination.
pub struct Worker {
    destination: Destination,
    sender: Sender,
    queue: Arc<Queue>,
    store: Store,
    clock: Clock,
    gate: Gate,
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

/// What a POST needs. Clones share connections.
#[derive(Clone)]
struct Sender {
    client: MutualClient,
    credentials: Credentials,
    clock: Clock,
    endpoint: Arc<HttpsUrl>,
    headers: HeaderMap,
}

/// A POST that ended: the claim, what it met, and more words for it where an error has some.
struct Ended {
    claim: Claim,
    outcome: Outcome,
    detail: Option<String>,
}

impl Worker {
    /// A worker for `destination`, whose queue the store has, and a handle on it.
    ///
    /// # Errors
    /// When the client cannot be built.
    ///
    /// # Panics
    /// When the store was opened without this destination.
    pub fn new(destination: Destination, store: Store, clock: Clock) -> Result<(Self, Control), MutualClientError> {
        let limits = Limits { connect: CONNECT_TIMEOUT, answer: destination.timeout };
        let sender = Sender {
            client: MutualClient::new(&destination.tls, limits, clock.clone())?,
            credentials: destination.tls.credentials().clone(),
            clock: clock.clone(),
            endpoint: Arc::new(destination.endpoint.clone()),
            headers: headers(&destination.authentication),
        };
        let queue = store.queue(destination.id()).expect("the store is opened with all destinations");
        let gate = gate_as_left(&destination, &store, &clock);
        let (orders, inbox) = mpsc::channel(ORDERS_MAX);
        let control = Control { orders, sender: sender.clone() };
        let (figures, keeping) = (Figures::default(), JoinSet::new());
        let (last_delivery, last_failure) = (None, None);
        let worker = Self {
            destination,
            sender,
            queue,
            store,
            clock,
            gate,
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
        self.gate = gate_as_left(&self.destination, &self.store, &self.clock);
        if let Some(Hold { fault, since }) = self.gate.held() {
            warn!(destination = %self.destination.id(), reason = %fault, %since, "destination is still held");
        }
        self.show_state();
        while !(stop.is_cancelled() || ending == Ending::Drained && self.queue.is_empty()) {
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
        while let Some(ended) = posts.join_next().await {
            self.settle(ended);
        }
        while self.keeping.join_next().await.is_some() {}
    }

    /// Starts what the gate allows; returns when to look again, whatever else happens.
    async fn send(&mut self, posts: &mut JoinSet<Ended>) -> Timestamp {
        let now = self.clock.now();
        let look_again = now + BACKSTOP;
        if !self.store.is_healthy() {
            // What came of a POST could not be kept.
            return look_again;
        }
        let (queue, max) = (self.queue.clone(), self.destination.max_in_flight);
        let unsettled_room = (max * UNSETTLED_MAX).saturating_sub(queue.claimed());
        let room = max.saturating_sub(posts.len()).min(unsettled_room);
        let claims = match self.gate.allowance(now) {
            Allowance::Nothing { until } => return until.min(look_again),
            Allowance::Probe { .. } if !posts.is_empty() => return look_again,
            Allowance::Probe { after } => claim(move || queue.claim_head(after).into_iter().collect()).await,
            Allowance::Due if room == 0 || !queue.has_due(now) => Vec::new(),
            Allowance::Due => match queue.claim_due_in_memory(now, room) {
                Some(claims) => claims,
                None => claim(move || queue.claim_due(now, room)).await,
            },
        };
        for claim in claims {
            self.gate.probing(claim.number());
            // Boxed: tokio aligns its tasks to 128 bytes, which makes large ones slow to allocate.
            posts.spawn(Box::pin(self.sender.clone().send(claim)));
        }
        // What is due by now and was not claimed lacked room: a settlement will wake us.
        self.queue.next_due(now).filter(|due| *due > now).map_or(look_again, |due| due.min(look_again))
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
                self.keep(standing, answer, "destination resumed");
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
        }
    }

    fn settle(&mut self, ended: Result<Ended, JoinError>) {
        let now = self.clock.now();
        let Ended { claim, outcome, detail } = match ended {
            Ok(ended) => ended,
            // Its claim was given back; the hold keeps it from doing so again and again at full speed.
            Err(error) => {
                error!(destination = %self.destination.id(), %error, "a POST broke off; this is a fault of ours");
                self.gate.hold(Fault::Failing, now);
                return self.show_state();
            }
        };
        let detail = detail.as_deref();
        let (id, destination) = (claim.export.id, self.destination.id().clone());
        let was_held = self.gate.held().cloned();
        let judgement = self.gate.judge(&claim.export, claim.number(), outcome, now);
        metrics::post(&destination, &judgement.outcome, judgement.charge);
        self.log_gate(was_held.map(|hold| hold.fault), detail);
        match &judgement.outcome {
            Outcome::Delivered(_) => self.last_delivery = Some(now),
            outcome => {
                let detail = detail.map(str::to_owned);
                self.last_failure = Some(Failure { at: now, outcome: outcome.clone(), detail });
            }
        }
        let delays = &self.destination.retry_delays;
        let next = claim.export.clone().after(judgement.outcome.clone(), judgement.charge, delays, now);
        let attempts = claim.export.attempts.len() + usize::from(judgement.charge == Charge::Attempt);
        match &next {
            Next::Delivered(_) => {
                let latency = now.since(claim.export.accepted_at);
                metrics::delivered(&destination, latency);
                self.figures.delivered(now, latency);
                debug!(%destination, export = %id, "export delivered");
            }
            // No POST ends so.
            Next::Dropped => {}
            Next::Waiting(_) if judgement.charge == Charge::Attempt => {
                warn!(%destination, export = %id, attempts, outcome = %judgement.outcome, detail, "attempt failed");
            }
            Next::Waiting(_) => {
                debug!(%destination, export = %id, outcome = %judgement.outcome, detail, "trial failed");
            }
            Next::Dead(letter) => {
                let cause = letter.cause;
                let outcome = &judgement.outcome;
                error!(%destination, export = %id, %cause, attempts, %outcome, detail, "export became a dead letter");
            }
        }
        self.store.settle(claim, next, judgement.standing);
    }

    fn log_gate(&self, before: Option<Fault>, detail: Option<&str>) {
        let destination = self.destination.id();
        match (&before, self.gate.held()) {
            (None, None) => return,
            (Some(before), Some(hold)) if *before == hold.fault => return,
            (_, Some(hold)) => warn!(%destination, reason = %hold.fault, detail, "destination held"),
            (Some(before), None) => info!(%destination, reason = %before, "destination open again"),
        }
        if let Some(fault) = &before {
            metrics::hold_ended(destination, fault);
        }
        self.show_state();
    }

    fn show_state(&self) {
        let held = self.gate.held().map(|hold| &hold.fault);
        metrics::destination_state(self.destination.id(), held, self.gate.is_paused());
    }
}

fn gate_as_left(destination: &Destination, store: &Store, clock: &Clock) -> Gate {
    Gate::new(store.standing(destination.id()), destination.tls.credentials().fingerprint(), clock.now())
}

/// Claims on a thread that may wait for the disk.
async fn claim(claims: impl FnOnce() -> Vec<Claim> + Send + 'static) -> Vec<Claim> {
    tokio::task::spawn_blocking(claims).await.unwrap_or_else(|error| {
        error!(%error, "cannot claim exports: reading the store broke off");
        Vec::new()
    })
}

impl Sender {
    async fn send(self, claim: Claim) -> Ended {
        if self.credentials.validity_at(self.clock.now()) != Validity::Valid {
            // Every receiver would have to refuse it, so the POST is not made.
            return Ended { claim, outcome: Outcome::Fault(Fault::CertificateNotValid), detail: None };
        }
        let mut headers = self.headers;
        let key = HeaderValue::try_from(claim.export.id.to_string()).expect("a UUID is a header value");
        headers.insert("idempotency-key", key);
        for _ in 0..=UNPROCESSED_MAX {
            let result = self.client.post(&self.endpoint, headers.clone(), claim.body.clone()).await;
            let detail = result.as_ref().err().map(|error| crate::chain(error));
            if let Some(outcome) = verdict::outcome(result) {
                return Ended { claim, outcome, detail };
            }
        }
        // Never written, so no fault of the export: the receiver closes its connections at once.
        let detail = format!("not processed {} times in a row", UNPROCESSED_MAX + 1);
        Ended { claim, outcome: Outcome::Fault(Fault::Closed), detail: Some(detail) }
    }
}

/// The headers that every export has.
fn headers(authentication: &Authentication) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("postern/", env!("CARGO_PKG_VERSION"))));
    match authentication {
        Authentication::None => {}
        Authentication::Bearer(token) => {
            let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose_secret()))
                .expect("a token is a legal header value, checked by the configuration");
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{
        destination::Mapping,
        export::{ExportId, NewExport},
        profile::update::UpdateId,
        store::{Change, Committed, Keeping, StoreOwner},
        tls::{
            ClientTls, ClientTlsFiles, RootsSource,
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
        Destination {
            mapping: Mapping { destination: "crm".parse().unwrap(), audiences: vec![], attributes: vec![] },
            endpoint: HttpsUrl::parse("https://127.0.0.1:1/").unwrap(),
            authentication: Authentication::None,
            timeout: Duration::from_secs(2),
            retry_delays: [Duration::from_secs(15), Duration::from_secs(30)],
            max_in_flight: 64,
            tls: ClientTls::load(&ClientTlsFiles { certificate, key, roots }).unwrap(),
        }
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
                exports: vec![NewExport { destination: to, id: export, body: b"{}".to_vec(), reasons: vec![] }],
            })
        };
        owner.store().update(Vec::new(), decide).await.unwrap();
        let (mut worker, _control) = Worker::new(destination, owner.store(), clock).unwrap();
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
