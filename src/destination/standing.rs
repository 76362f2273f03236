//! What is known of a destination across restarts.

use serde::{Deserialize, Serialize};

use crate::{clock::Timestamp, export::Fault, tls::Fingerprint};

/// What is known of a destination across restarts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Why it is held and since when, if it is.
    pub hold: Option<Hold>,
    /// The certificate of ours over which it last accepted an export.
    pub accepted_with: Option<Fingerprint>,
    /// Since when a person wishes that nothing is sent, if one does.
    #[serde(default)]
    pub paused: Option<Timestamp>,
}

/// A destination that waits for a reason other than a person's wish.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// What is wrong with it.
    pub fault: Fault,
    /// Since when.
    pub since: Timestamp,
}
