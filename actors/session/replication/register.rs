//! The replication sessions of the process, for the console and the metrics.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::pool::PoolKey;
use crate::server::ServerAbout;
use crate::session::replication::Kind;

/// One replication session with its server connection.
#[derive(Debug)]
pub struct Listed {
    /// What it asked for.
    pub kind: Kind,
    /// The database and the user that it counts for.
    pub key: PoolKey,
    /// Its server connection.
    pub about: Arc<ServerAbout>,
}

impl Listed {
    pub(super) fn new(kind: Kind, key: PoolKey, about: Arc<ServerAbout>) -> Self {
        Self { kind, key, about }
    }
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
    /// Lists a session by its client's number until the listing is dropped.
    pub(super) fn enter(self: &Arc<Self>, client: i32, session: Listed) -> Listing {
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.live.lock().insert(client, Arc::new(session));
        Listing {
            all: Arc::clone(self),
            client,
        }
    }

    /// The sessions of this moment, by their clients' numbers.
    pub fn all(&self) -> Vec<(i32, Arc<Listed>)> {
        let live = self.live.lock();
        live.iter()
            .map(|(client, session)| (*client, Arc::clone(session)))
            .collect()
    }

    /// The kind of a client's replication, if it is in one.
    pub fn kind(&self, client: i32) -> Option<Kind> {
        self.live.lock().get(&client).map(|session| session.kind)
    }

    /// The figures of this moment.
    pub fn census(&self) -> Census {
        let mut counts = BTreeMap::new();
        for session in self.live.lock().values() {
            *counts
                .entry((session.key.clone(), session.kind))
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
    client: i32,
}

impl Listing {
    /// Bytes came from the client.
    pub(super) fn from_client(&self, bytes: usize) {
        let counter = &self.all.from_clients;
        counter.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Bytes came from the server.
    pub(super) fn from_server(&self, bytes: usize) {
        let counter = &self.all.from_servers;
        counter.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

impl Drop for Listing {
    fn drop(&mut self) {
        self.all.live.lock().remove(&self.client);
    }
}
