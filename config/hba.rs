//! Rules of who may log in and by what, in the words of `pg_hba.conf` and `pg_ident.conf`.
//!
//! Source: PostgreSQL documentation, "Client Authentication", and hba.c of version 16, from which
//! regular expressions and the include directives are.

mod address;
mod fault;
mod ident;
mod lines;
mod name;
mod rule;
mod token;

use std::path::{Path, PathBuf};

pub use address::{Addresses, Network};
pub use ident::Maps;
pub use name::{DatabaseName, Pattern, UserName};
pub use rule::{ClientCert, ClientName, Kind, Options, Rule, Visitor, Way};

use fault::RuleFault;
use lines::Line;

use crate::draft::Node;
use crate::fault::{Findings, Problem};
use crate::setting::Setting;

/// A file of rules, read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HbaFile {
    /// The file; `None` if none is named.
    pub path: Option<PathBuf>,
    /// Its rules in their order; never empty if there is a file.
    pub rules: Vec<Rule>,
}

/// A file of maps, read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdentFile {
    /// The file; `None` if none is named.
    pub path: Option<PathBuf>,
    /// Its maps.
    pub maps: Maps,
}

/// Tells of a path that is none; `Some(None)` is no file.
fn path(node: &Node, path: &str, findings: &mut Findings) -> Option<Option<PathBuf>> {
    <Option<PathBuf> as Setting>::read(node, path, findings)
}

/// Has each line of a file taken, and tells of all that are not understood; `None` if any is not.
fn take_lines(
    path: &Path,
    node: &Node,
    findings: &mut Findings,
    mut take: impl FnMut(Line) -> Result<(), RuleFault>,
) -> Option<()> {
    let before = findings.faults.len();
    for line in lines::read(path, &node.origin, findings) {
        let origin = line.origin.clone();
        if let Err(fault) = take(line) {
            let problem = Problem::Syntax(fault.to_string());
            findings.fault(&origin, "", problem, fault.allowed());
        }
    }
    (findings.faults.len() == before).then_some(())
}

impl Setting for HbaFile {
    fn allowed() -> String {
        Option::<PathBuf>::allowed()
    }

    fn parse(node: &Node) -> Option<Self> {
        Self::read(node, "", &mut Findings::default())
    }

    fn show(&self) -> String {
        self.path.show()
    }

    fn read(node: &Node, key: &str, findings: &mut Findings) -> Option<Self> {
        let Some(path) = path(node, key, findings)? else {
            return Some(Self::default());
        };
        let mut rules = Vec::new();
        take_lines(&path, node, findings, |line| {
            rules.push(Rule::of_line(line)?);
            Ok(())
        })?;
        if rules.is_empty() {
            let why = "there is no rule in it".to_owned();
            let problem = Problem::File { file: path, why };
            findings.fault(&node.origin, key, problem, "rules as in pg_hba.conf");
            return None;
        }
        Some(Self {
            path: Some(path),
            rules,
        })
    }
}

impl Setting for IdentFile {
    fn allowed() -> String {
        Option::<PathBuf>::allowed()
    }

    fn parse(node: &Node) -> Option<Self> {
        Self::read(node, "", &mut Findings::default())
    }

    fn show(&self) -> String {
        self.path.show()
    }

    fn read(node: &Node, key: &str, findings: &mut Findings) -> Option<Self> {
        let Some(path) = path(node, key, findings)? else {
            return Some(Self::default());
        };
        let mut maps = Maps::default();
        take_lines(&path, node, findings, |line| maps.push(line))?;
        Some(Self {
            path: Some(path),
            maps,
        })
    }
}
