//! The suites that drivers have of their own, in the long form of the tests: `tests/drivers/long.sh`
//! fetches them. Each runs on the server itself and then through the proxy, where no test may fail
//! that passes without it, but for those in `tests/drivers/known.txt`, which have a reason.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use pgherd_tests::{Config, Database, Proxy};
use tokio::time::timeout;

use super::source;

/// How long a suite may take.
const PATIENCE: Duration = Duration::from_secs(900);

/// Where a suite finds its database.
struct Place<'a> {
    port: u16,
    database: &'a str,
}

/// How a test went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Went {
    Passed,
    Failed,
    Skipped,
}

type Results = BTreeMap<String, Went>;

/// A reason for which tests fail, and those tests.
struct Reason {
    /// They fail by chance, and need not.
    by_chance: bool,
    tests: Vec<String>,
}

/// Many servers, for a suite is one client after another, and some keep theirs.
async fn proxy(database: &Database) -> Proxy {
    let port = database.port;
    Proxy::start(&Config::text(format!(
        "[listen]\naddresses = [\"127.0.0.1:{{port}}\"]\n\
         [pool]\nsize = 30\n\
         [users.\"*\"]\n[users.app]\npassword = \"app\"\n\
         [databases.\"*\"]\nhosts = [\"127.0.0.1:{port}\"]\n"
    )))
    .await
}

async fn compare(suite: &str, command: impl Fn(&Place<'_>) -> Command) {
    let database = Database::new().await;
    let place = Place {
        port: database.port,
        database: &database.name,
    };
    let direct = results(suite, "direct", command(&place)).await;
    let database = Database::new().await;
    let proxy = proxy(&database).await;
    let place = Place {
        port: proxy.port(),
        database: &database.name,
    };
    let through = results(suite, "through", command(&place)).await;
    let passed = |results: &Results| {
        let passed = results.values().filter(|went| **went == Went::Passed);
        passed.count()
    };
    println!(
        "{suite}: {} tests pass on the server itself, {} through pgherd",
        passed(&direct),
        passed(&through)
    );
    assert!(passed(&direct) > 20, "the suite runs");
    let list = fs::read_to_string(source("tests/drivers/known.txt")).expect("the list is there");
    let wrong = judge(suite, &reasons(&list), &direct, &through);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Runs a suite; what it says is kept beside its results, to be read.
async fn results(suite: &str, where_: &str, mut command: Command) -> Results {
    let said = source("target/drivers/suites").join(format!("{suite}.{where_}.log"));
    let log = fs::File::create(&said).expect("a place for what it says");
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command.stderr(log);
    let child = tokio::process::Command::from(command)
        .kill_on_drop(true)
        .spawn()
        .expect("the suite starts");
    let output = timeout(PATIENCE, child.wait_with_output()).await;
    let output = output
        .unwrap_or_else(|_| panic!("{suite} does not end"))
        .expect("the suite ends");
    let text = String::from_utf8_lossy(&output.stdout);
    fs::write(said.with_extension("out"), text.as_bytes()).expect("a place for its results");
    let mut results = Results::new();
    for (name, went) in text.lines().filter_map(result) {
        // A test with parts has failed if one of them has.
        let all = results.entry(name.to_owned()).or_insert(went);
        if went == Went::Failed {
            *all = went;
        }
    }
    results
}

/// Reads a line of a result, as our runner of Python's suites or Go writes it.
fn result(line: &str) -> Option<(&str, Went)> {
    let ways = [
        ("pass ", Went::Passed),
        ("fail ", Went::Failed),
        ("skip ", Went::Skipped),
        ("--- PASS: ", Went::Passed),
        ("--- FAIL: ", Went::Failed),
        ("--- SKIP: ", Went::Skipped),
    ];
    let line = line.trim_start();
    ways.iter().find_map(|(mark, went)| {
        let name = line.strip_prefix(mark)?.split(' ').next()?;
        Some((name, *went))
    })
}

/// Reads the list: paragraphs of `[name]`, or `[name?]` where a test fails by chance, the reason
/// in words, and lines `at suite test`.
fn reasons(list: &str) -> Vec<Reason> {
    let mut reasons = Vec::new();
    for line in list.lines() {
        if let Some(name) = line.strip_prefix('[') {
            reasons.push(Reason {
                by_chance: name.ends_with("?]"),
                tests: Vec::new(),
            });
        } else if let (Some(test), Some(reason)) = (line.strip_prefix("at "), reasons.last_mut()) {
            reason.tests.push(test.to_owned());
        }
    }
    reasons
}

/// Tells what fails without a reason, and which reasons are none any more.
fn judge(suite: &str, known: &[Reason], direct: &Results, through: &Results) -> Vec<String> {
    let fails = |test: &str| {
        direct.get(test) == Some(&Went::Passed) && through.get(test) != Some(&Went::Passed)
    };
    let named = |test: &str| {
        let name = format!("{suite} {test}");
        known.iter().any(|reason| reason.tests.contains(&name))
    };
    let fresh = direct
        .keys()
        .filter(|test| fails(test) && !named(test))
        .map(|test| format!("fails through pgherd and passes direct:\nat {suite} {test}"));
    let gone = known
        .iter()
        .filter(|reason| !reason.by_chance)
        .flat_map(|reason| &reason.tests)
        .filter_map(|test| test.strip_prefix(suite)?.strip_prefix(' '))
        .filter(|test| !fails(test))
        .map(|test| format!("passes now, and is to be taken out:\nat {suite} {test}"));
    fresh.chain(gone).collect()
}

fn fetched(suite: &str) -> PathBuf {
    let place = source("target/drivers/suites").join(suite);
    assert!(place.is_dir(), "tests/drivers/long.sh fetches the suites");
    place
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
    let mut command = Command::new(source("target/drivers/python/bin/python"));
    command
        .arg(source("tests/drivers/suites/python.py"))
        .arg(home)
        .args(modules);
    command
}

fn by_variables(command: &mut Command, place: &Place<'_>) {
    command
        .env("PGHOST", "127.0.0.1")
        .env("PGPORT", place.port.to_string())
        .env("PGUSER", "app")
        .env("PGPASSWORD", "app")
        .env("PGDATABASE", place.database)
        .env("PGSSLMODE", "disable");
}

#[tokio::test]
#[ignore = "long: tests/drivers/long.sh"]
async fn psycopg2() {
    compare("psycopg2", |place| {
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
    compare("asyncpg", |place| {
        // The left out ones start servers of their own, or check how the source is written.
        let mut command = unittests("asyncpg", &["test__sourcecode", "test_subinterpreters"]);
        by_variables(&mut command, place);
        command
    })
    .await;
}

/// The tests of packages of Go, which Debian brings along with them.
fn go(packages: &[&str]) -> Command {
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
    compare("lib_pq", |place| {
        let mut command = go(&["github.com/lib/pq"]);
        by_variables(&mut command, place);
        command
    })
    .await;
}

#[tokio::test]
#[ignore = "long: tests/drivers/long.sh"]
async fn pgx() {
    compare("pgx", |place| {
        let Place { port, database } = place;
        let mut command = go(&["github.com/jackc/pgx/v4", "github.com/jackc/pgx/v4/pgxpool"]);
        let words = format!(
            "host=127.0.0.1 port={port} user=app password=app dbname={database} sslmode=disable"
        );
        command.env("PGX_TEST_DATABASE", words);
        command
    })
    .await;
}

/// The usual idioms of sqlx, whose build takes too long for the short form.
#[tokio::test]
#[ignore = "long: tests/drivers/long.sh"]
async fn sqlx() {
    let mut build = Command::new("cargo");
    let target = source("target/drivers/sqlx");
    build.args(["build", "--quiet", "--locked", "--manifest-path"]);
    build.arg(source("tests/drivers/sqlx/Cargo.toml"));
    build.arg("--target-dir").arg(&target);
    let built = tokio::process::Command::from(build).status().await;
    assert!(built.expect("cargo is there").success());
    super::idioms::same(&[&target.join("debug/pgherd-sqlx")]).await;
}

#[test]
fn what_is_known_is_told_from_what_is_not() {
    let results = |lines: &[&str]| -> Results {
        let read = lines.iter().filter_map(|line| result(line));
        read.map(|(name, went)| (name.to_owned(), went)).collect()
    };
    let direct = results(&[
        "pass a",
        "    --- PASS: b (0.1s)",
        "fail c",
        "pass d",
        "skip e",
    ]);
    let through = results(&["fail a", "--- PASS: b (0.1s)", "fail c", "fail e"]);
    let known = |list| judge("s", &reasons(list), &direct, &through);
    assert_eq!(known("").len(), 2, "a fails, d is missing");
    assert!(known("[why]\nWords.\nat s a\nat s d\nat other b").is_empty());
    assert_eq!(known("[why]\nat s a\nat s b\nat s d").len(), 1, "b passes");
    assert!(known("[why?]\nat s a\nat s b\nat s d").is_empty());
}
