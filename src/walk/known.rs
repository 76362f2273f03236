//! What is known of rules and mappings: which were evaluated, and since when audiences are mapped. Compared with what is
//! configured, it says which walks are owed. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Cause, Errand, Walk};
use crate::{
    audience::{Audience, AudienceId},
    clock::Timestamp,
    destination::{DestinationId, MappedAt, Mapping, Shown},
    profile::policy::Merge,
};

/// What a text was, without the text: two that are alike had the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest(Uuid);

/// What is known of rules and mappings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Each audience's rule, as it was last evaluated over all profiles, or is owed to be.
    pub rules: BTreeMap<AudienceId, Digest>,
    /// Each destination's mappings.
    pub mappings: BTreeMap<DestinationId, KnownMapping>,
}

/// What is known of a destination's mappings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownMapping {
    /// What exports show: attributes and memberships.
    pub shape: Digest,
    /// Since when each audience is mapped.
    pub audiences: BTreeMap<AudienceId, MappedAt>,
}

/// What follows from a comparison.
#[derive(Clone, Debug, Default)]
pub struct Learned {
    /// What is known from now on.
    pub known: Known,
    /// The walks that are owed.
    pub walks: Vec<Walk>,
}

impl Known {
    /// Compares what was known `before` with what is configured. Of a store that never kept it, all that is configured
    /// counts as known, and is evaluated once. `has_members` says of an audience whether profiles are stored as its members:
    /// those of one that was gone meanwhile do not enter it.
    pub fn learn(
        before: Option<Self>,
        audiences: &[Audience],
        mappings: &[Mapping],
        has_members: impl Fn(&AudienceId) -> bool,
        now: Timestamp,
    ) -> Learned {
        let rules: BTreeMap<_, _> = audiences.iter().map(|audience| (audience.id.clone(), rule_of(audience))).collect();
        let Some(before) = before else {
            let mapping = |mapping: &Mapping| (mapping.destination.clone(), KnownMapping::new(None, mapping, now));
            let known = Self { rules, mappings: mappings.iter().map(mapping).collect() };
            return Learned { known, walks: vec![Walk::new(Errand::Evaluate, Cause::OlderStore, now)] };
        };
        let mut walks = Vec::new();
        if rules.iter().any(|(id, rule)| before.rules.get(id) != Some(rule)) {
            walks.push(Walk::new(Errand::Evaluate, Cause::Rules, now));
        }
        let mut learned = BTreeMap::new();
        for mapping in mappings {
            let known = before.mappings.get(&mapping.destination);
            // Members of an audience that is new altogether enter it when it is evaluated, and are exported for that.
            let is_owed = |id: &&AudienceId| {
                let is_mapped = known.is_some_and(|known| known.audiences.contains_key(id));
                !is_mapped && (before.rules.contains_key(id) || has_members(id))
            };
            let audiences: Vec<AudienceId> = mapping.audiences.iter().filter(is_owed).cloned().collect();
            if !audiences.is_empty() {
                let errand = Errand::Backfill { destination: mapping.destination.clone(), audiences };
                walks.push(Walk::new(errand, Cause::Mapping, now));
            }
            learned.insert(mapping.destination.clone(), KnownMapping::new(known, mapping, now));
        }
        Learned { known: Self { rules, mappings: learned }, walks }
    }

    /// Takes what was known of a destination's mappings for that of its new name; false when there was nothing to take, or the new
    /// name has mappings of its own.
    pub fn rename(&mut self, old: &DestinationId, new: &DestinationId) -> bool {
        if self.mappings.contains_key(new) {
            return false;
        }
        let known = self.mappings.remove(old);
        known.map(|known| self.mappings.insert(new.clone(), known)).is_some()
    }

    /// Tells each mapping since when its audiences are mapped.
    pub fn date(&self, mappings: &mut [Mapping]) {
        for mapping in mappings {
            mapping.mapped_at =
                self.mappings.get(&mapping.destination).map(|known| known.audiences.clone()).unwrap_or_default();
        }
    }
}

impl KnownMapping {
    fn new(before: Option<&Self>, mapping: &Mapping, now: Timestamp) -> Self {
        let shape = shape_of(mapping);
        let mapped_at =
            |id: &AudienceId| match before.and_then(|before| Some((before.shape, before.audiences.get(id)?))) {
                None => MappedAt { created: now, updated: now },
                Some((old, at)) if old == shape => *at,
                Some((_, at)) => MappedAt { created: at.created, updated: now },
            };
        Self { shape, audiences: mapping.audiences.iter().map(|id| (id.clone(), mapped_at(id))).collect() }
    }
}

impl Digest {
    fn of(parts: impl Iterator<Item = String>) -> Self {
        // A line for each: a rule is the only part, and a path has no control characters.
        Self(Uuid::new_v5(&Uuid::NAMESPACE_OID, parts.collect::<Vec<_>>().join("\n").as_bytes()))
    }
}

/// All that decides who is in an audience.
fn rule_of(Audience { id: _, name: _, created_at: _, updated_at: _, rule, policy }: &Audience) -> Digest {
    Digest::of([rule.to_string(), text_of(&policy.merge)].into_iter())
}

/// All that decides what exports show of a member, but for what is shown of audiences alone.
fn shape_of(mapping: &Mapping) -> Digest {
    let Mapping {
        attributes,
        memberships,
        policy,
        destination: _,
        audiences: _,
        segment_names: _,
        segment_timestamps: _,
        unique_id: _,
        coalesce: _,
        mapped_at: _,
    } = mapping;
    let shown = match memberships {
        Shown::MergePolicy => "merge-policy",
        Shown::Mapped => "mapped",
        Shown::All => "all",
    };
    let how = [shown.to_owned(), text_of(&policy.merge)];
    Digest::of(how.into_iter().chain(attributes.iter().map(ToString::to_string)))
}

fn text_of(merge: &Merge) -> String {
    match merge {
        Merge::TimestampOrdered => "timestampOrdered".to_owned(),
        Merge::DataSetPrecedence(datasets) => format!("dataSetPrecedence {datasets:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{audience::rule::Rule, profile::policy::MergePolicy};

    fn audience(id: &str, rule: &str) -> Audience {
        let rule = Rule::parse(rule).unwrap();
        let policy = Default::default();
        Audience { id: id.parse().unwrap(), name: id.to_owned(), created_at: None, updated_at: None, policy, rule }
    }

    fn mapping(name: &str, audiences: &[&str], attributes: &[&str]) -> Mapping {
        let audiences = audiences.iter().map(|id| id.parse().unwrap()).collect();
        Mapping::new(name.parse().unwrap(), audiences, attributes.iter().map(|path| path.parse().unwrap()).collect())
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_millis(second * 1000)
    }

    fn learn(before: Option<Known>, audiences: &[Audience], mappings: &[Mapping], second: i64) -> Learned {
        Known::learn(before, audiences, mappings, |_| false, at(second))
    }

    /// Each walk as text: `evaluation (rules)`, `crm: gold old (mapping)`.
    fn owed(learned: &Learned) -> Vec<String> {
        let text = |walk: &Walk| match &walk.errand {
            Errand::Evaluate => format!("evaluation ({})", walk.cause),
            Errand::Backfill { destination, audiences } => {
                let audiences: Vec<&str> = audiences.iter().map(AudienceId::as_str).collect();
                format!("{destination}: {} ({})", audiences.join(" "), walk.cause)
            }
        };
        learned.walks.iter().map(text).collect()
    }

    #[test]
    fn each_change_owes_its_walks_and_no_change_owes_none() {
        let [gold, old] = [audience("gold", "tier = \"gold\""), audience("old", "age > 60")];
        let changed = audience("gold", "tier = \"platinum\"");
        let merge = Merge::DataSetPrecedence(["crm".to_owned()].into());
        let otherwise_merged =
            Audience { policy: MergePolicy { merge, ..MergePolicy::default() }.into(), ..gold.clone() };
        let before = learn(None, &[gold.clone(), old.clone()], &[mapping("crm", &["gold"], &["name"])], 0);
        assert_eq!(owed(&before), ["evaluation (older_store)"]);
        let none: [&str; 0] = [];
        for (audiences, mappings, expected) in [
            (vec![gold.clone(), old.clone()], vec![mapping("crm", &["gold"], &["name"])], &none[..]),
            (vec![gold.clone(), old.clone()], vec![mapping("crm", &["gold"], &["age"])], &none),
            (vec![gold.clone()], vec![mapping("crm", &["gold"], &["name"])], &none),
            (vec![gold.clone(), old.clone()], vec![], &none),
            (vec![changed.clone(), old.clone()], vec![mapping("crm", &["gold"], &[])], &["evaluation (rules)"]),
            (vec![otherwise_merged, old.clone()], vec![mapping("crm", &["gold"], &["name"])], &["evaluation (rules)"]),
            (vec![gold.clone(), old.clone()], vec![mapping("crm", &["gold", "old"], &[])], &["crm: old (mapping)"]),
            (
                vec![gold.clone(), old.clone()],
                vec![mapping("ads", &["gold", "old"], &[])],
                &["ads: gold old (mapping)"],
            ),
            (
                vec![gold.clone(), old.clone(), audience("new", "age < 7")],
                vec![mapping("crm", &["gold", "new"], &[])],
                &["evaluation (rules)"],
            ),
            (
                vec![changed, old],
                vec![mapping("crm", &["gold", "old"], &[])],
                &["evaluation (rules)", "crm: old (mapping)"],
            ),
        ] {
            assert_eq!(owed(&learn(Some(before.known.clone()), &audiences, &mappings, 9)), expected);
        }
    }

    #[test]
    fn audience_that_was_gone_and_has_members_is_evaluated_and_exported() {
        let gold = audience("gold", "tier = \"gold\"");
        let before = learn(Some(Known::default()), &[], &[mapping("crm", &[], &[])], 0).known;
        let back = Known::learn(Some(before), &[gold], &[mapping("crm", &["gold"], &[])], |_| true, at(1));
        assert_eq!(owed(&back), ["evaluation (rules)", "crm: gold (mapping)"]);
    }

    #[test]
    fn destination_that_is_called_otherwise_owes_nothing_and_keeps_its_dates() {
        let gold = [audience("gold", "tier = \"gold\"")];
        let [crm, erp]: [DestinationId; 2] = ["crm", "erp"].map(|name| name.parse().unwrap());
        let mut known = learn(None, &gold, &[mapping("crm", &["gold"], &["name"])], 1).known;

        assert!(known.rename(&crm, &erp) && !known.rename(&crm, &erp));
        let learned = learn(Some(known), &gold, &[mapping("erp", &["gold"], &["name"])], 2);

        assert_eq!(owed(&learned), [] as [&str; 0]);
        assert_eq!(learned.known.mappings[&erp].audiences[&gold[0].id].created, at(1));
        let mut both = learn(None, &gold, &[mapping("crm", &["gold"], &[]), mapping("erp", &[], &[])], 3).known;
        assert!(!both.rename(&crm, &erp));
    }

    #[test]
    fn mapping_is_dated_when_it_is_made_changed_and_made_again() {
        let audiences = [audience("gold", "tier = \"gold\""), audience("old", "age > 60")];
        let (gold, crm) = ("gold".parse().unwrap(), "crm".parse().unwrap());
        let mapped = |known: &Known| known.mappings.get(&crm).and_then(|known| known.audiences.get(&gold).copied());
        let dated = |created, updated| Some(MappedAt { created: at(created), updated: at(updated) });
        let mut known = None;
        for (second, mapping, expected) in [
            (1, mapping("crm", &["gold"], &["name"]), dated(1, 1)),
            (2, mapping("crm", &["gold", "old"], &["name"]), dated(1, 1)),
            (3, mapping("crm", &["gold"], &["age"]), dated(1, 3)),
            (4, Mapping { memberships: Shown::All, ..mapping("crm", &["gold"], &["age"]) }, dated(1, 4)),
            (5, mapping("crm", &["old"], &["age"]), None),
            (6, mapping("crm", &["gold"], &["age"]), dated(6, 6)),
            (7, mapping("ads", &["gold"], &["age"]), None),
        ] {
            let mut mappings = [mapping];
            let learned = learn(known.take(), &audiences, &mappings, second).known;
            learned.date(&mut mappings);
            assert_eq!((mapped(&learned), second), (expected, second));
            let told = mappings[0].mapped_at.get(&gold).copied().filter(|_| mappings[0].destination == crm);
            assert_eq!(told, expected);
            known = Some(learned);
        }
    }
}
