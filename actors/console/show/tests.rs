//! Tests of tables over made-up figures.

use std::time::Duration;

use super::{Show, pools, process, stats, tree, waiters};
use crate::console::figures::Figures;
use crate::console::samples::{figures, node};
use crate::console::table::{Cell, Kind, Row};
use crate::pool::Totals;

/// The value under a column of a table's row.
fn value<'a>(show: Show, row: &'a Row, column: &str) -> &'a Cell {
    let at = show.columns().iter().position(|known| known.name == column);
    &row[at.unwrap_or_else(|| panic!("{show:?} has no {column}"))]
}

fn names(show: Show) -> Vec<&'static str> {
    show.columns().iter().map(|column| column.name).collect()
}

#[test]
fn rows_fit_their_columns() {
    let pools = [figures("a", "u"), figures("a", "v"), figures("b", "u")];
    let age = Duration::from_secs(10);
    let tables = [
        (Show::Pools, pools::rows(&pools), 3),
        (Show::Stats, stats::stats(&pools, age), 2),
        (Show::StatsTotals, stats::totals(&pools), 2),
        (Show::StatsAverages, stats::averages(&pools, age), 2),
        (Show::Totals, stats::sums(&pools, age), 24),
        (Show::Waiters, waiters::rows(&pools), 3),
        (Show::State, process::state(false, &pools), 3),
        (Show::Version, process::version(), 1),
    ];
    for (show, rows, count) in tables {
        assert_eq!(rows.len(), count, "{show:?}");
        for row in rows {
            assert_eq!(row.len(), show.columns().len(), "{show:?}");
            for (cell, column) in row.iter().zip(show.columns()) {
                let fits = match cell {
                    Cell::Text(_) => column.kind == Kind::Text,
                    Cell::Int(_) => column.kind == Kind::Int,
                    Cell::Null => true,
                };
                assert!(fits, "{show:?}.{}: {cell:?}", column.name);
            }
        }
    }
}

#[test]
fn no_table_has_a_column_twice() {
    for name in Show::names() {
        let show = Show::named(name).expect("a table");
        let mut names = names(show);
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count, "{name}");
    }
}

#[test]
fn what_the_exporter_reads_is_there() {
    let reads = [
        (
            Show::Databases,
            "name host port database force_user pool_mode pool_size reserve_pool \
             reserve_pool_size max_connections current_connections paused disabled",
        ),
        (
            Show::StatsTotals,
            "database query_count query_time bytes_received bytes_sent wait_time xact_count \
             xact_time client_parse_count server_parse_count bind_count",
        ),
        (
            Show::Pools,
            "database user cl_active cl_waiting cl_active_cancel_req cl_waiting_cancel_req \
             sv_active sv_active_cancel sv_being_canceled sv_idle sv_used sv_tested sv_login \
             maxwait maxwait_us pool_mode",
        ),
        (Show::Lists, "list items"),
        (Show::Config, "key value default changeable"),
        (Show::Version, "version"),
    ];
    for (show, columns) in reads {
        let names = names(show);
        for column in columns.split_whitespace() {
            assert!(names.contains(&column), "{show:?} lacks {column}");
        }
    }
}

#[test]
fn a_pool_in_figures() {
    let rows = pools::rows(&[figures("a", "u")]);
    let get = |column| value(Show::Pools, &rows[0], column).clone();
    assert_eq!(get("cl_active"), Cell::Int(12));
    assert_eq!(get("cl_waiting"), Cell::Int(5));
    assert_eq!(get("sv_active"), Cell::Int(3));
    assert_eq!(get("sv_being_canceled"), Cell::Int(1));
    assert_eq!(get("sv_idle"), Cell::Int(3));
    assert_eq!(get("sv_login"), Cell::Int(1));
    assert_eq!(get("maxwait"), Cell::Int(2));
    assert_eq!(get("maxwait_us"), Cell::Int(7));
    assert_eq!(get("pool_mode"), "transaction".into());
}

#[test]
fn statistics_are_sums_over_users_and_means_over_time() {
    let pools = [figures("a", "u"), figures("a", "v"), figures("b", "u")];
    let rows = stats::stats(&pools, Duration::from_secs(10));
    let get = |column| value(Show::Stats, &rows[0], column).clone();
    assert_eq!(get("database"), String::from("a").into());
    assert_eq!(get("total_xact_count"), Cell::Int(100));
    assert_eq!(get("total_xact_time"), Cell::Int(1_000_000));
    assert_eq!(get("avg_xact_count"), Cell::Int(10));
    assert_eq!(get("avg_xact_time"), Cell::Int(10_000));
    assert_eq!(get("total_query_time"), Cell::Int(800_000));
    assert_eq!(get("avg_query_time"), Cell::Int(2_000));
    assert_eq!(get("avg_recv"), Cell::Int(200));
    let sums = stats::sums(&pools, Duration::from_secs(10));
    assert!(sums.contains(&vec!["total_query_count".into(), Cell::Int(600)]));
    assert!(sums.contains(&vec!["avg_sent".into(), Cell::Int(600)]));
}

#[test]
fn averages_are_those_of_the_last_period() {
    let mut pool = figures("a", "u");
    pool.recent = Totals {
        xact_count: 30,
        xact_time: Duration::from_micros(90),
        ..Totals::default()
    };
    let rows = stats::stats(&[pool], Duration::from_secs(10));
    let get = |column| value(Show::Stats, &rows[0], column).clone();
    assert_eq!(get("total_xact_count"), Cell::Int(50));
    assert_eq!(get("avg_xact_count"), Cell::Int(3));
    assert_eq!(get("avg_xact_time"), Cell::Int(3));
    assert_eq!(get("avg_query_count"), Cell::Int(0));
}

#[test]
fn no_time_and_no_queries_have_means_too() {
    let mut pool = figures("a", "u");
    pool.recent = Totals::default();
    let rows = stats::averages(&[pool], Duration::ZERO);
    assert!(rows[0][1..].iter().all(|cell| *cell == Cell::Int(0)));
}

#[test]
fn all_pools_must_be_paused_for_the_proxy_to_be() {
    let mut pools = [figures("a", "u"), figures("b", "u")];
    pools[0].servers.paused = true;
    let paused = |pools: &[Figures]| process::state(false, pools)[1][1].clone();
    assert_eq!(paused(&pools), "no".into());
    pools[1].servers.paused = true;
    assert_eq!(paused(&pools), "yes".into());
    assert_eq!(paused(&[]), "no".into());
    assert_eq!(process::state(true, &[])[1][1], "yes".into());
}

#[test]
fn a_tree_is_indented() {
    let root = node(
        "root",
        0,
        vec![node("aux", 1, vec![node("http", 2, vec![])])],
    );
    let mut rows = Vec::new();
    tree::list(&root, 0, &mut rows);
    let names: Vec<_> = rows.iter().map(|row| row[0].clone()).collect();
    assert_eq!(
        names,
        ["root", "  aux", "    http"].map(|name| Cell::from(name.to_owned()))
    );
    assert_eq!(rows[2].len(), Show::Tree.columns().len());
    assert_eq!(*value(Show::Tree, &rows[2], "restarts"), Cell::Int(2));
}

#[test]
fn addresses_are_parted() {
    use super::peers::part;
    assert_eq!(part("db:5432"), ("db".to_owned(), 5432));
    assert_eq!(part("[::1]:5432"), ("::1".to_owned(), 5432));
    assert_eq!(
        part("/run/.s.PGSQL.5432"),
        ("/run/.s.PGSQL.5432".to_owned(), 0)
    );
}
