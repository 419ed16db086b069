//! Where a login would go, for those who have no pool.

use std::sync::Arc;

use pgherd_cluster::Writer;
use pgherd_config::{Config, Database, Host, PoolSettings};
use pgherd_pool::Quota;
use pgherd_wire::error::ErrorReport;
use pgherd_wire::sqlstate;

use crate::cluster::Cluster;
use crate::facts::Facts;
use crate::pool::PoolKey;
use crate::router::{RouterMemory, hostless};
use crate::server::ServerConn;
use crate::session::prove::Proof;
use crate::upstream::{Secret, Upstream};

/// Opens a connection to a database's server and gives it up again; for `pgherd check`.
///
/// # Errors
/// Why it cannot be reached.
pub async fn try_out(config: &Config, database: &Database, host: &Host) -> Result<String, String> {
    Ok(match open(config, database, host).await? {
        Some(server) => {
            let upstream = &server.about.upstream;
            format!("{} takes user \"{}\"", upstream.name, upstream.user)
        }
        None => "not tried: no user is configured".to_owned(),
    })
}

/// A connection to a database's server as the first user that is configured; `None` if there is none.
pub(crate) async fn open(
    config: &Config,
    database: &Database,
    host: &Host,
) -> Result<Option<Box<ServerConn>>, String> {
    let user = match &database.user {
        Some(user) => user.clone(),
        None => match config
            .users
            .keys()
            .find(|name| *name != pgherd_config::WILDCARD)
        {
            Some(user) => user.clone(),
            None => return Ok(None),
        },
    };
    let asked = if database.is_wildcard() {
        "postgres"
    } else {
        &database.name
    };
    let key = PoolKey::new(asked, user.clone());
    let settings = config.effective_pool(database, config.user(&user).as_deref());
    let proof = Proof {
        secret: Secret::None,
    };
    let upstream = RouterMemory::default()
        .upstream(config, database, &settings, &key, &proof, host)
        .map_err(|report| report.message)?;
    match crate::upstream::open(&upstream, 0, crate::server::Life::new().0).await {
        Ok((server, _)) => Ok(Some(server)),
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
    let report = ErrorReport::fatal(
        sqlstate::CANNOT_CONNECT_NOW,
        format!("database \"{}\" has no primary at the moment", cluster.name),
    );
    match &cluster.verdict().writer {
        Writer::Nobody(absence) => report.detail(absence.to_string()),
        Writer::At(_) => report,
    }
}
