//! SHOW USERS.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;

use pgherd_config::Config;

use crate::console::figures::Figures;
use crate::console::table::{Cell, Column, Row, int, text};
use crate::facts::Facts;

/// The columns of PgBouncer. What the user does not set for itself is NULL; a limit of 0 is none.
pub const COLUMNS: [Column; 8] = [
    text("name"),
    int("pool_size"),
    int("reserve_pool_size"),
    text("pool_mode"),
    int("max_user_connections"),
    int("current_connections"),
    int("max_user_client_connections"),
    int("current_client_connections"),
];

/// A row for each user that is configured by name or has a pool.
pub fn rows(facts: &Facts, pools: &[Figures]) -> Vec<Row> {
    let config = facts.config.load();
    let mut names: BTreeSet<&str> = config.users.keys().map(String::as_str).collect();
    names.extend(pools.iter().map(|pool| pool.key.user.as_str()));
    names.remove(pgherd_config::WILDCARD);
    let mut clients: BTreeMap<String, usize> = BTreeMap::new();
    for who in facts
        .sessions
        .all()
        .iter()
        .filter_map(|control| control.identity())
    {
        *clients.entry(who.user.clone()).or_insert(0) += 1;
    }
    let rows = names.into_iter().map(|name| {
        let own = pools.iter().filter(|pool| pool.key.user == name);
        let connections = own.map(Figures::connections).sum();
        row(
            &config,
            name,
            connections,
            clients.get(name).copied().unwrap_or(0),
        )
    });
    rows.collect()
}

fn row(config: &Config, name: &str, connections: usize, clients: usize) -> Row {
    let user = config.user(name);
    let user = user.as_deref();
    let limits = user.map(|user| &user.limits);
    let general = &config.limits;
    let max_connections = limits.and_then(|limits| limits.max_connections);
    let max_clients = limits.and_then(|limits| limits.max_clients);
    vec![
        name.to_owned().into(),
        user.and_then(|user| user.pool.size)
            .map(NonZeroUsize::get)
            .into(),
        user.and_then(|user| user.pool.reserve).into(),
        user.and_then(|user| user.pool.mode)
            .map(|mode| mode.word())
            .into(),
        limit(max_connections.unwrap_or(general.max_user_connections)),
        connections.into(),
        limit(max_clients.unwrap_or(general.max_user_clients)),
        clients.into(),
    ]
}

fn limit(limit: Option<NonZeroUsize>) -> Cell {
    limit.map_or(0, NonZeroUsize::get).into()
}
