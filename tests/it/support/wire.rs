//! A sender that writes its bytes itself: for what no good client does.

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::timeout,
};

use super::receiver::PATIENCE;

pub struct Wire {
    stream: BufReader<TcpStream>,
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// The head, in lower case.
    pub head: String,
    /// As JSON; `Null` if it is none.
    pub body: Value,
}

impl Wire {
    /// Connects to a place such as `http://127.0.0.1:8600`.
    pub async fn connect(place: &str) -> Self {
        let stream = TcpStream::connect(place.strip_prefix("http://").unwrap()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.get_mut().write_all(bytes.as_ref()).await.unwrap();
    }

    /// Writes a request for a path with these further headers, each line ended, and a body whose length is said.
    pub async fn request(&mut self, line: &str, headers: &str, body: impl AsRef<[u8]>) {
        let body = body.as_ref();
        let head = format!("{line} HTTP/1.1\r\nhost: postern\r\n{headers}content-length: {}\r\n\r\n", body.len());
        self.write([head.as_bytes(), body].concat()).await;
    }

    /// Reads one answer.
    pub async fn answer(&mut self) -> Answer {
        timeout(PATIENCE, self.read()).await.expect("no answer came in time")
    }

    async fn read(&mut self) -> Answer {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(self.stream.read_line(&mut head).await.unwrap() > 0, "closed instead of an answer: {head:?}");
        }
        head.make_ascii_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await.unwrap();
        Answer { status, head, body: serde_json::from_slice(&body).unwrap_or_default() }
    }
}
