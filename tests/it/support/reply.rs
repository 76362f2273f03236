//! How a receiver answers, well or badly.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    sync::watch,
};

/// What follows a request.
#[derive(Clone, Debug)]
pub enum Reply {
    /// A whole answer; the connection stays open.
    Answer { status: u16, headers: Vec<(String, String)>, body: Vec<u8> },
    /// The same, after which the connection is closed without a word of that in the answer.
    AnswerThenClose(u16),
    /// The connection is closed instead of an answer.
    Close,
    /// The connection is closed in the middle of the answer's body.
    CloseInBody,
    /// Bytes that are not HTTP.
    Garbage,
    /// A good head, then a body without end.
    Endless,
    /// A head without end.
    EndlessHead,
    /// A good head, then a byte of the body now and then.
    Trickle,
    /// Nothing; the connection stays open.
    Silent,
    /// These very bytes, and what then becomes of the connection.
    Bytes(Vec<u8>, Then),
    /// These bytes, then those again and again, with a pause between.
    Again(Vec<u8>, Vec<u8>, Duration),
    /// By HTTP/2: the stream is reset for this reason instead of an answer.
    StreamReset(u32),
    /// The same in the middle of the answer's body.
    StreamResetInBody(u32),
    /// A reply after a wait.
    Late(Duration, Box<Reply>),
    /// A reply once a gate is open.
    Behind(Gate, Box<Reply>),
}

/// Keeps replies back until it is opened. Clones are one gate.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<watch::Sender<bool>>);

impl Gate {
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    async fn opened(&self) {
        self.0.subscribe().wait_for(|open| *open).await.unwrap();
    }
}

impl Reply {
    pub fn status(status: u16) -> Self {
        Self::Answer { status, headers: Vec::new(), body: Vec::new() }
    }

    /// Text as it is written.
    pub fn text(text: &str, then: Then) -> Self {
        Self::Bytes(text.as_bytes().to_vec(), then)
    }

    pub fn with_header(self, name: &str, value: &str) -> Self {
        match self {
            Self::Answer { status, mut headers, body } => {
                headers.push((name.to_owned(), value.to_owned()));
                Self::Answer { status, headers, body }
            }
            other => panic!("{other:?} has no headers"),
        }
    }

    pub fn with_body(self, text: impl Into<Vec<u8>>) -> Self {
        match self {
            Self::Answer { status, headers, .. } => Self::Answer { status, headers, body: text.into() },
            other => panic!("{other:?} has no body of choice"),
        }
    }

    /// Waits until it is to be given.
    pub(super) async fn once_it_is_time(self) -> Self {
        match self {
            Reply::Late(wait, reply) => {
                tokio::time::sleep(wait).await;
                *reply
            }
            Reply::Behind(gate, reply) => {
                gate.opened().await;
                *reply
            }
            reply => reply,
        }
    }

    /// Writes the reply, if it can come to an end.
    pub async fn write(self, stream: &mut (impl AsyncWrite + Unpin)) -> io::Result<Then> {
        let then = match self.once_it_is_time().await {
            Reply::Answer { status, headers, body } => {
                let mut head = format!("HTTP/1.1 {status} Scripted\r\ncontent-length: {}\r\n", body.len());
                for (name, value) in headers {
                    head += &format!("{name}: {value}\r\n");
                }
                stream.write_all(&[head.as_bytes(), b"\r\n", &body].concat()).await?;
                Then::GoOn
            }
            Reply::AnswerThenClose(status) => {
                let head = format!("HTTP/1.1 {status} Scripted\r\ncontent-length: 0\r\n\r\n");
                stream.write_all(head.as_bytes()).await?;
                Then::Close
            }
            Reply::Close => Then::Close,
            Reply::CloseInBody => {
                stream.write_all(b"HTTP/1.1 200 Scripted\r\ncontent-length: 10\r\n\r\nhalf").await?;
                Then::Close
            }
            Reply::Garbage => {
                stream.write_all(b"220 mail.example ESMTP ready\r\n\r\n").await?;
                Then::Close
            }
            Reply::Endless => {
                stream.write_all(b"HTTP/1.1 200 Scripted\r\ntransfer-encoding: chunked\r\n\r\n").await?;
                loop {
                    stream.write_all(&[b"1000\r\n".as_slice(), &[b'x'; 0x1000], b"\r\n"].concat()).await?;
                }
            }
            Reply::EndlessHead => {
                stream.write_all(b"HTTP/1.1 200 Scripted\r\nx: ").await?;
                loop {
                    stream.write_all(&[b'x'; 0x1000]).await?;
                }
            }
            Reply::Trickle => {
                stream.write_all(b"HTTP/1.1 200 Scripted\r\ncontent-length: 1000\r\n\r\n").await?;
                loop {
                    stream.write_all(b"x").await?;
                    stream.flush().await?;
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
            Reply::Bytes(bytes, then) => {
                stream.write_all(&bytes).await?;
                then
            }
            Reply::Again(first, piece, pause) => {
                stream.write_all(&first).await?;
                loop {
                    stream.write_all(&piece).await?;
                    stream.flush().await?;
                    tokio::time::sleep(pause).await;
                }
            }
            Reply::Silent => std::future::pending().await,
            Reply::Late(..) | Reply::Behind(..) => panic!("a late reply is late once"),
            Reply::StreamReset(_) | Reply::StreamResetInBody(_) => panic!("it is of HTTP/2"),
        };
        stream.flush().await?;
        Ok(then)
    }
}

impl From<u16> for Reply {
    fn from(status: u16) -> Self {
        Self::status(status)
    }
}

/// What becomes of the connection after a reply.
#[derive(Clone, Copy, Debug)]
pub enum Then {
    /// It takes the next request.
    GoOn,
    /// It is closed in order.
    Close,
    /// TCP is closed; TLS does not say so.
    CloseUntold,
    /// Our direction is closed; the other is read for as long as something comes.
    CloseHalf,
    /// TCP is reset.
    Reset,
    /// It stays open, and nothing more comes.
    Stay,
}
