//! What was seen, judged: what the server requires and accepts, and what delivery would do. Pure.

use super::{
    findings::{self, Sight},
    observed::{Broken, Exchange, Look, Observed, Reached, Seen},
    report::{Accepts, Delivers, Finding, Report, Requires, ServerCertificate, Severity, TlsVersion, VersionSeen},
};
use crate::{
    certificate::{Certificate, distinguished_name},
    clock::Timestamp,
};

/// Most authorities and most certificates of a chain that are shown. A server may name hundreds.
const SHOWN_MAX: usize = 100;

/// Says what the sight of `place` at `now` means.
pub(super) fn judge(place: String, observed: &Observed, now: Timestamp) -> Report {
    match observed {
        Observed::Unreachable(why) => unreachable(place, why),
        Observed::Reached(reached) => reached.judge(place, now),
    }
}

fn unreachable(place: String, why: &str) -> Report {
    let findings = vec![findings::unreachable(why)];
    Report {
        place,
        address: None,
        addresses: 0,
        delivers: Delivers::No,
        verdict: verdict_against(&findings[0]),
        asks: None,
        requires: None,
        answer_without_certificate: None,
        accepts: None,
        answer_with_certificate: None,
        authorities: Vec::new(),
        leads_to_authority: None,
        versions: Vec::new(),
        trusted: None,
        trust_error: None,
        chain: Vec::new(),
        findings,
    }
}

impl Reached {
    fn judge(&self, place: String, now: Timestamp) -> Report {
        let look = self.best_look();
        let Seen { asked, chain, trust } = &look.seen;
        let with = self.exchange().and_then(Exchange::outcome);
        let requires = asked.as_ref().map(|_| requires(look.outcome(), with));
        let accepts = with.map(|with| accepts(with, look.outcome()));
        let findings = Sight { reached: self, look, with, requires, accepts }.findings(now);
        let (delivers, verdict) = self.verdict(&findings, accepts);
        Report {
            place,
            address: Some(self.address),
            addresses: self.addresses,
            delivers,
            verdict,
            asks: look.is_taken().then_some(asked.is_some()),
            requires,
            answer_without_certificate: look.is_taken().then(|| shown(look.outcome())),
            accepts,
            answer_with_certificate: with.map(shown),
            authorities: asked
                .iter()
                .flat_map(|asked| asked.authorities.iter().take(SHOWN_MAX).map(|name| readable(name)))
                .collect(),
            leads_to_authority: self.ours.as_ref().and_then(|ours| ours.leads_to_authority),
            versions: self.versions(),
            trusted: trust.as_ref().map(Result::is_ok),
            trust_error: trust.as_ref().and_then(|trust| trust.as_ref().err().cloned()),
            chain: chain.iter().take(SHOWN_MAX).map(|der| described(der, now)).collect(),
            findings,
        }
    }

    /// What TLS 1.3 showed, or else TLS 1.2.
    fn best_look(&self) -> &Look {
        match &self.tls12 {
            Some(tls12) if !self.tls13.is_taken() && tls12.is_taken() => tls12,
            _ => &self.tls13,
        }
    }

    /// The connection with our certificate.
    pub(super) fn exchange(&self) -> Option<&Exchange> {
        self.ours.as_ref()?.exchange.as_ref()
    }

    /// The versions of TLS, newest first, as far as they were tried.
    pub(super) fn versions(&self) -> Vec<VersionSeen> {
        let looked = |version, look: &Look| VersionSeen {
            version,
            taken: look.is_taken(),
            asks: look.is_taken().then_some(look.seen.asked.is_some()),
            detail: look.handshake.as_ref().err().filter(|_| !look.is_taken()).map(ToString::to_string),
        };
        let tls12 = self.tls12.as_ref().map(|look| {
            let seen = looked(TlsVersion::Tls12, look);
            match self.old_suites {
                Some(Ok(suite)) => VersionSeen { taken: true, detail: Some(format!("with suite {suite}")), ..seen },
                _ => seen,
            }
        });
        let old = self.old.iter().map(|(version, answer)| VersionSeen {
            version: *version,
            taken: answer.is_ok(),
            asks: None,
            detail: Some(answer.as_ref().map_or_else(ToString::to_string, |suite| format!("with suite {suite}"))),
        });
        [looked(TlsVersion::Tls13, &self.tls13)].into_iter().chain(tls12).chain(old).collect()
    }

    fn verdict(&self, findings: &[Finding], accepts: Option<Accepts>) -> (Delivers, String) {
        if let Some(held) = findings.iter().find(|finding| finding.severity == Severity::Held) {
            return (Delivers::No, verdict_against(held));
        }
        let so_far = "TLS 1.3, chain and name verify, the server asks for a certificate";
        match (accepts, self.exchange().and_then(Exchange::outcome)) {
            (Some(Accepts::Yes), Some(with)) => {
                (Delivers::Yes, format!("delivery would send here: {so_far} and accepts ours (HEAD: {})", shown(with)))
            }
            (Some(_), Some(with)) => {
                (Delivers::Unclear, format!("{so_far}; whether it accepts ours cannot be seen (HEAD: {})", shown(with)))
            }
            _ => (Delivers::Unclear, format!("{so_far}; whether it accepts ours is not known without a certificate")),
        }
    }
}

impl Exchange {
    fn outcome(&self) -> Option<Result<u16, &Broken>> {
        self.answer.as_ref().map(|answer| answer.as_ref().copied())
    }
}

/// Whether an answer to a client without a certificate can be a refusal of just that. nginx answers HTTP 400 after a good
/// handshake.
pub(super) fn is_refusal(without: Result<u16, &Broken>) -> bool {
    matches!(without, Ok(400 | 401 | 403 | 495 | 496) | Err(Broken::Alert(_) | Broken::Closed))
}

/// A refusal that our certificate meets too speaks of the certificate only where it can speak of nothing else.
fn requires(without: Result<u16, &Broken>, with: Option<Result<u16, &Broken>>) -> Requires {
    match without {
        Ok(400 | 401 | 403) if with == Some(without) => Requires::Unclear,
        _ if is_refusal(without) => Requires::Yes,
        Ok(_) => Requires::No,
        Err(_) => Requires::Unclear,
    }
}

fn accepts(with: Result<u16, &Broken>, without: Result<u16, &Broken>) -> Accepts {
    match with {
        Err(Broken::Alert(_) | Broken::Closed) | Ok(495 | 496) => Accepts::No,
        // As nginx refuses.
        Ok(400) if with == without => Accepts::No,
        Ok(401 | 403) if with == without => Accepts::Unclear,
        Ok(_) => Accepts::Yes,
        Err(_) => Accepts::Unclear,
    }
}

fn verdict_against(finding: &Finding) -> String {
    format!("delivery would not send here: {}", finding.what)
}

/// For people.
pub(super) fn shown(outcome: Result<u16, &Broken>) -> String {
    outcome.map_or_else(ToString::to_string, |status| format!("status {status}"))
}

fn readable(name: &[u8]) -> String {
    distinguished_name(name).unwrap_or_else(|error| format!("unreadable name: {error}"))
}

fn described(der: &[u8], now: Timestamp) -> ServerCertificate {
    match Certificate::read(der) {
        Ok(certificate) => {
            let days_left = Some(certificate.days_left(now));
            ServerCertificate { certificate: Some(certificate), days_left, error: None }
        }
        Err(error) => ServerCertificate { certificate: None, days_left: None, error: Some(error.to_string()) },
    }
}
