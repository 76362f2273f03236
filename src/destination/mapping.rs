//! What is exported to a destination: whose exports are made, and what they show.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::DestinationId;
use crate::{
    audience::AudienceId,
    clock::Timestamp,
    profile::{
        Profile,
        identity::Namespace,
        path::{AttributePath, Attributes},
        policy::MergePolicy,
    },
};

/// What is exported to a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Whose mapping it is.
    pub destination: DestinationId,
    /// The mapped audiences; their members are who is exported.
    pub audiences: Vec<AudienceId>,
    /// The mapped attributes.
    pub attributes: Vec<AttributePath>,
    /// By which view of a profile exports are made, and which audiences go with it.
    pub policy: Arc<MergePolicy>,
    /// Which of a profile's memberships an export shows.
    pub memberships: Shown,
    /// Whether mapped audiences are shown with their names.
    pub segment_names: bool,
    /// Whether they are shown with when they and their mapping were made and changed, as far as that is known.
    pub segment_timestamps: bool,
    /// What a profile must have for an export to be made.
    pub unique_id: Option<UniqueId>,
    /// Since when audiences are mapped, as far as that is known.
    pub mapped_at: BTreeMap<AudienceId, MappedAt>,
    /// Whether a newer export takes the place of an older one of its profile that waits.
    pub coalesce: Coalesce,
}

/// Which exports take the place of an older one of their profile that waits and was not tried yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coalesce {
    /// None: each is sent.
    Off,
    /// Those that tell all that the older one would have told of audiences entered and left.
    KeepTransitions,
    /// All.
    All,
}

/// Which of a profile's memberships an export shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Mapped audiences that it has a status for, and unmapped ones of the destination's merge policy that it is in.
    MergePolicy,
    /// Mapped audiences that it has a status for.
    Mapped,
    /// All that it has a status for.
    All,
}

/// Something that tells a profile from all others at a receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UniqueId {
    /// Any identity in this namespace.
    Namespace(Namespace),
    /// A text that is not empty, or a number, at this place.
    Attribute(AttributePath),
}

/// Since when an audience is mapped to a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MappedAt {
    /// When it was.
    pub created: Timestamp,
    /// When that last changed.
    pub updated: Timestamp,
}

impl Mapping {
    /// A mapping that shows what AEP shows, by the built-in merge policy.
    pub fn new(destination: DestinationId, audiences: Vec<AudienceId>, attributes: Vec<AttributePath>) -> Self {
        Self {
            destination,
            audiences,
            attributes,
            policy: Arc::default(),
            memberships: Shown::MergePolicy,
            segment_names: false,
            segment_timestamps: false,
            unique_id: None,
            mapped_at: BTreeMap::new(),
            coalesce: Coalesce::Off,
        }
    }

    /// Whether a profile, whose attributes are seen as `view`, has what an export needs.
    pub fn identifies(&self, profile: &Profile, view: &Attributes) -> bool {
        match &self.unique_id {
            None => true,
            Some(UniqueId::Namespace(wanted)) => {
                profile.identities.namespaces().any(|(namespace, ids)| namespace == wanted && !ids.is_empty())
            }
            Some(UniqueId::Attribute(path)) => match path.lookup(view) {
                Some(Value::String(text)) => !text.is_empty(),
                Some(Value::Number(_)) => true,
                Some(Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) | None => false,
            },
        }
    }
}
