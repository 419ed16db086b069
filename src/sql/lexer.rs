//! A tokenizer of PostgreSQL SQL over bytes that allocates nothing.
//!
//! It follows `src/backend/parser/scan.l`. Where versions differ (numbers with letters behind them, vertical
//! tabs) it takes the older reading, because the newer servers refuse such texts.

mod split;
#[cfg(test)]
mod tests;

pub(crate) use split::Depth;
pub use split::Statements;

/// What the bytes of the client's encoding may be taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Encoding {
    /// A byte below 0x80 is always that ASCII character: UTF-8, EUC, ISO 8859, Windows code pages.
    #[default]
    AsciiSafe,
    /// The second byte of a character may look like ASCII: SJIS, SHIFT_JIS_2004, BIG5, GBK, UHC, GB18030, JOHAB.
    /// A text that is not wholly ASCII is then refused with [`LexError::Encoding`].
    AsciiTrailing,
}

/// What is known of how the server keeps names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Names {
    /// Nothing, where they have characters beyond ASCII.
    #[default]
    Ascii,
    /// They are UTF-8 there and here.
    Utf8,
}

/// What the reading of a text depends on besides the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LexOptions {
    /// The session's `standard_conforming_strings`; off makes a backslash an escape in `'…'`.
    pub standard_conforming_strings: bool,
    /// The session's `client_encoding`.
    pub encoding: Encoding,
    /// What is known of names.
    pub names: Names,
}

impl Default for LexOptions {
    fn default() -> Self {
        Self {
            standard_conforming_strings: true,
            encoding: Encoding::AsciiSafe,
            names: Names::Ascii,
        }
    }
}

/// Why a text cannot be followed. The server refuses all of them but `Encoding`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LexError {
    /// A `/*` without its `*/`.
    #[error("unterminated comment at byte {0}")]
    Comment(usize),
    /// A string without its end, of any kind of quoting.
    #[error("unterminated quoted string at byte {0}")]
    Quote(usize),
    /// A zero byte, which no text in the protocol can hold.
    #[error("zero byte at byte {0}")]
    Zero(usize),
    /// A character of an encoding whose trailing bytes may be ASCII.
    #[error("text in an encoding that cannot be read byte by byte")]
    Encoding,
}

/// The kinds of tokens. Comments and white space are skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// A bare identifier or keyword, as written.
    Word,
    /// `"…"`, with the quotes.
    QuotedWord,
    /// `U&"…"`, with the quotes.
    UnicodeWord,
    /// `'…'` in which a backslash has no meaning.
    String,
    /// `E'…'`, or `'…'` when `standard_conforming_strings` is off.
    EscapeString,
    /// `U&'…'`.
    UnicodeString,
    /// `B'…'` or `X'…'`.
    BitString,
    /// `$tag$…$tag$`.
    DollarString,
    /// A number.
    Number,
    /// `$1`.
    Param,
    /// A run of operator characters.
    Operator,
    /// Any other single character: `( ) [ ] , ; : .` and what the grammar has no use for.
    Punct(u8),
}

/// One token and where it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token<'a> {
    /// What it is.
    pub kind: TokenKind,
    /// Its bytes, quotes included.
    pub text: &'a [u8],
    /// Offset of its first byte in the text.
    pub start: usize,
}

impl Token<'_> {
    /// Whether this is the character `punct`.
    #[inline]
    pub fn is(&self, punct: u8) -> bool {
        self.kind == TokenKind::Punct(punct)
    }

    /// Whether this is the bare word `word`, in any case.
    #[inline]
    pub fn is_word(&self, word: &[u8]) -> bool {
        self.kind == TokenKind::Word && self.text.eq_ignore_ascii_case(word)
    }

    /// Whether this is a string constant of any kind of quoting.
    pub fn is_string(&self) -> bool {
        matches!(
            self.kind,
            TokenKind::String
                | TokenKind::EscapeString
                | TokenKind::UnicodeString
                | TokenKind::DollarString
        )
    }
}

/// The tokens of a text. After an error it yields nothing more.
#[derive(Debug, Clone, Copy)]
pub struct Lexer<'a> {
    text: &'a [u8],
    pos: usize,
    options: LexOptions,
}

/// The first three go on with a word, so that one comparison tells them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Letter,
    Digit,
    Dollar,
    Space,
    Operator,
    Quote,
    DoubleQuote,
    Zero,
    Other,
}

const CLASSES: [Class; 256] = classes();

const fn classes() -> [Class; 256] {
    let mut table = [Class::Other; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = match byte as u8 {
            b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => Class::Space,
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80..=0xff => Class::Letter,
            b'0'..=b'9' => Class::Digit,
            b'~' | b'!' | b'@' | b'#' | b'^' | b'&' | b'|' | b'`' | b'?' | b'+' | b'-' | b'*'
            | b'/' | b'%' | b'<' | b'>' | b'=' => Class::Operator,
            b'\'' => Class::Quote,
            b'"' => Class::DoubleQuote,
            b'$' => Class::Dollar,
            0 => Class::Zero,
            _ => Class::Other,
        };
        byte += 1;
    }
    table
}

#[inline]
fn class(byte: u8) -> Class {
    CLASSES[usize::from(byte)]
}

impl<'a> Lexer<'a> {
    /// Reads `text` from its start.
    pub fn new(text: &'a [u8], options: LexOptions) -> Self {
        Self {
            text,
            pos: 0,
            options,
        }
    }

    /// What is known of names.
    pub(crate) fn names(&self) -> Names {
        self.options.names
    }

    /// Offset of the next unread byte.
    pub fn position(&self) -> usize {
        self.pos
    }

    #[inline]
    fn peek(&self, ahead: usize) -> u8 {
        self.text.get(self.pos + ahead).copied().unwrap_or(0)
    }

    /// The next token, or None at the end.
    ///
    /// # Errors
    /// When the rest of the text cannot be followed; the lexer is then at its end.
    #[inline]
    pub fn token(&mut self) -> Result<Option<Token<'a>>, LexError> {
        let found = self.scan();
        if found.is_err() {
            self.pos = self.text.len();
        }
        found
    }

    /// The next token without taking it.
    ///
    /// # Errors
    /// As [`Self::token`].
    pub fn peek_token(&self) -> Result<Option<Token<'a>>, LexError> {
        let mut ahead = *self;
        ahead.token()
    }

    #[inline(always)]
    fn scan(&mut self) -> Result<Option<Token<'a>>, LexError> {
        if self.pos == 0
            && self.options.encoding == Encoding::AsciiTrailing
            && !self.text.is_ascii()
        {
            return Err(LexError::Encoding);
        }
        self.skip_blank()?;
        let start = self.pos;
        let Some(&first) = self.text.get(start) else {
            return Ok(None);
        };
        let kind = match class(first) {
            Class::Letter => self.word(first)?,
            Class::Digit => self.number(),
            Class::Operator => self.operator(),
            Class::Quote => self.plain_string()?,
            Class::DoubleQuote => {
                self.quoted(b'"')?;
                TokenKind::QuotedWord
            }
            Class::Dollar => self.dollar()?,
            Class::Zero => return Err(LexError::Zero(start)),
            Class::Other if first == b'.' && self.peek(1).is_ascii_digit() => self.number(),
            Class::Space | Class::Other => {
                self.pos += 1;
                TokenKind::Punct(first)
            }
        };
        Ok(Some(Token {
            kind,
            text: &self.text[start..self.pos],
            start,
        }))
    }

    #[inline]
    fn skip_blank(&mut self) -> Result<(), LexError> {
        while let Some(&byte) = self.text.get(self.pos) {
            match class(byte) {
                Class::Space => self.pos += 1,
                Class::Operator if byte == b'-' && self.peek(1) == b'-' => self.line_comment(),
                Class::Operator if byte == b'/' && self.peek(1) == b'*' => self.block_comment()?,
                _ => break,
            }
        }
        Ok(())
    }

    fn line_comment(&mut self) {
        let rest = &self.text[self.pos..];
        let length = rest.iter().position(|&b| matches!(b, b'\n' | b'\r'));
        self.pos += length.unwrap_or(rest.len());
    }

    fn block_comment(&mut self) -> Result<(), LexError> {
        let start = self.pos;
        let mut depth = 0usize;
        while self.pos < self.text.len() {
            match (self.peek(0), self.peek(1)) {
                (b'/', b'*') => {
                    depth += 1;
                    self.pos += 2;
                }
                (b'*', b'/') => {
                    depth -= 1;
                    self.pos += 2;
                    if depth == 0 {
                        return Ok(());
                    }
                }
                _ => self.pos += 1,
            }
        }
        Err(LexError::Comment(start))
    }

    #[inline]
    fn word(&mut self, first: u8) -> Result<TokenKind, LexError> {
        match (first | 0x20, self.peek(1), self.peek(2)) {
            (b'e', b'\'', _) => {
                self.pos += 1;
                self.string(true)?;
                return Ok(TokenKind::EscapeString);
            }
            (b'b' | b'x', b'\'', _) => {
                self.pos += 1;
                self.string(false)?;
                return Ok(TokenKind::BitString);
            }
            (b'u', b'&', b'\'') => {
                self.pos += 2;
                self.string(false)?;
                return Ok(TokenKind::UnicodeString);
            }
            (b'u', b'&', b'"') => {
                self.pos += 2;
                self.quoted(b'"')?;
                return Ok(TokenKind::UnicodeWord);
            }
            _ => {}
        }
        let rest = &self.text[self.pos..];
        let mut length = 1;
        while length < rest.len() && class(rest[length]) as u8 <= Class::Dollar as u8 {
            length += 1;
        }
        self.pos += length;
        Ok(TokenKind::Word)
    }

    #[inline]
    fn digits(&mut self) {
        while self.peek(0).is_ascii_digit() {
            self.pos += 1;
        }
    }

    #[inline]
    fn number(&mut self) -> TokenKind {
        self.digits();
        if self.peek(0) == b'.' && self.peek(1) != b'.' {
            self.pos += 1;
            self.digits();
        }
        if self.peek(0) | 0x20 == b'e' {
            let sign = usize::from(matches!(self.peek(1), b'+' | b'-'));
            if self.peek(1 + sign).is_ascii_digit() {
                self.pos += 1 + sign;
                self.digits();
            }
        }
        TokenKind::Number
    }

    #[inline]
    fn operator(&mut self) -> TokenKind {
        self.pos += 1;
        while class(self.peek(0)) == Class::Operator {
            // A comment ends the operator that it touches.
            if matches!((self.peek(0), self.peek(1)), (b'-', b'-') | (b'/', b'*')) {
                break;
            }
            self.pos += 1;
        }
        TokenKind::Operator
    }

    fn plain_string(&mut self) -> Result<TokenKind, LexError> {
        let escapes = !self.options.standard_conforming_strings;
        self.string(escapes)?;
        Ok(if escapes {
            TokenKind::EscapeString
        } else {
            TokenKind::String
        })
    }

    /// A string from its opening quote on, with the pieces that continue it on later lines.
    fn string(&mut self, escapes: bool) -> Result<(), LexError> {
        loop {
            if escapes {
                self.escaped()?;
            } else {
                self.quoted(b'\'')?;
            }
            let Some(next) = self.continuation() else {
                return Ok(());
            };
            self.pos = next;
        }
    }

    /// From an opening quote past the closing one; a doubled quote stands for itself.
    fn quoted(&mut self, quote: u8) -> Result<(), LexError> {
        let start = self.pos;
        self.pos += 1;
        loop {
            let rest = &self.text[self.pos..];
            let Some(length) = rest.iter().position(|&b| b == quote || b == 0) else {
                return Err(LexError::Quote(start));
            };
            if rest[length] == 0 {
                return Err(LexError::Zero(self.pos + length));
            }
            self.pos += length + 1;
            if self.peek(0) != quote {
                return Ok(());
            }
            self.pos += 1;
        }
    }

    fn escaped(&mut self) -> Result<(), LexError> {
        let start = self.pos;
        self.pos += 1;
        while let Some(&byte) = self.text.get(self.pos) {
            self.pos += 1;
            match byte {
                b'\\' => self.pos += 1,
                b'\'' if self.peek(0) == b'\'' => self.pos += 1,
                b'\'' => return Ok(()),
                0 => return Err(LexError::Zero(self.pos - 1)),
                _ => {}
            }
        }
        Err(LexError::Quote(start))
    }

    /// Where the next piece of a string opens, if only white space with a line's end lies between.
    fn continuation(&self) -> Option<usize> {
        let mut ahead = *self;
        let mut lines = false;
        loop {
            match ahead.peek(0) {
                b'\n' | b'\r' => {
                    lines = true;
                    ahead.pos += 1;
                }
                b' ' | b'\t' | 0x0b | 0x0c => ahead.pos += 1,
                b'-' if ahead.peek(1) == b'-' => ahead.line_comment(),
                b'\'' if lines => return Some(ahead.pos),
                _ => return None,
            }
        }
    }

    fn dollar(&mut self) -> Result<TokenKind, LexError> {
        let start = self.pos;
        self.pos += 1;
        if self.peek(0).is_ascii_digit() {
            self.digits();
            return Ok(TokenKind::Param);
        }
        let rest = &self.text[self.pos..];
        let tag = rest
            .iter()
            .position(|&b| !matches!(class(b), Class::Letter | Class::Digit))
            .unwrap_or(rest.len());
        if rest.get(tag) != Some(&b'$') {
            return Ok(TokenKind::Punct(b'$'));
        }
        let delimiter = &self.text[start..self.pos + tag + 1];
        self.pos += tag + 1;
        let Some(length) = find(&self.text[self.pos..], delimiter) else {
            return Err(LexError::Quote(start));
        };
        self.pos += length + delimiter.len();
        Ok(TokenKind::DollarString)
    }
}

/// Offset of `delimiter` (`$tag$`) in `text`. No proper part of it but the outer `$` can overlap with itself,
/// so the work is linear: each `$` is compared once, up to the next `$`.
fn find(text: &[u8], delimiter: &[u8]) -> Option<usize> {
    let mut from = 0;
    loop {
        let at = from + text[from..].iter().position(|&b| b == b'$')?;
        if text[at..].starts_with(delimiter) {
            return Some(at);
        }
        from = at + 1;
    }
}
