//! What an update does to the store: given what was found, `decide` returns a change.

use super::{Committed, Tally};
use crate::{
    clock::Timestamp,
    destination::DestinationId,
    export::NewExport,
    profile::{ProfileKey, identity::Identity},
};

/// What the identities of an update led to.
pub struct Found {
    /// The snapshots of profiles, by key.
    pub snapshots: Vec<Vec<u8>>,
    /// Profiles whose snapshot was damaged. Their exports may still wait, and go before those of the profile that takes
    /// their place.
    pub lost: Vec<ProfileKey>,
}

/// A new state of a profile, and its exports: one commit.
pub struct Change {
    /// How it is counted and answered.
    pub committed: Committed,
    /// The profile's key.
    pub key: ProfileKey,
    /// The snapshot to keep.
    pub snapshot: Vec<u8>,
    /// Profiles that are no more: they were joined into this one.
    pub absorbed: Vec<ProfileKey>,
    /// The identities that led to those. All that the update names lead here in any case.
    pub moved: Vec<Identity>,
    /// What it adds to the count of each audience's members, by the audience's name.
    pub members: Tally,
    /// What the exports wait behind.
    pub lines: Vec<ProfileKey>,
    /// When the update came in.
    pub accepted_at: Timestamp,
    /// What follows.
    pub exports: Vec<NewExport>,
    /// Destinations to which an export would have followed, were the profile one that they can tell from others.
    pub skipped: Vec<DestinationId>,
}
