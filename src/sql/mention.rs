//! Where the statements of a text name prepared statements.

use std::borrow::Cow;
use std::ops::Range;

use crate::identifier::{Identifier, identifier};
use crate::lexer::{Depth, LexError, LexOptions, Lexer, Token, TokenKind};

/// No more names of one text are told.
const FOUND_MAX: usize = 65_536;

/// What a statement does with the name of a prepared statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// `PREPARE`.
    Prepare {
        /// Where the query begins that is prepared.
        query: usize,
    },
    /// `EXECUTE`.
    Execute,
    /// `EXECUTE` as a part of another statement: `EXPLAIN EXECUTE`, `CREATE TABLE … AS EXECUTE`.
    Within,
    /// `DEALLOCATE`.
    Deallocate,
}

/// One name in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mention<'a> {
    /// What is done with it.
    pub deed: Deed,
    /// The name as Postgres understands it; `None` if that cannot be told.
    pub name: Option<Cow<'a, [u8]>>,
    /// Postgres refuses it.
    pub refused: bool,
    /// Postgres remarks that it is too long.
    pub cut: bool,
    /// Where it stands.
    pub at: Range<usize>,
    /// Offset of the first token of its statement.
    pub start: usize,
    /// Offset behind the last token of its statement.
    pub end: usize,
}

/// All names in a text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mentions<'a> {
    /// How many statements there are.
    pub statements: usize,
    /// The names, in their order.
    pub found: Vec<Mention<'a>>,
    /// One is written as `U&"…"` and cannot be told, so that it may be any.
    pub escaped: bool,
    /// There are more of them.
    pub crowded: bool,
    /// There is a `DO`, in which anything may be named.
    pub hidden: bool,
}

impl Mentions<'_> {
    /// Whether a name comes or goes: `PREPARE`, `DEALLOCATE`.
    pub fn changes(&self) -> bool {
        let changes =
            |mention: &Mention<'_>| matches!(mention.deed, Deed::Prepare { .. } | Deed::Deallocate);
        self.found.iter().any(changes)
    }

    /// Whether each name that comes or goes can be told.
    pub fn are_clear(&self) -> bool {
        let told = |mention: &Mention<'_>| {
            mention.name.is_some()
                || mention.refused
                || matches!(mention.deed, Deed::Execute | Deed::Within)
        };
        !self.hidden && !self.escaped && !self.crowded && self.found.iter().all(told)
    }

    /// What is done with the only name in the only statement of the text.
    pub fn only(&self) -> Option<&Mention<'_>> {
        match &*self.found {
            [mention] if self.statements == 1 && !self.hidden => Some(mention),
            _ => None,
        }
    }
}

/// Reads where the statements of `text` name prepared statements.
///
/// # Errors
/// When the text cannot be followed to its end.
pub fn mentions(text: &[u8], options: LexOptions) -> Result<Mentions<'_>, LexError> {
    let mut lexer = Lexer::new(text, options);
    let mut all = Mentions::default();
    let mut statement = Statement::default();
    let mut depth = Depth::default();
    while let Some(token) = lexer.token()? {
        if depth.step(&token) {
            std::mem::take(&mut statement).close(&mut all);
        } else {
            statement.step(&token, depth.parens, &mut lexer, &mut all);
        }
    }
    statement.close(&mut all);
    Ok(all)
}

/// What is expected next in a statement.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Its first word.
    #[default]
    First,
    /// A name, for this.
    Name(Deed),
    /// The name, or the word PREPARE in front of it.
    Deallocated,
    /// What follows `DEALLOCATE PREPARE`: the name, or nothing if that was it.
    DeallocatedBehind,
    /// The AS behind the name that is prepared.
    Prepared,
    /// The first token of the query that is prepared.
    Query,
    /// What is explained.
    Explained,
    /// TABLE, somewhere behind CREATE.
    Created,
    /// AS, behind CREATE TABLE.
    Table,
    /// EXECUTE, directly behind that.
    As,
    /// Nothing that matters.
    Over,
}

/// A statement up to where it was read.
#[derive(Default)]
struct Statement<'a> {
    state: State,
    begun: bool,
    start: usize,
    end: usize,
    /// The word PREPARE behind DEALLOCATE, which may be a name.
    word: Option<Token<'a>>,
    /// How many names were found before it.
    before: usize,
}

impl<'a> Statement<'a> {
    fn step(
        &mut self,
        token: &Token<'a>,
        parens: usize,
        behind: &mut Lexer<'a>,
        all: &mut Mentions<'a>,
    ) {
        if !self.begun {
            self.begun = true;
            self.start = token.start;
            self.before = all.found.len();
            all.statements += 1;
            all.hidden |= token.is_word(b"do");
        }
        self.end = token.start + token.text.len();
        self.state = self.next(token, parens, behind, all);
        if let Some(last) = all.found.get(self.before..).and_then(<[_]>::last) {
            self.end = self.end.max(last.at.end);
        }
    }

    fn next(
        &mut self,
        token: &Token<'a>,
        parens: usize,
        behind: &mut Lexer<'a>,
        all: &mut Mentions<'a>,
    ) -> State {
        match self.state {
            State::First => first(token),
            State::Name(deed) => named(token, deed, behind, all),
            State::Deallocated if token.is_word(b"prepare") => {
                self.word = Some(*token);
                State::DeallocatedBehind
            }
            State::Deallocated | State::DeallocatedBehind => {
                self.word = None;
                if token.is_word(b"all") {
                    return State::Over;
                }
                named(token, Deed::Deallocate, behind, all)
            }
            State::Prepared if parens == 0 && token.is_word(b"as") => State::Query,
            // PREPARE TRANSACTION names no statement.
            State::Prepared if parens == 0 && token.is_string() => {
                all.found.truncate(self.before);
                State::Over
            }
            State::Query => {
                if let Some(mention) = all.found.last_mut() {
                    mention.deed = Deed::Prepare { query: token.start };
                }
                State::Over
            }
            State::Explained if parens > 0 || token.is(b')') => State::Explained,
            State::Explained if token.is_word(b"analyze") || token.is_word(b"analyse") => {
                State::Explained
            }
            State::Explained if token.is_word(b"verbose") => State::Explained,
            State::Explained if token.is_word(b"execute") => State::Name(Deed::Within),
            State::Explained if token.is_word(b"create") => State::Created,
            State::Explained => State::Over,
            State::Created if token.is_word(b"table") => State::Table,
            State::Created if is_one_of(token, &[b"temp", b"temporary", b"unlogged"]) => {
                State::Created
            }
            State::Created if is_one_of(token, &[b"global", b"local"]) => State::Created,
            State::Created => State::Over,
            State::Table if parens == 0 && token.is_word(b"as") => State::As,
            State::As if token.is_word(b"execute") => State::Name(Deed::Within),
            State::As => State::Over,
            state @ (State::Prepared | State::Table | State::Over) => state,
        }
    }

    fn close(mut self, all: &mut Mentions<'a>) {
        if let Some(word) = self.word.take() {
            // It is a bare word, to which nothing else belongs.
            let nothing = &mut Lexer::new(b"", LexOptions::default());
            named(&word, Deed::Deallocate, nothing, all);
        }
        if self.begun {
            for mention in &mut all.found[self.before..] {
                mention.start = self.start;
                mention.end = self.end;
            }
        }
    }
}

fn first(token: &Token<'_>) -> State {
    if token.is_word(b"execute") {
        State::Name(Deed::Execute)
    } else if token.is_word(b"prepare") {
        State::Name(Deed::Prepare { query: 0 })
    } else if token.is_word(b"deallocate") {
        State::Deallocated
    } else if token.is_word(b"explain") {
        State::Explained
    } else if token.is_word(b"create") {
        State::Created
    } else {
        State::Over
    }
}

fn named<'a>(
    token: &Token<'a>,
    deed: Deed,
    behind: &mut Lexer<'a>,
    all: &mut Mentions<'a>,
) -> State {
    if !matches!(
        token.kind,
        TokenKind::Word | TokenKind::QuotedWord | TokenKind::UnicodeWord
    ) {
        return State::Over;
    }
    if all.found.len() == FOUND_MAX {
        all.crowded = true;
        return State::Over;
    }
    let names = behind.names();
    let Identifier {
        name,
        refused,
        cut,
        end,
    } = identifier(token, behind, names);
    all.escaped |= token.kind == TokenKind::UnicodeWord && name.is_none() && !refused;
    all.found.push(Mention {
        deed,
        name,
        refused,
        cut,
        at: token.start..end,
        start: 0,
        end: 0,
    });
    match deed {
        Deed::Prepare { .. } => State::Prepared,
        Deed::Execute | Deed::Within | Deed::Deallocate => State::Over,
    }
}

fn is_one_of(token: &Token<'_>, words: &[&[u8]]) -> bool {
    words.iter().any(|word| token.is_word(word))
}

#[cfg(test)]
mod tests {
    use super::{Deed, FOUND_MAX, mentions};
    use crate::lexer::LexOptions;

    /// Each name with what is done with it, and what is prepared.
    fn read(text: &str) -> String {
        let all = mentions(text.as_bytes(), LexOptions::default()).expect("it can be read");
        let mut words = Vec::new();
        for mention in &all.found {
            let name = mention.name.as_deref();
            let name = name.map_or_else(|| "?".into(), String::from_utf8_lossy);
            let at = &text[mention.at.clone()];
            assert!(at.starts_with(['"', 'u', 'U']) || at.eq_ignore_ascii_case(&name));
            words.push(match mention.deed {
                Deed::Prepare { query } => format!("+{name}={}", &text[query..mention.end]),
                Deed::Execute => format!("!{name}"),
                Deed::Within => format!("~{name}"),
                Deed::Deallocate => format!("-{name}"),
            });
        }
        if !all.are_clear() {
            words.push("unclear".into());
        }
        words.join(" ")
    }

    #[test]
    fn names_beyond_counting_are_not_kept() {
        let text = "execute s;".repeat(FOUND_MAX);
        let all = mentions(text.as_bytes(), LexOptions::default()).expect("it can be read");
        assert!(!all.crowded && all.are_clear());
        let text = text + "prepare s as select 1; execute s";
        let all = mentions(text.as_bytes(), LexOptions::default()).expect("it can be read");
        assert_eq!((all.found.len(), all.crowded), (FOUND_MAX, true));
        assert_eq!(all.found.last().map(|last| last.deed), Some(Deed::Execute));
        assert!(!all.are_clear());
    }

    #[test]
    fn names_are_found_where_statements_have_them() {
        for (text, expected) in [
            ("execute S1", "!s1"),
            ("EXECUTE s (1, 'a;b') ;", "!s"),
            ("/* x */ execute\"S\";", "!S"),
            ("execute \"a\"\"b\"\"\"", "!a\"b\""),
            ("deallocate s", "-s"),
            ("deallocate prepare s;", "-s"),
            ("deallocate prepare", "-prepare"),
            ("deallocate prepare; select 1", "-prepare"),
            ("deallocate all", ""),
            ("deallocate prepare all", ""),
            ("deallocate \"all\"", "-all"),
            (
                "prepare s(int, numeric(4, 2)) as select $1;",
                "+s=select $1",
            ),
            ("prepare \"as\"as(select 1) -- x", "+as=(select 1)"),
            ("prepare transaction 's'", ""),
            ("prepare transaction as select 1", "+transaction=select 1"),
            ("prepare s as select 1; execute s", "+s=select 1 !s"),
            ("begin; execute a; execute b; commit", "!a !b"),
            ("explain execute s", "~s"),
            ("explain analyze verbose execute s(1)", "~s"),
            ("explain (analyze, format json) execute s", "~s"),
            ("explain select 1 as execute", ""),
            ("create table t as execute s", "~s"),
            (
                "create temp table if not exists t (a) on commit drop as execute s(1)",
                "~s",
            ),
            ("explain (costs off) create table t as execute s", "~s"),
            ("create table t as select 1 as execute", ""),
            (
                "create trigger t after insert on u execute function f()",
                "",
            ),
            ("create table execute (a int)", ""),
            ("execute 1", ""),
            ("execute \"\"", "!?"),
            ("execute u&\"\\0073\"", "!s"),
            ("execute u&\"!0073\" uescape '!' (1)", "!s"),
            ("prepare u&\"!0073\" uescape '!' as select 1", "+s=select 1"),
            ("deallocate u&\"s\" uescape '!'; execute t", "-s !t"),
            ("execute u&\"\\00e9\"", "!? unclear"),
            ("prepare u&\"\\00\" as select 1", "+?=select 1"),
            ("do $$ begin end $$; deallocate s", "-s unclear"),
            ("select 1", ""),
            ("", ""),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }
}
