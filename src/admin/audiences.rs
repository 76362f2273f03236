//! The audiences, and how many are in each.

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Admin,
    problem::{self, Problem},
};
use crate::audience::{Audience, RULE_NAMESPACE};

/// An audience.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AudienceView {
    /// Its id, as receivers see it.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// The merge policy by whose view its rule is judged.
    pub merge_policy: String,
    /// Profiles that are in it.
    pub members: u64,
    /// Destinations that it is mapped to.
    pub destinations: Vec<String>,
}

/// The audiences.
#[utoipa::path(get, path = "/v1/audiences", responses(
    (status = OK, body = Vec<AudienceView>),
    (status = SERVICE_UNAVAILABLE, body = Problem),
))]
pub(super) async fn list(State(admin): State<Admin>) -> Result<Json<Vec<AudienceView>>, Problem> {
    let (scene, store) = (admin.scene.borrow().clone(), admin.store.clone());
    let members = problem::read(move || store.members()).await?;
    let view = |audience: &Audience| AudienceView {
        id: audience.id.to_string(),
        name: audience.name.clone(),
        merge_policy: audience.policy.id.to_string(),
        members: members.get(&format!("{RULE_NAMESPACE}:{}", audience.id)).copied().unwrap_or_default(),
        destinations: scene
            .destinations
            .iter()
            .filter(|(_, served)| !served.draining && served.destination.mapping.audiences.contains(&audience.id))
            .map(|(id, _)| id.to_string())
            .collect(),
    };
    Ok(Json(scene.audiences.iter().map(view).collect()))
}
