//! A server that answers as it likes.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

use super::attack::{Attack, Opening};
use super::peer::Peer;

/// A fake Postgres on the loopback, up until it is dropped.
///
/// Out of attacks it answers `select 'x'` with one row of `x`.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    script: Arc<Script>,
    task: JoinHandle<()>,
}

/// What it does, and what was done to it.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) opening: Opening,
    pub(super) attacks: Vec<Attack>,
    pub(super) healthy: AtomicBool,
    pub(super) logins: AtomicUsize,
    pub(super) cancels: AtomicUsize,
}

impl Server {
    /// Starts a server that opens connections like this, and attacks those who name an attack.
    ///
    /// # Errors
    /// As the system says.
    pub async fn start(opening: Opening, attacks: Vec<Attack>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let script = Arc::new(Script {
            opening,
            attacks,
            healthy: AtomicBool::new(false),
            logins: AtomicUsize::new(0),
            cancels: AtomicUsize::new(0),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&script)));
        Ok(Self {
            address,
            script,
            task,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether it opens connections as a healthy server does from now on.
    pub fn set_healthy(&self, healthy: bool) {
        self.script.healthy.store(healthy, Ordering::SeqCst);
    }

    /// Start-up packets that came, all of them in plain text.
    pub fn logins(&self) -> usize {
        self.script.logins.load(Ordering::SeqCst)
    }

    /// Cancel requests that came.
    pub fn cancels(&self) -> usize {
        self.script.cancels.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, script: Arc<Script>) {
    let mut peers = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        peers.spawn(Peer::new(stream, Arc::clone(&script)).live());
        while peers.try_join_next().is_some() {}
    }
}
