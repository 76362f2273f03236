//! Lists of revoked certificates.

use serde::{Serialize, Serializer};
use x509_parser::{asn1_rs::FromDer, revocation_list::CertificateRevocationList};

use super::{
    description::{self, Certificate, instant, rfc3339},
    name::distinguished,
    oid,
};
use crate::clock::Timestamp;

/// What a list of revoked certificates says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RevocationList {
    /// Whose certificates it revokes, as RFC 4514 writes it.
    pub issuer: String,
    /// When it was made.
    #[serde(serialize_with = "rfc3339")]
    pub this_update: Timestamp,
    /// When the next one is due.
    #[serde(serialize_with = "rfc3339_if_any")]
    pub next_update: Option<Timestamp>,
    /// How many certificates it revokes.
    pub revoked: usize,
    /// How it is signed, as OpenSSL names it.
    pub signature: String,
    /// The list itself.
    #[serde(skip)]
    pub der: Vec<u8>,
}

impl RevocationList {
    /// Reads a list from DER.
    pub(super) fn read(der: &[u8]) -> Option<Self> {
        let ([], list) = CertificateRevocationList::from_der(der).ok()? else { return None };
        Some(Self {
            issuer: distinguished(list.issuer()),
            this_update: instant(list.last_update().timestamp()),
            next_update: list.next_update().map(|at| instant(at.timestamp())),
            revoked: list.iter_revoked_certificates().count(),
            signature: oid::signature(&list.signature_algorithm.algorithm),
            der: der.to_vec(),
        })
    }
}

impl RevocationList {
    /// Whether it revokes a certificate, going by issuer and serial number: who signed the list is not looked at.
    pub fn revokes(&self, certificate: &Certificate) -> bool {
        let Ok((_, list)) = CertificateRevocationList::from_der(&self.der) else { return false };
        let is_it = |serial: &[u8]| description::serial(serial) == certificate.serial;
        self.issuer == certificate.issuer && list.iter_revoked_certificates().any(|one| is_it(one.raw_serial()))
    }
}

fn rfc3339_if_any<S: Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => serializer.collect_str(at),
        None => serializer.serialize_none(),
    }
}
