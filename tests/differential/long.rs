//! The long form: our own scripts with random turns, and Postgres' regression scripts.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pgherd_tests::{Raw, Script, Statement};

use crate::corpus::{KNOWN, own, run_all};
use crate::known::{self, Listing};
use crate::run::{Answers, Moving, Plan};
use crate::stage::Stage;

/// Repeats a run, as far as chance decides; its number is printed.
const SEED: &str = "PGHERD_DIFFERENTIAL_SEED";
/// How often our own scripts run with random turns; unless this variable says otherwise, 5 times.
const ROUNDS: &str = "PGHERD_DIFFERENTIAL_ROUNDS";
/// Where Postgres' `src/test/regress` lies.
const REGRESS: &str = "PGHERD_REGRESS";
/// Some scripts alone, by their names with commas between.
const ONLY: &str = "PGHERD_DIFFERENTIAL_ONLY";

/// Postgres' scripts for the areas in which a session has state, and some that only ask much; but
/// not `sequence`, whose state is known to stay behind, not `domain`, where older readings of
/// statements lead to ever others, and not `prepared_xacts`, which locks itself out where its
/// statements go together.
const SCRIPTS: &[&str] = &[
    "advisory_lock",
    "aggregates",
    "arrays",
    "async",
    "case",
    "combocid",
    "conversion",
    "copy",
    "copy2",
    "copydml",
    "copyselect",
    "create_function_sql",
    "create_procedure",
    "date",
    "enum",
    "errors",
    "foreign_key",
    "guc",
    "insert_conflict",
    "interval",
    "json",
    "largeobject",
    "limit",
    "lock",
    "merge",
    "namespace",
    "numeric",
    "plancache",
    "plpgsql",
    "portals",
    "portals_p2",
    "prepare",
    "privileges",
    "random",
    "rangefuncs",
    "returning",
    "roleattributes",
    "rowsecurity",
    "strings",
    "temp",
    "timestamptz",
    "transactions",
    "triggers",
    "truncate",
    "union",
    "window",
    "with",
];

/// What is known to differ in Postgres' scripts.
const KNOWN_REGRESS: &str = include_str!("regress.txt");

fn seed() -> u64 {
    let seed = env::var(SEED).map_or_else(|_| rand::random(), |text| text.parse().unwrap());
    println!("{SEED}={seed}");
    seed
}

/// Our own scripts, but for what shows more of where it ran than can be listed.
fn scripts() -> Vec<(String, String)> {
    let mut scripts = own();
    scripts.retain(|(name, _)| name != "sequences");
    scripts
}

/// Which known differences show depends on the turns; what is not known must not show.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes; see long.sh"]
async fn random_turns_show_nothing_new() {
    let rounds = env::var(ROUNDS).map_or(5, |text| text.parse().unwrap());
    let first: u64 = seed();
    let stage = Arc::new(Stage::new().await);
    let known = known::list(KNOWN);
    for round in 0..rounds {
        let seed = first.wrapping_add(round);
        let plan = move |mode| Plan {
            mode,
            seed,
            moving: Moving::Sometimes,
            answers: Answers::Exact,
        };
        let totals = run_all(&stage, scripts(), "base", plan, BTreeMap::new()).await;
        println!("{SEED}={seed}");
        totals.show();
        let new = known::unknown(&known, &totals.found);
        assert!(new.is_empty(), "{SEED}={seed}:\n{}", Listing(&new));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes and needs Postgres' sources; see long.sh"]
async fn regression_scripts_give_the_same() {
    let regress = PathBuf::from(env::var(REGRESS).expect("where the scripts are"));
    let seed = seed();
    let stage = Arc::new(Stage::new().await);
    let variables = BTreeMap::from([("abs_srcdir".to_owned(), regress.display().to_string())]);
    prepare(&stage, &regress, &variables).await;
    let only = env::var(ONLY).unwrap_or_default();
    let scripts: Vec<(String, String)> = SCRIPTS
        .iter()
        .filter(|name| only.is_empty() || only.split(',').any(|one| one == **name))
        .map(|name| ((*name).to_owned(), text(&regress, name)))
        .collect();
    let names: Vec<String> = scripts.iter().map(|(name, _)| name.clone()).collect();
    let is_whole = only.is_empty();
    let plan = move |mode| Plan {
        mode,
        seed,
        moving: Moving::Always,
        answers: Answers::Masked,
    };
    let totals = run_all(&stage, scripts, "regress", plan, variables).await;
    totals.show();
    assert_eq!(totals.unmoved, Vec::<String>::new(), "never moved");
    let known = known::list(KNOWN_REGRESS);
    let new = known::unknown(&known, &totals.found);
    assert!(new.is_empty(), "new differences:\n{}", Listing(&new));
    let gone = known::gone(&known, &totals.found, &names);
    assert!(
        !is_whole || gone.is_empty(),
        "no differences any more:\n{}",
        gone.join("\n")
    );
}

fn text(regress: &Path, name: &str) -> String {
    let path = regress.join("sql").join(format!("{name}.sql"));
    fs::read_to_string(path).expect("Postgres' script")
}

/// Makes the tables that Postgres' scripts expect, as its own script does it, on both servers.
async fn prepare(stage: &Stage, regress: &Path, variables: &BTreeMap<String, String>) {
    for server in [&stage.direct, &stage.behind] {
        let create = "create database regress template base";
        server.sql(create).await.expect("the database is made");
        let mut client = Raw::login(server.port(), "app", "regress", &[]).await;
        let text = text(regress, "test_setup");
        let mut script = Script::new(&text);
        for (name, value) in variables {
            script.set(name, value);
        }
        while let Some(Statement { text, .. }) = script.statement() {
            client.send(&Raw::query(&text)).await;
            client.ready().await;
        }
    }
}
