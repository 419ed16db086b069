//! An actor for tests that does as it is told and writes down what happens to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::Notify;

use crate::{ChildSpec, Heartbeat, Slot, linked};

/// What happened, in order, over all probes that share it.
#[derive(Clone, Default)]
pub(crate) struct Journal {
    inner: Arc<(Mutex<Vec<String>>, Notify)>,
}

impl Journal {
    pub(crate) fn note(&self, entry: impl Into<String>) {
        self.inner.0.lock().push(entry.into());
        self.inner.1.notify_waiters();
    }

    pub(crate) fn count(&self, entry: &str) -> usize {
        self.inner
            .0
            .lock()
            .iter()
            .filter(|noted| *noted == entry)
            .count()
    }

    /// All that was noted since the last call.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.inner.0.lock())
    }

    /// Waits until the entry was noted so often.
    pub(crate) async fn until(&self, entry: &str, times: usize) {
        let wait = async {
            loop {
                let noted = self.inner.1.notified();
                if self.count(entry) >= times {
                    return;
                }
                noted.await;
            }
        };
        let limit = Duration::from_secs(100_000);
        tokio::time::timeout(limit, wait)
            .await
            .unwrap_or_else(|_| panic!("no {times} x {entry}"));
    }
}

#[derive(Debug)]
pub(crate) enum Order {
    Note(&'static str),
    Panic,
    Fail,
    /// Stay in the handler for so long.
    Dwell(Duration),
    Beat,
}

/// A child of a test, with what it needs in each of its lives.
#[derive(Clone)]
pub(crate) struct Probe {
    pub(crate) name: &'static str,
    pub(crate) journal: Journal,
    pub(crate) slot: Slot<Order>,
    /// So many starts fail in `pre_start`.
    pub(crate) bad_starts: Arc<AtomicU32>,
    /// So many starts fail in `post_start`.
    pub(crate) bad_births: Arc<AtomicU32>,
    /// How long `post_stop` takes.
    pub(crate) linger: Duration,
    pub(crate) heartbeat: Option<Heartbeat>,
}

impl Probe {
    pub(crate) fn new(name: &'static str, journal: &Journal) -> Self {
        Self {
            name,
            journal: journal.clone(),
            slot: Slot::new(),
            bad_starts: Arc::default(),
            bad_births: Arc::default(),
            linger: Duration::ZERO,
            heartbeat: None,
        }
    }

    pub(crate) fn spec(&self) -> ChildSpec {
        let probe = self.clone();
        ChildSpec::permanent(self.name, move |supervisor| {
            linked(supervisor, probe.clone(), ())
        })
    }

    pub(crate) fn order(&self, order: Order) {
        assert!(self.slot.cast(order), "{} is not there", self.name);
    }

    pub(crate) fn actor(&self) -> ActorRef<Order> {
        self.slot.get().unwrap()
    }

    fn note(&self, what: &str) {
        self.journal.note(format!("{} {what}", self.name));
    }
}

/// Notes when the state of a probe is dropped.
pub(crate) struct Remains(Probe);

impl Drop for Remains {
    fn drop(&mut self) {
        self.0.note("dropped");
    }
}

fn spend(counter: &AtomicU32) -> bool {
    counter
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
        .is_ok()
}

impl Actor for Probe {
    type Msg = Order;
    type State = Remains;
    type Arguments = ();

    async fn pre_start(
        &self,
        myself: ActorRef<Order>,
        (): (),
    ) -> Result<Remains, ActorProcessingErr> {
        if spend(&self.bad_starts) {
            self.note("not up");
            return Err("a bad start".into());
        }
        self.slot.fill(myself.clone());
        self.note("up");
        if let Some(heartbeat) = &self.heartbeat {
            heartbeat.beat(&myself, || Order::Beat);
        }
        Ok(Remains(self.clone()))
    }

    async fn post_start(
        &self,
        _myself: ActorRef<Order>,
        _state: &mut Remains,
    ) -> Result<(), ActorProcessingErr> {
        if spend(&self.bad_births) {
            Err("a bad birth".into())
        } else {
            Ok(())
        }
    }

    async fn handle(
        &self,
        myself: ActorRef<Order>,
        order: Order,
        _state: &mut Remains,
    ) -> Result<(), ActorProcessingErr> {
        match order {
            Order::Note(words) => self.note(words),
            Order::Panic => panic!("told to panic"),
            Order::Fail => return Err("told to fail".into()),
            Order::Dwell(time) => {
                self.note("dwells");
                tokio::time::sleep(time).await;
                self.note("dwelt");
            }
            Order::Beat => {
                if let Some(heartbeat) = &self.heartbeat {
                    heartbeat.beat(&myself, || Order::Beat);
                }
            }
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<Order>,
        _state: &mut Remains,
    ) -> Result<(), ActorProcessingErr> {
        tokio::time::sleep(self.linger).await;
        self.note("down");
        Ok(())
    }
}
