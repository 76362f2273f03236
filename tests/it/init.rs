//! A first configuration: what `postern init` writes, and what it leaves alone.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

use serde_json::json;

use crate::support::{
    appliance::{Appliance, command},
    pki::Pki,
    sender::update,
};

const SAMPLE: &str = include_str!("../../packaging/postern.toml");

/// How a command ended: its code, its stdout and its stderr.
fn run(command: &mut Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn init(dir: &Path) -> (i32, String, String) {
    run(command(&["init", "--dir"]).arg(dir))
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn init_writes_a_configuration_that_takes_updates() {
    let mut postern = Appliance::set_up(&Pki::new()).write();
    let file = postern.config_file();
    let dir = file.parent().unwrap();
    fs::remove_file(&file).unwrap();

    let (code, stdout, stderr) = init(dir);

    assert_eq!((code, stderr.as_str()), (0, ""));
    assert!(stdout.contains("postern.toml is written") && stdout.contains("postern run --config"), "{stdout}");
    assert_eq!([mode(&file), mode(&dir.join("tls"))], [0o640, 0o750]);
    // Other tests have the default ports.
    let text = fs::read_to_string(&file).unwrap().replace("127.0.0.1:8600", "127.0.0.1:0");
    let text = text.replace("127.0.0.1:8601", "127.0.0.1:0").replace(r#"format = "text""#, r#"format = "json""#);
    fs::write(&file, text).unwrap();
    postern.start_again().await;
    postern.post("web", &update("ada", json!({ "plan": "gold" }))).await;
    assert!(postern.stop().await.success());
    assert!(dir.join("state/FORMAT").exists(), "the state is in the directory itself");
}

#[test]
fn init_puts_an_inlet_beside_the_packaged_file() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("postern.toml"), SAMPLE).unwrap();

    let (code, stdout, stderr) = init(dir.path());

    assert_eq!((code, stderr.as_str()), (0, ""));
    let inlet = dir.path().join("conf.d/web.toml");
    assert!(stdout.contains(&format!("{} is written", inlet.display())), "{stdout}");
    assert_eq!((mode(&inlet), mode(&dir.path().join("conf.d"))), (0o640, 0o750));
    assert_eq!(fs::read_to_string(dir.path().join("postern.toml")).unwrap(), SAMPLE);
    let (code, stdout, stderr) = run(command(&["check", "--config"]).arg(&inlet));
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("1 inlets"), "{stdout}");
}

#[test]
fn init_overwrites_nothing() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(init(dir.path()).0, 0);
    let file = dir.path().join("postern.toml");
    let text = fs::read_to_string(&file).unwrap() + "# mine\n";
    fs::write(&file, &text).unwrap();

    let (code, stdout, _) = init(dir.path());

    assert_eq!(code, 0);
    assert!(stdout.contains("has an inlet already: nothing is written"), "{stdout}");
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
    assert!(!dir.path().join("conf.d/web.toml").exists());

    // A configuration that is refused is not added to.
    fs::write(&file, "inlets = 3\n").unwrap();
    let (code, _, stderr) = init(dir.path());
    assert_eq!(code, 78, "{stderr}");
    assert!(stderr.contains("inlets: unknown key"), "{stderr}");

    // Somebody else's file of that name is theirs.
    fs::write(&file, SAMPLE).unwrap();
    fs::write(dir.path().join("conf.d/web.toml"), "# nothing yet\n").unwrap();
    let (code, _, stderr) = init(dir.path());
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("conf.d/web.toml"), "{stderr}");
    assert_eq!(fs::read_to_string(dir.path().join("conf.d/web.toml")).unwrap(), "# nothing yet\n");
}
