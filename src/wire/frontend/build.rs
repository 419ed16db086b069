//! Builders of client messages.

use bytes::{BufMut, BytesMut};

use super::{COPY_DONE, FLUSH, SYNC, TERMINATE, Target, tag};
use crate::frame::{TooLong, build, fits, put_string};

/// A count as the protocol has it.
fn count(of: usize) -> Result<u16, TooLong> {
    u16::try_from(of).map_err(|_| TooLong(of))
}

fn text(out: &mut BytesMut, tag: u8, text: &[u8]) -> Result<(), TooLong> {
    fits(text.len())?;
    build(out, tag, |out| put_string(out, text))
}

fn raw(out: &mut BytesMut, tag: u8, data: &[u8]) -> Result<(), TooLong> {
    fits(data.len())?;
    build(out, tag, |out| out.extend_from_slice(data))
}

/// Query with `text`.
///
/// # Errors
/// As all builders: longer than the protocol allows; nothing is written then.
pub fn query(out: &mut BytesMut, text: &[u8]) -> Result<(), TooLong> {
    self::text(out, tag::QUERY, text)
}

/// Parse of `query` under `name`, with the OIDs of its parameter types.
///
/// # Errors
/// Too long, or more than 65,535 types.
pub fn parse(out: &mut BytesMut, name: &[u8], query: &[u8], types: &[u32]) -> Result<(), TooLong> {
    fits(name.len().saturating_add(query.len()))?;
    let types_count = count(types.len())?;
    build(out, tag::PARSE, |out| {
        put_string(out, name);
        put_string(out, query);
        out.put_u16(types_count);
        types.iter().for_each(|oid| out.put_u32(*oid));
    })
}

/// Bind of `statement` to `portal`; `None` among the parameters is NULL.
///
/// # Errors
/// Too long, or more than 65,535 of anything.
pub fn bind(
    out: &mut BytesMut,
    portal: &[u8],
    statement: &[u8],
    formats: &[i16],
    parameters: &[Option<&[u8]>],
    results: &[i16],
) -> Result<(), TooLong> {
    let size = parameters
        .iter()
        .flatten()
        .fold(0_usize, |sum, value| sum.saturating_add(value.len()));
    fits(
        size.saturating_add(portal.len())
            .saturating_add(statement.len()),
    )?;
    let (format_count, result_count) = (count(formats.len())?, count(results.len())?);
    let parameter_count = count(parameters.len())?;
    build(out, tag::BIND, |out| {
        put_string(out, portal);
        put_string(out, statement);
        out.put_u16(format_count);
        formats.iter().for_each(|code| out.put_i16(*code));
        out.put_u16(parameter_count);
        parameters
            .iter()
            .for_each(|value| crate::frame::put_value(out, *value));
        out.put_u16(result_count);
        results.iter().for_each(|code| out.put_i16(*code));
    })
}

fn target(out: &mut BytesMut, tag: u8, kind: Target, name: &[u8]) -> Result<(), TooLong> {
    fits(name.len())?;
    build(out, tag, |out| {
        out.put_u8(kind.to_byte());
        put_string(out, name);
    })
}

/// Describe.
///
/// # Errors
/// Too long.
pub fn describe(out: &mut BytesMut, kind: Target, name: &[u8]) -> Result<(), TooLong> {
    target(out, tag::DESCRIBE, kind, name)
}

/// Close.
///
/// # Errors
/// Too long.
pub fn close(out: &mut BytesMut, kind: Target, name: &[u8]) -> Result<(), TooLong> {
    target(out, tag::CLOSE, kind, name)
}

/// Execute of `portal`; `max_rows` of zero is all.
///
/// # Errors
/// Too long.
pub fn execute(out: &mut BytesMut, portal: &[u8], max_rows: i32) -> Result<(), TooLong> {
    fits(portal.len())?;
    build(out, tag::EXECUTE, |out| {
        put_string(out, portal);
        out.put_i32(max_rows);
    })
}

/// Sync.
pub fn sync(out: &mut BytesMut) {
    out.extend_from_slice(&SYNC);
}

/// Flush.
pub fn flush(out: &mut BytesMut) {
    out.extend_from_slice(&FLUSH);
}

/// Terminate.
pub fn terminate(out: &mut BytesMut) {
    out.extend_from_slice(&TERMINATE);
}

/// CopyDone.
pub fn copy_done(out: &mut BytesMut) {
    out.extend_from_slice(&COPY_DONE);
}

/// CopyData.
///
/// # Errors
/// Too long.
pub fn copy_data(out: &mut BytesMut, data: &[u8]) -> Result<(), TooLong> {
    raw(out, tag::COPY_DATA, data)
}

/// CopyFail with the reason why.
///
/// # Errors
/// Too long.
pub fn copy_fail(out: &mut BytesMut, reason: &[u8]) -> Result<(), TooLong> {
    text(out, tag::COPY_FAIL, reason)
}

/// PasswordMessage: a plain password or an md5 response.
///
/// # Errors
/// Too long.
pub fn password(out: &mut BytesMut, password: &[u8]) -> Result<(), TooLong> {
    text(out, tag::PASSWORD, password)
}

/// SASLInitialResponse.
///
/// # Errors
/// Too long.
pub fn sasl_initial(out: &mut BytesMut, mechanism: &[u8], data: &[u8]) -> Result<(), TooLong> {
    fits(mechanism.len().saturating_add(data.len()))?;
    build(out, tag::PASSWORD, |out| {
        put_string(out, mechanism);
        crate::frame::put_value(out, Some(data));
    })
}

/// SASLResponse.
///
/// # Errors
/// Too long.
pub fn sasl_response(out: &mut BytesMut, data: &[u8]) -> Result<(), TooLong> {
    raw(out, tag::PASSWORD, data)
}
