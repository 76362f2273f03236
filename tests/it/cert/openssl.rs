//! What we say of a certificate is what OpenSSL says of it.

use std::{collections::BTreeSet, fs, net::IpAddr, os::unix::fs::PermissionsExt, path::Path, process::Command};

use serde_json::{Value, json};

use super::{run, samples};
use crate::support::appliance::command;

/// Extensions as OpenSSL names their contents, and as RFC 5280 does.
const USAGES: &[(&str, &str)] = &[
    ("Digital Signature", "digitalSignature"),
    ("Non Repudiation", "nonRepudiation"),
    ("Key Encipherment", "keyEncipherment"),
    ("Data Encipherment", "dataEncipherment"),
    ("Key Agreement", "keyAgreement"),
    ("Certificate Sign", "keyCertSign"),
    ("CRL Sign", "cRLSign"),
    ("Encipher Only", "encipherOnly"),
    ("Decipher Only", "decipherOnly"),
    ("Any Extended Key Usage", "anyExtendedKeyUsage"),
    ("TLS Web Server Authentication", "serverAuth"),
    ("TLS Web Client Authentication", "clientAuth"),
    ("Code Signing", "codeSigning"),
    ("E-mail Protection", "emailProtection"),
    ("Time Stamping", "timeStamping"),
    ("OCSP Signing", "OCSPSigning"),
];

const KEYS: &[(&str, &str)] = &[
    ("rsaEncryption", "RSA"),
    ("rsassaPss", "RSA-PSS"),
    ("id-ecPublicKey", "EC"),
    ("dsaEncryption", "DSA"),
    ("ED25519", "Ed25519"),
    ("ED448", "Ed448"),
];

#[test]
#[ignore = "needs openssl"]
fn fields_are_those_that_openssl_shows() {
    let folder = tempfile::tempdir().unwrap();
    let made = Command::new(samples().join("make.sh")).arg(folder.path()).status().unwrap();
    assert!(made.success());

    let mut compared = 0;
    for entry in fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        let is_pem = path.extension().is_some_and(|kind| kind == "pem");
        // What OpenSSL cannot show either is no question here. It reads no text that is indented or in UTF-16.
        if is_pem && openssl(&["x509", "-noout", "-in", path.to_str().unwrap()]).is_some() {
            compare(&path);
            compared += 1;
        }
    }
    assert!(compared >= 40, "{compared} certificates were compared");
    eprintln!("{compared} certificates are shown as openssl shows them");
}

#[test]
#[ignore = "needs openssl"]
fn keys_in_all_forms_are_described_and_matched() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).into_os_string().into_string().unwrap();
    let (key, certificate) = (file("key.pem"), file("certificate.pem"));
    let make = |arguments: &[&str]| assert!(openssl(arguments).is_some(), "{arguments:?}");
    let told = |name: &str| {
        let (code, stdout, stderr) = run(command(&["cert", "verify", &certificate, "--key"]).arg(file(name)));
        (code, run(command(&["cert", "inspect"]).arg(file(name))).1 + &stdout + &stderr)
    };
    for (kind, option, old, shown) in [
        ("RSA", "rsa_keygen_bits:2048", "rsa", "RSA 2048 private key"),
        ("EC", "ec_paramgen_curve:P-256", "ec", "EC P-256 private key"),
        ("EC", "ec_paramgen_curve:P-521", "ec", "EC P-521 private key"),
    ] {
        make(&["genpkey", "-algorithm", kind, "-pkeyopt", option, "-out", &key]);
        make(&[
            "req",
            "-x509",
            "-new",
            "-key",
            &key,
            "-subj",
            "/CN=a",
            "-addext",
            "basicConstraints=CA:FALSE",
            "-out",
            &certificate,
        ]);
        make(&["pkey", "-in", &key, "-outform", "DER", "-out", &file("key.der")]);
        make(&["pkey", "-in", &key, "-traditional", "-out", &file("old.pem")]);
        make(&[old, "-in", &key, "-outform", "DER", "-out", &file("old.der")]);
        make(&[
            "pkcs12",
            "-export",
            "-inkey",
            &key,
            "-in",
            &certificate,
            "-passout",
            "pass:",
            "-out",
            &file("key.p12"),
        ]);
        for name in ["key.pem", "key.der", "old.pem", "old.der", "key.p12"] {
            fs::set_permissions(file(name), fs::Permissions::from_mode(0o600)).unwrap();
            let (code, text) = told(name);
            assert_eq!(code, 0, "{shown} {name}: {text}");
            assert!(text.contains(shown), "{shown} {name}: {text}");
        }

        make(&["pkey", "-in", &key, "-aes256", "-passout", "pass:a", "-out", &file("closed.pem")]);
        make(&["pkey", "-in", &key, "-traditional", "-aes128", "-passout", "pass:a", "-out", &file("closed-old.pem")]);
        make(&["pkcs8", "-topk8", "-in", &key, "-passout", "pass:a", "-outform", "DER", "-out", &file("closed.der")]);
        for name in ["closed.pem", "closed-old.pem", "closed.der"] {
            let (code, text) = told(name);
            assert_eq!(code, 1, "{shown} {name}: {text}");
            assert!(text.contains("private key, encrypted") && text.contains("no-key"), "{shown} {name}: {text}");
        }
    }
}

/// Compares the first certificate of a file.
fn compare(path: &Path) {
    let (_, stdout, _) = run(command(&["cert", "inspect", "--json"]).arg(path));
    let json: Value = serde_json::from_str(&stdout).unwrap();
    let items = json["sources"][0]["items"].as_array().unwrap();
    let ours = items.iter().find(|item| item["kind"] == "certificate").unwrap_or_else(|| panic!("{path:?}: {stdout}"));
    let x509 = |arguments: &[&str]| {
        let all = ["x509", "-noout", "-in", path.to_str().unwrap(), "-nameopt", "RFC2253,-esc_msb"];
        openssl(&[&all, arguments].concat()).unwrap_or_else(|| panic!("{path:?}: {arguments:?}"))
    };
    let field = |argument: &[&str]| x509(argument).trim_end_matches('\n').split_once('=').unwrap().1.to_owned();
    let same = |name: &str, theirs: Value| assert_eq!(ours[name], theirs, "{path:?}: {name}");

    same("subject", json!(field(&["-subject"])));
    same("issuer", json!(field(&["-issuer"])));
    same("serial", json!(field(&["-serial"]).replace("\\\n", "").to_lowercase()));
    same("not_before", json!(field(&["-startdate", "-dateopt", "iso_8601"]).replace(' ', "T")));
    same("not_after", json!(field(&["-enddate", "-dateopt", "iso_8601"]).replace(' ', "T")));
    same("sha256", json!(field(&["-fingerprint", "-sha256"]).replace(':', "").to_lowercase()));
    same("spki_sha256", json!(spki(path)));

    let text = x509(&["-text"]);
    let after = |name: &str| text.split(&format!("{name}: ")).nth(1).map(|rest| rest.lines().next().unwrap().trim());
    same("signature", json!(after("Signature Algorithm").unwrap()));
    let algorithm = after("Public Key Algorithm").unwrap();
    let key = KEYS.iter().find(|(theirs, _)| *theirs == algorithm).unwrap().1;
    let has_sizes = !key.starts_with("Ed");
    let bits = after("Public-Key").map(|text| text.trim_matches(|c: char| !c.is_ascii_digit()).parse::<u32>().unwrap());
    let curve = after("NIST CURVE").or_else(|| after("ASN1 OID"));
    same("key", json!({ "algorithm": key, "bits": bits.filter(|_| has_sizes), "curve": curve }));

    let constraints = extension(&text, "Basic Constraints").join(" ");
    same("is_authority", json!(constraints.contains("CA:TRUE")));
    let path_length = constraints.split("pathlen:").nth(1).map(|digits| digits.parse::<u32>().unwrap());
    same("path_length", json!(path_length));
    same("key_usages", usages(&extension(&text, "Key Usage")));
    same("extended_key_usages", usages(&extension(&text, "Extended Key Usage")));
    let digits = |name| extension(&text, name).first().map(|id| id.replace(':', "").to_lowercase());
    same("subject_key_id", json!(digits("Subject Key Identifier")));
    same("authority_key_id", json!(digits("Authority Key Identifier").map(|id| id.replace("keyid", ""))));
    // OpenSSL shows the bytes of what it cannot read.
    if ours["unreadable_extensions"] != json!([]) {
        return;
    }
    assert_eq!(our_names(&ours["names"]), their_names(&extension(&text, "Subject Alternative Name")), "{path:?}");
    assert_eq!(our_constraints(&ours["name_constraints"]), their_constraints(&extension(&text, "Name Constraints")));
}

/// The lines of an extension.
fn extension(text: &str, name: &str) -> Vec<String> {
    let heading = format!("            X509v3 {name}:");
    let lines = text.lines().skip_while(|line| !line.starts_with(&heading)).skip(1);
    lines.take_while(|line| line.starts_with("                ")).map(|line| line.trim().to_owned()).collect()
}

fn usages(lines: &[String]) -> Value {
    let listed = lines.iter().flat_map(|line| line.split(", "));
    let named = listed.map(|usage| USAGES.iter().find(|(theirs, _)| *theirs == usage).map_or(usage, |(_, ours)| ours));
    json!(named.collect::<Vec<_>>())
}

fn our_names(names: &Value) -> BTreeSet<String> {
    let kinds = [("dns", "DNS:"), ("ip", "IP:"), ("uri", "URI:"), ("email", "email:"), ("other", "")];
    let listed = |member: &str| names[member].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned());
    kinds
        .iter()
        .flat_map(|(member, kind)| listed(member).map(move |name| kind_only(&format!("{kind}{name}"))))
        .collect()
}

fn their_names(lines: &[String]) -> BTreeSet<String> {
    let named = lines.iter().flat_map(|line| line.split(", ")).filter(|name| *name != "<EMPTY>");
    named.map(|name| kind_only(&address(name).replace('\u{1b}', "\\1B"))).collect()
}

fn our_constraints(constraints: &Value) -> BTreeSet<String> {
    let listed = |side: &str| constraints[side].as_array().cloned().unwrap_or_default();
    let both = ["permitted", "excluded"].map(|side| (side, listed(side)));
    let sided = both.iter().flat_map(|(side, names)| {
        names.iter().map(move |name| format!("{side} {}", kind_only(name.as_str().unwrap())))
    });
    sided.collect()
}

fn their_constraints(lines: &[String]) -> BTreeSet<String> {
    let mut side = "";
    let mut found = BTreeSet::new();
    for line in lines {
        match line.as_str() {
            "Permitted:" => side = "permitted",
            "Excluded:" => side = "excluded",
            name => {
                found.insert(format!("{side} {}", kind_only(name)));
            }
        }
    }
    found
}

/// Of kinds that OpenSSL writes in several ways, the kind alone.
fn kind_only(name: &str) -> String {
    let kind = ["DirName:", "othername:"].iter().find(|kind| name.starts_with(**kind));
    kind.map_or(name, |kind| kind).to_owned()
}

/// An address is written short.
fn address(name: &str) -> String {
    match name.strip_prefix("IP Address:") {
        Some(address) => format!("IP:{}", address.parse::<IpAddr>().unwrap()),
        None => name.to_owned(),
    }
}

/// SHA-256 of the public key.
fn spki(path: &Path) -> String {
    let script = "openssl x509 -noout -pubkey -in \"$0\" | openssl pkey -pubin -outform DER | openssl dgst -sha256 -r";
    let output = Command::new("sh").args(["-c", script]).arg(path).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().to_owned()
}

/// What OpenSSL prints, if it can.
fn openssl(arguments: &[&str]) -> Option<String> {
    let output = Command::new("openssl").args(arguments).output().unwrap();
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}
