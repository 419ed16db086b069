use std::time::Duration;

section! {
    /// How long things may take; `None` is without end.
    pub struct Timeouts {
        /// For a client to log in.
        [NextConnection] login: Option<Duration>,
        /// For a server connection to be opened and logged in.
        [Now] connect: Option<Duration>,
        /// For a client in the queue to get a server connection.
        [Now] checkout: Option<Duration>,
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
        /// Unused time after which a server connection is looked at before it is handed out.
        [Now] server_check: Option<Duration>,
        /// For the rollback of a transaction whose client left.
        [Now] rollback: Duration,
        /// For a cancel request to reach the server.
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
