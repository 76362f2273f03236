//! Which exports go out as one request, and which of them stay together until that is over. Pure.
//!
//! Any that may go at the same time can go together, as long as they have had as many attempts: no two of them are of one
//! profile, for only the first of a line may go. What was once sent together stays so: it goes again when all of it may, and
//! is over when one of it is gone without the others.

use super::{Claimed, Window};
use crate::{
    clock::Timestamp,
    destination::{Batching, Format},
};

/// Exports that stay together, or one that stays alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct Kept {
    /// Their numbers, in the order in which they are sent.
    pub(in crate::store) numbers: Vec<u64>,
    pub(in crate::store) format: Format,
    /// The stored length of what says so on disk, as long as that is to stay there.
    pub(in crate::store) length: Option<usize>,
}

impl Kept {
    /// The number of the first: the one that they are kept by.
    pub(in crate::store) fn first(&self) -> u64 {
        *self.numbers.first().expect("at least one export is kept")
    }
}

/// Exports that were handed out as one request.
pub(in crate::store) struct Together {
    pub(in crate::store) claimed: Vec<Claimed>,
    /// They are kept together already.
    pub(in crate::store) kept: bool,
}

/// What a request may have, and whether more would have no room in it.
struct Gathered {
    numbers: Vec<u64>,
    full: bool,
}

impl Window {
    /// Hands out what goes as one request at `now`; nothing while the first waits for others still.
    pub(in crate::store) fn claim_together(&mut self, now: Timestamp, batching: &Batching) -> Option<Together> {
        let due = self.due(now);
        self.pass(due);
        let first = due?;
        let kept = self.kept.contains_key(&first);
        let numbers = match kept {
            true => self.kept[&first].numbers.clone(),
            false => {
                let Gathered { numbers, full } = self.gather(first, now, batching);
                (full || self.ripe(first, now, batching) <= now).then_some(numbers)?
            }
        };
        let claimed = numbers.into_iter().filter_map(|number| self.claim(number)).collect();
        Some(Together { claimed, kept })
    }

    /// Whether something may go out as a request at `now`.
    pub(in crate::store) fn has_together(&mut self, now: Timestamp, batching: &Batching) -> bool {
        let due = self.due(now);
        self.pass(due);
        self.next_together(now, batching).is_some_and(|due| due <= now)
    }

    /// When something may go out as a request, as seen at `now`, and as far as that is a matter of time.
    pub(in crate::store) fn next_together(&self, now: Timestamp, batching: &Batching) -> Option<Timestamp> {
        if self.due_retry(now).is_some() {
            return Some(now);
        }
        let fresh = self.fresh.first().map(|first| match self.kept.contains_key(first) {
            true => now,
            false if self.gather(*first, now, batching).full => now,
            false => self.ripe(*first, now, batching),
        });
        let retry = self.retries.first().map(|(due, _)| *due);
        fresh.into_iter().chain(retry).min()
    }

    /// What can go with `first`: retries that are due go with retries, what had no attempt goes with its like.
    fn gather(&self, first: u64, now: Timestamp, batching: &Batching) -> Gathered {
        let attempts = self.entries[&first].export.attempts.len();
        let retries = self.retries.iter().take_while(|(due, _)| *due <= now).map(|(_, number)| *number);
        let fresh = self.fresh.iter().copied();
        let others: &mut dyn Iterator<Item = u64> = match attempts {
            0 => &mut { fresh },
            1.. => &mut { retries },
        };
        let mut gathered = Gathered { numbers: vec![first], full: batching.max_exports == 1 };
        let mut bytes = self.entries[&first].bytes;
        for number in others.filter(|number| *number != first && !self.kept.contains_key(number)) {
            let entry = &self.entries[&number];
            if entry.export.attempts.len() != attempts {
                continue;
            }
            bytes += entry.bytes;
            if !batching.holds(gathered.numbers.len() + 1, bytes) {
                gathered.full = true;
            }
            if gathered.full {
                break;
            }
            gathered.numbers.push(number);
        }
        gathered.full |= gathered.numbers.len() == batching.max_exports;
        gathered
    }

    /// When an export has waited for others long enough. A retry waits for nobody, nor does what was accepted before the clock
    /// was set back.
    fn ripe(&self, number: u64, now: Timestamp, batching: &Batching) -> Timestamp {
        let export = &self.entries[&number].export;
        match export.attempts.is_empty() && export.accepted_at <= now {
            true => export.accepted_at + batching.max_wait,
            false => now,
        }
    }

    /// Whether all may go that go with `first`.
    pub(super) fn may_all_go(&self, first: u64) -> bool {
        match self.kept.get(&first) {
            // The last is given back last.
            Some(kept) => kept.numbers.iter().rev().all(|number| self.may_go(*number)),
            None => self.may_go(first),
        }
    }

    /// Keeps exports together from now on: somebody has them all, or they are still to come in.
    pub(in crate::store) fn keep_together(&mut self, kept: Kept) {
        let first = kept.first();
        self.first_of.extend(kept.numbers.iter().map(|number| (*number, first)));
        self.kept.insert(first, kept);
    }

    /// Those that this export stays together with.
    pub(in crate::store) fn kept_with(&mut self, number: u64) -> Option<&mut Kept> {
        self.kept.get_mut(self.first_of.get(&number)?)
    }

    /// All that stay together.
    pub(in crate::store) fn kept(&self) -> impl Iterator<Item = &Kept> {
        self.kept.values()
    }

    /// Ends what this export is a part of: each that nobody has may go by itself.
    pub(in crate::store) fn part(&mut self, number: u64) {
        let Some(first) = self.first_of.get(&number).copied() else { return };
        self.unready(first);
        let Some(kept) = self.kept.remove(&first) else { return };
        for number in &kept.numbers {
            self.first_of.remove(number);
        }
        kept.numbers.into_iter().for_each(|number| self.ready_if_head(number));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        export::{Attempt, Export, ExportId, Outcome, Trouble},
        profile::{ProfileKey, update::UpdateId},
        store::frozen::Frozen,
    };

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn batching(max_exports: usize, max_bytes: usize, wait_millis: u64) -> Batching {
        Batching { max_exports, max_bytes, max_wait: Duration::from_millis(wait_millis), format: Format::Array }
    }

    /// Exports of these profiles, each with a body of 100 bytes, accepted a millisecond after the other.
    fn window(profiles: &[usize]) -> Window {
        let keys: Vec<ProfileKey> = (0..100).map(|_| UpdateId::new(at(0)).into()).collect();
        let mut window = Window::new(1, 0, Vec::new());
        let made = profiles.iter().enumerate().map(|(index, profile)| {
            let now = at(index as i64);
            let id = ExportId::of(UpdateId::new(now), now, &"crm".parse().unwrap());
            (index as u64 + 1, Export::new(id, vec![keys[*profile]], now), Frozen::new(&[], &[b'x'; 99]))
        });
        window.publish(made.collect(), profiles.len() as u64);
        window
    }

    fn claim(window: &mut Window, now: i64, batching: &Batching) -> Option<Vec<u64>> {
        let together = window.claim_together(at(now), batching)?;
        Some(together.claimed.into_iter().map(|(number, ..)| number).collect())
    }

    fn keep(window: &mut Window, numbers: &[u64]) {
        window.keep_together(Kept { numbers: numbers.to_vec(), format: Format::Array, length: Some(9) });
    }

    fn fail(window: &mut Window, number: u64, due: i64) {
        let mut export = window.entries[&number].export.clone();
        export.attempts.push(Attempt::new(at(0), Outcome::Retryable(Trouble::Timeout)));
        export.due = at(due);
        window.give_back(number, Some(export));
    }

    #[test]
    fn those_that_may_go_go_together_and_no_two_of_a_profile() {
        let mut window = window(&[0, 1, 0, 2, 1, 3]);
        let three = batching(3, 100_000, 0);

        assert_eq!(claim(&mut window, 9, &three), Some(vec![1, 2, 4]));
        assert_eq!(claim(&mut window, 9, &three), Some(vec![6]));
        assert_eq!(claim(&mut window, 9, &three), None);
        window.finish(1);
        window.finish(2);
        assert_eq!(claim(&mut window, 9, &three), Some(vec![3, 5]));
    }

    #[test]
    fn bytes_bound_a_request_but_for_one_export_alone() {
        let mut window = window(&[0, 1, 2, 3, 4]);
        assert_eq!(claim(&mut window, 9, &batching(100, 250, 0)), Some(vec![1, 2]));
        assert_eq!(claim(&mut window, 9, &batching(100, 10, 0)), Some(vec![3]));
    }

    #[test]
    fn first_waits_for_others_until_the_request_is_full_or_its_time_is_over() {
        let mut window = window(&[0, 1, 2]);
        let patient = |exports| batching(exports, 100_000, 50);

        assert_eq!(claim(&mut window, 49, &patient(4)), None);
        assert_eq!(window.next_together(at(49), &patient(4)), Some(at(50)));
        assert_eq!(window.next_together(at(49), &patient(3)), Some(at(49)), "it is full");
        assert_eq!(claim(&mut window, 49, &patient(2)), Some(vec![1, 2]));
        assert_eq!(claim(&mut window, 49, &patient(2)), None);
        assert_eq!(claim(&mut window, 52, &patient(2)), Some(vec![3]));
        fail(&mut window, 1, 60);
        assert_eq!(window.next_together(at(53), &patient(9)), Some(at(60)));
        assert_eq!(claim(&mut window, 60, &patient(9)), Some(vec![1]), "a retry waits for nobody");
        let mut early = self::window(&[0, 1]);
        assert_eq!(claim(&mut early, -1000, &patient(9)), Some(vec![1, 2]), "the clock was set back");
    }

    #[test]
    fn what_is_kept_together_goes_together_and_once_all_of_it_may() {
        let mut window = window(&[0, 1, 2, 3, 0]);
        let two = batching(2, 100_000, 0);
        assert_eq!(claim(&mut window, 9, &two), Some(vec![1, 2]));
        keep(&mut window, &[1, 2]);
        fail(&mut window, 2, 20);
        assert_eq!(claim(&mut window, 30, &batching(9, 100_000, 0)), Some(vec![3, 4]), "1 is in somebody's hands");
        fail(&mut window, 1, 20);
        assert_eq!(claim(&mut window, 19, &two), None);

        let together = window.claim_together(at(20), &batching(1, 1, 0)).unwrap();

        let numbers: Vec<u64> = together.claimed.iter().map(|(number, ..)| *number).collect();
        assert_eq!((numbers, together.kept), (vec![1, 2], true), "whatever may go together now");
    }

    #[test]
    fn what_is_kept_together_is_over_when_one_is_gone_and_not_before() {
        let mut window = window(&[0, 1, 2]);
        let all = batching(9, 100_000, 0);
        assert_eq!(claim(&mut window, 9, &all), Some(vec![1, 2, 3]));
        keep(&mut window, &[1, 2, 3]);
        (1..=3).for_each(|number| fail(&mut window, number, 20));

        let (probed, ..) = window.claim_head(1).unwrap();
        assert_eq!((probed, claim(&mut window, 30, &all)), (2, None), "one of them is probed");
        window.give_back(2, None);
        assert_eq!(window.next_together(at(9), &all), Some(at(20)));
        assert!(matches!(window.seize(2), super::super::Seized::Here(_)));
        assert_eq!(claim(&mut window, 30, &all), None, "one of them is being dropped");
        window.finish(2);

        let together = window.claim_together(at(30), &all).unwrap();
        let numbers: Vec<u64> = together.claimed.iter().map(|(number, ..)| *number).collect();
        assert_eq!((numbers, together.kept, window.kept().count()), (vec![1, 3], false, 0));
    }

    /// A newer export may have taken its place in each group, and another has it again before that one is synced.
    #[test]
    fn one_that_the_sender_waits_for_is_lent_to_newer_exports_no_more() {
        let all = batching(9, 100_000, 0);
        for asks in [
            |window: &mut Window, all| window.has_together(at(9), all),
            |window: &mut Window, all| window.claim_together(at(9), all).is_some(),
        ] {
            let mut window = window(&[0]);
            assert!(window.reserve(1) && window.reserve(1), "nobody waits for it yet");
            assert!(!asks(&mut window, &all));
            assert!(!window.reserve(1));
        }
    }

    #[test]
    fn exports_with_other_numbers_of_attempts_do_not_mix() {
        let mut window = window(&[0, 1, 2, 3]);
        let all = batching(9, 100_000, 0);
        let (first, ..) = window.claim_head(0).unwrap();
        fail(&mut window, first, 5);
        assert_eq!(claim(&mut window, 9, &all), Some(vec![1]));
        assert_eq!(claim(&mut window, 9, &all), Some(vec![2, 3, 4]));
    }
}
