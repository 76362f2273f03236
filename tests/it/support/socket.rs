//! What an operator's tools do: ask over the unix socket, and by the command line. The commands block, so tests that serve
//! something meanwhile run on more than one thread.

use std::{
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Output},
    time::{Duration, Instant},
};

use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

use super::{
    appliance::{Appliance, command},
    receiver::PATIENCE,
};

/// How a command ended.
#[derive(Debug)]
pub struct Done {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Done {
    pub fn of(command: &mut Command) -> Self {
        let Output { status, stdout, stderr } = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: status.code().unwrap(), stdout: text(stdout), stderr: text(stderr) }
    }

    /// What it printed, as one JSON value.
    pub fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{self:?}");
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// What it printed, as a JSON value a line.
    pub fn lines(&self) -> Vec<Value> {
        assert_eq!(self.code, 0, "{self:?}");
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// It did what it was told, whatever it printed.
    #[track_caller]
    pub fn succeeds(self) -> Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }

    /// It ended with this code and said this on stderr.
    #[track_caller]
    pub fn refuses(&self, code: i32, says: &str) {
        assert_eq!(self.code, code, "{self:?}");
        assert!(self.stderr.contains(says), "{says}: {self:?}");
    }
}

impl Appliance {
    /// A verb of the command line on this appliance's configuration.
    pub fn verb(&self, arguments: &[&str]) -> Done {
        Done::of(command(arguments).arg("--config").arg(self.config_file()))
    }

    /// As [`Appliance::verb`], whatever the configuration says of the socket now.
    pub fn verb_on_socket(&self, arguments: &[&str]) -> Done {
        Done::of(command(arguments).arg("--socket").arg(self.socket()))
    }

    /// As [`Appliance::verb`], as another user of a group.
    pub fn verb_as(&self, uid: u32, gid: u32, arguments: &[&str]) -> Done {
        let socket = self.socket();
        Done::of(command(arguments).arg("--socket").arg(socket).uid(uid).gid(gid).current_dir("/"))
    }

    /// Runs a verb that prints JSON until that is as wanted.
    pub async fn wait_until(&self, arguments: &[&str], wanted: impl Fn(&Value) -> bool) -> Value {
        let until = Instant::now() + PATIENCE;
        loop {
            let found = self.verb(&[arguments, &["--json"]].concat()).json();
            if wanted(&found) {
                return found;
            }
            assert!(Instant::now() < until, "{arguments:?}: {found:#}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn socket(&self) -> std::path::PathBuf {
        self.state_dir.join("admin.sock")
    }

    /// Asks over the socket: status and JSON.
    pub async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> (u16, Value) {
        ask(&self.socket(), method, path, body).await
    }
}

async fn ask(socket: &Path, method: Method, path: &str, body: Option<&Value>) -> (u16, Value) {
    let stream = UnixStream::connect(socket).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    let driving = tokio::spawn(connection);
    let body = body.map(Value::to_string).unwrap_or_default();
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "postern")
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body)))
        .unwrap();
    let answer = sender.send_request(request).await.unwrap();
    let status = answer.status().as_u16();
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    driving.abort();
    (status, serde_json::from_slice(&bytes).unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&bytes))))
}
