use super::{Pin, PinSet};
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
