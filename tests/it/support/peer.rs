//! Receivers that others wrote: nginx, HAProxy, stunnel and OpenSSL, each a process of its own on loopback.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::{
    pki::{HOST, Pki},
    receiver::PATIENCE,
};

/// What every plain answer is.
const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// A peer at work. Dropping it ends it.
pub struct Peer {
    child: Child,
    directory: TempDir,
}

/// Who it is, and what it is told about clients and versions, in its own words.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Lines of its server block.
    Nginx(&'static str),
    /// The same, speaking HTTP/2.
    NginxHttp2(&'static str),
    /// Words of its `bind` line.
    Haproxy(&'static str),
    /// Lines of its service; a plain HTTP server is behind it.
    Stunnel(&'static str),
    /// Options of `s_server`, which is spoken for.
    Openssl(&'static [&'static str]),
    /// The same over TLS 1.2, asking for a certificate by renegotiation.
    OpensslAskingLater,
}

impl Peer {
    /// Starts one on a port, with the good server's certificate, and waits until it listens. What it is told may name
    /// `clients.pem`, the authority of the good client, and what else is in `files`.
    pub fn start(kind: Kind, port: u16, pki: &Pki, files: &[(&str, String)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        write("server.crt", &pki.server.certificate_pem);
        write("server.key", &pki.server.key_pem);
        write("server.pem", &(pki.server.certificate_pem.clone() + &pki.server.key_pem));
        write("clients.pem", &pki.authority.certificate_pem());
        files.iter().for_each(|(name, text)| write(name, text));
        let mut command = command(kind, port, directory.path());
        let log = fs::File::create(directory.path().join("stderr.log")).unwrap();
        let child = command
            .current_dir(directory.path())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{kind:?}: {error}"));
        let mut peer = Self { child, directory };
        peer.wait_until_it_listens(kind, port);
        // Only s_server is spoken to by pipes.
        if let (Some(input), Some(output)) = (peer.child.stdin.take(), peer.child.stdout.take()) {
            thread::spawn(move || match kind {
                Kind::OpensslAskingLater => on("CIPHER is", output, input, b"R\n"),
                _ => on("\r\n\r\n", output, input, OK),
            });
        }
        peer
    }

    /// What nginx noted of requests: method, verdict on the client, status.
    pub fn access_log(&self) -> String {
        fs::read_to_string(self.directory.path().join("access.log")).unwrap_or_default()
    }

    fn wait_until_it_listens(&mut self, kind: Kind, port: u16) {
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect((HOST, port)).is_err() {
            let ended = self.child.try_wait().unwrap();
            let logs = ["stderr.log", "error.log"].map(|name| fs::read_to_string(self.directory.path().join(name)));
            assert!(ended.is_none() && Instant::now() < until, "{kind:?} does not listen: {ended:?} {logs:?}");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // nginx's worker goes with its master only when that is asked to go.
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let until = Instant::now() + Duration::from_secs(5);
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > until {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// A port that nobody uses now.
pub fn free_port() -> u16 {
    TcpListener::bind((HOST, 0)).unwrap().local_addr().unwrap().port()
}

fn command(kind: Kind, port: u16, directory: &Path) -> Command {
    let file = |name: &str| -> PathBuf { directory.join(name) };
    let write = |name: &str, text: String| fs::write(file(name), text).unwrap();
    let mut command = match kind {
        Kind::Nginx(lines) | Kind::NginxHttp2(lines) => {
            let http2 = if let Kind::NginxHttp2(_) = kind { "http2" } else { "" };
            let text = format!(
                "daemon off; pid nginx.pid; worker_processes 1; error_log error.log info;
                 events {{ worker_connections 256; }}
                 http {{
                   log_format seen '$request_method $ssl_protocol $server_protocol $ssl_client_verify $status'; access_log access.log seen;
                   client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
                   server {{
                     listen {HOST}:{port} ssl {http2}; ssl_certificate server.crt; ssl_certificate_key server.key; {lines}
                     location / {{ return 200; }} }} }}"
            );
            write("nginx.conf", text);
            let mut nginx = Command::new("nginx");
            nginx.arg("-p").arg(directory).arg("-e").arg(file("error.log")).arg("-c").arg(file("nginx.conf"));
            nginx
        }
        Kind::Haproxy(words) => {
            let text = format!(
                "defaults\n mode http\n timeout connect 5s\n timeout client 5s\n timeout server 5s\nfrontend peer\n \
                 bind {HOST}:{port} ssl crt server.pem {words}\n http-request return status 200\n"
            );
            write("haproxy.cfg", text);
            let mut haproxy = Command::new("haproxy");
            haproxy.args(["-db", "-f", "haproxy.cfg"]);
            haproxy
        }
        Kind::Stunnel(lines) => {
            let behind = plain_http();
            let text = format!(
                "foreground = yes\nsyslog = no\npid =\n[peer]\naccept = {HOST}:{port}\nconnect = {HOST}:{behind}\n\
                 cert = server.crt\nkey = server.key\n{lines}\n"
            );
            write("stunnel.conf", text);
            let mut stunnel = Command::new("stunnel");
            stunnel.arg(file("stunnel.conf"));
            stunnel
        }
        Kind::Openssl(options) => s_server(port, &[&["-quiet"], options].concat()),
        Kind::OpensslAskingLater => s_server(port, &["-tls1_2", "-CAfile", "clients.pem"]),
    };
    if !matches!(kind, Kind::Openssl(_) | Kind::OpensslAskingLater) {
        command.stdin(Stdio::null()).stdout(Stdio::null());
    }
    command
}

fn s_server(port: u16, options: &[&str]) -> Command {
    let mut server = Command::new("openssl");
    server.args(["s_server", "-accept", &port.to_string(), "-cert", "server.crt", "-key", "server.key"]).args(options);
    server.stdin(Stdio::piped()).stdout(Stdio::piped());
    server
}

/// A plain HTTP server that answers each request with 200, for as long as the test runs.
fn plain_http() -> u16 {
    let listener = TcpListener::bind((HOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || on("\r\n\r\n", stream.try_clone().unwrap(), stream, OK));
        }
    });
    port
}

/// Writes `answer` each time that `word` is read.
fn on(word: &str, mut from: impl Read, mut to: impl Write, answer: &[u8]) {
    let (mut heard, mut bytes) = (Vec::<u8>::new(), [0; 4096]);
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        heard.extend(&bytes[..count]);
        while let Some(at) = heard.windows(word.len()).position(|window| window == word.as_bytes()) {
            heard.drain(..at + word.len());
            if to.write_all(answer).is_err() {
                return;
            }
        }
    }
}
