//! Rows of several legs as one answer: sorted, cut off, and up to a number at a time.
//!
//! Each leg's rows are sorted by its server; the least of those in front is the next. No more than one row of
//! each is looked at, and nothing is read while the client is behind.

use std::task::{Context, Poll};

use bytes::{BufMut, BytesMut};
use pgherd_net::poll_write_from;
use pgherd_planner::SortKey;
use pgherd_wire::backend::{DataRow, RowDescription, tag};
use pgherd_wire::error::ErrorReport;
use pgherd_wire::{frame, sqlstate};

use super::copied::Writer;
use super::gather::{End, Sink};
use super::legs::Leg;
use super::order::{self, Value};
use super::records;
use super::verify::Digest;
use super::whole::ROW_MAX;
use crate::session::relay::Relay;

/// So much waits for the client before nothing is read any more.
const BACKLOG: usize = 64 * 1024;

/// What is known of a leg's next row.
#[derive(Debug)]
enum Front {
    /// Nothing.
    Unknown,
    /// It is here: its size, and what is compared.
    Row(usize, Vec<Value>),
    /// There is none.
    Over,
}

/// How far it goes at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// Until the columns are known.
    Columns,
    /// For so many rows.
    Rows(u64),
    /// To the end.
    End,
}

/// The rows.
#[derive(Debug)]
pub(super) struct Merged {
    keys: Vec<SortKey>,
    hidden: usize,
    /// The tables that the columns are of are ours.
    computed: bool,
    /// How many rows are left out still.
    skip: u64,
    /// How many may still come.
    left: Option<u64>,
    fronts: Vec<Front>,
    /// Which of the keys are in binary.
    binary: Vec<bool>,
    /// The columns that have numbers of types in their values, and their types.
    numbered: Vec<(usize, u32)>,
    /// The description of the columns as the client gets it, once it is known; empty if there are none.
    pub(super) columns: Option<Box<[u8]>>,
    /// The client gets it in front of the rows.
    pub(super) announces: bool,
    /// The client gets the rows as those of a `COPY`.
    pub(super) written: Option<Writer>,
    /// How far it goes at once.
    pub(super) until: Until,
    /// How many rows went on since it was last asked to go on.
    pub(super) rows: u64,
    /// It stopped at the number that it was to go for.
    pub(super) suspended: bool,
    /// What is kept of the rows to verify them, and the columns that they are sorted by.
    pub(super) digest: Option<(Digest, Box<[usize]>)>,
}

impl Merged {
    /// Rows in the order of the keys, or in any if there are none; the last columns are `hidden`.
    pub(super) fn new(
        keys: &[SortKey],
        hidden: usize,
        limit: Option<u64>,
        offset: u64,
        legs: usize,
    ) -> Self {
        Self {
            keys: keys.to_vec(),
            hidden,
            computed: false,
            skip: offset,
            left: limit,
            fronts: (0..legs).map(|_| Front::Unknown).collect(),
            binary: Vec::new(),
            numbered: Vec::new(),
            columns: None,
            announces: false,
            written: None,
            until: Until::End,
            rows: 0,
            suspended: false,
            digest: None,
        }
    }

    /// Rows that one leg has made of tables that nobody else knows of.
    pub(super) fn computed() -> Self {
        Self {
            computed: true,
            ..Self::new(&[], 0, None, 0, 1)
        }
    }

    /// Looks what is in front of each leg; pending while something is missing that the order hangs on.
    fn poll_fronts(&mut self, legs: &mut [Leg], cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        let mut all = true;
        let mut any = false;
        for (leg, front) in legs.iter_mut().zip(&mut self.fronts) {
            if matches!(front, Front::Unknown) {
                match leg.poll_row(ROW_MAX, cx) {
                    Poll::Ready(Ok(Some(total))) if total > ROW_MAX => {
                        let text = "a row is too large to be merged with those of other shards";
                        let code = sqlstate::PROGRAM_LIMIT_EXCEEDED;
                        return Poll::Ready(Err(stopped(ErrorReport::error(code, text))));
                    }
                    Poll::Ready(Ok(Some(total))) => {
                        let row = &leg.lease.flow.unjudged()[frame::HEADER_LEN..total];
                        match values(&self.keys, &self.binary, row) {
                            Some(values) => *front = Front::Row(total, values),
                            None => return Poll::Ready(Err(unordered())),
                        }
                    }
                    Poll::Ready(Ok(None)) => *front = Front::Over,
                    Poll::Ready(Err(end)) => return Poll::Ready(Err(end)),
                    Poll::Pending => all = false,
                }
            }
            any |= matches!(front, Front::Row(..));
        }
        match all || any && self.keys.is_empty() {
            true => Poll::Ready(Ok(())),
            false => Poll::Pending,
        }
    }

    /// The leg whose row is the next.
    fn least(&self) -> Option<usize> {
        let rows = self.fronts.iter().enumerate();
        let rows = rows.filter_map(|(at, front)| match front {
            Front::Row(_, values) => Some((at, values)),
            Front::Unknown | Front::Over => None,
        });
        let least = rows.min_by(|one, two| order::compare(&self.keys, one.1, two.1));
        least.map(|(at, _)| at)
    }

    fn take(&mut self, relay: &mut Relay, leg: &mut Leg, at: usize) -> Result<(), End> {
        let Front::Row(total, _) = std::mem::replace(&mut self.fronts[at], Front::Unknown) else {
            return Ok(());
        };
        leg.count();
        if self.skip > 0 {
            self.skip -= 1;
        } else {
            let row = &leg.lease.flow.unjudged()[..total];
            if self.has_own(row) {
                return Err(numbered());
            }
            if let Some((digest, keys)) = &mut self.digest {
                digest.row(&row[frame::HEADER_LEN..], keys);
            }
            let out = relay.down.made();
            let is_row = match &mut self.written {
                Some(writer) => writer.row(out, row, self.hidden).is_some(),
                None => put(out, row, self.hidden),
            };
            if !is_row {
                return Err(leg.broken());
            }
            self.rows += 1;
            if let Some(left) = &mut self.left {
                *left -= 1;
            }
        }
        leg.lease.flow.hide(total);
        Ok(())
    }

    /// Whether a record in it has in it what only one server can decode.
    fn has_own(&self, row: &[u8]) -> bool {
        if self.numbered.is_empty() {
            return false;
        }
        let Ok(row) = DataRow::parse(&row[frame::HEADER_LEN..]) else {
            return true;
        };
        let values: Vec<Option<&[u8]>> = row.values().collect();
        let mut found = self.numbered.iter();
        found.any(|(at, oid)| match values.get(*at) {
            Some(Some(value)) => records::has_own(*oid, value),
            _ => false,
        })
    }

    /// Ends what the client gets before it is told with which command the answer ends, and how many rows it has.
    pub(super) fn end(&mut self, relay: &mut Relay) -> &'static str {
        match &mut self.written {
            Some(writer) => {
                writer.end(relay.down.made());
                "COPY"
            }
            None => "SELECT",
        }
    }

    fn is_enough(&mut self) -> bool {
        self.suspended = matches!(self.until, Until::Rows(most) if self.rows >= most);
        self.suspended || self.left == Some(0)
    }
}

impl Sink for Merged {
    fn columns(&mut self, relay: &mut Relay, columns: Option<&[u8]>) -> Result<(), End> {
        if self.columns.is_some() {
            return Ok(());
        }
        let Some(message) = columns else {
            if self.written.is_some() {
                return Err(violated("they are none"));
            }
            self.columns = Some(Box::default());
            return Ok(());
        };
        let body = message.get(frame::HEADER_LEN..).unwrap_or_default();
        let described = RowDescription::parse(body);
        let described = described.map_err(|error| violated(&error.to_string()))?;
        let formats: Vec<bool> = described.columns().map(|it| it.format == 1).collect();
        let of_key = |key: &SortKey| formats.get(key.column).copied();
        let binary: Option<Vec<bool>> = self.keys.iter().map(of_key).collect();
        self.binary = binary.ok_or_else(|| violated("a column is missing"))?;
        let numbered = described.columns().enumerate();
        self.numbered = numbered
            .filter(|(_, it)| it.format == 1 && records::has_numbers(it.type_oid))
            .map(|(at, it)| (at, it.type_oid))
            .collect();
        let mut shown = without(message, &described, self.hidden);
        if self.computed {
            hide_tables(&mut shown);
        }
        if let Some((digest, _)) = &mut self.digest {
            digest.columns(&shown);
        }
        match &mut self.written {
            Some(writer) => writer.begin(relay.down.made(), &described),
            None if self.announces => relay.down.insert(&shown),
            None => {}
        }
        self.columns = Some(shown);
        Ok(())
    }

    fn poll(
        &mut self,
        relay: &mut Relay,
        legs: &mut [Leg],
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), End>> {
        if self.until == Until::Columns {
            return Poll::Ready(Ok(()));
        }
        loop {
            for leg in legs.iter_mut().filter(|leg| leg.remarks) {
                // What it has remarked.
                if leg.lease.flow.backlog() > 0 {
                    leg.lease.flow.hand_over(&mut relay.down);
                }
            }
            if self.is_enough() {
                return Poll::Ready(Ok(()));
            }
            if relay.down.backlog() >= BACKLOG || relay.held {
                match poll_out(relay, cx) {
                    Poll::Ready(Ok(())) => {}
                    other => return other,
                }
            }
            match self.poll_fronts(legs, cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(end)) => return Poll::Ready(Err(end)),
                Poll::Pending => {
                    return match poll_out(relay, cx) {
                        Poll::Ready(Err(end)) => Poll::Ready(Err(end)),
                        _ => Poll::Pending,
                    };
                }
            }
            match self.least() {
                Some(at) => self.take(relay, &mut legs[at], at)?,
                None => return Poll::Ready(Ok(())),
            }
        }
    }
}

/// Gives the client what waits for it.
fn poll_out(relay: &mut Relay, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
    let written = poll_write_from(&mut relay.client, cx, &mut relay.down);
    relay.held = written.is_pending();
    written.map_err(|_| End::Gone)
}

/// What is compared of a row.
fn values(keys: &[SortKey], binary: &[bool], row: &[u8]) -> Option<Vec<Value>> {
    if keys.is_empty() {
        return Some(Vec::new());
    }
    let row: Vec<Option<&[u8]>> = DataRow::parse(row).ok()?.values().collect();
    let value = |(key, binary): (&SortKey, &bool)| match row.get(key.column)? {
        None => Some(None),
        Some(value) => order::read(key.oid, *binary, value).map(Some),
    };
    keys.iter().zip(binary).map(value).collect()
}

/// Copies a row without its last columns; false if it is none.
fn put(out: &mut BytesMut, row: &[u8], hidden: usize) -> bool {
    if hidden == 0 {
        out.extend_from_slice(row);
        return true;
    }
    let body = &row[frame::HEADER_LEN..];
    let Ok(parsed) = DataRow::parse(body) else {
        return false;
    };
    let Some(width) = parsed.len().checked_sub(hidden) else {
        return false;
    };
    let values = parsed.values().take(width);
    let size: usize = values.map(|value| 4 + value.map_or(0, <[u8]>::len)).sum();
    shortened(out, tag::DATA_ROW, width, &body[2..2 + size]);
    true
}

/// A description without its last columns.
fn without(message: &[u8], described: &RowDescription<'_>, hidden: usize) -> Box<[u8]> {
    if hidden == 0 {
        return message.into();
    }
    let width = described.len().saturating_sub(hidden);
    // Behind its name with a zero, a column has 18 bytes.
    let size: usize = described
        .columns()
        .take(width)
        .map(|column| column.name.len() + 19)
        .sum();
    let mut out = BytesMut::new();
    let body = &message[frame::HEADER_LEN..];
    shortened(&mut out, tag::ROW_DESCRIPTION, width, &body[2..2 + size]);
    out[..].into()
}

/// Leaves out which tables' columns the described ones are.
fn hide_tables(message: &mut [u8]) {
    let mut rest = message.get_mut(frame::HEADER_LEN + 2..).unwrap_or_default();
    while let Some(end) = rest.iter().position(|byte| *byte == 0) {
        // The number of the table, and that of the column there.
        let (column, behind) = rest.split_at_mut((end + 19).min(rest.len()));
        column
            .iter_mut()
            .skip(end + 1)
            .take(6)
            .for_each(|byte| *byte = 0);
        rest = behind;
    }
}

/// A message of so many columns; it is a part of one that was read, and hence not too long.
fn shortened(out: &mut BytesMut, tag: u8, width: usize, columns: &[u8]) {
    out.put_u8(tag);
    out.put_u32(u32::try_from(columns.len() + 6).unwrap_or(u32::MAX));
    out.put_u16(u16::try_from(width).unwrap_or(u16::MAX));
    out.extend_from_slice(columns);
}

fn stopped(report: ErrorReport) -> End {
    End::Stopped(Box::new(report))
}

fn violated(why: &str) -> End {
    let text = "a shard has described its columns otherwise than was asked";
    stopped(ErrorReport::error(sqlstate::PROTOCOL_VIOLATION, text).detail(why))
}

fn numbered() -> End {
    let text = "the shards give records with types of the users' own in binary";
    let report = ErrorReport::error(sqlstate::FEATURE_NOT_SUPPORTED, text);
    stopped(report.hint("Ask for them in text, or for each of their values by itself."))
}

fn unordered() -> End {
    let text = "a value that rows are sorted by is written in a form that is not followed";
    let report = ErrorReport::error(sqlstate::FEATURE_NOT_SUPPORTED, text);
    stopped(report.hint("SET DateStyle = ISO; years before 1 or beyond 9999 are not sorted."))
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use pgherd_wire::backend::{self, Column, DataRow, RowDescription};
    use pgherd_wire::frame;

    use super::{hide_tables, put, without};

    #[test]
    fn tables_of_ours_are_not_told() {
        let plain = [Column::text("one"), Column::text("two")];
        let mut expected = BytesMut::new();
        backend::row_description(&mut expected, &plain).unwrap();
        let mut told = expected.to_vec();
        for at in [11, 33] {
            told[at..at + 6].copy_from_slice(&[0, 1, 2, 3, 0, 9]);
        }
        hide_tables(&mut told);
        assert_eq!(told, expected);
    }

    #[test]
    fn hidden_columns_are_left_out() {
        let mut row = BytesMut::new();
        backend::data_row(&mut row, &[Some(&b"a"[..]), None, Some(b"key")]).unwrap();
        let mut cut = BytesMut::new();
        assert!(put(&mut cut, &row, 1));
        let mut expected = BytesMut::new();
        backend::data_row(&mut expected, &[Some(&b"a"[..]), None]).unwrap();
        assert_eq!(cut, expected);
        assert!(!put(&mut cut, &row, 4));
        assert!(DataRow::parse(&expected[frame::HEADER_LEN..]).is_ok());

        let columns = [Column::text("one"), Column::text("two"), Column::text("k")];
        let mut whole = BytesMut::new();
        backend::row_description(&mut whole, &columns).unwrap();
        let mut expected = BytesMut::new();
        backend::row_description(&mut expected, &columns[..1]).unwrap();
        let described = RowDescription::parse(&whole[frame::HEADER_LEN..]).unwrap();
        assert_eq!(without(&whole, &described, 2)[..], expected);
    }
}
