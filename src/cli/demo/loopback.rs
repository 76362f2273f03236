//! Plain HTTP to a port of this machine, as a sender beside the appliance speaks it. Never for exports.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request,
    body::Bytes,
    client::conn::http1,
    header::{CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use super::wait;

/// POSTs JSON and returns the JSON of the answer, which must be a 200.
pub(super) async fn post(address: SocketAddr, path: &str, body: &Value) -> Result<Value> {
    let answer = exchange(address, Method::POST, path, body.to_string()).await?;
    serde_json::from_slice(&answer).with_context(|| format!("the answer to POST {path} is not JSON"))
}

/// GETs a text.
pub(super) async fn get(address: SocketAddr, path: &str) -> Result<String> {
    let answer = exchange(address, Method::GET, path, String::new()).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

async fn exchange(address: SocketAddr, method: Method, path: &str, body: String) -> Result<Bytes> {
    let what = format!("the answer to {method} {path}");
    let answered = async {
        let stream = TcpStream::connect(address).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Ends when the sender is dropped; what went wrong, the sender says.
        tokio::spawn(connection);
        let request = Request::builder().method(method).uri(path).header(HOST, address.to_string());
        let request = request.header(CONTENT_TYPE, "application/json").body(Full::new(Bytes::from(body)))?;
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        ensure!(status == 200, "status {status}: {}", String::from_utf8_lossy(&body));
        Ok(body)
    };
    wait::for_end(&what, answered).await?.context(what)
}
