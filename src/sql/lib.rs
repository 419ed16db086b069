//! What a statement is: its effect on the session and the transaction.
//!
//! [`effects`] is for every statement: one pass, nothing allocated. [`parse`] asks PostgreSQL's own grammar
//! and is for rare paths and tests. [`Cache`] keeps what was learnt about a text.

mod block;
mod body;
mod cache;
mod cursor;
mod effect;
mod identifier;
mod lexer;
mod listened;
mod mention;
mod moment;
pub mod parse;
mod script;
mod word;

pub use block::{Block, block};
pub use body::{Body, Defines, body, defines, named_settings};
pub use cache::{Cache, CacheStats};
pub use cursor::{Cursor, CursorDeed, cursor};
pub use effect::{
    Action, Alters, CopyEffect, Effects, Pin, PinSet, Runs, SequenceEffect, Setting,
    TransactionEffect, UnpinSet, effects, effects_knowing, is_harmless,
};
pub use lexer::{Encoding, LexError, LexOptions, Lexer, Names, Statements, Token, TokenKind};
pub use listened::{Listened, listened};
pub use mention::{Deed, Mention, Mentions, mentions};
pub use moment::names_moment;
pub use script::{
    Change, FOLLOWED, Part, Reading, Span, Step, Value, closed_block, is_followed, script,
    sets_at_first, setting_name,
};
