//! Private keys: made, or read from a file. They have no `Debug`, and their errors never repeat what a file holds.

use std::{
    io,
    path::{Path, PathBuf},
    str::FromStr,
};

use aws_lc_rs::signature::Ed25519KeyPair;
use rcgen::{
    KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA512, PKCS_ED25519, PKCS_RSA_SHA256,
    PublicKeyData, RsaKeySize,
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};
use x509_parser::certificate::X509Certificate;

use crate::tls::file;

/// What a key is made for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyKind {
    /// ECDSA on P-256: every peer takes it.
    #[default]
    P256,
    /// ECDSA on P-384.
    P384,
    /// ECDSA on P-521.
    P521,
    /// Ed25519: small and quick; older peers do not take it.
    Ed25519,
    /// RSA of 2048 bits.
    Rsa2048,
    /// RSA of 3072 bits.
    Rsa3072,
    /// RSA of 4096 bits.
    Rsa4096,
}

/// A private key.
pub struct PrivateKey(pub(super) KeyPair);

/// Why a text names no kind of key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key is one of p256, p384, p521, ed25519, rsa2048, rsa3072, rsa4096")]
pub struct NotAKeyKind;

/// Why a key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Missing, not permitted, too large.
    #[error("cannot read private key {path}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Anybody on the machine may read, change or run the file.
    #[error("private key {path} is open to everybody (mode {mode:04o}): run `chmod 0600` on it", path = path.display())]
    OpenToEverybody {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Under a pass phrase.
    #[error("private key {path} is encrypted: decrypt it with `openssl pkey` and protect the file instead", path = path.display())]
    Encrypted {
        /// The file.
        path: PathBuf,
    },
    /// No private key in PEM.
    #[error("{path} holds no private key in PEM{hint}", path = path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
        /// What it holds instead, and what to do.
        hint: &'static str,
    },
    /// Of a kind we cannot sign with.
    #[error("private key {path} cannot be used: ECDSA (P-256, P-384, P-521), Ed25519 and RSA keys (2048 bits and more) can", path = path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
    },
}

impl KeyKind {
    /// All kinds with their names.
    pub const ALL: [(&str, Self); 7] = [
        ("p256", Self::P256),
        ("p384", Self::P384),
        ("p521", Self::P521),
        ("ed25519", Self::Ed25519),
        ("rsa2048", Self::Rsa2048),
        ("rsa3072", Self::Rsa3072),
        ("rsa4096", Self::Rsa4096),
    ];
}

impl FromStr for KeyKind {
    type Err = NotAKeyKind;

    fn from_str(text: &str) -> Result<Self, NotAKeyKind> {
        Self::ALL.into_iter().find(|(name, _)| *name == text).map(|(_, kind)| kind).ok_or(NotAKeyKind)
    }
}

impl PrivateKey {
    /// Makes a new key.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub(super) fn generate(kind: KeyKind) -> Result<Self, rcgen::Error> {
        let rsa = |size| KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, size);
        let key = match kind {
            KeyKind::P256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256),
            KeyKind::P384 => KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384),
            KeyKind::P521 => KeyPair::generate_for(&PKCS_ECDSA_P521_SHA512),
            KeyKind::Ed25519 => generate_ed25519(),
            KeyKind::Rsa2048 => rsa(RsaKeySize::_2048),
            KeyKind::Rsa3072 => rsa(RsaKeySize::_3072),
            KeyKind::Rsa4096 => rsa(RsaKeySize::_4096),
        };
        key.map(Self)
    }

    /// Reads a key file: PEM, as PKCS#8, SEC 1 or PKCS#1.
    ///
    /// # Errors
    /// When it cannot be read, is open to everybody, is encrypted, or holds no key that can sign.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let path = path.to_owned();
        let (text, mode) = match file::read_with_mode(&path) {
            Ok(read) => read,
            Err(source) => return Err(KeyError::Unreadable { path, source }),
        };
        if mode & 0o007 != 0 {
            return Err(KeyError::OpenToEverybody { path, mode });
        }
        // The readers' own words are left out: they may repeat a piece of the key.
        let Ok(der) = PrivateKeyDer::from_pem_slice(&text) else {
            let holds = |word: &str| text.windows(word.len()).any(|window| window == word.as_bytes());
            return Err(match (holds("ENCRYPTED"), holds("-----BEGIN CERTIFICATE")) {
                (true, _) => KeyError::Encrypted { path },
                (false, true) => {
                    KeyError::NoKey { path, hint: ", but a certificate or a request: name the key's file" }
                }
                (false, false) => KeyError::NoKey { path, hint: ": convert it with `openssl pkey`" },
            });
        };
        KeyPair::try_from(&der).map(Self).map_err(|_| KeyError::Unusable { path })
    }

    /// The key in PEM, PKCS#8.
    pub(super) fn to_pem(&self) -> String {
        self.0.serialize_pem()
    }

    /// True when the certificate is for this key.
    pub(in crate::tls) fn belongs_to(&self, certificate: &X509Certificate<'_>) -> bool {
        *certificate.public_key().subject_public_key.data == *self.0.der_bytes()
    }
}

/// As PKCS#8 version 1: OpenSSL 1.1 and Java read no newer one.
fn generate_ed25519() -> Result<KeyPair, rcgen::Error> {
    let made = Ed25519KeyPair::generate().and_then(|key| key.to_pkcs8v1());
    let pkcs8 = made.map_err(|_| rcgen::Error::RingUnspecified)?;
    KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(pkcs8.as_ref()), &PKCS_ED25519)
}
