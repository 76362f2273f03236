//! `cert request` and `cert install`: what an authority answered is put in place, or nothing changes.
use rustls::pki_types::{CertificateDer, pem::PemObject};

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    thread,
};

use postern::tls::{
    ClientTls, ClientTlsError, ClientTlsFiles, CredentialsError, RootsSource,
    answer::Answer,
    issue::{Authority, PrivateKey},
};
use rcgen::{CertificateSigningRequestParams, ExtendedKeyUsagePurpose, SanType};

use super::{Desk, answer, answer_as, parse};
use crate::support::{
    appliance::Appliance,
    pki::{Pki, now, valid},
};

const INSTALL: &str = "install answer.pem --key edge/edge-001.key --certificate edge/edge-001.crt";

/// A desk with a request in `edge`, an authority `company` below `root`, and its answer.
fn asked() -> (Desk, String) {
    let desk = Desk::new();
    for line in [
        "issue authority --out root",
        "issue authority --under root --out company",
        "request --common-name edge-001 --organization Acme --country DE --name edge-001.example --name 10.0.0.7 --out edge",
    ] {
        desk.cert(line).succeeds();
    }
    let leaf = answer(&desk, "company", "edge/edge-001.csr");
    (desk, leaf)
}

#[test]
fn request_says_who_asks_for_what_and_proves_the_key() {
    let (desk, _) = asked();

    // Checks the signature too.
    let asked = CertificateSigningRequestParams::from_pem(&desk.read("edge/edge-001.csr")).unwrap().params;

    assert_eq!(asked.extended_key_usages, [ExtendedKeyUsagePurpose::ClientAuth]);
    let name = SanType::DnsName("edge-001.example".try_into().unwrap());
    assert_eq!(asked.subject_alt_names, [name, SanType::IpAddress([10, 0, 0, 7].into())]);
    assert_eq!([desk.mode("edge/edge-001.key"), desk.mode("edge/edge-001.csr")], [0o600, 0o644]);
    desk.cert("request --common-name edge-001 --out edge").refuses(1, "edge/edge-001.key exists already");

    let key = desk.read("edge/edge-001.key");
    let again = desk.cert("request --common-name edge-001 --existing-key edge/edge-001.key --out again --json").json();
    assert_eq!(again["key"], "edge/edge-001.key");
    assert!(!desk.path("again/edge-001.key").exists() && desk.read("edge/edge-001.key") == key);
    let public = |name: &str| CertificateSigningRequestParams::from_pem(&desk.read(name)).unwrap().public_key;
    assert_eq!(public("again/edge-001.csr"), public("edge/edge-001.csr"));
    desk.cert("request --common-name edge-001 --existing-key root/ca.crt --out other").refuses(1, "root/ca.crt");
    desk.cert("request --common-name edge-001 --existing-key nowhere --out other").refuses(66, "nowhere");
    assert!(!desk.path("other").exists());
}

#[test]
fn answer_is_put_in_order_whatever_its_form() {
    let (desk, leaf) = asked();
    let (company, root) = (desk.read("company/ca.crt"), desk.read("root/ca.crt"));
    let whole = format!("{leaf}{company}");
    let other = Authority::new("Somebody else", valid()).unwrap().certificate_pem();
    let der = parse_der(&leaf);
    desk.write("company.pem", format!("subject=CN=Company\n{company}"));
    desk.write("key.pem", desk.read("root/ca.key"));
    for (form, bytes, option, wanted) in [
        ("with its chain", whole.clone().into_bytes(), "", &whole),
        ("backwards", format!("{company}{leaf}").into(), "", &whole),
        ("with the root first", format!("{root}{company}{leaf}").into(), "", &whole),
        ("with all of it twice", format!("{whole}{root}{whole}{root}").into(), "", &whole),
        ("with another authority", format!("{other}{whole}{root}").into(), "", &whole),
        ("from Windows", format!("\u{feff}{whole}").replace('\n', "\r\n").into(), "", &whole),
        ("with words", format!("Dear customer,\n{leaf}and its issuer\n{company}Yours").into(), "", &whole),
        ("alone", leaf.clone().into(), "", &leaf),
        ("alone, the rest beside it", leaf.clone().into(), " --chain company.pem", &whole),
        ("alone as DER", der.clone(), "", &leaf),
        ("alone as DER, the rest beside it", der, " --chain company.pem", &whole),
        ("with a key in it", format!("{}{whole}", desk.read("key.pem")).into(), "", &whole),
    ] {
        let _ = fs::remove_file(desk.path("edge/edge-001.crt"));
        desk.write("answer.pem", bytes);
        let done = desk.cert(&format!("{INSTALL}{option}")).succeeds();
        assert_eq!(desk.read("edge/edge-001.crt"), *wanted, "{form}");
        assert!(done.stdout.contains("CN=edge-001") && done.stdout.contains("in place"), "{form}: {done:?}");
        assert_eq!(done.stdout.contains("left out: CN=Somebody else"), form == "with another authority", "{done:?}");
    }
    assert_eq!(desk.mode("edge/edge-001.crt"), 0o644);
}

fn parse_der(pem: &str) -> Vec<u8> {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
}

/// As Windows authorities answer: certificates in PKCS#7, in any order, in PEM or DER.
#[test]
fn answer_in_pkcs7_is_put_into_order() {
    let (desk, leaf) = asked();
    let ders = |pem: &str| -> Vec<Vec<u8>> {
        CertificateDer::pem_slice_iter(pem.as_bytes()).map(|der| der.unwrap().to_vec()).collect()
    };
    let (company, root) = (desk.read("company/ca.crt"), desk.read("root/ca.crt"));
    let envelope = pkcs7(&[ders(&root), ders(&company), ders(&leaf)].concat());
    for bytes in [envelope.clone(), pem::encode(&pem::Pem::new("PKCS7", envelope)).into_bytes()] {
        desk.write("answer.pem", bytes);

        let done = desk.cert(INSTALL).succeeds();

        assert_eq!(desk.read("edge/edge-001.crt"), format!("{leaf}{}", &company), "{done:?}");
    }
}

/// A degenerate SignedData (RFC 2315, 9.1): certificates, and no signature.
fn pkcs7(certificates: &[Vec<u8>]) -> Vec<u8> {
    let der = |tag: u8, parts: &[&[u8]]| -> Vec<u8> {
        let contents = parts.concat();
        let length = u16::try_from(contents.len()).unwrap().to_be_bytes();
        [&[tag, 0x82, length[0], length[1]], contents.as_slice()].concat()
    };
    let (signed_data, data) =
        (b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02", b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01");
    let (version, none) = (b"\x02\x01\x01", b"\x31\x00");
    let certificates = der(0xa0, &[&certificates.concat()]);
    let inner = der(0x30, &[version, none, &der(0x30, &[data]), &certificates, none]);
    der(0x30, &[signed_data, &der(0xa0, &[&inner])])
}

#[test]
fn refusal_says_why_and_changes_nothing() {
    let (desk, leaf) = asked();
    let (company, root) = (desk.read("company/ca.crt"), desk.read("root/ca.crt"));
    let changed = |change: &dyn Fn(&mut rcgen::CertificateParams)| {
        answer_as(&desk, "company", "edge/edge-001.csr", |params| change(params)) + &company
    };
    let year = |year| rcgen::date_time_ymd(year, 1, 1);
    desk.cert("issue client --authority company --common-name other --out other").succeeds();
    desk.cert("issue authority --under root --out impostor").succeeds();
    desk.write("edge/edge-001.crt", &root);
    let nameless = changed(&|params| params.use_authority_key_identifier_extension = false);
    let forged = nameless.replace(&company, &desk.read("impostor/ca.crt"));
    for (answer, says) in [
        (desk.read("other/other.crt"), "belongs to private key edge/edge-001.key"),
        (changed(&|params| params.not_after = year(2020)), "install one that is valid now"),
        (changed(&|params| params.not_before = params.not_after), "install one that is valid now"),
        (changed(&|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]), "not for clients"),
        (format!("{leaf}{root}"), "add it with --chain"),
        (format!("{leaf}{}", desk.read("impostor/ca.crt")), "add it with --chain"),
        (forged, "does not hold"),
        (nameless.replace(&company, &endless()), "add it with --chain"),
        (desk.read("edge/edge-001.csr"), "but a request"),
        (desk.read("edge/edge-001.key"), "but a private key"),
        ("-----BEGIN PKCS7-----\nMAA=\n-----END PKCS7-----\n".to_owned(), "a PKCS7 in it cannot be read"),
        (leaf[..leaf.len() / 2].to_owned(), "the text is cut off"),
        ("<html>Forbidden</html>".to_owned(), "holds no certificate"),
        (String::new(), "holds no certificate"),
    ] {
        desk.write("answer.pem", &answer);
        let before = desk.files();
        let done = desk.cert(INSTALL);
        done.refuses(1, says);
        assert_eq!(desk.files(), before, "{says}");
        assert!(done.stdout.is_empty() && !done.stderr.contains("BEGIN C"), "{done:?}");
    }

    desk.write("answer.pem", leaf + &company);
    symlink("edge-001.crt", desk.path("edge/link.crt")).unwrap();
    let before = desk.files();
    for (line, code, says) in [
        ("answer.pem --key edge/edge-001.key --certificate edge/edge-001.key", 1, "are one file"),
        ("answer.pem --key edge/edge-001.key --certificate edge/link.crt", 1, "not a regular file"),
        ("answer.pem --key edge/edge-001.crt --certificate edge/new.crt", 1, "holds no private key"),
        ("answer.pem --key edge/edge-001.key --certificate other/other.key", 1, "it is no certificate"),
        (
            "answer.pem --new-key edge/edge-001.key --key root/ca.crt --certificate edge/new.crt",
            1,
            "it is no private key",
        ),
        ("answer.pem --key answer.pem --certificate edge/new.crt", 1, "but a certificate"),
        ("answer.pem --key nowhere --certificate edge/new.crt", 66, "nowhere"),
        ("nowhere --key edge/edge-001.key --certificate edge/new.crt", 66, "nowhere"),
        ("answer.pem --key edge/edge-001.key --certificate no/new.crt", 66, "no/new.crt"),
        ("answer.pem --chain nowhere --key edge/edge-001.key --certificate edge/new.crt", 66, "nowhere"),
        ("answer.pem --key edge/edge-001.key", 2, "--certificate"),
        ("answer.pem --destination crm --key edge/edge-001.key", 2, "cannot be used with"),
        ("answer.pem --destination crm --config nowhere.toml", 66, "nowhere.toml"),
    ] {
        desk.cert(&format!("install {line}")).refuses(code, says);
        assert_eq!(desk.files(), before, "{line}");
    }
}

/// Authorities that seem to issue each other without end: as many as a file may hold.
fn endless() -> String {
    let named = |name: &str| {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params
    };
    let names = ["Private intermediate authority", "Another"];
    let [one, other] = [[0, 1], [1, 0]].map(|[subject, issuer]| {
        let issuer = rcgen::Issuer::new(named(names[issuer]), rcgen::KeyPair::generate().unwrap());
        named(names[subject]).signed_by(&rcgen::KeyPair::generate().unwrap(), &issuer).unwrap().der().to_vec()
    });
    let pem = |number: usize| {
        let mut der = if number.is_multiple_of(2) { one.clone() } else { other.clone() };
        // In its signature, which is looked at last.
        let at = der.len() - 8;
        der[at..].copy_from_slice(&number.to_be_bytes());
        pem::encode(&pem::Pem::new("CERTIFICATE", der))
    };
    (0..1400).map(pem).collect()
}

#[test]
fn answer_with_any_byte_changed_is_refused() {
    let (desk, leaf) = asked();
    let key = desk.path("edge/edge-001.key");
    let key = (&key, &PrivateKey::load(&key).unwrap());
    desk.write("company.pem", desk.read("company/ca.crt"));
    let load = |der: &[u8]| {
        desk.write("answer.der", der);
        Answer::load(&desk.path("answer.der"), Some(&desk.path("company.pem")), key.0, key.1, now())
    };
    let good = parse_der(&leaf);
    assert!(load(&good).is_ok());
    for at in 0..good.len() {
        for mask in [0x01, 0x80, 0xff] {
            let mut der = good.clone();
            der[at] ^= mask;
            assert!(load(&der).is_err(), "byte {at}, {mask:#x}");
        }
        assert!(load(&good[..at]).is_err(), "cut at {at}");
    }
}

#[test]
fn what_is_replaced_is_kept_and_the_key_goes_first() {
    let (desk, leaf) = asked();
    desk.write("answer.pem", leaf);
    desk.cert(INSTALL).succeeds();
    let (key, certificate) = (desk.read("edge/edge-001.key"), desk.read("edge/edge-001.crt"));
    fs::set_permissions(desk.path("edge/edge-001.key"), fs::Permissions::from_mode(0o640)).unwrap();
    desk.cert("request --common-name edge-001 --key p384 --out renewal").succeeds();
    desk.write("renewed.pem", answer(&desk, "company", "renewal/edge-001.csr") + &desk.read("company/ca.crt"));
    let renew =
        "install renewed.pem --new-key renewal/edge-001.key --key edge/edge-001.key --certificate edge/edge-001.crt";

    let renewed = desk.cert(&format!("{renew} --json")).json();

    assert_eq!(renewed["kept"].as_array().unwrap().len(), 2, "{renewed}");
    assert_eq!(desk.read("edge/edge-001.key"), desk.read("renewal/edge-001.key"));
    assert_eq!(desk.read("edge/edge-001.crt"), desk.read("renewed.pem"));
    assert_eq!([desk.read("edge/edge-001.key.previous"), desk.read("edge/edge-001.crt.previous")], [key, certificate]);
    assert_eq!([desk.mode("edge/edge-001.key"), desk.mode("edge/edge-001.key.previous")], [0o640; 2]);
    let changed = |name: &str| fs::metadata(desk.path(name)).map(|file| (file.ctime(), file.ctime_nsec())).unwrap();
    assert!(changed("edge/edge-001.key") <= changed("edge/edge-001.crt"), "the key was there before its certificate");

    // Once more is once.
    let before = desk.files();
    let again = desk.cert(&format!("{renew} --json")).json();
    assert_eq!((again["new"].as_bool(), desk.files() == before), (Some(false), true));
}

#[test]
fn reader_meets_whole_files_only_and_a_good_pair_after_each_install() {
    let (desk, _) = asked();
    desk.cert("request --common-name edge-001 --key rsa2048 --out other").succeeds();
    for name in ["edge", "other"] {
        desk.write(&format!("{name}.pem"), answer(&desk, "company", &format!("{name}/edge-001.csr")));
    }
    let install = |name: &str| {
        let line =
            format!("install {name}.pem --new-key {name}/edge-001.key --key in-use.key --certificate in-use.crt");
        desk.cert(&line).succeeds();
    };
    let files = ClientTlsFiles {
        certificate: desk.path("in-use.crt"),
        key: desk.path("in-use.key"),
        roots: RootsSource::File(desk.path("root/ca.crt")),
    };
    install("edge");

    thread::scope(|scope| {
        let installs = scope.spawn(|| {
            for name in ["other", "edge"].repeat(10) {
                install(name);
                ClientTls::load(&files).unwrap();
            }
        });
        let mut good = 0;
        while !installs.is_finished() {
            match ClientTls::load(&files) {
                Ok(_) => good += 1,
                // One of them was read before it changed.
                Err(ClientTlsError::Credentials(CredentialsError::KeyMismatch { .. })) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
        installs.join().unwrap();
        assert!(good > 20, "{good}");
    });
}

#[test]
fn install_that_was_interrupted_is_completed_by_the_next() {
    let (desk, leaf) = asked();
    desk.write("answer.pem", leaf);
    desk.cert(INSTALL).succeeds();
    let certificate = desk.read("edge/edge-001.crt");
    desk.cert("request --common-name edge-001 --out renewal").succeeds();
    desk.write("renewed.pem", answer(&desk, "company", "renewal/edge-001.csr"));
    // As a power cut between the two leaves it.
    desk.write("edge/edge-001.key", desk.read("renewal/edge-001.key"));

    desk.cert(
        "install renewed.pem --new-key renewal/edge-001.key --key edge/edge-001.key --certificate edge/edge-001.crt",
    )
    .succeeds();

    assert_eq!(desk.read("edge/edge-001.crt"), desk.read("renewed.pem"));
    assert_eq!(desk.read("edge/edge-001.crt.previous"), certificate);
    assert!(!desk.path("edge/edge-001.key.previous").exists(), "the key was not replaced");
}

#[test]
fn file_in_the_way_of_what_is_kept_is_not_touched() {
    let (desk, leaf) = asked();
    desk.write("edge/edge-001.crt", desk.read("root/ca.crt"));
    desk.write("answer.pem", leaf);
    desk.write("edge/edge-001.crt.previous", "my notes");
    let before = desk.files();

    desk.cert(INSTALL).refuses(1, "edge/edge-001.crt.previous is in the way");
    assert_eq!(desk.files(), before);

    // One that was kept before gives way, and that is said.
    desk.write("edge/edge-001.crt.previous", desk.read("company/ca.crt"));
    let done = desk.cert(INSTALL).succeeds();
    assert!(done.stderr.contains("edge/edge-001.crt.previous is replaced"), "{done:?}");
    assert_eq!(desk.read("edge/edge-001.crt.previous"), desk.read("root/ca.crt"));
}

#[test]
fn destination_whose_files_are_missing_gets_them() {
    let (desk, leaf) = asked();
    desk.write("answer.pem", leaf);
    let postern = Appliance::set_up(&Pki::new()).destination("crm", "https://127.0.0.1:1/").write();
    let config = fs::read_to_string(postern.config_file()).unwrap();
    let line = config.lines().find(|line| line.starts_with("tls = ")).unwrap();
    let [certificate, key] = [1, 3].map(|at| line.split('"').nth(at).unwrap().to_owned());
    fs::remove_file(&certificate).unwrap();
    fs::remove_file(&key).unwrap();
    let install = |name: &str| {
        let (answer, key) = (desk.path("answer.pem"), desk.path("edge/edge-001.key"));
        let line =
            ["cert", "install", answer.to_str().unwrap(), "--new-key", key.to_str().unwrap(), "--destination", name];
        postern.verb(&line)
    };
    postern.verb(&["check"]).refuses(78, "cannot read client certificate");

    install("unknown").refuses(66, "no destination `unknown`");
    install("crm").succeeds();

    postern.verb(&["check"]).succeeds();
    assert_eq!(fs::read_to_string(&certificate).unwrap(), desk.read("answer.pem"));
    let exported = postern.verb(&["cert", "export", "--destination", "crm"]).succeeds().stdout;
    assert!(exported.contains("# subject: CN=edge-001,O=Acme,C=DE\n"), "{exported}");
}

#[test]
fn export_gives_certificates_with_what_they_are_and_nothing_else() {
    let (desk, leaf) = asked();
    let company = desk.read("company/ca.crt");
    desk.write("both.pem", desk.read("edge/edge-001.key") + &leaf + &company);

    let one = desk.cert("export both.pem").succeeds().stdout;
    let all = desk.cert("export both.pem --chain").succeeds().stdout;
    desk.cert("export both.pem --chain --out partner.pem").succeeds();

    let pem = |text: &str| {
        text.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect::<String>()
    };
    assert_eq!([pem(&one), pem(&all)], [leaf.clone(), leaf + &company]);
    assert_eq!((desk.read("partner.pem"), desk.mode("partner.pem")), (all, 0o644));
    let subject = parse(&desk.certificates("partner.pem")[1]).subject().to_string();
    assert!(desk.read("partner.pem").contains(&format!("# subject: {subject}\n")));
    desk.cert("export both.pem --out partner.pem").refuses(1, "partner.pem exists already");
    desk.cert("export edge/edge-001.key").refuses(1, "keep this one to yourself");
    desk.cert("export nowhere").refuses(66, "nowhere");
    desk.cert("export").refuses(2, "<FILE>");
}

#[test]
fn name_in_a_certificate_writes_no_lines_of_its_own() {
    let (desk, _) = asked();
    let evil = "x\n-----BEGIN CERTIFICATE-----\u{1b}[31m";
    let leaf = answer_as(&desk, "company", "edge/edge-001.csr", |params| {
        params.distinguished_name.push(rcgen::DnType::CommonName, evil);
    });
    desk.write("answer.pem", leaf);

    let installed = desk.cert(INSTALL).succeeds();
    let exported = desk.cert("export edge/edge-001.crt").succeeds();

    assert!(installed.stdout.contains(r"x\0A-----BEGIN") && !installed.stdout.contains('\u{1b}'), "{installed:?}");
    assert_eq!(exported.stdout.lines().filter(|line| line.starts_with("-----BEGIN")).count(), 1, "{exported:?}");
}

/// The appliance uses it after a restart, and a person on the way back.
#[test]
fn what_is_kept_is_a_pair() {
    let (desk, leaf) = asked();
    let answered = |request: &str| answer(&desk, "company", request) + &desk.read("company/ca.crt");
    desk.write("answer.pem", leaf + &desk.read("company/ca.crt"));
    desk.cert(INSTALL).succeeds();
    desk.cert("request --common-name edge-001 --out renewal").succeeds();
    desk.write("answer.pem", answered("renewal/edge-001.csr"));
    desk.cert(&format!("{INSTALL} --new-key renewal/edge-001.key")).succeeds();
    desk.cert("request --common-name edge-001 --existing-key edge/edge-001.key --out again").succeeds();
    desk.write("answer.pem", answered("again/edge-001.csr"));

    desk.cert(INSTALL).succeeds();

    desk.cert("verify edge/edge-001.crt.previous --key edge/edge-001.key.previous").succeeds();
    desk.cert("verify edge/edge-001.crt --key edge/edge-001.key").succeeds();
}

#[test]
fn key_that_is_open_to_everybody_is_closed() {
    let (desk, leaf) = asked();
    desk.write("answer.pem", leaf + &desk.read("company/ca.crt"));
    desk.cert(INSTALL).succeeds();
    desk.write("copy.key", desk.read("edge/edge-001.key"));
    fs::set_permissions(desk.path("edge/edge-001.key"), fs::Permissions::from_mode(0o644)).unwrap();

    desk.cert(&format!("{INSTALL} --new-key copy.key")).succeeds();

    assert_eq!(desk.mode("edge/edge-001.key") & 0o007, 0);
}

#[test]
fn certificate_that_ends_earlier_is_said_so() {
    let (desk, leaf) = asked();
    desk.write("answer.pem", leaf + &desk.read("company/ca.crt"));
    desk.cert(INSTALL).succeeds();
    let shorter = answer_as(&desk, "company", "edge/edge-001.csr", |params| {
        params.not_after = params.not_before + std::time::Duration::from_secs(5 * 86_400);
    });
    desk.write("answer.pem", shorter + &desk.read("company/ca.crt"));

    let done = desk.cert(INSTALL).succeeds();

    assert!(done.stderr.contains("before the one that is replaced"), "{done:?}");
}

#[test]
fn pipe_is_refused_and_not_waited_for() {
    let (desk, _) = asked();
    assert!(std::process::Command::new("mkfifo").arg(desk.path("pipe")).status().unwrap().success());
    for line in [
        "inspect pipe",
        "verify pipe",
        "needs-renewal pipe",
        "export pipe",
        "install pipe --key edge/edge-001.key --certificate edge/edge-001.crt",
        "verify edge/edge-001.csr --roots pipe",
    ] {
        let done = desk.cert(line);
        assert!(done.code != 0 && done.stderr.contains("not a regular file") || line.contains("--roots"), "{done:?}");
    }
}
