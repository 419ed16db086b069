//! Asks Patroni which servers there are and who leads.
//!
//! Owns: nothing between two questions but when it has complained of whom.
//! Hears: that its task has ended.
//! Tells: the [`Cluster`], by a call: the members, and who Patroni says leads. That is only a claim;
//!   who may be written to is decided by what the host itself says. A source that does not answer, or does not
//!   prove who it is, says nothing of the cluster.
//! If it dies: the members stay; the next one asks again.

mod ask;
mod complaints;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use pgherd_config::{Config, Host, Patroni};
use pgherd_supervise::{End, Work};

use crate::clock;
use crate::cluster::Cluster;
use crate::cluster::members::host;
use crate::facts::Facts;

pub use tls::{SourceTls, SourceTlsError};

use ask::ask;
use complaints::Complaints;

/// The actor, once it is [`Tasked`](pgherd_supervise::Tasked).
#[derive(Debug)]
pub struct Scout;

/// What it is born with.
#[derive(Debug, Clone)]
pub struct ScoutArguments {
    /// Where it tells what it heard.
    pub cluster: Arc<Cluster>,
    /// The facts, for the configuration.
    pub facts: Arc<Facts>,
}

/// Patroni's own loop is slower than that, so asking more often tells nothing new.
const PACE_MIN: Duration = Duration::from_millis(200);

impl Work for Scout {
    type Arguments = ScoutArguments;

    async fn run(arguments: ScoutArguments) -> End {
        let ScoutArguments { cluster, facts } = arguments;
        let mut turn = 0;
        let mut complaints = Complaints::default();
        loop {
            // TLS is stored before the configuration that wants it.
            let config = facts.config.load_full();
            let tls = facts.source_tls.load_full();
            let Some(database) = config.databases.get(&cluster.name) else {
                return End::Stop;
            };
            let sources = &database.patroni;
            let Some(at) = usize::checked_rem(turn, sources.len()) else {
                return End::Stop;
            };
            let source = &sources[at];
            let patience = config.failover.probe_timeout;
            match ask(source, tls.towards(&cluster.name), patience).await {
                Ok(told) => cluster.heard(told, clock::now()),
                // Another node may know.
                Err(error) => {
                    complaints.renew(&tls);
                    complaints.hear(&cluster.name, source, &error);
                    turn += 1;
                }
            }
            tokio::time::sleep(PACE_MIN).await;
            // Whoever doubts wants to know at once what else there is to know.
            let pause = cluster.soonest(clock::now()).saturating_sub(PACE_MIN);
            let _ = tokio::time::timeout(pause, cluster.doubted()).await;
        }
    }
}

/// What a source has told; for `pgherd check`.
#[derive(Debug)]
pub struct Heard {
    /// What it tells of, in words.
    pub told: String,
    /// Where the members' servers listen.
    pub hosts: Vec<Host>,
}

/// Asks one source of a database, once.
///
/// # Errors
/// Why it has not told.
pub async fn try_source(
    config: &Config,
    database: &str,
    tls: &SourceTls,
    source: &Patroni,
) -> Result<Heard, String> {
    let patience = config.failover.probe_timeout;
    let asked = ask(source, tls.towards(database), patience).await;
    let cluster = asked.map_err(|error| format!("{source}: {error}"))?;
    let leader = match &cluster.claim.leader {
        Some(leader) => format!("{leader} leads"),
        None => "nobody leads".to_owned(),
    };
    Ok(Heard {
        told: format!(
            "{source} tells of {} members, {leader}",
            cluster.members.len()
        ),
        hosts: cluster
            .members
            .iter()
            .filter_map(|member| host(&member.host))
            .collect(),
    })
}
