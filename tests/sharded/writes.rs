//! The planner's collection of writes, through the executable: each in a block that is rolled back, and once more in
//! earnest, in a form that `PGHERD_SHARDED_SEED` chooses. It answers what one server answers, and all tables have
//! afterwards what they have there.

use std::collections::BTreeMap;

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use crate::collection::{SHAPES, same, told};
use crate::contents::{differs, is_sound};
use crate::form::{Form, Remarks, through};
use crate::line::{Line, WRITES, asked, line, with};
use crate::spread::Spread;
use crate::world::Buckets;

/// What is rolled back.
const TRIED: [Form; 2] = [Form::Block, Form::BlockResults];

/// What stays.
const DONE: [Form; 7] = [
    Form::Simple,
    Form::Texts,
    Form::Binary,
    Form::Untyped,
    Form::Prepared,
    Form::Results,
    Form::Committed,
];

/// So many differences are told at once; what comes behind one may come of it.
const TOLD_MAX: usize = 8;

/// Whether two SQLSTATEs are of one failure. Of several rows that violate something, nothing says which is stored first.
pub(crate) fn fails_alike(one: &str, two: &str) -> bool {
    one == two || one.starts_with("23") && two.starts_with("23")
}

#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) right: usize,
    /// On both sides, by the same SQLSTATE.
    pub(crate) failed: usize,
    pub(crate) refused: BTreeMap<String, usize>,
    pub(crate) wrong: Vec<String>,
    /// Those that run by their kinds, and were refused or have failed.
    unexpected: Vec<String>,
}

impl Tally {
    /// Runs a line on both sides, on that of one server only if it was not refused.
    pub(crate) async fn step(&mut self, both: &mut Spread, line: &Line<'_>, form: Form) {
        let mut remarks = Remarks::default();
        let given = through(&mut both.raw, line, form, &mut remarks).await;
        if let Err((code, text)) = &given
            && code == "0A000"
        {
            // A parameter that is written into the text is another expression.
            let as_it_is = !form.is_simple() || line.values.is_empty();
            if line.kind != "no" && as_it_is {
                let query = with(line.query, &line.values);
                self.unexpected.push(format!("{form:?} {text}\n  {query}"));
            }
            let reason = text.split(": ").last().unwrap_or_default().to_owned();
            *self.refused.entry(reason).or_default() += 1;
            return;
        }
        let expected = through(&mut both.whole, line, form, &mut remarks).await;
        match (&expected, &given) {
            (Ok(one), Ok(two)) if same(line.mode, one, two) => self.right += 1,
            (Err((one, text)), Err((two, _))) if fails_alike(one, two) => {
                self.failed += 1;
                // A lock is for a block only, and tells so elsewhere.
                let is_meant =
                    ["fail", "no"].contains(&line.kind) || line.query.starts_with("lock ");
                // Its values are written as those of the type that is not said then.
                let is_untyped = form == Form::Untyped && one == "22P02";
                if !is_meant && !is_untyped {
                    self.unexpected
                        .push(format!("{form:?} {text}\n  {}", line.query));
                }
            }
            _ => self.wrong.push(told(line, form, &expected, &given)),
        }
    }

    /// Takes note of what differs behind a line.
    pub(crate) async fn compare(&mut self, both: &Spread, line: &Line<'_>) {
        let found = differs(&both.world).await;
        if !found.is_empty() {
            let query = with(line.query, &line.values);
            self.wrong
                .push(format!("{query}\n  leaves {}", found.join(", ")));
        }
    }

    /// Says what there was, and fails if something was wrong.
    pub(crate) fn close(&self, what: &str) {
        let refused: usize = self.refused.values().sum();
        println!(
            "{what}: right {}, failing alike on both {}, WRONG {}, refused {refused} {:#?}",
            self.right,
            self.failed,
            self.wrong.len(),
            self.refused
        );
        assert!(
            self.wrong.is_empty(),
            "{what}, WRONG:\n{}",
            self.wrong.join("\n")
        );
    }
}

/// Runs all lines. Which of them are refused is told only where rows are placed as they expect.
async fn all(shards: u16, buckets: Buckets, check_kinds: bool) {
    let seed: u64 = asked("PGHERD_SHARDED_SEED", 1);
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed + u64::from(shards));
    let mut both = Spread::new(shards, buckets, &[]).await;
    let mut tally = Tally::default();
    for line in WRITES.lines().filter_map(line) {
        let mut tried = *TRIED.choose(&mut random).unwrap();
        if !line.values.is_empty() {
            tried = Form::BlockResults;
        }
        tally.step(&mut both, &line, tried).await;
        let mut done = *DONE.choose(&mut random).unwrap();
        if done.is_simple() && !line.values.is_empty() {
            done = Form::Binary;
        }
        tally.step(&mut both, &line, done).await;
        // What a refused one leaves is seen behind the next that runs.
        if line.kind != "no" {
            tally.compare(&both, &line).await;
        }
        if tally.wrong.len() >= TOLD_MAX {
            break;
        }
    }
    tally.close(&format!("{shards} shards, {buckets:?}"));
    if check_kinds {
        assert!(
            tally.unexpected.is_empty(),
            "unexpected:\n{}",
            tally.unexpected.join("\n")
        );
    }
    is_sound(&both).await;
    // Each twice, or it would be a comparison of nothing.
    assert!(tally.right > 380, "{}", tally.right);
}

#[tokio::test]
async fn writes_through_the_proxy_leave_what_they_leave_on_one_server() {
    all(4, Buckets::Uneven, true).await;
}

#[tokio::test]
#[ignore = "minutes"]
async fn so_they_do_wherever_rows_are() {
    all(3, Buckets::Mixed, false).await;
    for (shards, buckets) in SHAPES {
        all(shards, buckets, false).await;
    }
}
