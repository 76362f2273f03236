//! Who someone is: identities, attributes in fragments, memberships. Pure.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub mod fragment;
pub mod identity;
pub mod membership;
pub mod path;
pub mod policy;
pub mod update;

use fragment::Fragment;
use identity::Identities;
use membership::Memberships;
use update::{ProfileUpdate, UpdateId};

/// Most identities a profile may have: a shared `info@` must not fuse a company.
pub const IDENTITIES_MAX: usize = 50;
/// Largest profile, as a stored snapshot. AEP takes profile records of up to 100 KB.
pub const SNAPSHOT_BYTES_MAX: usize = 128 * 1024;

/// A profile's key in the store: the id of the update that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProfileKey(Uuid);

impl ProfileKey {
    /// The key's 16 bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The key with these 16 bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }
}

impl From<UpdateId> for ProfileKey {
    fn from(update: UpdateId) -> Self {
        Self(update.as_uuid())
    }
}

/// What is known of someone.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// Its key.
    pub key: ProfileKey,
    /// Keys of profiles that were joined into this one. Their exports may still wait, and go first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub absorbed: Vec<ProfileKey>,
    /// All its identities.
    pub identities: Identities,
    /// Each dataset's share, by dataset and primary identity.
    pub fragments: Vec<Fragment>,
    /// The audiences it is or was in.
    #[serde(default, skip_serializing_if = "Memberships::is_empty")]
    pub memberships: Memberships,
}

/// What merging an update changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merged {
    /// Nothing but when it was written: the profile had it all.
    Nothing,
    /// Attributes.
    Attributes,
    /// Identities, and perhaps attributes.
    IdentitiesAdded,
}

/// Why an update is not taken. Nothing of it is kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The merged profile would pass [`SNAPSHOT_BYTES_MAX`].
    #[error(
        "the merged profile would have {bytes} bytes, at most {SNAPSHOT_BYTES_MAX} are kept; send less or remove attributes with null"
    )]
    ProfileTooLarge {
        /// What it would have.
        bytes: usize,
    },
    /// The profile would pass [`IDENTITIES_MAX`].
    #[error(
        "the profile would have {count} identities, at most {IDENTITIES_MAX} are joined; is one of them shared by many people?"
    )]
    TooManyIdentities {
        /// What it would have.
        count: usize,
    },
    /// A stored snapshot has a good checksum and cannot be read all the same: another version wrote it.
    #[error("the stored profile cannot be read; was it written by a later version?")]
    Unreadable,
}

impl Profile {
    /// A profile of which nothing is known yet.
    pub fn new(key: ProfileKey) -> Self {
        Self {
            key,
            absorbed: Vec::new(),
            identities: Identities::default(),
            fragments: Vec::new(),
            memberships: Memberships::default(),
        }
    }

    /// Reads a stored snapshot; `None` when it is none.
    pub fn read(snapshot: &[u8]) -> Option<Self> {
        serde_json::from_slice(snapshot).ok()
    }

    /// The profile that `parts` are together: the union of their fragments, identities and memberships under the
    /// smallest of their keys, whatever the order they come in. `None` of no parts.
    pub fn joined(mut parts: Vec<Self>) -> Option<Self> {
        parts.sort_by_key(|part| part.key);
        parts.into_iter().reduce(|mut whole, part| {
            let Self { key, absorbed, identities, fragments, memberships } = part;
            whole.absorbed.push(key);
            whole.absorbed.extend(absorbed);
            whole.absorbed.sort();
            whole.identities.extend(identities.iter());
            whole.fragments.extend(fragments);
            whole.fragments.sort_by_key(Fragment::place);
            whole.memberships.unite(memberships);
            whole
        })
    }

    /// Merges an update into its fragment and adds its identities; says what that changed.
    ///
    /// # Errors
    /// [`Refusal::TooManyIdentities`].
    pub fn merge(&mut self, update: &ProfileUpdate) -> Result<Merged, Refusal> {
        let before = self.identities.len();
        self.identities.extend(update.identities.iter());
        let count = self.identities.len();
        if count > IDENTITIES_MAX {
            return Err(Refusal::TooManyIdentities { count });
        }
        let place = fragment::place(&update.dataset, &update.primary);
        let (at, is_new) = match self.fragments.binary_search_by(|fragment| fragment.place().cmp(&place)) {
            Ok(at) => (at, false),
            Err(at) => {
                self.fragments.insert(at, Fragment::new(&update.dataset, &update.primary));
                (at, true)
            }
        };
        let written = self.fragments[at].merge(&update.attributes, update.received_at);
        Ok(match (count > before, written || is_new) {
            (true, _) => Merged::IdentitiesAdded,
            (false, true) => Merged::Attributes,
            (false, false) => Merged::Nothing,
        })
    }

    /// The profile and those it absorbed: an export of it waits behind all of theirs.
    pub fn lines(&self) -> Vec<ProfileKey> {
        std::iter::once(self.key).chain(self.absorbed.iter().copied()).collect()
    }
}

impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Profile({})", self.key.0)
    }
}
