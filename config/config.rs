use std::collections::BTreeMap;
use std::sync::Arc;

use crate::admin::{Admin, Role};
use crate::auth::Auth;
use crate::database::{Database, WILDCARD};
use crate::drain::Drain;
use crate::failover::Failover;
use crate::limits::Limits;
use crate::listen::Listen;
use crate::log::Log;
use crate::metrics::Metrics;
use crate::notifications::Notifications;
use crate::pool::PoolDefaults;
use crate::reads::Reads;
use crate::sharding::Sharded;
use crate::timeouts::Timeouts;
use crate::tls::ClientTls;
use crate::user::User;
use crate::workers::Workers;

/// All that an operator has said, checked and complete.
///
/// It never changes: a reload makes another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where clients connect.
    pub listen: Listen,
    /// The console.
    pub admin: Admin,
    /// TLS towards clients.
    pub tls: ClientTls,
    /// How clients prove who they are.
    pub auth: Auth,
    /// How pools behave.
    pub pool: PoolDefaults,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// The most there may be of anything.
    pub limits: Limits,
    /// How it is found out which server may be written to.
    pub failover: Failover,
    /// Which servers are read from.
    pub reads: Reads,
    /// Clients that listen.
    pub notifications: Notifications,
    /// The threads that carry the traffic.
    pub workers: Workers,
    /// What is written to the log.
    pub log: Log,
    /// The endpoint for metrics and health.
    pub metrics: Metrics,
    /// What comes before the end.
    pub drain: Drain,
    /// The databases clients may ask for, by name.
    pub databases: BTreeMap<String, Arc<Database>>,
    /// The databases that are made of others, by name.
    pub sharded: BTreeMap<String, Arc<Sharded>>,
    /// The users who may log in, by name.
    pub users: BTreeMap<String, Arc<User>>,
}

impl Config {
    /// Gives the database for a name a client asks for: its own, or the wildcard.
    pub fn database(&self, name: &str) -> Option<Arc<Database>> {
        self.databases
            .get(name)
            .or_else(|| self.databases.get(WILDCARD))
            .cloned()
    }

    /// Gives the section of the servers that a client is to be looked up on: of a sharded database, its
    /// first shard.
    pub fn section<'a>(&'a self, name: &'a str) -> &'a str {
        let sharded = self.sharded.get(name);
        let first = sharded.and_then(|sharded| sharded.shards.first());
        first.map_or(name, String::as_str)
    }

    /// Gives the user for a name: its own, or the wildcard.
    pub fn user(&self, name: &str) -> Option<Arc<User>> {
        self.users
            .get(name)
            .or_else(|| self.users.get(WILDCARD))
            .cloned()
    }

    /// Tells whether a database name is the console's.
    pub fn is_console(&self, database: &str) -> bool {
        self.admin.databases.iter().any(|name| name == database)
    }

    /// Tells what a user may do on the console, by the lists of `admin` or by its own entry.
    ///
    /// The wildcard user never grants anything here.
    pub fn console_role(&self, user: &str) -> Role {
        let listed = |names: &[String]| names.iter().any(|name| name == user);
        let own = self.users.get(user).map_or(Role::None, |user| user.console);
        let by_list = if listed(&self.admin.admins) {
            Role::Admin
        } else if listed(&self.admin.readers) {
            Role::Reader
        } else {
            Role::None
        };
        own.max(by_list)
    }
}
