//! Whether a certificate would be accepted: by the same verification as a handshake's, but with all that is wrong named at
//! once and in words.

use std::{path::Path, sync::Arc, time::Duration};

use rustls::{
    CertificateError, RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier, verify_server_name},
    pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, UnixTime},
    server::{ParsedCertificate, VerifierBuilderError, WebPkiClientVerifier},
};

use super::{RootsSource, provider, roots};
use crate::{
    certificate::{
        Certificate, Finding, Held, Material, PrivateKey, RevocationList,
        judge::{self, Purpose},
        link,
    },
    clock::Timestamp,
};

const UP_TO_THE_LAST: &str = "no roots are given: the chain is verified up to its last certificate";

/// What is to be verified, and against what.
#[derive(Clone, Copy)]
pub struct Question<'a> {
    /// The certificate, then its issuers.
    pub chain: &'a [&'a Held],
    /// What it is for.
    pub purpose: Purpose,
    /// Who vouches for it; with none, the last certificate of the chain.
    pub roots: Option<&'a RootsSource>,
    /// The host name or address that it must name.
    pub name: Option<&'a str>,
    /// The private key that must belong to it, and the permission bits of its file.
    pub key: Option<(&'a PrivateKey, Option<u32>)>,
    /// Who revokes what.
    pub lists: &'a [&'a RevocationList],
}

/// Answers with all that is found at `now`.
pub fn verify(question: &Question<'_>, now: Timestamp) -> Vec<Finding> {
    let Question { chain, purpose, roots, name, key, lists } = question;
    let Some(first) = chain.first() else {
        return vec![Finding::error("empty", "there is no certificate", "put it there")];
    };
    let described: Vec<&Certificate> = chain.iter().map(|held| &*held.certificate).collect();
    let mut findings = judge::chain(&described, Some(*purpose), now);
    findings.extend(lists.iter().filter_map(|list| judge::revocation_list(list, now)));
    if let Some((key, mode)) = key {
        findings.extend(judge::match_key(&first.certificate, key));
        findings.extend(mode.and_then(open_to_everybody));
    }
    findings.extend(name.and_then(|name| names(first, name)));
    findings.extend(not_covered(question, &first.certificate));
    let of_the_chain = match purpose {
        Purpose::Authority => authority(chain, *roots),
        Purpose::Client | Purpose::Server => peer(question, now),
    };
    // What was found in words already is not said again.
    let new: Vec<Finding> =
        of_the_chain.into_iter().filter(|found| findings.iter().all(|known| known.id != found.id)).collect();
    findings.extend(new);
    findings
}

/// Says when the given revocation lists say nothing of a certificate.
fn not_covered(question: &Question<'_>, certificate: &Certificate) -> Option<Finding> {
    let issuer = &certificate.issuer;
    let (what, remedy) = match question.purpose {
        _ if question.lists.is_empty() => return None,
        Purpose::Authority => (
            "revocation lists are not looked at for an authority".to_owned(),
            "verify a certificate that it issued, with them",
        ),
        _ if question.lists.iter().any(|list| list.issuer == *issuer) => return None,
        Purpose::Client | Purpose::Server => {
            (format!("no revocation list is of its issuer, `{issuer}`"), "give the list of that issuer")
        }
    };
    Some(Finding::warning("not-covered", what, remedy))
}

/// A private key that anybody on the machine may read, change or run.
fn open_to_everybody(mode: u32) -> Option<Finding> {
    (mode & 0o007 != 0).then(|| {
        let what = format!("the key's file is open to everybody (mode {mode:04o})");
        Finding::error("key-mode", what, "run `chmod 0640` on it")
    })
}

/// What is wrong with the name that a certificate must have.
fn names(first: &Held, name: &str) -> Option<Finding> {
    let Ok(wanted) = ServerName::try_from(name) else {
        let what = format!("`{}` is neither a host name nor an address", name.escape_debug());
        return Some(Finding::error("name", what, "say the name as clients have it in their URL"));
    };
    let der = CertificateDer::from(first.der.as_slice());
    let parsed = ParsedCertificate::try_from(&der).ok()?;
    verify_server_name(&parsed, &wanted).err().map(|_| {
        let listed = first.certificate.names.listed();
        let named = if listed.is_empty() { "nothing".to_owned() } else { listed.join(", ") };
        let what = format!("it does not name `{name}`: it names {named}");
        Finding::error("name", what, "have one issued with that name, or use a name that it has")
    })
}

/// The chain of a client's or a server's certificate, as a peer with these roots verifies it.
fn peer(question: &Question<'_>, now: Timestamp) -> Vec<Finding> {
    let mut findings = Vec::new();
    let certificates: Vec<CertificateDer<'_>> =
        question.chain.iter().map(|held| CertificateDer::from(held.der.as_slice())).collect();
    let [leaf, intermediates @ ..] = certificates.as_slice() else { return findings };
    let anchors = match (question.roots, intermediates) {
        (Some(source), _) => roots::load(source).map(|(roots, _)| roots).map_err(|error| unusable_roots(&error)),
        (None, [.., last]) => {
            findings.push(Finding::info("no-roots", UP_TO_THE_LAST));
            let mut anchors = RootCertStore::empty();
            match anchors.add(last.clone().into_owned()) {
                Ok(()) => Ok(anchors),
                Err(error) => Err(Finding::error("chain", error, "put the certificate of an authority there")),
            }
        }
        (None, []) => {
            findings.push(Finding::info(
                "no-roots",
                "no roots are given, and no chain is there: who issued it is not verified",
            ));
            let unreadable = ParsedCertificate::try_from(leaf).err();
            findings.extend(unreadable.and_then(|error| refusal(&error, question)));
            let is_revoked = |held: &&&Held| question.lists.iter().any(|list| list.revokes(&held.certificate));
            if question.chain.first().iter().any(is_revoked) {
                let what = "a list of its issuer revokes it (who signed the list is not verified without the issuer)";
                findings.push(Finding::error("revoked", what, "get a new one"));
            }
            return findings;
        }
    };
    let verified = anchors.and_then(|anchors| judged(question, Arc::new(anchors), leaf, intermediates, now));
    findings.extend(verified.err());
    findings
}

fn judged(
    question: &Question<'_>,
    anchors: Arc<RootCertStore>,
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    now: Timestamp,
) -> Result<(), Finding> {
    let lists = question.lists.iter().map(|list| CertificateRevocationListDer::from(list.der.clone()));
    let at = instant(question.chain, now);
    let verified = match question.purpose {
        Purpose::Server => {
            let verifier = WebPkiServerVerifier::builder_with_provider(anchors, provider())
                .with_crls(lists)
                .allow_unknown_revocation_status()
                .build()
                .map_err(unusable)?;
            // The name comes last, and is judged by itself.
            let name = ServerName::try_from("name.invalid").expect("it is a host name");
            verifier.verify_server_cert(leaf, intermediates, &name, &[], at).map(|_| ())
        }
        Purpose::Client | Purpose::Authority => {
            let verifier = WebPkiClientVerifier::builder_with_provider(anchors, provider())
                .with_crls(lists)
                .allow_unknown_revocation_status()
                .build()
                .map_err(unusable)?;
            verifier.verify_client_cert(leaf, intermediates, at).map(|_| ())
        }
    };
    verified.map_or_else(|error| refusal(&error, question).map_or(Ok(()), Err), Ok)
}

/// What a refusal says in words; nothing where that is judged by itself: names and dates.
fn refusal(error: &rustls::Error, question: &Question<'_>) -> Option<Finding> {
    use CertificateError as Why;
    let rustls::Error::InvalidCertificate(error) = error else {
        let what = format!("a revocation list cannot be used: {error}");
        return Some(Finding::error("list", what, "get the present one from its issuer"));
    };
    let issuer = question.chain.last().map_or("", |held| &held.certificate.issuer);
    let finding = match error {
        Why::NotValidForName | Why::NotValidForNameContext { .. } => return None,
        Why::Expired | Why::ExpiredContext { .. } | Why::NotValidYet | Why::NotValidYetContext { .. } => return None,
        Why::Revoked => {
            Finding::error("revoked", "its issuer has revoked it, or one of the authorities above it", "get a new one")
        }
        Why::UnknownIssuer => Finding::error(
            "unknown-issuer",
            "the chain does not lead to one of the given roots",
            format!("give the root or the missing authority: `{issuer}`"),
        ),
        Why::BadSignature => Finding::error(
            "bad-signature",
            "a certificate in the chain was not signed by the key of its issuer, or was changed",
            "get the chain anew; an issuer of the same name may have a new key",
        ),
        Why::InvalidPurpose | Why::InvalidPurposeContext { .. } => Finding::error(
            "purpose",
            "a certificate in the chain is not for this purpose",
            "ask its issuer for one that is",
        ),
        Why::UnsupportedSignatureAlgorithmContext { .. }
        | Why::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => Finding::error(
            "signature-algorithm",
            "a certificate in the chain is signed in a way that TLS here does not take",
            "have it issued anew with ECDSA, Ed25519 or RSA, and SHA-256 or better",
        ),
        other => {
            let name = other.to_string();
            let known = REFUSALS.iter().find(|(theirs, ..)| name.contains(theirs));
            known.map_or_else(
                || Finding::error("chain", format!("the chain does not hold: {other}"), "look at its certificates"),
                |(_, id, what, remedy)| Finding::error(id, what, remedy),
            )
        }
    };
    Some(finding)
}

/// What the verifier has no variant for, by the names that it gives: what is found, and what to do.
const REFUSALS: &[(&str, &str, &str, &str)] = &[
    (
        "CaUsedAsEndEntity",
        "leaf-is-authority",
        "the first certificate is an authority's",
        "have a certificate issued by it, and use that",
    ),
    (
        "EndEntityUsedAsCa",
        "issuer-rights",
        "a certificate in the chain issues, and is no authority",
        "have it issued by an authority",
    ),
    (
        "NameConstraintViolation",
        "name-constraints",
        "an authority above it may not give out these names",
        "have it issued by an authority that may",
    ),
    (
        "PathLenConstraintViolated",
        "issuer-rights",
        "an authority in the chain allows fewer authorities below it",
        "have it issued by an authority that may",
    ),
    (
        "UnsupportedCriticalExtension",
        "critical-extension",
        "a certificate in the chain has a critical extension that TLS here does not know",
        "have it issued without",
    ),
    (
        "UnsupportedCertVersion",
        "version",
        "a certificate in the chain is not of X.509 version 3",
        "have it issued anew",
    ),
];

/// An authority's chain.
fn authority(chain: &[&Held], roots: Option<&RootsSource>) -> Vec<Finding> {
    let roots = match roots {
        Some(RootsSource::File(path)) => read(path),
        Some(RootsSource::Public) => {
            return vec![Finding::error(
                "unknown-issuer",
                "whether a public root vouches for an authority cannot be told here",
                "give the root as a file",
            )];
        }
        None => {
            let last: Vec<&Held> = chain.last().copied().into_iter().collect();
            let mut findings = link::to_roots(chain, &last);
            findings.push(Finding::info("no-roots", UP_TO_THE_LAST));
            return findings;
        }
    };
    match roots {
        Ok(material) => link::to_roots(chain, &material.certificates().collect::<Vec<_>>()),
        Err(finding) => vec![finding],
    }
}

fn read(path: &Path) -> Result<Material, Finding> {
    let material = super::file::read(path).and_then(|bytes| super::file::open(bytes, None));
    material.map_err(|error| {
        Finding::error("roots", format!("cannot read roots {}: {error}", path.display()), "name another file")
    })
}

fn unusable_roots(error: &super::RootsError) -> Finding {
    Finding::error("roots", crate::chain(error), "give the certificates of authorities, in PEM")
}

fn unusable(error: VerifierBuilderError) -> Finding {
    let what = format!("a revocation list cannot be used: {error}");
    Finding::error("list", what, "get the present one from its issuer, in version 2")
}

/// `now`, if the whole chain is valid then; otherwise the latest start, where it is if it ever is: dates are judged by
/// themselves, and must not hide what else is wrong.
fn instant(chain: &[&Held], now: Timestamp) -> UnixTime {
    let is_valid = |held: &&&Held| (held.certificate.not_before..=held.certificate.not_after).contains(&now);
    let start = chain.iter().map(|held| held.certificate.not_before).max().unwrap_or(now);
    let at = if chain.iter().filter(is_valid).count() == chain.len() { now } else { start };
    UnixTime::since_unix_epoch(Duration::from_millis(at.as_millis().max(0).unsigned_abs()))
}
