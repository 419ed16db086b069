//! The planner's collection of queries, through the executable in half of the forms of the protocol each: no answer is
//! another than that of one server, and what has one shard is answered.
//!
//! Over other numbers of shards, and where rows lie unevenly, a third of the queries are asked, each in one form;
//! `PGHERD_SHARDED_SEED` chooses them. All of them in all forms, wherever rows are:
//!
//! ```sh
//! cargo test --test sharded collection -- --ignored --nocapture
//! ```

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::form::{Answer, FORMS, Form, Outcome, Remarks, through};
use crate::line::{COLLECTIONS, Line, Mode, asked, line, with};
use crate::spread::Spread;
use crate::world::Buckets;

/// Where rows are: the number of shards, and how they are placed.
pub(crate) const SHAPES: [(u16, Buckets); 7] = [
    (1, Buckets::Even),
    (2, Buckets::Even),
    (3, Buckets::Even),
    (4, Buckets::Uneven),
    (7, Buckets::Even),
    (3, Buckets::One),
    (3, Buckets::Gap),
];

/// What is said of columns whose values cannot be decoded alike.
const DIFFER: [&str; 2] = [
    "the shards give columns of different types",
    "the shards give records with types of the users' own in binary",
];

/// What is said in a block of what is grouped by a key alone.
const KEYLESS: &str =
    "GROUP BY of a primary key alone is not supported in a transaction over several shards";

/// Literals that are a moment.
const MOMENTS: [&str; 3] = ["'now'", "'today'", "'tomorrow'"];

/// Whether it is said that a statement is not run on several shards.
fn is_of_several(text: &str) -> bool {
    text.starts_with("this statement has rows on ")
        && text.ends_with(" shards, and runs on one only")
}

fn shown(rows: &[Vec<u8>]) -> Vec<String> {
    let shown = rows.iter().map(|row| row.escape_ascii().to_string());
    shown.collect()
}

/// Whether two answers are the same, as far as the query fixes them.
pub(crate) fn same(mode: Mode, one: &Answer, two: &Answer) -> bool {
    let (mut one, mut two) = (one.clone(), two.clone());
    match mode {
        Mode::Sequence => {}
        Mode::Bag => {
            one.rows.sort();
            two.rows.sort();
        }
        Mode::Count => {
            one.rows.iter_mut().for_each(Vec::clear);
            two.rows.iter_mut().for_each(Vec::clear);
        }
    }
    one == two
}

/// What differs, in words.
pub(crate) fn told(line: &Line<'_>, form: Form, one: &Outcome, two: &Outcome) -> String {
    let told = |outcome: &Outcome| match outcome {
        Ok(answer) => {
            let mut rows = shown(&answer.rows);
            if line.mode == Mode::Bag {
                rows.sort();
            }
            format!("{:?} {rows:?} {:?}", answer.columns, answer.tags)
        }
        Err(error) => format!("{error:?}"),
    };
    let query = with(line.query, &line.values);
    format!("{form:?} {query}\n  {}\n  {}", told(one), told(two))
}

#[derive(Default)]
pub(crate) struct Tally {
    /// Everything runs as in a block.
    verifies: bool,
    right: BTreeMap<(String, Form), usize>,
    failed: usize,
    refused: BTreeMap<String, usize>,
    wrong: Vec<String>,
    unexpected: Vec<String>,
}

/// Errors that Postgres tells apart and the planner does not, or finds before those that Postgres comes to first.
const ALIKE: [(&str, &str); 2] = [("42702", "42703"), ("42712", "42P09")];

impl Tally {
    pub(crate) fn take(&mut self, line: &Line<'_>, form: Form, expected: &Outcome, given: Outcome) {
        match (expected, &given) {
            (Err((one, _)), Err((two, _))) if one == two || two == "0A000" => self.failed += 1,
            (Err((one, _)), Err((two, _))) if ALIKE.contains(&(&**one, &**two)) => self.failed += 1,
            (Ok(_), Err((code, text))) if code == "0A000" => self.refuse(line, form, text),
            (Ok(one), Ok(two)) if same(line.mode, one, two) => {
                *self.right.entry((line.kind.to_owned(), form)).or_default() += 1;
            }
            _ => self.wrong.push(told(line, form, expected, &given)),
        }
    }

    fn refuse(&mut self, line: &Line<'_>, form: Form, text: &str) {
        // A parameter that is written into the text is another expression.
        let as_it_is = !form.is_simple() || line.values.is_empty();
        let planned = ["any", "one", "push", "merge", "pull"].contains(&line.kind);
        // In their binary form, composites have the numbers of types in them, which differ.
        let numbered = form.gives_binary() && DIFFER.contains(&text);
        // Where tables are not made, they have no keys.
        let keyless = (form.is_in_block() || self.verifies) && text == KEYLESS;
        // A literal of a moment is read when it is prepared, which is not followed over shards.
        let prepares = !form.is_simple() && is_of_several(text);
        let dated = prepares && MOMENTS.iter().any(|word| line.query.contains(word));
        if planned && as_it_is && !numbered && !dated && !keyless {
            let query = with(line.query, &line.values);
            self.unexpected.push(format!("{form:?} {text}\n  {query}"));
        }
        let reason = text.split(": ").last().unwrap_or_default().to_owned();
        *self.refused.entry(reason).or_default() += 1;
    }

    /// How many were right, and how many were refused.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.right.values().sum(), self.refused.values().sum())
    }

    /// Says what there was, and fails if something was wrong or refused that should be answered.
    pub(crate) fn close(&self, what: &str) {
        let (right, refused) = self.counts();
        let share = 100 * right / (right + refused).max(1);
        println!(
            "{what}: right {right} ({share} %) {:?}, failing on both {}, WRONG {}, refused {refused} {:#?}",
            self.right,
            self.failed,
            self.wrong.len(),
            self.refused
        );
        assert!(
            self.wrong.is_empty(),
            "{what}, {} WRONG:\n{}",
            self.wrong.len(),
            self.wrong.join("\n")
        );
        let unexpected = self.unexpected.join("\n");
        assert!(unexpected.is_empty(), "{what}, refused:\n{unexpected}");
    }
}

#[tokio::test]
async fn no_query_gives_another_answer_through_the_proxy() {
    let mut random = StdRng::seed_from_u64(asked("PGHERD_SHARDED_SEED", 1));
    let forms = move |_: &Line<'_>| {
        let forms = FORMS.choose_multiple(&mut random, FORMS.len() / 2);
        forms.copied().collect()
    };
    compared(3, Buckets::Even, forms, &[]).await;
}

#[tokio::test]
async fn nor_where_each_group_has_a_method_of_its_own() {
    by_chance(3, Buckets::Mixed).await;
}

#[tokio::test]
async fn nor_over_one_shard() {
    by_chance(1, Buckets::Even).await;
}

#[tokio::test]
async fn nor_over_two_shards() {
    by_chance(2, Buckets::Even).await;
}

#[tokio::test]
async fn nor_over_four_shards_with_many_buckets() {
    by_chance(4, Buckets::Uneven).await;
}

#[tokio::test]
async fn nor_over_seven_shards() {
    by_chance(7, Buckets::Even).await;
}

#[tokio::test]
async fn nor_where_one_shard_has_all_rows() {
    by_chance(3, Buckets::One).await;
}

#[tokio::test]
async fn nor_where_one_shard_has_no_rows() {
    by_chance(3, Buckets::Gap).await;
}

#[tokio::test]
#[ignore = "minutes"]
async fn nor_in_any_form_wherever_rows_are() {
    for (shards, buckets) in SHAPES {
        compared(shards, buckets, |_| FORMS.to_vec(), &[]).await;
    }
    compared(3, Buckets::Mixed, |_| FORMS.to_vec(), &[]).await;
}

#[tokio::test]
async fn each_answer_is_verified_by_that_of_all_rows_on_one_server() {
    let forms = [Form::Results, Form::Block];
    let verify = [("options", "-c pgherd.verify=on")];
    let (right, remarks) = compared(3, Buckets::Even, |_| forms.to_vec(), &verify).await;
    let unverified = remarks
        .iter()
        .filter(|(said, _)| said.contains("not verified"));
    let unverified: usize = unverified.map(|(_, count)| count).sum();
    println!("{unverified} of {right} not verified: {remarks:#?}");
    assert!(
        unverified * 10 < right,
        "{unverified} of {right}: {remarks:#?}"
    );
}

/// A third of the queries, each in one form.
async fn by_chance(shards: u16, buckets: Buckets) {
    let seed: u64 = asked("PGHERD_SHARDED_SEED", 1);
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed + u64::from(shards));
    let form = move |line: &Line<'_>| match FORMS.choose(&mut random) {
        _ if !random.random_ratio(1, 3) => Vec::new(),
        Some(form) if form.is_of_values() && line.values.is_empty() => vec![Form::Texts],
        form => form.copied().into_iter().collect(),
    };
    let (right, _) = compared(shards, buckets, form, &[]).await;
    // Else it would be a comparison of nothing.
    assert!(right > 250, "{right}");
}

/// Compares the answers to the collection, each line in some forms; tells how many were right, and what was remarked on.
async fn compared(
    shards: u16,
    buckets: Buckets,
    mut forms: impl FnMut(&Line<'_>) -> Vec<Form>,
    parameters: &[(&str, &str)],
) -> (usize, Remarks) {
    let mut both = Spread::new(shards, buckets, parameters).await;
    let (mut remarks, mut others) = (Remarks::default(), Remarks::default());
    let mut tally = Tally {
        verifies: !parameters.is_empty(),
        ..Tally::default()
    };
    let lines = COLLECTIONS.iter().flat_map(|text| text.lines());
    for line in lines.filter_map(line) {
        for form in forms(&line) {
            // Without parameters it is the same as in texts.
            if form.is_of_values() && line.values.is_empty() {
                continue;
            }
            let expected = through(&mut both.whole, &line, form, &mut others).await;
            let given = through(&mut both.raw, &line, form, &mut remarks).await;
            tally.take(&line, form, &expected, given);
        }
    }
    tally.close(&format!("{shards} shards, {buckets:?}"));
    (tally.counts().0, remarks)
}
