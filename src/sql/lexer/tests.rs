use proptest::prelude::*;

use super::{LexError, LexOptions, Lexer, Statements, TokenKind};

fn kinds(text: &str) -> Vec<(TokenKind, &str)> {
    let mut lexer = Lexer::new(text.as_bytes(), LexOptions::default());
    let mut found = Vec::new();
    while let Some(token) = lexer.token().unwrap() {
        let end = token.start + token.text.len();
        found.push((token.kind, &text[token.start..end]));
    }
    found
}

fn split(text: &str) -> Result<Vec<&str>, LexError> {
    Statements::new(text.as_bytes(), LexOptions::default())
        .map(|part| part.map(|part| std::str::from_utf8(part).unwrap()))
        .collect()
}

#[test]
fn tokens_are_those_of_postgres() {
    use TokenKind::{
        BitString, DollarString, EscapeString, Number, Operator, Param, Punct, QuotedWord, String,
        UnicodeString, UnicodeWord, Word,
    };
    for (text, expected) in [
        (
            "a$1 \"b\"\"c\" U&\"d\"",
            &[
                (Word, "a$1"),
                (QuotedWord, "\"b\"\"c\""),
                (UnicodeWord, "U&\"d\""),
            ][..],
        ),
        ("1.5e-3x", &[(Number, "1.5e-3"), (Word, "x")]),
        (
            ".5 1..2",
            &[
                (Number, ".5"),
                (Number, "1"),
                (Punct(b'.'), "."),
                (Number, ".2"),
            ],
        ),
        ("1e'\\''", &[(Number, "1"), (EscapeString, "e'\\''")]),
        ("'a'\n  'b' 'c'", &[(String, "'a'\n  'b'"), (String, "'c'")]),
        ("'a' -- x\n--y\n'b'", &[(String, "'a' -- x\n--y\n'b'")]),
        (
            "E'\\'' X'0' u&'e'",
            &[
                (EscapeString, "E'\\''"),
                (BitString, "X'0'"),
                (UnicodeString, "u&'e'"),
            ],
        ),
        (
            "$1 $$a$b$$ $",
            &[(Param, "$1"), (DollarString, "$$a$b$$"), (Punct(b'$'), "$")],
        ),
        ("$a$ $b$a$", &[(DollarString, "$a$ $b$a$")]),
        (
            "a+-/*x*/b<=c",
            &[
                (Word, "a"),
                (Operator, "+-"),
                (Word, "b"),
                (Operator, "<="),
                (Word, "c"),
            ],
        ),
        ("a--b", &[(Word, "a")]),
        ("é$x", &[(Word, "é$x")]),
    ] {
        assert_eq!(kinds(text), expected, "{text}");
    }
}

#[test]
fn errors_end_the_text() {
    for (text, error) in [
        (&b"a 'b"[..], LexError::Quote(2)),
        (b"E'a\\", LexError::Quote(1)),
        (b"/* /* */", LexError::Comment(0)),
        (b"$a$ $b$", LexError::Quote(0)),
        (b"a\0", LexError::Zero(1)),
        (b"'a\0'", LexError::Zero(2)),
    ] {
        let mut lexer = Lexer::new(text, LexOptions::default());
        let found = loop {
            match lexer.token() {
                Ok(Some(_)) => {}
                other => break other,
            }
        };
        assert_eq!(found, Err(error));
        assert_eq!(lexer.token(), Ok(None));
    }
}

/// Theirs gives up on parentheses that do not match, which no grammar accepts.
fn balanced(text: &str) -> bool {
    let mut lexer = Lexer::new(text.as_bytes(), LexOptions::default());
    let mut depth = 0usize;
    while let Ok(Some(token)) = lexer.token() {
        match token.kind {
            TokenKind::Punct(b'(') => depth += 1,
            TokenKind::Punct(b')') if depth == 0 => return false,
            TokenKind::Punct(b')') => depth -= 1,
            _ => {}
        }
    }
    depth == 0
}

/// Pieces that Postgres reads in ways of their own.
fn piece() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "select", "set", "begin", "a", "1", "1.5e3", "$1", ";select ", ";select ", ";select ", " ",
        "\n", "'", "''", "'a;b'", "E'a\\';'", "\"a;b\"", "\"", "$$", "$a$", "$a$;$a$", "$$;$$",
        "--", "/*", "*/", "(", ")", ",", "+", "-", "*", "::", "u&'x'", "B'1'", "é", "x", ".", "[",
        "]", "=", "\\", "e", "U&", "\t", "/* ; */", "-- ;\n", "from t",
    ])
}

/// Theirs leaves out statements without a keyword.
fn keyword(tokens: &[(TokenKind, &str)]) -> bool {
    let words = ["select", "set", "begin", "from"];
    tokens
        .iter()
        .any(|(kind, text)| *kind == TokenKind::Word && words.contains(text))
}

proptest! {
    /// Wherever Postgres' scanner can read a text, it splits it into the same statements.
    #[test]
    fn splits_as_postgres_does(parts in prop::collection::vec(piece(), 0..24)) {
        let text = format!("select {}", parts.concat());
        if balanced(&text) && let Ok(expected) = pg_query::split_with_scanner(&text) {
            let got = split(&text).unwrap();
            // Theirs keep the comments around; only the tokens are compared.
            let expected: Vec<_> = expected.iter().map(|part| kinds(part)).filter(|k| !k.is_empty()).collect();
            let got: Vec<_> = got.iter().map(|part| kinds(part)).filter(|part| keyword(part)).collect();
            prop_assert_eq!(got, expected, "{}", text);
        }
    }

    /// What cannot be followed is refused by Postgres too.
    #[test]
    fn errors_are_errors_of_postgres(parts in prop::collection::vec(piece(), 0..24)) {
        let text = parts.concat();
        if split(&text).is_err() {
            prop_assert!(pg_query::scan(&text).is_err(), "{}", text);
        }
    }

    #[test]
    fn tokens_cover_arbitrary_bytes_in_order(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut lexer = Lexer::new(&bytes, LexOptions::default());
        let mut end = 0;
        while let Ok(Some(token)) = lexer.token() {
            prop_assert!(token.start >= end && !token.text.is_empty());
            end = token.start + token.text.len();
        }
    }
}
