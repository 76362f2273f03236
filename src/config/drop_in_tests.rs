//! Several files as one configuration, and what can be wrong between them.

use std::fs;

use super::{
    problem::Kind,
    tests::{Folder, US, destination},
    *,
};
use crate::{clock::Clock, destination::Authentication};

/// A folder whose main file says this.
fn folder(main: &str) -> Folder {
    let folder = Folder::new();
    folder.write("postern.toml", main);
    folder
}

fn load(folder: &Folder) -> Result<Loaded, ConfigError> {
    Files::read(&folder.path("postern.toml")).unwrap().load()
}

/// The lines of the refusal, without the folder.
fn refusal(folder: &Folder) -> Vec<String> {
    let folder_name = format!("{}/", folder.path("").display());
    let text = load(folder).unwrap_err().to_string().replace(folder_name.trim_end_matches('/'), "");
    text.lines().map(|line| line.trim_start_matches('/').to_owned()).collect()
}

fn inlets(from: usize, count: usize) -> String {
    (from..from + count).map(|n| format!("[[inlet]]\nname = \"i{n}\"\n")).collect()
}

#[test]
fn lists_add_up_in_lexical_order_and_later_values_win_key_by_key() {
    let folder = folder("log.level = \"warn\"\nserver.listen = \"127.0.0.1:1\"\n[[inlet]]\nname = \"main\"\n");
    folder.write("conf.d/20-b.toml", "log.level = \"debug\"\n[[inlet]]\nname = \"b\"\n");
    folder.write("conf.d/10-a.toml", "log = { level = \"error\", format = \"json\" }\n[[inlet]]\nname = \"a\"\n");
    folder.write("conf.d/30-crm.toml", &destination("authentication = { bearer = { file = \"token\" } }"));

    let Loaded { config, settings, .. } = load(&folder).unwrap();

    assert_eq!(config.log, Log { level: LogLevel::Debug, format: LogFormat::Json });
    assert_eq!(config.server_listen.port(), 1);
    assert_eq!(config.inlets.iter().map(|inlet| inlet.name.as_str()).collect::<Vec<_>>(), ["main", "a", "b"]);
    assert!(matches!(config.destinations[0].authentication, Authentication::Bearer(_)), "relative to the main file");
    for (key, origin) in [
        ("log.level", "conf.d/20-b.toml:1"),
        ("log.format", "conf.d/10-a.toml:1"),
        ("server.listen", "postern.toml:2"),
        ("admin.listen", "default"),
        ("inlet \"a\".name", "conf.d/10-a.toml:3"),
        ("inlet \"a\".dataset", "default"),
        ("destination \"crm\".tls.key", "conf.d/30-crm.toml:12"),
        ("store.free_min", "not set"),
    ] {
        assert_eq!(settings.origin(key).map(ToString::to_string).as_deref(), Some(origin), "{key}");
    }
}

#[test]
fn only_names_that_end_in_toml_and_do_not_begin_with_a_dot_are_read() {
    let folder = folder("");
    for name in ["a.toml.disabled", "a.toml~", ".a.toml", "README", "b.toml"] {
        folder.write(&format!("conf.d/{name}"), "[[inlet]]\nname = \"one\"\n");
    }

    assert_eq!(load(&folder).unwrap().config.inlets.len(), 1);
    let files = Files::read(&folder.path("postern.toml")).unwrap();
    assert_eq!(files.paths().collect::<Vec<_>>(), [folder.path("postern.toml"), folder.path("conf.d/b.toml")]);
}

#[test]
fn each_problem_names_its_own_file_and_files_that_do_not_read_hide_nothing() {
    let folder = folder("log.level = 5\nstate_dir = 1\n");
    folder.write("conf.d/a.toml", "[[audience]]\nid = s3cret\n");
    fs::write(folder.path("conf.d/b.toml"), b"# fine\n# caf\xe9\n").unwrap();
    fs::create_dir(folder.path("conf.d/c.toml")).unwrap();
    folder.write("conf.d/d.toml", "\nlog = 1\n[[inlet]]\nnam = \"x\"\n[[inlet]]\nname = \"x\"\n");
    folder.write("conf.d/e.toml", &destination("").replace(US, ""));
    std::os::unix::fs::symlink("nowhere", folder.path("conf.d/f.toml")).unwrap();

    let lines = refusal(&folder);

    let expected = [
        "postern.toml:2: state_dir: expected a path",
        "conf.d/a.toml:2: not TOML at column 6: ",
        "conf.d/b.toml:2: not UTF-8 text; save the file as UTF-8",
        "conf.d/c.toml: cannot read it: it is not a regular file",
        "conf.d/d.toml:2: log: expected a table, found an integer",
        "conf.d/d.toml:3: inlet #1: `name` is missing",
        "conf.d/d.toml:4: inlet #1.nam: unknown key; did you mean `name`?",
        "conf.d/f.toml: cannot read it: No such file",
    ];
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.starts_with(expected), "{line} is not {expected}");
        assert!(!line.contains("s3cret"), "{line}");
    }
}

#[test]
fn what_stands_twice_names_the_other_file() {
    let folder = folder("[[inlet]]\nname = \"web\"\n");
    folder.write("conf.d/a.toml", "\n\n[[inlet]]\nname = \"web\"\n");

    let [line] = &refusal(&folder)[..] else { panic!("one mistake, one line") };

    assert!(line.starts_with("conf.d/a.toml:4: inlet \"web\".name: the same stands in /"), "{line}");
    assert!(line.ends_with("postern.toml:2 already"), "{line}");
    let error = load(&folder).unwrap_err();
    assert_eq!((error.problems()[0].kind, error.problems()[0].kind.id()), (Kind::Duplicate, "name-duplicate"));
}

#[test]
fn limits_hold_over_all_files() {
    let folder = folder(&inlets(0, INLETS_MAX));
    assert_eq!(load(&folder).unwrap().config.inlets.len(), INLETS_MAX);

    folder.write("conf.d/a.toml", &inlets(INLETS_MAX, 1));

    assert_eq!(
        refusal(&folder),
        ["conf.d/a.toml:1: inlet: has 1 entries, at most 100 are allowed; other files have 100"]
    );
}

#[test]
fn folder_of_drop_ins_that_is_none_is_refused() {
    let folder = folder("");
    folder.write("conf.d", "");

    assert_eq!(refusal(&folder), ["conf.d: cannot read it: Not a directory (os error 20)"]);
}

#[test]
fn socket_follows_the_state_and_has_a_short_path() {
    let folder = Folder::new();
    let socket = |text: &str| folder.parse(text).unwrap().admin_socket;
    assert_eq!(socket("state_dir = \"/var/lib/postern/\""), Path::new("/run/postern/admin.sock"));
    assert_eq!(socket("state_dir = \"state\""), folder.path("state/admin.sock"));
    assert_eq!(socket("state_dir = \"state\"\nadmin.socket = \"/run/a\""), Path::new("/run/a"));

    let name = "x".repeat(107);
    for (text, line) in [
        (format!("\nadmin.socket = \"/{name}\""), "postern.toml:2: admin.socket: "),
        (format!("\nstate_dir = \"/{name}\""), "postern.toml:1: admin.socket: "),
    ] {
        let lines = folder.refusal(&text);
        assert!(lines.len() == 1 && lines[0].starts_with(line), "{lines:#?}");
        assert!(lines[0].ends_with("at most 107; set `admin.socket` to a shorter one"), "{lines:#?}");
    }
    assert_eq!(socket(&format!("admin.socket = \"/{}\"", &name[1..])).as_os_str().len(), SOCKET_BYTES_MAX);
}

#[test]
fn warnings_tell_of_certificates_empty_drop_ins_and_unmapped_audiences() {
    let folder = folder(&destination(""));
    folder.write("conf.d/empty.toml", "# later\n");
    folder.write("conf.d/more.toml", &US.replace("\"us\"", "\"other\""));
    let loaded = load(&folder).unwrap();
    let at = |now: &str| {
        let warnings = loaded.warnings(crate::clock::Timestamp::parse(now).unwrap());
        let place = |path: &Path| path.strip_prefix(folder.path("")).unwrap().display().to_string();
        warnings.iter().map(|one| (one.kind, place(&one.file), one.line)).collect::<Vec<_>>()
    };
    let always = [
        (Kind::EmptyDropIn, "conf.d/empty.toml".to_owned(), None),
        (Kind::UnmappedAudience, "conf.d/more.toml".to_owned(), Some(3)),
    ];

    // rcgen's own validity: 1975 to 4096.
    assert_eq!(at("2026-01-01T00:00:00Z"), always);
    for (now, kind) in [
        ("1974-12-31T00:00:00Z", Kind::CertificateNotYetValid),
        ("4095-12-20T00:00:00Z", Kind::CertificateExpiresSoon),
        ("4096-01-02T00:00:00Z", Kind::CertificateExpired),
    ] {
        let [first, second, certificate] = &at(now)[..] else { panic!("{now}: {:?}", at(now)) };
        assert_eq!([first, second], [&always[0], &always[1]]);
        assert_eq!(*certificate, (kind, "postern.toml".to_owned(), Some(11)), "{now}");
    }
    assert!(loaded.warnings(Clock::system().now()).iter().all(|one| one.kind.severity() == problem::Severity::Warning));
}

#[test]
fn destination_is_the_same_until_something_that_a_worker_sees_changes() {
    let folder = Folder::new();
    let text = destination("authentication = { bearer = { file = \"token\" } }");
    let first = folder.parse(&text).unwrap();
    let same = |text: &str| folder.parse(text).unwrap().destinations == first.destinations;

    assert!(same(&text));
    assert!(same(&format!("# moved down a line\n{text}")), "where it stands");
    for (that, this) in [
        ("authentication = { bearer = { file = \"token\" } }", ""),
        ("https://crm.example/", "https://crm.example/in"),
        ("name = \"crm\"", "name = \"crm\"\ntimeout = \"3s\""),
        ("name = \"crm\"", "name = \"crm\"\nmax_in_flight = 3"),
        ("name = \"crm\"", "name = \"crm\"\nretry_delays = [\"1s\", \"2s\"]"),
        ("name = \"crm\"", "name = \"crm\"\nattributes = [\"a\"]"),
        ("\"tls/ca.pem\"", "\"public\""),
    ] {
        assert!(text.contains(that));
        assert!(!same(&text.replace(that, this)), "{this}");
    }
    folder.write("token", "another\n");
    assert!(!same(&text), "the secret in the file");
    folder.write("token", "t0ken\n");
    assert!(same(&text));
    let other = Folder::new();
    fs::copy(other.path("tls/ca.pem"), folder.path("tls/ca.pem")).unwrap();
    assert!(!same(&text), "whom it trusts");

    let other = other.parse(&text).unwrap();
    assert!(other.destinations != first.destinations, "another certificate");
    assert_eq!((other.inlets, other.audiences), (first.inlets, first.audiences));
}
