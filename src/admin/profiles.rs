//! A profile, by any of its identities: what is known of it, what was sent of it, and forgetting it.

use std::collections::BTreeMap;

use axum::{Extension, Json, extract::State};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::{
    Admin,
    exports::{self, ExportView},
    problem::{self, Problem, Query},
};
use crate::{
    listen::Caller,
    profile::{
        Profile, Refusal,
        identity::{Identity, Namespace},
        path::Attributes,
    },
    store::{Forgotten, Store, StoreError},
};

/// Exports shown of a profile, of each kind.
const EXPORTS_MAX: usize = 100;
/// What stands in place of a value that is not shown.
const HIDDEN: &str = "•••";

/// Whose profile.
#[derive(Clone, Debug, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ProfileQuery {
    /// One of its identities, as `NAMESPACE:VALUE`.
    pub identity: String,
    /// Show values; for root and the appliance's own user alone.
    #[serde(default)]
    pub reveal: bool,
}

/// A profile.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ProfileView {
    /// Its identities by namespace.
    pub identities: BTreeMap<String, Vec<String>>,
    /// What each dataset says.
    pub fragments: Vec<FragmentView>,
    /// The audiences it is in, or was in during the last 30 days.
    pub memberships: Vec<MembershipView>,
    /// Its exports: waiting, dead, and delivered as far as receipts reach, by age; at most 100 of each kind.
    pub exports: Vec<ExportView>,
}

/// What a dataset says of a profile.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct FragmentView {
    /// The dataset.
    pub dataset: String,
    /// When it was last written.
    pub written_at: String,
    /// Its attributes; values only where they may be seen.
    pub attributes: Value,
}

/// A profile's standing in an audience.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct MembershipView {
    /// The audience's namespace.
    pub namespace: String,
    /// The audience.
    pub audience: String,
    /// `realized` or `exited`.
    pub status: String,
    /// Since when.
    pub since: String,
}

/// What was forgotten with a profile.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
pub struct ForgottenView {
    /// Exports that waited, and were dropped.
    pub exports: u64,
    /// Dead letters that were dropped.
    pub letters: u64,
    /// Receipts that were removed.
    pub receipts: u64,
    /// Exports that were under way all the while, and stay: ask again.
    pub stayed: u64,
}

/// A profile with its exports.
#[utoipa::path(get, path = "/v1/profiles", params(ProfileQuery), responses(
    (status = OK, body = ProfileView),
    (status = BAD_REQUEST, body = Problem),
    (status = FORBIDDEN, body = Problem),
    (status = NOT_FOUND, body = Problem),
    (status = SERVICE_UNAVAILABLE, body = Problem),
))]
pub(super) async fn show(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<ProfileQuery>,
) -> Result<Json<ProfileView>, Problem> {
    let (identity, reveal) = (identity(&query.identity)?, problem::may_see(caller, query.reveal)?);
    let store = admin.store.clone();
    let found = problem::read(move || find(&store, &identity, reveal)).await?;
    found.map(Json).ok_or_else(no_profile)
}

/// Forgets a profile: what is known of it, its waiting exports, its dead letters and receipts.
#[utoipa::path(delete, path = "/v1/profiles", params(ProfileQuery), responses(
    (status = OK, body = ForgottenView),
    (status = BAD_REQUEST, body = Problem),
    (status = NOT_FOUND, body = Problem),
    (status = SERVICE_UNAVAILABLE, body = Problem),
))]
pub(super) async fn forget(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<ProfileQuery>,
) -> Result<Json<ForgottenView>, Problem> {
    let identity = identity(&query.identity)?;
    // Not whose: the log would remember what is to be forgotten.
    admin.note(caller, "profile.forget", identity.namespace().as_str()).await;
    // It goes on should the caller lose patience: what is begun is to be ended.
    let store = admin.store.clone();
    let forgetting = tokio::spawn(async move { store.forget(&identity).await });
    let broke_off = |_| Problem::unavailable("forgetting broke off; ask again");
    let forgotten = forgetting.await.map_err(broke_off)??.ok_or_else(no_profile)?;
    let Forgotten { exports, letters, receipts, stayed } = forgotten;
    Ok(Json(ForgottenView { exports, letters, receipts, stayed }))
}

fn no_profile() -> Problem {
    Problem::not_found("no profile has this identity")
}

fn identity(text: &str) -> Result<Identity, Problem> {
    let parts = text.split_once(':').ok_or_else(|| Problem::bad_request("an identity is written NAMESPACE:VALUE"))?;
    let namespace = Namespace::parse(parts.0).map_err(Problem::bad_request)?;
    Identity::new(namespace, parts.1).map_err(Problem::bad_request)
}

fn find(store: &Store, identity: &Identity, reveal: bool) -> Result<Option<ProfileView>, StoreError> {
    let Some(snapshot) = store.profile(identity)? else { return Ok(None) };
    let profile: Profile = serde_json::from_slice(&snapshot).map_err(|_| StoreError::from(Refusal::Unreadable))?;
    let lines = profile.lines();
    let mut exports = Vec::new();
    for ((destination, number), _) in store.exports_of(&lines, EXPORTS_MAX)? {
        let whole = store.export(&destination, number)?;
        exports.extend(whole.map(|whole| exports::view(&destination, number, &whole, reveal)));
    }
    // The latest of them.
    exports.extend(store.receipts(&lines)?.iter().rev().take(EXPORTS_MAX).map(exports::of_receipt));
    exports.sort_by_key(|export| export.number);
    Ok(Some(view(&profile, exports, reveal)))
}

fn view(profile: &Profile, exports: Vec<ExportView>, reveal: bool) -> ProfileView {
    let shown = |value: &String| if reveal { value.clone() } else { HIDDEN.to_owned() };
    let identities = profile.identities.namespaces();
    let memberships = profile.memberships.namespaces().flat_map(|(namespace, audiences)| {
        audiences.iter().map(|(audience, held)| MembershipView {
            namespace: namespace.to_owned(),
            audience: audience.to_string(),
            status: held.status.as_str().to_owned(),
            since: held.since.to_string(),
        })
    });
    ProfileView {
        identities: identities.map(|(name, ids)| (name.as_str().to_owned(), ids.iter().map(shown).collect())).collect(),
        fragments: profile
            .fragments
            .iter()
            .map(|fragment| FragmentView {
                dataset: fragment.dataset().to_owned(),
                written_at: fragment.written_at.to_string(),
                attributes: Value::Object(if reveal {
                    fragment.attributes.clone()
                } else {
                    hidden(&fragment.attributes)
                }),
            })
            .collect(),
        memberships: memberships.collect(),
        exports,
    }
}

/// The same attributes without their values. The depth is bounded by the inlet.
fn hidden(attributes: &Attributes) -> Attributes {
    let hide = |value: &Value| match value {
        Value::Object(inner) => Value::Object(hidden(inner)),
        _ => Value::from(HIDDEN),
    };
    attributes.iter().map(|(name, value)| (name.clone(), hide(value))).collect()
}
