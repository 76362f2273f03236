//! Exports that wait: page by page, and one whole.

use axum::{
    Extension, Json,
    extract::{Path, State},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::{
    Admin,
    problem::{self, Problem, Query},
};
use crate::{
    destination::DestinationId,
    export::{Attempt, DeadLetter, Export, ExportId},
    listen::Caller,
    store::{self, Receipt, Store, StoreError, Whole},
    trigger::Reason,
};

/// Items on a page when nobody says how many, and at most.
const PAGE: usize = 100;
const PAGE_MAX: usize = 1000;
/// Records that are read for a page, whether they fit the filter or not: some tens of milliseconds.
const READ_MAX: usize = 10_000;

/// Which exports.
#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default, deny_unknown_fields)]
pub struct ExportQuery {
    /// Only those for this destination.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// Only those that are `waiting` for their first attempt, `retrying`, or `in_flight`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Where the page before ended: its `next`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// How many at most, 1 to 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// A page of exports, oldest first by destination. It may be short, or empty, and have a next one all the same: reading
/// is bounded, whatever the filter.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ExportPage {
    /// The exports.
    pub items: Vec<ExportLine>,
    /// What to ask for as `cursor` for the next page; none after the last.
    pub next: Option<String>,
}

/// An export in a list.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ExportLine {
    /// Its id; none when its record is damaged, and on its way to be put aside.
    pub id: Option<String>,
    /// Whom it is owed to.
    pub destination: String,
    /// Its age among all.
    pub number: u64,
    /// `waiting`, `retrying`, `in_flight` or `damaged`.
    pub state: String,
    /// When the update that made it came in.
    pub accepted_at: Option<String>,
    /// When it may be sent next.
    pub due: Option<String>,
    /// POSTs charged to it.
    pub attempts: usize,
    /// POSTs that were not.
    pub trials: u32,
    /// What the last POST met, in one word.
    pub last_outcome: Option<String>,
}

/// One export, whole.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ExportView {
    /// Its id.
    pub id: String,
    /// Whom it is owed to.
    pub destination: String,
    /// Its age among all.
    pub number: u64,
    /// `waiting`, `retrying`, `in_flight`, `dead` or `delivered`.
    pub state: String,
    /// Why it is dead, in one word.
    pub cause: Option<String>,
    /// Since when it is dead, or when it was delivered.
    pub ended_at: Option<String>,
    /// When the update that made it came in.
    pub accepted_at: Option<String>,
    /// When it may be sent next.
    pub due: Option<String>,
    /// The attempts charged to it.
    pub attempts: Vec<AttemptView>,
    /// POSTs that were not charged.
    pub trials: u32,
    /// The last of those.
    pub last_trial: Option<AttemptView>,
    /// Why it was made. Unknown of delivered ones.
    pub reasons: Vec<ReasonView>,
    /// Length of the body.
    pub body_bytes: Option<usize>,
    /// The body, to callers who may see it and ask.
    pub body: Option<Value>,
}

/// A POST and what it met.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AttemptView {
    /// When it ended.
    pub at: String,
    /// What it met, in one word.
    pub outcome: String,
    /// Bytes kept of what the receiver answered, if it failed: the first 1024.
    pub answer_bytes: usize,
    /// Those, to callers who may see it and ask; control characters are escaped.
    pub answer: Option<String>,
}

/// Why an export was made.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ReasonView {
    /// `realized`, `exited`, `identity_added`, `attribute_written` or `redrive`.
    pub kind: String,
    /// The audience, the attribute, or the export that it was made again from.
    pub of: Option<String>,
}

/// What is shown of what is personal.
#[derive(Clone, Copy, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Reveal {
    /// Show bodies, what was answered, and values of identities; for root and the appliance's own user alone.
    pub(super) reveal: bool,
}

/// Exports that wait.
#[utoipa::path(get, path = "/v1/exports", params(ExportQuery), responses(
    (status = OK, body = ExportPage),
    (status = BAD_REQUEST, body = Problem),
    (status = SERVICE_UNAVAILABLE, body = Problem),
))]
pub(super) async fn list(
    State(admin): State<Admin>,
    Query(query): Query<ExportQuery>,
) -> Result<Json<ExportPage>, Problem> {
    let state = query.state.as_deref();
    if let Some(unknown) = state.filter(|state| !["waiting", "retrying", "in_flight"].contains(state)) {
        return Err(Problem::bad_request(format_args!(
            "there is no state `{unknown}`; ask for waiting, retrying or in_flight"
        )));
    }
    let place = Place::of(&admin.store, query.destination.as_deref(), query.cursor.as_deref(), query.limit)?;
    let (store, state) = (admin.store.clone(), query.state);
    let (items, next) = problem::read(move || {
        place.page(
            |destination, from, most| store.waiting(destination, from, most),
            |destination, number, export| {
                let line = line(&store, destination, number, export.as_ref());
                state.as_ref().is_none_or(|state| *state == line.state).then_some(line)
            },
        )
    })
    .await?;
    Ok(Json(ExportPage { items, next }))
}

/// One export by its id, as long as it waits, is a dead letter, or has a receipt.
#[utoipa::path(get, path = "/v1/exports/{id}", params(("id" = String, Path), Reveal), responses(
    (status = OK, body = ExportView),
    (status = BAD_REQUEST, body = Problem),
    (status = FORBIDDEN, body = Problem),
    (status = NOT_FOUND, body = Problem),
    (status = SERVICE_UNAVAILABLE, body = Problem),
))]
pub(super) async fn show(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    Query(Reveal { reveal }): Query<Reveal>,
) -> Result<Json<ExportView>, Problem> {
    let (id, reveal) = (export_id(&id)?, problem::may_see(caller, reveal)?);
    let store = admin.store.clone();
    let found = problem::read(move || find(&store, id, reveal)).await?;
    let missing = || Problem::not_found(format_args!("no export {id} waits, is dead, or has a receipt"));
    found.map(Json).ok_or_else(missing)
}

pub(super) fn export_id(text: &str) -> Result<ExportId, Problem> {
    text.parse().map_err(|_| Problem::bad_request(format_args!("`{text}` is not an export's id, which is a UUID")))
}

/// An export wherever it is.
fn find(store: &Store, id: ExportId, reveal: bool) -> Result<Option<ExportView>, StoreError> {
    if let Some((destination, number)) = store.find(id)?
        && let Some(whole) = store.export(&destination, number)?
        // A newer one may have taken its place just now.
        && whole.state.export().id == id
    {
        return Ok(Some(view(&destination, number, &whole, reveal)));
    }
    Ok(store.receipt(id)?.map(|receipt| of_receipt(&receipt)))
}

pub(super) fn view(destination: &DestinationId, number: u64, whole: &Whole, reveal: bool) -> ExportView {
    let Whole { state: kept, in_flight, reasons, body } = whole;
    let (export, cause, ended_at) = match kept {
        store::State::Waiting(export) => (export, None, None),
        store::State::Dead(DeadLetter { export, at, cause }) => (export, Some(*cause), Some(*at)),
    };
    let Export { id, lines: _, accepted_at, due, attempts, trials, last_trial } = export;
    ExportView {
        id: id.to_string(),
        destination: destination.to_string(),
        number,
        state: if cause.is_some() { "dead" } else { state(export, *in_flight) }.to_owned(),
        cause: cause.map(|cause| cause.to_string()),
        ended_at: ended_at.map(|at| at.to_string()),
        accepted_at: Some(accepted_at.to_string()),
        due: cause.is_none().then(|| due.to_string()),
        attempts: attempts.iter().map(|attempt| AttemptView::of(attempt, reveal)).collect(),
        trials: *trials,
        last_trial: last_trial.as_ref().map(|trial| AttemptView::of(trial, reveal)),
        reasons: reasons.iter().map(ReasonView::from).collect(),
        body_bytes: Some(body.len()),
        body: reveal.then(|| serde_json::from_slice(body).unwrap_or_default()),
    }
}

pub(super) fn of_receipt(receipt: &Receipt) -> ExportView {
    let Receipt { destination, number, export, profile: _, delivered_at: at, status } = receipt;
    ExportView {
        id: export.to_string(),
        destination: destination.to_string(),
        number: *number,
        state: "delivered".to_owned(),
        cause: None,
        ended_at: Some(at.to_string()),
        accepted_at: None,
        due: None,
        attempts: vec![AttemptView {
            at: at.to_string(),
            outcome: format!("status_{status}"),
            answer_bytes: 0,
            answer: None,
        }],
        trials: 0,
        last_trial: None,
        reasons: Vec::new(),
        body_bytes: None,
        body: None,
    }
}

pub(super) fn line(store: &Store, destination: &DestinationId, number: u64, export: Option<&Export>) -> ExportLine {
    let in_flight = store.queue(destination).is_some_and(|queue| queue.is_claimed(number));
    let last = export
        .and_then(|export| export.attempts.last().into_iter().chain(&export.last_trial).max_by_key(|last| last.at));
    ExportLine {
        id: export.map(|export| export.id.to_string()),
        destination: destination.to_string(),
        number,
        state: export.map_or("damaged", |export| state(export, in_flight)).to_owned(),
        accepted_at: export.map(|export| export.accepted_at.to_string()),
        due: export.map(|export| export.due.to_string()),
        attempts: export.map_or(0, |export| export.attempts.len()),
        trials: export.map_or(0, |export| export.trials),
        last_outcome: last.map(|attempt| attempt.outcome.to_string()),
    }
}

fn state(export: &Export, in_flight: bool) -> &'static str {
    match (in_flight, export.attempts.is_empty()) {
        (true, _) => "in_flight",
        (false, true) => "waiting",
        (false, false) => "retrying",
    }
}

impl AttemptView {
    fn of(Attempt { at, outcome, answer }: &Attempt, reveal: bool) -> Self {
        let (answer_bytes, answer) = (answer.len(), (reveal && !answer.is_empty()).then(|| answer.text()));
        Self { at: at.to_string(), outcome: outcome.to_string(), answer_bytes, answer }
    }
}

impl From<&Reason> for ReasonView {
    fn from(reason: &Reason) -> Self {
        let (kind, of) = match reason {
            Reason::Realized(audience) => ("realized", Some(audience.to_string())),
            Reason::Exited(audience) => ("exited", Some(audience.to_string())),
            Reason::IdentityAdded => ("identity_added", None),
            Reason::AttributeWritten(path) => ("attribute_written", Some(path.clone())),
            Reason::Redrive(export) => ("redrive", Some(export.to_string())),
            Reason::Backfill(audience) => ("backfill", Some(audience.to_string())),
        };
        Self { kind: kind.to_owned(), of }
    }
}

/// Where a page begins, and how long it is.
pub(super) struct Place {
    destinations: Vec<DestinationId>,
    from: u64,
    limit: usize,
}

impl Place {
    /// The place that a cursor names, or the beginning, in one destination or in all.
    pub(super) fn of(
        store: &Store,
        destination: Option<&str>,
        cursor: Option<&str>,
        limit: Option<usize>,
    ) -> Result<Self, Problem> {
        let limit = limit.unwrap_or(PAGE);
        if !(1..=PAGE_MAX).contains(&limit) {
            return Err(Problem::bad_request(format_args!("ask for 1 to {PAGE_MAX} items")));
        }
        let mut destinations: Vec<DestinationId> = store.queues().into_iter().map(|(id, _)| id).collect();
        if let Some(name) = destination {
            destinations.retain(|id| id.as_str() == name);
            if destinations.is_empty() {
                return Err(Problem::not_found(format_args!("there is no destination `{name}`")));
            }
        }
        let Some(cursor) = cursor else { return Ok(Self { destinations, from: 0, limit }) };
        let place = cursor.rsplit_once('/').and_then(|(name, from)| Some((name, from.parse().ok()?)));
        let Some((name, from)) = place else {
            return Err(Problem::bad_request(format_args!("`{cursor}` is no cursor; take `next` of the page before")));
        };
        destinations.retain(|id| id.as_str() >= name);
        let from = if destinations.first().is_some_and(|id| id.as_str() == name) { from } else { 0 };
        Ok(Self { destinations, from, limit })
    }

    /// Reads on from here until the page is full; what `keep` makes of an entry is on it.
    pub(super) fn page<T, K>(
        self,
        read: impl Fn(&DestinationId, u64, usize) -> Result<Vec<(u64, T)>, StoreError>,
        keep: impl Fn(&DestinationId, u64, T) -> Option<K>,
    ) -> Result<(Vec<K>, Option<String>), StoreError> {
        let Self { destinations, mut from, limit } = self;
        let (mut kept, mut read_count) = (Vec::new(), 0);
        for destination in &destinations {
            loop {
                let entries = read(destination, from, limit)?;
                if entries.is_empty() {
                    break;
                }
                for (number, entry) in entries {
                    if kept.len() == limit || read_count == READ_MAX {
                        return Ok((kept, Some(format!("{destination}/{number}"))));
                    }
                    kept.extend(keep(destination, number, entry));
                    (from, read_count) = (number + 1, read_count + 1);
                }
            }
            from = 0;
        }
        Ok((kept, None))
    }
}
