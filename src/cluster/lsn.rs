//! Places in the write-ahead log.

use std::fmt;
use std::str::FromStr;

/// A place in the write-ahead log, in bytes from its beginning (`pg_lsn`). Two of them may only be compared on one
/// timeline, or below the point where the timelines part.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(u64);

/// How a log is laid out, in bytes: by it the place where the next record will begin is told from the one where the last
/// has ended.
///
/// They differ at the beginning of a page, behind whose header the next record begins, and where
/// `pg_current_wal_insert_lsn()` is therefore ahead of all that there is to replay: until somebody writes, for up to 15 s
/// behind each change of the segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pages {
    /// `wal_block_size`.
    pub page: u64,
    /// `wal_segment_size`, a multiple of it.
    pub segment: u64,
}

/// The header of a page, and that of the first page of a segment.
const HEADER: u64 = 24;
const LONG_HEADER: u64 = 40;

impl Pages {
    /// Where the log ends whose next record would begin here.
    #[must_use]
    pub fn end(self, next: Lsn) -> Lsn {
        let Lsn(place) = next;
        // No record ends within a header.
        let empty = match place.checked_rem(self.segment) {
            Some(LONG_HEADER) => LONG_HEADER,
            Some(within)
                if within > LONG_HEADER && within.checked_rem(self.page) == Some(HEADER) =>
            {
                HEADER
            }
            Some(_) | None => 0,
        };
        Lsn(place - empty)
    }
}

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

#[cfg(test)]
mod tests {
    use super::{Lsn, Pages};

    #[test]
    fn the_header_of_an_empty_page_is_not_yet_part_of_the_log() {
        let pages = Pages {
            page: 8192,
            segment: 1 << 24,
        };
        let end = |place: u64| pages.end(Lsn::new(place)).as_u64();
        let segment = 5 << 24;
        assert_eq!(end(segment + 40), segment);
        assert_eq!(end(segment + 8192 + 24), segment + 8192);
        // Elsewhere a record may end.
        for place in [0, 24, 64, 8192, 8192 + 32, 8192 + 40, 8192 * 2 - 8] {
            assert_eq!(end(segment + place), segment + place);
        }
        let unknown = Pages {
            page: 0,
            segment: 0,
        };
        assert_eq!(unknown.end(Lsn::new(40)), Lsn::new(40));
    }
}
