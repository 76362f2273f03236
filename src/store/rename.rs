//! Renaming a destination: what waits, its letters, receipts, standing and counters stand under its number, and stay.
//!
//! An update that was decided before all know the new name still makes exports for the old one: until that is introduced
//! again, they are the renamed one's.

use std::{collections::BTreeMap, sync::PoisonError};

use super::{
    Store, StoreError, layout,
    meta::Meta,
    record,
    writer::{Failure, Shared, Writer},
};
use crate::destination::DestinationId;

/// What destinations are called now, by what they were called before.
pub(super) type Renames = BTreeMap<DestinationId, DestinationId>;

/// What came of renaming a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renamed {
    /// It is called otherwise now.
    Done,
    /// Nothing is known under the old name.
    Unknown,
    /// Exports were made under the new name already: they cannot be told apart any more.
    Taken,
}

impl Store {
    /// Calls a destination otherwise; returns when that is on disk. A destination of the new name that was never used goes.
    ///
    /// # Errors
    /// [`StoreError::Failed`] and [`StoreError::Full`].
    pub async fn rename(&self, old: &DestinationId, new: &DestinationId) -> Result<Renamed, StoreError> {
        let (old, new) = (old.clone(), new.clone());
        self.wish(move |writer| writer.rename(&old, &new)).await
    }
}

/// What the writer before knew, as far as it was on disk when the store failed.
pub(super) fn as_left(shared: &Shared, meta: &Meta) -> Renames {
    let mut renamed = shared.renamed.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let is_there = |id: &DestinationId| meta.destinations.contains_key(id);
    renamed.retain(|old, new| !is_there(old) && is_there(new));
    renamed
}

impl Writer<'_> {
    fn rename(&mut self, old: &DestinationId, new: &DestinationId) -> Result<Renamed, Failure> {
        let Some(number) = self.meta.destinations.get(old).map(|entry| entry.number) else {
            return Ok(Renamed::Unknown);
        };
        let unused = match self.meta.destinations.get(new) {
            Some(entry) if entry.made > 0 => return Ok(Renamed::Taken),
            unused => unused.map(|entry| entry.number),
        };
        // What is staged may be among what is read; and all is read before anything of this is staged.
        self.apply_staged()?;
        let name = layout::name(number);
        let before = self.read(&name)?.map(|record| record.length);
        let [unused_name, unused_standing] = match unused {
            Some(unused) => [layout::name(unused), layout::standing(unused)].map(Some),
            None => [None, None],
        };
        let mut found = Vec::new();
        for key in [unused_name, unused_standing].into_iter().flatten() {
            found.extend(self.read(&key)?.map(|record| (key, record.length)));
        }
        for (key, length) in found {
            match key[0] {
                // Standings are not counted as live.
                b'g' => self.slice.operations += record::remove(&mut self.slice.batch, &key, length).operations,
                _ => self.remove(&key, Some(length)),
            }
        }
        self.put(&name, &[new.as_str().as_bytes()], before);
        self.meta.rename(old, new);
        if let Some(made) = self.group.made.remove(old) {
            self.group.made.insert(new.clone(), made);
        }
        self.group.renamed.push((number, new.clone()));
        self.rename_in_memory(|renamed| {
            renamed.values_mut().filter(|called| *called == old).for_each(|called| called.clone_from(new));
            renamed.remove(new);
            renamed.insert(old.clone(), new.clone());
        });
        Ok(Renamed::Done)
    }

    /// Changes what is known of names, also for the writer that comes after a failure.
    pub(super) fn rename_in_memory(&mut self, change: impl FnOnce(&mut Renames)) {
        change(&mut self.renamed);
        self.shared.renamed.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&self.renamed);
    }

    /// What a destination is called now.
    pub(super) fn called(&self, id: DestinationId) -> DestinationId {
        self.renamed.get(&id).cloned().unwrap_or(id)
    }
}
