//! The admin side: what operators and their tools ask, and what they tell the appliance while it runs.
//!
//! Health, metrics and our certificates are served on TCP, to this machine alone. Everything is served on a unix socket, whose file
//! permissions say who may connect: JSON under `/v1`, described by the OpenAPI document at `/v1/openapi.json`, which is made
//! from the same declarations as the routes.
//!
//! Bodies of exports and values of identities are left out unless a caller asks for them with `reveal=true` who is root or
//! the appliance's own user. Each change is written to the [`trail`] before it is made.

use std::sync::Arc;

use axum::{Json, Router};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::{mpsc, watch};
use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

pub mod audiences;
pub mod certificates;
pub mod destinations;
pub mod exports;
pub(crate) mod health;
pub mod letters;
pub mod problem;
pub mod profiles;
pub mod reload;
pub mod scene;
pub mod status;
pub mod trail;
pub mod upkeep;
pub mod walks;

use crate::{clock::Clock, listen::Caller, mark::Mark, pipeline::Pipeline, store::Store};
use scene::{Request, Scene};
use trail::Trail;
use walks::Walks;

/// What the routes need.
#[derive(Clone)]
pub struct Admin {
    /// All durable state.
    pub store: Store,
    /// The time.
    pub clock: Clock,
    /// Writes the metrics out.
    pub figures: PrometheusHandle,
    /// What runs now.
    pub scene: watch::Receiver<Arc<Scene>>,
    /// Makes exports anew.
    pub pipeline: Pipeline,
    /// Who goes over all profiles.
    pub walks: Walks,
    /// To whom changes of the whole are told.
    pub requests: mpsc::Sender<Request>,
    /// Where changes are written down.
    pub trail: Arc<Trail>,
    /// The clock's mark on disk.
    pub mark: Arc<Mark>,
}

impl Admin {
    /// Writes down that somebody makes a change, before it is made.
    async fn note(&self, caller: Caller, action: &'static str, object: &str) {
        let (trail, object, now) = (self.trail.clone(), object.to_owned(), self.clock.now());
        // It blocks for a sync, and cannot fail.
        let _ = tokio::task::spawn_blocking(move || trail.note(caller, action, &object, now)).await;
    }
}

#[derive(OpenApi)]
#[openapi(info(
    title = "Postern admin API",
    description = "Served on the unix socket that `admin.socket` names. File permissions decide who may connect."
))]
struct Document;

/// What is served on TCP: `/livez`, `/readyz`, `/metrics`, and our certificates, which are nobody's secret.
pub fn open_routes(admin: &Admin) -> Router {
    health::routes().route(certificates::PATH, axum::routing::get(certificates::list)).with_state(admin.clone())
}

/// What is served on the unix socket: everything.
pub fn all_routes(admin: &Admin) -> Router {
    let (api, document) = api().split_for_parts();
    let document = Json(document);
    api.route("/v1/openapi.json", axum::routing::get(move || async move { document }))
        .merge(health::routes())
        .fallback(problem::no_route)
        .with_state(admin.clone())
}

/// The API's OpenAPI 3.1 document.
///
/// # Panics
/// Never: the document holds text keys only.
pub fn document() -> serde_json::Value {
    serde_json::to_value(api().into_openapi()).expect("a document has text keys only")
}

fn api() -> OpenApiRouter<Admin> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(status::show))
        .routes(routes!(status::inlets))
        .routes(routes!(status::trust_clock))
        .routes(routes!(certificates::list))
        .routes(routes!(audiences::list))
        .routes(routes!(destinations::list))
        .routes(routes!(destinations::show))
        .routes(routes!(destinations::pause))
        .routes(routes!(destinations::resume))
        .routes(routes!(destinations::test))
        .routes(routes!(exports::list))
        .routes(routes!(exports::show))
        .routes(routes!(letters::list, letters::drop_matching))
        .routes(routes!(letters::show, letters::drop_one))
        .routes(routes!(letters::redrive_one))
        .routes(routes!(letters::redrive_matching))
        .routes(routes!(walks::start, walks::count))
        .routes(routes!(walks::list))
        .routes(routes!(walks::show, walks::cancel))
        .routes(routes!(profiles::show, profiles::forget))
        .routes(routes!(upkeep::store))
        .routes(routes!(upkeep::backup))
        .routes(routes!(upkeep::audit))
        .routes(routes!(reload::reload))
}
