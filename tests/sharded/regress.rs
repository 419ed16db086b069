//! PostgreSQL's own regression scripts over sharded tables: each of their SELECTs is asked of one Postgres with
//! all rows and of four shards through pgherd, in both protocols.
//!
//! What a script makes is made in one database first; then its schema is copied to the shards, its rows are spread over them
//! by a column each, and its SELECTs are asked of what is there in the end. The same rows lie in another
//! order in one more database: what that one answers otherwise, Postgres does not determine.
//!
//! The scripts are those of `.ci/prepare tests`, in `target/scripts`. All of them:
//!
//! ```sh
//! cargo test --test sharded regress -- --ignored --nocapture   # PGHERD_REGRESS_ONLY=join,with: some alone
//! ```

mod alike;
mod parts;
mod rows;
mod stage;
mod tally;

use std::fs;
use std::path::{Path, PathBuf};

use alike::{Both, Form};
use parts::Parts;
use stage::{Stage, Template};
use tally::Tally;

/// The scripts of the short form, which share their tables.
const SHORT: &[&str] = &[
    "select",
    "select_distinct",
    "select_having",
    "case",
    "limit",
    "union",
];

/// All scripts that ask something of tables that can be sharded.
const LONG: &[&str] = &[
    "aggregates",
    "arrays",
    "boolean",
    "case",
    "date",
    "enum",
    "equivclass",
    "expressions",
    "float8",
    "groupingsets",
    "int2",
    "int4",
    "int8",
    "interval",
    "join",
    "join_hash",
    "json",
    "jsonb",
    "limit",
    "memoize",
    "misc",
    "name",
    "numeric",
    "rangefuncs",
    "rangetypes",
    "rowtypes",
    "select",
    "select_distinct",
    "select_distinct_on",
    "select_having",
    "select_implicit",
    "strings",
    "subselect",
    "text",
    "time",
    "timestamp",
    "timestamptz",
    "tsrf",
    "union",
    "uuid",
    "varchar",
    "window",
    "with",
];

/// So many of a hundred SELECTs are answered, at least; the rest is refused.
const SHARE: usize = 90;

fn scripts() -> PathBuf {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/scripts");
    assert!(
        place.join("select.sql").is_file(),
        "{} has no scripts: run .ci/prepare tests",
        place.display()
    );
    place
}

fn parts(scripts: &Path, name: &str, data: &Path) -> Parts {
    let text = fs::read_to_string(scripts.join(name).with_extension("sql")).unwrap();
    Parts::of(&text, data)
}

/// Asks all queries of some scripts, whose tables are together.
async fn ask(stage: &Stage, scripts: &[(&str, Parts)], total: &mut Tally) {
    let mut both = Both::new(stage).await;
    for (name, parts) in scripts {
        let mut tally = Tally::default();
        for query in &parts.queries {
            for form in [Form::Simple, Form::Extended] {
                tally.take(query, both.ask(query, form).await);
            }
        }
        println!("{name:>18} {tally}\n{}", tally.complaints());
        total.add(tally);
    }
}

fn close(total: &Tally) {
    println!("{:>18} {total}\n{}", "all", total.reasons());
    assert!(total.wrong.is_empty(), "{} are WRONG", total.wrong.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_selects_are_answered_as_by_one_server() {
    let place = scripts();
    let template = Template::new(&place).await;
    let scripts: Vec<_> = SHORT
        .iter()
        .map(|name| (*name, parts(&place, name, &template.data)))
        .collect();
    let setup: String = scripts.iter().map(|(_, it)| it.setup.as_str()).collect();
    let stage = Stage::new(&template, "short", &setup).await;
    let mut total = Tally::default();
    ask(&stage, &scripts, &mut total).await;
    close(&total);
    assert!(total.right > 400, "{total}");
    assert!(total.share() >= SHARE, "{total}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes"]
async fn all_regression_selects_are_answered_as_by_one_server() {
    let only = std::env::var("PGHERD_REGRESS_ONLY").unwrap_or_default();
    let asked = |name: &str| only.is_empty() || only.split(',').any(|one| one == name);
    let place = scripts();
    let template = Template::new(&place).await;
    let mut total = Tally::default();
    for name in LONG.iter().filter(|name| asked(name)) {
        let parts = parts(&place, name, &template.data);
        let stage = Stage::new(&template, name, &parts.setup).await;
        ask(&stage, &[(*name, parts)], &mut total).await;
    }
    close(&total);
    assert!(total.share() >= SHARE, "{total}");
}
