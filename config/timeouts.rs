use std::time::Duration;

use crate::reader::Reader;
use crate::section::Check;
use crate::setting::Setting;

section! {
    /// How long things may take; `None` is without end.
    pub struct Timeouts {
        /// For a client to log in.
        [NextConnection] login: Option<Duration>,
        /// For a server connection to be opened and logged in.
        [Now] connect: Option<Duration>,
        /// For a client in the queue to get a server connection.
        [Now] checkout: Option<Duration>,
        /// For a primary to be found, for work that has not begun; takes the place of `checkout`
        /// while there is none.
        [Now] hold: Option<Duration>,
        /// Until a waiting client is sent a notice.
        [Now] checkout_notice: Option<Duration>,
        /// For a query.
        [Now] query: Option<Duration>,
        /// For a transaction.
        [Now] transaction: Option<Duration>,
        /// For a client to go on with its transaction.
        [Now] idle_in_transaction: Option<Duration>,
        /// For a client to send anything outside a transaction.
        [Now] client_idle: Option<Duration>,
        /// For a server connection to stay unused.
        [Now] server_idle: Option<Duration>,
        /// For a server connection to exist; it ends when next unused.
        [Now] server_lifetime: Option<Duration>,
        /// By how much lifetimes differ at random, so that connections do not end together.
        [Now] server_lifetime_jitter: Duration,
        /// Unused time after which a server connection is asked for a sign of life before it is
        /// handed out.
        [Now] server_check: Option<Duration>,
        /// For the rollback of a transaction whose client left.
        [Now] rollback: Duration,
        /// For a cancel request to reach the server, and for a query that ran too long to end then.
        [Now] cancel: Duration,
        /// For transactions to end when pgherd is told to stop.
        [Now] shutdown: Duration,
    }
}

overrides! {
    /// Timeouts for a database or a user.
    pub struct TimeoutOverrides over Timeouts {
        /// For a server connection to be opened and logged in.
        connect: Option<Duration>,
        /// For a client in the queue to get a server connection.
        checkout: Option<Duration>,
        /// For a primary to be found.
        hold: Option<Duration>,
        /// Until a waiting client is sent a notice.
        checkout_notice: Option<Duration>,
        /// For a query.
        query: Option<Duration>,
        /// For a transaction.
        transaction: Option<Duration>,
        /// For a client to go on with its transaction.
        idle_in_transaction: Option<Duration>,
        /// For a client to send anything outside a transaction.
        client_idle: Option<Duration>,
        /// For a server connection to stay unused.
        server_idle: Option<Duration>,
        /// For a server connection to exist.
        server_lifetime: Option<Duration>,
        /// By how much lifetimes differ at random.
        server_lifetime_jitter: Duration,
        /// Unused time after which a server connection is looked at.
        server_check: Option<Duration>,
        /// For the rollback of a transaction whose client left.
        rollback: Duration,
    }
}

impl Check for Timeouts {
    fn check(&self, reader: &mut Reader<'_>) {
        below("query", self.query, "transaction", self.transaction, reader);
        let (within, around) = (self.idle_in_transaction, self.transaction);
        below("idle_in_transaction", within, "transaction", around, reader);
        // A notice after the end of waiting, or a check after the end of idleness, merely never
        // comes: whoever shortens only the other must not be refused for these defaults.
        let jitter = Some(self.server_lifetime_jitter);
        below(
            "server_lifetime_jitter",
            jitter,
            "server_lifetime",
            self.server_lifetime,
            reader,
        );
    }
}

impl Check for TimeoutOverrides {
    fn check(&self, reader: &mut Reader<'_>) {
        let (query, transaction) = (self.query.flatten(), self.transaction.flatten());
        below("query", query, "transaction", transaction, reader);
        let idle = self.idle_in_transaction.flatten();
        below(
            "idle_in_transaction",
            idle,
            "transaction",
            transaction,
            reader,
        );
    }
}

/// Finds a timeout that never strikes, as one that is around it strikes first.
fn below(
    key: &'static str,
    inner: Option<Duration>,
    outer_key: &'static str,
    outer: Option<Duration>,
    reader: &mut Reader<'_>,
) {
    if let (Some(inner), Some(outer)) = (inner, outer)
        && inner > outer
    {
        let (inner, outer) = (inner.show(), outer.show());
        let problem = format!("{inner} is longer than `{outer_key}`, {outer}");
        reader.contradiction(key, problem, &format!("0, or up to `{outer_key}`"));
    }
}
