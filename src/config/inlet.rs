//! `[[inlet]]` as written, read to an [`Inlet`].

use super::{file::Item, names::Names};
use crate::{
    inlet::{IdentityField, Inlet},
    profile::identity::Namespace,
};

/// Most declared identities an inlet: a profile has at most as many.
const IDENTITIES_MAX: usize = 50;

/// Reads an inlet.
pub(super) fn inlet(item: &Item<'_>, names: &mut Names) -> Option<Inlet> {
    let mut section = item.section("a table [[inlet]]")?;
    let name = section.written("name").and_then(|item| word(&item));
    if let Some(name) = &name {
        section.call(format!("inlet \"{name}\""));
    }
    let unique = section.required("name").is_some_and(|item| names.add(&item));
    let dataset = section.or_text("dataset", name.as_deref(), |item| word(&item));
    let mut paths = Names::default();
    let mut primary_line = None;
    let identities = section.or("identities", "[]", |item| {
        item.each("a list of tables", IDENTITIES_MAX, |item| {
            let field = identity_field(&item, &mut paths)?;
            match (field.primary, primary_line) {
                (true, Some(line)) => {
                    item.refuse(format_args!("only one identity can be primary, line {line} has one"))
                }
                (true, None) => {
                    primary_line = Some(item.line());
                    Some(field)
                }
                (false, _) => Some(field),
            }
        })
    });
    section.close();
    unique.then_some(())?;
    Some(Inlet { name: name?, dataset: dataset?, identities: identities? })
}

fn identity_field(item: &Item<'_>, paths: &mut Names) -> Option<IdentityField> {
    let mut section = item.section("a table such as { path = \"email\", namespace = \"Email\" }")?;
    let path = section.required("path").and_then(|item| Some(item.parse()?).filter(|_| paths.add(&item)));
    let namespace = section
        .required("namespace")
        .and_then(|item| Namespace::parse(item.text("a string")?).map_or_else(|error| item.refuse(error), Some));
    let primary = section.or("primary", "false", |item| item.boolean());
    section.close();
    Some(IdentityField { path: path?, namespace: namespace?, primary: primary? })
}

/// A name that stands in URLs, keys of the store and metrics.
pub(super) fn word(item: &Item<'_>) -> Option<String> {
    let text = item.text("a string")?;
    let good = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    match (1..=64).contains(&text.len()) && text.chars().all(good) {
        true => Some(text.to_owned()),
        false => item.refuse("a name has 1 to 64 characters of letters, digits, `-` and `_`"),
    }
}
