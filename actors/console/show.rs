//! The tables, with PgBouncer's columns under PgBouncer's names wherever it has the table.

use std::sync::Arc;

use pgherd_wire::error::ErrorReport;

use crate::console::figures::survey;
use crate::console::table::{Column, Row};
use crate::facts::Facts;

pub mod clients;
pub mod config;
pub mod databases;
pub mod epochs;
pub mod failures;
pub mod help;
pub mod hosts;
pub mod listeners;
pub mod lists;
pub mod names;
pub mod peers;
pub mod pins;
pub mod pools;
pub mod process;
pub mod servers;
pub mod sockets;
pub mod stats;
pub mod transactions;
pub mod tree;
pub mod users;
pub mod waiters;

/// A table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the table of its name")]
pub enum Show {
    ActiveSockets,
    Clients,
    Config,
    Databases,
    DnsHosts,
    DnsZones,
    Epochs,
    Failures,
    Help,
    Hosts,
    Listeners,
    Lists,
    Mem,
    Peers,
    PeerPools,
    Pins,
    Pools,
    Servers,
    Sockets,
    State,
    Stats,
    StatsAverages,
    StatsTotals,
    Totals,
    Transactions,
    Tree,
    Users,
    Version,
    Waiters,
}

const NAMES: [(&str, Show); 29] = [
    ("ACTIVE_SOCKETS", Show::ActiveSockets),
    ("CLIENTS", Show::Clients),
    ("CONFIG", Show::Config),
    ("DATABASES", Show::Databases),
    ("DNS_HOSTS", Show::DnsHosts),
    ("DNS_ZONES", Show::DnsZones),
    ("EPOCHS", Show::Epochs),
    ("FAILURES", Show::Failures),
    ("HELP", Show::Help),
    ("HOSTS", Show::Hosts),
    ("LISTENERS", Show::Listeners),
    ("LISTS", Show::Lists),
    ("MEM", Show::Mem),
    ("PEERS", Show::Peers),
    ("PEER_POOLS", Show::PeerPools),
    ("PINS", Show::Pins),
    ("POOLS", Show::Pools),
    ("SERVERS", Show::Servers),
    ("SOCKETS", Show::Sockets),
    ("STATE", Show::State),
    ("STATS", Show::Stats),
    ("STATS_AVERAGES", Show::StatsAverages),
    ("STATS_TOTALS", Show::StatsTotals),
    ("TOTALS", Show::Totals),
    ("TRANSACTIONS", Show::Transactions),
    ("TREE", Show::Tree),
    ("USERS", Show::Users),
    ("VERSION", Show::Version),
    ("WAITERS", Show::Waiters),
];

impl Show {
    /// The table of this name, in letters of any size.
    pub fn named(name: &str) -> Option<Self> {
        let known = NAMES
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        known.map(|(_, show)| *show)
    }

    /// The names of all tables.
    pub fn names() -> Vec<&'static str> {
        NAMES.iter().map(|(name, _)| *name).collect()
    }

    /// The columns; HELP has none, it speaks in a notice.
    pub fn columns(self) -> &'static [Column] {
        match self {
            Self::Clients | Self::Servers => &peers::COLUMNS,
            Self::Sockets | Self::ActiveSockets => &sockets::COLUMNS,
            Self::Config => &config::COLUMNS,
            Self::Databases => &databases::COLUMNS,
            Self::DnsHosts => &names::HOSTS,
            Self::DnsZones => &names::ZONES,
            Self::Epochs => &epochs::COLUMNS,
            Self::Failures => &failures::COLUMNS,
            Self::Help => &[],
            Self::Hosts => &hosts::COLUMNS,
            Self::Listeners => &listeners::COLUMNS,
            Self::Lists => &lists::COLUMNS,
            Self::Mem => &process::MEM,
            Self::Peers => &names::PEERS,
            Self::PeerPools => &names::PEER_POOLS,
            Self::Pins => &pins::COLUMNS,
            Self::Pools => &pools::COLUMNS,
            Self::State => &process::STATE,
            Self::Stats => &stats::STATS,
            Self::StatsAverages => &stats::AVERAGES,
            Self::StatsTotals => &stats::TOTALS,
            Self::Totals => &stats::SUMS,
            Self::Transactions => &transactions::COLUMNS,
            Self::Tree => &tree::COLUMNS,
            Self::Users => &users::COLUMNS,
            Self::Version => &process::VERSION,
            Self::Waiters => &waiters::COLUMNS,
        }
    }

    /// The rows at this moment.
    ///
    /// # Errors
    /// The part of the proxy that was asked does not answer.
    pub async fn rows(self, facts: &Arc<Facts>) -> Result<Vec<Row>, ErrorReport> {
        Ok(match self {
            Self::ActiveSockets => sockets::rows(facts, sockets::Which::Active),
            Self::Sockets => sockets::rows(facts, sockets::Which::All),
            Self::Clients => clients::rows(facts),
            Self::Servers => servers::rows(facts),
            Self::Config => config::rows(facts),
            Self::Databases => databases::rows(facts, &survey(facts)),
            // Names are resolved anew at each connection, and proxies do not know each other.
            Self::DnsHosts | Self::DnsZones | Self::Peers | Self::PeerPools | Self::Help => {
                Vec::new()
            }
            Self::Epochs => epochs::rows(facts),
            Self::Failures => failures::rows(&facts.failures.counts()),
            Self::Hosts => hosts::rows(facts),
            Self::Listeners => listeners::rows(facts),
            Self::Lists => lists::rows(facts, &survey(facts)),
            Self::Mem => process::mem(),
            Self::Pins => pins::rows(facts),
            Self::Pools => pools::rows(&survey(facts)),
            Self::State => process::state(facts.doors.are_all_paused(), &survey(facts)),
            Self::Stats => stats::stats(&survey(facts), stats::span(facts)),
            Self::StatsAverages => stats::averages(&survey(facts), stats::span(facts)),
            Self::StatsTotals => stats::totals(&survey(facts)),
            Self::Totals => stats::sums(&survey(facts), stats::span(facts)),
            Self::Transactions => transactions::rows(&facts.transactions),
            Self::Tree => tree::rows(facts).await?,
            Self::Users => users::rows(facts, &survey(facts)),
            Self::Version => process::version(),
            Self::Waiters => waiters::rows(&survey(facts)),
        })
    }
}

#[cfg(test)]
mod tests;
