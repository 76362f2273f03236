//! What a POST met, from what came back: one row of the table for each. Pure.

use std::time::Duration;

use crate::{
    destination::Unreachable,
    export::{Fault, Outcome, Trouble},
    tls::{Answer, PostError},
};

/// The longest `Retry-After` that is honoured: a receiver's mistake must not stop a destination for a day.
const THROTTLE_MAX: Duration = Duration::from_secs(600);

/// What an answer, or the lack of one, means for the export and its destination.
///
/// # Errors
/// The protocol says that the request was not processed, so it may be sent again at once. A destination where that goes on and on has
/// this fault.
pub(super) fn outcome(result: &Result<Answer, PostError>) -> Result<Outcome, Fault> {
    match result {
        Ok(answer) => Ok(of_answer(answer)),
        Err(error) => of_error(error),
    }
}

/// The same where a receiver that cannot be connected to is the export's bad luck, if its destination wants it so.
pub(super) fn with_unreachable(unreachable: Unreachable, outcome: Outcome) -> Outcome {
    match (unreachable, outcome) {
        (Unreachable::Count, Outcome::Fault(Fault::Unreachable)) => Outcome::Retryable(Trouble::Unreachable),
        (Unreachable::Hold | Unreachable::Count, outcome) => outcome,
    }
}

fn of_answer(answer: &Answer) -> Outcome {
    match answer.status {
        status @ 200..=299 => Outcome::Delivered(status),
        status @ (429 | 503) => match throttle(answer) {
            Some(wait) => Outcome::Throttled(status, wait),
            None => Outcome::Retryable(Trouble::Status(status)),
        },
        status @ (403 | 408 | 409 | 500 | 502 | 504) => Outcome::Retryable(Trouble::Status(status)),
        status @ (300..=399 | 401 | 404 | 405 | 407 | 410 | 421 | 426 | 495 | 496 | 501 | 505 | 511) => {
            Outcome::Fault(Fault::Status(status))
        }
        status @ 400..=499 => Outcome::Refused(status),
        // 1xx never ends an exchange; other 5xx and what is no status at all may go better next time.
        status => Outcome::Retryable(Trouble::Status(status)),
    }
}

/// Seconds of `Retry-After`, bounded; 0 and dates count as absent.
fn throttle(answer: &Answer) -> Option<Duration> {
    let text = answer.retry_after.as_deref()?.trim();
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // What no integer holds is long, not absent.
    let seconds = is_number.then(|| text.parse().unwrap_or(u64::MAX))?;
    (seconds > 0).then(|| Duration::from_secs(seconds).min(THROTTLE_MAX))
}

fn of_error(error: &PostError) -> Result<Outcome, Fault> {
    Ok(match error {
        PostError::Connect(_) => Outcome::Fault(Fault::Unreachable),
        PostError::ServerNotTrusted(_) => Outcome::Fault(Fault::NotTrusted),
        PostError::Handshake(_) => Outcome::Fault(Fault::Handshake),
        PostError::NotMutual(_) => Outcome::Fault(Fault::NotMutual),
        PostError::ClientCertificateRefused(_) => Outcome::Fault(Fault::CertificateRefused),
        PostError::ClosedUnanswered(_) => Outcome::Fault(Fault::Closed),
        PostError::Lost(_) => Outcome::Retryable(Trouble::Lost),
        PostError::Timeout(_) => Outcome::Retryable(Trouble::Timeout),
        PostError::NotHttp(_) | PostError::AnswerTooLarge => Outcome::Retryable(Trouble::BadAnswer),
        PostError::OtherHttp(_) => Outcome::Fault(Fault::OtherHttp),
        // Never written, so no fault of the export: the receiver closes its connections at once.
        PostError::NotSent(_) => return Err(Fault::Closed),
        PostError::NotProcessed(_) => return Err(Fault::NotProcessed),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, retry_after: Option<&str>) -> Outcome {
        outcome(&Ok(Answer { status, retry_after: retry_after.map(str::to_owned), body: vec![] })).unwrap()
    }

    #[test]
    fn every_status_has_its_row() {
        for status in 200..=599 {
            let expected = match status {
                200..=299 => Outcome::Delivered(status),
                403 | 408 | 409 | 429 | 500 | 502 | 503 | 504 => Outcome::Retryable(Trouble::Status(status)),
                300..=399 | 401 | 404 | 405 | 407 | 410 | 421 | 426 | 495 | 496 | 501 | 505 | 511 => {
                    Outcome::Fault(Fault::Status(status))
                }
                400..=499 => Outcome::Refused(status),
                _ => Outcome::Retryable(Trouble::Status(status)),
            };
            assert_eq!(answered(status, None), expected);
        }
    }

    #[test]
    fn retry_after_throttles_within_bounds() {
        let seconds = Duration::from_secs;
        assert_eq!(answered(429, Some("7")), Outcome::Throttled(429, seconds(7)));
        assert_eq!(answered(503, Some(" 86400 ")), Outcome::Throttled(503, seconds(600)));
        assert_eq!(answered(503, Some("99999999999999999999999")), Outcome::Throttled(503, seconds(600)));
        for ignored in ["0", "+7", "-1", "soon", "", "Wed, 21 Oct 2015 07:28:00 GMT"] {
            assert_eq!(answered(503, Some(ignored)), Outcome::Retryable(Trouble::Status(503)), "{ignored}");
        }
        assert_eq!(answered(500, Some("7")), Outcome::Retryable(Trouble::Status(500)));
    }

    #[test]
    fn only_what_was_certainly_not_processed_is_sent_again_at_once() {
        let met = |error: fn(String) -> PostError| outcome(&Err(error(String::new())));
        assert_eq!(met(PostError::NotSent), Err(Fault::Closed));
        assert_eq!(met(PostError::NotProcessed), Err(Fault::NotProcessed));
        assert_eq!(met(PostError::Lost), Ok(Outcome::Retryable(Trouble::Lost)));
        assert_eq!(met(PostError::ClosedUnanswered), Ok(Outcome::Fault(Fault::Closed)));
    }
}
