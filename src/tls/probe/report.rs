//! What a probe found, as people and programs are told.

use std::{fmt, net::SocketAddr};

use serde::{Serialize, Serializer};

use crate::certificate::Certificate;

/// What a probe found. What is `None` could not be seen.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// What was asked for: host and port.
    pub place: String,
    /// Where it was found.
    pub address: Option<SocketAddr>,
    /// How many addresses the name has; one of them was probed.
    pub addresses: usize,
    /// Whether delivery would send there.
    pub delivers: Delivers,
    /// Why, in a sentence.
    pub verdict: String,
    /// Whether the server asks for a client certificate in its handshake.
    pub asks: Option<bool>,
    /// Whether it requires one.
    pub requires: Option<Requires>,
    /// What a client without a certificate met: a status, or how the connection ended.
    pub answer_without_certificate: Option<String>,
    /// Whether it takes our certificate.
    pub accepts: Option<Accepts>,
    /// What we met with our certificate.
    pub answer_with_certificate: Option<String>,
    /// The authorities that the server names, as RFC 4514 writes them.
    pub authorities: Vec<String>,
    /// Whether our chain leads to one of them.
    pub leads_to_authority: Option<bool>,
    /// The versions of TLS, newest first.
    pub versions: Vec<VersionSeen>,
    /// Whether the server's chain and name verify.
    pub trusted: Option<bool>,
    /// Why not.
    pub trust_error: Option<String>,
    /// The server's chain as it shows it, its own certificate first.
    pub chain: Vec<ServerCertificate>,
    /// What is wrong or odd, the worst first.
    pub findings: Vec<Finding>,
}

/// Whether delivery would send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivers {
    /// It would.
    Yes,
    /// It would hold the destination.
    No,
    /// That cannot be seen from outside, or not without our certificate.
    Unclear,
}

/// Whether a server insists on a client certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Requires {
    /// Without one it refuses.
    Yes,
    /// Without one it answers as to anybody.
    No,
    /// It refuses, but with our certificate in the same way; or it says nothing.
    Unclear,
}

/// Whether a server takes our certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Accepts {
    /// It answers, and not as it does without.
    Yes,
    /// It refuses it.
    No,
    /// It refuses with and without alike, for whatever reason; or it says nothing.
    Unclear,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersion {
    /// RFC 8446.
    Tls13,
    /// RFC 5246.
    Tls12,
    /// RFC 4346.
    Tls11,
    /// RFC 2246.
    Tls10,
    /// RFC 6101.
    Ssl30,
}

/// What a server does with a version of TLS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VersionSeen {
    /// Which.
    pub version: TlsVersion,
    /// Whether the server speaks it.
    pub taken: bool,
    /// Whether it asks for a client certificate there.
    pub asks: Option<bool>,
    /// What was met instead, where it does not speak it.
    pub detail: Option<String>,
}

/// A certificate that a server shows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ServerCertificate {
    /// What it says, if it can be read.
    #[serde(flatten)]
    pub certificate: Option<Certificate>,
    /// Whole days until it expires, negative when it has.
    pub days_left: Option<i64>,
    /// Why it cannot be read.
    pub error: Option<String>,
}

/// Something wrong or odd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which, for programs.
    pub id: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What was seen.
    pub what: String,
    /// What to do.
    pub remedy: &'static str,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Delivery would be held.
    Held,
    /// Exports would arrive, but the server is open to others.
    Error,
    /// To be watched.
    Warning,
}

impl Report {
    /// Whether nothing is wrong: what is only to be watched does not count.
    pub fn is_good(&self) -> bool {
        self.delivers != Delivers::No && self.findings.iter().all(|finding| finding.severity == Severity::Warning)
    }

    /// Whether somebody listens there.
    pub fn is_reached(&self) -> bool {
        self.address.is_some()
    }
}

impl fmt::Display for TlsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tls13 => "TLS 1.3",
            Self::Tls12 => "TLS 1.2",
            Self::Tls11 => "TLS 1.1",
            Self::Tls10 => "TLS 1.0",
            Self::Ssl30 => "SSL 3.0",
        })
    }
}

impl Serialize for TlsVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
