//! Clients that cancel about when their statements end anyway, among others that cancel nothing, while servers come and
//! go: a cancel that comes too late for the one must not hit the other, on whatever server that is by then.

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio_postgres::error::SqlState;

use crate::checks::errors::Doing;
use crate::checks::identity::{Cancels, Identity};
use crate::door::{Caller, Door, Failure, first};
use crate::workloads::canary::cancels::cancelled;
use crate::workloads::crew::Crew;
use crate::workloads::life::Life;

/// The name in the table of errors.
pub const KIND: &str = "hasty";

/// Starts clients that ask until their life ends. Every second one cancels.
pub(crate) fn start(life: &Arc<Life>, door: &Door, clients: usize, seed: u64) -> Crew {
    Crew::start(clients, |number, identity| {
        let client = Client {
            name: format!("{KIND}{number}"),
            cancels: if number.is_multiple_of(2) {
                Cancels::Sometimes
            } else {
                Cancels::Never
            },
            door: door.clone(),
            life: Arc::clone(life),
            identity,
        };
        let rng = StdRng::seed_from_u64(seed.wrapping_add(number as u64));
        client.live(rng)
    })
}

/// One client.
struct Client {
    name: String,
    cancels: Cancels,
    door: Door,
    life: Arc<Life>,
    identity: Arc<Identity>,
}

impl Client {
    async fn live(self, mut rng: StdRng) {
        let (mut present, mut turn) = (None, 0_u64);
        while let Some(caller) = self
            .life
            .caller(present, &self.door, KIND, &self.name)
            .await
        {
            turn += 1;
            let token = format!("{}-{turn}", self.name);
            match self.ask(&caller, &token, &mut rng).await {
                Ok(said) => self.identity.answer(&self.name, &token, said.as_deref()),
                Err(Failure::Said(SqlState::QUERY_CANCELED)) => {
                    self.identity.cancel(&self.name, self.cancels);
                }
                // Who sleeps is not known to do nothing but read, and told what writes are told.
                Err(failure) => self.life.failed(KIND, &self.name, Doing::Write, &failure),
            }
            self.life.rest().await;
            present = Some(caller);
        }
    }

    /// Asks for the token, which takes some milliseconds, and may want no answer any more at about that time.
    async fn ask(
        &self,
        caller: &Caller,
        token: &str,
        rng: &mut StdRng,
    ) -> Result<Option<String>, Failure> {
        let time = rng.random_range(500..4000);
        let text = format!("select '{token}' from pg_sleep({time} / 1000000.0)");
        let asked = caller.ask(caller.client.simple_query(&text));
        let messages = match self.cancels {
            Cancels::Never => asked.await,
            Cancels::Sometimes => {
                let late = Duration::from_micros(rng.random_range(0..time * 2));
                cancelled(&caller.client, asked, late).await
            }
        };
        Ok(first(&messages?).map(str::to_owned))
    }
}
