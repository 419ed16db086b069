//! Ways to the primary, and what a client may conclude from what it hears there.

use std::future::poll_fn;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::error::{Severity, SqlState};
use tokio_postgres::{
    AsyncMessage, Client, Config, Error, NoTls, Notification, SimpleQueryMessage,
};

/// How long a client waits for anything before it gives up; longer than pgherd lets work wait.
const PATIENCE: Duration = Duration::from_secs(60);

/// A way to whichever server is the primary; everybody is trusted, and is `postgres`.
#[derive(Clone, Debug)]
pub struct Door {
    kind: Kind,
    database: &'static str,
}

#[derive(Clone, Debug)]
enum Kind {
    /// A pgherd at this port.
    Pgherd(u16),
    /// Another pooler at this port.
    Pooler(u16),
    /// The primary itself, of which all clients are told as soon as it takes writes.
    Direct(watch::Receiver<SocketAddr>),
}

/// Why a client got no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It was told.
    Said(SqlState),
    /// The connection ended without a word.
    Cut,
    /// Nothing came for as long as it is patient.
    Hung,
    /// It heard of another primary and left the old one.
    Left,
}

/// What a client knows of something it wanted to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fate {
    /// It was acknowledged.
    Acknowledged,
    /// It failed for certain.
    Failed,
    /// Nobody knows.
    Unknown,
}

/// Whether what was asked could have committed, had it come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Inside a transaction, before its COMMIT.
    Before,
    /// The COMMIT, or a statement that commits by itself.
    Commit,
}

impl Door {
    /// Through a pgherd, which must tell every outcome that can be known.
    pub fn pgherd(port: u16) -> Self {
        Self::at(Kind::Pgherd(port))
    }

    /// Through another pooler, whose errors of class 08 may mean anything.
    pub fn pooler(port: u16) -> Self {
        Self::at(Kind::Pooler(port))
    }

    /// To the primary, wherever that is by now.
    pub fn direct(primary: watch::Receiver<SocketAddr>) -> Self {
        Self::at(Kind::Direct(primary))
    }

    fn at(kind: Kind) -> Self {
        let database = "postgres";
        Self { kind, database }
    }

    /// The same way to another database.
    #[must_use]
    pub fn to(self, database: &'static str) -> Self {
        Self { database, ..self }
    }

    /// Whether a session and its state outlive its server.
    pub fn keeps_sessions(&self) -> bool {
        matches!(self.kind, Kind::Pgherd(_))
    }

    /// Whether clients may cancel in a failover. PgBouncer 1.18 ends itself at times when one does (`disconnect_client(): bad
    /// client state`), which would show nothing of how it bears failovers.
    pub fn bears_cancels(&self) -> bool {
        !matches!(self.kind, Kind::Pooler(_))
    }

    /// Whether a session is one, on whichever servers: its settings and prepared statements are there
    /// with each statement. Some poolers do not care for that.
    pub fn has_sessions(&self) -> bool {
        !matches!(self.kind, Kind::Pooler(_))
    }

    /// Logs in under an application name.
    ///
    /// # Errors
    /// What was heard instead of a welcome.
    pub async fn open(&self, name: &str) -> Result<Caller, Failure> {
        self.open_to(name, |_| {}).await
    }

    /// The same for who listens: gives also the notifications that come.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn open_to_listen(
        &self,
        name: &str,
    ) -> Result<(Caller, UnboundedReceiver<Notification>), Failure> {
        let (sender, news) = unbounded_channel();
        let caller = self.open_to(name, move |message| {
            if let AsyncMessage::Notification(notification) = message {
                // Who does not listen any more misses nothing.
                let _ = sender.send(notification);
            }
        });
        Ok((caller.await?, news))
    }

    async fn open_to(
        &self,
        name: &str,
        mut unasked: impl FnMut(AsyncMessage) + Send + 'static,
    ) -> Result<Caller, Failure> {
        let (address, primary) = match &self.kind {
            Kind::Pgherd(port) | Kind::Pooler(port) => {
                (SocketAddr::from((Ipv4Addr::LOCALHOST, *port)), None)
            }
            Kind::Direct(primary) => {
                let address = *primary.borrow();
                (address, Some((address, primary.clone())))
            }
        };
        let mut config = Config::new();
        config
            .host(address.ip().to_string())
            .port(address.port())
            .user("postgres")
            .password("postgres")
            .dbname(self.database)
            .application_name(name);
        let connect = patient(config.connect(NoTls), primary.clone());
        let (client, mut connection) = connect.await?;
        let connection = tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
                unasked(message);
            }
        });
        Ok(Caller {
            client,
            connection,
            primary,
            given_up: AtomicBool::new(false),
        })
    }

    /// What an answer says of a write.
    pub fn fate<T>(&self, outcome: &Result<T, Failure>, stage: Stage) -> Fate {
        let Err(failure) = outcome else {
            return Fate::Acknowledged;
        };
        let in_doubt = match failure {
            Failure::Said(code) => match self.kind {
                // Whoever says so is believed, wherever it is said.
                Kind::Pgherd(_) if *code == SqlState::TRANSACTION_RESOLUTION_UNKNOWN => {
                    return Fate::Unknown;
                }
                Kind::Pgherd(_) => false,
                Kind::Pooler(_) | Kind::Direct(_) => code.code().starts_with("08"),
            },
            Failure::Cut | Failure::Hung | Failure::Left => true,
        };
        match stage {
            Stage::Commit if in_doubt => Fate::Unknown,
            Stage::Commit | Stage::Before => Fate::Failed,
        }
    }
}

/// A client that has come in.
#[derive(Debug)]
pub struct Caller {
    /// The client; what it is asked goes through [`Caller::ask`].
    pub client: Client,
    connection: JoinHandle<()>,
    /// Where it is and where the primary is, if it must look for that itself.
    primary: Option<(SocketAddr, watch::Receiver<SocketAddr>)>,
    given_up: AtomicBool,
}

impl Caller {
    /// Waits for an answer, with patience.
    ///
    /// # Errors
    /// What was heard instead, upon which the client may have become useless.
    pub async fn ask<T>(
        &self,
        asked: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Failure> {
        let answer = patient(asked, self.primary.clone()).await;
        if matches!(answer, Err(Failure::Hung | Failure::Left)) {
            self.given_up.store(true, Ordering::Relaxed);
        }
        answer
    }

    /// Whether it can be asked again.
    pub fn is_usable(&self) -> bool {
        let elsewhere = self.primary.as_ref();
        let elsewhere = elsewhere.is_some_and(|(here, primary)| *primary.borrow() != *here);
        !self.client.is_closed() && !self.given_up.load(Ordering::Relaxed) && !elsewhere
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// The first value of the first row of an answer.
pub(crate) fn first(messages: &[SimpleQueryMessage]) -> Option<&str> {
    messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    })
}

/// Waits for an answer, but not for ever, and not from a server that is no longer the primary.
async fn patient<T>(
    asked: impl Future<Output = Result<T, Error>>,
    primary: Option<(SocketAddr, watch::Receiver<SocketAddr>)>,
) -> Result<T, Failure> {
    let left = async {
        match primary {
            Some((here, mut primary)) => drop(primary.wait_for(|address| *address != here).await),
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        answer = timeout(PATIENCE, asked) => match answer {
            Ok(answer) => answer.map_err(|error| Failure::of(&error)),
            Err(_) => Err(Failure::Hung),
        },
        () = left => Err(Failure::Left),
    }
}

impl Failure {
    /// Reads the driver's error. A server that panics may say so behind the commit that it could not
    /// end, so that its code tells no more than the end of the connection would.
    pub fn of(error: &Error) -> Self {
        match error.as_db_error() {
            Some(report) if report.parsed_severity() != Some(Severity::Panic) => {
                Self::Said(report.code().clone())
            }
            Some(_) | None => Self::Cut,
        }
    }

    /// The SQLSTATE, or a word.
    pub fn code(&self) -> &str {
        match self {
            Self::Said(code) => code.code(),
            Self::Cut => "cut",
            Self::Hung => "hung",
            Self::Left => "left",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Door, Failure, Fate, Stage};
    use tokio_postgres::error::SqlState;

    fn fate(door: &Door, failure: Failure, stage: Stage) -> Fate {
        door.fate(&Err::<(), _>(failure), stage)
    }

    #[test]
    fn only_who_knows_is_believed() {
        let (pgherd, pooler) = (Door::pgherd(1), Door::pooler(1));
        let lost = Failure::Said(SqlState::CONNECTION_FAILURE);
        assert_eq!(fate(&pgherd, lost.clone(), Stage::Commit), Fate::Failed);
        assert_eq!(fate(&pooler, lost.clone(), Stage::Commit), Fate::Unknown);
        assert_eq!(fate(&pooler, lost, Stage::Before), Fate::Failed);
        let doubt = Failure::Said(SqlState::TRANSACTION_RESOLUTION_UNKNOWN);
        assert_eq!(fate(&pgherd, doubt.clone(), Stage::Before), Fate::Unknown);
        for silence in [Failure::Cut, Failure::Hung, Failure::Left] {
            assert_eq!(fate(&pgherd, silence.clone(), Stage::Commit), Fate::Unknown);
            assert_eq!(fate(&pgherd, silence, Stage::Before), Fate::Failed);
        }
    }
}
