//! One update through: snapshots, merge, memberships, exports. Pure: what it decides, the store commits as one.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use serde_json::Value;
use tokio::sync::watch;
use tracing::warn;

use crate::{
    audience::{Audience, AudienceId, RULE_NAMESPACE, Subject, order::in_order},
    clock::Timestamp,
    destination::{DestinationId, Mapping, payload},
    export::{ExportId, NewExport},
    profile::{
        IDENTITIES_MAX, Merged, Profile, ProfileKey, Refusal, SNAPSHOT_BYTES_MAX,
        membership::Status,
        policy::{Merge, Views},
        update::{ProfileUpdate, UpdateId},
    },
    store::{Change, Committed, Found, Letter, NotRedriven, Redrive, Redriven, Remade, Store, StoreError, Tally},
    trigger::{self, Effect, Reason},
};

/// What decides: the audiences, and what each destination is sent.
#[derive(Debug, Default)]
pub struct Plan {
    /// By id.
    audiences: Vec<Audience>,
    /// Where they stand, in the order in which they are evaluated.
    order: Vec<usize>,
    reads_identities: bool,
    mappings: Vec<Mapping>,
    /// All that views of a profile are made by, each once.
    merges: Vec<Merge>,
    /// Whether it was said of each audience that its rule takes too much.
    said: Vec<AtomicBool>,
}

impl Plan {
    /// A plan of all rule audiences and all destinations' mappings.
    pub fn new(mut audiences: Vec<Audience>, mappings: Vec<Mapping>) -> Self {
        audiences.sort_by(|a, b| a.id.cmp(&b.id));
        // The configuration refuses those that have no order; here they would be evaluated as they stand.
        let order = in_order(&audiences).unwrap_or_else(|_| (0..audiences.len()).collect());
        let reads_identities = audiences.iter().any(|audience| audience.rule.reads_identities());
        let policies = audiences.iter().map(|one| &one.policy).chain(mappings.iter().map(|one| &one.policy));
        let mut merges = Vec::new();
        for policy in policies {
            if !merges.contains(&policy.merge) {
                merges.push(policy.merge.clone());
            }
        }
        let said = audiences.iter().map(|_| AtomicBool::default()).collect();
        Self { audiences, order, reads_identities, mappings, merges, said }
    }

    /// What rules read of a profile's identities, if one does.
    fn identities_of(&self, profile: &Profile) -> Value {
        if self.reads_identities { payload::identity_map_of(profile) } else { Value::Null }
    }

    /// Each view of a profile that anything asks for.
    fn views<'a>(&'a self, profile: &'a Profile) -> Views<'a> {
        Views::of(profile, &self.merges)
    }

    fn audience(&self, id: &AudienceId) -> Option<&Audience> {
        self.audiences.binary_search_by(|audience| audience.id.cmp(id)).ok().map(|at| &self.audiences[at])
    }
}

/// Takes updates through: decided on the store's thread, committed by it.
#[derive(Clone)]
pub struct Pipeline {
    /// A reload replaces it.
    plan: watch::Receiver<Arc<Plan>>,
    store: Store,
}

impl Pipeline {
    /// A way through for updates, by the plan that there is when each is decided.
    pub fn new(plan: watch::Receiver<Arc<Plan>>, store: Store) -> Self {
        Self { plan, store }
    }

    /// Returns when the update and its exports are on disk. `held` is let go of when the update's memory is: the sender may
    /// have gone by then.
    ///
    /// # Errors
    /// As [`Store::update`].
    pub async fn take(&self, update: ProfileUpdate, held: impl Send + 'static) -> Result<Committed, StoreError> {
        let count = update.identities.len();
        if count > IDENTITIES_MAX {
            // Before any of the profiles they lead to is read.
            return Err(Refusal::TooManyIdentities { count }.into());
        }
        let plan = self.plan.clone();
        let identities = update.identities.iter().collect();
        let decide = move |Found { snapshots, lost }: Found| {
            let (_held, update) = (held, update);
            let plan = plan.borrow().clone();
            let before = snapshots.iter().map(|bytes| serde_json::from_slice(bytes)).collect::<Result<_, _>>();
            decide(&plan, before.map_err(|_| Refusal::Unreadable)?, lost, &update)
        };
        self.store.update(identities, decide).await
    }

    /// Puts a new export in the place of a dead letter, at `now`: of the profile's present state, or as it was. Returns when
    /// that is on disk.
    ///
    /// # Errors
    /// [`NotRedriven`].
    pub async fn redrive(
        &self,
        destination: &DestinationId,
        number: u64,
        how: Redrive,
        now: Timestamp,
    ) -> Result<Redriven, NotRedriven> {
        let letter = self.store.letter(destination, number).await?;
        let letter = letter.ok_or_else(|| NotRedriven::Missing { destination: destination.clone(), number })?;
        let identities = payload::identities(&letter.body).ok_or(NotRedriven::Unreadable)?;
        let (plan, to) = (self.plan.clone(), destination.clone());
        let remake = move |letter: &Letter, found: Found| remake(&plan.borrow().clone(), &to, how, letter, &found, now);
        self.store.redrive(destination, number, how, identities, remake).await
    }
}

/// Decides what takes the place of a dead letter, whose identities lead to what was `found`.
///
/// The profile is the one whose lines the letter stands in; where it was lost, the one that has taken its identities.
/// Its memberships are those it was last given: what rules say by now comes with the next update.
///
/// # Errors
/// [`NotRedriven::NotConfigured`], [`NotRedriven::Unidentified`] and [`NotRedriven::Unreadable`].
pub fn remake(
    plan: &Plan,
    destination: &DestinationId,
    how: Redrive,
    Letter { letter, reasons, body }: &Letter,
    found: &Found,
    now: Timestamp,
) -> Result<Remade, NotRedriven> {
    let profiles: Option<Vec<Profile>> = found.snapshots.iter().map(|snapshot| Profile::read(snapshot)).collect();
    let mut profiles = profiles.ok_or(NotRedriven::Unreadable)?;
    let is_of_letter = |profile: &Profile| profile.lines().iter().any(|line| letter.export.lines.contains(line));
    profiles.sort_by_key(|profile| (!is_of_letter(profile), profile.key));
    let profile = profiles.first();
    let mapping = plan.mappings.iter().find(|mapping| mapping.destination == *destination);
    let mapping = mapping.ok_or_else(|| NotRedriven::NotConfigured(destination.clone()))?;
    let body = match (how, profile) {
        (Redrive::AsWas, _) => body.to_vec(),
        // Its snapshot was damaged: what is here may be the last that is known of it.
        (Redrive::Present, None) if !found.lost.is_empty() => return Err(NotRedriven::Unreadable),
        (Redrive::Present, None) => return Ok(Remade::Moot),
        (Redrive::Present, Some(profile)) => {
            let status = |id: &AudienceId| profile.memberships.status(RULE_NAMESPACE, id);
            let is_in = mapping.audiences.iter().any(|id| status(id) == Some(Status::Realized));
            // Of one who left, the receiver is to learn just that.
            let left = reasons.iter().any(|reason| matches!(reason, Reason::Exited(_)));
            if !is_in && !left {
                return Ok(Remade::Moot);
            }
            let view = profile.view(&mapping.policy.merge);
            if !mapping.identifies(profile, &view) {
                return Err(NotRedriven::Unidentified(destination.clone()));
            }
            payload::body(mapping, profile, &view, |id| plan.audience(id))
        }
    };
    let mut lines = profile.map(Profile::lines).unwrap_or_default();
    let of_letter = letter.export.lines.iter().filter(|line| !lines.contains(line)).copied().collect::<Vec<_>>();
    lines.extend(of_letter);
    let of = letter.export.id;
    let reasons = reasons.iter().filter(|reason| !matches!(reason, Reason::Redrive(_))).cloned();
    let export = NewExport {
        destination: destination.clone(),
        id: ExportId::of(UpdateId::new(now), now, destination),
        body,
        reasons: reasons.chain([Reason::Redrive(of)]).collect(),
        coalesce: mapping.coalesce,
    };
    Ok(Remade::Export { export, lines, accepted_at: now })
}

/// Decides what `update` does to the profiles that its identities lead to: those in `before`, and those that are `lost`.
///
/// # Errors
/// [`Refusal`]: nothing of the update is kept.
pub fn decide(
    plan: &Plan,
    before: Vec<Profile>,
    lost: Vec<ProfileKey>,
    update: &ProfileUpdate,
) -> Result<Change, Refusal> {
    let now = update.received_at;
    let found: Vec<ProfileKey> = before.iter().map(|part| part.key).collect();
    let stays = found.iter().min().copied();
    let moved = before.iter().filter(|part| Some(part.key) != stays).flat_map(|part| part.identities.iter()).collect();
    let mut members = Tally::new();
    before.iter().flat_map(|part| part.memberships.realized()).for_each(|name| *members.entry(name).or_default() -= 1);
    let mut profile = Profile::joined(before).unwrap_or_else(|| Profile::new(update.id.into()));
    profile.absorbed.extend(lost);
    let merged = profile.merge(update)?;

    let transitions = evaluate(plan, &mut profile, now);
    let identities_added = found.len() != 1 || merged == Merged::IdentitiesAdded;
    let (exports, skipped) = {
        let (patch, dataset) = (&update.attributes, update.dataset.as_str());
        let effect = Effect { profile: &profile, transitions: &transitions, identities_added, patch, dataset };
        exports(plan, &effect, (update.id, now), |_| Vec::new())
    };
    let quiet = exports.is_empty() && transitions.is_empty() && !identities_added && merged == Merged::Nothing;
    profile.memberships.realized().for_each(|name| *members.entry(name).or_default() += 1);
    let snapshot = serde_json::to_vec(&profile).expect("a profile has text keys only");
    if snapshot.len() > SNAPSHOT_BYTES_MAX {
        return Err(Refusal::ProfileTooLarge { bytes: snapshot.len() });
    }
    Ok(Change {
        committed: if quiet { Committed::Unchanged } else { Committed::Applied },
        key: profile.key,
        snapshot,
        absorbed: found.into_iter().filter(|key| *key != profile.key).collect(),
        moved,
        members,
        lines: profile.lines(),
        accepted_at: now,
        exports,
        skipped,
    })
}

/// Evaluates every rule over the profile and returns the memberships that changed.
fn evaluate(plan: &Plan, profile: &mut Profile, now: Timestamp) -> Vec<(AudienceId, Status)> {
    profile.memberships.forget_old(now);
    profile.memberships.keep_existing(RULE_NAMESPACE, |id| plan.audience(id).is_some());
    let mut memberships = std::mem::take(&mut profile.memberships);
    let mut transitions = Vec::new();
    let (views, identities) = (plan.views(profile), plan.identities_of(profile));
    for (audience, said) in plan.order.iter().map(|place| (&plan.audiences[*place], &plan.said[*place])) {
        let is_in = |id: &AudienceId| memberships.status(RULE_NAMESPACE, id) == Some(Status::Realized);
        let view = views.by(&audience.policy.merge);
        let status = match audience.rule.matches(&Subject::new(view, &identities, &is_in)) {
            Some(true) => Status::Realized,
            Some(false) => Status::Exited,
            None => {
                if !said.swap(true, Ordering::Relaxed) {
                    warn!(audience = %audience.id, "a rule takes too much to evaluate; memberships stay as they were (said once)");
                }
                continue;
            }
        };
        if memberships.set(RULE_NAMESPACE, &audience.id, status, now) {
            transitions.push((audience.id.clone(), status));
        }
    }
    drop(views);
    profile.memberships = memberships;
    transitions.sort();
    transitions
}

/// The exports that follow, for the reasons of the effect and those that are `given`, and the destinations that get none
/// because the profile lacks what they tell profiles apart by. `by` says what makes them, and when that came in.
fn exports(
    plan: &Plan,
    effect: &Effect<'_>,
    by: (UpdateId, Timestamp),
    given: impl Fn(&Mapping) -> Vec<Reason>,
) -> (Vec<NewExport>, Vec<DestinationId>) {
    let views = plan.views(effect.profile);
    let (mut exports, mut skipped) = (Vec::new(), Vec::new());
    for mapping in &plan.mappings {
        let (mut reasons, destination) = (trigger::reasons(mapping, effect), mapping.destination.clone());
        reasons.extend(given(mapping));
        if reasons.is_empty() {
            continue;
        }
        let view = views.by(&mapping.policy.merge);
        if !mapping.identifies(effect.profile, view) {
            skipped.push(destination);
            continue;
        }
        exports.push(NewExport {
            id: ExportId::of(by.0, by.1, &destination),
            destination,
            body: payload::body(mapping, effect.profile, view, |id| plan.audience(id)),
            reasons,
            coalesce: mapping.coalesce,
        });
    }
    (exports, skipped)
}

mod review;

pub use review::{Count, review};

#[cfg(test)]
mod policy_tests;
#[cfg(test)]
mod redrive_tests;
#[cfg(test)]
mod review_tests;
#[cfg(test)]
mod tests;
