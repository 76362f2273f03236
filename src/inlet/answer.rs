//! What a sender is answered, in AEP's shapes.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::wire::NotAnUpdate;
use crate::{
    profile::{Refusal, update::ProfileUpdate},
    store::StoreError,
};

/// The `type` of AEP's inlet problems: senders written for it look for it.
const PROBLEM: &str = "http://ns.adobe.com/adobecloud/problem/data-collection-service/inlet";
/// Seconds after which a sender should come back: the writer empties its queue in far less.
const RETRY_SECONDS: u16 = 1;

/// The answer to an update that is on disk.
pub(super) fn accepted(inlet: &str, update: Accepted) -> Response {
    let Accepted { xaction_id, received_time_ms } = update;
    Json(json!({ "inletId": inlet, "xactionId": xaction_id, "receivedTimeMs": received_time_ms })).into_response()
}

/// What the answer says of an update.
pub(super) struct Accepted {
    xaction_id: String,
    received_time_ms: i64,
}

impl From<&ProfileUpdate> for Accepted {
    fn from(update: &ProfileUpdate) -> Self {
        Self { xaction_id: update.id.to_string(), received_time_ms: update.received_at.as_millis() }
    }
}

/// Why an update was not taken.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    title: &'static str,
    /// A word for metrics, and for programs.
    pub(super) reason: &'static str,
    message: String,
}

impl Problem {
    pub(super) fn new(
        status: StatusCode,
        title: &'static str,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self { status, title, reason, message: message.into() }
    }
}

impl From<NotAnUpdate> for Problem {
    fn from(error: NotAnUpdate) -> Self {
        let reason = match &error {
            NotAnUpdate::NotJson(_) => "not_json",
            NotAnUpdate::Shape(_) => "shape",
            NotAnUpdate::Operation(_) => "operation",
            NotAnUpdate::NoIdentity(_) => "no_identity",
            NotAnUpdate::Identity { .. } => "identity",
        };
        Self::new(StatusCode::BAD_REQUEST, "Invalid XDM Message Format", reason, error.to_string())
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let (status, title, reason) = match &error {
            StoreError::Refused(Refusal::ProfileTooLarge { .. }) => {
                (StatusCode::UNPROCESSABLE_ENTITY, "Profile Too Large", "profile_too_large")
            }
            StoreError::Refused(Refusal::TooManyIdentities { .. }) => {
                (StatusCode::UNPROCESSABLE_ENTITY, "Too Many Identities", "too_many_identities")
            }
            StoreError::Refused(Refusal::Unreadable) => {
                (StatusCode::INTERNAL_SERVER_ERROR, "Profile Unreadable", "profile_unreadable")
            }
            StoreError::Busy => (StatusCode::SERVICE_UNAVAILABLE, "Busy", "busy"),
            StoreError::Full => (StatusCode::SERVICE_UNAVAILABLE, "Disk Full", "disk_full"),
            StoreError::Failed
            | StoreError::Unreadable(_)
            | StoreError::Directory { .. }
            | StoreError::InUse(_)
            | StoreError::Newer { .. }
            | StoreError::Missing(_)
            | StoreError::Unknown(_)
            | StoreError::Damaged { .. } => (StatusCode::SERVICE_UNAVAILABLE, "Not Stored", "store_failed"),
        };
        Self::new(status, title, reason, error.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self { status, title, reason, message } = self;
        let report = json!({ "message": message, "reason": reason });
        let body = json!({ "type": PROBLEM, "status": status.as_u16(), "title": title, "report": report });
        let mut response = (status, Json(body)).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(RETRY_SECONDS));
        }
        response
    }
}
