//! Suites of node's `pg` and of the packages around it. The newest packages bring no tests, but old
//! ones do: those run on the newest code as far as they can.

use std::path::Path;
use std::process::Command;

use super::super::source;
use super::{Place, Suite, TRUSTED, fetched};

/// A program of node among the packages that `long.sh` has laid out.
fn node(place: &Place<'_>, arguments: &[&Path]) -> Command {
    let mut command = Command::new("node");
    command.current_dir(fetched("node")).args(arguments);
    place.by_variables(command)
}

/// The tests that `pg` had in version 4, each of whose files is a program, on its newest version.
#[tokio::test]
#[ignore = "long: tests/drivers/long.sh"]
async fn node_pg() {
    let runner = source("tests/drivers/suites/node_pg.cjs");
    Suite::named("node_pg")
        .login(TRUSTED)
        .compare(|place| node(place, &[&runner]))
        .await;
}

/// What pools, cursors and streams of rows have for tests.
#[tokio::test]
#[ignore = "long: tests/drivers/long.sh"]
async fn node_pool() {
    Suite::named("node_pool")
        .compare(|place| {
            let reporter = source("tests/drivers/suites/mocha.cjs");
            let mut command = node(place, &[Path::new("node_modules/mocha/bin/mocha.js")]);
            command.arg("--reporter").arg(reporter);
            command.args(["--exit", "--timeout", "10000", "--ignore", "**/setup.js"]);
            for package in ["pg-pool", "pg-cursor", "pg-query-stream"] {
                command.arg(format!("node_modules/{package}/test/*.js"));
            }
            command
        })
        .await;
}
