//! Clients that ask all the time and check what they get.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use pgherd_supervise::reach::Living;
use ractor::ActorCell;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::{Client, Error, NoTls, SimpleQueryMessage, Statement};

use crate::PATIENCE;
use crate::house::House;

/// So many more answers each client must get to count as served.
const PROGRESS: u64 = 20;

/// Clients at work.
pub(crate) struct Load {
    pub(crate) people: Vec<Person>,
    over: Arc<AtomicBool>,
}

/// One client.
pub(crate) struct Person {
    /// The actor of its session.
    pub(crate) session: ActorCell,
    /// The path of the session's supervisor.
    pub(crate) home: String,
    right: Arc<AtomicU64>,
    task: JoinHandle<Result<(), Trouble>>,
}

/// Why a client has ended before it was told to.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// It got what it had not asked for.
    Wrong(String),
    /// It was not served.
    Failed(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Load {
    /// Lets so many clients in, one after another, and sets them to work.
    pub(crate) async fn start(house: &House, clients: usize) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let mut people = Vec::new();
        for number in 0..clients {
            let before = sessions(house).await;
            let (client, connection) = house.client("postgres").connect(NoTls).await.unwrap();
            tokio::spawn(connection);
            let session = newcomer(house, &before).await;
            let right = Arc::new(AtomicU64::new(0));
            let task = tokio::spawn(work(number, client, Arc::clone(&right), Arc::clone(&over)));
            people.push(Person {
                session: session.cell,
                home: session.path.trim_end_matches("/*").to_owned(),
                right,
                task,
            });
        }
        Self { people, over }
    }

    /// Waits until every client has got some more right answers.
    pub(crate) async fn progress(&self) {
        let deadline = Instant::now() + PATIENCE;
        for person in &self.people {
            let goal = person.right.load(Ordering::Relaxed) + PROGRESS;
            while person.right.load(Ordering::Relaxed) < goal {
                assert!(!person.task.is_finished(), "a client was lost");
                assert!(Instant::now() < deadline, "a client is not served");
                sleep(std::time::Duration::from_millis(1)).await;
            }
        }
    }

    /// Waits until those clients for whom `doomed` says so have lost their connections, without a
    /// word and without a wrong answer, and takes them out. Returns how many there were.
    pub(crate) async fn lose(&mut self, doomed: impl Fn(&Person) -> bool) -> usize {
        let people = std::mem::take(&mut self.people);
        let (doomed, kept): (Vec<_>, Vec<_>) = people.into_iter().partition(doomed);
        self.people = kept;
        let count = doomed.len();
        for person in doomed {
            let end = timeout(PATIENCE, person.task).await;
            match end.expect("the client sees its end").unwrap() {
                Err(Trouble::Failed(error)) => {
                    assert!(error.as_db_error().is_none(), "an answer: {error}");
                }
                Err(Trouble::Wrong(answer)) => panic!("a wrong answer: {answer}"),
                Ok(()) => panic!("the client was served to the end"),
            }
        }
        count
    }

    /// Ends the work; every client must have been served to the end.
    pub(crate) async fn stop(self) {
        self.over.store(true, Ordering::Relaxed);
        for person in self.people {
            let end = timeout(PATIENCE, person.task).await;
            if let Err(trouble) = end.expect("the client ends").unwrap() {
                panic!("a client was in trouble: {trouble:?}");
            }
        }
    }
}

async fn sessions(house: &House) -> Vec<Living> {
    let mut living = house.living().await;
    living.retain(|actor| actor.path.contains("/sessions ") && actor.path.ends_with("/*"));
    living
}

/// The session that was not there before.
async fn newcomer(house: &House, before: &[Living]) -> Living {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = sessions(house).await;
        let newcomer = now
            .into_iter()
            .find(|actor| before.iter().all(|old| old.cell != actor.cell));
        if let Some(newcomer) = newcomer {
            return newcomer;
        }
        assert!(Instant::now() < deadline, "the client has no session");
    }
}

async fn work(
    number: usize,
    client: Client,
    right: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
) -> Result<(), Trouble> {
    let prepared = client.prepare("select $1::text").await?;
    let mut turn = 0;
    while !over.load(Ordering::Relaxed) {
        turn += 1;
        let token = format!("client{number}-{turn}");
        let got = ask(&client, &prepared, &token, turn).await?;
        if got.as_ref() != Some(&token) {
            return Err(Trouble::Wrong(format!("{got:?} for {token}")));
        }
        right.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// Asks in one of the ways for a token.
async fn ask(
    client: &Client,
    prepared: &Statement,
    token: &str,
    turn: u64,
) -> Result<Option<String>, Error> {
    let sql = match turn % 3 {
        0 => return Ok(Some(client.query_one(prepared, &[&token]).await?.get(0))),
        1 => format!("select '{token}'"),
        _ => format!("begin; select '{token}'; commit"),
    };
    let answer = client.simple_query(&sql).await?;
    let row = answer.into_iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    Ok(row)
}
