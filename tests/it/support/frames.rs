//! A receiver that writes the frames of HTTP/2 itself: for what no good server does.

use std::{io, sync::Arc};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::server::TlsStream;

use super::{
    pki::{HOST, Pki},
    receiver::{HTTP2, PATIENCE, Receiver},
};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// What a peer begins by instead of a client's magic words: 24 bytes that no client leaves out.
const PREFACE_BYTES: usize = 24;

/// A receiver at work. Dropping it ends it.
pub struct Frames {
    port: u16,
    seen: Arc<watch::Sender<Seen>>,
    _connections: JoinSet<()>,
}

/// What came so far.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Bodies of whole requests, with the number of their connection.
    pub requests: Vec<(usize, serde_json::Value)>,
    /// Requests whose head came.
    pub heads: usize,
    pub connections: usize,
    pub closed: usize,
    pub pings: usize,
}

/// A request that has come whole.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// Which of all, from 0.
    pub number: usize,
    /// Which connection it came on, from 0.
    pub connection: usize,
    pub stream: u32,
}

/// What a receiver does.
#[derive(Clone, Debug)]
pub enum Act {
    Write(Vec<u8>),
    /// The same for as long as somebody takes it.
    Flood(Vec<u8>),
    Close,
    /// From now on nothing is answered, not even pings.
    Die,
}

type Script = dyn Fn(Asked) -> Vec<Act> + Send + Sync;

impl Frames {
    /// Begins each connection with these bytes, and does what the script says on each whole request.
    pub async fn start(
        pki: &Pki,
        opening: Vec<u8>,
        script: impl Fn(Asked) -> Vec<Act> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((HOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let tls = Receiver::set_up(pki).speaking(HTTP2).acceptor();
        let seen = Arc::new(watch::Sender::new(Seen::default()));
        let (script, opening): (Arc<Script>, _) = (Arc::new(script), Arc::new(opening));
        let mut connections = JoinSet::new();
        let shown = Arc::clone(&seen);
        connections.spawn(async move {
            let mut conversations = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (tls, seen) = (tls.clone(), Arc::clone(&shown));
                let (script, opening) = (Arc::clone(&script), Arc::clone(&opening));
                conversations.spawn(async move {
                    let Ok(stream) = tls.accept(stream).await else { return };
                    let mut connection = 0;
                    seen.send_modify(|seen| {
                        connection = seen.connections;
                        seen.connections += 1;
                    });
                    let _ = converse(stream, connection, &opening, &*script, &seen).await;
                    seen.send_modify(|seen| seen.closed += 1);
                });
            }
        });
        Self { port, seen, _connections: connections }
    }

    pub fn url(&self) -> String {
        format!("https://{HOST}:{}/in", self.port)
    }

    pub fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// Waits until what came is as wanted.
    pub async fn wait_until(&self, wanted: &str, met: impl Fn(&Seen) -> bool) -> Seen {
        let mut seen = self.seen.subscribe();
        match timeout(PATIENCE, seen.wait_for(|seen| met(seen))).await {
            Ok(seen) => seen.unwrap().clone(),
            Err(_) => panic!("waited {PATIENCE:?} for {wanted}, saw {:#?}", self.seen()),
        }
    }
}

async fn converse(
    mut stream: TlsStream<TcpStream>,
    connection: usize,
    opening: &[u8],
    script: &Script,
    seen: &watch::Sender<Seen>,
) -> io::Result<()> {
    stream.write_all(opening).await?;
    stream.flush().await?;
    stream.read_exact(&mut [0; PREFACE_BYTES]).await?;
    let mut bodies = std::collections::BTreeMap::<u32, Vec<u8>>::new();
    let mut is_dead = false;
    loop {
        let (kind, flags, id, payload) = read(&mut stream).await?;
        if is_dead {
            continue;
        }
        match kind {
            SETTINGS if flags & ACK == 0 => stream.write_all(&frame(SETTINGS, ACK, 0, &[])).await?,
            PING if flags & ACK == 0 => {
                seen.send_modify(|seen| seen.pings += 1);
                stream.write_all(&frame(PING, ACK, 0, &payload)).await?;
            }
            HEADERS => {
                seen.send_modify(|seen| seen.heads += 1);
                bodies.insert(id, Vec::new());
            }
            DATA => bodies.entry(id).or_default().extend(payload),
            _ => {}
        }
        stream.flush().await?;
        if matches!(kind, HEADERS | DATA) && flags & END_STREAM != 0 {
            let body = serde_json::from_slice(&bodies.remove(&id).unwrap()).unwrap_or_default();
            let mut number = 0;
            seen.send_modify(|seen| {
                number = seen.requests.len();
                seen.requests.push((connection, body));
            });
            for act in script(Asked { number, connection, stream: id }) {
                match act {
                    Act::Write(bytes) => stream.write_all(&bytes).await?,
                    Act::Flood(bytes) => loop {
                        stream.write_all(&bytes).await?;
                        stream.flush().await?;
                    },
                    Act::Close => {
                        stream.flush().await?;
                        return stream.shutdown().await;
                    }
                    Act::Die => is_dead = true,
                }
            }
            stream.flush().await?;
        }
    }
}

async fn read(stream: &mut TlsStream<TcpStream>) -> io::Result<(u8, u8, u32, Vec<u8>)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await?;
    let [a, b, c, kind, flags, id @ ..] = head;
    let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
    stream.read_exact(&mut payload).await?;
    Ok((kind, flags, u32::from_be_bytes(id), payload))
}

/// Any frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// SETTINGS that say nothing, by which a good server begins.
pub fn settings() -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[])
}

/// SETTINGS by which no more streams may be open at once.
pub fn streams_at_most(most: u32) -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[&[0, 3], &most.to_be_bytes()[..]].concat())
}

/// A whole answer without a body.
pub fn answer(stream: u32, status: u16) -> Vec<u8> {
    // A literal of the name that HPACK's static table has at 8.
    let status = [&[0x08, 3], status.to_string().as_bytes()].concat();
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &status)
}

pub fn reset(stream: u32, reason: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &reason.to_be_bytes())
}

/// No stream after the last one was or will be looked at.
pub fn go_away(last: u32, reason: u32) -> Vec<u8> {
    frame(GOAWAY, 0, 0, &[last.to_be_bytes(), reason.to_be_bytes()].concat())
}

pub fn ping() -> Vec<u8> {
    frame(PING, 0, 0, &[7; 8])
}

/// The beginning of an answer's head that never ends, and how it goes on.
pub fn endless_head(stream: u32) -> (Vec<u8>, Vec<u8>) {
    // Headers without an index: `x: y`, over and over.
    let lines = [0x00, 1, b'x', 1, b'y'].repeat(1000);
    (frame(HEADERS, 0, stream, &lines), frame(CONTINUATION, 0, stream, &lines))
}

/// The same with nothing in it.
pub fn empty_continuation(stream: u32) -> Vec<u8> {
    frame(CONTINUATION, 0, stream, &[])
}

/// An answer's head that promises a body, and no body.
pub fn head_alone(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &[0x88])
}
