//! As whom a monitor looks at a host.

use std::sync::Arc;

use pgherd_config::{Config, Database, Host, WILDCARD};

use crate::cluster::Cluster;
use crate::facts::Facts;
use crate::pool::PoolKey;
use crate::session::prove::Proof;
use crate::upstream::{Secret, Upstream};

/// A look tries no more than so many.
const CANDIDATES: usize = 8;

/// Those who may log in at a host, the likeliest first. Where nobody is configured it is whoever has a
/// pool, so there may be none yet.
pub(super) fn candidates(cluster: &Cluster, host: &Host, facts: &Facts) -> Vec<Arc<Upstream>> {
    let config = facts.config.load_full();
    let Some(database) = config.databases.get(&cluster.name) else {
        return Vec::new();
    };
    let configured = configured(&config, database).map(|key| (key, Secret::None));
    let routes = facts.routes.load();
    let pools = routes.iter().filter(|(key, _)| {
        let section = config.database(&key.database);
        section.is_some_and(|section| section.name == cluster.name)
    });
    let pooled = pools.map(|(key, pool)| (key.clone(), pool.upstream.load().learned()));
    configured
        .chain(pooled)
        .take(CANDIDATES)
        .filter_map(|(key, secret)| {
            let settings = config.effective_pool(database, config.user(&key.user).as_deref());
            let proof = Proof { secret };
            let upstream = facts
                .memory
                .upstream(&config, database, &settings, &key, &proof, &host.address)
                .ok()?;
            Some(Arc::new(adapted(&upstream, &config)))
        })
        .filter(|upstream| !matches!(upstream.secret, Secret::Refused))
        .collect()
}

/// Those that the configuration knows: the user for this, then the database's own, then all others.
fn configured(config: &Config, database: &Database) -> impl Iterator<Item = PoolKey> {
    let asked = if database.is_wildcard() {
        "postgres".to_owned()
    } else {
        database.name.clone()
    };
    let has_secret = |name: &&String| {
        let user = config.users.get(*name);
        *name != WILDCARD && user.is_some_and(|user| user.server_secret().is_some())
    };
    let names: Vec<String> = config
        .failover
        .user
        .iter()
        .chain(&database.user)
        .chain(config.users.keys().filter(has_secret))
        .cloned()
        .collect();
    names.into_iter().map(move |user| PoolKey {
        database: asked.clone(),
        user,
    })
}

/// As a monitor connects: quickly or not at all, and with nothing set that could change what it reads.
fn adapted(upstream: &Upstream, config: &Config) -> Upstream {
    let mut parameters = upstream.parameters.clone();
    parameters.insert("search_path".to_owned(), String::new());
    parameters.insert("application_name".to_owned(), "pgherd monitor".to_owned());
    Upstream {
        parameters,
        patience: Some(config.failover.probe_timeout),
        ..upstream.clone()
    }
}
