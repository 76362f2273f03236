//! Configuration by the command line: drop-ins, what is in effect, what is wrong or odd, and a destination added.

use std::{
    fs,
    io::Write,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use postern::tls::{ClientTlsFiles, RootsSource};
use serde_json::{Value, json};

use crate::support::{
    appliance::{Appliance, command},
    pki::{Pki, expired},
    receiver::Receiver,
    sender::update,
    set_up::GOLD,
};

const UNREACHABLE: &str = "https://127.0.0.1:1/in";
const TWO_MONTHS: Duration = Duration::from_secs(60 * 24 * 60 * 60);

/// How a command ended: its code, its stdout and its stderr.
fn run(command: &mut Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn verb(arguments: &[&str], file: &Path) -> (i32, String, String) {
    run(command(arguments).arg("--config").arg(file))
}

fn drop_in(postern: &Appliance, name: &str, text: &str) -> PathBuf {
    let folder = postern.config_file().with_file_name("conf.d");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(name), text).unwrap();
    folder.join(name)
}

/// What adds this destination, without its name.
fn flags(pki: &Pki, url: &str) -> Vec<String> {
    let ClientTlsFiles { certificate, key, roots } = pki.client_files();
    let RootsSource::File(roots) = roots else { panic!("tests have a private authority") };
    let [certificate, key, roots] = [certificate, key, roots].map(|path| path.display().to_string());
    let flags = [
        ("--endpoint", url),
        ("--audience", GOLD),
        ("--attribute", "plan"),
        ("--certificate", &certificate),
        ("--key", &key),
        ("--roots", &roots),
    ];
    flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value.to_owned()]).collect()
}

fn add(postern: &Appliance, name: &str, flags: &[String]) -> (i32, String, String) {
    run(command(&["destination", "add", name]).args(flags).arg("--config").arg(postern.config_file()))
}

/// Everything in the folder of the configuration, hidden files too.
fn everything_beside(postern: &Appliance) -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            }
            found.push(path);
        }
    }
    let mut found = Vec::new();
    walk(postern.config_file().parent().unwrap(), &mut found);
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn destination_that_is_added_to_a_running_appliance_is_served_at_once() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    let mut postern = Appliance::set_up(&pki).write();
    postern.start_again().await;

    let (code, stdout, stderr) = add(&postern, "crm", &flags(&pki, &receiver.url()));

    assert_eq!((code, stderr.as_str()), (0, ""));
    assert!(stdout.contains("reloaded: crm is served now"), "{stdout}");
    postern.post("web", &update("ada", json!({ "plan": "gold" }))).await;
    receiver.wait_for(1).await;
}

#[tokio::test]
async fn destination_that_was_added_gets_exports() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    let mut postern = Appliance::set_up(&pki).write();
    let file = postern.config_file();

    let (code, stdout, stderr) = add(&postern, "crm", &flags(&pki, &receiver.url()));

    let written = file.with_file_name("conf.d").join("crm.toml");
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert!(stdout.contains(&format!("wrote {}\n", written.display())) && stdout.contains("does not run"), "{stdout}");
    let (metadata, folder) = (written.metadata().unwrap(), file.parent().unwrap().metadata().unwrap());
    assert_eq!((metadata.permissions().mode() & 0o7777, metadata.gid()), (0o640, folder.gid()));
    postern.start_again().await;
    postern.post("web", &update("ada", json!({ "plan": "gold" }))).await;
    postern.wait_for_exports("crm", [0, 1, 0]).await;
    assert_eq!(receiver.requests()[0].body["plan"], "gold");
    assert!(postern.stop().await.success());
}

#[test]
fn destination_that_is_refused_leaves_nothing_behind() {
    let pki = Pki::new();
    let postern = Appliance::set_up(&pki).destination("present", UNREACHABLE).write();
    let before = everything_beside(&postern);
    let good = flags(&pki, UNREACHABLE);
    let with = |that: &str, this: &str| good.iter().map(|flag| flag.replace(that, this)).collect::<Vec<_>>();
    let more = |flag: &str, value: &str| [good.clone(), vec![flag.to_owned(), value.to_owned()]].concat();

    for (name, flags, code, said) in [
        ("crm", with("https:", "http:"), 78, "conf.d/crm.toml:4: destination \"crm\".endpoint: "),
        ("crm", with(GOLD, "silver"), 78, "conf.d/crm.toml:5: destination \"crm\".audiences #1: no audience `silver`"),
        ("crm", more("--timeout", "2"), 78, "destination \"crm\".timeout: expected a whole number and a unit"),
        ("crm", more("--bearer-file", "/nowhere"), 78, "destination \"crm\".authentication.bearer.file: cannot read"),
        ("c/rm", good.clone(), 2, "a name has 1 to 64 characters"),
        ("present", good.clone(), 1, "there is a destination present already, in postern.toml:"),
        ("crm", good[..4].to_vec(), 2, "--certificate, --key, --roots must be given"),
    ] {
        let (ended, stdout, stderr) = add(&postern, name, &flags);

        assert_eq!((ended, stdout.as_str()), (code, ""), "{stderr}");
        assert!(stderr.contains(said), "{stderr} does not say {said}");
        assert_eq!(everything_beside(&postern), before, "{said}");
    }
}

#[test]
fn drop_in_that_is_there_is_not_overwritten() {
    let pki = Pki::new();
    let postern = Appliance::set_up(&pki).write();
    let mine = drop_in(&postern, "crm.toml", "# mine\n");

    let (code, stdout, stderr) = add(&postern, "crm", &flags(&pki, UNREACHABLE));

    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(stderr.contains("conf.d/crm.toml exists already"), "{stderr}");
    assert_eq!(fs::read_to_string(mine).unwrap(), "# mine\n");
}

#[test]
fn destination_needs_an_audience_first() {
    let pki = Pki::new();
    let postern = Appliance::set_up(&pki).write();
    fs::write(postern.config_file(), "[[inlet]]\nname = \"web\"\n").unwrap();

    let (code, stdout, stderr) = add(&postern, "crm", &[]);

    assert_eq!((code, stdout.as_str()), (78, ""));
    assert!(stderr.contains("add an [[audience]] first"), "{stderr}");
}

#[test]
fn files_are_those_seen_from_where_the_command_runs() {
    let pki = Pki::new();
    let postern = Appliance::set_up(&pki).write();
    let folder = postern.config_file().parent().unwrap().to_owned();
    fs::create_dir(folder.join("tls")).unwrap();
    fs::copy(pki.client_files().certificate, folder.join("tls/here.crt")).unwrap();
    let mut flags = flags(&pki, UNREACHABLE);
    let at = flags.iter().position(|flag| flag == "--certificate").unwrap() + 1;
    flags[at] = "here.crt".to_owned();

    let mut add = command(&["destination", "add", "crm", "--json", "--config"]);
    let (code, stdout, stderr) = run(add.arg(postern.config_file()).args(&flags).current_dir(folder.join("tls")));

    assert_eq!((code, stderr.as_str()), (0, ""));
    let said: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(said, json!({ "destination": "crm", "reloaded": false, "written": folder.join("conf.d/crm.toml") }));
    let written = fs::read_to_string(folder.join("conf.d/crm.toml")).unwrap();
    assert!(written.contains("certificate = \"tls/here.crt\""), "{written}");
    assert_eq!(verb(&["check"], &postern.config_file()).0, 0);
}

#[test]
fn what_is_shown_loads_elsewhere_and_shows_the_same() {
    let pki = Pki::new();
    let postern = Appliance::set_up(&pki).bearer("MARKER").destination("crm", UNREACHABLE).write();
    drop_in(&postern, "10.toml", "log.level = \"warn\"\n[[inlet]]\nname = \"app\"\n");
    let elsewhere = tempfile::tempdir().unwrap();
    let copy = elsewhere.path().join("all.toml");

    let (code, shown, stderr) = verb(&["config", "show"], &postern.config_file());

    assert_eq!((code, stderr.as_str()), (0, ""));
    assert!(shown.contains("level = \"warn\"   # conf.d/10.toml:1\n"), "{shown}");
    assert!(!shown.contains("MARKER"), "{shown}");
    fs::write(&copy, &shown).unwrap();
    let (code, again, stderr) = verb(&["config", "show"], &copy);
    assert_eq!((code, stderr.as_str()), (0, ""));
    let without_origins = |text: &str| {
        let lines =
            text.lines().map(|line| line.rsplit_once("  # ").map_or(line, |(value, _)| value).trim_end().to_owned());
        lines.collect::<Vec<_>>()
    };
    assert_eq!(without_origins(&shown), without_origins(&again));
    let (_, json, _) = verb(&["config", "show", "--json"], &postern.config_file());
    let json: Vec<Value> = serde_json::from_str(&json).unwrap();
    assert!(json.contains(&json!({ "key": "log.level", "value": "warn", "origin": "conf.d/10.toml:1" })), "{json:?}");
    assert_eq!(
        json.len(),
        without_origins(&shown).iter().filter(|line| !line.is_empty() && !line.starts_with('[')).count()
    );
}

#[test]
fn check_reports_files_problems_and_warnings_to_programs() {
    let mut pki = Pki::lasting(TWO_MONTHS);
    pki.client = pki.authority.client("Test client", expired()).unwrap();
    let postern = Appliance::set_up(&pki).audience("nobody", "a = 1").destination("crm", UNREACHABLE).write();
    let file = postern.config_file();
    let empty = drop_in(&postern, "a.toml", "");

    let (code, stdout, stderr) = verb(&["check", "--json"], &file);

    assert_eq!((code, stderr.as_str()), (0, ""));
    let said: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!([&said["good"], &said["files"], &said["problems"]], [&json!(true), &json!([&file, &empty]), &json!([])]);
    assert_eq!([&said["inlets"], &said["audiences"], &said["destinations"]], [&json!(1), &json!(2), &json!(1)]);
    let warnings = said["warnings"].as_array().unwrap();
    let ids: Vec<&Value> = warnings.iter().map(|warning| &warning["id"]).collect();
    assert_eq!(ids, ["drop-in-empty", "audience-unmapped", "certificate-expired"]);
    assert!(warnings.iter().all(|one| one["severity"] == "warning" && one["remedy"].is_string()), "{warnings:?}");
    let (code, stdout, stderr) = verb(&["check"], &file);
    assert_eq!(code, 0);
    assert!(stdout.contains(&format!("read: {}, {}", file.display(), empty.display())), "{stdout}");
    assert_eq!(stderr.lines().filter(|line| line.starts_with("warning: ")).count(), 3, "{stderr}");

    let bad = drop_in(&postern, "b.toml", "\n[[inlet]]\nname = \"web\"\n");
    let worse = drop_in(&postern, "c.toml", "a = \n");
    let (code, stdout, stderr) = verb(&["check", "--json"], &file);
    assert_eq!(code, 78);
    assert!(stderr.contains("the configuration is refused"), "{stderr}");
    let said: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!([&said["good"], &said["files"]], [&json!(false), &json!([&file, &empty, &bad, &worse])]);
    let [twice, not_toml] = &said["problems"].as_array().unwrap()[..] else { panic!("{said}") };
    assert_eq!(
        [&twice["file"], &twice["line"], &twice["key"]],
        [&json!(&bad), &json!(3), &json!("inlet \"web\".name")]
    );
    assert_eq!([&twice["id"], &twice["severity"]], ["name-duplicate", "error"]);
    assert_eq!([&not_toml["file"], &not_toml["line"], &not_toml["key"]], [&json!(&worse), &json!(1), &Value::Null]);
    assert!(twice["message"].as_str().unwrap().contains(&format!("{}:", file.display())), "{twice}");
}

#[test]
fn what_is_not_said_is_asked_for_at_a_terminal() {
    let pki = Pki::new();
    let postern = Appliance::set_up(&pki).write();
    let ClientTlsFiles { certificate, key, .. } = pki.client_files();
    let (mut keyboard, terminal) = terminal();
    let answers = format!(
        "http://plain.example\n{UNREACHABLE}\nsilver\n{GOLD}\n\n{}\n{}\npublic\n",
        certificate.display(),
        key.display()
    );
    keyboard.write_all(answers.as_bytes()).unwrap();

    let mut add = command(&["destination", "add", "crm", "--config"]);
    let Output { status, stdout, stderr } = add.arg(postern.config_file()).stdin(terminal).output().unwrap();

    let (said, asked) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
    assert!(status.success() && said.contains("wrote "), "{said}{asked}");
    assert!(asked.contains("plain HTTP never is") && asked.contains("there is no audience silver"), "{asked}");
    let (_, shown, _) = verb(&["config", "show"], &postern.config_file());
    assert!(
        shown.contains(&format!("endpoint = \"{UNREACHABLE}\"")) && shown.contains("roots = \"public\""),
        "{shown}"
    );
}

/// A terminal: what is typed, and the end that a command reads.
fn terminal() -> (fs::File, fs::File) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let keyboard = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&keyboard).unwrap();
    unlockpt(&keyboard).unwrap();
    let name = ptsname(&keyboard, Vec::new()).unwrap().into_string().unwrap();
    let terminal = fs::OpenOptions::new().read(true).write(true).open(name).unwrap();
    (keyboard.into(), terminal)
}
