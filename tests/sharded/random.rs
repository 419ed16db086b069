//! Sessions of statements that nobody has thought of: transactions, savepoints and settings over both shards, made
//! from a seed. Each session runs on one plain Postgres, too, which must say the same all the way; where pgherd refuses a statement
//! (0A000), the plain one fails there instead.
//!
//! Two sessions take turns on few connections, so that what one leaves behind would be found by the other. The short
//! form runs some; `PGHERD_SHARDED_ROUNDS` says how many times as many, `PGHERD_SHARDED_SEED` which is the first.

mod made;

use std::fmt::Write as _;
use std::time::Duration;

use pgherd_tests::{Database, Message, Raw};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::line::asked;
use crate::rig::{Rig, SCHEMA};
use made::{Batch, Phase, STARTUPS, Session, keys_of};

/// Pairs of sessions in the short form.
const PAIRS: u64 = 4;
/// What each pair sends.
const BATCHES: usize = 100;
/// Longer no answer takes, so that the transcript of one that does not come is shown.
const ANSWER: Duration = Duration::from_secs(20);
/// So many differences are told at once.
const TOLD_MAX: usize = 5;

/// A session on both sides.
struct Both {
    session: Session,
    proxied: Raw,
    plain: Raw,
    /// pgherd has refused what was sent last.
    was_refused: bool,
    /// What was sent, and what was answered.
    transcript: Vec<String>,
}

/// What the statements of a batch have been answered with.
#[derive(Debug, Default, PartialEq, Eq)]
struct Answer {
    lines: Vec<String>,
    /// The SQLSTATE of the error that has ended it.
    error: Option<String>,
    /// How many statements have completed.
    completed: usize,
    status: char,
}

impl Answer {
    /// Which shard a row has come from first is nobody's promise, so rows are told in the order of their texts.
    /// What was parsed and bound in vain is not told, nor rows before an error.
    fn of(messages: &[Message]) -> Self {
        let mut answer = Self::default();
        let (mut columns, mut rows) = (Vec::new(), Vec::new());
        for message in messages {
            let text = || String::from_utf8_lossy(&message.body).into_owned();
            match message.tag {
                'T' => columns.push(columns_of(&message.body)),
                'D' => rows.push(message.columns().join(" | ")),
                'C' | 'I' => {
                    rows.sort();
                    answer.lines.append(&mut columns);
                    answer.lines.append(&mut rows);
                    answer.lines.push(format!("{} {}", message.tag, text()));
                    answer.completed += 1;
                }
                'E' | 'N' => {
                    rows.clear();
                    columns.clear();
                    let field = |name| message.field(name).unwrap_or_default();
                    // Words for what pgherd finds out itself are its own.
                    answer.lines.push(format!("{} {}", message.tag, field('C')));
                    if message.tag == 'E' {
                        answer.error = Some(field('C'));
                    }
                }
                'Z' => answer.status = char::from(message.body[0]),
                '1' | '2' | 'n' | 'S' => {}
                other => answer.lines.push(format!("{other} {:?}", message.body)),
            }
        }
        answer
    }

    /// Whether pgherd has refused what Postgres would have run, perhaps.
    fn is_refused(&self) -> bool {
        // Who writes to a replicated table waits for whoever else has in a block, and for no longer than the lock_timeout.
        matches!(self.error.as_deref(), Some("0A000" | "40P01" | "55P03"))
    }

    /// The same without the error.
    fn before_error(&self) -> (Vec<&String>, char) {
        let lines = self.lines.iter().filter(|line| !line.starts_with('E'));
        (lines.collect(), self.status)
    }
}

/// Names and types of columns: where they come from differs.
fn columns_of(body: &[u8]) -> String {
    let mut told = String::from("T");
    let mut rest = &body[2..];
    while let Some(end) = rest.iter().position(|byte| *byte == 0) {
        let (name, behind) = rest.split_at(end);
        let kind = u32::from_be_bytes(behind[7..11].try_into().unwrap());
        write!(told, " {}:{kind}", String::from_utf8_lossy(name)).unwrap();
        rest = &behind[19..];
    }
    told
}

impl Both {
    async fn new(rig: &Rig, one: &Database, number: u64, random: &mut StdRng) -> Self {
        let startup = STARTUPS[random.random_range(0..STARTUPS.len())];
        let proxied = Raw::login(rig.proxy.port(), "app", "shop", startup).await;
        let plain = Raw::login(one.port, "app", &one.name, startup).await;
        Self {
            session: Session::new(number),
            proxied,
            plain,
            was_refused: false,
            transcript: vec![format!("-- logged in with {startup:?}")],
        }
    }

    /// Sends one more batch to both; an error is how they differ.
    async fn step(&mut self, random: &mut StdRng) -> Result<(), String> {
        let batch = self.session.batch(random);
        self.send(&batch).await?;
        if self.was_refused && self.session.phase == Phase::Failed {
            let end = Batch::Simple(vec!["rollback".to_owned()]);
            self.send(&end).await?;
        }
        Ok(())
    }

    async fn send(&mut self, batch: &Batch) -> Result<(), String> {
        self.transcript.push(batch.to_string());
        self.proxied.send(&batch.bytes()).await;
        let ready = tokio::time::timeout(ANSWER, self.proxied.ready()).await;
        let proxied = Answer::of(&ready.map_err(|_| "pgherd does not answer")?);
        self.was_refused = proxied.is_refused();
        let asked = match self.was_refused {
            false => batch.bytes(),
            true => batch.failing_at(proxied.completed).bytes(),
        };
        self.plain.send(&asked).await;
        let plain = Answer::of(&self.plain.ready().await);
        self.transcript.push(format!("    {}", proxied.told()));
        let same = match self.was_refused {
            true => proxied.before_error() == plain.before_error(),
            false => proxied == plain,
        };
        if !same {
            return Err(format!("a plain Postgres says: {}", plain.told()));
        }
        self.session.phase = Phase::of(proxied.status);
        // In a failed block nothing is read that they would tell how to read.
        let tells = self.session.phase != Phase::Failed;
        if tells && self.proxied.parameters != self.plain.parameters {
            let told = |raw: &Raw, other: &Raw| {
                let mut of_one = raw.parameters.clone();
                of_one.retain(|name, value| other.parameters.get(name) != Some(value));
                format!("{of_one:?}")
            };
            return Err(format!(
                "told parameters differ: pgherd {}, Postgres {}",
                told(&self.proxied, &self.plain),
                told(&self.plain, &self.proxied)
            ));
        }
        Ok(())
    }

    /// Ends what is under way, and looks at all rows and settings once more.
    async fn close(&mut self) -> Result<(), String> {
        let own = self.session.own();
        for text in [
            "rollback".to_owned(),
            made::looks(),
            format!("select * from accounts where owner = '{own}'"),
            format!("select * from entries where what = '{own}'"),
            "select * from countries".to_owned(),
        ] {
            self.send(&Batch::Simple(vec![text])).await?;
        }
        Ok(())
    }
}

impl Answer {
    fn told(&self) -> String {
        let lines = self.lines.join("\n    ").replace('\0', "");
        format!("{lines} Z {}", self.status)
    }
}

/// A pair of sessions by a seed; an error is how they differ from sessions of one Postgres.
async fn pair(rig: &Rig, one: &Database, seed: u64) -> Result<usize, String> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut sessions = Vec::new();
    for number in 0..2 {
        sessions.push(Both::new(rig, one, number, &mut random).await);
    }
    let mut refused = 0;
    for _ in 0..BATCHES {
        let at = random.random_range(0..2);
        let outcome = sessions[at].step(&mut random).await;
        outcome.map_err(|why| complaint(seed, &sessions[at], &why))?;
    }
    for session in &mut sessions {
        let outcome = session.close().await;
        outcome.map_err(|why| complaint(seed, session, &why))?;
        let refusals = session.transcript.iter();
        refused += refusals.filter(|line| line.contains("E 0A000")).count();
    }
    Ok(refused)
}

fn complaint(seed: u64, session: &Both, why: &str) -> String {
    let last = session.transcript.len().saturating_sub(60);
    let last = session.transcript[last..].join("\n");
    let number = session.session.own();
    format!("seed {seed}, session {number}\n{last}\n{why}\n")
}

#[tokio::test]
async fn sessions_by_chance_are_those_of_one_postgres() {
    let rig = Rig::new("[pool]\nsize = 2").await;
    for shard in &rig.shards {
        // Both are driven from here: who waits for the other would do so for ever.
        let name = &shard.name;
        shard
            .sql(&format!("alter database {name} set lock_timeout = '10s'"))
            .await;
    }
    let one = Database::new().await;
    one.sql(SCHEMA).await;
    let first: u64 = asked("PGHERD_SHARDED_SEED", 1);
    let pairs = PAIRS * asked::<u64>("PGHERD_SHARDED_ROUNDS", 1);
    let (mut told, mut refused, mut done) = (Vec::new(), 0, 0);
    for seed in first..first + pairs {
        for shard in rig.shards.iter().chain([&one]) {
            shard.sql("truncate accounts, entries, countries").await;
        }
        for session in 0..2 {
            for (at, key) in keys_of(session) {
                let row = format!("insert into accounts values ({key}, 's{session}', 100)");
                rig.shards[usize::from(at)].sql(&row).await;
                one.sql(&row).await;
            }
            for shard in rig.shards.iter().chain([&one]) {
                let row = format!("insert into countries values ('s{session}', 'x')");
                shard.sql(&row).await;
            }
        }
        println!("seed {seed}");
        match pair(&rig, &one, seed).await {
            Ok(count) => {
                refused += count;
                done += BATCHES;
            }
            Err(complaint) => {
                println!("{complaint}");
                told.push(complaint);
            }
        }
        if told.len() >= TOLD_MAX {
            break;
        }
    }
    println!("{done} batches are as one Postgres answers them, of which {refused} were refused");
    assert!(told.is_empty(), "{} of the pairs differ", told.len());
    // Else it would be a comparison of nothing.
    assert!(refused * 4 < done, "{refused} of {done} were refused");
}
