//! A destination's gate: open, throttled or held, and who pays for a failed POST. Pure.
//!
//! A fault of the destination is not a fault of its exports. A fault holds the gate at once; three charged failures in a
//! row, or ten refusals, hold it too. While it is held, nothing is charged, and one probe at a time goes out: the first in
//! line of each profile in turn, at 1 s growing to 60 s. A delivery opens it.

use std::time::Duration;

use super::{control, rotation::Over};
use crate::{
    clock::Timestamp,
    destination::{Hold, Standing},
    export::{Attempt, Charge, Export, Fault, Outcome, Trouble},
    tls::Fingerprint,
    token::TokenFault,
};

/// Charged failures in a row that hold a destination: they look like an outage that answers.
const FAILURES_MAX: u32 = 3;
/// Refusals in a row that hold a destination: they look like a receiver that wants nothing any more.
const REFUSALS_MAX: u32 = 10;
/// The first wait before a probe.
const PROBE_WAIT: Duration = Duration::from_secs(1);
/// The longest: a receiver that is back is noticed within a minute.
const PROBE_WAIT_MAX: Duration = Duration::from_secs(60);
/// No wait is longer, so one that seems to be was set before the clock was set back, and is over.
const WAIT_MAX: Duration = Duration::from_secs(600);

/// A destination's gate.
#[derive(Debug)]
pub(super) struct Gate {
    state: State,
    standing: Standing,
    /// The certificate in use.
    pub(super) certificate: Fingerprint,
    last_delivery: Option<Timestamp>,
}

#[derive(Debug)]
enum State {
    Open {
        failures: u32,
        refusals: u32,
    },
    Throttled {
        until: Timestamp,
    },
    /// `after` was probed last; `probe` is under way.
    Held {
        probe_at: Timestamp,
        wait: Duration,
        after: u64,
        probe: Option<u64>,
    },
}

/// What may be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Allowance {
    /// All that is due.
    Due,
    /// One probe: the head behind this number, when nothing else is under way.
    Probe {
        /// The number of the last one probed.
        after: u64,
    },
    /// Nothing before then.
    Nothing {
        /// When to ask again.
        until: Timestamp,
    },
}

/// What the gate makes of a POST.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Judgement {
    /// The outcome, in the light of what else is known of the destination.
    pub(super) outcome: Outcome,
    /// Who pays.
    pub(super) charge: Charge,
    /// What is to be kept of the destination, where that changed.
    pub(super) standing: Option<Standing>,
}

impl Gate {
    /// A gate as it was left; `certificate` is the one in use now.
    pub(super) fn new(standing: Standing, certificate: Fingerprint, now: Timestamp) -> Self {
        let state = match standing.hold {
            Some(_) => State::Held { probe_at: now, wait: PROBE_WAIT, after: 0, probe: None },
            None => OPEN,
        };
        Self { state, standing, certificate, last_delivery: None }
    }

    /// What may be sent at `now`.
    pub(super) fn allowance(&mut self, now: Timestamp) -> Allowance {
        if self.standing.paused.is_some() {
            return Allowance::Nothing { until: now + WAIT_MAX };
        }
        let (State::Throttled { until } | State::Held { probe_at: until, .. }) = self.state else {
            return Allowance::Due;
        };
        if now < until && until.since(now) <= WAIT_MAX {
            return Allowance::Nothing { until };
        }
        match self.state {
            State::Held { after, .. } => Allowance::Probe { after },
            State::Throttled { .. } | State::Open { .. } => {
                self.state = OPEN;
                Allowance::Due
            }
        }
    }

    /// Takes note that the export of this number goes out as a probe.
    pub(super) fn probing(&mut self, number: u64) {
        if let State::Held { probe, .. } = &mut self.state {
            *probe = Some(number);
        }
    }

    /// Holds the gate, or keeps it held for longer. The fault shown is the newest, the instant that of the first.
    pub(super) fn hold(&mut self, fault: Fault, now: Timestamp) {
        let since = self.standing.hold.as_ref().map_or(now, |hold| hold.since);
        self.standing.hold = Some(Hold { fault, since });
        let (wait, after) = match self.state {
            State::Held { wait, after, .. } => (wait, after),
            State::Open { .. } | State::Throttled { .. } => (PROBE_WAIT, 0),
        };
        self.state = State::Held { probe_at: now + wait, wait: (wait * 2).min(PROBE_WAIT_MAX), after, probe: None };
    }

    /// Sends nothing until [`Gate::resume`]; returns what is to be kept.
    pub(super) fn pause(&mut self, now: Timestamp) -> Standing {
        self.standing.paused.get_or_insert(now);
        self.standing.clone()
    }

    /// Ends a pause; returns what is to be kept. A held gate is probed at once: the person who asks for it has mended something.
    pub(super) fn resume(&mut self, now: Timestamp) -> Standing {
        self.probe_soon(now);
        self.standing.paused = None;
        self.standing.clone()
    }

    /// True while a person wishes that nothing is sent.
    pub(super) fn is_paused(&self) -> bool {
        self.standing.paused.is_some()
    }

    /// Something has changed for the better: a gate that is held is probed at once.
    pub(super) fn probe_soon(&mut self, now: Timestamp) {
        if let State::Held { probe_at, wait, .. } = &mut self.state {
            (*probe_at, *wait) = (now, PROBE_WAIT);
        }
    }

    /// The certificate over which the destination last accepted an export.
    pub(super) fn accepted_with(&self) -> Option<Fingerprint> {
        self.standing.accepted_with
    }

    /// Whether it sends, for a person.
    pub(super) fn state(&self, now: Timestamp) -> control::State {
        let hold = self.standing.hold.clone();
        match (self.standing.paused, &self.state, hold) {
            (Some(since), _, hold) => control::State::Paused { since, hold },
            (None, State::Held { probe_at, probe, .. }, Some(hold)) => {
                control::State::Held { hold, next_probe: probe.is_none().then_some((*probe_at).max(now)) }
            }
            (None, State::Throttled { until }, _) if *until > now => control::State::Throttled { until: *until },
            (None, _, _) => control::State::Open,
        }
    }

    /// Why it is held, and since when.
    pub(super) fn held(&self) -> Option<&Hold> {
        self.standing.hold.as_ref()
    }

    /// Learns from a POST of so many exports, the first of which has this number, and judges it. The outcome is what it means in
    /// context.
    pub(super) fn judge(
        &mut self,
        number: u64,
        exports: usize,
        outcome: Outcome,
        over: Over,
        now: Timestamp,
    ) -> Judgement {
        let before = self.standing.clone();
        // What a pair met that is not in use any more says nothing of the one that is.
        if over == Over::Another && may_speak_of_certificate(&outcome) {
            return Judgement { outcome, charge: Charge::Trial, standing: None };
        }
        let charge = match self.state {
            State::Held { .. } => self.judge_held(number, &outcome, now),
            State::Open { .. } | State::Throttled { .. } => self.judge_open(exports, &outcome, now),
        };
        if let (Outcome::Delivered(_), Over::InUse) = (&outcome, over) {
            self.standing.accepted_with = Some(self.certificate);
        }
        let standing = (before != self.standing).then(|| self.standing.clone());
        Judgement { outcome, charge, standing }
    }

    /// What an outcome over the pair in use means here: a 400 or 403 of a receiver that never accepted our certificate is about the
    /// certificate (nginx answers so after a good handshake); a status fault, or a request that is not taken by HTTP/2, that the same
    /// export meets again after others were delivered is about the export.
    pub(super) fn in_context(&self, export: &Export, outcome: Outcome, accepted: bool) -> Outcome {
        match outcome {
            Outcome::Refused(status @ 400) if !accepted => Outcome::Fault(Fault::NeverAccepted(status)),
            Outcome::Retryable(Trouble::Status(status @ 403)) if !accepted => {
                Outcome::Fault(Fault::NeverAccepted(status))
            }
            Outcome::Fault(fault) if self.delivered_since(export, &fault) => match (status_of(&fault), &fault) {
                (Some(status), _) => Outcome::Refused(status),
                // It may be tied to what the request says: it must end some time.
                (None, Fault::NotProcessed | Fault::OtherHttp) => Outcome::Retryable(Trouble::Lost),
                (None, _) => Outcome::Fault(fault),
            },
            other => other,
        }
    }

    fn delivered_since(&self, export: &Export, fault: &Fault) -> bool {
        let met_before = |trial: &&Attempt| matches!(&trial.outcome, Outcome::Fault(met) if met == fault);
        let met_before = export.last_trial.as_ref().filter(met_before);
        met_before.is_some_and(|trial| self.last_delivery.is_some_and(|delivery| delivery > trial.at))
    }

    fn judge_open(&mut self, exports: usize, outcome: &Outcome, now: Timestamp) -> Charge {
        let (mut failures, mut refusals) = match self.state {
            State::Open { failures, refusals } => (failures, refusals),
            State::Throttled { .. } | State::Held { .. } => (0, 0),
        };
        match outcome {
            Outcome::Delivered(_) => {
                self.delivered(now);
                return Charge::Attempt;
            }
            Outcome::Throttled(_, wait) => {
                self.state = State::Throttled { until: self.asked_to_wait_until(now).max(now + *wait) };
                return Charge::Trial;
            }
            Outcome::Fault(fault) => {
                let until = self.asked_to_wait_until(now);
                self.hold(fault.clone(), now);
                if let State::Held { probe_at, .. } = &mut self.state {
                    *probe_at = (*probe_at).max(until);
                }
                return Charge::Trial;
            }
            Outcome::Retryable(_) => failures += 1,
            // Of several, it says that one of them is bad: their halves will tell.
            Outcome::Refused(_) => refusals += u32::from(exports == 1),
        }
        match self.state {
            // A straggler must not cut short the wait that the receiver asked for.
            State::Throttled { .. } => {}
            State::Open { .. } | State::Held { .. } => self.state = State::Open { failures, refusals },
        }
        if failures >= FAILURES_MAX {
            self.hold(Fault::Failing, now);
        } else if refusals >= REFUSALS_MAX {
            self.hold(Fault::Refusing, now);
        }
        Charge::Attempt
    }

    /// The end of a throttle that is in force, which no straggler cuts short.
    fn asked_to_wait_until(&self, now: Timestamp) -> Timestamp {
        match self.state {
            State::Throttled { until } => until,
            State::Open { .. } | State::Held { .. } => now,
        }
    }

    fn judge_held(&mut self, number: u64, outcome: &Outcome, now: Timestamp) -> Charge {
        if let Outcome::Delivered(_) = outcome {
            self.delivered(now);
            return Charge::Attempt;
        }
        match &mut self.state {
            State::Held { after, probe: probe @ Some(_), .. } if *probe == Some(number) => {
                (*after, *probe) = (number, None)
            }
            // It was under way when the gate was held, and says nothing new but how long to wait.
            State::Held { probe_at, .. } => {
                if let Outcome::Throttled(_, wait) = outcome {
                    *probe_at = (*probe_at).max(now + *wait);
                }
                return Charge::Trial;
            }
            State::Open { .. } | State::Throttled { .. } => return Charge::Trial,
        }
        match outcome {
            Outcome::Fault(fault) => self.hold(fault.clone(), now),
            Outcome::Refused(_) => self.hold(Fault::Refusing, now),
            Outcome::Retryable(_) | Outcome::Delivered(_) | Outcome::Throttled(..) => self.hold(Fault::Failing, now),
        }
        if let (Outcome::Throttled(_, wait), State::Held { probe_at, .. }) = (outcome, &mut self.state) {
            *probe_at = (*probe_at).max(now + *wait);
        }
        Charge::Trial
    }

    fn delivered(&mut self, now: Timestamp) {
        self.last_delivery = Some(now);
        self.standing.hold = None;
        if !matches!(self.state, State::Throttled { .. }) {
            self.state = OPEN;
        }
    }
}

/// The status by which a receiver shows a fault that may be the export's own.
fn status_of(fault: &Fault) -> Option<u16> {
    match fault {
        Fault::Status(status) => Some(*status),
        Fault::Token(TokenFault::NotAccepted) => Some(401),
        Fault::Token(_)
        | Fault::Unreachable
        | Fault::NotTrusted
        | Fault::Handshake
        | Fault::NotMutual
        | Fault::CertificateRefused
        | Fault::CertificateNotValid
        | Fault::Closed
        | Fault::NeverAccepted(_)
        | Fault::Failing
        | Fault::Refusing
        | Fault::OtherHttp
        | Fault::NotProcessed => None,
    }
}

/// Whether an outcome may speak of our certificate, or of the destination, rather than of the export.
fn may_speak_of_certificate(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Fault(_) | Outcome::Refused(400) | Outcome::Retryable(Trouble::Status(403)))
}

const OPEN: State = State::Open { failures: 0, refusals: 0 };

#[cfg(test)]
mod tests;
