//! What a connection must be beyond verified and mutual: a version of TLS, and a key that was agreed on.

use std::sync::Arc;

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

use super::provider;
use crate::certificate::Fingerprint;

/// What a connection must be beyond verified and mutual.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// The oldest version of TLS.
    pub min_version: MinVersion,
    /// Public keys with their algorithms, by SHA-256: one of them must be in the verified chain. None: any will do.
    pub pins: Arc<[Fingerprint]>,
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

/// Verifies as ever, and then that a pinned key is in the chain. Only the chain that leads from the server's certificate to a
/// trusted root counts, and the root is part of it: what else a server shows, anybody could show.
#[derive(Debug)]
pub(super) struct Pinned {
    verifier: Arc<WebPkiServerVerifier>,
    roots: Arc<RootCertStore>,
    pins: Arc<[Fingerprint]>,
}

/// Why a server whose chain is good is not trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("none of the pinned keys is in the server's chain")]
struct NotPinned;

impl Pinned {
    /// Roots are never empty, or they do not load.
    pub(super) fn new(roots: Arc<RootCertStore>, pins: Arc<[Fingerprint]>) -> Self {
        let verifier = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider())
            .build()
            .expect("there are roots, and no revocation list that could be malformed");
        Self { verifier, roots, pins }
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

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
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
