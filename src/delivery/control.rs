//! What an operator sees of a destination's worker, and what one can tell it.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use hyper::Method;
use tokio::sync::{mpsc, oneshot, watch};

use super::{Certificates, Met, Percentiles, Sender};
use crate::{
    clock::Timestamp,
    destination::Hold,
    export::{Fault, Outcome},
    store::StoreError,
    tls::{ClientTls, Fingerprint},
};

/// Orders that may wait for a worker: it takes them between two rounds.
pub(super) const ORDERS_MAX: usize = 16;
/// A worker that says nothing for so long is stuck: its longest step is a read from disk.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// A made-up export of nobody: what a receiver is sent when a test asks for a POST.
const SAMPLE: &[u8] = br#"{"identityMap":{"PosternTest":[{"id":"test"}]},"segmentMembership":{}}"#;

/// A destination as its worker sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// Whether it sends.
    pub state: State,
    /// POSTs under way.
    pub in_flight: usize,
    /// Deliveries a second, over the last minute.
    pub rate: f64,
    /// From acceptance to delivery, over the latest deliveries.
    pub latency: Option<Percentiles>,
    /// The last delivery since the start.
    pub last_delivery: Option<Timestamp>,
    /// The last POST since the start that was not delivered.
    pub last_failure: Option<Failure>,
    /// The certificate of ours over which it last accepted an export.
    pub accepted_with: Option<Fingerprint>,
    /// Our certificates.
    pub certificates: Certificates,
    /// The addresses of ours that it is sent to from: the one that is set, or those of connections since the start.
    pub sends_from: Vec<IpAddr>,
}

/// Whether a destination is sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It is.
    Open,
    /// It asked us to wait.
    Throttled {
        /// Until then.
        until: Timestamp,
    },
    /// It waits for a reason other than a person's wish; probes go out.
    Held {
        /// The reason.
        hold: Hold,
        /// When the next probe goes out; none while one is under way.
        next_probe: Option<Timestamp>,
    },
    /// A person's wish: nothing is sent.
    Paused {
        /// Since when.
        since: Timestamp,
        /// Why it would be held otherwise.
        hold: Option<Hold>,
    },
}

/// A POST that was not delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// When it ended.
    pub at: Timestamp,
    /// What it met.
    pub outcome: Outcome,
    /// More words for it, where an error has some.
    pub detail: Option<String>,
}

/// Why a worker did not do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum NotDone {
    /// It has ended, or is stuck.
    #[error("the destination's worker does not answer; see the log")]
    NoAnswer,
    /// What it was told could not be kept.
    #[error(transparent)]
    NotKept(#[from] StoreError),
}

/// What a test sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Test {
    /// A HEAD request: it shows connection, mutual TLS and that somebody answers.
    Head,
    /// A POST of a made-up export.
    Sample,
}

/// What a test met.
#[derive(Debug)]
pub struct Tested {
    /// The status and what it would mean for an export, or why there is none.
    pub result: Result<(u16, Option<Outcome>), (Outcome, String)>,
    /// How long it took.
    pub took: Duration,
}

impl Tested {
    /// Whether exports can be expected to arrive. Of a HEAD request any answer will do that does not speak of our
    /// certificate or our access.
    pub fn is_good(&self, test: Test) -> bool {
        match (test, &self.result) {
            (Test::Head, Ok((status, _))) => !matches!(status, 400 | 401 | 403 | 407 | 495 | 496),
            (Test::Sample, Ok((_, outcome))) => matches!(outcome, Some(Outcome::Delivered(_))),
            (_, Err(_)) => false,
        }
    }
}

/// Who tells what our files hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Who watches them, and knows nothing of settings.
    Watch,
    /// A reload, whose settings count.
    Reload,
}

pub(super) enum Order {
    Show(oneshot::Sender<View>),
    Pause(oneshot::Sender<Result<(), StoreError>>),
    Resume(oneshot::Sender<Result<(), StoreError>>),
    OnFile(Result<ClientTls, String>, By, oneshot::Sender<()>),
}

/// A handle on a destination's worker.
#[derive(Clone)]
pub struct Control {
    pub(super) orders: mpsc::Sender<Order>,
    /// What POSTs go out with now.
    pub(super) sender: watch::Receiver<Arc<Sender>>,
}

impl Control {
    /// The destination as its worker sees it now.
    ///
    /// # Errors
    /// [`NotDone::NoAnswer`].
    pub async fn view(&self) -> Result<View, NotDone> {
        self.tell(Order::Show).await
    }

    /// Sends nothing from now on, over restarts too; POSTs under way end. Returns when that is on disk.
    ///
    /// # Errors
    /// [`NotDone`].
    pub async fn pause(&self) -> Result<(), NotDone> {
        Ok(self.tell(Order::Pause).await??)
    }

    /// Ends a pause; one that is held is probed at once. Returns when that is on disk.
    ///
    /// # Errors
    /// [`NotDone`].
    pub async fn resume(&self) -> Result<(), NotDone> {
        Ok(self.tell(Order::Resume).await??)
    }

    async fn tell<T>(&self, order: impl FnOnce(oneshot::Sender<T>) -> Order) -> Result<T, NotDone> {
        let (answer, answered) = oneshot::channel();
        let told = async {
            self.orders.send(order(answer)).await.ok()?;
            answered.await.ok()
        };
        tokio::time::timeout(ANSWER_MAX, told).await.ok().flatten().ok_or(NotDone::NoAnswer)
    }

    /// Tells what our files hold now: a pair that is good as far as files can tell, or what is wrong. A good one is used from
    /// now on, as far as it is valid and the receiver takes it.
    ///
    /// # Errors
    /// [`NotDone::NoAnswer`].
    pub async fn on_file(&self, found: Result<ClientTls, String>, by: By) -> Result<(), NotDone> {
        self.tell(|answer| Order::OnFile(found, by, answer)).await
    }

    /// What POSTs go out with now.
    pub fn tls(&self) -> ClientTls {
        self.sender.borrow().tls.clone()
    }

    /// Whether both are handles on one worker.
    pub(crate) fn is_of_the_worker_of(&self, other: &Self) -> bool {
        self.orders.same_channel(&other.orders)
    }

    /// Sends a request that holds nothing of anybody, as exports are sent, whatever the gate says.
    pub async fn test(&self, test: Test) -> Tested {
        let began = Instant::now();
        let result = self.try_test(test).await;
        Tested { result, took: began.elapsed() }
    }

    async fn try_test(&self, test: Test) -> Result<(u16, Option<Outcome>), (Outcome, String)> {
        let sender = self.sender.borrow().clone();
        if !sender.is_usable() {
            let outcome = Outcome::Fault(Fault::CertificateNotValid);
            return Err((outcome, "our certificate is expired or not valid yet".to_owned()));
        }
        let (method, body) = match test {
            Test::Head => (Method::HEAD, None),
            Test::Sample => (Method::POST, Some(SAMPLE)),
        };
        let Met { status, outcome, detail, answer: _ } = sender.test(method, body).await;
        match status {
            Some(status) => Ok((status, outcome)),
            // Not processed: it would be sent again.
            None => Err((outcome.unwrap_or(Outcome::Fault(Fault::Closed)), detail.unwrap_or_default())),
        }
    }
}
