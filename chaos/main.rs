//! Breaks things on purpose, and tells what clients saw of it.

mod command;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use command::all::All;
use command::canary::Canary;
use command::commits::Commits;
use command::cuts::Cuts;
use command::failover::Failover;
use command::patroni::Patroni;
use command::replicas::Replicas;
use command::selfcheck::Selfcheck;
use command::shards::Shards;
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
    /// Lets clients do what they like on few connections, and looks whether each is answered what is its own
    Canary(Canary),
    /// Freezes replicas that are read from
    Replicas(Replicas),
    /// Takes primaries of shards and proxies away, while money moves over all shards
    Shards(Shards),
    /// Cuts commits over several shards off at each message, by everything that can be lost
    Commits(Commits),
    /// Plants bugs, each of which must be caught by the check that is there for it
    Selfcheck(Selfcheck),
    /// All of these in turn, and one table
    All(All),
}

fn main() -> ExitCode {
    match Command::parse().scenario {
        Scenario::Failover(options) => options.run(),
        Scenario::Patroni(options) => options.run(),
        Scenario::Cuts(options) => options.run(),
        Scenario::Simulate(options) => options.run(),
        Scenario::Canary(options) => options.run(),
        Scenario::Replicas(options) => options.run(),
        Scenario::Shards(options) => options.run(),
        Scenario::Commits(options) => options.run(),
        Scenario::Selfcheck(options) => options.run(),
        Scenario::All(options) => options.run(),
    }
}
