//! The benchmark: direct, PgBouncer and pgherd in turn, in one run, as ratios.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread::available_parallelism;

use clap::Parser;
use pgherd_sandbox::{Binaries, Server, Version, pgbench_init};
use rustix::process::{Resource, getrlimit, setrlimit};

mod args;
mod bulk;
mod cell;
mod client;
mod error;
mod idle;
mod pgbench;
mod report;
mod run;
mod sample;
mod settings;
mod shards;
mod target;
mod usage;

use crate::args::Args;
use crate::error::Error;
use crate::report::{Circumstances, Report};
use crate::shards::Proof;
use crate::target::Stage;

/// The database in which all is measured.
const DATABASE: &str = "bench";

/// A copy of it: with it, it is two shards. Each has the rows of both, so that one key costs the server the same,
/// wherever it is looked for.
const TWIN: &str = "bench_twin";

/// Who logs in with SCRAM.
const LOGIN: (&str, &str) = ("shepherd", "crook");

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let done = tokio::select! {
        done = bench(&args) => done,
        // Dropping the run stops all that it started.
        _ = tokio::signal::ctrl_c() => return ExitCode::from(130),
    };
    match done {
        Ok(report) => {
            println!("{}", report.text());
            if report.failed() {
                ExitCode::FAILURE
            } else {
                ExitCode::SUCCESS
            }
        }
        Err(error) => {
            eprintln!("bench-proxy: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn bench(args: &Args) -> Result<Report, Error> {
    let pgherd = executable(args)?;
    raise_descriptor_limit();
    let server = prepare(args).await?;
    let stage = Stage {
        server: &server,
        database: DATABASE,
        twin: TWIN,
        login: LOGIN,
        pool_size: args.pool_size,
        pgherd,
    };
    let mut report = Report {
        circumstances: circumstances(args, &server).await?,
        rows: run::cells(&stage, args).await?,
        idle: run::idle(&stage, args).await?,
        shards: match &stage.pgherd {
            Some(program) => shards::run(program, args).await?,
            None => Proof::default(),
        },
    };
    report.conclude();
    if let Some(path) = &args.json {
        let json = serde_json::to_string_pretty(&report)?;
        fs::write(path, json).map_err(Error::io("write the JSON file"))?;
    }
    Ok(report)
}

/// Starts a server with the data of all cells but those of several shards, which have servers of their own.
async fn prepare(args: &Args) -> Result<Server, Error> {
    let connections = (args.pool_size * 3 + 300).to_string();
    let server = Server::builder(&Binaries::find().map_err(pgherd_sandbox::Error::from)?)
        .tls(true)
        .auth(&[
            "host all postgres 127.0.0.1/32 trust",
            "host all all 127.0.0.1/32 scram-sha-256",
        ])
        .settings(&[
            ("max_connections", &connections),
            ("shared_buffers", "512MB"),
            ("max_wal_size", "4GB"),
            ("autovacuum", "off"),
            // What is measured is the proxy, not the disk.
            ("synchronous_commit", "off"),
        ])
        .start()
        .await?;
    server.create_user(LOGIN.0, LOGIN.1).await?;
    if !run::needs_server(args) {
        return Ok(server);
    }
    server.sql("create database bench").await?;
    pgbench_init(&server, DATABASE, args.scale).await?;
    server
        .sql_in(
            DATABASE,
            "grant all on all tables in schema public to public",
        )
        .await?;
    bulk::prepare(&server, DATABASE, args.rows()).await?;
    server
        .sql("create database bench_twin template bench")
        .await?;
    Ok(server)
}

async fn circumstances(args: &Args, server: &Server) -> Result<Circumstances, Error> {
    let Version { major, minor } = Version::installed().await?;
    Ok(Circumstances {
        cores: available_parallelism().map_or(1, usize::from),
        // The rest of the version is the packager's.
        postgres: server
            .sql("select split_part(current_setting('server_version'), ' ', 1)")
            .await?,
        pgbouncer: format!("{major}.{minor}"),
        pool_size: args.pool_size,
        seconds: args.duration().as_secs(),
        rounds: args.rounds(),
    })
}

/// Finds the executable to measure; `None` if it is left out.
fn executable(args: &Args) -> Result<Option<PathBuf>, Error> {
    if args.without_pgherd {
        return Ok(None);
    }
    let path = match &args.pgherd {
        Some(path) => path.clone(),
        None => env::current_exe()
            .map_err(Error::io("find this program"))?
            .with_file_name("pgherd"),
    };
    if path.is_file() {
        Ok(Some(path))
    } else {
        Err(Error::NoPgherd(path))
    }
}

/// Raises the limit of open files as far as allowed, for this process and those it starts.
fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // If it is refused, a cell with many clients says so by failing.
    let _ = setrlimit(Resource::Nofile, limit);
}
