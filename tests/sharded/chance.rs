//! Queries by chance, through the executable. Some are compared with one server that has all rows; others with
//! themselves, said in another way:
//!
//! * a condition, its opposite, and that it is neither, part the rows of a query in three (TLP, ternary logic partitioning);
//! * as many rows come of a condition as those of which it is true where it is no condition, but a column (NoREC).
//!
//! `PGHERD_SHARDED_SEED` says which they are, and over how many shards the rows lie; `PGHERD_SHARDED_QUERIES` how many.

use pgherd_tests::Raw;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use crate::collection::{SHAPES, Tally};
use crate::form::{Answer, Form, Remarks, through};
use crate::line::{Line, Mode, asked};
use crate::made::Maker;
use crate::spread::Spread;

/// Without parameters, values in binary are none.
const FORMS: [Form; 6] = [
    Form::Simple,
    Form::Texts,
    Form::Prepared,
    Form::Results,
    Form::Block,
    Form::BlockResults,
];

/// The time is over, or rows are more than may be brought to one place: nothing is told of the answer.
const LIMITS: [&str; 2] = ["57014", "53400"];

/// In so many ways a query is said otherwise.
const PAIRS: usize = 5;

/// What is made, and by which seed.
struct Stage {
    seed: u64,
    count: usize,
    both: Spread,
    maker: Maker,
    random: StdRng,
}

impl Stage {
    async fn new() -> Self {
        // By three, it is four shards and many buckets.
        let seed: u64 = asked("PGHERD_SHARDED_SEED", 3);
        let (shards, buckets) = SHAPES[usize::try_from(seed).unwrap() % SHAPES.len()];
        let mut both = Spread::new(shards, buckets, &[]).await;
        let patience = Raw::query("set statement_timeout = '2s'");
        assert_eq!(both.whole.ask(&patience).await, "C ZI");
        let patience = Raw::query("set statement_timeout = '15s'");
        assert_eq!(both.raw.ask(&patience).await, "C ZI");
        println!("seed {seed}: {shards} shards, {buckets:?}");
        Self {
            seed,
            count: asked("PGHERD_SHARDED_QUERIES", 200),
            both,
            maker: Maker::new(seed),
            random: StdRng::seed_from_u64(seed),
        }
    }

    fn form(&mut self, forms: &[Form]) -> Form {
        *forms.choose(&mut self.random).unwrap()
    }
}

/// A query as the line of a collection.
fn plain(query: &str, mode: Mode) -> Line<'_> {
    Line {
        kind: "?",
        mode,
        query,
        values: Vec::new(),
    }
}

#[tokio::test]
async fn queries_by_chance_are_answered_as_by_one_server() {
    let mut stage = Stage::new().await;
    let mut tally = Tally::default();
    let (mut limited, mut remarks) = (0, Remarks::default());
    for _ in 0..stage.count {
        let (query, mode) = stage.maker.query();
        let line = plain(&query, mode);
        let form = stage.form(&FORMS);
        let expected = through(&mut stage.both.whole, &line, form, &mut remarks).await;
        if matches!(&expected, Err((code, _)) if code == LIMITS[0]) {
            limited += 1;
            continue;
        }
        let given = through(&mut stage.both.raw, &line, form, &mut remarks).await;
        match &given {
            Err((code, _)) if LIMITS.contains(&code.as_str()) => limited += 1,
            _ => tally.take(&line, form, &expected, given),
        }
    }
    println!("{limited} take too long, or too many rows");
    tally.close(&format!("seed {}", stage.seed));
    let (right, refused) = tally.counts();
    // Else it would be a comparison of nothing.
    assert!(
        right * 2 > stage.count && refused * 4 < stage.count,
        "right {right}, refused {refused} of {}",
        stage.count
    );
}

/// What stands in FROM, a condition on it, and two columns of it.
struct Parted {
    from: String,
    condition: String,
    column: String,
    number: String,
}

impl Parted {
    fn of(maker: &mut Maker) -> Self {
        let (from, aliases) = maker.from();
        Self {
            condition: maker.condition(&aliases, 2),
            column: maker.column(&aliases),
            number: maker.number(&aliases),
            from,
        }
    }

    /// A query of these columns, in three parts.
    fn parts(&self, columns: &str) -> [String; 3] {
        let Self {
            from, condition, ..
        } = self;
        let part = |filter: String| format!("select {columns} from {from} where {filter}");
        [
            part(condition.clone()),
            part(format!("not ({condition})")),
            part(format!("({condition}) is null")),
        ]
    }

    fn whole(&self, columns: &str) -> String {
        format!("select {columns} from {}", self.from)
    }
}

/// What has come of saying it in two ways.
enum Verdict {
    Right,
    /// One of them is refused.
    Refused,
    /// Postgres does not know what is meant, or it takes too long.
    Failed,
    Wrong(String),
}

#[derive(Debug, Default)]
struct Count {
    right: usize,
    refused: usize,
    failed: usize,
    wrong: Vec<String>,
}

impl Count {
    fn take(&mut self, name: &str, verdict: Verdict) {
        match verdict {
            Verdict::Right => self.right += 1,
            Verdict::Refused => self.refused += 1,
            Verdict::Failed => self.failed += 1,
            Verdict::Wrong(text) => self.wrong.push(format!("{name}: {text}")),
        }
    }
}

/// The rows that some queries give together, in order; what is said instead if one has none.
async fn rows(raw: &mut Raw, queries: &[String], form: Form) -> Result<Vec<Vec<u8>>, Verdict> {
    let mut all = Vec::new();
    for query in queries {
        let line = plain(query, Mode::Bag);
        match through(raw, &line, form, &mut Remarks::default()).await {
            Ok(Answer { rows, .. }) => all.extend(rows),
            Err((code, _)) if code == "0A000" => return Err(Verdict::Refused),
            Err((code, _)) if code.starts_with("42") || LIMITS.contains(&code.as_str()) => {
                return Err(Verdict::Failed);
            }
            Err(error) => return Err(Verdict::Wrong(format!("{form:?} {query}\n  {error:?}"))),
        }
    }
    all.sort();
    Ok(all)
}

/// Whether two ways to say something give the same rows.
async fn alike(raw: &mut Raw, one: &[String], two: &[String], form: Form) -> Verdict {
    let (first, second) = match (rows(raw, one, form).await, rows(raw, two, form).await) {
        (Ok(first), Ok(second)) => (first, second),
        (Err(Verdict::Wrong(text)), _) | (_, Err(Verdict::Wrong(text))) => {
            return Verdict::Wrong(text);
        }
        (Err(verdict), _) | (_, Err(verdict)) => return verdict,
    };
    match first == second {
        true => Verdict::Right,
        false => Verdict::Wrong(format!(
            "{form:?}\n  {} rows of {}\n  {} rows of {}",
            first.len(),
            one.join("; "),
            second.len(),
            two.join("; ")
        )),
    }
}

/// Whether a condition holds for as many rows as it is true of.
async fn is_true_as_often(raw: &mut Raw, parted: &Parted, form: Form) -> Verdict {
    let Parted {
        from, condition, ..
    } = parted;
    let counted = format!("select count(*)::text from {from} where {condition}");
    let seen = format!("select (({condition}) is true)::text from {from}");
    let (counted, seen) = match (
        rows(raw, &[counted], form).await,
        rows(raw, &[seen], form).await,
    ) {
        (Ok(counted), Ok(seen)) => (counted, seen),
        (Err(verdict), _) | (_, Err(verdict)) => return verdict,
    };
    let is_true = seen.iter().filter(|row| row.ends_with(b"true")).count();
    let said = is_true.to_string();
    match &counted[..] {
        // Behind two bytes of how many columns there are, and four of how long this one is.
        [row] if row[6..] == *said.as_bytes() => Verdict::Right,
        other => Verdict::Wrong(format!(
            "{form:?} {condition}\n  of {from}\n  true of {is_true}, counted {other:?}"
        )),
    }
}

#[tokio::test]
async fn queries_said_in_another_way_have_the_same_answer() {
    let mut stage = Stage::new().await;
    let mut count = Count::default();
    for _ in 0..stage.count / PAIRS / 2 {
        let parted = Parted::of(&mut stage.maker);
        let form = stage.form(&FORMS);
        let columns = format!("{}, {}", parted.column, parted.number);
        let (whole, parts) = (parted.whole(&columns), parted.parts(&columns));
        let raw = &mut stage.both.raw;
        let verdict = alike(raw, std::slice::from_ref(&whole), &parts, form).await;
        count.take("rows", verdict);
        let together = parts.join(" union all ");
        let verdict = alike(raw, &[whole], &[together], form).await;
        count.take("rows together", verdict);
        let distinct = parted.whole(&format!("distinct {}", parted.column));
        let united = parted.parts(&parted.column).join(" union ");
        let verdict = alike(raw, &[distinct], &[united], form).await;
        count.take("distinct", verdict);
        let number = &parted.number;
        let sums =
            format!("count(*)::numeric, sum({number})::numeric, min({number}), max({number})");
        let parts = parted
            .parts(&format!(
                "count(*) c, sum({number}) s, min({number}) l, max({number}) h"
            ))
            .join(" union all ");
        let added =
            format!("select sum(c)::numeric, sum(s)::numeric, min(l), max(h) from ({parts}) parts");
        let verdict = alike(raw, &[parted.whole(&sums)], &[added], form).await;
        count.take("aggregates", verdict);
        let verdict = is_true_as_often(raw, &parted, form).await;
        count.take("condition", verdict);
    }
    println!(
        "seed {}: right {}, refused {}, failing {}, WRONG {}",
        stage.seed,
        count.right,
        count.refused,
        count.failed,
        count.wrong.len()
    );
    assert!(
        count.wrong.is_empty(),
        "seed {}, WRONG:\n{}",
        stage.seed,
        count.wrong.join("\n")
    );
    assert!(count.right * 4 > stage.count, "{count:?}");
}
