//! Counters and numbers that change in the same commits as what they count.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sled::Batch;

use super::{
    layout,
    record::{self, Unreadable},
};
use crate::{destination::DestinationId, profile::ProfileKey};

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
    pub(super) applied: u64,
    pub(super) unchanged: u64,
    pub(super) quarantined: u64,
    pub(super) live_bytes: i64,
    pub(super) destinations: BTreeMap<DestinationId, Entry>,
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
    pub(super) dead: u64,
    pub(super) damaged: u64,
    /// No export below this number waits: reading starts here, not at the graves of all that was delivered.
    pub(super) low_water: u64,
}

/// What was counted since the store was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Profiles that there are.
    pub profiles: u64,
    /// Updates that changed a profile or made an export.
    pub applied: u64,
    /// Updates that changed nothing.
    pub unchanged: u64,
    /// Records that failed their checksum and were put aside.
    pub quarantined: u64,
    /// Bytes of all records, keys included.
    pub live_bytes: u64,
    /// By destination.
    pub destinations: BTreeMap<DestinationId, DestinationCounters>,
}

/// What was counted of one destination: made = delivered + dead + damaged + waiting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DestinationCounters {
    /// Exports made.
    pub made: u64,
    /// Exports that a receiver took.
    pub delivered: u64,
    /// Exports that became dead letters.
    pub dead: u64,
    /// Exports whose record failed its checksum and was put aside, or is gone.
    pub damaged: u64,
    /// Exports still owed.
    pub waiting: u64,
}

impl Entry {
    pub(super) fn waiting(&self) -> u64 {
        self.made.saturating_sub(self.delivered + self.dead + self.damaged)
    }
}

impl Meta {
    pub(super) fn read(db: &sled::Tree) -> Result<Option<Self>, Unreadable> {
        let Some(record) = record::read(db, layout::META)? else { return Ok(None) };
        let meta: Self = serde_json::from_slice(&record.payload).map_err(|_| Unreadable::Damaged)?;
        Ok(Some(Self { stored_length: record.length, ..meta }))
    }

    /// Stages writing it. Its own few bytes are not counted: they would change what they count.
    pub(super) fn put(&mut self, batch: &mut Batch) {
        self.commit += 1;
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
        let Self { commit: _, last_number: _, last_profile: _, profiles, applied, unchanged, quarantined, .. } = self;
        let counted = |entry: &Entry| {
            let Entry { number: _, made, delivered, dead, damaged, low_water: _ } = *entry;
            DestinationCounters { made, delivered, dead, damaged, waiting: entry.waiting() }
        };
        Counters {
            profiles: *profiles,
            applied: *applied,
            unchanged: *unchanged,
            quarantined: *quarantined,
            live_bytes: self.live_bytes(),
            destinations: self.destinations.iter().map(|(id, entry)| (id.clone(), counted(entry))).collect(),
        }
    }
}
