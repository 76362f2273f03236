//! What was posted and acknowledged, in bodies that can be checked, and what must be true of what a receiver got.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{
    load::{Update, in_order, step},
    receiver::Request,
    sender::{update, who},
};

/// Rising versions of some people. A clone knows what this one knew.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    posted: BTreeMap<String, u64>,
    acknowledged: BTreeSet<Update>,
}

/// What a receiver got.
#[derive(Debug)]
pub struct Received {
    /// Different updates.
    pub count: usize,
    /// How many came more than once.
    pub repeats: usize,
    /// Acknowledged and not received.
    pub lost: Vec<Update>,
}

impl Ledger {
    /// The next version of a person: its number and its update.
    pub fn next(&mut self, person: &str) -> (u64, Value) {
        let version = self.posted.entry(person.to_owned()).or_default();
        *version += 1;
        let attributes = json!({ "plan": "gold", "version": *version, "name": text(person, *version) });
        (*version, update(person, attributes))
    }

    /// The appliance answered 200.
    pub fn acknowledge(&mut self, person: &str, version: u64) {
        self.acknowledged.insert((person.to_owned(), version));
    }

    pub fn acknowledged(&self) -> usize {
        self.acknowledged.len()
    }

    /// Compares; the error is a payload that was never made, or one out of order.
    pub fn compare(&self, requests: &[Request]) -> Result<Received, String> {
        for Request { body, .. } in requests {
            let (person, version) = (who(body), body["version"].as_u64().unwrap_or_default());
            let posted = self.posted.get(person).is_some_and(|&last| (1..=last).contains(&version));
            if !posted || body["name"] != text(person, version) || body["plan"] != "gold" {
                return Err(format!("a payload that was never made: {body}"));
            }
        }
        let (received, repeats) = in_order(requests)?;
        let lost = self.acknowledged.difference(&received).cloned().collect();
        Ok(Received { count: received.len(), repeats, lost })
    }

    /// As [`Ledger::compare`]; to have lost anything is an error too.
    pub fn all_of(&self, requests: &[Request]) -> Result<Received, String> {
        let received = self.compare(requests)?;
        match received.lost.is_empty() {
            true => Ok(received),
            false => Err(format!("acknowledged and lost: {:?}", received.lost)),
        }
    }
}

/// A text that nobody has but this version of this person; each sixteenth is longer than a chunk of a record.
fn text(person: &str, version: u64) -> String {
    let mut state =
        person.bytes().fold(version, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte.into())) | 1 << 40;
    let words = 4 + step(&mut state) % 16 + if version.is_multiple_of(16) { 300 } else { 0 };
    (0..words).map(|_| format!("{:016x}", step(&mut state))).collect()
}
