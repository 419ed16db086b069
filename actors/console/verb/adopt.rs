//! ADOPT: an operator says that a cluster was rebuilt.

use std::sync::Arc;

use pgherd_cluster::{HostName, Writer};
use pgherd_wire::error::ErrorReport;
use pgherd_wire::sqlstate;

use crate::clock;
use crate::console::verb::Scope;
use crate::facts::Facts;

/// Forgets which cluster a database was, and the timelines that it has reached: those of the host are taken, or else
/// those of the first primary among its hosts.
///
/// # Errors
/// No such database; 55000 where there is nothing to forget, and for a host that is no primary.
pub fn adopt(
    database: &str,
    host: Option<&str>,
    facts: &Arc<Facts>,
) -> Result<Option<ErrorReport>, ErrorReport> {
    Scope::Database(database.to_owned()).pools(facts)?;
    let config = facts.config.load_full();
    let section = config.database(database);
    let cluster = section.and_then(|section| facts.topology.of(&section.name));
    let refuse = |why: String| {
        ErrorReport::error(
            sqlstate::OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("nothing is adopted for database \"{database}\": {why}"),
        )
        .hint("SHOW HOSTS has its hosts, and what was seen of them.")
    };
    if config.sharded.contains_key(database) {
        return Err(
            refuse("it is sharded".to_owned()).hint("Say it of each shard by its own name.")
        );
    }
    let cluster = cluster.ok_or_else(|| refuse("it is starting".to_owned()))?;
    let host = host.map(HostName::from);
    let verdict = cluster
        .adopt(host.as_ref(), clock::now())
        .map_err(|why| refuse(why.to_string()))?;
    Ok(match &verdict.writer {
        Writer::At(_) => None,
        Writer::Nobody(absence) => Some(
            ErrorReport::warning(sqlstate::WARNING, "there is still no primary to write to")
                .detail(absence.to_string()),
        ),
    })
}
