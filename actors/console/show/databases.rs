//! SHOW DATABASES.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;

use pgherd_config::{Address, Config, Database};

use crate::console::figures::Figures;
use crate::console::table::{Cell, Column, Row, int, text};
use crate::facts::Facts;

/// The columns of PgBouncer, with `reserve_pool` too: exporters before 0.12.1 know only that name.
/// A limit of 0 is none.
pub const COLUMNS: [Column; 18] = [
    text("name"),
    text("host"),
    int("port"),
    text("database"),
    text("force_user"),
    int("pool_size"),
    int("min_pool_size"),
    int("reserve_pool_size"),
    int("reserve_pool"),
    int("server_lifetime"),
    text("pool_mode"),
    text("load_balance_hosts"),
    int("max_connections"),
    int("current_connections"),
    int("max_client_connections"),
    int("current_client_connections"),
    int("paused"),
    int("disabled"),
];

/// A row for each database that is configured by name, and for each that clients reached through
/// the wildcard.
pub fn rows(facts: &Facts, pools: &[Figures]) -> Vec<Row> {
    let config = facts.config.load();
    let named = config
        .databases
        .values()
        .filter(|database| !database.is_wildcard());
    let mut names: BTreeSet<&str> = named.map(|database| database.name.as_str()).collect();
    names.extend(pools.iter().map(|pool| pool.key.database.as_str()));
    let clients = clients(facts);
    let rows = names.into_iter().filter_map(|name| {
        let database = config.database(name)?;
        let pools: Vec<_> = pools
            .iter()
            .filter(|pool| pool.key.database == name)
            .collect();
        let clients = clients.get(name).copied().unwrap_or(0);
        let mut row = row(&config, name, &database, &pools, clients);
        let closed = [facts.doors.is_paused(name), facts.doors.is_disabled(name)];
        row.extend(closed.map(Into::into));
        Some(row)
    });
    rows.collect()
}

fn clients(facts: &Facts) -> BTreeMap<String, usize> {
    let mut clients = BTreeMap::new();
    for who in facts
        .sessions
        .all()
        .iter()
        .filter_map(|control| control.identity())
    {
        *clients.entry(who.database.clone()).or_insert(0) += 1;
    }
    clients
}

/// All but whether it is paused or disabled.
fn row(
    config: &Config,
    name: &str,
    database: &Database,
    pools: &[&Figures],
    clients: usize,
) -> Row {
    let settings = config.effective_pool(database, None);
    let (hosts, port) = hosts(database);
    let lifetime = settings.timeouts.server_lifetime;
    vec![
        name.to_owned().into(),
        hosts.into(),
        port.into(),
        database.dbname(name).to_owned().into(),
        database.user.clone().into(),
        settings.pool.size.get().into(),
        settings.pool.min.into(),
        settings.pool.reserve.into(),
        settings.pool.reserve.into(),
        lifetime.map_or(0, |lifetime| lifetime.as_secs()).into(),
        settings.pool.mode.word().into(),
        Cell::Null,
        limit(settings.database.max_connections),
        pools
            .iter()
            .map(|pool| pool.connections())
            .sum::<usize>()
            .into(),
        limit(settings.database.max_clients),
        clients.into(),
    ]
}

fn limit(limit: Option<NonZeroUsize>) -> Cell {
    limit.map_or(0, NonZeroUsize::get).into()
}

/// All hosts with commas between them, as PgBouncer has them, and the port of the first.
fn hosts(database: &Database) -> (String, u16) {
    let parts = database.hosts.iter().map(|host| match &host.address {
        Address::Tcp { host, port } => (host.clone(), *port),
        Address::Unix { dir, port } => (dir.display().to_string(), *port),
    });
    let (names, ports): (Vec<_>, Vec<_>) = parts.unzip();
    (names.join(","), ports.first().copied().unwrap_or(0))
}
