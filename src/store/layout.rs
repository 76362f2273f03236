//! Keys, and walking a destination's entries in the order of their numbers.

use super::{
    frozen::Frozen,
    head::Head,
    record::{self, Unreadable},
};
use crate::profile::{ProfileKey, identity::Identity};

/// The tables that are walked.
#[derive(Clone, Copy)]
pub(super) enum Table {
    Schedule,
    Dead,
}

pub(super) const META: &[u8] = b"m";
pub(super) const IDENTITIES: &[u8] = b"i";
pub(super) const PROFILES: &[u8] = b"p";
pub(super) const FORGETTING: &[u8] = b"f";
pub(super) const MEMBERS: &[u8] = b"c";
pub(super) const TOGETHER: &[u8] = b"b";

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

/// The key of a waiting export's dead letter.
pub(super) fn letter_of(key: &[u8]) -> Option<Vec<u8>> {
    key.strip_prefix(b"s").map(|rest| [b"d", rest].concat())
}

pub(super) fn name(destination: u32) -> Vec<u8> {
    [b"n", destination.to_be_bytes().as_slice()].concat()
}

pub(super) fn standing(destination: u32) -> Vec<u8> {
    [b"g", destination.to_be_bytes().as_slice()].concat()
}

/// How many profiles are in an audience.
pub(super) fn members(audience: &str) -> Vec<u8> {
    [MEMBERS, audience.as_bytes()].concat()
}

/// The receipts of one commit.
pub(super) fn receipts(commit: u64) -> Vec<u8> {
    [b"r", commit.to_be_bytes().as_slice()].concat()
}

/// What of a destination stays together, by the number of its first.
pub(super) fn together(destination: u32, first: u64) -> Vec<u8> {
    [TOGETHER, &destination.to_be_bytes(), &first.to_be_bytes()].concat()
}

/// A profile that is being forgotten.
pub(super) fn forgetting(key: &ProfileKey) -> Vec<u8> {
    [FORGETTING, key.as_bytes().as_slice()].concat()
}

pub(super) fn quarantined(key: &[u8]) -> Vec<u8> {
    [b"x", key].concat()
}

/// A destination's entries from number `from` to `to`, both included; `None` for one that is damaged. The disk's failure is
/// the last item.
pub(super) fn walk<T: Head>(
    db: &sled::Tree,
    table: Table,
    destination: u32,
    from: u64,
    to: u64,
) -> impl Iterator<Item = sled::Result<(u64, Option<T>)>> {
    let whole = walk_whole(db, table, destination, from, to);
    whole.map(|item| item.map(|(number, whole)| (number, whole.map(|(entry, _)| entry))))
}

/// As [`walk`], with what of them never changes.
pub(super) fn walk_whole<T: Head>(
    db: &sled::Tree,
    table: Table,
    destination: u32,
    from: u64,
    to: u64,
) -> impl Iterator<Item = sled::Result<(u64, Option<(T, Frozen)>)>> {
    let mut end = entry(table, destination, to);
    end.push(u8::MAX);
    let (db, mut items) = (db.clone(), db.range(entry(table, destination, from)..=end).fuse());
    let mut failed = false;
    std::iter::from_fn(move || {
        while !failed && let Some(item) = items.next() {
            // sled returns the same error for ever.
            let (key, first) = match item {
                Ok(item) => item,
                Err(error) => {
                    failed = true;
                    return Some(Err(error));
                }
            };
            let (key, chunk) = key.split_at(key.len() - 1);
            if chunk != [0] {
                continue;
            }
            let number = u64::from_be_bytes(key[key.len() - 8..].try_into().expect("keys end in a number"));
            match record::assemble(&db, key, &first) {
                Ok(record) => return Some(Ok((number, Frozen::part(record)))),
                // It may have gone, or was written anew, between one chunk and the next.
                Err(Unreadable::Damaged) => match record::read(&db, key) {
                    Ok(None) => continue,
                    Ok(Some(record)) => return Some(Ok((number, Frozen::part(record)))),
                    Err(Unreadable::Damaged) => return Some(Ok((number, None))),
                    Err(Unreadable::Failed(error)) => {
                        failed = true;
                        return Some(Err(error));
                    }
                },
                Err(Unreadable::Failed(error)) => {
                    failed = true;
                    return Some(Err(error));
                }
            }
        }
        None
    })
}
