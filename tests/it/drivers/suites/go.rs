//! Suites of packages of Go, which Debian brings along with them.

use std::path::Path;
use std::process::Command;

use super::super::source;
use super::{Place, Suite};

fn tests(packages: &[&str]) -> Command {
    let mut command = Command::new("go");
    command
        .args(["test", "-count=1", "-v"])
        .args(packages)
        .env("GO111MODULE", "off")
        .env("GOFLAGS", "")
        .env("GOPATH", Path::new("/usr/share/gocode"))
        .env("GOCACHE", source("target/drivers/go/cache"));
    command
}

#[tokio::test]
#[ignore = "long: tests/drivers/long.sh"]
async fn lib_pq() {
    Suite::named("lib_pq")
        .compare(|place| place.by_variables(tests(&["github.com/lib/pq"])))
        .await;
}

#[tokio::test]
#[ignore = "long: tests/drivers/long.sh"]
async fn pgx() {
    Suite::named("pgx")
        .compare(|place| {
            let packages = [
                "github.com/jackc/pgx/v4",
                "github.com/jackc/pgx/v4/pgxpool",
                "github.com/jackc/pgx/v4/stdlib",
                "github.com/jackc/pgconn/stmtcache",
            ];
            let Place { port, database } = place;
            let words = format!(
                "host=127.0.0.1 port={port} user=app password=app dbname={database} sslmode=disable"
            );
            let mut command = tests(&packages);
            command.env("PGX_TEST_DATABASE", &words);
            command.env("PGX_TEST_CONN_STRING", &words);
            command
        })
        .await;
}
