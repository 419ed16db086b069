//! The whole tree of actors in one thread and a time of its own, over a network that a seed decides about, before fake
//! servers that keep a ledger.
//!
//! What a seed decides is all that is by chance in the simulation itself. What is by chance in the proxy (the order in
//! which a `select!` looks, the order of a map, jitter) comes from the system, and is the same each time only in a
//! process of its own whose system gives no chance: see [`crate::simulation::process`].

mod backend;
mod client;
mod director;
mod net;
mod servers;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use pgherd_actors::{Curtain, Ending, Outcome, Proxy};
use pgherd_config::{Config, LoadInput};
use pgherd_net::{Arrivals, Listener, Network};
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use self::client::{Client, Ledger, Told};
use self::director::Director;
use self::net::{Net, Node};
use self::servers::Servers;
use super::{Broken, Trace};
use crate::checks::{Check, Wrong};

/// How long after the last fault everybody must be well again.
const CALM: Duration = Duration::from_secs(12);

/// What a run has seen.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Inserts that were acknowledged.
    pub done: u64,
    /// Inserts that were refused, so that they are not there.
    pub undone: u64,
    /// Inserts of which nobody knows.
    pub unknown: u64,
    /// Errors that clients were told.
    pub errors: u64,
    /// Promotions.
    pub promotions: u64,
    /// What happened on the network.
    pub events: u64,
    /// Simulated time, in milliseconds.
    pub millis: u64,
    /// The sum over all events.
    pub sum: u64,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} s, {} events, {} promotions, {} writes done, {} undone, {} unknown, {} errors",
            self.millis / 1000,
            self.events,
            self.promotions,
            self.done,
            self.undone,
            self.unknown,
            self.errors
        )
    }
}

impl Seen {
    /// Adds what another run has seen.
    pub fn add(&mut self, other: &Self) {
        self.done += other.done;
        self.undone += other.undone;
        self.unknown += other.unknown;
        self.errors += other.errors;
        self.promotions += other.promotions;
        self.events += other.events;
        self.millis += other.millis;
        self.sum ^= other.sum;
    }
}

/// Runs a seed through so many faults.
///
/// # Errors
/// What was broken.
pub fn run(seed: u64, faults: usize, tail: usize) -> Result<Seen, Broken> {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    let runtime = runtime.map_err(|error| Broken {
        why: Check::Work.caught(error.to_string()),
        tail: Vec::new(),
    })?;
    runtime.block_on(async {
        let net = Net::new(seed, Trace::kept(tail));
        match play(&net, faults).await {
            Ok(seen) => Ok(seen),
            Err(why) => Err(Broken {
                why,
                tail: net.trace(Trace::tail),
            }),
        }
    })
}

const CONFIGURATION: &str = r#"
[auth]
method = "trust"
[pool]
size = 4
function_check = "never"
[failover]
resolve = 0
[databases.shop]
hosts = ["host0:5432", "host1:5432", "host2:5432"]
[databases.shop.tls]
mode = "disable"
[users.app]
password = "secret"
"#;

const HOSTS: usize = 3;
const CLIENTS: usize = 15;

fn proxy(net: &Net, curtain: Curtain) -> Result<Proxy, String> {
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    let file = directory.path().join("pgherd.toml");
    std::fs::write(&file, CONFIGURATION).map_err(|error| error.to_string())?;
    let input = LoadInput {
        file: Some(file),
        ..LoadInput::default()
    };
    let settings = Config::load(&input)
        .map_err(|faults| faults.to_string())?
        .config;
    let (door, arrivals) = Arrivals::new(64);
    let address = SocketAddr::from((Ipv4Addr::new(10, 0, 0, 1), 6432));
    let clients = Listener::simulated(arrivals, address);
    net.open(Node::Proxy, door);
    let servers = Network::Simulated(Arc::new(net.clone()));
    Proxy::simulated(settings, curtain, clients, servers).map_err(|error| error.to_string())
}

async fn play(net: &Net, faults: usize) -> Result<Seen, Wrong> {
    let servers = Servers::start(net, HOSTS);
    let curtain = Curtain::default();
    let proxy = proxy(net, curtain.clone()).map_err(|why| Check::Work.caught(why))?;
    let facts = Arc::clone(proxy.facts());
    let running = tokio::spawn(proxy.run());
    let ledger = Arc::<Ledger>::default();
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        clients.spawn(Client::live(number, net.clone(), Arc::clone(&ledger)));
    }
    let mut director = Director::new(&servers, &facts);
    for _ in 0..faults {
        director.strike().await;
        wrong(&servers, &ledger)?;
    }
    director.heal().await;
    net.note("all is mended");
    sleep(CALM / 2).await;
    let before = ledger.done();
    sleep(CALM / 2).await;
    if ledger.done() < before + 20 {
        let (now, held) = (ledger.done(), facts.sessions.count());
        let why = format!("{before} writes done, and {now} seconds later, by {held} clients");
        return Err(Check::Stuck.caught(why));
    }
    ledger.close();
    let ended = async { while clients.join_next().await.is_some() {} };
    if timeout(Duration::from_secs(70), ended).await.is_err() {
        return Err(Check::Stuck.caught("a client does not come to its end"));
    }
    wrong(&servers, &ledger)?;
    rest(&facts).await?;
    curtain.ask(Ending::AtOnce);
    match timeout(Duration::from_secs(60), running).await {
        Ok(Ok(Outcome::Ended)) => {}
        other => return Err(Check::Leak.caught(format!("the proxy has ended as {other:?}"))),
    }
    account(&servers, &ledger, director.leader)?;
    Ok(sum_up(net, &ledger, director.promotions))
}

/// What anybody has met that nobody may meet.
fn wrong(servers: &Servers, ledger: &Ledger) -> Result<(), Wrong> {
    let mut all = servers.accusations();
    all.extend(ledger.wrong());
    let Some(first) = all.first() else {
        return Ok(());
    };
    let words: Vec<String> = all.iter().map(|wrong| wrong.what.clone()).collect();
    Err(first.check.caught(words.join("\n")))
}

/// With all clients gone nothing is lent, awaited or opened any more.
async fn rest(facts: &pgherd_actors::facts::Facts) -> Result<(), Wrong> {
    sleep(Duration::from_secs(12)).await;
    let left = facts.sessions.count();
    if left > 0 {
        return Err(Check::Leak.caught(format!("{left} sessions are left without a client")));
    }
    for pool in facts.routes.load().values() {
        let is = pool.core.snapshot(std::time::Instant::now());
        if is.leased + is.waiting + is.opening > 0 {
            return Err(Check::Leak.caught(format!("a pool without clients has {is:?}")));
        }
    }
    Ok(())
}

/// What clients were told against what is there.
fn account(servers: &Servers, ledger: &Ledger, leader: usize) -> Result<(), Wrong> {
    let doubled = servers.doubled(leader);
    if !doubled.is_empty() {
        return Err(Check::Doubled.caught(format!("rows {doubled:?} are there twice")));
    }
    for (row, told) in ledger.rows() {
        match (told, servers.entered(leader, row)) {
            (Told::Done, 0) => {
                let why = format!("row {row} was acknowledged, and is not there");
                return Err(Check::Lost.caught(why));
            }
            (Told::Undone, 1..) => {
                let why = format!("row {row} was refused, and is there");
                return Err(Check::Undead.caught(why));
            }
            _ => {}
        }
    }
    Ok(())
}

fn sum_up(net: &Net, ledger: &Ledger, promotions: u64) -> Seen {
    let rows = ledger.rows();
    let count = |told: Told| rows.values().filter(|it| **it == told).count() as u64;
    Seen {
        done: count(Told::Done),
        undone: count(Told::Undone),
        unknown: count(Told::Unknown),
        errors: ledger.errors().values().sum(),
        promotions,
        events: net.trace(Trace::count),
        millis: u64::try_from(net.time().as_millis()).unwrap_or(u64::MAX),
        sum: net.trace(Trace::sum),
    }
}
