//! Writes by their plans: they leave and answer what one server does.

use crate::answer::{Answer, ask};
use crate::execute::{Outcome, run};
use crate::line::{Line, Mode, WRITES, line, with};
use crate::world::{Buckets, World};

const SHARDED: [&str; 13] = [
    "users",
    "orders",
    "items",
    "\"Upper\"",
    "docs",
    "names",
    "codes",
    "prices",
    "days",
    "pairs",
    "pairs2",
    "loose",
    "conf.settings",
];

const REPLICATED: [&str; 2] = ["products", "countries"];

async fn everywhere(world: &World, text: &str) {
    for client in world.shards.iter().chain([&world.whole]) {
        ask(client, text).await.unwrap();
    }
}

/// What differs between one server and the shards, of the tables that a statement names.
async fn differs(world: &World, query: &str) -> Option<String> {
    let named = |table: &&&str| query.contains(table.trim_matches('"'));
    for table in SHARDED.iter().filter(named) {
        let select = format!("select * from {table}");
        let whole = ask(&world.whole, &select).await.unwrap().sorted();
        let mut all: Option<Answer> = None;
        for shard in &world.shards {
            let part = ask(shard, &select).await.unwrap();
            all = Some(match all {
                Some(all) => all.and(part),
                None => part,
            });
        }
        let all = all.unwrap().sorted();
        if whole.rows != all.rows {
            return Some(format!(
                "{table}: {} and {} rows",
                whole.rows.len(),
                all.rows.len()
            ));
        }
    }
    for table in REPLICATED.iter().filter(named) {
        let select = format!("select * from {table}");
        let whole = ask(&world.whole, &select).await.unwrap().sorted();
        for shard in &world.shards {
            if ask(shard, &select).await.unwrap().sorted() != whole {
                return Some(format!("{table} is not the same everywhere"));
            }
        }
    }
    None
}

fn same(line: &Line<'_>, one: Answer, two: Answer) -> bool {
    match line.mode {
        Mode::Sequence => one == two,
        _ => one.sorted() == two.sorted(),
    }
}

/// Runs one statement on both sides; gives what is wrong.
async fn step(world: &World, line: &Line<'_>) -> Option<String> {
    everywhere(world, "begin").await;
    let given = run(world, line.query, &line.values).await;
    let (kind, given) = match given {
        Outcome::Refused(refusal) => {
            everywhere(world, "rollback").await;
            return (line.kind != "no").then(|| format!("refused: {refusal}"));
        }
        Outcome::Done(kind, given) => (kind, given),
    };
    let expected = ask(&world.whole, &with(line.query, &line.values)).await;
    let wrong = match (expected, given) {
        (Ok(expected), Ok(given)) if same(line, expected.clone(), given.clone()) => {
            everywhere(world, "commit").await;
            differs(world, line.query).await
        }
        (Ok(expected), Ok(given)) => Some(format!("{expected:?}\n  {given:?}")),
        (Err(_), Err(_)) if line.kind == "fail" => {
            everywhere(world, "rollback").await;
            return None;
        }
        (Err(one), Err(two)) => Some(format!("both fail: {one}, {two}")),
        (one, two) => Some(format!("{one:?}\n  {two:?}")),
    };
    if wrong.is_some() {
        everywhere(world, "rollback").await;
    }
    wrong.or_else(|| (kind != line.kind).then(|| format!("came as {kind}")))
}

/// Runs all statements; which are refused, or come in another way, is told only where rows are placed as they expect.
async fn all(world: World, check_kinds: bool) {
    let mut wrong = Vec::new();
    let mut right = 0;
    for line in WRITES.lines().filter_map(line) {
        let otherwise = |what: &str| what.starts_with("refused: ") || what.starts_with("came as ");
        match step(&world, &line).await {
            Some(what) if !check_kinds && otherwise(&what) => {}
            Some(what) => wrong.push(format!("{} {}\n  {what}", line.kind, line.query)),
            None => right += 1,
        }
    }
    println!("{right} statements as they should be");
    assert!(
        wrong.is_empty(),
        "{} WRONG:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(right > 200, "{right}");
}

#[tokio::test]
async fn writes_leave_what_they_leave_on_one_server() {
    all(World::new(4).await, true).await;
}

#[tokio::test]
async fn so_they_do_where_each_group_has_a_method_of_its_own() {
    let world = World::with(3, Buckets::Mixed).await;
    all(world, false).await;
}
