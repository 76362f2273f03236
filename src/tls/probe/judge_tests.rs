//! What each sight of a server means: tables for the judgement.

use std::time::Duration;

use rustls::AlertDescription;

use super::{
    hello::Suite,
    judge::judge,
    observed::{Asked, Broken, Exchange, Look, Observed, Ours, Reached, Seen},
    report::{Accepts, Delivers, Report, Requires, TlsVersion},
};
use crate::{
    clock::Timestamp,
    tls::{
        Validity,
        issue::{Authority, Period},
    },
};

const ALERT: Broken = Broken::Alert(AlertDescription::CertificateRequired);
const UNKNOWN_CA: Broken = Broken::Alert(AlertDescription::UnknownCA);
const NO_VERSION: Broken = Broken::Alert(AlertDescription::ProtocolVersion);

/// A server that asks, requires and accepts, over TLS 1.3 alone.
fn good() -> Reached {
    Reached {
        address: "127.0.0.1:443".parse().unwrap(),
        addresses: 1,
        tls13: look(Err(ALERT)),
        tls12: Some(Look { seen: Seen::default(), handshake: Err(NO_VERSION), answer: None, asked_later: false }),
        ours: Some(ours(Ok(200))),
        old: vec![(TlsVersion::Tls11, Err(NO_VERSION)), (TlsVersion::Tls10, Err(Broken::Closed))],
        old_suites: Some(Err(NO_VERSION)),
    }
}

/// A trusted server that asks, and answers so without a certificate.
fn look(answer: Result<u16, Broken>) -> Look {
    let asked = Some(Asked { authorities: vec![b"not a name".to_vec()], schemes: Vec::new() });
    let seen = Seen { asked, chain: vec![b"not a certificate".to_vec()], trust: Some(Ok(())) };
    Look { handshake: Ok(()), seen, answer: Some(answer), asked_later: false }
}

/// Our certificate, which is answered so.
fn ours(answer: Result<u16, Broken>) -> Ours {
    let exchange = Some(Exchange { handshake: Ok(()), answer: Some(answer) });
    Ours { validity: Validity::Valid, leads_to_authority: Some(true), can_sign: true, exchange }
}

fn judged(reached: Reached) -> Report {
    judge("dest.example:443".to_owned(), &Observed::Reached(Box::new(reached)), Timestamp::default())
}

fn ids(report: &Report) -> Vec<&'static str> {
    report.findings.iter().map(|finding| finding.id).collect()
}

#[test]
fn good_server_has_no_finding() {
    let report = judged(good());

    assert_eq!((report.delivers, ids(&report)), (Delivers::Yes, vec![]));
    assert_eq!((report.requires, report.accepts), (Some(Requires::Yes), Some(Accepts::Yes)));
    assert!(report.is_good() && report.is_reached());
}

#[test]
fn answers_without_and_with_our_certificate_say_what_is_required_and_accepted() {
    use {Accepts as A, Delivers as D, Requires as R};
    let closed = || Err(Broken::Closed);
    for (without, with, expected, findings) in [
        (Err(ALERT), Ok(200), (R::Yes, A::Yes, D::Yes), &[][..]),
        (Err(ALERT), Ok(404), (R::Yes, A::Yes, D::Yes), &["endpoint_status"]),
        // TLS refuses who shows nothing, so it has taken ours; the status speaks of something else.
        (Err(ALERT), Ok(400), (R::Yes, A::Yes, D::Yes), &[]),
        (Err(ALERT), Ok(403), (R::Yes, A::Yes, D::Yes), &["endpoint_status"]),
        (closed(), Ok(200), (R::Yes, A::Yes, D::Yes), &[]),
        (Ok(400), Ok(200), (R::Yes, A::Yes, D::Yes), &[]),
        (Ok(401), Ok(405), (R::Yes, A::Yes, D::Yes), &["endpoint_status"]),
        (Ok(403), Ok(200), (R::Yes, A::Yes, D::Yes), &[]),
        (Ok(495), Ok(200), (R::Yes, A::Yes, D::Yes), &[]),
        (Ok(496), Ok(204), (R::Yes, A::Yes, D::Yes), &[]),
        (Ok(200), Ok(200), (R::No, A::Yes, D::Yes), &["not_required"]),
        (Ok(404), Ok(404), (R::No, A::Yes, D::Yes), &["not_required", "endpoint_status"]),
        (Ok(500), Ok(200), (R::No, A::Yes, D::Yes), &["not_required"]),
        (Err(ALERT), Err(UNKNOWN_CA), (R::Yes, A::No, D::No), &["certificate_refused"]),
        (Err(ALERT), closed(), (R::Yes, A::No, D::No), &["certificate_refused"]),
        (Ok(496), Ok(495), (R::Yes, A::No, D::No), &["certificate_refused"]),
        (Ok(200), Ok(495), (R::No, A::No, D::No), &["certificate_refused", "not_required"]),
        (Ok(400), Ok(400), (R::Unclear, A::No, D::No), &["certificate_refused", "requirement_unclear"]),
        (Ok(401), Ok(401), (R::Unclear, A::Unclear, D::Unclear), &["requirement_unclear", "acceptance_unclear"]),
        (Ok(403), Ok(403), (R::Unclear, A::Unclear, D::Unclear), &["requirement_unclear", "acceptance_unclear"]),
        (Err(ALERT), Err(Broken::Silent), (R::Yes, A::Unclear, D::Unclear), &["acceptance_unclear"]),
        (Err(Broken::Silent), Ok(200), (R::Unclear, A::Yes, D::Yes), &["requirement_unclear"]),
        (
            Err(Broken::NotHttp),
            Err(Broken::NotHttp),
            (R::Unclear, A::Unclear, D::Unclear),
            &["requirement_unclear", "acceptance_unclear"],
        ),
    ] {
        let case = format!("{without:?} without, {with:?} with");
        let report = judged(Reached { tls13: look(without), ours: Some(ours(with)), ..good() });

        let found = (report.requires.unwrap(), report.accepts.unwrap(), report.delivers);
        assert_eq!((found, ids(&report).as_slice()), (expected, findings), "{case}");
    }
}

#[test]
fn each_fault_has_its_finding_and_the_worst_is_the_verdict() {
    let unasked = |answer| Look { seen: Seen { asked: None, ..look(Ok(200)).seen }, ..look(answer) };
    let untrusted =
        || Look { seen: Seen { trust: Some(Err("UnknownIssuer".into())), ..look(Ok(400)).seen }, ..look(Ok(400)) };
    let failed = |broken| Look { seen: Seen::default(), handshake: Err(broken), answer: None, asked_later: false };
    let later = || Look { asked_later: true, ..unasked(Ok(403)) };
    let unseen = || Ours { exchange: None, ..ours(Ok(200)) };
    let old = |answer| vec![(TlsVersion::Tls11, Ok(Suite(0xc014))), (TlsVersion::Tls10, answer)];
    for (reached, delivers, findings) in [
        (Reached { tls13: unasked(Ok(200)), ours: Some(unseen()), ..good() }, Delivers::No, &["not_asked"][..]),
        (Reached { tls13: unasked(Ok(403)), ours: Some(unseen()), ..good() }, Delivers::No, &["not_asked"]),
        (
            Reached { tls13: unasked(Ok(403)), tls12: Some(later()), ours: Some(unseen()), ..good() },
            Delivers::No,
            &["asks_after_handshake"],
        ),
        (Reached { tls13: untrusted(), ours: Some(unseen()), ..good() }, Delivers::No, &["server_not_trusted"]),
        (
            Reached { ours: Some(Ours { can_sign: false, ..ours(Err(UNKNOWN_CA)) }), ..good() },
            Delivers::No,
            &["no_common_signature", "certificate_refused"],
        ),
        (
            Reached { ours: Some(Ours { leads_to_authority: Some(false), ..ours(Ok(200)) }), ..good() },
            Delivers::Yes,
            &["authority_not_named"],
        ),
        (
            Reached {
                ours: Some(Ours { validity: Validity::Expired(Timestamp::default()), ..ours(Ok(200)) }),
                ..good()
            },
            Delivers::No,
            &["certificate_not_valid"],
        ),
        (
            Reached {
                ours: Some(Ours { validity: Validity::NotYetValid(Timestamp::default()), ..ours(Ok(200)) }),
                ..good()
            },
            Delivers::No,
            &["certificate_not_valid"],
        ),
        (Reached { ours: None, ..good() }, Delivers::Unclear, &[]),
        (
            Reached {
                tls13: failed(Broken::NotTls("SSH")),
                tls12: None,
                ours: None,
                old: vec![],
                old_suites: None,
                ..good()
            },
            Delivers::No,
            &["not_tls"],
        ),
        (
            Reached { tls13: failed(Broken::Silent), tls12: None, ours: None, old: vec![], old_suites: None, ..good() },
            Delivers::No,
            &["no_answer"],
        ),
        (Reached { tls13: failed(NO_VERSION), ours: Some(unseen()), ..good() }, Delivers::No, &["handshake_failed"]),
        (
            Reached { tls13: failed(NO_VERSION), tls12: Some(look(Ok(400))), ours: Some(unseen()), ..good() },
            Delivers::No,
            &["no_tls13"],
        ),
        (
            Reached { tls13: failed(NO_VERSION), tls12: Some(look(Ok(200))), ours: Some(unseen()), ..good() },
            Delivers::No,
            &["no_tls13", "not_required"],
        ),
        (
            Reached { tls13: failed(NO_VERSION), old_suites: Some(Ok(Suite(0x2f))), ours: Some(unseen()), ..good() },
            Delivers::No,
            &["no_tls13", "old_suites"],
        ),
        (Reached { tls12: Some(look(Ok(400))), ..good() }, Delivers::Yes, &[]),
        (Reached { tls12: Some(look(Ok(200))), ..good() }, Delivers::Yes, &["tls12_not_required"]),
        (Reached { tls12: Some(unasked(Ok(200))), ..good() }, Delivers::Yes, &["tls12_not_required"]),
        (Reached { old: old(Err(NO_VERSION)), ..good() }, Delivers::Yes, &["old_version"]),
        (Reached { old: old(Ok(Suite(0x2f))), ..good() }, Delivers::Yes, &["old_version"]),
    ] {
        let report = judged(reached);

        assert_eq!((report.delivers, ids(&report).as_slice()), (delivers, findings), "{report:#?}");
        let errors = ["not_required", "tls12_not_required"];
        let is_bad = delivers == Delivers::No || findings.iter().any(|id| errors.contains(id));
        assert_eq!(report.is_good(), !is_bad, "{findings:?}");
        let is_first = report.findings.first().is_some_and(|finding| report.verdict.contains(&finding.what));
        assert_eq!(is_first, delivers == Delivers::No, "{}", report.verdict);
    }
}

#[test]
fn handshake_that_fails_with_the_settings_of_delivery_holds_it() {
    let exchange = Some(Exchange { handshake: Err(NO_VERSION), answer: None });
    let report = judged(Reached { ours: Some(Ours { exchange, ..ours(Ok(200)) }), ..good() });

    assert_eq!((report.delivers, ids(&report)), (Delivers::No, vec!["handshake_failed"]));
    assert_eq!(report.accepts, None);
}

#[test]
fn old_versions_are_named_with_what_was_met() {
    let report = judged(Reached { old_suites: Some(Ok(Suite(0xc013))), ..good() });

    let seen: Vec<_> = report.versions.iter().map(|seen| (seen.taken, seen.asks, seen.detail.as_deref())).collect();
    assert_eq!(
        seen,
        [
            (true, Some(true), None),
            (true, None, Some("with suite 0xC013")),
            (false, None, Some("alert protocol_version")),
            (false, None, Some("connection closed")),
        ]
    );
}

#[test]
fn server_that_expires_soon_is_pointed_out() {
    let day = Duration::from_secs(24 * 60 * 60);
    let now = Timestamp::parse("2026-01-01T00:00:00Z").unwrap();
    for (days, is_found) in [(29, true), (30, false), (0, true)] {
        let period = Period { from: now - day, until: now + day * days + day / 2 };
        let der = certificate(&Authority::new("Short", period).unwrap().certificate_pem());
        let seen = Seen { chain: vec![der], ..look(Err(ALERT)).seen };
        let reached = Reached { tls13: Look { seen, ..look(Err(ALERT)) }, ..good() };

        let report = judge("dest.example:443".to_owned(), &Observed::Reached(Box::new(reached)), now);

        assert_eq!(ids(&report).contains(&"server_expires"), is_found, "{days} days");
        assert_eq!((report.chain[0].days_left, report.is_good()), (Some(i64::from(days)), true));
    }
}

#[test]
fn what_cannot_be_read_is_said_and_stops_nothing() {
    let report = judged(good());

    assert!(report.authorities[0].contains("unreadable"), "{report:#?}");
    assert!(report.chain[0].certificate.is_none() && report.chain[0].error.is_some(), "{report:#?}");
}

#[test]
fn nobody_there_is_unreachable() {
    let report =
        judge("dest.example:443".to_owned(), &Observed::Unreachable("refused".to_owned()), Timestamp::default());

    assert_eq!((report.delivers, ids(&report)), (Delivers::No, vec!["unreachable"]));
    assert!(!report.is_good() && !report.is_reached());
}

fn certificate(pem: &str) -> Vec<u8> {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
}
