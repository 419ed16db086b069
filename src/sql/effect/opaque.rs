use super::{Pin, PinSet};
use crate::body::{Defines, body, inside};
use crate::lexer::{Token, TokenKind};
use crate::word::{Word, word};

/// What the text of a `DO` block may do: each word counts wherever it stands, in strings and comments too.
pub(super) fn opaque(body: &Token<'_>) -> PinSet {
    let text = body.text;
    let hidden = match body.kind {
        TokenKind::EscapeString => text.contains(&b'\\'),
        TokenKind::UnicodeString => true,
        _ => false,
    };
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
    let hidden = match block.kind {
        TokenKind::EscapeString => block.text.contains(&b'\\'),
        TokenKind::UnicodeString => true,
        _ => false,
    };
    let text = inside(block);
    text.is_none_or(|text| {
        let found = body(&text);
        hidden || found.defines != Defines::Nothing || !found.calls.is_empty()
    })
}

fn reason(word: Word) -> Option<Pin> {
    Some(match word {
        Word::Set | Word::Reset => Pin::Set,
        Word::SetConfig => Pin::SetConfig,
        Word::Temp | Word::PgTemp => Pin::TempTable,
        Word::Hold => Pin::HoldCursor,
        Word::AdvisoryLock => Pin::AdvisoryLock,
        Word::Load => Pin::Load,
        Word::Setseed => Pin::Setseed,
        Word::Listen => Pin::Listen,
        Word::Prepare | Word::Deallocate => Pin::Prepare,
        Word::Execute | Word::Discard | Word::Bound => Pin::Unknown,
        _ => return None,
    })
}
