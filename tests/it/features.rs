//! The README's table of features names a test for each row, and each of them has to exist.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use super::drivers::source;

/// The columns behind the name of a feature: each mode, and the tests.
const COLUMNS: usize = 4;

/// A row of the table.
struct Row<'a> {
    feature: &'a str,
    tests: Vec<&'a str>,
}

fn rows(readme: &str) -> Vec<Row<'_>> {
    let (_, table) = readme
        .split_once("## Feature by feature")
        .expect("the README has the table");
    let table = table.split("\n## ").next().expect("a part");
    table
        .lines()
        .filter(|line| line.starts_with('|'))
        .skip(2)
        .map(|line| {
            let cells: Vec<_> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            assert_eq!(cells.len(), COLUMNS + 1, "{line}");
            assert!(cells.iter().all(|cell| !cell.is_empty()), "{line}");
            // What stands between accents is the name of a test.
            let tests = cells[COLUMNS].split('`').skip(1).step_by(2).collect();
            Row {
                feature: cells[0],
                tests,
            }
        })
        .collect()
}

/// All tests of this executable, as it lists them.
fn tests() -> BTreeSet<String> {
    let test = std::env::current_exe().expect("a test knows itself");
    let list = Command::new(test).arg("--list").output();
    let list = list.expect("it lists its tests").stdout;
    let text = String::from_utf8(list).expect("names");
    let names = text.lines().filter_map(|line| line.strip_suffix(": test"));
    names.map(str::to_owned).collect()
}

#[test]
fn each_row_of_the_readme_is_backed_by_tests_that_exist() {
    let readme = fs::read_to_string(source("README.md")).unwrap();
    let (rows, tests) = (rows(&readme), tests());
    assert!(rows.len() > 20, "the table is found");
    for row in &rows {
        assert!(!row.tests.is_empty(), "{}: no test", row.feature);
        for test in &row.tests {
            assert!(tests.contains(*test), "{}: there is no {test}", row.feature);
        }
    }
}
