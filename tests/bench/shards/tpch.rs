//! The twenty-two questions of TPC-H, asked of one server and through pgherd: answers are compared to the byte.

use std::fmt::Write;
use std::time::{Duration, Instant};

use pgherd_tpch::{FORMAT, INDEXES, Rows, Table, questions};
use serde::Serialize;
use tokio::time::timeout;

use super::large::{Rate, pieces};
use super::{COUNT, Herd};
use crate::args::Args;
use crate::client::Client;
use crate::error::Error;
use crate::sample::median;
use crate::usage;

/// The name of the cell.
pub(super) const NAME: &str = "tpch";

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Where the tables' rows are, as [`crate::settings::spread`] says it.
const PLACEMENT: &str = "customer by c_custkey, orders and lineitem together by the order's key, \
                         region, nation, supplier, part and partsupp on each shard";

/// What was found.
#[derive(Debug, Serialize)]
pub(super) struct Tpch {
    scale: f64,
    shards: usize,
    placement: &'static str,
    rounds: usize,
    loads: Vec<Load>,
    questions: Vec<Question>,
    /// The median of the ratios.
    ratio: Option<f64>,
}

/// How a table was copied in.
#[derive(Debug, Serialize)]
struct Load {
    table: &'static str,
    rate: Rate,
}

/// One of the questions.
#[derive(Debug, Serialize)]
struct Question {
    number: usize,
    tier: Tier,
    outcome: Outcome,
    /// How many rows the answer has.
    rows: usize,
    /// The medians, in milliseconds.
    direct: f64,
    pgherd: Option<f64>,
    /// pgherd's time divided by that of the one server.
    ratio: Option<f64>,
}

/// How an answer is put together, as `EXPLAIN` tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Tier {
    OneShard,
    PushedDown,
    Merged,
    Pulled,
    Unknown,
}

impl Tier {
    fn name(self) -> &'static str {
        match self {
            Self::OneShard => "one shard",
            Self::PushedDown => "pushed down",
            Self::Merged => "merged",
            Self::Pulled => "rows are brought",
            Self::Unknown => "unknown",
        }
    }

    /// Reads it off the lines of an `EXPLAIN`.
    fn of(explained: &str) -> Self {
        let says = |start: &str| explained.lines().any(|line| line.starts_with(start));
        match () {
            () if says("Rows are brought") => Self::Pulled,
            () if says("Combine") || says("Merge by") => Self::Merged,
            () if says("Append (its rows are disjoint") => Self::PushedDown,
            // One shard explains it in its own words.
            () => Self::OneShard,
        }
    }
}

/// What came of a question.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Outcome {
    Right,
    Wrong,
    /// The error.
    Refused(String),
    /// It took too long.
    Late,
}

/// Loads the rows, and asks.
pub(super) async fn run(herd: &Herd, args: &Args) -> Result<Tpch, Error> {
    let scale = args.tpch_scale();
    let loads = load(herd, scale).await?;
    herd.everywhere(INDEXES).await?;
    herd.everywhere("vacuum (analyze, freeze)").await?;
    let mut asked = Vec::new();
    for (at, text) in questions(scale).iter().enumerate() {
        eprintln!("{NAME} {} ...", at + 1);
        asked.push(compare(herd, at + 1, text, args.rounds()).await?);
    }
    let ratio = median(asked.iter().filter_map(|question| question.ratio));
    Ok(Tpch {
        scale,
        shards: COUNT,
        placement: PLACEMENT,
        rounds: args.rounds(),
        loads,
        questions: asked,
        ratio,
    })
}

/// Copies the rows into the one server, and through pgherd.
async fn load(herd: &Herd, scale: f64) -> Result<Vec<Load>, Error> {
    let rows = Rows::exact(scale);
    let mut loads = Vec::new();
    for table in Table::ALL {
        let name = table.name();
        eprintln!("{NAME} {name} ...");
        let (count, pieces) = pieces(rows.lines(table));
        let query = format!("copy {name} from stdin {FORMAT}");
        let begin = Instant::now();
        let mut client = herd.direct().await?;
        client.copy_pieces(&query, &pieces).await?;
        let direct = begin.elapsed();
        let mut client = herd.spread().await?;
        let (begin, before) = (Instant::now(), usage::cpu(herd.pid())?);
        client.copy_pieces(&query, &pieces).await?;
        let cpu = usage::cpu(herd.pid())?.saturating_sub(before);
        let rate = Rate::of(count, direct, begin.elapsed(), cpu);
        loads.push(Load { table: name, rate });
    }
    Ok(loads)
}

async fn compare(herd: &Herd, number: usize, text: &str, rounds: usize) -> Result<Question, Error> {
    let mut direct = herd.direct().await?;
    let mut spread = herd.spread().await?;
    let expected = direct.answer(text).await?;
    let tier = match spread.answer(&format!("explain {text}")).await {
        Ok(explained) => Tier::of(&explained.lines()),
        Err(_) => Tier::Unknown,
    };
    let mut outcome = match timeout(PATIENCE, spread.answer(text)).await {
        Err(_) => Outcome::Late,
        Ok(Err(error)) => Outcome::Refused(error.to_string()),
        Ok(Ok(answer)) if answer == expected => Outcome::Right,
        Ok(Ok(_)) => Outcome::Wrong,
    };
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        theirs.push(timed(&mut direct, text).await?.0);
        if outcome == Outcome::Right {
            let (time, is_right) = match timed(&mut spread, text).await {
                Ok((time, answer)) => (time, answer == expected),
                Err(error) => {
                    outcome = Outcome::Refused(error.to_string());
                    break;
                }
            };
            ours.push(time);
            if !is_right {
                outcome = Outcome::Wrong;
            }
        }
    }
    let direct = median(theirs.into_iter()).unwrap_or_default();
    let pgherd = median(ours.into_iter());
    Ok(Question {
        number,
        tier,
        outcome,
        rows: expected.rows.len(),
        direct,
        pgherd,
        ratio: pgherd.map(|pgherd| pgherd / direct),
    })
}

/// How many milliseconds an answer took.
async fn timed(client: &mut Client, text: &str) -> Result<(f64, crate::client::Answer), Error> {
    let begin = Instant::now();
    let answer = client.answer(text).await?;
    Ok((begin.elapsed().as_secs_f64() * 1e3, answer))
}

impl Tpch {
    /// Whether an answer is missing or wrong.
    pub(super) fn failed(&self) -> bool {
        let mut questions = self.questions.iter();
        questions.any(|question| question.outcome != Outcome::Right)
    }

    /// The tables as text.
    pub(super) fn text(&self) -> String {
        let mut text = format!(
            "TPC-H at scale {} over {} shards ({}), medians of {}\n\
             {:>5} {:<17} {:>6} {:>10} {:>10} {:>7}\n",
            self.scale,
            self.shards,
            self.placement,
            self.rounds,
            "query",
            "tier",
            "rows",
            "direct ms",
            "pgherd ms",
            "x time"
        );
        for question in &self.questions {
            text += &question.line();
        }
        text += &self.summary();
        let _ = writeln!(text, "\n{:<9} {}", "loaded", Rate::HEAD);
        for load in &self.loads {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{:<9} {}", load.table, load.rate.line());
        }
        text
    }

    fn summary(&self) -> String {
        let count = |outcome: &Outcome| {
            let questions = self.questions.iter();
            questions.filter(|it| it.outcome == *outcome).count()
        };
        let worst = |pick: fn(&Question) -> Option<f64>| {
            let figures = self.questions.iter().filter_map(pick);
            figures.fold(0.0, f64::max)
        };
        format!(
            "{} of {} answered, {} wrong; ratio: median {:.2}, worst {:.2}; slowest {:.0} ms\n",
            count(&Outcome::Right),
            self.questions.len(),
            count(&Outcome::Wrong),
            self.ratio.unwrap_or_default(),
            worst(|question| question.ratio),
            worst(|question| question.pgherd),
        )
    }
}

impl Question {
    fn line(&self) -> String {
        let start = format!(
            "{:>5} {:<17} {:>6} {:>10.1}",
            self.number,
            self.tier.name(),
            self.rows,
            self.direct
        );
        let end = match (&self.outcome, self.pgherd, self.ratio) {
            (Outcome::Right, Some(pgherd), Some(ratio)) => format!("{pgherd:>10.1} {ratio:>7.2}"),
            (Outcome::Refused(why), ..) => format!("refused: {why}"),
            (Outcome::Late, ..) => format!("no answer in {} s", PATIENCE.as_secs()),
            _ => "WRONG".to_owned(),
        };
        format!("{start} {end}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(number: usize, outcome: Outcome, pgherd: f64) -> Question {
        let right = outcome == Outcome::Right;
        Question {
            number,
            tier: Tier::Merged,
            outcome,
            rows: 4,
            direct: 100.0,
            pgherd: right.then_some(pgherd),
            ratio: right.then_some(pgherd / 100.0),
        }
    }

    fn tpch(questions: Vec<Question>) -> Tpch {
        Tpch {
            scale: 0.1,
            shards: 4,
            placement: PLACEMENT,
            rounds: 3,
            loads: Vec::new(),
            ratio: median(questions.iter().filter_map(|question| question.ratio)),
            questions,
        }
    }

    #[test]
    fn a_wrong_or_missing_answer_is_a_failure() {
        let right = || question(1, Outcome::Right, 150.0);
        let good = tpch(vec![right(), question(2, Outcome::Right, 50.0)]);
        assert!(!good.failed());
        let text = good.text();
        assert!(
            text.contains("2 of 2 answered, 0 wrong; ratio: median 1.00, worst 1.50"),
            "{text}"
        );
        for bad in [
            Outcome::Wrong,
            Outcome::Late,
            Outcome::Refused("0A000 no".to_owned()),
        ] {
            let bad = tpch(vec![right(), question(2, bad, 0.0)]);
            assert!(bad.failed());
            assert!(bad.text().contains("1 of 2 answered"), "{}", bad.text());
        }
    }

    #[test]
    fn tiers_are_told_by_what_explain_says() {
        for (said, tier) in [
            (
                "Rows are brought to one server (…)\n  Final: …",
                Tier::Pulled,
            ),
            ("Combine on one server (rows …)", Tier::Merged),
            ("Merge by column 1, limit 3", Tier::Merged),
            (
                "Append (its rows are disjoint parts of the shards)",
                Tier::PushedDown,
            ),
            ("Sort  (cost=1.00..2.00 rows=1 width=4)", Tier::OneShard),
        ] {
            assert_eq!(Tier::of(said), tier, "{said}");
        }
    }
}
