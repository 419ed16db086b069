//! Suites of Python: drivers' own, and Django's, which drives psycopg 3 in more ways than its users do.

use std::fs;
use std::process::Command;

use super::super::source;
use super::{Suite, fetched};

fn python() -> Command {
    let mut command = Command::new(source("target/drivers/python/bin/python"));
    // The plugins and runners that say how each test went.
    command.env("PYTHONPATH", source("tests/drivers/suites"));
    command
}

/// Our runner for suites of Python's unittest, on all modules of a suite's tests.
fn unittests(suite: &str, left_out: &[&str]) -> Command {
    let home = fetched(suite);
    let tests = fs::read_dir(home.join("tests")).expect("the suite has tests");
    let mut modules: Vec<_> = tests
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter_map(|name| name.strip_suffix(".py").map(str::to_owned))
        .filter(|name| name.starts_with("test_") && !left_out.contains(&name.as_str()))
        .map(|name| format!("tests.{name}"))
        .collect();
    modules.sort();
    let mut command = python();
    command
        .arg(source("tests/drivers/suites/python.py"))
        .arg(home)
        .args(modules);
    command
}

/// pytest on the tests of a suite, each of which must end.
fn pytest(suite: &str, tests: &[&str]) -> Command {
    let mut command = python();
    command
        .current_dir(fetched(suite))
        .args(["-m", "pytest", "-p", "pytest_said", "--timeout", "60"])
        .args(tests);
    command
}

#[tokio::test]
#[ignore = "long: tests/drivers/long.sh"]
async fn psycopg2() {
    Suite::named("psycopg2")
        .compare(|place| {
            let mut command = unittests("psycopg2", &[]);
            command
                .env("PSYCOPG2_TESTDB", place.database)
                .env("PSYCOPG2_TESTDB_HOST", "127.0.0.1")
                .env("PSYCOPG2_TESTDB_PORT", place.port.to_string())
                .env("PSYCOPG2_TESTDB_USER", "app")
                .env("PSYCOPG2_TESTDB_PASSWORD", "app");
            command
        })
        .await;
}

#[tokio::test]
#[ignore = "long: tests/drivers/long.sh"]
async fn asyncpg() {
    Suite::named("asyncpg")
        .compare(|place| {
            // The left out ones start servers of their own, or check how the source is written.
            let left_out = ["test__sourcecode", "test_subinterpreters"];
            place.by_variables(unittests("asyncpg", &left_out))
        })
        .await;
}

#[tokio::test]
#[ignore = "long: tests/drivers/long.sh"]
async fn pg8000() {
    // It goes to the database `postgres`, as its user and with a password of its own.
    Suite::named("pg8000")
        .login(
            "[auth]\nquery = \"select usename, passwd from pg_shadow where usename = $1\"\n\
             query_user = \"app\"\nquery_database = \"postgres\"\n[users.app]\npassword = \"app\"\n[users.postgres]\npassword = \"pw\"\n",
        )
        .compare(|place| {
            let mut command = pytest("pg8000", &["test/native", "test/dbapi", "test/legacy"]);
            // The server speaks TLS, for which pgherd has no certificate here.
            command.args(["--benchmark-disable", "--ignore-glob", "*_ssl.py"]);
            command.env("PGHOST", "127.0.0.1");
            command.env("PGPORT", place.port.to_string());
            command.env("PGPASSWORD", "pw");
            command
        })
        .await;
}

/// The parts of Django's suite that hang on the database most.
const DJANGO: &[&str] = &[
    "async",
    "backends",
    "bulk_create",
    "constraints",
    "get_or_create",
    "introspection",
    "postgres_tests",
    "raw_query",
    "select_for_update",
    "timezones",
    "transaction_hooks",
    "transactions",
];

#[tokio::test]
#[ignore = "long: tests/drivers/long.sh"]
async fn django() {
    Suite::named("django")
        .compare(|place| {
            let mut command = python();
            command
                .current_dir(fetched("django").join("tests"))
                .args(["runtests.py", "--settings", "django_settings"])
                .args(["--parallel", "1", "--keepdb"])
                .args(DJANGO);
            place.by_variables(command)
        })
        .await;
}
