//! Certificate files are checked before use.

use std::fs;

use postern::tls::{
    ClientTls, ClientTlsError, ClientTlsFiles, CredentialsError, RootsError, RootsSource, Validity,
    issue::{Authority, Issued},
};

use crate::support::pki::{Pki, expired, not_yet_valid, now, valid};

fn refused(files: &ClientTlsFiles) -> CredentialsError {
    match ClientTls::load(files) {
        Err(ClientTlsError::Credentials(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn good_files_load_and_say_whom_they_name() {
    let pki = Pki::new();

    let tls = pki.client_tls();

    let credentials = tls.credentials();
    assert_eq!(credentials.subject(), "CN=Test client");
    assert_eq!(credentials.validity_at(now()), Validity::Valid);
    assert!(credentials.not_before() < now() && now() < credentials.not_after());
    assert_eq!(credentials.fingerprint(), pki.client_tls().credentials().fingerprint());
    assert_ne!(credentials.fingerprint(), Pki::new().client_tls().credentials().fingerprint());
    assert!(!format!("{tls:?}").contains("PRIVATE"));
}

#[test]
fn certificate_outside_its_dates_loads_and_says_so() {
    let pki = Pki::new();
    let validity = |period| {
        let tls = ClientTls::load(&pki.files_of(&pki.authority.client("Old", period).unwrap())).unwrap();
        let credentials = tls.credentials().clone();
        (credentials.validity_at(now()), credentials.not_before(), credentials.not_after())
    };

    let (past, _, end) = validity(expired());
    assert_eq!(past, Validity::Expired(end));
    let (future, start, _) = validity(not_yet_valid());
    assert_eq!(future, Validity::NotYetValid(start));
}

#[test]
fn key_of_another_certificate_is_refused() {
    let pki = Pki::new();
    let other = pki.authority.client("Other", valid()).unwrap();
    let mixed = Issued { key_pem: other.key_pem, ..pki.client.clone() };

    let error = refused(&pki.files_of(&mixed));

    assert!(matches!(error, CredentialsError::KeyMismatch { .. }), "{error:?}");
}

#[test]
fn key_open_to_everybody_is_refused_and_to_the_group_is_not() {
    let pki = Pki::new();
    let mut files = pki.client_files();
    for mode in [0o644, 0o604, 0o602, 0o601, 0o777] {
        files.key = pki.write("client.key", &pki.client.key_pem, mode);
        let error = refused(&files);
        assert!(matches!(error, CredentialsError::KeyOpenToEverybody { mode: seen, .. } if seen == mode), "{error:?}");
        assert!(error.to_string().contains("chmod 0640"));
    }
    for mode in [0o600, 0o640, 0o440, 0o400] {
        fs::remove_file(&files.key).unwrap();
        files.key = pki.write("client.key", &pki.client.key_pem, mode);
        ClientTls::load(&files).unwrap();
    }
}

#[test]
fn certificate_for_servers_is_refused() {
    let pki = Pki::new();

    let error = refused(&pki.files_of(&pki.server));

    assert!(matches!(error, CredentialsError::NotForClients { .. }), "{error:?}");
    assert!(error.to_string().contains("clientAuth"));
}

#[test]
fn chain_that_is_not_whole_is_refused() {
    let pki = Pki::new();
    let site = pki.authority.subordinate("Site authority", valid()).unwrap();
    let department = site.subordinate("Department authority", valid()).unwrap();
    let client = department.client("Test client", valid()).unwrap();
    let with_chain = |certificates: &[&str]| Issued { certificate_pem: certificates.concat(), ..client.clone() };
    let (site_pem, department_pem) = (site.certificate_pem(), department.certificate_pem());
    let leaf = client.certificate_pem.strip_suffix(&format!("{department_pem}{site_pem}")).unwrap();
    let impostor = Authority::new("Department authority", valid()).unwrap();
    let client_as_issuer = pki.authority.client("Department authority", valid()).unwrap();

    for whole in [
        with_chain(&[leaf]),
        with_chain(&[leaf, &department_pem]),
        with_chain(&[leaf, &department_pem, &site_pem]),
        with_chain(&[leaf, &department_pem, &site_pem, &pki.authority.certificate_pem()]),
    ] {
        ClientTls::load(&pki.files_of(&whole)).unwrap();
    }
    for (broken, at) in [(with_chain(&[leaf, &site_pem]), 1), (with_chain(&[leaf, &site_pem, &department_pem]), 1)] {
        let error = refused(&pki.files_of(&broken));
        assert!(matches!(error, CredentialsError::ChainNotInOrder { position, .. } if position == at), "{error:?}");
    }
    for forged in [impostor.certificate_pem(), client_as_issuer.certificate_pem] {
        let error = refused(&pki.files_of(&with_chain(&[leaf, &forged])));
        assert!(matches!(error, CredentialsError::ChainBroken { .. }), "{error:?}");
    }
}

#[test]
fn files_that_are_not_what_they_should_be_are_told_apart() {
    let pki = Pki::new();
    let good = pki.client_files();
    let empty = pki.write("empty", "", 0o600);
    let text = pki.write("text", "-----BEGIN CERTIFICATE-----\nhello", 0o600);
    let der = pki.write("der", "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n", 0o600);
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\naGVsbG8=\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let encrypted = pki.write("encrypted", encrypted, 0o600);
    let nonsense = "-----BEGIN PRIVATE KEY-----\naGVsbG8=\n-----END PRIVATE KEY-----\n";
    let nonsense = pki.write("nonsense", nonsense, 0o600);
    let large = pki.write("large", &"x".repeat(1024 * 1024 + 1), 0o600);
    let missing = pki.path().join("missing");

    use CredentialsError as E;
    let certificate = |path: &std::path::Path| refused(&ClientTlsFiles { certificate: path.into(), ..good.clone() });
    assert!(matches!(certificate(&missing), E::CertificateUnreadable { .. }));
    assert!(matches!(certificate(&large), E::CertificateUnreadable { .. }));
    assert!(matches!(certificate(pki.path()), E::CertificateUnreadable { .. }));
    assert!(matches!(certificate(&empty), E::NoCertificate { .. }));
    assert!(matches!(certificate(&good.key), E::NoCertificate { .. }));
    assert!(matches!(certificate(&text), E::CertificateNotPem { .. }));
    assert!(matches!(certificate(&der), E::CertificateMalformed { position: 1, .. }));

    let key = |path: &std::path::Path| refused(&ClientTlsFiles { key: path.into(), ..good.clone() });
    assert!(matches!(key(&missing), E::KeyUnreadable { .. }));
    assert!(matches!(key(&empty), E::NoKey { .. }));
    assert!(matches!(key(&encrypted), E::KeyEncrypted { .. }));
    assert!(matches!(key(&nonsense), E::KeyUnusable { .. }));

    let roots = ClientTlsFiles { roots: RootsSource::File(empty), ..good };
    assert!(matches!(ClientTls::load(&roots), Err(ClientTlsError::Roots(RootsError::Empty { .. }))));
}

#[test]
fn public_roots_load() {
    let pki = Pki::new();

    ClientTls::load(&ClientTlsFiles { roots: RootsSource::Public, ..pki.client_files() }).unwrap();
}
