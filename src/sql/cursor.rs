//! Which cursor a text declares, reads or closes, by its words.

use std::borrow::Cow;

use crate::identifier::identifier;
use crate::lexer::{LexOptions, Lexer, TokenKind};

/// What a text does with a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CursorDeed {
    /// `DECLARE`.
    Declare {
        /// Offset of its query in the text.
        query: usize,
    },
    /// `FETCH`, `MOVE` or `CLOSE`.
    Use,
    /// `CLOSE ALL`.
    CloseAll,
}

/// A text about a cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor<'a> {
    /// What it does.
    pub deed: CursorDeed,
    /// The cursor's name, as Postgres keeps it; `None` if that cannot be told, or there is none.
    pub name: Option<Cow<'a, [u8]>>,
}

/// The cursor that a text is about; nothing if it is about none, or cannot be read. Of several statements it is about the
/// first.
pub fn cursor(text: &[u8], options: LexOptions) -> Option<Cursor<'_>> {
    let mut lexer = Lexer::new(text, options);
    let names = lexer.names();
    let mut first = lexer.token().ok()??;
    while first.is(b';') {
        first = lexer.token().ok()??;
    }
    if first.is_word(b"declare") {
        let token = lexer.token().ok()??;
        let name = identifier(&token, &mut lexer, names).name;
        // A name cannot be this word, and nothing else stands before the query.
        while !lexer.token().ok()??.is_word(b"for") {}
        let query = lexer.token().ok()??.start;
        let deed = CursorDeed::Declare { query };
        return Some(Cursor { deed, name });
    }
    let closes = first.is_word(b"close");
    if !closes && !first.is_word(b"fetch") && !first.is_word(b"move") {
        return None;
    }
    // The name stands last.
    let (mut last, mut escapes) = (None, false);
    while let Some(token) = lexer.token().ok()?.filter(|token| !token.is(b';')) {
        escapes |= token.kind == TokenKind::UnicodeWord;
        last = Some(token);
    }
    let last = last?;
    if closes && last.is_word(b"all") {
        let deed = CursorDeed::CloseAll;
        return Some(Cursor { deed, name: None });
    }
    let name = match escapes {
        true => None,
        false => identifier(&last, &mut lexer, names).name,
    };
    let deed = CursorDeed::Use;
    Some(Cursor { deed, name })
}

#[cfg(test)]
mod tests {
    use super::{CursorDeed, cursor};
    use crate::lexer::LexOptions;

    #[test]
    fn a_cursor_is_told_by_the_words_of_its_statement() {
        for (text, expected) in [
            ("fetch c", Some("c")),
            ("FETCH FORWARD 5 FROM \"My \"\"c\"\"\" ;", Some("My \"c\"")),
            ("move all in C -- x", Some("c")),
            ("; close c", Some("c")),
            ("close \"all\"", Some("all")),
            ("fetch U&\"c\" uescape '!'", None),
        ] {
            let found = cursor(text.as_bytes(), LexOptions::default()).unwrap();
            assert_eq!(found.deed, CursorDeed::Use, "{text}");
            let name = found.name.as_deref().map(str::from_utf8);
            assert_eq!(name, expected.map(Ok), "{text}");
        }
        let text = "declare \"A\" no scroll cursor without hold for /* for */ select 1";
        let found = cursor(text.as_bytes(), LexOptions::default()).unwrap();
        let query = text.len() - "select 1".len();
        assert_eq!(found.deed, CursorDeed::Declare { query });
        assert_eq!(found.name.as_deref(), Some(&b"A"[..]));
        let text = "declare U&\"d!0061t\" uescape '!' cursor for select 1";
        let found = cursor(text.as_bytes(), LexOptions::default()).unwrap();
        assert_eq!(found.name.as_deref(), Some(&b"dat"[..]));
        let found = cursor(b"close all", LexOptions::default()).unwrap();
        assert_eq!((found.deed, found.name), (CursorDeed::CloseAll, None));
        for text in ["select 1", "declare c cursor", "", "fetch"] {
            assert_eq!(cursor(text.as_bytes(), LexOptions::default()), None);
        }
    }
}
