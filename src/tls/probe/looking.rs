//! TLS settings for looking only: every server is let through, and what it shows is noted.
//!
//! Nothing of ours is at hand in them: they hold no certificate and no key, and they do not leave `probe`.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme, SupportedProtocolVersion,
    client::{
        ResolvesClientCert, Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
    sign::CertifiedKey,
};

use super::observed::{Asked, Seen, words};
use crate::tls::{HttpVersion, provider};

/// A look: its settings, and what the one handshake with them showed.
pub(super) struct Looking {
    settings: Arc<ClientConfig>,
    notes: Arc<Notes>,
}

impl Looking {
    /// With the versions of TLS and HTTP that are offered, and the roots against which the server is judged.
    #[expect(clippy::disallowed_methods, reason = "to look at servers that would be refused; carries nothing of ours")]
    pub(super) fn new(
        versions: &[&'static SupportedProtocolVersion],
        roots: &Arc<RootCertStore>,
        http: &[HttpVersion],
    ) -> Self {
        let judge = WebPkiServerVerifier::builder_with_provider(Arc::clone(roots), provider())
            .build()
            .expect("roots that were loaded hold one at least, and there is no revocation list");
        let notes = Arc::new(Notes { seen: Mutex::default(), judge });
        let mut settings = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .expect("the cryptography does TLS 1.2 and 1.3")
            .dangerous()
            .with_custom_certificate_verifier(notes.clone())
            .with_client_cert_resolver(notes.clone());
        // A resumed handshake would show nothing.
        settings.resumption = Resumption::disabled();
        settings.alpn_protocols = http.iter().flat_map(|http| http.alpn()).collect();
        Self { settings: Arc::new(settings), notes }
    }

    /// What a handshake is done with.
    pub(super) fn settings(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.settings)
    }

    /// What was noted so far.
    pub(super) fn seen(&self) -> Seen {
        self.notes.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Notes what the server shows, and what delivery would say of it.
#[derive(Debug)]
struct Notes {
    seen: Mutex<Seen>,
    judge: Arc<WebPkiServerVerifier>,
}

impl Notes {
    fn note(&self, what: impl FnOnce(&mut Seen)) {
        what(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The first objection stays.
    fn judged<T>(&self, verdict: Result<T, Error>) {
        if let Err(error) = verdict {
            self.note(|seen| seen.trust = Some(seen.trust.take().unwrap_or(Ok(())).and(Err(words(&error)))));
        }
    }
}

impl ServerCertVerifier for Notes {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain = std::iter::once(end_entity).chain(intermediates);
        self.note(|seen| {
            seen.chain = chain.map(|der| der.to_vec()).collect();
            seen.trust = Some(Ok(()));
        });
        self.judged(self.judge.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now));
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.judged(self.judge.verify_tls12_signature(message, cert, dss));
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.judged(self.judge.verify_tls13_signature(message, cert, dss));
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.judge.supported_verify_schemes()
    }
}

/// Notes that the server asks, and shows it nothing.
impl ResolvesClientCert for Notes {
    fn resolve(&self, authorities: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let authorities = authorities.iter().map(|name| name.to_vec()).collect();
        self.note(|seen| seen.asked = Some(Asked { authorities, schemes: schemes.to_vec() }));
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}
