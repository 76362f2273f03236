//! The table that puts Postern beside AEP: each row names tests that exist, or says that there is nothing yet.

use std::{fs, path::Path};

/// Rows of the tables, without headings.
fn rows() -> Vec<Vec<String>> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/aep.md")).unwrap();
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    let rows = text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| AEP |"));
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
    let rows = rows();
    assert!(rows.len() > 40, "the tables are where they are looked for");
    for row in &rows {
        let [aep, ours, shown_by] = &row[..] else { panic!("not three cells: {row:?}") };
        let tests: Vec<&str> = shown_by.split(['`', ' ']).filter(|part| !part.is_empty()).collect();
        assert!(!tests.is_empty() || ours.contains("*not yet*"), "{aep}: neither a test nor *not yet*");
        for test in tests {
            let (file, name) = test.split_once("::").unwrap_or_else(|| panic!("{aep}: `{test}` is no file::name"));
            assert!(is_there(file, name), "{aep}: there is no test {test}");
        }
    }
}

#[test]
fn what_is_no_test_is_not_taken_for_one() {
    assert!(is_there("tests/it/aep.rs", "what_is_no_test_is_not_taken_for_one"));
    for (file, name) in [("tests/it/aep.rs", "rows"), ("tests/it/aep.rs", "gone"), ("tests/it/gone.rs", "rows")] {
        assert!(!is_there(file, name), "{file}::{name}");
    }
}
