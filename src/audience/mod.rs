//! Who belongs where: audiences, by rule. Pure.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{clock::Timestamp, profile::policy::MergePolicy};

mod call;
mod cursor;
mod evaluate;
mod expression;
pub mod order;
mod parse;
mod pattern;
pub mod rule;
mod scope;
mod token;
mod value;

pub use evaluate::Subject;
use rule::Rule;

/// The namespace under which rule audiences stand in `segmentMembership`.
pub const RULE_NAMESPACE: &str = "ups";

/// Longest audience id, in bytes. AEP's are UUIDs, its samples are not: any short text is taken.
const ID_BYTES_MAX: usize = 128;

/// An audience's id, as receivers see it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AudienceId(String);

/// Why a text is not an audience id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an audience id has 1 to {ID_BYTES_MAX} characters of letters, digits, `-`, `_`, `.` and `:`")]
pub struct NotAnAudienceId;

impl AudienceId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AudienceId {
    type Err = NotAnAudienceId;

    fn from_str(text: &str) -> Result<Self, NotAnAudienceId> {
        let good = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
        match !text.is_empty() && text.len() <= ID_BYTES_MAX && text.chars().all(good) {
            true => Ok(Self(text.to_owned())),
            false => Err(NotAnAudienceId),
        }
    }
}

impl fmt::Display for AudienceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A named set of profiles, by rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Audience {
    /// The id on the wire.
    pub id: AudienceId,
    /// What people call it.
    pub name: String,
    /// When it was first defined, as far as that is said.
    pub created_at: Option<Timestamp>,
    /// When its definition last changed, as far as that is said.
    pub updated_at: Option<Timestamp>,
    /// By which view of a profile that is judged.
    pub policy: Arc<MergePolicy>,
    /// Who is in it.
    pub rule: Rule,
}
