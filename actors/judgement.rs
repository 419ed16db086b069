//! What a statement's text means for the session that runs it.

use pgherd_sql::{Effects, LexOptions, PinSet, effects};

/// The part of a statement's effects that is kept with a prepared statement.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Judgement {
    /// Reasons to keep the session on the server that ran it.
    pub pins: PinSet,
    /// It may write or commit: when its reply is lost, its outcome is unknown.
    pub commits: bool,
}

/// Judges a text as a session with these lexical settings means it.
pub fn judge(text: &[u8], options: LexOptions) -> Effects {
    effects(text, options)
}
