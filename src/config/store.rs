//! `[store]`: when inlets close, and what is done with a damaged store.

use std::{ops::RangeInclusive, time::Duration};

use super::{duration::duration, file::Item};
use crate::store::{Keeping, Limits, Receipts};

/// Longer than a year nobody asks what a profile was sent.
const RECEIPTS_KEPT_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
/// A hundred million take some five gigabytes.
const RECEIPTS_MAX: RangeInclusive<usize> = 1..=100_000_000;
/// Smaller limits would close at once.
const BYTES_MIN: u64 = 1024 * 1024;

const UNITS: [(&str, u64); 4] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

pub(super) fn store(item: &Item<'_>) -> Option<Keeping> {
    let mut section = item.section("a table")?;
    let hard = section.or("hard_limit", "\"10GiB\"", |item| bytes(&item, BYTES_MIN));
    let four_fifths = hard.map(|hard| text(hard / 5 * 4));
    // It only warns, so that of a small hard limit may be smaller.
    let soft = section.or_text("soft_limit", four_fifths.as_deref(), |item| bytes(&item, UNITS[0].1));
    let free_min = section.optional("free_min").map(|item| bytes(&item, BYTES_MIN));
    let choices = &[("refuse", false), ("salvage", true)];
    let salvages = section.or("on_damaged", "\"refuse\"", |item| item.choice(choices));
    let kept = section.or("receipts_kept", "\"168h\"", |item| duration(&item, Duration::ZERO..=RECEIPTS_KEPT_MAX));
    let receipts_max = section.or("receipts_max", "1000000", |item| item.integer(RECEIPTS_MAX));
    section.close();
    let (soft, hard) = (soft?, hard?);
    if soft > hard {
        return item.refuse("soft_limit is above hard_limit: it would never warn");
    }
    let limits = Limits { soft, hard, free_min: free_min.map_or(Some(None), |bytes| bytes.map(Some))? };
    let receipts = Receipts { kept: kept?, count_max: receipts_max? as u64 };
    Some(Keeping { limits, salvages: salvages?, receipts })
}

/// Reads a number of bytes.
pub(super) fn bytes(item: &Item<'_>, bytes_min: u64) -> Option<u64> {
    const WHAT: &str = "a whole number and a unit (KiB, MiB, GiB, TiB), such as \"10GiB\"";
    match parse(item.text(WHAT)?) {
        Some(bytes) if bytes >= bytes_min => Some(bytes),
        Some(_) => item.refuse(format_args!("expected at least {}", text(bytes_min))),
        None => item.refuse(format_args!("expected {WHAT}")),
    }
}

fn parse(text: &str) -> Option<u64> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let number: u64 = digits.parse().ok()?;
    let (_, unit_bytes) = UNITS.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*unit_bytes)
}

/// In the largest unit of which it is a whole number; what is below 1KiB is left out.
pub(super) fn text(bytes: u64) -> String {
    let whole = UNITS.iter().rev().find(|(_, unit)| bytes.is_multiple_of(*unit));
    let (name, unit) = whole.unwrap_or(&UNITS[0]);
    format!("{}{name}", bytes / unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_a_whole_number_and_a_unit() {
        for (text, bytes) in [("1KiB", Some(1024)), ("10GiB", Some(10 << 30)), ("2TiB", Some(2 << 40))] {
            assert_eq!(parse(text), bytes, "{text}");
            assert_eq!(bytes.map(super::text).as_deref(), Some(text));
        }
        assert_eq!(text((1 << 20) / 5 * 4), "819KiB");
        for text in ["", "2", "GiB", "2 GiB", "1.5GiB", "-1GiB", "2gb", "2G", "99999999999TiB"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
