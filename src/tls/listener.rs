//! The receiving side of mutual TLS, as a good receiver does it.

use std::{io, sync::Arc};

use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
    server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier},
    version::TLS13,
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::provider;

/// A server's certificate, and what it wants of clients. TLS 1.3, without session tickets. Clones share it.
#[derive(Clone)]
pub struct ServerTls(TlsAcceptor);

/// What a server wants of its clients.
#[derive(Clone, Copy, Debug)]
pub enum ClientAuth<'a> {
    /// A certificate of these authorities, in PEM.
    Required(&'a str),
    /// Nothing: takes data from anybody. Only to show that [`super::MutualClient`] refuses such a server.
    NeverAskedForDemonstration,
}

/// Why a server's TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum ServerTlsError {
    /// A certificate or key is not PEM.
    #[error("cannot read the server's certificates and key")]
    Pem(#[from] pem::Error),
    /// The authorities cannot be used.
    #[error("cannot trust the clients' authorities")]
    Clients(#[from] VerifierBuilderError),
    /// The pieces do not fit.
    #[error("cannot set up the server's TLS")]
    Tls(#[from] rustls::Error),
}

impl ServerTls {
    /// A server with a certificate, its intermediates and its key, in PEM.
    ///
    /// # Errors
    /// When the texts are not PEM or do not fit.
    pub fn new(certificate_pem: &str, key_pem: &str, clients: ClientAuth<'_>) -> Result<Self, ServerTlsError> {
        let chain = CertificateDer::pem_slice_iter(certificate_pem.as_bytes()).collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())?;
        let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13])?;
        let builder = match clients {
            ClientAuth::Required(authorities_pem) => {
                let mut roots = RootCertStore::empty();
                for authority in CertificateDer::pem_slice_iter(authorities_pem.as_bytes()) {
                    roots.add(authority?)?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build()?;
                builder.with_client_cert_verifier(verifier)
            }
            ClientAuth::NeverAskedForDemonstration => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(chain, key)?;
        // A resumed session would not be asked for its certificate again.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    /// Does the handshake. Waits for the client as long as it takes: the caller sets the limit.
    ///
    /// # Errors
    /// When the handshake fails, for example because the client's certificate is refused.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.0.accept(stream).await
    }
}
