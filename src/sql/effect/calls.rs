//! Which functions a text calls, as far as its tokens tell.

use super::known::{Harmless, harmless};
use crate::lexer::{Token, TokenKind};

/// What stands before a parenthesis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call<'a> {
    /// `nextval`, `setval`: it gives the session a value of a sequence.
    UsesSequence,
    /// `lastval`, `currval`: it asks for the value that the session has.
    AsksSequence,
    /// It touches no session, but is marked as volatile.
    Volatile,
    /// A function of which nothing is known, by its last name. None if it cannot be named in one word.
    Unknown(Option<&'a [u8]>),
}

/// Follows the names of one statement.
#[derive(Debug, Default)]
pub(crate) struct Calls<'a> {
    chain: Option<Chain<'a>>,
    before: Before,
    /// With `DISTINCT ON (…) f(…)` a name behind a parenthesis may be a function's.
    distinct: bool,
}

/// Names with dots between them.
#[derive(Debug, Clone, Copy)]
struct Chain<'a> {
    last: &'a [u8],
    kind: TokenKind,
    qualifier: Qualifier,
    /// A dot stood last, so that another name may follow.
    open: bool,
    /// By what stands before it, this is the name of a table, a type or columns.
    listed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Qualifier {
    None,
    Catalog,
    Other,
}

/// The last token that is no part of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Before {
    #[default]
    Other,
    Colon,
    /// `::`, behind which comes a type.
    Cast,
    /// `)`, behind which comes an alias.
    Closed,
}

impl<'a> Calls<'a> {
    /// Takes the next token; tells of the call that opens with it, unless it does nothing.
    #[inline]
    pub(crate) fn step(&mut self, token: &Token<'a>) -> Option<Call<'a>> {
        match token.kind {
            TokenKind::Word | TokenKind::QuotedWord | TokenKind::UnicodeWord => {
                self.name(token);
                None
            }
            TokenKind::Punct(b'.') => {
                match &mut self.chain {
                    Some(chain) => chain.open = true,
                    None => self.before = Before::Other,
                }
                None
            }
            TokenKind::Punct(b'(') => {
                self.before = Before::Other;
                self.chain.take().and_then(|chain| chain.call())
            }
            kind => {
                self.chain = None;
                self.before = match (kind, self.before) {
                    (TokenKind::Punct(b':'), Before::Colon) => Before::Cast,
                    (TokenKind::Punct(b':'), _) => Before::Colon,
                    (TokenKind::Punct(b')'), _) if !self.distinct => Before::Closed,
                    _ => Before::Other,
                };
                None
            }
        }
    }

    fn name(&mut self, token: &Token<'a>) {
        match &mut self.chain {
            Some(chain) if chain.open => {
                let catalog = chain.qualifier == Qualifier::None
                    && match chain.kind {
                        TokenKind::Word => chain.last.eq_ignore_ascii_case(b"pg_catalog"),
                        _ => chain.last == b"\"pg_catalog\"",
                    };
                chain.qualifier = if catalog {
                    Qualifier::Catalog
                } else {
                    Qualifier::Other
                };
                (chain.last, chain.kind, chain.open) = (token.text, token.kind, false);
            }
            other => {
                let listed = match other {
                    Some(before) => before.lists(),
                    None => !matches!(self.before, Before::Other | Before::Colon),
                };
                *other = Some(Chain {
                    last: token.text,
                    kind: token.kind,
                    qualifier: Qualifier::None,
                    open: false,
                    listed,
                });
                self.distinct |= token.is_word(b"distinct");
            }
        }
    }
}

impl<'a> Chain<'a> {
    /// Whether a name behind this word has columns, and no arguments, behind it.
    fn lists(&self) -> bool {
        const LISTS: [&[u8]; 8] = [
            // `CREATE TABLE t (…)`, `CREATE TABLE IF NOT EXISTS t (…)`.
            b"table",
            b"exists",
            b"into",
            b"as",
            b"with",
            b"recursive",
            b"ordinality",
            b"copy",
        ];
        self.kind == TokenKind::Word
            && self.qualifier == Qualifier::None
            && LISTS
                .iter()
                .any(|word| self.last.eq_ignore_ascii_case(word))
    }

    fn call(&self) -> Option<Call<'a>> {
        if self.listed || self.open {
            return None;
        }
        let (name, bare) = match self.kind {
            TokenKind::Word => (self.last, true),
            TokenKind::QuotedWord => (&self.last[1..self.last.len() - 1], false),
            _ => return Some(Call::Unknown(None)),
        };
        if self.qualifier != Qualifier::Other
            && let Some(known) = harmless(name, bare)
        {
            return (known == Harmless::Volatile).then_some(Call::Volatile);
        }
        let is = |known: &[u8]| name == known || bare && name.eq_ignore_ascii_case(known);
        if self.qualifier != Qualifier::Other {
            if is(b"nextval") || is(b"setval") {
                return Some(Call::UsesSequence);
            }
            if is(b"lastval") || is(b"currval") {
                return Some(Call::AsksSequence);
            }
        }
        // Only names that are the same in lower case are looked up by others.
        let plain = bare || !name.iter().any(|byte| matches!(byte, b'"' | b'A'..=b'Z'));
        Some(Call::Unknown(plain.then_some(name)))
    }
}
