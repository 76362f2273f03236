//! An export: one message owed to one destination, from its making to its end. Pure.
//!
//! ```text
//!            POST            2xx
//! waiting ────────▶ in flight ───▶ delivered
//!    ▲                  │
//!    │  retryable, of   ├── retryable, the third attempt ──▶ dead letter: exhausted
//!    │  the first two   ├── refused ───────────────────────▶ dead letter: refused
//!    └──────────────────┤
//!    │  a trial: fault of the destination, throttled, or a probe
//!    └──────────────────┘
//! ```
//!
//! Three attempts are charged to an export. What is not its fault is a trial: counted, never charged.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};
use uuid::{Builder, Uuid};

use crate::{
    clock::Timestamp,
    destination::DestinationId,
    profile::{ProfileKey, update::UpdateId},
    token::TokenFault,
    trigger::Reason,
};

/// Attempts charged to an export: the first, and two retries, as AEP does.
pub const ATTEMPTS_MAX: usize = 3;

/// Most bytes of an answer kept with an attempt, so that an export between attempts stays small.
const EXCERPT_BYTES_MAX: usize = 1024;

/// An export's id, a UUIDv7. It goes along as `Idempotency-Key`, the same on every POST.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ExportId(Uuid);

impl ExportId {
    /// The id of the export that `update` makes for `destination`: two calls give the same.
    pub fn of(update: UpdateId, received_at: Timestamp, destination: &DestinationId) -> Self {
        Self::from_digest(received_at, Uuid::new_v5(&update.as_uuid(), destination.as_str().as_bytes()))
    }

    /// The id of a request with these exports, of which there is one at least, in this order: two calls give the same. One alone
    /// gives its own.
    pub fn of_all(ids: &[Self]) -> Self {
        let first = *ids.first().expect("a request has an export");
        if ids.len() == 1 {
            return first;
        }
        let names: Vec<u8> = ids.iter().flat_map(|id| *id.0.as_bytes()).collect();
        Self::from_digest(first.made_at(), Uuid::new_v5(&first.0, &names))
    }

    fn from_digest(made_at: Timestamp, digest: Uuid) -> Self {
        let mut bits = [0; 10];
        bits.copy_from_slice(&digest.as_bytes()[..10]);
        let millis = made_at.as_millis().max(0).unsigned_abs();
        Self(Builder::from_unix_timestamp_millis(millis, &bits).into_uuid())
    }

    /// When the update came in that made it.
    pub fn made_at(self) -> Timestamp {
        let millis = self.0.as_u128() >> 80;
        Timestamp::from_millis(i64::try_from(millis).expect("48 bits are fewer than 63"))
    }
}

/// Why a text is not an export's id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an export's id is a UUID, such as 01890a5d-ac96-774b-bcce-b302099a8057")]
pub struct NotAnExportId;

impl FromStr for ExportId {
    type Err = NotAnExportId;

    fn from_str(text: &str) -> Result<Self, NotAnExportId> {
        Uuid::try_parse(text).map(Self).map_err(|_| NotAnExportId)
    }
}

impl fmt::Display for ExportId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An export that was just decided on.
#[derive(Clone)]
pub struct NewExport {
    /// Whom it is owed to.
    pub destination: DestinationId,
    /// Its id.
    pub id: ExportId,
    /// The body, frozen from here on.
    pub body: Vec<u8>,
    /// Why it was made.
    pub reasons: Vec<Reason>,
}

/// An export as the queue holds it, without its body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Export {
    /// Its id.
    pub id: ExportId,
    /// The profile, then those joined into it: it waits behind the exports of all of them.
    pub lines: Vec<ProfileKey>,
    /// When the update that made it came in.
    pub accepted_at: Timestamp,
    /// When it may be sent next.
    pub due: Timestamp,
    /// The attempts charged to it, at most three.
    pub attempts: Vec<Attempt>,
    /// How many POSTs were not charged.
    pub trials: u32,
    /// The last of those.
    pub last_trial: Option<Attempt>,
}

/// A POST and what it met.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// When it ended.
    pub at: Timestamp,
    /// What it met.
    pub outcome: Outcome,
    /// What the receiver had to say, if it failed.
    pub answer: Excerpt,
}

/// The beginning of an answer's body, empty where there was none. It may hold personal data: receivers repeat what they do not like.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Excerpt(Vec<u8>);

/// What a POST met.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Any 2xx.
    Delivered(u16),
    /// It may go better next time, and counts.
    Retryable(Trouble),
    /// The receiver does not want this export.
    Refused(u16),
    /// The receiver asks us to wait so long.
    Throttled(u16, Duration),
    /// The destination is at fault, not the export.
    Fault(Fault),
}

/// What made a POST fail in a way that counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trouble {
    /// 403 408 409 429 500 502 503 504.
    Status(u16),
    /// No whole answer in time.
    Timeout,
    /// The connection was lost after it had answered before, or in the middle of an answer.
    Lost,
    /// The answer is not HTTP, or larger than we read.
    BadAnswer,
    /// There is no connection, and the destination wants that to count.
    Unreachable,
}

/// What is wrong with a destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fault {
    /// The name does not resolve, or nobody answers there.
    Unreachable,
    /// The server's chain, name or dates did not verify.
    NotTrusted,
    /// The TLS handshake failed otherwise.
    Handshake,
    /// The server did not ask for our certificate.
    NotMutual,
    /// The server refused our certificate.
    CertificateRefused,
    /// Our certificate is expired or not valid yet.
    CertificateNotValid,
    /// A fresh connection was closed before the first byte of an answer.
    Closed,
    /// A status that speaks of the endpoint or of our access to it.
    Status(u16),
    /// 400 or 403 from a receiver that has never accepted anything over our present certificate.
    NeverAccepted(u16),
    /// Three charged failures in a row.
    Failing,
    /// Ten refusals in a row.
    Refusing,
    /// There is no token that it takes.
    Token(TokenFault),
}

/// A word for metrics and logs.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable => f.write_str("unreachable"),
            Self::NotTrusted => f.write_str("server_not_trusted"),
            Self::Handshake => f.write_str("handshake_failed"),
            Self::NotMutual => f.write_str("server_did_not_ask_for_certificate"),
            Self::CertificateRefused => f.write_str("certificate_refused"),
            Self::CertificateNotValid => f.write_str("certificate_not_valid"),
            Self::Closed => f.write_str("closed_unanswered"),
            Self::Status(status) => write!(f, "status_{status}"),
            Self::NeverAccepted(status) => write!(f, "never_accepted_status_{status}"),
            Self::Failing => f.write_str("failing"),
            Self::Refusing => f.write_str("refusing"),
            Self::Token(fault) => fault.fmt(f),
        }
    }
}

/// A word for metrics and logs.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delivered(_) => f.write_str("delivered"),
            Self::Retryable(Trouble::Status(status)) => write!(f, "status_{status}"),
            Self::Retryable(Trouble::Timeout) => f.write_str("timeout"),
            Self::Retryable(Trouble::Lost) => f.write_str("connection_lost"),
            Self::Retryable(Trouble::BadAnswer) => f.write_str("bad_answer"),
            Self::Retryable(Trouble::Unreachable) => f.write_str("unreachable"),
            Self::Refused(status) => write!(f, "refused_{status}"),
            Self::Throttled(status, _) => write!(f, "throttled_{status}"),
            Self::Fault(fault) => fault.fmt(f),
        }
    }
}

/// Who pays for a POST that was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charge {
    /// The export: it is an attempt.
    Attempt,
    /// Nobody: it is a trial.
    Trial,
}

/// Where an export goes after a POST.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// It is gone: a receiver took it, as this POST says.
    Delivered(Attempt),
    /// It waits.
    Waiting(Export),
    /// It will not be tried again by itself.
    Dead(DeadLetter),
    /// It is gone: a person did not want it sent.
    Dropped,
}

/// An export that will not be tried again by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// As it was after its last POST.
    pub export: Export,
    /// Since when.
    pub at: Timestamp,
    /// Why.
    pub cause: Cause,
}

/// Why an export became a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Out of attempts.
    Exhausted,
    /// The receiver does not want it.
    Refused,
    /// The store fell back to an older state: it may have been delivered since, or overtaken.
    Salvaged,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exhausted => "exhausted",
            Self::Refused => "refused",
            Self::Salvaged => "salvaged",
        })
    }
}

impl Attempt {
    /// One without an answer worth keeping.
    pub fn new(at: Timestamp, outcome: Outcome) -> Self {
        Self { at, outcome, answer: Excerpt::default() }
    }
}

impl Excerpt {
    /// The beginning of a body.
    pub fn of(body: &[u8]) -> Self {
        Self(body[..body.len().min(EXCERPT_BYTES_MAX)].to_vec())
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is nothing of it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As text that no terminal takes for an order: control characters are escaped, and what is not UTF-8 is marked.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for c in String::from_utf8_lossy(&self.0).chars() {
            match c.is_control() {
                true => text.extend(c.escape_default()),
                false => text.push(c),
            }
        }
        text
    }
}

/// Shows how long it is.
impl fmt::Debug for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Excerpt({} bytes)", self.len())
    }
}

impl Export {
    /// An export that was never sent.
    pub fn new(id: ExportId, lines: Vec<ProfileKey>, accepted_at: Timestamp) -> Self {
        Self { id, lines, accepted_at, due: accepted_at, attempts: Vec::new(), trials: 0, last_trial: None }
    }

    /// Where it goes after a POST that is paid for by `charge`.
    pub fn after(mut self, attempt: Attempt, charge: Charge, delays: &[Duration; 2]) -> Next {
        let now = attempt.at;
        match (&attempt.outcome, charge) {
            (Outcome::Delivered(_), _) => Next::Delivered(attempt),
            (Outcome::Refused(_), Charge::Attempt) => {
                self.attempts.push(attempt);
                Next::Dead(DeadLetter { export: self, at: now, cause: Cause::Refused })
            }
            (Outcome::Retryable(_), Charge::Attempt) => {
                self.attempts.push(attempt);
                assert!(self.attempts.len() <= ATTEMPTS_MAX, "an export out of attempts is a dead letter");
                match delays.get(self.attempts.len() - 1) {
                    Some(delay) => {
                        self.due = self.due_after(now, *delay);
                        Next::Waiting(self)
                    }
                    None => Next::Dead(DeadLetter { export: self, at: now, cause: Cause::Exhausted }),
                }
            }
            (_, Charge::Trial) | (Outcome::Throttled(..) | Outcome::Fault(_), Charge::Attempt) => {
                self.trials = self.trials.saturating_add(1);
                self.last_trial = Some(attempt);
                Next::Waiting(self)
            }
        }
    }

    /// As it waits when the request that it went out with is to go again in halves, from `due` on: nothing is charged. A fault
    /// that it met before stays in mind, so that its half is judged by that too.
    pub fn in_half(self, trial: Attempt, due: Timestamp) -> Self {
        let met_before = |before: &Attempt| match (&before.outcome, &trial.outcome) {
            (Outcome::Fault(Fault::Status(before)), Outcome::Refused(status)) => before == status,
            (Outcome::Fault(Fault::Token(TokenFault::NotAccepted)), Outcome::Refused(401)) => true,
            _ => false,
        };
        let last_trial = self.last_trial.filter(met_before).unwrap_or(trial);
        Self { due, trials: self.trials.saturating_add(1), last_trial: Some(last_trial), ..self }
    }

    /// When it may be sent again by a delay from `now` on.
    pub fn due_after(&self, now: Timestamp, delay: Duration) -> Timestamp {
        now + self.jittered(delay)
    }

    /// Within 10 % of `delay`, by chance that the id and the attempt fix: retries of one outage do not come at once.
    fn jittered(&self, delay: Duration) -> Duration {
        let lot = crc32fast::hash(self.id.0.as_bytes()).wrapping_add(self.attempts.len() as u32) % 2001;
        delay.mul_f64(0.9 + f64::from(lot) / 10_000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAYS: [Duration; 2] = [Duration::from_secs(15), Duration::from_secs(30)];

    fn export() -> Export {
        let start = Timestamp::from_millis(1_000_000);
        let update = UpdateId::new(start);
        Export::new(ExportId::of(update, start, &"crm".parse().unwrap()), vec![update.into()], start)
    }

    fn failed(export: Export, now: Timestamp) -> Next {
        export.after(Attempt::new(now, Outcome::Retryable(Trouble::Status(500))), Charge::Attempt, &DELAYS)
    }

    #[test]
    fn export_becomes_dead_letter_after_third_attempt() {
        let now = Timestamp::from_millis(2_000_000);

        let Next::Waiting(once) = failed(export(), now) else { panic!("first") };
        let Next::Waiting(twice) = failed(once.clone(), once.due) else { panic!("second") };
        let Next::Dead(letter) = failed(twice.clone(), twice.due) else { panic!("third") };

        assert!((13_500..=16_500).contains(&once.due.since(now).as_millis()));
        assert!((27_000..=33_000).contains(&twice.due.since(once.due).as_millis()));
        assert_eq!((letter.cause, letter.export.attempts.len()), (Cause::Exhausted, 3));
    }

    #[test]
    fn refused_export_is_dead_at_once() {
        let refused = Attempt::new(Timestamp::from_millis(0), Outcome::Refused(400));
        let next = export().after(refused, Charge::Attempt, &DELAYS);
        assert!(matches!(next, Next::Dead(DeadLetter { cause: Cause::Refused, .. })));
    }

    #[test]
    fn trials_are_counted_and_cost_nothing() {
        let mut waiting = export();
        for outcome in [
            Outcome::Fault(Fault::NotMutual),
            Outcome::Throttled(429, Duration::from_secs(1)),
            Outcome::Retryable(Trouble::Timeout),
            Outcome::Refused(400),
        ] {
            let trial = Attempt::new(Timestamp::from_millis(0), outcome);
            let Next::Waiting(next) = waiting.after(trial, Charge::Trial, &DELAYS) else {
                panic!("a trial ended an export")
            };
            waiting = next;
        }
        assert_eq!((waiting.attempts.len(), waiting.trials), (0, 4));
    }

    #[test]
    fn excerpt_is_bounded_and_harmless_on_a_terminal() {
        let text = Excerpt::of("no\u{1b}[2J\nzażółć\u{9b}".as_bytes()).text();
        assert_eq!(text, r"no\u{1b}[2J\nzażółć\u{9b}");
        assert_eq!(Excerpt::of(b"\xff\xfe").text(), "\u{fffd}\u{fffd}");
        assert_eq!(Excerpt::of(&[b'x'; 5000]).len(), EXCERPT_BYTES_MAX);
        assert_eq!(format!("{:?}", Excerpt::of(b"secret")), "Excerpt(6 bytes)");
    }

    #[test]
    fn export_id_is_fixed_by_update_and_destination() {
        let now = Timestamp::from_millis(1_700_000_000_000);
        let update = UpdateId::new(now);
        let [crm, erp]: [DestinationId; 2] = ["crm", "erp"].map(|name| name.parse().unwrap());

        let id = ExportId::of(update, now, &crm);

        assert_eq!(id, ExportId::of(update, now, &crm));
        assert_ne!(id, ExportId::of(update, now, &erp));
        assert_eq!(id.0.get_version_num(), 7);
        assert_eq!((id.made_at(), id.to_string().parse()), (now, Ok(id)));
        assert_eq!("crm".parse::<ExportId>(), Err(NotAnExportId));
    }
}
