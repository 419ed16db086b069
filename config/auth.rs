use crate::fault::{Origin, Problem};
use crate::hba::{ClientCert, ClientName, HbaFile, IdentFile, Kind, Network, Rule, Visitor, Way};
use crate::reader::Reader;
use crate::section::Check;

section! {
    /// How clients prove who they are.
    pub struct Auth {
        /// The method for clients on TCP.
        [NextConnection] method: Method,
        /// The method for clients on the unix socket; `None` asks the same as on TCP.
        [NextConnection] unix_method: Option<Method>,
        /// Who may log in from where, and how; the first that fits decides. Empty leaves it to
        /// `hba_file`, or else to the two methods.
        [NextConnection] rules: Vec<Rule>,
        /// The rules in a file of Postgres' form.
        [NextConnection] hba_file: HbaFile,
        /// The maps that rules name, in a file of Postgres' form.
        [NextConnection] ident_file: IdentFile,
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
    /// Nobody is let in.
    Reject,
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
        Reject = "reject",
        Password = "password",
        Md5 = "md5",
        ScramSha256 = "scram-sha-256",
        Cert = "cert",
        Peer = "peer",
        Passthrough = "passthrough",
    }
}

/// How a client is to prove who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision<'a> {
    /// The method.
    pub method: Method,
    /// The map from names outside to users, for certificates and peers.
    pub map: Option<&'a str>,
    /// What the client's certificate must be.
    pub client_cert: Option<ClientCert>,
    /// Which name in it counts.
    pub client_name: ClientName,
}

impl Auth {
    /// Gives the rules in force; none if the two methods are all there is.
    pub fn rules(&self) -> &[Rule] {
        if self.rules.is_empty() {
            &self.hba_file.rules
        } else {
            &self.rules
        }
    }

    /// Decides by what a client must prove who it is; `None` if there is no rule for it. `own`
    /// gives the networks of this machine, and is asked only if a rule is about them.
    pub fn decide(
        &self,
        visitor: &Visitor<'_>,
        own: &dyn Fn() -> Vec<Network>,
    ) -> Option<Decision<'_>> {
        let rules = self.rules();
        if rules.is_empty() {
            let method = match (self.unix_method, visitor.way) {
                (Some(method), Way::Unix) => method,
                _ => self.method,
            };
            return Some(Decision {
                method,
                map: None,
                client_cert: (method == Method::Cert).then_some(ClientCert::VerifyFull),
                client_name: ClientName::CommonName,
            });
        }
        let rule = rules.iter().find(|rule| rule.fits(visitor, own))?;
        Some(Decision {
            method: rule.method,
            map: rule.options.map.as_deref(),
            client_cert: rule.options.client_cert,
            client_name: rule.options.client_name,
        })
    }

    /// Tells whether some client must know a secret that is known here.
    pub(crate) fn asks_secret(&self) -> bool {
        let asks =
            |method: Method| matches!(method, Method::Password | Method::Md5 | Method::ScramSha256);
        match self.rules() {
            [] => asks(self.method),
            rules => rules.iter().any(|rule| asks(rule.method)),
        }
    }

    /// Finds what is wrong between the rules and the settings beside them.
    fn check_rules(&self, reader: &mut Reader<'_>) {
        if !self.rules.is_empty() && self.hba_file.path.is_some() {
            reader.contradiction("hba_file", "there are `rules`, too", "one of the two");
        }
        if self.rules().is_empty() {
            return;
        }
        for key in ["method", "unix_method"] {
            if !matches!(reader.origin(key), Origin::Default { .. }) {
                reader.warn(key, "it is not used, as there are rules");
            }
        }
        for rule in self.rules() {
            let findings = reader.findings();
            if let Some(map) = &rule.options.map
                && !self.ident_file.maps.has(map)
            {
                let problem = Problem::Contradiction(format!("there is no map {map:?}"));
                let allowed = "maps in `auth.ident_file`";
                findings.fault(&rule.origin, "", problem, allowed);
            }
            if rule.kind == Kind::HostGssEnc {
                let what = "the rule never fits, as GSS encryption is not spoken";
                findings.warn(&rule.origin, "", what);
            }
        }
    }
}

impl Check for Auth {
    fn check(&self, reader: &mut Reader<'_>) {
        self.check_rules(reader);
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
        if self.method == Method::Trust && self.rules().is_empty() {
            reader.warn(
                "method",
                "everyone who can connect is believed to be whoever they say",
            );
        }
    }
}
