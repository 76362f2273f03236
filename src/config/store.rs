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

pub(super) fn store(item: &Item<'_>) -> Option<Keeping> {
    let mut section = item.section("a table")?;
    let (default, receipts) = (Limits::default(), Receipts::default());
    let soft = section.optional("soft_limit").map(|item| bytes(&item));
    let hard = section.or("hard_limit", default.hard, |item| bytes(&item));
    let free_min = section.optional("free_min").map(|item| bytes(&item));
    let salvages = section.or("on_damaged", false, |item| item.choice(&[("refuse", false), ("salvage", true)]));
    let kept = section.or("receipts_kept", receipts.kept, |item| duration(&item, Duration::ZERO..=RECEIPTS_KEPT_MAX));
    let count_max =
        section.or("receipts_max", receipts.count_max, |item| item.integer(RECEIPTS_MAX).map(|max| max as u64));
    section.close();
    let hard = hard?;
    // By itself four fifths of the hard limit.
    let soft = soft.unwrap_or(Some(hard / 5 * 4))?;
    if soft > hard {
        return item.refuse("soft_limit is above hard_limit: it would never warn");
    }
    let limits = Limits { soft, hard, free_min: free_min.map_or(Some(None), |bytes| bytes.map(Some))? };
    let receipts = Receipts { kept: kept?, count_max: count_max? };
    Some(Keeping { limits, salvages: salvages?, receipts })
}

fn bytes(item: &Item<'_>) -> Option<u64> {
    const WHAT: &str = "a whole number and a unit (KiB, MiB, GiB, TiB), such as \"10GiB\"";
    match parse(item.text(WHAT)?) {
        Some(bytes) if bytes >= BYTES_MIN => Some(bytes),
        Some(_) => item.refuse("expected at least 1MiB"),
        None => item.refuse(format_args!("expected {WHAT}")),
    }
}

fn parse(text: &str) -> Option<u64> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let number: u64 = digits.parse().ok()?;
    let unit_bytes = match unit {
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1_u64 << 40,
        _ => return None,
    };
    number.checked_mul(unit_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_a_whole_number_and_a_unit() {
        for (text, bytes) in [("1KiB", Some(1024)), ("10GiB", Some(10 << 30)), ("2TiB", Some(2 << 40))] {
            assert_eq!(parse(text), bytes, "{text}");
        }
        for text in ["", "2", "GiB", "2 GiB", "1.5GiB", "-1GiB", "2gb", "2G", "99999999999TiB"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
