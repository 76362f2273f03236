//! `[backfill]`: how fast all profiles are gone over.

use std::ops::RangeInclusive;

use super::file::Item;

/// Profiles a second. Beyond the highest no disk goes.
const RATE: RangeInclusive<usize> = 1..=100_000;

pub(super) fn rate(item: &Item<'_>) -> Option<usize> {
    let mut section = item.section("a table")?;
    // A million profiles in some seventeen minutes, at a tenth of what the store takes in updates.
    let rate = section.or("rate", "1000", |item| item.integer(RATE));
    section.close();
    rate
}
