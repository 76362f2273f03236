//! The appliance as a whole, at a glance.

use axum::{Extension, Json, extract::State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Admin,
    destinations::{self, DestinationView},
    health,
    problem::{Problem, read},
    walks::WalkView,
};
use crate::{
    clock::Clock,
    listen::Caller,
    mark::why_not_trusted,
    store::{Counters, Health, Room},
};

/// The appliance as a whole.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// The version that runs.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Since when it takes updates.
    pub started_at: String,
    /// Since when this configuration is in force.
    pub loaded_at: String,
    /// Where that was read.
    pub config_file: String,
    /// Whether an update could be kept now.
    pub ready: bool,
    /// Why not.
    pub not_ready: Option<String>,
    /// What is missing before anything can be done, if something is.
    pub missing: Option<String>,
    /// What the clock tells, and whether that is trusted.
    pub clock: ClockView,
    /// How many inlets take updates.
    pub inlets: usize,
    /// How many audiences are defined.
    pub audiences: usize,
    /// Updates since the store was made. None while the store is being mended.
    pub updates: Option<Updates>,
    /// How full the store is.
    pub store: StoreFigures,
    /// The destinations, by name.
    pub destinations: Vec<DestinationView>,
    /// Destinations that are not configured and have exports waiting.
    pub unconfigured: Vec<Unconfigured>,
    /// Backfills and evaluations that have not ended.
    #[serde(default)]
    pub backfills: Vec<WalkView>,
}

/// The clock.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ClockView {
    /// What it tells.
    pub now: String,
    /// The latest instant that is known to be over.
    pub mark: String,
    /// Whether it is trusted: while it tells a time well before the mark it is not, and no certificate of ours is judged.
    pub trusted: bool,
    /// What that means and what to do, while it is not.
    pub why_not: Option<String>,
}

/// Updates that were accepted, and what they did.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
pub struct Updates {
    /// All of them.
    pub accepted: u64,
    /// They changed a profile or made an export.
    pub applied: u64,
    /// They changed nothing.
    pub unchanged: u64,
}

/// How full the store is.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct StoreFigures {
    /// `good`, `full` or `failed`.
    pub health: String,
    /// Profiles that there are; none while the store is being mended.
    pub profiles: Option<u64>,
    /// Bytes of all records.
    pub live_bytes: u64,
    /// Live bytes from which on the log warns.
    pub soft_limit_bytes: u64,
    /// Live bytes from which on updates are refused.
    pub hard_limit_bytes: u64,
    /// Free bytes of the file system.
    pub free_bytes: u64,
    /// Free bytes below which updates are refused.
    pub free_min_bytes: u64,
    /// Records that failed their checksum and were put aside.
    pub quarantined: Option<u64>,
}

/// A destination that is not configured any more and has exports waiting.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Unconfigured {
    /// Its name.
    pub name: String,
    /// Exports that wait for it.
    pub waiting: u64,
}

/// An entrance.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct InletView {
    /// Its name: updates are POSTed to `/collection/{name}`.
    pub name: String,
    /// The dataset that its updates write to.
    pub dataset: String,
}

/// The appliance as a whole.
#[utoipa::path(get, path = "/v1/status", responses((status = OK, body = Status)))]
pub(super) async fn show(State(admin): State<Admin>) -> Json<Status> {
    let (counters, scene) = (admin.store.counters().await.ok(), admin.scene.borrow().clone());
    let not_ready = health::why_not_ready(&admin.store).map(str::to_owned);
    Json(Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        started_at: scene.started_at.to_string(),
        loaded_at: scene.loaded_at.to_string(),
        config_file: scene.config_file.display().to_string(),
        ready: not_ready.is_none(),
        not_ready,
        missing: scene.missing().map(str::to_owned),
        clock: clock_view(&admin.clock),
        inlets: scene.inlets.len(),
        audiences: scene.audiences.len(),
        updates: counters.as_ref().map(|counters| Updates {
            accepted: counters.accepted,
            applied: counters.applied,
            unchanged: counters.unchanged,
        }),
        store: store_figures(&admin, counters.as_ref()),
        destinations: destinations::views(&admin, &scene, counters.as_ref()).await,
        unconfigured: counters
            .iter()
            .flat_map(|counters| &counters.destinations)
            .filter_map(|(id, counted)| {
                let is_gone = counted.waiting > 0 && !scene.destinations.contains_key(id);
                is_gone.then(|| Unconfigured { name: id.to_string(), waiting: counted.waiting })
            })
            .collect(),
        backfills: admin.walks.owed(),
    })
}

/// The inlets.
#[utoipa::path(get, path = "/v1/inlets", responses((status = OK, body = Vec<InletView>)))]
pub(super) async fn inlets(State(admin): State<Admin>) -> Result<Json<Vec<InletView>>, Problem> {
    let scene = admin.scene.borrow().clone();
    let view = |(name, dataset): (&String, &String)| InletView { name: name.clone(), dataset: dataset.clone() };
    Ok(Json(scene.inlets.iter().map(view).collect()))
}

/// Takes what the clock tells for right, whatever was known before.
#[utoipa::path(post, path = "/v1/clock/trust", responses(
    (status = OK, body = ClockView),
    (status = CONFLICT, body = Problem),
    (status = SERVICE_UNAVAILABLE, body = Problem),
))]
pub(super) async fn trust_clock(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<ClockView>, Problem> {
    admin.note(caller, "clock.trust", &admin.clock.now().to_string()).await;
    let mark = admin.mark.clone();
    read(move || mark.trust_present().map_err(NotWritten)).await?;
    match admin.clock.distrusted() {
        None => Ok(Json(clock_view(&admin.clock))),
        Some(built) => Err(Problem::conflict(format_args!(
            "the clock tells {}, and this was built in {built}: set the clock right",
            admin.clock.now()
        ))),
    }
}

/// What was trusted could not be written down.
struct NotWritten(std::io::Error);

impl From<NotWritten> for Problem {
    fn from(NotWritten(error): NotWritten) -> Self {
        Self::unavailable(format_args!("trusted until a restart only, for it cannot be written down: {error}"))
    }
}

fn clock_view(clock: &Clock) -> ClockView {
    let why_not = clock.distrusted().map(why_not_trusted);
    ClockView { now: clock.now().to_string(), mark: clock.mark().to_string(), trusted: why_not.is_none(), why_not }
}

pub(super) fn store_figures(admin: &Admin, counters: Option<&Counters>) -> StoreFigures {
    let Room { open: _, live_bytes, free_bytes, limits: [soft, hard, free_min] } = admin.store.room();
    let health = match admin.store.health() {
        Health::Good => "good",
        Health::Full => "full",
        Health::Failed => "failed",
    };
    StoreFigures {
        health: health.to_owned(),
        profiles: counters.map(|counters| counters.profiles),
        live_bytes,
        soft_limit_bytes: soft,
        hard_limit_bytes: hard,
        free_bytes,
        free_min_bytes: free_min,
        quarantined: counters.map(|counters| counters.quarantined),
    }
}
