//! The quick answer for the texts that make most of the traffic: one reading or writing statement
//! that names no function.

use super::{Effects, Runs, SequenceEffect};
use crate::lexer::{Encoding, LexOptions};

/// What a byte outside of quotes means for the quick answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Nothing, whatever stands beside it.
    Plain,
    /// It is looked at together with its neighbours.
    Look,
    /// It takes the full reading.
    Full,
}

const KINDS: [Kind; 256] = kinds();

const fn kinds() -> [Kind; 256] {
    let mut table = [Kind::Full; 256];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = match byte as u8 {
            b'i' | b'I' | b'_' | b'-' | b'/' | b'$' | b'\'' | b'"' | b';' => Kind::Look,
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => Kind::Plain,
            b' ' | b'\t' | b'\n' | b'\r' => Kind::Plain,
            b'.' | b',' | b'=' | b'<' | b'>' | b'+' | b'*' | b'%' | b'|' | b'!' | b':' => {
                Kind::Plain
            }
            _ => Kind::Full,
        };
        byte += 1;
    }
    table
}

/// What `text` does, if it is one SELECT, INSERT, UPDATE or DELETE that calls nothing by name and makes
/// no table, so that nothing in it touches its session. None says nothing: the full reading decides.
///
/// Without a parenthesis nothing can be called; without a backslash the next quote ends a string,
/// however it was opened; without INTO a SELECT makes no temporary table.
#[inline]
pub(super) fn plain(text: &[u8], options: LexOptions) -> Option<Effects<'_>> {
    if !is_plain(text, options) {
        return None;
    }
    let (runs, sequence) = match text[0] {
        b's' | b'S' => (Runs::Reads, SequenceEffect::None),
        b'i' | b'I' => (Runs::Writes, SequenceEffect::Uses),
        _ => (Runs::Writes, SequenceEffect::None),
    };
    Some(Effects {
        statements: 1,
        runs,
        sequence,
        steady: runs == Runs::Reads,
        only_reads: runs == Runs::Reads,
        ..Effects::default()
    })
}

fn is_plain(text: &[u8], options: LexOptions) -> bool {
    if options.encoding != Encoding::AsciiSafe {
        return false;
    }
    let Some(mut at) = head(text) else {
        return false;
    };
    loop {
        let mut rest = text[at..].iter();
        let Some(length) = rest.position(|&byte| KINDS[usize::from(byte)] != Kind::Plain) else {
            return true;
        };
        at += length;
        if KINDS[usize::from(text[at])] == Kind::Full {
            return false;
        }
        match look(text, at) {
            Some(next) => at = next,
            None => return false,
        }
    }
}

/// Where to read on behind the first words; `None` if it is another statement.
#[inline]
fn head(text: &[u8]) -> Option<usize> {
    let (word, rest) = text.split_first_chunk::<6>()?;
    match &word.map(|byte| byte.to_ascii_lowercase()) {
        b"select" | b"update" | b"delete" => {
            matches!(rest.first()?, b' ' | b'\n' | b'\t' | b'\r').then_some(word.len())
        }
        b"insert" => {
            let into = b" into ";
            let begins = rest.get(..into.len())?.eq_ignore_ascii_case(into);
            begins.then_some(word.len() + into.len())
        }
        _ => None,
    }
}

/// Where to go on behind the byte at `at`; `None` if it takes the full reading.
#[inline]
fn look(text: &[u8], at: usize) -> Option<usize> {
    let next = text.get(at + 1).copied().unwrap_or(0);
    let plain = match text[at] {
        b'i' | b'I' => {
            let behind = text.get(at + 1..at + 4).unwrap_or_default();
            !behind.eq_ignore_ascii_case(b"nto")
        }
        // The temporary schema, and the views of settings and of prepared statements.
        b'_' => {
            !(matches!(next | 0x20, b't' | b's' | b'p')
                && text[..at].last().is_some_and(|&b| b | 0x20 == b'g'))
        }
        b'-' => next != b'-',
        b'/' => next != b'*',
        // A parameter, and not the begin of a dollar quote.
        b'$' => next.is_ascii_digit(),
        b';' => text[at + 1..].iter().all(u8::is_ascii_whitespace),
        quote => return quoted(text, at, quote),
    };
    plain.then_some(at + 1)
}

/// Where the quoted part that opens at `at` has ended; a doubled quote reads as two parts. A
/// backslash may escape a quote, and a name may be the temporary schema's: both take the full reading.
#[inline]
fn quoted(text: &[u8], at: usize, quote: u8) -> Option<usize> {
    let mut end = at + 1;
    let head = text.get(end..end + 3).unwrap_or_default();
    if quote == b'"' && head.eq_ignore_ascii_case(b"pg_") {
        return None;
    }
    loop {
        match *text.get(end)? {
            byte if byte == quote => return Some(end + 1),
            0 | b'\\' | 0x80.. => return None,
            _ => end += 1,
        }
    }
}
