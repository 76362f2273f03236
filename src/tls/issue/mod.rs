//! A small private authority: issues certificates for stagings, demonstrations and tests, and makes requests to real ones.

use std::{fmt, time::Duration};

use aws_lc_rs::rand;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SerialNumber,
};
use x509_parser::parse_x509_certificate;

mod key;
mod name;
mod open;
mod request;

pub use self::{
    key::{KeyError, KeyKind, NotAKeyKind, PrivateKey},
    name::{NameError, Subject, SubjectAltName},
    open::OpenError,
    request::{Request, RequestKey},
};

use crate::clock::Timestamp;

/// Bytes of a serial number: as many as RFC 5280 allows, so that no two are ever the same.
const SERIAL_BYTES: usize = 20;

/// A certificate authority with its key.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its subject as its certificate has it, byte for byte: what it issues must name it so.
    subject: Vec<u8>,
    /// Its own certificate.
    certificate_pem: String,
    /// What a leaf's file holds after the leaf: this authority and those above it, without the root.
    intermediates_pem: String,
    limits: Limits,
}

/// How far what an authority issues may go.
#[derive(Clone, Copy)]
struct Limits {
    /// The last instant at which it and those above it are valid.
    until: Timestamp,
    /// How many authorities may stand between it and a leaf.
    path_length: Option<u8>,
}

/// What a certificate is to say.
#[derive(Clone, Debug)]
pub struct Template {
    /// Whom it names.
    pub subject: Subject,
    /// The names that verifiers compare.
    pub names: Vec<SubjectAltName>,
    /// When it is valid.
    pub period: Period,
    /// The kind of its key.
    pub key: KeyKind,
}

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A server shows it.
    Server,
    /// A client shows it.
    Client,
}

/// From when until when a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// The first instant.
    pub from: Timestamp,
    /// The last instant.
    pub until: Timestamp,
}

/// A certificate with its key.
#[derive(Clone)]
pub struct Issued {
    /// PEM: the certificate, then its intermediates.
    pub certificate_pem: String,
    /// PEM: the private key, PKCS#8.
    pub key_pem: String,
}

/// Why a certificate or a request could not be made.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// No key, or no signature.
    #[error("cannot make a certificate for `{subject}`")]
    Make {
        /// Whom it would have named.
        subject: String,
        /// Why.
        source: rcgen::Error,
    },
    /// A name that cannot stand in it.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A period that no certificate can say.
    #[error("a certificate cannot be valid until {until}: choose a shorter lifetime")]
    TooLong {
        /// Its last instant.
        until: Timestamp,
    },
    /// It would outlive those who vouch for it.
    #[error("it would be valid until {until}, but its authority only until {authority}: choose a shorter lifetime")]
    BeyondAuthority {
        /// Its last instant.
        until: Timestamp,
        /// The authority's.
        authority: Timestamp,
    },
    /// The authority may not have such an authority under it.
    #[error(
        "the authority's path length is {allowed}, and those below it must have less: use the authority above it, or one with a greater path length"
    )]
    PathTooLong {
        /// Its own path length.
        allowed: u8,
    },
    /// The name of the authority itself: a chain of both would be understood as one.
    #[error("the authority above has the same name `{subject}`: choose another one")]
    NameOfIssuer {
        /// The name.
        subject: String,
    },
    /// We would write the authority's name in another way than its certificate does, and no verifier would match them.
    #[error(
        "the authority's own name has a form that cannot be repeated in what it issues: make an authority with a plainer one"
    )]
    IssuerNotRepeatable,
}

impl Authority {
    /// A root that vouches for itself, with a P-256 key.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn new(common_name: &str, period: Period) -> Result<Self, IssueError> {
        Self::root(&Template::named(common_name, period), None)
    }

    /// A root that vouches for itself, with at most so many authorities between it and a leaf.
    ///
    /// # Errors
    /// When it cannot say that, or no key can be made.
    pub fn root(template: &Template, path_length: Option<u8>) -> Result<Self, IssueError> {
        let params = authority(template, path_length)?;
        let failed = |source| template.failed(source);
        let key = PrivateKey::generate(template.key).map_err(failed)?.0;
        let certificate = params.self_signed(&key).map_err(failed)?;
        Ok(Self::of(params, key, &certificate, "", Limits { until: template.period.until, path_length }))
    }

    /// An authority under this one, with a P-256 key.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn subordinate(&self, common_name: &str, period: Period) -> Result<Self, IssueError> {
        self.authority_below(&Template::named(common_name, period), None)
    }

    /// An authority under this one, with at most so many between it and a leaf; the last one possible if nothing is said.
    ///
    /// # Errors
    /// When it would outlive this one or those above it, has its name, or is one too many.
    pub fn issue_authority(&self, template: &Template, path_length: Option<u8>) -> Result<Self, IssueError> {
        let length = path_length.unwrap_or(0);
        if let Some(allowed) = self.limits.path_length.filter(|allowed| length >= *allowed) {
            return Err(IssueError::PathTooLong { allowed });
        }
        self.covers(template)?;
        let below = self.authority_below(template, Some(length))?;
        match below.subject == self.subject {
            true => Err(IssueError::NameOfIssuer { subject: template.subject.to_string() }),
            false => Ok(below),
        }
    }

    /// A certificate with a new key.
    ///
    /// # Errors
    /// When it would outlive this authority or those above it, or cannot say what is wanted.
    pub fn issue(&self, template: &Template, purpose: Purpose) -> Result<Issued, IssueError> {
        self.covers(template)?;
        self.leaf(template, purpose)
    }

    /// A server's certificate with a P-256 key. Names are host names or IP addresses.
    ///
    /// # Errors
    /// When a name cannot stand in a certificate.
    pub fn server(&self, names: &[&str], period: Period) -> Result<Issued, IssueError> {
        let subject = names.first().copied().unwrap_or_default();
        let names = names.iter().map(|name| name.parse()).collect::<Result<_, _>>()?;
        self.leaf(&Template { names, ..Template::named(subject, period) }, Purpose::Server)
    }

    /// A client's certificate with a P-256 key.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn client(&self, common_name: &str, period: Period) -> Result<Issued, IssueError> {
        self.leaf(&Template::named(common_name, period), Purpose::Client)
    }

    /// The authority's own certificate, for those who are to trust it.
    pub fn certificate_pem(&self) -> String {
        self.certificate_pem.clone()
    }

    /// Its own certificate, then those above it, without the root: what [`Authority::open`] reads.
    pub fn chain_pem(&self) -> &str {
        match self.is_root() {
            true => &self.certificate_pem,
            false => &self.intermediates_pem,
        }
    }

    /// PEM: its private key, PKCS#8.
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// The last instant at which it and those above it are valid: nothing that it issues is valid for longer.
    pub fn until(&self) -> Timestamp {
        self.limits.until
    }

    /// True when it vouches for itself.
    pub fn is_root(&self) -> bool {
        self.intermediates_pem.is_empty()
    }

    fn of(
        params: CertificateParams,
        key: KeyPair,
        certificate: &rcgen::Certificate,
        above_pem: &str,
        limits: Limits,
    ) -> Self {
        let (_, parsed) = parse_x509_certificate(certificate.der()).expect("it was made here");
        let subject = parsed.subject().as_raw().to_owned();
        let is_root = parsed.issuer().as_raw() == subject;
        let certificate_pem = certificate.pem();
        let intermediates_pem = if is_root { String::new() } else { format!("{certificate_pem}{above_pem}") };
        Self { issuer: Issuer::new(params, key), subject, certificate_pem, intermediates_pem, limits }
    }

    fn authority_below(&self, template: &Template, path_length: Option<u8>) -> Result<Self, IssueError> {
        let mut params = authority(template, path_length)?;
        params.use_authority_key_identifier_extension = true;
        let key = PrivateKey::generate(template.key).map_err(|source| template.failed(source))?.0;
        let certificate = self.sign(&params, &key, template)?;
        let limits = Limits { until: template.period.until, path_length };
        Ok(Self::of(params, key, &certificate, &self.intermediates_pem, limits))
    }

    fn leaf(&self, template: &Template, purpose: Purpose) -> Result<Issued, IssueError> {
        let mut params = template.to_params()?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![purpose.into()];
        params.use_authority_key_identifier_extension = true;
        let key = PrivateKey::generate(template.key).map_err(|source| template.failed(source))?;
        let certificate = self.sign(&params, &key.0, template)?;
        Ok(Issued { certificate_pem: certificate.pem() + &self.intermediates_pem, key_pem: key.to_pem() })
    }

    fn sign(
        &self,
        params: &CertificateParams,
        key: &KeyPair,
        template: &Template,
    ) -> Result<rcgen::Certificate, IssueError> {
        let certificate = params.signed_by(key, &self.issuer).map_err(|source| template.failed(source))?;
        let (_, parsed) = parse_x509_certificate(certificate.der()).expect("it was made here");
        match parsed.issuer().as_raw() == self.subject {
            true => Ok(certificate),
            false => Err(IssueError::IssuerNotRepeatable),
        }
    }

    fn covers(&self, template: &Template) -> Result<(), IssueError> {
        let (until, authority) = (template.period.until, self.limits.until);
        // Certificates count in seconds.
        if until.as_millis() / 1000 > authority.as_millis() / 1000 {
            Err(IssueError::BeyondAuthority { until, authority })
        } else {
            Ok(())
        }
    }
}

impl Period {
    /// So long from an instant on.
    pub fn starting(from: Timestamp, lifetime: Duration) -> Self {
        Self { from, until: from + lifetime }
    }
}

impl Template {
    fn named(common_name: &str, period: Period) -> Self {
        Self { subject: Subject::named(common_name), names: Vec::new(), period, key: KeyKind::default() }
    }

    fn to_params(&self) -> Result<CertificateParams, IssueError> {
        let Self { subject, names, period: Period { from, until }, key: _ } = self;
        let mut params = CertificateParams::default();
        params.distinguished_name = subject.to_distinguished_name()?;
        params.subject_alt_names = names.iter().map(|name| name.0.clone()).collect();
        // Certificates count from 1970 here: nobody issues one that was valid before.
        let instant = |at: Timestamp| {
            let since = at.since(Timestamp::default()).try_into().ok()?;
            rcgen::date_time_ymd(1970, 1, 1).checked_add(since)
        };
        let too_long = || IssueError::TooLong { until: *until };
        params.not_before = instant(*from).ok_or_else(too_long)?;
        params.not_after = instant(*until).ok_or_else(too_long)?;
        params.serial_number = Some(serial_number().map_err(|source| self.failed(source))?);
        Ok(params)
    }

    fn failed(&self, source: rcgen::Error) -> IssueError {
        IssueError::Make { subject: self.subject.to_string(), source }
    }
}

impl From<Purpose> for ExtendedKeyUsagePurpose {
    fn from(purpose: Purpose) -> Self {
        match purpose {
            Purpose::Server => Self::ServerAuth,
            Purpose::Client => Self::ClientAuth,
        }
    }
}

/// Shows no key.
impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued").field("certificate_pem", &self.certificate_pem).finish_non_exhaustive()
    }
}

fn authority(template: &Template, path_length: Option<u8>) -> Result<CertificateParams, IssueError> {
    let mut params = template.to_params()?;
    params.is_ca = IsCa::Ca(path_length.map_or(BasicConstraints::Unconstrained, BasicConstraints::Constrained));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

/// Positive, and never shorter than it is long: the first bit is 0, the second 1.
fn serial_number() -> Result<SerialNumber, rcgen::Error> {
    let mut bytes = [0; SERIAL_BYTES];
    rand::fill(&mut bytes).map_err(|_| rcgen::Error::RingUnspecified)?;
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}
