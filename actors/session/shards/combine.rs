//! What the shards have computed, made one by one of them.
//!
//! The first leg keeps its own part in a temporary table that ends with its transaction; those of the others
//! follow by `COPY` as they come, in binary where all types have the same one everywhere. Little of it is held
//! here, and there is a limit to how much may come. Where a later table's rows count only if a column has a value that
//! an earlier one has, and these are few, no others are asked for. Then the last query runs there.

use std::future::poll_fn;
use std::task::{Context, Poll};

use bytes::{BufMut, BytesMut};
use pgherd_net::poll_write_from;
use pgherd_session::{CopyFlow, Owed};
use pgherd_sql::Encoding;
use pgherd_wire::backend::{DataRow, RowDescription};
use pgherd_wire::error::ErrorReport;
use pgherd_wire::frame::TooLong;
use pgherd_wire::{frame, frontend, sqlstate};

use super::gather::{Deadlines, End, Sink, gather};
use super::legs::Leg;
use super::names;
use super::plan::unsupported;
use super::request::{Bound, Carrier, put, put_describe, quoted, too_long, values_of};
use super::start::{One, Through};
use super::whole::{ROW_MAX, Whole};
use crate::judgement::Judgement;
use crate::session::relay::Relay;

/// So much waits for the server that has the table before no more is read.
const BACKLOG: usize = 256 * 1024;
/// From so many rows on, a plan that knows nothing of a table may be a bad one: two of a thousand rows each were joined
/// pair by pair, which took a second. To look at a table that small takes a millisecond.
const LARGE: usize = 100;
/// So many values of a column may be sent to the shards, that they bring no other rows.
const KEYS_MAX: usize = 10_000;
/// Of how many rows it is looked at which values they have.
const LOOKED_AT: usize = 50_000;

/// The client's session may be one that only reads. What is read behind the tables is of their moment.
const BEGIN: &[u8] = b"BEGIN ISOLATION LEVEL REPEATABLE READ READ WRITE";
/// Others that give the rows of more than one table give them of one moment; between two of them, they may wait for
/// the slowest.
const BEGIN_READ: &[u8] = b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; \
                            SET LOCAL idle_in_transaction_session_timeout = 0";
const COMMIT: &[u8] = b"COMMIT";
/// The signature, no flags, no extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const TRAILER: &[u8] = b"\xff\xff";

/// Types whose binary form is the same on every server, by the OIDs of `pg_type.dat`, and arrays of them. Those that
/// are numbers of something in a catalogue are not among them.
const BINARY: [u32; 47] = [
    16, 17, 19, 20, 21, 23, 25, 114, 700, 701, 650, 869, 1042, 1043, 1082, 1083, 1114, 1184, 1186,
    1266, 1700, 2950, 3802, // and arrays of them
    199, 651, 1000, 1001, 1003, 1005, 1007, 1009, 1014, 1015, 1016, 1021, 1022, 1041, 1115, 1182,
    1183, 1185, 1187, 1231, 1270, 2951, 3807, 1560,
];

/// Those of them that have characters in them.
pub(super) const TEXTS: [u32; 12] = [
    19, 25, 114, 1042, 1043, 3802, // and arrays of them
    199, 1003, 1009, 1014, 1015, 3807,
];

/// Has the first leg run what makes the answer of the tables; its rows are then the answer.
pub(super) async fn combine(
    relay: &mut Relay,
    legs: &mut [Leg],
    carriers: &[Carrier],
    last: &str,
    bound: &Bound,
    deadlines: &Deadlines,
) -> Result<(), End> {
    let Some((home, others)) = legs.split_first_mut() else {
        return Ok(());
    };
    query(home, BEGIN, Owed::Setup)?;
    home.block = true;
    let several = carriers.len() > 1;
    for leg in others.iter_mut().filter(|_| several) {
        query(leg, BEGIN_READ, Owed::Setup)?;
        leg.block = true;
    }
    let mut limits = Limits::new(relay);
    let mut filled: Vec<String> = Vec::new();
    for carrier in carriers {
        let narrowed = narrowed(relay, home, carrier, &filled, deadlines).await?;
        let carrier = narrowed.as_ref().unwrap_or(carrier);
        let here = |leg: &Leg| carrier.shards.contains(&leg.shard);
        others.sort_by_key(|leg| !here(leg));
        let count = others.iter().filter(|leg| here(leg)).count();
        let others = &mut others[..count];
        let before = limits.rows;
        fill(relay, home, others, carrier, bound, &mut limits, deadlines).await?;
        let brought = limits.rows - before;
        let large = brought >= LARGE || others.is_empty();
        let indexes = carrier.indexes.iter().filter(|_| large);
        for text in carrier.then.iter().chain(indexes) {
            query(home, text.as_bytes(), Owed::Setup)?;
        }
        if several && brought >= LARGE {
            let analyze = analyze(&carrier.name, others.first());
            query(home, analyze.as_bytes(), Owed::Setup)?;
        }
        if brought <= LOOKED_AT {
            filled.push(carrier.name.clone());
        }
    }
    if several {
        for leg in others.iter_mut() {
            query(leg, COMMIT, Owed::Setup)?;
            leg.begin();
        }
        ended(gather(relay, others, &mut Through, deadlines).await)?;
    }
    let bound = bound.fitting(last.as_bytes());
    put(home, last.as_bytes(), &bound, &bound.results, true).map_err(long)?;
    query(home, COMMIT, Owed::Setup)?;
    home.begin();
    Ok(())
}

/// A carrier without rows that do not count by what those tables have that are filled; nothing if nothing is known.
async fn narrowed(
    relay: &mut Relay,
    home: &mut Leg,
    carrier: &Carrier,
    filled: &[String],
    deadlines: &Deadlines,
) -> Result<Option<Carrier>, End> {
    let mut narrowed = None;
    for key in &carrier.keys {
        if !filled.contains(&key.carrier) {
            continue;
        }
        let question = values_of(key, KEYS_MAX);
        put(home, question.as_bytes(), &Bound::default(), &[], true).map_err(long)?;
        home.begin();
        let mut told = Whole::of(One::up_to(ROW_MAX));
        ended(gather(relay, std::slice::from_mut(home), &mut told, deadlines).await)?;
        let values = told.taker.value.and_then(|it| String::from_utf8(it).ok());
        // Only such are asked for.
        let plain = |it: &String| {
            let known = |byte: u8| byte.is_ascii_hexdigit() || b"{},-".contains(&byte);
            it.bytes().all(known)
        };
        if let Some(values) = values.filter(plain) {
            let whole = narrowed.as_ref().unwrap_or(carrier);
            narrowed = Some(whole.narrowed(key, &values));
        }
    }
    Ok(narrowed)
}

/// Makes a table on the first leg, and brings the others' rows there.
async fn fill(
    relay: &mut Relay,
    home: &mut Leg,
    others: &mut [Leg],
    carrier: &Carrier,
    bound: &Bound,
    limits: &mut Limits,
    deadlines: &Deadlines,
) -> Result<(), End> {
    let text = carrier.text.as_bytes();
    let bound = &bound.fitting(text);
    for leg in others.iter_mut() {
        put_describe(leg, text, &bound.types).map_err(long)?;
    }
    ended(gather(relay, others, &mut Through, deadlines).await)?;
    let binary = others.iter().all(is_binary);
    if !binary {
        is_exact(relay)?;
    }
    if is_foreign(relay) && !others.iter().all(is_without_texts) {
        return Err(foreign());
    }
    for leg in others.iter_mut() {
        put(leg, text, bound, &[i16::from(binary)], true).map_err(long)?;
        leg.begin();
    }
    let begins = format!("CREATE TEMPORARY TABLE {} ON COMMIT DROP AS ", carrier.name);
    // Its own part does not leave it.
    let own = carrier.shards.contains(&home.shard);
    let ends: &[u8] = if own { b"" } else { b"\nWITH NO DATA" };
    let create = [begins.as_bytes(), text, ends].concat();
    put(home, &create, bound, &[], false).map_err(long)?;
    home.begin();
    if others.is_empty() {
        return Ok(());
    }
    let format = if binary { " (FORMAT binary)" } else { "" };
    let copy = format!("COPY pg_temp.{} FROM STDIN{format}", carrier.name);
    query(home, copy.as_bytes(), Owed::Query)?;
    // It begins with its own part while the others compute theirs, of which nothing may come for long. Rows of the
    // table before may be in the way: these are waited for below, where there are deadlines.
    if let Poll::Ready(Err(end)) = poll_fn(|cx| Poll::Ready(poll_out(home, cx))).await {
        return Err(end);
    }
    let mut feed = Feed::new(home, binary, others.len(), limits);
    ended(gather(relay, others, &mut feed, deadlines).await)?;
    frontend::copy_done(home.out.made());
    home.lease.exchange.sent(Owed::CopyEnd);
    Ok(())
}

/// What has a server look at a table as it was described: but for texts, whose sorting takes longer than all else.
fn analyze(table: &str, described: Option<&Leg>) -> String {
    let body = described.and_then(|leg| leg.columns.as_deref()?.get(frame::HEADER_LEN..));
    let columns = body.and_then(|body| RowDescription::parse(body).ok());
    let short: Vec<String> = columns.as_ref().map_or_else(Vec::new, |columns| {
        let short = columns.columns().filter(|it| !TEXTS.contains(&it.type_oid));
        let names = short.filter_map(|it| std::str::from_utf8(it.name).ok());
        names.map(quoted).collect()
    });
    match short.is_empty() {
        true => format!("ANALYZE pg_temp.{table}"),
        false => format!("ANALYZE pg_temp.{table} ({})", short.join(", ")),
    }
}

fn query(leg: &mut Leg, text: &[u8], owed: Owed<Judgement>) -> Result<(), End> {
    frontend::query(leg.out.made(), text).map_err(long)?;
    leg.lease.exchange.sent(owed);
    leg.sent = false;
    Ok(())
}

/// Sends what waits for a server, as far as it takes it.
fn poll_out(home: &mut Leg, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
    let written = poll_write_from(&mut home.lease.stream, cx, &mut home.out);
    home.sent = matches!(written, Poll::Ready(Ok(())));
    written.map_err(|error| home.lost(&error.to_string()))
}

fn long(error: TooLong) -> End {
    End::Stopped(too_long(error))
}

fn ended(end: End) -> Result<(), End> {
    match end {
        End::Answered => Ok(()),
        end => Err(end),
    }
}

/// Whether what is brought from one shard to the other passes through another encoding, which may lack some of it.
pub(super) fn is_foreign(relay: &Relay) -> bool {
    let spread = relay.spread.as_deref();
    let known = spread.and_then(|it| it.group.current());
    known.is_none_or(|known| names::is_foreign(relay, &known))
}

pub(super) fn foreign() -> End {
    let text = "texts are not combined in an encoding that is not that of the shards";
    let report = unsupported(text).hint("SET client_encoding to that of the servers.");
    End::Stopped(Box::new(report))
}

fn are_all(leg: &Leg, is_one: impl Fn(u32) -> bool) -> bool {
    let body = leg
        .columns
        .as_deref()
        .and_then(|it| it.get(frame::HEADER_LEN..));
    let described = body.and_then(|body| RowDescription::parse(body).ok());
    described.is_some_and(|it| it.columns().all(|column| is_one(column.type_oid)))
}

fn is_binary(leg: &Leg) -> bool {
    are_all(leg, |oid| BINARY.contains(&oid))
}

fn is_without_texts(leg: &Leg) -> bool {
    are_all(leg, |oid| BINARY.contains(&oid) && !TEXTS.contains(&oid))
}

/// Whether texts of values mean on the next server what they did on the last.
pub(super) fn is_exact(relay: &Relay) -> Result<(), End> {
    let spread = relay.spread.as_deref();
    let known = spread.and_then(|it| it.group.last());
    // What the client has not set may be set for the database or the role.
    let is = |name: &str, good: &dyn Fn(&str) -> bool| {
        let known = known.as_deref();
        known.is_some_and(|known| names::setting(relay, known, name).is_some_and(good))
    };
    let iso = is("DateStyle", &|style| {
        style.to_ascii_uppercase().starts_with("ISO")
    });
    let exact = is("extra_float_digits", &|digits| {
        digits.parse().is_ok_and(|digits: i32| digits > 0)
    });
    // In some encodings, half a character may look like what has to be escaped.
    let plain = relay.lexing.encoding == Encoding::AsciiSafe;
    if plain && iso && exact {
        return Ok(());
    }
    let text = "values of these types are not combined under these settings";
    let report = unsupported(text)
        .hint("SET DateStyle = ISO; SET extra_float_digits = 1; SET client_encoding = UTF8.");
    Err(End::Stopped(Box::new(report)))
}

/// The other legs' rows, on their way into the table.
struct Feed<'a> {
    home: &'a mut Leg,
    binary: bool,
    begun: bool,
    over: Vec<bool>,
    limits: &'a mut Limits,
}

/// How much may come, and how much of it has.
pub(super) struct Limits {
    rows: usize,
    rows_max: usize,
    bytes: usize,
    bytes_max: usize,
}

impl Limits {
    fn new(relay: &Relay) -> Self {
        let settings = relay.pool.settings();
        let limits = &settings.limits;
        Self {
            rows: 0,
            rows_max: limits.max_combined_rows.get(),
            bytes: 0,
            bytes_max: limits.max_combined_bytes.get(),
        }
    }

    /// The same, and no more than so many bytes.
    pub(super) fn up_to(relay: &Relay, bytes: usize) -> Self {
        let limits = Self::new(relay);
        Self {
            bytes_max: limits.bytes_max.min(bytes),
            ..limits
        }
    }

    /// Counts a row of so many bytes.
    pub(super) fn count(&mut self, total: usize) -> Result<(), End> {
        self.rows += 1;
        self.bytes += total;
        let over = match () {
            () if self.rows > self.rows_max => "max_combined_rows",
            () if self.bytes > self.bytes_max || total > ROW_MAX => "max_combined_bytes",
            () => return Ok(()),
        };
        let text = format!("the shards give more than may be combined ({over})");
        let report = ErrorReport::error(sqlstate::CONFIGURATION_LIMIT_EXCEEDED, text);
        Err(End::Stopped(Box::new(report)))
    }
}

impl<'a> Feed<'a> {
    fn new(home: &'a mut Leg, binary: bool, legs: usize, limits: &'a mut Limits) -> Self {
        Self {
            home,
            binary,
            begun: false,
            over: vec![false; legs],
            limits,
        }
    }

    /// Waits until the table is there.
    fn poll_begin(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        if let Poll::Ready(Err(end)) = poll_out(self.home, cx) {
            return Poll::Ready(Err(end));
        }
        while self.home.lease.exchange.copy() != CopyFlow::In {
            self.home.next()?;
            if self.home.lease.exchange.copy() == CopyFlow::In {
                break;
            }
            if self.home.poll_read(cx)?.is_pending() {
                return Poll::Pending;
            }
        }
        if self.binary {
            let built = frontend::copy_data(self.home.out.made(), HEADER);
            debug_assert!(built.is_ok(), "it is short");
        }
        self.begun = true;
        Poll::Ready(Ok(()))
    }

    fn take(&mut self, leg: &mut Leg, total: usize) -> Result<(), End> {
        self.limits.count(total)?;
        let row = &leg.lease.flow.unjudged()[frame::HEADER_LEN..total];
        let out = self.home.out.made();
        let built = match self.binary {
            // A row of the protocol is one of the format, to the byte.
            true => frontend::copy_data(out, row),
            false => {
                let Some(line) = line(row) else {
                    return Err(leg.broken());
                };
                frontend::copy_data(out, &line)
            }
        };
        built.map_err(long)?;
        leg.count();
        leg.lease.flow.hide(total);
        Ok(())
    }

    /// Takes what is there of all legs, up to what may wait; whether all of them are over.
    fn take_all(&mut self, legs: &mut [Leg], cx: &mut Context<'_>) -> Result<bool, End> {
        for (at, leg) in legs.iter_mut().enumerate() {
            while !self.over[at] && self.home.out.backlog() < BACKLOG {
                match leg.poll_row(ROW_MAX, cx) {
                    Poll::Ready(Ok(Some(total))) => self.take(leg, total)?,
                    Poll::Ready(Ok(None)) => self.over[at] = true,
                    Poll::Ready(Err(end)) => return Err(end),
                    Poll::Pending => break,
                }
            }
        }
        Ok(self.over.iter().all(|over| *over))
    }
}

impl Sink for Feed<'_> {
    fn columns(&mut self, _: &mut Relay, _: Option<&[u8]>) -> Result<(), End> {
        Ok(())
    }

    fn poll(
        &mut self,
        _: &mut Relay,
        legs: &mut [Leg],
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), End>> {
        if !self.begun {
            match self.poll_begin(cx) {
                Poll::Ready(Ok(())) => {}
                other => return other,
            }
        }
        loop {
            // It may refuse a row meanwhile.
            self.home.look(cx)?;
            let over = self.take_all(legs, cx)?;
            let written = poll_out(self.home, cx);
            if over {
                if self.binary {
                    let built = frontend::copy_data(self.home.out.made(), TRAILER);
                    debug_assert!(built.is_ok(), "it is short");
                }
                return Poll::Ready(Ok(()));
            }
            match written {
                Poll::Ready(Err(end)) => return Poll::Ready(Err(end)),
                Poll::Pending => return Poll::Pending,
                // Those that were left out because of what waited are looked at again.
                Poll::Ready(Ok(())) if !self.are_waited_for(legs, cx)? => {}
                Poll::Ready(Ok(())) => return Poll::Pending,
            }
        }
    }
}

impl Feed<'_> {
    /// Whether nothing is there of any leg, so that its coming has to wake us.
    fn are_waited_for(&self, legs: &mut [Leg], cx: &mut Context<'_>) -> Result<bool, End> {
        for (at, leg) in legs.iter_mut().enumerate() {
            if !self.over[at] {
                match leg.poll_row(ROW_MAX, cx) {
                    Poll::Ready(Err(end)) => return Err(end),
                    Poll::Ready(Ok(_)) => return Ok(false),
                    Poll::Pending => {}
                }
            }
        }
        Ok(true)
    }
}

/// A row as a line of a COPY in text.
fn line(row: &[u8]) -> Option<BytesMut> {
    let row = DataRow::parse(row).ok()?;
    let mut line = BytesMut::new();
    for (at, value) in row.values().enumerate() {
        if at > 0 {
            line.put_u8(b'\t');
        }
        let Some(value) = value else {
            line.extend_from_slice(b"\\N");
            continue;
        };
        for byte in value {
            match byte {
                b'\\' => line.extend_from_slice(b"\\\\"),
                b'\n' => line.extend_from_slice(b"\\n"),
                b'\r' => line.extend_from_slice(b"\\r"),
                b'\t' => line.extend_from_slice(b"\\t"),
                byte => line.put_u8(*byte),
            }
        }
    }
    line.put_u8(b'\n');
    Some(line)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use pgherd_wire::{backend, frame};

    use super::line;

    #[test]
    fn a_line_has_the_values_of_its_row() {
        let mut row = BytesMut::new();
        let values = [Some(&b"a\tb\\"[..]), None, Some(b"\\N\n"), Some(b"")];
        backend::data_row(&mut row, &values).unwrap();
        let line = line(&row[frame::HEADER_LEN..]).unwrap();
        assert_eq!(line[..], b"a\\tb\\\\\t\\N\t\\\\N\\n\t\n"[..]);
    }
}
