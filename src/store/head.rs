//! What stands first in an export's record: a scheduling entry or a dead letter, as it is now or as it was.
//!
//! ```text
//! 3 | postcard                since format 3
//! postcard, beginning in 16   formats 1 and 2: the length of the export's id
//! ```
//! So a record tells by itself, and a store of an older format is read without being rewritten.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::frozen;
use crate::{
    clock::Timestamp,
    export::{Attempt, Cause, DeadLetter, Export, ExportId, Outcome},
    profile::ProfileKey,
};

/// The shape that is written. No older record begins so.
const SHAPE: u8 = 3;

/// What stands first in an export's record.
pub(super) trait Head: Serialize + DeserializeOwned {
    /// As formats 1 and 2 have it.
    type Before: DeserializeOwned + Into<Self>;
}

impl Head for Export {
    type Before = ExportBefore;
}

impl Head for DeadLetter {
    type Before = DeadLetterBefore;
}

/// As it is written.
pub(super) fn encode(head: &impl Head) -> Vec<u8> {
    let mut bytes = vec![SHAPE];
    bytes.extend(frozen::encode(head));
    bytes
}

/// Reads it, and returns what stands behind; `None` when it has no known shape.
pub(super) fn decode<T: Head>(bytes: &[u8]) -> Option<(T, &[u8])> {
    match bytes {
        [SHAPE, bytes @ ..] => postcard::take_from_bytes(bytes).ok(),
        bytes => postcard::take_from_bytes::<T::Before>(bytes).ok().map(|(before, rest)| (before.into(), rest)),
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct ExportBefore {
    id: ExportId,
    lines: Vec<ProfileKey>,
    accepted_at: Timestamp,
    due: Timestamp,
    attempts: Vec<AttemptBefore>,
    trials: u32,
    last_trial: Option<AttemptBefore>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct DeadLetterBefore {
    export: ExportBefore,
    at: Timestamp,
    cause: Cause,
}

#[derive(Serialize, Deserialize)]
struct AttemptBefore {
    at: Timestamp,
    outcome: Outcome,
}

impl From<ExportBefore> for Export {
    fn from(before: ExportBefore) -> Self {
        let ExportBefore { id, lines, accepted_at, due, attempts, trials, last_trial } = before;
        let attempts = attempts.into_iter().map(Attempt::from).collect();
        Self { id, lines, accepted_at, due, attempts, trials, last_trial: last_trial.map(Attempt::from) }
    }
}

impl From<DeadLetterBefore> for DeadLetter {
    fn from(DeadLetterBefore { export, at, cause }: DeadLetterBefore) -> Self {
        Self { export: export.into(), at, cause }
    }
}

impl From<AttemptBefore> for Attempt {
    fn from(AttemptBefore { at, outcome }: AttemptBefore) -> Self {
        Self::new(at, outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        export::{Excerpt, Fault},
        profile::update::UpdateId,
    };

    fn letter() -> DeadLetter {
        let at = Timestamp::from_millis(1_700_000_000_000);
        let update = UpdateId::new(at);
        let mut export = Export::new(ExportId::of(update, at, &"crm".parse().unwrap()), vec![update.into()], at);
        export.attempts = vec![Attempt::new(at, Outcome::Refused(422))];
        (export.trials, export.last_trial) = (7, Some(Attempt::new(at, Outcome::Fault(Fault::Status(404)))));
        DeadLetter { export, at, cause: Cause::Refused }
    }

    #[test]
    fn both_shapes_read_as_what_was_written() {
        let now = letter();
        let attempt = |attempt: &Attempt| AttemptBefore { at: attempt.at, outcome: attempt.outcome.clone() };
        let Export { id, lines, accepted_at, due, attempts, trials, last_trial } = now.export.clone();
        let (attempts, last_trial) = (attempts.iter().map(attempt).collect(), last_trial.as_ref().map(attempt));
        let export = ExportBefore { id, lines, accepted_at, due, attempts, trials, last_trial };
        let before = DeadLetterBefore { export, at: now.at, cause: now.cause };

        let bytes = [frozen::encode(&before), b"body".to_vec()].concat();

        assert_eq!(decode::<DeadLetter>(&bytes), Some((now.clone(), b"body".as_slice())));
        let bytes = [encode(&now), b"body".to_vec()].concat();
        assert_eq!(decode::<DeadLetter>(&bytes), Some((now, b"body".as_slice())));
    }

    #[test]
    fn answer_is_kept() {
        let mut letter = letter();
        letter.export.attempts[0].answer = Excerpt::of(b"no such plan");
        assert_eq!(decode::<DeadLetter>(&encode(&letter)), Some((letter, b"".as_slice())));
        assert!(decode::<DeadLetter>(&[]).is_none() && decode::<DeadLetter>(&[SHAPE]).is_none());
    }
}
