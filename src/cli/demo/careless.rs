//! A careless receiver: asks nobody for a certificate, and counts what it is given.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::{Context, Result};
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::wait;
use crate::tls::listener::ServerTls;

/// A careless receiver at work, until it is dropped.
pub(super) struct Careless {
    address: SocketAddr,
    seen: Arc<Seen>,
    _listening: JoinSet<()>,
}

#[derive(Default)]
struct Seen {
    handshakes: AtomicUsize,
    open: AtomicUsize,
    bytes: AtomicUsize,
}

impl Careless {
    /// Starts one on a port of its own.
    pub(super) async fn start(tls: ServerTls) -> Result<Self> {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("cannot listen as a receiver")?;
        let (address, seen) = (socket.local_addr()?, Arc::<Seen>::default());
        let mut listening = JoinSet::new();
        listening.spawn(listen(socket, tls, seen.clone()));
        Ok(Self { address, seen, _listening: listening })
    }

    pub(super) fn url(&self) -> String {
        format!("https://{}/profiles", self.address)
    }

    /// TLS handshakes that were completed, so that data could have followed.
    pub(super) fn handshakes(&self) -> usize {
        self.seen.handshakes.load(Ordering::SeqCst)
    }

    /// Waits until it was tried and all its connections have ended, so that nothing more can come of these; returns how
    /// many handshakes it has completed.
    pub(super) async fn wait_for_idle(&self) -> Result<usize> {
        wait::until("the careless receiver to be tried and left", async || {
            let (handshakes, open) = (self.handshakes(), self.seen.open.load(Ordering::SeqCst));
            Ok((handshakes > 0 && open == 0).then_some(handshakes))
        })
        .await
    }

    /// Bytes that arrived inside TLS.
    pub(super) fn bytes(&self) -> usize {
        self.seen.bytes.load(Ordering::SeqCst)
    }
}

async fn listen(socket: TcpListener, tls: ServerTls, seen: Arc<Seen>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = socket.accept().await {
        seen.open.fetch_add(1, Ordering::SeqCst);
        connections.spawn(converse(stream, tls.clone(), seen.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn converse(stream: TcpStream, tls: ServerTls, seen: Arc<Seen>) {
    count(stream, tls, &seen).await;
    seen.open.fetch_sub(1, Ordering::SeqCst);
}

async fn count(stream: TcpStream, tls: ServerTls, seen: &Seen) {
    let Ok(mut stream) = tls.accept(stream).await else { return };
    seen.handshakes.fetch_add(1, Ordering::SeqCst);
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        seen.bytes.fetch_add(read, Ordering::SeqCst);
    }
}
