//! Certificates as authorities send them and partners want them: PEM, DER, PKCS#7 or PKCS#12 in, PEM out.

use std::{
    io,
    path::{Path, PathBuf},
};

use pem::{EncodeConfig, LineEnding, Pem};
use x509_parser::{certificate::X509Certificate, parse_x509_certificate};

use super::file;
use crate::certificate::{Certificate, Form, Held, Item, Material};

/// What Windows puts before a text.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Why certificates cannot be had from a file.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// There is none in it.
    #[error("it holds no certificate{holds}")]
    None {
        /// What it holds instead, and what to do.
        holds: &'static str,
    },
    /// It is nothing that certificates come in.
    #[error("it holds no certificate: {0}")]
    Foreign(String),
    /// Something in it cannot be read.
    #[error("a {what} in it cannot be read: {reason}")]
    Unreadable {
        /// What it should be.
        what: String,
        /// Why it cannot be read, and what to do.
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

/// Reads all certificates of a file, in its order.
pub(super) fn certificates(bytes: &[u8]) -> Result<Vec<Held>, BundleError> {
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes).to_vec();
    let Material { form, items } = file::open(bytes, None).map_err(|error| BundleError::Foreign(error.to_string()))?;
    let holds = instead(&items);
    let mut found = Vec::new();
    for item in items {
        match item {
            Item::Certificate(held) => found.push(held),
            Item::Unreadable { reason, .. } if form == Form::Unknown => return Err(BundleError::Foreign(reason)),
            // Half of what was sent is not to be used as if it were all.
            Item::Unreadable { what, reason } => return Err(BundleError::Unreadable { what, reason }),
            Item::PrivateKey(_)
            | Item::PublicKey(_)
            | Item::Request(_)
            | Item::RevocationList(_)
            | Item::Other { .. } => {}
        }
    }
    match found.is_empty() {
        true => Err(BundleError::None { holds }),
        false => Ok(found),
    }
}

/// Reads a certificate once more, for what only its bytes can tell.
pub(super) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, BundleError> {
    let unreadable = |reason| BundleError::Unreadable { what: "certificate".to_owned(), reason };
    match parse_x509_certificate(der) {
        Ok((_, certificate)) => Ok(certificate),
        Err(error) => Err(unreadable(error.to_string())),
    }
}

/// Writes a certificate.
pub(crate) fn to_pem(der: &[u8]) -> String {
    pem::encode_config(&Pem::new("CERTIFICATE", der), EncodeConfig::new().set_line_ending(LineEnding::LF))
}

/// Writes the certificates of a file for a partner, each under lines that say what it is: the first, or all. Nothing else that the file
/// holds goes with them, a key least of all.
///
/// # Errors
/// When it cannot be read, or holds no certificate.
pub fn for_partners(path: &Path, extent: Extent) -> Result<String, BundleFileError> {
    Ok(annotated(&load(path)?, extent))
}

/// Reads all certificates of a file.
pub(super) fn load(path: &Path) -> Result<Vec<Held>, BundleFileError> {
    let bytes = file::read(path).map_err(|source| BundleFileError::Unreadable { path: path.to_owned(), source })?;
    certificates(&bytes).map_err(|source| BundleFileError::Unusable { path: path.to_owned(), source })
}

fn annotated(certificates: &[Held], extent: Extent) -> String {
    let count = match extent {
        Extent::Leaf => 1,
        Extent::Chain => certificates.len(),
    };
    let texts = certificates.iter().take(count).map(|Held { certificate, der }| {
        let Certificate { subject, issuer, not_before, not_after, sha256, .. } = &**certificate;
        let pem = to_pem(der);
        format!("# subject: {subject}\n# issuer: {issuer}\n# SHA-256: {sha256}\n# valid: {not_before} until {not_after}\n{pem}")
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

/// What a file without a certificate holds, and the way out.
fn instead(items: &[Item]) -> &'static str {
    let holds = |is: fn(&Item) -> bool| items.iter().any(is);
    if holds(|item| matches!(item, Item::PrivateKey(_))) {
        ", but a private key: name the certificate's file, and keep this one to yourself"
    } else if holds(|item| matches!(item, Item::Request(_))) {
        ", but a request: name what the authority answered"
    } else {
        ""
    }
}
