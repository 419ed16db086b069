use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use pgherd_sandbox::Error;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_postgres::{Client, NoTls};

use super::place::{self, NODES, POSTGRES};

/// How often each node is asked.
const TICK: Duration = Duration::from_millis(10);

/// How long it may take to answer.
const SOON: Duration = Duration::from_millis(500);

/// Since when each node takes writes, by its own word; `None` if it does not, or says nothing.
type Sights = [Option<Instant>; NODES];

/// Asks all nodes all the time whether they take writes, past everybody.
#[derive(Debug)]
pub(super) struct Watch {
    sights: watch::Receiver<Sights>,
    _tasks: JoinSet<()>,
}

impl Watch {
    pub(super) fn start() -> Self {
        let (sender, sights) = watch::channel([None; NODES]);
        let mut tasks = JoinSet::new();
        for number in 0..NODES {
            let sender = sender.clone();
            tasks.spawn(async move {
                loop {
                    look(number, &sender).await;
                    enter(&sender, number, false);
                    sleep(TICK).await;
                }
            });
        }
        Self {
            sights,
            _tasks: tasks,
        }
    }

    /// Waits until another node than this one takes writes; gives it, and since when it does.
    ///
    /// # Errors
    /// [`Error::Silent`] if none does for so long.
    pub(super) async fn another(
        &self,
        old: usize,
        patience: Duration,
    ) -> Result<(usize, Instant), Error> {
        let others = |sights: &Sights| first(sights, |number| number != old);
        self.find("another primary", others, patience).await
    }

    /// Waits until any node takes writes; gives it, and since when it does.
    ///
    /// # Errors
    /// [`Error::Silent`] if none does for so long.
    pub(super) async fn anybody(&self, patience: Duration) -> Result<(usize, Instant), Error> {
        let all = |sights: &Sights| first(sights, |_| true);
        self.find("a primary", all, patience).await
    }

    /// Waits until no node takes writes.
    ///
    /// # Errors
    /// [`Error::Silent`] if one does for so long.
    pub(super) async fn nobody(&self, patience: Duration) -> Result<(), Error> {
        let none = |sights: &Sights| sights.iter().all(Option::is_none).then_some(());
        self.find("a primary that gives up", none, patience).await
    }

    async fn find<T>(
        &self,
        name: &'static str,
        found: impl Fn(&Sights) -> Option<T>,
        patience: Duration,
    ) -> Result<T, Error> {
        let mut sights = self.sights.clone();
        let silent = || Error::Silent {
            name,
            after: patience,
            log: String::new(),
        };
        let seen = timeout(patience, sights.wait_for(|sights| found(sights).is_some())).await;
        let seen = seen.map_err(|_| silent())?.map_err(|_| silent())?;
        found(&seen).ok_or_else(silent)
    }
}

/// The one that has taken writes for longest, of those that may be.
fn first(sights: &Sights, may_be: impl Fn(usize) -> bool) -> Option<(usize, Instant)> {
    let those = sights.iter().enumerate().filter(|(n, _)| may_be(*n));
    those
        .filter_map(|(number, since)| Some((number, (*since)?)))
        .min_by_key(|(_, since)| *since)
}

fn enter(sender: &watch::Sender<Sights>, number: usize, writable: bool) {
    sender.send_if_modified(|sights| {
        let sight = &mut sights[number];
        let changed = sight.is_some() != writable;
        if changed {
            *sight = writable.then(Instant::now);
        }
        changed
    });
}

/// Asks one node over one connection as long as it answers.
async fn look(number: usize, sender: &watch::Sender<Sights>) {
    let Ok(Some((client, connection))) = timeout(SOON, open(place::node(number))).await else {
        return;
    };
    let ask = async {
        loop {
            let asked = client.query_typed("select pg_is_in_recovery()", &[]);
            let Ok(Ok(rows)) = timeout(SOON, asked).await else {
                return;
            };
            let writable = rows.first().is_some_and(|row| !row.get::<_, bool>(0));
            enter(sender, number, writable);
            sleep(TICK).await;
        }
    };
    tokio::select! {
        () = ask => {}
        _ = connection => {}
    }
}

type Connection =
    tokio_postgres::Connection<tokio_postgres::Socket, tokio_postgres::tls::NoTlsStream>;

async fn open(address: Ipv4Addr) -> Option<(Client, Connection)> {
    let mut config = tokio_postgres::Config::new();
    config
        .host(address.to_string())
        .port(POSTGRES)
        .user("postgres")
        .dbname("postgres");
    config.connect(NoTls).await.ok()
}
