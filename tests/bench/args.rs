use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

/// Compares a direct connection, PgBouncer and pgherd in turn, on this machine, in one run.
#[derive(Clone, Debug, Parser)]
#[command(name = "bench-proxy", version)]
pub(crate) struct Args {
    /// One round of one second a cell, and smaller bulk and idle tests
    #[arg(long)]
    quick: bool,
    /// Write every sample, the medians and the ratios to a file
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Run only the cells whose name contains the word, as "prepared", "tls" or "idle"
    #[arg(long, value_name = "WORD")]
    pub(crate) only: Option<String>,
    /// The executable to measure; without it, the one beside this program
    #[arg(long, value_name = "PATH")]
    pub(crate) pgherd: Option<PathBuf>,
    /// Leave pgherd out
    #[arg(long, conflicts_with = "pgherd")]
    pub(crate) without_pgherd: bool,
    /// Seconds a cell (default: 5, quick: 1)
    #[arg(long)]
    seconds: Option<u64>,
    /// Rounds, of which the median counts (default: 3, quick: 1)
    #[arg(long)]
    rounds: Option<NonZeroUsize>,
    /// Server connections of each proxy
    #[arg(long, default_value_t = 20)]
    pub(crate) pool_size: usize,
    /// Scale of pgbench's tables
    #[arg(long, default_value_t = 10)]
    pub(crate) scale: u32,
    /// Rows of the bulk cells (default: 1000000, quick: 100000)
    #[arg(long)]
    rows: Option<u64>,
    /// Scale of TPC-H's tables (default: 0.1, quick: 0.01)
    #[arg(long)]
    tpch_scale: Option<f64>,
    /// Rows that are sorted over shards (default: 10000000, quick: 1000000)
    #[arg(long)]
    sorted_rows: Option<u64>,
    /// Clients of the idle cell, up to 20000 (default: 10000, quick: 500)
    #[arg(long)]
    idle_clients: Option<usize>,
}

impl Args {
    /// How long pgbench runs in one cell, at least a second.
    pub(crate) fn duration(&self) -> Duration {
        let usual = if self.quick { 1 } else { 5 };
        Duration::from_secs(self.seconds.unwrap_or(usual).max(1))
    }

    /// How many rounds there are.
    pub(crate) fn rounds(&self) -> usize {
        let usual = if self.quick { 1 } else { 3 };
        self.rounds.map_or(usual, NonZeroUsize::get)
    }

    /// How many rows the bulk cells carry.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
            .unwrap_or(if self.quick { 100_000 } else { 1_000_000 })
    }

    /// How many clients do nothing in the idle cell.
    pub(crate) fn idle_clients(&self) -> usize {
        self.idle_clients
            .unwrap_or(if self.quick { 500 } else { 10_000 })
    }

    /// How many times as many rows TPC-H's tables have as at scale 1.
    pub(crate) fn tpch_scale(&self) -> f64 {
        let usual = if self.quick { 0.01 } else { 0.1 };
        self.tpch_scale.unwrap_or(usual).max(pgherd_tpch::LEAST)
    }

    /// How many rows are sorted over shards.
    pub(crate) fn sorted_rows(&self) -> u64 {
        let usual = if self.quick { 1_000_000 } else { 10_000_000 };
        self.sorted_rows.unwrap_or(usual)
    }

    /// Tells whether a cell was asked for.
    pub(crate) fn wants(&self, cell: &str) -> bool {
        self.only.as_ref().is_none_or(|word| cell.contains(word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quick_is_short_unless_told_otherwise() {
        let quick = Args::parse_from(["bench", "--quick", "--rounds", "2"]);
        assert_eq!(quick.duration(), Duration::from_secs(1));
        assert_eq!(quick.rounds(), 2);
        let usual = Args::parse_from(["bench"]);
        assert_eq!(usual.duration(), Duration::from_secs(5));
        assert_eq!((usual.rounds(), usual.rows()), (3, 1_000_000));
    }

    #[test]
    fn a_word_chooses_cells() {
        let args = Args::parse_from(["bench", "--only", "tls"]);
        assert!(args.wants("select tls 16") && !args.wants("idle"));
        assert!(Args::parse_from(["bench"]).wants("idle"));
    }
}
