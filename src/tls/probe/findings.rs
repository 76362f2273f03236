//! What is wrong or odd about a server, in words, and what to do. Pure.

use super::{
    judge::{is_refusal, shown},
    observed::{Broken, Look, Ours, Reached},
    report::{Accepts, Finding, Requires, Severity, TlsVersion},
};
use crate::{certificate::Certificate, clock::Timestamp, tls::Validity};

/// Days before its end at which a server's certificate is pointed out.
const EXPIRY_DAYS: i64 = 30;

const REQUIRE: &str = "make the server require it (nginx: ssl_verify_client on; HAProxy: verify required)";
const OTHER_HTTP: &str =
    "set `http` of the destination to the version that the receiver speaks, or have it offer this one (ALPN)";
const ASK_EARLIER: &str =
    "make the server ask in the handshake (Apache: SSLVerifyClient outside of Location and Directory)";

/// What was seen, and what follows from it.
pub(super) struct Sight<'a> {
    /// All of it.
    pub(super) reached: &'a Reached,
    /// The connection without our certificate that counts.
    pub(super) look: &'a Look,
    /// What was met with it.
    pub(super) with: Option<Result<u16, &'a Broken>>,
    /// Whether the server requires a certificate.
    pub(super) requires: Option<Requires>,
    /// Whether it accepts ours.
    pub(super) accepts: Option<Accepts>,
}

/// Nobody listens.
pub(super) fn unreachable(why: &str) -> Finding {
    let remedy = "check the name, the port, the firewall, and whether the server runs";
    held("unreachable", format!("cannot connect: {why}"), remedy)
}

impl Sight<'_> {
    /// A status that would hold the destination, were a POST answered so. Of a HEAD request it may say nothing.
    fn endpoint(&self) -> Option<Finding> {
        let (Some(Accepts::Yes), Some(Ok(status))) = (self.accepts, self.with) else { return None };
        matches!(status, 300..=399 | 403 | 404 | 405 | 407 | 410 | 421 | 426 | 501 | 505 | 511).then(|| {
            let what = format!("HEAD is answered {status}; a POST answered so would hold the destination");
            warning(
                "endpoint_status",
                what,
                "check the endpoint; `postern destination test NAME --sample` sends a POST",
            )
        })
    }

    /// All that is wrong or odd, the worst first.
    pub(super) fn findings(&self, now: Timestamp) -> Vec<Finding> {
        let Self { reached: Reached { tls13, tls12, ours, old, old_suites, .. }, look, .. } = self;
        let mut findings: Vec<Finding> = match &tls13.handshake {
            Err(broken) => vec![self.no_tls13(broken)],
            Ok(()) => Vec::new(),
        };
        if look.is_taken() {
            let of_handshake = [self.trust(), self.asking(), self.requirement(), self.acceptance(), self.endpoint()];
            findings.extend(of_handshake.into_iter().flatten());
        }
        findings.extend(ours.as_ref().and_then(our_validity));
        findings.extend(tls12.as_ref().and_then(|tls12| self.tls12(tls12)));
        let old: Vec<String> =
            old.iter().filter(|(_, answer)| answer.is_ok()).map(|(version, _)| version.to_string()).collect();
        if !old.is_empty() {
            let what = format!("the server still speaks {}", old.join(", "));
            findings.push(warning("old_version", what, "switch it off at the server (RFC 8996)"));
        }
        if let Some(Ok(suite)) = old_suites {
            findings.push(warning(
                "old_suites",
                format!("over TLS 1.2 the server has only cipher suites that are not supported, such as {suite}"),
                "switch TLS 1.3 on at the server, or suites with ECDHE and AES-GCM or ChaCha20",
            ));
        }
        findings.extend(look.seen.chain.first().and_then(|der| expiry(der, now)));
        findings.sort_by_key(|finding| finding.severity);
        findings
    }

    fn no_tls13(&self, broken: &Broken) -> Finding {
        match broken {
            Broken::NotTls(what) => {
                let remedy = "give the port on which the server speaks TLS";
                return held("not_tls", format!("the server speaks {what}, not TLS"), remedy);
            }
            Broken::OtherHttp(wanted) => {
                let what = format!("the server does not speak HTTP/{}", wanted.as_str());
                return held("other_http_version", what, OTHER_HTTP);
            }
            Broken::Silent if !self.look.is_taken() => {
                let remedy = "check that the port is the right one, and that nothing on the way swallows TLS";
                return held("no_answer", "somebody listens, but says nothing".to_owned(), remedy);
            }
            _ => {}
        }
        let versions = self.reached.versions();
        let older = versions.iter().filter(|seen| seen.taken && seen.version != TlsVersion::Tls13);
        let older: Vec<String> = older.map(|seen| seen.version.to_string()).collect();
        match older.is_empty() {
            true => handshake_failed(broken),
            false => held(
                "no_tls13",
                format!("the server does not speak TLS 1.3 ({broken}), only {}", older.join(", ")),
                "switch TLS 1.3 on at the server",
            ),
        }
    }

    fn trust(&self) -> Option<Finding> {
        let why = self.look.seen.trust.as_ref()?.as_ref().err()?;
        Some(held(
            "server_not_trusted",
            format!("the server is not trusted: {why}"),
            "check which authority issued its certificate, for which name and until when; set roots to that authority",
        ))
    }

    fn asking(&self) -> Option<Finding> {
        let Self { reached: Reached { tls12, ours, .. }, look, .. } = self;
        let without = look.outcome();
        let asked_later = look.asked_later || tls12.as_ref().is_some_and(|look| look.asked_later);
        match (&look.seen.asked, ours) {
            (None, _) if asked_later => {
                let what = "the server asks for a certificate only after the handshake, by renegotiation, which is not supported";
                Some(held("asks_after_handshake", what.to_owned(), ASK_EARLIER))
            }
            (None, _) if is_refusal(without) => {
                let what = "the server does not ask for a certificate in the handshake, but";
                let what = format!("{what} {}: it may ask later, which is not supported", met(without));
                Some(held("not_asked", what, ASK_EARLIER))
            }
            (None, _) => {
                let what = "the server does not ask for a certificate: it would take data from anybody";
                Some(held("not_asked", what.to_owned(), REQUIRE))
            }
            (Some(_), Some(Ours { can_sign: false, .. })) => Some(held(
                "no_common_signature",
                "the server takes no kind of signature that our key can make".to_owned(),
                "use a certificate with a key of another kind: ECDSA P-256 is taken nearly everywhere",
            )),
            (Some(asked), Some(Ours { leads_to_authority: Some(false), .. })) => Some(warning(
                "authority_not_named",
                format!("our chain leads to none of the {} authorities that the server names", asked.authorities.len()),
                "ask the receiver to trust the issuer of our certificate, or use a certificate of one that it names",
            )),
            (Some(_), _) => None,
        }
    }

    fn requirement(&self) -> Option<Finding> {
        let without = met(self.look.outcome());
        match self.requires? {
            Requires::Yes => None,
            Requires::No => {
                let what = format!("the server asks for a certificate but does not require it: without one {without}");
                Some(error("not_required", what, REQUIRE))
            }
            Requires::Unclear => {
                let what = format!("whether the server requires a certificate cannot be seen: without one {without}");
                Some(warning("requirement_unclear", what, "look at the server's settings"))
            }
        }
    }

    fn acceptance(&self) -> Option<Finding> {
        // In TLS 1.3 it is no word on our certificate: that comes after the handshake.
        if let Some(Err(broken)) = self.reached.exchange().map(|exchange| &exchange.handshake) {
            return Some(handshake_failed(broken));
        }
        let with = met(self.with?);
        match self.accepts? {
            Accepts::Yes => None,
            Accepts::No => Some(held(
                "certificate_refused",
                format!("the server refuses our certificate: {with}"),
                "ask the receiver what its log says: it may not trust the issuer, or take ours for revoked or not for clients",
            )),
            Accepts::Unclear => Some(warning(
                "acceptance_unclear",
                format!("whether the server accepts our certificate cannot be seen: with it {with}"),
                "try a whole request with `postern destination test NAME --sample`",
            )),
        }
    }

    /// Only where TLS 1.3 is better: otherwise what is wrong is said already.
    fn tls12(&self, tls12: &Look) -> Option<Finding> {
        let without = tls12.outcome();
        let is_required = tls12.seen.asked.is_some() && is_refusal(without);
        let is_worse = self.reached.tls13.is_taken() && self.requires == Some(Requires::Yes);
        (is_worse && tls12.is_taken() && !is_required).then(|| {
            let what = format!("over TLS 1.2 the server does not require a certificate: without one {}", met(without));
            error("tls12_not_required", what, "switch TLS 1.2 off at the server, or require a certificate there too")
        })
    }
}

fn our_validity(ours: &Ours) -> Option<Finding> {
    let what = match ours.validity {
        Validity::Valid => return None,
        Validity::NotYetValid(from) => format!("our certificate is not valid before {from}"),
        Validity::Expired(at) => format!("our certificate expired at {at}"),
    };
    Some(held("certificate_not_valid", what, "renew it, and check this machine's clock"))
}

fn expiry(der: &[u8], now: Timestamp) -> Option<Finding> {
    let certificate = Certificate::read(der).ok()?;
    let days = certificate.days_left(now);
    // One that has expired is not trusted, which is said already.
    (0..EXPIRY_DAYS).contains(&days).then(|| {
        let what = format!("the server's certificate expires in {days} days, at {}", certificate.not_after);
        warning("server_expires", what, "ask the receiver to renew it")
    })
}

fn handshake_failed(broken: &Broken) -> Finding {
    let remedy = "check the server's log, and that it has a certificate for this name";
    held("handshake_failed", format!("TLS handshake failed: {broken}"), remedy)
}

fn held(id: &'static str, what: String, remedy: &'static str) -> Finding {
    Finding { id, severity: Severity::Held, what, remedy }
}

fn error(id: &'static str, what: String, remedy: &'static str) -> Finding {
    Finding { id, severity: Severity::Error, what, remedy }
}

fn warning(id: &'static str, what: String, remedy: &'static str) -> Finding {
    Finding { id, severity: Severity::Warning, what, remedy }
}

/// As a part of a sentence.
fn met(outcome: Result<u16, &Broken>) -> String {
    match outcome {
        Ok(status) => format!("it answers {status}"),
        Err(Broken::Alert(_)) => format!("it ends with {}", shown(outcome)),
        Err(Broken::Closed) => "it closes the connection".to_owned(),
        Err(_) => shown(outcome),
    }
}
