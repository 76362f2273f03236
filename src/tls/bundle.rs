//! Certificates as authorities send them and partners want them: PEM or DER in, PEM out.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use pem::{EncodeConfig, LineEnding, Pem};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde::Serialize;
use x509_parser::certificate::X509Certificate;

use super::{credentials, file};
use crate::{certificate::Fingerprint, clock::Timestamp};

/// What Windows puts before a text.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What PKCS#7 in DER begins with, after its length: the object identifier of signed data.
const SIGNED_DATA: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02";

/// Why certificates cannot be had from a file.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// There is none in it.
    #[error("it holds no certificate, in PEM or DER{holds}")]
    None {
        /// What it holds instead, and what to do.
        holds: &'static str,
    },
    /// The PEM around a certificate is broken.
    #[error("its PEM is broken; was a part of it lost on the way?")]
    NotPem,
    /// A certificate cannot be read.
    #[error("a certificate in it cannot be read: {reason}")]
    Malformed {
        /// What the reader says.
        reason: String,
    },
}

/// Why certificates cannot be had from a file that is named.
#[derive(Debug, thiserror::Error)]
pub enum BundleFileError {
    /// Missing, not permitted, too large.
    #[error("cannot read {path}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It holds something else.
    #[error("{path} cannot be used", path = path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: BundleError,
    },
}

/// What a person recognizes a certificate by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Whom it names.
    pub subject: String,
    /// Who issued it.
    pub issuer: String,
    /// The first instant at which it is valid.
    #[serde(serialize_with = "as_text")]
    pub not_before: Timestamp,
    /// The last one.
    #[serde(serialize_with = "as_text")]
    pub not_after: Timestamp,
    /// Its SHA-256.
    pub fingerprint: Fingerprint,
}

impl Summary {
    /// Of a certificate and its bytes.
    pub(super) fn of(parsed: &X509Certificate<'_>, der: &CertificateDer<'_>) -> Self {
        let validity = parsed.validity();
        Self {
            subject: plain(&parsed.subject().to_string()),
            issuer: plain(&parsed.issuer().to_string()),
            not_before: credentials::instant(validity.not_before.timestamp()),
            not_after: credentials::instant(validity.not_after.timestamp()),
            fingerprint: Fingerprint::of(der),
        }
    }
}

/// Reads all certificates of a file, in its order. This is the place where a form is recognized.
pub(super) fn certificates(bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, BundleError> {
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    let found = match contains(bytes, b"-----BEGIN ") {
        true => CertificateDer::pem_slice_iter(bytes).collect::<Result<_, _>>().map_err(|_| BundleError::NotPem)?,
        false => {
            let der = CertificateDer::from(bytes.to_vec());
            if parse(&der).is_ok() { vec![der] } else { Vec::new() }
        }
    };
    for certificate in &found {
        parse(certificate)?;
    }
    match found.is_empty() {
        true => Err(BundleError::None { holds: instead(bytes) }),
        false => Ok(found),
    }
}

/// Reads a certificate.
pub(super) fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, BundleError> {
    credentials::parse(der).map_err(|reason| BundleError::Malformed { reason })
}

/// Writes a certificate.
pub(crate) fn to_pem(der: &[u8]) -> String {
    pem::encode_config(&Pem::new("CERTIFICATE", der), EncodeConfig::new().set_line_ending(LineEnding::LF))
}

/// Says what the first certificate of a file is.
///
/// # Errors
/// When it holds no certificate, or one that cannot be read.
pub fn first(bytes: &[u8]) -> Result<Summary, BundleError> {
    match certificates(bytes)?.first() {
        Some(der) => Ok(Summary::of(&parse(der)?, der)),
        None => Err(BundleError::None { holds: "" }),
    }
}

/// Writes the certificates of a file for a partner, each under lines that say what it is: the first, or all. Nothing else that the file
/// holds goes with them, a key least of all.
///
/// # Errors
/// When it cannot be read, or holds no certificate.
pub fn for_partners(path: &Path, extent: Extent) -> Result<String, BundleFileError> {
    let unusable = |source| BundleFileError::Unusable { path: path.to_owned(), source };
    annotated(&load(path)?, extent).map_err(unusable)
}

/// Reads all certificates of a file.
pub(super) fn load(path: &Path) -> Result<Vec<CertificateDer<'static>>, BundleFileError> {
    let bytes = file::read(path).map_err(|source| BundleFileError::Unreadable { path: path.to_owned(), source })?;
    certificates(&bytes).map_err(|source| BundleFileError::Unusable { path: path.to_owned(), source })
}

fn annotated(certificates: &[CertificateDer<'_>], extent: Extent) -> Result<String, BundleError> {
    let count = match extent {
        Extent::Leaf => 1,
        Extent::Chain => certificates.len(),
    };
    let texts = certificates.iter().take(count).map(|der| {
        let Summary { subject, issuer, not_before, not_after, fingerprint } = Summary::of(&parse(der)?, der);
        Ok(format!(
            "# subject: {subject}\n# issuer: {issuer}\n# SHA-256: {fingerprint}\n# valid: {not_before} until {not_after}\n{}",
            to_pem(der)
        ))
    });
    texts.collect()
}

/// How much of a chain is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// The first certificate.
    Leaf,
    /// All.
    Chain,
}

/// What a file without a certificate seems to be, and the way out.
fn instead(bytes: &[u8]) -> &'static str {
    if contains(bytes, b"PRIVATE KEY-----") {
        ", but a private key: name the certificate's file, and keep this one to yourself"
    } else if contains(bytes, b"CERTIFICATE REQUEST-----") {
        ", but a request: name what the authority answered"
    } else if contains(bytes, b"PKCS7-----") || contains(bytes, SIGNED_DATA) {
        ", but PKCS#7: convert it with `openssl pkcs7 -print_certs`"
    } else {
        ""
    }
}

fn contains(bytes: &[u8], piece: &[u8]) -> bool {
    bytes.windows(piece.len()).any(|window| window == piece)
}

/// A name as a line can show it: whoever chose it may not write further lines or steer a terminal.
fn plain(name: &str) -> String {
    name.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

fn as_text<S: serde::Serializer>(value: &impl fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}
