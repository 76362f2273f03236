//! How many exports of a walk may stand in a destination's queue, so that a fresh one behind them is sent within a second.
//! Pure.
//!
//! A queue is sent in order, so what stands in it is what a fresh export waits for. A walk fills it up to what was sent
//! lately in two fifths of a second: where that is little, it is filled little, and where the receiver keeps up, more is sent
//! and more may stand there the next time.

use std::{collections::VecDeque, time::Duration};

use crate::clock::Timestamp;

/// The rate is that of so long.
const RATE_OVER: Duration = Duration::from_secs(1);
/// A queue takes what is sent in this part of a second: the rest of the second is for what is in flight, and for a
/// receiver that grows slower.
const FILLED_FOR: f64 = 0.4;
/// How fast a queue is sent.
#[derive(Debug, Default)]
pub struct Rate {
    /// How many had ever left the queue, at these instants, oldest first.
    samples: VecDeque<(Timestamp, u64)>,
}

impl Rate {
    /// Takes note of how many have left the queue by now.
    pub fn note(&mut self, now: Timestamp, left: u64) {
        if self.samples.back().is_some_and(|(at, _)| *at > now) {
            // The clock was set back.
            self.samples.clear();
        }
        // One that is older stays, so that there is always a whole second to go by.
        while self.samples.get(1).is_some_and(|(at, _)| now.since(*at) >= RATE_OVER) {
            self.samples.pop_front();
        }
        match self.samples.back_mut() {
            Some((at, count)) if *at == now => *count = left,
            Some(_) | None => self.samples.push_back((now, left)),
        }
    }

    /// How many left it a second, lately.
    fn a_second(&self) -> f64 {
        let (Some((from, before)), Some((to, after))) = (self.samples.front(), self.samples.back()) else { return 0.0 };
        after.saturating_sub(*before) as f64 / to.since(*from).max(RATE_OVER / 4).as_secs_f64()
    }

    /// How many exports of a walk a queue has room for, in which so many stand, and which takes so many at most. What goes in
    /// one request may always stand there, or nothing would ever be sent and known: fewer would wait for others to go with.
    pub fn room(&self, standing: usize, a_request: usize, most: usize) -> usize {
        // A float is cut at the bounds of an integer.
        let filled = (self.a_second() * FILLED_FOR) as usize;
        let least = a_request.max(1);
        filled.clamp(least, most.max(least)).saturating_sub(standing)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// A receiver that takes one after the other, each for so long, is never given more than it takes in a second; and
        /// one that keeps up is sent to faster and faster.
        #[test]
        fn fresh_export_waits_no_longer_than_a_second(millis_each in 1..1000u64, seconds in 3..12u64) {
            let (mut rate, mut left, mut standing, mut busy) = (Rate::default(), 0_u64, 0_usize, 0);
            for millis in 0..seconds * 1000 {
                if standing > 0 {
                    busy += 1;
                    if busy == millis_each {
                        (busy, standing, left) = (0, standing - 1, left + 1);
                    }
                }
                if millis % 20 == 0 {
                    let now = Timestamp::from_millis(millis as i64);
                    rate.note(now, left);
                    standing += rate.room(standing, 1, 256);
                    prop_assert!(standing as u64 * millis_each <= 1000, "{standing} stand before a fresh one");
                }
            }
            let keeps_up = left * millis_each.max(20) >= seconds * 1000 / 2;
            prop_assert!(keeps_up, "{left} in {seconds} s");
        }
    }

    #[test]
    fn room_follows_what_was_sent_and_a_clock_that_is_set_back_starts_anew() {
        let at = Timestamp::from_millis;
        let mut rate = Rate::default();
        assert_eq!((rate.room(0, 1, 256), rate.room(30, 100, 64)), (1, 70));
        (0..=20).for_each(|tick| rate.note(at(tick * 100), tick as u64 * 10));
        assert_eq!([0, 10, 100].map(|standing| rate.room(standing, 1, 256)), [40, 30, 0]);
        assert_eq!(rate.room(0, 1, 8), 8);
        rate.note(at(0), 500);
        assert_eq!((rate.room(0, 1, 256), rate.samples.len()), (1, 1));
    }
}
