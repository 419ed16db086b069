//! Builders of server messages, for what the proxy says itself.

use bytes::{BufMut, BytesMut};

use super::{EMPTY_QUERY, NO_DATA, TransactionStatus, tag};
use crate::cancel::CancelKey;
use crate::frame::{TooLong, build, fits, put_string, put_value};
use crate::startup::Version;

/// A column of text values, as a console shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column<'a> {
    /// Its name.
    pub name: &'a str,
    /// The OID of its type; the values are sent as text whatever it is.
    pub type_oid: u32,
}

impl<'a> Column<'a> {
    /// The OID of `text`.
    pub const TEXT: u32 = 25;
    /// The OID of `int8`.
    pub const INT8: u32 = 20;

    /// A column of type `text`.
    pub fn text(name: &'a str) -> Self {
        Self {
            name,
            type_oid: Self::TEXT,
        }
    }

    /// The size that Postgres reports for the type; -1 for variable size.
    fn size(self) -> i16 {
        match self.type_oid {
            16 | 18 => 1,
            21 => 2,
            23 | 26 | 700 => 4,
            20 | 701 | 1114 | 1184 => 8,
            _ => -1,
        }
    }
}

fn count(of: usize) -> Result<u16, TooLong> {
    u16::try_from(of).map_err(|_| TooLong(of))
}

fn authentication(out: &mut BytesMut, code: u8, length: u8) {
    out.extend_from_slice(&[tag::AUTHENTICATION, 0, 0, 0, length, 0, 0, 0, code]);
}

fn authentication_data(out: &mut BytesMut, code: u32, data: &[u8]) -> Result<(), TooLong> {
    fits(data.len())?;
    build(out, tag::AUTHENTICATION, |out| {
        out.put_u32(code);
        out.extend_from_slice(data);
    })
}

/// AuthenticationOk.
pub fn authentication_ok(out: &mut BytesMut) {
    authentication(out, 0, 8);
}

/// AuthenticationCleartextPassword.
pub fn authentication_cleartext(out: &mut BytesMut) {
    authentication(out, 3, 8);
}

/// AuthenticationMD5Password.
pub fn authentication_md5(out: &mut BytesMut, salt: [u8; 4]) {
    authentication(out, 5, 12);
    out.extend_from_slice(&salt);
}

/// AuthenticationSASL, the mechanisms best first.
///
/// # Errors
/// As all builders: longer than the protocol allows; nothing is written then.
pub fn authentication_sasl(out: &mut BytesMut, mechanisms: &[&str]) -> Result<(), TooLong> {
    build(out, tag::AUTHENTICATION, |out| {
        out.put_u32(10);
        mechanisms
            .iter()
            .for_each(|name| put_string(out, name.as_bytes()));
        out.put_u8(0);
    })
}

/// AuthenticationSASLContinue.
///
/// # Errors
/// Too long.
pub fn authentication_sasl_continue(out: &mut BytesMut, data: &[u8]) -> Result<(), TooLong> {
    authentication_data(out, 11, data)
}

/// AuthenticationSASLFinal.
///
/// # Errors
/// Too long.
pub fn authentication_sasl_final(out: &mut BytesMut, data: &[u8]) -> Result<(), TooLong> {
    authentication_data(out, 12, data)
}

/// ParameterStatus.
///
/// # Errors
/// Too long.
pub fn parameter_status(out: &mut BytesMut, name: &[u8], value: &[u8]) -> Result<(), TooLong> {
    fits(name.len().saturating_add(value.len()))?;
    build(out, tag::PARAMETER_STATUS, |out| {
        put_string(out, name);
        put_string(out, value);
    })
}

/// BackendKeyData.
pub fn backend_key_data(out: &mut BytesMut, key: &CancelKey) {
    let built = build(out, tag::BACKEND_KEY_DATA, |out| {
        out.put_i32(key.pid);
        out.extend_from_slice(key.secret());
    });
    debug_assert!(built.is_ok(), "a key has at most 256 bytes");
}

/// ReadyForQuery.
pub fn ready_for_query(out: &mut BytesMut, status: TransactionStatus) {
    out.extend_from_slice(&[tag::READY_FOR_QUERY, 0, 0, 0, 5, status.to_byte()]);
}

/// CommandComplete, with a tag such as `SHOW`.
///
/// # Errors
/// Too long.
pub fn command_complete(out: &mut BytesMut, command: &[u8]) -> Result<(), TooLong> {
    fits(command.len())?;
    build(out, tag::COMMAND_COMPLETE, |out| put_string(out, command))
}

/// RowDescription of columns of text values.
///
/// # Errors
/// Too long, or more than 65,535 columns.
pub fn row_description(out: &mut BytesMut, columns: &[Column<'_>]) -> Result<(), TooLong> {
    let columns_count = count(columns.len())?;
    build(out, tag::ROW_DESCRIPTION, |out| {
        out.put_u16(columns_count);
        for column in columns {
            put_string(out, column.name.as_bytes());
            out.put_u32(0);
            out.put_i16(0);
            out.put_u32(column.type_oid);
            out.put_i16(column.size());
            out.put_i32(-1);
            out.put_i16(0);
        }
    })
}

/// DataRow; `None` is NULL.
///
/// # Errors
/// Too long, or more than 65,535 values.
pub fn data_row(out: &mut BytesMut, values: &[Option<&[u8]>]) -> Result<(), TooLong> {
    let size = values
        .iter()
        .flatten()
        .fold(0_usize, |sum, value| sum.saturating_add(value.len()));
    fits(size)?;
    let values_count = count(values.len())?;
    build(out, tag::DATA_ROW, |out| {
        out.put_u16(values_count);
        values.iter().for_each(|value| put_value(out, *value));
    })
}

/// EmptyQueryResponse.
pub fn empty_query(out: &mut BytesMut) {
    out.extend_from_slice(&EMPTY_QUERY);
}

/// NoData.
pub fn no_data(out: &mut BytesMut) {
    out.extend_from_slice(&NO_DATA);
}

/// NegotiateProtocolVersion: `version` is what will be spoken, `options` what is not known.
///
/// # Errors
/// Too long.
pub fn negotiate_protocol_version(
    out: &mut BytesMut,
    version: Version,
    options: &[&[u8]],
) -> Result<(), TooLong> {
    let options_count = u32::try_from(options.len()).map_err(|_| TooLong(options.len()))?;
    build(out, tag::NEGOTIATE_PROTOCOL_VERSION, |out| {
        out.put_u32(version.to_word());
        out.put_u32(options_count);
        options.iter().for_each(|name| put_string(out, name));
    })
}

/// NotificationResponse.
///
/// # Errors
/// Too long.
pub fn notification(
    out: &mut BytesMut,
    pid: i32,
    channel: &[u8],
    payload: &[u8],
) -> Result<(), TooLong> {
    fits(channel.len().saturating_add(payload.len()))?;
    build(out, tag::NOTIFICATION_RESPONSE, |out| {
        out.put_i32(pid);
        put_string(out, channel);
        put_string(out, payload);
    })
}

fn copy(out: &mut BytesMut, tag: u8, overall: u8, formats: &[i16]) -> Result<(), TooLong> {
    let formats_count = count(formats.len())?;
    build(out, tag, |out| {
        out.put_u8(overall);
        out.put_u16(formats_count);
        formats.iter().for_each(|code| out.put_i16(*code));
    })
}

/// CopyInResponse: `overall` is 0 for text, 1 for binary; a format code for each column.
///
/// # Errors
/// More than 65,535 columns.
pub fn copy_in_response(out: &mut BytesMut, overall: u8, formats: &[i16]) -> Result<(), TooLong> {
    copy(out, tag::COPY_IN_RESPONSE, overall, formats)
}

/// CopyOutResponse, as [`copy_in_response`].
///
/// # Errors
/// More than 65,535 columns.
pub fn copy_out_response(out: &mut BytesMut, overall: u8, formats: &[i16]) -> Result<(), TooLong> {
    copy(out, tag::COPY_OUT_RESPONSE, overall, formats)
}

/// CopyBothResponse, as [`copy_in_response`].
///
/// # Errors
/// More than 65,535 columns.
pub fn copy_both_response(out: &mut BytesMut, overall: u8, formats: &[i16]) -> Result<(), TooLong> {
    copy(out, tag::COPY_BOTH_RESPONSE, overall, formats)
}

/// CopyData, the same in both directions.
///
/// # Errors
/// Too long.
pub fn copy_data(out: &mut BytesMut, data: &[u8]) -> Result<(), TooLong> {
    crate::frontend::copy_data(out, data)
}

/// CopyDone, the same in both directions.
pub fn copy_done(out: &mut BytesMut) {
    crate::frontend::copy_done(out);
}
