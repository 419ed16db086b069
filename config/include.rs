//! Files that a configuration file includes.

use std::path::{Path, PathBuf};

use crate::draft::{self, Node, Table, Value};
use crate::fault::{Findings, Origin, Problem};
use crate::files;

/// Reads a file and all that it includes, as one table; every file is added to `seen`.
pub(crate) fn read(file: &Path, seen: &mut Vec<PathBuf>, findings: &mut Findings) -> Table {
    let nowhere = Origin::Argument("--config".into());
    let Some(mut table) = parse(file, &nowhere, seen, findings) else {
        return Table::new();
    };
    let Some(include) = table.remove("include") else {
        return table;
    };
    let patterns = match include.value {
        Value::List(patterns) => patterns,
        _ => vec![include],
    };
    for node in &patterns {
        for found in matching(file, node, findings) {
            if seen.contains(&found) {
                let problem = Problem::Repeated(found.display().to_string());
                findings.fault(&node.origin, "include", problem, "each file once");
            } else if let Some(inner) = parse(&found, &node.origin, seen, findings) {
                draft::join(&mut table, inner, "", findings);
            }
        }
    }
    table
}

fn parse(
    file: &Path,
    asked: &Origin,
    seen: &mut Vec<PathBuf>,
    findings: &mut Findings,
) -> Option<Table> {
    seen.push(file.to_owned());
    match files::read(file) {
        Ok(text) => draft::parse(&text, &draft::in_file(file.to_owned()), findings),
        Err(problem) => {
            findings.fault(asked, "", problem, "a TOML file that can be read");
            None
        }
    }
}

/// Gives the files of a pattern, by name; a `*` may find none, a plain name must be there.
fn matching(file: &Path, node: &Node, findings: &mut Findings) -> Vec<PathBuf> {
    let allowed = "a list of paths, with `*` in the last part only";
    let Some(pattern) = node.text().filter(|text| !text.is_empty()) else {
        let problem = Problem::Value(node.written());
        findings.fault(&node.origin, "include", problem, allowed);
        return Vec::new();
    };
    let path = file.parent().unwrap_or_else(|| Path::new("")).join(pattern);
    if !pattern.contains('*') {
        return vec![path];
    }
    let (Some(dir), Some(name)) = (
        path.parent(),
        path.file_name().and_then(|name| name.to_str()),
    ) else {
        return Vec::new();
    };
    let here = if dir.as_os_str().is_empty() {
        Path::new(".")
    } else {
        dir
    };
    match std::fs::read_dir(here) {
        Ok(entries) => {
            let names = entries
                .flatten()
                .filter_map(|entry| entry.file_name().into_string().ok());
            let fits = |found: &String| {
                fits(name, found) && (name.starts_with('.') || !found.starts_with('.'))
            };
            let mut found: Vec<_> = names.filter(fits).map(|name| dir.join(name)).collect();
            found.sort();
            found
        }
        Err(error) => {
            let problem = Problem::File {
                file: dir.to_owned(),
                why: files::plain(&error),
            };
            findings.fault(&node.origin, "include", problem, allowed);
            Vec::new()
        }
    }
}

/// Tells whether a name fits a pattern in which `*` stands for any characters.
fn fits(pattern: &str, name: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(rest) = name.strip_prefix(head) else {
        return false;
    };
    // Trying the last `*` from the end needs no search; the ones before are found leftmost.
    let mut rest = rest;
    let mut tail = tail;
    while let Some((middle, after)) = tail.split_once('*') {
        let Some(at) = rest.find(middle) else {
            return false;
        };
        rest = &rest[at + middle.len()..];
        tail = after;
    }
    rest.ends_with(tail)
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn fits_names() {
        for (pattern, name) in [
            ("*.toml", "a.toml"),
            ("a*b*c", "abc"),
            ("*", ""),
            ("a*a", "aba"),
        ] {
            assert!(fits(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("*.toml", "a.toml~"),
            ("a*a", "a"),
            ("a*b*c", "acb"),
            ("a", "b"),
        ] {
            assert!(!fits(pattern, name), "{pattern} {name}");
        }
    }
}
