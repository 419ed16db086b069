//! Suites of Python: drivers' own, and those of Django and SQLAlchemy, which drive psycopg 3 in more ways than
//! its users do.

use std::fs;
use std::process::Command;

use super::super::source;
use super::{Place, Suite, fetched};

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

/// What SQLAlchemy's suite finds where it is run by its authors.
const ALCHEMY_NEEDS: &str = "create schema test_schema; create schema test_schema_2; \
    create extension hstore; create extension citext; \
    do $$ begin execute format('alter database %I set default_text_search_config = %L', \
    current_database(), 'pg_catalog.english'); end $$";

/// SQLAlchemy's suite over one of the drivers that it knows: the parts that hang on the database.
async fn sqlalchemy(name: &'static str, driver: &str, tests: &[&str]) {
    Suite::named(name)
        .needs(ALCHEMY_NEEDS)
        .compare(|place| {
            let mut command = pytest("sqlalchemy", tests);
            let Place { port, database } = place;
            command
                .args(["-c", "setup.cfg", "--rootdir", ".", "--backend-only"])
                // Thousands of those compare ranges by one and the same query.
                .args(["-k", "not RangeRoundTripTest"])
                .args(["--maxfail", "1000000", "--dburi"])
                .arg(format!(
                    "postgresql+{driver}://app:app@127.0.0.1:{port}/{database}"
                ));
            command
        })
        .await;
}

#[tokio::test]
#[ignore = "long: tests/drivers/long.sh"]
async fn sqlalchemy_psycopg() {
    let tests = [
        "test/dialect/test_suite.py",
        "test/dialect/postgresql",
        "test/engine",
        "test/sql",
    ];
    sqlalchemy("sqlalchemy_psycopg", "psycopg", &tests).await;
}

#[tokio::test]
#[ignore = "long: tests/drivers/long.sh"]
async fn sqlalchemy_psycopg_async() {
    let tests = [
        "test/dialect/test_suite.py",
        "test/dialect/postgresql",
        "test/engine",
        "test/ext/asyncio",
    ];
    sqlalchemy("sqlalchemy_psycopg_async", "psycopg_async", &tests).await;
}
