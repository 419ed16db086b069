//! `pgherd.verify`: a query is also answered in the plainest way there is, by all rows of its tables on one server, and
//! the client is told where that gives something else.
//!
//! The plain answer comes first, and only its digest is kept; the other one goes to the client as it comes, and its
//! end only if both are the same.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use pgherd_planner::{Names, Params, Route, SortKey, Statement};
use pgherd_sql::Lexer;
use pgherd_wire::backend::{DataRow, RowDescription};
use pgherd_wire::error::ErrorReport;
use pgherd_wire::frontend::Bind;
use pgherd_wire::{frame, sqlstate};

use super::gather::End;
use super::hint;
use super::names;
use super::plan::{Told, is_read, parts, read, unsupported, values, worded};
use super::request::{Bound, CARRIED_MAX, Request, Work};
use super::whole::Taker;
use crate::session::relay::Relay;
use crate::shards::{FIRST_OWN, Known};

/// The OID of `numeric`, whose equal values are written in several ways.
const NUMERIC: u32 = 1700;

/// How an answer is verified.
pub(super) struct Check {
    /// What brings all rows to one server.
    pub(super) request: Request,
    /// By which columns its rows come sorted, from the first.
    pub(super) keys: Vec<usize>,
    /// SQL allows of several answers.
    is_open: bool,
}

/// Whether a statement is one whose answer is to be verified.
pub(super) fn is_due(relay: &Relay, text: &[u8], statement: &Statement) -> bool {
    const QUERIES: [&[u8]; 4] = [b"select", b"with", b"values", b"table"];
    if !matches!(hint::verifies(relay), Ok(true)) {
        return false;
    }
    let first = Lexer::new(text, relay.lexing).token();
    let queries = matches!(first, Ok(Some(first)) if first.is(b'(') || QUERIES.iter().any(|word| first.is_word(word)));
    queries && !statement.is_narrowed() && statement.reads_spread() && is_read(relay, text)
}

/// How the answer of such a statement is verified, or why it cannot be.
pub(super) fn check(
    relay: &Relay,
    known: &Known,
    text: &[u8],
    given: Option<(&[u8], &Bind<'_>)>,
    main: &Request,
) -> Result<Check, String> {
    if !relay.judge(text).steady {
        return Err("it may do something that is not to be done twice".to_owned());
    }
    let said = |report: ErrorReport| report.message;
    let original = &main.original;
    let text = names::readable(relay, known, original).map_err(said)?;
    let names = Names {
        whole: true,
        ..names::of(relay, known).map_err(said)?
    };
    let Some(spread) = relay.spread.as_deref() else {
        return Err("it is of no sharded database".to_owned());
    };
    let statement = spread.group.plan(text, &names, known);
    let types = given.map_or_else(Vec::new, |(tail, _)| parts(tail).1);
    let params = given.map_or_else(Vec::new, |(_, bind)| values(&types, bind));
    let params = Params {
        values: &params,
        foreign_encoding: names::is_foreign(relay, known),
    };
    let route = statement.route(&params);
    let route = route.map_err(|refusal| said(worded(&refusal)))?;
    let bound = given.map(|(_, bind)| Bound::of(types.clone(), bind));
    let request = Request::of(&route, original, bound, known.number());
    let request = request.ok_or_else(|| "it reads no rows of several shards".to_owned())?;
    if !request.is_legible(params.foreign_encoding) {
        return Err("its names are in another encoding than that of the servers".to_owned());
    }
    Ok(Check {
        request: Request {
            carries: Some(CARRIED_MAX),
            ..request
        },
        keys: sorted_by(&main.work),
        is_open: statement.is_open(),
    })
}

/// A route of a query as one of several shards: what one shard gives is then an answer as any other.
pub(super) fn widened(route: Route<'_>) -> Route<'_> {
    match route {
        Route::One(shard) => Route::Concat {
            shards: [shard].into(),
            writes: false,
        },
        Route::At {
            text,
            parameter,
            route,
        } => Route::At {
            text,
            parameter,
            route: Box::new(widened(*route)),
        },
        route => route,
    }
}

/// The columns by which rows are certain to come in one order, whatever shards they are from: whose equal values are the
/// same.
fn sorted_by(work: &Work) -> Vec<usize> {
    let keys: &[SortKey] = match work {
        Work::Merged { keys, .. } => keys,
        Work::Concat | Work::Combined { .. } => &[],
    };
    let certain = keys.iter().take_while(|key| key.oid != NUMERIC);
    certain.map(|key| key.column).collect()
}

/// Why a statement whose answer is to be verified is not answered where its block is: a replica has rows of one shard, and
/// the block is not on the others.
pub(super) fn objection(relay: &Relay, known: &Known, text: &[u8]) -> Option<ErrorReport> {
    if !relay.reading || !matches!(hint::verifies(relay), Ok(true)) {
        return None;
    }
    let Ok(Told::Planned(statement)) = read(relay, known, text) else {
        return None;
    };
    is_due(relay, text, &statement).then(|| {
        unsupported("what a block reads from a replica cannot be verified (pgherd.verify)")
            .hint("SET pgherd.verify before the block begins.")
    })
}

/// Says that an answer is not verified.
pub(super) fn unverified(relay: &mut Relay, why: &str) {
    let text = "this answer is not verified (pgherd.verify)";
    let report = ErrorReport::warning(sqlstate::WARNING, text).detail(why);
    report.encode_notice(relay.down.made());
}

impl Check {
    /// Says how the answers differ: an error, unless SQL allows of both.
    pub(super) fn differ(
        &self,
        relay: &mut Relay,
        plain: &Digest,
        given: &Digest,
    ) -> Option<ErrorReport> {
        let text = "the answer is not that of all rows on one server (pgherd.verify)";
        let detail = plain.difference(given);
        if self.is_open {
            let report = ErrorReport::warning(sqlstate::WARNING, text).detail(detail);
            let hint = "Both may be right: SQL leaves open which of equal rows come first, or in which order values are added up.";
            report.hint(hint).encode_notice(relay.down.made());
            return None;
        }
        tracing::error!(client = relay.control.id, detail, "an answer is wrong");
        let report = ErrorReport::error(sqlstate::INTERNAL_ERROR, text).detail(detail);
        Some(report.hint(
            "Rows may be on the wrong shard, or, in a block or pipeline, others may have written meanwhile: try again.",
        ))
    }
}

/// What is kept of an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Digest {
    /// The names of its columns, and their types if these have the same numbers everywhere.
    columns: Vec<(Box<[u8]>, u32)>,
    rows: u64,
    /// The sum of what stands for each row, in whatever order they come.
    sum: u128,
    /// What stands for the values that they are sorted by, in their order.
    order: u64,
}

impl Digest {
    /// Takes in the columns, by a whole RowDescription.
    pub(super) fn columns(&mut self, message: &[u8]) {
        let body = message.get(frame::HEADER_LEN..).unwrap_or_default();
        let Ok(described) = RowDescription::parse(body) else {
            return;
        };
        let own = |oid: u32| if oid < FIRST_OWN { oid } else { 0 };
        let columns = described.columns();
        self.columns = columns
            .map(|column| (column.name.into(), own(column.type_oid)))
            .collect();
    }

    /// Takes in a row, by the body of its DataRow; what is behind the columns is not the client's.
    pub(super) fn row(&mut self, body: &[u8], keys: &[usize]) {
        let Ok(row) = DataRow::parse(body) else {
            return;
        };
        let values: Vec<Option<&[u8]>> = row.values().take(self.columns.len()).collect();
        let mut halves = [0_u64; 2];
        for (salt, half) in halves.iter_mut().enumerate() {
            let mut hasher = DefaultHasher::new();
            (salt, &values).hash(&mut hasher);
            *half = hasher.finish();
        }
        let whole = u128::from(halves[0]) << 64 | u128::from(halves[1]);
        self.rows += 1;
        self.sum = self.sum.wrapping_add(whole);
        let mut hasher = DefaultHasher::new();
        self.order.hash(&mut hasher);
        for key in keys {
            // One that the client does not see decides before all behind it.
            let Some(value) = values.get(*key) else { break };
            value.hash(&mut hasher);
        }
        self.order = hasher.finish();
    }

    fn difference(&self, given: &Self) -> String {
        if self.columns != given.columns {
            return "Its columns have other names or types.".to_owned();
        }
        if self.rows != given.rows {
            return format!("It has {} rows, and that has {}.", given.rows, self.rows);
        }
        match self.sum == given.sum {
            true => "Its rows come in another order.".to_owned(),
            false => format!("Of its {} rows, some are others.", self.rows),
        }
    }
}

/// Takes in an answer of which nothing goes to the client.
pub(super) struct Digested<'k> {
    pub(super) digest: Digest,
    pub(super) keys: &'k [usize],
}

impl Taker for Digested<'_> {
    fn columns(&mut self, columns: Option<&[u8]>) {
        self.digest.columns(columns.unwrap_or_default());
    }

    fn take(&mut self, row: &[u8]) -> Result<bool, End> {
        self.digest.row(row, self.keys);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use pgherd_wire::backend::{self, Column};
    use pgherd_wire::frame;

    use super::Digest;

    fn digest(rows: &[[Option<&str>; 2]], keys: &[usize]) -> Digest {
        let mut digest = Digest::default();
        let mut columns = BytesMut::new();
        let named = [Column::text("a"), Column::text("b")];
        backend::row_description(&mut columns, &named).unwrap();
        digest.columns(&columns);
        for row in rows {
            let mut message = BytesMut::new();
            let values = row.map(|value| value.map(str::as_bytes));
            backend::data_row(&mut message, &values).unwrap();
            digest.row(&message[frame::HEADER_LEN..], keys);
        }
        digest
    }

    #[test]
    fn answers_are_the_same_in_any_order_but_that_of_their_keys() {
        let (one, two) = ([Some("1"), Some("x")], [Some("2"), None]);
        assert_eq!(digest(&[one, two], &[]), digest(&[two, one], &[]));
        assert_ne!(digest(&[one, two], &[0]), digest(&[two, one], &[0]));
        let tied = [Some("1"), Some("y")];
        assert_eq!(digest(&[one, tied], &[0]), digest(&[tied, one], &[0]));
        // A key behind the columns hides those behind it.
        assert_eq!(digest(&[one, two], &[7, 0]), digest(&[two, one], &[7, 0]));
        for other in [
            vec![one],
            vec![one, two, two],
            vec![one, [Some("2"), Some("")]],
            vec![one, [Some("2x"), None]],
            vec![one, [None, Some("2")]],
        ] {
            let (given, plain) = (digest(&other, &[]), digest(&[one, two], &[]));
            assert_ne!(given, plain, "{other:?}");
            assert!(!plain.difference(&given).contains("order"), "{other:?}");
        }
    }
}
