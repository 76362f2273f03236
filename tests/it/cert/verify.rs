//! Whether a certificate would be accepted.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use super::{joined, run, sample};
use crate::support::{
    appliance::{Appliance, command},
    pki::{Pki, expired, now, valid},
};

/// A file with these samples, one after the other.
fn file_of(names: &[&str]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chain.pem");
    fs::write(&path, joined(names)).unwrap();
    (folder, path)
}

/// Exit code, and what is found: severity and word.
fn verify(names: &[&str], arguments: &[&str]) -> (i32, Vec<String>) {
    let (_folder, path) = file_of(names);
    // Samples that are said among the arguments.
    let arguments = arguments.iter().map(|argument| match argument.strip_prefix('@') {
        Some(name) => sample(name).into_os_string(),
        None => (*argument).into(),
    });
    let (code, stdout, stderr) = run(command(&["cert", "verify", "--json"]).arg(path).args(arguments));
    let json: Value = serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("{stdout}{stderr}"));
    assert_eq!(json["good"], code == 0);
    let found = json["findings"].as_array().unwrap().iter();
    (code, found.map(|one| format!("{} {}", one["severity"].as_str().unwrap(), one["id"].as_str().unwrap())).collect())
}

/// The samples in the file, the arguments, the exit code, and what is found.
type Case = (&'static [&'static str], &'static [&'static str], i32, &'static [&'static str]);

#[test]
fn each_fault_is_found_and_named() {
    let server: &[&str] = &["server.pem", "intermediate.pem"];
    let cases: &[Case] = &[
        (&["chain.pem"], &["--roots", "@root.pem"], 0, &[]),
        (&["chain.pem"], &[], 0, &["info no-roots"]),
        (&["client.pem"], &[], 0, &["info no-roots"]),
        (&["chain.pem"], &["--roots", "@self-signed.pem"], 1, &["error unknown-issuer"]),
        (&["chain.pem"], &["--roots", "public"], 1, &["error unknown-issuer"]),
        (&["client.pem"], &["--roots", "@root.pem"], 1, &["error unknown-issuer"]),
        (&["chain.pem"], &["--roots", "@empty.pem"], 1, &["error roots"]),
        (&["chain.pem"], &["--roots", "@root.pem", "--crl", "@list.pem"], 1, &["error revoked"]),
        (&["client.pem"], &["--crl", "@list.pem"], 1, &["info no-roots", "error revoked"]),
        (server, &["--roots", "@root.pem", "--crl", "@list.der"], 0, &[]),
        (server, &["--roots", "@root.pem", "--crl", "@list-out-of-date.pem"], 0, &["warning list-out-of-date"]),
        (&["constrained-server.pem"], &["--crl", "@list.pem"], 0, &["warning not-covered", "info no-roots"]),
        (server, &["--crl", "@client.pem"], 1, &["error list", "info no-roots"]),
        (server, &["--purpose", "server", "--name", "shop.example", "--roots", "@root.pem"], 0, &[]),
        (server, &["--purpose", "server", "--name", "evil.example", "--roots", "@root.pem"], 1, &["error name"]),
        (server, &["--purpose", "server", "--name", "not a name", "--roots", "@root.pem"], 1, &["error name"]),
        (
            &["wildcard.pem", "intermediate.pem"],
            &["--purpose", "server", "--name", "a.shop.example"],
            0,
            &["info no-roots"],
        ),
        (
            &["wildcard.pem", "intermediate.pem"],
            &["--purpose", "server", "--name", "shop.example"],
            1,
            &["error name", "info no-roots"],
        ),
        (
            &["ip-and-uri.pem", "intermediate.pem"],
            &["--purpose", "server", "--name", "2001:db8::7"],
            0,
            &["info no-roots"],
        ),
        (&["chain.pem"], &["--purpose", "server", "--roots", "@root.pem"], 1, &["error purpose", "error no-names"]),
        (&["wildcard.pem", "intermediate.pem"], &["--roots", "@root.pem"], 1, &["error purpose"]),
        // The root allows only other names.
        (
            &["constrained-server.pem"],
            &["--purpose", "server", "--roots", "@constrained.pem"],
            1,
            &["error name-constraints"],
        ),
        (&["expired.pem", "intermediate.pem"], &["--roots", "@root.pem"], 1, &["error expired"]),
        (
            &["expired.pem", "intermediate.pem"],
            &["--roots", "@self-signed.pem"],
            1,
            &["error expired", "error unknown-issuer"],
        ),
        (&["not-yet-valid.pem", "intermediate.pem"], &["--roots", "@root.pem"], 1, &["error not-yet-valid"]),
        (&["not-yet-valid.pem", "intermediate.pem"], &["--roots", "@root.pem", "--at", "2100-06-01T00:00:00Z"], 0, &[]),
        (&["year-9999.pem", "intermediate.pem"], &["--roots", "@root.pem"], 0, &[]),
        (
            &["rsa-1024-sha1.pem", "intermediate.pem"],
            &["--roots", "@root.pem"],
            1,
            &["error weak-key", "error weak-signature", "error signature-algorithm"],
        ),
        (&["unknown-extension.pem", "intermediate.pem"], &["--roots", "@root.pem"], 1, &["error critical-extension"]),
        (&["version-1.pem"], &["--name", "a.example"], 1, &["info no-roots", "error version"]),
        (&["unknown-extension.pem"], &[], 1, &["info no-roots", "error critical-extension"]),
        (&["version-1.pem", "intermediate.pem"], &["--roots", "@root.pem"], 1, &["error version"]),
        (
            &["broken-extension.pem", "intermediate.pem"],
            &[],
            1,
            &["error broken-extension", "info no-roots", "error chain"],
        ),
        (&["intermediate.pem"], &["--roots", "@root.pem"], 1, &["error leaf-is-authority"]),
        (&["intermediate.pem"], &["--purpose", "authority", "--roots", "@root.pem"], 0, &[]),
        (
            &["intermediate.pem"],
            &["--purpose", "authority", "--roots", "@self-signed.pem"],
            1,
            &["error unknown-issuer"],
        ),
        (&["intermediate.pem", "root.pem"], &["--purpose", "authority"], 0, &["info root-in-chain", "info no-roots"]),
        (
            &["intermediate.pem", "self-signed.pem"],
            &["--purpose", "authority"],
            1,
            &["error leaf-not-first", "error unknown-issuer", "info no-roots"],
        ),
        (
            &["intermediate.pem"],
            &["--purpose", "authority", "--crl", "@list.pem", "--roots", "@root.pem"],
            0,
            &["warning not-covered"],
        ),
        (&["self-signed.pem"], &["--roots", "@root.pem"], 1, &["error unknown-issuer"]),
        (&["wrong-order.pem"], &["--roots", "@root.pem"], 1, &["error leaf-not-first", "error leaf-is-authority"]),
        (&["empty.pem"], &[], 1, &["error empty", "error empty"]),
        (&["truncated.pem"], &[], 1, &["error unreadable", "error empty"]),
    ];
    for (files, arguments, code, ids) in cases {
        assert_eq!(
            verify(files, arguments),
            (*code, ids.iter().map(|id| (*id).to_owned()).collect()),
            "{files:?} {arguments:?}"
        );
    }
}

#[test]
fn missing_files_are_66_and_wrong_usage_is_2() {
    for (arguments, expected) in [
        (&["/nowhere/client.crt"][..], 66),
        (&["--destination", "crm", "--config", "/nowhere/postern.toml"], 66),
        (&["--at", "yesterday", "x.pem"], 2),
        (&["--purpose", "fun", "x.pem"], 2),
        (&[], 2),
        (&["--destination", "crm", "x.pem"], 2),
    ] {
        let (code, stdout, stderr) = run(command(&["cert", "verify"]).args(arguments));
        assert_eq!((code, stdout.as_str()), (expected, ""), "{arguments:?}: {stderr}");
    }
    let (code, _, stderr) = run(command(&["cert", "verify", "--roots", "/nowhere/ca.crt"]).arg(sample("chain.pem")));
    assert_eq!(code, 66, "{stderr}");
}

#[test]
fn key_must_belong_to_the_certificate_and_be_kept() {
    let pki = Pki::new();
    let other = pki.authority.client("Another client", valid()).unwrap();
    let certificate = pki.write("client.crt", &pki.client.certificate_pem, 0o644);
    let roots = pki.write("ca.crt", &pki.authority.certificate_pem(), 0o644);
    for (key, mode, code, phrase) in [
        (&pki.client.key_pem, 0o640, 0, "is good"),
        (
            &pki.client.key_pem,
            0o644,
            1,
            "key-mode: the key's file is open to everybody (mode 0644); run `chmod 0640` on it",
        ),
        (&other.key_pem, 0o600, 1, "key-mismatch"),
        (&pki.client.certificate_pem, 0o600, 1, "no-key"),
    ] {
        let key = pki.write("client.key", key, mode);
        let mut verify = command(&["cert", "verify"]);
        let (found, stdout, _) = run(verify.arg(&certificate).arg("--key").arg(key).arg("--roots").arg(&roots));
        assert_eq!(found, code, "{stdout}");
        assert!(stdout.contains(phrase), "{stdout}");
    }
}

#[test]
fn what_a_destination_uses_is_verified_as_a_whole() {
    let pki = Pki::new();
    let postern = Appliance::set_up(&pki).destination("crm", "https://127.0.0.1:1/in").write();
    let verify = || run(command(&["cert", "verify", "--destination", "crm", "--config"]).arg(postern.config_file()));
    assert_eq!(verify().0, 0);

    let late = pki.authority.client("Late client", expired()).unwrap();
    pki.write("client.crt", &late.certificate_pem, 0o644);
    fs::set_permissions(pki.path().join("client.key"), fs::Permissions::from_mode(0o666)).unwrap();
    pki.write("ca.crt", &pki.client.certificate_pem, 0o644);
    let (code, stdout, _) = verify();
    assert_eq!(code, 1);
    for phrase in ["error  expired", "error  key-mismatch", "error  key-mode", "warning  expires-soon"] {
        assert!(stdout.contains(phrase), "{phrase}: {stdout}");
    }
    let at = format!("at {}", &now().to_string()[..10]);
    assert!(stdout.contains("not usable") && stdout.contains(&at), "{stdout}");
}
