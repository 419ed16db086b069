//! SHOW HOSTS: the servers, over all pools that lead there.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::console::table::{Column, Row, int, text};
use crate::facts::Facts;

/// The columns. `pause_ms` is for how long nobody will knock after failed logins, `trouble` why the
/// last login failed if none has succeeded since.
pub const COLUMNS: [Column; 7] = [
    text("host"),
    int("pools"),
    int("idle"),
    int("active"),
    int("login"),
    int("pause_ms"),
    text("trouble"),
];

#[derive(Default)]
struct Host {
    pools: usize,
    idle: usize,
    active: usize,
    login: usize,
    pause: Option<Duration>,
    trouble: Option<String>,
}

/// A row for each host that a pool leads to.
pub fn rows(facts: &Facts) -> Vec<Row> {
    let now = Instant::now();
    let mut hosts: BTreeMap<String, Host> = BTreeMap::new();
    for pool in facts.routes.load().values() {
        let upstream = pool.upstream.load();
        let servers = pool.core.snapshot(now);
        let host = hosts.entry(upstream.name.clone()).or_default();
        host.pools += 1;
        host.idle += servers.idle;
        host.active += servers.leased;
        host.login += servers.opening;
        // The gate is the host's, so each pool has the same answer.
        host.pause = upstream.gate.0.pause(now);
        if let Some(error) = pool.trouble.load().as_deref() {
            host.trouble = Some(error.to_string());
        }
    }
    let rows = hosts.into_iter().map(|(name, host)| {
        vec![
            name.into(),
            host.pools.into(),
            host.idle.into(),
            host.active.into(),
            host.login.into(),
            host.pause.map_or(0, |pause| pause.as_millis()).into(),
            host.trouble.into(),
        ]
    });
    rows.collect()
}
