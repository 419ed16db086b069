//! Clients that write through the proxy while the primary is lost, and what they saw of it.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error, NoTls, Statement};

/// How many there are.
pub(super) const WRITERS: usize = 8;

/// How often each of them has written before the primary is lost.
const BEFORE: usize = 25;

/// Clients at work. Dropped, they are gone.
#[derive(Debug)]
pub(super) struct Writers {
    /// The one that compares what is there with what was acknowledged, and is idle until then.
    keeper: Client,
    first: i64,
    over: Arc<AtomicBool>,
    tasks: JoinSet<Seen>,
}

/// What clients saw.
#[derive(Debug, Default)]
struct Seen {
    longest: Duration,
    /// How often a write was told that it is undone (40001), and was sent again, as applications do.
    repeated: usize,
    acknowledged: BTreeSet<i64>,
    errors: Vec<String>,
}

/// What is to be told of a failover.
#[derive(Debug)]
pub(super) struct Account {
    seen: Seen,
    missing: usize,
}

impl Writers {
    /// Sets the clients to work, one write after the other, and waits until each is in the midst of it.
    ///
    /// # Errors
    /// If nobody can read at the moment.
    pub(super) async fn start(url: &str) -> Result<Self, Error> {
        let keeper = connect(url).await?;
        let next = "select coalesce(max(id), 0) + 1 from counted";
        let first: i64 = keeper.query_one(next, &[]).await?.get(0);
        let over = Arc::new(AtomicBool::new(false));
        let number = Arc::new(AtomicI64::new(first));
        let (begins, mut begun) = mpsc::channel::<()>(1);
        let mut tasks = JoinSet::new();
        for _ in 0..WRITERS {
            let writer = Writer {
                url: url.to_owned(),
                number: Arc::clone(&number),
                over: Arc::clone(&over),
                seen: Seen::default(),
            };
            tasks.spawn(writer.live(begins.clone()));
        }
        drop(begins);
        // Nothing is ever sent: it ends when the last of them has dropped its end.
        begun.recv().await;
        Ok(Self {
            keeper,
            first,
            over,
            tasks,
        })
    }

    /// Has each write once more, and looks whether all that was acknowledged is there.
    ///
    /// # Errors
    /// If that cannot be read.
    pub(super) async fn finish(mut self) -> Result<Account, Error> {
        self.over.store(true, Ordering::Relaxed);
        let mut all = Seen::default();
        while let Some(ended) = self.tasks.join_next().await {
            match ended {
                Ok(seen) => all.add(seen),
                Err(error) => all.errors.push(error.to_string()),
            }
        }
        let what = "select id from counted where id >= $1";
        let rows = self.keeper.query(what, &[&self.first]).await?;
        let there: BTreeSet<i64> = rows.iter().map(|row| row.get(0)).collect();
        Ok(Account {
            missing: all.acknowledged.difference(&there).count(),
            seen: all,
        })
    }
}

impl Seen {
    fn add(&mut self, other: Self) {
        self.longest = self.longest.max(other.longest);
        self.repeated += other.repeated;
        self.acknowledged.extend(other.acknowledged);
        self.errors.extend(other.errors);
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Seen {
            longest,
            repeated,
            acknowledged,
            errors,
        } = &self.seen;
        let (longest, count) = (longest.as_secs_f64(), errors.len());
        write!(f, "longest wait of a write {longest:.2} s, {count} errors")?;
        if let Some(first) = errors.first() {
            write!(f, " (the first: {first})")?;
        }
        if *repeated > 0 {
            write!(f, ", {repeated} undone and sent again (40001)")?;
        }
        write!(f, ", {} writes acknowledged, ", acknowledged.len())?;
        match self.missing {
            0 => f.write_str("all there"),
            missing => write!(f, "{missing} of them lost"),
        }
    }
}

/// One client.
struct Writer {
    url: String,
    number: Arc<AtomicI64>,
    over: Arc<AtomicBool>,
    seen: Seen,
}

impl Writer {
    /// Writes until it is over, or until there is an error.
    async fn live(mut self, begins: mpsc::Sender<()>) -> Seen {
        if let Err(error) = self.work(begins).await {
            let told = match error.as_db_error() {
                Some(told) => format!("{}: {}", told.code().code(), told.message()),
                None => error.to_string(),
            };
            self.seen.errors.push(told);
        }
        self.seen
    }

    async fn work(&mut self, begins: mpsc::Sender<()>) -> Result<(), Error> {
        let client = connect(&self.url).await?;
        let insert = "insert into counted (id) values ($1)";
        let insert = client.prepare(insert).await?;
        for _ in 0..BEFORE {
            self.write(&client, &insert).await?;
        }
        drop(begins);
        loop {
            // Looked at before, so that each writes once more behind the failover.
            let last = self.over.load(Ordering::Relaxed);
            self.write(&client, &insert).await?;
            if last {
                return Ok(());
            }
        }
    }

    /// Writes the next number. Should it be written twice, the key's index says so.
    async fn write(&mut self, client: &Client, insert: &Statement) -> Result<(), Error> {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let begun = Instant::now();
        while let Err(error) = client.execute(insert, &[&number]).await {
            if error.code() != Some(&SqlState::T_R_SERIALIZATION_FAILURE) {
                return Err(error);
            }
            self.seen.repeated += 1;
        }
        self.seen.longest = self.seen.longest.max(begun.elapsed());
        self.seen.acknowledged.insert(number);
        Ok(())
    }
}

async fn connect(url: &str) -> Result<Client, Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    // It ends with its client, who is told what becomes of it.
    tokio::spawn(connection);
    Ok(client)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(numbers: std::ops::Range<i64>, longest: u64) -> Seen {
        Seen {
            longest: Duration::from_millis(longest),
            acknowledged: numbers.collect(),
            ..Seen::default()
        }
    }

    #[test]
    fn a_pause_is_told_in_one_line() {
        let mut all = seen(0..100, 313);
        all.add(seen(100..214, 20));
        let account = Account {
            seen: all,
            missing: 0,
        };
        assert_eq!(
            account.to_string(),
            "longest wait of a write 0.31 s, 0 errors, 214 writes acknowledged, all there"
        );
    }

    #[test]
    fn what_is_bad_is_told_as_well() {
        let mut all = seen(0..7, 1_000);
        all.repeated = 2;
        all.errors = vec!["08007: unknown".to_owned(), "closed".to_owned()];
        let account = Account {
            seen: all,
            missing: 3,
        };
        assert_eq!(
            account.to_string(),
            "longest wait of a write 1.00 s, 2 errors (the first: 08007: unknown), \
             2 undone and sent again (40001), 7 writes acknowledged, 3 of them lost"
        );
    }
}
