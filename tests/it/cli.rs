//! The command line: results on stdout, talk on stderr, exit codes that programs act on.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use serde_json::{Value, json};

use crate::support::{
    appliance::{Appliance, command},
    pki::{Pki, valid},
    receiver::Receiver,
    sender::update,
};

const UNREACHABLE: &str = "https://127.0.0.1:1/in";

/// How a command ended: its code, its stdout and its stderr.
fn run(command: &mut Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn verb(arguments: &[&str], file: &Path) -> (i32, String, String) {
    run(command(arguments).arg("--config").arg(file))
}

/// Says this of the file instead of that.
fn edit(postern: &Appliance, that: &str, this: &str) {
    let text = fs::read_to_string(postern.config_file()).unwrap();
    assert!(text.contains(that), "{text}");
    fs::write(postern.config_file(), text.replacen(that, this, 1)).unwrap();
}

#[test]
fn check_of_a_good_file_says_so_and_writes_nothing() {
    let pki = Pki::lasting(Duration::from_secs(31 * 24 * 60 * 60));
    let postern = Appliance::set_up(&pki).destination("crm", UNREACHABLE).write();

    let (code, stdout, stderr) = verb(&["check"], &postern.config_file());

    assert_eq!((code, stderr.as_str()), (0, ""));
    assert!(stdout.contains("is good: 1 inlets, 1 audiences, 1 destinations"), "{stdout}");
    assert!(!postern.state_dir.exists());
}

#[test]
fn check_of_a_bad_file_lists_every_problem_with_line_and_key() {
    let pki = Pki::new();
    let postern = Appliance::set_up(&pki).destination("crm", UNREACHABLE).write();
    edit(&postern, r#"admin.listen = "127.0.0.1:0""#, r#"admin.listen = "0.0.0.0:0""#);
    edit(&postern, r#"plan = "gold""#, r#"plan occurs "g%""#);
    edit(&postern, "https://", "http://");
    edit(&postern, r#"timeout = "2s""#, r#"timeot = "2s""#);
    let file = postern.config_file();
    let text = fs::read_to_string(&file).unwrap();
    let line_of = |word: &str| text.lines().position(|line| line.contains(word)).unwrap() + 1;

    for verb_name in ["check", "run"] {
        let (code, stdout, stderr) = verb(&[verb_name], &file);

        assert_eq!((code, stdout.as_str()), (78, ""), "{verb_name}: {stderr}");
        for (word, key) in [
            ("0.0.0.0", "admin.listen"),
            ("occurs", r#"audience "gold-members".expression.value"#),
            ("http://", r#"destination "crm".endpoint"#),
            ("timeot", r#"destination "crm".timeot"#),
        ] {
            let place = format!("{}:{}: {key}: ", file.display(), line_of(word));
            assert!(stderr.contains(&place), "{verb_name}: {stderr} does not say {place}");
        }
        assert!(stderr.contains("timeout"), "the nearest key: {stderr}");
    }
    assert!(!postern.state_dir.exists());
}

#[test]
fn missing_file_is_66() {
    for verb_name in ["check", "run"] {
        let (code, stdout, stderr) = verb(&[verb_name], Path::new("/nowhere/postern.toml"));
        assert_eq!((code, stdout.as_str()), (66, ""));
        assert!(stderr.contains("/nowhere/postern.toml"), "{stderr}");
    }
}

#[test]
fn key_of_another_certificate_is_found_by_check() {
    let pki = Pki::new();
    let postern = Appliance::set_up(&pki).destination("crm", UNREACHABLE).write();
    let other = pki.authority.client("Another client", valid()).unwrap();
    let key = pki.write("client.key", &other.key_pem, 0o640);

    let (code, stdout, stderr) = verb(&["check"], &postern.config_file());

    assert_eq!((code, stdout.as_str()), (78, ""));
    assert!(stderr.contains(r#"destination "crm".tls"#) && stderr.contains(key.to_str().unwrap()), "{stderr}");
    assert!(!stderr.contains("BEGIN"), "{stderr}");
}

#[test]
fn version_and_help_are_results() {
    let version = env!("CARGO_PKG_VERSION");
    let said = format!("postern {version}\n");
    assert_eq!(run(&mut command(&["version"])), (0, said.clone(), String::new()));
    assert_eq!(run(&mut command(&["--version"])), (0, said, String::new()));
    let (code, stdout, _) = run(&mut command(&["version", "--json"]));
    assert_eq!((code, serde_json::from_str::<Value>(&stdout).unwrap()), (0, json!({ "version": version })));

    let (code, stdout, stderr) = run(&mut command(&["--help"]));
    assert_eq!((code, stderr.as_str()), (0, ""));
    for word in ["run", "check", "demo", "dead-letter", "version"] {
        assert!(stdout.contains(word), "{stdout}");
    }
}

#[test]
fn wrong_usage_is_2() {
    for arguments in [&["fly"] as &[&str], &["run", "--fast"], &[], &["dead-letter"]] {
        let (code, stdout, stderr) = run(&mut command(arguments));
        assert_eq!((code, stdout.as_str()), (2, ""), "{arguments:?}");
        assert!(stderr.contains("Usage"), "{stderr}");
    }
}

#[tokio::test]
async fn second_appliance_on_the_same_state_says_that_it_is_in_use() {
    let pki = Pki::new();
    let mut postern = Appliance::set_up(&pki).destination("crm", UNREACHABLE).start().await;

    let (code, stdout, stderr) = verb(&["run"], &postern.config_file());

    assert_eq!((code, stdout.as_str()), (75, ""));
    assert!(stderr.contains("in use") && stderr.contains(postern.state_dir.to_str().unwrap()), "{stderr}");
    assert!(postern.stop().await.success());
}

#[test]
fn address_in_use_is_named() {
    let pki = Pki::new();
    let postern = Appliance::set_up(&pki).destination("crm", UNREACHABLE).write();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    edit(&postern, r#"server.listen = "127.0.0.1:0""#, &format!(r#"server.listen = "{address}""#));

    let (code, stdout, stderr) = verb(&["run"], &postern.config_file());

    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(stderr.contains(&format!("cannot listen on {address}")) && stderr.contains("in use"), "{stderr}");
}

#[test]
fn store_of_a_later_version_is_refused() {
    let pki = Pki::new();
    let postern = Appliance::set_up(&pki).destination("crm", UNREACHABLE).write();
    fs::create_dir(&postern.state_dir).unwrap();
    fs::write(postern.state_dir.join("FORMAT"), "999\n").unwrap();

    let state_dir = postern.state_dir.to_str().unwrap();
    for arguments in [&["run"] as &[&str], &["check"], &["dead-letter", "list", "--state-dir", state_dir]] {
        let (code, stdout, stderr) = verb(arguments, &postern.config_file());
        assert_eq!((code, stdout.as_str()), (78, ""), "{arguments:?}: {stderr}");
        assert!(stderr.contains("format 999, this version reads 4"), "{stderr}");
    }
    assert_eq!(fs::read_to_string(postern.state_dir.join("FORMAT")).unwrap(), "999\n");
    assert!(!postern.state_dir.join("store").exists());
}

#[tokio::test]
async fn dead_letters_are_listed_from_a_stopped_store() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    receiver.answer_in_turn([422]);
    let mut postern = Appliance::set_up(&pki).destination("crm", &receiver.url()).write();
    let file = postern.config_file();
    let state_dir = postern.state_dir.to_str().unwrap().to_owned();
    let list = ["dead-letter", "list", "--state-dir", &state_dir];
    let (code, stdout, stderr) = verb(&list, &file);
    assert_eq!((code, stdout.as_str()), (66, ""), "there is no store yet");
    assert!(stderr.contains("no store in"), "{stderr}");
    assert!(!postern.state_dir.exists());

    postern.start_again().await;
    postern.post("web", &update("ada", json!({ "plan": "gold" }))).await;
    postern.wait_for_exports("crm", [0, 0, 1]).await;
    let (code, stdout, stderr) = verb(&list, &file);
    assert_eq!((code, stdout.as_str()), (75, ""), "it is running");
    assert!(stderr.contains("stop it first"), "{stderr}");
    assert!(postern.stop().await.success());

    let key = receiver.requests()[0].idempotency_key().unwrap().to_owned();
    let (code, stdout, stderr) = verb(&list, &file);
    assert_eq!((code, stderr.as_str()), (0, ""));
    let [head, line] = stdout.lines().collect::<Vec<_>>()[..] else { panic!("{stdout}") };
    assert!(head.starts_with("DEAD SINCE"), "{head}");
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words[1..], ["crm", "refused", "1", "refused_422", &key]);
    let with = |more: &[&str]| verb(&[&list, more].concat(), &file);
    let (code, stdout, _) = with(&["--json"]);
    let letter: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, &letter["id"], &letter["destination"]), (0, &json!(key), &json!("crm")));
    assert_eq!((&letter["cause"], &letter["last_outcome"]), (&json!("refused"), &json!("refused_422")));
    let (code, stdout, _) = with(&["--json", "--cause", "exhausted"]);
    assert_eq!((code, stdout.as_str()), (0, ""));
    let (code, _, stderr) = with(&["--destination", "erp"]);
    assert_eq!(code, 66, "{stderr}");

    // As a disk would that forgets a bit.
    let db = sled::Config::new().path(postern.state_dir.join("store")).open().unwrap();
    let (chunk, bytes) = db.scan_prefix(b"d").next().unwrap().unwrap();
    db.insert(chunk, [&bytes[..bytes.len() - 1], b"?"].concat()).unwrap();
    drop(db);
    let (code, stdout, stderr) = with(&["--json"]);
    let letter: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, &letter["cause"], &letter["number"]), (1, &json!("damaged"), &json!(1)));
    assert!(stderr.contains("1 dead letters fail their checksum"), "{stderr}");
}
