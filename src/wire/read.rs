//! Strict reading of message bodies.

use thiserror::Error;

/// A body that is not the message its tag says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum MessageError {
    /// The body ends before its last field.
    #[error("insufficient data left in message")]
    Short,
    /// A string has no terminating NUL.
    #[error("invalid string in message")]
    Unterminated,
    /// Bytes follow the last field.
    #[error("invalid message format")]
    Trailing,
    /// A length below zero other than the -1 of NULL.
    #[error("invalid value length {0} in message")]
    NegativeLength(i32),
    /// A way to log in that Postgres has never had.
    #[error("there is no authentication method {0}")]
    Method(u32),
    /// Neither a statement nor a portal is meant.
    #[error("invalid message subtype {0}")]
    Target(u8),
    /// A transaction status that does not exist.
    #[error("invalid transaction status {0}")]
    Status(u8),
    /// Neither none, one, nor one for each parameter.
    #[error("bind message has {formats} parameter formats but {parameters} parameters")]
    Formats {
        /// Format codes sent.
        formats: u16,
        /// Parameters sent.
        parameters: u16,
    },
    /// A cancel key of a length that the protocol does not allow.
    #[error("invalid cancel key length {0}")]
    KeyLength(usize),
}

/// A cursor over one body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(body: &'a [u8]) -> Self {
        Self { rest: body }
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], MessageError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or(MessageError::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], MessageError> {
        let (taken, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(MessageError::Short)?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, MessageError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, MessageError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn i16(&mut self) -> Result<i16, MessageError> {
        self.array().map(i16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, MessageError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn i32(&mut self) -> Result<i32, MessageError> {
        self.array().map(i32::from_be_bytes)
    }

    /// A NUL-terminated string, without its NUL.
    pub(crate) fn string(&mut self) -> Result<&'a [u8], MessageError> {
        // Most names are empty.
        if let [0, rest @ ..] = self.rest {
            self.rest = rest;
            return Ok(&[]);
        }
        let end = memchr::memchr(0, self.rest).ok_or(MessageError::Unterminated)?;
        let (text, rest) = self.rest.split_at(end);
        self.rest = rest.get(1..).unwrap_or_default();
        Ok(text)
    }

    /// A value with its length before it; `None` is NULL.
    pub(crate) fn value(&mut self) -> Result<Option<&'a [u8]>, MessageError> {
        match self.i32()? {
            -1 => Ok(None),
            length => {
                let size = usize::try_from(length);
                self.bytes(size.map_err(|_| MessageError::NegativeLength(length))?)
                    .map(Some)
            }
        }
    }

    pub(crate) fn end(self) -> Result<(), MessageError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(MessageError::Trailing)
        }
    }
}
