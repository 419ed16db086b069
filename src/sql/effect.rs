//! What a text does to the session and the transaction, told before it runs.
//!
//! A pin too many costs speed, a pin too few gives a wrong answer, so what cannot be told pins. What no reading
//! of the text can show does **not** pin: what a called function or procedure (`CALL`, user functions, triggers)
//! does inside. [`Runs`] tells where such code may run, and what it has done has to be found on the server.
//!
//! Errs towards a pin: names of trigger functions used as columns (unless the text has no parenthesis) or in bodies that do not run now
//! (`PREPARE x AS SELECT set_config(…)`, `BEGIN ATOMIC`); `RESET x`; `set_config` with a third argument other
//! than the literal `true`; words of a `DO` block's text wherever they stand (`UPDATE … SET` too); `EXECUTE` in it;
//! `pg_temp` anywhere as a name; calls by a name in `U&"…"`, and what such a name cannot be told of.

mod calls;
mod known;
mod opaque;
mod pin;
mod plain;
mod runs;
mod scan;
mod setting;
#[cfg(test)]
mod tests;

pub(crate) use calls::{Call, Calls};
pub use known::is_harmless;
pub use pin::{Pin, PinSet, UnpinSet};
pub use runs::{Runs, SequenceEffect};
pub use setting::{Action, Setting};

use crate::lexer::LexOptions;

/// What the statements of a text do to the transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TransactionEffect {
    /// Nothing.
    #[default]
    None,
    /// `BEGIN`, `START TRANSACTION`.
    Begin,
    /// `COMMIT`, `END`.
    Commit,
    /// `COMMIT AND CHAIN`: the next transaction begins at once.
    CommitChain,
    /// `ROLLBACK`, `ABORT`.
    Rollback,
    /// `ROLLBACK AND CHAIN`.
    RollbackChain,
    /// `SAVEPOINT`.
    Savepoint,
    /// `RELEASE`.
    Release,
    /// `ROLLBACK TO`.
    RollbackTo,
    /// `PREPARE TRANSACTION`: ends it here, to be ended by name anywhere.
    Prepare,
    /// More than one of these, or a text that cannot be followed.
    Mixed,
}

/// Whether a text starts a COPY with the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CopyEffect {
    /// No.
    #[default]
    None,
    /// `COPY … FROM STDIN`: the client sends.
    In,
    /// `COPY … TO STDOUT`: the server sends.
    Out,
    /// Several, or a text that cannot be followed.
    Unknown,
}

/// How a text may change what the database consists of without saying so, besides by the functions that it names and
/// by what stands behind its tables. Each outweighs those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Alters {
    /// It does not.
    #[default]
    No,
    /// It calls a function by a name that is not looked up.
    Unnamed,
    /// It commits a transaction that was prepared.
    Prepared,
    /// It calls a procedure, which may do anything in transactions of its own.
    Called,
    /// It brings code along that is not seen through, or wakes some.
    Code,
}

/// What a whole text does, one statement or many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Effects<'a> {
    /// How many statements; 0 is an empty query. Counts up to the error in a text that cannot be followed.
    pub statements: u32,
    /// What it does to the transaction. One of several statements may do it (`BEGIN; SELECT 1` is `Begin`).
    pub transaction: TransactionEffect,
    /// Why the session belongs to its server after this text has succeeded.
    pub pins: PinSet,
    /// Which reasons are over after this text has succeeded. To be taken away before `pins` are added: the
    /// order inside the text is not kept, so that `lock; unlock all` stays pinned.
    pub unpins: UnpinSet,
    /// Which reasons it may end, of one thing or of all, so that a look at the session is worth while: by `DROP`,
    /// `CLOSE`, `DISCARD TEMP`, an unlock, or a lock that was perhaps not got. Words in a `DO` block do not count.
    pub frees: PinSet,
    /// Whether it calls a procedure or has a block of code, which may commit before it ends: what it has done by then is
    /// not taken back if it fails.
    pub procedural: bool,
    /// How many of its statements stand in front of the first `COMMIT` or `PREPARE TRANSACTION`. `None` if none is known.
    pub commits_behind: Option<u32>,
    /// Whether it copies with the client.
    pub copy: CopyEffect,
    /// Whether it uses a statement made by SQL `PREPARE` (`EXECUTE x`, `EXPLAIN EXECUTE x`, `CREATE TABLE … AS
    /// EXECUTE x`). Not a pin: it leaves nothing behind, but must run where the statement is. Errs towards true.
    pub executes: bool,
    /// Whether it asks which prepared statements there are, by `pg_prepared_statements`.
    pub inspects: bool,
    /// Which code it may run that does not stand in it.
    pub runs: Runs,
    /// What it has to do with the session's memory of sequences.
    pub sequence: SequenceEffect,
    /// Whether it changes what the database consists of, so that from now on other code may run.
    pub alters: bool,
    /// How it may do so without saying it.
    pub may_alter: Alters,
    /// Whether it makes something temporary, for however long, which names may stand for from then on.
    pub temporary: bool,
    /// Whether one of its statements is a `PREPARE TRANSACTION`.
    pub prepares: bool,
    /// Whether it has the session forget what it remembers of sequences, by `DISCARD SEQUENCES` or `DISCARD ALL`.
    pub forgets: bool,
    /// Whether it calls `set_config`, for the session or the transaction, or has a `SET LOCAL`.
    pub configures: bool,
    /// The parameter, if this is one `SET`, `RESET` or `SHOW` of one parameter and nothing else.
    pub sets: Option<Setting<'a>>,
    /// Whether it is one statement that only reads, as far as the text tells, so that running it twice comes
    /// to the same as running it once: no volatile function, nothing that is left behind.
    pub steady: bool,
    /// Whether it is one statement that has written nothing, whatever becomes of its answer, as far as the text tells: one
    /// that is `steady`, a `COPY` to the client of what only reads, or one that shows rows of a cursor or a setting.
    pub only_reads: bool,
    /// Whether one of its statements is a `LISTEN` or an `UNLISTEN`; [`crate::parse::channel`] tells of what.
    pub listens: bool,
}

/// Reads `text` once. A text that cannot be followed (the server will refuse it, or its encoding hides it)
/// pins with [`Pin::Unknown`].
pub fn effects(text: &[u8], options: LexOptions) -> Effects<'_> {
    match plain::plain(text, options) {
        Some(effects) => effects,
        None => scan::Scan::new(text, options, None).run(),
    }
}

/// As [`effects`], where more functions are known to touch no session: `known` gets a name, in any case
/// if it stood without quotes, and in lower case else.
pub fn effects_knowing<'a>(
    text: &'a [u8],
    options: LexOptions,
    known: &dyn Fn(&[u8]) -> bool,
) -> Effects<'a> {
    scan::Scan::new(text, options, Some(known)).run()
}
