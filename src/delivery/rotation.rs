//! Which of our certificates a destination is sent to with.
//!
//! A good pair that appears on file is used from the next POST on. POSTs under way end over the pair before; its idle
//! connections close within seconds. That pair stays in reserve while it is valid: should the receiver refuse the new one,
//! it is used again, and the new one is tried once in a while. A pair that is not valid yet waits for its time; what is bad
//! changes nothing. Who may vouch for servers is always what the files say last.

use std::time::Duration;

use tracing::{error, info, warn};

use super::Sender;
use crate::{
    clock::{Clock, Timestamp},
    destination::DestinationId,
    export::{Export, ExportId, Outcome},
    tls::{ClientTls, Credentials, MutualClientError, Validity},
};

/// The first wait before a refused pair is tried again: whoever mends the receiver's trust takes minutes.
const TRY_AGAIN: Duration = Duration::from_secs(10 * 60);
/// And the longest: each try costs the exports in flight a trial.
const TRY_AGAIN_MAX: Duration = Duration::from_secs(60 * 60);

/// The pairs of one destination.
pub(super) struct Rotation {
    destination: DestinationId,
    clock: Clock,
    in_use: Sender,
    /// The pair before, or the newer one while the receiver refuses that.
    reserve: Option<Sender>,
    /// Over which the receiver last took something.
    accepted: Option<u64>,
    refusal: Option<Refusal>,
    /// A good pair on file that is not valid yet.
    next: Option<ClientTls>,
    problem: Option<String>,
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
    pub(super) fn new(destination: DestinationId, in_use: Sender, clock: Clock) -> Self {
        let (reserve, accepted, refusal, next, problem) = Default::default();
        Self { destination, clock, in_use, reserve, accepted, refusal, next, problem }
    }

    /// What POSTs go out with.
    pub(super) fn in_use(&self) -> &Sender {
        &self.in_use
    }

    /// Over which pair `sender` went.
    pub(super) fn over(&self, sender: u64) -> Over {
        if sender == self.in_use.number { Over::InUse } else { Over::Another }
    }

    /// Takes what is on file now, however often. What it leads to shows in [`Rotation::turn`].
    pub(super) fn on_file(&mut self, found: Result<ClientTls, String>) {
        let problem = match found {
            Ok(tls) => self.good_on_file(tls),
            Err(problem) => {
                self.next = None;
                Some(problem)
            }
        };
        if let Some(problem) = problem.as_ref().filter(|problem| self.problem.as_ref() != Some(problem)) {
            error!(destination = %self.destination, problem, "new certificate is not used; the one before stays in use");
        }
        self.problem = problem;
    }

    /// Takes a pair that is good as far as files can tell; returns why it is of no use all the same.
    fn good_on_file(&mut self, tls: ClientTls) -> Option<String> {
        let destination = &self.destination;
        let waits = self.next.take_if(|next| *next == tls);
        if tls == self.in_use.tls {
            // Otherwise it is the newest one itself, which is being tried again.
            if self.is_back() && self.refusal.take().is_some() {
                info!(%destination, "the certificate that was refused is not on file any more");
                self.reserve = None;
            }
            return None;
        }
        if self.refusal.is_some() && self.reserve.as_ref().is_some_and(|reserve| reserve.tls == tls) {
            return None;
        }
        match tls.credentials().validity_at(self.clock.now()) {
            _ if self.clock.distrusted().is_some() => {}
            Validity::Expired(since) => return Some(format!("the certificate on file expired at {since}")),
            Validity::NotYetValid(from) if waits.is_none() => {
                warn!(%destination, %from, "new certificate waits until it is valid; the one before stays in use");
            }
            Validity::NotYetValid(_) | Validity::Valid => {}
        }
        self.next = Some(tls);
        None
    }

    /// Tries a refused pair again as soon as may be: a person has mended something.
    pub(super) fn try_again(&mut self) {
        if let Some(refusal) = &mut self.refusal {
            refusal.try_at = self.clock.now();
        }
    }

    /// Puts in use what is to be by now. True when that is another pair than before.
    ///
    /// # Errors
    /// When no client can be built for a new pair, which stays out of use.
    pub(super) fn turn(&mut self) -> Result<bool, MutualClientError> {
        if let Some(tls) = self.next.take_if(|next| next.credentials().is_usable_by(&self.clock)) {
            self.replace(&tls)?;
            return Ok(true);
        }
        let now = self.clock.now();
        let try_again = self.is_back() && self.refusal.as_ref().is_some_and(|refusal| refusal.try_at <= now);
        let reserve_is_usable = self.reserve.as_ref().is_some_and(|reserve| reserve.is_usable());
        if reserve_is_usable && (try_again || !self.in_use.is_usable()) {
            self.swap();
            let (destination, certificate) = (&self.destination, self.in_use.fingerprint());
            info!(%destination, %certificate, "trying the other certificate");
            return Ok(true);
        }
        if !reserve_is_usable && !self.is_back() {
            self.reserve = None;
        }
        Ok(false)
    }

    /// The receiver refused the pair in use with a POST of `export`. Another that may serve is put in use: the POST went over
    /// [`Over::Another`] then. Once that one is refused too, the fault is the destination's.
    pub(super) fn refused(&mut self, export: &Export) -> Over {
        let (now, was_back) = (self.clock.now(), self.is_back());
        if !self.reserve.as_ref().is_some_and(Sender::is_usable) {
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
        let refused = self.reserve.as_ref().map(Sender::fingerprint).map(|fingerprint| fingerprint.to_string());
        let (destination, certificate) = (&self.destination, self.in_use.fingerprint());
        error!(
            %destination, refused, %certificate, try_again_at = %(now + wait),
            "the receiver refuses our new certificate; exports go out with the one before, which is still valid"
        );
        Over::Another
    }

    /// Takes note of what a POST over the pair in use met.
    pub(super) fn met(&mut self, export: &Export, outcome: &Outcome) {
        let is_back = self.is_back();
        if let Outcome::Delivered(_) = outcome {
            self.accepted = Some(self.in_use.number);
        }
        match (outcome, &mut self.refusal) {
            (Outcome::Delivered(_), refusal @ Some(_)) if !is_back => {
                *refusal = None;
                info!(destination = %self.destination, "the receiver accepts our new certificate now");
            }
            // The export is at fault, not the certificate that it met this with before.
            (Outcome::Refused(400), Some(refusal)) if is_back && refusal.export == export.id => {
                self.try_again();
            }
            _ => {}
        }
    }

    /// Our certificates, for people.
    pub(super) fn certificates(&self) -> Certificates {
        let refused = self.refusal.as_ref().filter(|_| self.is_back()).zip(self.reserve.as_ref());
        let newer = match (&self.next, refused) {
            (Some(next), _) => Some(Newer { credentials: next.credentials().clone(), refused: None }),
            (None, Some((refusal, reserve))) => Some(Newer {
                credentials: reserve.tls.credentials().clone(),
                refused: Some((refusal.since, refusal.try_at)),
            }),
            (None, None) => None,
        };
        Certificates { in_use: self.in_use.tls.credentials().clone(), newer, problem: self.problem.clone() }
    }

    fn replace(&mut self, tls: &ClientTls) -> Result<(), MutualClientError> {
        let newest = self.reserve.as_ref().map_or(0, |reserve| reserve.number).max(self.in_use.number);
        let new = self.in_use.with(tls.clone(), newest + 1)?;
        // The pair that the receiver is known to take is kept, however many came after it unused.
        let taken = self.reserve.as_ref().filter(|reserve| Some(reserve.number) == self.accepted);
        let before = taken.filter(|reserve| reserve.is_usable()).unwrap_or(&self.in_use);
        let before = before.with(tls.with_credentials(before.tls.credentials().clone()), before.number)?;
        let (destination, certificate) = (&self.destination, new.fingerprint());
        let until = tls.credentials().not_after();
        info!(%destination, %certificate, before = %before.fingerprint(), %until, "new certificate is in use");
        self.in_use = new;
        self.reserve = Some(before).filter(Sender::is_usable);
        self.refusal = None;
        Ok(())
    }

    /// True while the newest pair is not the one in use.
    fn is_back(&self) -> bool {
        self.reserve.as_ref().is_some_and(|reserve| reserve.number > self.in_use.number)
    }

    fn swap(&mut self) {
        if let Some(reserve) = self.reserve.take() {
            self.reserve = Some(std::mem::replace(&mut self.in_use, reserve));
        }
    }
}
