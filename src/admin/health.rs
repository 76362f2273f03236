//! What an operator's tools ask: is it alive, is it ready, what are its figures.

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};

use super::Admin;
use crate::{
    mark::why_not_trusted,
    metrics,
    store::{Health, Store},
};

/// The routes: `/livez`, `/readyz`, `/metrics`.
pub(super) fn routes() -> Router<Admin> {
    Router::new().route("/livez", get(|| async { "alive\n" })).route("/readyz", get(ready)).route("/metrics", get(show))
}

/// Red when an update could not be kept. A destination that is down does not make us unready: updates are kept for it. Nor
/// does a clock that is not trusted, which is told of.
async fn ready(State(admin): State<Admin>) -> Response {
    let clock = admin.clock.distrusted().map(|mark| format!("{}\n", why_not_trusted(mark))).unwrap_or_default();
    match why_not_ready(&admin.store) {
        None => format!("ready\n{clock}").into_response(),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n{clock}")).into_response(),
    }
}

/// Why an update could not be kept now, if that is so.
pub(crate) fn why_not_ready(store: &Store) -> Option<&'static str> {
    match store.health() {
        Health::Good if store.room().open => None,
        Health::Good => Some("the store or its disk is full; updates are refused while exports drain"),
        Health::Full => Some("the disk is full; nothing can be kept until there is space"),
        Health::Failed => Some("the store failed and is being mended; see the log"),
    }
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
