//! Each client knows what its session must be, and looks again and again whether it is so: settings,
//! roles, temporary tables and advisory locks, through transactions, savepoints and failures.

mod deed;
mod model;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::time::Instant;

use crate::checks::Check;
use crate::checks::identity::Identity;
use crate::hostile::answer::{Answer, End};
use crate::hostile::client::Client;
use crate::hostile::packet;
use crate::workloads::canary::crowd;
use deed::Deed;
use model::{Model, Name};

/// What must be in the database, where the clients are the superuser `postgres`.
pub const ROLE: &str = "create role canary_role; grant canary_role to postgres;";

/// How long an answer may take; clients that are bound to servers keep others waiting.
const PATIENCE: Duration = Duration::from_secs(60);

/// Everything that a session is, in one value.
const LOOK: &str = "select concat_ws('|', current_setting('work_mem'), \
    current_setting('search_path'), current_setting('application_name'), \
    current_setting('intervalstyle'), coalesce(current_setting('app.canary', true), ''), \
    current_user, coalesce(to_regclass('mine')::text, ''), \
    (select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()))";

/// Where clients leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// Outside of transaction blocks.
    Outside,
    /// Wherever they are.
    Anywhere,
}

/// The clients, and for how long they live.
#[derive(Clone, Copy, Debug)]
pub struct State {
    /// How many clients.
    pub clients: usize,
    /// How long.
    pub time: Duration,
    /// What decides about everything that is left to chance, but for the timing.
    pub seed: u64,
    /// Where the clients leave.
    pub leave: Leave,
}

impl State {
    /// Runs all clients to their end and tells what they saw.
    pub async fn run(self, address: SocketAddr) -> Arc<Identity> {
        let end = Instant::now() + self.time;
        crowd(self.clients, |number, identity| {
            let rng = StdRng::seed_from_u64(self.seed.wrapping_add(number as u64));
            live(number, rng, self.leave, address, identity, end)
        })
        .await
    }
}

async fn live(
    number: usize,
    mut rng: StdRng,
    leave: Leave,
    address: SocketAddr,
    identity: Arc<Identity>,
    end: Instant,
) {
    while Instant::now() < end {
        let startup = startup(number, &mut rng);
        let mut client = match login(address, &startup).await {
            Ok(client) => client,
            Err(answer) => {
                return identity.catch(
                    Check::Errors,
                    format!("{number} was not let in: {answer:?}"),
                );
            }
        };
        client.set_patience(PATIENCE);
        let mut guest = Guest {
            number,
            client,
            model: Model::new(startup),
            done: Vec::new(),
        };
        // Some sessions begin again after DISCARD ALL, and the last of them goes in any state.
        for _ in 0..rng.random_range(1..4) {
            if guest.spell(&mut rng, &identity).await.is_none() {
                return;
            }
        }
        if leave == Leave::Outside && guest.settle(&mut rng, &identity).await.is_none() {
            return;
        }
        if rng.random() {
            let _ = guest.client.send(&packet::terminate()).await;
        }
    }
}

/// Some clients have settings from the first, and RESET leads back to those.
fn startup(number: usize, rng: &mut StdRng) -> BTreeMap<Name, String> {
    let given = [Name::WorkMem, Name::SearchPath, Name::Application];
    let mut startup = BTreeMap::new();
    for name in given {
        if rng.random_ratio(1, 4) {
            startup.insert(name, Deed::value(name, number, rng));
        }
    }
    startup
}

async fn login(address: SocketAddr, startup: &BTreeMap<Name, String>) -> Result<Client, Answer> {
    let mut parameters = vec![("user", "postgres"), ("database", "postgres")];
    parameters.extend(startup.iter().map(|(name, value)| (name.text(), &**value)));
    let connected = Client::connect(address).await;
    let mut client = connected.map_err(|_| Answer::nothing())?;
    let answer = client.authenticate("", &parameters).await;
    match answer.end {
        End::Ready(_) => Ok(client),
        _ => Err(answer),
    }
}

/// A client, and what it believes.
struct Guest {
    number: usize,
    client: Client,
    model: Model,
    /// What it has done, for who has to find out what went wrong.
    done: Vec<String>,
}

impl Guest {
    /// Some deeds; `None` if the session cannot go on.
    async fn spell(&mut self, rng: &mut StdRng, identity: &Identity) -> Option<()> {
        if !self.model.is_fresh() {
            self.settle(rng, identity).await?;
            self.perform(Deed::DiscardAll, rng, identity).await?;
        }
        self.look(identity).await?;
        for _ in 0..rng.random_range(1..12) {
            let deed = Deed::any(self.number, &self.model, rng);
            self.perform(deed, rng, identity).await?;
            self.look(identity).await?;
        }
        Some(())
    }

    /// Ends the transaction block.
    async fn settle(&mut self, rng: &mut StdRng, identity: &Identity) -> Option<()> {
        if self.model.in_block() {
            self.perform(Deed::Rollback, rng, identity).await?;
        }
        Some(())
    }

    async fn perform(&mut self, deed: Deed, rng: &mut StdRng, identity: &Identity) -> Option<()> {
        let text = deed.text();
        self.done.push(text.clone());
        let answer = if rng.random() || !deed.is_single() {
            self.client.query(&text).await
        } else {
            let messages = [
                packet::parse("", &text),
                packet::bind(""),
                packet::execute(),
                packet::sync(),
            ];
            // A connection that is already closed shows when it is read.
            let _ = self.client.send(&messages.concat()).await;
            self.client.hear().await
        };
        self.model.apply(&deed);
        let expected = deed.code();
        if answer.code().as_deref() == expected && self.is_where(&answer) {
            return Some(());
        }
        self.fault(identity, &format!("{text}: {answer:?}"));
        None
    }

    /// Whether the transaction stands where the client believes.
    fn is_where(&self, answer: &Answer) -> bool {
        answer.end == End::Ready(self.model.status())
    }

    /// Compares the session with what the client believes.
    async fn look(&mut self, identity: &Identity) -> Option<()> {
        let answer = self.client.query(LOOK).await;
        if self.model.is_failed() {
            if answer.code().as_deref() == Some("25P02") {
                return Some(());
            }
            self.fault(identity, &format!("no failed block: {answer:?}"));
            return None;
        }
        let expected = self.model.look();
        if answer.value().as_deref() != Some(&*expected) {
            let seen = answer.value().unwrap_or_else(|| format!("{answer:?}"));
            self.fault(identity, &format!("saw {seen} for {expected}"));
            return None;
        }
        identity.answer("", &expected, Some(&expected));
        if let Some(words) = self.model.readable() {
            let text = "select coalesce(string_agg(word, ',' order by word), '') from mine";
            let seen = self.client.query(text).await.value();
            if seen.as_ref() != Some(&words) {
                self.fault(identity, &format!("read {seen:?} for {words}"));
                return None;
            }
        }
        Some(())
    }

    fn fault(&self, identity: &Identity, what: &str) {
        let number = self.number;
        identity.catch(
            Check::Session,
            format!("who{number} {what} after {:?}", self.done),
        );
    }
}
