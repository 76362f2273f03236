//! Access tokens by OAuth 2: what a token endpoint is asked, and what its answer says. Pure.
//!
//! We ask for ourselves, by our own credentials or by a user's password: RFC 6749, sections 4.4, 4.3 and 6; the token goes
//! along as RFC 6750 says. Who asks, when, and over which connections is not decided here.

mod answer;
mod request;

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

pub use answer::{Refusal, Token, read};
pub use request::{Ask, TokenRequest};

/// As whom a token endpoint knows us, and what we ask it for.
#[derive(Clone, Debug)]
pub struct Access {
    /// The client's id.
    pub client_id: String,
    /// The client's secret.
    pub client_secret: SecretString,
    /// Where the two stand in a request.
    pub credentials: Credentials,
    /// By what right a token is given.
    pub grant: Grant,
    /// What the token is to be good for; the endpoint decides when nobody says.
    pub scope: Option<String>,
}

/// Where a request has the client's id and secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// In its body, as form fields.
    Body,
    /// In its `Authorization` header.
    Basic(BasicEncoding),
}

/// What is done to id and secret before they stand in a `Basic` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BasicEncoding {
    /// Each is form-encoded, as RFC 6749 has it (2.3.1).
    Rfc6749,
    /// Nothing, as many servers expect.
    Plain,
}

/// By what right a token is given.
#[derive(Clone, Debug)]
pub enum Grant {
    /// The client's own.
    ClientCredentials,
    /// That of a user whose password we know.
    Password {
        /// The user's name.
        username: String,
        /// And password.
        password: SecretString,
    },
}

/// Why there is no token that a destination would take. It holds the destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TokenFault {
    /// The token endpoint's name does not resolve, or nobody answers there.
    Unreachable,
    /// Its chain, name or dates did not verify.
    NotTrusted,
    /// The TLS handshake failed otherwise.
    Handshake,
    /// It did not ask for our certificate.
    NotMutual,
    /// It refused our certificate.
    CertificateRefused,
    /// No whole answer came, or not in time.
    NoAnswer,
    /// It answered this instead of 2xx.
    Refused(u16),
    /// What it answered is no token that we can use.
    BadAnswer,
    /// The destination answered 401 to a fresh token.
    NotAccepted,
}

/// A word for metrics and logs.
impl fmt::Display for TokenFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable => f.write_str("token_endpoint_unreachable"),
            Self::NotTrusted => f.write_str("token_endpoint_not_trusted"),
            Self::Handshake => f.write_str("token_endpoint_handshake_failed"),
            Self::NotMutual => f.write_str("token_endpoint_did_not_ask_for_certificate"),
            Self::CertificateRefused => f.write_str("token_endpoint_refused_certificate"),
            Self::NoAnswer => f.write_str("token_endpoint_gave_no_answer"),
            Self::Refused(status) => write!(f, "token_refused_{status}"),
            Self::BadAnswer => f.write_str("token_answer_bad"),
            Self::NotAccepted => f.write_str("token_not_accepted"),
        }
    }
}

/// Compares secrets for a reload, where nobody measures how long that takes.
impl PartialEq for Access {
    fn eq(&self, other: &Self) -> bool {
        let Self { client_id, client_secret, credentials, grant, scope } = self;
        (client_id, client_secret.expose_secret(), credentials, grant, scope)
            == (&other.client_id, other.client_secret.expose_secret(), &other.credentials, &other.grant, &other.scope)
    }
}

/// As [`Access`].
impl PartialEq for Grant {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::ClientCredentials, Self::ClientCredentials) => true,
            (Self::Password { username, password }, Self::Password { username: name, password: word }) => {
                username == name && password.expose_secret() == word.expose_secret()
            }
            (Self::ClientCredentials, Self::Password { .. }) | (Self::Password { .. }, Self::ClientCredentials) => {
                false
            }
        }
    }
}
