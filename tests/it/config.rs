//! Configuration by the command line: drop-ins, what is in effect, and what is wrong or odd.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use serde_json::{Value, json};

use crate::support::{
    appliance::{Appliance, command},
    pki::{Pki, expired},
};

const UNREACHABLE: &str = "https://127.0.0.1:1/in";
const TWO_MONTHS: Duration = Duration::from_secs(60 * 24 * 60 * 60);

/// How a command ended: its code, its stdout and its stderr.
fn run(command: &mut Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
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
