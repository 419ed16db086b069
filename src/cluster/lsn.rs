//! Places in the write-ahead log.

use std::fmt;
use std::str::FromStr;

/// A place in the write-ahead log, in bytes from its beginning (`pg_lsn`). Two of them may only be compared on one
/// timeline, or below the point where the timelines part.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(u64);

/// The text is not a place in the log as Postgres writes it, such as `16/B374D848`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a log sequence number (expected two hexadecimal numbers with a slash between them)")]
pub struct InvalidLsn;

impl Lsn {
    /// The place this many bytes from the beginning.
    #[must_use]
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// Bytes from the beginning.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// How many bytes `other` is behind this place; zero if it is not behind.
    #[must_use]
    pub const fn ahead_of(self, other: Self) -> u64 {
        self.0.saturating_sub(other.0)
    }
}

impl FromStr for Lsn {
    type Err = InvalidLsn;

    fn from_str(text: &str) -> Result<Self, InvalidLsn> {
        let (high, low) = text.split_once('/').ok_or(InvalidLsn)?;
        Ok(Self(half(high)? << 32 | half(low)?))
    }
}

/// One to eight hexadecimal digits, as `pg_lsn_in` takes them; no sign, which `from_str_radix` would allow.
fn half(digits: &str) -> Result<u64, InvalidLsn> {
    let valid = (1..=8).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
    let number = valid.then(|| u64::from_str_radix(digits, 16).ok());
    number.flatten().ok_or(InvalidLsn)
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}
