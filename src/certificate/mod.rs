//! What certificates say, and what the files that hold them hold: read, described, judged. No I/O, and no clock.

mod description;
mod fingerprint;
mod key;
mod name;
mod oid;

pub(crate) use self::name::plain;
pub use self::{
    description::{Certificate, Malformed, NameConstraints, Names},
    fingerprint::{Fingerprint, NotAFingerprint},
    key::Key,
    name::distinguished_name,
};
