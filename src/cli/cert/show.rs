//! How certificates, and what is found about them, are shown to people.

use std::fmt;

use crate::{
    certificate::{Certificate, Finding, Form, Item, Key, Material, PrivateKey, Request, RevocationList, Severity},
    cli::{
        Failure, print,
        text::{Cell, bad, good, or_none, watch},
    },
    clock::Timestamp,
};

/// What a file holds, whole.
pub(super) fn material(name: &str, Material { form, items }: &Material, now: Timestamp) -> Result<(), Failure> {
    let form = match form {
        Form::Pem => "PEM",
        Form::Der => "DER",
        Form::Empty => "empty",
        Form::Unknown => "not recognised",
    };
    print(&format_args!("{name}: {form}{}", counted(items)))?;
    let certificates: Vec<&Certificate> = items.iter().filter_map(as_certificate).collect();
    let mut position = 0;
    for item in items {
        print(&"")?;
        match item {
            Item::Certificate(held) => {
                certificate(position, &held.certificate, &certificates, now)?;
                position += 1;
            }
            Item::PrivateKey(key) => print(&private_key(key))?,
            Item::PublicKey(public) => {
                print(&format_args!("{} public key", public.key))?;
                line("SPKI SHA-256", &public.spki_sha256)?;
            }
            Item::Request(asked) => request(asked)?,
            Item::RevocationList(list) => revocation_list(list)?,
            Item::Other { label } => print(&format_args!("{label}, not looked at"))?,
            Item::Unreadable { what, .. } => print(&format_args!("{what}, unreadable"))?,
        }
    }
    Ok(())
}

/// What is found, the worst first.
pub(super) fn findings(findings: &[Finding]) -> Result<(), Failure> {
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorted.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    sorted.iter().try_for_each(|finding| {
        let severity = match finding.severity {
            Severity::Error => bad("error"),
            Severity::Warning => watch("warning"),
            Severity::Info => Cell::from("info"),
        };
        print(&format_args!("{}  {}: {finding}", severity.paint(), finding.id))
    })
}

/// How long a certificate has, as loud as it should be.
pub(super) fn days_left(certificate: &Certificate, now: Timestamp) -> Cell {
    let days = certificate.days_left(now);
    match days {
        ..0 => bad("expired"),
        0..7 => bad(days),
        7..30 => watch(days),
        30.. => good(days),
    }
}

/// What a private key is, in a few words: `EC P-256 private key`.
fn private_key(PrivateKey { key, encrypted, .. }: &PrivateKey) -> String {
    let kind = key.as_ref().map_or_else(String::new, |key| format!("{key} "));
    let encrypted = if *encrypted { ", encrypted" } else { "" };
    format!("{kind}private key{encrypted}")
}

fn counted(items: &[Item]) -> String {
    let kinds = ["certificate", "private key", "public key", "request", "revocation list"];
    let counts = kinds.map(|kind| (items.iter().filter(|item| self::kind(item) == Some(kind)).count(), kind));
    let told = counts.iter().filter(|(count, _)| *count > 0).map(|(count, kind)| match count {
        1 => format!(", 1 {kind}"),
        _ => format!(", {count} {kind}s"),
    });
    told.collect()
}

fn kind(item: &Item) -> Option<&'static str> {
    match item {
        Item::Certificate(_) => Some("certificate"),
        Item::PrivateKey(_) => Some("private key"),
        Item::PublicKey(_) => Some("public key"),
        Item::Request(_) => Some("request"),
        Item::RevocationList(_) => Some("revocation list"),
        Item::Other { .. } | Item::Unreadable { .. } => None,
    }
}

fn as_certificate(item: &Item) -> Option<&Certificate> {
    match item {
        Item::Certificate(held) => Some(&held.certificate),
        _ => None,
    }
}

fn certificate(position: usize, shown: &Certificate, all: &[&Certificate], now: Timestamp) -> Result<(), Failure> {
    print(&format_args!("certificate {}: {}", position + 1, shown.called()))?;
    line("subject", &shown.subject)?;
    if !shown.names.is_empty() {
        line("names", &shown.names.listed().join(", "))?;
    }
    line("issuer", &format_args!("{}{}", shown.issuer, issued_by(position, shown, all)))?;
    let left = match days_left(shown, now) {
        left if now > shown.not_after => left.paint(),
        left => format!("{} days left", left.paint()),
    };
    line("valid", &format_args!("{} to {}, {left}", shown.not_before, shown.not_after))?;
    key(&shown.key)?;
    line("signature", &shown.signature)?;
    let usages: Vec<&str> = shown.key_usages.iter().chain(&shown.extended_key_usages).map(String::as_str).collect();
    line("usages", &if usages.is_empty() { "any".to_owned() } else { usages.join(", ") })?;
    if shown.is_authority {
        let path = shown.path_length.map(|most| format!(", at most {most} authorities below it"));
        line("authority", &format_args!("yes{}", path.unwrap_or_default()))?;
    }
    if let Some(constraints) = &shown.name_constraints {
        let list = |names: &[String]| if names.is_empty() { "-".to_owned() } else { names.join(", ") };
        line("only for", &list(&constraints.permitted))?;
        line("not for", &list(&constraints.excluded))?;
    }
    line("serial", &shown.serial)?;
    line("SHA-256", &shown.sha256)?;
    line("SPKI SHA-256", &shown.spki_sha256)
}

/// Where the issuer stands in the file.
fn issued_by(position: usize, shown: &Certificate, all: &[&Certificate]) -> String {
    let issuer = all.iter().position(|other| other.subject == shown.issuer && other.is_authority);
    match issuer {
        _ if shown.is_self_issued() => " (itself)".to_owned(),
        Some(issuer) if issuer != position => format!(" (certificate {})", issuer + 1),
        Some(_) | None => String::new(),
    }
}

fn request(Request { subject, names, public_key, signature, signature_good, .. }: &Request) -> Result<(), Failure> {
    print(&"request")?;
    line("subject", subject)?;
    line("names", &names.listed().join(", "))?;
    key(&public_key.key)?;
    let holds = match signature_good {
        Some(true) => good("holds"),
        Some(false) => bad("does not hold"),
        None => watch("not verified"),
    };
    line("signature", &format_args!("{signature}, {}", holds.paint()))?;
    line("SPKI SHA-256", &public_key.spki_sha256)
}

fn revocation_list(list: &RevocationList) -> Result<(), Failure> {
    print(&"revocation list")?;
    line("issuer", &list.issuer)?;
    line("of", &list.this_update)?;
    line("next", &or_none(list.next_update))?;
    line("revoked", &list.revoked)?;
    line("signature", &list.signature)
}

fn key(shown: &Key) -> Result<(), Failure> {
    line("key", shown)
}

fn line(name: &str, what: &dyn fmt::Display) -> Result<(), Failure> {
    print(&format_args!("  {name:<14}{what}"))
}
