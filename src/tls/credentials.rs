//! Our side of mutual TLS: a certificate, its chain and its key, loaded and matched.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustls::{
    InconsistentKeys, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem, pem::PemObject},
    server::WebPkiClientVerifier,
    sign::CertifiedKey,
};
use x509_parser::{certificate::X509Certificate, parse_x509_certificate};

use super::{file, provider};
use crate::{
    certificate::{Fingerprint, distinguished},
    clock::{Clock, Timestamp},
};

/// A client certificate with its chain and key, checked as far as files can be checked. An expired one loads: it holds
/// the destinations that use it, but stops nothing else, so ask [`Credentials::validity_at`] before use.
#[derive(Clone)]
pub struct Credentials {
    certified: Arc<CertifiedKey>,
    fingerprint: Fingerprint,
    subject: String,
    not_before: Timestamp,
    not_after: Timestamp,
    issuers: Vec<Dated>,
}

/// Whom a certificate names, and until when it is valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dated {
    /// Whom it names.
    pub subject: String,
    /// The last instant at which it is valid.
    pub not_after: Timestamp,
}

/// Whether a certificate may be used at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// It may.
    Valid,
    /// It may not be used before this instant.
    NotYetValid(Timestamp),
    /// It could be used until this instant.
    Expired(Timestamp),
}

/// Why a certificate and its key cannot be used. Ends with a hint where there is one.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The certificate file is missing, not permitted or too large.
    #[error("cannot read client certificate {path}", path = path.display())]
    CertificateUnreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The certificate file is not PEM.
    #[error("client certificate {path} is not PEM", path = path.display())]
    CertificateNotPem {
        /// The file.
        path: PathBuf,
        /// Where it breaks.
        source: pem::Error,
    },
    /// The certificate file is PEM without a certificate.
    #[error("client certificate {path} holds no certificate: put ours there first, then its intermediates", path = path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// A certificate in the file cannot be read.
    #[error("certificate {position} of {path} cannot be read: {reason}", path = path.display())]
    CertificateMalformed {
        /// The file.
        path: PathBuf,
        /// Which, counted from 1.
        position: usize,
        /// What the reader says.
        reason: String,
    },
    /// The key file is missing, not permitted or too large.
    #[error("cannot read client key {path}", path = path.display())]
    KeyUnreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Anybody on the machine may read, change or run the key file.
    #[error("client key {path} is open to everybody (mode {mode:04o}): run `chmod 0640` on it", path = path.display())]
    KeyOpenToEverybody {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The key is under a pass phrase.
    #[error("client key {path} is encrypted: decrypt it with `openssl pkey` and protect the file instead", path = path.display())]
    KeyEncrypted {
        /// The file.
        path: PathBuf,
    },
    /// The key file holds no key in PEM.
    #[error("client key {path} holds no private key in PEM", path = path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// The key is of a kind we cannot sign with.
    #[error("client key {path} cannot be used: ECDSA (P-256, P-384, P-521), Ed25519 and RSA keys can", path = path.display())]
    KeyUnusable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// The key belongs to another certificate.
    #[error("client key {key} does not belong to certificate {certificate}: were both files replaced?", key = key.display(), certificate = certificate.display())]
    KeyMismatch {
        /// The certificate file.
        certificate: PathBuf,
        /// The key file.
        key: PathBuf,
    },
    /// A certificate is not issued by the one after it.
    #[error("certificate {position} of {path} (`{subject}`) is not issued by the one after it (`{next}`): each must be followed by its issuer", path = path.display())]
    ChainNotInOrder {
        /// The file.
        path: PathBuf,
        /// Which, counted from 1.
        position: usize,
        /// Whom it names.
        subject: String,
        /// Whom the next one names.
        next: String,
    },
    /// The names fit, the signatures or the rights of the issuers do not.
    #[error("the chain in {path} does not hold", path = path.display())]
    ChainBroken {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// The certificate is for something else, most often for a server.
    #[error("certificate {path} (`{subject}`) is not for clients: ask its issuer for one whose extended key usage has clientAuth", path = path.display())]
    NotForClients {
        /// The file.
        path: PathBuf,
        /// Whom it names.
        subject: String,
    },
}

impl Credentials {
    /// Loads a certificate with its chain, and its key, and checks that they fit.
    pub(super) fn load(certificate: &Path, key: &Path) -> Result<Self, CredentialsError> {
        let chain = read_chain(certificate)?;
        let key_der = read_key(key)?;
        let leaf = check_chain(certificate, &chain)?;
        let fingerprint = Fingerprint::of(&chain[0]);
        let certified = CertifiedKey::from_der(chain, key_der, &provider()).map_err(|source| match source {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                CredentialsError::KeyMismatch { certificate: certificate.to_owned(), key: key.to_owned() }
            }
            source => CredentialsError::KeyUnusable { path: key.to_owned(), source },
        })?;
        let Leaf { subject, not_before, not_after, issuers } = leaf;
        Ok(Self { certified: Arc::new(certified), fingerprint, subject, not_before, not_after, issuers })
    }

    /// Whether our certificate may be used at `now`. Only the certificate itself counts: which of the issuers in the
    /// file a server relies on is for the server to say.
    pub fn validity_at(&self, now: Timestamp) -> Validity {
        match now {
            now if now < self.not_before => Validity::NotYetValid(self.not_before),
            now if now > self.not_after => Validity::Expired(self.not_after),
            _ => Validity::Valid,
        }
    }

    /// Whether our certificate may be used, as far as the clock can tell: one that is not trusted judges nothing.
    pub fn is_usable_by(&self, clock: &Clock) -> bool {
        clock.distrusted().is_some() || self.validity_at(clock.now()) == Validity::Valid
    }

    /// What tells this certificate from any other.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Whom the certificate names, for people.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The first instant at which the certificate is valid.
    pub fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// The last instant at which the certificate is valid.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// The issuers that are sent along, in order.
    pub fn issuers(&self) -> &[Dated] {
        &self.issuers
    }

    /// Our certificate, then its issuers, in DER.
    pub fn chain(&self) -> impl Iterator<Item = &[u8]> {
        self.certified.cert.iter().map(AsRef::as_ref)
    }

    /// What a handshake signs with.
    pub(super) fn certified(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }
}

/// Equal when the certificates are: the key belongs to the first one, which was checked.
impl PartialEq for Credentials {
    fn eq(&self, other: &Self) -> bool {
        self.certified.cert == other.certified.cert
    }
}

/// Shows whom it names, never the key.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("subject", &self.subject)
            .field("fingerprint", &self.fingerprint)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// What is known of a certificate that was checked.
pub(super) struct Leaf {
    subject: String,
    not_before: Timestamp,
    not_after: Timestamp,
    issuers: Vec<Dated>,
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, CredentialsError> {
    let text =
        file::read(path).map_err(|source| CredentialsError::CertificateUnreadable { path: path.to_owned(), source })?;
    let chain = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| CredentialsError::CertificateNotPem { path: path.to_owned(), source })?;
    match chain.is_empty() {
        true => Err(CredentialsError::NoCertificate { path: path.to_owned() }),
        false => Ok(chain),
    }
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, CredentialsError> {
    let (text, mode) = file::read_with_mode(path)
        .map_err(|source| CredentialsError::KeyUnreadable { path: path.to_owned(), source })?;
    // The group may read it: root:postern 0640 is how the package installs keys.
    if mode & 0o007 != 0 {
        return Err(CredentialsError::KeyOpenToEverybody { path: path.to_owned(), mode });
    }
    PrivateKeyDer::from_pem_slice(&text).map_err(|_| match contains(&text, b"ENCRYPTED") {
        true => CredentialsError::KeyEncrypted { path: path.to_owned() },
        // The reader's own words are left out: they may repeat a piece of the key.
        false => CredentialsError::NoKey { path: path.to_owned() },
    })
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window == word)
}

/// Checks that each is issued by the next, up to the last one, and that the first is for clients.
pub(super) fn check_chain(path: &Path, chain: &[CertificateDer<'static>]) -> Result<Leaf, CredentialsError> {
    let parsed = chain
        .iter()
        .enumerate()
        .map(|(index, der)| parse(der).map_err(|reason| malformed(path, index, reason)))
        .collect::<Result<Vec<_>, _>>()?;
    for (index, pair) in parsed.windows(2).enumerate() {
        let (certificate, next) = (&pair[0], &pair[1]);
        if certificate.issuer().as_raw() != next.subject().as_raw() {
            return Err(CredentialsError::ChainNotInOrder {
                path: path.to_owned(),
                position: index + 1,
                subject: distinguished(certificate.subject()),
                next: distinguished(next.subject()),
            });
        }
    }

    let leaf = &parsed[0];
    let subject = distinguished(leaf.subject());
    let usage = leaf.extended_key_usage().map_err(|error| malformed(path, 0, error.to_string()))?;
    // Without the extension a certificate is for anything.
    if usage.is_some_and(|usage| !usage.value.client_auth && !usage.value.any) {
        return Err(CredentialsError::NotForClients { path: path.to_owned(), subject });
    }
    check_signatures(path, chain, &parsed)?;
    Ok(Leaf {
        subject,
        not_before: instant(leaf.validity().not_before.timestamp()),
        not_after: instant(leaf.validity().not_after.timestamp()),
        issuers: parsed[1..].iter().map(Dated::of).collect(),
    })
}

/// Verifies the chain up to its last certificate, as a server that trusts that one would.
fn check_signatures(
    path: &Path,
    chain: &[CertificateDer<'static>],
    parsed: &[X509Certificate<'_>],
) -> Result<(), CredentialsError> {
    let [leaf, intermediates @ .., last] = chain else { return Ok(()) };
    let broken = |source| CredentialsError::ChainBroken { path: path.to_owned(), source };
    let mut anchor = RootCertStore::empty();
    anchor.add(last.clone()).map_err(broken)?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(anchor), provider())
        .build()
        .expect("there is one root, and no revocation list that could be malformed");
    // The latest start is an instant at which all are valid, if there is any: time is not judged here.
    let start = parsed.iter().map(|one| one.validity().not_before.timestamp()).max().unwrap_or_default();
    let start = UnixTime::since_unix_epoch(Duration::from_secs(start.max(0).unsigned_abs()));
    match verifier.verify_client_cert(leaf, intermediates, start) {
        Ok(_) => Ok(()),
        Err(rustls::Error::InvalidCertificate(error)) if is_about_time(&error) => Ok(()),
        Err(source) => Err(broken(source)),
    }
}

fn is_about_time(error: &rustls::CertificateError) -> bool {
    use rustls::CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
    matches!(error, Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. })
}

impl Dated {
    pub(super) fn of(certificate: &X509Certificate<'_>) -> Self {
        let not_after = instant(certificate.validity().not_after.timestamp());
        Self { subject: distinguished(certificate.subject()), not_after }
    }
}

/// Reads a certificate, and nothing after it.
pub(super) fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, String> {
    match parse_x509_certificate(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err("bytes follow the certificate".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn malformed(path: &Path, index: usize, reason: String) -> CredentialsError {
    CredentialsError::CertificateMalformed { path: path.to_owned(), position: index + 1, reason }
}

/// An instant as certificates count it.
pub(super) fn instant(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds.saturating_mul(1000))
}
