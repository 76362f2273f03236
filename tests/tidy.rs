//! The architecture as a test: who may name whom, which words are not ours, and how long a file may grow.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Foreign names and the places that own them.
const OWNERS: &[(&str, &[&str])] = &[
    ("sled::", &["src/store/"]),
    ("rustls::", &["src/tls/"]),
    ("tokio_rustls::", &["src/tls/"]),
    ("rcgen::", &["src/tls/"]),
    ("x509_parser::", &["src/certificate/", "src/tls/"]),
    ("p12_keystore::", &["src/certificate/"]),
    ("pem::", &["src/certificate/", "src/tls/"]),
    ("webpki_roots::", &["src/tls/"]),
    ("webpki::", &["src/tls/"]),
    ("aws_lc_rs::", &["src/certificate/", "src/tls/"]),
    ("reqwest::", &["src/tls/"]),
    ("h2::", &["src/tls/"]),
    ("base64::", &["src/config/", "src/token/"]),
    ("form_urlencoded::", &["src/token/", "src/delivery/sender.rs"]),
    ("axum::", &["src/inlet/", "src/admin/", "src/listen.rs"]),
    ("utoipa::", &["src/admin/"]),
    ("utoipa_axum::", &["src/admin/"]),
    ("sd_notify::", &["src/app/"]),
    ("clap::", &["src/cli/"]),
    ("toml::", &["src/config/"]),
    ("regex::", &["src/audience/"]),
    ("winnow::", &["src/audience/"]),
    ("anyhow::", &["src/cli/", "src/app/"]),
    ("anstyle::", &["src/cli/"]),
    ("indicatif::", &["src/cli/"]),
    ("println!", &["src/cli/"]),
    ("process::exit", &[]),
    ("SystemTime", &["src/clock.rs"]),
];

/// What a module must not name of ours. Whatever stands here would make an arrow point back.
const ARROWS: &[(&str, &[&str])] = &[
    ("src/profile/", &["store", "pipeline", "inlet", "delivery", "destination", "tls", "export", "trigger"]),
    ("src/audience/", &["store", "pipeline", "inlet", "delivery", "destination", "tls", "export", "trigger"]),
    ("src/trigger.rs", &["store", "pipeline", "inlet", "delivery", "tls"]),
    ("src/coalesce.rs", &["store", "pipeline", "inlet", "delivery", "tls"]),
    ("src/walk/", &["store", "pipeline", "inlet", "delivery", "tls", "export", "trigger", "admin"]),
    ("src/export.rs", &["store", "pipeline", "inlet", "delivery", "tls"]),
    ("src/destination/", &["store", "pipeline", "inlet", "delivery"]),
    ("src/pipeline", &["inlet", "delivery", "tls"]),
    ("src/store/", &["pipeline", "inlet", "delivery", "tls", "audience", "listen", "admin"]),
    ("src/inlet/", &["delivery", "tls", "destination", "export", "audience", "trigger"]),
    ("src/delivery/", &["inlet", "pipeline", "audience", "profile", "listen", "admin", "walk"]),
    (
        "src/token/",
        &[
            "store",
            "pipeline",
            "inlet",
            "delivery",
            "destination",
            "export",
            "profile",
            "audience",
            "tls",
            "listen",
            "admin",
            "metrics",
            "clock",
        ],
    ),
    (
        "src/certificate/",
        &[
            "store",
            "pipeline",
            "inlet",
            "delivery",
            "destination",
            "export",
            "profile",
            "audience",
            "tls",
            "listen",
            "admin",
            "metrics",
        ],
    ),
    ("src/tls/", &["store", "pipeline", "inlet", "delivery", "destination", "export", "profile", "audience"]),
    ("src/listen.rs", &["store", "pipeline", "inlet", "delivery", "tls", "admin"]),
    ("src/admin/", &["inlet"]),
    ("src/config/", &["pipeline", "delivery", "export", "trigger"]),
    ("src/metrics.rs", &["pipeline", "inlet", "delivery", "tls"]),
];

/// Only these may name the top: configuration, wiring and command line.
const TOP: &[(&str, &[&str])] = &[
    ("crate::config", &["src/config/", "src/app/", "src/cli/"]),
    ("crate::app", &["src/cli/"]),
    ("crate::cli", &["src/cli/"]),
];

/// Modules that do no I/O and know no clock.
const PURE: &[&str] = &[
    "src/profile/",
    "src/audience/",
    "src/destination/",
    "src/certificate/",
    "src/token/",
    "src/trigger.rs",
    "src/coalesce.rs",
    "src/walk/",
    "src/export.rs",
];
const IMPURE: &[&str] = &["tokio::", "std::fs", "std::net", "std::thread", "crate::metrics", "tracing::", "Clock"];

/// Words of other products, and words that say nothing.
const BANNED: &[&str] = &["sink", "webhook", "consumer", "manager", "helper", "utils", "common"];

/// A file beyond this has a second noun.
const LINES_MAX: usize = 500;

fn files(dir: &Path, found: &mut Vec<(String, String)>) {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    for path in entries {
        match path.is_dir() {
            true => files(&path, found),
            false => found.push((name(&path), String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned())),
        }
    }
}

fn name(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().display().to_string()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    files(&root().join("src"), &mut found);
    found.retain(|(name, _)| name.ends_with(".rs"));
    assert!(found.len() > 30, "the sources are where they are looked for");
    found
}

/// The code of a file: without comments, and without its tests.
fn code(name: &str, text: &str) -> String {
    if name.ends_with("tests.rs") {
        return String::new();
    }
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// True when `text` names `what`, not as the end of a longer name.
fn names(text: &str, what: &str) -> bool {
    text.match_indices(what).any(|(at, _)| !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':'))
}

/// True when `text` imports or names `crate::module`, alone or in a list of imports.
fn names_module(text: &str, module: &str) -> bool {
    let path = format!("crate::{module}");
    let listed = text.split("use crate::{").skip(1).flat_map(first_names);
    text.contains(&format!("{path}::"))
        || text.contains(&format!("{path};"))
        || listed.into_iter().any(|name| name == module)
}

/// The first names of the entries of a list of imports, whose opening brace stands just before `list`.
fn first_names(list: &str) -> Vec<String> {
    let (mut depth, mut names, mut name) = (0, Vec::new(), String::new());
    for c in list.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(std::mem::take(&mut name)),
            c if depth == 0 => name.push(c),
            _ => {}
        }
    }
    names.push(name);
    names.iter().map(|name| name.trim().split(':').next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn imports_are_understood() {
    let text = "use crate::{\n    clock::Clock,\n    tls::{A, B},\n    store,\n};\nuse crate::{export::C, inlet};\n";
    for (module, named) in
        [("clock", true), ("tls", true), ("store", true), ("export", true), ("inlet", true), ("A", false)]
    {
        assert_eq!(names_module(text, module), named, "{module}");
    }
}

#[test]
fn foreign_crates_have_one_owner() {
    for (name, text) in sources() {
        let code = code(&name, &text);
        for (foreign, owners) in OWNERS {
            let owned = owners.iter().any(|owner| name.starts_with(owner));
            assert!(owned || !names(&code, foreign), "{name} names {foreign}, which belongs to {owners:?}");
        }
    }
}

#[test]
fn arrows_point_one_way() {
    for (name, text) in sources() {
        let code = code(&name, &text);
        for (from, banned) in ARROWS.iter().filter(|(from, _)| name.starts_with(from)) {
            for module in *banned {
                assert!(!names_module(&code, module), "{name} names crate::{module}: {from} must not");
            }
        }
        for (top, allowed) in TOP {
            let module = top.trim_start_matches("crate::");
            let may = allowed.iter().any(|place| name.starts_with(place));
            assert!(may || !names_module(&code, module), "{name} names {top}: only {allowed:?} may");
        }
        if PURE.iter().any(|pure| name.starts_with(pure)) {
            for impure in IMPURE {
                assert!(!names(&code, impure), "{name} names {impure}: it is pure");
            }
        }
    }
}

#[test]
fn words_are_those_of_the_field() {
    for (name, text) in sources() {
        // X.509 has common names.
        let lower = text.to_lowercase().replace("common name", "").replace("common-name", "");
        for word in BANNED {
            let found = lower.match_indices(word).any(|(at, _)| {
                let edge = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric() && c != '_');
                edge(lower[..at].chars().next_back()) && edge(lower[at + word.len()..].chars().next())
            });
            assert!(!found, "{name} says `{word}`");
        }
    }
}

#[test]
fn files_stay_readable() {
    for (name, text) in sources() {
        let lines = text.lines().count();
        assert!(lines <= LINES_MAX, "{name} has {lines} lines: look for its second noun");
        assert!(text.starts_with("//! "), "{name} does not begin with what it is for");
        assert!(!text.contains("#[allow("), "{name} allows a lint: expect it, with a reason");
    }
}

#[test]
fn no_private_key_is_committed() {
    let mut found = Vec::new();
    ["certs", "packaging", "systemd", "docs", "tests"].iter().for_each(|dir| files(&root().join(dir), &mut found));
    for (name, text) in found {
        // Tests may speak of keys; a key has a long line of base64 behind its heading.
        let mut after = text.split("PRIVATE KEY-----").skip(1).filter_map(|rest| rest.trim_start().lines().next());
        assert!(!after.any(|line| line.len() >= 48 && !line.contains(' ')), "{name} holds a private key");
    }
}
