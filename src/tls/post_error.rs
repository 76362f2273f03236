//! What a POST met instead of an answer, told apart as far as it matters what follows.

use std::{error::Error, io, iter, time::Duration};

use hyper_util::client::legacy;
use rustls::{AlertDescription, CertificateError, OtherError};

use super::{
    alert::{REFUSALS, refusal_in},
    http::NotChosen,
    proof::NotMutual,
    unanswered::Unanswered,
};

/// Longest description kept, in characters: a server's certificate may have hundreds of names, and errors are stored.
const TEXT_CHARS_MAX: usize = 400;

/// Why a POST has no whole answer. The texts carry the libraries' own words for an operator; neither headers nor body
/// nor the URL are ever in them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PostError {
    /// The name does not resolve, or no TCP connection comes about, or not in time. Nothing was sent.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// The server's chain, name or dates do not verify, or no pinned key is in the chain. Nothing was sent.
    #[error("server is not trusted: {0}")]
    ServerNotTrusted(String),
    /// TLS does not come about for another reason, for example because the server has only older versions. Nothing was sent.
    #[error("TLS handshake failed: {0}")]
    Handshake(String),
    /// The server does not speak the version of HTTP that is to be spoken. Of the request nothing was processed.
    #[error("server speaks another version of HTTP: {0}")]
    OtherHttp(String),
    /// The server did not ask for our certificate. Nothing was sent.
    #[error("connection is not mutual TLS: {0}")]
    NotMutual(NotMutual),
    /// The server refused our certificate. The request may have been written, but went no further than the server's TLS.
    #[error("server refused our client certificate: {0}")]
    ClientCertificateRefused(String),
    /// The connection closed before the first answer byte it ever gave.
    #[error("connection closed before it ever answered: {0}")]
    ClosedUnanswered(String),
    /// The connection, which has answered before, or has begun to, was lost. The request may have been seen.
    #[error("connection lost: {0}")]
    Lost(String),
    /// The connection went away before a byte of the request was written. A refusal of our certificate may look so when
    /// it is very fast (some 4 in 1000); sent again, it shows itself.
    #[error("connection closed before the request was written: {0}")]
    NotSent(String),
    /// The server says, by HTTP/2, that it has not processed the request and will not.
    #[error("request was not processed: {0}")]
    NotProcessed(String),
    /// No whole answer in time. The request may have been seen.
    #[error("no whole answer within {0:?}")]
    Timeout(Duration),
    /// What came back is not HTTP.
    #[error("answer is not HTTP: {0}")]
    NotHttp(String),
    /// Headers or body of the answer are beyond the bound.
    #[error("answer is too large")]
    AnswerTooLarge,
}

impl PostError {
    /// Of an error met before the answer's head was read.
    pub(super) fn sending(error: reqwest::Error, unanswered: &Unanswered) -> Self {
        let text = text(&error);
        if let Some(not_mutual) = find::<NotMutual>(&error) {
            return Self::NotMutual(*not_mutual);
        }
        if error.is_connect() {
            return Self::connecting(&error, text);
        }
        // Without the connection's data the error is of its very start: only then hyper-util has none.
        let connection = find::<legacy::Error>(&error).and_then(legacy::Error::connect_info);
        let never_answered = connection.is_none_or(|connection| unanswered.failed(connection));
        if let Some(meant) = find::<h2::Error>(&error).and_then(|error| Self::of_frame(error, &text)) {
            return meant;
        }
        match (find::<rustls::Error>(&error), find::<hyper::Error>(&error)) {
            (Some(rustls::Error::AlertReceived(alert)), _) if refuses_certificate(*alert) => {
                Self::ClientCertificateRefused(text)
            }
            _ if refusal_in(&text).is_some() => Self::ClientCertificateRefused(text),
            (_, Some(error)) if error.is_canceled() || error.is_closed() => Self::NotSent(text),
            (_, Some(error)) if error.is_parse_too_large() => Self::AnswerTooLarge,
            (_, Some(error)) if error.is_parse() => Self::NotHttp(text),
            (Some(_), _) if never_answered => Self::Handshake(text),
            _ if never_answered => Self::ClosedUnanswered(text),
            _ => Self::Lost(text),
        }
    }

    /// Of what a server said in a frame of HTTP/2, or what was found wrong with its frames; `None` when it said nothing.
    fn of_frame(error: &h2::Error, text: &str) -> Option<Self> {
        let text = text.to_owned();
        match error.reason()? {
            h2::Reason::HTTP_1_1_REQUIRED if error.is_remote() => Some(Self::OtherHttp(text)),
            h2::Reason::REFUSED_STREAM if error.is_remote() => Some(Self::NotProcessed(text)),
            // A stream learns of a GOAWAY only when it is beyond the last one that the server has looked at.
            _ if error.is_go_away() && error.is_remote() => Some(Self::NotProcessed(text)),
            _ if error.is_remote() => Some(Self::Lost(text)),
            _ => Some(Self::NotHttp(text)),
        }
    }

    /// Of an error met in the answer's body.
    pub(super) fn reading(error: reqwest::Error) -> Self {
        Self::Lost(text(&error))
    }

    /// Of an exchange that broke off before the first byte of its body was taken up, on a connection that others share.
    pub(super) fn unbegun(self) -> Self {
        match self {
            Self::ClosedUnanswered(text) | Self::Lost(text) => Self::NotSent(text),
            other => other,
        }
    }

    /// Of an answer's body that ended before its length.
    pub(super) fn ended_early(got: usize, promised: u64) -> Self {
        Self::Lost(format!("the answer's body ended after {got} of {promised} bytes"))
    }

    fn connecting(error: &reqwest::Error, text: String) -> Self {
        if find::<NotChosen>(error).is_some() {
            return Self::OtherHttp(text);
        }
        // The innermost: those around it only say that something else went wrong.
        let io = chain(error).filter_map(|cause| cause.downcast_ref::<io::Error>()).last();
        match (find::<rustls::Error>(error), io.map(io::Error::kind)) {
            // Ours: rustls would show how it is built.
            (Some(rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(why)))), _) => {
                Self::ServerNotTrusted(why.to_string())
            }
            (Some(rustls::Error::InvalidCertificate(_)), _) => Self::ServerNotTrusted(text),
            (Some(rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)), _) => Self::OtherHttp(text),
            // In TLS 1.2 the server sees our certificate before the handshake ends; in TLS 1.3 nobody sends these so early.
            (Some(rustls::Error::AlertReceived(alert)), _)
                if refuses_certificate(*alert) && *alert != AlertDescription::HandshakeFailure =>
            {
                Self::ClientCertificateRefused(text)
            }
            (Some(_), _) => Self::Handshake(text),
            // How a peer ends a handshake that says nothing; TCP itself would say refused or unreachable.
            (None, Some(io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset)) => Self::Handshake(text),
            (None, _) => Self::Connect(text),
        }
    }
}

/// Whether an alert after the handshake says that our certificate was not taken.
fn refuses_certificate(alert: AlertDescription) -> bool {
    REFUSALS.contains(&alert)
}

/// Finds the first cause of a type.
fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    chain(error).find_map(|cause| cause.downcast_ref())
}

/// An error and its causes. Looks into I/O errors, whose `source` skips what they wrap.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| {
        let error: &'a (dyn Error + 'static) = *error;
        match error.downcast_ref::<io::Error>() {
            Some(io) => io.get_ref().map(|wrapped| wrapped as &(dyn Error + 'static)),
            None => error.source(),
        }
    })
}

/// The causes in a line. The first link is left out: it says that a request failed, and names the URL with its query.
fn text(error: &reqwest::Error) -> String {
    let mut links: Vec<String> = chain(error).skip(1).map(|cause| cause.to_string()).collect();
    links.dedup();
    links.join(": ").chars().take(TEXT_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_found_inside_wrapped_io_errors() {
        let alert = rustls::Error::AlertReceived(AlertDescription::UnknownCA);
        let error = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, alert.clone()));

        assert_eq!(find::<rustls::Error>(&error), Some(&alert));
        assert_eq!(chain(&error).count(), 3);
    }
}
