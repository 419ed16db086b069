//! SHOW STATS, STATS_TOTALS, STATS_AVERAGES and TOTALS.
//!
//! Times are in microseconds. A query's own time is not measured, so `query_time` is the time in
//! transactions. Averages are over the whole life of the proxy (PgBouncer's are over the last
//! `stats_period`); counts are per second, times per transaction, query, or assignment of a server.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::console::figures::Figures;
use crate::console::table::{Cell, Column, Row, int, text};
use crate::facts::Facts;
use crate::pool::Totals;

/// The columns of SHOW STATS.
pub const STATS: [Column; 25] = [
    text("database"),
    int("total_server_assignment_count"),
    int("total_xact_count"),
    int("total_query_count"),
    int("total_received"),
    int("total_sent"),
    int("total_xact_time"),
    int("total_query_time"),
    int("total_wait_time"),
    int("total_client_parse_count"),
    int("total_server_parse_count"),
    int("total_bind_count"),
    int("total_client_login_count"),
    int("avg_server_assignment_count"),
    int("avg_xact_count"),
    int("avg_query_count"),
    int("avg_recv"),
    int("avg_sent"),
    int("avg_xact_time"),
    int("avg_query_time"),
    int("avg_wait_time"),
    int("avg_client_parse_count"),
    int("avg_server_parse_count"),
    int("avg_bind_count"),
    int("avg_client_login_count"),
];

/// The columns of SHOW STATS_TOTALS.
pub const TOTALS: [Column; 13] = [
    text("database"),
    int("server_assignment_count"),
    int("xact_count"),
    int("query_count"),
    int("bytes_received"),
    int("bytes_sent"),
    int("xact_time"),
    int("query_time"),
    int("wait_time"),
    int("client_parse_count"),
    int("server_parse_count"),
    int("bind_count"),
    int("client_login_count"),
];

/// The columns of SHOW STATS_AVERAGES: the first eight are named as the totals are.
pub const AVERAGES: [Column; 13] = {
    let mut columns = TOTALS;
    columns[9] = int("avg_client_parse_count");
    columns[10] = int("avg_server_parse_count");
    columns[11] = int("avg_bind_count");
    columns[12] = int("avg_client_login_count");
    columns
};

/// The columns of SHOW TOTALS.
pub const SUMS: [Column; 2] = [text("name"), int("value")];

/// How long the proxy has run.
pub fn age(facts: &Facts) -> Duration {
    facts.started.elapsed().unwrap_or_default()
}

/// SHOW STATS: a row for each database.
pub fn stats(pools: &[Figures], age: Duration) -> Vec<Row> {
    let rows = databases(pools).into_iter().map(|(database, totals)| {
        let values = amounts(&totals)
            .into_iter()
            .chain(means(&totals, age))
            .map(Cell::from);
        std::iter::once(database.to_owned().into())
            .chain(values)
            .collect()
    });
    rows.collect()
}

/// SHOW STATS_TOTALS: a row for each database.
pub fn totals(pools: &[Figures]) -> Vec<Row> {
    let rows = databases(pools)
        .into_iter()
        .map(|(database, totals)| row(database, amounts(&totals)));
    rows.collect()
}

/// SHOW STATS_AVERAGES: a row for each database.
pub fn averages(pools: &[Figures], age: Duration) -> Vec<Row> {
    let rows = databases(pools).into_iter();
    rows.map(|(database, totals)| row(database, means(&totals, age)))
        .collect()
}

/// SHOW TOTALS: a row for each column of SHOW STATS, over all databases.
pub fn sums(pools: &[Figures], age: Duration) -> Vec<Row> {
    let mut sum = Totals::default();
    pools.iter().for_each(|pool| add(&mut sum, &pool.totals));
    let values = amounts(&sum).into_iter().chain(means(&sum, age));
    let rows = STATS[1..].iter().zip(values);
    rows.map(|(column, value)| vec![column.name.into(), value.into()])
        .collect()
}

fn row(database: &str, values: [u128; 12]) -> Row {
    let values = values.into_iter().map(Cell::from);
    std::iter::once(database.to_owned().into())
        .chain(values)
        .collect()
}

fn databases(pools: &[Figures]) -> BTreeMap<&str, Totals> {
    let mut databases = BTreeMap::new();
    for pool in pools {
        add(
            databases.entry(pool.key.database.as_str()).or_default(),
            &pool.totals,
        );
    }
    databases
}

fn add(sum: &mut Totals, one: &Totals) {
    sum.server_assignment_count += one.server_assignment_count;
    sum.xact_count += one.xact_count;
    sum.query_count += one.query_count;
    sum.bytes_received += one.bytes_received;
    sum.bytes_sent += one.bytes_sent;
    sum.xact_time = sum.xact_time.saturating_add(one.xact_time);
    sum.wait_time = sum.wait_time.saturating_add(one.wait_time);
    sum.client_parse_count += one.client_parse_count;
    sum.server_parse_count += one.server_parse_count;
    sum.server_parse_again_count += one.server_parse_again_count;
    sum.eviction_count += one.eviction_count;
    sum.bind_count += one.bind_count;
    sum.client_login_count += one.client_login_count;
    sum.pinned_count += one.pinned_count;
    sum.check_count += one.check_count;
    sum.survey_count += one.survey_count;
}

/// The values of the twelve columns.
fn amounts(totals: &Totals) -> [u128; 12] {
    [
        totals.server_assignment_count.into(),
        totals.xact_count.into(),
        totals.query_count.into(),
        totals.bytes_received.into(),
        totals.bytes_sent.into(),
        totals.xact_time.as_micros(),
        totals.xact_time.as_micros(),
        totals.wait_time.as_micros(),
        totals.client_parse_count.into(),
        totals.server_parse_count.into(),
        totals.bind_count.into(),
        totals.client_login_count.into(),
    ]
}

fn means(totals: &Totals, age: Duration) -> [u128; 12] {
    let mut means = amounts(totals);
    let second = 1_000_000;
    let micros = age.as_micros().max(1);
    let per_second = |count: u128| count.saturating_mul(second) / micros;
    let per = |time: u128, count: u64| time.checked_div(count.into()).unwrap_or(0);
    for (at, mean) in means.iter_mut().enumerate() {
        *mean = match at {
            5 => per(*mean, totals.xact_count),
            6 => per(*mean, totals.query_count),
            7 => per(*mean, totals.server_assignment_count),
            _ => per_second(*mean),
        };
    }
    means
}
