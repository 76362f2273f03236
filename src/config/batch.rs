//! `batch` of a destination as written: how exports are sent together.

use std::{ops::RangeInclusive, time::Duration};

use super::{
    duration::duration,
    file::Item,
    store::{bytes, text},
};
use crate::destination::{Batching, Format};

/// Larger batches gain next to nothing, and what a crash sends twice grows with them.
const EXPORTS: RangeInclusive<usize> = 1..=1000;
/// With less, hardly two exports would ever go together.
const BYTES_MIN: u64 = 1024;
/// All requests of a destination that are under way. They are in memory, and so are their exports: twice this at worst.
const BYTES_IN_FLIGHT_MAX: u64 = 64 * 1024 * 1024;
/// A longer wait would look like a lost export.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Reads it, beside how many requests may be under way at once.
pub(super) fn batch(item: &Item<'_>, max_in_flight: usize) -> Option<Batching> {
    let mut section = item.section("a table such as { max_exports = 100, format = \"array\" }")?;
    let max_exports = section.or("max_exports", "100", |item| item.integer(EXPORTS));
    let max_bytes = section.or("max_bytes", "\"1MiB\"", |item| bytes(&item, BYTES_MIN));
    let max_wait = section.or("max_wait", "\"100ms\"", |item| duration(&item, Duration::ZERO..=WAIT_MAX));
    let format = section.or("format", "\"array\"", |item| {
        item.choice(&[Format::Array, Format::Ndjson].map(|format| (format.name(), format)))
    });
    let room = BYTES_IN_FLIGHT_MAX / max_in_flight as u64;
    let fits = max_bytes.filter(|bytes| *bytes <= room).or_else(|| {
        max_bytes?;
        section.refuse(
            "max_bytes",
            format_args!(
                "{max_in_flight} requests may be in memory at once, and {} of them at most: set it to {} or less, or \
                 `max_in_flight` lower",
                text(BYTES_IN_FLIGHT_MAX),
                text(room)
            ),
        )
    });
    section.close();
    let max_bytes = usize::try_from(fits?).expect("it is at most 64 MiB");
    Some(Batching { max_exports: max_exports?, max_bytes, max_wait: max_wait?, format: format? })
}
