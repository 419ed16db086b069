use std::num::NonZeroUsize;

use crate::fault::Problem;
use crate::reader::Reader;
use crate::row::{Effect, Row};
use crate::section::{Check, Section};
use crate::setting::Setting;

section! {
    /// The most there may be of anything; `None` is without a limit.
    pub struct Limits {
        /// Client connections.
        [Now] max_clients: NonZeroUsize,
        /// Client connections that have not logged in yet.
        [Now] max_logins: NonZeroUsize,
        /// Client connections of one database.
        [Now] max_database_clients: Option<NonZeroUsize>,
        /// Client connections of one user.
        [Now] max_user_clients: Option<NonZeroUsize>,
        /// Server connections.
        [Now] max_connections: Option<NonZeroUsize>,
        /// Server connections of one database.
        [Now] max_database_connections: Option<NonZeroUsize>,
        /// Server connections of one user.
        [Now] max_user_connections: Option<NonZeroUsize>,
        /// Server connections to one host.
        [Now] max_host_connections: Option<NonZeroUsize>,
        /// Server connections being opened to one host at a time.
        [Now] max_host_logins: NonZeroUsize,
        /// Cancel requests of clients under way at a time; further ones are dropped.
        [Now] max_cancels: NonZeroUsize,
        /// The largest message kept whole, in bytes: a query text that must be understood. A
        /// larger query is streamed unread and pins its session; a larger Parse is refused.
        [Now] max_held_message: NonZeroUsize,
        /// What all clients have sent that wait for a server, in bytes, but for what is little of
        /// each. Beyond that a large statement is refused that would have to wait.
        [Now] max_waiting_bytes: NonZeroUsize,
        /// Prepared statements of one client.
        [Now] max_prepared_statements: NonZeroUsize,
        /// Names and texts of the prepared statements of one client, in bytes.
        [Now] max_prepared_bytes: NonZeroUsize,
        /// Rows that shards send to one of them, which combines them to one answer.
        [Now] max_combined_rows: NonZeroUsize,
        /// Their bytes.
        [Now] max_combined_bytes: NonZeroUsize,
    }
}

/// The most there may be for one database or one user, in place of the general limit.
///
/// The outer `None` leaves the limit as the layer below has it; the inner is without a limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LimitOverrides {
    /// Client connections.
    pub max_clients: Option<Option<NonZeroUsize>>,
    /// Server connections.
    pub max_connections: Option<Option<NonZeroUsize>>,
}

/// What holds for one database, or for one user, after overrides; `None` is without a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Client connections.
    pub max_clients: Option<NonZeroUsize>,
    /// Server connections.
    pub max_connections: Option<NonZeroUsize>,
}

impl Check for Limits {
    fn check(&self, reader: &mut Reader<'_>) {
        // A query of libpq's size must fit, or nothing would work.
        if self.max_held_message.get() < 8192 {
            let problem = Problem::Value(self.max_held_message.to_string());
            reader.fault("max_held_message", problem, "a number from 8192");
        }
    }
}

impl Section for LimitOverrides {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let max_clients = reader.optional("max_clients");
        let max_connections = reader.optional("max_connections");
        Some(Self {
            max_clients,
            max_connections,
        })
    }

    fn rows(&self, path: &str) -> Vec<Row> {
        let row = |key: &str, limit: &Option<Option<NonZeroUsize>>| {
            let limit = limit.as_ref()?;
            Some(Row::plain(
                format!("{path}.{key}"),
                limit.show(),
                Effect::Now,
            ))
        };
        let rows = [
            row("max_clients", &self.max_clients),
            row("max_connections", &self.max_connections),
        ];
        rows.into_iter().flatten().collect()
    }
}

impl Check for LimitOverrides {}
