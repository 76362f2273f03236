//! Of what kind a public key is.

use std::fmt;

use serde::Serialize;
use x509_parser::{
    asn1_rs::{FromDer, Integer, Oid, Sequence, Tag},
    public_key::PublicKey,
    x509::SubjectPublicKeyInfo,
};

use super::oid;

/// A key's kind and size; nothing of the key itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Key {
    /// `RSA`, `EC`, `Ed25519`…; an object identifier where it has no name here.
    pub algorithm: String,
    /// The size, where keys of this kind have different ones.
    pub bits: Option<u32>,
    /// The curve: `P-256`, `secp256k1`…
    pub curve: Option<String>,
}

impl Key {
    /// Of a public key as it stands in certificates and requests.
    pub(super) fn public(key: &SubjectPublicKeyInfo<'_>) -> Self {
        let algorithm = oid::key(&key.algorithm.algorithm);
        let parameters = key.algorithm.parameters();
        match algorithm.as_str() {
            "RSA" | "RSA-PSS" => Self::rsa(algorithm, rsa_modulus(key).as_deref()),
            "EC" => {
                let curve = parameters
                    .filter(|parameters| parameters.tag() == Tag::Oid)
                    .and_then(|parameters| Oid::try_from(parameters.clone()).ok());
                match curve {
                    Some(curve) => Self::ec(&curve),
                    // The curve is spelled out. A point has a byte for its form, then two coordinates.
                    None => {
                        let bits = key.subject_public_key.data.len().saturating_sub(1) / 2 * 8;
                        Self { algorithm, bits: u32::try_from(bits).ok(), curve: None }
                    }
                }
            }
            "DSA" => {
                let prime = parameters
                    .and_then(|parameters| Sequence::try_from(parameters.clone()).ok())
                    .and_then(|parameters| Some(Integer::from_der(&parameters.content).ok()?.1.as_ref().to_vec()));
                Self { algorithm, bits: prime.as_deref().map(bits), curve: None }
            }
            _ => Self::other(algorithm),
        }
    }

    /// Of a kind whose keys differ in nothing.
    pub(super) fn other(algorithm: String) -> Self {
        Self { algorithm, bits: None, curve: None }
    }

    /// Of an RSA key with this modulus.
    pub(super) fn rsa(algorithm: String, modulus: Option<&[u8]>) -> Self {
        Self { algorithm, bits: modulus.map(bits), curve: None }
    }

    /// Of a key on this curve.
    pub(super) fn ec(curve: &Oid<'_>) -> Self {
        let (curve, bits) = oid::curve(curve);
        Self { algorithm: "EC".to_owned(), bits, curve: Some(curve) }
    }
}

/// `EC P-256`, `RSA 2048`, `Ed25519`.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { algorithm, bits, curve } = self;
        match (curve, bits) {
            (Some(curve), _) => write!(f, "{algorithm} {curve}"),
            (None, Some(bits)) => write!(f, "{algorithm} {bits}"),
            (None, None) => f.write_str(algorithm),
        }
    }
}

fn rsa_modulus(key: &SubjectPublicKeyInfo<'_>) -> Option<Vec<u8>> {
    if let Ok(PublicKey::RSA(key)) = key.parsed() {
        return Some(key.modulus.to_vec());
    }
    // An RSA-PSS key has the same form under another name.
    let (_, sequence) = Sequence::from_der(&key.subject_public_key.data).ok()?;
    let (_, modulus) = Integer::from_der(&sequence.content).ok()?;
    Some(modulus.as_ref().to_vec())
}

/// The bits of a whole number that may have zeros in front.
fn bits(number: &[u8]) -> u32 {
    let significant = number.iter().position(|byte| *byte != 0).map_or(&[][..], |first| &number[first..]);
    let leading = significant.first().map_or(0, |byte| byte.leading_zeros());
    u32::try_from(8 * significant.len()).unwrap_or(u32::MAX) - leading
}
