//! SHOW POOLS.

use pgherd_sql::Runs;

use crate::console::figures::Figures;
use crate::console::table::{Cell, Column, Row, int, text};

/// The columns of PgBouncer, and behind them how often sessions and the catalogue were looked at for what
/// functions do unseen, and where such code is in the database. `cl_waiting_cancel_req`, `sv_used` and `sv_tested` are always 0, since
/// there are no such states: a cancel request travels without a place in the pool, and idle
/// connections are looked at without leaving it.
pub const COLUMNS: [Column; 20] = [
    text("database"),
    text("user"),
    int("cl_active"),
    int("cl_waiting"),
    int("cl_active_cancel_req"),
    int("cl_waiting_cancel_req"),
    int("sv_active"),
    int("sv_active_cancel"),
    int("sv_being_canceled"),
    int("sv_idle"),
    int("sv_used"),
    int("sv_tested"),
    int("sv_login"),
    int("maxwait"),
    int("maxwait_us"),
    text("pool_mode"),
    text("load_balance_hosts"),
    int("function_checks"),
    int("function_surveys"),
    text("hidden_code"),
];

/// A row for each database and user, the pools for reading counted along.
pub fn rows(pools: &[Figures]) -> Vec<Row> {
    let mut merged: Vec<Figures> = Vec::new();
    for pool in pools {
        let of = |known: &&mut Figures| {
            known.key.database == pool.key.database && known.key.user == pool.key.user
        };
        match merged.last_mut().filter(of) {
            Some(known) => known.add_servers(pool),
            None => merged.push(pool.clone()),
        }
    }
    merged.iter().map(row).collect()
}

/// Which transactions run code that no text shows and that may change a session.
fn hidden(threshold: Runs) -> &'static str {
    match threshold {
        Runs::Unknown => "none",
        Runs::Writes => "writes",
        Runs::Nothing | Runs::Reads => "reads",
    }
}

fn row(pool: &Figures) -> Row {
    let servers = &pool.servers;
    let wait = servers.oldest_wait.unwrap_or_default();
    vec![
        (&pool.key.database).into(),
        (&pool.key.user).into(),
        pool.clients.into(),
        servers.waiting.into(),
        pool.cancelled.into(),
        Cell::Int(0),
        servers.leased.saturating_sub(pool.cancelled).into(),
        Cell::Int(0),
        pool.cancelled.into(),
        servers.idle.into(),
        Cell::Int(0),
        Cell::Int(0),
        servers.opening.into(),
        wait.as_secs().into(),
        Cell::Int(wait.subsec_micros().into()),
        pool.mode.word().into(),
        Cell::Null,
        pool.totals.check_count.into(),
        pool.totals.survey_count.into(),
        hidden(pool.hidden).into(),
    ]
}
