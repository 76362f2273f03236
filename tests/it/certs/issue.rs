//! `cert issue`: what an authority is and issues, and what it refuses.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    time::Duration,
};

use postern::tls::{
    ClientTls, ClientTlsFiles, RootsSource,
    issue::{Authority, Period},
};
use rustls::pki_types::CertificateDer;
use x509_parser::extensions::{GeneralName, ParsedExtension};

use super::{Desk, parse};
use crate::support::pki::{expired, not_yet_valid, now, valid};

const DAY: i64 = 86_400;

/// A desk with an authority in `ca`.
fn with_authority() -> Desk {
    let desk = Desk::new();
    desk.cert("issue authority --out ca").succeeds();
    desk
}

/// The client of that name in `out` is one that delivery could use.
fn loads(desk: &Desk, name: &str) {
    let files = ClientTlsFiles {
        certificate: desk.path(&format!("out/{name}.crt")),
        key: desk.path(&format!("out/{name}.key")),
        roots: RootsSource::File(desk.path("ca/ca.crt")),
    };
    ClientTls::load(&files).unwrap_or_else(|error| panic!("{name}: {error:?}"));
}

fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let certificate = parse(certificate);
    let names = certificate.subject_alternative_name().unwrap().unwrap().value.general_names.iter();
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(text) => format!("dns {text}"),
        GeneralName::RFC822Name(text) => format!("email {text}"),
        GeneralName::URI(text) => format!("uri {text}"),
        GeneralName::IPAddress(bytes) => format!("ip {bytes:?}"),
        other => panic!("{other:?}"),
    };
    names.map(text).collect()
}

fn identifiers(certificate: &CertificateDer<'_>) -> (Vec<u8>, Option<Vec<u8>>) {
    let (mut own, mut issuer) = (None, None);
    for extension in parse(certificate).iter_extensions() {
        match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => own = Some(id.0.to_vec()),
            ParsedExtension::AuthorityKeyIdentifier(id) => issuer = id.key_identifier.as_ref().map(|id| id.0.to_vec()),
            _ => {}
        }
    }
    (own.unwrap(), issuer)
}

#[test]
fn server_and_client_say_what_verifiers_look_for() {
    let desk = with_authority();

    desk.cert(
        "issue server --authority ca --name peer.example --name *.a.example --name 10.0.0.7 --name ::1 --out out",
    )
    .succeeds();
    desk.cert("issue client --authority ca --common-name edge-001 --name spiffe://site/edge --name ops@peer.example --organization Acme --country DE --out out")
        .succeeds();

    let (ca, server, client) = (
        &desk.certificates("ca/ca.crt")[0],
        &desk.certificates("out/peer.example.crt")[0],
        &desk.certificates("out/edge-001.crt")[0],
    );
    assert_eq!(names(server)[..3], ["dns peer.example", "dns *.a.example", "ip [10, 0, 0, 7]"]);
    assert_eq!(names(client), ["uri spiffe://site/edge", "email ops@peer.example"]);
    assert_eq!(parse(client).subject().to_string(), "C=DE, O=Acme, CN=edge-001");
    for (certificate, days, is_server) in [(server, 90, true), (client, 90, false)] {
        let parsed = parse(certificate);
        let usage = parsed.extended_key_usage().unwrap().unwrap().value;
        assert_eq!((usage.server_auth, usage.client_auth), (is_server, !is_server));
        let usage = parsed.key_usage().unwrap().unwrap();
        assert!(usage.critical && usage.value.digital_signature() && usage.value.flags == 1, "{usage:?}");
        assert!(!parsed.is_ca() && parsed.basic_constraints().unwrap().unwrap().critical);
        assert_eq!(identifiers(certificate).1, Some(identifiers(ca).0));
        let (from, until) = (parsed.validity().not_before.timestamp(), parsed.validity().not_after.timestamp());
        let now = now().as_millis() / 1000;
        assert!((now - 400..now - 200).contains(&from), "five minutes ago, for clocks that are behind: {from} {now}");
        assert!((0..60).contains(&(now + days * DAY - until)), "{until} {now}");
        assert!(parsed.raw_serial().len() == 20 && parsed.raw_serial()[0] & 0x80 == 0, "{:?}", parsed.raw_serial());
    }
    assert_ne!(parse(server).raw_serial(), parse(client).raw_serial());
    let authority = parse(ca);
    assert!(authority.is_ca() && authority.key_usage().unwrap().unwrap().value.key_cert_sign());
    loads(&desk, "edge-001");
    let modes = ["ca/ca.key", "ca/ca.crt", "out/edge-001.key", "out/edge-001.crt"].map(|name| desk.mode(name));
    assert_eq!(modes, [0o600, 0o644, 0o600, 0o644]);
    assert_eq!(desk.files().len(), 6, "nothing else is left");
}

#[test]
fn every_kind_of_key_is_one_that_delivery_can_use() {
    let desk = with_authority();
    for kind in ["p256", "p384", "p521", "ed25519", "rsa2048", "rsa3072", "rsa4096"] {
        desk.cert(&format!("issue client --authority ca --key {kind} --common-name {kind} --out out")).succeeds();
        loads(&desk, kind);
    }
}

#[test]
fn authority_below_another_issues_with_its_chain() {
    let desk = with_authority();
    desk.cert("issue authority --under ca --common-name Site --path-length 1 --key p384 --out site").succeeds();
    desk.cert("issue authority --under site --common-name Department --key ed25519 --out department").succeeds();

    desk.cert("issue client --authority department --common-name edge-001 --out out").succeeds();

    let chain = desk.certificates("out/edge-001.crt");
    let subjects: Vec<String> = chain.iter().map(|one| parse(one).subject().to_string()).collect();
    assert_eq!(subjects, ["CN=edge-001", "CN=Department", "CN=Site"]);
    let lengths =
        chain[1..].iter().map(|one| parse(one).basic_constraints().unwrap().unwrap().value.path_len_constraint);
    assert_eq!(lengths.collect::<Vec<_>>(), [Some(0), Some(1)]);
    for pair in [&chain[..], &desk.certificates("ca/ca.crt")].concat().windows(2) {
        assert_eq!(identifiers(&pair[0]).1, Some(identifiers(&pair[1]).0));
    }
    loads(&desk, "edge-001");
    for (line, says) in [
        ("--under department --out more", "path length is 0"),
        ("--under site --common-name More --path-length 1 --out more", "path length is 1"),
        ("--under site --common-name Site --out more", "same name `Site`"),
        ("--under site --common-name More --lifetime 6y --out more", "its authority only until"),
    ] {
        desk.cert(&format!("issue authority {line}")).refuses(1, says);
        assert!(!desk.path("more").exists(), "{line}");
    }
}

#[test]
fn nothing_is_overwritten_and_nothing_is_left_half_made() {
    let desk = with_authority();
    desk.cert("issue client --authority ca --common-name edge --out out").succeeds();
    desk.write("out/other.crt", "mine");
    std::os::unix::fs::symlink("nowhere", desk.path("out/third.key")).unwrap();
    let before = desk.files();

    desk.cert("issue authority --out ca").refuses(1, "ca/ca.key exists already");
    desk.cert("issue client --authority ca --common-name edge --out out").refuses(1, "out/edge.key exists already");
    desk.cert("issue client --authority ca --common-name other --out out").refuses(1, "out/other.crt exists already");
    desk.cert("issue client --authority ca --common-name third --out out").refuses(1, "out/third.key exists already");
    desk.cert("issue client --authority ca --common-name edge --out no/such/folder").refuses(66, "no/such/folder");
    desk.cert("issue client --authority ca --common-name edge --out out/edge.crt").refuses(1, "out/edge.crt");

    assert_eq!(desk.files(), before);
}

#[test]
fn authority_that_cannot_issue_says_why() {
    let good = with_authority();
    good.cert("issue client --authority ca --common-name edge --out out").succeeds();
    let made = |period: Period| Authority::new("Made", period).unwrap();
    let (present, past, future) = (made(valid()), made(expired()), made(not_yet_valid()));
    let (certificate, key) = (good.read("ca/ca.crt"), good.read("ca/ca.key"));
    let leaf = (good.read("out/edge.crt"), good.read("out/edge.key"));
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\naGVsbG8=\n-----END ENCRYPTED PRIVATE KEY-----\n".to_owned();
    for (certificate, key, says) in [
        (past.certificate_pem(), past.key_pem(), "make a new one"),
        (future.certificate_pem(), future.key_pem(), "make a new one"),
        (leaf.0, leaf.1, "is not an authority's certificate"),
        (certificate.clone(), present.key_pem(), "does not belong to the authority's certificate"),
        (key.clone(), key.clone(), "but a private key"),
        (certificate.clone(), certificate.clone(), "but a certificate or a request"),
        (certificate.clone(), encrypted, "is encrypted"),
        (certificate.clone(), String::new(), "holds no private key"),
        (String::new(), key.clone(), "holds no certificate"),
        (certificate[..200].to_owned(), key.clone(), "the text is cut off"),
        (
            "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n".to_owned(),
            key.clone(),
            "cannot be read",
        ),
    ] {
        let desk = Desk::new();
        fs::create_dir(desk.path("ca")).unwrap();
        desk.write("ca/ca.crt", certificate);
        desk.write("ca/ca.key", key);
        let done = desk.cert("issue client --authority ca --common-name edge --out out");
        done.refuses(1, says);
        assert!(!desk.path("out").exists() && !done.stderr.contains("BEGIN"), "{done:?}");
    }

    good.cert("issue client --authority nowhere --common-name edge --out more").refuses(66, "cert issue authority");
    fs::set_permissions(good.path("ca/ca.key"), fs::Permissions::from_mode(0o644)).unwrap();
    good.cert("issue client --authority ca --common-name edge --out more").refuses(1, "open to everybody (mode 0644)");
}

#[test]
fn authority_with_any_byte_changed_is_refused_or_used() {
    let desk = with_authority();
    let good = desk.certificates("ca/ca.crt")[0].to_vec();
    let mut opened = 0;
    for at in 0..good.len() {
        for mask in [0x01, 0x10, 0x80, 0xff] {
            let mut der = good.clone();
            der[at] ^= mask;
            desk.write("ca/ca.crt", der);
            let Ok(authority) = Authority::open(&desk.path("ca"), now()) else { continue };
            opened += 1;
            // A name that cannot be written again is refused here.
            let _ = authority.client("edge", valid());
        }
    }
    assert!(opened > 100, "its signature is for those who trust it: {opened}");
}

#[test]
fn nothing_outlives_its_authority() {
    let desk = Desk::new();
    desk.cert("issue authority --lifetime 10d --out ca").succeeds();

    desk.cert("issue client --authority ca --common-name edge --out out").refuses(1, "choose a shorter lifetime");
    desk.cert("issue client --authority ca --common-name edge --lifetime 9d --out out").succeeds();

    let (certificate, until) = (&desk.certificates("out/edge.crt")[0], now() + Duration::from_secs(9 * 86_400));
    assert!(parse(certificate).validity().not_after.timestamp() <= until.as_millis() / 1000);
}

#[test]
fn what_cannot_stand_in_a_certificate_is_wrong_usage() {
    let desk = with_authority();
    for (line, says) in [
        ("server --authority ca --name peer.example:443 --out out", "no port"),
        ("server --authority ca --name 10.0.0.300 --out out", "neither a host name"),
        ("server --authority ca --out out", "--name"),
        ("client --authority ca --out out", "--common-name"),
        ("client --authority ca --common-name  --out out", "a part of a subject"),
        ("client --authority ca --common-name edge --country Germany --out out", "two capital letters"),
        ("client --authority ca --common-name edge --key dsa --out out", "possible values: p256"),
        ("client --authority ca --common-name edge --lifetime 3 --out out", "such as 90d"),
        ("client --authority ca --common-name edge --lifetime 1000y --out out", "at most 100y"),
    ] {
        desk.cert(&format!("issue {line}")).refuses(2, says);
        assert!(!desk.path("out").exists(), "{line}");
    }
}

#[test]
fn long_and_odd_names_make_harmless_files() {
    let desk = with_authority();
    let long = format!("{}.example", ["a".repeat(60), "b".repeat(60)].join("."));
    desk.cert(&format!("issue server --authority ca --name {long} --out out")).succeeds();
    desk.cert("issue server --authority ca --name *.peer.example --out out").succeeds();
    desk.cert("issue client --authority ca --common-name ../../x --out out").succeeds();

    let names: Vec<String> =
        desk.files().iter().map(|(path, _)| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    assert!(
        names.contains(&"wildcard.peer.example.crt".to_owned()) && names.contains(&"_._.._x.key".to_owned()),
        "{names:?}"
    );
    assert_eq!(desk.files().len(), 8);
}

#[test]
fn key_in_the_service_s_folder_is_for_the_service() {
    // Only root can give a folder to another group.
    if !rustix::process::getuid().is_root() {
        return;
    }
    let (desk, group) = (with_authority(), 4711);
    fs::create_dir(desk.path("tls")).unwrap();
    chown(desk.path("tls"), None, Some(group)).unwrap();

    desk.cert("issue client --authority ca --common-name edge --out tls").succeeds();
    desk.cert("issue client --authority ca --common-name edge --out tls/new").succeeds();
    desk.cert("request --common-name asked --out tls").succeeds();
    desk.cert("issue authority --out tls/ca").succeeds();

    let rights = |name: &str| (desk.mode(name), fs::metadata(desk.path(name)).unwrap().gid());
    for name in ["tls/edge.key", "tls/new/edge.key", "tls/asked.key"] {
        assert_eq!(rights(name), (0o640, group), "{name}");
    }
    assert_eq!(rights("tls/new"), (0o750, group));
    assert_eq!(rights("tls/ca/ca.key"), (0o600, 0), "the service has no need of it");
}

#[test]
fn json_names_the_files_and_the_certificate() {
    let desk = with_authority();

    let made = desk.cert("issue client --authority ca --common-name edge --out out --json").json();

    assert_eq!((made["certificate"].as_str(), made["key"].as_str()), (Some("out/edge.crt"), Some("out/edge.key")));
    assert_eq!(made["summary"]["subject"], "CN=edge");
    let shown = desk.cert("export out/edge.crt").succeeds().stdout;
    assert!(shown.contains(made["summary"]["sha256"].as_str().unwrap()), "{shown}");
}
