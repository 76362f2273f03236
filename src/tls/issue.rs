//! A small private authority: issues certificates for demonstrations and tests, in memory.

use std::{fmt, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

use crate::clock::Timestamp;

/// A certificate authority with its key. Keys are P-256.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// What a leaf's file holds after the leaf: this authority and those above it, without the root.
    intermediates_pem: String,
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

/// Why a certificate could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot issue a certificate for `{subject}`")]
pub struct IssueError {
    subject: String,
    source: rcgen::Error,
}

impl Authority {
    /// A root that vouches for itself.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn new(common_name: &str, period: Period) -> Result<Self, IssueError> {
        let make = || CertifiedIssuer::self_signed(authority(common_name, period), KeyPair::generate()?);
        let issuer = make().map_err(|source| failed(common_name, source))?;
        Ok(Self { issuer, intermediates_pem: String::new() })
    }

    /// An authority under this one.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn subordinate(&self, common_name: &str, period: Period) -> Result<Self, IssueError> {
        let make = || CertifiedIssuer::signed_by(authority(common_name, period), KeyPair::generate()?, &self.issuer);
        let issuer = make().map_err(|source| failed(common_name, source))?;
        let intermediates_pem = issuer.pem() + &self.intermediates_pem;
        Ok(Self { issuer, intermediates_pem })
    }

    /// The authority's own certificate, for those who are to trust it.
    pub fn certificate_pem(&self) -> String {
        self.issuer.pem()
    }

    /// A server's certificate. Names are host names or IP addresses.
    ///
    /// # Errors
    /// When a name cannot stand in a certificate.
    pub fn server(&self, names: &[&str], period: Period) -> Result<Issued, IssueError> {
        let subject = names.first().copied().unwrap_or_default();
        self.leaf(subject, names, ExtendedKeyUsagePurpose::ServerAuth, period)
    }

    /// A client's certificate.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn client(&self, common_name: &str, period: Period) -> Result<Issued, IssueError> {
        self.leaf(common_name, &[], ExtendedKeyUsagePurpose::ClientAuth, period)
    }

    fn leaf(
        &self,
        common_name: &str,
        names: &[&str],
        usage: ExtendedKeyUsagePurpose,
        period: Period,
    ) -> Result<Issued, IssueError> {
        let make = || {
            let names: Vec<String> = names.iter().copied().map(str::to_owned).collect();
            let mut params = params(CertificateParams::new(names)?, common_name, period);
            params.is_ca = IsCa::ExplicitNoCa;
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            params.extended_key_usages = vec![usage.clone()];
            params.use_authority_key_identifier_extension = true;
            let key = KeyPair::generate()?;
            Ok(Issued {
                certificate_pem: params.signed_by(&key, &self.issuer)?.pem() + &self.intermediates_pem,
                key_pem: key.serialize_pem(),
            })
        };
        make().map_err(|source| failed(common_name, source))
    }
}

impl Period {
    /// So long from an instant on.
    pub fn starting(from: Timestamp, lifetime: Duration) -> Self {
        Self { from, until: from + lifetime }
    }
}

/// Shows no key.
impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued").field("certificate_pem", &self.certificate_pem).finish_non_exhaustive()
    }
}

fn authority(common_name: &str, period: Period) -> CertificateParams {
    let mut params = params(CertificateParams::default(), common_name, period);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn params(mut params: CertificateParams, common_name: &str, period: Period) -> CertificateParams {
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::CommonName, common_name);
    // Certificates count from 1970 here: nobody issues one that was valid before.
    let instant = |at: Timestamp| rcgen::date_time_ymd(1970, 1, 1) + at.since(Timestamp::default());
    params.not_before = instant(period.from);
    params.not_after = instant(period.until);
    params
}

fn failed(subject: &str, source: rcgen::Error) -> IssueError {
    IssueError { subject: subject.to_owned(), source }
}
