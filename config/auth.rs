use crate::fault::Problem;
use crate::reader::Reader;
use crate::section::Check;

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

words! {
    Method {
        Trust = "trust",
        Password = "password",
        Md5 = "md5",
        ScramSha256 = "scram-sha-256",
        Cert = "cert",
        Peer = "peer",
        Passthrough = "passthrough",
    }
}

impl Check for Auth {
    fn check(&self, reader: &mut Reader<'_>) {
        if self.query.is_some() && self.query_user.is_none() {
            reader.contradiction(
                "query",
                "nobody is named to run it",
                "with `query_user` only",
            );
        }
        if let Some(query) = &self.query
            && !query.contains("$1")
        {
            reader.contradiction("query", "it does not ask for the user", "a query with `$1`");
        }
        if !(4096..=10_000_000).contains(&self.scram_iterations) {
            let problem = Problem::Value(self.scram_iterations.to_string());
            reader.fault(
                "scram_iterations",
                problem,
                "a number from 4096 to 10000000",
            );
        }
        if self.method == Method::Peer {
            let allowed = "as `unix_method` only";
            reader.contradiction("method", "a TCP connection has no peer user", allowed);
        }
        if self.unix_method == Some(Method::Cert) {
            let allowed = "as `method` only";
            reader.contradiction("unix_method", "a unix socket has no certificate", allowed);
        }
        if self.method == Method::Trust {
            reader.warn(
                "method",
                "everyone who can connect is believed to be whoever they say",
            );
        }
    }
}
