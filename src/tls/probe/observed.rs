//! What was seen of a server: plain values, without a judgement.

use std::{fmt, net::SocketAddr};

use rustls::{AlertDescription, SignatureScheme, pki_types::CertificateDer};
use x509_parser::parse_x509_certificate;

use super::{hello::Suite, report::TlsVersion};
use crate::{
    certificate::plain,
    tls::{HttpVersion, Validity},
};

/// Longest text of the library that is passed on, in characters: a server's certificate may have hundreds of names.
const TEXT_CHARS_MAX: usize = 400;

/// All of it.
pub(super) enum Observed {
    /// Not even TCP, and why.
    Unreachable(String),
    /// Somebody listens.
    Reached(Box<Reached>),
}

/// What was seen of somebody who listens.
pub(super) struct Reached {
    /// Where.
    pub(super) address: SocketAddr,
    /// How many addresses the name has; only one is probed.
    pub(super) addresses: usize,
    /// Over TLS 1.3, without our certificate.
    pub(super) tls13: Look,
    /// Over TLS 1.2, without our certificate. None: not tried, because TLS is not spoken at all.
    pub(super) tls12: Option<Look>,
    /// With our certificate, if there is one.
    pub(super) ours: Option<Ours>,
    /// What older versions were answered.
    pub(super) old: Vec<(TlsVersion, Result<Suite, Broken>)>,
    /// What TLS 1.2 with suites that we do not have was answered. None: not tried, ours will do.
    pub(super) old_suites: Option<Result<Suite, Broken>>,
}

/// A connection without our certificate.
pub(super) struct Look {
    /// Whether the handshake was done.
    pub(super) handshake: Result<(), Broken>,
    /// What the handshake showed, as far as it came.
    pub(super) seen: Seen,
    /// What a HEAD request was answered: a status, or how the connection broke.
    pub(super) answer: Option<Result<u16, Broken>>,
    /// Whether the server began a handshake anew after this one.
    pub(super) asked_later: bool,
}

/// What a handshake showed.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// That the server asked for a certificate.
    pub(super) asked: Option<Asked>,
    /// The server's chain as it came, in DER.
    pub(super) chain: Vec<Vec<u8>>,
    /// Whether chain, name and signature verify; why not, in the library's words. None: no chain came.
    pub(super) trust: Option<Result<(), String>>,
}

/// A CertificateRequest.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// The authorities it names, each a DER distinguished name.
    pub(super) authorities: Vec<Vec<u8>>,
    /// The signatures it takes.
    pub(super) schemes: Vec<SignatureScheme>,
}

/// How our certificate fares.
pub(super) struct Ours {
    /// Whether it may be used now.
    pub(super) validity: Validity,
    /// Whether our chain leads to one of the authorities that the server names. None: it names none.
    pub(super) leads_to_authority: Option<bool>,
    /// Whether our key can make a signature that the server takes.
    pub(super) can_sign: bool,
    /// The connection with it. None: delivery would not come so far.
    pub(super) exchange: Option<Exchange>,
}

/// A connection with our certificate.
pub(super) struct Exchange {
    /// Whether the handshake was done.
    pub(super) handshake: Result<(), Broken>,
    /// What a HEAD request was answered.
    pub(super) answer: Option<Result<u16, Broken>>,
}

/// How a connection ended without what it was for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// By an alert.
    Alert(AlertDescription),
    /// By being closed.
    Closed,
    /// By saying nothing in time.
    Silent,
    /// By speaking this instead of TLS.
    NotTls(&'static str),
    /// By an answer that is not HTTP.
    NotHttp,
    /// By not speaking this version of it.
    OtherHttp(HttpVersion),
    /// Otherwise, in the library's words.
    Other(String),
}

impl Look {
    /// Whether the server speaks this version: it came at least to its certificate.
    pub(super) fn is_taken(&self) -> bool {
        self.handshake.is_ok() || self.seen.asked.is_some() || !self.seen.chain.is_empty()
    }

    /// What a client without a certificate met after all, in the handshake or after it.
    pub(super) fn outcome(&self) -> Result<u16, &Broken> {
        match (&self.handshake, &self.answer) {
            (Err(broken), _) | (Ok(()), Some(Err(broken))) => Err(broken),
            (Ok(()), Some(Ok(status))) => Ok(*status),
            (Ok(()), None) => Err(&Broken::Silent),
        }
    }
}

impl Seen {
    /// Whether delivery would trust the server.
    pub(super) fn is_trusted(&self) -> bool {
        matches!(self.trust, Some(Ok(())))
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alert(alert) => write!(f, "alert {}", alert_name(*alert)),
            Self::Closed => f.write_str("connection closed"),
            Self::Silent => f.write_str("no answer in time"),
            Self::NotTls(what) => write!(f, "it speaks {what}, not TLS"),
            Self::NotHttp => f.write_str("the answer is not HTTP"),
            Self::OtherHttp(wanted) => write!(f, "it does not speak HTTP/{}", wanted.as_str()),
            Self::Other(text) => f.write_str(text),
        }
    }
}

/// The library's words of an error, fit for a terminal.
pub(super) fn words(error: &rustls::Error) -> String {
    plain(&error.to_string()).chars().take(TEXT_CHARS_MAX).collect()
}

/// An alert as RFC 8446 writes it, for example `unknown_ca`.
fn alert_name(alert: AlertDescription) -> String {
    if let AlertDescription::Unknown(number) = alert {
        return number.to_string();
    }
    let (mut name, mut before) = (String::new(), 'A');
    for c in format!("{alert:?}").chars() {
        if c.is_ascii_uppercase() && before.is_ascii_lowercase() {
            name.push('_');
        }
        name.push(c.to_ascii_lowercase());
        before = c;
    }
    name
}

/// Whether one of the authorities issued a certificate of the chain; None when the server names none. Names are compared
/// as they are encoded, as servers do.
pub(super) fn leads_to(chain: &[CertificateDer<'_>], authorities: &[Vec<u8>]) -> Option<bool> {
    let issuer_is_named = |der: &CertificateDer<'_>| {
        let (_, certificate) = parse_x509_certificate(der).ok()?;
        Some(authorities.iter().any(|authority| authority == certificate.issuer().as_raw()))
    };
    (!authorities.is_empty()).then(|| chain.iter().filter_map(issuer_is_named).any(|named| named))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_have_the_names_of_the_standard() {
        for (alert, name) in [
            (AlertDescription::HandshakeFailure, "handshake_failure"),
            (AlertDescription::UnknownCA, "unknown_ca"),
            (AlertDescription::CertificateRequired, "certificate_required"),
            (AlertDescription::ProtocolVersion, "protocol_version"),
            (AlertDescription::Unknown(250), "250"),
        ] {
            assert_eq!(alert_name(alert), name);
        }
    }
}
