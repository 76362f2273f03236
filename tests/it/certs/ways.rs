//! The three ways of `certs/README.md`: its commands run as they stand there, and what they make carries an export.

use std::{fs, path::Path, process::Command};

use postern::tls::issue::Issued;
use serde_json::json;

use super::{Desk, answer};
use crate::support::{appliance::Appliance, pki::Pki, receiver::Receiver, sender::update, socket::Done};

const README: &str = include_str!("../../../certs/README.md");

/// The commands of a way, in order.
fn commands(way: &str) -> Vec<&'static str> {
    let text = README.split("\n## ").find(|text| text.starts_with(way)).unwrap_or_else(|| panic!("no way {way}"));
    let commands: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("    ")).collect();
    assert!(commands.len() > 1, "{way}: {commands:?}");
    commands
}

/// Runs a command as a shell does, where the binary is `postern`, on this appliance.
fn run(desk: &Desk, command: &str, url: &str, config: &Path) {
    let binary = Path::new(env!("CARGO_BIN_EXE_postern"));
    let path = format!("{}:{}", binary.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let command = command.replace("URL", url).replace("10.0.0.7", "127.0.0.1");
    let is_on_it = command.contains("destination add") || command.contains("--destination");
    let config = if is_on_it { format!(" --config {}", config.display()) } else { String::new() };
    let command = command.replace("certs/", &format!("{}/certs/", env!("CARGO_MANIFEST_DIR"))) + &config;
    Done::of(Command::new("sh").args(["-ec", &command]).env("PATH", path).current_dir(desk.path(""))).succeeds();
}

/// An appliance without destinations, and a receiver with its own certificate that will be told what it is.
async fn receiver(pki: &Pki, desk: &Desk, server: &str, authority: &str) -> Receiver {
    let (certificate_pem, key_pem) = (desk.read(&format!("{server}.crt")), desk.read(&format!("{server}.key")));
    let server = Issued { certificate_pem, key_pem };
    Receiver::set_up(pki).presenting(&server).trusting(desk.read(authority)).start().await
}

async fn delivers(postern: &Appliance, receiver: &Receiver, name: &str) {
    receiver.take_requests();
    postern.post("web", &update(name, json!({ "plan": "gold" }))).await;
    let sent = receiver.wait_for(1).await;
    assert!(sent[0].raw_body.windows(name.len()).any(|window| window == name.as_bytes()), "{sent:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn authority_of_ones_own() {
    let (pki, desk) = (Pki::new(), Desk::new());
    let postern = Appliance::set_up(&pki).start().await;
    let commands = commands("An authority of your own");
    let (add, making) = commands.split_last().unwrap();

    making.iter().for_each(|command| run(&desk, command, "", &postern.config_file()));
    let receiver = receiver(&pki, &desk, "receiver/receiver.example", "ca/ca.crt").await;
    run(&desk, add, &receiver.url(), &postern.config_file());

    delivers(&postern, &receiver, "ada").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn authority_of_a_company() {
    let (pki, desk) = (Pki::new(), Desk::new());
    let postern = Appliance::set_up(&pki).start().await;
    let config = postern.config_file();
    for line in ["authority --out root", "authority --under root --out company"] {
        desk.cert(&format!("issue {line}")).succeeds();
    }
    desk.cert("issue server --authority company --name 127.0.0.1 --out server").succeeds();
    let receiver = receiver(&pki, &desk, "server/127.0.0.1", "root/ca.crt").await;
    fs::copy(desk.path("root/ca.crt"), desk.path("company-ca.crt")).unwrap();
    let commands = commands("Your company's authority");
    let [request, install, add, request_again, renew] = commands[..] else { panic!("{commands:?}") };

    run(&desk, request, "", &config);
    // As some authorities answer: the root first, the certificate last.
    let leaf = answer(&desk, "company", "edge/edge-001.csr");
    desk.write("answer.pem", desk.read("root/ca.crt") + &desk.read("company/ca.crt") + &leaf);
    run(&desk, install, "", &config);
    run(&desk, add, &receiver.url(), &config);
    delivers(&postern, &receiver, "ada").await;

    run(&desk, request_again, "", &config);
    let leaf = answer(&desk, "company", "renewal/edge-001.csr");
    desk.write("renewed.pem", leaf + &desk.read("company/ca.crt"));
    run(&desk, renew, "", &config);
    postern.verb(&["reload"]).succeeds();
    delivers(&postern, &receiver, "bob").await;
    let destination = postern.verb(&["destination", "show", "crm", "--json"]).json();
    let renewed = desk.cert("export edge/edge-001.crt").succeeds().stdout;
    assert!(renewed.contains(destination["certificate"]["accepted"].as_str().unwrap()), "{renewed} {destination:#}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs openssl"]
async fn openssl_by_hand() {
    let (pki, desk) = (Pki::new(), Desk::new());
    let postern = Appliance::set_up(&pki).start().await;
    let commands = commands("OpenSSL by hand");
    let [make, add] = commands[..] else { panic!("{commands:?}") };

    run(&desk, make, "", &postern.config_file());
    let receiver = receiver(&pki, &desk, "made/server", "made/ca.crt").await;
    run(&desk, add, &receiver.url(), &postern.config_file());

    delivers(&postern, &receiver, "ada").await;
    assert_eq!(["ca", "server", "client"].map(|name| desk.mode(&format!("made/{name}.key"))), [0o600; 3]);
    desk.cert("issue client --authority made --common-name edge-002 --out more").succeeds();
    // The names of these have forms that cannot be written again.
    for (subject, option) in [("/DC=com/DC=example/CN=x", ""), ("/O=a+CN=x", "-multivalue-rdn")] {
        let made = desk.path("made/ca");
        let line =
            "openssl req -x509 -new -key $0.key -days 99 -addext basicConstraints=critical,CA:TRUE -out $0.crt -subj";
        let mut make = Command::new("sh");
        make.args(["-ec", &format!("{line} {subject} {option}")]).arg(made);
        Done::of(&mut make).succeeds();
        let done = desk.cert("issue client --authority made --common-name edge-003 --out more");
        done.refuses(1, "cannot be repeated in what it issues");
    }
}
