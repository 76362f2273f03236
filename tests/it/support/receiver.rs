//! A scripted receiver: a destination's endpoint that keeps what it was sent and answers as told, well or badly.
//!
//! ```ignore
//! let receiver = Receiver::start(&pki).await;                     // mutual TLS, answers 200
//! let receiver = Receiver::set_up(&pki).not_asking().start().await;
//! receiver.answer_in_turn([503, 503]);                            // two failures, then 200 again
//! receiver.answer_by(|request| Reply::status(if request.body.is_null() { 400 } else { 200 }));
//! let requests = receiver.wait_for(3).await;
//! ```

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use postern::tls::{
    issue::Issued,
    listener::{ClientAuth, ServerTls},
};
use rustls::{
    HandshakeKind, RootCertStore, ServerConfig, SignatureScheme, SupportedProtocolVersion,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
    version::{TLS12, TLS13},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, ReadBuf},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{
    http2,
    pki::{HOST, Pki, fingerprint},
    reply::{Reply, Then},
};

/// Longest wait for anything in a test. Only a test that fails waits so long.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What a server chooses from that speaks one version of HTTP.
pub const HTTP1: &[&str] = &["http/1.1"];
pub const HTTP2: &[&str] = &["h2"];

/// A receiver at work. Dropping it ends it.
pub struct Receiver {
    address: SocketAddr,
    tls: Arc<Mutex<Tls>>,
    state: Arc<State>,
    running: Option<JoinHandle<()>>,
    /// Keeps the port for us, whether or not somebody listens on it.
    keeper: TcpSocket,
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Request {
    /// In order of arrival, from 0.
    pub number: usize,
    /// Which connection it came on, from 0, in order of handshakes.
    pub connection: usize,
    /// Where that came from.
    pub from: IpAddr,
    /// The fingerprint of the client's certificate; empty if it showed none.
    pub certificate: String,
    /// When it had arrived.
    pub at: Instant,
    pub method: String,
    /// With the query.
    pub path: String,
    /// By lower-case name.
    pub headers: BTreeMap<String, String>,
    /// As JSON; `Null` if it is none.
    pub body: serde_json::Value,
    pub raw_body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(&name.to_ascii_lowercase()).map(String::as_str)
    }

    pub fn idempotency_key(&self) -> Option<&str> {
        self.header("idempotency-key")
    }
}

/// How a receiver is to be, before it starts.
pub struct SetUp<'a> {
    certificate: &'a Issued,
    clients: String,
    asking: Asking,
    speaking: &'static [&'static str],
}

enum Asking {
    Mutual,
    Never,
    OnlyTls12,
    NeverOverTls12,
    OnlyEd25519,
    MutualWithTickets,
}

impl<'a> SetUp<'a> {
    /// Does not ask for a client certificate.
    pub fn not_asking(mut self) -> Self {
        self.asking = Asking::Never;
        self
    }

    /// Asks for a client certificate, but speaks TLS 1.2 only.
    pub fn only_tls12(mut self) -> Self {
        self.asking = Asking::OnlyTls12;
        self
    }

    /// Does not ask for a client certificate, and speaks TLS 1.2 only.
    pub fn not_asking_over_tls12(mut self) -> Self {
        self.asking = Asking::NeverOverTls12;
        self
    }

    /// Asks for a client certificate, but takes Ed25519 signatures only.
    pub fn only_ed25519(mut self) -> Self {
        self.asking = Asking::OnlyEd25519;
        self
    }

    /// Lets clients resume their sessions.
    pub fn offering_tickets(mut self) -> Self {
        self.asking = Asking::MutualWithTickets;
        self
    }

    /// Shows this certificate instead of the good one.
    pub fn presenting(mut self, certificate: &'a Issued) -> Self {
        self.certificate = certificate;
        self
    }

    /// Takes clients of this authority (PEM) instead of the good one's.
    pub fn trusting(mut self, authority_pem: String) -> Self {
        self.clients = authority_pem;
        self
    }

    /// Chooses from these versions of HTTP in the handshake, by their names there; from none, without a word, where there are none.
    pub fn speaking(mut self, names: &'static [&'static str]) -> Self {
        self.speaking = names;
        self
    }

    pub async fn start(self) -> Receiver {
        let tls = Arc::new(Mutex::new(self.tls()));
        let socket = bind(format!("{HOST}:0").parse().unwrap());
        let address = socket.local_addr().unwrap();
        let keeper = bind(address);
        let mut receiver = Receiver { address, tls, state: Arc::new(State::default()), running: None, keeper };
        receiver.run(socket.listen(1024).unwrap());
        receiver
    }

    /// The TLS alone, for a peer that speaks inside as it likes.
    pub fn acceptor(self) -> TlsAcceptor {
        match self.tls() {
            Tls::Odd(tls) => tls,
            Tls::Ours(_) => panic!("it speaks HTTP/1.1"),
        }
    }

    fn tls(self) -> Tls {
        let Self { certificate: Issued { certificate_pem, key_pem }, clients, asking, speaking } = self;
        let odd = |clients, version, takes: fn(SignatureScheme) -> bool| {
            Tls::Odd(odd(certificate_pem, key_pem, clients, version, takes, speaking))
        };
        match asking {
            Asking::Mutual if speaking == HTTP1 => {
                Tls::Ours(ServerTls::new(certificate_pem, key_pem, ClientAuth::Required(&clients)).unwrap())
            }
            Asking::Never if speaking == HTTP1 => {
                Tls::Ours(ServerTls::new(certificate_pem, key_pem, ClientAuth::NeverAskedForDemonstration).unwrap())
            }
            Asking::Mutual | Asking::MutualWithTickets => odd(Some(&clients), &TLS13, |_| true),
            Asking::Never => odd(None, &TLS13, |_| true),
            Asking::OnlyTls12 => odd(Some(&clients), &TLS12, |_| true),
            Asking::NeverOverTls12 => odd(None, &TLS12, |_| true),
            Asking::OnlyEd25519 => odd(Some(&clients), &TLS13, |scheme| scheme == SignatureScheme::ED25519),
        }
    }
}

impl Receiver {
    /// A good receiver: mutual TLS 1.3, answers 200.
    pub async fn start(pki: &Pki) -> Self {
        Self::set_up(pki).start().await
    }

    pub fn set_up(pki: &Pki) -> SetUp<'_> {
        SetUp {
            certificate: &pki.server,
            clients: pki.authority.certificate_pem(),
            asking: Asking::Mutual,
            speaking: HTTP1,
        }
    }

    pub fn url(&self) -> String {
        self.url_at("/in")
    }

    pub fn url_at(&self, path: &str) -> String {
        format!("https://{}{path}", self.address)
    }

    /// Answers so from now on.
    pub fn answer_with(&self, reply: impl Into<Reply>) {
        let reply = reply.into();
        self.answer_by(move |_| reply.clone());
    }

    /// Answers the next requests so, one each, before what stands otherwise.
    pub fn answer_in_turn<R: Into<Reply>>(&self, replies: impl IntoIterator<Item = R>) {
        self.state.script.lock().unwrap().turns.extend(replies.into_iter().map(Into::into));
    }

    /// Answers as the function says from now on.
    pub fn answer_by(&self, script: impl Fn(&Request) -> Reply + Send + 'static) {
        self.state.script.lock().unwrap().standing = Box::new(script);
    }

    /// Answers so on each new connection, before the request is read, and reads none from then on.
    pub fn answer_unread(&self, reply: Reply) {
        self.state.script.lock().unwrap().hasty = Some(reply);
    }

    /// By HTTP/2, takes no more requests at once from the next connection on.
    pub fn take_at_once(&self, most: u32) {
        *self.state.streams_max.lock().unwrap() = Some(most);
    }

    /// All requests so far, in order of arrival.
    pub fn requests(&self) -> Vec<Request> {
        self.state.requests.borrow().clone()
    }

    /// All requests so far, which are forgotten.
    pub fn take_requests(&self) -> Vec<Request> {
        self.state.requests.send_replace(Vec::new())
    }

    /// Waits until so many requests have arrived in all, and returns them.
    pub async fn wait_for(&self, count: usize) -> Vec<Request> {
        self.wait_until(&format!("{count} requests"), |requests| requests.len() >= count).await
    }

    /// Waits until the requests are as wanted, and returns them.
    pub async fn wait_until(&self, wanted: &str, met: impl Fn(&[Request]) -> bool) -> Vec<Request> {
        let mut requests = self.state.requests.subscribe();
        match timeout(PATIENCE, requests.wait_for(|requests| met(requests))).await {
            Ok(requests) => requests.unwrap().clone(),
            Err(_) => panic!("waited {PATIENCE:?} for {wanted}, got {:#?}", self.requests()),
        }
    }

    /// Is as `set_up` says from the next connection on; the present ones are closed.
    pub async fn become_as(&self, set_up: SetUp<'_>) {
        *self.tls.lock().unwrap() = set_up.tls();
        self.close_connections().await;
    }

    /// The most requests that were without an answer at once.
    pub fn most_at_once(&self) -> usize {
        self.state.most_at_once.load(Ordering::SeqCst)
    }

    /// TCP connections so far.
    pub fn connections(&self) -> usize {
        *self.state.connections.borrow()
    }

    /// Handshakes that succeeded so far.
    pub fn handshakes(&self) -> usize {
        self.state.handshakes.load(Ordering::SeqCst)
    }

    /// How many of them resumed an earlier session.
    pub fn resumptions(&self) -> usize {
        self.state.resumptions.load(Ordering::SeqCst)
    }

    /// Bytes that arrived inside TLS, whether or not they made a request.
    pub fn plaintext_bytes(&self) -> usize {
        self.state.plaintext_bytes.load(Ordering::SeqCst)
    }

    /// Waits until all connections so far are over.
    pub async fn wait_for_closed(&self) {
        let mut open = self.state.open.subscribe();
        timeout(PATIENCE, open.wait_for(|open| *open == 0)).await.expect("connections stayed open").unwrap();
    }

    /// Closes the connections that are open now; waits until that is done. New ones are welcome.
    pub async fn close_connections(&self) {
        self.state.close.send_modify(|round| *round += 1);
        self.wait_for_closed().await;
    }

    /// Stops listening and cuts all connections. What was received is kept.
    pub async fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.abort();
            let _ = running.await;
        }
        self.wait_for_closed().await;
    }

    /// Listens again, on the same port.
    pub fn start_again(&mut self) {
        assert!(self.running.is_none(), "it is running");
        let socket = std::mem::replace(&mut self.keeper, bind(self.address));
        self.run(socket.listen(1024).unwrap());
    }

    fn run(&mut self, listener: TcpListener) {
        let (tls, state) = (Arc::clone(&self.tls), Arc::clone(&self.state));
        self.running = Some(tokio::spawn(async move {
            // Dropped with this task, which cuts the connections.
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                state.connections.send_modify(|count| *count += 1);
                let open = Open::new(Arc::clone(&state));
                let tls = tls.lock().unwrap().clone();
                connections.spawn(converse(stream, tls, open));
                while connections.try_join_next().is_some() {}
            }
        }));
    }
}

/// A socket that does not listen yet, on a port that may have another of ours.
fn bind(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    // Connections of before may still be in TIME_WAIT.
    socket.set_reuseaddr(true).unwrap();
    socket.set_reuseport(true).unwrap();
    socket.bind(address).unwrap();
    socket
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.abort();
        }
    }
}

#[derive(Clone)]
enum Tls {
    Ours(ServerTls),
    Odd(TlsAcceptor),
}

#[derive(Default)]
pub(super) struct State {
    script: Mutex<Script>,
    pub(super) streams_max: Mutex<Option<u32>>,
    requests: watch::Sender<Vec<Request>>,
    connections: watch::Sender<usize>,
    open: watch::Sender<usize>,
    close: watch::Sender<usize>,
    handshakes: AtomicUsize,
    resumptions: AtomicUsize,
    plaintext_bytes: AtomicUsize,
    at_once: AtomicUsize,
    most_at_once: AtomicUsize,
}

impl State {
    /// Keeps a request, and says how it is answered.
    pub(super) fn reply_to(&self, mut request: Request) -> Reply {
        self.requests.send_modify(|requests| {
            request.number = requests.len();
            requests.push(request.clone());
        });
        let mut script = self.script.lock().unwrap();
        script.turns.pop_front().unwrap_or_else(|| (script.standing)(&request))
    }
}

struct Script {
    hasty: Option<Reply>,
    turns: VecDeque<Reply>,
    standing: Box<dyn Fn(&Request) -> Reply + Send>,
}

impl Default for Script {
    fn default() -> Self {
        Self { hasty: None, turns: VecDeque::new(), standing: Box::new(|_| Reply::status(200)) }
    }
}

/// Counts a connection as open while it lives.
struct Open(Arc<State>);

impl Open {
    fn new(state: Arc<State>) -> Self {
        state.open.send_modify(|open| *open += 1);
        Self(state)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.send_modify(|open| *open -= 1);
    }
}

/// Counts a request as unanswered while it lives.
pub(super) struct Unanswered<'a>(&'a State);

impl<'a> Unanswered<'a> {
    pub(super) fn new(state: &'a State) -> Self {
        let at_once = state.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        state.most_at_once.fetch_max(at_once, Ordering::SeqCst);
        Self(state)
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        self.0.at_once.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn converse(stream: TcpStream, tls: Tls, open: Open) {
    let state = Arc::clone(&open.0);
    let mut close = state.close.subscribe();
    tokio::select! {
        // Whatever goes wrong with a connection, the tests see from the other side.
        _ = serve(stream, tls, Arc::clone(&state)) => {}
        _ = close.changed() => {}
    }
}

async fn serve(stream: TcpStream, tls: Tls, state: Arc<State>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let from = stream.peer_addr()?.ip();
    let stream = match tls {
        Tls::Ours(tls) => tls.accept(stream).await?,
        Tls::Odd(tls) => tls.accept(stream).await?,
    };
    let connection = state.handshakes.fetch_add(1, Ordering::SeqCst);
    if stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed) {
        state.resumptions.fetch_add(1, Ordering::SeqCst);
    }
    let shown = stream.get_ref().1.peer_certificates().and_then(|shown| shown.first());
    let certificate = shown.map(|shown| fingerprint(shown)).unwrap_or_default();
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let counted = Counted { stream, state: Arc::clone(&state) };
    if is_http2 {
        return http2::serve(counted, http2::From { connection, certificate, address: from }, state).await;
    }
    let mut stream = BufReader::new(counted);
    let hasty = state.script.lock().unwrap().hasty.clone();
    if let Some(reply) = hasty {
        // The request has begun to come, and is not read.
        stream.fill_buf().await?;
        reply.write(stream.get_mut()).await?;
        return std::future::pending().await;
    }
    while let Some(mut request) = read(&mut stream).await? {
        request.connection = connection;
        request.certificate = certificate.clone();
        request.from = from;
        let reply = state.reply_to(request);
        let _unanswered = Unanswered::new(&state);
        match reply.write(stream.get_mut()).await? {
            Then::GoOn => {}
            Then::Close => break,
            Then::CloseUntold => return Ok(()),
            Then::CloseHalf => {
                stream.get_mut().shutdown().await?;
                while read(&mut stream).await?.is_some() {}
                return Ok(());
            }
            Then::Reset => return stream.get_ref().stream.get_ref().0.set_zero_linger(),
            Then::Stay => std::future::pending().await,
        }
    }
    stream.get_mut().shutdown().await
}

async fn read(stream: &mut BufReader<Counted>) -> io::Result<Option<Request>> {
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        match line.trim_end() {
            "" => break,
            line => head.push(line.to_owned()),
        }
    }
    let mut words = head[0].split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    let headers: BTreeMap<String, String> = head[1..]
        .iter()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut raw_body = vec![0; length];
    stream.read_exact(&mut raw_body).await?;
    let body = serde_json::from_slice(&raw_body).unwrap_or_default();
    let (number, connection, certificate, at) = (0, 0, String::new(), Instant::now());
    let from = Ipv4Addr::UNSPECIFIED.into();
    Ok(Some(Request { number, connection, from, certificate, at, method, path, headers, body, raw_body }))
}

/// A TLS stream that counts the plaintext it delivers.
pub(super) struct Counted {
    stream: TlsStream<TcpStream>,
    state: Arc<State>,
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.state.plaintext_bytes.fetch_add(buffer.filled().len() - before, Ordering::SeqCst);
        polled
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// What our own listener cannot be: another version of TLS, or narrow in the signatures it takes. Offers tickets.
fn odd(
    certificate_pem: &str,
    key_pem: &str,
    clients_pem: Option<&str>,
    version: &'static SupportedProtocolVersion,
    takes: impl Fn(SignatureScheme) -> bool,
    speaking: &[&str],
) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut narrow = rustls::crypto::aws_lc_rs::default_provider();
    let mapping = narrow.signature_verification_algorithms.mapping.iter().copied();
    narrow.signature_verification_algorithms.mapping =
        mapping.filter(|(scheme, _)| takes(*scheme)).collect::<Vec<_>>().leak();

    let chain = CertificateDer::pem_slice_iter(certificate_pem.as_bytes()).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).unwrap();
    let verifier = clients_pem.map_or(WebPkiClientVerifier::no_client_auth(), |clients_pem| {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(clients_pem.as_bytes()).unwrap()).unwrap();
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(narrow)).build().unwrap()
    });
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = speaking.iter().map(|name| name.as_bytes().to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}
