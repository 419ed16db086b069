//! Conversations that are cut.

use super::relay::Target;

/// A conversation of a client.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flow {
    /// By which it is chosen.
    pub(super) name: &'static str,
    /// Which connection of the server's side is cut.
    pub(super) server: Target,
    /// And which of the client's.
    pub(super) client: Target,
    /// Whether Postgres would send all messages in the same order.
    pub(super) ordered: bool,
    /// What is said in it by a client that writes `id` into all it asks for.
    pub(super) script: fn(id: &str) -> Script,
}

/// What is said.
#[derive(Clone, Debug, Default)]
pub(super) struct Script {
    /// What the client has done before anything is counted; what it was answered with another server.
    pub(super) before: Vec<Vec<u8>>,
    /// What it does then.
    pub(super) rounds: Vec<Round>,
    /// The rows that come of it.
    pub(super) rows: Vec<Row>,
}

/// One thing that the client asks for, in one write, and waits for.
#[derive(Clone, Debug)]
pub(super) struct Round {
    pub(super) kind: Kind,
    pub(super) send: Vec<u8>,
    pub(super) until: Until,
    /// Errors that belong there.
    pub(super) natural: &'static [&'static str],
}

/// What the client waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// So many ReadyForQuery.
    Ready(usize),
    /// The server wants the data of a COPY.
    Copy,
    /// A notification, or word that one may have been lost.
    Notified,
}

/// What a loss of the server means for a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Logs in and reads.
    Login,
    /// Only reads, and can be seen to.
    Read,
    /// Changes nothing in the database, but that is not known of it.
    Unclear,
    /// Listens, over the one connection that does so for all.
    Listen,
    /// Commits by itself.
    Write,
    /// Opens a block.
    Begin,
    /// Is in the middle of a block.
    Inside,
    /// Ends a block.
    Commit,
    /// Takes it back.
    Rollback,
    /// Commits by itself on a server that the session is bound to.
    Bound,
    /// Sleeps and is cancelled by a request on a connection of its own.
    Cancelled,
    /// Waits for a notification.
    Notified,
}

/// A row that a script inserts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// Which of the script's rows it is.
    pub(super) part: u32,
    /// The round whose ReadyForQuery of this number acknowledges it; never without.
    pub(super) commits: Option<(usize, usize)>,
}

impl Script {
    /// Adds a round that ends with one ReadyForQuery.
    pub(super) fn ask(self, kind: Kind, send: Vec<u8>) -> Self {
        self.wait(kind, send, Until::Ready(1))
    }

    /// Adds a round.
    pub(super) fn wait(mut self, kind: Kind, send: Vec<u8>, until: Until) -> Self {
        self.rounds.push(Round {
            kind,
            send,
            until,
            natural: &[],
        });
        self
    }

    /// Such an error belongs to the last round.
    pub(super) fn errs(mut self, codes: &'static [&'static str]) -> Self {
        if let Some(round) = self.rounds.last_mut() {
            round.natural = codes;
        }
        self
    }

    /// A row is there once the last round has its ReadyForQuery of this number, counted from 0.
    pub(super) fn commits(mut self, part: u32, ready: usize) -> Self {
        let commits = self.rounds.len().checked_sub(1).map(|last| (last, ready));
        self.rows.push(Row { part, commits });
        self
    }

    /// A row is never there.
    pub(super) fn forgets(mut self, part: u32) -> Self {
        let commits = None;
        self.rows.push(Row { part, commits });
        self
    }
}
