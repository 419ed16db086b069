//! The plainest statements that open and end a transaction block.

use crate::lexer::{LexError, LexOptions, Lexer, Token};

/// A text that does nothing but open or end a block, in a way that no server would refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Block {
    /// `BEGIN`, with or without options.
    Begin,
    /// `START TRANSACTION`, with or without options.
    Start,
    /// `COMMIT` or `END`.
    Commit,
    /// `ROLLBACK` or `ABORT`.
    Rollback,
}

/// Reads a text as one of the statements of [`Block`]; `None` for every other text.
///
/// Options are those that hold on a primary and on a standby alike: `READ ONLY`, `NOT DEFERRABLE`, and the isolation
/// levels but `SERIALIZABLE`. A standby refuses the others (`xact.c`, `check_transaction_isolation`).
pub fn block(text: &[u8], options: LexOptions) -> Option<Block> {
    let mut rest = Words {
        lexer: Lexer::new(text, options),
        next: None,
    };
    rest.step().ok()?;
    let block = read(&mut rest).ok()??;
    rest.next.is_none().then_some(block)
}

struct Words<'a> {
    lexer: Lexer<'a>,
    next: Option<Token<'a>>,
}

impl Words<'_> {
    fn step(&mut self) -> Result<(), LexError> {
        self.next = self.lexer.token()?;
        Ok(())
    }

    /// Whether the next word is this one, which is then behind us.
    fn takes(&mut self, word: &[u8]) -> Result<bool, LexError> {
        let found = self.next.is_some_and(|token| token.is_word(word));
        if found {
            self.step()?;
        }
        Ok(found)
    }

    fn takes_one_of(&mut self, words: &[&[u8]]) -> Result<bool, LexError> {
        for word in words {
            if self.takes(word)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn read(rest: &mut Words<'_>) -> Result<Option<Block>, LexError> {
    let block = if rest.takes(b"begin")? {
        rest.takes_one_of(&[b"work", b"transaction"])?;
        Block::Begin
    } else if rest.takes(b"start")? {
        if !rest.takes(b"transaction")? {
            return Ok(None);
        }
        Block::Start
    } else {
        let block = if rest.takes_one_of(&[b"commit", b"end"])? {
            Block::Commit
        } else if rest.takes_one_of(&[b"rollback", b"abort"])? {
            Block::Rollback
        } else {
            return Ok(None);
        };
        rest.takes_one_of(&[b"work", b"transaction"])?;
        return ended(rest, block);
    };
    let mut first = true;
    loop {
        let comma = rest.next.is_some_and(|token| token.is(b','));
        if comma && !first {
            rest.step()?;
        }
        match mode(rest)? {
            Mode::Taken => first = false,
            // A comma wants another mode behind it.
            Mode::None if !comma => return ended(rest, block),
            Mode::None | Mode::Other => return Ok(None),
        }
    }
}

/// What stands where a transaction mode may.
enum Mode {
    /// Nothing that begins one.
    None,
    /// One that every server takes.
    Taken,
    /// Another one, or an error.
    Other,
}

fn mode(rest: &mut Words<'_>) -> Result<Mode, LexError> {
    let taken = if rest.takes(b"read")? {
        rest.takes(b"only")?
    } else if rest.takes(b"not")? {
        rest.takes(b"deferrable")?
    } else if rest.takes(b"isolation")? {
        rest.takes(b"level")? && level(rest)?
    } else {
        return Ok(Mode::None);
    };
    Ok(if taken { Mode::Taken } else { Mode::Other })
}

fn level(rest: &mut Words<'_>) -> Result<bool, LexError> {
    if rest.takes(b"repeatable")? {
        return rest.takes(b"read");
    }
    Ok(rest.takes(b"read")? && rest.takes_one_of(&[b"committed", b"uncommitted"])?)
}

/// The statement, if nothing but a semicolon or several follow.
fn ended(rest: &mut Words<'_>, block: Block) -> Result<Option<Block>, LexError> {
    while rest.next.is_some_and(|token| token.is(b';')) {
        rest.step()?;
    }
    Ok(rest.next.is_none().then_some(block))
}

#[cfg(test)]
mod tests {
    use super::{Block, block};
    use crate::lexer::LexOptions;
    use crate::parse::statement_kinds;

    fn read(text: &str) -> Option<Block> {
        block(text.as_bytes(), LexOptions::default())
    }

    #[test]
    fn the_plain_forms_are_told() {
        for (text, expected) in [
            ("BEGIN", Block::Begin),
            ("begin;", Block::Begin),
            (" /* a */ Begin Work ; ; -- b", Block::Begin),
            (
                "BEGIN TRANSACTION ISOLATION LEVEL READ COMMITTED",
                Block::Begin,
            ),
            (
                "begin isolation level repeatable read read only",
                Block::Begin,
            ),
            ("begin read only, not deferrable", Block::Begin),
            ("start transaction", Block::Start),
            (
                "START TRANSACTION ISOLATION LEVEL read uncommitted, READ ONLY;",
                Block::Start,
            ),
            ("commit", Block::Commit),
            ("END TRANSACTION;", Block::Commit),
            ("rollback work", Block::Rollback),
            ("abort", Block::Rollback),
        ] {
            assert_eq!(read(text), Some(expected), "{text}");
            assert!(statement_kinds(text.as_bytes()).is_ok(), "{text}");
        }
    }

    #[test]
    fn whatever_else_is_left_to_the_server() {
        for text in [
            "",
            ";",
            "begin; select 1",
            "begin begin",
            "begin read",
            "begin read write",
            "begin isolation level serializable",
            "begin, read only",
            "begin read only,",
            "begin read only,,not deferrable",
            "begin 'x",
            "begin atomic",
            "\"begin\"",
            "start",
            "start transaction transaction",
            "commit and chain",
            "commit prepared 'x'",
            "rollback to s",
            "rollback to savepoint s",
            "end x",
            "select 1",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
