//! The replication sessions of the process, for the console and the metrics.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use pgherd_config::Config;
use pgherd_wire::cancel::CancelKey;
use pgherd_wire::error::ErrorReport;
use pgherd_wire::sqlstate;

use crate::control::{Control, Order};
use crate::pool::PoolKey;
use crate::server::ServerAbout;
use crate::session::replication::Kind;

/// One replication session with its server connection.
#[derive(Debug)]
pub struct Listed {
    /// What it asked for.
    pub kind: Kind,
    /// The database and the user that it counts for.
    pub of: PoolKey,
    /// Its server connection.
    pub about: Arc<ServerAbout>,
    /// Its client.
    pub client: Arc<Control>,
    /// The key by which the client cancels. Unlike others it has the number of the server's own
    /// process: `pg_basebackup` names a slot on the server after it, which must be the only one of
    /// that name there, whoever else has connections to it.
    pub(super) key: CancelKey,
}

/// All of them, and what has passed since the start.
#[derive(Debug, Default)]
pub struct Replications {
    live: Mutex<BTreeMap<i32, Arc<Listed>>>,
    begun: AtomicU64,
    from_clients: AtomicU64,
    from_servers: AtomicU64,
}

/// The figures of one moment.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Census {
    /// How many sessions there are of each database, user and kind.
    pub live: Vec<(PoolKey, Kind, usize)>,
    /// Sessions that were given a server since the start of the process.
    pub begun: u64,
    /// Bytes from their clients.
    pub from_clients: u64,
    /// Bytes from their servers.
    pub from_servers: u64,
}

impl Replications {
    /// Lists a session until the listing is dropped.
    pub(super) fn enter(self: &Arc<Self>, session: Listed) -> Listing {
        self.begun.fetch_add(1, Ordering::Relaxed);
        let session = Arc::new(session);
        let client = session.client.id;
        self.live.lock().insert(client, Arc::clone(&session));
        Listing {
            all: Arc::clone(self),
            session,
        }
    }

    /// The sessions of this moment, by their clients' numbers.
    pub fn all(&self) -> Vec<Arc<Listed>> {
        self.live.lock().values().cloned().collect()
    }

    /// The client that a cancel key was given to; keys are compared in constant time.
    pub fn by_key(&self, key: &CancelKey) -> Option<Arc<Control>> {
        let live = self.live.lock();
        let named = live.values().find(|session| session.key == *key);
        named.map(|session| Arc::clone(&session.client))
    }

    /// The kind of a client's replication, if it is in one.
    pub fn kind(&self, client: i32) -> Option<Kind> {
        self.live.lock().get(&client).map(|session| session.kind)
    }

    /// Sends the clients of databases away that are gone from the configuration.
    pub fn leave_gone(&self, config: &Config) {
        for session in self.all() {
            if config.database(&session.of.database).is_none() {
                let report = ErrorReport::fatal(
                    sqlstate::ADMIN_SHUTDOWN,
                    "the database was removed from the configuration",
                );
                session.client.order(Order::Terminate, report);
            }
        }
    }

    /// The figures of this moment.
    pub fn census(&self) -> Census {
        let mut counts = BTreeMap::new();
        for session in self.live.lock().values() {
            *counts
                .entry((session.of.clone(), session.kind))
                .or_insert(0) += 1;
        }
        let counts = counts.into_iter();
        Census {
            live: counts
                .map(|((key, kind), count)| (key, kind, count))
                .collect(),
            begun: self.begun.load(Ordering::Relaxed),
            from_clients: self.from_clients.load(Ordering::Relaxed),
            from_servers: self.from_servers.load(Ordering::Relaxed),
        }
    }
}

/// A session's place in the list.
#[derive(Debug)]
pub(super) struct Listing {
    all: Arc<Replications>,
    session: Arc<Listed>,
}

impl Listing {
    /// The key by which the client cancels.
    pub(super) fn key(&self) -> &CancelKey {
        &self.session.key
    }

    /// Bytes came from the client.
    pub(super) fn received_from_client(&self, bytes: usize) {
        let counter = &self.all.from_clients;
        counter.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Bytes came from the server.
    pub(super) fn received_from_server(&self, bytes: usize) {
        let counter = &self.all.from_servers;
        counter.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

impl Drop for Listing {
    fn drop(&mut self) {
        self.all.live.lock().remove(&self.session.client.id);
    }
}
