//! The configuration in force.
//!
//! Owns: the snapshot of the configuration, of which it is the only writer.
//! Hears: that it is to be read anew.
//! Tells: Router, once a new configuration holds.
//! If it dies: the last good configuration stays in force.

use std::sync::Arc;
use std::time::Duration;

use pgherd_config::{Change, Config as Settings, Effect, Faults, LoadInput};
use pgherd_net::{ClientTls, Identity, Keepalive, Network, Roots, SocketOptions, TlsSetupError};
use pgherd_supervise::{Heartbeat, Slot, SlotError};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use tokio::sync::Semaphore;

use crate::clock;
use crate::cluster::patroni::{SourceTls, SourceTlsError};
use crate::facts::Facts;
use crate::router::{self, RouterMessage};
use crate::shards::{self, Misplaced};
use crate::transactions::Prepared;

/// How long pools may take to follow a new configuration.
const PATIENCE: Duration = Duration::from_secs(10);

/// The most changes of a reload that are told one by one, and the most warnings on the console.
pub(crate) const TOLD_MAX: usize = 200;

/// The actor.
#[derive(Debug)]
pub struct Config;

/// What it is born with.
#[derive(Debug, Clone)]
pub struct ConfigArguments {
    /// The facts.
    pub facts: Arc<Facts>,
    /// Where the configuration comes from.
    pub source: Arc<LoadInput>,
    /// Where it is reached.
    pub slot: Slot<ConfigMessage>,
    /// Its sign of life.
    pub heartbeat: Heartbeat,
}

/// Why a configuration is not taken over.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// It has faults.
    #[error("{0}")]
    Faults(#[from] Faults),
    /// Its certificates cannot be used.
    #[error("tls: {0}")]
    Tls(#[from] TlsSetupError),
    /// A certificate for Patroni cannot be used.
    #[error(transparent)]
    Patroni(#[from] SourceTlsError),
    /// No rows can be placed as it says.
    #[error(transparent)]
    Misplaced(#[from] Misplaced),
    /// A shard would be left out that has, or decides about, a part of a transaction.
    #[error(transparent)]
    Prepared(#[from] Prepared),
}

/// A configuration that was taken over.
#[derive(Debug)]
pub struct Reloaded {
    /// What has changed.
    pub changes: Vec<Change>,
    /// What is odd and yet allowed, and what does not hold yet.
    pub warnings: Vec<String>,
}

impl Reloaded {
    /// Writes it to the log.
    fn write(&self) {
        let changes = self.changes.len();
        tracing::info!(changes, "configuration reloaded");
        for change in self.changes.iter().take(TOLD_MAX) {
            let holds = match change.effect {
                Effect::Now => "now",
                Effect::NextConnection => "for new connections",
                Effect::Restart => "at next start",
            };
            // A value that is a secret is masked in it.
            tracing::info!(
                setting = change.path,
                old = change.old,
                new = change.new,
                holds,
                "setting changed"
            );
        }
        if let Some(more @ 1..) = changes.checked_sub(TOLD_MAX) {
            tracing::info!(more, "settings changed");
        }
        for warning in &self.warnings {
            tracing::warn!("{warning}");
        }
    }
}

/// What it hears.
#[derive(Debug)]
pub enum ConfigMessage {
    /// Read it anew and put it in force, if all of it is right.
    Reload(RpcReplyPort<Result<Reloaded, ReloadError>>),
    /// Time for a sign of life.
    Beat,
    /// A test wants to see it crash.
    #[cfg(feature = "chaos")]
    Crash,
}

impl Actor for Config {
    type Msg = ConfigMessage;
    type State = ConfigArguments;
    type Arguments = ConfigArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        arguments.heartbeat.beat(&myself, || ConfigMessage::Beat);
        arguments.slot.fill(myself);
        Ok(arguments)
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ConfigMessage::Beat => state.heartbeat.beat(&myself, || ConfigMessage::Beat),
            ConfigMessage::Reload(reply) => {
                let outcome = state.reload().await;
                match &outcome {
                    Ok(reloaded) => reloaded.write(),
                    Err(error) => tracing::error!(%error, "the configuration stays as it was"),
                }
                // An asker that is gone needs no answer.
                let _ = reply.send(outcome);
            }
            #[cfg(feature = "chaos")]
            ConfigMessage::Crash => panic!("a test wanted this"),
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _myself: ActorRef<Self::Msg>,
        _event: SupervisionEvent,
        _state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

impl ConfigArguments {
    async fn reload(&self) -> Result<Reloaded, ReloadError> {
        let source = Arc::clone(&self.source);
        let loaded = tokio::task::spawn_blocking(move || Settings::load(&source)).await;
        let loaded = match loaded {
            Ok(loaded) => loaded?,
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        };
        let tls = client_tls(&loaded.config)?;
        for database in loaded.config.databases.values() {
            router::server_tls(&database.tls)?;
        }
        let source_tls = SourceTls::of(&loaded.config)?;
        for sharded in loaded.config.sharded.values() {
            shards::placement(sharded)?;
        }
        // Whoever does not know of a shard cannot end what is prepared there.
        self.facts.transactions.are_kept(&loaded.config)?;
        let changes = Settings::diff(&self.facts.config.load(), &loaded.config);
        self.facts
            .client_socket
            .store(Arc::new(client_socket(&loaded.config)));
        self.facts.client_tls.store(Arc::new(tls));
        self.facts.source_tls.store(Arc::new(source_tls));
        let max_cancels = loaded.config.limits.max_cancels;
        if max_cancels != self.facts.config.load().limits.max_cancels {
            self.facts
                .cancels
                .store(Arc::new(Semaphore::new(max_cancels.get())));
        }
        let mut warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
        let config = Arc::new(loaded.config);
        self.facts.config.store(Arc::clone(&config));
        self.facts.groups.reconfigure(&config);
        // Said before it is told, so that the next router does it if this one dies of it.
        self.facts.memory.renewed();
        let told = self.facts.router.call(RouterMessage::Reconfigure, PATIENCE);
        if let Err(error) = told.await {
            warnings.push(format!(
                "pools do not follow the new configuration yet: the router does not answer ({error})"
            ));
        }
        Ok(Reloaded { changes, warnings })
    }
}

/// TLS towards clients, made ready.
///
/// # Errors
/// A certificate, key or authority that cannot be read or used.
pub fn client_tls(config: &Settings) -> Result<ClientTls, TlsSetupError> {
    let tls = &config.tls;
    let (Some(cert), Some(key)) = (&tls.cert, &tls.key) else {
        return Ok(ClientTls::disabled());
    };
    let identity = Identity::from_files(cert, key)?;
    let roots = tls.ca.as_deref().map(Roots::from_file).transpose()?;
    let oldest = router::tls_version(tls.min_version);
    ClientTls::at_least(oldest, router::mode(tls.mode), identity, roots)
}

/// TCP options as the configuration says.
pub fn client_socket(config: &Settings) -> SocketOptions {
    let listen = &config.listen;
    SocketOptions {
        keepalive: listen.keepalive_idle.map(|idle| Keepalive {
            idle,
            interval: listen.keepalive_interval,
            count: listen.keepalive_count,
        }),
        user_timeout: listen.user_timeout,
        nodelay: true,
        network: Network::Kernel,
    }
}

/// The same towards servers. A server that says nothing while it works is asked for a sign of life as soon as one that
/// acknowledges nothing would be given up.
pub fn server_socket(config: &Settings) -> SocketOptions {
    let silence = config.failover.silence();
    let usual = client_socket(config);
    // The kernel counts whole seconds here, and ends it by the user timeout from the first probe on.
    let keepalive = silence.map(|silence| Keepalive {
        idle: (silence / 2).max(SECOND),
        interval: (silence / 6).max(SECOND),
        count: 3,
    });
    SocketOptions {
        keepalive: keepalive.or(usual.keepalive),
        user_timeout: silence,
        ..usual
    }
}

const SECOND: Duration = Duration::from_secs(1);

/// How soon is asked again where the actor has not started yet, or starts anew.
const AGAIN: Duration = Duration::from_millis(20);

/// Asks for a reload; what comes of it is in the log.
pub async fn reload(facts: &Facts) {
    let until = clock::now() + PATIENCE;
    let error = loop {
        let asked = facts
            .configuration
            .call(ConfigMessage::Reload, PATIENCE * 2);
        match asked.await {
            Ok(_) => return,
            Err(SlotError::Absent) if clock::now() < until => tokio::time::sleep(AGAIN).await,
            Err(error) => break error,
        }
    };
    tracing::error!(%error, "cannot reload the configuration");
}
