//! The lock and the flag of the pool: plain in production, points of interleaving in tests.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::MutexGuard;

/// A mutex without poisoning. In tests that run under `shuttle` each `lock` is a point at which another task may run.
pub(crate) struct Mutex<T>(parking_lot::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(parking_lot::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        interleave::point();
        self.0.lock()
    }
}

/// A flag that tells whoever raised it first.
pub(crate) struct Flag(AtomicBool);

impl Flag {
    pub(crate) const fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// Raises the flag; true if it was down.
    pub(crate) fn raise(&self) -> bool {
        interleave::point();
        !self.0.swap(true, Ordering::AcqRel)
    }

    pub(crate) fn lower(&self) {
        interleave::point();
        // A swap rather than a store: it must see all that happened before the flag was raised.
        self.0.swap(false, Ordering::AcqRel);
    }
}

#[cfg(not(test))]
mod interleave {
    #[inline]
    pub(super) const fn point() {}
}

/// Shuttle runs all its tasks as coroutines on one thread, so a thread-local says whether one is running. No lock is
/// ever held across a point, so the real mutex is never contended there.
#[cfg(test)]
pub(crate) mod interleave {
    use std::cell::Cell;

    thread_local! {
        static ACTIVE: Cell<bool> = const { Cell::new(false) };
    }

    pub(super) fn point() {
        if ACTIVE.get() && !std::thread::panicking() {
            shuttle::thread::yield_now();
        }
    }

    /// Runs `body` under many random schedules.
    pub(crate) fn explore(iterations: usize, body: impl Fn() + Send + Sync + 'static) {
        ACTIVE.set(true);
        shuttle::check_random(body, iterations);
        ACTIVE.set(false);
    }
}
