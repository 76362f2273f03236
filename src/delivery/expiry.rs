//! Says in time that a certificate runs out: 30, 14, 7 and 1 days before, and when it has.

use std::{collections::BTreeMap, time::Duration};

use tracing::{error, warn};

use crate::{
    clock::{Clock, Timestamp},
    destination::DestinationId,
    tls::{ClientTls, Dated},
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Days before the end at which a word is due: an issuer of one's own may take weeks, a person a day.
const DAYS: [u32; 4] = [30, 14, 7, 1];

/// What was said already.
#[derive(Debug, Default)]
pub(super) struct Expiry {
    /// Of each certificate, by its subject and end: how many words were due.
    said: BTreeMap<(String, Timestamp), usize>,
}

impl Expiry {
    /// Says what is due and was not said yet. A clock that is not trusted says nothing.
    pub(super) fn look(&mut self, destination: &DestinationId, tls: &ClientTls, clock: &Clock) {
        if clock.distrusted().is_some() {
            return;
        }
        let (now, credentials) = (clock.now(), tls.credentials());
        let ours = Dated { subject: credentials.subject().to_owned(), not_after: credentials.not_after() };
        let issuers = credentials.issuers().iter().map(|one| ("issuer", one));
        let authorities = tls.authorities().iter().map(|one| ("trusted root", one));
        for (what, dated) in [("client certificate", &ours)].into_iter().chain(issuers).chain(authorities) {
            if !self.is_due(dated, now) {
                continue;
            }
            let Dated { subject, not_after } = dated;
            match not_after.since(now) {
                Duration::ZERO => error!(%destination, what, subject, %not_after, "certificate has expired"),
                left => {
                    let days = left.as_secs() / DAY.as_secs();
                    warn!(%destination, what, subject, %not_after, days, "certificate expires soon");
                }
            }
        }
    }

    fn is_due(&mut self, Dated { subject, not_after }: &Dated, now: Timestamp) -> bool {
        let due = words_due(*not_after, now);
        if due == 0 {
            return false;
        }
        let said = self.said.entry((subject.clone(), *not_after)).or_default();
        std::mem::replace(said, due) < due
    }
}

/// How many words are due of a certificate that ends so: one for each number of days that is reached, and one for the end.
fn words_due(not_after: Timestamp, now: Timestamp) -> usize {
    let left = not_after.since(now);
    DAYS.iter().filter(|days| left <= DAY * **days).count() + usize::from(left.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_is_said_once() {
        let (mut expiry, end) = (Expiry::default(), Timestamp::default() + DAY * 100);
        let dated = Dated { subject: "CN=edge".to_owned(), not_after: end };
        let mut said = Vec::new();
        for hours_left in (0..24 * 40).rev() {
            if expiry.is_due(&dated, end - Duration::from_secs(3600) * hours_left) {
                said.push(hours_left);
            }
        }
        assert_eq!(said, [30 * 24, 14 * 24, 7 * 24, 24, 0]);
    }

    #[test]
    fn another_certificate_has_words_of_its_own() {
        let (mut expiry, now) = (Expiry::default(), Timestamp::default());
        let soon = |subject: &str| Dated { subject: subject.to_owned(), not_after: now + DAY };

        assert!(expiry.is_due(&soon("CN=a"), now) && expiry.is_due(&soon("CN=b"), now));
        assert!(!expiry.is_due(&soon("CN=a"), now));
    }
}
