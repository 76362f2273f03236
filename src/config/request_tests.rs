//! Headers and queries that a person adds: what they mean, what is refused, and that no value is shown.

use super::{
    settings::Setting,
    tests::{Folder, destination},
};
use crate::destination::Destination;

fn read(folder: &Folder, more: &str) -> Destination {
    folder.parse(&destination(more)).unwrap_or_else(|error| panic!("{error}")).destinations.remove(0)
}

fn headers(more: &str) -> Vec<(String, String)> {
    let destination = read(&Folder::new(), more);
    destination.headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect()
}

fn query(more: &str) -> String {
    read(&Folder::new(), more).query.unwrap().expose().to_owned()
}

#[test]
fn headers_are_read_from_text_and_from_a_table() {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());

    let text = headers(r#"headers = "X-A: one:two ,x-b:,X-C:3""#);
    let table = headers(r#"headers = { X-A = "a, b", X-B = { file = "token" }, X-C = { credential = "crm" } }"#);

    assert_eq!(text, [pair("x-a", "one:two"), pair("x-b", ""), pair("x-c", "3")]);
    assert_eq!(table, [pair("x-a", "a, b"), pair("x-b", "t0ken"), pair("x-c", "cr3dential")]);
}

#[test]
fn query_is_read_from_text_and_from_a_table() {
    assert_eq!(query(r#"query = "b=2&a=1&a=%20+é""#), "b=2&a=1&a=%20+é");
    assert_eq!(
        query(r#"query = { b = "2 & 3", a = { file = "token" }, "ä" = "+" }"#),
        "a=t0ken&b=2%20%26%203&%C3%A4=%2B"
    );
}

#[test]
fn each_mistake_is_refused_with_its_key_and_without_a_value() {
    let folder = Folder::new();
    for (more, expected) in [
        ("headers = 1", "headers: expected \"name:value"),
        ("headers = \"\"", "headers: part 1 has no `:`"),
        (
            "headers = \"X-A:1,s3cret\"",
            "headers: part 2 has no `:`; a header whose value holds a comma is written in a table",
        ),
        ("headers = \"X A:s3cret\"", "headers: a header's name has letters"),
        ("headers = \"X-A:s3crét\"", "headers: a header's value is visible ASCII"),
        ("headers = \"X-A:…\"", "headers: the value was hidden"),
        ("headers = \"X-A:s3cret,x-a:2\"", "headers: header `x-a` stands twice"),
        ("headers = { X-A = 1 }", "headers.X-A: expected { file = "),
        ("headers = { X-A = \"s3cret\\n\" }", "headers.X-A: a header's value is visible ASCII"),
        ("headers = { X-A = \"…\" }", "headers.X-A: the value was hidden"),
        ("headers = { X-A = { file = \"gone\" } }", "headers.X-A.file: cannot read"),
        ("headers = { \"X A\" = \"s3cret\" }", "headers.X A: a header's name has letters"),
        ("query = 1", "query: expected \"a=1&b=2\""),
        ("query = \"\"", "query: is empty"),
        ("query = {}", "query: is empty"),
        ("query = \"?a=s3cret\"", "query: begins with its first parameter"),
        ("query = \"a=s3cret%2\"", "query: has a `%` without two"),
        ("query = \"a=s3cret\\n\"", "query: holds a control character"),
        ("query = \"a=…&b=s3cret\"", "query: the value was hidden"),
        ("query = { a = [\"s3cret\"] }", "query.a: expected { file = "),
        ("description = \"s3cret\\n\"", "description: expected at most 1024 bytes"),
    ] {
        let lines = folder.refusal(&destination(more));
        assert!(lines[0].starts_with(&format!("postern.toml:9: destination \"crm\".{expected}")), "{more}\n{lines:#?}");
        assert!(!lines.concat().contains("s3cr"), "{lines:#?}");
    }
    let long = format!("headers = \"X-A:{}\"", "x".repeat(8193));
    assert!(folder.refusal(&destination(&long))[0].contains("a header has 8193 bytes, at most 8192"));
    let long = format!("query = \"a={}\"", "x".repeat(4095));
    assert!(folder.refusal(&destination(&long))[0].contains("has 4097 bytes, at most 4096"));
}

#[test]
fn headers_that_are_not_for_a_person_to_set_are_refused_with_the_reason() {
    let folder = Folder::new();
    for (name, reason) in [
        ("Host", "it follows from `endpoint`"),
        ("content-length", "framed"),
        ("Content-Encoding", "framed"),
        ("Transfer-Encoding", "framed"),
        ("Connection", "about the connection"),
        ("Keep-Alive", "about the connection"),
        ("TE", "about the connection"),
        ("Trailer", "about the connection"),
        ("Upgrade", "about the connection"),
        ("Expect", "sent whole"),
        ("Authorization", "use `authentication`"),
        ("Idempotency-Key", "the export's id"),
        ("Proxy-Authorization", "for proxies"),
    ] {
        for more in [format!("headers = \"{name}:s3cret\""), format!("headers = {{ {name} = \"s3cret\" }}")] {
            let line = folder.refusal(&destination(&more)).concat();
            assert!(line.contains(&format!("header `{name}` cannot be set")) && line.contains(reason), "{line}");
            assert!(!line.contains("s3cret"), "{line}");
        }
    }
}

#[test]
fn values_are_hidden_where_settings_are_shown_and_where_destinations_are_printed() {
    let folder = Folder::new();
    for (more, shown) in [
        (
            "headers = \"X-A:s3cret,X-B:s3cret\"\nquery = \"a=s3cret&s3cret&b=s3cret\"",
            vec!["\"X-A:…,X-B:…\"", "\"a=…&…&b=…\""],
        ),
        (
            "headers = { X-A = \"s3cret\", \"!\" = { file = \"token\" } }\nquery = { \"a b\" = \"s3cret\" }",
            vec!["[destination.headers]\nX-A = \"…\"", "[destination.headers.\"!\"]\nfile = ", "\"a b\" = \"…\""],
        ),
    ] {
        let loaded = folder.files(&destination(more)).load().unwrap();

        let text = loaded.settings.to_string();
        shown.iter().for_each(|part| assert!(text.contains(part), "no {part} in\n{text}"));
        let json: Vec<_> = loaded.settings.iter().map(Setting::to_json).collect();
        let all = format!("{text}{json:?}{:?}", loaded.config);
        assert!(!all.contains("s3cret") && !all.contains("t0ken"), "{all}");
        let again = folder.refusal(&text).join("\n");
        assert!(again.contains("was hidden"), "{again}");
    }
}
