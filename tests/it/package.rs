//! What a package is made of, as far as the binary makes it: completions and manual pages. `tests/packaging/` has the rest.

use std::{fs, process::Command};

use crate::support::appliance::command;

fn stdout(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn bash_completes_verbs_and_options() {
    // Longer than one argument of a program may be.
    let script = tempfile::NamedTempFile::new().unwrap();
    fs::write(script.path(), stdout(&mut command(&["completion", "bash"]))).unwrap();
    let complete = |words: &str, last: &str| {
        let count = words.split(' ').count() - 1;
        let ask =
            format!("COMP_WORDS=({words}); COMP_CWORD={count}; _postern postern '{last}'; echo ${{COMPREPLY[@]}}");
        stdout(Command::new("bash").args(["--norc", "-c", &format!("source \"$0\" && {ask}")]).arg(script.path()))
    };

    assert_eq!(complete("postern dead", "dead"), "dead-letter\n");
    assert_eq!(complete("postern store com", "com"), "compact\n");
    assert_eq!(complete("postern check --con", "--con"), "--config\n");
}

#[test]
fn zsh_and_fish_get_every_verb() {
    for shell in ["zsh", "fish"] {
        let script = stdout(&mut command(&["completion", shell]));
        for verb in ["run", "check", "init", "dead-letter", "store", "salvage", "completion"] {
            assert!(script.contains(verb), "{shell}: {verb}");
        }
    }
}

#[test]
fn every_verb_has_a_manual_page() {
    let dir = tempfile::tempdir().unwrap();

    stdout(command(&["man"]).arg(dir.path()));

    for verb in ["postern", "postern-run", "postern-init", "postern-dead-letter-list", "postern-store-check"] {
        let page = fs::read_to_string(dir.path().join(format!("{verb}.1"))).unwrap();
        let lines: Vec<&str> = page.lines().collect();
        assert!(lines.iter().any(|line| line.starts_with(&format!(".TH {verb} 1 "))), "{page}");
        for section in ["NAME", "SYNOPSIS", "DESCRIPTION"] {
            assert!(lines.contains(&format!(".SH {section}").as_str()), "{page}");
        }
        assert!(page.contains("postern.toml (5)"), "{page}");
    }
    // Hidden, and clap's own.
    for no_verb in ["postern-man", "postern-help", "postern-store-help"] {
        assert!(!dir.path().join(format!("{no_verb}.1")).exists(), "{no_verb}");
    }
}

#[test]
fn manual_of_the_configuration_has_every_key() {
    let page = include_str!("../../packaging/man/postern.toml.5");
    let keys: Vec<&str> = include_str!("../../docs/configuration.md")
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(key, _)| key)
        .collect();

    assert!(keys.len() > 30, "the keys are where they are looked for: {keys:?}");
    for key in keys {
        // What belongs to a table of its own stands below that, without its name.
        let told = [key, key.rsplit('.').next().unwrap()].iter().any(|name| page.contains(&format!(".B {name}\n")));
        assert!(told, "{key} is not in postern.toml(5)");
    }
}
