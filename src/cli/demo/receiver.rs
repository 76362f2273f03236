//! A good receiver: requires a client certificate, tells of each export that arrives, and answers as it is told to.

use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context, Result};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
};

use super::{arrival::Arrival, wait};
use crate::tls::listener::ServerTls;

/// Arrivals that nobody has looked at yet; further ones wait for their answer. The demo makes fewer in all.
const ARRIVALS_MAX: usize = 1024;
/// The largest body that is read: the demo's have less than 2 KiB.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// A receiver at work, until it is dropped.
pub(super) struct Receiver {
    address: SocketAddr,
    answer: Arc<Mutex<StatusCode>>,
    arrivals: mpsc::Receiver<Arrival>,
    _listening: JoinSet<()>,
}

/// What a connection needs.
#[derive(Clone)]
struct Desk {
    tls: ServerTls,
    answer: Arc<Mutex<StatusCode>>,
    arrivals: mpsc::Sender<Arrival>,
}

impl Receiver {
    /// Starts one on a port of its own; it answers 200.
    pub(super) async fn start(tls: ServerTls) -> Result<Self> {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("cannot listen as a receiver")?;
        let address = socket.local_addr()?;
        let answer = Arc::new(Mutex::new(StatusCode::OK));
        let (sender, arrivals) = mpsc::channel(ARRIVALS_MAX);
        let mut listening = JoinSet::new();
        listening.spawn(listen(socket, Desk { tls, answer: answer.clone(), arrivals: sender }));
        Ok(Self { address, answer, arrivals, _listening: listening })
    }

    pub(super) fn url(&self) -> String {
        format!("https://{}/profiles", self.address)
    }

    /// Answers so from now on.
    pub(super) fn answer(&self, status: StatusCode) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }

    /// Waits for the next export to arrive.
    pub(super) async fn next(&mut self) -> Result<Arrival> {
        wait::for_end("an export", self.arrivals.recv()).await?.context("the receiver ended")
    }

    /// The next export, if one is here already.
    pub(super) fn try_next(&mut self) -> Option<Arrival> {
        self.arrivals.try_recv().ok()
    }
}

async fn listen(socket: TcpListener, desk: Desk) {
    // Dropped with this task, which cuts the connections.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = socket.accept().await {
        connections.spawn(converse(stream, desk.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn converse(stream: TcpStream, desk: Desk) {
    // A client that goes away, killed perhaps, is part of the demo.
    let Ok(stream) = desk.tls.accept(stream).await else { return };
    let service = service_fn(move |request| take(request, desk.clone()));
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn take(request: Request<Incoming>, desk: Desk) -> Result<Response<Empty<Bytes>>, Infallible> {
    let key = request.headers().get("idempotency-key").and_then(|key| key.to_str().ok()).unwrap_or_default().to_owned();
    let read = Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await;
    let body = read.ok().and_then(|read| serde_json::from_slice(&read.to_bytes()).ok());
    let answered = match &body {
        Some(_) => *desk.answer.lock().unwrap_or_else(PoisonError::into_inner),
        None => StatusCode::BAD_REQUEST,
    };
    // An error means that the demo is over.
    let _ = desk.arrivals.send(Arrival { key, body: body.unwrap_or_default(), answered }).await;
    let mut response = Response::new(Empty::new());
    *response.status_mut() = answered;
    Ok(response)
}
