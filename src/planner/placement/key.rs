//! The values of keys: read from literals and parameters as PostgreSQL reads them, or not at all.

use super::hash;
use super::numeric::Numeric;
use super::{moment, text};

/// The types that a key may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyType {
    /// `smallint`.
    Int2,
    /// `integer`.
    Int4,
    /// `bigint`.
    Int8,
    /// `uuid`.
    Uuid,
    /// `text` and `varchar` with a deterministic collation.
    Text,
    /// `char(n)`: blanks at the end do not count.
    Bpchar,
    /// `date`.
    Date,
    /// `timestamp with time zone`.
    Timestamptz,
    /// `numeric`.
    Numeric,
    /// `bytea`.
    Bytea,
}

impl KeyType {
    /// The type of a column, by the OID that it has in `pg_type` of every server; None if it can be no key.
    pub fn of(oid: u32) -> Option<Self> {
        Some(match oid {
            21 => Self::Int2,
            23 => Self::Int4,
            20 => Self::Int8,
            2950 => Self::Uuid,
            25 | 1043 => Self::Text,
            1042 => Self::Bpchar,
            1082 => Self::Date,
            1184 => Self::Timestamptz,
            1700 => Self::Numeric,
            17 => Self::Bytea,
            _ => return None,
        })
    }

    /// Whether it is one of the whole numbers, which hash alike.
    pub fn is_int(self) -> bool {
        matches!(self, Self::Int2 | Self::Int4 | Self::Int8)
    }

    fn holds(self, value: i64) -> bool {
        match self {
            Self::Int2 => i16::try_from(value).is_ok(),
            Self::Int4 => i32::try_from(value).is_ok(),
            _ => true,
        }
    }
}

/// Why a text is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// PostgreSQL refuses the text for this type (22P02, 22003, 22007).
    #[error("is not a value of the key's type")]
    Invalid,
    /// PostgreSQL may take it, but what it means depends on its version or its settings, or is not followed.
    #[error("is written in a form that is not followed")]
    Obscure,
}

/// A value of a key, so that equal values are equal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyValue {
    /// A whole number.
    Int(i64),
    /// A `uuid`.
    Uuid([u8; 16]),
    /// A text's bytes in the server's encoding; of a `char(n)`, without the blanks at its end.
    Text(Box<[u8]>),
    /// Days since 2000-01-01; the greatest and least numbers are the infinities.
    Date(i32),
    /// Microseconds since 2000-01-01 UTC; the greatest and least numbers are the infinities.
    Timestamptz(i64),
    /// A number of any size.
    Numeric(Numeric),
    /// Bytes.
    Bytea(Box<[u8]>),
}

impl KeyValue {
    /// Reads what a server would read from the text of a literal or parameter of the key's type.
    ///
    /// # Errors
    /// When the server would refuse it, or when it is not certain how it would read it.
    pub fn from_text(kind: KeyType, text: &[u8]) -> Result<Self, KeyError> {
        Ok(match kind {
            KeyType::Int2 | KeyType::Int4 | KeyType::Int8 => {
                let value = text::int(text)?;
                if !kind.holds(value) {
                    return Err(KeyError::Invalid);
                }
                Self::Int(value)
            }
            KeyType::Uuid => Self::Uuid(text::uuid(text)?),
            KeyType::Text => Self::Text(text.into()),
            KeyType::Bpchar => Self::Text(without_blanks(text).into()),
            KeyType::Date => Self::Date(moment::date(text)?),
            KeyType::Timestamptz => Self::Timestamptz(moment::timestamptz(text)?),
            KeyType::Numeric => Self::Numeric(Numeric::from_text(text)?),
            KeyType::Bytea => Self::Bytea(text::bytea(text)?.into()),
        })
    }

    /// Reads the binary form that the key's type has in the protocol (its `…send` function).
    ///
    /// # Errors
    /// When it has not that form.
    pub fn from_binary(kind: KeyType, bytes: &[u8]) -> Result<Self, KeyError> {
        Ok(match kind {
            KeyType::Int2 => Self::Int(i16::from_be_bytes(exactly(bytes)?).into()),
            KeyType::Int4 => Self::Int(i32::from_be_bytes(exactly(bytes)?).into()),
            KeyType::Int8 => Self::Int(i64::from_be_bytes(exactly(bytes)?)),
            KeyType::Uuid => Self::Uuid(exactly(bytes)?),
            KeyType::Text => Self::Text(bytes.into()),
            KeyType::Bpchar => Self::Text(without_blanks(bytes).into()),
            KeyType::Date => Self::Date(i32::from_be_bytes(exactly(bytes)?)),
            KeyType::Timestamptz => Self::Timestamptz(i64::from_be_bytes(exactly(bytes)?)),
            KeyType::Numeric => Self::Numeric(Numeric::from_binary(bytes)?),
            KeyType::Bytea => Self::Bytea(bytes.into()),
        })
    }

    /// The value that a column of another type has if it is equal to this one: whole numbers of other widths,
    /// and a `numeric` without a fraction. `Ok(None)` when no value of that type is equal to it.
    ///
    /// # Errors
    /// When the types are not compared by value.
    pub fn as_type(&self, kind: KeyType) -> Result<Option<Self>, KeyError> {
        match (self, kind) {
            (Self::Int(value), kind) if kind.is_int() => {
                Ok(kind.holds(*value).then(|| self.clone()))
            }
            (Self::Int(value), KeyType::Numeric) => Ok(Some(Self::Numeric(Numeric::from(*value)))),
            (Self::Numeric(value), kind) if kind.is_int() => Ok(value
                .to_int()
                .filter(|value| kind.holds(*value))
                .map(Self::Int)),
            (Self::Uuid(_), KeyType::Uuid)
            | (Self::Date(_), KeyType::Date)
            | (Self::Timestamptz(_), KeyType::Timestamptz)
            | (Self::Numeric(_), KeyType::Numeric)
            | (Self::Text(_), KeyType::Text)
            | (Self::Bytea(_), KeyType::Bytea) => Ok(Some(self.clone())),
            (Self::Text(bytes), KeyType::Bpchar) => {
                Ok(Some(Self::Text(without_blanks(bytes).into())))
            }
            _ => Err(KeyError::Obscure),
        }
    }

    /// Whether this may be a value of a key of a type.
    pub fn fits(&self, kind: KeyType) -> bool {
        match (self, kind) {
            (Self::Text(bytes), KeyType::Bpchar) => bytes.last() != Some(&b' '),
            _ => matches!(self.as_type(kind), Ok(Some(same)) if same == *self),
        }
    }

    /// The hash of one column of a key: the type's extended hash function with the seed of partitions.
    pub(super) fn hash(&self) -> u64 {
        match self {
            Self::Int(value) | Self::Timestamptz(value) => hash::int(*value),
            Self::Date(days) => hash::int(i64::from(*days)),
            Self::Uuid(bytes) => hash::bytes(bytes),
            Self::Text(bytes) | Self::Bytea(bytes) => hash::bytes(bytes),
            Self::Numeric(value) => value.hash(),
        }
    }
}

fn without_blanks(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|byte| *byte != b' ');
    &text[..end.map_or(0, |last| last + 1)]
}

fn exactly<const N: usize>(bytes: &[u8]) -> Result<[u8; N], KeyError> {
    bytes.try_into().map_err(|_| KeyError::Invalid)
}
