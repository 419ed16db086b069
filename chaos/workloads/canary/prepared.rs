//! Clients that use the same names for other statements, and the same statements under other
//! settings; each must run its own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::time::Instant;

use crate::checks::identity::Identity;
use crate::hostile::answer::{Answer, End};
use crate::hostile::client::Client;
use crate::hostile::packet;
use crate::workloads::canary::crowd;

/// How long an answer may take; clients that are bound to servers keep others waiting.
const PATIENCE: Duration = Duration::from_secs(60);
/// So many names does each client use.
const NAMES: usize = 6;
/// A text that all clients prepare, and what it means by how dates are written.
const SHARED: &str = "select '01/02/2024'::date::text";
const STYLES: [(&str, &str); 2] = [("ISO, MDY", "2024-01-02"), ("ISO, DMY", "2024-02-01")];

/// The clients, and for how long they live.
#[derive(Clone, Copy, Debug)]
pub struct Prepared {
    /// How many clients.
    pub clients: usize,
    /// How long.
    pub time: Duration,
    /// What decides about everything that is left to chance, but for the timing.
    pub seed: u64,
}

impl Prepared {
    /// Runs all clients to their end and tells what they saw.
    pub async fn run(self, address: SocketAddr) -> Arc<Identity> {
        let end = Instant::now() + self.time;
        crowd(self.clients, |number, identity| {
            let rng = StdRng::seed_from_u64(self.seed.wrapping_add(number as u64));
            live(number, rng, address, identity, end)
        })
        .await
    }
}

async fn live(
    number: usize,
    mut rng: StdRng,
    address: SocketAddr,
    identity: Arc<Identity>,
    end: Instant,
) {
    while Instant::now() < end {
        let Some(mut guest) = Guest::arrive(number, address).await else {
            return identity.fault(format!("{number} was not let in"));
        };
        for _ in 0..rng.random_range(1..60) {
            if let Err(what) = guest.deed(&mut rng, &identity).await {
                return identity.fault(format!("who{number} {what} after {:?}", guest.done));
            }
        }
    }
}

/// A client and its statements: what each gives, by name.
struct Guest {
    number: usize,
    turn: u64,
    client: Client,
    statements: BTreeMap<String, String>,
    done: Vec<String>,
}

impl Guest {
    async fn arrive(number: usize, address: SocketAddr) -> Option<Self> {
        let mut client = Client::connect(address).await.ok()?;
        client.set_patience(PATIENCE);
        let (style, _) = STYLES[number % STYLES.len()];
        let parameters = [
            ("user", "postgres"),
            ("database", "postgres"),
            ("datestyle", style),
        ];
        let answer = client.authenticate("", &parameters).await;
        matches!(answer.end, End::Ready(_)).then_some(Self {
            number,
            turn: 0,
            client,
            statements: BTreeMap::new(),
            done: Vec::new(),
        })
    }

    /// Does something; the error is what was wrong.
    async fn deed(&mut self, rng: &mut StdRng, identity: &Identity) -> Result<(), String> {
        let name = format!("n{}", rng.random_range(0..NAMES));
        match rng.random_range(0..22) {
            0..4 => self.prepare(&name, rng).await,
            4..10 => self.execute(&name, identity).await,
            10 => self.close(&name).await,
            11 => self.pipeline(&name, identity).await,
            12 => self.failed_block(&name).await,
            13 | 14 => self.by_sql(&name, rng).await,
            15 | 16 => self.execute_by_sql(&name, identity).await,
            17 => self.deallocate(&name).await,
            18 => self.script(&name, identity).await,
            19 => self.list().await,
            _ => self.forget(rng).await,
        }
    }

    async fn ask(&mut self, what: &str, messages: &[Vec<u8>]) -> Answer {
        self.done.push(what.to_owned());
        // A connection that is already closed shows when it is read.
        let _ = self.client.send(&messages.concat()).await;
        self.client.hear().await
    }

    /// A text of this client's own, or one that all have, and what it gives.
    fn text(&mut self, shared: bool) -> (String, String) {
        if shared {
            let (_, value) = STYLES[self.number % STYLES.len()];
            return (SHARED.to_owned(), value.to_owned());
        }
        self.turn += 1;
        let token = format!("who{}-{}", self.number, self.turn);
        (format!("select '{token}'"), token)
    }

    async fn prepare(&mut self, name: &str, rng: &mut StdRng) -> Result<(), String> {
        let (text, value) = self.text(rng.random_ratio(1, 3));
        let messages = [packet::parse(name, &text), packet::sync()];
        let answer = self.ask(&format!("parse {name} {text}"), &messages).await;
        let taken = self.statements.contains_key(name);
        expect(&answer, taken.then_some("42P05"))?;
        if !taken {
            self.statements.insert(name.to_owned(), value);
        }
        Ok(())
    }

    async fn execute(&mut self, name: &str, identity: &Identity) -> Result<(), String> {
        let messages = [packet::bind(name), packet::execute(), packet::sync()];
        let answer = self.ask(&format!("run {name}"), &messages).await;
        match self.statements.get(name) {
            Some(value) => gives(&answer, value, identity),
            None => expect(&answer, Some("26000")),
        }
    }

    async fn close(&mut self, name: &str) -> Result<(), String> {
        let close = packet::message(b'C', &packet::string(&format!("S{name}")));
        let answer = self
            .ask(&format!("close {name}"), &[close, packet::sync()])
            .await;
        expect(&answer, None)?;
        self.statements.remove(name);
        Ok(())
    }

    /// Runs by SQL, whichever way it was prepared.
    async fn execute_by_sql(&mut self, name: &str, identity: &Identity) -> Result<(), String> {
        let text = format!("execute {name}");
        self.done.push(text.clone());
        let answer = self.client.query(&text).await;
        match self.statements.get(name) {
            Some(value) => gives(&answer, value, identity),
            None => expect(&answer, Some("26000")),
        }
    }

    /// Drops by SQL, whichever way it was prepared.
    async fn deallocate(&mut self, name: &str) -> Result<(), String> {
        let known = self.statements.remove(name).is_some();
        let text = format!("deallocate {name}");
        self.done.push(text.clone());
        let answer = self.client.query(&text).await;
        expect(&answer, if known { None } else { Some("26000") })
    }

    /// Closes, prepares and runs under one name, and then fails: what came before stays prepared.
    async fn pipeline(&mut self, name: &str, identity: &Identity) -> Result<(), String> {
        let (text, value) = self.text(false);
        let close = packet::message(b'C', &packet::string(&format!("S{name}")));
        let messages = [
            close,
            packet::parse(name, &text),
            packet::bind(name),
            packet::execute(),
            packet::parse("bad", "selec"),
            packet::parse("never", "select 1"),
            packet::sync(),
        ];
        let answer = self
            .ask(&format!("pipeline {name} {text}"), &messages)
            .await;
        self.statements.insert(name.to_owned(), value.clone());
        if answer.value().as_ref() != Some(&value) {
            return Err(format!("{value} is not given: {answer:?}"));
        }
        identity.answer("", &value, answer.value().as_deref());
        expect(&answer, Some("42601"))
    }

    /// Nothing can be prepared in a failed block, and nothing is lost in it.
    async fn failed_block(&mut self, name: &str) -> Result<(), String> {
        self.done.push("failed block".to_owned());
        self.client.query("begin; select 1 / 0").await;
        let messages = [packet::parse("within", "select 1"), packet::sync()];
        let answer = self.ask("parse within", &messages).await;
        expect(&answer, Some("25P02"))?;
        let messages = [packet::bind(name), packet::execute(), packet::sync()];
        let answer = self.ask(&format!("run {name} within"), &messages).await;
        let known = self.statements.contains_key(name);
        expect(&answer, Some(if known { "25P02" } else { "26000" }))?;
        expect(&self.client.query("rollback").await, None)
    }

    /// Prepares by SQL; the names are the same as the protocol's.
    async fn by_sql(&mut self, name: &str, rng: &mut StdRng) -> Result<(), String> {
        let (text, value) = self.text(rng.random_ratio(1, 3));
        let text = format!("prepare {name} as {text}");
        self.done.push(text.clone());
        let answer = self.client.query(&text).await;
        let taken = self.statements.contains_key(name);
        expect(&answer, taken.then_some("42P05"))?;
        if !taken {
            self.statements.insert(name.to_owned(), value);
        }
        Ok(())
    }

    /// Drops, prepares, runs and fails in one text: what came before the failure stays.
    async fn script(&mut self, name: &str, identity: &Identity) -> Result<(), String> {
        let (text, value) = self.text(false);
        let known = self.statements.contains_key(name);
        let drop = if known {
            format!("deallocate {name}; ")
        } else {
            String::new()
        };
        let text = format!("{drop}prepare {name} as {text}; execute {name}; select 1 / 0");
        self.done.push(text.clone());
        let answer = self.client.query(&text).await;
        self.statements.insert(name.to_owned(), value.clone());
        expect(&answer, Some("22012"))?;
        identity.answer("", &value, answer.value().as_deref());
        Ok(())
    }

    /// Looks at which statements there are.
    async fn list(&mut self) -> Result<(), String> {
        let text = "select coalesce(string_agg(name, ' ' order by name collate \"C\"), '') \
                    from pg_prepared_statements";
        self.done.push(text.to_owned());
        let answer = self.client.query(text).await;
        let names: Vec<&str> = self.statements.keys().map(String::as_str).collect();
        expect(&answer, None)?;
        if answer.value() != Some(names.join(" ")) {
            return Err(format!("was to see {names:?}, not {answer:?}"));
        }
        Ok(())
    }

    async fn forget(&mut self, rng: &mut StdRng) -> Result<(), String> {
        let text = if rng.random() {
            "discard all"
        } else {
            "deallocate all"
        };
        self.done.push(text.to_owned());
        expect(&self.client.query(text).await, None)?;
        self.statements.clear();
        Ok(())
    }
}

/// The answer must end in order, with this error or none.
fn expect(answer: &Answer, code: Option<&str>) -> Result<(), String> {
    if answer.code().as_deref() == code && matches!(answer.end, End::Ready(_)) {
        return Ok(());
    }
    Err(format!("was to get {code:?}, not {answer:?}"))
}

/// The answer must give this.
fn gives(answer: &Answer, value: &str, identity: &Identity) -> Result<(), String> {
    expect(answer, None)?;
    if answer.value().as_deref() != Some(value) {
        return Err(format!("was to get {value}, not {answer:?}"));
    }
    identity.answer("", value, answer.value().as_deref());
    Ok(())
}
