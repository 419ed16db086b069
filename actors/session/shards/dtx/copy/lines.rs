//! Which line of the whole a server means that counts the lines of its part.

use std::collections::VecDeque;

use bytes::BytesMut;
use pgherd_planner::copy::Lines;
use pgherd_wire::frame;

/// So much is remembered of the last rows of a part: those that a server has not come to are in its socket.
const MOST: usize = 1 << 20;

/// The last rows that went to one server. Of each, how many lines behind the one before it ended, and if it has more
/// than one, how many it has, in as few bytes as it takes.
#[derive(Debug, Default)]
pub(super) struct Map {
    rows: VecDeque<u8>,
    /// Where what is remembered begins: a line of the server's, and of the whole.
    from: (u64, u64),
    /// Where it ends.
    upto: (u64, u64),
    any: bool,
}

impl Map {
    /// A row has gone there, which ends with this line of the whole.
    pub(super) fn row(&mut self, end: u64, lines: Lines) {
        let own = u64::from(if self.any { lines.usual } else { lines.first });
        self.any = true;
        let behind = end.saturating_sub(self.upto.1);
        self.put(behind << 1 | u64::from(own != 1));
        if own != 1 {
            self.put(own);
        }
        self.upto = (self.upto.0 + own, end);
        while self.rows.len() > MOST {
            let mut from = 0;
            let (own, behind) = self.at(&mut from).unwrap_or_default();
            self.rows.drain(..from);
            self.from = (self.from.0 + own, self.from.1 + behind);
        }
    }

    /// The line of the whole that the server calls so, if that is remembered; `whole` is the last line that ended a row.
    pub(super) fn of(&self, line: u64, whole: u64) -> Option<u64> {
        if line > self.upto.0 {
            // The row that has not ended is there.
            return Some(whole + (line - self.upto.0));
        }
        let (mut own, mut at) = self.from;
        if line <= own {
            return None;
        }
        let mut next = 0;
        while let Some((lines, behind)) = self.at(&mut next) {
            own += lines;
            at += behind;
            if line <= own {
                return Some(at.saturating_sub(own - line));
            }
        }
        None
    }

    /// Whether this is the line behind all rows that have gone there.
    pub(super) fn is_last(&self, line: u64) -> bool {
        line > self.upto.0
    }

    fn put(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.rows.push_back(number as u8 | 0x80);
            number >>= 7;
        }
        self.rows.push_back(number as u8);
    }

    fn get(&self, at: &mut usize) -> Option<u64> {
        let (mut number, mut shift) = (0, 0);
        loop {
            let byte = *self.rows.get(*at)?;
            *at += 1;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
            shift += 7;
        }
    }

    /// The row that is remembered there: its lines, and where it ends.
    fn at(&self, at: &mut usize) -> Option<(u64, u64)> {
        let first = self.get(at)?;
        let own = if first & 1 == 1 { self.get(at)? } else { 1 };
        Some((own, first >> 1))
    }
}

/// The line of which an error of a server speaks, in the context of a COPY of this table.
pub(super) fn spoken(message: &[u8], table: &str) -> Option<u64> {
    let (digits, _) = place(message, table)?;
    std::str::from_utf8(&message[digits]).ok()?.parse().ok()
}

/// The same error with another line, or with none if it is not known.
pub(super) fn reworded(message: &[u8], table: &str, line: Option<u64>, shard: &str) -> Box<[u8]> {
    let Some((digits, end)) = place(message, table) else {
        return message.into();
    };
    let (before, behind) = (
        &message[frame::HEADER_LEN..digits.start],
        &message[digits.end..],
    );
    let mut out = BytesMut::new();
    let built = frame::build(&mut out, message[0], |out| {
        out.extend_from_slice(before);
        match line {
            Some(line) => {
                out.extend_from_slice(line.to_string().as_bytes());
                out.extend_from_slice(behind);
            }
            None => {
                // It is one of those that this server has, and only that can be said.
                out.extend_from_slice(&message[digits.start..end]);
                let text = format!("\nThe line is counted among those of shard \"{shard}\".");
                out.extend_from_slice(text.replace('\0', "").as_bytes());
                out.extend_from_slice(&message[end..]);
            }
        }
    });
    match built {
        Ok(()) => out[..].into(),
        Err(_too_long) => message.into(),
    }
}

/// Where the digits of a line stand in an error, and where the field ends that has them.
fn place(message: &[u8], table: &str) -> Option<(std::ops::Range<usize>, usize)> {
    let mut at = frame::HEADER_LEN;
    loop {
        let kind = *message.get(at)?;
        let text = message.get(at + 1..)?;
        let length = memchr(text, 0)?;
        if kind == b'W' {
            let begins = format!("COPY {table}, line ").into_bytes();
            let mut from = 0;
            loop {
                let line = &text[from..length];
                if let Some(rest) = line.strip_prefix(begins.as_slice()) {
                    let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
                    let start = at + 1 + from + begins.len();
                    return (count > 0).then_some((start..start + count, at + 1 + length));
                }
                from += memchr(line, b'\n')? + 1;
            }
        }
        if kind == 0 {
            return None;
        }
        at += length + 2;
    }
}

fn memchr(text: &[u8], byte: u8) -> Option<usize> {
    text.iter().position(|it| *it == byte)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use pgherd_planner::copy::Lines;
    use pgherd_wire::error::{ErrorReport, Field};
    use pgherd_wire::sqlstate;

    use super::{MOST, Map, reworded, spoken};

    const ONE: Lines = Lines { usual: 1, first: 1 };

    #[test]
    fn a_line_of_a_part_is_one_of_the_whole() {
        let mut map = Map::default();
        map.row(1, ONE);
        map.row(4, ONE);
        // Of three lines, of which the first that a server reads seems to have one.
        map.row(300, Lines { usual: 3, first: 1 });
        let told: Vec<_> = (1..=7).map(|line| map.of(line, 310)).collect();
        let expected = [1, 4, 298, 299, 300, 311, 312].map(Some);
        assert_eq!(told, expected);
    }

    #[test]
    fn what_is_long_ago_is_forgotten() {
        let mut map = Map::default();
        let count = MOST as u64 + 10;
        for row in 1..=count {
            map.row(2 * row, ONE);
        }
        assert_eq!(map.of(10, 0), None);
        assert_eq!(map.of(11, 0), Some(22));
        assert_eq!(map.of(count, 0), Some(2 * count));
    }

    #[test]
    fn an_error_speaks_of_another_line() {
        let said = |context: &str| {
            let mut report = ErrorReport::error(sqlstate::SYNTAX_ERROR, "no");
            let field = (Field::Where, context.to_owned());
            report.others.push(field);
            let mut out = BytesMut::new();
            report.encode_error(&mut out);
            out.to_vec()
        };
        let message = said("JSON data, line 1: {x\nCOPY t, line 12, column j: \"{x\"");
        assert_eq!(spoken(&message, "t"), Some(12));
        let other = said("JSON data, line 1: {x\nCOPY t, line 7, column j: \"{x\"");
        assert_eq!(*reworded(&message, "t", Some(7), "s"), other);
        let unknown = said(
            "JSON data, line 1: {x\nCOPY t, line 12, column j: \"{x\"\nThe line is counted among those of shard \"s\".",
        );
        assert_eq!(*reworded(&message, "t", None, "s"), unknown);
        assert_eq!(spoken(&said("SQL statement \"x\""), "t"), None);
        assert_eq!(*reworded(&message, "u", Some(7), "s"), message);
    }
}
