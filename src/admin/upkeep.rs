//! The store while it runs: its figures, a backup, and the proof that everything adds up.

use std::path::PathBuf;

use axum::{Extension, Json, extract::State};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    Admin,
    problem::{self, Body, Problem},
    status::{self, StoreFigures},
};
use crate::{
    destination::DestinationId,
    listen::Caller,
    store::{Counters, DestinationCounters, FullCount, upkeep::Copied},
};

/// How much is in the store.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct StoreView {
    /// How full it is.
    pub figures: StoreFigures,
    /// What was counted since it was made, as `postern store stats` has it; none while it is being mended.
    pub counters: Option<Value>,
    /// Bytes of its files.
    pub disk_bytes: u64,
}

/// Where a backup goes.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BackupOrder {
    /// A directory that does not exist yet, as an absolute path. The appliance's user must be able to make it; under
    /// systemd only the state directory can be written to.
    pub directory: String,
}

/// A backup that was made.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct BackupView {
    /// Where it is.
    pub directory: String,
    /// Records in it.
    pub records: u64,
    /// Records that fail their checksum and are in its quarantine.
    pub damaged: u64,
    /// Bytes of its files.
    pub disk_bytes: u64,
}

/// Whether everything adds up.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AuditView {
    /// Whether it does.
    pub adds_up: bool,
    /// What does not: of the counters among themselves, and of the counters and what is there.
    pub differences: Vec<String>,
    /// The sums, in words.
    pub sums: Vec<String>,
    /// Profiles, counted one by one.
    pub profiles: u64,
    /// Waiting exports, counted one by one.
    pub waiting: u64,
    /// Dead letters, counted one by one.
    pub letters: u64,
    /// Records among them that fail their checksum.
    pub damaged: u64,
    /// Whether nothing came or went meanwhile: else what was counted is compared with what it may be at least and at most.
    pub exact: bool,
}

/// How much is in the store.
#[utoipa::path(get, path = "/v1/store", responses((status = OK, body = StoreView)))]
pub(super) async fn store(State(admin): State<Admin>) -> Json<StoreView> {
    let counters = admin.store.counters().await.ok();
    let figures = status::store_figures(&admin, counters.as_ref());
    let counters = counters.map(|counters| serde_json::to_value(counters).expect("counters are numbers by name"));
    Json(StoreView { figures, counters, disk_bytes: admin.store.bytes_on_disk() })
}

/// Copies the store to a new directory, which can be used in its place.
#[utoipa::path(post, path = "/v1/store/backup", request_body = BackupOrder, responses(
    (status = OK, body = BackupView),
    (status = BAD_REQUEST, body = Problem),
    (status = CONFLICT, body = Problem),
    (status = SERVICE_UNAVAILABLE, body = Problem),
))]
pub(super) async fn backup(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    Body(BackupOrder { directory }): Body<BackupOrder>,
) -> Result<Json<BackupView>, Problem> {
    let path = PathBuf::from(&directory);
    if !path.is_absolute() {
        return Err(Problem::bad_request(format_args!("`{directory}` is not an absolute path")));
    }
    admin.note(caller, "store.backup", &directory).await;
    let store = admin.store.clone();
    let Copied { records, damaged, disk_bytes: [_, disk_bytes], .. } =
        problem::read(move || store.backup(&path, &mut |_, _| {})).await?;
    Ok(Json(BackupView { directory, records, damaged, disk_bytes }))
}

/// Proves the sums of what was accepted and of what was made: the counters among themselves, then against what is there,
/// counted one by one.
#[utoipa::path(get, path = "/v1/audit", responses(
    (status = OK, body = AuditView),
    (status = SERVICE_UNAVAILABLE, body = Problem),
))]
pub(super) async fn audit(State(admin): State<Admin>) -> Result<Json<AuditView>, Problem> {
    let store = admin.store.clone();
    let counters = store.counters().await?;
    let FullCount { profiles, waiting, letters, damaged, moved, differences } =
        problem::read(move || store.count_all()).await?;
    let mut all = counters.differences();
    all.extend(differences);
    Ok(Json(AuditView {
        adds_up: all.is_empty(),
        differences: all,
        sums: sums(&counters),
        profiles,
        waiting,
        letters,
        damaged,
        exact: !moved,
    }))
}

/// The two sums, in words.
fn sums(counters: &Counters) -> Vec<String> {
    let Counters { accepted, applied, unchanged, destinations, .. } = counters;
    let updates = format!("updates: {accepted} accepted = {applied} applied + {unchanged} unchanged");
    let exports = |(id, counted): (&DestinationId, &DestinationCounters)| {
        let DestinationCounters { made, delivered, waiting, dead, damaged, dropped, redriven, .. } = counted;
        let DestinationCounters { moot, skipped, superseded, .. } = counted;
        format!(
            "exports to {id}: {made} made = {delivered} delivered + {waiting} waiting + {dead} dead + {damaged} damaged \
             + {dropped} dropped + {redriven} redriven + {moot} moot + {skipped} skipped + {superseded} superseded"
        )
    };
    std::iter::once(updates).chain(destinations.iter().map(exports)).collect()
}
