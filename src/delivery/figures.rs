//! How fast a destination takes what it is sent, as of late. Pure.

use std::{collections::VecDeque, time::Duration};

use crate::clock::Timestamp;

/// Deliveries go into the rate for so long.
const RATE_OVER: Duration = Duration::from_secs(60);
/// The percentiles are of so many of the latest deliveries: enough for a p99, and 32 KiB.
const LATENCIES_MAX: usize = 2048;

/// Deliveries of the last minute, and the latencies of the latest.
#[derive(Debug, Default)]
pub(super) struct Figures {
    /// Seconds with deliveries, oldest first, and how many.
    seconds: VecDeque<(Timestamp, u32)>,
    latencies: VecDeque<Duration>,
}

/// Latencies that half, 95 and 99 of a hundred deliveries were below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percentiles {
    /// Half of them.
    pub p50: Duration,
    /// 95 of a hundred.
    pub p95: Duration,
    /// 99 of a hundred.
    pub p99: Duration,
}

impl Figures {
    /// Takes note of a delivery.
    pub(super) fn delivered(&mut self, now: Timestamp, latency: Duration) {
        let second = Timestamp::from_millis(now.as_millis().div_euclid(1000) * 1000);
        match self.seconds.back_mut() {
            // A clock that was set back counts with the second before.
            Some((last, count)) if *last >= second => *count += 1,
            _ => self.seconds.push_back((second, 1)),
        }
        self.seconds.retain(|(second, _)| now.since(*second) < RATE_OVER);
        if self.latencies.len() == LATENCIES_MAX {
            self.latencies.pop_front();
        }
        self.latencies.push_back(latency);
    }

    /// Deliveries a second, over the last minute.
    pub(super) fn rate(&self, now: Timestamp) -> f64 {
        let recent = self.seconds.iter().filter(|(second, _)| now.since(*second) < RATE_OVER);
        f64::from(recent.map(|(_, count)| count).sum::<u32>()) / RATE_OVER.as_secs_f64()
    }

    /// From an update's acceptance to the delivery of its export, over the latest; none before the first.
    pub(super) fn latency(&self) -> Option<Percentiles> {
        let mut sorted: Vec<Duration> = self.latencies.iter().copied().collect();
        sorted.sort();
        let at = |percent: usize| sorted.get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1)));
        Some(Percentiles { p50: *at(50)?, p95: *at(95)?, p99: *at(99)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    #[test]
    fn rate_is_of_the_last_minute() {
        let mut figures = Figures::default();
        for second in 0..120 {
            (0..30).for_each(|_| figures.delivered(at(second), Duration::ZERO));
        }
        assert_eq!(figures.rate(at(119)), 30.0);
        assert_eq!(figures.rate(at(149)), 15.0);
        assert_eq!(figures.rate(at(300)), 0.0);
        assert!(figures.seconds.len() <= 60);
    }

    #[test]
    fn percentiles_are_of_the_latest_deliveries() {
        let mut figures = Figures::default();
        assert_eq!(figures.latency(), None);
        (0..5000).for_each(|_| figures.delivered(at(0), Duration::from_secs(9)));
        let millis = |n| Duration::from_millis(n);
        (0..LATENCIES_MAX as u64).for_each(|n| figures.delivered(at(1), millis(n)));

        let latency = figures.latency().unwrap();

        assert_eq!((latency.p50, latency.p95, latency.p99), (millis(1024), millis(1945), millis(2027)));
    }
}
