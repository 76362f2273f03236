//! A certification request (PKCS#10): what a real authority is sent.

use std::path::Path;

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyUsagePurpose};

use super::{IssueError, KeyError, KeyKind, PrivateKey, Purpose, Subject, SubjectAltName};

/// A request with the key that signed it.
pub struct Request {
    /// PEM: the request. It holds no secret.
    pub request_pem: String,
    /// PEM: the private key, PKCS#8, if it is a new one.
    pub key_pem: Option<String>,
}

/// The key of a request.
pub struct RequestKey(PrivateKey, Novelty);

#[derive(PartialEq, Eq)]
enum Novelty {
    New,
    Existing,
}

impl RequestKey {
    /// A new one.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn generate(kind: KeyKind) -> Result<Self, IssueError> {
        let key = PrivateKey::generate(kind);
        let key = key.map_err(|source| IssueError::Make { subject: "a request".to_owned(), source })?;
        Ok(Self(key, Novelty::New))
    }

    /// One that is there, to go on with it.
    ///
    /// # Errors
    /// When the file cannot be read, is open to everybody, or holds no key that can sign.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        PrivateKey::load(path).map(|key| Self(key, Novelty::Existing))
    }
}

impl Request {
    /// Asks for a client certificate.
    ///
    /// # Errors
    /// When a name cannot stand in a certificate.
    pub fn new(subject: &Subject, names: &[SubjectAltName], key: &RequestKey) -> Result<Self, IssueError> {
        let RequestKey(key, novelty) = key;
        let mut params = CertificateParams::default();
        params.distinguished_name = subject.to_distinguished_name()?;
        params.subject_alt_names = names.iter().map(|name| name.0.clone()).collect();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::from(Purpose::Client)];
        let made = params.serialize_request(&key.0).and_then(|request| request.pem());
        let request_pem = made.map_err(|source| IssueError::Make { subject: subject.to_string(), source })?;
        Ok(Self { request_pem, key_pem: (*novelty == Novelty::New).then(|| key.to_pem()) })
    }
}
