//! What a request is answered that could not be met: a status and one sentence that says why and what to do.

use axum::{
    Json,
    extract::{FromRequest, FromRequestParts, Request},
    http::{StatusCode, request::Parts},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use utoipa::ToSchema;

use crate::{
    delivery::NotDone,
    listen::Caller,
    store::{NotRedriven, StoreError, upkeep::UpkeepError},
};

/// Why a request was not met.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// The HTTP status, again.
    pub status: u16,
    /// What is wrong, and what to do about it.
    pub error: String,
    /// Each reason by itself, where there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, error: impl ToString) -> Self {
        Self { status: status.as_u16(), error: error.to_string(), reasons: Vec::new() }
    }

    pub(super) fn not_found(error: impl ToString) -> Self {
        Self::new(StatusCode::NOT_FOUND, error)
    }

    pub(super) fn bad_request(error: impl ToString) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error)
    }

    pub(super) fn conflict(error: impl ToString) -> Self {
        Self::new(StatusCode::CONFLICT, error)
    }

    pub(super) fn unavailable(error: impl ToString) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error)
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Refused(refusal) => Self::conflict(refusal),
            StoreError::Unreadable(_) | StoreError::Directory { .. } => Self::conflict(crate::chain(&error)),
            other => Self::unavailable(crate::chain(&other)),
        }
    }
}

impl From<NotRedriven> for Problem {
    fn from(why: NotRedriven) -> Self {
        match why {
            NotRedriven::Store(error) => error.into(),
            NotRedriven::Missing { .. } => Self::not_found(why),
            NotRedriven::NotConfigured(_)
            | NotRedriven::Unidentified(_)
            | NotRedriven::Overtaken
            | NotRedriven::Uncertain
            | NotRedriven::Restless
            | NotRedriven::Unreadable => Self::conflict(why),
        }
    }
}

impl From<UpkeepError> for Problem {
    fn from(error: UpkeepError) -> Self {
        match error {
            UpkeepError::Exists(_) | UpkeepError::OfTheStore(_) => Self::conflict(crate::chain(&error)),
            UpkeepError::Store(error) => error.into(),
            UpkeepError::NoSpace { .. } => Self::unavailable(crate::chain(&error)),
        }
    }
}

impl From<NotDone> for Problem {
    fn from(error: NotDone) -> Self {
        Self::unavailable(crate::chain(&error))
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Json(self)).into_response()
    }
}

/// A query, or a [`Problem`] that says what is wrong with it.
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = axum::extract::Query::from_request_parts(parts, state).await;
        query.map(|query| Self(query.0)).map_err(|rejection| Problem::bad_request(rejection.body_text()))
    }
}

/// A JSON body, or a [`Problem`] that says what is wrong with it.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let body = Json::from_request(request, state).await;
        body.map(|body| Self(body.0)).map_err(|rejection| Problem::bad_request(rejection.body_text()))
    }
}

pub(super) async fn no_route() -> Problem {
    Problem::not_found("there is nothing here; /v1/openapi.json describes what there is")
}

/// Whether a caller may see bodies and values of identities: root, and the appliance's own user.
pub(super) fn may_see(caller: Caller, asked: bool) -> Result<bool, Problem> {
    let own = rustix::process::getuid().as_raw();
    match asked && ![0, own].contains(&caller.uid) {
        true => Err(Problem::new(
            StatusCode::FORBIDDEN,
            "bodies and identities are shown to root and to the appliance's own user alone; ask without reveal",
        )),
        false => Ok(asked),
    }
}

/// Reads from disk on a thread that may wait for it.
pub(super) async fn read<T: Send + 'static, E: Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, Problem>
where
    Problem: From<E>,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(Problem::unavailable("reading the store broke off; see the log")),
    }
}
