//! SHOW CLIENTS.

use std::sync::Arc;

use crate::clock;
use crate::console::clock::stamp;
use crate::console::show::peers::Peer;
use crate::console::table::Row;
use crate::control::{Control, Order, Standing};
use crate::facts::Facts;

/// A row for each client that has logged in, by number.
pub fn rows(facts: &Facts) -> Vec<Row> {
    peers(facts).into_iter().map(Peer::row).collect()
}

/// The clients, by number.
pub fn peers(facts: &Facts) -> Vec<Peer> {
    let mut sessions = facts.sessions.all();
    sessions.sort_by_key(|control| control.id);
    sessions
        .iter()
        .filter_map(|control| peer(control, facts))
        .collect()
}

fn peer(control: &Arc<Control>, facts: &Facts) -> Option<Peer> {
    let who = control.identity()?;
    let standing = control.standing();
    Some(Peer {
        kind: "C",
        user: who.user.clone(),
        database: who.database.clone(),
        replication: facts.replications.kind(control.id),
        state: match standing {
            Standing::Login => "login",
            Standing::Idle => "idle",
            Standing::Waiting => "waiting",
            Standing::Active => "active",
        },
        remote: (who.peer.clone(), who.port),
        local: Some(match who.local {
            Some(address) => (address.ip().to_string(), address.port()),
            None => ("unix".to_owned(), 0),
        }),
        since: stamp(control.since),
        asked: Some(stamp(control.asked())),
        waited: control.waited(clock::now()).unwrap_or_default(),
        closing: control.ordered() != Order::Serve,
        name: format!("c{}", control.id),
        link: control
            .running()
            .map(|about| format!("s{}", about.id))
            .unwrap_or_default(),
        pid: 0,
        tls: who.tls.clone(),
        application: who.application.clone(),
        prepared: Some(control.prepared()),
        id: u64::try_from(control.id).unwrap_or(0),
    })
}
