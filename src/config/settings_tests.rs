//! What `config show` prints: everything, where it comes from, and so that it can be loaded again.

use std::{collections::BTreeSet, fs, path::Path};

use super::{
    settings::Setting,
    tests::{Folder, destination},
    *,
};

/// A configuration that comes by every key that the code knows.
fn every_key() -> String {
    let inlet = "[[inlet]]\nname = \"web\"\nidentities = [{ path = \"a.b\", namespace = \"E\" }, { path = \"c\", namespace = \"C\", primary = true }]\n";
    format!(
        "{inlet}{}{}",
        destination(
            "authentication = { bearer = { file = \"token\" } }\nunique_id = { namespace = \"CRM\" }\nbatch = {}"
        ),
        "[[destination]]\nname = \"ads\"\nendpoint = \"https://ads.example/\"\naudiences = [\"us\"]\n\
         [destination.authentication.oauth2]\ngrant = \"password\"\ntoken_url = \"https://id.example/\"\nclient_id = \"me\"\n\
         client_secret.file = \"token\"\nusername = \"ann\"\npassword.file = \"token\"\ncredentials = \"basic\"\n[destination.tls]\n\
         certificate = \"tls/client.pem\"\nkey = \"tls/client.key\"\nroots = \"public\"\n"
    )
}

fn settings(folder: &Folder, text: &str) -> Settings {
    folder.files(text).load().unwrap_or_else(|error| panic!("{error}\n{text}")).settings
}

fn values(settings: &Settings) -> Vec<(String, serde_json::Value)> {
    settings.iter().map(|setting| (setting.key.clone(), setting.to_json()["value"].clone())).collect()
}

#[test]
fn what_is_shown_means_the_same_in_any_folder() {
    let folder = Folder::new();
    let rule = r#"value = 'homeAddress.countryISO = "US"'"#;
    let text = every_key().replace(rule, "value = \"\"\"\na = \\\"it's \\u007f\\\"\n and b = \\\"c\\\"\"\"\"");
    assert!(!text.contains(rule));
    for text in [String::new(), every_key(), text] {
        let first = settings(&folder, &text);
        let elsewhere = Folder::new();
        let second = settings(&elsewhere, &first.to_string());

        assert_eq!(values(&first), values(&second), "{first}");
        assert!(second.iter().all(|setting| setting.origin != settings::Origin::Default), "{second}");
    }
}

#[test]
fn every_key_has_its_value_and_origin() {
    let folder = Folder::new();

    let shown = settings(&folder, &every_key()).to_string();

    let token = folder.path("token");
    for line in [
        "state_dir = \"/var/lib/postern\"  # default",
        "\n[admin]\nlisten = \"127.0.0.1:8601\"           # default\nsocket = \"/run/postern/admin.sock\"  # default\n",
        "\n[store]\nhard_limit = \"10GiB\"    # default\nsoft_limit = \"8GiB\"     # default\n#free_min               # not set\n",
        "\n[[inlet]]\nname = \"web\"     # postern.toml:2\ndataset = \"web\"  # default\n",
        "\n[[inlet.identities]]\npath = \"a.b\"     # postern.toml:3\nnamespace = \"E\"  # postern.toml:3\nprimary = false  # default\n",
        "\nvalue = 'homeAddress.countryISO = \"US\"'  # postern.toml:7\n",
        "retry_delays = [\"15s\", \"30s\"]  ",
        "\n[destination.authentication.bearer]\n",
        &format!("\nfile = {token:?}"),
        "\n[destination.tls]\n",
        "\nroots = \"public\"",
    ] {
        assert!(shown.contains(line), "no {line:?} in\n{shown}");
    }
    assert!(!shown.contains("t0ken"), "{shown}");
}

#[test]
fn json_has_a_key_a_value_and_an_origin() {
    let settings = settings(&Folder::new(), &every_key());

    let json: Vec<_> = settings.iter().map(Setting::to_json).collect();

    for entry in [
        serde_json::json!({ "key": "log.level", "value": "info", "origin": "default" }),
        serde_json::json!({ "key": "store.free_min", "value": null, "origin": "not set" }),
        serde_json::json!({ "key": "inlet \"web\".identities #2.primary", "value": true, "origin": "postern.toml:3" }),
        serde_json::json!({ "key": "destination \"crm\".max_in_flight", "value": 64, "origin": "default" }),
        serde_json::json!({ "key": "destination \"crm\".audiences", "value": ["us"], "origin": "postern.toml:11" }),
    ] {
        assert!(json.contains(&entry), "no {entry} in {json:#?}");
    }
}

/// The keys that the code asks for, each with the list to which it belongs: `destination` and `tls.key`.
fn known() -> BTreeSet<(String, String)> {
    let settings = settings(&Folder::new(), &every_key());
    let known = settings.iter().map(|setting| {
        // Names stand in quotes, entries of lists behind a `#`.
        let words =
            setting.key.split(' ').map(|word| word.trim_start_matches(|c: char| c == '#' || c.is_ascii_digit()));
        let path: String = words
            .map(|word| word.strip_prefix('"').and_then(|name| name.split_once('"')).map_or(word, |(_, rest)| rest))
            .collect();
        let list = ["inlet", "audience", "destination"].iter().find(|list| path.starts_with(&format!("{list}.")));
        list.map_or((String::new(), path.clone()), |list| ((*list).to_owned(), path[list.len() + 1..].to_owned()))
    });
    known.collect()
}

#[test]
fn every_key_is_documented() {
    let docs = include_str!("../../docs/configuration.md");
    let known = known();
    assert!(known.contains(&("inlet".to_owned(), "identities.path".to_owned())), "{known:?}");
    assert!(known.contains(&(String::new(), "admin.socket".to_owned())), "{known:?}");

    for (list, key) in &known {
        let heading = if list.is_empty() { "\n## The appliance".to_owned() } else { format!("\n## `[[{list}]]`") };
        let part = docs.split(&heading).nth(1).expect("each list has a part of its own");
        let part = part.split("\n## ").next().unwrap_or_default();
        assert!(part.contains(&format!("\n| `{key}` |")), "docs/configuration.md: no `{key}` below {heading}");
    }
}

#[test]
fn every_key_is_in_the_manual_page() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/man/postern.toml.5");
    // The page is no part of a build without packaging.
    let Ok(text) = fs::read_to_string(page) else { return };
    // What roff writes for itself inside a word.
    let text = text.replace("\\&", "").replace("\\-", "-").replace("\\_", "_");

    for (list, key) in known() {
        // A key of a table inside an entry stands below that table.
        let is_below = key.split('.').all(|part| text.contains(&format!("\n.B {part}\n")));
        assert!(text.contains(&key) || is_below, "packaging/man/postern.toml.5: no `{key}` of `{list}`");
    }
}
