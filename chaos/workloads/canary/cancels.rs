//! Clients that cancel about when their statements end anyway, among others that cancel nothing: a cancel that comes
//! too late for the one must not hit the other.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::time::{Instant, sleep};
use tokio_postgres::{Client, Config, Error, NoTls};

use crate::checks::Check;
use crate::checks::identity::{Cancels, Identity, is_cancel};
use crate::workloads::canary::crowd;

/// The clients, and for how long they live.
#[derive(Clone, Copy, Debug)]
pub struct Hasty {
    /// How many clients. Every second one cancels.
    pub clients: usize,
    /// How long.
    pub time: Duration,
    /// What decides about everything that is left to chance, but for the timing.
    pub seed: u64,
}

impl Hasty {
    /// Runs all clients to their end and tells what they saw.
    pub async fn run(self, proxy: &Config) -> Arc<Identity> {
        let end = Instant::now() + self.time;
        crowd(self.clients, |number, identity| {
            let rng = StdRng::seed_from_u64(self.seed.wrapping_add(number as u64));
            live(number, rng, proxy.clone(), identity, end)
        })
        .await
    }
}

async fn live(
    number: usize,
    mut rng: StdRng,
    proxy: Config,
    identity: Arc<Identity>,
    end: Instant,
) {
    let who = format!("hasty{number}");
    let (client, connection) = match proxy.connect(NoTls).await {
        Ok(connected) => connected,
        Err(error) => return identity.catch(Check::Errors, format!("{who}: {error}")),
    };
    let connection = tokio::spawn(connection);
    let cancels = if number.is_multiple_of(2) {
        Cancels::Sometimes
    } else {
        Cancels::Never
    };
    while Instant::now() < end {
        let time = rng.random_range(500..4000);
        let outcome = match cancels {
            Cancels::Never => ask(&client, time).await,
            Cancels::Sometimes => {
                let late = Duration::from_micros(rng.random_range(0..time * 2));
                cancelled(&client, ask(&client, time), late).await
            }
        };
        match outcome {
            Ok(()) => identity.answer(&who, &who, Some(&who)),
            Err(error) => {
                identity.failure(&who, cancels, &error);
                if !is_cancel(&error) {
                    break;
                }
            }
        }
    }
    connection.abort();
}

/// Asks what takes so many microseconds.
async fn ask(client: &Client, time: u64) -> Result<(), Error> {
    let text = format!("select pg_sleep({time} / 1000000.0)");
    client.simple_query(&text).await.map(drop)
}

/// Asks, with a cancel that is sent after a while.
pub(crate) async fn cancelled<T>(
    client: &Client,
    asked: impl Future<Output = T>,
    late: Duration,
) -> T {
    let token = client.cancel_token();
    let cancel = async {
        sleep(late).await;
        // One that is refused has hit nobody.
        let _ = token.cancel_query(NoTls).await;
    };
    join(asked, cancel).await.0
}
