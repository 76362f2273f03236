//! What a file says, and everything that can be wrong with it.

use std::{fs, time::Duration};

use proptest::prelude::*;
use secrecy::ExposeSecret;
use tempfile::TempDir;

use super::{
    problem::{Finding, Kind},
    *,
};
use crate::{destination::Authentication, profile::path::AttributePath};

pub(super) const US: &str = r#"
[[audience]]
id = "us"
expression = { type = "PQL", format = "pql/text", value = 'homeAddress.countryISO = "US"' }
"#;

/// A folder with a token, a credential and a client's TLS files.
pub(super) struct Folder(pub(super) TempDir);

impl Folder {
    pub(super) fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        let key = rcgen::KeyPair::generate().unwrap();
        let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let roots = ca.self_signed(&key).unwrap().pem();
        let issuer = rcgen::Issuer::new(ca, &key);
        let leaf_key = rcgen::KeyPair::generate().unwrap();
        let mut leaf = rcgen::CertificateParams::new(vec!["gateway.example".to_owned()]).unwrap();
        leaf.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = leaf.signed_by(&leaf_key, &issuer).unwrap().pem();
        folder.write("tls/ca.pem", &roots);
        folder.write("tls/client.pem", &certificate);
        folder.write("tls/client.key", &leaf_key.serialize_pem());
        folder.write("token", "t0ken\n");
        folder.write("credentials/crm", "cr3dential\r\n");
        folder
    }

    pub(super) fn write(&self, name: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(super) fn files(&self, text: &str) -> Files {
        let credentials = Some(self.path("credentials"));
        Files::of(Path::new("postern.toml"), Ok(text.to_owned()), self.0.path().to_owned(), credentials)
    }

    pub(super) fn parse(&self, text: &str) -> Result<Config, ConfigError> {
        Ok(self.files(text).load()?.config)
    }

    /// The lines of the refusal.
    pub(super) fn refusal(&self, text: &str) -> Vec<String> {
        self.parse(text).expect_err(text).to_string().lines().map(str::to_owned).collect()
    }
}

/// A destination that is good but for what is added to it.
pub(super) fn destination(more: &str) -> String {
    format!(
        "{US}[[destination]]\nname = \"crm\"\nendpoint = \"https://crm.example/\"\naudiences = [\"us\"]\n{more}\n\
         [destination.tls]\ncertificate = \"tls/client.pem\"\nkey = \"tls/client.key\"\nroots = \"tls/ca.pem\"\n"
    )
}

#[test]
fn empty_file_means_the_defaults() {
    let config = Folder::new().parse("").unwrap();

    assert_eq!(config.state_dir, Path::new("/var/lib/postern"));
    assert_eq!(config.server_listen.to_string(), "127.0.0.1:8600");
    assert_eq!(config.admin_listen.to_string(), "127.0.0.1:8601");
    assert_eq!(config.admin_socket, Path::new("/run/postern/admin.sock"));
    assert_eq!(config.log, Log { level: LogLevel::Info, format: LogFormat::Text });
    assert_eq!(config.store, Keeping::default());
    assert!(config.inlets.is_empty() && config.audiences.is_empty() && config.destinations.is_empty());
}

#[test]
fn receipts_are_kept_for_a_week_unless_the_file_says_otherwise() {
    let folder = Folder::new();
    let receipts = |text: &str| folder.parse(text).unwrap().store.receipts;

    let (default, off) = (receipts(""), receipts("[store]\nreceipts_kept = \"0s\"\nreceipts_max = 5"));

    assert_eq!((default.kept, default.count_max), (Duration::from_secs(7 * 24 * 3600), 1_000_000));
    assert_eq!((off.kept, off.count_max), (Duration::ZERO, 5));
    let refused = folder.refusal("[store]\nreceipts_kept = \"9000h\"\nreceipts_max = 0");
    assert_eq!(refused.len(), 2, "{refused:?}");
}

#[test]
fn destination_has_defaults() {
    let config = Folder::new().parse(&destination("")).unwrap();

    let crm = &config.destinations[0];
    assert_eq!(crm.timeout, Duration::from_secs(2));
    assert_eq!(crm.retry_delays, [15, 30].map(Duration::from_secs));
    assert_eq!(crm.max_in_flight, 64);
    assert!(crm.mapping.attributes.is_empty());
    assert!(matches!(crm.authentication, Authentication::None));
    assert_eq!(config.audiences[0].name, "us");
}

#[test]
fn full_file_means_what_it_says() {
    let folder = Folder::new();
    let text = r#"
        state_dir = "state"
        server.listen = "[::1]:1"
        [admin]
        listen = "127.0.0.1:2"
        [log]
        level = "debug"
        format = "json"
        [[inlet]]
        name = "web"
        [[inlet]]
        name = "app"
        dataset = "crm"
        identities = [{ path = "personalEmail.address", namespace = "Email", primary = true }, { path = "id", namespace = "CRM" }]
        [[audience]]
        id = "59bd2fkd-3c48"
        name = "Homes in the US"
        expression = { type = "PQL", format = "pql/text", value = 'homeAddress.countryISO = "US"' }
        [[destination]]
        name = "crm"
        endpoint = "https://crm.example:8443/profiles"
        audiences = ["59bd2fkd-3c48"]
        attributes = ["person.name.firstName", "person"]
        authentication = { bearer = { file = "token" } }
        timeout = "500ms"
        retry_delays = ["1s", "1h"]
        max_in_flight = 1_024
        [destination.tls]
        certificate = "tls/client.pem"
        key = "tls/client.key"
        roots = "tls/ca.pem"
        [[destination]]
        name = "ads"
        endpoint = "https://ads.example"
        audiences = ["59bd2fkd-3c48"]
        authentication.bearer.credential = "crm"
        tls = { certificate = "tls/client.pem", key = "tls/client.key", roots = "public" }
    "#;

    let config = folder.parse(text).unwrap();

    assert_eq!(config.state_dir, folder.path("state"));
    assert_eq!([config.server_listen, config.admin_listen].map(|a| a.to_string()), ["[::1]:1", "127.0.0.1:2"]);
    assert_eq!(config.log, Log { level: LogLevel::Debug, format: LogFormat::Json });
    assert_eq!([&config.inlets[0].dataset, &config.inlets[1].dataset], ["web", "crm"]);
    assert_eq!(config.inlets[1].identities.iter().map(|i| i.primary).collect::<Vec<_>>(), [true, false]);
    assert_eq!(config.audiences[0].name, "Homes in the US");
    let crm = &config.destinations[0];
    assert_eq!(crm.endpoint.to_string(), "https://crm.example:8443/profiles");
    assert_eq!(crm.mapping.audiences, [config.audiences[0].id.clone()]);
    assert_eq!(
        crm.mapping.attributes.iter().map(AttributePath::to_string).collect::<Vec<_>>(),
        ["person.name.firstName", "person"]
    );
    assert_eq!(crm.timeout, Duration::from_millis(500));
    assert_eq!(crm.retry_delays, [1, 3600].map(Duration::from_secs));
    assert_eq!(crm.max_in_flight, 1024);
    let secrets = config.destinations.iter().map(|destination| match &destination.authentication {
        Authentication::Bearer(token) => token.expose_secret(),
        Authentication::None | Authentication::OAuth2(_) => "",
    });
    assert_eq!(secrets.collect::<Vec<_>>(), ["t0ken", "cr3dential"]);
    assert!(!format!("{config:?}").contains("t0ken"));
}

#[test]
fn each_mistake_is_refused_with_its_line_and_key() {
    let folder = Folder::new();
    folder.write("empty", "\n");
    folder.write("two-lines", "a\nb");
    folder.write("long", &"x".repeat(8193));
    let near = format!("{US}[[audience]]\nid = \"us\"\n{}", US.lines().last().unwrap());
    let many = format!("attributes = [{}]", (0..201).map(|n| format!("\"a{n}\",")).collect::<String>());
    for (text, expected) in [
        ("state_dir = 1", r#"1: state_dir: expected a path, found an integer"#),
        ("state_dir = \"\"", "1: state_dir: expected a path, found an empty"),
        ("\nserver = 1", "2: server: expected a table, found an integer"),
        ("[server]\nlisten = \"localhost:1\"", "2: server.listen: expected an address and a port"),
        ("[server]\nlisten = \"0.0.0.0:8600\"", "2: server.listen: must be a loopback address"),
        ("[server]\nlisten = \"127.0.0.1:8601\"", "1: server: the inlets and the admin side cannot share"),
        ("[log]\nlevel = \"inof\"", "2: log.level: expected `error` or `warn` or `info` or `debug`"),
        ("[log]\nlevle = \"info\"", "2: log.levle: unknown key; did you mean `level`?"),
        ("\n[[inlets]]", "2: inlets: unknown key; did you mean `inlet`?"),
        ("[log]\nsomething = 1", "2: log.something: unknown key; known here: level, format"),
        ("[[inlet]]", "1: inlet #1: `name` is missing"),
        ("inlet = 1", "1: inlet: expected a list, found an integer"),
        ("inlet = [1]", "1: inlet #1: expected a table [[inlet]]"),
        ("[[inlet]]\nname = \"a b\"", "2: inlet #1.name: a name has 1 to 64"),
        ("[[inlet]]\nname = \"a\"\n[[inlet]]\nname = \"a\"", "4: inlet \"a\".name: the same stands on line 2 already"),
        (
            "[[inlet]]\nname = \"a\"\nidentities = [\n{ path = \"a\", namespace = \"E\", primary = true },\n\
             { path = \"b\", namespace = \"E\", primary = true }]",
            "5: inlet \"a\".identities #2: only one identity can be primary, line 4 has one",
        ),
        (
            "[[inlet]]\nname = \"a\"\nidentities = [{ path = \"a..b\", namespace = \"E\" }]",
            "3: inlet \"a\".identities #1.path: `a..b` is not an attribute path",
        ),
        (&near, "6: audience \"us\".id: the same stands on line 3 already"),
        (
            "[[audience]]\nid = \"a\"\nexpression = { type = \"PQL\", format = \"pql/json\", value = \"a = 1\" }",
            "3: audience \"a\".expression.format: expected `pql/text`",
        ),
        (
            "[[audience]]\nid = \"a\"\nexpression = { type = \"PQL\", format = \"pql/text\", value = \"a occurs 1\" }",
            "3: audience \"a\".expression.value: rule line 1, column 3: `occurs` is PQL",
        ),
        ("[[audience]]\nid = \"a\"", "1: audience \"a\": `expression` is missing"),
        (&US.replace("\"us\"", "\"a b\""), "3: audience #1.id: an audience id has"),
        (&destination("timeout = 2"), "9: destination \"crm\".timeout: expected a duration such as \"500ms\""),
        (&destination("timeout = \"2\""), "9: destination \"crm\".timeout: expected a whole number and a unit"),
        (&destination("timeout = \"61s\""), "9: destination \"crm\".timeout: expected a duration from 1ms to 60s"),
        (&destination("timeuot = \"1s\""), "9: destination \"crm\".timeuot: unknown key; did you mean `timeout`?"),
        (&destination("retry_delays = [\"1s\"]"), "9: destination \"crm\".retry_delays: expected exactly two"),
        (
            &destination("retry_delays = [\"1s\",\n\"0s\"]"),
            "10: destination \"crm\".retry_delays #2: expected a duration from",
        ),
        (&destination("max_in_flight = 0"), "9: destination \"crm\".max_in_flight: expected an integer from 1 to 1024"),
        (
            &destination("batch = 10"),
            "9: destination \"crm\".batch: expected a table such as { max_exports = 100, format = \"array\" }, found",
        ),
        (
            &destination("batch = { max_exports = 1001 }"),
            "9: destination \"crm\".batch.max_exports: expected an integer from 1 to 1000",
        ),
        (
            &destination("batch = { max_bytes = \"0KiB\" }"),
            "9: destination \"crm\".batch.max_bytes: expected at least 1KiB",
        ),
        (
            &destination("batch = { max_wait = \"61s\" }"),
            "9: destination \"crm\".batch.max_wait: expected a duration from",
        ),
        (
            &destination("batch = { format = \"csv\" }"),
            "9: destination \"crm\".batch.format: expected `array` or `ndjson`",
        ),
        (&destination("batch = { exports = 3 }"), "9: destination \"crm\".batch.exports: unknown key"),
        (
            &destination("batch = { max_bytes = \"2MiB\" }"),
            "9: destination \"crm\".batch.max_bytes: 64 requests may be in memory at once, and 64MiB of them at most: set it to 1MiB",
        ),
        (
            &destination("max_in_flight = 1024\nbatch = {}"),
            "10: destination \"crm\".batch.max_bytes: 1024 requests may be in memory at once",
        ),
        (
            &destination("max_in_flight = -1"),
            "9: destination \"crm\".max_in_flight: expected an integer from 1 to 1024",
        ),
        (
            &destination("attributes = [\"a\", \"a\"]"),
            "9: destination \"crm\".attributes #2: the same stands on line 9",
        ),
        (&destination(&many), "9: destination \"crm\".attributes: has 201 entries, at most 200"),
        (
            &destination("authentication = \"s3cret\""),
            "9: destination \"crm\".authentication: expected a table such as",
        ),
        (
            &destination("authentication = { bearer = \"s3cret\" }"),
            "9: destination \"crm\".authentication.bearer: a secret is not written here; keep it in a file",
        ),
        (
            &destination("authentication = { bearer = { file = \"gone\" } }"),
            "9: destination \"crm\".authentication.bearer.file: cannot read",
        ),
        (
            &destination("authentication = { bearer = { file = \"long\" } }"),
            "9: destination \"crm\".authentication.bearer.file: cannot read",
        ),
        (
            &destination("authentication = { bearer = { credential = \"../token\" } }"),
            "9: destination \"crm\".authentication.bearer.credential: expected the name of a credential, not a path",
        ),
        (
            &destination("authentication = { bearer = {} }"),
            "9: destination \"crm\".authentication.bearer: expected one of",
        ),
        (
            &destination("memberships = \"some\""),
            "9: destination \"crm\".memberships: expected `merge-policy` or `mapped` or `all`",
        ),
        (
            &destination("local_address = \"gateway\""),
            "9: destination \"crm\".local_address: expected an address of this machine",
        ),
        (&destination("max_rate = 0"), "9: destination \"crm\".max_rate: expected an integer from 1 to 100000"),
        (&destination("unreachable = \"drop\""), "9: destination \"crm\".unreachable: expected `hold` or `count`"),
        (&destination("local_address = \"0.0.0.0\""), "9: destination \"crm\".local_address: names no address"),
        (
            &destination("").replace("roots", "min_tls = \"1.1\"\nroots"),
            "13: destination \"crm\".tls.min_tls: expected `1.3` or `1.2`",
        ),
        (
            &destination("").replace("roots", "pins = [\"abc\"]\nroots"),
            "13: destination \"crm\".tls.pins #1: expected the SHA-256",
        ),
        (&destination("unique_id = \"CRM\""), "9: destination \"crm\".unique_id: expected { namespace = "),
        (&destination("unique_id = {}"), "9: destination \"crm\".unique_id: expected one of"),
        (
            &destination("attributes = [\"a.b\"]\nunique_id = { attribute = \"a.bc\" }"),
            "10: destination \"crm\".unique_id.attribute: the receiver would not see it; add `a.bc` to `attributes`",
        ),
        (
            &US.replace("id =", "created_at = \"2022-03-29\"\nid ="),
            "3: audience \"us\".created_at: expected an instant",
        ),
        (&destination("").replace("[\"us\"]", "[]"), "8: destination \"crm\".audiences: map at least one"),
        (
            &destination("").replace("[\"us\"]", "[\"uss\"]"),
            "8: destination \"crm\".audiences #1: no audience `uss`; did you mean `us`?",
        ),
        (
            &destination("").replace("[\"us\"]", "[\"other\"]"),
            "8: destination \"crm\".audiences #1: no audience `other`; add it",
        ),
        (&destination("").replace("https:", "http:"), "7: destination \"crm\".endpoint: "),
        (&destination("").replace("roots = \"tls/ca.pem\"", ""), "10: destination \"crm\".tls: `roots` is missing"),
    ] {
        let lines = folder.refusal(text);
        assert!(lines[0].starts_with(&format!("postern.toml:{expected}")), "{text}\n{lines:#?}");
        assert!(
            !lines.iter().skip(1).any(|line| line.starts_with("postern.toml")),
            "one mistake, many lines: {lines:#?}"
        );
        assert!(!lines.concat().contains("s3cret"), "{lines:#?}");
    }
    for (file, part) in [("empty", "is empty"), ("two-lines", "cannot stand in a header")] {
        let lines = folder.refusal(&destination(&format!("authentication = {{ bearer = {{ file = \"{file}\" }} }}")));
        assert!(lines[0].contains(part), "{lines:#?}");
    }
}

#[test]
fn pin_is_read_however_it_is_spelled() {
    let folder = Folder::new();
    let digits = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let base64 = "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=";
    let with = |pin: &str| {
        let text = destination("").replace("roots", &format!("pins = [\"{pin}\"]\nroots"));
        folder.parse(&text).unwrap().destinations.remove(0).tls
    };

    for pin in [&digits.to_uppercase(), base64, &format!("sha256//{base64}")] {
        assert_eq!(with(pin), with(digits), "{pin}");
    }
    assert_ne!(with(&digits.replace('b', "c")), with(digits));
}

#[test]
fn files_of_certificates_are_found_beside_whatever_else_is_said_of_tls() {
    let folder = Folder::new();
    let digits = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let text = destination("").replace("roots", &format!("min_tls = \"1.2\"\npins = [\"{digits}\"]\nroots"));
    fs::write(folder.path("postern.toml"), text).unwrap();

    let found = certificate_files(&folder.path("postern.toml")).unwrap();

    assert_eq!(found.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["crm"]);
}

#[test]
fn ten_mistakes_are_reported_in_one_run_by_line() {
    let text = r#"state_dir = 1
[log]
level = 5
color = true
[[inlet]]
dataset = "a"
[[audience]]
id = "a"
name = ""
expression = { type = "SQL", format = "pql/text", value = "a" }
[[destination]]
name = "crm"
endpoint = "http://crm.example"
audiences = ["b"]
tls = 3
"#;

    let error = Folder::new().parse(text).unwrap_err();

    let lines: Vec<usize> = error.problems().iter().filter_map(|problem| problem.line).collect();
    assert_eq!(lines, [1, 3, 4, 5, 9, 10, 10, 13, 14, 15], "{error}");
}

#[test]
fn what_is_not_toml_is_refused_with_line_and_column_and_without_its_text() {
    let folder = Folder::new();
    for (text, expected) in [
        ("a = 1\nb = s3cret", "postern.toml:2: not TOML at column 5: "),
        ("[log]\nlevel = \"info\"\nlevel = \"warn\"", "postern.toml:3: not TOML at column 1: `level` is written twice"),
        ("a = \"s3cret", "postern.toml:1:"),
    ] {
        let lines = folder.refusal(text);
        assert!(lines[0].starts_with(expected), "{lines:#?}");
        assert!(!lines.concat().contains("s3cret"), "{lines:#?}");
    }
}

#[test]
fn file_that_cannot_be_read_says_why() {
    let folder = Folder::new();
    fs::write(folder.path("latin1.toml"), b"# fine\n# caf\xe9\n").unwrap();
    fs::write(folder.path("good.toml"), destination("authentication = { bearer = { file = \"token\" } }")).unwrap();

    assert!(matches!(Config::load(&folder.path("gone.toml")), Err(ConfigError::Missing(_))));
    assert!(matches!(Config::load(&folder.path("tls")), Err(ConfigError::Unreadable(..))));
    let latin1 = Config::load(&folder.path("latin1.toml")).unwrap_err();
    assert!(matches!(latin1.problems(), [Finding { kind: Kind::NotUtf8, line: Some(2), .. }]), "{latin1}");
    assert!(Config::load(&folder.path("good.toml")).is_ok());
}

#[test]
fn packaged_sample_loads_with_and_without_its_examples() {
    let folder = Folder::new();
    let sample = include_str!("../../packaging/postern.toml");
    let uncommented: String = sample
        .lines()
        .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line))
        .flat_map(|line| [line, "\n"])
        .collect();

    assert!(folder.parse(sample).unwrap().destinations.is_empty());
    let config = folder.parse(&uncommented).unwrap();
    assert_eq!((config.inlets.len(), config.audiences.len(), config.destinations.len()), (1, 1, 1));
}

#[test]
fn examples_of_the_documentation_load() {
    let folder = Folder::new();
    let docs = include_str!("../../docs/configuration.md");
    let example = docs.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();

    assert_eq!(folder.parse(example).unwrap().destinations.len(), 1);
}

fn nowhere(text: String) -> Files {
    Files::of(Path::new("f"), Ok(text), PathBuf::from("/nowhere"), None)
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in any::<String>()) {
        let _ = nowhere(text).load().map(|loaded| loaded.settings.to_string()).map_err(|error| error.to_string());
    }

    #[test]
    fn arbitrary_lines_never_panic(lines in prop::collection::vec(prop::sample::select(vec![
        "[[inlet]]", "[[audience]]", "[[destination]]", "[destination.tls]", "[log]", "[server]", "name = \"a\"", "id = \"a\"",
        "name = 1", "listen = \"é\"", "expression = { value = \"(\" }", "audiences = [\"a\", 1]", "tls = {}", "é = 1", "[", "\"",
        "'''", "authentication.bearer = {}", "identities = [{}]", "level = []", "[[merge_policy]]", "merge_policy = \"a\"", "type = \"dataSetPrecedence\"", "datasets = [\"a\"]", "default = true", "timeout = \"1s\"", "destination = 1",
    ]), 0..20)) {
        // The second half as a drop-in.
        let (main, drop_in) = lines.split_at(lines.len() / 2);
        let mut files = nowhere(main.join("\n"));
        files.add(PathBuf::from("/nowhere/conf.d/a.toml"), drop_in.join("\n"));
        if let Ok(Loaded { settings, .. }) = files.load() {
            let again = nowhere(settings.to_string()).load().map(|loaded| loaded.settings);
            let values = |settings: &Settings| settings.iter().map(|one| one.to_json()["value"].clone()).collect::<Vec<_>>();
            prop_assert_eq!(again.map(|again| values(&again)).map_err(|error| error.to_string()), Ok(values(&settings)));
        }
    }
}
