//! One address on which clients connect.
//!
//! Owns: the accepting task. The socket itself belongs to whoever started the proxy, so a restarted
//!   listener finds the clients that queued meanwhile.
//! Hears: that its task has ended.
//! Tells: the worker of each client, by starting a session there. It does so to the end of the process: who
//!   comes while that drains is told by its session, and may still cancel.
//! If it dies: sessions go on; the next one accepts from the same socket.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pgherd_net::Listener as Socket;
use pgherd_supervise::{Dynamic, End, Heartbeat, Tasked, Work};

use crate::facts::Facts;
use crate::session::{Session, SessionArguments};
use crate::workers::Workers;

/// How long to wait when the process is out of descriptors, or over its limit of clients.
const PAUSE: Duration = Duration::from_millis(100);
/// How many clients over the limit are heard: they may cancel, or look after the proxy, and are told else that it is full.
const TOLD: usize = 64;

/// The actor, once it is [`Tasked`].
#[derive(Debug)]
pub struct Listener;

/// What it is born with.
#[derive(Debug, Clone)]
pub struct ListenerArguments {
    /// The socket.
    pub socket: Arc<Socket>,
    /// The facts.
    pub facts: Arc<Facts>,
    /// Where sessions live.
    pub workers: Arc<Workers>,
    /// Who supervises the sessions of each worker.
    pub sessions: Arc<[Dynamic]>,
    /// The next worker in turn.
    pub turn: Arc<AtomicUsize>,
    /// Its sign of life.
    pub heartbeat: Heartbeat,
}

impl Work for Listener {
    type Arguments = ListenerArguments;

    async fn run(arguments: ListenerArguments) -> End {
        accept(arguments).await
    }
}

async fn accept(arguments: ListenerArguments) -> End {
    let ListenerArguments {
        socket,
        facts,
        workers,
        sessions,
        turn,
        heartbeat,
    } = arguments;
    loop {
        while facts.sessions.count() > facts.config.load().limits.max_clients.get() + TOLD {
            heartbeat.touch();
            tokio::time::sleep(PAUSE).await;
        }
        let accepted = match heartbeat.through(socket.accept()).await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a client");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let worker = turn.fetch_add(1, Ordering::Relaxed) % workers.count();
        let supervisor = sessions[worker].clone();
        let arguments = SessionArguments {
            accepted,
            facts: Arc::clone(&facts),
            worker: u16::try_from(worker).unwrap_or(0),
        };
        // On the worker's own runtime, so that the session and its task live there.
        workers.spawn(worker, async move {
            if let Err(error) = supervisor.spawn(Tasked(Session), arguments).await {
                tracing::warn!(%error, "cannot start a session");
            }
        });
    }
}
