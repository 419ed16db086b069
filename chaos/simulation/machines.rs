//! The judges and pools of several proxies before one cluster that tells the truth, over long and bad times.
//!
//! A [`Truth`] knows who may be written to. Proxies look at its hosts over links that lose, delay and double; what
//! they find is judged by the real [`Judge`](pgherd_cluster::Judge), and the real [`PoolCore`](pgherd_pool::PoolCore) is
//! fenced, held and released by it as the router does. After every event it is checked that no proxy believes what
//! the truth denies, and from time to time all is healed, after which nobody may go on waiting.

mod proxy;
mod truth;
mod world;

use std::fmt;
use std::time::Duration;

use self::world::World;
use super::{Broken, TAIL, Trace};

/// What a run has seen, so that a run in which nothing happens does not pass for a good one.
#[derive(Debug, Default, Clone, Copy)]
pub struct Seen {
    /// Hosts that were promoted.
    pub promotions: u64,
    /// Epochs that proxies began.
    pub epochs: u64,
    /// Connections that were lent.
    pub leases: u64,
    /// Sessions that had to wait, and were served.
    pub waited: u64,
    /// Connections that a fence or a loss of the primary took away.
    pub fenced: u64,
    /// Times at which a proxy saw two hosts writable on one timeline.
    pub splits: u64,
    /// How much time has passed.
    pub time: Duration,
    /// Events of all kinds.
    pub events: u64,
}

impl Seen {
    /// Adds what another run has seen.
    pub fn add(&mut self, other: &Self) {
        self.promotions += other.promotions;
        self.epochs += other.epochs;
        self.leases += other.leases;
        self.waited += other.waited;
        self.fenced += other.fenced;
        self.splits += other.splits;
        self.time += other.time;
        self.events += other.events;
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} hours, {} events, {} promotions, {} epochs, {} leases ({} waited), {} fenced, {} splits",
            self.time.as_secs() / 3600,
            self.events,
            self.promotions,
            self.epochs,
            self.leases,
            self.waited,
            self.fenced,
            self.splits
        )
    }
}

/// Runs a seed through so many faults.
///
/// # Errors
/// What was broken.
pub fn run(seed: u64, faults: usize) -> Result<Seen, Broken> {
    if let Ok(seen) = World::new(seed).run(faults, &mut Trace::default()) {
        return Ok(seen);
    }
    tell(seed, faults, TAIL).map(|(seen, _)| seen)
}

/// Runs a seed, and writes down what happens, the last of it for who asks why. Gives the sum over it, too.
///
/// # Errors
/// What was broken.
pub fn tell(seed: u64, faults: usize, tail: usize) -> Result<(Seen, u64), Broken> {
    let mut trace = Trace::kept(tail);
    match World::new(seed).run(faults, &mut trace) {
        Ok(seen) => Ok((seen, trace.sum())),
        Err(why) => Err(Broken {
            why,
            tail: trace.tail(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_keep_to_the_truth() {
        let mut all = Seen::default();
        for seed in 0..30 {
            match run(seed, 24) {
                Ok(seen) => all.add(&seen),
                Err(broken) => panic!(
                    "cargo chaos simulate --machines --seed {seed}\n{}\n{}",
                    broken.tail.join("\n"),
                    broken.why
                ),
            }
        }
        // A simulation in which nothing happens shows nothing.
        assert!(all.promotions > 100 && all.epochs > 200, "{all:?}");
        assert!(all.leases > 10_000 && all.waited > 1_000, "{all:?}");
        assert!(all.fenced > 100 && all.splits > 10, "{all:?}");
    }

    #[test]
    fn a_seed_is_one_run() {
        let sum = |seed| tell(seed, 12, 1).expect("it holds").1;
        let (once, again) = (sum(7), sum(7));
        assert_eq!(once, again);
        assert_ne!(once, sum(8));
    }
}
