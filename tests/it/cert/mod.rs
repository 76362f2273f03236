//! What an operator does with certificates.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

mod inspect;
mod openssl;
mod verify;
mod watch;

/// Where the samples are.
fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("certs/fixtures")
}

fn sample(name: &str) -> PathBuf {
    samples().join(name)
}

/// One sample after the other.
fn joined(names: &[&str]) -> String {
    names.iter().map(|name| fs::read_to_string(sample(name)).unwrap()).collect()
}

/// How a command ended: its code, its stdout and its stderr.
fn run(command: &mut Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}
