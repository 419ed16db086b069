//! Each client counts in a row of its own, and must find there what it was told.
//!
//! It looks at once, while hardly any replica can have what it has written, and now and then once more when they have it, so
//! that who reads from replicas has to tell the one from the other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_postgres::SimpleQueryMessage;

use crate::checks::errors::Doing;
use crate::door::{Caller, Door, Failure, Fate, Stage};
use crate::workloads::life::Life;

/// The name in the table of errors.
pub const KIND: &str = "own";

/// The rows; each client makes its own.
pub const TABLE: &str = "create table own (who text primary key, n bigint not null)";

/// Of so many increments one is looked at once more.
const LATE_EVERY: usize = 32;

/// How long after it.
const LATE: Duration = Duration::from_millis(500);

/// What the clients found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// How many looks were right.
    pub right: u64,
    /// How many of the late ones another server has answered than the one that was written to.
    pub elsewhere: usize,
    /// Values below what had been acknowledged or seen before, and when that was.
    pub stale: Vec<(Instant, String)>,
    /// Values above what had been asked for.
    pub doubled: Vec<String>,
}

/// Clients that count until their life ends.
#[derive(Debug)]
pub struct Counters {
    clients: Vec<JoinHandle<()>>,
    findings: Arc<Mutex<Findings>>,
}

/// What a row may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Bounds {
    /// It was acknowledged or seen.
    low: i64,
    /// Everything that was asked for.
    high: i64,
}

/// What a value shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    Right,
    Stale,
    Doubled,
}

impl Bounds {
    /// Takes note of an increment, and of the value that was told with an acknowledgement.
    fn incremented(&mut self, fate: Fate, told: Option<i64>) -> Look {
        match (fate, told) {
            (Fate::Acknowledged, Some(value)) => {
                self.high += 1;
                // The new value is above all that was there before.
                self.low += 1;
                let look = self.seen(value);
                // Nothing else is under way.
                self.high = self.low;
                look
            }
            (Fate::Acknowledged, None) => Look::Stale,
            (Fate::Unknown, _) => {
                self.high += 1;
                Look::Right
            }
            (Fate::Failed, _) => Look::Right,
        }
    }

    /// Takes note of what a look showed, which is the truth from now on.
    fn seen(&mut self, value: i64) -> Look {
        let look = if value < self.low {
            Look::Stale
        } else if value > self.high {
            Look::Doubled
        } else {
            Look::Right
        };
        self.low = value;
        self.high = self.high.max(value);
        look
    }
}

impl Counters {
    /// Starts the clients.
    pub fn start(life: &Arc<Life>, door: &Door, clients: usize) -> Self {
        let findings = Arc::new(Mutex::new(Findings::default()));
        let clients = (0..clients)
            .map(|number| {
                let counter = Counter {
                    name: format!("{KIND}{number}"),
                    door: door.clone(),
                    life: Arc::clone(life),
                    findings: Arc::clone(&findings),
                };
                tokio::spawn(counter.live())
            })
            .collect();
        Self { clients, findings }
    }

    /// Gives what the clients found, once their life has ended.
    ///
    /// # Panics
    /// If a client broke down.
    pub async fn finish(self) -> Findings {
        for client in self.clients {
            client.await.expect("a client does not break down");
        }
        self.findings.lock().clone()
    }
}

/// One client.
struct Counter {
    name: String,
    door: Door,
    life: Arc<Life>,
    findings: Arc<Mutex<Findings>>,
}

impl Counter {
    async fn live(self) {
        let mut bounds = Bounds::default();
        // When the lower one was acknowledged or seen.
        let mut known = Instant::now();
        let mut present = None;
        let life = &self.life;
        let increment = format!(
            "insert into own values ('{0}', 1) \
             on conflict (who) do update set n = own.n + 1 returning n, {SERVER}",
            self.name
        );
        let look = format!("select n, {SERVER} from own where who = '{}'", self.name);
        for turn in 1.. {
            let Some(caller) = life.caller(present, &self.door, KIND, &self.name).await else {
                break;
            };
            let (outcome, written) = value(&caller, &increment).await;
            let fate = self.door.fate(&outcome, Stage::Commit);
            let told = outcome.as_ref().ok().copied().flatten();
            let before = bounds;
            let shown = bounds.incremented(fate, told);
            self.enter(Doing::Write, shown, &outcome, (before, known));
            if told.is_some() {
                known = Instant::now();
            }
            let late = turn % LATE_EVERY == 0;
            for is_late in [false, true] {
                if !caller.is_usable() || is_late && !late {
                    break;
                }
                if is_late {
                    sleep(LATE).await;
                }
                let (outcome, server) = value(&caller, &look).await;
                if is_late && server.is_some() && written.is_some() && server != written {
                    self.findings.lock().elsewhere += 1;
                }
                if let Ok(found) = &outcome {
                    let before = bounds;
                    let shown = bounds.seen(found.unwrap_or_default());
                    self.enter(Doing::Read, shown, &outcome, (before, known));
                    if bounds.low != before.low {
                        known = Instant::now();
                    }
                } else {
                    self.enter(Doing::Read, Look::Right, &outcome, (bounds, known));
                }
            }
            life.rest().await;
            present = Some(caller);
        }
    }

    fn enter(
        &self,
        doing: Doing,
        shown: Look,
        outcome: &Result<Option<i64>, Failure>,
        (bounds, known): (Bounds, Instant),
    ) {
        let line = format!("{doing}: {outcome:?} within {bounds:?}");
        self.life.history.note(&self.name, &line);
        if let Err(failure) = outcome {
            self.life.failed(KIND, &self.name, doing, failure);
            return;
        }
        let mut findings = self.findings.lock();
        let line = format!("{} {line}", self.name);
        match shown {
            Look::Right => findings.right += 1,
            Look::Stale => findings.stale.push((known, line)),
            Look::Doubled => findings.doubled.push(line),
        }
    }
}

/// Which server answers.
const SERVER: &str = "host(inet_server_addr()) || ' ' || inet_server_port()";

/// The value of the only row, and who has answered.
async fn value(caller: &Caller, text: &str) -> (Result<Option<i64>, Failure>, Option<String>) {
    let messages = match caller.ask(caller.client.simple_query(text)).await {
        Ok(messages) => messages,
        Err(failure) => return (Err(failure), None),
    };
    let row = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let value = |at: usize| row.and_then(|row| row.get(at));
    let number = value(0).and_then(|value| value.parse().ok());
    (Ok(number), value(1).map(ToOwned::to_owned))
}

#[cfg(test)]
mod tests {
    use super::{Bounds, Fate, Look};

    #[test]
    fn what_was_told_must_be_found_and_no_more() {
        let mut bounds = Bounds::default();
        assert_eq!(bounds.incremented(Fate::Acknowledged, Some(1)), Look::Right);
        assert_eq!(bounds.seen(1), Look::Right);
        assert_eq!(bounds.incremented(Fate::Unknown, None), Look::Right);
        assert_eq!(bounds.incremented(Fate::Failed, None), Look::Right);
        assert_eq!(bounds.seen(2), Look::Right, "the unknown one was done");
        assert_eq!(bounds.seen(1), Look::Stale, "it was seen");
        let mut bounds = Bounds { low: 5, high: 5 };
        assert_eq!(bounds.seen(4), Look::Stale);
        let mut bounds = Bounds { low: 5, high: 5 };
        assert_eq!(
            bounds.incremented(Fate::Acknowledged, Some(7)),
            Look::Doubled
        );
        let mut bounds = Bounds { low: 5, high: 6 };
        assert_eq!(bounds.incremented(Fate::Acknowledged, Some(7)), Look::Right);
        assert_eq!(bounds, Bounds { low: 7, high: 7 });
    }
}
