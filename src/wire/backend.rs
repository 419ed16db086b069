//! Messages that servers send.
//!
//! Views borrow from the body they were parsed from; builders append a whole message.
//! Source: PostgreSQL documentation, "Message Formats" and "Error and Notice Message Fields".

use crate::read::{MessageError, Reader};

mod authentication;
mod build;
mod rows;
#[cfg(test)]
mod tests;

pub use authentication::{Authentication, Mechanisms};
pub use build::{
    Column, authentication_cleartext, authentication_md5, authentication_ok, authentication_sasl,
    authentication_sasl_continue, authentication_sasl_final, backend_key_data, command_complete,
    copy_both_response, copy_data, copy_done, copy_in_response, copy_out_response, data_row,
    empty_query, negotiate_protocol_version, no_data, notification, parameter_status,
    ready_for_query, row_description,
};
pub use rows::{ColumnView, DataRow, RowDescription};

/// The first byte of each message a server sends.
pub mod tag {
    /// All Authentication messages.
    pub const AUTHENTICATION: u8 = b'R';
    /// BackendKeyData.
    pub const BACKEND_KEY_DATA: u8 = b'K';
    /// BindComplete.
    pub const BIND_COMPLETE: u8 = b'2';
    /// CloseComplete.
    pub const CLOSE_COMPLETE: u8 = b'3';
    /// CommandComplete.
    pub const COMMAND_COMPLETE: u8 = b'C';
    /// CopyBothResponse.
    pub const COPY_BOTH_RESPONSE: u8 = b'W';
    /// CopyData.
    pub const COPY_DATA: u8 = b'd';
    /// CopyDone.
    pub const COPY_DONE: u8 = b'c';
    /// CopyInResponse.
    pub const COPY_IN_RESPONSE: u8 = b'G';
    /// CopyOutResponse.
    pub const COPY_OUT_RESPONSE: u8 = b'H';
    /// DataRow.
    pub const DATA_ROW: u8 = b'D';
    /// EmptyQueryResponse.
    pub const EMPTY_QUERY_RESPONSE: u8 = b'I';
    /// ErrorResponse.
    pub const ERROR_RESPONSE: u8 = b'E';
    /// FunctionCallResponse.
    pub const FUNCTION_CALL_RESPONSE: u8 = b'V';
    /// NegotiateProtocolVersion.
    pub const NEGOTIATE_PROTOCOL_VERSION: u8 = b'v';
    /// NoData.
    pub const NO_DATA: u8 = b'n';
    /// NoticeResponse.
    pub const NOTICE_RESPONSE: u8 = b'N';
    /// NotificationResponse.
    pub const NOTIFICATION_RESPONSE: u8 = b'A';
    /// ParameterDescription.
    pub const PARAMETER_DESCRIPTION: u8 = b't';
    /// ParameterStatus.
    pub const PARAMETER_STATUS: u8 = b'S';
    /// ParseComplete.
    pub const PARSE_COMPLETE: u8 = b'1';
    /// PortalSuspended.
    pub const PORTAL_SUSPENDED: u8 = b's';
    /// ReadyForQuery.
    pub const READY_FOR_QUERY: u8 = b'Z';
    /// RowDescription.
    pub const ROW_DESCRIPTION: u8 = b'T';
}

/// A whole ParseComplete message.
pub const PARSE_COMPLETE: [u8; 5] = [tag::PARSE_COMPLETE, 0, 0, 0, 4];
/// A whole BindComplete message.
pub const BIND_COMPLETE: [u8; 5] = [tag::BIND_COMPLETE, 0, 0, 0, 4];
/// A whole CloseComplete message.
pub const CLOSE_COMPLETE: [u8; 5] = [tag::CLOSE_COMPLETE, 0, 0, 0, 4];
/// A whole NoData message.
pub const NO_DATA: [u8; 5] = [tag::NO_DATA, 0, 0, 0, 4];
/// PortalSuspended.
pub const PORTAL_SUSPENDED: [u8; 5] = [tag::PORTAL_SUSPENDED, 0, 0, 0, 4];
/// A whole EmptyQueryResponse message.
pub const EMPTY_QUERY: [u8; 5] = [tag::EMPTY_QUERY_RESPONSE, 0, 0, 0, 4];

/// Where a server's transaction stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TransactionStatus {
    /// Not in a transaction block.
    Idle,
    /// In a transaction block.
    InTransaction,
    /// In a transaction block that can only be rolled back.
    Failed,
}

impl TransactionStatus {
    /// The status that `byte` stands for in a ReadyForQuery.
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            b'I' => Some(Self::Idle),
            b'T' => Some(Self::InTransaction),
            b'E' => Some(Self::Failed),
            _ => None,
        }
    }

    /// The byte of the protocol.
    pub fn to_byte(self) -> u8 {
        match self {
            Self::Idle => b'I',
            Self::InTransaction => b'T',
            Self::Failed => b'E',
        }
    }
}

/// The end of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadyForQuery {
    /// Where the transaction stands.
    pub status: TransactionStatus,
}

impl ReadyForQuery {
    /// Reads the body of a ReadyForQuery.
    ///
    /// # Errors
    /// Other than one byte, or one that is no status.
    pub fn parse(body: &[u8]) -> Result<Self, MessageError> {
        let mut reader = Reader::new(body);
        let byte = reader.u8()?;
        reader.end()?;
        let status = TransactionStatus::from_byte(byte).ok_or(MessageError::Status(byte))?;
        Ok(Self { status })
    }
}

/// A parameter's value as the server now has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParameterStatus<'a> {
    /// The parameter, spelt as Postgres spells it.
    pub name: &'a [u8],
    /// Its value.
    pub value: &'a [u8],
}

impl<'a> ParameterStatus<'a> {
    /// Reads the body of a ParameterStatus.
    ///
    /// # Errors
    /// A string without end, or bytes behind the second.
    pub fn parse(body: &'a [u8]) -> Result<Self, MessageError> {
        let mut reader = Reader::new(body);
        let (name, value) = (reader.string()?, reader.string()?);
        reader.end()?;
        Ok(Self { name, value })
    }
}

/// A word to all who listen to a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Notification<'a> {
    /// The process that notified.
    pub pid: i32,
    /// The channel.
    pub channel: &'a [u8],
    /// The payload; empty if there is none.
    pub payload: &'a [u8],
}

impl<'a> Notification<'a> {
    /// Reads the body of a NotificationResponse.
    ///
    /// # Errors
    /// A string without end, too few bytes, or bytes behind the last.
    pub fn parse(body: &'a [u8]) -> Result<Self, MessageError> {
        let mut reader = Reader::new(body);
        let pid = reader.i32()?;
        let (channel, payload) = (reader.string()?, reader.string()?);
        reader.end()?;
        Ok(Self {
            pid,
            channel,
            payload,
        })
    }
}

/// What a client must show to cancel; the secret is never printed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct BackendKeyData<'a> {
    /// The process of the server.
    pub pid: i32,
    /// The secret, 4 to 256 bytes.
    pub secret: &'a [u8],
}

impl<'a> BackendKeyData<'a> {
    /// Reads the body of a BackendKeyData.
    ///
    /// # Errors
    /// A secret shorter than 4 or longer than 256 bytes.
    pub fn parse(body: &'a [u8]) -> Result<Self, MessageError> {
        let mut reader = Reader::new(body);
        let pid = reader.i32()?;
        let secret = reader.rest();
        if !crate::cancel::SECRET_LEN.contains(&secret.len()) {
            return Err(MessageError::KeyLength(secret.len()));
        }
        Ok(Self { pid, secret })
    }
}

/// The end of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandComplete<'a> {
    /// What was done, such as `INSERT 0 1`.
    pub tag: &'a [u8],
}

impl<'a> CommandComplete<'a> {
    /// Reads the body of a CommandComplete.
    ///
    /// # Errors
    /// No terminating NUL, or bytes behind it.
    pub fn parse(body: &'a [u8]) -> Result<Self, MessageError> {
        let mut reader = Reader::new(body);
        let tag = reader.string()?;
        reader.end()?;
        Ok(Self { tag })
    }
}

/// A server's answer to a protocol version or option that it does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NegotiateProtocolVersion<'a> {
    /// The version that the server will speak, major in the upper half.
    pub version: crate::startup::Version,
    /// The `_pq_.` options that it does not know.
    pub options: Vec<&'a [u8]>,
}

impl<'a> NegotiateProtocolVersion<'a> {
    /// Reads the body of a NegotiateProtocolVersion.
    ///
    /// # Errors
    /// More or fewer options than counted, or a name without end.
    pub fn parse(body: &'a [u8]) -> Result<Self, MessageError> {
        let mut reader = Reader::new(body);
        let version = crate::startup::Version::from_word(reader.u32()?);
        let count = reader.u32()?;
        // Grown by what is there: each option takes at least one byte of the body.
        let mut options = Vec::new();
        for _ in 0..count {
            options.push(reader.string()?);
        }
        reader.end()?;
        Ok(Self { version, options })
    }
}
