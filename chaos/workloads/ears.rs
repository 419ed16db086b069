//! Clients that listen, each to a channel of its own on which it counts. A number may be lost with the server that was to
//! tell it; but none comes twice, out of turn or to anybody else, and whoever listens does so to its end.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;
use tokio_postgres::Notification;

use crate::checks::Check;
use crate::checks::errors::Doing;
use crate::checks::identity::Identity;
use crate::door::{Caller, Door, Failure};
use crate::workloads::crew::Crew;
use crate::workloads::life::Life;

/// The name in the table of errors.
pub const KIND: &str = "ears";

/// How often each listener is told something at the end, until it hears it.
const AGAIN: usize = 20;

/// How long it listens each time.
const SOON: Duration = Duration::from_secs(1);

/// Starts clients that listen until their life ends.
pub(crate) fn start(life: &Arc<Life>, door: &Door, clients: usize) -> Crew {
    Crew::start(clients, |number, identity| {
        let ear = Ear {
            name: format!("{KIND}{number}"),
            door: door.clone(),
            life: Arc::clone(life),
            identity,
            count: 0,
            heard: 0,
        };
        ear.live()
    })
}

/// One client.
struct Ear {
    name: String,
    door: Door,
    life: Arc<Life>,
    identity: Arc<Identity>,
    /// How far it has counted.
    count: u64,
    /// The last number that it has heard.
    heard: u64,
}

impl Ear {
    /// A connection belongs to the client for life: it listens once, and who is behind it sees to it that it goes on.
    async fn live(mut self) {
        let Some((caller, mut news)) = self.arrive().await else {
            return;
        };
        while self.life.goes_on() && caller.is_usable() {
            self.tell(&caller).await;
            while let Ok(notification) = news.try_recv() {
                self.hear(&notification);
            }
            self.life.rest().await;
        }
        for _ in 0..AGAIN {
            let told = self.tell(&caller).await;
            if told && self.hears_of(&mut news).await {
                return;
            }
        }
        let what = format!(
            "{} was told {} numbers and hears none",
            self.name, self.count
        );
        self.identity.catch(Check::Listen, what);
    }

    async fn arrive(&self) -> Option<(Caller, UnboundedReceiver<Notification>)> {
        while self.life.goes_on() {
            let come = async {
                let (caller, news) = self.door.open_to_listen(&self.name).await?;
                let listen = format!("listen {}", self.name);
                caller.ask(caller.client.batch_execute(&listen)).await?;
                Ok::<_, Failure>((caller, news))
            };
            match come.await {
                Ok(come) => return Some(come),
                Err(failure) => {
                    self.life.failed(KIND, &self.name, Doing::Setting, &failure);
                    self.life.rest().await;
                }
            }
        }
        None
    }

    /// Tells itself the next number.
    async fn tell(&mut self, caller: &Caller) -> bool {
        self.count += 1;
        let text = format!("notify {0}, '{0} {1}'", self.name, self.count);
        let told = caller.ask(caller.client.batch_execute(&text)).await;
        if let Err(failure) = &told {
            self.life.failed(KIND, &self.name, Doing::Write, failure);
        }
        told.is_ok()
    }

    /// Whether it hears the last number that it was told.
    async fn hears_of(&mut self, news: &mut UnboundedReceiver<Notification>) -> bool {
        let hears = async {
            while self.heard < self.count {
                match news.recv().await {
                    Some(notification) => self.hear(&notification),
                    None => return,
                }
            }
        };
        let _ = timeout(SOON, hears).await;
        self.heard == self.count
    }

    fn hear(&mut self, notification: &Notification) {
        let said = notification.payload();
        let number = said
            .strip_prefix(&self.name)
            .and_then(|number| number.trim_start().parse().ok());
        match number {
            Some(number) if number > self.heard && number <= self.count => {
                self.heard = number;
                self.identity.answer(&self.name, said, Some(said));
            }
            _ => {
                let what = format!(
                    "{} heard {said:?} on {} behind {} of {}",
                    self.name,
                    notification.channel(),
                    self.heard,
                    self.count
                );
                self.identity.catch(Check::Listen, what);
            }
        }
    }
}
