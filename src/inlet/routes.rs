//! `POST /collection/{inlet}`: a body in, an answer once it is on disk.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Path, Request, State},
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::post,
};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Body as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::{
    Inlet, Inlets,
    answer::{self, Accepted, Problem},
    wire,
};
use crate::{clock::Clock, metrics, pipeline::Pipeline};

/// Largest body, as AEP has it.
const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Bodies in memory at once, in bytes. Parsed they may take sixteen times as much, so hostile ones find an end here.
const BODIES_BYTES_MAX: usize = 32 * 1024 * 1024;
/// How long a sender may take over its body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// What the routes need: inlets that a reload may replace, and the way behind them.
#[derive(Clone)]
pub struct Entrance {
    inlets: watch::Receiver<Arc<Inlets>>,
    pipeline: Pipeline,
    clock: Clock,
    /// A permit for each byte of a body, from before it is read until its update is decided.
    room: Arc<Semaphore>,
}

impl Entrance {
    /// An entrance to `pipeline` for the inlets that there are at any time.
    pub fn new(inlets: watch::Receiver<Arc<Inlets>>, pipeline: Pipeline, clock: Clock) -> Self {
        Self { inlets, pipeline, clock, room: Arc::new(Semaphore::new(BODIES_BYTES_MAX)) }
    }

    /// The routes of all inlets.
    pub fn routes(&self) -> Router {
        Router::new()
            .route("/collection/{inlet}", post(collect))
            .fallback(|| async { no_route("there is nothing here; post to /collection/{inlet}") })
            .with_state(self.clone())
    }
}

async fn collect(State(entrance): State<Entrance>, Path(name): Path<String>, request: Request) -> Response {
    let inlets = entrance.inlets.borrow().clone();
    let Some(inlet) = inlets.get(&name) else {
        // The name is not a label: anybody could fill the metrics with names.
        metrics::refused("", "no_such_inlet");
        return no_route(&format!("there is no inlet `{name}`")).into_response();
    };
    match take(&entrance, inlet, request).await {
        Ok(accepted) => answer::accepted(&inlet.name, accepted),
        Err(problem) => {
            metrics::refused(&inlet.name, problem.reason);
            problem.into_response()
        }
    }
}

async fn take(entrance: &Entrance, inlet: &Inlet, request: Request) -> Result<Accepted, Problem> {
    let (head, body) = request.into_parts();
    is_json(&head.headers)?;
    let room = make_room(entrance, &body)?;
    let body = read(body).await?;
    let update = wire::read(inlet, &body, entrance.clock.now())?;
    let accepted = Accepted::from(&update);
    entrance.pipeline.take(update, room).await?;
    Ok(accepted)
}

/// `application/json` or any `+json`, whatever its parameters.
fn is_json(headers: &HeaderMap) -> Result<(), Problem> {
    let given = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json")) {
        return Ok(());
    }
    let message = format!("Content-Type is `{given}`, send application/json");
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Unsupported Media Type", "media_type", message))
}

/// Takes room for a body: for its length where it is known, else for the longest.
fn make_room(entrance: &Entrance, body: &Body) -> Result<OwnedSemaphorePermit, Problem> {
    let bytes = body.size_hint().exact().unwrap_or(BODY_BYTES_MAX as u64);
    // Said before it is read, so that a sender who asks first sends nothing.
    let bytes = u32::try_from(bytes).ok().filter(|bytes| *bytes as usize <= BODY_BYTES_MAX).ok_or_else(too_large)?;
    entrance.room.clone().try_acquire_many_owned(bytes).map_err(|_| {
        let message = "too many bodies are under way";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "Busy", "busy", message)
    })
}

fn too_large() -> Problem {
    let message = format!("the body has more than {BODY_BYTES_MAX} bytes");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "Payload Too Large", "body_too_large", message)
}

async fn read(body: Body) -> Result<Bytes, Problem> {
    match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, BODY_BYTES_MAX).collect()).await {
        Ok(Ok(read)) => Ok(read.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => {
            let message = format!("the body broke off: {error}");
            Err(Problem::new(StatusCode::BAD_REQUEST, "Incomplete Body", "body_incomplete", message))
        }
        Err(_) => {
            let message = format!("the body took longer than {BODY_TIMEOUT:?}");
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "Request Timeout", "body_slow", message))
        }
    }
}

fn no_route(message: &str) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "Not Found", "not_found", message)
}
