section! {
    /// How clients prove who they are.
    pub struct Auth {
        /// The method for clients on TCP.
        [NextConnection] method: Method,
        /// The method for clients on the unix socket; `None` asks the same as on TCP.
        [NextConnection] unix_method: Option<Method>,
        /// The query that gives name and secret of a user who is not configured; its parameter
        /// `$1` is the name. `None` turns it off.
        [NextConnection] query: Option<String>,
        /// The configured user as whom the query runs; present if the query is.
        [NextConnection] query_user: Option<String>,
        /// The database in which the query runs; `None` takes the one the client asked for.
        [NextConnection] query_database: Option<String>,
        /// Rounds of hashing for SCRAM with a plain password (RFC 7677 §4: at least 4096).
        [NextConnection] scram_iterations: u32,
    }
}

/// A method of authentication towards clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Everyone is believed.
    Trust,
    /// The password in clear, for use under TLS.
    Password,
    /// Postgres' salted MD5.
    Md5,
    /// SCRAM-SHA-256, and -PLUS under TLS.
    ScramSha256,
    /// A TLS client certificate in the user's name.
    Cert,
    /// The operating system's user of a unix socket's peer.
    Peer,
    /// What the server demands is asked of the client and proved against the server.
    Passthrough,
}
