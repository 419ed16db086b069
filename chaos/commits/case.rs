//! Where a commit is cut off, and by what.

use std::fmt;
use std::str::FromStr;

/// What happens to a transaction. It has written on three shards, of which 0 decides, unless something else is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flow {
    /// It is committed.
    Commit,
    /// It is committed, and has only read on shard 2.
    Reader,
    /// It is rolled back, because shard 2 does not prepare it.
    Abort,
    /// The connection to the decider is lost behind its `COMMIT`, and its coordinator asks for the row.
    Resolve,
    /// Its coordinator has crashed behind the decider's `COMMIT`, and its session asks for the row.
    Orphan,
    /// Its proxy was killed behind the decider's `COMMIT`, and another one ends it.
    Forward,
    /// Its proxy was killed when all was prepared, and another one ends it.
    Backward,
    /// As [`Flow::Forward`], and its row is old enough to be cleared away as soon as nobody needs it.
    Clear,
}

/// A message to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Message {
    /// The coordinator asks a shard whether it has written.
    Ask(u8),
    /// `PREPARE TRANSACTION` on a shard.
    Prepare(u8),
    /// The row that says yes.
    Decide,
    /// The decider's `COMMIT`.
    Commit,
    /// `COMMIT PREPARED` on a shard.
    Finish(u8),
    /// `COMMIT` where it has only read.
    Release,
    /// `ROLLBACK PREPARED` on shard 1.
    Revoke,
    /// `ROLLBACK` on the decider.
    Undo,
    /// The row that says no, for who has to know.
    Store,
    /// What the row says.
    Read,
    /// What is prepared on a shard.
    Find(u8),
    /// Whether the decider's transaction is over.
    Lock,
    /// `COMMIT PREPARED` or `ROLLBACK PREPARED` by who recovers.
    End(u8),
    /// Whether there are rows at all.
    There,
    /// Which rows are old.
    Old,
    /// Away with them.
    Delete,
}

/// At which moment of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum When {
    /// Before it has reached the server.
    Before,
    /// When the server has it, and may have answered or not.
    During,
    /// When the server has answered, and nobody has heard it.
    After,
}

/// What is lost then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The connection.
    Cut,
    /// The coordinator, which panics.
    Coordinator,
    /// The actor that ends what others have left, which panics.
    Recovery,
    /// The proxy that has sent the message (SIGKILL).
    Proxy,
    /// Both proxies.
    Proxies,
    /// The proxy, which is stopped (SIGSTOP) until the other one has ended what it can.
    Freeze,
    /// The server that the message is for (SIGKILL).
    Server,
    /// All other servers.
    Others,
    /// The proxy and the server.
    Both,
}

/// A message of a flow, the moment, and the fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Case {
    /// What happens.
    pub flow: Flow,
    /// At which message it is cut off.
    pub message: Message,
    /// And when.
    pub when: When,
    /// And how.
    pub fault: Fault,
}

impl Flow {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Commit,
        Self::Reader,
        Self::Abort,
        Self::Resolve,
        Self::Orphan,
        Self::Forward,
        Self::Backward,
        Self::Clear,
    ];

    /// The messages that only this one has.
    fn messages(self) -> &'static [Message] {
        use Message as M;
        match self {
            Self::Commit => &[
                M::Ask(0),
                M::Ask(1),
                M::Ask(2),
                M::Prepare(1),
                M::Prepare(2),
                M::Decide,
                M::Commit,
                M::Finish(1),
                M::Finish(2),
            ],
            Self::Reader => &[M::Release],
            Self::Abort => &[M::Revoke, M::Undo],
            Self::Resolve | Self::Orphan => &[M::Store, M::Read],
            Self::Forward | Self::Backward => &[
                M::Find(0),
                M::Find(1),
                M::Find(2),
                M::Lock,
                M::Store,
                M::Read,
                M::End(1),
                M::End(2),
            ],
            Self::Clear => &[M::There, M::Old, M::Delete],
        }
    }

    /// What can be lost in it.
    fn faults(self) -> &'static [Fault] {
        use Fault as F;
        match self {
            Self::Commit | Self::Reader | Self::Abort => &[
                F::Cut,
                F::Coordinator,
                F::Proxy,
                F::Proxies,
                F::Freeze,
                F::Server,
                F::Others,
                F::Both,
            ],
            Self::Resolve => &[
                F::Cut,
                F::Coordinator,
                F::Proxy,
                F::Freeze,
                F::Server,
                F::Both,
            ],
            Self::Orphan => &[F::Cut, F::Proxy, F::Freeze, F::Server],
            Self::Forward | Self::Backward | Self::Clear => {
                &[F::Cut, F::Recovery, F::Proxy, F::Freeze, F::Server, F::Both]
            }
        }
    }

    /// What is lost first, and at what, before the message comes that the case is about.
    pub(super) fn first(self) -> Option<(Message, When, Fault)> {
        match self {
            Self::Commit | Self::Reader | Self::Abort => None,
            Self::Resolve => Some((Message::Commit, When::After, Fault::Cut)),
            Self::Orphan => Some((Message::Commit, When::After, Fault::Coordinator)),
            Self::Forward | Self::Clear => Some((Message::Commit, When::After, Fault::Proxy)),
            Self::Backward => Some((Message::Decide, When::Before, Fault::Proxy)),
        }
    }

    /// Whether the message is sent by the other proxy.
    pub(super) fn is_recovered(self) -> bool {
        matches!(self, Self::Forward | Self::Backward | Self::Clear)
    }
}

impl Message {
    /// The shard that it is for.
    pub(super) fn shard(self) -> usize {
        match self {
            Self::Ask(shard)
            | Self::Prepare(shard)
            | Self::Finish(shard)
            | Self::Find(shard)
            | Self::End(shard) => usize::from(shard),
            Self::Revoke => 1,
            Self::Release => 2,
            _ => 0,
        }
    }

    /// What it is known by on the wire.
    pub(super) fn pattern(self) -> &'static [u8] {
        match self {
            Self::Ask(_) => b"pg_current_xact_id_if_assigned",
            Self::Prepare(_) => b"PREPARE TRANSACTION",
            Self::Decide => b"INSERT INTO pgherd.decisions",
            Self::Commit | Self::Release => b"Q\0\0\0\x0bCOMMIT\0",
            Self::Finish(_) => b"COMMIT PREPARED",
            Self::Revoke => b"ROLLBACK PREPARED",
            Self::Undo => b"Q\0\0\0\x0dROLLBACK\0",
            Self::Store => b"ON CONFLICT (transaction) DO NOTHING",
            Self::Read => b"SELECT committed FROM pgherd.decisions",
            Self::Find(_) => b"starts_with(gid",
            Self::Lock => b"pg_try_advisory_xact_lock",
            Self::End(_) => b" PREPARED ",
            Self::There => b"to_regclass('pgherd.decisions')",
            Self::Old => b"SELECT transaction FROM pgherd.decisions",
            Self::Delete => b"DELETE FROM pgherd.decisions",
        }
    }

    /// Whether it is sent over the client's own connection.
    pub(super) fn is_of_client(self) -> bool {
        matches!(
            self,
            Self::Ask(_)
                | Self::Prepare(_)
                | Self::Decide
                | Self::Commit
                | Self::Finish(_)
                | Self::Release
                | Self::Revoke
                | Self::Undo
        )
    }
}

impl When {
    const ALL: [Self; 3] = [Self::Before, Self::During, Self::After];
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Cut,
        Self::Coordinator,
        Self::Recovery,
        Self::Proxy,
        Self::Proxies,
        Self::Freeze,
        Self::Server,
        Self::Others,
        Self::Both,
    ];

    /// How many proxies, servers and actors die of it.
    fn crashes(self) -> usize {
        match self {
            Self::Cut | Self::Freeze => 0,
            Self::Coordinator | Self::Recovery | Self::Proxy | Self::Server => 1,
            Self::Proxies | Self::Others | Self::Both => 2,
        }
    }

    /// Whether it takes servers that nobody else uses.
    pub(super) fn is_of_servers(self) -> bool {
        matches!(self, Self::Server | Self::Others | Self::Both)
    }
}

impl Case {
    /// All of them.
    pub fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for flow in Flow::ALL {
            for message in flow.messages() {
                for when in When::ALL {
                    all.extend(flow.faults().iter().map(|fault| Self {
                        flow,
                        message: *message,
                        when,
                        fault: *fault,
                    }));
                }
            }
        }
        all
    }

    /// How many proxies, servers and actors die in it.
    #[must_use]
    pub fn crashes(&self) -> usize {
        let first = self.flow.first().map(|(_, _, fault)| fault);
        first
            .into_iter()
            .chain([self.fault])
            .map(Fault::crashes)
            .sum()
    }

    /// Whether the proxy is gone that the client is connected to.
    pub(super) fn loses_client(&self) -> bool {
        self.flow.is_recovered()
            || matches!(self.fault, Fault::Proxy | Fault::Proxies | Fault::Both)
    }

    /// Whether the transaction must be committed then, or must not; `None` if both may be.
    pub(super) fn expected(&self) -> Option<bool> {
        match (self.flow, self.message) {
            (Flow::Resolve | Flow::Orphan | Flow::Forward | Flow::Clear, _)
            | (_, Message::Finish(_) | Message::Release) => Some(true),
            (Flow::Abort | Flow::Backward, _) => Some(false),
            // What is prepared outlives its server.
            (_, Message::Decide | Message::Commit) if self.fault == Fault::Others => Some(true),
            (_, Message::Commit) if self.when == When::After => Some(true),
            // It goes on if nobody has given it up meanwhile.
            _ if self.fault == Fault::Freeze => None,
            (_, Message::Commit) if self.when == When::During => None,
            _ => Some(false),
        }
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Commit => "commit",
            Self::Reader => "reader",
            Self::Abort => "abort",
            Self::Resolve => "resolve",
            Self::Orphan => "orphan",
            Self::Forward => "forward",
            Self::Backward => "backward",
            Self::Clear => "clear",
        })
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Ask(_) => "ask",
            Self::Prepare(_) => "prepare",
            Self::Decide => "decide",
            Self::Commit => "commit",
            Self::Finish(_) => "finish",
            Self::Release => "release",
            Self::Revoke => "revoke",
            Self::Undo => "undo",
            Self::Store => "store",
            Self::Read => "read",
            Self::Find(_) => "find",
            Self::Lock => "lock",
            Self::End(_) => "end",
            Self::There => "there",
            Self::Old => "old",
            Self::Delete => "delete",
        };
        write!(f, "{name}-{}", self.shard())
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Before => "before",
            Self::During => "during",
            Self::After => "after",
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Cut => "cut",
            Self::Coordinator => "coordinator",
            Self::Recovery => "recovery",
            Self::Proxy => "proxy",
            Self::Proxies => "proxies",
            Self::Freeze => "freeze",
            Self::Server => "server",
            Self::Others => "others",
            Self::Both => "both",
        })
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            flow,
            message,
            when,
            fault,
        } = self;
        write!(f, "{flow}/{message}/{when}/{fault}")
    }
}

/// The one of all that is shown as this.
fn find<T: fmt::Display>(all: impl IntoIterator<Item = T>, text: &str) -> Result<T, String> {
    let found = all.into_iter().find(|one| one.to_string() == text);
    found.ok_or_else(|| format!("there is no {text}"))
}

impl FromStr for Flow {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        find(Self::ALL, text)
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        find(Self::ALL, text)
    }
}

impl FromStr for Case {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        find(Self::all(), text)
    }
}

#[cfg(test)]
mod tests {
    use super::{Case, Fault, Flow, Message, When};

    #[test]
    fn each_is_read_as_it_is_shown() {
        for case in Case::all() {
            assert_eq!(case.to_string().parse(), Ok(case));
        }
        assert!("commit/ask-0/before/recovery".parse::<Case>().is_err());
        assert!(
            Flow::ALL
                .iter()
                .all(|flow| flow.to_string().parse() == Ok(*flow))
        );
        assert!(
            Fault::ALL
                .iter()
                .all(|fault| fault.to_string().parse() == Ok(*fault))
        );
    }

    #[test]
    fn the_decider_says_what_is_expected() {
        let expected = |message, when, fault| {
            let flow = Flow::Commit;
            let case = Case {
                flow,
                message,
                when,
                fault,
            };
            case.expected()
        };
        for fault in [Fault::Cut, Fault::Proxy, Fault::Server] {
            assert_eq!(expected(Message::Decide, When::After, fault), Some(false));
            assert_eq!(expected(Message::Commit, When::Before, fault), Some(false));
            assert_eq!(expected(Message::Commit, When::During, fault), None);
            assert_eq!(expected(Message::Commit, When::After, fault), Some(true));
            assert_eq!(
                expected(Message::Finish(1), When::Before, fault),
                Some(true)
            );
        }
        assert_eq!(
            expected(Message::Prepare(1), When::After, Fault::Others),
            Some(false)
        );
        assert_eq!(
            expected(Message::Decide, When::Before, Fault::Others),
            Some(true)
        );
    }
}
