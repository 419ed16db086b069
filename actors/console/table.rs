//! Columns and rows, as the protocol has them.
//!
//! Source: PostgreSQL documentation, "Message Formats": RowDescription, DataRow and Bind.

use std::borrow::Cow;

use bytes::{BufMut as _, BytesMut};
use pgherd_wire::backend::{self, tag};
use pgherd_wire::error::ErrorReport;
use pgherd_wire::frame::{TooLong, build};
use pgherd_wire::sqlstate;

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `text`.
    Text,
    /// `int8`.
    Int,
}

impl Kind {
    /// The OID of the type, and its size as Postgres reports it.
    fn facts(self) -> (u32, i16) {
        match self {
            Self::Text => (backend::Column::TEXT, -1),
            Self::Int => (backend::Column::INT8, 8),
        }
    }
}

/// A column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
}

/// A column of texts.
pub const fn text(name: &'static str) -> Column {
    Column {
        name,
        kind: Kind::Text,
    }
}

/// A column of whole numbers.
pub const fn int(name: &'static str) -> Column {
    Column {
        name,
        kind: Kind::Int,
    }
}

/// One value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell {
    /// A text.
    Text(Cow<'static, str>),
    /// A whole number.
    Int(i64),
    /// Nothing, or nothing that is known.
    Null,
}

/// The values of one row, in the order of the columns.
pub type Row = Vec<Cell>;

impl Cell {
    fn encode(&self, format: Format) -> Option<Cow<'_, [u8]>> {
        match (self, format) {
            (Self::Null, _) => None,
            // The binary form of a text is the text.
            (Self::Text(text), _) => Some(Cow::Borrowed(text.as_bytes())),
            (Self::Int(number), Format::Text) => Some(Cow::Owned(number.to_string().into_bytes())),
            (Self::Int(number), Format::Binary) => Some(Cow::Owned(number.to_be_bytes().to_vec())),
        }
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

impl From<&String> for Cell {
    fn from(text: &String) -> Self {
        text.clone().into()
    }
}

impl From<&'static str> for Cell {
    fn from(text: &'static str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<bool> for Cell {
    fn from(truth: bool) -> Self {
        Self::Int(truth.into())
    }
}

impl From<i32> for Cell {
    fn from(number: i32) -> Self {
        Self::Int(number.into())
    }
}

impl From<u16> for Cell {
    fn from(number: u16) -> Self {
        Self::Int(number.into())
    }
}

impl From<u64> for Cell {
    fn from(number: u64) -> Self {
        Self::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<u128> for Cell {
    fn from(number: u128) -> Self {
        Self::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<usize> for Cell {
    fn from(number: usize) -> Self {
        Self::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl<T: Into<Self>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text = 0,
    /// As the machine has it, in network order.
    Binary = 1,
}

/// The formats that a client wants its columns in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Formats(Vec<Format>);

impl Formats {
    /// Reads the result formats of a Bind, two bytes each: none, one for all columns, or one each.
    ///
    /// # Errors
    /// 08P01 for a number of formats that fits no such rule, 22023 for an unknown one.
    pub fn parse(codes: &[u8], columns: usize) -> Result<Self, ErrorReport> {
        let (codes, _) = codes.as_chunks::<2>();
        if codes.len() > 1 && codes.len() != columns {
            return Err(ErrorReport::error(
                sqlstate::PROTOCOL_VIOLATION,
                format!(
                    "bind message has {} result formats but query has {columns} columns",
                    codes.len()
                ),
            ));
        }
        let formats = codes.iter().map(|code| match u16::from_be_bytes(*code) {
            0 => Ok(Format::Text),
            1 => Ok(Format::Binary),
            other => Err(ErrorReport::error(
                sqlstate::INVALID_PARAMETER_VALUE,
                format!("unsupported format code: {other}"),
            )),
        });
        formats.collect::<Result<_, _>>().map(Self)
    }

    /// The format of the column at this place.
    fn of(&self, at: usize) -> Format {
        match self.0.as_slice() {
            [] => Format::Text,
            [all] => *all,
            each => each.get(at).copied().unwrap_or(Format::Text),
        }
    }
}

/// Appends the RowDescription of columns in these formats.
///
/// # Errors
/// Longer than the protocol allows; nothing is written then.
pub fn describe(out: &mut BytesMut, columns: &[Column], formats: &Formats) -> Result<(), TooLong> {
    let count = u16::try_from(columns.len()).map_err(|_| TooLong(columns.len()))?;
    build(out, tag::ROW_DESCRIPTION, |out| {
        out.put_u16(count);
        for (at, column) in columns.iter().enumerate() {
            let (oid, size) = column.kind.facts();
            out.extend_from_slice(column.name.as_bytes());
            out.put_u8(0);
            // No table, no column of it.
            out.put_u32(0);
            out.put_i16(0);
            out.put_u32(oid);
            out.put_i16(size);
            out.put_i32(-1);
            out.put_u16(formats.of(at) as u16);
        }
    })
}

/// Appends the DataRow of one row in these formats.
///
/// # Errors
/// Longer than the protocol allows; nothing is written then.
pub fn row(out: &mut BytesMut, row: &Row, formats: &Formats) -> Result<(), TooLong> {
    let cells = row.iter().enumerate();
    let values: Vec<_> = cells
        .map(|(at, cell)| cell.encode(formats.of(at)))
        .collect();
    let values: Vec<_> = values.iter().map(Option::as_deref).collect();
    backend::data_row(out, &values)
}

#[cfg(test)]
mod tests;
