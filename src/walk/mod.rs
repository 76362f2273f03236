//! A walk: going over all stored profiles, once, because a rule, a mapping or a person asks for it. Pure.
//!
//! Each visited profile is decided as by an update that writes nothing: every rule is evaluated, and a backfill exports
//! those who are in its audiences besides. Profiles are visited in the order of their keys, up to the last one that there
//! was when the walk began; younger ones were decided by the present plan already. What is here is kept by the store, in the
//! same commits as what the walk changes, so one that is cut off goes on where it was.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub mod known;
pub mod room;

use crate::{
    audience::AudienceId,
    clock::Timestamp,
    destination::DestinationId,
    profile::{ProfileKey, update::UpdateId},
};

/// Walks that have ended and are kept to be looked at.
pub const ENDED_MAX: usize = 50;

/// A walk's id, a UUIDv7.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WalkId(Uuid);

/// Why a text is not the id of a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the id of a backfill is a UUID")]
pub struct NotAWalkId;

/// What a walk is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Errand {
    /// Every rule is evaluated; who enters or leaves a mapped audience by that is exported.
    Evaluate,
    /// The present members of some audiences are exported to one destination. Rules are evaluated on the way.
    Backfill {
        /// To whom.
        destination: DestinationId,
        /// Whose members.
        audiences: Vec<AudienceId>,
    },
}

/// Why there is a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The store was written by a version that kept no record of what was evaluated.
    OlderStore,
    /// Rules are new, or changed.
    Rules,
    /// Audiences were mapped.
    Mapping,
    /// A person's wish.
    Person,
}

/// Where a walk stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Walk {
    /// Its id.
    pub id: WalkId,
    /// What it is for.
    pub errand: Errand,
    /// Why it is there.
    pub cause: Cause,
    /// Since when it is owed.
    pub created_at: Timestamp,
    /// What it goes over; none before its first step.
    pub began: Option<Began>,
    /// The profile that was visited last.
    pub cursor: Option<ProfileKey>,
    /// Profiles that were visited.
    pub visited: u64,
    /// Exports that followed.
    pub made: u64,
    /// How it ended, if it has.
    pub end: Option<End>,
}

/// What a walk goes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Began {
    /// When it began.
    pub at: Timestamp,
    /// The last profile to be visited; none when there was none at all.
    pub until: Option<ProfileKey>,
    /// How many profiles there were.
    pub total: u64,
}

/// How a walk ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// When.
    pub at: Timestamp,
    /// Why it was cancelled; none when it came to its end.
    pub cancelled: Option<String>,
}

impl WalkId {
    /// The id's 16 bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl Walk {
    /// A walk that has not begun.
    pub fn new(errand: Errand, cause: Cause, now: Timestamp) -> Self {
        let id = WalkId(UpdateId::new(now).as_uuid());
        let (began, cursor, visited, made, end) = Default::default();
        Self { id, errand, cause, created_at: now, began, cursor, visited, made, end }
    }

    /// The order in which walks are made: by age, and of one age evaluation first, so that backfills find members.
    pub fn turn(&self) -> (Timestamp, bool, WalkId) {
        (self.created_at, self.errand != Errand::Evaluate, self.id)
    }

    /// Whether it has not ended.
    pub fn is_owed(&self) -> bool {
        self.end.is_none()
    }

    /// What it leaves to be done where its destination, `old`, is called otherwise now: it ends with that name, and what follows
    /// goes on where it was, for the receiver is the same.
    pub fn renamed(&self, old: &DestinationId, new: &DestinationId, now: Timestamp) -> Option<Self> {
        match &self.errand {
            Errand::Backfill { destination, audiences } if self.is_owed() && destination == old => {
                let errand = Errand::Backfill { destination: new.clone(), audiences: audiences.clone() };
                let Self { began, cursor, visited, made, .. } = *self;
                Some(Self { began, cursor, visited, made, ..Self::new(errand, self.cause, now) })
            }
            Errand::Backfill { .. } | Errand::Evaluate => None,
        }
    }

    /// Whether it exports members of one of these audiences to a destination.
    pub fn exports(&self, to: &DestinationId, of: &[AudienceId]) -> bool {
        match &self.errand {
            Errand::Evaluate => false,
            Errand::Backfill { destination, audiences } => {
                destination == to && audiences.iter().any(|id| of.contains(id))
            }
        }
    }
}

impl Errand {
    /// The destination of a backfill.
    pub fn destination(&self) -> Option<&DestinationId> {
        match self {
            Self::Evaluate => None,
            Self::Backfill { destination, audiences: _ } => Some(destination),
        }
    }

    /// The audiences of a backfill to this destination.
    pub fn audiences_for(&self, to: &DestinationId) -> &[AudienceId] {
        match self {
            Self::Backfill { destination, audiences } if destination == to => audiences,
            Self::Backfill { .. } | Self::Evaluate => &[],
        }
    }

    /// The word for it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Evaluate => "evaluation",
            Self::Backfill { .. } => "backfill",
        }
    }
}

impl fmt::Display for WalkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for WalkId {
    type Err = NotAWalkId;

    fn from_str(text: &str) -> Result<Self, NotAWalkId> {
        text.parse().map(Self).map_err(|_| NotAWalkId)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OlderStore => "older_store",
            Self::Rules => "rules",
            Self::Mapping => "mapping",
            Self::Person => "person",
        })
    }
}
