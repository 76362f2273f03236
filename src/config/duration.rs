//! A duration as it is written: a whole number and a unit, such as `500ms`.

use std::{ops::RangeInclusive, time::Duration};

use super::file::Item;

/// Reads a duration within limits.
pub(super) fn duration(item: &Item<'_>, limits: RangeInclusive<Duration>) -> Option<Duration> {
    let text = item.text("a duration such as \"500ms\" or \"2s\"")?;
    let Some(duration) = parse(text) else {
        return item.refuse("expected a whole number and a unit (ms, s, m, h), such as \"500ms\" or \"2s\"");
    };
    match limits.contains(&duration) {
        true => Some(duration),
        false => item.refuse(format_args!("expected a duration from {:?} to {:?}", limits.start(), limits.end())),
    }
}

/// A whole number and a unit.
pub(super) fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let number: u64 = digits.parse().ok()?;
    let unit_millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(unit_millis).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duration_is_a_whole_number_and_a_unit() {
        for (text, millis) in
            [("1ms", Some(1)), ("2s", Some(2_000)), ("3m", Some(180_000)), ("1h", Some(3_600_000)), ("0s", Some(0))]
        {
            assert_eq!(parse(text), millis.map(Duration::from_millis), "{text}");
        }
        for text in
            ["", "2", "s", "2 s", "1.5s", "-1s", "+1s", "2S", "1d", "99999999999999999999s", "18446744073709551615h"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
