//! Packets by hand, right or wrong as the caller likes.

/// The code of SSLRequest.
pub const SSL: u32 = 80_877_103;
/// The code of GSSENCRequest.
pub const GSSENC: u32 = 80_877_104;
/// The code of CancelRequest.
pub const CANCEL: u32 = 80_877_102;
/// Protocol 3.0.
pub const V3_0: u32 = 3 << 16;

/// A packet without a tag: a length, a code, and what follows it.
pub fn untagged(code: u32, rest: &[u8]) -> Vec<u8> {
    let mut packet = length(rest.len() + 8);
    packet.extend_from_slice(&code.to_be_bytes());
    packet.extend_from_slice(rest);
    packet
}

/// StartupMessage of protocol 3.0.
pub fn startup(parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut rest = Vec::new();
    for (name, value) in parameters {
        for text in [name, value] {
            rest.extend_from_slice(text.as_bytes());
            rest.push(0);
        }
    }
    rest.push(0);
    untagged(V3_0, &rest)
}

/// SSLRequest.
pub fn ssl_request() -> Vec<u8> {
    untagged(SSL, &[])
}

/// GSSENCRequest.
pub fn gss_request() -> Vec<u8> {
    untagged(GSSENC, &[])
}

/// CancelRequest.
pub fn cancel(pid: i32, secret: &[u8]) -> Vec<u8> {
    untagged(CANCEL, &[&pid.to_be_bytes(), secret].concat())
}

/// A message with a tag.
pub fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![tag];
    message.extend_from_slice(&length(body.len() + 4));
    message.extend_from_slice(body);
    message
}

/// The first five bytes of a message that declares `length`, whatever follows.
pub fn declares(tag: u8, length: u32) -> Vec<u8> {
    let mut header = vec![tag];
    header.extend_from_slice(&length.to_be_bytes());
    header
}

/// Query.
pub fn query(text: &str) -> Vec<u8> {
    message(b'Q', &string(text))
}

/// Parse without parameter types.
pub fn parse(name: &str, text: &str) -> Vec<u8> {
    message(b'P', &[string(name), string(text), vec![0, 0]].concat())
}

/// Bind to the unnamed portal, without parameters.
pub fn bind(statement: &str) -> Vec<u8> {
    message(b'B', &[string(""), string(statement), vec![0; 6]].concat())
}

/// Execute of the unnamed portal, for all rows.
pub fn execute() -> Vec<u8> {
    message(b'E', &[0; 5])
}

/// Sync.
pub fn sync() -> Vec<u8> {
    message(b'S', &[])
}

/// Terminate.
pub fn terminate() -> Vec<u8> {
    message(b'X', &[])
}

/// SASLInitialResponse.
pub fn sasl_initial(mechanism: &str, data: &[u8]) -> Vec<u8> {
    message(
        b'p',
        &[string(mechanism), length(data.len()), data.to_vec()].concat(),
    )
}

/// SASLResponse.
pub fn sasl_response(data: &[u8]) -> Vec<u8> {
    message(b'p', data)
}

/// ErrorResponse of the given fields.
pub fn error(fields: &[(u8, &str)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (kind, text) in fields {
        body.push(*kind);
        body.extend_from_slice(&string(text));
    }
    body.push(0);
    message(b'E', &body)
}

/// ReadyForQuery.
pub fn ready(status: u8) -> Vec<u8> {
    message(b'Z', &[status])
}

/// CommandComplete.
pub fn complete(command: &str) -> Vec<u8> {
    message(b'C', &string(command))
}

/// ParameterStatus.
pub fn parameter(name: &str, value: &str) -> Vec<u8> {
    message(b'S', &[string(name), string(value)].concat())
}

/// Authentication, with its code and data.
pub fn authentication(code: u32, data: &[u8]) -> Vec<u8> {
    message(b'R', &[&code.to_be_bytes(), data].concat())
}

/// RowDescription of one column of text.
pub fn columns() -> Vec<u8> {
    let mut body = vec![0, 1];
    body.extend_from_slice(&string("said"));
    body.extend_from_slice(&[
        0, 0, 0, 0, 0, 0, 0, 0, 0, 25, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0,
    ]);
    message(b'T', &body)
}

/// DataRow of one value.
pub fn row(value: &str) -> Vec<u8> {
    message(
        b'D',
        &[vec![0, 1], length(value.len()), value.as_bytes().to_vec()].concat(),
    )
}

/// The whole answer to a simple query for one value.
pub fn rows(value: &str) -> Vec<u8> {
    [columns(), row(value), complete("SELECT 1")].concat()
}

/// Text with its NUL.
pub fn string(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

fn length(of: usize) -> Vec<u8> {
    u32::try_from(of).unwrap_or(u32::MAX).to_be_bytes().to_vec()
}

/// Bind of values in text to a portal, for results in text.
pub fn bind_values(portal: &str, statement: &str, values: &[&str]) -> Vec<u8> {
    let count = u16::try_from(values.len()).unwrap_or(u16::MAX);
    let mut body = [string(portal), string(statement), vec![0, 0]].concat();
    body.extend_from_slice(&count.to_be_bytes());
    for value in values {
        body.extend_from_slice(&length(value.len()));
        body.extend_from_slice(value.as_bytes());
    }
    body.extend_from_slice(&[0, 0]);
    message(b'B', &body)
}

/// Describe of a portal.
pub fn describe(portal: &str) -> Vec<u8> {
    message(b'D', &[b"P".to_vec(), string(portal)].concat())
}

/// Execute of a portal for so many rows at most; 0 is all.
pub fn execute_some(portal: &str, rows: u32) -> Vec<u8> {
    message(
        b'E',
        &[string(portal), rows.to_be_bytes().to_vec()].concat(),
    )
}

/// FunctionCall with values and a result in text.
pub fn call(function: u32, values: &[&str]) -> Vec<u8> {
    let count = u16::try_from(values.len()).unwrap_or(u16::MAX);
    let mut body = function.to_be_bytes().to_vec();
    body.extend_from_slice(&[0, 0]);
    body.extend_from_slice(&count.to_be_bytes());
    for value in values {
        body.extend_from_slice(&length(value.len()));
        body.extend_from_slice(value.as_bytes());
    }
    body.extend_from_slice(&[0, 0]);
    message(b'F', &body)
}
