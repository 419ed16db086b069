//! SHOW HOSTS: the servers, what they were seen to be, and the pools that lead there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgherd_cluster::{HostName, HostState, Stage, Standing, Verdict};

use crate::clock;
use crate::cluster::{Cluster, reads};
use crate::console::table::{Cell, Column, Row, int, text};
use crate::facts::Facts;

/// The columns. `database` is the section that the host stands in; `role` is what it was last seen to
/// be, `writer` whether writes go there, and `reads` whether it may be read from. `seen_ms` is the age of the last look that was answered,
/// `lag_ms` for how long the primary had been further; `weight` and `zone` are what is said of it for reads, `instance` is
/// what an instance of Aurora's calls itself, whose `lsn` is one of its volume's;
/// `pause_ms` for how long nobody will knock after failed logins, `trouble` why it is not used at all, or else why the last look
/// or login failed if none has succeeded since.
pub const COLUMNS: [Column; 21] = [
    text("host"),
    text("database"),
    text("role"),
    text("writer"),
    text("reads"),
    text("health"),
    int("timeline"),
    text("lsn"),
    int("lag_bytes"),
    int("seen_ms"),
    int("latency_us"),
    int("pools"),
    int("idle"),
    int("active"),
    int("login"),
    int("pause_ms"),
    text("trouble"),
    int("lag_ms"),
    int("weight"),
    text("zone"),
    text("instance"),
];

#[derive(Default)]
struct Use {
    pools: usize,
    idle: usize,
    active: usize,
    login: usize,
    pause: Option<Duration>,
    trouble: Option<String>,
}

/// A row for each host of each database's section.
pub fn rows(facts: &Facts) -> Vec<Row> {
    let now = clock::now();
    let mut uses: BTreeMap<(String, String), Use> = BTreeMap::new();
    for pool in facts.routes.load().values() {
        let upstream = pool.upstream.load();
        let servers = pool.core.snapshot(now);
        let section = pool.cluster.load().name.clone();
        let used = uses.entry((section, upstream.name.clone())).or_default();
        used.pools += 1;
        used.idle += servers.idle;
        used.active += servers.leased;
        used.login += servers.opening;
        // The gate is the host's, so each pool has the same answer.
        used.pause = upstream.gate.0.pause(now);
        if let Some(error) = pool.trouble.load().as_deref() {
            used.trouble = Some(error.to_string());
        }
    }
    let clusters = facts.topology.all();
    let hosts = clusters.iter().flat_map(|cluster| {
        let verdict = cluster.is_watched().then(|| cluster.verdict());
        let members = cluster.members();
        let names: Vec<HostName> = members.names().cloned().collect();
        names
            .into_iter()
            .map(move |name| (Arc::clone(cluster), verdict.clone(), name))
    });
    hosts
        .map(|(cluster, verdict, name)| {
            let used = uses.remove(&(cluster.name.clone(), name.to_string()));
            let used = used.unwrap_or_default();
            row(&cluster, verdict.as_deref(), &name, used, now)
        })
        .collect()
}

fn row(
    cluster: &Cluster,
    verdict: Option<&Verdict>,
    host: &HostName,
    used: Use,
    now: Instant,
) -> Row {
    let state = verdict.and_then(|verdict| verdict.host(host));
    // A single server is asked nothing, and is written to.
    let writes = match verdict.filter(|_| cluster.is_led()) {
        Some(verdict) => {
            let awaited = cluster.stage() != Stage::Over;
            verdict.writer() == Some(host) && !awaited
        }
        None => cluster.members().names().next() == Some(host),
    };
    let mut row = vec![host.to_string().into(), cluster.name.clone().into()];
    let reads = state.map(|state| readable(cluster, state));
    row.extend(sights(state, writes, reads, now));
    // Nobody tries any more to log in where nobody may go, and what was the matter before tells nothing of that.
    let barred = state.and_then(|state| state.fence.as_ref());
    let trouble = match barred {
        Some(fence) => Some(fence.to_string()),
        None => used.trouble.or_else(|| state.and_then(fault)),
    };
    row.extend([
        Cell::from(used.pools),
        used.idle.into(),
        used.active.into(),
        used.login.into(),
        used.pause.map_or(0, |pause| pause.as_millis()).into(),
        trouble.into(),
    ]);
    row.extend(character(cluster, state, host));
    row
}

/// What the monitor knows, from `role` to `latency_us`.
fn sights(state: Option<&HostState>, writes: bool, reads: Option<String>, now: Instant) -> Row {
    let shown = |what: Option<String>| what.map_or(Cell::Null, Cell::from);
    let count = |number: Option<u128>| number.map_or(Cell::Null, Cell::from);
    let health = state.map(|state| match state.fence {
        Some(_) => "fenced".to_owned(),
        None => state.health.to_string(),
    });
    let seen = state.and_then(|state| state.seen);
    vec![
        shown(
            state
                .and_then(|state| state.standing)
                .map(|it| it.to_string()),
        ),
        if writes { "yes" } else { "no" }.into(),
        shown(reads),
        shown(health),
        state
            .and_then(|state| state.timeline)
            .map_or(Cell::Null, |it| u64::from(it).into()),
        shown(state.and_then(|state| state.lsn).map(|it| it.to_string())),
        state
            .and_then(|state| state.lag.bytes)
            .map_or(Cell::Null, Cell::from),
        count(seen.map(|seen| now.saturating_duration_since(seen).as_millis())),
        count(
            state
                .and_then(|state| state.latency)
                .map(|it| it.as_micros()),
        ),
    ]
}

/// Whether a host may be read from, as it is judged where a reader is chosen, and if not, why.
fn readable(cluster: &Cluster, state: &HostState) -> String {
    let traits = cluster.traits();
    let of_host = traits.of(&state.name);
    let replica = state.standing == Some(Standing::Replica) && reads::is_offered(state);
    match of_host.weight {
        0 if replica && of_host.spared => "no: noloadbalance".to_owned(),
        0 if replica => "no: weight 0".to_owned(),
        _ => state.offer.to_string(),
    }
}

/// How far it is behind in time, what is said of it, and what it calls itself.
fn character(cluster: &Cluster, state: Option<&HostState>, host: &HostName) -> Row {
    let traits = cluster.traits();
    let traits = traits.of(host);
    let lag = state.and_then(|state| state.lag.time);
    vec![
        lag.map_or(Cell::Null, |lag| lag.as_millis().into()),
        u64::from(traits.weight).into(),
        traits.zone.clone().map_or(Cell::Null, Cell::from),
        cluster.instance(host).map_or(Cell::Null, Cell::from),
    ]
}

fn fault(state: &HostState) -> Option<String> {
    state.fault.as_ref().map(ToString::to_string)
}
