//! The destinations: how each is doing, and what a person may tell it.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Extension, Json,
    extract::{Path, State},
};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use utoipa::{IntoParams, ToSchema};

use super::{
    Admin,
    problem::{Problem, Query},
    scene::{Scene, Served},
};
use crate::{
    clock::Timestamp,
    delivery::{Certificates, Newer, NotDone, Percentiles, State as Gate, Test, Tested, View},
    destination::{self, Batching, DestinationId},
    export::Outcome,
    listen::Caller,
    store::{Counters, DestinationCounters},
    tls::Validity,
};

/// How a destination is doing.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct DestinationView {
    /// Its name.
    pub name: String,
    /// What it is for, in a person's words.
    pub description: Option<String>,
    /// Where exports are POSTed, without what is added to its query.
    pub endpoint: String,
    /// Names of the parameters that are added to its query.
    pub query: Vec<String>,
    /// Names of the headers that are set for each request.
    pub headers: Vec<String>,
    /// `open`, `throttled`, `held`, `paused`; `changing` while POSTs of before a reload end; `stuck` when its worker does not
    /// answer.
    pub state: String,
    /// Why it is held, or would be were it not paused.
    pub reason: Option<String>,
    /// Since when it is held or paused.
    pub since: Option<String>,
    /// When it is sent to again: the next probe, or the end of a throttle.
    pub next_at: Option<String>,
    /// It is not configured any more, and ends once nothing waits.
    pub draining: bool,
    /// How exports go together; none where they go one a request.
    pub batch: Option<BatchView>,
    /// POSTs under way.
    pub in_flight: usize,
    /// What was counted since the store was made; none while the store is being mended.
    pub counted: Option<Counted>,
    /// Age of the oldest waiting export.
    pub oldest_seconds: Option<f64>,
    /// Deliveries a second, over the last minute.
    pub rate: f64,
    /// From an update's acceptance to the delivery of its export, over the latest 2048.
    pub latency: Option<LatencyView>,
    /// The last delivery since the start.
    pub last_delivery: Option<String>,
    /// The last POST since the start that was not delivered.
    pub last_failure: Option<FailureView>,
    /// Our certificate.
    pub certificate: CertificateView,
    /// The addresses of ours that it is sent to from: `local_address`, or those of connections since the start.
    pub sends_from: Vec<String>,
    /// Mapped audiences.
    pub audiences: Vec<String>,
    /// Mapped attributes.
    pub attributes: Vec<String>,
}

/// How exports go together, several in one request.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct BatchView {
    /// Most exports in a request.
    pub max_exports: usize,
    /// Most bytes of a request.
    pub max_bytes: usize,
    /// How long the first one that may go waits for others.
    pub max_wait_seconds: f64,
    /// `array` or `ndjson`.
    pub format: String,
}

/// Exports of a destination since the store was made: made = delivered + waiting + dead + damaged + dropped + redriven
/// + moot + skipped.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
pub struct Counted {
    /// That followed from changes.
    pub made: u64,
    /// Taken by the receiver.
    pub delivered: u64,
    /// Still owed.
    pub waiting: u64,
    /// Dead letters that are there now.
    pub dead: u64,
    /// Failed their checksum and were put aside.
    pub damaged: u64,
    /// Dropped by a person.
    pub dropped: u64,
    /// Dead letters of which a new export was made.
    pub redriven: u64,
    /// Dead letters that were closed because their profile is in no mapped audience any more.
    pub moot: u64,
    /// Left out because their profile lacks the destination's `unique_id`.
    pub skipped: u64,
}

/// Latencies that half, 95 and 99 of a hundred deliveries were below, in seconds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
pub struct LatencyView {
    /// Half of them.
    pub p50_seconds: f64,
    /// 95 of a hundred.
    pub p95_seconds: f64,
    /// 99 of a hundred.
    pub p99_seconds: f64,
}

/// A POST that was not delivered.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct FailureView {
    /// When it ended.
    pub at: String,
    /// What it met, in one word.
    pub outcome: String,
    /// More words for it.
    pub detail: Option<String>,
}

/// Our certificate for a destination: what is in use, what is on file, what the receiver took.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CertificateView {
    /// Whom the one in use names.
    pub subject: String,
    /// SHA-256 of the one in use.
    pub fingerprint: String,
    /// The fingerprint of the one on file; none while that cannot be used at all.
    pub on_file: Option<String>,
    /// The fingerprint of the one over which the receiver last accepted an export.
    pub accepted: Option<String>,
    /// Until when the one in use may be used.
    pub not_after: String,
    /// Whole days until then; negative when it is over. None while the clock is not trusted.
    pub days_left: Option<i64>,
    /// Whether the one in use may be used now. None while the clock is not trusted: nobody can say, and it is used.
    pub valid: Option<bool>,
    /// A newer one that is on file and not in use.
    pub newer: Option<NewerView>,
    /// Why what is on file cannot be used; the one in use stays so.
    pub problem: Option<String>,
}

/// A good certificate on file that is not in use.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct NewerView {
    /// SHA-256 of it.
    pub fingerprint: String,
    /// From when on it may be used.
    pub not_before: String,
    /// Until when.
    pub not_after: String,
    /// Since when the receiver refuses it; otherwise it is not valid yet.
    pub refused_since: Option<String>,
    /// When it is tried again.
    pub try_at: Option<String>,
}

/// What a test sends.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct TestQuery {
    /// A POST of a made-up export of nobody, rather than a HEAD request.
    #[serde(default)]
    sample: bool,
}

/// What a test met.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TestView {
    /// Whether exports can be expected to arrive.
    pub good: bool,
    /// `HEAD` or `POST`.
    pub method: String,
    /// The answer's status, if there was an answer.
    pub status: Option<u16>,
    /// What an export would have met, in one word; of a HEAD request only where there was no answer.
    pub outcome: Option<String>,
    /// More words for it.
    pub detail: Option<String>,
    /// From the first packet to the end of the answer.
    pub seconds: f64,
}

/// The destinations.
#[utoipa::path(get, path = "/v1/destinations", responses((status = OK, body = Vec<DestinationView>)))]
pub(super) async fn list(State(admin): State<Admin>) -> Json<Vec<DestinationView>> {
    let (counters, scene) = (admin.store.counters().await.ok(), admin.scene.borrow().clone());
    Json(views(&admin, &scene, counters.as_ref()).await)
}

/// One destination.
#[utoipa::path(get, path = "/v1/destinations/{name}", params(("name" = String, Path)), responses(
    (status = OK, body = DestinationView),
    (status = NOT_FOUND, body = Problem),
))]
pub(super) async fn show(
    State(admin): State<Admin>,
    Path(name): Path<String>,
) -> Result<Json<DestinationView>, Problem> {
    let (served, counters) = (served(&admin, &name)?, admin.store.counters().await.ok());
    let view = served.view().await;
    Ok(Json(destination_view(&admin, &served, view, counters.as_ref())))
}

/// Sends nothing to a destination from now on, over restarts too.
#[utoipa::path(post, path = "/v1/destinations/{name}/pause", params(("name" = String, Path)), responses(
    (status = OK, body = DestinationView),
    (status = NOT_FOUND, body = Problem),
    (status = SERVICE_UNAVAILABLE, body = Problem),
))]
pub(super) async fn pause(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<DestinationView>, Problem> {
    let served = served(&admin, &name)?;
    admin.note(caller, "destination.pause", &name).await;
    served.control.pause().await?;
    show(State(admin), Path(name)).await
}

/// Ends a pause; a destination that is held is probed at once.
#[utoipa::path(post, path = "/v1/destinations/{name}/resume", params(("name" = String, Path)), responses(
    (status = OK, body = DestinationView),
    (status = NOT_FOUND, body = Problem),
    (status = SERVICE_UNAVAILABLE, body = Problem),
))]
pub(super) async fn resume(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<DestinationView>, Problem> {
    let served = served(&admin, &name)?;
    admin.note(caller, "destination.resume", &name).await;
    served.control.resume().await?;
    show(State(admin), Path(name)).await
}

/// Connects as delivery would and sends a request that holds nothing of anybody.
#[utoipa::path(post, path = "/v1/destinations/{name}/test", params(("name" = String, Path), TestQuery), responses(
    (status = OK, body = TestView),
    (status = BAD_REQUEST, body = Problem),
    (status = NOT_FOUND, body = Problem),
))]
pub(super) async fn test(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    Query(query): Query<TestQuery>,
) -> Result<Json<TestView>, Problem> {
    let served = served(&admin, &name)?;
    let (test, method) = match query.sample {
        true => (Test::Sample, "POST"),
        false => (Test::Head, "HEAD"),
    };
    admin.note(caller, "destination.test", &name).await;
    Ok(Json(test_view(test, method, &served.control.test(test).await)))
}

fn test_view(test: Test, method: &str, tested: &Tested) -> TestView {
    let (status, outcome, detail) = match &tested.result {
        // What a HEAD request is answered says nothing of exports.
        Ok((status, outcome)) => (Some(*status), outcome.as_ref().filter(|_| test == Test::Sample), None),
        Err((outcome, detail)) => (None, Some(outcome), Some(detail.clone())),
    };
    TestView {
        good: tested.is_good(test),
        method: method.to_owned(),
        status,
        outcome: outcome.map(Outcome::to_string),
        detail,
        seconds: tested.took.as_secs_f64(),
    }
}

fn served(admin: &Admin, name: &str) -> Result<Served, Problem> {
    let scene = admin.scene.borrow();
    let found = name.parse().ok().and_then(|id: DestinationId| scene.destinations.get(&id).cloned());
    found.ok_or_else(|| Problem::not_found(format_args!("there is no destination `{name}`")))
}

/// How all destinations look, by name.
pub(super) async fn views(admin: &Admin, scene: &Arc<Scene>, counters: Option<&Counters>) -> Vec<DestinationView> {
    let views = asked(scene).await.into_iter();
    views.map(|(id, view)| destination_view(admin, &scene.destinations[&id], view, counters)).collect()
}

/// What all workers say, asked at once, by name.
pub(super) async fn asked(scene: &Arc<Scene>) -> BTreeMap<DestinationId, Result<View, NotDone>> {
    let mut asked = JoinSet::new();
    for (id, served) in &scene.destinations {
        let (id, served) = (id.clone(), served.clone());
        asked.spawn(async move { (id, served.view().await) });
    }
    asked.join_all().await.into_iter().collect()
}

fn destination_view(
    admin: &Admin,
    served @ Served { destination, control: _, draining, before: _ }: &Served,
    view: Result<View, NotDone>,
    counters: Option<&Counters>,
) -> DestinationView {
    let (now, id) = (admin.clock.now(), destination.id());
    let view = view.ok();
    let certificate = certificate_view(admin, served, view.as_ref());
    let (state, reason, since, next_at) = match view.as_ref().map(|view| &view.state) {
        None if served.is_changing() => ("changing", None, None, None),
        None => ("stuck", None, None, None),
        Some(Gate::Open) => ("open", None, None, None),
        Some(Gate::Throttled { until }) => ("throttled", None, None, Some(*until)),
        Some(Gate::Held { hold, next_probe }) => ("held", Some(&hold.fault), Some(hold.since), *next_probe),
        Some(Gate::Paused { since, hold }) => ("paused", hold.as_ref().map(|hold| &hold.fault), Some(*since), None),
    };
    let failure = view.as_ref().and_then(|view| view.last_failure.as_ref());
    let text = |at: Timestamp| at.to_string();
    DestinationView {
        name: id.to_string(),
        description: destination.description.clone(),
        endpoint: destination.endpoint.to_string(),
        query: destination.query.iter().flat_map(destination::Query::names).map(str::to_owned).collect(),
        headers: destination.headers.keys().map(ToString::to_string).collect(),
        state: state.to_owned(),
        reason: reason.map(ToString::to_string),
        since: since.map(text),
        next_at: next_at.map(text),
        draining: *draining,
        batch: destination.batch.map(BatchView::from),
        in_flight: view.as_ref().map_or(0, |view| view.in_flight),
        counted: counters.and_then(|counters| counters.destinations.get(id)).map(Counted::from),
        oldest_seconds: admin
            .store
            .queue(id)
            .and_then(|queue| queue.oldest())
            .map(|oldest| now.since(oldest).as_secs_f64()),
        rate: view.as_ref().map_or(0.0, |view| view.rate),
        latency: view.as_ref().and_then(|view| view.latency).map(LatencyView::from),
        last_delivery: view.as_ref().and_then(|view| view.last_delivery).map(text),
        last_failure: failure.map(|failure| FailureView {
            at: failure.at.to_string(),
            outcome: failure.outcome.to_string(),
            detail: failure.detail.clone(),
        }),
        certificate,
        sends_from: view.iter().flat_map(|view| &view.sends_from).map(ToString::to_string).collect(),
        audiences: destination.mapping.audiences.iter().map(ToString::to_string).collect(),
        attributes: destination.mapping.attributes.iter().map(ToString::to_string).collect(),
    }
}

/// By what the worker says; of one that does not answer, by what was loaded.
fn certificate_view(admin: &Admin, served: &Served, view: Option<&View>) -> CertificateView {
    let now = admin.clock.distrusted().is_none().then(|| admin.clock.now());
    let (certificates, accepted) = match view {
        Some(view) => (view.certificates.clone(), view.accepted_with),
        None => (Certificates::of(served.control.tls().credentials().clone()), None),
    };
    let on_file = certificates.on_file().map(|on_file| on_file.fingerprint().to_string());
    let Certificates { in_use, newer, problem } = certificates;
    let text = |at: Timestamp| at.to_string();
    CertificateView {
        subject: in_use.subject().to_owned(),
        fingerprint: in_use.fingerprint().to_string(),
        on_file,
        accepted: accepted.map(|fingerprint| fingerprint.to_string()),
        not_after: text(in_use.not_after()),
        days_left: now.map(|now| in_use.not_after().days_after(now)),
        valid: now.map(|now| in_use.validity_at(now) == Validity::Valid),
        newer: newer.map(|Newer { credentials, refused }| NewerView {
            fingerprint: credentials.fingerprint().to_string(),
            not_before: text(credentials.not_before()),
            not_after: text(credentials.not_after()),
            refused_since: refused.map(|(since, _)| text(since)),
            try_at: refused.map(|(_, try_at)| text(try_at)),
        }),
        problem,
    }
}

impl From<&DestinationCounters> for Counted {
    fn from(counters: &DestinationCounters) -> Self {
        let DestinationCounters { made, delivered, waiting, dead, damaged, dropped, redriven, moot, skipped, died: _ } =
            *counters;
        Self { made, delivered, waiting, dead, damaged, dropped, redriven, moot, skipped }
    }
}

impl From<Batching> for BatchView {
    fn from(Batching { max_exports, max_bytes, max_wait, format }: Batching) -> Self {
        Self { max_exports, max_bytes, max_wait_seconds: max_wait.as_secs_f64(), format: format.name().to_owned() }
    }
}

impl From<Percentiles> for LatencyView {
    fn from(Percentiles { p50, p95, p99 }: Percentiles) -> Self {
        let [p50_seconds, p95_seconds, p99_seconds] = [p50, p95, p99].map(|latency| latency.as_secs_f64());
        Self { p50_seconds, p95_seconds, p99_seconds }
    }
}
