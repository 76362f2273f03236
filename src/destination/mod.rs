//! Where exports go: a destination's settings and the body of what it is sent. Pure.

use std::{fmt, net::IpAddr, str::FromStr, time::Duration};

use hyper::header::HeaderMap;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

mod batching;
mod mapping;
pub mod payload;
mod standing;

pub use batching::{Batching, Format};
pub use mapping::{MappedAt, Mapping, Shown, UniqueId};
pub use standing::{Hold, Standing};

use crate::{
    tls::{ClientTls, HttpsUrl},
    token::Access,
};

/// Longest destination name, in bytes: it stands in logs, metrics and file names.
const NAME_BYTES_MAX: usize = 64;

/// A destination's name: its identity in logs, metrics and the store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DestinationId(String);

/// Why a text is not a destination name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a name has 1 to {NAME_BYTES_MAX} characters of letters, digits, `-` and `_`")]
pub struct NotAName;

impl DestinationId {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DestinationId {
    type Err = NotAName;

    fn from_str(text: &str) -> Result<Self, NotAName> {
        let good = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        match !text.is_empty() && text.len() <= NAME_BYTES_MAX && text.chars().all(good) {
            true => Ok(Self(text.to_owned())),
            false => Err(NotAName),
        }
    }
}

impl fmt::Display for DestinationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A destination as it is meant: checked, with its certificates loaded. Two are equal when a worker would do the same with
/// either and people call it the same: the contents of their files count, and not where those lie.
#[derive(Clone, Debug, PartialEq)]
pub struct Destination {
    /// Its name, and what is exported to it.
    pub mapping: Mapping,
    /// What it is for, in a person's words.
    pub description: Option<String>,
    /// Where exports are POSTed.
    pub endpoint: HttpsUrl,
    /// What is added to the endpoint's own query.
    pub query: Option<Query>,
    /// Headers that each request gets, beside Postern's own or in their place.
    pub headers: HeaderMap,
    /// What goes into the `Authorization` header.
    pub authentication: Authentication,
    /// How long a whole answer may take from the moment the request is written.
    pub timeout: Duration,
    /// The waits before the second and before the third attempt.
    pub retry_delays: [Duration; 2],
    /// Most POSTs under way at once.
    pub max_in_flight: usize,
    /// Most POSTs a second.
    pub max_rate: Option<usize>,
    /// How exports are sent together; one a request when they are not.
    pub batch: Option<Batching>,
    /// Who pays when it cannot be connected to.
    pub unreachable: Unreachable,
    /// The address of ours that connections are made from; the system chooses when there is none.
    pub local_address: Option<IpAddr>,
    /// Our certificate, and whom we trust.
    pub tls: ClientTls,
}

impl Destination {
    /// Its name.
    pub fn id(&self) -> &DestinationId {
        &self.mapping.destination
    }

    /// True when only our certificate, or whom we trust, differs: a worker takes that without being replaced.
    pub fn differs_in_tls_alone(&self, other: &Self) -> bool {
        self.tls != other.tls && Self { tls: other.tls.clone(), ..self.clone() } == *other
    }
}

/// Who pays when a destination cannot be connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// Nobody: the destination is held.
    Hold,
    /// The export: it is an attempt like one that is answered with an error.
    Count,
}

/// Parameters that are added to an endpoint's query. Their values may be secrets.
#[derive(Clone, Debug)]
pub struct Query(SecretString);

impl Query {
    /// A query such as `a=1&b=2`.
    pub fn new(text: impl Into<SecretString>) -> Self {
        Self(text.into())
    }

    /// The text, with its secrets.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// The names of its parameters, without their values.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.expose().split('&').filter_map(|part| Some(part.split_once('=')?.0))
    }
}

/// For a reload, where nobody measures how long that takes.
impl PartialEq for Query {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

/// How a destination knows us beyond our certificate.
#[derive(Clone, Debug)]
pub enum Authentication {
    /// By the certificate alone.
    None,
    /// `Authorization: Bearer …`.
    Bearer(SecretString),
    /// The same, with a token that is asked for.
    OAuth2(Box<OAuth2>),
}

/// Where tokens for a destination come from.
#[derive(Clone, Debug, PartialEq)]
pub struct OAuth2 {
    /// The token endpoint.
    pub token_url: HttpsUrl,
    /// Whether it must ask for our certificate.
    pub token_mtls: TokenMtls,
    /// As whom it knows us.
    pub access: Access,
    /// How long its whole answer may take from the moment the request is written.
    pub timeout: Duration,
}

/// Whether a token endpoint must ask for our certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenMtls {
    /// It must, as every destination.
    Require,
    /// It is given it if it asks.
    Offer,
}

/// Compares secrets for a reload, where nobody measures how long that takes.
impl PartialEq for Authentication {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::None, Self::None) => true,
            (Self::Bearer(token), Self::Bearer(other)) => token.expose_secret() == other.expose_secret(),
            (Self::OAuth2(one), Self::OAuth2(other)) => one == other,
            (Self::None | Self::Bearer(_) | Self::OAuth2(_), _) => false,
        }
    }
}
