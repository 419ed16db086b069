use std::collections::BTreeMap;

use crate::host::Host;
use crate::limits::LimitOverrides;
use crate::pool::PoolOverrides;
use crate::secret::Secret;
use crate::timeouts::TimeoutOverrides;
use crate::tls::ServerTls;

/// The name of the database, or the user, that stands for all that are not named.
pub const WILDCARD: &str = "*";

/// A database that clients may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Database {
    /// The name clients ask for, or [`WILDCARD`].
    pub name: String,
    /// The servers, at least one; which is primary is found out.
    pub hosts: Vec<Host>,
    /// The name on the servers; `None` is the name the client asked for.
    pub dbname: Option<String>,
    /// The user on the servers, whoever the client is; `None` is the client's.
    pub user: Option<String>,
    /// The password of that user; never present without it.
    pub password: Option<Secret>,
    /// TLS towards the servers.
    pub tls: ServerTls,
    /// Settings of its pools.
    pub pool: PoolOverrides,
    /// Its timeouts.
    pub timeouts: TimeoutOverrides,
    /// Its limits.
    pub limits: LimitOverrides,
    /// The `auth_query` for this database, instead of the general one.
    pub auth_query: Option<String>,
    /// Parameters set at the start of each of its server connections, by name.
    pub parameters: BTreeMap<String, String>,
}

impl Database {
    /// Tells whether this stands for all databases that are not named.
    pub fn is_wildcard(&self) -> bool {
        self.name == WILDCARD
    }

    /// Gives the name on the servers, when a client asks for `asked`.
    pub fn dbname<'a>(&'a self, asked: &'a str) -> &'a str {
        self.dbname.as_deref().unwrap_or(asked)
    }
}
