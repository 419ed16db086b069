use crate::draft::{Node, Table, Value, dotted};
use crate::fault::{Findings, Origin, Problem};
use crate::near::nearest;
use crate::section::{Check, Section};
use crate::setting::Setting;

/// Reads the keys of a table; a key that nobody read is unknown.
pub(crate) struct Reader<'a> {
    table: &'a Table,
    origin: Origin,
    path: String,
    known: Vec<&'static str>,
    findings: &'a mut Findings,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(table: &'a Table, findings: &'a mut Findings) -> Self {
        Self {
            table,
            origin: Origin::Nowhere,
            path: String::new(),
            known: Vec::new(),
            findings,
        }
    }

    /// Reads a table that stands in a list.
    pub(crate) fn at(
        table: &'a Table,
        origin: Origin,
        path: &str,
        findings: &'a mut Findings,
    ) -> Self {
        Self {
            table,
            origin,
            path: path.to_owned(),
            known: Vec::new(),
            findings,
        }
    }

    /// Reads a setting that the defaults always have.
    pub(crate) fn required<T: Setting>(&mut self, key: &'static str) -> Option<T> {
        if self.table.contains_key(key) {
            return self.optional(key);
        }
        self.known.push(key);
        self.fault(key, Problem::Missing, T::allowed());
        None
    }

    /// Reads a setting that may be absent; `None` also if it is faulty.
    pub(crate) fn optional<T: Setting>(&mut self, key: &'static str) -> Option<T> {
        self.known.push(key);
        let node = self.table.get(key)?;
        T::read(node, &dotted(&self.path, key), self.findings)
    }

    /// Reads an inner table, checks it, and finds its unknown keys; an absent one reads as empty.
    pub(crate) fn section<T: Section + Check>(&mut self, key: &'static str) -> Option<T> {
        self.inner(key, |reader| {
            let section = T::read(reader);
            if let Some(section) = &section {
                section.check(reader);
            }
            section
        })
    }

    /// Reads an inner table that is no [`Section`], and finds its unknown keys; an absent one reads as empty.
    pub(crate) fn inner<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Reader<'_>) -> Option<T>,
    ) -> Option<T> {
        let empty = Table::new();
        self.known.push(key);
        let path = dotted(&self.path, key);
        let (table, origin) = match self.table.get(key) {
            None => (&empty, self.origin.clone()),
            Some(Node {
                origin,
                value: Value::Table(table),
            }) => (table, origin.clone()),
            Some(node) => {
                let problem = Problem::Value(node.written());
                self.findings.fault(&node.origin, path, problem, "a table");
                return None;
            }
        };
        let mut reader = Reader::at(table, origin, &path, self.findings);
        let found = read(&mut reader);
        reader.finish();
        found
    }

    /// Reads each table of an inner table by its name, such as databases.
    pub(crate) fn each<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&str, &mut Reader<'_>) -> Option<T>,
    ) -> Vec<T> {
        self.known.push(key);
        let path = dotted(&self.path, key);
        let mut found = Vec::new();
        let entries = match self.table.get(key) {
            None => return found,
            Some(Node {
                value: Value::Table(entries),
                ..
            }) => entries,
            Some(node) => {
                let problem = Problem::Value(node.written());
                self.findings
                    .fault(&node.origin, path, problem, "a table by name");
                return found;
            }
        };
        for (name, node) in entries {
            let inner = dotted(&path, name);
            let Value::Table(table) = &node.value else {
                let problem = Problem::Value(node.written());
                self.findings.fault(&node.origin, inner, problem, "a table");
                continue;
            };
            let mut reader = Reader {
                table,
                origin: node.origin.clone(),
                path: inner,
                known: Vec::new(),
                findings: self.findings,
            };
            found.extend(read(name, &mut reader));
            reader.finish();
        }
        found
    }

    /// Gives an inner table of free keys as it is.
    pub(crate) fn free(&mut self, key: &'static str) -> Option<&'a Node> {
        self.known.push(key);
        self.table.get(key)
    }

    /// Tells whether a key was written.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Gives the path of a key.
    pub(crate) fn path(&self, key: &str) -> String {
        if key.is_empty() {
            self.path.clone()
        } else {
            dotted(&self.path, key)
        }
    }

    /// Tells of a fault at a key, or at the whole table for an empty key.
    pub(crate) fn fault(&mut self, key: &str, problem: Problem, allowed: impl Into<String>) {
        let origin = self.origin(key);
        let path = self.path(key);
        self.findings.fault(&origin, path, problem, allowed);
    }

    /// Tells of settings that cannot both hold.
    pub(crate) fn contradiction(&mut self, key: &str, what: impl Into<String>, allowed: &str) {
        self.fault(key, Problem::Contradiction(what.into()), allowed);
    }

    /// Tells of something odd at a key.
    pub(crate) fn warn(&mut self, key: &str, what: &str) {
        let origin = self.origin(key);
        let path = self.path(key);
        self.findings.warn(&origin, path, what);
    }

    /// Gives where a key was written, or else where its table begins.
    pub(crate) fn origin(&self, key: &str) -> Origin {
        self.table
            .get(key)
            .map_or_else(|| self.origin.clone(), |node| node.origin.clone())
    }

    /// Gives where an item of a list was written, from 0.
    pub(crate) fn origin_of(&self, key: &str, at: usize) -> Origin {
        let item = match self.table.get(key).map(|node| &node.value) {
            Some(Value::List(items)) => items.get(at),
            _ => None,
        };
        item.map_or_else(|| self.origin(key), |item| item.origin.clone())
    }

    /// Gives what was found so far.
    pub(crate) fn findings(&mut self) -> &mut Findings {
        self.findings
    }

    /// Finds the keys that nobody read.
    pub(crate) fn finish(self) {
        for (key, node) in self.table {
            if self.known.contains(&key.as_str()) {
                continue;
            }
            let near = nearest(key, &self.known).map(str::to_owned);
            let path = dotted(&self.path, key);
            let allowed = self.known.join(", ");
            self.findings
                .fault(&node.origin, path, Problem::Unknown { near }, allowed);
        }
    }
}
