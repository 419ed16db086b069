//! How hard a host may be knocked at. It belongs to the host, so a restarted pool does not forget.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use pgherd_wire::startup::Version;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::control::rise;

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
    /// Those of them that only prove who a client is.
    proofs: ArcSwap<Semaphore>,
    cancels: AtomicUsize,
    waiting: AtomicUsize,
    backoff: Backoff,
    /// The server does not negotiate the protocol's minor version.
    old: AtomicBool,
}

/// Pauses between logins that fail, each longer than the one before.
#[derive(Debug, Default)]
pub struct Backoff(Mutex<State>);

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
            proofs: ArcSwap::from_pointee(Semaphore::new(logins.div_ceil(2))),
            cancels: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            backoff: Backoff::default(),
            old: AtomicBool::new(false),
        }
    }

    /// Changes how many logins may be under way. Those that are under way or wait already do not
    /// count towards the new number.
    pub fn resize(&self, logins: usize) {
        self.logins.store(Arc::new(Semaphore::new(logins)));
        self.proofs
            .store(Arc::new(Semaphore::new(logins.div_ceil(2))));
    }

    /// Waits for a place among the logins under way.
    pub async fn enter(&self) -> Option<OwnedSemaphorePermit> {
        let _waits = Waits::begin(&self.waiting);
        self.logins.load_full().acquire_owned().await.ok()
    }

    /// As [`Gate::enter`], for a login that only proves who a client is. Anybody may ask for one, so that no more of them
    /// stand at the door at once than half of those whom it lets in: pools wait behind no more than that.
    pub async fn enter_to_prove(&self) -> Option<[OwnedSemaphorePermit; 2]> {
        let waits = Waits::begin(&self.waiting);
        let proof = self.proofs.load_full().acquire_owned().await.ok()?;
        drop(waits);
        Some([proof, self.enter().await?])
    }

    /// How many logins wait for a place.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Counts a cancel request on its way there until the guard is dropped; `None` if there are so many already.
    pub fn cancelling(self: &Arc<Self>, max: usize) -> Option<Cancelling> {
        rise(&self.cancels, max).then(|| Cancelling(Arc::clone(self)))
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
        self.backoff.pause(now)
    }

    /// Whether the host was full when somebody last knocked: one at a time is enough to find out when it no longer is.
    pub fn is_full(&self) -> bool {
        let state = self.backoff.0.lock();
        state.failures > 0 && state.why == Failing::Full
    }

    /// A login failed, for a reason that others would meet as well.
    pub fn failed(&self, why: Failing, now: Instant) {
        self.backoff.failed(why, now);
    }

    /// A login succeeded.
    pub fn succeeded(&self) {
        self.backoff.succeeded();
    }
}

/// A login that waits for a place, until it has one or is given up.
#[derive(Debug)]
struct Waits<'a>(&'a AtomicUsize);

impl<'a> Waits<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A cancel request on its way to a host.
#[derive(Debug)]
pub struct Cancelling(Arc<Gate>);

impl Drop for Cancelling {
    fn drop(&mut self) {
        self.0.cancels.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Backoff {
    /// How long nobody should knock, after failures.
    pub fn pause(&self, now: Instant) -> Option<Duration> {
        self.0
            .lock()
            .until
            .and_then(|until| until.checked_duration_since(now))
    }

    /// A login failed: the pause doubles, with jitter so that pools do not knock in step.
    pub fn failed(&self, why: Failing, now: Instant) {
        let mut state = self.0.lock();
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
        *self.0.lock() = State::default();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::Arc;
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

    #[tokio::test]
    async fn who_waits_is_counted_until_it_has_a_place_or_gives_up() {
        let gate = Gate::new(1);
        let first = gate.enter().await.expect("a place");
        assert_eq!(gate.waiting(), 0);
        let mut cx = Context::from_waker(Waker::noop());
        let (mut pool, mut proof) = (Box::pin(gate.enter()), Box::pin(gate.enter_to_prove()));
        assert!(pool.as_mut().poll(&mut cx).is_pending());
        assert!(proof.as_mut().poll(&mut cx).is_pending());
        assert_eq!(gate.waiting(), 2);
        drop(proof);
        assert_eq!(gate.waiting(), 1);
        drop(first);
        assert!(pool.as_mut().poll(&mut cx).is_ready());
        assert_eq!(gate.waiting(), 0);
    }

    #[tokio::test]
    async fn proofs_leave_pools_their_share() {
        let gate = Gate::new(4);
        let _proofs = [now(gate.enter_to_prove()), now(gate.enter_to_prove())]
            .map(|place| place.flatten().expect("a place"));
        assert!(now(gate.enter_to_prove()).is_none());
        let _logins =
            [now(gate.enter()), now(gate.enter())].map(|place| place.flatten().expect("a place"));
        assert!(now(gate.enter()).is_none());
    }

    #[test]
    fn cancels_are_counted_while_they_are_under_way() {
        let gate = Arc::new(Gate::new(1));
        let first = gate.cancelling(1);
        assert!(first.is_some() && gate.cancelling(1).is_none());
        drop(first);
        assert!(gate.cancelling(1).is_some());
    }
}
