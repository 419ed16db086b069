//! Suites of Rust's drivers, which come with their sources, and the idioms of sqlx.

use std::process::Command;

use super::super::{idioms, source};
use super::{Place, Suite, TRUSTED, fetched};

/// What the suites of `tokio-postgres` and `postgres` find where they are run by their authors. Roles
/// are the server's, so that they may be there already.
const NEEDS: &str = "create extension hstore; create extension citext; create extension ltree; \
    do $$ declare name text; begin \
    foreach name in array array['pass_user', 'md5_user', 'scram_user', 'ssl_user'] loop \
    if not exists (select from pg_roles where rolname = name) then \
    execute format('create role %I login password %L', name, 'password'); \
    end if; end loop; end $$";

/// The tests of a package, built with all that it can do.
fn tests(package: &str, place: &Place<'_>) -> Command {
    let mut command = Command::new("cargo");
    command
        .args(["test", "--tests", "--all-features", "--manifest-path"])
        .arg(fetched(package).join("Cargo.toml"))
        .arg("--target-dir")
        .arg(source("target/drivers/suites/cargo"));
    place.by_variables(command)
}

#[tokio::test]
#[ignore = "long: tests/drivers/long.sh"]
async fn tokio_postgres() {
    Suite::named("tokio_postgres")
        .login(TRUSTED)
        .needs(NEEDS)
        .compare(|place| tests("tokio-postgres", place))
        .await;
}

#[tokio::test]
#[ignore = "long: tests/drivers/long.sh"]
async fn postgres() {
    Suite::named("postgres")
        .login(TRUSTED)
        .compare(|place| tests("postgres", place))
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
    idioms::same(&[&target.join("debug/pgherd-sqlx")]).await;
}
