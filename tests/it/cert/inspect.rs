//! What files hold, whatever that is.

use std::{collections::BTreeSet, fs, io::Write, process::Stdio};

use serde_json::Value;

use super::{joined, run, sample, samples};
use crate::support::{
    appliance::{Appliance, command},
    pki::{Pki, expired, valid},
};

/// Each sample: the exit code, and a phrase of what is said.
const SAMPLES: &[(&str, i32, &str)] = &[
    ("all-key-usages.pem", 0, "keyCertSign, cRLSign, encipherOnly, decipherOnly, anyExtendedKeyUsage"),
    ("announces-too-much.der", 1, "it is cut off: 4294967295 bytes are announced and 0 are there"),
    ("authorities.pem", 0, "PEM, 2 certificates"),
    ("blank.pem", 1, "the file is empty"),
    ("bmp-name.pem", 0, "CN=客,O=顧客"),
    (
        "broken-extension.pem",
        1,
        "broken-extension: an extension of certificate 1 (`Broken extension`) is broken: 2.5.29.17",
    ),
    ("byte-order-mark.pem", 0, "PEM, 1 certificate"),
    ("chain-ber.p7b", 0, "DER, 2 certificates"),
    ("chain-der.p7b", 0, "DER, 2 certificates"),
    ("chain-with-root.pem", 0, "root-in-chain"),
    ("chain.p12", 0, "DER, 2 certificates"),
    ("chain.p7b", 0, "PEM, 2 certificates"),
    ("chain.pem", 0, "CN=Shop issuing,O=Shop (certificate 2)"),
    ("client.der", 0, "DER, 1 certificate"),
    ("client.pem", 0, "CN=Billing client,OU=Billing,O=Shop"),
    ("code-signing.pem", 0, "purpose: certificate 1 (`Not for connections`) is for neither clients nor servers"),
    ("constrained-server.pem", 0, "CN=Shop\\, for its own names,O=Shop"),
    ("constrained.pem", 0, "DNS:.shop.example, IP:10.0.0.0/255.0.0.0, email:shop.example"),
    ("control-characters.pem", 0, "CN=red \\1B[31m and \\07 bell"),
    ("crlf.pem", 0, "PEM, 2 certificates"),
    ("cut-inside.pem", 1, "unreadable: CERTIFICATE: it is cut off"),
    ("dsa.pem", 1, "unusable-key: certificate 1 (`DSA`) has a key (DSA 2048)"),
    ("duplicate.pem", 0, "duplicate: certificate 2 (`Billing client`) is the same as certificate 1"),
    ("ed25519.pem", 0, "Ed25519"),
    ("ed448.pem", 1, "has a key (Ed448) with which TLS here cannot work"),
    ("empty.pem", 1, "the file is empty"),
    ("escaped-name.pem", 0, r#"CN=second,CN=\#first,O=\ a\, \"b\" \+ \<c\>\; \\d=e#f\ "#),
    ("expired.pem", 1, "expired: certificate 1 (`Expired client`) expired at 2020-01-01T00:00:00Z"),
    ("explicit-curve.pem", 1, "has a key (EC 256)"),
    ("forged-request.der", 1, "request-signature: the request is not signed by the key that it names"),
    ("high-serial.pem", 0, "ff00ff"),
    ("huge-serial.pem", 0, "7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f"),
    ("indented.pem", 0, "PEM, 1 certificate"),
    ("intermediate.pem", 0, "yes, at most 0 authorities below it"),
    (
        "ip-and-uri.pem",
        0,
        "IP:10.0.0.7, IP:2001:db8::7, IP:::1, URI:spiffe://shop.example/billing, email:ops@shop.example",
    ),
    ("latin-name.pem", 0, "CN=Zoë,O=Grüße"),
    ("legacy.p12", 1, "it is under a pass phrase"),
    (
        "list-out-of-date.pem",
        0,
        "list-out-of-date: the next revocation list of `CN=Shop issuing,O=Shop` was due at 2020-02-01",
    ),
    ("list.der", 0, "DER, 1 revocation list"),
    ("list.pem", 0, "revoked       1"),
    ("many-names.pem", 0, "DNS:host-120.shop.example"),
    ("multi-valued.pem", 0, "+"),
    ("negative-serial.pem", 0, "-123456"),
    ("nested.der", 1, "bytes that are nothing known"),
    ("never-valid.pem", 1, "never-valid"),
    ("no-cn.pem", 0, "OU=Nameless,O=Shop"),
    ("no-final-newline.pem", 0, "PEM, 1 certificate"),
    ("no-subject.pem", 0, "certificate 1: urn:uuid:7a1d8d0e-0000-4000-8000-000000000001"),
    (
        "not-yet-valid.pem",
        1,
        "not-yet-valid: certificate 1 (`Client of the future`) is valid from 2100-01-01T00:00:00Z only",
    ),
    ("other-label.pem", 0, "other: it also holds `EC PARAMETERS`"),
    ("p384.pem", 0, "EC P-384"),
    ("p521.pem", 0, "EC P-521"),
    ("passphrase.p12", 1, "say --passphrase-file"),
    ("public-key.pem", 0, "EC P-256 public key"),
    ("request-with-names.pem", 0, "ecdsa-with-SHA512, holds"),
    ("request.der", 0, "ecdsa-with-SHA256, holds"),
    ("request.pem", 0, "CN=Billing client,OU=Billing,O=Shop"),
    ("root.pem", 0, "CN=Shop root,O=Shop (itself)"),
    ("rsa-1024-sha1.pem", 1, "weak-key: certificate 1 (`RSA 1024`) has an RSA key of 1024 bits"),
    ("rsa-2048.pem", 0, "RSA 2048"),
    ("rsa-3072.pem", 0, "RSA 3072"),
    ("rsa-pss.pem", 1, "RSA-PSS 2048"),
    ("rubbish.bin", 1, "it is neither PEM (no `-----BEGIN …-----`) nor DER"),
    ("secp256k1.pem", 1, "EC secp256k1"),
    ("self-signed.pem", 0, "CN=Alone (itself)"),
    ("server.pem", 0, "DNS:shop.example, DNS:www.shop.example"),
    ("signed-by-ed25519.pem", 0, "ED25519"),
    ("signed-by-pss.pem", 0, "rsassaPss"),
    ("signed-by-rsa.pem", 0, "sha384WithRSAEncryption"),
    ("text-around.pem", 0, "PEM, 2 certificates"),
    ("trailing.der", 1, "8 bytes that are nothing known"),
    ("truncated-then-good.pem", 1, "certificate 1: Shop issuing"),
    ("truncated.der", 1, "bytes are announced and 296 are there"),
    ("truncated.pem", 1, "its `-----END CERTIFICATE-----` is missing"),
    ("trusted.pem", 0, "PEM, 1 certificate"),
    ("two.der", 0, "DER, 2 certificates"),
    ("unknown-extension.pem", 0, "Unknown critical extension"),
    ("utf-16.pem", 1, "it is text in UTF-16"),
    ("utf8-name.pem", 0, "CN=Зоя ☂ 顧客,O=Größe & Söhne,C=DE"),
    ("version-1.pem", 0, "07"),
    ("wildcard.pem", 0, "DNS:*.shop.example"),
    ("wrong-base64.pem", 1, "is not the base64 of one thing"),
    ("wrong-issuers.pem", 1, "put certificate 3 right after it"),
    ("wrong-label.pem", 1, "unreadable: CERTIFICATE REQUEST"),
    ("wrong-order.pem", 1, "leaf-not-first: certificate 2 (`Billing client`) is not the first in the file"),
    ("year-1949.pem", 1, "expired at 1950-01-01T00:00:00Z"),
    ("year-9999.pem", 0, "9999-12-31T23:59:59Z"),
    ("zero-serial.pem", 0, "serial        00"),
];

#[test]
fn each_sample_is_told_for_what_it_is() {
    let there = fs::read_dir(samples()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let there: BTreeSet<String> = there.filter(|name| !name.ends_with(".sh")).collect();
    assert_eq!(there, SAMPLES.iter().map(|(name, ..)| (*name).to_owned()).collect());

    for (name, expected, phrase) in SAMPLES {
        let (code, stdout, stderr) = run(command(&["cert", "inspect"]).arg(sample(name)));
        assert_eq!(code, *expected, "{name}: {stdout}{stderr}");
        assert!(stdout.contains(phrase), "{name} does not say {phrase}: {stdout}");
        assert!(!stdout.chars().any(|c| c.is_control() && c != '\n'), "{name}: {stdout:?}");

        let (code, stdout, _) = run(command(&["cert", "inspect", "--json"]).arg(sample(name)));
        let json: Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!((code, &json["good"]), (*expected, &Value::Bool(*expected == 0)), "{name}: {stdout}");
    }
}

#[test]
fn archive_opens_with_its_pass_phrase() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("passphrase");
    for (text, code, phrase) in [("fixture\n", 0, "2 certificates"), ("wrong\n", 1, "is not that of this file")] {
        fs::write(&file, text).unwrap();
        for name in ["passphrase.p12", "legacy.p12"] {
            let mut inspect = command(&["cert", "inspect"]);
            let (found, stdout, _) = run(inspect.arg(sample(name)).arg("--passphrase-file").arg(&file));
            assert_eq!(found, code, "{name}: {stdout}");
            assert!(stdout.contains(phrase), "{name}: {stdout}");
        }
    }
}

#[test]
fn key_is_told_by_kind_and_matched_but_never_shown() {
    let pki = Pki::new();
    let other = pki.authority.client("Another client", valid()).unwrap();
    for (key, code, phrase) in [
        (&pki.client.key_pem, 0, "EC P-256 private key"),
        (&other.key_pem, 1, "key-mismatch: the EC P-256 private key does not belong to certificate 1 (`Test client`)"),
    ] {
        let file = pki.write("both.pem", &(pki.client.certificate_pem.clone() + key), 0o600);
        for json in [None, Some("--json")] {
            let (found, stdout, stderr) = run(command(&["cert", "inspect"]).arg(&file).args(json));
            assert_eq!(found, code, "{stdout}");
            assert!(json.is_some() || stdout.contains(phrase), "{stdout}");
            for line in key.lines().filter(|line| !line.starts_with('-')) {
                assert!(!stdout.contains(line) && !stderr.contains(line));
            }
        }
    }
}

#[test]
fn stdin_is_read() {
    let mut inspect = command(&["cert", "inspect", "-"]);
    let mut child = inspect.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(joined(&["chain.pem"]).as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && stdout.starts_with("stdin: PEM, 2 certificates\n"), "{stdout}");
}

#[test]
fn what_is_no_file_of_certificates_is_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let large = folder.path().join("large.pem");
    fs::write(&large, vec![b'\n'; 1024 * 1024 + 1]).unwrap();
    for (what, code, phrase) in [
        ("/nowhere/client.crt", 66, "/nowhere/client.crt"),
        (large.to_str().unwrap(), 1, "larger than 1 MiB"),
        (folder.path().to_str().unwrap(), 1, "not a regular file"),
        ("/dev/zero", 1, "not a regular file"),
    ] {
        let (found, stdout, stderr) = run(&mut command(&["cert", "inspect", what]));
        assert_eq!((found, stdout.as_str()), (code, ""), "{stderr}");
        assert!(stderr.contains(phrase), "{stderr}");
    }
    assert_eq!(run(&mut command(&["cert", "inspect"])).0, 2);
    assert_eq!(run(&mut command(&["cert", "inspect", "a", "b"])).0, 2);
}

#[test]
fn files_of_a_destination_are_looked_at_whatever_is_wrong_with_them() {
    let pki = Pki::new();
    let postern = Appliance::set_up(&pki).destination("crm", "https://127.0.0.1:1/in").write();
    let inspect =
        |name: &str| run(command(&["cert", "inspect", "destination", name, "--config"]).arg(postern.config_file()));

    let (code, stdout, _) = inspect("crm");
    assert_eq!(code, 0, "{stdout}");
    for phrase in ["client.crt: PEM, 1 certificate", "EC P-256 private key", "CN=Test authority"] {
        assert!(stdout.contains(phrase), "{stdout}");
    }

    let other = pki.authority.client("Late client", expired()).unwrap();
    pki.write("client.crt", &other.certificate_pem, 0o644);
    let (code, stdout, _) = inspect("crm");
    assert_eq!(code, 1);
    assert!(stdout.contains("key-mismatch") && stdout.contains("expired: certificate 1 (`Late client`)"), "{stdout}");

    let (code, _, stderr) = inspect("erp");
    assert_eq!(code, 66);
    assert!(stderr.contains("no destination `erp`") && stderr.contains("crm"), "{stderr}");
}
