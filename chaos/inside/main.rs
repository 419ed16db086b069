//! Chaos within: a proxy in this process, whose actors are killed and made to panic while clients work.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its helpers"
)]

mod beyond_repair;
mod budget;
mod connecting;
mod costly;
mod finders;
mod harmless;
mod herald;
mod house;
mod load;
mod meanwhile;
mod monitors;
mod patroni;
mod readers;
mod stuck;
mod whole;

use std::time::Duration;

use tokio::sync::Mutex;

/// How long anything may take that is to happen by itself.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whoever counts messages, descriptors or tasks of this process has to be alone in it.
static ALONE: Mutex<()> = Mutex::const_new(());

/// How an actor is made to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blow {
    /// It is killed from outside, in the middle of whatever it does.
    Kill,
    /// The handler of one of its messages panics.
    Panic,
}

impl Blow {
    /// What its supervisor gives as the reason of its end.
    fn reason(self) -> &'static str {
        match self {
            Self::Kill => "killed",
            Self::Panic => "a test wanted this",
        }
    }
}
