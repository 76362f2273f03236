//! Whether one certificate issued another.

use x509_parser::parse_x509_certificate;

use super::{description::Certificate, finding::Finding, material::Held, oid, signature};

/// Longest way from a certificate to a root. The public web knows four at most.
const STEPS_MAX: usize = 16;

/// Follows an authority's certificate, the first of a chain, to one of the roots, by names, signatures and rights. TLS
/// libraries do not: they take no authority for a peer.
pub(crate) fn to_roots(chain: &[&Held], roots: &[&Held]) -> Vec<Finding> {
    let Some(mut current) = chain.first().copied() else { return Vec::new() };
    for below in 0..STEPS_MAX {
        if roots.iter().any(|root| root.der == current.der) {
            return Vec::new();
        }
        let mut candidates = roots.iter().chain(&chain[1..]).copied();
        let Some(issuer) = candidates.find(|issuer| issued(issuer, current) == Some(true)) else { break };
        if let Some(finding) = rights(&issuer.certificate, below) {
            return vec![finding];
        }
        current = issuer;
    }
    let what = format_args!("no root leads to `{}`: nobody here has issued it", current.certificate.called());
    let remedy = format!("give the root or the missing authority: `{}`", current.certificate.issuer);
    vec![Finding::error("unknown-issuer", what, remedy)]
}

/// What an issuer lacks to issue an authority that has so many authorities below it.
fn rights(issuer: &Certificate, below: usize) -> Option<Finding> {
    let called = issuer.called();
    let refuse = |what: String| Some(Finding::error("issuer-rights", what, "have it issued by an authority that may"));
    match issuer.path_length {
        _ if !issuer.is_authority => refuse(format!("`{called}` is no authority, but issues")),
        _ if !issuer.key_usages.is_empty() && !issuer.key_usages.iter().any(|usage| usage == "keyCertSign") => {
            refuse(format!("the key of `{called}` may not sign certificates: its key usage has no keyCertSign"))
        }
        // The certificate that is verified stands below it too.
        Some(most) if usize::try_from(most).is_ok_and(|most| below + 1 > most) => {
            refuse(format!("`{called}` allows {most} authorities below it, and {} are", below + 1))
        }
        _ => None,
    }
}

/// Whether `issuer` signed `certificate`; none if its algorithm is not known here.
fn issued(issuer: &Held, certificate: &Held) -> Option<bool> {
    let (_, above) = parse_x509_certificate(&issuer.der).ok()?;
    let (_, below) = parse_x509_certificate(&certificate.der).ok()?;
    if above.subject().as_raw() != below.issuer().as_raw() {
        return Some(false);
    }
    let algorithm = oid::signature(&below.signature_algorithm.algorithm);
    signature::holds(above.public_key(), &algorithm, below.tbs_certificate.as_ref(), &below.signature_value.data)
}
