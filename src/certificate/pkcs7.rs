//! PKCS#7 (`.p7b`, RFC 5652): certificates and revocation lists in an envelope that nobody signed.
//!
//! Only the two lists are taken out, so this is a walk and no library. Windows and Java write BER, which is read too.

use x509_parser::asn1_rs::{Any, Class, FromBer, Oid};

use super::{
    material::{Item, OBJECTS_MAX, certificate, first, in_order},
    revocation_list::RevocationList,
};

const SIGNED_DATA: &str = "1.2.840.113549.1.7.2";

/// What the envelope holds; none if it is no such envelope.
pub(super) fn open(der: &[u8]) -> Option<Vec<Item>> {
    let (_, envelope) = Any::from_ber(der).ok()?;
    let (rest, kind) = Oid::from_ber(envelope.data).ok()?;
    if kind.to_id_string() != SIGNED_DATA {
        return None;
    }
    let (_, explicit) = Any::from_ber(rest).ok()?;
    let (_, signed) = Any::from_ber(explicit.data).ok()?;
    let mut items = Vec::new();
    for (list, _) in each(signed.data) {
        match (list.class(), list.tag().0) {
            (Class::ContextSpecific, 0) => items.extend(each(list.data).map(|(_, der)| certificate(der))),
            (Class::ContextSpecific, 1) => items.extend(each(list.data).map(|(_, der)| revocation_list(der))),
            _ => {}
        }
    }
    Some(in_order(items))
}

fn revocation_list(der: &[u8]) -> Item {
    RevocationList::read(der).map_or_else(
        || Item::Unreadable { what: "X509 CRL".to_owned(), reason: "it is damaged: copy it anew".to_owned() },
        Item::RevocationList,
    )
}

/// Each object with its bytes, until one cannot be told.
fn each(mut bytes: &[u8]) -> impl Iterator<Item = (Any<'_>, &[u8])> {
    let objects = std::iter::from_fn(move || {
        let (object, rest) = first(bytes);
        let (_, any) = Any::from_ber(object).ok()?;
        bytes = rest;
        Some((any, object))
    });
    objects.take(OBJECTS_MAX)
}
