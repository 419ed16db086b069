//! Each question carries who asked, and so must each answer: in rows, errors, notices and COPY,
//! while clients cancel, break off and vanish.

mod acts;
pub mod cancels;
mod guest;
pub mod listen;
pub mod prepared;
pub mod state;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::time::{Instant, timeout};
use tokio_postgres::Config;

use crate::checks::Check;
use crate::checks::identity::{Cancels, Identity};
use guest::Guest;

/// The table that the clients copy into; it must exist in their database.
pub const TABLE: &str =
    "create unlogged table canary (token text); create index on canary (token);";

/// How long one act may take before it counts as hung.
const PATIENCE: Duration = Duration::from_secs(30);

/// The clients, and for how long they ask.
#[derive(Clone, Copy, Debug)]
pub struct Canary {
    /// How many clients. Every third cancels now and then, every fifth vanishes now and then.
    pub clients: usize,
    /// How long.
    pub time: Duration,
    /// What decides about everything that is left to chance, but for the timing.
    pub seed: u64,
}

impl Canary {
    /// Runs all clients to their end and tells what they saw.
    pub async fn run(self, proxy: &Config) -> Arc<Identity> {
        let end = Instant::now() + self.time;
        crowd(self.clients, |number, identity| {
            live(number, self.seed, proxy.clone(), identity, end)
        })
        .await
    }
}

/// Lets so many clients live at once, each by its number, and gives what they saw.
async fn crowd<F>(clients: usize, live: impl Fn(usize, Arc<Identity>) -> F) -> Arc<Identity>
where
    F: Future<Output = ()> + Send + 'static,
{
    let identity = Arc::new(Identity::default());
    let clients: Vec<_> = (0..clients)
        .map(|number| tokio::spawn(live(number, Arc::clone(&identity))))
        .collect();
    for client in clients {
        if let Err(error) = client.await {
            identity.fault(format!("a client broke down: {error}"));
        }
    }
    identity
}

async fn live(number: usize, seed: u64, proxy: Config, identity: Arc<Identity>, end: Instant) {
    let mut rng = StdRng::seed_from_u64(seed.wrapping_add(number as u64));
    let cancels = if number.is_multiple_of(3) {
        Cancels::Sometimes
    } else {
        Cancels::Never
    };
    let vanishes = number.is_multiple_of(5);
    let mut guest = match Guest::arrive(number, 0, cancels, &proxy).await {
        Ok(guest) => guest,
        Err(error) => {
            return identity.catch(
                Check::Errors,
                format!("client {number} was not let in: {error}"),
            );
        }
    };
    while Instant::now() < end {
        let leaves = vanishes && rng.random_ratio(1, 20);
        if leaves {
            guest.vanish(&mut rng).await;
        }
        if leaves || guest.astray {
            guest = match Guest::arrive(number, guest.turn, cancels, &proxy).await {
                Ok(guest) => guest,
                Err(error) => return identity.failure(&guest.name, cancels, &error),
            };
        }
        let hasty = cancels == Cancels::Sometimes && rng.random_ratio(1, 4);
        let pause = Duration::from_micros(rng.random_range(500..20_000));
        let cancel = hasty.then(|| guest.cancel_every(pause));
        let who = guest.name.clone();
        match timeout(PATIENCE, acts::any(&mut guest, &mut rng, &identity)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                identity.failure(&who, cancels, &error);
                // What is not an answer of the server has cost us the connection.
                if error.as_db_error().is_none() {
                    return;
                }
            }
            Err(_) => return identity.catch(Check::Stuck, format!("{who} got no answer")),
        }
        if let Some(cancel) = cancel {
            cancel.abort();
        }
        guest.hear(&identity);
    }
}
