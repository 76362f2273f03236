//! Merge policies: how the fragments of a profile become one view. Pure.

use std::{borrow::Cow, cmp::Reverse, fmt, str::FromStr, sync::Arc};

use super::{
    Profile,
    fragment::{self, Fragment},
    path::Attributes,
};

/// Longest id, in bytes. AEP's are UUIDs; any short text is taken.
const ID_BYTES_MAX: usize = 128;

/// The policy that is there without being defined.
pub const BUILT_IN: &str = "built-in";

/// A merge policy's id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MergePolicyId(String);

/// Why a text is not the id of a merge policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the id of a merge policy has 1 to {ID_BYTES_MAX} characters of letters, digits, `-`, `_`, `.` and `:`")]
pub struct NotAMergePolicyId;

/// How fragments become one view, by a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MergePolicy {
    /// Its id.
    pub id: MergePolicyId,
    /// What people call it.
    pub name: String,
    /// What it does.
    pub merge: Merge,
}

/// How fragments become one view. Names are AEP's `attributeMerge` types.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Merge {
    /// `timestampOrdered`: of all datasets; what was written later wins.
    #[default]
    TimestampOrdered,
    /// `dataSetPrecedence`: of these datasets alone; the one that stands first wins, and within one what was written later.
    DataSetPrecedence(Arc<[String]>),
}

/// Views of one profile by several policies, each made once.
pub struct Views<'a>(Vec<(&'a Merge, Cow<'a, Attributes>)>);

impl MergePolicyId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for MergePolicyId {
    type Err = NotAMergePolicyId;

    fn from_str(text: &str) -> Result<Self, NotAMergePolicyId> {
        let good = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
        match !text.is_empty() && text.len() <= ID_BYTES_MAX && text.chars().all(good) {
            true => Ok(Self(text.to_owned())),
            false => Err(NotAMergePolicyId),
        }
    }
}

impl fmt::Display for MergePolicyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The built-in one: `timestampOrdered`.
impl Default for MergePolicy {
    fn default() -> Self {
        Self { id: MergePolicyId(BUILT_IN.to_owned()), name: BUILT_IN.to_owned(), merge: Merge::default() }
    }
}

impl Merge {
    /// Whether what a dataset says is seen at all.
    pub fn reads(&self, dataset: &str) -> bool {
        self.rank(dataset).is_some()
    }

    /// Where a dataset stands, the first one first; `None` when it is left out.
    fn rank(&self, dataset: &str) -> Option<usize> {
        match self {
            Self::TimestampOrdered => Some(0),
            Self::DataSetPrecedence(order) => order.iter().position(|listed| listed == dataset),
        }
    }
}

impl Profile {
    /// One view of its fragments.
    pub fn view(&self, merge: &Merge) -> Cow<'_, Attributes> {
        let ranked = |fragment: &'_ Fragment| merge.rank(fragment.dataset());
        let mut read = self.fragments.iter().filter(|fragment| ranked(fragment).is_some());
        match (read.next(), read.next()) {
            (None, _) => Cow::Owned(Attributes::new()),
            (Some(only), None) => Cow::Borrowed(&only.attributes),
            (Some(first), Some(second)) => {
                let mut layers: Vec<&Fragment> = [first, second].into_iter().chain(read).collect();
                // What wins is laid on last.
                layers.sort_by_key(|fragment| (Reverse(ranked(fragment)), fragment.written_at, fragment.place()));
                let mut view = Attributes::new();
                layers.iter().for_each(|fragment| fragment::overlay(&mut view, &fragment.attributes));
                Cow::Owned(view)
            }
        }
    }
}

impl<'a> Views<'a> {
    /// The views of a profile by each of these.
    pub fn of(profile: &'a Profile, merges: &'a [Merge]) -> Self {
        Self(merges.iter().map(|merge| (merge, profile.view(merge))).collect())
    }

    /// The view by one of them.
    ///
    /// # Panics
    /// When it is none of them.
    pub fn by(&self, merge: &Merge) -> &Attributes {
        let made = self.0.iter().find(|(of, _)| *of == merge);
        &made.expect("views are made by all policies that are asked for").1
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        clock::Timestamp,
        profile::{
            identity::{Identity, Namespace},
            update::UpdateId,
        },
    };

    /// A profile of fragments by dataset, second and attributes.
    fn profile(fragments: &[(&str, i64, Value)]) -> Profile {
        let mut profile = Profile::new(UpdateId::new(Timestamp::default()).into());
        for (number, (dataset, second, attributes)) in fragments.iter().enumerate() {
            let own = Identity::new(Namespace::parse("CRM").unwrap(), &number.to_string()).unwrap();
            let mut fragment = Fragment::new(dataset, &own);
            fragment.merge(attributes.as_object().unwrap(), Timestamp::from_millis(second * 1000));
            profile.fragments.push(fragment);
        }
        profile
    }

    fn by_datasets(names: &[&str]) -> Merge {
        Merge::DataSetPrecedence(names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn view_is_what_its_policy_says() {
        let crm = ("crm", 3, json!({"a": "crm", "b": {"x": 1}, "c": "crm"}));
        let web = ("web", 5, json!({"a": "web", "b": {"y": 2}, "d": "web"}));
        let web_before = ("web", 1, json!({"a": "old", "d": "old", "e": "old"}));
        let pos = ("pos", 9, json!({"a": "pos", "b": "flat"}));
        let all = [crm.clone(), web.clone(), web_before.clone(), pos];
        for (merge, fragments, seen) in [
            (
                Merge::TimestampOrdered,
                &all[..3],
                json!({"a": "web", "b": {"x": 1, "y": 2}, "c": "crm", "d": "web", "e": "old"}),
            ),
            (Merge::TimestampOrdered, &all[..], json!({"a": "pos", "b": "flat", "c": "crm", "d": "web", "e": "old"})),
            (
                by_datasets(&["crm", "web"]),
                &all[..],
                json!({"a": "crm", "b": {"x": 1, "y": 2}, "c": "crm", "d": "web", "e": "old"}),
            ),
            (
                by_datasets(&["web", "crm"]),
                &all[..],
                json!({"a": "web", "b": {"x": 1, "y": 2}, "c": "crm", "d": "web", "e": "old"}),
            ),
            (by_datasets(&["crm"]), &all[..], crm.2.clone()),
            (by_datasets(&["elsewhere"]), &all[..], json!({})),
            (by_datasets(&["pos", "crm"]), &all[..], json!({"a": "pos", "b": "flat", "c": "crm"})),
        ] {
            let profile = profile(fragments);
            assert_eq!(Value::Object(profile.view(&merge).into_owned()), seen, "{merge:?}");
        }
    }

    #[test]
    fn view_of_one_fragment_is_not_copied() {
        let profile = profile(&[("crm", 1, json!({"a": 1})), ("web", 2, json!({"a": 2}))]);

        assert!(matches!(profile.view(&by_datasets(&["web"])), Cow::Borrowed(_)));
        assert!(matches!(profile.view(&Merge::TimestampOrdered), Cow::Owned(_)));
    }
}
