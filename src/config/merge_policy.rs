//! `[[merge_policy]]` as written, and which policy is meant where one is named.

use std::sync::Arc;

use super::{
    file::{Item, Section},
    inlet::word,
    names::Names,
};
use crate::profile::policy::{BUILT_IN, Merge, MergePolicy, MergePolicyId};

/// Most merge policies, four times what AEP has: each is one more view of each changed profile.
const POLICIES_MAX: usize = 20;
/// Most datasets of one: an inlet writes to one.
const DATASETS_MAX: usize = 100;
/// Longest name, in bytes.
const NAME_BYTES_MAX: usize = 256;

/// The policies that audiences and destinations may have.
pub(super) struct Policies {
    known: Vec<Arc<MergePolicy>>,
    default: Arc<MergePolicy>,
    ids: Names,
}

/// Which kind is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    TimestampOrdered,
    DataSetPrecedence,
}

impl Policies {
    /// Reads all of them; `partial` where some may stand in a file that does not read.
    pub(super) fn read(root: &mut Section<'_>, partial: bool) -> Option<Self> {
        let mut ids = Names::partial(partial);
        let mut default_line = None;
        let built_in = Arc::new(MergePolicy::default());
        let read = root.all("merge_policy", POLICIES_MAX, |item| policy(&item, &mut ids, &mut default_line))?;
        let default = read.iter().find(|(_, is_default)| *is_default).map(|(policy, _)| Arc::clone(policy));
        let default = default.unwrap_or_else(|| Arc::clone(&built_in));
        let known = read.into_iter().map(|(policy, _)| policy).chain([built_in]).collect();
        Some(Self { known, default, ids })
    }

    /// The one that `merge_policy` names, or the default one.
    pub(super) fn of(section: &mut Section<'_>, policies: Option<&Self>) -> Option<Arc<MergePolicy>> {
        let default = policies.map(|policies| policies.default.id.as_str());
        section.or_text("merge_policy", default, |item| policies?.named(&item))
    }

    fn named(&self, item: &Item<'_>) -> Option<Arc<MergePolicy>> {
        let id: MergePolicyId = item.parse()?;
        match self.known.iter().find(|policy| policy.id == id) {
            Some(policy) => Some(Arc::clone(policy)),
            // It may stand in the file that does not read, which is refused already.
            None if self.ids.may_contain(id.as_str()) => Some(Arc::clone(&self.default)),
            None => match self.ids.nearest(id.as_str()) {
                Some(near) => item.refuse(format_args!("no merge policy `{id}`; did you mean `{near}`?")),
                None => item.refuse(format_args!("no merge policy `{id}`; add it as [[merge_policy]]")),
            },
        }
    }
}

/// Reads a policy, and whether it is the default one.
fn policy(item: &Item<'_>, ids: &mut Names, default_line: &mut Option<usize>) -> Option<(Arc<MergePolicy>, bool)> {
    const KINDS: &[(&str, Kind)] =
        &[("timestampOrdered", Kind::TimestampOrdered), ("dataSetPrecedence", Kind::DataSetPrecedence)];
    let mut section = item.section("a table [[merge_policy]]")?;
    let id: Option<MergePolicyId> = section.written("id").and_then(|item| item.parse());
    if let Some(id) = &id {
        section.call(format!("merge_policy \"{id}\""));
    }
    let is_free = section.required("id").is_some_and(|item| match item.as_text() {
        Some(BUILT_IN) => item.refuse::<()>("that is the one that is there by itself; choose another id").is_some(),
        _ => ids.add(&item),
    });
    let name = section.or_text("name", id.as_ref().map(MergePolicyId::as_str), |item| name(&item));
    let kind = section.or("type", "\"timestampOrdered\"", |item| item.choice(KINDS));
    let merge = match kind {
        Some(Kind::DataSetPrecedence) => section.required("datasets").and_then(|item| datasets(&item)),
        Some(Kind::TimestampOrdered) => match section.optional("datasets") {
            None => Some(Merge::TimestampOrdered),
            Some(item) => item
                .refuse("`timestampOrdered` reads all datasets; leave it out, or set `type` to \"dataSetPrecedence\""),
        },
        None => section.optional("datasets").and(None),
    };
    let is_default = section.or("default", "false", |item| match (item.boolean()?, *default_line) {
        (true, Some(line)) => item.refuse(format_args!("only one can be the default, line {line} has one")),
        (true, None) => {
            *default_line = Some(item.line());
            Some(true)
        }
        (false, _) => Some(false),
    });
    section.close();
    is_free.then_some(())?;
    Some((Arc::new(MergePolicy { id: id?, name: name?, merge: merge? }), is_default?))
}

fn name(item: &Item<'_>) -> Option<String> {
    let text = item.text("a string")?;
    match (1..=NAME_BYTES_MAX).contains(&text.len()) && !text.contains(char::is_control) {
        true => Some(text.to_owned()),
        false => item.refuse(format_args!("expected 1 to {NAME_BYTES_MAX} bytes without control characters")),
    }
}

fn datasets(item: &Item<'_>) -> Option<Merge> {
    let mut listed = Names::default();
    let order = item.each("a list of datasets, the first one wins", DATASETS_MAX, |item| {
        word(&item).filter(|_| listed.add(&item))
    })?;
    match order.is_empty() {
        true => item.refuse("list at least one dataset: what is of none that is listed is not seen"),
        false => Some(Merge::DataSetPrecedence(order.into())),
    }
}
