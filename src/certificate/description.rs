//! What a certificate says.

use serde::{Serialize, Serializer};
use x509_parser::{
    asn1_rs::{FromDer, Oid},
    certificate::X509Certificate,
    extensions::{GeneralName, GeneralSubtree, KeyUsage, ParsedExtension, X509Extension},
    parse_x509_certificate,
};

use super::{
    fingerprint::Fingerprint,
    key::Key,
    name::{distinguished, first_common_name, general, hex},
    oid,
};
use crate::clock::Timestamp;

/// What a certificate says. Text has its control characters escaped, so it can be shown as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Certificate {
    /// Whom it names, as RFC 4514 writes it; empty if nobody.
    pub subject: String,
    /// The first `CN` of the subject.
    pub common_name: Option<String>,
    /// The subject's alternative names.
    pub names: Names,
    /// Who issued it, as RFC 4514 writes it.
    pub issuer: String,
    /// The serial number: lower-case hexadecimal digits, two a byte, with a `-` in front if it is negative.
    pub serial: String,
    /// The first instant at which it is valid.
    #[serde(serialize_with = "rfc3339")]
    pub not_before: Timestamp,
    /// The last instant at which it is valid.
    #[serde(serialize_with = "rfc3339")]
    pub not_after: Timestamp,
    /// The public key's kind.
    pub key: Key,
    /// How it is signed, as OpenSSL names it: `ecdsa-with-SHA256`, `sha256WithRSAEncryption`, `ED25519`…
    pub signature: String,
    /// Whether it says that it may issue certificates.
    pub is_authority: bool,
    /// How many authorities may stand between it and a leaf; no limit if none.
    pub path_length: Option<u32>,
    /// What the key may be used for, as RFC 5280 names it; for anything if empty.
    pub key_usages: Vec<String>,
    /// What the certificate may be used for, as RFC 5280 names it; for anything if empty.
    pub extended_key_usages: Vec<String>,
    /// The subject key identifier: lower-case hexadecimal digits.
    pub subject_key_id: Option<String>,
    /// The issuer's key identifier: lower-case hexadecimal digits.
    pub authority_key_id: Option<String>,
    /// Which names an authority may give out.
    pub name_constraints: Option<NameConstraints>,
    /// Object identifiers of extensions that are broken.
    pub unreadable_extensions: Vec<String>,
    /// SHA-256 of the certificate.
    pub sha256: Fingerprint,
    /// SHA-256 of the public key with its algorithm (SubjectPublicKeyInfo): what a pin is made of.
    pub spki_sha256: Fingerprint,
}

/// Alternative names, in the order in which they are written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Names {
    /// Host names.
    pub dns: Vec<String>,
    /// Addresses.
    pub ip: Vec<String>,
    /// URIs.
    pub uri: Vec<String>,
    /// Mailboxes.
    pub email: Vec<String>,
    /// Names of other kinds, each with its kind as OpenSSL writes it: `DirName:CN=a`, `othername:1.2.3.4`…
    pub other: Vec<String>,
}

/// Which names an authority may give out, each with its kind: `DNS:example.com`, `IP:10.0.0.0/255.0.0.0`…
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NameConstraints {
    /// Only these.
    pub permitted: Vec<String>,
    /// None of these.
    pub excluded: Vec<String>,
}

/// Why bytes are not a certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not an X.509 certificate: {0}")]
pub struct Malformed(pub(super) String);

impl Certificate {
    /// Reads a certificate from DER.
    ///
    /// # Errors
    /// When the bytes are anything else, or are followed by more.
    pub fn read(der: &[u8]) -> Result<Self, Malformed> {
        match parse_x509_certificate(der) {
            Ok(([], certificate)) => Ok(Self::of(&certificate)),
            Ok((rest, _)) => Err(Malformed(format!("{} bytes follow it", rest.len()))),
            Err(error) => Err(Malformed(error.to_string())),
        }
    }

    /// Whole days from `now` until it expires, rounded down: negative from the instant at which it has.
    pub fn days_left(&self, now: Timestamp) -> i64 {
        self.not_after.days_after(now)
    }

    /// The `CN`; where there is none, the first alternative name, or the whole subject.
    pub fn called(&self) -> &str {
        let Names { dns, ip, uri, email, other } = &self.names;
        let mut names = self.common_name.iter().chain(dns).chain(ip).chain(uri).chain(email).chain(other);
        names.next().map_or(&self.subject, String::as_str)
    }

    /// Whether it names itself as its issuer.
    pub fn is_self_issued(&self) -> bool {
        self.subject == self.issuer
    }

    fn of(certificate: &X509Certificate<'_>) -> Self {
        let validity = certificate.validity();
        let mut described = Self {
            subject: distinguished(certificate.subject()),
            common_name: first_common_name(certificate.subject()),
            names: Names::default(),
            issuer: distinguished(certificate.issuer()),
            serial: serial(certificate.raw_serial()),
            not_before: instant(validity.not_before.timestamp()),
            not_after: instant(validity.not_after.timestamp()),
            key: Key::public(certificate.public_key()),
            signature: oid::signature(&certificate.signature_algorithm.algorithm),
            is_authority: false,
            path_length: None,
            key_usages: Vec::new(),
            extended_key_usages: Vec::new(),
            subject_key_id: None,
            authority_key_id: None,
            name_constraints: None,
            unreadable_extensions: Vec::new(),
            sha256: Fingerprint::of(certificate.as_raw()),
            spki_sha256: Fingerprint::of(certificate.public_key().raw),
        };
        certificate.iter_extensions().for_each(|extension| described.add(extension));
        described
    }

    /// What is not known says nothing here.
    fn add(&mut self, extension: &X509Extension<'_>) {
        match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(names) => self.names = Names::of(&names.general_names),
            ParsedExtension::BasicConstraints(constraints) => {
                self.is_authority = constraints.ca;
                self.path_length = constraints.path_len_constraint;
            }
            ParsedExtension::KeyUsage(usage) => self.key_usages = key_usages(usage),
            ParsedExtension::SubjectKeyIdentifier(id) => self.subject_key_id = Some(hex(id.0)),
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                self.authority_key_id = id.key_identifier.as_ref().map(|id| hex(id.0));
            }
            ParsedExtension::ExtendedKeyUsage(_) => self.extended_key_usages = extended_key_usages(extension.value),
            ParsedExtension::NameConstraints(constraints) => {
                let listed = |list: &Option<Vec<GeneralSubtree<'_>>>| {
                    list.iter().flatten().map(|tree| with_kind(&tree.base)).collect()
                };
                self.name_constraints = Some(NameConstraints {
                    permitted: listed(&constraints.permitted_subtrees),
                    excluded: listed(&constraints.excluded_subtrees),
                });
            }
            ParsedExtension::ParseError { .. } => self.unreadable_extensions.push(extension.oid.to_id_string()),
            _ => {}
        }
    }
}

impl Names {
    /// The alternative names that a certificate or a request has.
    pub(super) fn of(names: &[GeneralName<'_>]) -> Self {
        let mut sorted = Self::default();
        for name in names {
            match general(name) {
                ("DNS", name) => sorted.dns.push(name),
                ("IP", name) => sorted.ip.push(name),
                ("URI", name) => sorted.uri.push(name),
                ("email", name) => sorted.email.push(name),
                (kind, name) => sorted.other.push(format!("{kind}:{name}")),
            }
        }
        sorted
    }

    /// All of them, each with its kind: `DNS:a.example`.
    pub fn listed(&self) -> Vec<String> {
        let Self { dns, ip, uri, email, other } = self;
        let kinds = [("DNS:", dns), ("IP:", ip), ("URI:", uri), ("email:", email), ("", other)];
        kinds.iter().flat_map(|(kind, names)| names.iter().map(move |name| format!("{kind}{name}"))).collect()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn with_kind(name: &GeneralName<'_>) -> String {
    let (kind, name) = general(name);
    format!("{kind}:{name}")
}

/// In the order of RFC 5280's bits.
fn key_usages(usage: &KeyUsage) -> Vec<String> {
    let usages = [
        (usage.digital_signature(), "digitalSignature"),
        (usage.non_repudiation(), "nonRepudiation"),
        (usage.key_encipherment(), "keyEncipherment"),
        (usage.data_encipherment(), "dataEncipherment"),
        (usage.key_agreement(), "keyAgreement"),
        (usage.key_cert_sign(), "keyCertSign"),
        (usage.crl_sign(), "cRLSign"),
        (usage.encipher_only(), "encipherOnly"),
        (usage.decipher_only(), "decipherOnly"),
    ];
    usages.iter().filter(|(is_set, _)| *is_set).map(|(_, name)| (*name).to_owned()).collect()
}

/// In the order in which they are written.
fn extended_key_usages(der: &[u8]) -> Vec<String> {
    <Vec<Oid<'_>>>::from_der(der).map(|(_, usages)| usages.iter().map(oid::usage).collect()).unwrap_or_default()
}

/// A whole number in two's complement, most significant byte first.
pub(super) fn serial(bytes: &[u8]) -> String {
    let is_negative = bytes.first().is_some_and(|byte| byte & 0x80 != 0);
    let mut magnitude = bytes.to_vec();
    if is_negative {
        let mut carry = true;
        for byte in magnitude.iter_mut().rev() {
            (*byte, carry) = (!*byte).overflowing_add(u8::from(carry));
        }
    }
    let zeros = magnitude.iter().take_while(|byte| **byte == 0).count();
    let significant = &magnitude[zeros.min(magnitude.len().saturating_sub(1))..];
    format!("{}{}", if is_negative { "-" } else { "" }, hex(significant))
}

pub(super) fn instant(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds.saturating_mul(1000))
}

pub(super) fn rfc3339<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serial_is_shown_as_openssl_shows_it() {
        for (bytes, text) in [
            (&[0x01][..], "01"),
            (&[0x00], "00"),
            (&[], ""),
            (&[0x00, 0xff], "ff"),
            (&[0xff], "-01"),
            (&[0x80], "-80"),
            (&[0x80, 0x00], "-8000"),
            (&[0xfe, 0x00, 0x01], "-01ffff"),
        ] {
            assert_eq!(serial(bytes), text);
        }
    }

    #[test]
    fn other_bytes_are_no_certificate() {
        for bytes in [&b""[..], b"hello", &[0x30, 0x80, 0, 0], &[0x30, 0x03, 0x02, 0x01, 0x00]] {
            let refusal = Certificate::read(bytes).unwrap_err().to_string();
            assert!(refusal.starts_with("it is not an X.509 certificate: "), "{refusal}");
        }
    }
}
