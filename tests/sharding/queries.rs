//! Several hundred queries, run by their plans and on one database: none may give anything else.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::answer::{Answer, ask};
use crate::execute::{Outcome, run};
use crate::line::{COLLECTIONS, Line, Mode, line, with};
use crate::world::{Buckets, World};

fn same(mode: &Mode, one: Answer, two: Answer) -> bool {
    match mode {
        Mode::Sequence => one == two,
        Mode::Bag => one.sorted() == two.sorted(),
        Mode::Count => one.columns == two.columns && one.rows.len() == two.rows.len(),
    }
}

#[derive(Default)]
pub(crate) struct Tally {
    right: BTreeMap<&'static str, usize>,
    failed: usize,
    /// Left out because one server takes too long.
    slow: usize,
    refused: BTreeMap<String, usize>,
    pub(crate) wrong: Vec<String>,
    unexpected: Vec<String>,
}

impl Tally {
    pub(crate) async fn take(&mut self, world: &World, line: &Line<'_>) {
        let expected = ask(&world.whole, &with(line.query, &line.values)).await;
        if expected
            .as_ref()
            .is_err_and(|error| error.starts_with("57014"))
        {
            self.slow += 1;
            return;
        }
        let (kind, given) = match run(world, line.query, &line.values).await {
            Outcome::Refused(refusal) => {
                if line.kind != "no" && line.kind != "?" && expected.is_ok() {
                    self.unexpected.push(format!(
                        "{} refused: {refusal}\n  {}",
                        line.kind, line.query
                    ));
                }
                if expected.is_err() {
                    self.failed += 1;
                } else if refusal.code != "0A000" {
                    self.wrong.push(format!(
                        "{} is said of what one server answers: {refusal}\n  {}",
                        refusal.code, line.query
                    ));
                } else {
                    let reason = format!("{}: {}", refusal.code, refusal.reason);
                    if std::env::var_os("PGHERD_SHARDING_REFUSED").is_some() {
                        println!("refused {refusal}: {}", line.query);
                    }
                    *self.refused.entry(reason).or_default() += 1;
                }
                return;
            }
            Outcome::Done(kind, given) => (kind, given),
        };
        if line.kind != kind && line.kind != "?" && world.shards.len() > 1 {
            self.unexpected
                .push(format!("{} came as {kind}\n  {}", line.kind, line.query));
        }
        match (expected, given) {
            (Ok(expected), Ok(given)) => {
                if same(&line.mode, expected.clone(), given.clone()) {
                    *self.right.entry(kind).or_default() += 1;
                } else {
                    let (expected, given) = (expected.sorted(), given.sorted());
                    let text = format!("{kind} {}\n  {expected:?}\n  {given:?}", line.query);
                    self.wrong.push(text.chars().take(1_500).collect());
                }
            }
            (Err(error), Err(_)) => {
                if std::env::var_os("PGHERD_SHARDING_REFUSED").is_some() {
                    println!("failed {error}: {}", line.query);
                }
                self.failed += 1;
            }
            (Ok(_), Err(error)) => self
                .wrong
                .push(format!("{kind} {}\n  failed: {error}", line.query)),
            (Err(error), Ok(_)) => {
                self.wrong
                    .push(format!("{kind} {}\n  should fail: {error}", line.query));
            }
        }
    }

    pub(crate) fn right(&self) -> usize {
        self.right.values().sum()
    }

    pub(crate) fn told(&self) -> String {
        let right: usize = self.right.values().sum();
        let refused: usize = self.refused.values().sum();
        let mut text = format!(
            "right {right} {:?}, refused {refused}, failing on both {}, too slow {}, WRONG {}\n",
            self.right,
            self.failed,
            self.slow,
            self.wrong.len()
        );
        for (reason, count) in &self.refused {
            let _ = writeln!(text, "{count:5} {reason}");
        }
        text
    }
}

async fn all(world: World, collections: &[&str], check_kinds: bool) {
    let shards = world.shards.len();
    let mut tally = Tally::default();
    for text in collections.iter().flat_map(|text| text.lines()) {
        if let Some(line) = line(text) {
            tally.take(&world, &line).await;
        }
    }
    println!("{shards} shards: {}", tally.told());
    assert!(tally.wrong.is_empty(), "WRONG:\n{}", tally.wrong.join("\n"));
    if check_kinds {
        assert!(
            tally.unexpected.is_empty(),
            "unexpected:\n{}",
            tally.unexpected.join("\n")
        );
    }
}

#[tokio::test]
async fn no_query_gives_another_answer_over_four_shards() {
    all(World::new(4).await, &COLLECTIONS, true).await;
}

#[tokio::test]
async fn nor_over_seven() {
    all(World::new(7).await, &COLLECTIONS, false).await;
}

#[tokio::test]
async fn nor_where_one_shard_has_all_rows() {
    let world = World::with(3, Buckets::One).await;
    all(world, &COLLECTIONS[1..], false).await;
}

#[tokio::test]
async fn nor_where_one_has_none() {
    let world = World::with(3, Buckets::Gap).await;
    all(world, &COLLECTIONS[1..], false).await;
}

#[tokio::test]
async fn nor_where_each_group_has_a_method_of_its_own() {
    let world = World::with(3, Buckets::Mixed).await;
    all(world, &COLLECTIONS, false).await;
}
