//! Figures out of what was measured: percentiles, and differences between two looks at the appliance's metrics.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

/// Percentiles, in milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Percentiles {
    pub(crate) p50_ms: f64,
    pub(crate) p95_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
}

impl Percentiles {
    /// Of values in microseconds.
    pub(crate) fn of(mut micros: Vec<u32>) -> Self {
        micros.sort_unstable();
        let at = |share: f64| {
            let rank = (micros.len() as f64 * share).ceil() as usize;
            micros.get(rank.saturating_sub(1)).map_or(0.0, |value| f64::from(*value) / 1000.0)
        };
        Self { p50_ms: at(0.50), p95_ms: at(0.95), p99_ms: at(0.99), max_ms: at(1.0) }
    }
}

impl fmt::Display for Percentiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { p50_ms, p95_ms, p99_ms, max_ms } = self;
        write!(f, "p50 {p50_ms:.2} ms   p95 {p95_ms:.2} ms   p99 {p99_ms:.2} ms   max {max_ms:.2} ms")
    }
}

/// The appliance's metrics at one moment: each series with its value.
pub(crate) struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// Reads what Prometheus would.
    pub(crate) fn parse(text: &str) -> Self {
        let series = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        Self(series.collect())
    }

    /// The sum of all series whose name and labels contain all of `words`.
    pub(crate) fn sum(&self, words: &[&str]) -> f64 {
        self.0.iter().filter(|(name, _)| words.iter().all(|word| name.contains(word))).map(|(_, value)| value).sum()
    }

    /// How often a histogram was written to since `before`, and the mean of what was written.
    pub(crate) fn mean_since(&self, before: &Self, histogram: &str) -> (f64, f64) {
        let gained = |part: &str| {
            let name = format!("{histogram}_{part}");
            self.sum(&[&name]) - before.sum(&[&name])
        };
        let (count, sum) = (gained("count"), gained("sum"));
        (count, if count > 0.0 { sum / count } else { 0.0 })
    }
}
