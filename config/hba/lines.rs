//! Files of rules and of maps: their lines with all that they include.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::fault::{Findings, Origin, Problem};
use crate::files;
use crate::hba::token::{Token, Unclosed, fields};

/// A line that says something.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) origin: Origin,
    pub(crate) fields: Vec<Vec<Token>>,
}

/// Reads a file and what it includes; `named` is where it was named.
pub(crate) fn read(file: &Path, named: &Origin, findings: &mut Findings) -> Vec<Line> {
    let mut reading = Reading {
        open: Vec::new(),
        lines: Vec::new(),
        findings,
    };
    reading.file(file, named);
    reading.lines
}

/// Puts the words of files in the place of `@file`; names are relative to the file they stand in.
pub(crate) fn expand(tokens: Vec<Token>, at: &Origin, findings: &mut Findings) -> Vec<Token> {
    let mut reading = Reading {
        open: Vec::new(),
        lines: Vec::new(),
        findings,
    };
    reading.expand(tokens, at)
}

struct Reading<'a> {
    /// The files that are being read, each included by the one before.
    open: Vec<PathBuf>,
    lines: Vec<Line>,
    findings: &'a mut Findings,
}

impl Reading<'_> {
    fn file(&mut self, file: &Path, named: &Origin) {
        let Some(text) = self.open(file, named) else {
            return;
        };
        for (number, line) in logical_lines(&text) {
            let origin = Origin::File {
                file: Arc::new(file.to_owned()),
                line: number,
            };
            match fields(&line) {
                Err(Unclosed) => {
                    self.fault(&origin, Problem::Syntax("a quote does not end".into()))
                }
                Ok(fields) if fields.is_empty() => {}
                Ok(fields) => self.line(fields, origin),
            }
        }
        self.open.pop();
    }

    fn line(&mut self, fields: Vec<Vec<Token>>, origin: Origin) {
        if let [first, second] = fields.as_slice()
            && let ([directive], [target]) = (first.as_slice(), second.as_slice())
        {
            let target = beside(&origin, &target.text);
            match directive.text.as_str() {
                "include" => return self.file(&target, &origin),
                "include_if_exists" if !target.exists() => return,
                "include_if_exists" => return self.file(&target, &origin),
                "include_dir" => return self.dir(&target, &origin),
                _ => {}
            }
        }
        let fields = fields
            .into_iter()
            .map(|field| self.expand(field, &origin))
            .collect();
        self.lines.push(Line { origin, fields });
    }

    /// Reads the files of a directory that end in `.conf`, by name, as Postgres does.
    fn dir(&mut self, dir: &Path, origin: &Origin) {
        let names = match std::fs::read_dir(dir) {
            Ok(entries) => entries
                .flatten()
                .filter_map(|entry| entry.file_name().into_string().ok()),
            Err(error) => {
                let problem = Problem::File {
                    file: dir.to_owned(),
                    why: files::plain(&error),
                };
                return self.fault(origin, problem);
            }
        };
        let mut names: Vec<String> = names
            .filter(|name| name.ends_with(".conf") && !name.starts_with('.'))
            .collect();
        names.sort();
        for name in names {
            self.file(&dir.join(name), origin);
        }
    }

    fn expand(&mut self, tokens: Vec<Token>, origin: &Origin) -> Vec<Token> {
        let mut expanded = Vec::new();
        for token in tokens {
            match token.file().map(|name| beside(origin, name)) {
                Some(file) => expanded.extend(self.words(&file, origin)),
                None => expanded.push(token),
            }
        }
        expanded
    }

    /// Gives all words of a file, whatever lines they stand on.
    fn words(&mut self, file: &Path, named: &Origin) -> Vec<Token> {
        let Some(text) = self.open(file, named) else {
            return Vec::new();
        };
        let mut words = Vec::new();
        for (number, line) in logical_lines(&text) {
            let origin = Origin::File {
                file: Arc::new(file.to_owned()),
                line: number,
            };
            match fields(&line) {
                Err(Unclosed) => {
                    self.fault(&origin, Problem::Syntax("a quote does not end".into()))
                }
                Ok(fields) => {
                    for field in fields {
                        words.extend(self.expand(field, &origin));
                    }
                }
            }
        }
        self.open.pop();
        words
    }

    /// Reads a file, unless it is being read already.
    fn open(&mut self, file: &Path, named: &Origin) -> Option<String> {
        if self.open.iter().any(|open| open == file) || self.open.len() >= DEEPEST {
            let why = "it includes itself".to_owned();
            let file = file.to_owned();
            self.fault(named, Problem::File { file, why });
            return None;
        }
        match files::read(file) {
            Ok(text) => {
                self.open.push(file.to_owned());
                Some(text)
            }
            Err(problem) => {
                self.fault(named, problem);
                None
            }
        }
    }

    fn fault(&mut self, origin: &Origin, problem: Problem) {
        self.findings.fault(origin, "", problem, "");
    }
}

/// Files may include files so deep, as with Postgres; a link to itself has many names.
const DEEPEST: usize = 10;

/// Gives a path that is relative to the file it stands in.
fn beside(origin: &Origin, name: &str) -> PathBuf {
    match origin {
        Origin::File { file, .. } => file
            .parent()
            .map_or_else(|| PathBuf::from(name), |dir| dir.join(name)),
        _ => PathBuf::from(name),
    }
}

/// Joins the lines that end in a backslash to those that follow, and numbers them by their first.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    let mut goes_on = false;
    for (at, line) in text.lines().enumerate() {
        let (line, continues) = match line.strip_suffix('\\') {
            Some(line) => (line, true),
            None => (line, false),
        };
        match lines.last_mut() {
            Some((_, last)) if goes_on => last.push_str(line),
            _ => lines.push((at + 1, line.to_owned())),
        }
        goes_on = continues;
    }
    lines
}
