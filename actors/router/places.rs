//! Where a login would go, for those who have no pool.

use std::sync::Arc;

use pgherd_cluster::{Absence, Storage, Writer};
use pgherd_config::{Config, Database, Host, PoolSettings};
use pgherd_pool::Quota;
use pgherd_wire::error::ErrorReport;
use pgherd_wire::sqlstate;

use crate::cluster::{Cluster, aurora, look};
use crate::facts::Facts;
use crate::pool::PoolKey;
use crate::router::{RouterMemory, hostless};
use crate::server::ServerConn;
use crate::session::prove::Proof;
use crate::session::setup;
use crate::upstream::{Secret, Upstream};

/// What has come of a connection to a database's server; for `pgherd check`.
#[derive(Debug)]
pub struct Tried {
    /// Who was let in, or why nobody was tried.
    pub told: String,
    /// What keeps hosts from being looked at as they should be.
    pub warning: Option<String>,
}

/// Opens a connection to a database's server and gives it up again.
///
/// # Errors
/// Why it cannot be reached.
pub async fn try_out(config: &Config, database: &Database, host: &Host) -> Result<Tried, String> {
    let Some(user) = first_user(config, database) else {
        return Ok(Tried {
            told: "not tried: no user is configured".to_owned(),
            warning: None,
        });
    };
    let mut server = open_as(config, database, host, user).await?;
    let upstream = &server.about.upstream;
    let told = format!("{} takes user \"{}\"", upstream.name, upstream.user);
    let warning = match &config.failover.user {
        Some(looker) if looker != user => match open_as(config, database, host, looker).await {
            Ok(mut server) => unseen(database, &mut server).await,
            Err(why) => Some(format!(
                "\"{looker}\", who is to look, is not let in: {why}"
            )),
        },
        _ => unseen(database, &mut server).await,
    };
    Ok(Tried { told, warning })
}

/// What is kept from a user who looks at a server, where that matters: it is a replica, or one of several hosts, which may
/// become one.
async fn unseen(database: &Database, server: &mut ServerConn) -> Option<String> {
    if aurora::storage(server).await.ok()? == Storage::Shared {
        return None;
    }
    let answer = setup::run(server, look::RIGHTS).await.ok()?;
    let row = answer.rows.first()?;
    let is = |at: usize| Some(row.get(at)?.as_deref()? == b"t");
    let (sees, is_replica) = (is(0)?, is(1)?);
    let several = database.hosts.len() > 1 || !database.patroni.is_empty();
    let upstream = &server.about.upstream;
    (!sees && (several || is_replica))
        .then(|| format!("{}: {}", upstream.name, look::advice(&upstream.user)))
}

/// A connection to a database's server as the first user that is configured; `None` if there is none.
pub(crate) async fn open(
    config: &Config,
    database: &Database,
    host: &Host,
) -> Result<Option<Box<ServerConn>>, String> {
    match first_user(config, database) {
        Some(user) => open_as(config, database, host, user).await.map(Some),
        None => Ok(None),
    }
}

/// The database's own user, or else the first of the configuration.
fn first_user<'a>(config: &'a Config, database: &'a Database) -> Option<&'a String> {
    let known = || {
        let mut names = config.users.keys();
        names.find(|name| *name != pgherd_config::WILDCARD)
    };
    database.user.as_ref().or_else(known)
}

/// A connection to a database's server as this user.
async fn open_as(
    config: &Config,
    database: &Database,
    host: &Host,
    user: &str,
) -> Result<Box<ServerConn>, String> {
    let asked = if database.is_wildcard() {
        "postgres"
    } else {
        &database.name
    };
    let key = PoolKey::new(asked, user);
    let settings = config.effective_pool(database, config.user(user).as_deref());
    let proof = Proof {
        secret: Secret::None,
    };
    let upstream = RouterMemory::default()
        .upstream(config, database, &settings, &key, &proof, host)
        .map_err(|report| report.message)?;
    match crate::upstream::open(&upstream, 0, crate::server::Life::new().0).await {
        Ok((server, _)) => Ok(server),
        Err(error) => Err(error.to_string()),
    }
}

/// The limits that server connections of this database and user count towards, wherever they are
/// kept.
pub(crate) fn quotas(
    memory: &RouterMemory,
    config: &Config,
    settings: &PoolSettings,
    key: &PoolKey,
    host: &str,
) -> Vec<Arc<Quota>> {
    memory.quotas(config, settings, key, host)
}

/// Where a login would go, without a pool.
///
/// # Errors
/// What the client is told when there is nowhere to go.
pub fn upstream(
    facts: &Facts,
    config: &Config,
    database: &Database,
    key: &PoolKey,
    proof: &Proof,
) -> Result<Arc<Upstream>, ErrorReport> {
    let host = match facts.topology.of(&database.name) {
        Some(cluster) => cluster.lead().host.ok_or_else(|| unled(&cluster))?,
        None => database.hosts.first().cloned().ok_or_else(hostless)?,
    };
    let settings = config.effective_pool(database, config.user(&key.user).as_deref());
    let memory = &facts.memory;
    memory.upstream(config, database, &settings, key, proof, &host)
}

/// Where a user may prove itself: where writes go, or else any of the servers.
///
/// # Errors
/// What the client is told when there is nowhere to go.
pub fn upstreams(
    facts: &Facts,
    config: &Config,
    database: &Database,
    key: &PoolKey,
    proof: &Proof,
) -> Result<Vec<Arc<Upstream>>, ErrorReport> {
    let cluster = facts.topology.of(&database.name);
    let lead = cluster.as_ref().and_then(|cluster| cluster.lead().host);
    let hosts: Vec<Host> = match (lead, &cluster) {
        (Some(host), _) => vec![host],
        (None, Some(cluster)) => cluster.members().hosts().cloned().collect(),
        (None, None) => database.hosts.clone(),
    };
    if hosts.is_empty() {
        return Err(hostless());
    }
    let settings = config.effective_pool(database, config.user(&key.user).as_deref());
    let memory = &facts.memory;
    hosts
        .iter()
        .map(|host| memory.upstream(config, database, &settings, key, proof, host))
        .collect()
}

/// There is no server to write to.
fn unled(cluster: &Cluster) -> ErrorReport {
    let verdict = cluster.verdict();
    let code = match &verdict.writer {
        Writer::Nobody(Absence::Full { .. }) => sqlstate::TOO_MANY_CONNECTIONS,
        Writer::Nobody(_) | Writer::At(_) => sqlstate::CANNOT_CONNECT_NOW,
    };
    let text = format!("database \"{}\" has no primary at the moment", cluster.name);
    let report = ErrorReport::fatal(code, text);
    match &verdict.writer {
        Writer::Nobody(absence) => report.detail(absence.to_string()),
        Writer::At(_) => report,
    }
}
