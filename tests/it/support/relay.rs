//! A TCP relay that keeps what passes, in both directions: what anybody on the way could read.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::pki::HOST;

/// A relay at work. Dropping it ends it.
pub struct Relay {
    address: SocketAddr,
    passed: Passed,
    running: JoinHandle<()>,
}

type Passed = Arc<Mutex<Vec<u8>>>;

impl Relay {
    /// To a port of this machine, whoever listens there at the time.
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind((HOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let passed = Passed::default();
        let kept = Arc::clone(&passed);
        let running = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let kept = Arc::clone(&kept);
                tokio::spawn(async move {
                    let Ok(server) = TcpStream::connect((HOST, port)).await else { return };
                    let ((from_client, to_client), (from_server, to_server)) =
                        (client.into_split(), server.into_split());
                    tokio::join!(pass(from_client, to_server, &kept), pass(from_server, to_client, &kept));
                });
            }
        });
        Self { address, passed, running }
    }

    pub fn url_at(&self, path: &str) -> String {
        format!("https://{}{path}", self.address)
    }

    /// Whether this could be read on the way.
    pub fn saw(&self, text: &str) -> bool {
        self.passed.lock().unwrap().windows(text.len()).any(|window| window == text.as_bytes())
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.running.abort();
    }
}

/// Until one side ends, which the other is told.
async fn pass(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, kept: &Mutex<Vec<u8>>) {
    let mut bytes = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        kept.lock().unwrap().extend(&bytes[..count]);
        if to.write_all(&bytes[..count]).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}
