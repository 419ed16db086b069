//! What another proxy answers wrongly without saying so, case by case: here it is answered as by one server, or refused.
//! The cases are in `rivals.txt`.

use std::collections::BTreeMap;

use pgherd_tests::{Proxy, Raw};

use crate::collection::{same, told};
use crate::contents::is_sound;
use crate::form::{FORMS, Form, Outcome, Remarks, outcome, through};
use crate::line::{Line, line};
use crate::spread::{Spread, config, direct, name_of};
use crate::world::Buckets;
use crate::writes::{Tally, fails_alike};

/// A case: its number and what it is about, and its lines.
struct Case<'a> {
    name: &'a str,
    lines: Vec<Line<'a>>,
}

fn cases() -> Vec<Case<'static>> {
    let mut cases: Vec<Case<'_>> = Vec::new();
    for text in include_str!("rivals.txt").lines() {
        if let Some(name) = text.strip_prefix("= ") {
            let lines = Vec::new();
            cases.push(Case { name, lines });
        } else if !text.starts_with('#')
            && let Some(line) = line(text)
        {
            cases.last_mut().unwrap().lines.push(line);
        }
    }
    cases
}

/// A query, in all forms.
async fn read(both: &mut Spread, line: &Line<'_>, tally: &mut Tally) {
    for form in FORMS {
        if form.is_of_values() && line.values.is_empty() {
            continue;
        }
        let expected = through(&mut both.whole, line, form, &mut Remarks::default()).await;
        let given = through(&mut both.raw, line, form, &mut Remarks::default()).await;
        match (&expected, &given) {
            (Ok(one), Ok(two)) if same(line.mode, one, two) => tally.right += 1,
            _ => tally.wrong.push(told(line, form, &expected, &given)),
        }
    }
}

/// What cannot be sent but as a simple query: several statements.
fn is_text(line: &Line<'_>) -> bool {
    line.query.contains(';')
}

/// A statement that is rolled back, and one that stays.
async fn write(both: &mut Spread, line: &Line<'_>, tally: &mut Tally, number: usize) {
    let (tried, done) = match (is_text(line), number % 3) {
        (true, _) => (Form::Block, Form::Simple),
        (false, 0) => (Form::BlockResults, Form::Binary),
        (false, 1) => (Form::BlockResults, Form::Prepared),
        (false, _) => (Form::BlockResults, Form::Results),
    };
    for form in [tried, done] {
        tally.step(both, line, form).await;
    }
}

/// Sends rows to a COPY, and tells what came of it.
async fn copied(raw: &mut Raw, text: &str, rows: &[&str]) -> Outcome {
    raw.send(&Raw::query(text)).await;
    let first = raw.message().await;
    if first.tag != 'G' {
        let mut messages = vec![first];
        messages.extend(raw.ready().await);
        return outcome(&messages);
    }
    for row in rows {
        let row = format!("{}\n", row.trim());
        raw.send(&Raw::framed(b'd', row.as_bytes())).await;
    }
    raw.send(&Raw::framed(b'c', b"")).await;
    outcome(&raw.ready().await)
}

/// Rows that are copied in; what is refused is not tried on one server.
async fn copy(both: &mut Spread, line: &Line<'_>, tally: &mut Tally) {
    let mut parts = line.query.split(" <- ");
    let text = parts.next().unwrap();
    let rows: Vec<&str> = parts.collect();
    let given = copied(&mut both.raw, text, &rows).await;
    if matches!(&given, Err((code, _)) if code == "0A000") {
        *tally.refused.entry(text.to_owned()).or_default() += 1;
        return;
    }
    let expected = copied(&mut both.whole, text, &rows).await;
    match (&expected, &given) {
        (Ok(one), Ok(two)) if same(line.mode, one, two) => tally.right += 1,
        (Err((one, _)), Err((two, _))) if fails_alike(one, two) => tally.failed += 1,
        _ => tally
            .wrong
            .push(told(line, Form::Simple, &expected, &given)),
    }
}

/// A query of the first shard's own database, through the same proxy.
async fn own(both: &Spread, line: &Line<'_>, tally: &mut Tally) {
    let shard = &both.world.shards[0];
    let name = name_of(shard).await;
    let mut alone = Raw::login(both.proxy.port(), "postgres", &name, &[]).await;
    let mut server = direct(shard).await;
    for form in [Form::Prepared, Form::Simple] {
        let expected = through(&mut server, line, form, &mut Remarks::default()).await;
        let given = through(&mut alone, line, form, &mut Remarks::default()).await;
        match expected.is_ok() && expected == given {
            true => tally.right += 1,
            false => tally.wrong.push(told(line, form, &expected, &given)),
        }
    }
}

/// What differs on a shard before a pgherd is started.
async fn drift(both: &mut Spread, line: &Line<'_>, buckets: Buckets) {
    is_sound(both).await;
    let shard = both.world.shards.last().unwrap();
    shard.batch_execute(line.query).await.unwrap();
    both.proxy = Proxy::start(&config(&both.world, buckets).await).await;
    both.raw = Raw::login(both.proxy.port(), "postgres", "all", &[]).await;
}

/// How often each of a case's lines came to what.
async fn run(both: &mut Spread, case: &Case<'_>, buckets: Buckets) -> Tally {
    let mut tally = Tally::default();
    let mut has_drifted = false;
    for (number, line) in case.lines.iter().enumerate() {
        let before = (tally.right, tally.failed, tally.refused.clone());
        match line.kind {
            "read" => read(both, line, &mut tally).await,
            "own" => own(both, line, &mut tally).await,
            "drift" => {
                drift(both, line, buckets).await;
                has_drifted = true;
                continue;
            }
            _ if line.query.contains(" <- ") => copy(both, line, &mut tally).await,
            _ => write(both, line, &mut tally, number).await,
        }
        let refused = tally.refused != before.2;
        let is_told = match line.kind {
            "read" | "own" => true,
            "write" => tally.right > before.0 && !refused,
            "fail" => tally.failed > before.1 && !refused,
            _ => tally.right == before.0,
        };
        if !is_told && tally.wrong.is_empty() {
            let text = format!("{} does not come to {}", line.query, line.kind);
            tally.wrong.push(text);
        }
        if !["read", "own"].contains(&line.kind) && !has_drifted {
            tally.compare(both, line).await;
        }
    }
    tally
}

async fn all(shards: u16, buckets: Buckets) {
    let mut both = Spread::new(shards, buckets, &[]).await;
    let (mut counts, mut wrong) = (Vec::new(), BTreeMap::new());
    let cases = cases();
    for case in &cases {
        let tally = run(&mut both, case, buckets).await;
        let refused: usize = tally.refused.values().sum();
        counts.push(format!(
            "{}: right {}, failing alike {}, refused {refused}, WRONG {}",
            case.name,
            tally.right,
            tally.failed,
            tally.wrong.len()
        ));
        if !tally.wrong.is_empty() {
            wrong.insert(case.name, tally.wrong);
        }
    }
    println!("{}", counts.join("\n"));
    assert!(wrong.is_empty(), "WRONG: {wrong:#?}");
    let numbers = cases.iter().map(|case| case.name.split_once(' '));
    let numbers: Vec<usize> = numbers.map(|it| it.unwrap().0.parse().unwrap()).collect();
    assert_eq!(numbers, (1..=33).collect::<Vec<_>>());
    assert!(cases.iter().all(|case| case.lines.len() > 2));
}

#[tokio::test]
async fn none_of_a_rivals_wrong_answers_is_given_over_two_shards() {
    all(2, Buckets::Even).await;
}

#[tokio::test]
async fn nor_where_buckets_are_more_than_shards_and_a_shard_has_none() {
    all(3, Buckets::Gap).await;
}
