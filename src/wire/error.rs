//! Errors and notices: those the proxy makes, and those a server sends.
//!
//! Source: PostgreSQL documentation, "Error and Notice Message Fields".

use std::fmt;

use bytes::{BufMut, BytesMut};

use crate::backend::tag;
use crate::frame::{build, put_string};
use crate::sqlstate::{INTERNAL_ERROR, SUCCESSFUL_COMPLETION, SqlState};

mod field;
#[cfg(test)]
mod tests;

pub use field::{Field, Peek, Severity};

/// The longest text of one field that is kept or sent, in bytes.
const FIELD_MAX: usize = 1 << 20;
/// The most fields of one kind or another that a report keeps beside its own four.
const OTHERS_MAX: usize = 16;

/// One error or notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorReport {
    /// How bad it is.
    pub severity: Severity,
    /// What programs tell it by.
    pub code: SqlState,
    /// What happened, in one line.
    pub message: String,
    /// More about it.
    pub detail: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
    /// Everything else that was said, each field once.
    pub others: Vec<(Field, String)>,
}

impl ErrorReport {
    /// A report of the given severity.
    pub fn new(severity: Severity, code: SqlState, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            severity,
            code,
            message,
            detail: None,
            hint: None,
            others: Vec::new(),
        }
    }

    /// An error that ends the statement and leaves the session alive.
    pub fn error(code: SqlState, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, message)
    }

    /// An error that ends the session.
    pub fn fatal(code: SqlState, message: impl Into<String>) -> Self {
        Self::new(Severity::Fatal, code, message)
    }

    /// A notice.
    pub fn notice(message: impl Into<String>) -> Self {
        Self::new(Severity::Notice, SUCCESSFUL_COMPLETION, message)
    }

    /// A warning.
    pub fn warning(code: SqlState, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, message)
    }

    /// The report with more about it.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// The report with what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same report as one that ends the session; worse ones stay as they are.
    #[must_use]
    pub fn into_fatal(mut self) -> Self {
        if self.severity != Severity::Panic {
            self.severity = Severity::Fatal;
        }
        self
    }

    /// Whether the session ends with it.
    pub fn is_fatal(&self) -> bool {
        matches!(self.severity, Severity::Fatal | Severity::Panic)
    }

    /// A further field, if the report has it.
    pub fn other(&self, field: Field) -> Option<&str> {
        self.others
            .iter()
            .find(|(known, _)| *known == field)
            .map(|(_, text)| &**text)
    }

    /// Appends the report as an ErrorResponse; texts above 1 MiB are cut.
    pub fn encode_error(&self, out: &mut BytesMut) {
        self.encode(out, tag::ERROR_RESPONSE);
    }

    /// Appends the report as a NoticeResponse; texts above 1 MiB are cut.
    pub fn encode_notice(&self, out: &mut BytesMut) {
        self.encode(out, tag::NOTICE_RESPONSE);
    }

    fn encode(&self, out: &mut BytesMut, tag: u8) {
        let severity = self.severity.as_str();
        let built = build(out, tag, |out| {
            put_field(out, b'S', severity);
            put_field(out, b'V', severity);
            put_field(out, b'C', self.code.as_str());
            put_field(out, b'M', &self.message);
            if let Some(detail) = &self.detail {
                put_field(out, b'D', detail);
            }
            if let Some(hint) = &self.hint {
                put_field(out, b'H', hint);
            }
            for (field, text) in self.others.iter().take(OTHERS_MAX) {
                put_field(out, field.to_byte(), text);
            }
            out.put_u8(0);
        });
        debug_assert!(
            built.is_ok(),
            "22 fields of at most 1 MiB fit into a message"
        );
    }

    /// Reads the body of an ErrorResponse or NoticeResponse, whatever state it is in: of a
    /// repeated field the first counts, unknown ones are passed over, a missing code is XX000, a
    /// missing severity is ERROR, bytes that are not UTF-8 are replaced.
    pub fn parse(body: &[u8]) -> Self {
        let mut report = Self::error(INTERNAL_ERROR, String::new());
        let (mut severity, mut localised, mut code, mut message) = (None, None, None, None);
        for (kind, value) in fields(body) {
            let text = || String::from_utf8_lossy(cut(value)).into_owned();
            match kind {
                // The localised severity counts only where the plain one is missing.
                b'V' => severity = severity.or_else(|| Severity::from_bytes(value)),
                b'S' => localised = localised.or_else(|| Severity::from_bytes(value)),
                b'C' => code = code.or_else(|| SqlState::from_bytes(value)),
                b'M' => message = message.or_else(|| Some(text())),
                b'D' => report.detail = report.detail.take().or_else(|| Some(text())),
                b'H' => report.hint = report.hint.take().or_else(|| Some(text())),
                other => {
                    if let Some(field) = Field::from_byte(other)
                        && report.other(field).is_none()
                    {
                        report.others.push((field, text()));
                    }
                }
            }
        }
        report.severity = severity.or(localised).unwrap_or(Severity::Error);
        report.code = code.unwrap_or(INTERNAL_ERROR);
        report.message = message.unwrap_or_else(|| "the server gave no message".into());
        report
    }

    /// The severity and code of an ErrorResponse's body, without reading the rest; each is empty
    /// where the body has none.
    pub fn peek(body: &[u8]) -> Peek<'_> {
        let mut peek = Peek {
            severity_v: b"",
            code: b"",
        };
        let mut localised: &[u8] = b"";
        for (kind, value) in fields(body) {
            match kind {
                b'V' if peek.severity_v.is_empty() => peek.severity_v = value,
                b'S' if localised.is_empty() => localised = value,
                b'C' if peek.code.is_empty() => peek.code = value,
                _ => {}
            }
            if !peek.severity_v.is_empty() && !peek.code.is_empty() {
                break;
            }
        }
        if peek.severity_v.is_empty() {
            peek.severity_v = localised;
        }
        peek
    }
}

impl fmt::Display for ErrorReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.severity, self.message, self.code)
    }
}

impl std::error::Error for ErrorReport {}

fn put_field(out: &mut BytesMut, kind: u8, text: &str) {
    let end = text.floor_char_boundary(FIELD_MAX);
    out.put_u8(kind);
    put_string(out, text.get(..end).unwrap_or_default().as_bytes());
}

fn cut(value: &[u8]) -> &[u8] {
    value.get(..FIELD_MAX).unwrap_or(value)
}

/// The fields of a body up to its terminator or its end, whichever comes first.
fn fields(body: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = body;
    std::iter::from_fn(move || {
        let (kind, after) = rest.split_first().filter(|(kind, _)| **kind != 0)?;
        let end = after
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(after.len());
        let (value, tail) = after.split_at(end);
        rest = tail.get(1..).unwrap_or_default();
        Some((*kind, value))
    })
}
