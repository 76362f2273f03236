//! How a destination knows us, as it is written, and what is wrong with it.

use std::time::Duration;

use secrecy::ExposeSecret;

use super::tests::{Folder, destination};
use crate::{
    destination::{Authentication, OAuth2, TokenMtls},
    token::{BasicEncoding, Credentials, Grant},
};

const GOOD: &str = r#"grant = "client_credentials", token_url = "https://id.example/t?a=1", client_id = "me", client_secret = { file = "token" }"#;

fn oauth2(folder: &Folder, settings: &str) -> OAuth2 {
    let config = folder.parse(&destination(&format!("authentication = {{ oauth2 = {{ {settings} }} }}"))).unwrap();
    match &config.destinations[0].authentication {
        Authentication::OAuth2(oauth2) => (**oauth2).clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn defaults_are_the_body_and_mutual_tls() {
    let read = oauth2(&Folder::new(), GOOD);

    assert_eq!(read.token_url.to_string(), "https://id.example/t?a=1");
    assert_eq!((read.token_mtls, read.timeout), (TokenMtls::Require, Duration::from_secs(10)));
    assert_eq!((read.access.client_id.as_str(), read.access.client_secret.expose_secret()), ("me", "t0ken"));
    assert_eq!(
        (read.access.credentials, read.access.grant, read.access.scope),
        (Credentials::Body, Grant::ClientCredentials, None)
    );
}

#[test]
fn everything_can_be_said() {
    let folder = Folder::new();
    folder.write("password", "pässword with \u{1f511}\n");
    let settings = GOOD.replace("client_credentials", "password")
        + r#", username = "ann", password = { file = "password" }, credentials = "basic", basic_encoding = "plain", scope = "a b""#
        + r#", token_mtls = "offer", timeout = "3s""#;

    let read = oauth2(&folder, &settings);

    assert_eq!((read.token_mtls, read.timeout), (TokenMtls::Offer, Duration::from_secs(3)));
    assert_eq!(read.access.credentials, Credentials::Basic(BasicEncoding::Plain));
    assert_eq!(read.access.scope.as_deref(), Some("a b"));
    let password = "pässword with \u{1f511}".to_owned().into();
    assert_eq!(read.access.grant, Grant::Password { username: "ann".to_owned(), password });
    assert!(!format!("{read:?}").contains("pässword") && !format!("{read:?}").contains("t0ken"));
}

#[test]
fn another_secret_is_another_destination() {
    let folder = Folder::new();
    let before = oauth2(&folder, GOOD);
    assert_eq!(before, oauth2(&folder, GOOD));
    folder.write("token", "another\n");
    assert_ne!(before, oauth2(&folder, GOOD));
}

#[test]
fn each_mistake_is_refused_with_its_key_and_the_way_out() {
    let folder = Folder::new();
    folder.write("lines", "one\ntwo");
    let with = |more: &str| format!("oauth2 = {{ {GOOD}, {more} }}");
    let instead = |what: &str, better: &str| format!("oauth2 = {{ {} }}", GOOD.replace(what, better));
    for (written, key, said) in [
        ("oauth2 = \"x\"".to_owned(), ".oauth2", "expected a table with grant"),
        (String::new(), "", "expected one of `bearer` and `oauth2`"),
        (format!("bearer = {{ file = \"token\" }}, {}", with("")), "", "remove the other"),
        ("oauth2 = {}".to_owned(), ".oauth2", "`grant` is missing"),
        ("oauth2 = {}".to_owned(), ".oauth2", "`token_url` is missing"),
        ("oauth2 = {}".to_owned(), ".oauth2", "`client_id` is missing"),
        ("oauth2 = {}".to_owned(), ".oauth2", "`client_secret` is missing"),
        (instead("client_credentials", "implicit"), ".oauth2.grant", "expected `client_credentials` or `password`"),
        (instead("client_credentials", "password"), ".oauth2", "`username` is missing"),
        (instead("client_credentials", "password"), ".oauth2", "`password` is missing"),
        (with(r#"username = "ann""#), ".oauth2.username", "unknown key"),
        (instead("https", "http"), ".oauth2.token_url", "plain HTTP never is"),
        (instead("\"me\"", "\"\""), ".oauth2.client_id", "without control characters"),
        (instead("{ file = \"token\" }", "\"s3cret\""), ".oauth2.client_secret", "a secret is not written here"),
        (instead("token\"", "lines\""), ".oauth2.client_secret.file", "in one line"),
        (instead("token\"", "gone\""), ".oauth2.client_secret.file", "cannot read"),
        (with(r#"credentials = "header""#), ".oauth2.credentials", "expected `body` or `basic`"),
        (with(r#"basic_encoding = "plain""#), ".oauth2.basic_encoding", "for `credentials = \"basic\"` alone"),
        (
            instead("\"me\"", "\"m:e\", credentials = \"basic\", basic_encoding = \"plain\""),
            ".oauth2.basic_encoding",
            "use `rfc6749`",
        ),
        (with(r#"scope = "a  b""#), ".oauth2.scope", "one space between"),
        (with(r#"scope = "é""#), ".oauth2.scope", "visible ASCII"),
        (with(r#"token_mtls = "never""#), ".oauth2.token_mtls", "expected `require` or `offer`"),
        (with(r#"timeout = "2m""#), ".oauth2.timeout", "expected a duration from"),
        (with(r#"scop = "a""#), ".oauth2.scop", "did you mean `scope`?"),
    ] {
        let lines = folder.refusal(&destination(&format!("authentication = {{ {written} }}")));

        let expected = format!("destination \"crm\".authentication{key}: ");
        let found = lines.iter().any(|line| line.contains(&expected) && line.contains(said));
        assert!(found, "no {expected:?} with {said:?} in {lines:#?}");
        assert!(!lines.iter().any(|line| line.contains("s3cret") || line.contains("t0ken")), "{lines:#?}");
    }
}
