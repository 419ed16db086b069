//! From PostgreSQL's parse tree to a [`Tree`]: what each name means, by the rules of PostgreSQL.
//!
//! Each kind of node is known or refused; nothing is passed over.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use pg_query::NodeEnum;
use pg_query::protobuf::Node;

use crate::catalog::Catalog;
use crate::placement::Placement;
use crate::refusal::{Refusal, Result};
use crate::tree::{Occurrence, Output, Rel, Source, Traits};

mod change;
mod cte;
mod expr;
mod from;
mod function;
pub(crate) mod literal;
mod naming;
mod order;
mod query;
mod scope;
mod sublink;
mod table;
pub(crate) mod types;
pub(crate) mod unnest;

pub(crate) use change::{Change, Changed, Target, computed, selected};
pub(crate) use cte::mentions;
pub(crate) use from::conjuncts;
pub(crate) use naming::output_name;
pub(crate) use order::{bare_name, position};
pub(crate) use scope::{Space, Star};

/// What a session adds to the meaning of a text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Names {
    /// The schemas of its `search_path`, `"$user"` resolved, those that do not exist left out or not.
    pub search_path: Vec<String>,
    /// The names of its temporary tables, which are found before all others.
    pub temporary: BTreeSet<String>,
    /// What it says of where its statements run.
    pub hint: Option<crate::plan::Hint>,
    /// A query is not to be taken apart: all rows of all tables that are spread are brought to one server, which
    /// answers as one Postgres would. That is slow, and there to check other plans by.
    pub whole: bool,
    /// The rows of a query have to come of one server, which gives some of them at a time.
    pub together: bool,
}

impl Default for Names {
    fn default() -> Self {
        Self {
            search_path: vec!["public".into()],
            temporary: BTreeSet::new(),
            hint: None,
            whole: false,
            together: false,
        }
    }
}

/// How many occurrences of tables and queries a statement may come to, with all its views and CTEs.
const MOST: usize = 400;

/// How deep a statement may go. The decoder bounds what is nested in one text; the queries of a WITH may name each
/// other, and views nest as well, so that a few levels of each come to many. Threads have 2 MiB of stack.
const DEEPEST: usize = 128;

/// How much may be done again: a query of a WITH or a view is resolved wherever it is named, a row is as many columns
/// as it has, and GROUP BY and ORDER BY may name a target again and again, so that a short text may ask for very much.
const STEPS: usize = 1 << 18;

/// What one use of a query of a WITH, or of a view, costs of that at least.
const USE: usize = 64;

/// A query of a WITH.
#[derive(Debug)]
struct Cte<'a> {
    name: String,
    aliases: Vec<String>,
    body: &'a Node,
    recursive: bool,
    /// The queries that it may name.
    visible: Vec<Rc<Self>>,
    /// How many levels around it it may name columns of.
    levels: usize,
    /// In how many queries the one is that its WITH stands in.
    queries: usize,
    /// The columns that SEARCH and CYCLE add.
    added: Vec<String>,
    /// What the recursion gives, while its query is being resolved.
    work: std::cell::RefCell<Option<Vec<Output>>>,
    used: std::cell::Cell<bool>,
    /// Something reads it.
    read: std::cell::Cell<bool>,
    /// Its query is being resolved.
    busy: std::cell::Cell<bool>,
}

/// A form in which the time of the transaction is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// `now()` and what is the same.
    Timestamptz,
    /// `current_date`.
    Date,
    /// `localtimestamp`.
    Timestamp,
    /// One that cannot be put in from outside.
    Other,
}

/// How a parameter is used: each use's type, 0 where it is not known, and whether it is an array of it.
pub(crate) type Uses = BTreeMap<u32, BTreeSet<(u32, bool)>>;

pub(crate) struct Resolver<'a> {
    pub(crate) catalog: &'a Catalog,
    pub(crate) placement: &'a Placement,
    pub(crate) names: &'a Names,
    /// The schemas that names are looked for in, with `pg_catalog`.
    path: Vec<String>,
    pub(crate) relations: Vec<Occurrence>,
    pub(crate) traits: Traits,
    pub(crate) uses: Uses,
    stack: Vec<Space>,
    ctes: Vec<Rc<Cte<'a>>>,
    /// The views that are being resolved, so that their texts outlive their trees.
    views: Vec<(String, String)>,
    /// What the names at these places of the text mean; of the text itself, not of views.
    pub(crate) places: HashMap<i32, crate::tree::Expr>,
    /// Where the text asks for the time of the transaction, and which form of it.
    pub(crate) moments: BTreeMap<i32, Moment>,
    /// The parameters that have to be arrays of what is no row, as what they hold is taken for one column.
    pub(crate) arrays: BTreeSet<u32>,
    /// The names of the columns that the statement gives.
    pub(crate) given: Vec<String>,
    /// What the calls at these places are.
    pub(crate) calls: HashMap<i32, function::Call>,
    /// The names of the level that was resolved last at the top.
    pub(crate) top: Option<Space>,
    /// Relations of the statement's own, which are found before all others.
    pub(crate) carriers: Option<&'a BTreeMap<String, crate::catalog::Relation>>,
    /// Where the text names whole rows that are no table's.
    pub(crate) records: BTreeSet<i32>,
    /// The name of a table was found to stand for its whole row.
    pub(crate) rows: bool,
    /// A part of a WITH may write: whoever asks sees to it by itself.
    pub(crate) within: bool,
    /// The levels of the columns that were found, a bit each, to know whose an aggregate is.
    found_in: u64,
    /// Aggregates and windows of the level that is being resolved.
    level: query::Level,
    /// How deep it is in the statement, in all that is nested.
    depth: usize,
    /// How many queries it is in.
    queries: usize,
    /// How many queries of a WITH and views it is in.
    links: usize,
    /// How many parts of the statement it has looked at.
    entered: usize,
    /// What was done of [`STEPS`]; it is never taken back.
    steps: usize,
}

impl<'a> Resolver<'a> {
    pub(crate) fn new(catalog: &'a Catalog, placement: &'a Placement, names: &'a Names) -> Self {
        let mut path = names.search_path.clone();
        if !path.iter().any(|schema| schema == "pg_catalog") {
            path.insert(0, "pg_catalog".into());
        }
        Self {
            catalog,
            placement,
            names,
            path,
            relations: Vec::new(),
            traits: Traits::default(),
            uses: Uses::new(),
            within: false,
            stack: Vec::new(),
            ctes: Vec::new(),
            views: Vec::new(),
            places: HashMap::new(),
            moments: BTreeMap::new(),
            arrays: BTreeSet::new(),
            given: Vec::new(),
            calls: HashMap::new(),
            top: None,
            carriers: None,
            records: BTreeSet::new(),
            rows: false,
            found_in: 0,
            level: query::Level::default(),
            depth: 0,
            queries: 0,
            links: 0,
            entered: 0,
            steps: 0,
        }
    }

    /// Goes one level deeper, if it may. What is in a text alone is as long as the text; only what may be done again
    /// is counted.
    fn enter(&mut self) -> Result<()> {
        if self.links > 0 {
            self.spend(1)?;
        }
        if self.depth >= DEEPEST {
            return Err(
                Refusal::new("statement", "it is nested too deeply to be planned")
                    .hint("Let fewer queries of a WITH and views be made of each other."),
            );
        }
        self.depth += 1;
        self.entered += 1;
        Ok(())
    }

    fn leave(&mut self) {
        self.depth -= 1;
    }

    fn spend(&mut self, steps: usize) -> Result<()> {
        self.steps = self.steps.saturating_add(steps);
        if self.steps > STEPS {
            let reason = "its queries come to too much when they are put where they are named";
            return Err(Refusal::new("statement", reason));
        }
        Ok(())
    }

    fn add(&mut self, source: Source, columns: Vec<Output>, lateral: bool) -> Result<Rel> {
        if self.relations.len() >= MOST {
            return Err(Refusal::new(
                "FROM",
                "there are too many tables and queries",
            ));
        }
        self.relations.push(Occurrence {
            source,
            columns,
            lateral,
        });
        Ok(Rel(self.relations.len() - 1))
    }
}

/// The node itself; libpg_query leaves none out where there must be one.
pub(crate) fn inner(node: &Node) -> Result<&NodeEnum> {
    node.node
        .as_ref()
        .ok_or_else(|| Refusal::new("statement", "it has a part that is empty"))
}

pub(crate) fn boxed(node: &Option<Box<Node>>) -> Result<&NodeEnum> {
    match node {
        Some(node) => inner(node),
        None => Err(Refusal::new("statement", "it has a part that is empty")),
    }
}

/// The texts of a list of names.
pub(crate) fn strings(nodes: &[Node]) -> Result<Vec<&str>> {
    nodes
        .iter()
        .map(|node| match inner(node)? {
            NodeEnum::String(text) => Ok(text.sval.as_str()),
            _ => Err(Refusal::new("name", "it is not made of words")),
        })
        .collect()
}

pub(crate) fn unknown_node(what: &str, node: &NodeEnum) -> Refusal {
    let shown = format!("{node:?}");
    let end = shown.find(|c: char| !c.is_alphanumeric());
    let kind = &shown[..end.unwrap_or(shown.len())];
    Refusal::new(what, format!("{kind} is not supported over shards"))
}
