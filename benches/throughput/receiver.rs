//! The receiver: requires client certificates, answers 200 with nothing, and notes what arrived when.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, Response, StatusCode, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use postern::tls::listener::{ClientAuth, ServerTls};
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};

use crate::{
    child::{self, Child},
    figures::Percentiles,
    machine, update,
};

/// Its role's name.
pub(crate) const ROLE: &str = "receiver";

/// How long it may take to answer the runner: it sorts some millions of latencies at most.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bodies kept of what came first, for the bare sender.
const SAMPLES: usize = 1024;
/// Most bytes of a body that are read.
const BODY_BYTES_MAX: usize = 2 * 1024 * 1024;

/// What the receiver needs.
#[derive(Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) certificate_pem: String,
    pub(crate) key_pem: String,
    pub(crate) clients_pem: String,
    /// How many profiles there are: update `n` is of profile `n` modulo this.
    pub(crate) profiles: u64,
}

#[derive(Serialize, Deserialize)]
enum Question {
    /// Forget what arrived: a phase begins.
    Begin,
    /// How many distinct updates have arrived in this phase?
    Count,
    /// What was this phase like?
    Report,
    /// What do the bodies look like?
    Samples,
}

/// What arrived in a phase.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Updates whose export arrived.
    pub(crate) distinct: u64,
    /// Exports of updates that had arrived before.
    pub(crate) repeats: u64,
    /// Exports of a profile that arrived behind a younger one.
    pub(crate) out_of_order: u64,
    /// Requests that were no export of ours.
    pub(crate) foreign: u64,
    /// Requests.
    pub(crate) requests: u64,
    /// When the first one arrived, in microseconds since 1970.
    pub(crate) first_micros: u64,
    /// When the last one arrived.
    pub(crate) last_micros: u64,
    /// Mean size of an export.
    pub(crate) mean_bytes: f64,
    /// From the instant in the update to the arrival of the whole export.
    pub(crate) latency: Percentiles,
}

/// A running receiver.
pub(crate) struct Receiver {
    child: Child,
    address: SocketAddr,
}

impl Receiver {
    pub(crate) fn start(order: &Order) -> anyhow::Result<Self> {
        let child = Child::start(ROLE, order)?;
        let address = child.hear(PATIENCE)?;
        Ok(Self { child, address })
    }

    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("https://{}/exports", self.address)
    }

    pub(crate) fn begin(&mut self) -> anyhow::Result<()> {
        self.child.tell(&Question::Begin)?;
        self.child.hear(PATIENCE)
    }

    pub(crate) fn count(&mut self) -> anyhow::Result<u64> {
        self.child.tell(&Question::Count)?;
        self.child.hear(PATIENCE)
    }

    pub(crate) fn report(&mut self) -> anyhow::Result<Report> {
        self.child.tell(&Question::Report)?;
        self.child.hear(PATIENCE)
    }

    /// The bodies that came first in this phase.
    pub(crate) fn samples(&mut self) -> anyhow::Result<Vec<String>> {
        self.child.tell(&Question::Samples)?;
        self.child.hear(PATIENCE)
    }
}

/// The role.
pub(crate) fn serve() -> anyhow::Result<()> {
    let Order { certificate_pem, key_pem, clients_pem, profiles } = child::order()?;
    let tls = ServerTls::new(&certificate_pem, &key_pem, ClientAuth::Required(&clients_pem))?;
    let arrivals = Arc::new(Mutex::new(Arrivals::of(profiles)));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0)))?;
    child::tell(&listener.local_addr()?)?;
    runtime.spawn(accept(listener, tls, Arc::clone(&arrivals)));
    while let Some(question) = child::told()? {
        // Copied out, so that sorting does not hold up what arrives.
        let look = || arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        match question {
            Question::Begin => child::tell(&look().begin())?,
            Question::Count => child::tell(&look().report.distinct)?,
            Question::Report => {
                let (report, bytes, latencies) = {
                    let arrivals = look();
                    (arrivals.report.clone(), arrivals.bytes, arrivals.latencies.clone())
                };
                let mean_bytes = bytes as f64 / latencies.len().max(1) as f64;
                child::tell(&Report { mean_bytes, latency: Percentiles::of(latencies), ..report })?;
            }
            Question::Samples => child::tell(&look().samples)?,
        }
    }
    Ok(())
}

/// What has arrived.
struct Arrivals {
    report: Report,
    bytes: u64,
    latencies: Vec<u32>,
    samples: Vec<String>,
    /// By update, a bit: its export arrived. Kept over all phases, as are those of the profiles.
    seen: Vec<u64>,
    /// By profile: the youngest update whose export arrived.
    youngest: Vec<u64>,
}

impl Arrivals {
    fn of(profiles: u64) -> Self {
        let profiles = usize::try_from(profiles).expect("profiles fit into memory");
        Self {
            report: Report::default(),
            bytes: 0,
            latencies: Vec::new(),
            samples: Vec::with_capacity(SAMPLES),
            seen: Vec::new(),
            youngest: vec![0; profiles],
        }
    }

    fn begin(&mut self) {
        (self.report, self.bytes) = Default::default();
        self.latencies.clear();
        self.samples.clear();
    }

    fn note(&mut self, body: &[u8], exports: &[(u64, u64)], now: u64) {
        self.report.requests += 1;
        if exports.is_empty() {
            self.report.foreign += 1;
            return;
        }
        self.bytes += body.len() as u64;
        if self.samples.len() < SAMPLES {
            self.samples.push(String::from_utf8_lossy(body).into_owned());
        }
        if self.report.first_micros == 0 {
            self.report.first_micros = now;
        }
        self.report.last_micros = now;
        exports.iter().for_each(|(sequence, sent)| self.note_export(*sequence, *sent, now));
    }

    fn note_export(&mut self, sequence: u64, sent: u64, now: u64) {
        self.latencies.push(u32::try_from(now.saturating_sub(sent)).unwrap_or(u32::MAX));
        let (word, bit) = ((sequence / 64) as usize, 1 << (sequence % 64));
        if word >= self.seen.len() {
            self.seen.resize(word + 1024, 0);
        }
        if self.seen[word] & bit != 0 {
            self.report.repeats += 1;
            return;
        }
        self.seen[word] |= bit;
        self.report.distinct += 1;
        let profile = (sequence % self.youngest.len() as u64) as usize;
        if sequence < self.youngest[profile] {
            self.report.out_of_order += 1;
        }
        self.youngest[profile] = self.youngest[profile].max(sequence);
    }
}

async fn accept(listener: TcpListener, tls: ServerTls, arrivals: Arc<Mutex<Arrivals>>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(converse(stream, tls.clone(), Arc::clone(&arrivals)))),
            // Out of descriptors for a moment.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn converse(stream: TcpStream, tls: ServerTls, arrivals: Arc<Mutex<Arrivals>>) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let stream = tls.accept(stream).await?;
    let service = service_fn(|request| take(request, &arrivals));
    http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.context("the connection broke")
}

async fn take(request: Request<Incoming>, arrivals: &Mutex<Arrivals>) -> Result<Response<Empty<Bytes>>, Infallible> {
    let mut response = Response::new(Empty::new());
    match http_body_util::Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await {
        Ok(body) => {
            let body = body.to_bytes();
            let (exports, now) = (update::read(&body), machine::now_micros());
            arrivals.lock().unwrap_or_else(PoisonError::into_inner).note(&body, &exports, now);
        }
        Err(_) => *response.status_mut() = StatusCode::BAD_REQUEST,
    }
    Ok(response)
}
