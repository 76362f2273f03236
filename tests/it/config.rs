//! Configuration by the command line: drop-ins and what is in effect.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::{Value, json};

use crate::support::{
    appliance::{Appliance, command},
    pki::Pki,
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
