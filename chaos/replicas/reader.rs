use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::report::Report;
use crate::checks::Check;
use crate::checks::errors::Doing;
use crate::door::{Caller, Door, Failure, first};
use crate::workloads::life::Life;

/// The name of those who read by single statements in the table of errors: they may hear of nothing.
pub(super) const STATEMENTS: &str = "statements";

/// And of those who read in blocks, of which one in the middle is undone.
pub(super) const BLOCKS: &str = "blocks";

/// Tells which server has answered.
const WHERE: &str = "select inet_server_port()";

/// What all readers have seen.
#[derive(Debug, Default)]
struct Seen {
    /// The ports of the servers that have answered lately.
    ports: BTreeSet<u16>,
    /// Since when who waits, by number.
    waiting: Vec<Option<Instant>>,
    longest: Duration,
    answers: u64,
}

/// Clients that read until their life ends.
#[derive(Debug)]
pub(super) struct Readers {
    seen: Arc<Mutex<Seen>>,
    clients: Vec<JoinHandle<()>>,
}

impl Readers {
    pub(super) fn start(life: &Arc<Life>, door: &Door, clients: usize) -> Self {
        let seen = Arc::new(Mutex::new(Seen {
            waiting: vec![None; clients],
            ..Seen::default()
        }));
        let clients = (0..clients)
            .map(|number| {
                let reader = Reader {
                    number,
                    kind: [STATEMENTS, STATEMENTS, BLOCKS][number % 3],
                    name: format!("reader{number}"),
                    door: door.clone(),
                    life: Arc::clone(life),
                    seen: Arc::clone(&seen),
                };
                tokio::spawn(reader.live())
            })
            .collect();
        Self { seen, clients }
    }

    /// Waits until somebody is answered by the server at this port; false if that does not come to be.
    pub(super) async fn reach(&self, port: u16, patience: Duration) -> bool {
        self.seen.lock().ports.clear();
        let deadline = Instant::now() + patience;
        while !self.seen.lock().ports.contains(&port) {
            if Instant::now() > deadline {
                return false;
            }
            sleep(Duration::from_millis(5)).await;
        }
        true
    }

    /// How many wait since before a moment.
    pub(super) fn asked_before(&self, moment: Instant) -> usize {
        let seen = self.seen.lock();
        let since = seen.waiting.iter().flatten();
        since.filter(|since| **since < moment).count()
    }

    pub(super) async fn finish(self, report: &mut Report) {
        for client in self.clients {
            client.await.expect("a client does not break down");
        }
        let seen = self.seen.lock();
        report.longest = seen.longest;
        report.answers = seen.answers;
        if seen.answers == 0 {
            report.faults.push(Check::Work.caught("nobody has read"));
        }
    }
}

struct Reader {
    number: usize,
    kind: &'static str,
    name: String,
    door: Door,
    life: Arc<Life>,
    seen: Arc<Mutex<Seen>>,
}

impl Reader {
    async fn live(self) {
        let mut present = None;
        let life = &self.life;
        while let Some(caller) = life
            .caller(present, &self.door, self.kind, &self.name)
            .await
        {
            let began = Instant::now();
            self.seen.lock().waiting[self.number] = Some(began);
            let outcome = match self.number % 3 {
                0 => self.simple(&caller).await,
                1 => self.extended(&caller).await,
                _ => self.block(&caller).await,
            };
            self.enter(began, &outcome);
            life.rest().await;
            present = Some(caller);
        }
    }

    fn enter(&self, began: Instant, outcome: &Result<u16, Failure>) {
        let took = began.elapsed();
        let mut seen = self.seen.lock();
        seen.waiting[self.number] = None;
        seen.longest = seen.longest.max(took);
        match outcome {
            Ok(port) => {
                seen.answers += 1;
                seen.ports.insert(*port);
            }
            Err(failure) => self
                .life
                .failed(self.kind, &self.name, self.doing(), failure),
        }
    }

    const fn doing(&self) -> Doing {
        match self.number % 3 {
            0 | 1 => Doing::Read,
            _ => Doing::Block,
        }
    }

    async fn simple(&self, caller: &Caller) -> Result<u16, Failure> {
        let messages = caller.ask(caller.client.simple_query(WHERE)).await?;
        let port = first(&messages).and_then(|port| port.parse().ok());
        Ok(port.unwrap_or_default())
    }

    async fn extended(&self, caller: &Caller) -> Result<u16, Failure> {
        let rows = caller.ask(caller.client.query_typed(WHERE, &[])).await?;
        let port = rows.first().map(|row| row.get::<_, i32>(0));
        Ok(port
            .and_then(|port| port.try_into().ok())
            .unwrap_or_default())
    }

    async fn block(&self, caller: &Caller) -> Result<u16, Failure> {
        let begin = caller.client.batch_execute("begin read only");
        caller.ask(begin).await?;
        let read = self.simple(caller).await;
        let end = if read.is_ok() { "commit" } else { "rollback" };
        caller.ask(caller.client.batch_execute(end)).await?;
        read
    }
}
