use std::fmt;

use crate::draft::{Node, Value, dotted};
use crate::fault::{Findings, Problem};
use crate::reader::Reader;
use crate::row::{Effect, Row};
use crate::setting::Setting;

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
    /// How a key leads to a shard.
    pub method: ShardMethod,
    /// How many buckets keys are hashed into; as many as there are shards if it is not said.
    pub buckets: Option<u16>,
    /// The type of the values in `places`.
    pub key_type: Option<String>,
    /// The values of each shard, by list or by range.
    pub places: Vec<KeyPlace>,
    /// Tables that are sharded by a key of their own.
    pub tables: Vec<ShardedTable>,
    /// Columns by which all tables are sharded that have them.
    pub columns: Vec<String>,
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

/// How a key leads to a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ShardMethod {
    /// By PostgreSQL's own hash for partitions.
    #[default]
    Hash,
    /// Each value by itself.
    List,
    /// By ranges of values.
    Range,
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

words! { ShardMethod { Hash = "hash", List = "list", Range = "range", } }
words! { UnlistedTables { Refused = "refused", Replicated = "replicated", } }
words! { ShardSequences { Overlapping = "overlapping", Disjoint = "disjoint", } }

/// A table with a key of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardedTable {
    /// Its name, with its schema if that is not `public`.
    pub name: String,
    /// The columns of its key.
    pub key: Vec<String>,
    /// Tables of one group have keys of one type, and may be joined by them.
    pub group: String,
}

/// Values that are on one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPlace {
    /// Each of them; none for a range.
    pub values: Vec<String>,
    /// Where a range begins; `None` for no bound.
    pub from: Option<String>,
    /// Where it ends, which is not part of it; `None` for no bound.
    pub to: Option<String>,
    /// All values that stand nowhere else.
    pub others: bool,
    /// The shard's section.
    pub shard: String,
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
        let sharding = reader.inner("sharding", Sharding::read);
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
            plain("sharding.method", it.method.show()),
            plain("sharding.tables", it.tables.show()),
            plain("sharding.columns", it.columns.show()),
            plain("sharding.replicated", it.replicated.show()),
            plain("sharding.unlisted", it.unlisted.show()),
            plain("sharding.sequences", it.sequences.show()),
            plain("sharding.schemas", it.schemas.show()),
            plain("sharding.places", it.places.show()),
            plain("sharding.harmless_functions", it.harmless_functions.show()),
        ];
        rows.extend(it.buckets.map(|it| plain("sharding.buckets", it.show())));
        rows.extend(it.key_type.clone().map(|it| plain("sharding.key_type", it)));
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
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let method: ShardMethod = reader.optional("method").unwrap_or_default();
        let buckets: Option<u16> = reader.optional("buckets");
        let sharding = Self {
            method,
            buckets,
            key_type: reader.optional("key_type"),
            places: reader.optional("places").unwrap_or_default(),
            tables: reader.optional("tables").unwrap_or_default(),
            columns: reader.optional("columns").unwrap_or_default(),
            replicated: reader.optional("replicated").unwrap_or_default(),
            schemas: reader.optional("schemas").unwrap_or_default(),
            unlisted: reader.optional("unlisted").unwrap_or_default(),
            sequences: reader.optional("sequences").unwrap_or_default(),
            harmless_functions: reader.optional("harmless_functions").unwrap_or_default(),
        };
        sharding.check(reader);
        Some(sharding)
    }

    fn check(&self, reader: &mut Reader<'_>) {
        if self.buckets == Some(0) {
            reader.contradiction("buckets", "there is no bucket", "a number from 1");
        }
        if self.buckets.is_some() && self.method != ShardMethod::Hash {
            let allowed = "with `method` hash only";
            reader.contradiction("buckets", "nothing is hashed", allowed);
        }
        match (self.method, self.places.is_empty()) {
            (ShardMethod::Hash, false) => {
                let allowed = "with `method` list or range only";
                reader.contradiction("places", "keys are hashed", allowed);
            }
            (ShardMethod::List | ShardMethod::Range, true) => {
                let allowed = "a list of { values = [1, 2], shard = \"shop0\" } or { from = 0, to = 10, shard = \"shop0\" }";
                reader.fault("places", Problem::Missing, allowed);
            }
            _ => {}
        }
        let fits = |place: &KeyPlace| match self.method {
            ShardMethod::Hash => true,
            ShardMethod::List => place.values.is_empty() == place.others && !place.is_range(),
            ShardMethod::Range => place.values.is_empty() && !place.others,
        };
        if !self.places.iter().all(fits) {
            let allowed = "`values` or `others` by list, `from` and `to` by range";
            reader.contradiction("places", "a place is not of the method", allowed);
        }
    }
}

impl KeyPlace {
    fn is_range(&self) -> bool {
        self.from.is_some() || self.to.is_some()
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

/// A value of a key, as it is written: a text or a number.
struct KeyText(String);

impl Setting for KeyText {
    fn allowed() -> String {
        "a text or a number".to_owned()
    }

    fn parse(node: &Node) -> Option<Self> {
        let number = node.integer().map(|number| number.to_string());
        number.or_else(|| node.text().map(str::to_owned)).map(Self)
    }

    fn show(&self) -> String {
        self.0.clone()
    }
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

impl Setting for KeyPlace {
    fn allowed() -> String {
        "{ values = [1, 2], shard = \"shop0\" }, { others = true, shard = \"shop0\" }, \
         { from = 0, to = 10, shard = \"shop0\" }"
            .to_owned()
    }

    fn parse(node: &Node) -> Option<Self> {
        Self::read(node, "", &mut Findings::default())
    }

    fn read(node: &Node, path: &str, findings: &mut Findings) -> Option<Self> {
        table(node, path, findings, Self::allowed(), |reader| {
            let values: Vec<KeyText> = reader.optional("values").unwrap_or_default();
            let from: Option<KeyText> = reader.optional("from");
            let to: Option<KeyText> = reader.optional("to");
            let others = reader.optional("others").unwrap_or_default();
            let shard = reader.required("shard");
            Some(Self {
                values: values.into_iter().map(|value| value.0).collect(),
                from: from.map(|value| value.0),
                to: to.map(|value| value.0),
                others,
                shard: shard?,
            })
        })
    }

    fn show(&self) -> String {
        let bound = |bound: &Option<String>| bound.clone().unwrap_or_default();
        let what = match (self.others, self.values.is_empty()) {
            (true, _) => "others".to_owned(),
            (false, false) => self.values.join(" "),
            (false, true) => format!("{}..{}", bound(&self.from), bound(&self.to)),
        };
        format!("{what} on {}", self.shard)
    }
}
