//! Dead letters: looked at, made anew, or dropped.

use axum::{
    Extension, Json,
    extract::{Path, State},
};
use serde::{Deserialize, Serialize};
use tokio::task::{JoinError, JoinSet};
use utoipa::{IntoParams, ToSchema};

use super::{
    Admin,
    exports::{self, ExportView, Place, Reveal},
    problem::{self, Problem, Query},
};
use crate::{
    clock::Timestamp,
    destination::DestinationId,
    export::{DeadLetter, ExportId},
    listen::Caller,
    store::{self, NotRedriven, Redrive, Redriven, Store, StoreError, Whole},
};

/// Which dead letters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default, deny_unknown_fields)]
pub struct LetterQuery {
    /// Only those of this destination.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// Only those that are `exhausted`, `refused` or `salvaged`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// Only those whose last POST met this, such as `status_500`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// Only those that are dead since then or before, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// Where the page before ended: its `next`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// How many at most, 1 to 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// A page of dead letters, oldest first by destination. It may be short, or empty, and have a next one all the same.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct LetterPage {
    /// The letters.
    pub items: Vec<LetterLine>,
    /// What to ask for as `cursor` for the next page; none after the last.
    pub next: Option<String>,
}

/// A dead letter in a list.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct LetterLine {
    /// The export's id; none when its record is damaged.
    pub id: Option<String>,
    /// Whom it was owed to.
    pub destination: String,
    /// Its age among all.
    pub number: u64,
    /// `exhausted`, `refused`, `salvaged` or `damaged`.
    pub cause: String,
    /// Since when it is dead.
    pub at: Option<String>,
    /// When the update that made it came in.
    pub accepted_at: Option<String>,
    /// POSTs charged to it.
    pub attempts: usize,
    /// POSTs that were not.
    pub trials: u32,
    /// What the last attempt met, in one word.
    pub last_outcome: Option<String>,
}

/// What a redrive sends.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
pub struct RedriveQuery {
    /// The body as it was frozen, instead of the profile's present state. Refused once a newer export of the profile was
    /// delivered.
    pub as_was: bool,
}

/// What became of a letter that was to be redriven.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RedriveView {
    /// The letter.
    pub letter: String,
    /// The new export; none when the profile is in no mapped audience any more, which closes the letter.
    pub export: Option<String>,
}

/// What became of many letters.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Redrives {
    /// New exports were made of so many.
    pub exported: u64,
    /// So many were closed, because their profile is in no mapped audience any more.
    pub moot: u64,
    /// So many are letters still.
    pub refused: u64,
    /// Why the first of those was refused.
    pub first_refusal: Option<String>,
    /// What to ask for as `cursor` to go on; none after the last. Ask with a fixed `before`, so that it ends.
    pub next: Option<String>,
}

/// How many letters were dropped.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct DroppedView {
    /// So many.
    pub dropped: u64,
    /// What to ask for as `cursor` to go on; none after the last.
    pub next: Option<String>,
}

/// Dead letters.
#[utoipa::path(get, path = "/v1/dead-letters", params(LetterQuery), responses(
    (status = OK, body = LetterPage),
    (status = BAD_REQUEST, body = Problem),
    (status = NOT_FOUND, body = Problem),
    (status = SERVICE_UNAVAILABLE, body = Problem),
))]
pub(super) async fn list(
    State(admin): State<Admin>,
    Query(query): Query<LetterQuery>,
) -> Result<Json<LetterPage>, Problem> {
    let store = admin.store.clone();
    problem::read(move || page(&store, &query)).await.map(Json)
}

/// A page of dead letters. Reads from disk.
pub(crate) fn page(store: &Store, query: &LetterQuery) -> Result<LetterPage, Problem> {
    let (items, next) = those_that_fit(store, query, &Filter::of(query)?, line)?;
    Ok(LetterPage { items, next })
}

/// What `keep` makes of a page of letters that fit a filter, and where the next one begins.
fn those_that_fit<K>(
    store: &Store,
    LetterQuery { destination, cursor, limit, .. }: &LetterQuery,
    filter: &Filter,
    keep: impl Fn(&DestinationId, u64, Option<&DeadLetter>) -> K,
) -> Result<(Vec<K>, Option<String>), Problem> {
    let place = Place::of(store, destination.as_deref(), cursor.as_deref(), *limit)?;
    let page = place.page(
        |destination, from, most| store.dead_letters(destination, from, most),
        |destination, number, letter| filter.fits(letter.as_ref()).then(|| keep(destination, number, letter.as_ref())),
    );
    Ok(page?)
}

/// One dead letter by its export's id.
#[utoipa::path(get, path = "/v1/dead-letters/{id}", params(("id" = String, Path), Reveal), responses(
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
    let (id, reveal) = (exports::export_id(&id)?, problem::may_see(caller, reveal)?);
    let (destination, number, whole) = find(&admin.store, id).await?;
    Ok(Json(exports::view(&destination, number, &whole, reveal)))
}

/// Makes a dead letter anew: a new export of the profile's present state.
#[utoipa::path(post, path = "/v1/dead-letters/{id}/redrive", params(("id" = String, Path), RedriveQuery), responses(
    (status = OK, body = RedriveView),
    (status = BAD_REQUEST, body = Problem),
    (status = NOT_FOUND, body = Problem),
    (status = CONFLICT, body = Problem),
    (status = SERVICE_UNAVAILABLE, body = Problem),
))]
pub(super) async fn redrive_one(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    Query(query): Query<RedriveQuery>,
) -> Result<Json<RedriveView>, Problem> {
    let id = exports::export_id(&id)?;
    let (destination, number, _) = find(&admin.store, id).await?;
    admin.note(caller, "dead-letter.redrive", &id.to_string()).await;
    let redriven = admin.pipeline.redrive(&destination, number, query.how(), admin.clock.now()).await?;
    let export = match redriven {
        Redriven::Exported(export) => Some(export.to_string()),
        Redriven::Moot => None,
    };
    Ok(Json(RedriveView { letter: id.to_string(), export }))
}

/// Makes a page of the dead letters anew that match, each of its profile's present state.
#[utoipa::path(post, path = "/v1/dead-letters/redrive", params(LetterQuery), responses(
    (status = OK, body = Redrives),
    (status = BAD_REQUEST, body = Problem),
    (status = SERVICE_UNAVAILABLE, body = Problem),
))]
pub(super) async fn redrive_matching(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<LetterQuery>,
) -> Result<Json<Redrives>, Problem> {
    let (letters, next) = matching(&admin, &query).await?;
    admin.note(caller, "dead-letter.redrive", &object(&query)).await;
    let (mut done, now) = (Redrives { next, ..Redrives::default() }, admin.clock.now());
    // Together, so that they share syncs.
    let mut redriving = JoinSet::new();
    for (destination, number) in letters {
        let pipeline = admin.pipeline.clone();
        redriving.spawn(async move { pipeline.redrive(&destination, number, Redrive::Present, now).await });
    }
    while let Some(redriven) = redriving.join_next().await {
        match redriven.map_err(broke_off)? {
            Ok(Redriven::Exported(_)) => done.exported += 1,
            Ok(Redriven::Moot) => done.moot += 1,
            // Somebody else was faster.
            Err(NotRedriven::Missing { .. }) => {}
            Err(NotRedriven::Store(error)) if !matches!(error, StoreError::Unreadable(_)) => return Err(error.into()),
            Err(refusal) => {
                done.refused += 1;
                done.first_refusal.get_or_insert(refusal.to_string());
            }
        }
    }
    Ok(Json(done))
}

/// Drops a dead letter.
#[utoipa::path(delete, path = "/v1/dead-letters/{id}", params(("id" = String, Path)), responses(
    (status = OK, body = DroppedView),
    (status = BAD_REQUEST, body = Problem),
    (status = NOT_FOUND, body = Problem),
    (status = SERVICE_UNAVAILABLE, body = Problem),
))]
pub(super) async fn drop_one(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<DroppedView>, Problem> {
    let id = exports::export_id(&id)?;
    let (destination, number, _) = find(&admin.store, id).await?;
    admin.note(caller, "dead-letter.drop", &id.to_string()).await;
    match admin.store.drop_letter(&destination, number).await? {
        true => Ok(Json(DroppedView { dropped: 1, next: None })),
        false => Err(missing(id)),
    }
}

/// Drops a page of the dead letters that match.
#[utoipa::path(delete, path = "/v1/dead-letters", params(LetterQuery), responses(
    (status = OK, body = DroppedView),
    (status = BAD_REQUEST, body = Problem),
    (status = SERVICE_UNAVAILABLE, body = Problem),
))]
pub(super) async fn drop_matching(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<LetterQuery>,
) -> Result<Json<DroppedView>, Problem> {
    let (letters, next) = matching(&admin, &query).await?;
    admin.note(caller, "dead-letter.drop", &object(&query)).await;
    let mut dropping = JoinSet::new();
    for (destination, number) in letters {
        let store = admin.store.clone();
        dropping.spawn(async move { store.drop_letter(&destination, number).await });
    }
    let mut dropped = 0;
    while let Some(done) = dropping.join_next().await {
        dropped += u64::from(done.map_err(broke_off)??);
    }
    Ok(Json(DroppedView { dropped, next }))
}

fn broke_off(_: JoinError) -> Problem {
    Problem::unavailable("the store broke off; see the log")
}

impl RedriveQuery {
    fn how(self) -> Redrive {
        match self.as_was {
            true => Redrive::AsWas,
            false => Redrive::Present,
        }
    }
}

fn missing(id: ExportId) -> Problem {
    Problem::not_found(format_args!("there is no dead letter {id}"))
}

/// What the audit log says of a filter.
fn object(query: &LetterQuery) -> String {
    serde_json::to_string(query).expect("a filter has text keys only")
}

async fn find(store: &Store, id: ExportId) -> Result<(DestinationId, u64, Whole), Problem> {
    let reader = store.clone();
    let found = problem::read(move || {
        let Some((destination, number)) = reader.find(id)? else { return Ok(None) };
        let whole = reader.export(&destination, number)?;
        let dead = whole.filter(|whole| matches!(whole.state, store::State::Dead(_)));
        Ok::<_, StoreError>(dead.map(|whole| (destination, number, whole)))
    });
    found.await?.ok_or_else(|| missing(id))
}

/// A page of the letters that match and were dead by now: what is refused again meanwhile becomes a letter again, which is
/// not meant.
async fn matching(admin: &Admin, query: &LetterQuery) -> Result<(Vec<(DestinationId, u64)>, Option<String>), Problem> {
    let (mut filter, store, query) = (Filter::of(query)?, admin.store.clone(), query.clone());
    filter.before.get_or_insert(admin.clock.now());
    let place = |destination: &DestinationId, number, _: Option<&DeadLetter>| (destination.clone(), number);
    problem::read(move || those_that_fit(&store, &query, &filter, place)).await
}

#[derive(Clone)]
struct Filter {
    cause: Option<String>,
    outcome: Option<String>,
    before: Option<Timestamp>,
}

impl Filter {
    fn of(query: &LetterQuery) -> Result<Self, Problem> {
        let LetterQuery { cause, outcome, before, .. } = query;
        if let Some(unknown) = cause.as_deref().filter(|cause| !["exhausted", "refused", "salvaged"].contains(cause)) {
            return Err(Problem::bad_request(format_args!(
                "there is no cause `{unknown}`; ask for exhausted, refused or salvaged"
            )));
        }
        let before = before.as_deref().map(|text| {
            Timestamp::parse(text)
                .ok_or_else(|| Problem::bad_request(format_args!("`{text}` is no time such as 2026-01-31T12:00:00Z")))
        });
        Ok(Self { cause: cause.clone(), outcome: outcome.clone(), before: before.transpose()? })
    }

    /// A damaged letter, of which nothing is known, fits only where neither cause nor outcome is asked for.
    fn fits(&self, letter: Option<&DeadLetter>) -> bool {
        let Self { cause, outcome, before } = self;
        let Some(letter) = letter else { return cause.is_none() && outcome.is_none() };
        let last = || letter.export.attempts.last().map(|attempt| attempt.outcome.to_string());
        cause.as_ref().is_none_or(|cause| *cause == letter.cause.to_string())
            && outcome.as_ref().is_none_or(|outcome| last().as_ref() == Some(outcome))
            && before.is_none_or(|before| letter.at <= before)
    }
}

fn line(destination: &DestinationId, number: u64, letter: Option<&DeadLetter>) -> LetterLine {
    let export = letter.map(|letter| &letter.export);
    let last = export.and_then(|export| export.attempts.last());
    LetterLine {
        id: export.map(|export| export.id.to_string()),
        destination: destination.to_string(),
        number,
        cause: letter.map_or_else(|| "damaged".to_owned(), |letter| letter.cause.to_string()),
        at: letter.map(|letter| letter.at.to_string()),
        accepted_at: export.map(|export| export.accepted_at.to_string()),
        attempts: export.map_or(0, |export| export.attempts.len()),
        trials: export.map_or(0, |export| export.trials),
        last_outcome: last.map(|attempt| attempt.outcome.to_string()),
    }
}
