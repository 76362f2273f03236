//! What certificates say, and what the files that hold them hold: read, described, judged. No I/O, and no clock.

mod description;
mod finding;
mod fingerprint;
pub mod judge;
mod key;
pub(crate) mod link;
mod material;
mod name;
mod oid;
mod pkcs12;
mod pkcs7;
mod private_key;
mod request;
mod revocation_list;
mod signature;

pub(crate) use self::name::{distinguished, plain};
pub use self::{
    description::{Certificate, Malformed, NameConstraints, Names},
    finding::{Finding, Severity, is_usable},
    fingerprint::{Fingerprint, NotAFingerprint},
    key::Key,
    material::{Form, Held, Item, Material},
    name::distinguished_name,
    private_key::PrivateKey,
    request::{PublicKey, Request},
    revocation_list::RevocationList,
};

#[cfg(test)]
mod tests;
