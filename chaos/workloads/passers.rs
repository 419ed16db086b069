//! Clients that come, read much and slowly, and go, with or without a word.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::time::sleep;
use tokio_postgres::types::Type;

use crate::checks::errors::Doing;
use crate::checks::identity::Identity;
use crate::door::{Caller, Door, Failure};
use crate::workloads::crew::Crew;
use crate::workloads::life::Life;

/// The name in the table of errors.
pub const KIND: &str = "passer";

/// How many rows each reads: together more than sockets hold.
const ROWS: usize = 250;

/// How many bytes there are in each. In the middle of a row of more than 8 kB pgherd's clients may be
/// cut off with their server.
const WIDTH: usize = 8_000;

/// How often somebody who reads stops to think.
const EVERY: usize = 20;

/// Starts clients that come and go until their life ends.
pub(crate) fn start(life: &Arc<Life>, door: &Door, clients: usize, seed: u64) -> Crew {
    Crew::start(clients, |number, identity| {
        let passer = Passer {
            name: format!("{KIND}{number}"),
            door: door.clone(),
            life: Arc::clone(life),
            identity,
        };
        let rng = StdRng::seed_from_u64(seed.wrapping_add(number as u64));
        passer.live(rng)
    })
}

/// One client.
struct Passer {
    name: String,
    door: Door,
    life: Arc<Life>,
    identity: Arc<Identity>,
}

impl Passer {
    async fn live(self, mut rng: StdRng) {
        let (life, mut turn) = (&self.life, 0_u64);
        while let Some(caller) = life.caller(None, &self.door, KIND, &self.name).await {
            turn += 1;
            let token = format!("{}-{turn}", self.name);
            // Who leaves early leaves its server in the middle of an answer.
            let stay = match rng.random() {
                true => ROWS,
                false => rng.random_range(0..ROWS),
            };
            if let Err(failure) = self.read(&caller, &token, stay).await {
                life.failed(KIND, &self.name, Doing::Read, &failure);
            }
            life.rest().await;
        }
    }

    /// Reads so many rows, each of which has the token in it.
    async fn read(&self, caller: &Caller, token: &str, rows: usize) -> Result<(), Failure> {
        let text = format!(
            "select $1 || ' ' || i, repeat('x', {WIDTH}) from generate_series(1, {ROWS}) i"
        );
        let asked = caller.client.query_typed_raw(&text, [(token, Type::TEXT)]);
        let mut stream = pin!(caller.ask(asked).await?);
        for number in 1..=rows {
            let Some(row) = caller.ask(stream.try_next()).await? else {
                self.identity
                    .fault(format!("{} misses row {number}", self.name));
                break;
            };
            let expected = format!("{token} {number}");
            self.identity.answer(&self.name, &expected, row.get(0));
            if number.is_multiple_of(EVERY) {
                sleep(Duration::from_millis(10)).await;
            }
        }
        Ok(())
    }
}
