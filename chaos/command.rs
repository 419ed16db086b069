//! What may be said on the command line, scenario by scenario.

pub(crate) mod all;
pub(crate) mod canary;
pub(crate) mod commits;
pub(crate) mod cuts;
pub(crate) mod failover;
pub(crate) mod patroni;
pub(crate) mod replicas;
pub(crate) mod selfcheck;
pub(crate) mod shards;
pub(crate) mod simulate;

use std::env;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use pgherd_chaos::report::Report;
use pgherd_sandbox::Error;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

/// The executable in the same directory as this program.
fn beside() -> PathBuf {
    let here = env::current_exe().unwrap_or_default();
    here.with_file_name("pgherd")
}

/// Cargo, without what it says to a program that it runs: dependencies that ask for that would be built anew.
fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in env::vars_os() {
        let word = name.to_string_lossy();
        if word.starts_with("CARGO_PKG_") || word.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(&name);
        }
    }
    cargo
}

/// Says why nothing comes of it.
fn fail(error: &impl Display) -> ExitCode {
    eprintln!("chaos: {error}");
    ExitCode::FAILURE
}

/// Shows what came of a run of failovers, and writes its line of a table of several runs, if that is wanted.
fn show(report: &Report, row: Option<&Path>) -> Result<(), Error> {
    println!("{report}");
    row.map_or(Ok(()), |file| {
        std::fs::write(file, report.row()).map_err(|source| Error::Io {
            what: format!("write {}", file.display()),
            source,
        })
    })
}

/// Runs something to its end, or until somebody wants it to end; it tells whether all was well.
fn conclude(run: impl Future<Output = Result<bool, Error>>) -> ExitCode {
    let runtime = match Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    let done = runtime.block_on(async {
        tokio::select! {
            done = run => Some(done),
            // Dropping the run stops all that it started.
            () = unwanted() => None,
        }
    });
    match done {
        Some(Ok(true)) => ExitCode::SUCCESS,
        Some(Ok(false)) => ExitCode::FAILURE,
        Some(Err(error)) => fail(&error),
        None => ExitCode::from(130),
    }
}

/// Waits for Ctrl-C, or SIGTERM.
async fn unwanted() {
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut terminated) => drop(terminated.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminated => {}
    }
}
