//! TLS policy: what may carry profile data, and how each connection proves it.
//!
//! # What is promised
//! Not one byte of a request is written to a connection unless, in that connection's own handshake,
//! - the server's chain and name verified against the destination's roots, over TLS 1.3 (or 1.2 where its settings say so), and a pinned key is in
//!   that chain where keys are pinned, and
//! - the server asked for our certificate, in a way that our key can answer, and
//! - where HTTP/2 is to be spoken, the server chose it.
//!
//! There is no switch that turns this off. [`MutualClient`] is the only HTTP client that takes a body; it cannot be made
//! without [`ClientTls`], which cannot be made without a certificate, its key and roots. `clippy.toml` bans the ways
//! around it.
//!
//! Requests for tokens go over such connections too, unless a destination's settings say that its token endpoint need not ask.
//! For those alone there is [`OfferingClient`]: it sends nothing but a `TokenRequest`, which is made of credentials.
//!
//! # How the proof works
//! A verified chain is what rustls does by itself. That the *server asked* is what no HTTP client checks: to a server
//! that does not ask, a handshake with a client certificate at hand simply succeeds. So `proof` wraps the connector:
//! each dial runs with a record of its own, and our certificate's resolver, which rustls calls only when a server asks,
//! writes into it. A dial that ends without that entry is dropped before HTTP sees the connection. Connections in the
//! pool passed this once, and a connection's handshake is never repeated: TLS 1.3 knows no renegotiation, and rustls refuses
//! that of TLS 1.2, where the resolver is called as well only if the server asks. Sessions are
//! not resumed, because a resumed handshake asks nobody, and early data is off, because it is written before anything
//! is proven.
//!
//! # What a receiver's refusal looks like
//! In TLS 1.3 the client is done before the server has looked at the client's certificate. A refusal therefore is an
//! alert at the first read, when the request may be written already; in TLS 1.2 it ends the handshake. [`PostError`] tells it from a lost connection.
//!
//! # What is left out
//! Revocation lists and OCSP: a private authority's answer is a short lifetime, and an air-gapped site cannot ask.
//! Whether the *receiver* verifies the certificate it asked for, nobody can see from here.

mod alert;
pub mod answer;
pub mod bundle;
mod client;
mod credentials;
mod exchange;
pub(crate) mod file;
mod http;
pub mod issue;
pub mod listener;
mod offering;
mod origin;
mod policy;
mod post_error;
pub mod probe;
mod proof;
mod roots;
mod unanswered;
mod under_way;
mod url;
pub mod verify;
mod writing;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{RootCertStore, crypto::CryptoProvider};

pub use self::{
    client::MutualClient,
    credentials::{Credentials, CredentialsError, Dated, Validity},
    exchange::{Answer, Limits, MutualClientError},
    http::HttpVersion,
    offering::OfferingClient,
    origin::Origin,
    policy::{MinVersion, Policy},
    post_error::PostError,
    proof::NotMutual,
    roots::RootsError,
    url::{HttpsUrl, NotHttps},
};
pub use crate::certificate::{Fingerprint, NotAFingerprint};

/// Where our certificate and the trusted roots are read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientTlsFiles {
    /// PEM: our certificate, then its intermediates.
    pub certificate: PathBuf,
    /// PEM: the private key.
    pub key: PathBuf,
    /// Whom we trust.
    pub roots: RootsSource,
}

/// Whom a client trusts to name servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootsSource {
    /// The public web's authorities.
    Public,
    /// A PEM file of authorities.
    File(PathBuf),
}

/// Our certificate and the roots, loaded and checked, and where they were read. Clones share them.
#[derive(Clone)]
pub struct ClientTls {
    credentials: Credentials,
    roots: Arc<RootCertStore>,
    authorities: Arc<[Dated]>,
    files: Arc<ClientTlsFiles>,
    policy: Policy,
}

/// Why they cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ClientTlsError {
    /// Our certificate or its key.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The trusted roots.
    #[error(transparent)]
    Roots(#[from] RootsError),
}

impl ClientTls {
    /// Loads and checks. An expired certificate loads: see [`Credentials::validity_at`].
    ///
    /// # Errors
    /// When a file cannot be read, the key is open to everybody, or the pieces do not fit.
    pub fn load(files: &ClientTlsFiles) -> Result<Self, ClientTlsError> {
        let ClientTlsFiles { certificate, key, roots } = files;
        let credentials = Credentials::load(certificate, key)?;
        let (roots, authorities) = roots::load(roots)?;
        let (roots, files) = (Arc::new(roots), Arc::new(files.clone()));
        Ok(Self { credentials, roots, authorities: authorities.into(), files, policy: Policy::default() })
    }

    /// The same files as they are now, with the same policy.
    ///
    /// # Errors
    /// As [`ClientTls::load`].
    pub fn load_again(&self) -> Result<Self, ClientTlsError> {
        Ok(Self::load(&self.files)?.with_policy(self.policy.clone()))
    }

    /// The same with the policy of another.
    pub fn with_policy_of(self, other: &Self) -> Self {
        self.with_policy(other.policy.clone())
    }

    /// The same with another policy.
    pub fn with_policy(self, policy: Policy) -> Self {
        Self { policy, ..self }
    }

    /// The same with another version of HTTP inside.
    pub fn with_http(self, http: HttpVersion) -> Self {
        let policy = Policy { http, ..self.policy.clone() };
        self.with_policy(policy)
    }

    /// What is spoken inside.
    pub fn http(&self) -> HttpVersion {
        self.policy.http
    }

    /// The pair that `cert install` kept beside the files when it replaced them, with the same roots.
    ///
    /// # Errors
    /// As [`ClientTls::load`].
    pub fn load_previous(&self) -> Result<Self, ClientTlsError> {
        let ClientTlsFiles { certificate, key, .. } = &*self.files;
        Ok(self.with_credentials(Credentials::load(&previous(certificate), &previous(key))?))
    }

    /// Another certificate of ours with these roots: who may vouch for servers is not what an older pair may decide.
    pub fn with_credentials(&self, credentials: Credentials) -> Self {
        Self { credentials, ..self.clone() }
    }

    /// The trusted roots, where they are read from a file.
    pub fn authorities(&self) -> &[Dated] {
        &self.authorities
    }

    /// Where they were read.
    pub fn files(&self) -> &ClientTlsFiles {
        &self.files
    }

    /// Our certificate.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }
}

/// Whether files hold a certificate of ours and its key.
pub fn is_pair(certificate: &Path, key: &Path) -> bool {
    Credentials::load(certificate, key).is_ok()
}

/// Where a file is kept that another was put in the place of: beside it, with `.previous` behind its name.
pub fn previous(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".previous");
    name.into()
}

/// Equal when a handshake would be the same, wherever the files lie.
impl PartialEq for ClientTls {
    fn eq(&self, other: &Self) -> bool {
        let Self { credentials, roots, authorities: _, files: _, policy } = self;
        *credentials == other.credentials && roots.roots == other.roots.roots && *policy == other.policy
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls").field("credentials", &self.credentials).field("roots", &self.roots.len()).finish()
    }
}

/// The cryptography in use. Named here and handed to each builder, so that no process-wide default can change it.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
