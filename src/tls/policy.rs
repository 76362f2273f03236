//! What a connection must be beyond verified and mutual: a version of TLS and of HTTP, and a key that was agreed on.

use std::{fmt, sync::Arc};

use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
    SupportedProtocolVersion,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
    version::{TLS12, TLS13},
};
use webpki::{EndEntityCert, KeyUsage, VerifiedPath};
use x509_parser::asn1_rs::{Sequence, ToDer};

use super::{HttpVersion, provider};
use crate::{certificate::Fingerprint, clock::Clock};

/// What a connection must be beyond verified and mutual.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// The oldest version of TLS.
    pub min_version: MinVersion,
    /// Public keys with their algorithms, by SHA-256: one of them must be in the verified chain. None: any will do.
    pub pins: Arc<[Fingerprint]>,
    /// What is spoken inside.
    pub http: HttpVersion,
}

/// The oldest version of TLS that will do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MinVersion {
    /// TLS 1.3.
    #[default]
    Tls13,
    /// TLS 1.2. Who connects to us and to whom is in the clear then, our certificate too.
    Tls12,
}

impl MinVersion {
    /// The versions that are offered.
    pub(super) fn versions(self) -> &'static [&'static SupportedProtocolVersion] {
        static ONE: &[&SupportedProtocolVersion] = &[&TLS13];
        static BOTH: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];
        match self {
            Self::Tls13 => ONE,
            Self::Tls12 => BOTH,
        }
    }
}

/// Verifies servers: as ever, and that a pinned key is in the chain, if keys are pinned. Only the chain that leads from the
/// server's certificate to a trusted root counts for that, and the root is part of it: what else a server shows, anybody could
/// show.
pub(super) struct Judge {
    verifier: Arc<WebPkiServerVerifier>,
    roots: Arc<RootCertStore>,
    pins: Arc<[Fingerprint]>,
    clock: Clock,
}

/// Why a server whose chain is good is not trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("none of the pinned keys is in the server's chain")]
struct NotPinned;

/// Most certificates of a chain that may be younger than what is known of the time.
const YOUNGER_MAX: usize = 10;

impl Judge {
    /// Roots are never empty, or they do not load.
    pub(super) fn new(roots: Arc<RootCertStore>, pins: Arc<[Fingerprint]>, clock: Clock) -> Self {
        let verifier = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider())
            .build()
            .expect("there are roots, and no revocation list that could be malformed");
        Self { verifier, roots, pins, clock }
    }

    /// Verifies as ever, and returns the instant that counted. While the clock is not trusted, `now` is only known to be over:
    /// what is valid from later on is judged then.
    fn verify(
        &self,
        (end_entity, intermediates): (&CertificateDer<'_>, &[CertificateDer<'_>]),
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        mut now: UnixTime,
    ) -> Result<(ServerCertVerified, UnixTime), Error> {
        let is_trusted = self.clock.distrusted().is_none();
        for _ in 0..YOUNGER_MAX {
            match self.verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
                Err(Error::InvalidCertificate(CertificateError::NotValidYetContext { not_before, .. }))
                    if !is_trusted && not_before > now =>
                {
                    now = not_before;
                }
                verified => return verified.map(|verified| (verified, now)),
            }
        }
        Err(Error::InvalidCertificate(CertificateError::NotValidYet))
    }

    fn is_pinned(&self, path: &VerifiedPath<'_>) -> bool {
        // A root is kept without the heading of this sequence.
        let root = Sequence::new(path.anchor().subject_public_key_info.as_ref().into()).to_der_vec();
        let root = root.ok().map(|key| Fingerprint::of(&key));
        let shown = std::iter::once(path.end_entity().subject_public_key_info())
            .chain(path.intermediate_certificates().map(|certificate| certificate.subject_public_key_info()))
            .map(|key| Fingerprint::of(&key));
        shown.chain(root).any(|key| self.pins.contains(&key))
    }
}

/// Shows nothing: it holds nothing that is not said elsewhere.
impl fmt::Debug for Judge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Judge").finish_non_exhaustive()
    }
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let (verified, now) = self.verify((end_entity, intermediates), server_name, ocsp_response, now)?;
        if self.pins.is_empty() {
            return Ok(verified);
        }
        let not_pinned = || Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(NotPinned))));
        let server = EndEntityCert::try_from(end_entity).map_err(|_| not_pinned())?;
        // There may be several paths; one of them is enough.
        let judge = |path: &VerifiedPath<'_>| match self.is_pinned(path) {
            true => Ok(()),
            false => Err(webpki::Error::UnknownIssuer),
        };
        let algorithms = provider().signature_verification_algorithms.all;
        let (roots, usage) = (&self.roots.roots, KeyUsage::server_auth());
        match server.verify_for_usage(algorithms, roots, intermediates, now, usage, None, Some(&judge)) {
            Ok(_) => Ok(verified),
            Err(_) => Err(not_pinned()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
