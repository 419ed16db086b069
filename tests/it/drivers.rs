//! What applications do, by the drivers that they use: scripts that run against a pool of two
//! server connections for more clients than that. A script that fails there runs once more on the
//! server itself, so that the report shows whose fault it is.

mod idioms;
mod native;
pub(super) mod noise;
mod suites;

use std::path::{Path, PathBuf};
use std::process::Command;

use pgherd_tests::{Config, Database, Output, Proxy, run, server};

/// Gives a path in the source tree.
pub(crate) fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A pool of two before a database, with the login that applications use, by SCRAM.
async fn pool_of_two(database: &Database) -> Proxy {
    let Database { name, port } = database;
    Proxy::start(&Config::text(format!(
        "[listen]\naddresses = [\"127.0.0.1:{{port}}\"]\n\
         [pool]\nsize = 2\n\
         [timeouts]\ncheckout = \"15s\"\n\
         [users.app]\npassword = \"app\"\nconsole = \"reader\"\n\
         [databases.{name}]\nhosts = [\"127.0.0.1:{port}\"]\n"
    )))
    .await
}

/// Tells whether all that a driver needs is installed; where tests must be whole, it has to be.
pub(super) fn installed(needed: &[&Path]) -> bool {
    let Some(missing) = needed.iter().find(|path| !is_there(path)) else {
        return true;
    };
    let missing = missing.display();
    assert!(
        std::env::var_os("CI").is_none(),
        "{missing} is missing; .ci/prepare tests installs it"
    );
    eprintln!("skipped: {missing} is missing; .ci/prepare tests installs it");
    false
}

/// A name without a directory is looked for as the system does.
fn is_there(path: &Path) -> bool {
    let found = |dir: PathBuf| dir.join(path).is_file();
    path.exists()
        || std::env::var_os("PATH").is_some_and(|all| std::env::split_paths(&all).any(found))
}

/// Runs a script that takes a URL, with Postgres' own programs first in its path.
pub(super) async fn script(command: &[&Path], url: &str) -> Output {
    let psql = server()
        .await
        .binaries()
        .tool("psql")
        .expect("psql is installed");
    let mut path = psql
        .parent()
        .expect("it has a directory")
        .as_os_str()
        .to_owned();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let mut script = Command::new(command[0]);
    script.args(&command[1..]).arg(url).env("PATH", path);
    for name in [
        "PGOPTIONS",
        "PGAPPNAME",
        "PGTZ",
        "PGSSLMODE",
        "PGCLIENTENCODING",
    ] {
        script.env_remove(name);
    }
    run(script, "").await
}

/// Runs a script through the proxy, and if it fails, on the server itself.
async fn works(command: &[&Path]) {
    let database = Database::new().await;
    let proxy = pool_of_two(&database).await;
    let through = script(command, &proxy.url("app", &database.name)).await;
    if through.code == 0 {
        assert!(
            through.out.contains("ok"),
            "it checked something: {}",
            through.out
        );
        return;
    }
    let direct = script(command, &Database::new().await.url("app")).await;
    panic!(
        "through pgherd: exit {}\n{}{}\ndirect: exit {}\n{}{}",
        through.code, through.out, through.err, direct.code, direct.out, direct.err
    );
}

async fn python(name: &str) {
    let python = source("target/drivers/python/bin/python");
    if installed(&[&python]) {
        works(&[&python, &source("tests/drivers").join(name)]).await;
    }
}

#[tokio::test]
async fn psycopg() {
    python("psycopg3.py").await;
}

#[tokio::test]
async fn asyncpg() {
    python("asyncpg_cache.py").await;
}

#[tokio::test]
async fn node_pg() {
    let modules = source("target/drivers/node/node_modules");
    let (cursor, copy) = (modules.join("pg-cursor"), modules.join("pg-copy-streams"));
    if installed(&[Path::new("node"), &modules.join("pg"), &cursor, &copy]) {
        works(&[Path::new("node"), &source("tests/drivers/pg.js")]).await;
    }
}

#[tokio::test]
async fn jdbc() {
    let jar = Path::new("/usr/share/java/postgresql.jar");
    if installed(&[Path::new("javac"), jar]) {
        let source = source("tests/drivers/Jdbc.java");
        works(&[Path::new("java"), Path::new("-cp"), jar, &source]).await;
    }
}

#[tokio::test]
async fn psql() {
    works(&[&source("tests/drivers/psql.sh")]).await;
}

#[tokio::test]
async fn pgbench() {
    works(&[&source("tests/drivers/pgbench.sh")]).await;
}
