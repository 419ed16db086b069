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
/// A place may become free at any moment, and nothing is wrong with who has none.
const LONGEST_WHEN_FULL: Duration = Duration::from_millis(500);

/// Why a login has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Failing {
    /// The host is well, and has no connection left.
    Full,
    /// For another reason.
    #[default]
    Otherwise,
}

impl Failing {
    fn longest_pause(self) -> Duration {
        match self {
            Self::Full => LONGEST_WHEN_FULL,
            Self::Otherwise => LONGEST_PAUSE,
        }
    }
}

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
    /// How many in a row, all for the same reason.
    failures: u32,
    why: Failing,
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

    /// Whether the host was full when somebody last knocked: one at a time is enough to find out when it no longer is.
    pub fn is_full(&self) -> bool {
        let state = self.state.lock();
        state.failures > 0 && state.why == Failing::Full
    }

    /// A login failed: the pause doubles, with jitter so that pools do not knock in step.
    pub fn failed(&self, why: Failing, now: Instant) {
        let mut state = self.state.lock();
        // Failures of logins that were under way together count once.
        if state.until.is_some_and(|until| until > now) {
            return;
        }
        if state.why != why {
            (state.why, state.failures) = (why, 0);
        }
        let pause = FIRST_PAUSE
            .saturating_mul(1 << state.failures.min(10))
            .min(why.longest_pause());
        state.failures = state.failures.saturating_add(1);
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

    use super::{FIRST_PAUSE, Failing, Gate, LONGEST_WHEN_FULL};

    #[test]
    fn pauses_grow_and_end_with_success() {
        let gate = Gate::new(1);
        let start = Instant::now();
        assert_eq!(gate.pause(start), None);
        let fails = |at| gate.failed(Failing::Otherwise, at);
        fails(start);
        let first = gate.pause(start).expect("pausing");
        fails(start);
        assert_eq!(
            gate.pause(start),
            Some(first),
            "failures together count once"
        );
        let later = start + Duration::from_secs(1);
        fails(later);
        assert!(gate.pause(later).expect("pausing") > first);
        gate.succeeded();
        assert_eq!(gate.pause(later), None);
    }

    /// Each failure comes as soon as the pause behind the last is over; answers the last pause.
    fn fails_in_a_row(gate: &Gate, why: Failing, now: &mut Instant) -> Duration {
        let mut last = Duration::ZERO;
        for _ in 0..20 {
            gate.failed(why, *now);
            last = gate.pause(*now).expect("pausing");
            *now += last;
        }
        last
    }

    #[test]
    fn a_host_that_is_full_is_not_left_alone_for_long() {
        let gate = Gate::new(1);
        let mut now = Instant::now();
        assert!(fails_in_a_row(&gate, Failing::Otherwise, &mut now) > Duration::from_secs(3));
        assert!(!gate.is_full());
        assert!(fails_in_a_row(&gate, Failing::Full, &mut now) <= LONGEST_WHEN_FULL);
        assert!(gate.is_full());
        // That it was full is no reason to wait longer for what comes then.
        gate.failed(Failing::Otherwise, now);
        assert!(gate.pause(now).expect("pausing") <= FIRST_PAUSE && !gate.is_full());
        gate.failed(Failing::Full, now + FIRST_PAUSE);
        gate.succeeded();
        assert!(!gate.is_full());
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
