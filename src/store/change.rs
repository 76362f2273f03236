//! What an update does to the store, as `decide` returns it.

use crate::{
    clock::Timestamp,
    export::NewExport,
    profile::{ProfileKey, identity::Identity},
};

/// What an update does.
#[derive(Debug)]
pub enum Change {
    /// Nothing: the profile says the same as before, and no export follows.
    Unchanged,
    /// A new state of a profile, and its exports.
    Applied(Box<Applied>),
}

/// A new state of a profile, and its exports: one commit.
#[derive(Debug)]
pub struct Applied {
    /// The profile's key.
    pub key: ProfileKey,
    /// The snapshot to keep.
    pub snapshot: Vec<u8>,
    /// Profiles that are no more: they were joined into this one.
    pub absorbed: Vec<ProfileKey>,
    /// The identities that led to those. All that the update names lead here in any case.
    pub moved: Vec<Identity>,
    /// What the exports wait behind.
    pub lines: Vec<ProfileKey>,
    /// When the update came in.
    pub accepted_at: Timestamp,
    /// What follows.
    pub exports: Vec<NewExport>,
}
