//! `[[audience]]` as written, an AEP audience definition, read to an [`Audience`].

use super::{file::Item, merge_policy::Policies, names::Names};
use crate::{
    audience::{Audience, AudienceId, rule::Rule},
    clock::Timestamp,
};

/// Longest name for people, in bytes.
const NAME_BYTES_MAX: usize = 256;

/// Reads an audience.
pub(super) fn audience(item: &Item<'_>, ids: &mut Names, policies: Option<&Policies>) -> Option<Audience> {
    let mut section = item.section("a table [[audience]]")?;
    let id: Option<AudienceId> = section.written("id").and_then(|item| item.parse());
    if let Some(id) = &id {
        section.call(format!("audience \"{id}\""));
    }
    let unique = section.required("id").is_some_and(|item| ids.add(&item));
    let name = section.or_text("name", id.as_ref().map(AudienceId::as_str), |item| name(&item));
    let created_at = section.optional("created_at").map_or(Some(None), |item| instant(&item).map(Some));
    let updated_at = section.optional("updated_at").map_or(Some(None), |item| instant(&item).map(Some));
    let policy = Policies::of(&mut section, policies);
    let rule = section.required("expression").and_then(|item| expression(&item));
    section.close();
    unique.then_some(())?;
    let (created_at, updated_at) = (created_at?, updated_at?);
    // What never changed was last changed when it was made.
    let updated_at = updated_at.or(created_at);
    Some(Audience { id: id?, name: name?, created_at, updated_at, policy: policy?, rule: rule? })
}

fn name(item: &Item<'_>) -> Option<String> {
    let text = item.text("a string")?;
    match (1..=NAME_BYTES_MAX).contains(&text.len()) && !text.contains(char::is_control) {
        true => Some(text.to_owned()),
        false => item.refuse(format_args!("expected 1 to {NAME_BYTES_MAX} bytes without control characters")),
    }
}

fn instant(item: &Item<'_>) -> Option<Timestamp> {
    const WHAT: &str = "an instant such as \"2022-03-29T11:28:45Z\"";
    Timestamp::parse(item.text(WHAT)?).map_or_else(|| item.refuse(format_args!("expected {WHAT}")), Some)
}

fn expression(item: &Item<'_>) -> Option<Rule> {
    let mut section = item.section("a table such as { type = \"PQL\", format = \"pql/text\", value = '…' }")?;
    let kind = section.required("type").and_then(|item| item.choice(&[("PQL", ())]));
    let format = section.required("format").and_then(|item| item.choice(&[("pql/text", ())]));
    let rule = section
        .required("value")
        .and_then(|item| Rule::parse(item.text("a rule as a string")?).map_or_else(|error| item.refuse(error), Some));
    section.close();
    kind.and(format).and(rule)
}
