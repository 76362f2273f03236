//! What becomes of the exports of one request. Pure.
//!
//! One answer is for all of them. Where it would make dead letters of several, it says only that one of them at least is
//! bad, and the request goes again in halves, and so on: a single export alone can be refused or run out of attempts. Halves
//! of what was refused go at once, those of what has failed for the last time after the second delay. That is charged to
//! nobody: most of them are not at fault, and there are no more such requests than twice as many as there are exports. One alone
//! that met a fault of the destination, as probes do, was not taken by it, and may go with others next time.

use std::time::Duration;

use crate::{
    export::{Attempt, Charge, Export, Fault, Next, Outcome},
    store::{Then, middle},
};

/// Where the exports of a request go.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fate {
    /// Of each.
    pub(super) nexts: Vec<Next>,
    /// What becomes of them together, where they wait.
    pub(super) then: Then,
}

/// Where exports go after a POST of all of them, in this order, that is paid for by `charge`.
pub(super) fn fate(exports: &[&Export], attempt: Attempt, charge: Charge, delays: &[Duration; 2]) -> Fate {
    if let Outcome::Delivered(_) = attempt.outcome {
        return Fate { nexts: vec![Next::Delivered(attempt); exports.len()], then: Then::Stay };
    }
    let after = |export: &&Export| (*export).clone().after(attempt.clone(), charge, delays);
    let mut nexts: Vec<Next> = exports.iter().map(after).collect();
    if exports.len() > 1 && nexts.iter().any(|next| matches!(next, Next::Dead(_))) {
        return Fate { nexts: in_halves(exports, &attempt, delays), then: Then::Halve };
    }
    if charge == Charge::Attempt {
        be_due_with_the_first(&mut nexts);
    }
    let then = match &attempt.outcome {
        Outcome::Fault(fault) if exports.len() == 1 && *fault != Fault::Closed => Then::Mix,
        _ => Then::Stay,
    };
    Fate { nexts, then }
}

fn in_halves(exports: &[&Export], attempt: &Attempt, delays: &[Duration; 2]) -> Vec<Next> {
    let (front, back) = exports.split_at(middle(exports.len()));
    let half = |half: &[&Export]| {
        let due = match (&attempt.outcome, half) {
            (Outcome::Retryable(_), [first, ..]) => first.due_after(attempt.at, delays[1]),
            _ => attempt.at,
        };
        half.iter().map(|export| Next::Waiting((*export).clone().in_half(attempt.clone(), due))).collect::<Vec<_>>()
    };
    [half(front), half(back)].concat()
}

/// Each has a delay by chance of its own.
fn be_due_with_the_first(nexts: &mut [Next]) {
    let Some(Next::Waiting(Export { due, .. })) = nexts.first() else { return };
    let due = *due;
    for next in nexts {
        if let Next::Waiting(export) = next {
            export.due = due;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::Timestamp,
        export::{Cause, ExportId, Fault, Trouble},
        profile::update::UpdateId,
    };

    const DELAYS: [Duration; 2] = [Duration::from_secs(15), Duration::from_secs(30)];

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn exports(count: usize) -> Vec<Export> {
        let export = || {
            let update = UpdateId::new(at(0));
            Export::new(ExportId::of(update, at(0), &"crm".parse().unwrap()), vec![update.into()], at(0))
        };
        std::iter::repeat_with(export).take(count).collect()
    }

    fn meet(exports: &[Export], outcome: Outcome, charge: Charge, now: Timestamp) -> (Vec<Export>, Then) {
        let all: Vec<&Export> = exports.iter().collect();
        let Fate { nexts, then } = fate(&all, Attempt::new(now, outcome), charge, &DELAYS);
        let waiting = |next| match next {
            Next::Waiting(export) => export,
            next => panic!("{next:?}"),
        };
        (nexts.into_iter().map(waiting).collect(), then)
    }

    #[test]
    fn failure_is_charged_to_each_and_all_come_due_together() {
        let (all, then) = meet(&exports(5), Outcome::Retryable(Trouble::Status(500)), Charge::Attempt, at(100));

        assert_eq!(then, Then::Stay);
        assert!(all.iter().all(|export| export.attempts.len() == 1 && export.due == all[0].due));
        assert!((13_500..=16_500).contains(&all[0].due.since(at(100)).as_millis()));
    }

    #[test]
    fn trial_is_charged_to_nobody_and_changes_no_due_time() {
        for outcome in [Outcome::Fault(Fault::Status(404)), Outcome::Refused(400), Outcome::Retryable(Trouble::Timeout)]
        {
            let (all, then) = meet(&exports(3), outcome, Charge::Trial, at(100));
            assert_eq!(then, Then::Stay);
            assert!(all.iter().all(|export| (export.attempts.len(), export.trials, export.due) == (0, 1, at(0))));
        }
    }

    #[test]
    fn one_that_met_a_fault_alone_may_go_with_others_unless_it_may_have_been_looked_at() {
        let alone = |fault| meet(&exports(1), Outcome::Fault(fault), Charge::Trial, at(1)).1;
        assert_eq!(
            [alone(Fault::Unreachable), alone(Fault::Status(404)), alone(Fault::Closed)],
            [Then::Mix, Then::Mix, Then::Stay]
        );
        assert_eq!(meet(&exports(1), Outcome::Retryable(Trouble::Timeout), Charge::Attempt, at(1)).1, Then::Stay);
    }

    #[test]
    fn refused_request_goes_in_halves_until_one_export_alone_is_refused() {
        let all = exports(5);
        let (front, then) = meet(&all, Outcome::Refused(422), Charge::Attempt, at(7));
        assert_eq!(then, Then::Halve);
        assert!(front.iter().all(|export| (export.attempts.len(), export.trials, export.due) == (0, 1, at(7))));

        let fate = fate(&[&front[0]], Attempt::new(at(8), Outcome::Refused(422)), Charge::Attempt, &DELAYS);

        let [Next::Dead(letter)] = &fate.nexts[..] else { panic!("{fate:?}") };
        assert_eq!((letter.cause, letter.export.attempts.len(), letter.export.trials), (Cause::Refused, 1, 1));
    }

    #[test]
    fn last_attempt_of_several_is_not_charged_and_its_halves_wait() {
        let failure = || Outcome::Retryable(Trouble::Status(500));
        let (once, _) = meet(&exports(4), failure(), Charge::Attempt, at(0));
        let (twice, _) = meet(&once, failure(), Charge::Attempt, at(20));

        let (halves, then) = meet(&twice, failure(), Charge::Attempt, at(100));

        assert_eq!(then, Then::Halve);
        assert!(halves.iter().all(|export| (export.attempts.len(), export.trials) == (2, 1)));
        assert!((27_000..=33_000).contains(&halves[0].due.since(at(100)).as_millis()));
        assert!(halves[0].due == halves[1].due && halves[2].due == halves[3].due);
    }

    #[test]
    fn fault_that_turned_out_to_be_the_exports_own_stays_in_mind_in_its_half() {
        let (met, _) = meet(&exports(2), Outcome::Fault(Fault::Status(404)), Charge::Trial, at(1));

        let (halves, _) = meet(&met, Outcome::Refused(404), Charge::Attempt, at(9));
        let (others, _) = meet(&met, Outcome::Refused(422), Charge::Attempt, at(9));

        assert_eq!(halves[0].last_trial, met[0].last_trial);
        assert_eq!(others[0].last_trial.as_ref().map(|trial| trial.outcome.clone()), Some(Outcome::Refused(422)));
    }
}
