//! A stored profile looked at again: what rules and mappings make of it now, without an update.

use std::collections::BTreeMap;

use super::{Pipeline, Plan, evaluate, exports};
use crate::{
    audience::RULE_NAMESPACE,
    clock::Timestamp,
    destination::{DestinationId, Mapping},
    profile::{Profile, SNAPSHOT_BYTES_MAX, membership::Status, path::Attributes, update::UpdateId},
    store::{Change, Committed, Step, StoreError, Tally},
    trigger::{Effect, Reason},
    walk::{Errand, WalkId},
};

/// Profiles that are read at a time where nothing is written.
const PAGE: usize = 256;

/// Whom a backfill would export.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Profiles that there are.
    pub profiles: u64,
    /// Those of whom an export would be made.
    pub exports: u64,
    /// Members that lack the destination's `unique_id`.
    pub skipped: u64,
}

impl Pipeline {
    /// Takes a walk on by so many profiles, or until a destination has got as many exports as it has `room` for. Returns
    /// where it stands when that is on disk; `None` when there is no such walk.
    ///
    /// # Errors
    /// [`StoreError::Failed`] and [`StoreError::Full`].
    pub async fn walk_on(
        &self,
        id: WalkId,
        most: usize,
        room: BTreeMap<DestinationId, usize>,
        now: Timestamp,
    ) -> Result<Option<Step>, StoreError> {
        let plan = self.plan.clone();
        let review = move |errand: &Errand, snapshot: &[u8]| {
            let plan = plan.borrow().clone();
            review(&plan, Profile::read(snapshot)?, errand, now)
        };
        self.store.walk_on(id, most, room, now, review).await
    }

    /// Counts whom a backfill would export if it began now; nothing is changed. It reads every profile, and blocks: not for
    /// the runtime's threads.
    ///
    /// # Errors
    /// [`StoreError::Failed`] when the disk cannot be read.
    pub fn count(&self, to: &DestinationId, errand: &Errand, now: Timestamp) -> Result<Count, StoreError> {
        let (mut count, mut cursor) = (Count::default(), None);
        loop {
            let page = self.store.snapshots(cursor, PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(count) };
            cursor = Some(*last);
            let plan = self.plan.borrow().clone();
            for (_, snapshot) in page {
                count.profiles += 1;
                let profile = snapshot.as_deref().and_then(Profile::read);
                let Some(change) = profile.and_then(|profile| review(&plan, profile, errand, now)) else { continue };
                count.exports += u64::from(change.exports.iter().any(|export| export.destination == *to));
                count.skipped += u64::from(change.skipped.contains(to));
            }
        }
    }
}

/// Decides what is made of a stored profile that a walk comes by; `None` when it stays as it is and nothing follows.
///
/// One that would grow too large by it stays as it is: an update of it would be refused too.
pub fn review(plan: &Plan, mut profile: Profile, errand: &Errand, now: Timestamp) -> Option<Change> {
    let before = profile.memberships.clone();
    let transitions = evaluate(plan, &mut profile, now);
    let nothing_written = Attributes::new();
    let (exports, skipped) = {
        let effect = Effect {
            profile: &profile,
            transitions: &transitions,
            identities_added: false,
            patch: &nothing_written,
            dataset: "",
        };
        let backfilled = |mapping: &Mapping| {
            let is_in = |id| profile.memberships.status(RULE_NAMESPACE, id) == Some(Status::Realized);
            let audiences = errand.audiences_for(&mapping.destination).iter();
            audiences.filter(|id| mapping.audiences.contains(id) && is_in(id)).cloned().map(Reason::Backfill).collect()
        };
        exports(plan, &effect, (UpdateId::new(now), now), backfilled)
    };
    if profile.memberships == before && exports.is_empty() && skipped.is_empty() {
        return None;
    }
    let mut members = Tally::new();
    before.realized().for_each(|name| *members.entry(name).or_default() -= 1);
    profile.memberships.realized().for_each(|name| *members.entry(name).or_default() += 1);
    let snapshot = serde_json::to_vec(&profile).expect("a profile has text keys only");
    (snapshot.len() <= SNAPSHOT_BYTES_MAX).then(|| Change {
        committed: Committed::Applied,
        key: profile.key,
        snapshot,
        absorbed: Vec::new(),
        moved: Vec::new(),
        members,
        lines: profile.lines(),
        accepted_at: now,
        exports,
        skipped,
    })
}
