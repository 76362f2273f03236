//! What becomes of a POST that ended: who pays, where its exports go next, and what is said of it.

use tokio::task::JoinError;
use tracing::{debug, error, info, warn};

use super::{
    Ended, Failure, Met, Worker,
    rotation::{Over, refuses_certificate},
    together::{self, Fate},
};
use crate::{
    clock::Timestamp,
    export::{Attempt, Charge, Export, Fault, Next, Outcome},
    metrics,
    store::{Batch, Then},
};

impl Worker {
    pub(super) fn settle(&mut self, ended: Result<Ended, JoinError>) {
        let now = self.clock.now();
        let Ended { batch, sender, met } = match ended {
            Ok(ended) => ended,
            // Its claim was given back; the hold keeps it from doing so again and again at full speed.
            Err(error) => {
                error!(destination = %self.destination.id(), %error, "a POST broke off; this is a fault of ours");
                self.gate.hold(Fault::Failing, now);
                return self.show_state();
            }
        };
        // It was not sent: its claims are given back.
        let Some(Met { status: _, outcome, detail, answer }) = met else { return };
        let outcome = outcome.unwrap_or_else(Outcome::Fault);
        let (detail, destination) = (detail.as_deref(), self.destination.id().clone());
        let was_held = self.gate.held().cloned();
        // Exports of one request have met the same, and are judged by the first of them.
        let first = batch.first();
        let (outcome, over) = self.heed(sender, &first.export, outcome);
        let judgement = self.gate.judge(first.number(), batch.count(), outcome, over, now);
        if over == Over::InUse {
            self.rotation.met(&first.export, &judgement.outcome);
        }
        if judgement.standing.is_some() {
            self.look_at = Timestamp::default();
        }
        self.log_gate(was_held.map(|hold| hold.fault), detail);
        match &judgement.outcome {
            Outcome::Delivered(_) => self.last_delivery = Some(now),
            outcome => {
                let detail = detail.map(str::to_owned);
                self.last_failure = Some(Failure { at: now, outcome: outcome.clone(), detail });
            }
        }
        let attempt = Attempt { at: now, outcome: judgement.outcome.clone(), answer };
        let exports: Vec<&Export> = batch.claims().iter().map(|claim| &claim.export).collect();
        let Fate { nexts, then } = together::fate(&exports, attempt, judgement.charge, &self.destination.retry_delays);
        let charge = match then {
            Then::Stay | Then::Mix => judgement.charge,
            // What is tried again in halves costs nobody anything.
            Then::Halve => Charge::Trial,
        };
        metrics::post(&destination, &judgement.outcome, charge);
        if self.destination.batch.is_some() {
            metrics::exports_of_post(&destination, batch.count());
        }
        match &judgement.outcome {
            Outcome::Delivered(_) => self.show_delivered(&batch, now),
            outcome => self.log_failure(&batch, outcome, charge, then, &nexts[0], detail),
        }
        self.store.settle_batch(batch, nexts, then, judgement.standing);
    }

    fn show_delivered(&mut self, batch: &Batch, now: Timestamp) {
        let destination = self.destination.id();
        let latencies = batch.claims().iter().map(|claim| now.since(claim.export.accepted_at));
        metrics::delivered(destination, latencies.clone());
        for (claim, latency) in batch.claims().iter().zip(latencies) {
            self.figures.delivered(now, latency);
            debug!(%destination, export = %claim.export.id, "export delivered");
        }
    }

    /// A line for the request, not for each of its exports.
    fn log_failure(
        &self,
        batch: &Batch,
        outcome: &Outcome,
        charge: Charge,
        then: Then,
        next: &Next,
        detail: Option<&str>,
    ) {
        let (destination, export) = (self.destination.id(), batch.id());
        let (exports, attempts) =
            (batch.count(), batch.first().export.attempts.len() + usize::from(charge == Charge::Attempt));
        match (next, then) {
            // No failure ends so.
            (Next::Delivered(_) | Next::Dropped, _) => {}
            (Next::Waiting(_), Then::Halve) => {
                debug!(%destination, %export, exports, %outcome, detail, "batch goes again in halves");
            }
            (Next::Waiting(_), Then::Stay | Then::Mix) if charge == Charge::Attempt => {
                warn!(%destination, %export, exports, attempts, %outcome, detail, "attempt failed");
            }
            (Next::Waiting(_), Then::Stay | Then::Mix) => {
                debug!(%destination, %export, exports, %outcome, detail, "trial failed");
            }
            (Next::Dead(letter), _) => {
                let cause = letter.cause;
                error!(%destination, %export, %cause, attempts, %outcome, detail, "export became a dead letter");
            }
        }
    }

    /// What an outcome means, and over which pair it came once what it says of that pair has been heeded.
    fn heed(&mut self, sender: u64, export: &Export, outcome: Outcome) -> (Outcome, Over) {
        if self.rotation.over(sender) == Over::Another {
            return (outcome, Over::Another);
        }
        let accepted = self.rotation.is_accepted();
        let outcome = self.gate.in_context(export, outcome, accepted);
        if !refuses_certificate(&outcome, accepted) {
            return (outcome, Over::InUse);
        }
        let over = self.rotation.refused(export);
        self.certificate_changed();
        (outcome, over)
    }

    fn log_gate(&self, before: Option<Fault>, detail: Option<&str>) {
        let destination = self.destination.id();
        match (&before, self.gate.held()) {
            (None, None) => return,
            (Some(before), Some(hold)) if *before == hold.fault => return,
            (_, Some(hold)) => warn!(%destination, reason = %hold.fault, detail, "destination held"),
            (Some(before), None) => info!(%destination, reason = %before, "destination open again"),
        }
        if let Some(fault) = &before {
            metrics::hold_ended(destination, fault);
        }
        self.show_state();
    }
}
