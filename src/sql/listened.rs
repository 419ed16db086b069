//! Which statements of a text listen, and to what.

use std::ops::Range;

use crate::lexer::{Depth, LexOptions, Lexer};
use crate::parse::{self, Channel};

/// A `LISTEN` or an `UNLISTEN` in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listened {
    /// Which statement of the text it is, counted from 0; empty ones do not count, as no server answers them.
    pub number: usize,
    /// Where it stands, from its first token to its last.
    pub at: Range<usize>,
    /// What it is about.
    pub channel: Channel,
}

/// Of more statements that listen it is not told what they are about: each takes the server's own grammar.
const FOUND_MAX: usize = 1024;

/// Where a statement begins, and its end up to now.
struct Begun {
    at: Range<usize>,
    listens: bool,
}

/// How many statements there are in `text`, and those of them that listen, in their order. `None` if the text
/// cannot be followed, or the channel of one of them not be told, or there are too many of them.
pub fn listened(text: &[u8], options: LexOptions) -> Option<(usize, Vec<Listened>)> {
    let mut lexer = Lexer::new(text, options);
    let mut depth = Depth::default();
    let mut begun: Option<Begun> = None;
    let (mut statements, mut found) = (0, Vec::new());
    while let Some(token) = lexer.token().ok()? {
        if depth.step(&token) {
            close(text, begun.take(), &mut statements, &mut found)?;
            continue;
        }
        let statement = begun.get_or_insert_with(|| Begun {
            at: token.start..token.start,
            listens: token.is_word(b"listen") || token.is_word(b"unlisten"),
        });
        statement.at.end = token.start + token.text.len();
    }
    close(text, begun, &mut statements, &mut found)?;
    Some((statements, found))
}

fn close(
    text: &[u8],
    statement: Option<Begun>,
    statements: &mut usize,
    found: &mut Vec<Listened>,
) -> Option<()> {
    let Some(Begun { at, listens }) = statement else {
        return Some(());
    };
    if listens {
        if found.len() == FOUND_MAX {
            return None;
        }
        let channel = parse::channel(text.get(at.clone())?)?;
        let number = *statements;
        found.push(Listened {
            number,
            at,
            channel,
        });
    }
    *statements += 1;
    Some(())
}

#[cfg(test)]
mod tests {
    use super::{FOUND_MAX, listened};
    use crate::lexer::LexOptions;
    use crate::parse::Channel;

    fn read(text: &str) -> String {
        let Some((statements, found)) = listened(text.as_bytes(), LexOptions::default()) else {
            return "?".to_owned();
        };
        let words = found.iter().map(|one| {
            let channel = match &one.channel {
                Channel::Listen(name) => format!("+{name}"),
                Channel::Unlisten(name) => format!("-{name}"),
                Channel::UnlistenAll => "-*".to_owned(),
            };
            format!("{}{channel}={}", one.number, &text[one.at.clone()])
        });
        let words: Vec<_> = words.collect();
        format!("{statements}: {}", words.join(", "))
    }

    #[test]
    fn each_is_told_with_its_place() {
        for (text, told) in [
            ("listen a; select 1", "2: 0+a=listen a"),
            (
                ";; begin; /* x */ LISTEN \"A;b\" ; commit;",
                "3: 1+A;b=LISTEN \"A;b\"",
            ),
            (
                "unlisten *; listen B; unlisten b",
                "3: 0-*=unlisten *, 1+b=listen B, 2-b=unlisten b",
            ),
            ("select 'listen a'; notify listen", "2: "),
            (
                "create rule r as on insert to t do (listen; notify a)",
                "1: ",
            ),
            ("", "0: "),
            ("listen a b; select 1", "?"),
            ("listen a; select 'x", "?"),
        ] {
            assert_eq!(read(text), told, "{text}");
        }
        let long = format!("listen {}; select 1", "x".repeat(63));
        assert_eq!(read(&long), "?");
        assert!(read(&"listen a;".repeat(FOUND_MAX)).starts_with("1024: "));
        assert_eq!(read(&"listen a;".repeat(FOUND_MAX + 1)), "?");
    }
}
