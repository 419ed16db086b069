//! Databases whose rows are spread over others.

mod keys;
mod lookup;

use std::fmt;

use crate::draft::{Node, Value, dotted};
use crate::fault::{Findings, Problem};
use crate::reader::Reader;
use crate::row::{Effect, Row};
use crate::setting::Setting;

pub use keys::{BucketPlace, KeyMethod, KeyPlace, ShardMethod};
pub use lookup::KeyLookup;

/// A database whose rows are spread over others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sharded {
    /// The name clients ask for.
    pub name: String,
    /// The sections of the databases that it is made of, in the order of the shards.
    pub shards: Vec<String>,
    /// Where rows live.
    pub sharding: Sharding,
}

/// Where the rows of a sharded database live.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Sharding {
    /// How keys lead to shards, where their group has no method of its own.
    pub keys: KeyMethod,
    /// The groups that have one.
    pub groups: Vec<ShardGroup>,
    /// Tables that are sharded by a key of their own.
    pub tables: Vec<ShardedTable>,
    /// Columns by which all tables are sharded that have them.
    pub columns: Vec<ShardedColumn>,
    /// Tables whose rows are the same on every shard.
    pub replicated: Vec<String>,
    /// Schemas whose tables are on one shard.
    pub schemas: Vec<SchemaPlace>,
    /// What holds for all other tables.
    pub unlisted: UnlistedTables,
    /// What the shards' sequences give.
    pub sequences: ShardSequences,
    /// Functions that read and write no table, whatever their volatility says.
    pub harmless_functions: Vec<String>,
}

/// What holds for a table that nothing is said of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum UnlistedTables {
    /// Statements with it are refused.
    #[default]
    Refused,
    /// The same rows are on every shard.
    Replicated,
}

/// What the shards' sequences give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ShardSequences {
    /// Numbers that other shards may give as well, so that statements that use one are refused.
    #[default]
    Overlapping,
    /// Numbers that no other shard gives.
    Disjoint,
}

words! { UnlistedTables { Refused = "refused", Replicated = "replicated", } }
words! { ShardSequences { Overlapping = "overlapping", Disjoint = "disjoint", } }

/// A table with a key of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardedTable {
    /// Its name, with its schema if that is not `public`.
    pub name: String,
    /// The columns of its key.
    pub key: Vec<String>,
    /// Tables of one group have keys of one type, and may be joined by them; empty for the one that has no name.
    pub group: String,
}

/// A column by which all tables are sharded that have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardedColumn {
    /// Its name.
    pub name: String,
    /// The group of these tables.
    pub group: String,
}

/// Tables that are placed by a method of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardGroup {
    /// The name by which tables and columns are of it.
    pub name: String,
    /// How their keys lead to shards.
    pub keys: KeyMethod,
}

/// A schema that is on one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaPlace {
    /// The schema.
    pub name: String,
    /// The shard's section.
    pub shard: String,
}

impl Sharded {
    /// Reads a sharded database of a name.
    pub(crate) fn read(name: &str, reader: &mut Reader<'_>) -> Option<Self> {
        let shards: Option<Vec<String>> = reader.required("shards");
        let named = shards.as_deref();
        let sharding = reader.inner("sharding", |reader| Sharding::read(reader, named));
        if let Some(shards) = &shards {
            check_shards(shards, reader);
        }
        Some(Self {
            name: name.to_owned(),
            shards: shards?,
            sharding: sharding?,
        })
    }

    /// The number of a shard, by its section.
    pub fn shard(&self, section: &str) -> Option<u16> {
        let at = self.shards.iter().position(|name| name == section)?;
        u16::try_from(at).ok()
    }

    /// Gives what is set, to be shown and compared.
    pub(crate) fn rows(&self) -> Vec<Row> {
        let path = dotted("databases", &self.name);
        let plain = |key: &str, value: String| {
            Row::plain(format!("{path}.{key}"), value, Effect::NextConnection)
        };
        let it = &self.sharding;
        let mut rows = vec![
            plain("shards", self.shards.show()),
            plain("sharding.tables", it.tables.show()),
            plain("sharding.columns", it.columns.show()),
            plain("sharding.replicated", it.replicated.show()),
            plain("sharding.unlisted", it.unlisted.show()),
            plain("sharding.sequences", it.sequences.show()),
            plain("sharding.schemas", it.schemas.show()),
            plain("sharding.harmless_functions", it.harmless_functions.show()),
        ];
        rows.extend(it.keys.rows(&format!("{path}.sharding")));
        for group in &it.groups {
            let path = dotted(&format!("{path}.sharding.groups"), &group.name);
            rows.extend(group.keys.rows(&path));
        }
        rows
    }
}

fn check_shards(shards: &[String], reader: &mut Reader<'_>) {
    if shards.is_empty() {
        let allowed = "at least one section of [databases]";
        reader.contradiction("shards", "there is no shard", allowed);
    }
    if u16::try_from(shards.len()).is_err() {
        reader.contradiction("shards", "there are too many", "up to 65535 shards");
    }
    for (at, shard) in shards.iter().enumerate() {
        if shards[..at].contains(shard) {
            reader.fault("shards", Problem::Repeated(shard.clone()), "");
        }
    }
}

impl Sharding {
    fn read(reader: &mut Reader<'_>, shards: Option<&[String]>) -> Option<Self> {
        let keys = KeyMethod::read(reader, &KeyMethod::default(), shards);
        let groups = ShardGroup::read_all(reader, &keys, shards);
        let mut sharding = Self {
            keys,
            groups: Vec::new(),
            tables: reader.optional("tables").unwrap_or_default(),
            columns: reader.optional("columns").unwrap_or_default(),
            replicated: reader.optional("replicated").unwrap_or_default(),
            schemas: reader.optional("schemas").unwrap_or_default(),
            unlisted: reader.optional("unlisted").unwrap_or_default(),
            sequences: reader.optional("sequences").unwrap_or_default(),
            harmless_functions: reader.optional("harmless_functions").unwrap_or_default(),
        };
        sharding.groups = groups?;
        sharding.check_groups(reader);
        Some(sharding)
    }

    /// How the keys of a group lead to shards.
    pub fn keys_of(&self, group: &str) -> &KeyMethod {
        let own = self.groups.iter().find(|it| it.name == group);
        own.map_or(&self.keys, |own| &own.keys)
    }

    /// Finds groups that there are not: where some have a method of their own, a slip of the finger would place rows
    /// by another.
    fn check_groups(&self, reader: &mut Reader<'_>) {
        if self.groups.is_empty() {
            return;
        }
        let tables = self.tables.iter().map(|it| &it.group).enumerate();
        let tables = tables.map(|(at, group)| ("tables", at, group));
        let columns = self.columns.iter().map(|it| &it.group).enumerate();
        let columns = columns.map(|(at, group)| ("columns", at, group));
        let names: Vec<&str> = self.groups.iter().map(|it| it.name.as_str()).collect();
        for (key, at, group) in tables.chain(columns) {
            if group.is_empty() || names.contains(&group.as_str()) {
                continue;
            }
            let problem = Problem::Contradiction(format!("{group:?} is none of the groups"));
            let (origin, path) = (reader.origin_of(key, at), reader.path(key));
            let allowed = names.join(", ");
            reader.findings().fault(&origin, path, problem, allowed);
        }
    }
}

impl ShardGroup {
    /// Reads all groups, each with what holds for all where it says nothing itself; `None` if one has faults.
    fn read_all(
        reader: &mut Reader<'_>,
        keys: &KeyMethod,
        shards: Option<&[String]>,
    ) -> Option<Vec<Self>> {
        const KEY: &str = "groups";
        let allowed = "{ name = \"regions\", method = \"list\", places = […] }";
        let Some(node) = reader.free(KEY) else {
            return Some(Vec::new());
        };
        let path = reader.path(KEY);
        let Value::List(items) = &node.value else {
            let problem = Problem::Value(node.written());
            reader.fault(KEY, problem, format!("a list of {allowed}"));
            return None;
        };
        let findings = reader.findings();
        let mut groups: Vec<Self> = Vec::with_capacity(items.len());
        let mut is_faulty = false;
        for item in items {
            let group = table(item, &path, findings, allowed.to_owned(), |reader| {
                let name: Option<String> = reader.required("name");
                let keys = KeyMethod::read(reader, keys, shards);
                Some(Self { name: name?, keys })
            });
            match group {
                Some(group) if groups.iter().any(|it| it.name == group.name) => {
                    let problem = Problem::Repeated(group.name);
                    findings.fault(&item.origin, path.clone(), problem, "");
                }
                Some(group) => groups.push(group),
                None => is_faulty = true,
            }
        }
        (!is_faulty).then_some(groups)
    }
}

/// Reads a table that stands in a list.
fn table<T>(
    node: &Node,
    path: &str,
    findings: &mut Findings,
    allowed: String,
    read: impl FnOnce(&mut Reader<'_>) -> Option<T>,
) -> Option<T> {
    let Value::Table(table) = &node.value else {
        let problem = Problem::Value(node.written());
        findings.fault(&node.origin, path, problem, allowed);
        return None;
    };
    let mut reader = Reader::at(table, node.origin.clone(), path, findings);
    let found = read(&mut reader);
    reader.finish();
    found
}

/// Column names: one text, or a list of them.
struct Columns(Vec<String>);

impl Setting for Columns {
    fn allowed() -> String {
        "a column, or a list of them".to_owned()
    }

    fn parse(node: &Node) -> Option<Self> {
        let columns = match &node.value {
            Value::Text(_) => vec![String::parse(node)?],
            _ => Vec::parse(node)?,
        };
        (!columns.is_empty()).then_some(Self(columns))
    }

    fn show(&self) -> String {
        self.0.show()
    }
}

impl Setting for ShardedTable {
    fn allowed() -> String {
        "{ name = \"orders\", key = \"customer_id\" }".to_owned()
    }

    fn parse(node: &Node) -> Option<Self> {
        Self::read(node, "", &mut Findings::default())
    }

    fn read(node: &Node, path: &str, findings: &mut Findings) -> Option<Self> {
        table(node, path, findings, Self::allowed(), |reader| {
            let name = reader.required("name");
            let key: Option<Columns> = reader.required("key");
            let group: Option<String> = reader.optional("group");
            Some(Self {
                name: name?,
                key: key?.0,
                group: group.unwrap_or_default(),
            })
        })
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for ShardedTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by {}", self.name, self.key.join(" and "))?;
        match self.group.as_str() {
            "" => Ok(()),
            group => write!(f, " in {group}"),
        }
    }
}

impl Setting for ShardedColumn {
    fn allowed() -> String {
        "a column, or { name = \"region\", group = \"regions\" }".to_owned()
    }

    fn parse(node: &Node) -> Option<Self> {
        Self::read(node, "", &mut Findings::default())
    }

    fn read(node: &Node, path: &str, findings: &mut Findings) -> Option<Self> {
        if let Some(name) = String::parse(node) {
            let group = String::new();
            return Some(Self { name, group });
        }
        table(node, path, findings, Self::allowed(), |reader| {
            let name = reader.required("name");
            let group: Option<String> = reader.optional("group");
            Some(Self {
                name: name?,
                group: group.unwrap_or_default(),
            })
        })
    }

    fn show(&self) -> String {
        match self.group.as_str() {
            "" => self.name.clone(),
            group => format!("{} in {group}", self.name),
        }
    }
}

impl Setting for SchemaPlace {
    fn allowed() -> String {
        "{ name = \"conf\", shard = \"shop0\" }".to_owned()
    }

    fn parse(node: &Node) -> Option<Self> {
        Self::read(node, "", &mut Findings::default())
    }

    fn read(node: &Node, path: &str, findings: &mut Findings) -> Option<Self> {
        table(node, path, findings, Self::allowed(), |reader| {
            let name = reader.required("name");
            let shard = reader.required("shard");
            Some(Self {
                name: name?,
                shard: shard?,
            })
        })
    }

    fn show(&self) -> String {
        format!("{} on {}", self.name, self.shard)
    }
}
