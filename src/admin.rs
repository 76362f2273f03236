//! What an operator's tools ask over HTTP: is it alive, is it ready, what are its figures.

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use metrics_exporter_prometheus::PrometheusHandle;

use crate::{
    clock::Clock,
    metrics,
    store::{Health, Store},
};

#[derive(Clone)]
struct Admin {
    store: Store,
    clock: Clock,
    figures: PrometheusHandle,
}

/// The routes: `/livez`, `/readyz`, `/metrics`.
pub fn router(store: Store, clock: Clock, figures: PrometheusHandle) -> Router {
    Router::new()
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(show))
        .with_state(Admin { store, clock, figures })
}

/// Red when an update could not be kept. A destination that is down does not make us unready: updates are kept for it.
async fn ready(State(admin): State<Admin>) -> Response {
    let why = match admin.store.health() {
        Health::Good if admin.store.room().open => return "ready\n".into_response(),
        Health::Good => "the store or its disk is full; updates are refused while exports drain\n",
        Health::Full => "the disk is full; nothing can be kept until there is space\n",
        Health::Failed => "the store failed and is being mended; see the log\n",
    };
    (StatusCode::SERVICE_UNAVAILABLE, why).into_response()
}

async fn show(State(admin): State<Admin>) -> Response {
    // A store that failed has nothing to say; the other figures are wanted all the more then.
    if let Ok(counters) = admin.store.counters().await {
        metrics::show_store(&counters, admin.store.bytes_on_disk());
    }
    metrics::show_room(&admin.store.room(), admin.store.is_healthy());
    let now = admin.clock.now();
    for (destination, queue) in admin.store.queues() {
        metrics::oldest_waiting(&destination, queue.oldest().map(|oldest| now.since(oldest)).unwrap_or_default());
    }
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], admin.figures.render()).into_response()
}
