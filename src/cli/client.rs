//! Asks the running appliance over its unix socket.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use clap::Args;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::net::UnixStream;

use super::exit::{Exit, Failure};
use crate::{admin::problem::Problem, config};

/// A backup of a large store is the longest of all.
const ANSWER_MAX: Duration = Duration::from_secs(3600);

/// Where the appliance is asked.
#[derive(Args, Clone)]
pub(super) struct Reach {
    /// The configuration file, which names the socket
    #[arg(short, long, value_name = "FILE", default_value = config::FILE_DEFAULT)]
    pub(super) config: PathBuf,
    /// The socket, instead of the one that the configuration names
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

/// No parameters.
pub(super) const NONE: &[(&str, &str)] = &[];

impl Reach {
    pub(super) fn get<T: DeserializeOwned>(&self, path: &str, query: &(impl Serialize + ?Sized)) -> Result<T, Failure> {
        self.ask(Method::GET, path, query, None)
    }

    pub(super) fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &(impl Serialize + ?Sized),
    ) -> Result<T, Failure> {
        self.ask(Method::POST, path, query, None)
    }

    pub(super) fn post_json<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        let body = serde_json::to_vec(body).context("cannot write the request")?;
        self.ask(Method::POST, path, NONE, Some(body))
    }

    pub(super) fn delete<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &(impl Serialize + ?Sized),
    ) -> Result<T, Failure> {
        self.ask(Method::DELETE, path, query, None)
    }

    fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        query: &(impl Serialize + ?Sized),
        body: Option<Vec<u8>>,
    ) -> Result<T, Failure> {
        let query = serde_urlencoded::to_string(query).context("cannot write the request")?;
        let separator = if query.is_empty() { "" } else { "?" };
        let request = Request::builder()
            .method(method)
            .uri(format!("{path}{separator}{query}"))
            .header(header::HOST, "postern")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body.unwrap_or_default())))
            .context("cannot write the request")?;
        let socket = self.socket()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let (status, body) = runtime.context("cannot start the runtime")?.block_on(exchange(&socket, request))?;
        match status.is_success() {
            true => Ok(serde_json::from_slice(&body).context("the answer is not what this version understands")?),
            false => Err(refused(status, &body)),
        }
    }

    /// Whether an appliance answers.
    pub(super) fn is_there(&self) -> bool {
        self.socket().is_ok_and(|socket| std::os::unix::net::UnixStream::connect(socket).is_ok())
    }

    fn socket(&self) -> Result<PathBuf, Failure> {
        match &self.socket {
            Some(socket) => Ok(socket.clone()),
            None => Ok(config::admin_socket(&self.config)?),
        }
    }
}

async fn exchange(socket: &Path, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), Failure> {
    let stream = UnixStream::connect(socket).await.map_err(|error| unreachable(socket, &error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.context("cannot ask postern")?;
    let answered = async {
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        Ok::<_, hyper::Error>((status, answer.into_body().collect().await?.to_bytes()))
    };
    let exchange = async {
        tokio::select! {
            answered = answered => answered,
            // It ends with an error that the answer has too, or after it.
            _ = connection => std::future::pending().await,
        }
    };
    let answered = tokio::time::timeout(ANSWER_MAX, exchange).await.context("postern does not answer")?;
    Ok(answered.context("postern broke off; see its log")?)
}

fn unreachable(socket: &Path, error: &io::Error) -> Failure {
    let socket = socket.display();
    match error.kind() {
        io::ErrorKind::PermissionDenied => Failure::of(
            Exit::NotPermitted,
            format_args!("not permitted to use {socket}; become root, or a member of the group that it belongs to"),
        ),
        _ => Failure::of(
            Exit::Unavailable,
            format_args!(
                "postern does not run: nobody answers on {socket} ({error}); start it with `systemctl start postern`, or \
                 `postern run`"
            ),
        ),
    }
}

fn refused(status: StatusCode, body: &[u8]) -> Failure {
    match serde_json::from_slice(body) {
        Ok(problem) => failure(problem),
        Err(_) => {
            let text = String::from_utf8_lossy(body);
            failure(Problem {
                status: status.as_u16(),
                error: format!("postern answers {status}: {text}"),
                reasons: vec![],
            })
        }
    }
}

/// A problem with the exit code that belongs to it.
pub(super) fn failure(Problem { status, error, reasons }: Problem) -> Failure {
    let exit = match status {
        400 => Exit::Usage,
        403 => Exit::NotPermitted,
        404 => Exit::Missing,
        422 => Exit::Configuration,
        503 => Exit::TryLater,
        _ => Exit::Failed,
    };
    let lines: Vec<String> = std::iter::once(error).chain(reasons).collect();
    Failure::of(exit, lines.join("\n"))
}
