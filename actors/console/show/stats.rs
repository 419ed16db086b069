//! SHOW STATS, STATS_TOTALS, STATS_AVERAGES and TOTALS.
//!
//! Times are in microseconds; `query_time` is the time in transactions without what clients take to go on
//! with a block, as PgBouncer's. Averages are over the last minute that is over, as PgBouncer's are with its
//! usual `stats_period`, and until then over what there was so far; counts are per second, times per
//! transaction, query, or assignment of a server.

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

/// How long what averages are taken of took to be counted.
pub fn span(facts: &Facts) -> Duration {
    let age = || facts.started.elapsed().unwrap_or_default();
    facts.periods.last().unwrap_or_else(age)
}

/// SHOW STATS: a row for each database.
pub fn stats(pools: &[Figures], span: Duration) -> Vec<Row> {
    let rows = databases(pools).into_iter().map(|(database, counted)| {
        let values = amounts(&counted.ever)
            .into_iter()
            .chain(means(&counted.lately, span))
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
        .map(|(database, counted)| row(database, amounts(&counted.ever)));
    rows.collect()
}

/// SHOW STATS_AVERAGES: a row for each database.
pub fn averages(pools: &[Figures], span: Duration) -> Vec<Row> {
    let rows = databases(pools).into_iter();
    rows.map(|(database, counted)| row(database, means(&counted.lately, span)))
        .collect()
}

/// SHOW TOTALS: a row for each column of SHOW STATS, over all databases.
pub fn sums(pools: &[Figures], span: Duration) -> Vec<Row> {
    let mut sum = Counted::default();
    pools.iter().for_each(|pool| sum.add(pool));
    let values = amounts(&sum.ever)
        .into_iter()
        .chain(means(&sum.lately, span));
    let rows = STATS[1..].iter().zip(values);
    rows.map(|(column, value)| vec![column.name.into(), value.into()])
        .collect()
}

/// What some pools have counted together.
#[derive(Debug, Default)]
struct Counted {
    /// All in all.
    ever: Totals,
    /// What averages are taken of.
    lately: Totals,
}

impl Counted {
    fn add(&mut self, pool: &Figures) {
        add(&mut self.ever, &pool.totals);
        add(&mut self.lately, &pool.recent);
    }
}

fn row(database: &str, values: [u128; 12]) -> Row {
    let values = values.into_iter().map(Cell::from);
    std::iter::once(database.to_owned().into())
        .chain(values)
        .collect()
}

fn databases(pools: &[Figures]) -> BTreeMap<&str, Counted> {
    let mut databases: BTreeMap<&str, Counted> = BTreeMap::new();
    for pool in pools {
        let counted = databases.entry(pool.key.database.as_str());
        counted.or_default().add(pool);
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
    sum.query_time = sum.query_time.saturating_add(one.query_time);
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
        totals.query_time.as_micros(),
        totals.wait_time.as_micros(),
        totals.client_parse_count.into(),
        totals.server_parse_count.into(),
        totals.bind_count.into(),
        totals.client_login_count.into(),
    ]
}

fn means(totals: &Totals, span: Duration) -> [u128; 12] {
    let mut means = amounts(totals);
    let second = 1_000_000;
    let micros = span.as_micros().max(1);
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
