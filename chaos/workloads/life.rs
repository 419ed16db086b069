//! What all clients of a run share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::sleep;

use crate::checks::errors::{Doing, Errors};
use crate::checks::unbegun::Unbegun;
use crate::door::{Caller, Door, Failure};
use crate::history::History;

/// How soon who was not let in tries again.
const AGAIN: Duration = Duration::from_millis(20);

/// Says how long clients go on, and collects what they tell of it.
#[derive(Debug)]
pub struct Life {
    ended: AtomicBool,
    operations: AtomicU64,
    pause: Duration,
    /// The errors that they were told.
    pub errors: Errors,
    /// When they had sent what stood for itself and failed.
    pub unbegun: Unbegun,
    /// What they did, line by line.
    pub history: History,
}

impl Life {
    /// Clients that rest for so long between two operations.
    pub fn new(pause: Duration, history: History) -> Self {
        Self {
            ended: AtomicBool::new(false),
            operations: AtomicU64::new(0),
            pause,
            errors: Errors::default(),
            unbegun: Unbegun::default(),
            history,
        }
    }

    /// Lets all clients finish what they have begun, and no more.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    /// Whether clients go on.
    pub fn goes_on(&self) -> bool {
        !self.ended.load(Ordering::Relaxed)
    }

    /// How many operations have ended, well or not.
    pub fn operations(&self) -> u64 {
        self.operations.load(Ordering::Relaxed)
    }

    /// Rests before the next operation.
    pub async fn rest(&self) {
        self.operations.fetch_add(1, Ordering::Relaxed);
        if !self.pause.is_zero() {
            sleep(self.pause).await;
        }
    }

    /// Gives the caller if it can be asked again, else one that has come in anew; `None` at the end.
    pub async fn caller(
        &self,
        present: Option<Caller>,
        door: &Door,
        kind: &'static str,
        name: &str,
    ) -> Option<Caller> {
        let mut present = present;
        while self.goes_on() {
            match present.take() {
                Some(caller) if caller.is_usable() => return Some(caller),
                _ => {}
            }
            match door.open(name).await {
                Ok(caller) => present = Some(caller),
                Err(failure) => {
                    self.failed(kind, name, Doing::Login, &failure);
                    sleep(AGAIN).await;
                }
            }
        }
        None
    }

    /// Enters an error.
    pub fn failed(&self, kind: &'static str, name: &str, doing: Doing, failure: &Failure) {
        self.errors.add(kind, doing, failure);
        self.history
            .note(name, format_args!("{doing}: {}", failure.code()));
    }
}
