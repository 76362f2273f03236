//! Keys, and walking a destination's entries in the order of their numbers.

use serde::de::DeserializeOwned;

use super::record;
use crate::profile::{ProfileKey, identity::Identity};

/// The tables that are walked.
#[derive(Clone, Copy)]
pub(super) enum Table {
    Schedule,
    Dead,
}

pub(super) const META: &[u8] = b"m";

pub(super) fn profile(key: &ProfileKey) -> Vec<u8> {
    [b"p", key.as_bytes().as_slice()].concat()
}

pub(super) fn identity(identity: &Identity) -> Vec<u8> {
    // A namespace has no control characters, so the zero ends it.
    [b"i", identity.namespace().folded().as_bytes(), &[0], identity.value().as_bytes()].concat()
}

pub(super) fn entry(table: Table, destination: u32, number: u64) -> Vec<u8> {
    let letter = match table {
        Table::Schedule => b"s",
        Table::Dead => b"d",
    };
    [letter.as_slice(), &destination.to_be_bytes(), &number.to_be_bytes()].concat()
}

pub(super) fn body(number: u64) -> Vec<u8> {
    [b"b", number.to_be_bytes().as_slice()].concat()
}

pub(super) fn standing(destination: u32) -> Vec<u8> {
    [b"g", destination.to_be_bytes().as_slice()].concat()
}

pub(super) fn quarantined(key: &[u8]) -> Vec<u8> {
    [b"x", key].concat()
}

/// A destination's entries from number `from` to `to`, both included, that read well. The others are for
/// [`super::writer`] to put aside.
pub(super) fn scan<T: DeserializeOwned>(
    db: &sled::Tree,
    table: Table,
    destination: u32,
    from: u64,
    to: u64,
) -> impl Iterator<Item = (u64, T)> {
    walk(db, table, destination, from, to).filter_map(|(number, value)| Some((number, value.ok()?)))
}

/// As [`scan`], with the damaged ones.
pub(super) fn walk<T: DeserializeOwned>(
    db: &sled::Tree,
    table: Table,
    destination: u32,
    from: u64,
    to: u64,
) -> impl Iterator<Item = (u64, Result<T, record::Damaged>)> {
    let mut end = entry(table, destination, to);
    end.push(u8::MAX);
    let db = db.clone();
    db.range(entry(table, destination, from)..=end).filter_map(move |item| {
        let (key, first) = item.ok()?;
        let (key, chunk) = key.split_at_checked(key.len() - 1)?;
        if chunk != [0] {
            return None;
        }
        let number = u64::from_be_bytes(key[key.len() - 8..].try_into().ok()?);
        let payload = record::assemble(&db, key, &first);
        Some((number, payload.and_then(|bytes| postcard::from_bytes(&bytes).map_err(|_| record::Damaged))))
    })
}
