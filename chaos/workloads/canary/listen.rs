//! Each client listens to a channel of its own, on which all others count: it must hear every number of each of them,
//! in order, and nothing that was meant for anybody else.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::{AsyncMessage, Client, Config, Error, NoTls, Notification};

use crate::checks::Check;
use crate::checks::identity::{Cancels, Identity};
use crate::workloads::canary::crowd;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// The clients, and for how long they live.
#[derive(Clone, Copy, Debug)]
pub struct Listeners {
    /// How many clients.
    pub clients: usize,
    /// How long.
    pub time: Duration,
    /// What decides about everything that is left to chance, but for the timing.
    pub seed: u64,
}

/// How far each has counted for each: who has counted, and for whom.
type Counts = Arc<Mutex<BTreeMap<(usize, usize), u64>>>;

impl Listeners {
    /// Runs all clients to their end and tells what they heard.
    pub async fn run(self, proxy: &Config) -> Arc<Identity> {
        let end = Instant::now() + self.time;
        let counts = Counts::default();
        crowd(self.clients, |number, identity| {
            let listener = Listener {
                number,
                among: self.clients,
                counts: Arc::clone(&counts),
                heard: BTreeMap::new(),
                identity,
            };
            let rng = StdRng::seed_from_u64(self.seed.wrapping_add(number as u64));
            listener.live(rng, proxy.clone(), end)
        })
        .await
    }
}

struct Listener {
    number: usize,
    among: usize,
    counts: Counts,
    heard: BTreeMap<usize, u64>,
    identity: Arc<Identity>,
}

impl Listener {
    async fn live(mut self, mut rng: StdRng, proxy: Config, end: Instant) {
        let line = Line::open(&proxy).await;
        let mut line = match line {
            Ok(line) => line,
            Err(error) => return self.failed(&error),
        };
        let listen = format!("listen {}", channel(self.number));
        if let Err(error) = line.client.batch_execute(&listen).await {
            return self.failed(&error);
        }
        // Nobody is told before all listen.
        sleep(Duration::from_millis(500)).await;
        while Instant::now() < end {
            let target = rng.random_range(0..self.among);
            let key = (self.number, target);
            let next = self.counts.lock().get(&key).copied().unwrap_or_default() + 1;
            let notify = format!("notify {}, '{} {next}'", channel(target), self.number);
            if let Err(error) = line.client.batch_execute(&notify).await {
                return self.failed(&error);
            }
            self.counts.lock().insert(key, next);
            while let Ok(notification) = line.heard.try_recv() {
                self.hear(&notification);
            }
            sleep(Duration::from_millis(rng.random_range(0..10))).await;
        }
        // By then all have ended, but for who was stuck.
        sleep(Duration::from_millis(500)).await;
        self.hear_all(&mut line).await;
    }

    /// Hears what is still on its way.
    async fn hear_all(&mut self, line: &mut Line) {
        let counted = self.counts.lock().clone();
        let mine = counted
            .into_iter()
            .filter(|((_, to), _)| *to == self.number);
        let all: BTreeMap<usize, u64> = mine.map(|((from, _), count)| (from, count)).collect();
        let complete = async {
            while self.heard != all {
                match line.heard.recv().await {
                    Some(notification) => self.hear(&notification),
                    None => return,
                }
            }
        };
        let late = timeout(PATIENCE, complete).await.is_err();
        if late || self.heard != all {
            let what = format!("{} heard {:?} of {all:?}", self.number, self.heard);
            self.identity.catch(Check::Listen, what);
        }
    }

    /// What was heard must be ours, and the next of whoever has counted.
    fn hear(&mut self, notification: &Notification) {
        let own = channel(self.number);
        let said = notification.payload();
        let (from, count) = said.split_once(' ').unwrap_or_default();
        let known = from.parse::<usize>().ok().zip(count.parse::<u64>().ok());
        let next = known.is_some_and(|(from, count)| {
            let heard = self.heard.entry(from).or_default();
            *heard += 1;
            *heard == count
        });
        if notification.channel() == own && next {
            self.identity.answer(&own, said, Some(said));
            return;
        }
        let what = format!("{own} heard {said:?} on {}", notification.channel());
        self.identity.catch(Check::Listen, what);
    }

    fn failed(&self, error: &Error) {
        let who = channel(self.number);
        self.identity.failure(&who, Cancels::Never, error);
    }
}

fn channel(number: usize) -> String {
    format!("herd{number}")
}

/// A connection, and what comes over it unasked.
struct Line {
    client: Client,
    heard: UnboundedReceiver<Notification>,
    connection: JoinHandle<()>,
}

impl Line {
    async fn open(proxy: &Config) -> Result<Self, Error> {
        let (client, mut connection) = proxy.connect(NoTls).await?;
        let (sender, heard) = unbounded_channel();
        let connection = tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
                if let AsyncMessage::Notification(notification) = message {
                    let _ = sender.send(notification);
                }
            }
        });
        Ok(Self {
            client,
            heard,
            connection,
        })
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.connection.abort();
    }
}
