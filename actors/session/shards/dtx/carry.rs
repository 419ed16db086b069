//! What the shards have computed, made one within a transaction of the client's.
//!
//! A temporary table would keep such a transaction from its two phases, and is none of one that only reads, or of a
//! replica. So the rows are kept here, within a bound, and go to the first leg as arrays, with the query that makes the answer
//! of them. Its own part is in that query, and what another shard gives is of one query there: all that is read of
//! one shard is of one moment, also where each statement has one of its own.

use bytes::{BufMut, BytesMut};
use pgherd_planner::Param;
use pgherd_session::Flow;
use pgherd_sql::{LexOptions, Lexer};
use pgherd_wire::backend::{DataRow, RowDescription};
use pgherd_wire::error::ErrorReport;
use pgherd_wire::frame;
use pgherd_wire::sqlstate;

use super::rows::Kept;
use crate::session::relay::Relay;
use crate::session::shards::combine::{self, Limits};
use crate::session::shards::gather::{Deadlines, End, gather};
use crate::session::shards::legs::Leg;
use crate::session::shards::plan::unsupported;
use crate::session::shards::request::{Bound, Carrier, put, too_long};
use crate::session::shards::start::describe;
use crate::session::shards::whole::{Taker, Whole};

/// The OID of `text`, and that of arrays of it.
const TEXT: (u32, u32) = (25, 1009);

/// The OID of `name`. Its values go as texts: what is a `name` by itself has a collation of its own, which counts for more
/// than that of the column if this is the default one.
const NAME: u32 = 19;

/// Types whose binary form is the same on every server, and those of arrays of them, by the OIDs of `pg_type.dat`.
const ARRAYS: [(u32, u32); 23] = [
    (16, 1000),
    (17, 1001),
    (19, 1003),
    (20, 1016),
    (21, 1005),
    (23, 1007),
    (25, 1009),
    (114, 199),
    (650, 651),
    (700, 1021),
    (701, 1022),
    (869, 1041),
    (1042, 1014),
    (1043, 1015),
    (1082, 1182),
    (1083, 1183),
    (1114, 1115),
    (1184, 1185),
    (1186, 1187),
    (1266, 1270),
    (1700, 1231),
    (2950, 2951),
    (3802, 3807),
];

/// A column of a carrier, and its values of the other shards.
#[derive(Clone)]
struct Column {
    /// The OID of its type, or of what that is a domain over.
    oid: u32,
    /// Its type, as a text names it.
    kind: String,
    /// What an array of its values is one of, and the type of that.
    element: u32,
    array: u32,
    /// The values come and go in text.
    in_text: bool,
    /// Each behind its length.
    values: BytesMut,
    has_null: bool,
}

impl Column {
    fn add(&mut self, value: Option<&[u8]>) {
        self.has_null |= value.is_none();
        frame::put_value(&mut self.values, value);
    }
}

/// A carrier, as far as it is filled by others.
#[derive(Clone, Default)]
pub(super) struct Filled {
    columns: Vec<Column>,
    pub(super) rows: usize,
}

/// Has the first leg run what makes the answer of what all of them have; its rows are then the answer. No more than so
/// many bytes of the others' are kept.
pub(in crate::session::shards) async fn combine(
    relay: &mut Relay,
    legs: &mut [Leg],
    carriers: &[Carrier],
    last: &str,
    bound: &Bound,
    most: usize,
    deadlines: &Deadlines,
) -> Result<(), End> {
    let (text, bound) = brought(relay, legs, carriers, last, bound, most, deadlines).await?;
    let Some(home) = legs.first_mut() else {
        return Ok(());
    };
    put(home, text.as_bytes(), &bound, &bound.results, true).map_err(long)?;
    home.begin();
    Ok(())
}

/// Brings what the other legs have, up to so many bytes: what is then to be run on the first, and what is bound to it.
pub(super) async fn brought(
    relay: &mut Relay,
    legs: &mut [Leg],
    carriers: &[Carrier],
    last: &str,
    bound: &Bound,
    most: usize,
    deadlines: &Deadlines,
) -> Result<(String, Bound), End> {
    let Some((home, others)) = legs.split_first_mut() else {
        return Ok((last.to_owned(), bound.clone()));
    };
    let mut filled = Vec::new();
    for carrier in carriers {
        let mut columns = Vec::new();
        if others.iter().any(|leg| carrier.shards.contains(&leg.shard)) {
            columns = described(relay, home, &carrier.text, bound, deadlines).await?;
        }
        filled.push(Filled { columns, rows: 0 });
    }
    are_exact(relay, &filled)?;
    for leg in others.iter_mut() {
        let text = asked(carriers, &filled, leg.shard);
        let bound = bound.fitting(text.as_bytes());
        put(leg, text.as_bytes(), &bound, &formats(&filled), true).map_err(long)?;
        leg.begin();
    }
    if !others.is_empty() {
        let mut brought = Whole::of(Brought {
            limits: Limits::up_to(relay, most),
            filled: &mut filled,
        });
        ended(gather(relay, others, &mut brought, deadlines).await)?;
    }
    for leg in others.iter_mut() {
        leg.lease.flow.hand_over(&mut Flow::default());
    }
    let first = bound.values.len().max(bound.types.len()) + 1;
    let text = whole(relay.lexing, carriers, &filled, last, home.shard, first);
    let mut bound = bound.fitting(text.as_bytes());
    let columns = filled.iter().filter(|it| it.rows > 0);
    for (at, (column, rows)) in columns
        .flat_map(|it| it.columns.iter().map(|column| (column, it.rows)))
        .enumerate()
    {
        bound.push_binary(first + at, column.array, array(column, rows));
    }
    Ok((text, bound))
}

fn long(error: frame::TooLong) -> End {
    End::Stopped(too_long(error))
}

fn ended(end: End) -> Result<(), End> {
    match end {
        End::Answered => Ok(()),
        end => Err(end),
    }
}

/// The columns of a query: their types with all that belongs to them, which is the same on every shard.
async fn described(
    relay: &mut Relay,
    home: &mut Leg,
    text: &str,
    bound: &Bound,
    deadlines: &Deadlines,
) -> Result<Vec<Column>, End> {
    let bound = bound.fitting(text.as_bytes());
    describe(relay, home, text.as_bytes(), &bound.types, deadlines).await?;
    let body = home.columns.as_deref();
    let body = body.and_then(|it| it.get(frame::HEADER_LEN..));
    let Some(shown) = body.and_then(|body| RowDescription::parse(body).ok()) else {
        return Err(home.broken());
    };
    let types: Vec<(u32, i32)> = shown
        .columns()
        .map(|it| (it.type_oid, it.modifier))
        .collect();
    let question = question(text, &types);
    put(home, question.as_bytes(), &bound, &[], true).map_err(long)?;
    home.begin();
    let mut told = Kept::default();
    let here = std::slice::from_mut(home);
    ended(gather(relay, here, &mut told, deadlines).await)?;
    let row = told.rows.first().and_then(|rows| rows.front());
    let row = row.and_then(|row| DataRow::parse(row.get(frame::HEADER_LEN..)?).ok());
    let values: Vec<&[u8]> = row.iter().flat_map(DataRow::values).flatten().collect();
    let mut columns = Vec::new();
    for ((oid, _), told) in types.iter().zip(values.chunks_exact(2)) {
        let native = ARRAYS.iter().find(|(element, _)| element == oid);
        if native.is_none() && told[1] != b"f" {
            let text = "values of a type that texts are cast to by a function of the users' own are not combined in a transaction over several shards";
            return Err(End::Stopped(Box::new(unsupported(text))));
        }
        let (element, array) = match native {
            Some((NAME, _)) | None => TEXT,
            Some(native) => *native,
        };
        columns.push(Column {
            oid: *oid,
            kind: String::from_utf8_lossy(told[0]).into_owned(),
            element,
            array,
            in_text: native.is_none(),
            values: BytesMut::new(),
            has_null: false,
        });
    }
    match columns.len() == types.len() {
        true => Ok(columns),
        false => Err(home.broken()),
    }
}

/// What asks for the types of a text's columns by their names, and whether texts become such by code of the users'.
/// Descriptions do not tell domains from what they are over.
fn question(text: &str, types: &[(u32, i32)]) -> String {
    let mut targets = Vec::new();
    for (at, (oid, modifier)) in types.iter().enumerate() {
        let kind = format!("pg_catalog.pg_typeof(pgherd_rows.w{at})::pg_catalog.oid");
        targets.push(format!(
            "pg_catalog.format_type({kind}, CASE {kind} WHEN {oid} THEN {modifier} ELSE -1 END), \
             EXISTS (SELECT FROM pg_catalog.pg_cast WHERE castsource = 25 AND oid >= 16384 \
             AND casttarget IN ({kind}, {oid}))"
        ));
    }
    format!(
        "SELECT {} FROM (VALUES (1)) AS pgherd_one LEFT JOIN ({text}\n) AS pgherd_rows{} ON false",
        targets.join(", "),
        names(types.len())
    )
}

/// The names of so many columns, as an alias has them.
fn names(count: usize) -> String {
    match count {
        0 => String::new(),
        count => {
            let names: Vec<String> = (0..count).map(|at| format!("w{at}")).collect();
            format!(" ({})", names.join(", "))
        }
    }
}

/// Whether what is brought is on the next server what it was on the last.
fn are_exact(relay: &Relay, filled: &[Filled]) -> Result<(), End> {
    let mut columns = filled.iter().flat_map(|it| &it.columns);
    if columns.clone().any(|column| column.in_text) {
        combine::is_exact(relay)?;
    }
    let has_texts = |column: &Column| column.in_text || combine::TEXTS.contains(&column.element);
    if combine::is_foreign(relay) && columns.any(has_texts) {
        return Err(combine::foreign());
    }
    Ok(())
}

/// What another shard is asked for: the rows of all carriers that it is concerned by, each behind the carrier's
/// number and between as many NULLs as the others have columns. What it gives has the same form on every shard.
fn asked(carriers: &[Carrier], filled: &[Filled], shard: u16) -> String {
    let mut arms = Vec::new();
    for (at, carrier) in carriers.iter().enumerate() {
        if !carrier.shards.contains(&shard) {
            continue;
        }
        let mut targets = vec![at.to_string()];
        for (other, filled) in filled.iter().enumerate() {
            let columns = filled.columns.iter().enumerate();
            targets.extend(columns.map(|(number, column)| match other == at {
                true => format!("pgherd_rows.w{number} AS c{other}_{number}"),
                false => format!("NULL::{} AS c{other}_{number}", column.kind),
            }));
        }
        arms.push(format!(
            "SELECT {} FROM ({}\n) AS pgherd_rows{}",
            targets.join(", "),
            carrier.text,
            names(filled[at].columns.len())
        ));
    }
    arms.join(" UNION ALL ")
}

/// The formats in which that is wanted.
fn formats(filled: &[Filled]) -> Vec<i16> {
    let columns = filled.iter().flat_map(|it| &it.columns);
    let columns = columns.map(|column| i16::from(!column.in_text));
    std::iter::once(0).chain(columns).collect()
}

/// The last query behind the carriers: what home has of them by itself, and what has come, in parameters from `first`
/// on.
fn whole(
    lexing: LexOptions,
    carriers: &[Carrier],
    filled: &[Filled],
    last: &str,
    home: u16,
    first: usize,
) -> String {
    let mut number = first;
    let mut tables = Vec::new();
    for (carrier, filled) in carriers.iter().zip(filled) {
        let own = match carrier.shards.contains(&home) {
            true => format!("({}\n)", carrier.text),
            false => format!(
                "(SELECT * FROM ({}\n) AS pgherd_rows WHERE false)",
                carrier.text
            ),
        };
        let mut arms = vec![own];
        if filled.rows > 0 {
            arms.push(filled.brought(number));
            number += filled.columns.len();
        }
        let arms = arms.join(" UNION ALL ");
        tables.push(format!("{} AS MATERIALIZED ({arms})", carrier.name));
    }
    behind(lexing, &tables.join(", "), last)
}

/// The last query behind carriers that have nothing of other shards.
pub(super) fn empty(lexing: LexOptions, carriers: &[Carrier], last: &str, home: u16) -> String {
    let none = || Filled {
        columns: Vec::new(),
        rows: 0,
    };
    let filled: Vec<Filled> = carriers.iter().map(|_| none()).collect();
    whole(lexing, carriers, &filled, last, home, 1)
}

impl Filled {
    /// What has the columns of a query, as a server describes it, and no rows yet.
    pub(super) async fn of(
        relay: &mut Relay,
        home: &mut Leg,
        text: &str,
        bound: &Bound,
        deadlines: &Deadlines,
    ) -> Result<Self, End> {
        let columns = described(relay, home, text, bound, deadlines).await?;
        let filled = [Self { columns, rows: 0 }];
        are_exact(relay, &filled)?;
        let [filled] = filled;
        Ok(filled)
    }

    /// How many columns there are.
    pub(super) fn width(&self) -> usize {
        self.columns.len()
    }

    /// The formats in which its rows are wanted.
    pub(super) fn formats(&self) -> Vec<i16> {
        let columns = self.columns.iter();
        columns.map(|column| i16::from(!column.in_text)).collect()
    }

    /// The values of a row, by the body of its DataRow, in these columns.
    pub(super) fn values<'r>(&self, row: &'r [u8], places: &[usize]) -> Option<Vec<Param<'r>>> {
        let values: Vec<_> = DataRow::parse(row).ok()?.values().collect();
        let value = |at: &usize| {
            let column = self.columns.get(*at)?;
            Some(Param {
                oid: column.oid,
                binary: !column.in_text,
                value: *values.get(*at)?,
            })
        };
        places.iter().map(value).collect()
    }

    /// Adds a row, by the body of its DataRow; false if it is none of its columns.
    pub(super) fn add(&mut self, row: &[u8]) -> bool {
        let Ok(row) = DataRow::parse(row) else {
            return false;
        };
        let mut values = row.values();
        for column in &mut self.columns {
            let Some(value) = values.next() else {
                return false;
            };
            column.add(value);
        }
        self.rows += 1;
        values.next().is_none()
    }

    /// What gives its rows, in their order, of parameters from this number on.
    fn brought(&self, first: usize) -> String {
        let columns = self.columns.iter().enumerate();
        let casts = columns.map(|(at, column)| format!("pgherd_rows.w{at}::{}", column.kind));
        let casts: Vec<String> = casts.collect();
        let from = match self.columns.len() {
            0 => {
                let rows = self.rows;
                format!("pg_catalog.generate_series(1, {rows}) AS pgherd_rows")
            }
            count => {
                let numbers = (first..first + count).map(|it| format!("pg_catalog.unnest(${it})"));
                let numbers: Vec<String> = numbers.collect();
                let numbers = numbers.join(", ");
                format!("ROWS FROM ({numbers}) AS pgherd_rows{}", names(count))
            }
        };
        format!("SELECT {} FROM {from}", casts.join(", "))
    }

    /// A statement behind its rows, which it names `pgherd_rows`, and what is bound to that.
    pub(super) fn before(&self, statement: &str, bound: &Bound) -> (String, Bound) {
        let first = bound.values.len().max(bound.types.len()) + 1;
        let text = format!(
            "WITH pgherd_rows{} AS MATERIALIZED ({}) {statement}",
            names(self.columns.len()),
            self.brought(first)
        );
        let mut bound = bound.fitting(text.as_bytes());
        for (at, column) in self.columns.iter().enumerate() {
            bound.push_binary(first + at, column.array, array(column, self.rows));
        }
        (text, bound)
    }
}

/// A query behind queries of a WITH that it names.
fn behind(lexing: LexOptions, tables: &str, last: &str) -> String {
    let mut lexer = Lexer::new(last.as_bytes(), lexing);
    let mut token = || lexer.token().ok().flatten();
    let (first, second) = (token(), token());
    let with = first.is_some_and(|it| it.is_word(b"with"));
    match (with, second) {
        // There, each sees all others, and ours would see the client's.
        (true, Some(second)) if second.is_word(b"recursive") => {
            format!("WITH {tables} SELECT * FROM ({last}\n) AS pgherd_rest")
        }
        (true, Some(second)) => {
            let rest = last.get(second.start..).unwrap_or_default();
            format!("WITH {tables}, {rest}")
        }
        _ => format!("WITH {tables} {last}"),
    }
}

/// The values of a column as an array in binary.
fn array(column: &Column, rows: usize) -> Box<[u8]> {
    let mut out = BytesMut::with_capacity(column.values.len() + 20);
    out.put_u32(1);
    out.put_u32(u32::from(column.has_null));
    out.put_u32(column.element);
    out.put_u32(u32::try_from(rows).unwrap_or(u32::MAX));
    out.put_u32(1);
    out.extend_from_slice(&column.values);
    out[..].into()
}

/// The other legs' rows, on their way into the columns.
struct Brought<'a> {
    filled: &'a mut [Filled],
    limits: Limits,
}

impl Taker for Brought<'_> {
    fn expects(&mut self, total: usize) -> Result<bool, End> {
        self.limits.count(total).map(|()| true)
    }

    fn take(&mut self, row: &[u8]) -> Result<bool, End> {
        Ok(self.add(row).is_some())
    }
}

impl Brought<'_> {
    /// Adds a row; nothing if it is none of those that were asked for.
    fn add(&mut self, row: &[u8]) -> Option<()> {
        let row = DataRow::parse(row).ok()?;
        let mut values = row.values();
        let number = values.next().flatten()?;
        let number: usize = std::str::from_utf8(number).ok()?.parse().ok()?;
        self.filled.get(number)?;
        for (at, filled) in self.filled.iter_mut().enumerate() {
            for column in &mut filled.columns {
                let value = values.next()?;
                if at == number {
                    column.add(value);
                }
            }
        }
        self.filled[number].rows += 1;
        Some(())
    }
}

/// What is said where what is grouped by a primary key alone has none here.
pub(super) fn reworded(end: End) -> End {
    let End::Failed(message) = end else {
        return end;
    };
    let report = ErrorReport::parse(&message[frame::HEADER_LEN..]);
    if report.code != sqlstate::GROUPING_ERROR {
        return End::Failed(message);
    }
    let text =
        "GROUP BY of a primary key alone is not supported in a transaction over several shards";
    let report = unsupported(text).hint("Group by all columns that are shown, too.");
    End::Stopped(Box::new(report))
}
