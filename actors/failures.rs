//! How many logins failed, and how many sessions ended otherwise than by their client's goodbye.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pgherd_wire::sqlstate::{self, SqlState};

/// Why a client was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginFailure {
    /// A wrong password, or a user that does not exist.
    Password,
    /// No right to come in this way: a rule, a certificate, the peer's name, the console.
    Authorization,
    /// A database that does not exist.
    Database,
    /// A limit on clients, or the server's on connections.
    Limit,
    /// Bytes that are no login.
    Protocol,
    /// TLS that did not come about.
    Encryption,
    /// The server that was needed for the login was not there, or did not play along.
    Server,
    /// `timeouts.login`.
    Timeout,
    /// The client hung up before the end of its login.
    Gone,
    /// Anything else.
    Other,
}

impl LoginFailure {
    /// All of them, in the order of their counters.
    pub const ALL: [Self; 10] = [
        Self::Password,
        Self::Authorization,
        Self::Database,
        Self::Limit,
        Self::Protocol,
        Self::Encryption,
        Self::Server,
        Self::Timeout,
        Self::Gone,
        Self::Other,
    ];

    /// The reason behind what the client was told.
    pub fn of(code: SqlState) -> Self {
        match code {
            sqlstate::INVALID_PASSWORD => Self::Password,
            sqlstate::INVALID_AUTHORIZATION_SPECIFICATION | sqlstate::INSUFFICIENT_PRIVILEGE => {
                Self::Authorization
            }
            sqlstate::INVALID_CATALOG_NAME => Self::Database,
            sqlstate::PROTOCOL_VIOLATION
            | sqlstate::FEATURE_NOT_SUPPORTED
            | sqlstate::SYNTAX_ERROR => Self::Protocol,
            sqlstate::CONFIG_FILE_ERROR => Self::Server,
            code => match code.class() {
                "53" => Self::Limit,
                "08" | "57" => Self::Server,
                _ => Self::Other,
            },
        }
    }

    /// The word for it in tables and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Authorization => "authorization",
            Self::Database => "database",
            Self::Limit => "limit",
            Self::Protocol => "protocol",
            Self::Encryption => "encryption",
            Self::Server => "server",
            Self::Timeout => "timeout",
            Self::Gone => "gone",
            Self::Other => "other",
        }
    }
}

/// Why a session ended that its client did not end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionFailure {
    /// The client's connection broke, or it hung up without a goodbye.
    Gone,
    /// It was sent away: by a command, by a reload, at our end.
    Dismissed,
    /// One of the timeouts that end sessions.
    Timeout,
    /// The client broke the protocol.
    Protocol,
    /// The server it was bound to was lost, or refused what the session needs.
    Server,
    /// A defect of ours, which the log tells of.
    Crash,
    /// Anything else.
    Other,
}

impl SessionFailure {
    /// All of them, in the order of their counters.
    pub const ALL: [Self; 7] = [
        Self::Gone,
        Self::Dismissed,
        Self::Timeout,
        Self::Protocol,
        Self::Server,
        Self::Crash,
        Self::Other,
    ];

    /// The reason behind what the client was told.
    pub fn of(code: SqlState) -> Self {
        match code {
            sqlstate::ADMIN_SHUTDOWN => Self::Dismissed,
            sqlstate::IDLE_SESSION_TIMEOUT
            | sqlstate::IDLE_IN_TRANSACTION_SESSION_TIMEOUT
            | sqlstate::TRANSACTION_TIMEOUT => Self::Timeout,
            sqlstate::PROTOCOL_VIOLATION => Self::Protocol,
            code => match code.class() {
                "08" | "40" | "53" | "57" => Self::Server,
                _ => Self::Other,
            },
        }
    }

    /// The word for it in tables and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Dismissed => "dismissed",
            Self::Timeout => "timeout",
            Self::Protocol => "protocol",
            Self::Server => "server",
            Self::Crash => "crash",
            Self::Other => "other",
        }
    }
}

/// The counters; they only grow.
#[derive(Debug, Default)]
pub struct Failures {
    logins: [AtomicU64; LoginFailure::ALL.len()],
    sessions: [AtomicU64; SessionFailure::ALL.len()],
    cancels: AtomicU64,
}

/// What was counted up to one moment.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct FailureCounts {
    logins: [u64; LoginFailure::ALL.len()],
    sessions: [u64; SessionFailure::ALL.len()],
    /// Cancel requests for which there was no place.
    pub cancels: u64,
}

impl Failures {
    /// A login failed.
    pub fn login(&self, why: LoginFailure) {
        self.logins[why as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// A session ended.
    pub fn session(&self, why: SessionFailure) {
        self.sessions[why as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// There was no place for a cancel request.
    pub fn cancel(&self) {
        self.cancels.fetch_add(1, Ordering::Relaxed);
    }

    /// The counters as they are.
    pub fn counts(&self) -> FailureCounts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        FailureCounts {
            logins: self.logins.each_ref().map(get),
            sessions: self.sessions.each_ref().map(get),
            cancels: get(&self.cancels),
        }
    }

    /// Counts a crash, should the session that holds this end by a panic.
    pub fn watch(self: &Arc<Self>) -> Watch {
        Watch(Arc::clone(self))
    }
}

impl FailureCounts {
    /// Failed logins by reason.
    pub fn logins(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let names = LoginFailure::ALL.map(LoginFailure::name);
        names.into_iter().zip(self.logins)
    }

    /// Failed sessions by reason.
    pub fn sessions(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let names = SessionFailure::ALL.map(SessionFailure::name);
        names.into_iter().zip(self.sessions)
    }
}

/// A session under way.
#[derive(Debug)]
pub struct Watch(Arc<Failures>);

impl Drop for Watch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.session(SessionFailure::Crash);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pgherd_wire::sqlstate;

    use super::{Failures, LoginFailure, SessionFailure};

    #[test]
    fn each_reason_has_its_counter_and_its_name() {
        let failures = Failures::default();
        for (at, why) in LoginFailure::ALL.into_iter().enumerate() {
            (0..=at).for_each(|_| failures.login(why));
        }
        for (at, why) in SessionFailure::ALL.into_iter().enumerate() {
            (0..=at).for_each(|_| failures.session(why));
        }
        let counts = failures.counts();
        let logins: Vec<_> = counts.logins().collect();
        assert_eq!(logins.first(), Some(&("password", 1)));
        assert_eq!(logins.last(), Some(&("other", 10)));
        let sessions: Vec<_> = counts.sessions().collect();
        assert_eq!(sessions.first(), Some(&("gone", 1)));
        assert_eq!(sessions.last(), Some(&("other", 7)));
        let sum = |all: &[(&str, u64)]| all.iter().map(|(_, count)| count).sum::<u64>();
        assert_eq!((sum(&logins), sum(&sessions)), (55, 28));
    }

    #[test]
    fn what_a_client_is_told_says_why() {
        for (code, login, session) in [
            (
                sqlstate::INVALID_PASSWORD,
                LoginFailure::Password,
                SessionFailure::Other,
            ),
            (
                sqlstate::PROTOCOL_VIOLATION,
                LoginFailure::Protocol,
                SessionFailure::Protocol,
            ),
            (
                sqlstate::TOO_MANY_CONNECTIONS,
                LoginFailure::Limit,
                SessionFailure::Server,
            ),
            (
                sqlstate::ADMIN_SHUTDOWN,
                LoginFailure::Server,
                SessionFailure::Dismissed,
            ),
            (
                sqlstate::CONNECTION_FAILURE,
                LoginFailure::Server,
                SessionFailure::Server,
            ),
            (
                sqlstate::IDLE_SESSION_TIMEOUT,
                LoginFailure::Server,
                SessionFailure::Timeout,
            ),
            (
                sqlstate::INTERNAL_ERROR,
                LoginFailure::Other,
                SessionFailure::Other,
            ),
        ] {
            assert_eq!(LoginFailure::of(code), login, "{code}");
            assert_eq!(SessionFailure::of(code), session, "{code}");
        }
    }

    #[test]
    fn a_panic_is_counted_and_an_orderly_end_is_not() {
        let failures = Arc::new(Failures::default());
        drop(failures.watch());
        assert_eq!(failures.counts(), Failures::default().counts());
        let watch = failures.watch();
        let outcome = std::thread::spawn(move || {
            let _watch = watch;
            std::panic::resume_unwind(Box::new(()));
        })
        .join();
        assert!(outcome.is_err());
        assert!(failures.counts().sessions().any(|it| it == ("crash", 1)));
    }
}
