//! Connections to the one address that is probed, each bounded in time and in what is read.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use rustls::{AlertDescription, ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, lookup_host},
    time::{self, Instant, timeout_at},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    Place, head,
    hello::{self, Hello, Suite},
    observed::{Broken, words},
    tap::{Tap, other_protocol},
};
use crate::tls::HttpVersion;

/// How long a server is listened to before it is asked anything: a TLS 1.3 server that refuses a client says so right after
/// the handshake, and a request on its way then can cost us that word.
const LISTEN: Duration = Duration::from_millis(200);

/// Most bytes read of an answer.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Most addresses of a name that are tried.
const ADDRESSES_MAX: usize = 8;

/// A way to one address.
pub(super) struct Line {
    address: SocketAddr,
    addresses: usize,
    timeout: Duration,
    http: HttpVersion,
}

/// A connection whose handshake is done.
pub(super) struct Secured {
    stream: TlsStream<Tap>,
    until: Instant,
}

impl Line {
    /// Finds the first address that takes a connection. The name may take `timeout`, and so may all connections together. `http` is
    /// what is to be spoken there.
    pub(super) async fn connect(place: &Place, timeout: Duration, http: HttpVersion) -> Result<Self, String> {
        let lookup = lookup_host((place.host.as_str(), place.port));
        let looked_up = time::timeout(timeout, lookup).await;
        let addresses: Vec<SocketAddr> = match looked_up {
            Ok(Ok(addresses)) => addresses.collect(),
            Ok(Err(error)) => return Err(format!("the name does not resolve: {error}")),
            Err(_) => return Err(format!("the name does not resolve within {timeout:?}")),
        };
        let tried = &addresses[..addresses.len().min(ADDRESSES_MAX)];
        // One that swallows everything leaves time for the others.
        let share = timeout / u32::try_from(tried.len().max(1)).expect("they are few");
        let mut why = "the name has no address".to_owned();
        for &address in tried {
            why = match time::timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(_)) => return Ok(Self { address, addresses: addresses.len(), timeout, http }),
                Ok(Err(error)) => format!("{address}: {error}"),
                Err(_) => format!("{address}: no connection within {share:?}"),
            };
        }
        Err(why)
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many the name has.
    pub(super) fn addresses(&self) -> usize {
        self.addresses
    }

    /// Connects and does a handshake.
    pub(super) async fn handshake(
        &self,
        settings: Arc<ClientConfig>,
        name: &ServerName<'static>,
    ) -> Result<Secured, Broken> {
        let until = Instant::now() + self.timeout;
        let stream = Tap::new(self.dial(until).await?);
        let handshake = TlsConnector::from(settings).connect(name.clone(), stream).into_fallible();
        match timeout_at(until, handshake).await {
            Ok(Ok(stream)) => match (self.http, chose_http2(&stream)) {
                (HttpVersion::Http2, false) => Err(Broken::OtherHttp(self.http)),
                (HttpVersion::Http11, _) | (HttpVersion::Http2, true) => Ok(Secured { stream, until }),
            },
            Ok(Err((error, tap))) => Err(match (tap.heard().other_protocol(), broken(&error)) {
                (Some(other), _) => Broken::NotTls(other),
                (None, Broken::Alert(AlertDescription::NoApplicationProtocol)) => Broken::OtherHttp(self.http),
                (None, broken) => broken,
            }),
            Err(_) => Err(Broken::Silent),
        }
    }

    /// Connects, says hello in our own words, and reads how the answer begins.
    pub(super) async fn hello(&self, hello: &Hello) -> Result<Suite, Broken> {
        let until = Instant::now() + self.timeout;
        let mut stream = self.dial(until).await?;
        timeout_at(until, greet(&mut stream, hello)).await.unwrap_or(Err(Broken::Silent))
    }

    async fn dial(&self, until: Instant) -> Result<TcpStream, Broken> {
        match timeout_at(until, TcpStream::connect(self.address)).await {
            Ok(stream) => stream.map_err(|error| broken(&error)),
            Err(_) => Err(Broken::Silent),
        }
    }
}

async fn greet(stream: &mut TcpStream, hello: &Hello) -> Result<Suite, Broken> {
    stream.write_all(hello.bytes()).await.map_err(|error| broken(&error))?;
    let mut answer = Vec::new();
    loop {
        if let Some(what) = other_protocol(&answer) {
            return Err(Broken::NotTls(what));
        }
        if let Some(answer) = hello::answer(&answer, hello.version()) {
            return answer;
        }
        read_more(stream, &mut answer).await?;
    }
}

impl Secured {
    /// Sends a HEAD request and returns the status.
    pub(super) async fn ask(&mut self, host: &str, path: &str) -> Result<u16, Broken> {
        let Self { stream, until } = self;
        let mut answer = Vec::new();
        if let Ok(heard) = time::timeout(LISTEN, read_more(stream, &mut answer)).await {
            heard?;
        }
        if chose_http2(stream) {
            return timeout_at(*until, head::ask(stream, answer, host, path)).await.unwrap_or(Err(Broken::Silent));
        }
        let version = env!("CARGO_PKG_VERSION");
        let request = format!(
            "HEAD {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: postern/{version}\r\naccept: */*\r\n\
             connection: close\r\n\r\n"
        );
        let exchange = async {
            // Where this fails the server has said why, or is gone: reading tells.
            let _ = stream.write_all(request.as_bytes()).await;
            let _ = stream.flush().await;
            loop {
                if let Some(status) = status(&answer) {
                    return status;
                }
                read_more(stream, &mut answer).await?;
            }
        };
        timeout_at(*until, exchange).await.unwrap_or(Err(Broken::Silent))
    }

    /// Whether the server has begun another handshake since the first, as it does in TLS 1.2 to ask for a certificate late.
    pub(super) fn is_handshake_asked_again(&self) -> bool {
        let (tap, _) = self.stream.get_ref();
        tap.heard().is_handshake_asked_again()
    }
}

fn chose_http2(stream: &TlsStream<Tap>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(b"h2")
}

/// The status of an HTTP/1 answer; None while too little of it is there.
fn status(answer: &[u8]) -> Option<Result<u16, Broken>> {
    const BEGINNING: &[u8] = b"HTTP/1.";
    let read = answer.len().min(BEGINNING.len());
    if answer[..read] != BEGINNING[..read] {
        return Some(Err(Broken::NotHttp));
    }
    let word = answer.get(b"HTTP/1.1 ".len()..b"HTTP/1.1 200".len())?;
    let status = std::str::from_utf8(word).ok().and_then(|word| word.parse().ok());
    Some(status.filter(|status| (100..1000).contains(status)).ok_or(Broken::NotHttp))
}

async fn read_more(stream: &mut (impl AsyncReadExt + Unpin), answer: &mut Vec<u8>) -> Result<(), Broken> {
    if answer.len() >= ANSWER_BYTES_MAX {
        return Err(Broken::Other("the answer is too large".to_owned()));
    }
    match stream.read_buf(answer).await {
        Ok(0) => Err(Broken::Closed),
        Ok(_) => Ok(()),
        Err(error) => Err(broken(&error)),
    }
}

fn broken(error: &io::Error) -> Broken {
    use io::ErrorKind as K;
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::AlertReceived(alert)) => Broken::Alert(*alert),
        Some(error) => Broken::Other(words(error)),
        None => match error.kind() {
            K::UnexpectedEof | K::ConnectionReset | K::ConnectionAborted | K::BrokenPipe => Broken::Closed,
            _ => Broken::Other(error.to_string()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_is_read_from_the_first_line() {
        for (answer, expected) in [
            (&b"HTTP/1.1 200 OK\r\n"[..], Some(Ok(200))),
            (b"HTTP/1.0 400", Some(Ok(400))),
            (b"HTTP/1.1 40", None),
            (b"HT", None),
            (b"", None),
            (b"HTTP/2", Some(Err(Broken::NotHttp))),
            (b"HTTP/1.1 abc", Some(Err(Broken::NotHttp))),
            (b"HTTP/1.1 007", Some(Err(Broken::NotHttp))),
            (b"220 hello", Some(Err(Broken::NotHttp))),
        ] {
            assert_eq!(status(answer), expected, "{answer:?}");
        }
    }
}
