//! What expires when, and whether it is time for a new one.

use std::{fs, time::Duration};

use postern::tls::issue::Period;
use serde_json::Value;

use super::{joined, run, sample};
use crate::support::{
    appliance::{Appliance, command},
    pki::{Pki, now},
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[test]
fn renewal_is_a_matter_of_time_or_share() {
    let pki = Pki::new();
    let start = now() - 80 * DAY;
    let client = pki.authority.client("Test client", Period::starting(start, 100 * DAY)).unwrap();
    let file = pki.write("old.crt", &client.certificate_pem, 0o644);
    for (within, code, verdict) in [
        (None, 0, "renew it"),
        (Some("30d"), 0, "renew it"),
        (Some("480h"), 0, "renew it"),
        (Some("19d"), 1, "not yet"),
        (Some("21%"), 0, "renew it"),
        (Some("19%"), 1, "not yet"),
        (Some("0%"), 1, "not yet"),
    ] {
        let within = within.map(|within| ["--within", within]).into_iter().flatten();
        let (found, stdout, stderr) = run(command(&["cert", "needs-renewal"]).arg(&file).args(within.clone()));
        assert_eq!((found, stderr.as_str()), (code, ""), "{stdout}");
        assert!(stdout.ends_with(&format!(": {verdict}\n")) && stdout.lines().count() == 1, "{stdout}");

        let (found, stdout, _) = run(command(&["cert", "needs-renewal", "--json"]).arg(&file).args(within));
        let json: Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!((found, &json["needs_renewal"]), (code, &Value::Bool(code == 0)), "{stdout}");
    }
}

#[test]
fn issuer_that_ends_first_counts_and_a_root_does_not() {
    let (folder, pki) = (tempfile::tempdir().unwrap(), Pki::new());
    let soon = Period::starting(now() - DAY, 11 * DAY);
    let late = Period::starting(now() - DAY, 1000 * DAY);
    let client = pki.authority.subordinate("Issuer", soon).unwrap().client("Client", late).unwrap();
    let with_issuer = folder.path().join("with-issuer.pem");
    fs::write(&with_issuer, &client.certificate_pem).unwrap();
    assert_eq!(run(command(&["cert", "needs-renewal"]).arg(&with_issuer)).0, 0);

    let client = pki.authority.client("Client", late).unwrap();
    let with_root = folder.path().join("with-root.pem");
    fs::write(&with_root, client.certificate_pem + &pki.authority.certificate_pem()).unwrap();
    assert_eq!(run(command(&["cert", "needs-renewal"]).arg(&with_root)).0, 1);
}

#[test]
fn renewal_of_what_is_no_certificate_is_an_error_in_words() {
    for (file, code) in [("/nowhere/client.crt".into(), 66), (sample("request.pem"), 65), (sample("truncated.pem"), 65)]
    {
        let (found, stdout, stderr) = run(command(&["cert", "needs-renewal"]).arg(&file));
        assert_eq!((found, stdout.as_str()), (code, ""), "{stderr}");
        assert!(stderr.contains(file.to_str().unwrap()), "{stderr}");
    }
    for within in ["soon", "-1d", "101%"] {
        let (code, ..) = run(command(&["cert", "needs-renewal", "--within", within]).arg(sample("client.pem")));
        assert_eq!(code, 2, "{within}");
    }
}

#[test]
fn without_a_file_each_client_certificate_of_the_configuration_is_asked() {
    for (days, code) in [(20, 0), (40, 1)] {
        let pki = Pki::lasting(days * DAY);
        let postern = Appliance::set_up(&pki).destination("crm", "https://127.0.0.1:1/in").write();
        let needs = || run(command(&["cert", "needs-renewal", "--config"]).arg(postern.config_file()));

        let (found, stdout, _) = needs();
        assert_eq!(found, code, "{stdout}");
        assert!(stdout.contains("client.crt: `Test client`"), "{stdout}");

        fs::remove_file(pki.path().join("client.crt")).unwrap();
        assert_eq!(needs().0, 66);
    }
}

#[test]
fn everything_that_is_configured_is_listed_the_next_first() {
    let pki = Pki::new();
    let url = "https://127.0.0.1:1/in";
    let postern = Appliance::set_up(&pki).destination("crm", url).destination("erp", url).write();
    let long = Period::starting(now() - DAY, 400 * DAY);
    let issuer = pki.authority.subordinate("Test issuer", Period::starting(now() - DAY, 11 * DAY)).unwrap();
    let client = issuer.client("Test client", long).unwrap();
    pki.write("client.crt", &client.certificate_pem, 0o644);
    pki.write("ca.crt", &(joined(&["expired.pem"]) + &joined(&["root.pem"])), 0o644);
    let expiry = |json: &[&str]| run(command(&["cert", "expiry", "--config"]).arg(postern.config_file()).args(json));

    let (code, stdout, stderr) = expiry(&[]);
    assert_eq!((code, stderr.as_str()), (0, ""), "{stdout}");
    let lines: Vec<&str> = stdout.lines().collect();
    for (line, words) in lines[1..].iter().zip([
        &["crm, erp", "root 1", "Expired client", "2020-01-01T00:00:00Z", "expired"][..],
        &["crm, erp", "issuer 1", "Test issuer", "9", "near"],
        &["crm, erp", "certificate", "Test client", "398", "good"],
        &["crm, erp", "root 2", "Shop root", "good"],
    ]) {
        assert!(words.iter().all(|word| line.contains(word)), "{words:?}: {stdout}");
    }
    assert_eq!(lines.len(), 5, "{stdout}");

    let (_, stdout, _) = expiry(&["--json"]);
    let json: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(json[1]["days_left"], 9, "{stdout}");
    assert!(json[0]["days_left"].as_i64().unwrap() < 0);
}

#[test]
fn file_that_is_not_there_is_a_row_that_says_so() {
    let pki = Pki::new();
    let postern = Appliance::set_up(&pki).destination("crm", "https://127.0.0.1:1/in").write();
    fs::remove_file(pki.path().join("client.crt")).unwrap();
    pki.write("ca.crt", &joined(&["truncated-then-good.pem"]), 0o644);

    let (code, stdout, stderr) = run(command(&["cert", "expiry", "--config"]).arg(postern.config_file()));

    assert_eq!(code, 1);
    assert!(stderr.contains("2 of them cannot be read"), "{stderr}");
    for phrase in ["No such file", "its `-----END CERTIFICATE-----` is missing", "Shop issuing"] {
        assert!(stdout.contains(phrase), "{phrase}: {stdout}");
    }
}
