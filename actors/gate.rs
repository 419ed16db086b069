//! How hard a host may be knocked at. It belongs to the host, so a restarted pool does not forget.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use pgherd_wire::startup::Version;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The door of one host.
#[derive(Debug)]
pub struct Gate {
    logins: ArcSwap<Semaphore>,
    state: Mutex<State>,
    /// The server does not negotiate the protocol's minor version.
    old: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    until: Option<Instant>,
}

impl Gate {
    /// A host at which so many logins may be under way at once.
    pub fn new(logins: usize) -> Self {
        Self {
            logins: ArcSwap::from_pointee(Semaphore::new(logins)),
            state: Mutex::default(),
            old: AtomicBool::new(false),
        }
    }

    /// Changes how many logins may be under way. Those that are under way or wait already do not
    /// count towards the new number.
    pub fn resize(&self, logins: usize) {
        self.logins.store(Arc::new(Semaphore::new(logins)));
    }

    /// Waits for a place among the logins under way.
    pub async fn enter(&self) -> Option<OwnedSemaphorePermit> {
        self.logins.load_full().acquire_owned().await.ok()
    }

    /// The protocol version to ask for: the newest, unless the server has refused it. A server that
    /// negotiates (all since PostgreSQL 11) answers with what it speaks.
    pub fn version(&self) -> Version {
        if self.old.load(Ordering::Relaxed) {
            Version::V3_0
        } else {
            Version::V3_2
        }
    }

    /// The server refused to negotiate the version.
    pub fn speaks_old(&self) {
        self.old.store(true, Ordering::Relaxed);
    }

    /// How long nobody should knock, after failures.
    pub fn pause(&self, now: Instant) -> Option<Duration> {
        self.state
            .lock()
            .until
            .and_then(|until| until.checked_duration_since(now))
    }

    /// A login failed: the pause doubles, with jitter so that pools do not knock in step.
    pub fn failed(&self, now: Instant) {
        let mut state = self.state.lock();
        // Failures of logins that were under way together count once.
        if state.until.is_some_and(|until| until > now) {
            return;
        }
        let pause = FIRST_PAUSE
            .saturating_mul(1 << state.failures.min(10))
            .min(LONGEST_PAUSE);
        state.failures += 1;
        state.until = Some(now + pause.mul_f64(0.75 + rand::random::<f64>() / 4.0));
    }

    /// A login succeeded.
    pub fn succeeded(&self) {
        *self.state.lock() = State::default();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};
    use std::time::{Duration, Instant};

    use super::Gate;

    #[test]
    fn pauses_grow_and_end_with_success() {
        let gate = Gate::new(1);
        let start = Instant::now();
        assert_eq!(gate.pause(start), None);
        gate.failed(start);
        let first = gate.pause(start).expect("pausing");
        gate.failed(start);
        assert_eq!(
            gate.pause(start),
            Some(first),
            "failures together count once"
        );
        let later = start + Duration::from_secs(1);
        gate.failed(later);
        assert!(gate.pause(later).expect("pausing") > first);
        gate.succeeded();
        assert_eq!(gate.pause(later), None);
    }

    /// What a future gives at its first look.
    fn now<T>(future: impl Future<Output = T>) -> Option<T> {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    #[tokio::test]
    async fn logins_are_limited_anew() {
        let gate = Gate::new(1);
        let _first = gate.enter().await.expect("a place");
        assert!(now(gate.enter()).is_none());
        gate.resize(2);
        let places = [now(gate.enter()), now(gate.enter())];
        assert!(places.iter().all(Option::is_some));
        assert!(now(gate.enter()).is_none());
    }
}
