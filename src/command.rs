//! What can be said on the command line.

pub(crate) mod check;
pub(crate) mod demo;
mod descriptors;
pub(crate) mod serve;

use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use pgherd_config::{LoadInput, Overrides};

/// A PostgreSQL proxy: pooling, failover and sharding behind one DATABASE_URL.
///
/// Point an application's DATABASE_URL at pgherd, and pgherd at the server:
///
///   pgherd postgres://user:password@host/database
///
/// Without a URL, DATABASE_URL is taken, or a file given by --config.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) task: Option<Task>,
    #[command(flatten)]
    pub(crate) serving: Serving,
}

/// Anything but serving.
#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// Tests a configuration without serving.
    Check(Check),
    /// Starts throw-away Postgres servers with data in them, and a proxy before them.
    Demo(Demo),
}

/// Where the configuration comes from.
#[derive(Debug, Args)]
pub(crate) struct Serving {
    /// Configuration file (TOML).
    #[arg(long, value_name = "FILE", env = "PGHERD_CONFIG")]
    config: Option<PathBuf>,
    /// Address to listen on.
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Port to listen on.
    #[arg(long, value_name = "N")]
    port: Option<u16>,
    /// Connection strings of the servers.
    #[arg(value_name = "URL")]
    urls: Vec<String>,
}

/// `pgherd check`
#[derive(Debug, Args)]
pub(crate) struct Check {
    #[command(flatten)]
    pub(crate) serving: Serving,
    /// Connects to the servers, and asks Patroni, too.
    #[arg(long)]
    pub(crate) connect: bool,
}

/// `pgherd demo`
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Port to listen on.
    #[arg(long, value_name = "N", default_value_t = 6432)]
    pub(crate) port: u16,
    /// pgbench's scale factor: 100,000 accounts each.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) scale: u32,
    /// Spread a small shop over so many databases instead.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=16))]
    pub(crate) shards: Option<u16>,
}

impl Serving {
    /// What the configuration is to be made from.
    pub(crate) fn input(self) -> LoadInput {
        LoadInput {
            file: self.config,
            env: std::env::vars_os()
                .filter_map(|(name, value)| {
                    Some((name.into_string().ok()?, value.into_string().ok()?))
                })
                .collect(),
            overrides: Overrides {
                listen: self.listen,
                port: self.port,
                urls: self.urls,
            },
        }
    }
}

/// Why a command failed; each kind has an exit code of `sysexits.h`.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The configuration is wrong.
    Configuration(String),
    /// Something that is needed is not to be had: an address, a server, a program.
    Unavailable(String),
    /// A part of the proxy is beyond repair.
    Software(String),
}

impl Failure {
    /// The exit code: 78 EX_CONFIG, 69 EX_UNAVAILABLE, 70 EX_SOFTWARE.
    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Configuration(_) => 78,
            Self::Unavailable(_) => 69,
            Self::Software(_) => 70,
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configuration(why) | Self::Unavailable(why) | Self::Software(why) => {
                f.write_str(why)
            }
        }
    }
}
