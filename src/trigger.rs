//! Triggers: which changes of a profile make an export follow, and for which destination. Pure.
//!
//! An export follows when, for a profile that is in a mapped audience or leaves one by this very change, a mapped
//! audience's membership changed, an identity was added, or a mapped attribute was written, even with the same value.
//! "Written" is what an update names in a dataset that the destination's merge policy reads, whether or not another one wins over it.
//! One update makes at most one export for a destination, which carries all reasons.

use serde::{Deserialize, Serialize};

use crate::{
    audience::{AudienceId, RULE_NAMESPACE},
    destination::Mapping,
    export::ExportId,
    profile::{Profile, membership::Status, path::Attributes},
};

/// Why an export was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// The profile entered a mapped audience.
    Realized(AudienceId),
    /// The profile left a mapped audience.
    Exited(AudienceId),
    /// The profile has identities that it did not have before.
    IdentityAdded,
    /// A mapped attribute was written or removed.
    AttributeWritten(String),
    /// A person put it in the place of this export, which was a dead letter.
    Redrive(ExportId),
    /// The profile is in a mapped audience whose members are exported anew.
    Backfill(AudienceId),
}

/// What an update did to a profile.
pub struct Effect<'a> {
    /// The profile after it.
    pub profile: &'a Profile,
    /// Audiences entered and left.
    pub transitions: &'a [(AudienceId, Status)],
    /// Whether identities were added, by naming new ones or by joining profiles.
    pub identities_added: bool,
    /// What was written.
    pub patch: &'a Attributes,
    /// The dataset that it was written to.
    pub dataset: &'a str,
}

/// Returns why `effect` makes an export follow; empty when it does not.
pub fn reasons(mapping: &Mapping, effect: &Effect<'_>) -> Vec<Reason> {
    let mapped = |id: &&(AudienceId, Status)| mapping.audiences.contains(&id.0);
    let mut reasons: Vec<Reason> = effect
        .transitions
        .iter()
        .filter(mapped)
        .map(|(id, status)| match status {
            Status::Realized => Reason::Realized(id.clone()),
            Status::Exited => Reason::Exited(id.clone()),
        })
        .collect();
    let is_in = |id: &AudienceId| effect.profile.memberships.status(RULE_NAMESPACE, id) == Some(Status::Realized);
    if reasons.is_empty() && !mapping.audiences.iter().any(is_in) {
        return Vec::new();
    }
    if effect.identities_added {
        reasons.push(Reason::IdentityAdded);
    }
    let is_read = mapping.policy.merge.reads(effect.dataset);
    let written = mapping.attributes.iter().filter(|path| is_read && path.is_written_by(effect.patch));
    reasons.extend(written.map(|path| Reason::AttributeWritten(path.to_string())));
    reasons
}
