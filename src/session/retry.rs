//! Whether a request that its server did not serve may be sent again, without a word to its client.
//!
//! Only what provably did not run is, or what may run twice as well as once: no write, and no COMMIT,
//! whose answer is missing. In doubt the client is told what has happened.

use pgherd_wire::error::Severity;
use pgherd_wire::sqlstate::{self, SqlState};

/// What a client has sent since its session took a server. A request is what ends with a Query or a
/// Sync; there may be more of them behind the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// All of its statements only read, and may run twice as well as once.
    pub steady: bool,
    /// The same of what stands behind the first request.
    pub steady_behind: bool,
    /// Nothing is called of which nothing is known: a statement that a node in recovery refuses has done
    /// nothing before.
    pub known: bool,
    /// It is part of a transaction that its client wants to be READ ONLY.
    pub read_only: bool,
    /// There is more than the first request.
    pub more: bool,
}

impl Default for Sent {
    fn default() -> Self {
        Self {
            steady: true,
            steady_behind: true,
            known: true,
            read_only: false,
            more: false,
        }
    }
}

/// What is known of the part that a server has in the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Role {
    /// It does not say: before version 14, no server does.
    #[default]
    Unknown,
    /// It is in recovery: a standby, or not a primary yet.
    Recovering,
    /// It takes writes.
    Writable,
}

impl Role {
    /// What a parameter says of it that a server reports: only `in_hot_standby` does, at login and when it
    /// changes.
    pub fn told(name: &[u8], value: &[u8]) -> Option<Self> {
        (name == b"in_hot_standby").then_some(match value {
            b"on" => Self::Recovering,
            b"off" => Self::Writable,
            _ => Self::Unknown,
        })
    }
}

/// How a server has failed a request, of which nothing was passed on to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The connection broke before a byte of it was written.
    Unsent,
    /// The connection broke after that, or the server ended it.
    Cut,
    /// A node in recovery, which was only to be read from, has refused what a primary may not have to refuse. It has written
    /// nothing.
    Standby,
    /// The server has refused something, before anything of the request has succeeded but a BEGIN.
    Refused {
        /// The SQLSTATE.
        code: SqlState,
        /// How bad it is: after FATAL the connection is over.
        severity: Severity,
        /// What the server is.
        role: Role,
        /// It is about a prepared statement that we share: the server has it no longer, or its plan is
        /// outdated.
        shared: bool,
    },
}

/// Why a request is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// A prepared statement has to be prepared anew, on the same server.
    Statement,
    /// The connection was lost before the request was sent.
    Unsent,
    /// The connection was lost while it was read.
    Read,
    /// The server is in recovery, and refuses to write.
    Recovering,
    /// The server takes nothing: it is starting, stopping, or full.
    Turned,
}

impl Again {
    /// All of them, in order.
    pub const ALL: [Self; 5] = [
        Self::Statement,
        Self::Unsent,
        Self::Read,
        Self::Recovering,
        Self::Turned,
    ];

    /// The word for it in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Statement => "statement",
            Self::Unsent => "unsent",
            Self::Read => "read",
            Self::Recovering => "recovering",
            Self::Turned => "turned_away",
        }
    }

    /// Whether the request was being run until then, for however long that was: what it is to be waited for from there is
    /// waited for anew.
    pub fn was_run(self) -> bool {
        match self {
            Self::Statement | Self::Read => true,
            Self::Unsent | Self::Recovering | Self::Turned => false,
        }
    }

    /// How often one request is sent again for this at most; what was never run is limited by time alone.
    pub fn limit(self) -> u32 {
        match self {
            // Were it the request that brings servers down, more would bring more of them down.
            Self::Statement | Self::Read => 1,
            Self::Unsent | Self::Recovering | Self::Turned => u32::MAX,
        }
    }
}

/// Whether the first request in `sent`, and with it all that is behind, may be sent again after this;
/// `None` is no.
///
/// The transaction must not have been open before, or must have been begun with it: then its server has
/// rolled it back.
pub fn again(sent: &Sent, failure: &Failure) -> Option<Again> {
    match *failure {
        Failure::Unsent => Some(Again::Unsent),
        Failure::Cut => sent.steady.then_some(Again::Read),
        Failure::Standby if sent.steady => Some(Again::Read),
        Failure::Standby => (sent.known && !runs_behind(sent)).then_some(Again::Recovering),
        Failure::Refused {
            code,
            severity: Severity::Fatal | Severity::Panic,
            ..
        } => match code {
            _ if is_turned_away(code) => Some(Again::Turned),
            _ => sent.steady.then_some(Again::Read),
        },
        Failure::Refused {
            code, role, shared, ..
        } => {
            if runs_behind(sent) {
                return None;
            }
            match code {
                _ if shared => Some(Again::Statement),
                sqlstate::READ_ONLY_SQL_TRANSACTION => {
                    let of_server = role == Role::Recovering && !sent.read_only;
                    (of_server && sent.known).then_some(Again::Recovering)
                }
                // Whoever turns a client away ends the connection. An error with such a code is a function's own.
                _ => None,
            }
        }
    }
}

/// Whether there is anything behind the request that was refused which must not be sent twice: it has run, or will have.
fn runs_behind(sent: &Sent) -> bool {
    sent.more && !sent.steady_behind
}

/// Whether a server says by this that it takes nobody in, if it is FATAL: Postgres in place of a welcome, a pooler in
/// place of an answer. Behind it nothing has run.
pub fn is_turned_away(code: SqlState) -> bool {
    matches!(
        code,
        sqlstate::CANNOT_CONNECT_NOW | sqlstate::TOO_MANY_CONNECTIONS
    )
}

#[cfg(test)]
mod tests {
    use pgherd_wire::error::Severity;
    use pgherd_wire::sqlstate::{self, SqlState};

    use super::{Again, Failure, Role, Sent, again};

    const READ: Sent = Sent {
        steady: true,
        steady_behind: true,
        known: true,
        read_only: false,
        more: false,
    };
    const WRITE: Sent = Sent {
        steady: false,
        ..READ
    };
    const CALL: Sent = Sent {
        known: false,
        ..WRITE
    };

    fn refused(code: SqlState, severity: Severity, role: Role) -> Failure {
        Failure::Refused {
            code,
            severity,
            role,
            shared: false,
        }
    }

    fn error(code: SqlState) -> Failure {
        refused(code, Severity::Error, Role::Recovering)
    }

    fn fatal(code: SqlState) -> Failure {
        refused(code, Severity::Fatal, Role::Writable)
    }

    #[test]
    fn what_was_never_sent_is_sent_whatever_it_is() {
        for sent in [READ, WRITE, CALL] {
            assert_eq!(again(&sent, &Failure::Unsent), Some(Again::Unsent));
        }
    }

    #[test]
    fn only_a_read_that_was_cut_off_is_read_again() {
        for failure in [
            Failure::Cut,
            fatal(sqlstate::ADMIN_SHUTDOWN),
            fatal(sqlstate::CRASH_SHUTDOWN),
        ] {
            assert_eq!(again(&READ, &failure), Some(Again::Read), "{failure:?}");
            assert_eq!(again(&WRITE, &failure), None, "{failure:?}");
            assert_eq!(again(&CALL, &failure), None, "{failure:?}");
        }
    }

    #[test]
    fn a_node_in_recovery_refuses_before_it_writes() {
        let refused_by = |role| refused(sqlstate::READ_ONLY_SQL_TRANSACTION, Severity::Error, role);
        let recovering = refused_by(Role::Recovering);
        assert_eq!(again(&WRITE, &recovering), Some(Again::Recovering));
        assert_eq!(again(&READ, &recovering), Some(Again::Recovering));
        // A function may have done something before it tried to write.
        assert_eq!(again(&CALL, &recovering), None);
        // The client's own transaction, or a setting, is what is read-only.
        assert_eq!(again(&WRITE, &refused_by(Role::Writable)), None);
        assert_eq!(again(&WRITE, &refused_by(Role::Unknown)), None);
        let wanted = Sent {
            read_only: true,
            ..WRITE
        };
        assert_eq!(again(&wanted, &recovering), None);
    }

    #[test]
    fn what_a_standby_refuses_a_primary_is_asked_for() {
        assert_eq!(again(&READ, &Failure::Standby), Some(Again::Read));
        let read_only = Sent {
            read_only: true,
            ..WRITE
        };
        for sent in [WRITE, read_only] {
            assert_eq!(again(&sent, &Failure::Standby), Some(Again::Recovering));
        }
        // A function may have done something elsewhere.
        assert_eq!(again(&CALL, &Failure::Standby), None);
        let writes_behind = Sent {
            more: true,
            steady_behind: false,
            ..WRITE
        };
        assert_eq!(again(&writes_behind, &Failure::Standby), None);
    }

    #[test]
    fn who_is_turned_away_has_run_nothing() {
        for code in [sqlstate::CANNOT_CONNECT_NOW, sqlstate::TOO_MANY_CONNECTIONS] {
            for sent in [READ, WRITE, CALL] {
                assert_eq!(again(&sent, &fatal(code)), Some(Again::Turned), "{code}");
            }
            // A function or a trigger may say so as well.
            for sent in [READ, WRITE, CALL] {
                assert_eq!(again(&sent, &error(code)), None, "{code}");
            }
        }
    }

    #[test]
    fn a_shared_statement_is_prepared_anew() {
        for code in [
            sqlstate::FEATURE_NOT_SUPPORTED,
            sqlstate::INVALID_SQL_STATEMENT_NAME,
        ] {
            let about = |shared| Failure::Refused {
                code,
                severity: Severity::Error,
                role: Role::Unknown,
                shared,
            };
            for sent in [READ, WRITE, CALL] {
                assert_eq!(again(&sent, &about(true)), Some(Again::Statement));
                assert_eq!(again(&sent, &about(false)), None);
            }
        }
    }

    #[test]
    fn what_is_behind_a_refused_request_has_run() {
        let failure = error(sqlstate::READ_ONLY_SQL_TRANSACTION);
        let reads_behind = Sent {
            more: true,
            ..WRITE
        };
        assert_eq!(again(&reads_behind, &failure), Some(Again::Recovering));
        let writes_behind = Sent {
            steady_behind: false,
            ..reads_behind
        };
        assert_eq!(again(&writes_behind, &failure), None);
    }

    #[test]
    fn other_errors_are_the_clients_to_see() {
        for code in [
            sqlstate::SYNTAX_ERROR,
            sqlstate::QUERY_CANCELED,
            sqlstate::SERIALIZATION_FAILURE,
            sqlstate::FEATURE_NOT_SUPPORTED,
        ] {
            for sent in [READ, WRITE, CALL] {
                assert_eq!(again(&sent, &error(code)), None, "{code}");
            }
        }
    }
}
