//! Whom we trust to name servers: the public web's authorities, or those in a PEM file.

use std::path::{Path, PathBuf};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem, pem::PemObject},
};
use x509_parser::parse_x509_certificate;

use super::{RootsSource, credentials::Dated, file};

/// Why the trusted roots cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// Missing, not permitted, too large.
    #[error("cannot read trusted roots {path}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not PEM.
    #[error("trusted roots {path} are not PEM", path = path.display())]
    NotPem {
        /// The file.
        path: PathBuf,
        /// Where it breaks.
        source: pem::Error,
    },
    /// PEM, but without a certificate.
    #[error("trusted roots {path} hold no certificate: put the authority's certificate there, in PEM", path = path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A certificate that cannot be a trust anchor.
    #[error("certificate {position} of trusted roots {path} cannot be trusted as an authority", path = path.display())]
    NotAnAuthority {
        /// The file.
        path: PathBuf,
        /// Which, counted from 1.
        position: usize,
        /// Why.
        source: rustls::Error,
    },
}

/// Reads whom a client trusts, and until when the certificates in a file are valid.
pub(super) fn load(source: &RootsSource) -> Result<(RootCertStore, Vec<Dated>), RootsError> {
    match source {
        RootsSource::Public => Ok((public(), Vec::new())),
        RootsSource::File(path) => {
            let text = file::read(path).map_err(|source| RootsError::Unreadable { path: path.clone(), source })?;
            from_pem(path, &text)
        }
    }
}

/// The public web's authorities.
pub(super) fn public() -> RootCertStore {
    RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }
}

fn from_pem(path: &Path, text: &[u8]) -> Result<(RootCertStore, Vec<Dated>), RootsError> {
    let (mut roots, mut dated) = (RootCertStore::empty(), Vec::new());
    for (index, certificate) in CertificateDer::pem_slice_iter(text).enumerate() {
        let certificate = certificate.map_err(|source| RootsError::NotPem { path: path.to_owned(), source })?;
        // What cannot be read here is refused in the next line.
        dated.extend(parse_x509_certificate(&certificate).ok().map(|(_, certificate)| Dated::of(&certificate)));
        roots.add(certificate).map_err(|source| RootsError::NotAnAuthority {
            path: path.to_owned(),
            position: index + 1,
            source,
        })?;
    }
    match roots.is_empty() {
        true => Err(RootsError::Empty { path: path.to_owned() }),
        false => Ok((roots, dated)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_roots_are_there() {
        assert!(load(&RootsSource::Public).unwrap().0.len() > 50);
    }

    #[test]
    fn roots_that_anchor_nothing_are_refused() {
        let path = Path::new("ca.crt");
        let broken = b"-----BEGIN CERTIFICATE-----\nMAMCAQA=\n-----END CERTIFICATE-----\n";

        assert!(matches!(from_pem(path, b"hello"), Err(RootsError::Empty { .. })));
        assert!(matches!(from_pem(path, b"-----BEGIN CERTIFICATE-----\nMAMC"), Err(RootsError::NotPem { .. })));
        assert!(matches!(from_pem(path, broken), Err(RootsError::NotAnAuthority { position: 1, .. })));
        assert!(matches!(load(&RootsSource::File("/nowhere/ca.crt".into())), Err(RootsError::Unreadable { .. })));
    }
}
