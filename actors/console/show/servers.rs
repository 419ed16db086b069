//! SHOW SERVERS.

use std::collections::HashMap;

use pgherd_pool::Place;

use crate::console::clock::stamp;
use crate::console::show::peers::{Peer, part};
use crate::console::table::Row;
use crate::facts::Facts;
use crate::pool::Pool;

/// A row for each server connection that is logged in, by pool and number.
pub fn rows(facts: &Facts) -> Vec<Row> {
    peers(facts).into_iter().map(Peer::row).collect()
}

/// The server connections, by pool and number.
pub fn peers(facts: &Facts) -> Vec<Peer> {
    let holders = holders(facts);
    let routes = facts.routes.load();
    let mut pools: Vec<_> = routes.values().collect();
    pools.sort_by(|one, other| one.key.cmp(&other.key));
    pools
        .into_iter()
        .flat_map(|pool| of_pool(pool, &holders))
        .collect()
}

/// The client that holds each server connection, by the number of the latter.
fn holders(facts: &Facts) -> HashMap<u64, i32> {
    let sessions = facts.sessions.all();
    let held = sessions
        .iter()
        .filter_map(|control| Some((control.running()?.id, control.id)));
    held.collect()
}

fn of_pool(pool: &Pool, holders: &HashMap<u64, i32>) -> Vec<Peer> {
    let mut seen = Vec::new();
    // Nothing but cheap copies under the pool's lock.
    pool.core.each(|it| {
        let prepared = it.conn.map(|conn| conn.statements.len());
        seen.push((
            std::sync::Arc::clone(it.info),
            it.place,
            it.meta.retire,
            prepared,
        ));
    });
    seen.sort_by_key(|(about, ..)| about.id);
    let peers = seen
        .into_iter()
        .map(|(about, place, retire, prepared)| Peer {
            kind: "S",
            user: about.upstream.user.clone(),
            database: pool.key.database.clone(),
            state: match place {
                _ if !about.cancels.quiet() => "being_canceled",
                Place::Idle => "idle",
                Place::Leased => "active",
            },
            remote: part(&about.upstream.name),
            local: Some(part(&about.local)),
            since: stamp(about.since),
            waits: false,
            closing: retire,
            name: format!("s{}", about.id),
            link: holders
                .get(&about.id)
                .map(|id| format!("c{id}"))
                .unwrap_or_default(),
            pid: about.backend,
            tls: about.tls.clone(),
            application: String::new(),
            prepared,
            id: about.id,
        });
    peers.collect()
}
