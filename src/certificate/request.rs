//! Requests to an authority (PKCS#10), and public keys alone.

use serde::Serialize;
use x509_parser::{
    asn1_rs::FromDer, certification_request::X509CertificationRequest, extensions::ParsedExtension,
    x509::SubjectPublicKeyInfo,
};

use super::{
    description::Names,
    fingerprint::Fingerprint,
    key::Key,
    name::{distinguished, first_common_name},
    oid, signature,
};

/// What a request asks to be certified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Request {
    /// Whom, as RFC 4514 writes it.
    pub subject: String,
    /// The first `CN` of the subject.
    pub common_name: Option<String>,
    /// Under which alternative names.
    pub names: Names,
    /// Which key.
    #[serde(flatten)]
    pub public_key: PublicKey,
    /// How it is signed, as OpenSSL names it.
    pub signature: String,
    /// Whether the owner of the key made it; none where its algorithm is not known here.
    pub signature_good: Option<bool>,
}

/// A public key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PublicKey {
    /// Its kind and size.
    pub key: Key,
    /// SHA-256 of the key with its algorithm (SubjectPublicKeyInfo).
    pub spki_sha256: Fingerprint,
}

impl Request {
    /// Reads a request from DER.
    pub(super) fn read(der: &[u8]) -> Option<Self> {
        let ([], request) = X509CertificationRequest::from_der(der).ok()? else { return None };
        let info = &request.certification_request_info;
        let names = request.requested_extensions().into_iter().flatten().find_map(|extension| match extension {
            ParsedExtension::SubjectAlternativeName(names) => Some(Names::of(&names.general_names)),
            _ => None,
        });
        let signature = oid::signature(&request.signature_algorithm.algorithm);
        let value = &request.signature_value.data;
        Some(Self {
            subject: distinguished(&info.subject),
            common_name: first_common_name(&info.subject),
            names: names.unwrap_or_default(),
            public_key: PublicKey::of(&info.subject_pki),
            signature_good: signature::holds(&info.subject_pki, &signature, info.raw, value),
            signature,
        })
    }
}

impl PublicKey {
    /// Reads a public key from DER.
    pub(super) fn read(der: &[u8]) -> Option<Self> {
        let ([], key) = SubjectPublicKeyInfo::from_der(der).ok()? else { return None };
        Some(Self { key: Key::public(&key), spki_sha256: Fingerprint::of(der) })
    }

    fn of(key: &SubjectPublicKeyInfo<'_>) -> Self {
        Self { key: Key::public(key), spki_sha256: Fingerprint::of(key.raw) }
    }
}
