//! Backfills and evaluations: started, looked at, cancelled; and the handle on who makes them.

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::{Path, State},
};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};
use utoipa::{IntoParams, ToSchema};

use super::{
    Admin,
    problem::{self, Problem, Query},
};
use crate::{
    destination::DestinationId,
    listen::Caller,
    pipeline::Count,
    store::StoreError,
    walk::{Cause, End, Errand, Walk, WalkId},
};

/// A handle on who goes over all profiles.
#[derive(Clone)]
pub struct Walks {
    /// Where it is told what to do.
    pub orders: mpsc::Sender<Order>,
    /// What it shows: all that is owed, and what has ended lately, oldest first.
    pub shown: watch::Receiver<Arc<Vec<Shown>>>,
}

/// A walk as it is shown.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    /// Where it stands.
    pub walk: Arc<Walk>,
    /// What it waits for, if it waits.
    pub waits_for: Option<String>,
    /// Profiles a second that it visited lately.
    pub rate: f64,
}

/// What who goes over all profiles is told.
pub enum Order {
    /// To make walks that the store owes already.
    Add(Vec<Walk>),
    /// To owe a backfill, and make it. Gets it, or the one of the same members that is owed already.
    Start {
        /// The backfill.
        errand: Errand,
        /// Gets what came of it.
        answer: oneshot::Sender<Result<Result<Walk, WalkId>, StoreError>>,
    },
    /// To end a walk before its time.
    Cancel {
        /// Which.
        id: WalkId,
        /// Why.
        why: String,
        /// Gets how it ended, if there is one of this id.
        answer: oneshot::Sender<Result<Option<Walk>, StoreError>>,
    },
}

/// Whose members.
#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default, deny_unknown_fields)]
pub struct BackfillQuery {
    /// Only those of this audience, rather than of all that are mapped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
}

/// A backfill or an evaluation of all profiles, and how far it is.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct WalkView {
    /// Its id.
    pub id: String,
    /// `backfill` or `evaluation`.
    pub work: String,
    /// To whom members are exported.
    pub destination: Option<String>,
    /// Whose members.
    pub audiences: Vec<String>,
    /// Why it is there: `rules`, `mapping`, `person`, `older_store`.
    pub cause: String,
    /// `waiting`, `running`, `done` or `cancelled`.
    pub state: String,
    /// What it waits for, or why it was cancelled.
    pub reason: Option<String>,
    /// Since when it is owed.
    pub created_at: String,
    /// When it began.
    pub began_at: Option<String>,
    /// When it ended.
    pub ended_at: Option<String>,
    /// Profiles that there were when it began.
    pub total: Option<u64>,
    /// Profiles that it has visited.
    pub done: u64,
    /// Exports that followed.
    pub exports: u64,
    /// Profiles a second, lately.
    pub rate: f64,
    /// How long it takes at that rate.
    pub seconds_left: Option<u64>,
}

/// Whom a backfill would export.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
pub struct BackfillCount {
    /// Profiles that there are, each of which is visited.
    pub profiles: u64,
    /// Exports that would be made: one for each member.
    pub exports: u64,
    /// Members that would be left out, because they lack the destination's `unique_id`.
    pub skipped: u64,
}

/// Exports the present members of mapped audiences to a destination, in the background.
#[utoipa::path(post, path = "/v1/destinations/{name}/backfill", params(("name" = String, Path), BackfillQuery), responses(
    (status = OK, body = WalkView),
    (status = BAD_REQUEST, body = Problem),
    (status = NOT_FOUND, body = Problem),
    (status = CONFLICT, body = Problem),
    (status = SERVICE_UNAVAILABLE, body = Problem),
))]
pub(super) async fn start(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    Query(query): Query<BackfillQuery>,
) -> Result<Json<WalkView>, Problem> {
    let (destination, errand) = errand(&admin, &name, query.audience.as_deref())?;
    let object = match &query.audience {
        Some(audience) => format!("{destination} {audience}"),
        None => destination.to_string(),
    };
    admin.note(caller, "destination.backfill", &object).await;
    match admin.walks.ask(|answer| Order::Start { errand, answer }).await?? {
        Ok(walk) => Ok(Json(admin.walks.view(walk))),
        Err(owed) => Err(Problem::conflict(format_args!(
            "backfill {owed} exports the same members and has not ended; wait for it, or cancel it: `postern backfill --cancel {owed}`"
        ))),
    }
}

/// Counts whom a backfill would export now; changes nothing.
#[utoipa::path(get, path = "/v1/destinations/{name}/backfill", params(("name" = String, Path), BackfillQuery), responses(
    (status = OK, body = BackfillCount),
    (status = BAD_REQUEST, body = Problem),
    (status = NOT_FOUND, body = Problem),
    (status = CONFLICT, body = Problem),
    (status = SERVICE_UNAVAILABLE, body = Problem),
))]
pub(super) async fn count(
    State(admin): State<Admin>,
    Path(name): Path<String>,
    Query(query): Query<BackfillQuery>,
) -> Result<Json<BackfillCount>, Problem> {
    let (destination, errand) = errand(&admin, &name, query.audience.as_deref())?;
    let (pipeline, now) = (admin.pipeline.clone(), admin.clock.now());
    let Count { profiles, exports, skipped } =
        problem::read(move || pipeline.count(&destination, &errand, now)).await?;
    Ok(Json(BackfillCount { profiles, exports, skipped }))
}

/// Backfills and evaluations: those that are owed, and the last ones that have ended, oldest first.
#[utoipa::path(get, path = "/v1/backfills", responses((status = OK, body = Vec<WalkView>)))]
pub(super) async fn list(State(admin): State<Admin>) -> Json<Vec<WalkView>> {
    Json(admin.walks.views())
}

/// One backfill or evaluation.
#[utoipa::path(get, path = "/v1/backfills/{id}", params(("id" = String, Path)), responses(
    (status = OK, body = WalkView),
    (status = BAD_REQUEST, body = Problem),
    (status = NOT_FOUND, body = Problem),
))]
pub(super) async fn show(State(admin): State<Admin>, Path(id): Path<String>) -> Result<Json<WalkView>, Problem> {
    let id: WalkId = id.parse().map_err(Problem::bad_request)?;
    let shown = admin.walks.shown.borrow().clone();
    shown.iter().find(|shown| shown.walk.id == id).map(|shown| Json(view(shown))).ok_or_else(|| missing(id))
}

/// Ends a backfill before its time. What it has made is sent.
#[utoipa::path(delete, path = "/v1/backfills/{id}", params(("id" = String, Path)), responses(
    (status = OK, body = WalkView),
    (status = BAD_REQUEST, body = Problem),
    (status = NOT_FOUND, body = Problem),
    (status = CONFLICT, body = Problem),
    (status = SERVICE_UNAVAILABLE, body = Problem),
))]
pub(super) async fn cancel(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<WalkView>, Problem> {
    let id: WalkId = id.parse().map_err(Problem::bad_request)?;
    let shown = admin.walks.shown.borrow().clone();
    let walk = shown.iter().map(|shown| &shown.walk).find(|walk| walk.id == id).ok_or_else(|| missing(id))?;
    if walk.errand == Errand::Evaluate {
        return Err(Problem::conflict(
            "an evaluation is not cancelled: without it nobody would know who is in which audience; `backfill.rate` slows it down",
        ));
    }
    admin.note(caller, "backfill.cancel", &id.to_string()).await;
    let why = "a person wished it".to_owned();
    let walk = admin.walks.ask(|answer| Order::Cancel { id, why, answer }).await??;
    walk.map(|walk| Json(admin.walks.view(walk))).ok_or_else(|| missing(id))
}

fn missing(id: WalkId) -> Problem {
    Problem::not_found(format_args!("there is no backfill {id}; `postern backfill --list` has them"))
}

/// A backfill of one mapped audience, or of all.
fn errand(admin: &Admin, name: &str, audience: Option<&str>) -> Result<(DestinationId, Errand), Problem> {
    let scene = admin.scene.borrow();
    let found = name.parse().ok().and_then(|id: DestinationId| scene.destinations.get(&id));
    let served = found.ok_or_else(|| Problem::not_found(format_args!("there is no destination `{name}`")))?;
    if served.draining {
        return Err(Problem::conflict(format_args!("destination `{name}` is not configured any more: it only drains")));
    }
    let mapping = &served.destination.mapping;
    let destination = mapping.destination.clone();
    let mut audiences = mapping.audiences.clone();
    if let Some(audience) = audience {
        audiences.retain(|id| id.as_str() == audience);
        if audiences.is_empty() {
            return Err(Problem::not_found(format_args!(
                "audience `{audience}` is not mapped to `{name}`; mapped are {}",
                mapping.audiences.iter().map(|id| id.as_str()).collect::<Vec<_>>().join(", ")
            )));
        }
    }
    Ok((destination.clone(), Errand::Backfill { destination, audiences }))
}

impl Walks {
    async fn ask<T>(&self, order: impl FnOnce(oneshot::Sender<T>) -> Order) -> Result<T, Problem> {
        let gone = || Problem::unavailable("postern is stopping");
        let (answer, answered) = oneshot::channel();
        self.orders.send(order(answer)).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())
    }

    /// How a walk looks that may have changed since it was last shown.
    fn view(&self, walk: Walk) -> WalkView {
        let shown = self.shown.borrow().clone();
        let known = shown.iter().find(|shown| shown.walk.id == walk.id);
        let (waits_for, rate) = known.map_or((None, 0.0), |shown| (shown.waits_for.clone(), shown.rate));
        view(&Shown { walk: Arc::new(walk), waits_for, rate })
    }

    /// How all look.
    pub(super) fn views(&self) -> Vec<WalkView> {
        let shown = self.shown.borrow().clone();
        shown.iter().map(view).collect()
    }

    /// How those look that are owed.
    pub(super) fn owed(&self) -> Vec<WalkView> {
        let shown = self.shown.borrow().clone();
        shown.iter().filter(|shown| shown.walk.is_owed()).map(view).collect()
    }

    /// How those look that are owed to a destination.
    pub(super) fn owed_to(&self, destination: &DestinationId) -> Vec<WalkView> {
        let shown = self.shown.borrow().clone();
        let is_theirs = |shown: &&Shown| shown.walk.is_owed() && shown.walk.errand.destination() == Some(destination);
        shown.iter().filter(is_theirs).map(view).collect()
    }
}

fn view(Shown { walk, waits_for, rate }: &Shown) -> WalkView {
    let Walk { id, errand, cause, created_at, began, cursor: _, visited, made, end } = &**walk;
    let (state, reason) = match (end, waits_for, began) {
        (Some(End { cancelled: Some(why), .. }), ..) => ("cancelled", Some(why)),
        (Some(End { cancelled: None, .. }), ..) => ("done", None),
        (None, Some(what), _) => ("waiting", Some(what)),
        (None, None, None) => ("waiting", None),
        (None, None, Some(_)) => ("running", None),
    };
    let audiences = match errand {
        Errand::Evaluate => &[],
        Errand::Backfill { destination: _, audiences } => &audiences[..],
    };
    let total = began.map(|began| began.total);
    let left = total.filter(|_| state == "running").map(|total| total.saturating_sub(*visited));
    WalkView {
        id: id.to_string(),
        work: errand.word().to_owned(),
        destination: errand.destination().map(ToString::to_string),
        audiences: audiences.iter().map(ToString::to_string).collect(),
        cause: Cause::to_string(cause),
        state: state.to_owned(),
        reason: reason.cloned(),
        created_at: created_at.to_string(),
        began_at: began.map(|began| began.at.to_string()),
        ended_at: end.as_ref().map(|end| end.at.to_string()),
        total,
        done: *visited,
        exports: *made,
        rate: *rate,
        // A float is cut at the bounds of an integer.
        seconds_left: left.filter(|_| *rate > 0.0).map(|left| (left as f64 / rate).ceil() as u64),
    }
}
