//! An authority that was made earlier: its certificate and its key in a folder.

use std::path::{Path, PathBuf};

use rcgen::Issuer;
use x509_parser::{
    certificate::X509Certificate,
    x509::{AttributeTypeAndValue, X509Name},
};

use super::{Authority, KeyError, Limits, PrivateKey};
use crate::{
    certificate::{Certificate, Held},
    clock::Timestamp,
    tls::bundle::{self, BundleError, BundleFileError},
};

/// Why an authority cannot issue.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its certificate's file cannot be read, or holds something else.
    #[error("the authority's certificate cannot be had; an authority is made with `postern cert issue authority`")]
    File(#[from] BundleFileError),
    /// Its certificate is a server's, a client's or somebody else's.
    #[error("{path} (`{subject}`) is not an authority's certificate: its basic constraints or key usage do not allow it to sign others", path = path.display())]
    NotAnAuthority {
        /// The file.
        path: PathBuf,
        /// Whom it names.
        subject: String,
    },
    /// It cannot be used at this instant.
    #[error("the authority `{subject}` in {path} is valid from {from} until {until}: make a new one", path = path.display())]
    NotValid {
        /// The file.
        path: PathBuf,
        /// Whom it names.
        subject: String,
        /// Its first instant.
        from: Timestamp,
        /// Its last one.
        until: Timestamp,
    },
    /// Its key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The key is another's.
    #[error("private key {key} does not belong to the authority's certificate {certificate}: was one of them replaced?", key = key.display(), certificate = certificate.display())]
    KeyMismatch {
        /// The certificate file.
        certificate: PathBuf,
        /// The key file.
        key: PathBuf,
    },
    /// Its certificate names it in a way that we cannot write.
    #[error("the authority's name in {path} has a form that cannot be repeated in what it issues: make an authority with a plainer one", path = path.display())]
    NotRepeatable {
        /// The file.
        path: PathBuf,
    },
}

impl Authority {
    /// The certificate's file in an authority's folder: its own certificate, then those above it.
    pub const CERTIFICATE_FILE: &str = "ca.crt";
    /// The key's file in an authority's folder.
    pub const KEY_FILE: &str = "ca.key";

    /// Reads an authority from its folder, for use at this instant.
    ///
    /// # Errors
    /// When a file cannot be read, the certificate may not sign others or is not valid, or the key is not its own.
    pub fn open(folder: &Path, now: Timestamp) -> Result<Self, OpenError> {
        let (path, key_path) = (folder.join(Self::CERTIFICATE_FILE), folder.join(Self::KEY_FILE));
        let unusable = |source| BundleFileError::Unusable { path: path.clone(), source };
        let chain = bundle::load(&path)?;
        let Some((Held { certificate, der: own }, above)) = chain.split_first() else {
            return Err(unusable(BundleError::None { holds: "" }).into());
        };
        let parsed = bundle::parse(own).map_err(unusable)?;
        let Certificate { subject, not_before: from, not_after, .. } = &**certificate;
        if !may_sign(&parsed) {
            return Err(OpenError::NotAnAuthority { path, subject: subject.clone() });
        }
        let key = PrivateKey::load(&key_path)?;
        if !key.belongs_to(&parsed) {
            return Err(OpenError::KeyMismatch { certificate: path, key: key_path });
        }

        let is_root = parsed.issuer().as_raw() == parsed.subject().as_raw();
        let mut until = *not_after;
        let mut intermediates_pem = if is_root { String::new() } else { bundle::to_pem(own) };
        for Held { certificate, der } in above.iter().filter(|_| !is_root) {
            let parsed = bundle::parse(der).map_err(unusable)?;
            until = until.min(certificate.not_after);
            if parsed.issuer().as_raw() != parsed.subject().as_raw() {
                intermediates_pem += &bundle::to_pem(der);
            }
        }
        if now < *from || until < now {
            return Err(OpenError::NotValid { path, subject: subject.clone(), from: *from, until });
        }
        let issuer = match is_writable(parsed.subject()) {
            true => Issuer::from_ca_cert_der(&own.as_slice().into(), key.0).ok(),
            false => None,
        };
        let Some(issuer) = issuer else { return Err(OpenError::NotRepeatable { path }) };
        Ok(Self {
            issuer,
            subject: parsed.subject().as_raw().to_owned(),
            certificate_pem: bundle::to_pem(own),
            intermediates_pem,
            limits: Limits { until, path_length: path_length(&parsed) },
        })
    }
}

fn may_sign(certificate: &X509Certificate<'_>) -> bool {
    let is_authority = matches!(certificate.basic_constraints(), Ok(Some(constraints)) if constraints.value.ca);
    // Without the extension a key is for anything.
    is_authority
        && match certificate.key_usage() {
            Ok(usage) => usage.is_none_or(|usage| usage.value.key_cert_sign()),
            Err(_) => false,
        }
}

/// False for names that rcgen would stumble over: it takes it for granted that each part holds something, and that each kind of part is
/// an object identifier that can be.
fn is_writable(name: &X509Name<'_>) -> bool {
    name.iter().all(|part| {
        let is_possible = |kind: &AttributeTypeAndValue<'_>| {
            let numbers: Option<Vec<u64>> = kind.attr_type().iter().map(Iterator::collect);
            matches!(numbers.as_deref(), Some([0..=2, 0..=39, ..]))
        };
        part.iter().next().is_some() && part.iter().all(is_possible)
    })
}

fn path_length(certificate: &X509Certificate<'_>) -> Option<u8> {
    let constraints = certificate.basic_constraints().ok().flatten()?;
    constraints.value.path_len_constraint.map(|length| u8::try_from(length).unwrap_or(u8::MAX))
}
