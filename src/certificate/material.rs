//! What a file holds: recognised by its bytes, whatever it is called, and taken apart.
//!
//! PEM may hold anything in any order, with text around it; a block that cannot be read does not hide the others. DER is
//! one object after another. PKCS#7 and PKCS#12 are opened. Nothing is judged here.

use secrecy::SecretString;
use serde::Serialize;
use x509_parser::asn1_rs::{Any, FromBer, Header};

use super::{
    description::{Certificate, Malformed},
    name::plain,
    pkcs7, pkcs12,
    private_key::PrivateKey,
    request::{PublicKey, Request},
    revocation_list::RevocationList,
};

/// Most objects taken from DER or an envelope, where two bytes make one. A file has one as a rule.
pub(super) const OBJECTS_MAX: usize = 1000;

/// What each object here is: its first byte in DER.
const SEQUENCE: u8 = 0x30;

/// What a file holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Material {
    /// How it is written.
    pub form: Form,
    /// What it holds, in its order.
    pub items: Vec<Item>,
}

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// Text with `-----BEGIN …-----`.
    Pem,
    /// Bytes.
    Der,
    /// Nothing at all.
    Empty,
    /// None of these.
    Unknown,
}

/// One thing that a file holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Item {
    /// A certificate.
    Certificate(Held),
    /// A private key.
    PrivateKey(PrivateKey),
    /// A public key.
    PublicKey(PublicKey),
    /// A request to an authority.
    Request(Request),
    /// A list of revoked certificates.
    RevocationList(RevocationList),
    /// Something that has nothing to do with certificates.
    Other {
        /// As what it is labelled.
        label: String,
    },
    /// Something that cannot be read.
    Unreadable {
        /// What it should be.
        what: String,
        /// Why it cannot be read, and what to do.
        reason: String,
    },
}

/// A certificate with its own bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Held {
    /// What it says.
    #[serde(flatten)]
    pub certificate: Box<Certificate>,
    /// The certificate itself.
    #[serde(skip)]
    pub der: Vec<u8>,
}

impl Held {
    fn read(der: &[u8]) -> Result<Self, Malformed> {
        Certificate::read(der).map(|certificate| Self { certificate: Box::new(certificate), der: der.to_vec() })
    }
}

impl Material {
    /// Takes the bytes of a file apart. A pass phrase opens PKCS#12; the empty one is tried first.
    pub fn read(bytes: &[u8], passphrase: Option<&SecretString>) -> Self {
        let (form, items) = match bytes {
            _ if bytes.iter().all(u8::is_ascii_whitespace) => (Form::Empty, Vec::new()),
            // A long object: no text goes on like this, and it may have PEM inside.
            [SEQUENCE, 0x80..=0xff, ..] => (Form::Der, objects(bytes, passphrase)),
            _ if contains(bytes, b"-----BEGIN ") => (Form::Pem, blocks(bytes)),
            [SEQUENCE, ..] => (Form::Der, objects(bytes, passphrase)),
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => {
                let reason = "it is text in UTF-16: save it as UTF-8 or ASCII".to_owned();
                (Form::Unknown, vec![Item::Unreadable { what: "text".to_owned(), reason }])
            }
            _ => {
                let reason = "it is neither PEM (no `-----BEGIN …-----`) nor DER".to_owned();
                (Form::Unknown, vec![Item::Unreadable { what: "file".to_owned(), reason }])
            }
        };
        Self { form, items }
    }

    /// Takes certificates as a handshake shows them.
    pub fn of_chain(chain: &[Vec<u8>]) -> Self {
        Self { form: Form::Der, items: chain.iter().map(|der| certificate(der)).collect() }
    }

    /// Its certificates, in order.
    pub fn certificates(&self) -> impl Iterator<Item = &Held> {
        self.items.iter().filter_map(|item| match item {
            Item::Certificate(held) => Some(held),
            _ => None,
        })
    }

    /// Its private keys, in order.
    pub fn private_keys(&self) -> impl Iterator<Item = &PrivateKey> {
        self.items.iter().filter_map(|item| match item {
            Item::PrivateKey(key) => Some(key),
            _ => None,
        })
    }

    /// Its lists of revoked certificates.
    pub fn revocation_lists(&self) -> impl Iterator<Item = &RevocationList> {
        self.items.iter().filter_map(|item| match item {
            Item::RevocationList(list) => Some(list),
            _ => None,
        })
    }
}

/// The blocks of PEM, with any text around them.
fn blocks(bytes: &[u8]) -> Vec<Item> {
    let text = String::from_utf8_lossy(bytes);
    let mut items = Vec::new();
    let mut open: Option<(&str, String)> = None;
    for line in text.lines().map(|line| line.trim_start_matches('\u{feff}').trim()) {
        if let Some(label) = line.strip_prefix("-----BEGIN ").and_then(|rest| rest.strip_suffix("-----")) {
            items.extend(open.take().map(|(label, _)| unended(label)));
            open = Some((label, String::new()));
        }
        let Some((label, block)) = &mut open else { continue };
        block.push_str(line);
        block.push('\n');
        if line.starts_with("-----END ") {
            items.extend(self::block(label, block));
            open = None;
        }
    }
    items.extend(open.map(|(label, _)| unended(label)));
    items
}

fn unended(label: &str) -> Item {
    let reason = format!("its `-----END {}-----` is missing: the text is cut off", plain(label));
    Item::Unreadable { what: plain(label), reason }
}

fn block(label: &str, text: &str) -> Vec<Item> {
    // The reader's own words are left out: they may repeat a piece of a key.
    let Ok(block) = pem::parse(text) else {
        let reason = "what stands between BEGIN and END is not the base64 of one thing: copy it anew".to_owned();
        return vec![Item::Unreadable { what: plain(label), reason }];
    };
    let der = block.contents();
    let known = |item: Option<Item>| vec![item.unwrap_or_else(|| mislabelled(label, der))];
    match label {
        "CERTIFICATE" | "X509 CERTIFICATE" => vec![certificate(der)],
        // OpenSSL's own form: what it trusts the certificate for stands behind it.
        "TRUSTED CERTIFICATE" => vec![certificate(first(der).0)],
        "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST" => known(Request::read(der).map(Item::Request)),
        "X509 CRL" => known(RevocationList::read(der).map(Item::RevocationList)),
        "PKCS7" | "CMS" => pkcs7::open(der).unwrap_or_else(|| known(None)),
        "PUBLIC KEY" => known(PublicKey::read(der).map(Item::PublicKey)),
        "OPENSSH PRIVATE KEY" => vec![Item::Other { label: label.to_owned() }],
        label if label.ends_with("PRIVATE KEY") => match block.headers().get("Proc-Type") {
            Some(_) => vec![Item::PrivateKey(PrivateKey::ENCRYPTED)],
            None => known(PrivateKey::read(der).map(Item::PrivateKey)),
        },
        label => vec![Item::Other { label: plain(label) }],
    }
}

fn mislabelled(label: &str, der: &[u8]) -> Item {
    let reason = match truncated(der) {
        Some(reason) => reason,
        None => "the label says so, what stands below it is something else or damaged".to_owned(),
    };
    Item::Unreadable { what: plain(label), reason }
}

/// One object of DER after another.
fn objects(bytes: &[u8], passphrase: Option<&SecretString>) -> Vec<Item> {
    let (mut items, mut rest) = (Vec::new(), bytes);
    while !rest.is_empty() {
        if items.len() >= OBJECTS_MAX {
            let reason = format!("more than {OBJECTS_MAX} objects: it is the wrong file");
            items.push(Item::Unreadable { what: "DER".to_owned(), reason });
            break;
        }
        let (object, after) = first(rest);
        if object.is_empty() || object[0] != SEQUENCE {
            let announced = truncated(rest).filter(|_| rest[0] == SEQUENCE);
            let reason = announced.unwrap_or_else(|| format!("{} bytes that are nothing known", rest.len()));
            items.push(Item::Unreadable { what: "DER".to_owned(), reason });
            break;
        }
        items.extend(self::object(object, passphrase));
        rest = after;
    }
    items
}

fn object(der: &[u8], passphrase: Option<&SecretString>) -> Vec<Item> {
    let malformed = match Held::read(der) {
        Ok(held) => return vec![Item::Certificate(held)],
        Err(malformed) => malformed,
    };
    let single = Request::read(der)
        .map(Item::Request)
        .or_else(|| RevocationList::read(der).map(Item::RevocationList))
        .or_else(|| PublicKey::read(der).map(Item::PublicKey))
        .or_else(|| PrivateKey::read(der).map(Item::PrivateKey));
    if let Some(item) = single {
        return vec![item];
    }
    pkcs7::open(der).or_else(|| pkcs12::open(der, passphrase)).unwrap_or_else(|| {
        let reason =
            format!("it is neither certificate, request, revocation list, key, PKCS#7 nor PKCS#12 ({malformed})");
        vec![Item::Unreadable { what: "DER".to_owned(), reason }]
    })
}

/// A certificate, from its bytes.
pub(super) fn certificate(der: &[u8]) -> Item {
    match Held::read(der) {
        Ok(held) => Item::Certificate(held),
        Err(malformed) => {
            let reason = truncated(der).unwrap_or_else(|| malformed.to_string());
            Item::Unreadable { what: "CERTIFICATE".to_owned(), reason }
        }
    }
}

/// Puts the certificates of an envelope, which has no order of its own, before the rest: the one that is used, then each
/// issuer after what it issued.
pub(super) fn in_order(items: Vec<Item>) -> Vec<Item> {
    let (mut certificates, mut others) = (Vec::new(), Vec::new());
    for item in items {
        match item {
            Item::Certificate(held) => certificates.push(held),
            other => others.push(other),
        }
    }
    let mut ordered: Vec<Held> = Vec::new();
    while !certificates.is_empty() {
        let next = match ordered.last() {
            None => certificates.iter().position(|held| !held.certificate.is_authority),
            Some(last) => certificates.iter().position(|held| held.certificate.subject == last.certificate.issuer),
        };
        ordered.push(certificates.remove(next.unwrap_or_default()));
    }
    ordered.into_iter().map(Item::Certificate).chain(others).collect()
}

/// The first object and what follows; an empty one where none can be told.
pub(super) fn first(bytes: &[u8]) -> (&[u8], &[u8]) {
    let rest = Any::from_ber(bytes).map_or(bytes, |(rest, _)| rest);
    bytes.split_at(bytes.len() - rest.len())
}

/// Says by how much bytes are fewer than they announce.
fn truncated(der: &[u8]) -> Option<String> {
    let (content, header) = Header::from_ber(der).ok()?;
    let announced = header.length().definite().ok()?;
    (announced > content.len()).then(|| {
        format!("it is cut off: {announced} bytes are announced and {} are there; copy it anew", content.len())
    })
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window == word)
}
