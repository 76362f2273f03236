//! What an authority answered to a request: checked against our key, and put into the order that peers expect.

use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use x509_parser::{certificate::X509Certificate, extensions::ParsedExtension};

use super::{
    bundle::{self, BundleError, BundleFileError},
    credentials::{self, CredentialsError},
    issue::PrivateKey,
};
use crate::{
    certificate::{Certificate, Held},
    clock::Timestamp,
};

/// Longest chain, in certificates: verifiers follow no longer one, and a file may hold thousands that seem to issue each other.
const CHAIN_MAX: usize = 10;

/// A certificate that may be put in place: it is ours, for clients and valid, and its chain holds.
pub struct Answer {
    /// PEM: our certificate, then its intermediates in order, without the root.
    pub chain_pem: String,
    /// Our certificate, then the others that are in `chain_pem`.
    pub chain: Vec<Certificate>,
    /// The root, if it was sent as well. Whoever is to trust the chain has it already.
    pub root: Option<Certificate>,
    /// What was sent and does not belong to the chain.
    pub left_out: Vec<Certificate>,
}

/// Why an answer is not put in place.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// A file that cannot be read, or holds no certificates.
    #[error(transparent)]
    File(#[from] BundleFileError),
    /// None is for our key.
    #[error("no certificate in {path} belongs to private key {key} (the first is `{first}`): was another key's request sent, or another file answered?", path = path.display(), key = key.display())]
    NotOurs {
        /// The file.
        path: PathBuf,
        /// The key file.
        key: PathBuf,
        /// Whom the first certificate names.
        first: String,
    },
    /// An issuer between is missing.
    #[error(
        "the chain is not whole: `{subject}` is issued by `{issuer}`, which is not among what was sent; ask the authority for that certificate and add it with --chain"
    )]
    NotWhole {
        /// Whom the last certificate names that could be put in order.
        subject: String,
        /// Who issued it.
        issuer: String,
    },
    /// One of them cannot be used at this instant.
    #[error("certificate `{subject}` is valid from {from} until {until}: install one that is valid now")]
    NotValid {
        /// Whom it names.
        subject: String,
        /// Its first instant.
        from: Timestamp,
        /// Its last one.
        until: Timestamp,
    },
    /// The chain does not hold, or is not for clients.
    #[error(transparent)]
    Refused(#[from] CredentialsError),
}

impl Answer {
    /// Reads an answer, and what else belongs to its chain, and checks them for use with a key at this instant.
    ///
    /// # Errors
    /// When a file cannot be read, none of the certificates belongs to the key, or the one that does could not be used.
    pub fn load(
        path: &Path,
        chain: Option<&Path>,
        key_path: &Path,
        key: &PrivateKey,
        now: Timestamp,
    ) -> Result<Self, AnswerError> {
        let mut sent = bundle::load(path)?;
        if let Some(chain) = chain {
            sent.extend(bundle::load(chain)?);
        }
        let unreadable = |source| BundleFileError::Unusable { path: path.to_owned(), source };
        let sent: Vec<Sent<'_>> = sent.iter().map(Sent::parse).collect::<Result<_, _>>().map_err(unreadable)?;
        let ours = sent.iter().filter(|one| key.belongs_to(&one.parsed)).max_by_key(|one| one.certificate.not_after);
        let Some(ours) = ours else {
            let first = sent.first().map_or_else(String::new, |one| one.certificate.subject.clone());
            return Err(AnswerError::NotOurs { path: path.to_owned(), key: key_path.to_owned(), first });
        };

        let chain = chain_of(ours, &sent);
        let top = chain[chain.len() - 1];
        let is_unused = |one: &&Sent<'_>| !chain.iter().any(|used| used.der == one.der);
        let left_out: Vec<&Sent<'_>> = sent.iter().filter(is_unused).collect();
        // Authorities were sent to complete the chain, and they do not.
        if !top.is_self_issued() && left_out.iter().any(|one| one.parsed.is_ca()) {
            let Certificate { subject, issuer, .. } = top.certificate.clone();
            return Err(AnswerError::NotWhole { subject, issuer });
        }
        let whole: Vec<CertificateDer<'static>> = chain.iter().map(|one| one.der.to_vec().into()).collect();
        credentials::check_chain(path, &whole)?;

        let (chain, root) = match chain.split_last() {
            Some((root, chain)) if root.is_self_issued() && !chain.is_empty() => {
                (chain, Some(root.certificate.clone()))
            }
            _ => (chain.as_slice(), None),
        };
        let invalid = chain.iter().map(|one| one.certificate).find(|one| now < one.not_before || one.not_after < now);
        if let Some(Certificate { subject, not_before, not_after, .. }) = invalid {
            return Err(AnswerError::NotValid { subject: subject.clone(), from: *not_before, until: *not_after });
        }
        Ok(Self {
            chain_pem: chain.iter().map(|one| bundle::to_pem(one.der)).collect(),
            chain: chain.iter().map(|one| one.certificate.clone()).collect(),
            root,
            left_out: left_out.iter().map(|one| one.certificate.clone()).collect(),
        })
    }
}

/// A certificate that was sent.
struct Sent<'a> {
    der: &'a [u8],
    certificate: &'a Certificate,
    parsed: X509Certificate<'a>,
}

impl<'a> Sent<'a> {
    fn parse(Held { certificate, der }: &'a Held) -> Result<Self, BundleError> {
        Ok(Self { der, certificate, parsed: bundle::parse(der)? })
    }

    fn is_self_issued(&self) -> bool {
        self.parsed.issuer().as_raw() == self.parsed.subject().as_raw()
    }

    /// Going by names and key identifiers. Signatures are checked when the chain stands.
    fn is_issued_by(&self, issuer: &Sent<'_>) -> bool {
        let (wanted, offered) = (self.identifier_of_issuer(), issuer.identifier());
        let fits = wanted.is_none() || offered.is_none() || wanted == offered;
        fits && self.parsed.issuer().as_raw() == issuer.parsed.subject().as_raw()
    }

    fn identifier_of_issuer(&self) -> Option<&[u8]> {
        self.parsed.iter_extensions().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(identifier) => identifier.key_identifier.as_ref().map(|id| id.0),
            _ => None,
        })
    }

    fn identifier(&self) -> Option<&[u8]> {
        self.parsed.iter_extensions().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(identifier) => Some(identifier.0),
            _ => None,
        })
    }
}

/// The chain from a certificate upwards, as far as it goes. Where an authority is there twice, vouched for by itself and by another,
/// the latter goes in: peers that trust either then find their way.
fn chain_of<'s, 'a>(leaf: &'s Sent<'a>, sent: &'s [Sent<'a>]) -> Vec<&'s Sent<'a>> {
    let mut chain = vec![leaf];
    while chain.len() < CHAIN_MAX {
        let last = chain[chain.len() - 1];
        let is_above = |one: &&Sent<'_>| last.is_issued_by(one) && !chain.iter().any(|used| used.der == one.der);
        let above = sent.iter().filter(is_above).min_by_key(|one| one.is_self_issued());
        match above {
            Some(above) if !last.is_self_issued() => chain.push(above),
            _ => break,
        }
    }
    chain
}
