use super::{LexError, LexOptions, Lexer, Token};

/// The statements of a text, split at `;` outside of parentheses and of `BEGIN ATOMIC … END`.
/// Each is the bytes from its first token to its last; empty ones are left out.
#[derive(Debug, Clone)]
pub struct Statements<'a> {
    text: &'a [u8],
    lexer: Lexer<'a>,
}

/// How deep a token lies in its statement.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Depth {
    /// Open parentheses.
    pub(crate) parens: usize,
    /// Open `BEGIN ATOMIC` and, inside of it, `CASE`.
    pub(crate) atomic: usize,
    before: Before,
}

/// The word before, where it changes what the next one means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Before {
    #[default]
    Other,
    Begin,
    /// Behind AS even a reserved word is only a label.
    As,
}

impl Depth {
    /// Takes the next token into account; true if it is the end of the statement.
    #[inline]
    pub(crate) fn step(&mut self, token: &Token<'_>) -> bool {
        match token.kind {
            super::TokenKind::Punct(b'(') => self.parens += 1,
            super::TokenKind::Punct(b')') => self.parens = self.parens.saturating_sub(1),
            super::TokenKind::Punct(b';') => return self.parens == 0 && self.atomic == 0,
            super::TokenKind::Word => return self.word(token),
            _ => {}
        }
        self.before = Before::Other;
        false
    }

    #[inline]
    fn word(&mut self, token: &Token<'_>) -> bool {
        let before = std::mem::take(&mut self.before);
        match token.text.len() {
            _ if before == Before::As => {}
            2 if token.is_word(b"as") => self.before = Before::As,
            3 if self.atomic > 0 && token.is_word(b"end") => self.atomic -= 1,
            4 if self.atomic > 0 && token.is_word(b"case") => self.atomic += 1,
            5 if token.is_word(b"begin") => self.before = Before::Begin,
            6 if before == Before::Begin && token.is_word(b"atomic") => self.atomic += 1,
            _ => {}
        }
        false
    }
}

impl<'a> Statements<'a> {
    /// Splits `text`.
    pub fn new(text: &'a [u8], options: LexOptions) -> Self {
        Self {
            text,
            lexer: Lexer::new(text, options),
        }
    }
}

impl<'a> Iterator for Statements<'a> {
    type Item = Result<&'a [u8], LexError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut depth = Depth::default();
        let mut span: Option<(usize, usize)> = None;
        loop {
            match self.lexer.token() {
                Err(error) => return Some(Err(error)),
                Ok(None) => break,
                Ok(Some(token)) => {
                    if depth.step(&token) {
                        if span.is_some() {
                            break;
                        }
                        continue;
                    }
                    let start = span.map_or(token.start, |(start, _)| start);
                    span = Some((start, self.lexer.position()));
                }
            }
        }
        span.map(|(start, end)| Ok(&self.text[start..end]))
    }
}
