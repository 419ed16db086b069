//! What is asked of several shards at once.

use bytes::{BufMut, BytesMut};
use pgherd_planner::placement::Shards;
use pgherd_planner::{Key, Merge, Pull, Route, Rule, SortKey};
use pgherd_session::{Owed, Undo};
use pgherd_wire::error::{ErrorReport, Field};
use pgherd_wire::frame::{self, TooLong};
use pgherd_wire::frontend::{self, Bind, Describe, Execute, Target, tag};
use pgherd_wire::sqlstate;

use super::copied::Copied;
use super::gather::End;
use super::legs::Leg;
use super::plan::unsupported;
use crate::shards::{FIRST_OWN, Tier};

/// So many values are looked for one by one.
const FEW: usize = 200;
/// No more of what is to be combined is kept here, where there may be no tables.
pub(super) const CARRIED_MAX: usize = 64 * 1024 * 1024;
/// Nor is more than this outside of blocks, where the primary has a table for it.
const CARRIED_BY_CHOICE: usize = 4 * 1024 * 1024;
/// The relation of partial answers.
const PARTIALS: &str = "pgherd_partials";
/// The OID of `timestamptz`.
const TIMESTAMPTZ: u32 = 1184;
/// Those of `text` and `varchar`.
const TEXT: [u32; 2] = [25, 1043];

/// A read of several shards.
#[derive(Debug, Clone)]
pub(in crate::session) struct Request {
    /// Which.
    pub(super) shards: Vec<u16>,
    /// The number of the schemas that it was planned by.
    pub(super) schemas: u64,
    /// The client's text.
    pub(super) original: Box<[u8]>,
    /// What is sent to each of them, where nothing is combined.
    pub(super) text: Box<[u8]>,
    pub(super) work: Work,
    /// What is bound to it; a simple query without parameters has nothing.
    pub(super) bound: Option<Bound>,
    /// The number of the parameter that is given the time of one of the shards.
    pub(super) moment: Option<u32>,
    /// No tables are made, and up to so many bytes are kept here: within a block of the client's, or on a replica.
    pub(super) carries: Option<usize>,
    /// The rows are those of a `COPY`.
    pub(super) copied: Option<Copied>,
}

/// How its answers become one.
#[derive(Debug, Clone)]
pub(super) enum Work {
    /// One behind the other.
    Concat,
    /// Row by row: in an order, or up to a number.
    Merged {
        keys: Vec<SortKey>,
        hidden: usize,
        limit: Option<u64>,
        offset: u64,
    },
    /// By one of the servers, which has tables of them.
    Combined {
        carriers: Vec<Carrier>,
        /// What makes the answer of the tables.
        last: String,
    },
}

/// A table of what some shards give.
#[derive(Debug, Clone)]
pub(super) struct Carrier {
    pub(super) name: String,
    /// What they are asked for; its columns are those of the table.
    pub(super) text: String,
    pub(super) shards: Vec<u16>,
    /// It has a primary key.
    pub(super) keyed: bool,
    /// It has none where its table has one by which the query may group.
    keyless: bool,
    /// What is done with the table once it is full.
    pub(super) then: Vec<String>,
    /// What is also done if it is large.
    pub(super) indexes: Vec<String>,
    /// Those come first that may have fewer rows than others.
    rank: u8,
    /// Which values count by what another table has.
    pub(super) keys: Vec<Key>,
    /// The view that it is a piece of.
    view: Option<String>,
}

impl Carrier {
    /// That of rows which the planner has brought to one server.
    fn of(pull: &Pull, shards: &Shards) -> Self {
        let (name, mut then) = (&pull.carrier, Vec::new());
        if !pull.primary.is_empty() {
            let columns: Vec<String> = pull.primary.iter().map(|it| quoted(it)).collect();
            let columns = columns.join(", ");
            then.push(format!(
                "ALTER TABLE pg_temp.{name} ADD PRIMARY KEY ({columns})"
            ));
        }
        let indexes = pull.indexes.iter();
        let indexes = indexes.filter_map(|column| index(name, column));
        Self {
            name: name.clone(),
            text: pull.text.clone(),
            shards: shards.iter().map(|shard| shard.0).collect(),
            keyed: !pull.primary.is_empty(),
            keyless: pull.keyless,
            then,
            indexes: indexes.collect(),
            rank: match (pull.filtered, pull.rule) {
                (true, Rule::Table) => 0,
                (true, _) => 1,
                (false, _) => 2,
            },
            keys: pull.keys.clone(),
            view: pull.view.clone(),
        }
    }

    /// The same without rows that have other values than these, as an array of Postgres', in the key's column.
    pub(super) fn narrowed(&self, key: &Key, values: &str) -> Self {
        let Key { column, kind, .. } = key;
        let array = format!("'{values}'::pg_catalog.{kind}[]");
        // A server estimates the rows of each element by itself.
        let condition = match values.matches(',').count() < FEW {
            true => format!("= ANY ({array})"),
            false => format!("IN (SELECT pg_catalog.unnest({array}))"),
        };
        let text = format!(
            "SELECT * FROM ({}\n) AS pgherd_rows WHERE pgherd_rows.{} {condition}",
            self.text,
            quoted(column)
        );
        Self {
            text,
            ..self.clone()
        }
    }
}

/// What asks a server for the values of a key that a table there has, as an array; NULL if there are more than so many.
pub(super) fn values_of(key: &Key, most: usize) -> String {
    let (column, table) = (quoted(&key.theirs), &key.carrier);
    format!(
        "SELECT CASE WHEN pg_catalog.count(*) <= {most} \
         THEN coalesce(pg_catalog.array_agg(pgherd_rows.w0)::pg_catalog.text, '{{}}') END \
         FROM (SELECT DISTINCT {column} AS w0 FROM pg_temp.{table} WHERE {column} IS NOT NULL) AS pgherd_rows"
    )
}

/// A name as it is written in a text.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// What makes an index. It is for speed only: where a value is too long for one, or its type has none, it is done without.
fn index(table: &str, column: &str) -> Option<String> {
    // Within a text in quotes, these would mean something.
    if column.contains(['\'', '\\']) {
        return None;
    }
    let column = quoted(column);
    Some(format!(
        "DO LANGUAGE plpgsql 'BEGIN CREATE INDEX ON pg_temp.{table} ({column}); \
         EXCEPTION WHEN program_limit_exceeded OR undefined_object THEN NULL; END'"
    ))
}

/// What is bound to a statement.
#[derive(Debug, Clone, Default)]
pub(super) struct Bound {
    /// The types of its parameters; zero, or nothing at the end, leaves one to the server.
    pub(super) types: Vec<u32>,
    pub(super) formats: Vec<i16>,
    pub(super) values: Vec<Option<Box<[u8]>>>,
    /// The formats of the columns.
    pub(super) results: Vec<i16>,
}

impl Bound {
    pub(super) fn of(types: Vec<u32>, bind: &Bind<'_>) -> Self {
        let codes = |bytes: &[u8]| -> Vec<i16> {
            let codes = bytes.chunks_exact(2);
            codes
                .map(|code| i16::from_be_bytes([code[0], code[1]]))
                .collect()
        };
        Self {
            types,
            formats: codes(bind.formats),
            values: bind.parameters().map(|it| it.map(Into::into)).collect(),
            results: codes(bind.results),
        }
    }

    /// Whether the types of all parameters are known.
    pub(super) fn is_typed(&self) -> bool {
        let typed = self.types.iter().filter(|oid| **oid != 0).count();
        typed >= self.values.len()
    }

    /// Takes over what a server has said of the parameters: the body of a ParameterDescription. Types of the
    /// users' own have other numbers elsewhere, and are left to each server.
    pub(super) fn typed(&mut self, described: &[u8]) {
        let oids = described.get(2..).unwrap_or_default().chunks_exact(4);
        for (at, oid) in oids.enumerate() {
            let oid = u32::from_be_bytes([oid[0], oid[1], oid[2], oid[3]]);
            if self.types.len() <= at {
                self.types.resize(at + 1, 0);
            }
            if self.types[at] == 0 && oid < FIRST_OWN {
                self.types[at] = oid;
            }
        }
    }

    /// Gives the time that a parameter behind all others asks for.
    pub(super) fn at(&mut self, number: u32, time: &[u8]) -> Result<(), ErrorReport> {
        let number = usize::try_from(number).unwrap_or(usize::MAX);
        if number <= self.values.len() || number > usize::from(u16::MAX) {
            return Err(unsupported(
                "now() is not made the same on several shards where parameters are not used",
            ));
        }
        self.push(number, TIMESTAMPTZ, time.into());
        Ok(())
    }

    /// What is bound to a text in which not all of the parameters may be: no server can tell the type of one that
    /// is not there, and what its value is does not matter.
    pub(super) fn fitting(&self, text: &[u8]) -> Self {
        let mut fitting = self.clone();
        fitting
            .types
            .resize(self.values.len().max(self.types.len()), 0);
        for at in 0..self.values.len() {
            if fitting.types[at] == 0 && !mentions(text, at + 1) {
                fitting.types[at] = TEXT[0];
                fitting.values[at] = None;
            }
        }
        fitting
    }

    /// The Parse of a text behind its name, and the Bind of this behind its names. `results` are the columns' formats.
    pub(super) fn written(&self, text: &[u8], results: &[i16]) -> (Vec<u8>, Vec<u8>) {
        let count = |count: usize| u16::try_from(count).unwrap_or(u16::MAX);
        let mut tail = BytesMut::from(text);
        tail.put_u8(0);
        tail.put_u16(count(self.types.len()));
        self.types.iter().for_each(|oid| tail.put_u32(*oid));
        let mut values = BytesMut::new();
        values.put_u16(count(self.formats.len()));
        self.formats.iter().for_each(|code| values.put_i16(*code));
        values.put_u16(count(self.values.len()));
        for value in &self.values {
            frame::put_value(&mut values, value.as_deref());
        }
        values.put_u16(count(results.len()));
        results.iter().for_each(|code| values.put_i16(*code));
        (tail.to_vec(), values.to_vec())
    }

    /// Gives a parameter behind all others a value of text.
    fn push(&mut self, number: usize, oid: u32, value: Box<[u8]>) {
        self.push_in(0, number, oid, value);
    }

    /// The same of a value in binary.
    pub(super) fn push_binary(&mut self, number: usize, oid: u32, value: Box<[u8]>) {
        self.push_in(1, number, oid, value);
    }

    fn push_in(&mut self, format: i16, number: usize, oid: u32, value: Box<[u8]>) {
        if self.formats.len() == 1 {
            self.formats = vec![self.formats[0]; self.values.len()];
        }
        self.formats.resize(number - 1, 0);
        self.formats.push(format);
        self.types.resize(number - 1, 0);
        self.types.push(oid);
        self.values.resize(number - 1, None);
        self.values.push(Some(value));
    }
}

/// Whether a parameter may be in a text; what only looks like one counts, too.
pub(super) fn mentions(text: &[u8], number: usize) -> bool {
    let name = format!("${number}");
    let found = text.windows(name.len()).enumerate();
    let mut found = found.filter(|(_, part)| *part == name.as_bytes());
    found.any(|(at, _)| !text.get(at + name.len()).is_some_and(u8::is_ascii_digit))
}

impl Request {
    /// What a route asks for; nothing if it is not a read of several shards.
    pub(super) fn of(
        route: &Route<'_>,
        text: &[u8],
        bound: Option<Bound>,
        schemas: u64,
    ) -> Option<Self> {
        let original = text;
        let (route, sent, moment) = match route {
            Route::At {
                text,
                parameter,
                route,
            } => (&**route, text.as_bytes(), Some(*parameter)),
            route => (route, text, None),
        };
        let all: Shards;
        let (shards, text, work) = match route {
            Route::Concat {
                shards,
                writes: false,
            } => (shards, sent, Work::Concat),
            Route::Pull { pulls, text } => {
                let carriers = pulls.iter().map(|(shards, pull)| Carrier::of(pull, shards));
                let mut carriers: Vec<Carrier> = carriers.collect();
                // What of the others counts may then be known.
                carriers.sort_by_key(|carrier| carrier.rank);
                let work = Work::Combined {
                    carriers,
                    last: (*text).to_owned(),
                };
                all = pulls
                    .iter()
                    .flat_map(|(shards, _)| shards)
                    .copied()
                    .collect();
                (&all, text.as_bytes(), work)
            }
            Route::Merge {
                shards,
                merge,
                limit,
                offset,
            } => {
                let (limit, offset) = (*limit, *offset);
                let (text, work) = match merge {
                    Merge::Sorted {
                        text, keys, hidden, ..
                    } => {
                        let (keys, hidden) = (keys.clone(), *hidden);
                        let work = Work::Merged {
                            keys,
                            hidden,
                            limit,
                            offset,
                        };
                        (text, work)
                    }
                    Merge::Limited { text, .. } => {
                        let work = Work::Merged {
                            keys: Vec::new(),
                            hidden: 0,
                            limit,
                            offset,
                        };
                        (text, work)
                    }
                    Merge::Combined { partial, combine } => {
                        let carrier = Carrier {
                            name: PARTIALS.to_owned(),
                            text: partial.clone(),
                            shards: shards.iter().map(|shard| shard.0).collect(),
                            keyed: false,
                            keyless: false,
                            then: Vec::new(),
                            indexes: Vec::new(),
                            rank: 0,
                            keys: Vec::new(),
                            view: None,
                        };
                        let work = Work::Combined {
                            carriers: vec![carrier],
                            last: combine.clone(),
                        };
                        (partial, work)
                    }
                };
                (shards, text.as_bytes(), work)
            }
            _ => return None,
        };
        Some(Self {
            shards: shards.iter().map(|shard| shard.0).collect(),
            schemas,
            original: original.into(),
            text: text.into(),
            work,
            bound,
            moment,
            carries: None,
            copied: None,
        })
    }

    /// The shard that makes the answer of tables, which takes a primary.
    pub(super) fn home(&self) -> Option<u16> {
        let pulls = self.tier() == Tier::Pulled;
        pulls.then(|| self.shards.first().copied()).flatten()
    }

    /// Takes note of where the answer is made of what the others give: a replica has no tables for that, and partial
    /// answers are few as a rule.
    pub(super) fn is_made_by(&mut self, home: Option<&Leg>) {
        let reading = home.is_some_and(|home| home.reading);
        let merges = self.tier() == Tier::Merged;
        self.carries = (reading && merges).then_some(CARRIED_BY_CHOICE);
    }

    /// The same for a `COPY` of its rows.
    pub(super) fn copying(self, copied: Option<Copied>) -> Self {
        let Some(copied) = copied else {
            return self;
        };
        // Shards that copy by themselves have the client's text.
        let writes = !matches!(self.work, Work::Concat);
        let results = Vec::from_iter((writes && copied.is_binary()).then_some(1));
        let bound = match self.bound {
            None if results.is_empty() => None,
            bound => Some(Bound {
                results,
                ..bound.unwrap_or_default()
            }),
        };
        Self {
            bound,
            copied: Some(copied),
            ..self
        }
    }

    /// How it runs.
    pub(super) fn tier(&self) -> Tier {
        match &self.work {
            Work::Concat => Tier::PushedDown,
            Work::Merged { .. } => Tier::Merged,
            Work::Combined { carriers, .. } => match carriers.as_slice() {
                [partials] if partials.name == PARTIALS => Tier::Merged,
                _ => Tier::Pulled,
            },
        }
    }

    /// Whether values that it is sorted by come in the bytes that servers compare: not where texts are in another
    /// encoding.
    pub(super) fn is_ordered(&self, is_foreign: bool) -> bool {
        match &self.work {
            Work::Merged { keys, .. } if is_foreign => {
                !keys.iter().any(|key| TEXT.contains(&key.oid))
            }
            _ => true,
        }
    }

    /// Whether what is sent means to the servers what it says: a text of our own is in UTF-8, also where it names
    /// columns or repeats a view that the client's does not.
    pub(super) fn is_legible(&self, is_foreign: bool) -> bool {
        let own = match &self.work {
            Work::Concat | Work::Merged { .. } => self.text.is_ascii(),
            Work::Combined { carriers, last } => {
                let all = |it: &Carrier| {
                    let mut then = it.then.iter().chain(&it.indexes);
                    it.text.is_ascii() && then.all(|it| it.is_ascii())
                };
                last.is_ascii() && carriers.iter().all(all)
            }
        };
        own || !is_foreign
    }

    /// How the client is told of an end: what a server says of tables of ours, or of pieces of a view, is nothing that one
    /// Postgres would say.
    pub(super) fn told(&self, end: End) -> End {
        let (End::Failed(message), Work::Combined { carriers, .. }) = (&end, &self.work) else {
            return end;
        };
        let said = ErrorReport::parse(message.get(frame::HEADER_LEN..).unwrap_or_default());
        let told = match said.code {
            sqlstate::INSUFFICIENT_PRIVILEGE => in_pieces(carriers, said),
            sqlstate::GROUPING_ERROR => without_key(carriers),
            sqlstate::INDETERMINATE_COLLATION => without_collation(&said),
            _ => None,
        };
        told.map_or(end, |report| End::Stopped(Box::new(report)))
    }

    /// Whether the text that is sent is not the client's, so that what it says of parameters and of places in the
    /// text need not hold.
    pub(super) fn is_rewritten(&self) -> bool {
        self.moment.is_some() || !matches!(self.work, Work::Concat)
    }

    /// The types that the client gives to parameters.
    pub(super) fn types(&self) -> &[u32] {
        self.bound.as_ref().map_or(&[], |bound| &bound.types)
    }

    /// Whether a server has to say first which types the parameters of the client's text have.
    pub(super) fn is_untyped(&self) -> bool {
        self.is_rewritten() && self.bound.as_ref().is_some_and(|bound| !bound.is_typed())
    }

    /// Takes over what a server has said of the parameters.
    pub(super) fn typed(&mut self, described: &[u8]) {
        if let Some(bound) = &mut self.bound {
            bound.typed(described);
        }
    }

    /// Gives the time that it asks for.
    pub(super) fn at(&mut self, number: u32, time: &[u8]) -> Result<(), ErrorReport> {
        self.bound.get_or_insert_default().at(number, time)
    }
}

/// What is said where the client may not read what is in a view.
fn in_pieces(carriers: &[Carrier], said: ErrorReport) -> Option<ErrorReport> {
    let view = carriers.iter().find_map(|it| it.view.as_ref())?;
    let text = format!(
        "the view {view} is read in pieces, for which its reader needs the rights of its owner"
    );
    let report = unsupported(text)
        .detail(said.message)
        .hint("GRANT SELECT on what is in the view, too, or ask for rows of one shard by its key.");
    Some(report)
}

/// What is said where what is grouped by a primary key alone has none here.
fn without_key(carriers: &[Carrier]) -> Option<ErrorReport> {
    let text =
        "GROUP BY of a primary key alone is not supported where the table's key is not in it";
    let report = unsupported(text).hint("Group by all columns that are shown, too.");
    carriers.iter().any(|it| it.keyless).then_some(report)
}

/// What is said where a table of ours cannot have a column, as a query may: of the ways in which a server says that
/// there is no collation, this is one.
fn without_collation(said: &ErrorReport) -> Option<ErrorReport> {
    let is_of_table = matches!(
        said.other(Field::Routine),
        Some("create_ctas_nodata" | "intorel_startup")
    );
    let text = "texts without a certain collation are not combined";
    let report = unsupported(text).hint("Say one by COLLATE.");
    is_of_table.then_some(report)
}

/// Puts a text with what is bound to it into a leg, up to its Sync. `results` are the columns' formats.
pub(super) fn put(
    leg: &mut Leg,
    text: &[u8],
    bound: &Bound,
    results: &[i16],
    describes: bool,
) -> Result<(), TooLong> {
    write_bind(leg, text, bound, results)?;
    let out = leg.out.made();
    if describes {
        frontend::describe(out, Target::Portal, b"")?;
    }
    frontend::execute(out, b"", 0)?;
    frontend::sync(out);
    let exchange = &mut leg.lease.exchange;
    if describes {
        exchange.sent(Owed::DescribePortal { of: None });
    }
    exchange.sent(Owed::Execute);
    exchange.sent(Owed::OurSync);
    Ok(())
}

/// The Parse of a text, and the Bind of what is bound to it.
fn write_bind(leg: &mut Leg, text: &[u8], bound: &Bound, results: &[i16]) -> Result<(), TooLong> {
    let out = leg.out.made();
    let values: Vec<Option<&[u8]>> = bound.values.iter().map(Option::as_deref).collect();
    frontend::parse(out, b"", text, &bound.types)?;
    frontend::bind(out, b"", b"", &bound.formats, &values, results)?;
    let exchange = &mut leg.lease.exchange;
    exchange.sent(Owed::Parse {
        hidden: true,
        undo: Undo::Nothing,
    });
    exchange.sent(Owed::Bind { of: None });
    Ok(())
}

/// Has a leg take what is bound to a text, and run nothing of it.
pub(super) fn put_bind(leg: &mut Leg, text: &[u8], bound: &Bound) -> Result<(), TooLong> {
    write_bind(leg, text, bound, &bound.results)?;
    frontend::sync(leg.out.made());
    leg.lease.exchange.sent(Owed::OurSync);
    leg.lease.touched = true;
    leg.begin();
    Ok(())
}

/// The name of the portal that a message has run, or described, which is to run it as far as that.
pub(super) fn run_by(kind: u8, body: &[u8]) -> Option<&[u8]> {
    match kind {
        tag::DESCRIBE => {
            let asked = Describe::parse(body).ok();
            asked
                .filter(|it| it.kind == Target::Portal)
                .map(|it| it.name)
        }
        tag::EXECUTE => Execute::parse(body).ok().map(|it| it.portal),
        _ => None,
    }
}

/// Has a leg describe a statement: its parameters and its columns.
pub(super) fn put_describe(leg: &mut Leg, text: &[u8], types: &[u32]) -> Result<(), TooLong> {
    let out = leg.out.made();
    frontend::parse(out, b"", text, types)?;
    frontend::describe(out, Target::Statement, b"")?;
    frontend::sync(out);
    let exchange = &mut leg.lease.exchange;
    exchange.sent(Owed::Parse {
        hidden: true,
        undo: Undo::Nothing,
    });
    exchange.sent(Owed::DescribeStatement {
        hidden: true,
        of: None,
    });
    exchange.sent(Owed::OurSync);
    leg.begin();
    Ok(())
}

/// What is said of a message that would be too long.
pub(super) fn too_long(error: TooLong) -> Box<ErrorReport> {
    Box::new(ErrorReport::error(
        sqlstate::PROGRAM_LIMIT_EXCEEDED,
        error.to_string(),
    ))
}
