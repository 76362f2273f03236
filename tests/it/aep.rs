//! The tables that put Postern beside AEP, and say what a change of the configuration does: each row names tests that exist,
//! or says that there is nothing yet.

use std::{fs, path::Path};

/// Rows of the tables of a page, without headings, which begin so.
fn rows(page: &str, heading: &str) -> Vec<Vec<String>> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(page)).unwrap();
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    let rows = text.lines().filter(|line| line.starts_with("| ") && !line.starts_with(heading));
    rows.map(cells).collect()
}

/// Whether a file has a test of this name: a function right below what makes it a test.
fn is_there(file: &str, name: &str) -> bool {
    let Ok(text) = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)) else { return false };
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let is_it = |line: &str| line.trim_start_matches("async ").starts_with(&format!("fn {name}("));
    let Some(at) = lines.iter().position(|line| is_it(line)) else { return false };
    let above = lines[..at].iter().rev().take_while(|line| line.starts_with("#["));
    above.clone().any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"))
}

#[test]
fn each_row_beside_aep_has_its_tests_or_says_not_yet() {
    let rows = rows("aep.md", "| AEP |");
    assert!(rows.len() > 40, "the tables are where they are looked for");
    for row in &rows {
        let [aep, ours, shown_by] = &row[..] else { panic!("not three cells: {row:?}") };
        assert!(shows(aep, shown_by) || ours.contains("*not yet*"), "{aep}: neither a test nor *not yet*");
    }
}

#[test]
fn each_change_of_the_configuration_has_its_tests() {
    let rows = rows("changes.md", "| change |");
    assert!(rows.len() > 10, "the table is where it is looked for");
    for row in &rows {
        let [change, _, _, _, shown_by] = &row[..] else { panic!("not five cells: {row:?}") };
        assert!(shows(change, shown_by), "{change}: no test");
    }
}

/// Whether a cell names a test; what it names must be there.
fn shows(what: &str, shown_by: &str) -> bool {
    let tests: Vec<&str> = shown_by.split(['`', ' ']).filter(|part| !part.is_empty()).collect();
    for test in &tests {
        let (file, name) = test.split_once("::").unwrap_or_else(|| panic!("{what}: `{test}` is no file::name"));
        assert!(is_there(file, name), "{what}: there is no test {test}");
    }
    !tests.is_empty()
}

#[test]
fn what_is_no_test_is_not_taken_for_one() {
    assert!(is_there("tests/it/aep.rs", "what_is_no_test_is_not_taken_for_one"));
    for (file, name) in [("tests/it/aep.rs", "rows"), ("tests/it/aep.rs", "gone"), ("tests/it/gone.rs", "rows")] {
        assert!(!is_there(file, name), "{file}::{name}");
    }
}
