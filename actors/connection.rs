//! The life of one server connection.
//!
//! Owns: the task that connects and logs in. The connection itself is a value that moves through
//!   the pool's core.
//! Hears: that its task has ended.
//! Tells: the pool, when there is no connection; else the core gets it without a message.
//! If it dies: while connecting, the place in the pool is released by `Drop` and another is opened;
//!   later nothing happens to the connection, which is in other hands.

use std::sync::Arc;

use pgherd_config::CommitResolution;
use pgherd_pool::OpenSlot;
use pgherd_supervise::{End, Work};
use ractor::ActorRef;

use crate::clock;
use crate::gate::Failing;
use crate::pool::{Forgotten, Pool, PoolMessage};
use crate::server::{Life, ServerAbout, ServerConn};
use crate::session::resolve;
use crate::upstream::{self, OpenError, Upstream};

/// The actor, once it is [`Tasked`](pgherd_supervise::Tasked).
#[derive(Debug)]
pub struct ServerConnection;

/// What it is born with.
pub struct ConnectionArguments {
    /// Its pool.
    pub pool: Arc<Pool>,
    /// The pool's actor.
    pub manager: ActorRef<PoolMessage>,
    /// Its place in the pool.
    pub place: OpenSlot<Box<ServerConn>, ServerAbout>,
    /// Its number.
    pub id: u64,
}

impl Work for ServerConnection {
    type Arguments = ConnectionArguments;

    async fn run(arguments: ConnectionArguments) -> End {
        live(arguments).await;
        End::Stop
    }
}

async fn live(arguments: ConnectionArguments) {
    let ConnectionArguments {
        pool,
        manager,
        place,
        id,
    } = arguments;
    let upstream = pool.upstream.load_full();
    let (life, ended) = Life::new();
    let opening = async {
        let permit = upstream::in_turn(&upstream, upstream.gate.0.enter()).await?;
        let opened = upstream::open(&upstream, id, life).await;
        drop(permit);
        opened
    };
    // A host that does not answer must not keep the place from the one that writes go to by now.
    let opened = tokio::select! {
        opened = opening => Some(opened),
        () = place.outdated() => None,
    };
    let Some(mut opened) = opened else { return };
    if let Ok((conn, _)) = &mut opened
        && pool.key.reader.is_none()
        && pool.settings().commit_resolution == CommitResolution::On
        && resolve::acquaint(&pool, conn).await.is_err()
    {
        drop(place);
        let _ = manager.cast(PoolMessage::Look);
        return;
    }
    let is_usual = || pool.upstream.load().name == upstream.name;
    let opened = match opened {
        Ok((_, welcome))
            if pool.key.reader.is_none()
                && pool.cluster.load().is_led()
                && welcome.is_in_recovery() =>
        {
            let host = upstream.name.clone();
            Err(OpenError::Standby { host })
        }
        opened => opened,
    };
    match opened {
        Ok((conn, welcome)) => {
            upstream.gate.0.succeeded();
            pool.backoff.succeeded();
            if is_usual() {
                pool.trouble.store(None);
                pool.retries.saw(conn.role);
                pool.greeted(welcome);
            }
            let about = Arc::clone(&conn.about);
            // A pool that no longer wants it has closed it, which ends this life as well.
            let _ = place.fill_with(conn, about, clock::now());
            ended.cancelled().await;
        }
        Err(error) => {
            // A replica may still have to replay that the password was changed. No proof was sent to it that does not fit.
            let is_behind =
                pool.key.reader.is_some() && matches!(error, OpenError::Outdated { .. });
            let forgotten = match error.is_wrong_password() && !is_behind {
                true => pool.forget(&upstream),
                false => Forgotten::Nothing,
            };
            pool.note_failure(&error, &upstream, forgotten);
            if error.is_of_host() {
                let now = clock::now();
                pool.cluster.load().suspect(&upstream.name, now);
            }
            lament(&pool, &upstream, &error);
            drop(place);
            let told = match forgotten {
                // What another host says is nothing to those who wait for this one.
                _ if !is_usual() || pool.core.held().is_some() => PoolMessage::Look,
                Forgotten::Nothing => PoolMessage::Failed(Arc::new(error)),
                Forgotten::Secret => PoolMessage::Failed(Arc::new(upstream::outdated(&upstream))),
                Forgotten::Renewed => PoolMessage::Look,
            };
            // A manager that is gone has a successor, which looks at the core by itself.
            let _ = manager.cast(told);
        }
    }
}

/// Says that there is no connection. That a host is full is said once, as it is asked again soon.
fn lament(pool: &Pool, upstream: &Upstream, error: &OpenError) {
    let (database, user, host) = (&pool.key.database, &pool.key.user, &upstream.name);
    let full = |error: &OpenError| error.failing() == Failing::Full;
    if full(error) && pool.trouble.load().as_deref().is_some_and(full) {
        tracing::debug!(database, user, host, %error, "still no server connection");
    } else {
        tracing::warn!(database, user, host, %error, "no server connection");
    }
}
