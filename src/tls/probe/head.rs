//! A HEAD request by HTTP/2, over a connection that is there.

use std::io::{self, Cursor};

use hyper::{Method, Request, header::USER_AGENT};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, join, split};

use super::observed::Broken;
use crate::tls::{alert::refusal_in, http::HEADER_BYTES_MAX};

/// Asks and returns the status. `heard` is what the server has said already.
pub(super) async fn ask(
    stream: impl AsyncRead + AsyncWrite,
    heard: Vec<u8>,
    host: &str,
    path: &str,
) -> Result<u16, Broken> {
    let (reader, writer) = split(stream);
    let stream = Box::pin(join(Cursor::new(heard).chain(reader), writer));
    let request = Request::builder()
        .method(Method::HEAD)
        .uri(format!("https://{host}{path}"))
        .header(USER_AGENT, concat!("postern/", env!("CARGO_PKG_VERSION")))
        .body(())
        .map_err(|error| Broken::Other(error.to_string()))?;
    let mut settings = h2::client::Builder::new();
    settings.max_header_list_size(HEADER_BYTES_MAX).enable_push(false);
    let (client, connection) = settings.handshake::<_, &[u8]>(stream).await.map_err(|error| broken(&error))?;
    let answer = async {
        let mut client = client.ready().await?;
        let (answer, _) = client.send_request(request, true)?;
        answer.await
    };
    tokio::select! {
        biased;
        answer = answer => answer.map(|answer| answer.status().as_u16()).map_err(|error| broken(&error)),
        ended = connection => Err(ended.err().map_or(Broken::Closed, |error| broken(&error))),
    }
}

fn broken(error: &h2::Error) -> Broken {
    match (error.get_io(), error.is_remote()) {
        (Some(io), _) => refusal_in(&io.to_string()).map_or_else(|| lost(io), Broken::Alert),
        (None, true) => Broken::Other(error.to_string()),
        (None, false) => Broken::NotHttp,
    }
}

fn lost(error: &io::Error) -> Broken {
    use io::ErrorKind as K;
    match error.kind() {
        K::UnexpectedEof | K::ConnectionReset | K::ConnectionAborted | K::BrokenPipe => Broken::Closed,
        _ => Broken::Other(error.to_string()),
    }
}
