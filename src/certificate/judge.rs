//! What is wrong with what a file holds, at an instant. Signatures between certificates are verified in `tls`, which knows
//! whom to trust.

use super::{
    description::Certificate,
    finding::Finding,
    key::Key,
    material::{Form, Item, Material},
    private_key::PrivateKey,
    request::Request,
    revocation_list::RevocationList,
};
use crate::clock::Timestamp;

/// Who waits longer may find no time left: an authority of one's own may take weeks.
const EXPIRES_SOON_DAYS: i64 = 30;

/// Smallest RSA key that TLS libraries take today, in bits.
const RSA_BITS_MIN: u32 = 2048;

/// What a certificate is to be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To say who a client is.
    Client,
    /// To say who a server is.
    Server,
    /// To issue others.
    Authority,
}

/// Judges a file as it is, whatever it is for.
pub fn judge(material: &Material, now: Timestamp) -> Vec<Finding> {
    let mut findings = items(material, now);
    let certificates: Vec<&Certificate> = material.certificates().map(|held| &*held.certificate).collect();
    let keys: Vec<&PrivateKey> = material.private_keys().collect();
    match keys.is_empty() && certificates.iter().all(|certificate| certificate.is_authority) {
        true => findings.extend(authorities(&certificates, now)),
        false => findings.extend(chain(&certificates, None, now)),
    }
    if let Some(first) = certificates.first() {
        findings.extend(keys.iter().filter_map(|key| match_key(first, key)));
    }
    findings
}

/// Judges a file of those whom somebody trusts.
pub fn roots(material: &Material, now: Timestamp) -> Vec<Finding> {
    let certificates: Vec<&Certificate> = material.certificates().map(|held| &*held.certificate).collect();
    let mut findings = items(material, now);
    findings.extend(authorities(&certificates, now));
    findings
}

/// Judges what is no certificate, or cannot be read.
fn items(material: &Material, now: Timestamp) -> Vec<Finding> {
    let mut findings = Vec::new();
    if material.items.is_empty() {
        let what = if material.form == Form::Empty { "the file is empty" } else { "the file holds nothing" };
        findings.push(Finding::error("empty", what, "put the certificate there"));
    }
    for item in &material.items {
        match item {
            Item::Unreadable { what, reason } => {
                findings.push(Finding::error("unreadable", format_args!("{what}: {reason}"), ""));
            }
            Item::Other { label } => {
                findings.push(Finding::info("other", format_args!("it also holds `{label}`, which is not looked at")));
            }
            Item::PrivateKey(key) => findings.extend(private_key(key)),
            Item::Request(request) => findings.extend(self::request(request)),
            Item::RevocationList(list) => findings.extend(revocation_list(list, now)),
            Item::Certificate(_) | Item::PublicKey(_) => {}
        }
    }
    findings
}

/// Judges certificates that stand beside each other.
fn authorities(certificates: &[&Certificate], now: Timestamp) -> Vec<Finding> {
    let only_one = certificates.len() == 1;
    let mut findings = duplicates(certificates);
    for (index, certificate) in certificates.iter().enumerate() {
        let called = call(index, certificate);
        findings.extend(period(&called, certificate, now).map(|finding| match only_one {
            true => finding,
            // The others go on working.
            false => Finding::warning(finding.id, finding.what, "delete it, or put its successor there"),
        }));
        findings.extend(weakness(&called, certificate));
        if !certificate.is_authority {
            let what = format_args!("{called} is no authority (basicConstraints): only itself can be trusted by it");
            findings.push(Finding::warning("not-an-authority", what, "put the certificate of its issuer there"));
        }
    }
    findings
}

/// Judges a chain: the certificate that is used, then its issuers in order.
pub fn chain(certificates: &[&Certificate], purpose: Option<Purpose>, now: Timestamp) -> Vec<Finding> {
    let mut findings = order(certificates);
    for (index, certificate) in certificates.iter().enumerate() {
        let called = call(index, certificate);
        findings.extend(period(&called, certificate, now));
        findings.extend(weakness(&called, certificate));
        findings.extend(broken(&called, certificate));
    }
    let used = leaf(certificates).filter(|_| purpose != Some(Purpose::Authority)).unwrap_or_default();
    if let Some(certificate) = certificates.get(used) {
        findings.extend(use_of(&call(used, certificate), certificate, purpose));
    }
    findings
}

/// Where the first certificate stands that is no authority.
fn leaf(certificates: &[&Certificate]) -> Option<usize> {
    certificates.iter().position(|certificate| !certificate.is_authority)
}

/// Says that a configured file is written as Postern does not read it.
pub fn form(material: &Material) -> Option<Finding> {
    matches!(material.form, Form::Der).then(|| {
        Finding::error(
            "not-pem",
            "the file is not PEM, and a configuration names PEM",
            "convert it, see `postern cert inspect`",
        )
    })
}

/// Says that a key does not belong to a certificate, or cannot be used. One under a pass phrase cannot be judged.
pub fn match_key(certificate: &Certificate, key: &PrivateKey) -> Option<Finding> {
    let kind = key.key.as_ref()?;
    let called = call(0, certificate);
    match key.spki_sha256 {
        Some(belongs) if belongs == certificate.spki_sha256 => None,
        None if *kind == certificate.key => Some(Finding::error(
            "unusable-key",
            format_args!("the private key ({kind}) is damaged, or TLS here cannot work with it"),
            "copy it anew, or make a new one and have it certified",
        )),
        _ => Some(Finding::error(
            "key-mismatch",
            format_args!("the {kind} private key does not belong to {called}"),
            "put certificate and key there that were made for each other",
        )),
    }
}

/// What is wrong with a certificate's period at an instant.
fn period(called: &str, certificate: &Certificate, now: Timestamp) -> Option<Finding> {
    let Certificate { not_before, not_after, .. } = certificate;
    let days = certificate.days_left(now);
    match now {
        _ if not_after < not_before => Some(Finding::error(
            "never-valid",
            format_args!("{called} ends ({not_after}) before it begins ({not_before})"),
            "have it issued anew",
        )),
        now if now > *not_after => Some(Finding::error(
            "expired",
            format_args!("{called} expired at {not_after}"),
            "get a new one from its issuer",
        )),
        now if now < *not_before => Some(Finding::error(
            "not-yet-valid",
            format_args!("{called} is valid from {not_before} only"),
            "wait until then; look at this machine's clock",
        )),
        _ if days < EXPIRES_SOON_DAYS => Some(Finding::warning(
            "expires-soon",
            format_args!("{called} expires at {not_after}, in {days} days"),
            "get a new one from its issuer",
        )),
        _ => None,
    }
}

/// What of a certificate cannot be read, though the rest can.
fn broken(called: &str, certificate: &Certificate) -> Option<Finding> {
    let broken = &certificate.unreadable_extensions;
    (!broken.is_empty()).then(|| {
        let what = format_args!("an extension of {called} is broken: {}", broken.join(", "));
        Finding::error("broken-extension", what, "peers refuse it: have it issued anew")
    })
}

/// What cryptography is not taken any more.
fn weakness(called: &str, certificate: &Certificate) -> Vec<Finding> {
    let Certificate { key, signature, .. } = certificate;
    let lower = signature.to_lowercase();
    let mut findings = Vec::new();
    findings.extend(weak_key(called, key));
    let is_weak = ["md2", "md4", "md5", "sha1"].iter().any(|digest| lower.contains(digest));
    // Nobody verifies the signature of what is trusted by itself.
    if is_weak && !certificate.is_self_issued() {
        let what =
            format_args!("{called} is signed with {signature}, which is forged easily and refused nearly everywhere");
        findings.push(Finding::error("weak-signature", what, "have it issued anew with SHA-256"));
    }
    findings
}

fn weak_key(called: &str, key: &Key) -> Option<Finding> {
    match (key.algorithm.as_str(), key.bits, key.curve.as_deref()) {
        ("RSA" | "RSA-PSS", Some(bits), _) if bits < RSA_BITS_MIN => Some(Finding::error(
            "weak-key",
            format_args!("{called} has an RSA key of {bits} bits: at least {RSA_BITS_MIN} are asked for"),
            "make a new key (P-256, or RSA of 2048 bits and more) and have it certified",
        )),
        ("RSA" | "Ed25519", ..) | ("EC", _, Some("P-256" | "P-384" | "P-521")) => None,
        _ => Some(Finding::error(
            "unusable-key",
            format_args!("{called} has a key ({key}) with which TLS here cannot work"),
            "make a new key (P-256, P-384, P-521, Ed25519 or RSA) and have it certified",
        )),
    }
}

/// Whether each certificate is followed by its issuer.
fn order(certificates: &[&Certificate]) -> Vec<Finding> {
    let mut findings = duplicates(certificates);
    if let Some(index @ 1..) = leaf(certificates) {
        let what = format_args!("{} is not the first in the file", call(index, certificates[index]));
        findings.push(Finding::error("leaf-not-first", what, "put it first, then each issuer after what it issued"));
        return findings;
    }
    for (index, pair) in certificates.windows(2).enumerate() {
        let [certificate, next] = pair else { continue };
        let (called, after) = (call(index, certificate), call(index + 1, next));
        if certificate.sha256 == next.sha256 {
            continue;
        }
        if certificate.issuer == next.subject {
            let ids = certificate.authority_key_id.as_ref().zip(next.subject_key_id.as_ref());
            if ids.is_some_and(|(said, is)| said != is) {
                let what = format_args!("{called} names another key of its issuer than that of {after}");
                findings.push(Finding::warning(
                    "issuer-key-id",
                    what,
                    "put the issuer's certificate there with that key",
                ));
            }
            continue;
        }
        let issuer = certificates.iter().position(|other| other.subject == certificate.issuer && other.is_authority);
        let remedy = match issuer {
            Some(issuer) if issuer != index => format!("put certificate {} right after it", issuer + 1),
            Some(_) => "delete what follows the root".to_owned(),
            None => format!("put the certificate of `{}` right after it", certificate.issuer),
        };
        let what = format_args!("{called} is not issued by what follows it, {after}");
        findings.push(Finding::error("chain-order", what, remedy));
    }
    if let [.., last] = certificates
        && certificates.len() > 1
        && last.is_self_issued()
    {
        findings.push(Finding::info(
            "root-in-chain",
            "the root is in the file: a peer has it already, or does not trust it",
        ));
    }
    findings
}

fn duplicates(certificates: &[&Certificate]) -> Vec<Finding> {
    let twice = certificates.iter().enumerate().filter_map(|(index, certificate)| {
        let first = certificates.iter().position(|other| other.sha256 == certificate.sha256)?;
        (first < index).then(|| {
            let what = format_args!("{} is the same as certificate {}", call(index, certificate), first + 1);
            Finding::warning("duplicate", what, "delete one of them")
        })
    });
    twice.collect()
}

/// What the first certificate may be used for.
fn use_of(called: &str, certificate: &Certificate, purpose: Option<Purpose>) -> Vec<Finding> {
    let Certificate { extended_key_usages: usages, key_usages, names, .. } = certificate;
    let may = |usage: &str| usages.is_empty() || usages.iter().any(|is| is == usage || is == "anyExtendedKeyUsage");
    let may_key = |usage: &str| key_usages.is_empty() || key_usages.iter().any(|is| is == usage);
    let mut findings = Vec::new();
    let mut wrong_purpose = |usage: &str, who: &str| {
        let what = format_args!("{called} is not for {who}: its extended key usage has no {usage}");
        findings.push(Finding::error("purpose", what, "ask its issuer for one that has"));
    };
    match purpose {
        Some(Purpose::Client) if !may("clientAuth") => wrong_purpose("clientAuth", "clients"),
        Some(Purpose::Server) if !may("serverAuth") => wrong_purpose("serverAuth", "servers"),
        None if !may("clientAuth") && !may("serverAuth") => {
            let what = format_args!("{called} is for neither clients nor servers: it is for {}", usages.join(", "));
            findings.push(Finding::warning("purpose", what, "ask its issuer for one with clientAuth or serverAuth"));
        }
        _ => {}
    }
    if purpose == Some(Purpose::Authority) {
        if !certificate.is_authority {
            let what = format_args!("{called} is no authority: basicConstraints does not say so");
            findings.push(Finding::error("purpose", what, "have one issued with basicConstraints CA:TRUE"));
        }
        if !may_key("keyCertSign") {
            let what = format_args!("the key of {called} may not sign certificates: its key usage has no keyCertSign");
            findings.push(Finding::error("key-usage", what, "have one issued that may"));
        }
        return findings;
    }
    if certificate.is_authority {
        let what = format_args!("{called} is an authority: peers refuse it for a connection of its own");
        let remedy = "have a certificate issued by it, and use that";
        findings.push(match purpose {
            Some(_) => Finding::error("leaf-is-authority", what, remedy),
            None => Finding::warning("leaf-is-authority", what, remedy),
        });
    } else if !may_key("digitalSignature") {
        let what = format_args!(
            "the key of {called} may not sign: its key usage has no digitalSignature, which TLS 1.3 needs"
        );
        findings.push(Finding::warning("key-usage", what, "have one issued that may"));
    }
    let is_for_servers = purpose == Some(Purpose::Server) || (purpose.is_none() && may("serverAuth"));
    if is_for_servers && names.dns.is_empty() && names.ip.is_empty() && !certificate.is_authority {
        let what =
            format_args!("{called} has no host name or address as subjectAltName: no client takes it for a server's");
        let remedy = "for a server, have one issued with its names";
        findings.push(match purpose {
            Some(_) => Finding::error("no-names", what, remedy),
            None => Finding::warning("no-names", what, remedy),
        });
    }
    findings
}

fn private_key(key: &PrivateKey) -> Option<Finding> {
    match (&key.key, key.encrypted) {
        (_, true) => Some(Finding::warning(
            "encrypted-key",
            "the private key is under a pass phrase, so Postern cannot use it",
            "decrypt it with `openssl pkey` and protect the file instead",
        )),
        (Some(kind), false) => weak_key("the file", kind),
        (None, false) => None,
    }
}

fn request(request: &Request) -> Vec<Finding> {
    let mut findings: Vec<Finding> = weak_key("the request", &request.public_key.key).into_iter().collect();
    match request.signature_good {
        Some(true) => {}
        Some(false) => findings.push(Finding::error(
            "request-signature",
            "the request is not signed by the key that it names, or it was changed",
            "make it anew",
        )),
        None => findings.push(Finding::info(
            "request-signature",
            format_args!("whether the request's signature ({}) holds cannot be told here", request.signature),
        )),
    }
    findings
}

/// What is wrong with a revocation list at an instant.
pub fn revocation_list(list: &RevocationList, now: Timestamp) -> Option<Finding> {
    let RevocationList { issuer, this_update, next_update, .. } = list;
    let remedy = "get the present one from its issuer";
    match next_update {
        _ if now < *this_update => Some(Finding::warning(
            "list-not-yet-valid",
            format_args!("the revocation list of `{issuer}` is of {this_update}"),
            "look at this machine's clock",
        )),
        Some(due) if now > *due => Some(Finding::warning(
            "list-out-of-date",
            format_args!("the next revocation list of `{issuer}` was due at {due}"),
            remedy,
        )),
        _ => None,
    }
}

fn call(index: usize, certificate: &Certificate) -> String {
    format!("certificate {} (`{}`)", index + 1, certificate.called())
}
