//! Private keys: of what kind they are, and to which public key they belong. Never the key itself.

use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    rsa,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING, EcdsaKeyPair,
        Ed25519KeyPair, KeyPair,
    },
};
use serde::Serialize;
use x509_parser::{
    asn1_rs::{Any, FromDer, Integer, Oid, Tag},
    x509::AlgorithmIdentifier,
};

use super::{fingerprint::Fingerprint, key::Key, oid};

/// What may be said of a private key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PrivateKey {
    /// Its kind and size; not known of one under a pass phrase.
    pub key: Option<Key>,
    /// Whether it is under a pass phrase.
    pub encrypted: bool,
    /// SHA-256 of the public key that belongs to it, where that can be told.
    pub spki_sha256: Option<Fingerprint>,
}

impl PrivateKey {
    /// One of which no more is known.
    pub(super) const ENCRYPTED: Self = Self { key: None, encrypted: true, spki_sha256: None };

    /// Reads a key from DER, in any of the usual forms.
    pub(super) fn read(der: &[u8]) -> Option<Self> {
        Self::pkcs8(der)
            .or_else(|| Self::pkcs1(der))
            .or_else(|| Self::sec1(der))
            .or_else(|| Self::under_passphrase(der))
    }

    /// PKCS#8 (RFC 5958): version, algorithm, key.
    fn pkcs8(der: &[u8]) -> Option<Self> {
        let (rest, _version) = Integer::from_der(sequence(der)?).ok()?;
        let (rest, algorithm) = AlgorithmIdentifier::from_der(rest).ok()?;
        let (_, inner) = octets(rest)?;
        let curve = || {
            let named = algorithm.parameters().filter(|parameters| parameters.tag() == Tag::Oid)?;
            Oid::try_from(named.clone()).ok()
        };
        let name = oid::key(&algorithm.algorithm);
        let key = match name.as_str() {
            "RSA" | "RSA-PSS" => Key::rsa(name, modulus(inner).as_deref()),
            "EC" => Key::ec(&curve()?),
            _ => Key::other(name),
        };
        Some(Self::plain(key, der))
    }

    /// PKCS#1 (RFC 8017): nine numbers, the second of which is the modulus.
    fn pkcs1(der: &[u8]) -> Option<Self> {
        Some(Self::plain(Key::rsa("RSA".to_owned(), Some(&modulus(der)?)), der))
    }

    /// SEC 1 (RFC 5915): version, key, curve.
    fn sec1(der: &[u8]) -> Option<Self> {
        let (rest, _version) = Integer::from_der(sequence(der)?).ok()?;
        let (rest, _key) = octets(rest)?;
        let (_, parameters) = Any::from_der(rest).ok()?;
        let (_, curve) = Oid::from_der(parameters.data).ok()?;
        Some(Self::plain(Key::ec(&curve), der))
    }

    /// PKCS#8 under a pass phrase: algorithm, octets, and nothing else.
    fn under_passphrase(der: &[u8]) -> Option<Self> {
        let (rest, algorithm) = AlgorithmIdentifier::from_der(sequence(der)?).ok()?;
        let (rest, _) = octets(rest)?;
        let is_password_based = algorithm.algorithm.to_id_string().starts_with("1.2.840.113549.1.");
        (rest.is_empty() && is_password_based).then_some(Self::ENCRYPTED)
    }

    fn plain(key: Key, der: &[u8]) -> Self {
        let spki_sha256 = public_key(&key, der).map(|spki| Fingerprint::of(spki.as_ref()));
        Self { key: Some(key), encrypted: false, spki_sha256 }
    }
}

/// The public key that belongs to a private one; none for kinds that cannot be used here.
fn public_key(key: &Key, der: &[u8]) -> Option<PublicKeyX509Der<'static>> {
    let ecdsa = |algorithm| EcdsaKeyPair::from_private_key_der(algorithm, der).ok()?.public_key().as_der().ok();
    match (key.algorithm.as_str(), key.curve.as_deref()) {
        ("RSA", _) => {
            let pair = rsa::KeyPair::from_pkcs8(der).or_else(|_| rsa::KeyPair::from_der(der)).ok()?;
            pair.public_key().as_der().ok()
        }
        ("EC", Some("P-256")) => ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING),
        ("EC", Some("P-384")) => ecdsa(&ECDSA_P384_SHA384_ASN1_SIGNING),
        ("EC", Some("P-521")) => ecdsa(&ECDSA_P521_SHA512_ASN1_SIGNING),
        ("Ed25519", _) => Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).ok()?.public_key().as_der().ok(),
        _ => None,
    }
}

/// What stands in a sequence that is the whole of `der`.
fn sequence(der: &[u8]) -> Option<&[u8]> {
    let (rest, any) = Any::from_der(der).ok()?;
    (rest.is_empty() && any.tag() == Tag::Sequence).then_some(any.data)
}

/// An octet string's octets, and what follows it.
fn octets(der: &[u8]) -> Option<(&[u8], &[u8])> {
    <&[u8]>::from_der(der).ok()
}

/// The modulus of an RSA private key.
fn modulus(der: &[u8]) -> Option<Vec<u8>> {
    let (rest, _version) = Integer::from_der(sequence(der)?).ok()?;
    let (rest, modulus) = Integer::from_der(rest).ok()?;
    let (_, _exponent) = Integer::from_der(rest).ok()?;
    Some(modulus.as_ref().to_vec())
}
