//! Where a client stands: parameters, prepared statements, and the replies a server still owes.
//!
//! Pure bookkeeping: no sockets, no clock. The relay in `actors/session` moves the bytes and asks
//! this crate what each message means.

mod block;
mod commit;
mod exchange;
mod flow;
mod following;
mod parameters;
mod prepared;
mod retry;
mod sequences;
#[cfg(test)]
mod tests;

pub use block::Block;
pub use commit::{Commit, Heard, Outcome, Step as CommitStep};
pub use exchange::{Answered, Closed, CopyFlow, Described, Exchange, Owed, Undo, Verdict};
pub use flow::Flow;
pub use following::{Edit, Edits, Following};
pub use parameters::{Parameters, Proven, Shared, changes_naming, changes_reading, literal};
pub use prepared::{
    ClientStatements, Gone, Held, Judged, Placed, Reach, Registry, ServerName, ServerStatements,
    Shape, Source, Statement, Unnamed, kept,
};
pub use retry::{Again, Failure, Role, Sent, again, is_turned_away};
pub use sequences::Sequences;
