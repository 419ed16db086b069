//! Messages that clients send.
//!
//! Views borrow from the body they were parsed from; builders append a whole message.
//! Source: PostgreSQL documentation, "Message Formats".

use crate::read::{MessageError, Reader};

mod build;
#[cfg(test)]
mod tests;

pub use build::{
    bind, close, copy_data, copy_done, copy_fail, describe, execute, flush, parse, password, query,
    sasl_initial, sasl_response, sync, terminate,
};

/// The first byte of each message a client sends after start-up.
pub mod tag {
    /// Bind.
    pub const BIND: u8 = b'B';
    /// Close.
    pub const CLOSE: u8 = b'C';
    /// CopyData.
    pub const COPY_DATA: u8 = b'd';
    /// CopyDone.
    pub const COPY_DONE: u8 = b'c';
    /// CopyFail.
    pub const COPY_FAIL: u8 = b'f';
    /// Describe.
    pub const DESCRIBE: u8 = b'D';
    /// Execute.
    pub const EXECUTE: u8 = b'E';
    /// Flush.
    pub const FLUSH: u8 = b'H';
    /// FunctionCall.
    pub const FUNCTION_CALL: u8 = b'F';
    /// Parse.
    pub const PARSE: u8 = b'P';
    /// PasswordMessage, SASLInitialResponse, SASLResponse and GSSResponse.
    pub const PASSWORD: u8 = b'p';
    /// Query.
    pub const QUERY: u8 = b'Q';
    /// Sync.
    pub const SYNC: u8 = b'S';
    /// Terminate.
    pub const TERMINATE: u8 = b'X';
}

/// A whole Sync message.
pub const SYNC: [u8; 5] = [tag::SYNC, 0, 0, 0, 4];
/// A whole Flush message.
pub const FLUSH: [u8; 5] = [tag::FLUSH, 0, 0, 0, 4];
/// A whole Terminate message.
pub const TERMINATE: [u8; 5] = [tag::TERMINATE, 0, 0, 0, 4];
/// A whole CopyDone message.
pub const COPY_DONE: [u8; 5] = [tag::COPY_DONE, 0, 0, 0, 4];

/// A simple query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query<'a> {
    /// The statements, in the client's encoding.
    pub text: &'a [u8],
}

impl<'a> Query<'a> {
    /// Reads the body of a Query.
    ///
    /// # Errors
    /// No terminating NUL, or bytes behind it.
    pub fn parse(body: &'a [u8]) -> Result<Self, MessageError> {
        let mut reader = Reader::new(body);
        let text = reader.string()?;
        reader.end()?;
        Ok(Self { text })
    }
}

/// A statement to prepare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parse<'a> {
    /// The statement's name; empty for the unnamed one.
    pub name: &'a [u8],
    /// The text, in the client's encoding.
    pub query: &'a [u8],
    /// The declared parameter types: type OIDs of four bytes each, in network order.
    pub types: &'a [u8],
}

impl<'a> Parse<'a> {
    /// Reads the body of a Parse.
    ///
    /// # Errors
    /// A string without end, or more or fewer types than counted.
    #[expect(
        clippy::self_named_constructors,
        reason = "the message is called Parse"
    )]
    pub fn parse(body: &'a [u8]) -> Result<Self, MessageError> {
        let mut reader = Reader::new(body);
        let name = reader.string()?;
        let query = reader.string()?;
        let count = usize::from(reader.u16()?);
        let types = reader.bytes(count * 4)?;
        reader.end()?;
        Ok(Self { name, query, types })
    }

    /// The declared parameter types; zero leaves one to the server.
    pub fn type_oids(&self) -> impl Iterator<Item = u32> + use<'a> {
        let (words, _) = self.types.as_chunks::<4>();
        words.iter().map(|word| u32::from_be_bytes(*word))
    }
}

/// The two names at the start of a Bind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BindHead<'a> {
    /// The portal to make; empty for the unnamed one.
    pub portal: &'a [u8],
    /// The statement to bind; empty for the unnamed one.
    pub statement: &'a [u8],
    /// Bytes that both names take up, their NULs included.
    pub len: usize,
}

impl<'a> BindHead<'a> {
    /// Reads the names from the first bytes of a Bind's body; `None` when more bytes are needed.
    ///
    /// # Errors
    /// None today: any bytes are a name until a NUL ends it. The caller bounds the prefix.
    pub fn parse(prefix: &'a [u8]) -> Result<Option<Self>, MessageError> {
        let mut reader = Reader::new(prefix);
        let (Ok(portal), Ok(statement)) = (reader.string(), reader.string()) else {
            return Ok(None);
        };
        Ok(Some(Self {
            portal,
            statement,
            len: prefix.len() - reader.rest().len(),
        }))
    }
}

/// A whole Bind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bind<'a> {
    /// The portal to make.
    pub portal: &'a [u8],
    /// The statement to bind.
    pub statement: &'a [u8],
    /// The parameters' format codes, two bytes each: none, one for all, or one each.
    pub formats: &'a [u8],
    /// How many parameters there are.
    pub count: u16,
    /// The parameters, each with its length before it.
    values: &'a [u8],
    /// The results' format codes, two bytes each.
    pub results: &'a [u8],
}

impl<'a> Bind<'a> {
    /// Reads the body of a Bind to its last byte.
    ///
    /// # Errors
    /// Any count or length that does not agree with the bytes.
    pub fn parse(body: &'a [u8]) -> Result<Self, MessageError> {
        let mut reader = Reader::new(body);
        let portal = reader.string()?;
        let statement = reader.string()?;
        let format_count = reader.u16()?;
        let formats = reader.bytes(usize::from(format_count) * 2)?;
        let count = reader.u16()?;
        if format_count > 1 && format_count != count {
            return Err(MessageError::Formats {
                formats: format_count,
                parameters: count,
            });
        }
        let before = reader.rest();
        for _ in 0..count {
            reader.value()?;
        }
        let values = &before[..before.len() - reader.rest().len()];
        let result_count = usize::from(reader.u16()?);
        let results = reader.bytes(result_count * 2)?;
        reader.end()?;
        Ok(Self {
            portal,
            statement,
            formats,
            count,
            values,
            results,
        })
    }

    /// The parameters in order; `None` is NULL.
    pub fn parameters(&self) -> impl Iterator<Item = Option<&'a [u8]>> + use<'a> {
        let mut reader = Reader::new(self.values);
        std::iter::from_fn(move || reader.value().ok())
    }
}

/// What a Describe or a Close is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A prepared statement.
    Statement,
    /// A portal.
    Portal,
}

impl Target {
    /// The byte of the protocol.
    pub fn to_byte(self) -> u8 {
        match self {
            Self::Statement => b'S',
            Self::Portal => b'P',
        }
    }

    fn parse(body: &[u8]) -> Result<(Self, &[u8]), MessageError> {
        let mut reader = Reader::new(body);
        let kind = match reader.u8()? {
            b'S' => Self::Statement,
            b'P' => Self::Portal,
            other => return Err(MessageError::Target(other)),
        };
        let name = reader.string()?;
        reader.end()?;
        Ok((kind, name))
    }
}

/// A question for the shape of a statement or portal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Describe<'a> {
    /// What is meant.
    pub kind: Target,
    /// Its name; empty for the unnamed one.
    pub name: &'a [u8],
}

impl<'a> Describe<'a> {
    /// Reads the body of a Describe.
    ///
    /// # Errors
    /// An unknown kind, a name without end, bytes behind it.
    pub fn parse(body: &'a [u8]) -> Result<Self, MessageError> {
        Target::parse(body).map(|(kind, name)| Self { kind, name })
    }
}

/// The end of a statement or portal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Close<'a> {
    /// What is meant.
    pub kind: Target,
    /// Its name; empty for the unnamed one.
    pub name: &'a [u8],
}

impl<'a> Close<'a> {
    /// Reads the body of a Close.
    ///
    /// # Errors
    /// As [`Describe::parse`].
    pub fn parse(body: &'a [u8]) -> Result<Self, MessageError> {
        Target::parse(body).map(|(kind, name)| Self { kind, name })
    }
}

/// An order to run a portal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Execute<'a> {
    /// The portal; empty for the unnamed one.
    pub portal: &'a [u8],
    /// Rows to send at most; zero or less for all.
    pub max_rows: i32,
}

impl<'a> Execute<'a> {
    /// Reads the body of an Execute.
    ///
    /// # Errors
    /// A name without end, too few or too many bytes behind it.
    pub fn parse(body: &'a [u8]) -> Result<Self, MessageError> {
        let mut reader = Reader::new(body);
        let portal = reader.string()?;
        let max_rows = reader.i32()?;
        reader.end()?;
        Ok(Self { portal, max_rows })
    }
}

/// A client's choice of SASL mechanism and its first word.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SaslInitial<'a> {
    /// The mechanism's name.
    pub mechanism: &'a [u8],
    /// The first message; `None` when the client waits for the server to begin.
    pub data: Option<&'a [u8]>,
}

impl<'a> SaslInitial<'a> {
    /// Reads the body of a SASLInitialResponse.
    ///
    /// # Errors
    /// A name without end, or a length that does not agree with the bytes.
    pub fn parse(body: &'a [u8]) -> Result<Self, MessageError> {
        let mut reader = Reader::new(body);
        let mechanism = reader.string()?;
        let data = reader.value()?;
        reader.end()?;
        Ok(Self { mechanism, data })
    }
}

/// A password, plain or hashed; never printed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Password<'a> {
    /// The password, or the md5 response.
    pub text: &'a [u8],
}

impl<'a> Password<'a> {
    /// Reads the body of a PasswordMessage.
    ///
    /// # Errors
    /// No terminating NUL, or bytes behind it.
    pub fn parse(body: &'a [u8]) -> Result<Self, MessageError> {
        Query::parse(body).map(|query| Self { text: query.text })
    }
}
