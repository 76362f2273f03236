//! Which of our certificates a destination is sent to with.
//!
//! A good pair that appears on file is used from the next POST on. POSTs under way end over the pair before; its idle
//! connections close within seconds. That pair stays in reserve while it is valid: should the receiver refuse the new one,
//! it is used again, and the new one is tried once in a while. After a start, the pair that `cert install` kept beside is that
//! one before. A pair that is not valid yet waits for its time; what is bad changes nothing. Who may vouch for servers is always what the files say last.

use std::{sync::Arc, time::Duration};

use tracing::{error, info, warn};

use super::Sender;
use crate::{
    clock::{Clock, Timestamp},
    destination::DestinationId,
    export::{Export, ExportId, Fault, Outcome, Trouble},
    tls::{ClientTls, Credentials, Fingerprint, MutualClientError, Validity},
    token::TokenFault,
};

/// The first wait before a refused pair is tried again: whoever mends the receiver's trust takes minutes.
const TRY_AGAIN: Duration = Duration::from_secs(10 * 60);
/// And the longest: each try costs the exports in flight a trial.
const TRY_AGAIN_MAX: Duration = Duration::from_secs(60 * 60);

/// The pairs of one destination.
pub(super) struct Rotation {
    destination: DestinationId,
    clock: Clock,
    in_use: Pair,
    /// The pair before, or the newest while that cannot be used.
    reserve: Option<Pair>,
    refusal: Option<Refusal>,
    /// A good pair on file that was not in use yet.
    next: Option<ClientTls>,
    problem: Option<String>,
}

/// A pair, and whether the receiver ever took something over it.
struct Pair {
    sender: Arc<Sender>,
    accepted: bool,
}

/// A receiver's refusal of the newest pair.
struct Refusal {
    since: Timestamp,
    try_at: Timestamp,
    wait: Duration,
    export: ExportId,
}

/// Over which pair a POST went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// The one in use.
    InUse,
    /// One that is not in use any more.
    Another,
}

/// Our certificates for a destination, for people.
#[derive(Clone, Debug, PartialEq)]
pub struct Certificates {
    /// What connections are made with.
    pub in_use: Credentials,
    /// A newer one that is on file and not in use.
    pub newer: Option<Newer>,
    /// Why what is on file cannot be used at all.
    pub problem: Option<String>,
}

/// A good certificate on file that is not in use.
#[derive(Clone, Debug, PartialEq)]
pub struct Newer {
    /// Itself.
    pub credentials: Credentials,
    /// Since when the receiver refuses it, and when it is tried again; otherwise it is not valid yet.
    pub refused: Option<(Timestamp, Timestamp)>,
}

impl Certificates {
    /// One that is on file and in use.
    pub(crate) fn of(in_use: Credentials) -> Self {
        Self { in_use, newer: None, problem: None }
    }

    /// What our files hold, if it can be used at some time.
    pub fn on_file(&self) -> Option<&Credentials> {
        let on_file = self.newer.as_ref().map_or(&self.in_use, |newer| &newer.credentials);
        self.problem.is_none().then_some(on_file)
    }
}

impl Rotation {
    /// With the pair that is on file, and the one before, if that is known.
    ///
    /// # Errors
    /// When no client can be built for the one before.
    pub(super) fn new(
        destination: DestinationId,
        on_file: Arc<Sender>,
        before: Option<ClientTls>,
        clock: Clock,
    ) -> Result<Self, MutualClientError> {
        let before = before.filter(|before| before.credentials() != on_file.tls.credentials());
        let reserve = before.map(|before| on_file.with(on_file.tls.with_credentials(before.credentials().clone()), 0));
        let pair = |sender| Pair { sender, accepted: false };
        let (in_use, reserve) = (pair(on_file), reserve.transpose()?.filter(|sender| sender.is_usable()).map(pair));
        let (refusal, next, problem) = Default::default();
        Ok(Self { destination, clock, in_use, reserve, refusal, next, problem })
    }

    /// Learns over which certificate the receiver last took something, before this worker began.
    pub(super) fn accepted_before(&mut self, fingerprint: Option<Fingerprint>) {
        for pair in [&mut self.in_use].into_iter().chain(&mut self.reserve) {
            pair.accepted |= fingerprint == Some(pair.sender.fingerprint());
        }
    }

    /// What POSTs go out with.
    pub(super) fn in_use(&self) -> &Arc<Sender> {
        &self.in_use.sender
    }

    /// Whether the receiver ever took something over the pair in use.
    pub(super) fn is_accepted(&self) -> bool {
        self.in_use.accepted
    }

    /// Over which pair `sender` went.
    pub(super) fn over(&self, sender: u64) -> Over {
        if sender == self.in_use.sender.number { Over::InUse } else { Over::Another }
    }

    /// Takes what is on file now, however often. What it leads to shows in [`Rotation::turn`].
    pub(super) fn on_file(&mut self, found: Result<ClientTls, String>) {
        let waited = self.next.take();
        let problem = found.and_then(|tls| self.good_on_file(tls, waited)).err();
        if let Some(problem) = problem.as_ref().filter(|problem| self.problem.as_ref() != Some(problem)) {
            error!(destination = %self.destination, problem, "new certificate is not used; the one before stays in use");
        }
        self.problem = problem;
    }

    /// Takes a pair that is good as far as files can tell; an error is why it is of no use all the same.
    fn good_on_file(&mut self, tls: ClientTls, waited: Option<ClientTls>) -> Result<(), String> {
        if self.is_back() && tls.credentials() == self.in_use.sender.tls.credentials() {
            info!(destination = %self.destination, "the newer certificate is not on file any more");
            (self.refusal, self.reserve) = (None, None);
        }
        // Whatever becomes of the pair.
        self.trust_roots_of(&tls).map_err(|error| crate::chain(&error))?;
        if tls.credentials() == self.newest().tls.credentials() {
            return Ok(());
        }
        match tls.credentials().validity_at(self.clock.now()) {
            _ if self.clock.distrusted().is_some() => {}
            Validity::Expired(since) => return Err(format!("the certificate on file expired at {since}")),
            Validity::NotYetValid(from) if waited.as_ref() != Some(&tls) => {
                warn!(destination = %self.destination, %from, "new certificate waits until it is valid; the one before stays in use");
            }
            Validity::NotYetValid(_) | Validity::Valid => {}
        }
        self.next = Some(tls);
        Ok(())
    }

    /// Whom we trust has changed, and our certificate has not.
    fn trust_roots_of(&mut self, tls: &ClientTls) -> Result<(), MutualClientError> {
        for pair in [&mut self.in_use].into_iter().chain(&mut self.reserve) {
            let Sender { tls: before, number, .. } = &*pair.sender;
            let rooted = tls.with_credentials(before.credentials().clone());
            if rooted != *before {
                pair.sender = pair.sender.with(rooted, *number)?;
            }
        }
        Ok(())
    }

    /// Tries a refused pair again as soon as may be: a person has mended something.
    pub(super) fn try_again(&mut self) {
        if let Some(refusal) = &mut self.refusal {
            refusal.try_at = self.clock.now();
        }
    }

    /// Puts in use what is to be by now.
    ///
    /// # Errors
    /// When no client can be built for a new pair, which stays out of use.
    pub(super) fn turn(&mut self) -> Result<(), MutualClientError> {
        if let Some(tls) = self.next.take_if(|next| next.credentials().is_usable_by(&self.clock)) {
            return self.replace(&tls);
        }
        let reserve_is_usable = self.reserve.as_ref().is_some_and(|reserve| reserve.sender.is_usable());
        // A refused pair that another waits to follow is not on file any more.
        let newest_is_due = self.is_back() && self.next.is_none() && self.is_due();
        if reserve_is_usable && (newest_is_due || !self.in_use.sender.is_usable()) {
            self.swap();
            let (destination, certificate) = (&self.destination, self.in_use.sender.fingerprint());
            info!(%destination, %certificate, "using the other certificate");
        } else if !reserve_is_usable && !self.is_back() {
            self.reserve = None;
        }
        Ok(())
    }

    /// The receiver refused the pair in use with a POST of `export`. Another that may serve is put in use: the POST went over
    /// [`Over::Another`] then. Once that one is refused too, the fault is the destination's.
    pub(super) fn refused(&mut self, export: &Export) -> Over {
        let (now, was_back) = (self.clock.now(), self.is_back());
        if !self.reserve.as_ref().is_some_and(|reserve| reserve.sender.is_usable()) {
            return Over::InUse;
        }
        self.swap();
        if was_back {
            return Over::InUse;
        }
        let before = self.refusal.take();
        let since = before.as_ref().map_or(now, |refusal| refusal.since);
        let wait = before.map_or(TRY_AGAIN, |refusal| (refusal.wait * 2).min(TRY_AGAIN_MAX));
        self.refusal = Some(Refusal { since, try_at: now + wait, wait, export: export.id });
        let (destination, refused) = (&self.destination, self.newest().fingerprint());
        error!(
            %destination, %refused, certificate = %self.in_use.sender.fingerprint(), try_again_at = %(now + wait),
            "the receiver refuses our new certificate; exports go out with the one before, which is still valid"
        );
        Over::Another
    }

    /// Takes note of what a POST over the pair in use met.
    pub(super) fn met(&mut self, export: &Export, outcome: &Outcome) {
        let is_back = self.is_back();
        match (outcome, &mut self.refusal) {
            (Outcome::Delivered(_), refusal) => {
                self.in_use.accepted = true;
                if !is_back && refusal.take().is_some() {
                    info!(destination = %self.destination, "the receiver accepts our new certificate now");
                }
            }
            // The export is at fault, not the certificate that it met this with before.
            (Outcome::Refused(400) | Outcome::Retryable(Trouble::Status(403)), Some(refusal))
                if is_back && refusal.export == export.id =>
            {
                self.try_again();
            }
            _ => {}
        }
    }

    /// Our certificates, for people.
    pub(super) fn certificates(&self) -> Certificates {
        let newest = self.is_back().then(|| self.newest().tls.credentials());
        let waiting = self.next.as_ref().map(ClientTls::credentials);
        let refused = self.refusal.as_ref().filter(|_| waiting.is_none());
        let newer = waiting.or(newest).map(|credentials| Newer {
            credentials: credentials.clone(),
            refused: refused.map(|refusal| (refusal.since, refusal.try_at)),
        });
        Certificates { in_use: self.in_use.sender.tls.credentials().clone(), newer, problem: self.problem.clone() }
    }

    fn replace(&mut self, tls: &ClientTls) -> Result<(), MutualClientError> {
        let new = Pair { sender: self.in_use.sender.with(tls.clone(), self.newest().number + 1)?, accepted: false };
        // The pair that the receiver is known to take is kept, however many came after it unused.
        let taken = self.reserve.as_ref().filter(|reserve| reserve.accepted && !self.in_use.accepted);
        let Pair { sender: before, accepted } =
            taken.filter(|reserve| reserve.sender.is_usable()).unwrap_or(&self.in_use);
        let sender = before.with(tls.with_credentials(before.tls.credentials().clone()), before.number)?;
        let before = Pair { sender, accepted: *accepted };
        let (destination, certificate) = (&self.destination, new.sender.fingerprint());
        let until = tls.credentials().not_after();
        info!(%destination, %certificate, before = %before.sender.fingerprint(), %until, "new certificate is in use");
        self.in_use = new;
        self.reserve = Some(before).filter(|before| before.sender.is_usable());
        self.refusal = None;
        Ok(())
    }

    /// The pair that was last on file and good.
    fn newest(&self) -> &Sender {
        let in_use = &self.in_use.sender;
        self.reserve
            .as_ref()
            .map(|reserve| &reserve.sender)
            .filter(|other| other.number > in_use.number)
            .unwrap_or(in_use)
    }

    /// True while the newest pair is not the one in use.
    fn is_back(&self) -> bool {
        self.newest().number != self.in_use.sender.number
    }

    /// Whether the newest may be tried, as far as refusals go. A wait that is longer than any was set by a clock that was set
    /// back since.
    fn is_due(&self) -> bool {
        let now = self.clock.now();
        self.refusal.as_ref().is_none_or(|refusal| refusal.try_at <= now || refusal.try_at.since(now) > TRY_AGAIN_MAX)
    }

    fn swap(&mut self) {
        if let Some(reserve) = self.reserve.take() {
            self.reserve = Some(std::mem::replace(&mut self.in_use, reserve));
        }
    }
}

/// Whether an outcome, in context, may be how a receiver refuses a certificate. Before a first acceptance a connection that
/// just ends is such a way too.
pub(super) fn refuses_certificate(outcome: &Outcome, was_accepted: bool) -> bool {
    match outcome {
        Outcome::Fault(Fault::CertificateRefused | Fault::NeverAccepted(_) | Fault::Status(495 | 496)) => true,
        Outcome::Fault(Fault::Token(TokenFault::CertificateRefused)) => true,
        Outcome::Fault(Fault::Closed | Fault::Handshake) => !was_accepted,
        // A token endpoint has no other words for it either, and each pair asks for a token of its own.
        Outcome::Fault(Fault::Token(
            TokenFault::Refused(400 | 401 | 403)
            | TokenFault::NoAnswer
            | TokenFault::Handshake
            | TokenFault::NotAccepted,
        )) => !was_accepted,
        _ => false,
    }
}

#[cfg(test)]
#[path = "rotation_tests.rs"]
pub(super) mod tests;
