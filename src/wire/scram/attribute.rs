//! The comma-separated attributes of a SCRAM message.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{MESSAGE_MAX, NONCE_MAX, ScramError};

/// A cursor over the attributes of one message.
pub(super) struct Attributes<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> Attributes<'a> {
    /// Refuses messages that are too long or hold a NUL, which no attribute may.
    pub(super) fn new(message: &'a [u8]) -> Result<Self, ScramError> {
        if message.len() > MESSAGE_MAX {
            return Err(ScramError::Malformed("message is too long"));
        }
        if message.contains(&0) {
            return Err(ScramError::Malformed("message holds a NUL"));
        }
        Ok(Self {
            rest: Some(message),
        })
    }

    /// The next attribute, whatever it is; `None` at the end.
    pub(super) fn any(&mut self) -> Result<Option<(u8, &'a [u8])>, ScramError> {
        let Some(rest) = self.rest else {
            return Ok(None);
        };
        let mut parts = rest.splitn(2, |byte| *byte == b',');
        let attribute = parts.next().unwrap_or_default();
        self.rest = parts.next();
        match attribute {
            [name, b'=', value @ ..] if name.is_ascii_alphabetic() => Ok(Some((*name, value))),
            _ => Err(ScramError::Malformed("attribute expected")),
        }
    }

    /// The value of the next attribute, which must be `name`.
    pub(super) fn expect(
        &mut self,
        name: u8,
        missing: &'static str,
    ) -> Result<&'a [u8], ScramError> {
        match self.any()? {
            Some((found, value)) if found == name => Ok(value),
            _ => Err(ScramError::Malformed(missing)),
        }
    }

    pub(super) fn end(self) -> Result<(), ScramError> {
        match self.rest {
            None => Ok(()),
            Some(_) => Err(ScramError::Malformed("garbage at the end")),
        }
    }
}

/// A nonce: printable ASCII without a comma, not empty, of bounded length.
pub(super) fn nonce(value: &[u8]) -> Result<&str, ScramError> {
    let legal = value
        .iter()
        .all(|byte| byte.is_ascii_graphic() && *byte != b',');
    if value.is_empty() || value.len() > NONCE_MAX || !legal {
        return Err(ScramError::Malformed("invalid nonce"));
    }
    std::str::from_utf8(value).map_err(|_| ScramError::Malformed("invalid nonce"))
}

/// Base64 that is not empty.
pub(super) fn base64(value: &[u8], what: &'static str) -> Result<Vec<u8>, ScramError> {
    let decoded = STANDARD
        .decode(value)
        .map_err(|_| ScramError::Malformed(what))?;
    if decoded.is_empty() {
        Err(ScramError::Malformed(what))
    } else {
        Ok(decoded)
    }
}

/// A key or a proof: base64 of 32 bytes.
pub(super) fn key(value: &[u8], what: &'static str) -> Result<[u8; 32], ScramError> {
    base64(value, what)?
        .try_into()
        .map_err(|_| ScramError::Malformed(what))
}

/// A count in plain digits.
pub(super) fn number(value: &[u8], what: &'static str) -> Result<u32, ScramError> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(ScramError::Malformed(what));
    }
    let text = std::str::from_utf8(value).map_err(|_| ScramError::Malformed(what))?;
    // Only too large a number is left to fail.
    Ok(text.parse().unwrap_or(u32::MAX))
}
