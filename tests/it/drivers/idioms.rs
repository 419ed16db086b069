//! Drivers with their usual idioms, whose scripts say what they saw: with other clients on the same
//! pool, they have to see what they see on the server itself.

use std::path::Path;
use std::process::Command;

use pgherd_tests::{Database, Output, Proxy, connect, run};

use super::noise::Noise;
use super::{installed, pool_of_two, script, source};

/// Runs a script on the server itself and through the proxy, and compares what it saw.
pub(super) async fn same(command: &[&Path]) {
    let database = Database::new().await;
    let proxy = pool_of_two(&database).await;
    same_by(command, &database, &proxy).await;
}

async fn same_by(command: &[&Path], database: &Database, proxy: &Proxy) {
    let direct = script(command, &Database::new().await.url("app")).await;
    assert_eq!(direct.code, 0, "direct: {}{}", direct.out, direct.err);
    let url = proxy.url("app", &database.name);
    let noise = Noise::begin(&url);
    let through = script(command, &url).await;
    if through.code != 0 || seen(&through) != seen(&direct) {
        // Who keeps a server tells why others found none.
        let console = connect(&proxy.url("app", "pgherd")).await;
        for table in ["show pins", "show servers", "show clients"] {
            println!("{table}: {:#?}", console.simple_query(table).await);
        }
    }
    assert_eq!(
        through.code, 0,
        "through pgherd: {}{}\ndirect: {}",
        through.out, through.err, direct.out
    );
    assert!(direct.out.lines().count() > 10, "it tells: {}", direct.out);
    assert_eq!(seen(&through), seen(&direct), "through pgherd, and direct");
    noise.end().await;
}

/// What a script printed, without how long it took.
fn seen(output: &Output) -> Vec<&str> {
    let line = |line| match str::split_once(line, " ok, ") {
        Some((what, _)) => what,
        None => line,
    };
    output.out.lines().map(line).collect()
}

async fn python(name: &str, package: &str) {
    let home = source("target/drivers/python");
    let python = home.join("bin/python");
    let found = std::fs::read_dir(home.join("lib"))
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .map(|version| version.path().join("site-packages").join(package))
        .find(|path| path.exists())
        .unwrap_or_else(|| home.join(package));
    if installed(&[&python, &found]) {
        same(&[&python, &source("tests/drivers").join(name)]).await;
    }
}

async fn node(name: &str, package: &str) {
    let package = source("target/drivers/node/node_modules").join(package);
    if installed(&[Path::new("node"), &package]) {
        same(&[Path::new("node"), &source("tests/drivers").join(name)]).await;
    }
}

#[tokio::test]
async fn psycopg3_listens() {
    python("psycopg3_listen.py", "psycopg").await;
}

#[tokio::test]
async fn libpq_by_psycopg3() {
    python("psycopg3_wire.py", "psycopg").await;
}

#[tokio::test]
async fn node_pg_listens() {
    node("pg_listen.mjs", "pg").await;
}

#[tokio::test]
async fn psycopg2() {
    python("psycopg2_classic.py", "psycopg2").await;
}

#[tokio::test]
async fn sqlalchemy() {
    python("alchemy.py", "sqlalchemy").await;
}

#[tokio::test]
async fn django() {
    python("django_orm.py", "django").await;
}

#[tokio::test]
async fn postgres_js_in_session_mode() {
    let package = source("target/drivers/node/node_modules/postgres");
    if installed(&[Path::new("node"), &package]) {
        let database = Database::new().await;
        let proxy = Proxy::before(&database, "[pool]\nmode = \"session\"").await;
        let script = source("tests/drivers/postgres_js.mjs");
        same_by(&[Path::new("node"), &script], &database, &proxy).await;
    }
}

#[tokio::test]
async fn postgres_js() {
    node("postgres_js.mjs", "postgres").await;
}

#[tokio::test]
async fn sequelize() {
    node("sequelize.mjs", "sequelize").await;
}

#[tokio::test]
async fn ruby_pg() {
    let script = source("tests/drivers/ruby_pg.rb");
    if installed(&[Path::new("ruby"), Path::new("/usr/share/doc/ruby-pg")]) {
        same(&[Path::new("ruby"), &script]).await;
    }
}

#[tokio::test]
async fn active_record() {
    let script = source("tests/drivers/active_record.rb");
    let package = Path::new("/usr/share/doc/ruby-activerecord");
    if installed(&[Path::new("ruby"), package]) {
        same(&[Path::new("ruby"), &script]).await;
    }
}

#[tokio::test]
async fn more_of_jdbc() {
    let jar = Path::new("/usr/share/java/postgresql.jar");
    if installed(&[Path::new("javac"), jar]) {
        let source = source("tests/drivers/JdbcMore.java");
        same(&[Path::new("java"), Path::new("-cp"), jar, &source]).await;
    }
}

#[tokio::test]
async fn go_libpq() {
    // Debian puts packages of Go where the compiler finds them without modules.
    let home = Path::new("/usr/share/gocode");
    if !installed(&[Path::new("go"), &home.join("src/github.com/lib/pq")]) {
        return;
    }
    let built = source("target/drivers/go");
    let program = built.join("libpq");
    let mut go = Command::new("go");
    go.args(["build", "-o"]).arg(&program);
    go.arg(source("tests/drivers/go/libpq.go"));
    go.env("GO111MODULE", "off").env("GOPATH", home);
    go.env("GOCACHE", built.join("cache")).env("GOFLAGS", "");
    run(go, "").await.success();
    same(&[&program]).await;
}

#[tokio::test]
async fn php_pdo() {
    let script = source("tests/drivers/pdo.php");
    if installed(&[Path::new("php"), Path::new("/usr/share/doc/php-pgsql")]) {
        same(&[Path::new("php"), &script]).await;
    }
}
