//! What the demo knows by itself: what was acknowledged to it, and what arrived. Every claim is checked against it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use hyper::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use super::{arrival::Arrival, files::CRM};
use crate::{clock::Timestamp, export::ExportId, profile::update::UpdateId};

/// The books of the receiver that requires a certificate.
#[derive(Default)]
pub(super) struct Ledger {
    /// Updates acknowledged, exported or not.
    pub(super) acknowledged: usize,
    owed: Vec<Owed>,
    /// Keys, in order of arrival, each once.
    accepted: Vec<String>,
    refused: BTreeSet<String>,
    /// Exports that arrived again after they were accepted.
    pub(super) repeats: usize,
    last_bodies: BTreeMap<String, Value>,
}

/// An export that follows from an acknowledged update.
struct Owed {
    person: String,
    key: String,
}

/// What the inlet answers.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Acknowledgement {
    xaction_id: UpdateId,
    received_time_ms: i64,
}

impl Ledger {
    /// Takes note of an update about `person` that was acknowledged by `answer`, and that an export is owed for it: the
    /// answer fixes its key.
    pub(super) fn owe(&mut self, person: String, answer: Value) -> Result<()> {
        let acknowledgement = serde_json::from_value(answer).context("cannot read the inlet's answer")?;
        let Acknowledgement { xaction_id, received_time_ms } = acknowledgement;
        let destination = CRM.parse().context("the destination's name")?;
        let key = ExportId::of(xaction_id, Timestamp::from_millis(received_time_ms), &destination);
        self.acknowledged += 1;
        self.owed.push(Owed { person, key: key.to_string() });
        Ok(())
    }

    /// Takes note of an arrival.
    pub(super) fn arrived(&mut self, arrival: Arrival) {
        let person = arrival.person();
        let Arrival { key, body, answered } = arrival;
        if answered == StatusCode::UNPROCESSABLE_ENTITY {
            self.refused.insert(key);
        } else if answered.is_success() && self.accepted.contains(&key) {
            self.repeats += 1;
        } else if answered.is_success() {
            self.accepted.push(key);
            self.last_bodies.insert(person, body);
        }
    }

    /// The last body about `person` that was accepted.
    pub(super) fn last_body(&self, person: &str) -> Option<&Value> {
        self.last_bodies.get(person)
    }

    /// Exports owed since the start.
    pub(super) fn owed(&self) -> usize {
        self.owed.len()
    }

    /// Exports accepted, each once.
    pub(super) fn accepted(&self) -> usize {
        self.accepted.len()
    }

    /// The keys of exports that were refused.
    pub(super) fn refused(&self) -> &BTreeSet<String> {
        &self.refused
    }

    /// Exports owed that were neither accepted nor refused.
    pub(super) fn missing(&self) -> usize {
        let is_here = |key: &String| self.accepted.contains(key) || self.refused.contains(key);
        self.owed.iter().filter(|owed| !is_here(&owed.key)).count()
    }

    /// Checks that exactly what is owed was accepted, and of each person in the order of the updates.
    pub(super) fn check(&self) -> Result<()> {
        let people: BTreeSet<&str> = self.owed.iter().map(|owed| owed.person.as_str()).collect();
        for person in people {
            let wanted = self.owed.iter().filter(|owed| owed.person == person).map(|owed| &owed.key);
            let wanted: Vec<_> = wanted.filter(|key| !self.refused.contains(*key)).collect();
            let found: Vec<_> = self.accepted.iter().filter(|key| wanted.contains(key)).collect();
            ensure!(found == wanted, "the exports of {person} are not as acknowledged: {found:?}, not {wanted:?}");
        }
        let strangers = self.accepted.len() + self.refused.len() + self.missing() != self.owed.len();
        ensure!(!strangers, "something arrived that was not acknowledged, or was both accepted and refused");
        Ok(())
    }
}
