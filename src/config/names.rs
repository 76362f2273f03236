//! Names: which are taken, where, and which one was probably meant.

use std::collections::BTreeMap;

use super::{file::Item, reading::Place};

/// Names that must be unique, each with the place where it stands first.
#[derive(Default)]
pub(super) struct Names {
    first: BTreeMap<String, Place>,
    partial: bool,
}

impl Names {
    /// Names of which some cannot be known, because not every file reads.
    pub(super) fn partial(partial: bool) -> Self {
        Self { first: BTreeMap::new(), partial }
    }

    /// Adds the string that the item holds; refuses it when it is there already.
    pub(super) fn add(&mut self, item: &Item<'_>) -> bool {
        // Not a string: that is noted where it is read.
        let Some(name) = item.as_text() else { return false };
        let first = *self.first.entry(name.to_owned()).or_insert(item.place());
        if first != item.place() {
            item.refuse_twice(first);
        }
        first == item.place()
    }

    /// True when the name is there, or may be in a file that does not read.
    pub(super) fn may_contain(&self, name: &str) -> bool {
        self.partial || self.first.contains_key(name)
    }

    /// The name that was probably meant.
    pub(super) fn nearest(&self, name: &str) -> Option<&str> {
        nearest(name, self.first.keys().map(String::as_str))
    }
}

/// The word that was probably meant.
pub(super) fn nearest<'w>(text: &str, words: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    /// Longer texts are no slips of ours, and comparing costs their length.
    const BYTES_MAX: usize = 128;
    if text.len() > BYTES_MAX {
        return None;
    }
    let near = words.map(|word| (strsim::osa_distance(text, word), word)).min()?;
    Some(near).filter(|(distance, word)| *distance <= (word.len() / 3).max(1)).map(|(_, word)| word)
}
