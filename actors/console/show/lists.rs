//! SHOW LISTS.

use std::collections::BTreeSet;

use crate::console::figures::Figures;
use crate::console::table::{Cell, Column, Row, int, text};
use crate::facts::Facts;

/// The columns of PgBouncer.
pub const COLUMNS: [Column; 2] = [text("list"), int("items")];

/// The rows of PgBouncer. No memory is kept for clients that are not there, and names and peers
/// have no lists here, so those are 0.
pub fn rows(facts: &Facts, pools: &[Figures]) -> Vec<Row> {
    let config = facts.config.load();
    let mut databases: BTreeSet<&str> = config.databases.keys().map(String::as_str).collect();
    let mut users: BTreeSet<&str> = config.users.keys().map(String::as_str).collect();
    databases.extend(pools.iter().map(|pool| pool.key.database.as_str()));
    users.extend(pools.iter().map(|pool| pool.key.user.as_str()));
    databases.remove(pgherd_config::WILDCARD);
    users.remove(pgherd_config::WILDCARD);
    let logins = facts.sessions.logins.count();
    let lists: [(&'static str, usize); 14] = [
        ("databases", databases.len()),
        ("users", users.len()),
        ("peers", 0),
        ("pools", pools.len()),
        ("peer_pools", 0),
        ("free_clients", 0),
        (
            "used_clients",
            facts.sessions.count().saturating_sub(logins),
        ),
        ("login_clients", logins),
        ("free_servers", 0),
        (
            "used_servers",
            pools
                .iter()
                .map(|it| it.servers.idle + it.servers.leased)
                .sum(),
        ),
        ("dns_names", 0),
        ("dns_zones", 0),
        ("dns_queries", 0),
        ("dns_pending", 0),
    ];
    lists
        .into_iter()
        .map(|(list, items)| vec![list.into(), Cell::from(items)])
        .collect()
}
