//! SWITCHOVER: an operator is about to promote another server.

use std::sync::Arc;
use std::time::Duration;

use pgherd_cluster::Stage;
use pgherd_wire::error::ErrorReport;
use pgherd_wire::sqlstate;

use crate::clock;
use crate::cluster::Cluster;
use crate::console::verb::Scope;
use crate::console::verb::reconnect::GLANCE;
use crate::facts::Facts;
use crate::pool::Pool;

/// Has new work wait for another primary, and waits until no transaction is under way on the present one:
/// those that are not over within the grace time are cut off. Work goes on when there is a new primary, by
/// RESUME, or shortly before those who wait would be told that there is none.
///
/// # Errors
/// No such database; one without a choice of hosts; 55000 if the switchover was called off or its time was
/// up while this waited.
pub async fn switchover(
    database: &str,
    grace: Option<Duration>,
    facts: &Arc<Facts>,
) -> Result<(), ErrorReport> {
    Scope::Database(database.to_owned()).pools(facts)?;
    let config = facts.config.load_full();
    if config.sharded.contains_key(database) {
        return Err(unready("it is sharded".to_owned(), database)
            .hint("Say it of each shard by its own name."));
    }
    let section = config.database(database);
    let cluster = section.and_then(|section| facts.topology.of(&section.name));
    let Some(cluster) = cluster else {
        return Err(unready("it is starting".to_owned(), database));
    };
    cluster
        .plan(grace, clock::now())
        .map_err(|why| unready(why.to_string(), database))?;
    let begun = cluster.verdict().epoch;
    while cluster.stage() != Stage::Over {
        if pools(&cluster, facts).iter().all(is_quiet) {
            return Ok(());
        }
        tokio::time::sleep(GLANCE).await;
    }
    if cluster.verdict().epoch != begun {
        return Ok(());
    }
    Err(unready("it was called off".to_owned(), database))
}

/// Has the work that waits for a switchover go on.
pub(super) fn call_off(scope: &Scope, facts: &Facts) {
    let config = facts.config.load();
    let names = scope.served(&config);
    let sections: Option<Vec<_>> = names.map(|names| {
        names
            .iter()
            .filter_map(|name| config.database(name))
            .collect()
    });
    for cluster in facts.topology.all() {
        let is_meant = match &sections {
            None => true,
            Some(sections) => sections.iter().any(|section| section.name == cluster.name),
        };
        if is_meant {
            cluster.call_off();
        }
    }
}

/// The pools of a cluster that lead to its primary.
fn pools(cluster: &Cluster, facts: &Facts) -> Vec<Arc<Pool>> {
    let routes = facts.routes.load();
    let of_it = routes
        .values()
        .filter(|pool| pool.key.reader.is_none() && pool.cluster.load().name == cluster.name);
    of_it.cloned().collect()
}

/// It gives no servers, and all have come back.
fn is_quiet(pool: &Arc<Pool>) -> bool {
    pool.core.held().is_some() && pool.core.quiesced()
}

fn unready(why: String, database: &str) -> ErrorReport {
    ErrorReport::error(
        sqlstate::OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("database \"{database}\" cannot be switched over: {why}"),
    )
}
