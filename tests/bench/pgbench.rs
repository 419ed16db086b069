use std::fs;
use std::path::Path;
use std::time::Duration;

use pgherd_sandbox::{Account, Home, Server, tool};

use crate::cell::{Connection, Pgbench, Script};
use crate::error::Error;
use crate::sample::Latency;
use crate::target::Door;

/// What a run of pgbench gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Outcome {
    /// Transactions that were done.
    pub(crate) transactions: u64,
    /// Transactions a second, without the time of first connections.
    pub(crate) rate: f64,
    /// Their latency.
    pub(crate) latency: Option<Latency>,
}

/// Runs pgbench through a door, for a time.
pub(crate) async fn run(
    server: &Server,
    door: &Door,
    work: Pgbench,
    duration: Duration,
) -> Result<Outcome, Error> {
    let logs = Home::new(Account::choose())?;
    let mut pgbench = server.client("pgbench")?;
    pgbench
        .envs(door.environment())
        .arg("--no-vacuum")
        .args(["--time", &duration.as_secs().to_string()])
        .args(["--client", &work.clients.to_string()])
        .args(["--jobs", &work.clients.min(2).to_string()])
        .args(["--protocol", work.protocol.word()])
        .args(match work.script {
            Script::Select => ["--builtin", "select-only"],
            Script::TpcB => ["--builtin", "tpcb-like"],
        })
        .arg("--log")
        .arg(format!("--log-prefix={}", logs.join("times").display()));
    if work.connection == Connection::Anew {
        pgbench.arg("--connect");
    }
    pgbench.arg(&door.database);
    let output = tool::run(pgbench).await?;
    let (transactions, rate) = parse_summary(&output).ok_or_else(|| Error::Unexpected {
        what: "pgbench's summary",
        text: output.clone(),
    })?;
    Ok(Outcome {
        transactions,
        rate,
        latency: Latency::of(read_logs(logs.path())?),
    })
}

/// Reads the number of transactions and their rate from pgbench's summary.
fn parse_summary(output: &str) -> Option<(u64, f64)> {
    let after = |start: &str| output.lines().find_map(|line| line.strip_prefix(start));
    let transactions = after("number of transactions actually processed: ")?;
    let rate = after("tps = ")?;
    Some((
        // With a fixed number of transactions it reads "9/10".
        transactions.split('/').next()?.trim().parse().ok()?,
        rate.split(' ').next()?.parse().ok()?,
    ))
}

/// Reads the latencies from pgbench's logs, one file a thread.
fn read_logs(dir: &Path) -> Result<Vec<Duration>, Error> {
    let mut times = Vec::new();
    let failed = || Error::io("read pgbench's logs");
    for entry in fs::read_dir(dir).map_err(failed())? {
        let path = entry.map_err(failed())?.path();
        let text = fs::read_to_string(path).map_err(failed())?;
        times.extend(text.lines().filter_map(parse_time));
    }
    Ok(times)
}

/// Reads the third word of a log line, the time in microseconds; failed transactions have a word
/// there instead.
fn parse_time(line: &str) -> Option<Duration> {
    let microseconds = line.split(' ').nth(2)?.parse().ok()?;
    Some(Duration::from_micros(microseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_summary_of_a_timed_run() {
        let output = "transaction type: <builtin: select only>\n\
                      duration: 1 s\n\
                      number of transactions actually processed: 10542\n\
                      number of failed transactions: 0 (0.000%)\n\
                      latency average = 0.094 ms\n\
                      initial connection time = 3.161 ms\n\
                      tps = 10573.614212 (without initial connection time)\n";
        assert_eq!(parse_summary(output), Some((10_542, 10_573.614_212)));
        assert_eq!(parse_summary("tps = 1"), None);
    }

    #[test]
    fn reads_the_times_of_a_log() {
        assert_eq!(
            parse_time("0 199 2241 0 1175850568 995598"),
            Some(Duration::from_micros(2241))
        );
        assert_eq!(parse_time("3 0 failed 0 1175850569 608"), None);
        assert_eq!(parse_time(""), None);
    }
}
