//! Breaks things on purpose, and tells what clients saw of it.

mod command;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use command::all::All;
use command::cuts::Cuts;
use command::failover::Failover;
use command::patroni::Patroni;
use command::simulate::Simulate;

#[derive(Debug, Parser)]
#[command(name = "chaos", version, about)]
struct Command {
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Debug, Subcommand)]
enum Scenario {
    /// Takes the primary away again and again, while clients of all kinds go on
    Failover(Failover),
    /// Breaks a primary of Patroni's in all ways, in networks of its own; as root
    Patroni(Patroni),
    /// Cuts each conversation at each place, on each side and in each way
    Cuts(Cuts),
    /// Runs what a seed decides about in a time of its own: the same seed is the same run
    Simulate(Simulate),
    /// All of these in turn, and one table
    All(All),
}

fn main() -> ExitCode {
    match Command::parse().scenario {
        Scenario::Failover(options) => options.run(),
        Scenario::Patroni(options) => options.run(),
        Scenario::Cuts(options) => options.run(),
        Scenario::Simulate(options) => options.run(),
        Scenario::All(options) => options.run(),
    }
}
