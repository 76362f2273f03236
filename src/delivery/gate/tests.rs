//! A gate judges what its destination answers.

use super::*;
use crate::{
    export::{ExportId, Next},
    profile::update::UpdateId,
};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

fn certificate(digit: &str) -> Fingerprint {
    digit.repeat(64).try_into().unwrap()
}

/// A gate of a receiver that has accepted our certificate before.
fn gate() -> Gate {
    let standing = Standing { accepted_with: Some(certificate("a")), ..Standing::default() };
    Gate::new(standing, certificate("a"), at(0))
}

fn export() -> Export {
    let update = UpdateId::new(at(0));
    Export::new(ExportId::of(update, at(0), &"crm".parse().unwrap()), vec![update.into()], at(0))
}

fn failed() -> Outcome {
    Outcome::Retryable(Trouble::Status(500))
}

#[test]
fn three_charged_failures_in_a_row_hold_and_then_nothing_is_charged() {
    let mut gate = gate();

    let charges: Vec<Charge> =
        (0..40).map(|number| gate.judge(number, 1, failed(), Over::InUse, at(0)).charge).collect();

    assert_eq!(charges[..3], [Charge::Attempt; 3]);
    assert_eq!(charges[3..], [Charge::Trial; 37]);
    assert_eq!(gate.held().map(|hold| &hold.fault), Some(&Fault::Failing));
    assert_eq!(gate.allowance(at(0)), Allowance::Nothing { until: at(1) }, "stragglers do not lengthen the wait");
}

#[test]
fn delivery_between_failures_keeps_the_gate_open() {
    let mut gate = gate();
    for _ in 0..20 {
        gate.judge(1, 1, failed(), Over::InUse, at(0));
        gate.judge(1, 1, failed(), Over::InUse, at(0));
        gate.judge(1, 1, Outcome::Delivered(200), Over::InUse, at(0));
    }
    assert_eq!(gate.allowance(at(0)), Allowance::Due);
}

#[test]
fn ten_refusals_in_a_row_hold() {
    let mut gate = gate();
    for number in 0..10 {
        assert!(gate.held().is_none());
        gate.judge(number, 1, Outcome::Refused(422), Over::InUse, at(0));
    }
    assert_eq!(gate.held().map(|hold| &hold.fault), Some(&Fault::Refusing));
}

#[test]
fn refused_request_of_several_exports_says_nothing_of_the_destination() {
    let mut gate = gate();
    for number in 0..100 {
        let judgement = gate.judge(number, 2, Outcome::Refused(422), Over::InUse, at(0));
        assert_eq!((judgement.charge, gate.held()), (Charge::Attempt, None));
    }
}

#[test]
fn probes_wait_twice_as_long_each_time_up_to_a_minute_and_a_delivery_opens() {
    let mut gate = gate();
    gate.judge(1, 1, Outcome::Fault(Fault::Unreachable), Over::InUse, at(0));
    let (mut now, mut waits) = (at(0), Vec::new());
    for number in 1..9 {
        let Allowance::Nothing { until } = gate.allowance(now) else { panic!("not held") };
        waits.push(until.since(now).as_secs());
        now = until;
        assert_eq!(gate.allowance(now), Allowance::Probe { after: number - 1 });
        gate.probing(number);
        let judgement = gate.judge(number, 1, Outcome::Fault(Fault::Closed), Over::InUse, now);
        assert_eq!(judgement.charge, Charge::Trial);
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);

    let judgement = gate.judge(9, 1, Outcome::Delivered(204), Over::InUse, now);

    assert_eq!(judgement.standing, Some(Standing { accepted_with: Some(certificate("a")), ..Standing::default() }));
    assert_eq!(gate.allowance(now), Allowance::Due);
}

#[test]
fn fault_that_may_be_the_exports_own_is_once_others_were_delivered_between() {
    for (fault, meant) in [
        (Fault::Status(404), Outcome::Refused(404)),
        (Fault::Token(TokenFault::NotAccepted), Outcome::Refused(401)),
        (Fault::NotProcessed, Outcome::Retryable(Trouble::Lost)),
        (Fault::OtherHttp, Outcome::Retryable(Trouble::Lost)),
    ] {
        let (mut gate, mut poisoned) = (gate(), export());
        let met = Outcome::Fault(fault);

        // In the same millisecond, and before: not between.
        gate.judge(0, 1, Outcome::Delivered(200), Over::InUse, at(1));
        let first = gate.judge(1, 1, met.clone(), Over::InUse, at(1));
        assert_eq!((&first.outcome, first.charge), (&met, Charge::Trial));
        let first_met = Attempt::new(at(1), first.outcome);
        let Next::Waiting(after) = poisoned.after(first_met, first.charge, &[Duration::ZERO; 2]) else {
            panic!("a trial ended an export")
        };
        poisoned = after;
        assert_eq!(gate.in_context(&poisoned, met.clone(), true), met);
        gate.judge(2, 1, Outcome::Delivered(200), Over::InUse, at(2));
        let second = gate.judge(1, 1, gate.in_context(&poisoned, met, true), Over::InUse, at(3));

        assert_eq!((second.outcome, second.charge), (meant, Charge::Attempt));
        assert_eq!(gate.allowance(at(3)), Allowance::Due);
    }
}

#[test]
fn receiver_that_never_accepted_our_certificate_is_held_at_400_and_403() {
    for outcome in [Outcome::Refused(400), Outcome::Retryable(Trouble::Status(403))] {
        let accepted_another = Standing { accepted_with: Some(certificate("b")), ..Standing::default() };
        let mut gate = Gate::new(accepted_another, certificate("a"), at(0));

        let judgement = gate.judge(1, 1, gate.in_context(&export(), outcome.clone(), false), Over::InUse, at(0));

        assert!(matches!(judgement.outcome, Outcome::Fault(Fault::NeverAccepted(400 | 403))), "{outcome:?}");
        assert_eq!(judgement.charge, Charge::Trial);
        gate.judge(2, 1, Outcome::Delivered(200), Over::InUse, at(1));
        assert_eq!(gate.in_context(&export(), outcome.clone(), true), outcome, "once it accepted");
    }
}

#[test]
fn throttled_destination_waits_as_long_as_it_is_asked_to() {
    let mut gate = gate();

    let judgement = gate.judge(1, 1, Outcome::Throttled(429, Duration::from_secs(7)), Over::InUse, at(0));

    assert_eq!(judgement.charge, Charge::Trial);
    assert_eq!(gate.allowance(at(6)), Allowance::Nothing { until: at(7) });
    assert_eq!(gate.allowance(at(7)), Allowance::Due);
    assert!(gate.held().is_none());
}

#[test]
fn stragglers_do_not_cut_a_throttle_short() {
    let mut gate = gate();
    gate.judge(1, 1, Outcome::Throttled(503, Duration::from_secs(60)), Over::InUse, at(0));

    gate.judge(2, 1, Outcome::Throttled(503, Duration::from_secs(1)), Over::InUse, at(1));
    gate.judge(3, 1, failed(), Over::InUse, at(1));
    assert_eq!(gate.allowance(at(2)), Allowance::Nothing { until: at(60) });

    gate.judge(4, 1, Outcome::Fault(Fault::Unreachable), Over::InUse, at(2));
    assert_eq!(gate.allowance(at(4)), Allowance::Nothing { until: at(60) });
    assert_eq!(gate.allowance(at(60)), Allowance::Probe { after: 0 });
}

#[test]
fn clock_set_back_ends_a_wait() {
    let (mut throttled, mut held) = (gate(), gate());
    throttled.judge(1, 1, Outcome::Throttled(503, Duration::from_secs(60)), Over::InUse, at(86_400));
    held.judge(1, 1, Outcome::Fault(Fault::Unreachable), Over::InUse, at(86_400));

    assert_eq!(throttled.allowance(at(0)), Allowance::Due);
    assert_eq!(held.allowance(at(0)), Allowance::Probe { after: 0 });
}

#[test]
fn hold_survives_a_restart_and_begins_with_a_probe() {
    let hold = Hold { fault: Fault::Failing, since: at(0) };
    let standing = Standing { hold: Some(hold), accepted_with: Some(certificate("a")), paused: None };

    let mut gate = Gate::new(standing, certificate("a"), at(100));

    assert_eq!(gate.allowance(at(100)), Allowance::Probe { after: 0 });
}

#[test]
fn straggler_that_asks_to_wait_is_heard_while_held() {
    let mut gate = gate();
    for number in 1..4 {
        gate.judge(number, 1, failed(), Over::InUse, at(0));
    }

    let judgement = gate.judge(4, 1, Outcome::Throttled(503, Duration::from_secs(300)), Over::InUse, at(0));

    assert_eq!(judgement.charge, Charge::Trial);
    assert_eq!(gate.allowance(at(60)), Allowance::Nothing { until: at(300) });
}
