//! PKCS#12 (`.p12`, `.pfx`, RFC 7292): certificates and keys under a pass phrase.

use p12_keystore::{Pkcs12Archive, error::Error};
use secrecy::{ExposeSecret, SecretString};
use x509_parser::asn1_rs::{Any, FromBer, Integer};

use super::{
    material::{Item, certificate, in_order},
    private_key::PrivateKey,
};

/// The version that all of them have.
const VERSION: u32 = 3;

/// What the archive holds; none if it is no archive. The empty pass phrase is tried first.
pub(super) fn open(der: &[u8], passphrase: Option<&SecretString>) -> Option<Vec<Item>> {
    let (_, archive) = Any::from_ber(der).ok()?;
    let (_, version) = Integer::from_ber(archive.data).ok()?;
    if version.as_u32() != Ok(VERSION) {
        return None;
    }
    let opened = Pkcs12Archive::from_pkcs12(der, "").or_else(|error| match passphrase {
        Some(passphrase) => Pkcs12Archive::from_pkcs12(der, passphrase.expose_secret()),
        None => Err(error),
    });
    let items = match opened {
        Ok(Pkcs12Archive { keys, certs, secrets }) => {
            let certificates = certs.iter().map(|bag| certificate(bag.cert.as_der()));
            let keys = keys.iter().map(|bag| match PrivateKey::read(bag.key.as_der()) {
                Some(key) => Item::PrivateKey(key),
                None => unreadable("PRIVATE KEY", "its kind is not known".to_owned()),
            });
            let secrets = secrets.iter().map(|_| Item::Other { label: "secret key".to_owned() });
            in_order(certificates.chain(keys).chain(secrets).collect())
        }
        Err(error) => vec![unreadable("PKCS#12", reason(&error, passphrase.is_some()))],
    };
    Some(items)
}

fn unreadable(what: &str, reason: String) -> Item {
    Item::Unreadable { what: what.to_owned(), reason }
}

fn reason(error: &Error, was_told: bool) -> String {
    match (error, was_told) {
        (Error::MacError(_) | Error::UnpadError | Error::Pkcs5Error(_), false) => {
            "it is under a pass phrase: put that into a file, and say --passphrase-file".to_owned()
        }
        (Error::MacError(_), true) => "the pass phrase is not that of this file".to_owned(),
        _ => format!(
            "it cannot be opened ({error}): convert it to PEM with `openssl pkcs12 -in FILE -nodes`, with -legacy for old ones"
        ),
    }
}
