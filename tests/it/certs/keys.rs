//! Private keys appear in their own files and nowhere else, whatever a verb is given.

use std::os::unix::fs::PermissionsExt;

use super::{Desk, answer};

/// The lines of all keys in a text that hold what is secret: the last one of a short key is its public half.
fn secrets(text: &str) -> Vec<String> {
    let keys = text.split("-----BEGIN PRIVATE KEY-----\n").skip(1);
    let lines = keys.flat_map(|key| {
        let lines: Vec<&str> = key.lines().take_while(|line| !line.starts_with('-')).collect();
        lines[..lines.len().max(2) - 1].to_vec()
    });
    lines.map(str::to_owned).collect()
}

#[test]
fn no_verb_shows_or_copies_a_key() {
    let desk = Desk::new();
    for line in [
        "issue authority --out ca",
        "issue authority --under ca --out sub --key rsa2048",
        "issue server --authority ca --name peer.example --out made",
        "issue client --authority sub --common-name edge --key rsa2048 --out made",
        "request --common-name asked --out made",
        "request --common-name renewed --key ed25519 --out made --json",
    ] {
        desk.cert(line).succeeds();
    }
    desk.write("answer.pem", answer(&desk, "sub", "made/asked.csr") + &desk.read("sub/ca.crt"));
    desk.write("renewed.pem", answer(&desk, "sub", "made/renewed.csr"));
    desk.write("both.key", desk.read("made/edge.key") + &desk.read("made/edge.crt") + &desk.read("made/edge.key"));
    desk.write("cut.key", &desk.read("made/edge.key")[..900]);
    desk.write("joined.key", desk.read("made/edge.key").replace("-----\n", "-----"));
    desk.write("notes.txt", "nothing");

    let mut said = String::new();
    for line in [
        "issue authority --under made --out n1",
        "issue authority --under ca --common-name Other --out n2 --json",
        "issue server --authority sub --name a.example --out n3 --json",
        "issue client --authority ca/ca.key --common-name a --out n4",
        "issue client --authority sub --common-name ca/ca.key --out n5",
        "issue server --authority ca --name ca/ca.key --out n6",
        "issue client --authority ca --common-name edge --out made",
        "request --common-name b --existing-key made/edge.crt --out n7",
        "request --common-name b --existing-key cut.key --out n7",
        "request --common-name b --existing-key joined.key --out n7",
        "request --common-name b --existing-key both.key --out n7 --json",
        "request --common-name b --existing-key made/edge.key --out made/edge.key",
        "install made/asked.key --key made/asked.key --certificate n8.crt",
        "install cut.key --key made/asked.key --certificate n8.crt",
        "install joined.key --key made/asked.key --certificate n8.crt",
        "install both.key --key made/asked.key --certificate n8.crt",
        "install both.key --key both.key --certificate n8.crt",
        "install answer.pem --chain both.key --key made/asked.key --certificate n9.crt",
        "install answer.pem --chain ca/ca.key --key made/asked.key --certificate n10.crt",
        "install answer.pem --key made/asked.csr --certificate n10.crt",
        "install answer.pem --key joined.key --certificate n10.crt",
        "install answer.pem --key made/edge.key --certificate n10.crt",
        "install answer.pem --key made/asked.key --certificate made/edge.key",
        "install answer.pem --key made/asked.key --certificate made/asked.crt --json",
        "install renewed.pem --chain sub/ca.crt --new-key made/renewed.key --key made/asked.key --certificate made/asked.crt",
        "install renewed.pem --new-key made/renewed.key --destination crm --config made/edge.key",
        "export made/edge.key",
        "export cut.key",
        "export joined.key",
        "export both.key",
        "export both.key --chain --out n11.pem",
        "export ca/ca.key --out n12.pem",
        "export --destination crm --config ca/ca.key",
    ] {
        let done = desk.cert(line);
        said += &format!("{line}\n{}\n{}\n", done.stdout, done.stderr);
    }

    let files = desk.files();
    let is_key = |path: &std::path::Path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.ends_with(".key") || name.ends_with(".key.previous")
    };
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let (keys, others): (Vec<_>, Vec<_>) = files.iter().partition(|(path, _)| is_key(path));
    let secrets: Vec<String> = keys.iter().flat_map(|(_, bytes)| secrets(&text(bytes))).collect();
    assert!(keys.len() > 10 && secrets.len() > 60, "{} keys, {} lines", keys.len(), secrets.len());
    assert!(others.len() > 10 && said.contains("n8.crt"), "{said}");
    let others = others.iter().map(|(path, bytes)| (path.display().to_string(), text(bytes)));
    for (place, text) in others.chain([("what was said".to_owned(), said)]) {
        // What a label should have been may be said.
        let begins = |line: &str| line.contains("-----BEGIN ") && line.contains("PRIVATE KEY-----");
        assert!(!text.lines().any(begins), "{place}: {text}");
        for line in &secrets {
            assert!(!text.contains(line.as_str()), "{place} holds a line of a key: {text}");
        }
    }
    for (path, _) in keys {
        let mode = std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}", path.display());
    }
}
