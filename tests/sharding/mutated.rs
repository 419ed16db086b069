//! The collection's queries with words of others in them: most mean nothing, some mean something new.
//!
//! `PGHERD_SHARDING_MUTATED` says how many, `PGHERD_SHARDING_SEED` which.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::line::{COLLECTIONS, Line, Mode, asked};
use crate::queries::Tally;
use crate::world::World;

/// What may come out differently on one server, too.
const OPEN: [&str; 27] = [
    "random",
    "now",
    "current_",
    "local",
    "clock",
    "timestamp",
    "nextval",
    "pg_",
    "advisory",
    "tablesample",
    "array_agg",
    "string_agg",
    "json",
    "row_number",
    "lag",
    "ntile",
    "first_value",
    "distinct on",
    "mode",
    "weight",
    "ctid",
    "tableoid",
    "xmin",
    "version",
    "txid",
    "xml",
    "nick",
];

/// Names and literals, operators, and all else by itself.
fn words(text: &str) -> Vec<String> {
    let kind = |char: char| match char {
        '_' | '\'' | '"' | '$' => 1,
        '<' | '>' | '=' | '|' | '-' | ':' | '~' => 2,
        char if char.is_alphanumeric() => 1,
        _ => 0,
    };
    let mut words: Vec<String> = Vec::new();
    let mut before = 0;
    for char in text.chars() {
        let this = kind(char);
        match words.last_mut() {
            Some(word) if this != 0 && this == before => word.push(char),
            _ if char.is_whitespace() => {}
            _ => words.push(char.to_string()),
        }
        before = if char.is_whitespace() { 0 } else { this };
    }
    words
}

#[tokio::test]
async fn queries_with_other_words_in_them_give_no_other_answer() {
    let mut random = StdRng::seed_from_u64(asked("PGHERD_SHARDING_SEED", 1));
    let count: usize = asked("PGHERD_SHARDING_MUTATED", 1_500);
    let queries: Vec<Vec<String>> = COLLECTIONS
        .into_iter()
        .flat_map(str::lines)
        .filter_map(|line| Some(line.split_once(' ')?.1))
        .filter(|query| !query.contains(" -- ") && !query.contains("users from"))
        .map(words)
        .collect();
    let world = World::new(4).await;
    world
        .whole
        .batch_execute("set statement_timeout = '2s'")
        .await
        .unwrap();
    let mut tally = Tally::default();
    for _ in 0..count {
        let mut query = queries.choose(&mut random).unwrap().clone();
        let other = queries.choose(&mut random).unwrap();
        for _ in 0..random.random_range(1..4) {
            let at = random.random_range(0..query.len());
            let from = random.random_range(0..other.len());
            let length = random.random_range(0..6.min(other.len() - from + 1));
            let until = (at + random.random_range(0..4)).min(query.len());
            query.splice(at..until, other[from..from + length].iter().cloned());
            if query.is_empty() {
                break;
            }
        }
        let query = query.join(" ");
        let open = OPEN.iter().any(|word| query.contains(word));
        if open
            || !(query.starts_with("select") || query.starts_with("with"))
            || query.contains(';')
        {
            continue;
        }
        let cut = ["limit", "fetch", "offset"]
            .iter()
            .any(|word| query.contains(word));
        let line = Line {
            kind: "?",
            mode: if cut { Mode::Count } else { Mode::Bag },
            query: &query,
            values: Vec::new(),
        };
        tally.take(&world, &line).await;
    }
    println!("{}", tally.told());
    assert!(tally.wrong.is_empty(), "WRONG:\n{}", tally.wrong.join("\n"));
}
