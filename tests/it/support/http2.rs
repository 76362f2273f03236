//! The HTTP/2 side of a scripted receiver.

use std::{
    collections::BTreeMap,
    io,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use h2::{
    Reason, RecvStream, SendStream,
    server::{Connection, SendResponse},
};
use tokio::{sync::mpsc, task::JoinSet};

use super::{
    receiver::{Counted, Request, State, Unanswered},
    reply::{Reply, Then},
};

/// What all requests of a connection have alike.
#[derive(Clone)]
pub(super) struct From {
    pub(super) connection: usize,
    pub(super) certificate: String,
    pub(super) address: IpAddr,
}

/// What a reply does to the connection.
enum Act {
    /// It is closed; what was written before arrives.
    Close,
    /// No more streams are taken; those that are here come to their end.
    GoAway,
}

pub(super) async fn serve(stream: Counted, from: From, state: Arc<State>) -> io::Result<()> {
    let mut settings = h2::server::Builder::new();
    if let Some(most) = *state.streams_max.lock().unwrap() {
        settings.max_concurrent_streams(most);
    }
    let mut connection = settings.handshake(stream).await.map_err(io::Error::other)?;
    let (acts, mut wanted) = mpsc::unbounded_channel();
    // Dropped with the connection, which cuts the streams.
    let mut streams = JoinSet::new();
    loop {
        tokio::select! {
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    streams.spawn(converse(request, respond, from.clone(), Arc::clone(&state), acts.clone()));
                }
                Some(Err(_)) | None => return Ok(()),
            },
            Some(act) = wanted.recv() => match act {
                Act::Close => return close(connection).await,
                Act::GoAway => connection.graceful_shutdown(),
            },
            Some(_) = streams.join_next() => {}
        }
    }
}

/// Closes once what is to be written is written.
async fn close(mut connection: Connection<Counted, Bytes>) -> io::Result<()> {
    let flushed = Duration::from_millis(20);
    let _ = tokio::time::timeout(flushed, connection.accept()).await;
    Ok(())
}

async fn converse(
    request: hyper::Request<RecvStream>,
    respond: SendResponse<Bytes>,
    from: From,
    state: Arc<State>,
    acts: mpsc::UnboundedSender<Act>,
) -> Result<(), h2::Error> {
    let (head, mut body) = request.into_parts();
    let mut raw_body = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        raw_body.extend_from_slice(&data);
    }
    let text = |value: &hyper::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers: BTreeMap<String, String> =
        head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    let request = Request {
        number: 0,
        connection: from.connection,
        from: from.address,
        certificate: from.certificate,
        at: Instant::now(),
        method: head.method.to_string(),
        path: head.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        headers,
        body: serde_json::from_slice(&raw_body).unwrap_or_default(),
        raw_body,
    };
    let reply = state.reply_to(request);
    let _unanswered = Unanswered::new(&state);
    answer(reply, respond, &acts).await
}

async fn answer(
    reply: Reply,
    mut respond: SendResponse<Bytes>,
    acts: &mpsc::UnboundedSender<Act>,
) -> Result<(), h2::Error> {
    let act = |act| drop(acts.send(act));
    match reply.once_it_is_time().await {
        Reply::Answer { status, headers, body } => {
            let mut head = hyper::Response::builder().status(status).header("content-length", body.len());
            for (name, value) in headers {
                head = head.header(name, value);
            }
            let mut stream = respond.send_response(head.body(()).unwrap(), body.is_empty())?;
            if !body.is_empty() {
                stream.send_data(body.into(), true)?;
            }
        }
        Reply::AnswerThenClose(status) => {
            respond.send_response(head(status, None), true)?;
            act(Act::GoAway);
        }
        Reply::Close | Reply::Bytes(_, Then::Close) => {
            act(Act::Close);
            std::future::pending().await
        }
        Reply::CloseInBody => {
            let mut stream = respond.send_response(head(200, Some(10)), false)?;
            stream.send_data("half".into(), false)?;
            act(Act::Close);
            std::future::pending().await
        }
        Reply::Endless => {
            let mut stream = respond.send_response(head(200, None), false)?;
            loop {
                write(&mut stream, vec![b'x'; 0x1000]).await?;
            }
        }
        Reply::Trickle => {
            let mut stream = respond.send_response(head(200, Some(1000)), false)?;
            loop {
                stream.send_data("x".into(), false)?;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Reply::StreamReset(reason) => respond.send_reset(Reason::from(reason)),
        Reply::StreamResetInBody(reason) => {
            let mut stream = respond.send_response(head(200, Some(10)), false)?;
            stream.send_data("half".into(), false)?;
            // So that both are sent: a reset takes what waits with it.
            tokio::time::sleep(Duration::from_millis(20)).await;
            stream.send_reset(Reason::from(reason));
        }
        Reply::Silent => std::future::pending().await,
        other => panic!("{other:?} is not of HTTP/2"),
    }
    Ok(())
}

fn head(status: u16, length: Option<usize>) -> hyper::Response<()> {
    let head = hyper::Response::builder().status(status);
    length.into_iter().fold(head, |head, length| head.header("content-length", length)).body(()).unwrap()
}

async fn write(stream: &mut SendStream<Bytes>, bytes: Vec<u8>) -> Result<(), h2::Error> {
    stream.reserve_capacity(bytes.len());
    let room = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await.unwrap_or(Ok(0))?;
    stream.send_data(bytes[..room.min(bytes.len())].to_vec().into(), false)
}
