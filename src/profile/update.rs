//! A profile update: what an inlet makes of a message, whatever its wire format was.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::{NoContext, Uuid};

use super::{
    identity::{Identities, Identity},
    path::Attributes,
};
use crate::clock::Timestamp;

/// An update's id, a UUIDv7: the sender gets it as `xactionId`, a new profile has it as its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UpdateId(Uuid);

impl UpdateId {
    /// A new id for an update received at `now`.
    pub fn new(now: Timestamp) -> Self {
        let millis = now.as_millis().max(0).unsigned_abs();
        let nanos = u32::try_from(millis % 1000 * 1_000_000).expect("below a second");
        Self(Uuid::new_v7(uuid::Timestamp::from_unix(NoContext, millis / 1000, nanos)))
    }

    /// The id as a UUID.
    pub fn as_uuid(self) -> Uuid {
        self.0
    }
}

impl fmt::Display for UpdateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What is to be merged into a profile. `Debug` shows neither attributes nor values.
#[derive(Clone)]
pub struct ProfileUpdate {
    /// Its id.
    pub id: UpdateId,
    /// When it came in.
    pub received_at: Timestamp,
    /// The dataset that it writes to.
    pub dataset: String,
    /// The identity that names the fragment; one of `identities`.
    pub primary: Identity,
    /// All identities it names; never empty.
    pub identities: Identities,
    /// The attributes it writes; `null` removes.
    pub attributes: Attributes,
}

impl fmt::Debug for ProfileUpdate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProfileUpdate({})", self.id)
    }
}
