//! Reading the configuration anew.

use axum::{Extension, Json, extract::State, http::StatusCode};
use tokio::sync::oneshot;

use super::{
    Admin,
    problem::{Body, Problem},
    scene::{Reloaded, Removed, Request},
};
use crate::listen::Caller;

/// Reads the configuration anew and puts it to work: all of it, or nothing when anything of it is refused.
#[utoipa::path(post, path = "/v1/reload", request_body = Removed, responses(
    (status = OK, body = Reloaded),
    (status = BAD_REQUEST, body = Problem),
    (status = UNPROCESSABLE_ENTITY, body = Problem, description = "refused; the configuration before stays in force"),
    (status = SERVICE_UNAVAILABLE, body = Problem),
))]
pub(super) async fn reload(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    Body(removed): Body<Removed>,
) -> Result<Json<Reloaded>, Problem> {
    let object = serde_json::to_string(&removed).expect("an order has text keys only");
    admin.note(caller, "reload", &object).await;
    let (answer, answered) = oneshot::channel();
    let stopping = || Problem::unavailable("the appliance is stopping");
    admin.requests.send(Request::Reload { removed, answer }).await.map_err(|_| stopping())?;
    match answered.await.map_err(|_| stopping())? {
        Ok(reloaded) => Ok(Json(reloaded)),
        Err(reasons) => {
            let status = StatusCode::UNPROCESSABLE_ENTITY.as_u16();
            let error = "the configuration is refused; the one before stays in force".to_owned();
            Err(Problem { status, error, reasons })
        }
    }
}
