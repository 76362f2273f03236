//! How fast a destination may be sent to. Pure.
//!
//! Tokens drip into a bucket, so many a second, and each POST takes one. The bucket holds what drips in 4 ms, so no second
//! sees more than 0.4 % beyond the rate leave, and three times as much again may bunch up on the way, as behind the first handshake,
//! before it sees two hundredths arrive. It begins empty: a worker that takes the place of another adds nothing.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::clock::Timestamp;

/// A token in the parts that drip in within a millisecond at one a second.
const TOKEN: i64 = 1000;
/// The bucket holds the tokens of a second divided by this.
const BUCKETS_PER_SECOND: i64 = 250;

/// Tokens of one destination.
#[derive(Debug)]
pub(super) struct Pace {
    /// Tokens that drip in within a second.
    per_second: i64,
    /// What is in the bucket, in parts of tokens; less than nothing where two took the same.
    level: i64,
    /// When that was so.
    at: Timestamp,
}

/// A pace that a worker and its POSTs go by. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Shared(Arc<Mutex<Pace>>);

impl Shared {
    pub(super) fn new(pace: Pace) -> Self {
        Self(Arc::new(Mutex::new(pace)))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Pace> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the token of one POST; otherwise returns when to come again.
    pub(super) fn take(&self, now: Timestamp) -> Option<Timestamp> {
        let mut pace = self.lock();
        let next = pace.next(now);
        if next.is_none() {
            pace.spend(1);
        }
        next
    }
}

impl Pace {
    /// An empty bucket, for a rate of at least one a second.
    pub(super) fn new(per_second: usize, now: Timestamp) -> Self {
        Self { per_second: per_second as i64, level: 0, at: now }
    }

    /// How many POSTs may go now.
    pub(super) fn room(&mut self, now: Timestamp) -> usize {
        // At least one token, and what drips in while the last part of a millisecond passes.
        let capacity = (self.per_second * TOKEN / BUCKETS_PER_SECOND).max(TOKEN + self.per_second);
        // Nothing drips while the clock is set back; what it told before does not count.
        let millis = i64::try_from(now.since(self.at).as_millis()).unwrap_or(i64::MAX);
        self.level = self.level.saturating_add(millis.saturating_mul(self.per_second)).min(capacity);
        self.at = now;
        usize::try_from(self.level / TOKEN).unwrap_or(0)
    }

    /// Takes the tokens of so many POSTs, as many as there was room for at most. What somebody else took since is owed.
    pub(super) fn spend(&mut self, posts: usize) {
        self.level = self.level.saturating_sub(posts as i64 * TOKEN);
    }

    /// When there is room again, if there is none now.
    pub(super) fn next(&mut self, now: Timestamp) -> Option<Timestamp> {
        match self.room(now) {
            0 => Some(
                now + Duration::from_millis(
                    (TOKEN - self.level).unsigned_abs().div_ceil(self.per_second.unsigned_abs()),
                ),
            ),
            1.. => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    proptest! {
        /// Whoever asks whenever, and sends all that he may.
        #[test]
        fn no_second_sees_more_than_a_hundredth_beyond_the_rate(
            per_second in 1_usize..3000,
            waits in prop::collection::vec(0_i64..40, 1..400),
        ) {
            let (mut pace, mut now, mut sent) = (Pace::new(per_second, at(0)), 0, Vec::new());
            for wait in waits {
                now += wait;
                let room = pace.room(at(now));
                pace.spend(room);
                sent.push((now, room));
            }
            let most = per_second + (per_second / 100).max(1);
            for (index, (from, _)) in sent.iter().enumerate() {
                let within = sent[index..].iter().take_while(|(at, _)| at - from < 1000);
                let count: usize = within.map(|(_, posts)| posts).sum();
                prop_assert!(count <= most, "{count} from {from} ms on, at {per_second}/s");
            }
        }
    }

    #[test]
    fn rate_is_reached_by_whoever_comes_when_he_is_told_to() {
        for per_second in [1, 3, 49, 500, 1999] {
            let (mut pace, mut sent) = (Pace::new(per_second, at(0)), 0);
            let mut now = at(0);
            while now <= at(10_000) {
                let room = pace.room(now);
                pace.spend(room);
                sent += room;
                now = pace.next(now).expect("all was spent");
            }
            assert!((per_second * 10 - 1..=per_second * 10).contains(&sent), "{sent} at {per_second}/s");
        }
    }

    #[test]
    fn tokens_that_two_took_are_owed() {
        let mut pace = Pace::new(500, at(0));
        let room = pace.room(at(10));
        let shared = Shared::new(pace);

        assert_eq!((room, shared.take(at(10))), (2, None));
        shared.lock().spend(room);

        assert_eq!(shared.take(at(10)), Some(at(14)));
        assert_eq!((shared.take(at(14)), shared.take(at(14))), (None, Some(at(16))));
    }

    #[test]
    fn clock_that_is_set_stops_nothing_and_allows_no_burst() {
        let mut pace = Pace::new(500, at(1_000_000));

        assert_eq!(pace.room(at(0)), 0, "set back");
        assert_eq!(pace.room(at(4)), 2);
        pace.spend(2);
        assert_eq!(pace.room(at(90_000_000)), 2, "set ahead");
    }
}
