//! The suites that drivers have of their own, in the long form of the tests: `tests/drivers/long.sh`
//! fetches them. Each runs on the server itself and then through the proxy, where no test may fail
//! that passes without it, but for those in `tests/drivers/known.txt`, which have a reason.

mod go;
mod node;
mod python;
mod rust;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use pgherd_tests::{Config, Database, Proxy};
use tokio::time::timeout;

use super::noise::Noise;
use super::source;

/// How long a suite may take.
const PATIENCE: Duration = Duration::from_secs(900);

/// Where a suite finds its database.
struct Place<'a> {
    port: u16,
    database: &'a str,
}

impl Place<'_> {
    /// Tells a command the place by the variables that libpq knows, and most drivers do.
    fn by_variables(&self, mut command: Command) -> Command {
        command
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", "app")
            .env("PGPASSWORD", "app")
            .env("PGDATABASE", self.database)
            .env("PGSSLMODE", "disable");
        command
    }
}

/// A suite and what it wants to find.
struct Suite {
    /// Its name in the list of what is known.
    name: &'static str,
    /// How its clients log in to pgherd, in the words of a configuration file.
    login: &'static str,
    /// What its database needs, in SQL.
    needs: &'static str,
    /// Why it has its servers to itself, if it does: many of them, and no other clients.
    apart: Option<&'static str>,
}

/// Logging in with a password, as applications do.
const BY_PASSWORD: &str = "[users.app]\npassword = \"app\"\n";
/// For suites that know no password, or users with other ones.
const TRUSTED: &str = "[auth]\nmethod = \"trust\"\n[users.app]\n[users.postgres]\n";

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

impl Suite {
    /// One that logs in as most do, and needs nothing.
    fn named(name: &'static str) -> Self {
        Self {
            name,
            login: BY_PASSWORD,
            needs: "",
            apart: None,
        }
    }

    fn login(self, login: &'static str) -> Self {
        Self { login, ..self }
    }

    fn needs(self, needs: &'static str) -> Self {
        Self { needs, ..self }
    }

    /// Leaves it alone with its servers, for this reason. None has one so far.
    #[expect(dead_code, reason = "no suite needs it yet")]
    fn apart(self, why: &'static str) -> Self {
        Self {
            apart: Some(why),
            ..self
        }
    }

    /// A database of its own, and a second one whose name ends with `_other`.
    async fn database(&self) -> Database {
        let database = Database::new().await;
        let other = format!("create database {}_other template template0", database.name);
        database.sql(&other).await;
        if !self.needs.is_empty() {
            database.sql(self.needs).await;
        }
        database
    }

    /// Some servers more than a suite has clients at once that keep theirs. The one that was used last comes first, so
    /// that only those who make noise have a suite's clients go from one to another.
    async fn proxy(&self, database: &Database) -> Proxy {
        let port = database.port;
        let login = self.login;
        let size = if self.apart.is_some() { 30 } else { 12 };
        Proxy::start(&Config::text(format!(
            "[listen]\naddresses = [\"127.0.0.1:{{port}}\"]\n\
             [pool]\nsize = {size}\n\
             {login}\
             [users.\"*\"]\n\
             [databases.\"*\"]\nhosts = [\"127.0.0.1:{port}\"]\n"
        )))
        .await
    }

    /// Runs it on the server itself and through the proxy.
    ///
    /// # Panics
    /// If a test fails through the proxy alone without a reason that is known.
    async fn compare(&self, command: impl Fn(&Place<'_>) -> Command) {
        let name = self.name;
        let database = self.database().await;
        let place = Place {
            port: database.port,
            database: &database.name,
        };
        let direct = results(name, "direct", command(&place)).await;
        let database = self.database().await;
        let proxy = self.proxy(&database).await;
        let place = Place {
            port: proxy.port(),
            database: &database.name,
        };
        let noise = match self.apart {
            None => Some(Noise::begin(&proxy.url("app", &database.name))),
            Some(why) => {
                println!("{name} has its servers to itself: {why}");
                None
            }
        };
        let through = results(name, "through", command(&place)).await;
        if let Some(noise) = noise {
            assert!(
                database.backends("app").await > 1,
                "{name} goes from one server to another"
            );
            noise.end().await;
        }
        let passed = |results: &Results| {
            let passed = results.values().filter(|went| **went == Went::Passed);
            passed.count()
        };
        println!(
            "{name}: {} tests pass on the server itself, {} through pgherd",
            passed(&direct),
            passed(&through)
        );
        assert!(passed(&direct) > 20, "the suite runs");
        let list =
            fs::read_to_string(source("tests/drivers/known.txt")).expect("the list is there");
        let wrong = judge(name, &reasons(&list), &direct, &through);
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
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

/// Reads a line of a result, as our runners of suites, Go or Cargo write it.
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
    if let Some((test, went)) = line
        .strip_prefix("test ")
        .and_then(|line| line.split_once(" ... "))
    {
        let went = match went {
            "ok" => Went::Passed,
            "FAILED" => Went::Failed,
            _ => Went::Skipped,
        };
        return Some((test, went));
    }
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
        "test f ... ok",
        "test g ... ignored, why",
    ]);
    let through = results(&[
        "fail a",
        "--- PASS: b (0.1s)",
        "fail c",
        "fail e",
        "test f ... FAILED",
        "test g ... FAILED",
    ]);
    let known = |list| judge("s", &reasons(list), &direct, &through);
    assert_eq!(known("").len(), 3, "a and f fail, d is missing");
    assert!(known("[why]\nWords.\nat s a\nat s d\nat s f\nat other b").is_empty());
    assert_eq!(
        known("[why]\nat s a\nat s b\nat s d\nat s f").len(),
        1,
        "b passes"
    );
    assert!(known("[why?]\nat s a\nat s b\nat s d\nat s f").is_empty());
}
