//! `COPY (query) TO STDOUT` where the shards' rows are not put one behind the other: they come as those of the query, and
//! are written here as a server writes them.
//!
//! What stands before the rows, and whether the options are right ones, is said by a server that copies none of them.

use bytes::{BufMut, BytesMut};
use pgherd_planner::{CopyOut, Format, Quoted, Statement};
use pgherd_sql::{Encoding, LexOptions, Lexer};
use pgherd_wire::backend::{self, DataRow, RowDescription, tag};
use pgherd_wire::error::ErrorReport;
use pgherd_wire::frame;

use super::framing::{Framing, TRAILER};
use super::gather::{Deadlines, End, gather};
use super::legs::Leg;
use super::names;
use super::plan::unsupported;
use super::request::{Bound, put, too_long};
use super::whole::{Taker, Whole};
use crate::session::relay::Relay;
use crate::shards::Known;

/// What stands before the rows is no larger.
const HEAD_MAX: usize = 1024 * 1024;

/// How rows are copied.
#[derive(Debug, Clone)]
pub(super) struct Copied {
    pub(super) out: CopyOut,
    /// The same `COPY` of none of its query's rows; nothing if it is of a table.
    empty: Option<Box<[u8]>>,
}

impl Copied {
    /// How a text copies rows, if it does so and nothing else.
    pub(super) fn of(relay: &Relay, statement: &Statement, text: &[u8]) -> Option<Self> {
        let out = statement.copied()?;
        let judgement = relay.judge(text);
        (judgement.plain && !judgement.follows).then(|| Self {
            out: out.clone(),
            empty: empty(text, relay.lexing),
        })
    }

    /// Whether rows can be written here.
    ///
    /// # Errors
    /// Why not, as where half a character may look like what has to be escaped.
    pub(super) fn fits(&self, relay: &Relay, known: &Known) -> Result<(), ErrorReport> {
        let own = names::encoding(relay, known);
        let said = self.out.encoding.as_deref().map(names::plain);
        let is_plain = self.out.format == Format::Binary
            || relay.lexing.encoding == Encoding::AsciiSafe && said.is_none_or(|said| said == own);
        if is_plain {
            return Ok(());
        }
        let text = "rows of several shards are not copied in this encoding";
        Err(unsupported(text).hint("SET client_encoding = UTF8, and copy without ENCODING."))
    }

    /// How shards frame what they copy themselves.
    pub(super) fn framing(copied: Option<&CopyOut>) -> Framing {
        match copied.is_some_and(|out| out.header) {
            true => Framing::Header,
            false => Framing::Plain,
        }
    }

    pub(super) fn is_binary(&self) -> bool {
        self.out.format == Format::Binary
    }

    /// What writes the rows, once a server has said what stands before them. What the client has bound is bound to that,
    /// too, although a `COPY` has no parameters: the server says so.
    pub(super) async fn writer(
        &self,
        relay: &mut Relay,
        home: &mut Leg,
        bound: Option<&Bound>,
        deadlines: &Deadlines,
    ) -> Result<Writer, End> {
        let Some(empty) = &self.empty else {
            let text = "this COPY is not supported over several shards";
            return Err(End::Stopped(Box::new(unsupported(text))));
        };
        let none = Bound::default();
        put(home, empty, bound.unwrap_or(&none), &[], true)
            .map_err(|error| End::Stopped(too_long(error)))?;
        home.begin();
        let mut head = Whole::of(Head::default());
        match gather(relay, std::slice::from_mut(home), &mut head, deadlines).await {
            End::Answered => {}
            end => return Err(end),
        }
        let mut head = head.taker;
        if head.response.first() != Some(&tag::COPY_OUT_RESPONSE) {
            return Err(home.broken());
        }
        if self.is_binary() {
            let rest = head.data.strip_suffix(TRAILER).map(<[u8]>::len);
            head.data.truncate(rest.unwrap_or_default());
        }
        Ok(Writer {
            format: self.out.format.clone(),
            response: head.response,
            before: head.data,
            quoted: Vec::new(),
        })
    }
}

/// A `COPY` of a query as one of none of its rows.
fn empty(text: &[u8], lexing: LexOptions) -> Option<Box<[u8]>> {
    let mut lexer = Lexer::new(text, lexing);
    lexer.token().ok()??;
    let first = lexer.token().ok()??;
    if !first.is(b'(') {
        return None;
    }
    let (begins, mut depth) = (first.start + 1, 1_usize);
    while let Some(token) = lexer.token().ok()? {
        if token.is(b'(') {
            depth += 1;
        } else if token.is(b')') {
            depth = depth.checked_sub(1)?;
            if depth == 0 {
                let (head, query) = (text.get(..begins)?, text.get(begins..token.start)?);
                let rest = text.get(token.start..)?;
                // A comment may be at its end.
                let parts: [&[u8]; 5] = [
                    head,
                    b"SELECT * FROM (",
                    query,
                    b"\n) AS pgherd_rows LIMIT 0",
                    rest,
                ];
                return Some(parts.concat().into());
            }
        }
    }
    None
}

/// What stands before the rows, as it comes.
#[derive(Default)]
struct Head {
    /// The CopyOutResponse.
    response: Box<[u8]>,
    data: Vec<u8>,
}

impl Taker for Head {
    fn columns(&mut self, columns: Option<&[u8]>) {
        self.response = columns.unwrap_or_default().into();
    }

    fn expects(&mut self, total: usize) -> Result<bool, End> {
        Ok(total <= HEAD_MAX)
    }

    fn take(&mut self, data: &[u8]) -> Result<bool, End> {
        self.data.extend_from_slice(data);
        Ok(true)
    }
}

/// Writes rows as a server does that copies them.
#[derive(Debug)]
pub(super) struct Writer {
    format: Format,
    /// The CopyOutResponse.
    response: Box<[u8]>,
    /// What stands before the first row, up to that: the line with the columns' names, if there is one, or what the
    /// binary format begins with.
    before: Vec<u8>,
    /// Which columns are in quotes whatever their values are.
    quoted: Vec<bool>,
}

impl Writer {
    /// Begins, once it is known which columns the rows have.
    pub(super) fn begin(&mut self, out: &mut BytesMut, columns: &RowDescription<'_>) {
        out.extend_from_slice(&self.response);
        if self.format != Format::Binary && !self.before.is_empty() {
            let built = backend::copy_data(out, &std::mem::take(&mut self.before));
            debug_assert!(built.is_ok(), "it came in a message");
        }
        if let Format::Csv { quoted, .. } = &self.format {
            self.quoted = match quoted {
                Quoted::All => vec![true; columns.len()],
                Quoted::These(names) => {
                    let mut found = vec![false; columns.len()];
                    for name in names {
                        let mut all = columns.columns();
                        if let Some(at) = all.position(|it| it.name == name.as_bytes()) {
                            found[at] = true;
                        }
                    }
                    found
                }
            };
        }
    }

    /// Writes a row, by its whole DataRow, without its last columns; nothing if it is none.
    pub(super) fn row(&mut self, out: &mut BytesMut, row: &[u8], hidden: usize) -> Option<()> {
        let row = DataRow::parse(row.get(frame::HEADER_LEN..)?).ok()?;
        let width = row.len().checked_sub(hidden)?;
        let count = u16::try_from(width).ok()?;
        let values = row.values().take(width);
        // Clients take what the binary format begins with for a part of the first row.
        let before = std::mem::take(&mut self.before);
        let quoted = &self.quoted;
        let built = frame::build(out, tag::COPY_DATA, |out| match &self.format {
            Format::Binary => {
                out.extend_from_slice(&before);
                out.put_u16(count);
                values.for_each(|value| frame::put_value(out, value));
            }
            Format::Text { delimiter, null } => {
                for (at, value) in values.enumerate() {
                    if at > 0 {
                        out.put_u8(*delimiter);
                    }
                    match value {
                        Some(value) => escaped(out, value, *delimiter),
                        None => out.extend_from_slice(null),
                    }
                }
                out.put_u8(b'\n');
            }
            Format::Csv {
                delimiter, null, ..
            } => {
                for (at, value) in values.enumerate() {
                    if at > 0 {
                        out.put_u8(*delimiter);
                    }
                    let is_forced = quoted.get(at).copied().unwrap_or_default();
                    match value {
                        Some(value) => in_csv(out, value, &self.format, is_forced, width == 1),
                        None => out.extend_from_slice(null),
                    }
                }
                out.put_u8(b'\n');
            }
        });
        built.ok()
    }

    /// Ends.
    pub(super) fn end(&mut self, out: &mut BytesMut) {
        if self.format == Format::Binary {
            let last = [&std::mem::take(&mut self.before)[..], TRAILER].concat();
            let built = backend::copy_data(out, &last);
            debug_assert!(built.is_ok(), "it is short");
        }
        backend::copy_done(out);
    }
}

/// Writes a value of the text format (`CopyAttributeOutText`).
fn escaped(out: &mut BytesMut, value: &[u8], delimiter: u8) {
    for byte in value {
        let letter = match byte {
            0x08 => b'b',
            0x0b => b'v',
            0x0c => b'f',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            byte if *byte == b'\\' || *byte == delimiter => *byte,
            byte => {
                out.put_u8(*byte);
                continue;
            }
        };
        out.extend_from_slice(&[b'\\', letter]);
    }
}

/// Writes a value of CSV (`CopyAttributeOutCSV`). Alone on its line, one would be taken for the end of the data.
fn in_csv(out: &mut BytesMut, value: &[u8], format: &Format, is_forced: bool, is_alone: bool) {
    let Format::Csv {
        delimiter,
        null,
        quote,
        escape,
        ..
    } = format
    else {
        return;
    };
    let is_special = |byte: &u8| [*delimiter, *quote, b'\n', b'\r'].contains(byte);
    let is_quoted = is_forced
        || value == &**null
        || is_alone && value == b"\\."
        || value.iter().any(is_special);
    if !is_quoted {
        out.extend_from_slice(value);
        return;
    }
    out.put_u8(*quote);
    for byte in value {
        if byte == quote || byte == escape {
            out.put_u8(*escape);
        }
        out.put_u8(*byte);
    }
    out.put_u8(*quote);
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use pgherd_planner::{Format, Quoted};
    use pgherd_sql::LexOptions;
    use pgherd_wire::backend::{self, Column, RowDescription};
    use pgherd_wire::frame;

    use super::{Writer, empty};

    fn written(format: Format, before: &[u8], rows: &[&[Option<&[u8]>]]) -> Vec<u8> {
        let mut writer = Writer {
            format,
            response: Box::default(),
            before: before.to_vec(),
            quoted: Vec::new(),
        };
        let mut described = BytesMut::new();
        backend::row_description(&mut described, &[Column::text("a"), Column::text("b")]).unwrap();
        let described = RowDescription::parse(&described[frame::HEADER_LEN..]).unwrap();
        let mut out = BytesMut::new();
        writer.begin(&mut out, &described);
        for row in rows {
            let mut message = BytesMut::new();
            backend::data_row(&mut message, row).unwrap();
            writer.row(&mut out, &message, 1).unwrap();
        }
        writer.end(&mut out);
        let mut data = Vec::new();
        let mut rest = &out[..];
        while let Ok(Some(header)) = frame::header(rest) {
            data.extend_from_slice(&rest[frame::HEADER_LEN..header.total()]);
            rest = &rest[header.total()..];
        }
        data
    }

    #[test]
    fn rows_are_written_as_servers_do() {
        let text = || Format::Text {
            delimiter: b'|',
            null: b"\\N"[..].into(),
        };
        let key = Some(&b"key"[..]);
        let rows = [
            &[Some(&b"a|b\\\t\x0b\n"[..]), None, key][..],
            &[None, Some(&b""[..]), key][..],
        ];
        let found = written(text(), b"a|b\n", &rows);
        assert_eq!(found, b"a|b\na\\|b\\\\\\t\\v\\n|\\N\n\\N|\n");
        let csv = |quoted| Format::Csv {
            delimiter: b',',
            null: b""[..].into(),
            quote: b'"',
            escape: b'\'',
            quoted,
        };
        let rows = [
            &[Some(&b"a\"'"[..]), Some(&b""[..]), key][..],
            &[None, Some(&b"b'"[..]), key][..],
        ];
        let found = written(csv(Quoted::These(Vec::new())), b"", &rows);
        assert_eq!(found, b"\"a'\"''\",\"\"\n,b'\n");
        let found = written(csv(Quoted::These(vec!["b".into()])), b"", &rows);
        assert_eq!(found, b"\"a'\"''\",\"\"\n,\"b''\"\n");
        let alone = [&[Some(&b"\\."[..]), key][..]];
        assert_eq!(written(csv(Quoted::All), b"", &alone), b"\"\\.\"\n");
        let alone = written(csv(Quoted::These(Vec::new())), b"", &alone);
        assert_eq!(alone, b"\"\\.\"\n");
        let rows = [&[Some(&b"xy"[..]), key][..]];
        let found = written(Format::Binary, b"HEAD", &rows);
        assert_eq!(found, b"HEAD\0\x01\0\0\0\x02xy\xff\xff");
        assert_eq!(written(Format::Binary, b"HEAD", &[]), b"HEAD\xff\xff");
    }

    #[test]
    fn none_of_the_rows_are_those_of_the_query_in_parentheses() {
        let of = |text: &str| {
            let found = empty(text.as_bytes(), LexOptions::default())?;
            Some(String::from_utf8(found.into()).unwrap())
        };
        assert_eq!(
            of("copy (select (1), ')' from t -- )\n) to stdout (format csv)").as_deref(),
            Some(
                "copy (SELECT * FROM (select (1), ')' from t -- )\n\n) AS pgherd_rows LIMIT 0) to stdout (format csv)"
            )
        );
        assert_eq!(of("copy t (a) to stdout"), None);
        assert_eq!(of("copy (select 1"), None);
    }
}
