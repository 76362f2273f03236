//! Counters and numbers that change in the same commits as what they count.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sled::Batch;

use super::{
    layout,
    record::{self, Unreadable},
};
use crate::{destination::DestinationId, profile::ProfileKey};

/// The counters that this version knows.
const KNOWN: u32 = 2;
/// All but how many are in each audience.
const COUNTED: u32 = 1;

/// The record under `m`, as JSON: a counter that a later version adds is zero in what this one wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Meta {
    /// How often a slice was applied.
    pub(super) commit: u64,
    /// The number of the youngest export.
    pub(super) last_number: u64,
    /// The profile written last: a store that has lost it has lost more.
    pub(super) last_profile: Option<ProfileKey>,
    pub(super) profiles: u64,
    /// Updates that were answered 2xx, counted apart from what became of them.
    pub(super) accepted: u64,
    pub(super) applied: u64,
    pub(super) unchanged: u64,
    /// Profiles that were forgotten.
    pub(super) forgotten: u64,
    /// Receipts that there are, and the first commit that may have some.
    pub(super) receipts: u64,
    pub(super) receipts_from: u64,
    pub(super) quarantined: u64,
    pub(super) live_bytes: i64,
    pub(super) destinations: BTreeMap<DestinationId, Entry>,
    /// Which counters whoever wrote this knew; see [`Meta::complete`].
    known: u32,
    /// How many are in each audience was not counted yet.
    #[serde(skip)]
    pub(super) lacks_members: bool,
    /// How long its record is.
    #[serde(skip)]
    stored_length: usize,
}

/// What is counted of one destination.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Entry {
    /// Its number in keys.
    pub(super) number: u32,
    pub(super) made: u64,
    pub(super) delivered: u64,
    pub(super) waiting: u64,
    /// All that ever died.
    pub(super) dead: u64,
    /// Of them, those that are still there.
    pub(super) letters: u64,
    pub(super) damaged: u64,
    pub(super) dropped: u64,
    pub(super) redriven: u64,
    pub(super) moot: u64,
    pub(super) skipped: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) superseded: u64,
    /// All exports between these numbers, both included, stand in the table of places; see [`super::place`]. Zero where the
    /// destination never coalesced.
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) placed_from: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) placed_to: u64,
    /// The youngest export that was delivered and has no receipt.
    pub(super) without_receipt: u64,
    /// No export below this number waits: reading starts here, not at the graves of all that was delivered.
    pub(super) low_water: u64,
}

/// What was counted since the store was made: accepted = applied + unchanged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Profiles that there are.
    pub profiles: u64,
    /// Updates that were accepted.
    pub accepted: u64,
    /// Updates that changed a profile or made an export.
    pub applied: u64,
    /// Updates that changed nothing.
    pub unchanged: u64,
    /// Profiles that were forgotten by a person's wish.
    pub forgotten: u64,
    /// Receipts that there are.
    pub receipts: u64,
    /// Records that failed their checksum and were put aside.
    pub quarantined: u64,
    /// Bytes of all records, keys included.
    pub live_bytes: u64,
    /// By destination.
    pub destinations: BTreeMap<DestinationId, DestinationCounters>,
}

/// What was counted of one destination: made = delivered + waiting + dead + damaged + dropped + redriven +
/// moot + skipped + superseded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DestinationCounters {
    /// Exports that followed from changes.
    pub made: u64,
    /// Exports that a receiver took.
    pub delivered: u64,
    /// Exports still owed.
    pub waiting: u64,
    /// Dead letters that are there.
    pub dead: u64,
    /// Exports whose record failed its checksum and was put aside, or is gone.
    pub damaged: u64,
    /// Exports and dead letters that a person dropped.
    pub dropped: u64,
    /// Dead letters of which a new export was made.
    pub redriven: u64,
    /// Dead letters that were closed because their profile is in no mapped audience any more.
    pub moot: u64,
    /// Exports that were left out because their profile lacks the destination's `unique_id`.
    pub skipped: u64,
    /// Exports whose place was taken by a newer one of their profile.
    pub superseded: u64,
    /// Exports that ever became dead letters. No part of the sum.
    pub died: u64,
}

impl Counters {
    /// Exports that wait, for whomever.
    pub fn waiting(&self) -> u64 {
        self.destinations.values().map(|counted| counted.waiting).sum()
    }

    /// Says what does not add up; nothing when all does.
    pub fn differences(&self) -> Vec<String> {
        let Self { accepted, applied, unchanged, destinations, .. } = self;
        let mut found = Vec::new();
        if *accepted != applied + unchanged {
            found.push(format!("updates: {accepted} accepted, and {applied} applied + {unchanged} unchanged"));
        }
        for (id, counted) in destinations {
            let DestinationCounters {
                made,
                delivered,
                waiting,
                dead,
                damaged,
                dropped,
                redriven,
                moot,
                skipped,
                superseded,
                died: _,
            } = counted;
            if *made != delivered + waiting + dead + damaged + dropped + redriven + moot + skipped + superseded {
                found.push(format!(
                    "exports to {id}: {made} made, and {delivered} delivered + {waiting} waiting + {dead} dead \
                     + {damaged} damaged + {dropped} dropped + {redriven} redriven + {moot} moot + {skipped} skipped \
                     + {superseded} superseded"
                ));
            }
        }
        found
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Entry {
    /// One that waited does so no more; the caller counts what became of it.
    pub(super) fn ended(&mut self) -> &mut Self {
        self.waiting = self.waiting.saturating_sub(1);
        self
    }
}

impl Meta {
    pub(super) fn read(db: &sled::Tree) -> Result<Option<Self>, Unreadable> {
        let Some(record) = record::read(db, layout::META)? else { return Ok(None) };
        let meta: Self = serde_json::from_slice(&record.payload).map_err(|_| Unreadable::Damaged)?;
        Ok(Some(Self { stored_length: record.length, ..meta }.complete()))
    }

    /// What a version did not count that wrote this is made of what it counted.
    fn complete(mut self) -> Self {
        if self.known == 0 {
            self.accepted = self.applied + self.unchanged;
            // None of what was delivered has a receipt.
            self.forget_receipts();
            for entry in self.destinations.values_mut() {
                entry.letters = entry.dead;
                entry.waiting = entry.made.saturating_sub(entry.delivered + entry.dead + entry.damaged);
            }
        }
        let lacks_members = self.known < KNOWN;
        Self { known: self.known.max(COUNTED), lacks_members, ..self }
    }

    /// Stages writing it. Its own few bytes are not counted: they would change what they count.
    pub(super) fn put(&mut self, batch: &mut Batch) {
        self.commit += 1;
        self.known = if self.lacks_members { COUNTED } else { KNOWN };
        let bytes = serde_json::to_vec(self).expect("counters are numbers by name");
        self.stored_length = record::put(batch, layout::META, &[&bytes], Some(self.stored_length)).length;
    }

    /// The destination's number in keys; a new one gets the next, and keeps it for ever.
    pub(super) fn number_of(&mut self, destination: &DestinationId) -> u32 {
        self.entry(destination).number
    }

    pub(super) fn entry(&mut self, destination: &DestinationId) -> &mut Entry {
        let next = self.destinations.values().map(|entry| entry.number + 1).max().unwrap_or_default();
        let low_water = self.last_number + 1;
        self.destinations.entry(destination.clone()).or_insert_with(|| Entry {
            number: next,
            low_water,
            ..Entry::default()
        })
    }

    /// Calls a destination otherwise. One of the new name goes.
    pub(super) fn rename(&mut self, old: &DestinationId, new: &DestinationId) {
        if let Some(entry) = self.destinations.remove(old) {
            self.destinations.insert(new.clone(), entry);
        }
    }

    pub(super) fn entry_numbered(&mut self, number: u32) -> Option<&mut Entry> {
        self.destinations.values_mut().find(|entry| entry.number == number)
    }

    pub(super) fn destinations(&self) -> impl Iterator<Item = (&DestinationId, &Entry)> {
        self.destinations.iter()
    }

    /// Exports of a destination that were put aside.
    pub(super) fn damaged(&self, destination: &DestinationId) -> u64 {
        self.destinations.get(destination).map_or(0, |entry| entry.damaged)
    }

    pub(super) fn live_bytes(&self) -> u64 {
        u64::try_from(self.live_bytes).unwrap_or_default()
    }

    pub(super) fn counters(&self) -> Counters {
        let Self { profiles, accepted, applied, unchanged, forgotten, receipts, quarantined, .. } = self;
        let counted = |entry: &Entry| {
            let Entry { number: _, low_water: _, dead: died, letters: dead, .. } = *entry;
            let Entry { made, delivered, waiting, damaged, dropped, redriven, moot, skipped, superseded, .. } = *entry;
            DestinationCounters {
                made,
                delivered,
                waiting,
                dead,
                damaged,
                dropped,
                redriven,
                moot,
                skipped,
                superseded,
                died,
            }
        };
        Counters {
            profiles: *profiles,
            accepted: *accepted,
            applied: *applied,
            unchanged: *unchanged,
            forgotten: *forgotten,
            receipts: *receipts,
            quarantined: *quarantined,
            live_bytes: self.live_bytes(),
            destinations: self.destinations.iter().map(|(id, entry)| (id.clone(), counted(entry))).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_that_were_not_kept_are_made_of_those_that_were() {
        let written = r#"{"commit": 9, "applied": 5, "unchanged": 2,
            "destinations": {"crm": {"number": 0, "made": 7, "delivered": 3, "dead": 1, "damaged": 1}}}"#;

        let meta = serde_json::from_str::<Meta>(written).unwrap().complete();

        let counters = meta.counters();
        let crm = counters.destinations.values().next().unwrap();
        assert_eq!((counters.accepted, crm.waiting, crm.dead, crm.died), (7, 2, 1, 1));
        assert_eq!((counters.differences(), meta.clone().complete()), (vec![], meta));
    }

    #[test]
    fn what_does_not_add_up_is_named() {
        let crm = DestinationCounters { made: 3, delivered: 1, waiting: 1, ..DestinationCounters::default() };
        let destinations = BTreeMap::from([("crm".parse().unwrap(), crm)]);
        let counters = Counters { accepted: 4, applied: 2, unchanged: 1, destinations, ..Counters::default() };

        let found = counters.differences();

        assert!(
            found[0].starts_with("updates: 4 accepted") && found[1].starts_with("exports to crm: 3 made"),
            "{found:?}"
        );
        assert_eq!(found.len(), 2);
    }
}
