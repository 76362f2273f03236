//! Membership: a profile's standing in an audience, since when.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{audience::AudienceId, clock::Timestamp};

/// How long an exited membership is kept, as AEP does.
const EXITED_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// Whether a profile is in an audience or has left it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It is in.
    Realized,
    /// It was in.
    Exited,
}

impl Status {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Realized => "realized",
            Self::Exited => "exited",
        }
    }
}

/// A status and the instant from which it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// In or out.
    pub status: Status,
    /// Since when; `lastQualificationTime` on the wire.
    pub since: Timestamp,
}

/// A profile's memberships, by namespace and audience.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Memberships(BTreeMap<String, BTreeMap<AudienceId, Membership>>);

impl Memberships {
    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The standing in one audience, if it ever had one.
    pub fn status(&self, namespace: &str, audience: &AudienceId) -> Option<Status> {
        Some(self.0.get(namespace)?.get(audience)?.status)
    }

    /// Sets a status; true when that is a change. Leaving an audience that one never was in is none.
    pub fn set(&mut self, namespace: &str, audience: &AudienceId, status: Status, now: Timestamp) -> bool {
        let before = self.status(namespace, audience);
        if before == Some(status) || (before.is_none() && status == Status::Exited) {
            return false;
        }
        let entry = self.0.entry(namespace.to_owned()).or_default();
        entry.insert(audience.clone(), Membership { status, since: now });
        true
    }

    /// Takes in the memberships of a profile that is joined: being in counts before having left, then the longer
    /// membership and the later exit.
    pub fn unite(&mut self, other: Self) {
        for (namespace, audiences) in other.0 {
            let mine = self.0.entry(namespace).or_default();
            for (audience, theirs) in audiences {
                let held = mine.entry(audience).or_insert(theirs);
                *held = match (held.status, theirs.status) {
                    (Status::Realized, Status::Realized) if theirs.since < held.since => theirs,
                    (Status::Exited, Status::Exited) if theirs.since > held.since => theirs,
                    (Status::Exited, Status::Realized) => theirs,
                    _ => *held,
                };
            }
        }
    }

    /// Drops memberships that were left more than 30 days ago.
    pub fn forget_old(&mut self, now: Timestamp) {
        let kept = |held: &Membership| held.status == Status::Realized || now.since(held.since) <= EXITED_KEPT;
        self.0.values_mut().for_each(|audiences| audiences.retain(|_, held| kept(held)));
        self.0.retain(|_, audiences| !audiences.is_empty());
    }

    /// Drops the memberships of a namespace whose audience `exists` does not know any more.
    pub fn keep_existing(&mut self, namespace: &str, exists: impl Fn(&AudienceId) -> bool) {
        if let Some(audiences) = self.0.get_mut(namespace) {
            audiences.retain(|audience, _| exists(audience));
        }
    }

    /// The audiences it is in, each as `namespace:audience`.
    pub fn realized(&self) -> impl Iterator<Item = String> {
        let is_in = |(_, held): &(&AudienceId, &Membership)| held.status == Status::Realized;
        self.namespaces().flat_map(move |(namespace, audiences)| {
            audiences.iter().filter(is_in).map(move |(audience, _)| format!("{namespace}:{audience}"))
        })
    }

    /// All of them, by namespace.
    pub fn namespaces(&self) -> impl Iterator<Item = (&str, &BTreeMap<AudienceId, Membership>)> {
        self.0.iter().map(|(namespace, audiences)| (namespace.as_str(), audiences))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    #[test]
    fn exited_memberships_are_kept_thirty_days() {
        let (left, stayed) = ("left".parse().unwrap(), "stayed".parse().unwrap());
        let start = Timestamp::from_millis(0);
        let mut all = Memberships::default();
        assert!(!all.set("ups", &left, Status::Exited, start), "it never was in");
        assert!(all.set("ups", &left, Status::Realized, start));
        assert!(all.set("ups", &stayed, Status::Realized, start));
        assert!(all.set("ups", &left, Status::Exited, start + DAY));

        all.forget_old(start + DAY * 31);
        assert_eq!(all.status("ups", &left), Some(Status::Exited));

        all.forget_old(start + DAY * 32);
        assert_eq!(all.status("ups", &left), None);
        assert_eq!(all.status("ups", &stayed), Some(Status::Realized));
    }
}
