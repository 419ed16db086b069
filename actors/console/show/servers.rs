//! SHOW SERVERS.

use std::collections::HashMap;

use pgherd_pool::Place;

use crate::console::clock::stamp;
use crate::console::show::peers::{Peer, part};
use crate::console::table::Row;
use crate::facts::Facts;
use crate::pool::Pool;
use crate::server::ServerAbout;

/// A row for each server connection that is logged in, by pool and number.
pub fn rows(facts: &Facts) -> Vec<Row> {
    peers(facts).into_iter().map(Peer::row).collect()
}

/// The server connections, by pool and number, then those of replication clients.
pub fn peers(facts: &Facts) -> Vec<Peer> {
    let holders = holders(facts);
    let routes = facts.routes.load();
    let mut pools: Vec<_> = routes.values().collect();
    pools.sort_by(|one, other| one.key.cmp(&other.key));
    pools
        .into_iter()
        .flat_map(|pool| of_pool(pool, &holders))
        .chain(replicating(facts))
        .collect()
}

/// The connections that belong to one client each, and to no pool.
fn replicating(facts: &Facts) -> impl Iterator<Item = Peer> {
    let sessions = facts.replications.all().into_iter();
    sessions.map(|session| {
        let state = match session.about.cancels.quiet() {
            true => "active",
            false => "being_canceled",
        };
        Peer {
            replication: Some(session.kind),
            link: format!("c{}", session.client.id),
            ..peer(&session.about, &session.of.database, state)
        }
    })
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
    let peers = seen.into_iter().map(|(about, place, retire, prepared)| {
        let state = match place {
            _ if !about.cancels.quiet() => "being_canceled",
            Place::Idle => "idle",
            Place::Leased => "active",
        };
        let holder = holders.get(&about.id);
        Peer {
            closing: retire,
            link: holder.map(|id| format!("c{id}")).unwrap_or_default(),
            prepared,
            ..peer(&about, &pool.key.database, state)
        }
    });
    peers.collect()
}

/// What there is to say of any server connection.
fn peer(about: &ServerAbout, database: &str, state: &'static str) -> Peer {
    Peer {
        kind: "S",
        user: about.upstream.user.clone(),
        database: database.to_owned(),
        state,
        remote: part(&about.upstream.name),
        local: Some(part(&about.local)),
        since: stamp(about.since),
        name: format!("s{}", about.id),
        pid: about.backend,
        tls: about.tls.clone(),
        id: about.id,
        ..Peer::default()
    }
}
