use super::{Pin, PinSet};
use crate::body::{Defines, body, inside};
use crate::lexer::{Token, TokenKind};
use crate::word::{Word, word};

/// What the text of a `DO` block may do: each word counts wherever it stands, in strings and comments too.
pub(super) fn opaque(body: &Token<'_>) -> PinSet {
    let text = body.text;
    let hidden = is_hidden(body);
    let unicode = text
        .windows(2)
        .any(|pair| matches!(pair, [b'u' | b'U', b'&']));
    let mut pins = PinSet::EMPTY;
    if hidden || unicode {
        pins.insert(Pin::Unknown);
    }
    let letters = |byte: &u8| !byte.is_ascii_alphanumeric() && *byte != b'_' && *byte < 0x80;
    for part in text.split(letters) {
        if let Some(pin) = reason(word(part)) {
            pins.insert(pin);
        }
    }
    pins
}

/// Whether the text of a `DO` block may change what the database consists of: unless it surely does not.
pub(super) fn may_alter(block: &Token<'_>) -> bool {
    let text = inside(block);
    is_hidden(block)
        || text.is_none_or(|text| {
            let found = body(&text);
            found.defines != Defines::Nothing || !found.calls.is_empty()
        })
}

/// Whether the words of a literal need not stand in it as they are read: by escapes, or by parts on several lines, which
/// are read as one.
fn is_hidden(literal: &Token<'_>) -> bool {
    match literal.kind {
        TokenKind::EscapeString => literal.text.contains(&b'\\') || is_in_parts(literal.text),
        TokenKind::String => is_in_parts(literal.text),
        TokenKind::UnicodeString => true,
        _ => false,
    }
}

/// Whether there is a quote within a literal that is not doubled.
fn is_in_parts(literal: &[u8]) -> bool {
    let inner = literal.splitn(2, |byte| *byte == b'\'').nth(1);
    let inner = inner.and_then(|inner| inner.strip_suffix(b"'"));
    let mut rest = inner.unwrap_or_default();
    while let Some(at) = rest.iter().position(|byte| *byte == b'\'') {
        let Some(behind) = rest[at + 1..].strip_prefix(b"'") else {
            return true;
        };
        rest = behind;
    }
    false
}

fn reason(word: Word) -> Option<Pin> {
    Some(match word {
        Word::Set | Word::Reset => Pin::Set,
        Word::SetConfig => Pin::SetConfig,
        Word::Temp | Word::PgTemp => Pin::TempTable,
        Word::Hold => Pin::HoldCursor,
        Word::AdvisoryLock | Word::TryAdvisoryLock => Pin::AdvisoryLock,
        Word::Load => Pin::Load,
        Word::Setseed => Pin::Setseed,
        Word::Listen => Pin::Listen,
        Word::Prepare | Word::Deallocate => Pin::Prepare,
        Word::Execute | Word::Discard | Word::Bound => Pin::Unknown,
        _ => return None,
    })
}
