//! Many seeds at once, on all cores.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use parking_lot::Mutex;

use super::Broken;

/// Runs each seed, and adds up what they have seen; no seed is begun once one has failed. Gives the lowest that has.
///
/// # Errors
/// The seed that has failed, and how.
pub fn all<S: Send>(
    seeds: Range<u64>,
    run: impl Fn(u64) -> Result<S, Broken> + Sync,
    mut add: impl FnMut(u64, S) + Send,
) -> Result<(), (u64, Broken)> {
    let (next, failed) = (AtomicU64::new(seeds.start), AtomicBool::new(false));
    let (worst, adding) = (Mutex::new(None::<(u64, Broken)>), Mutex::new(&mut add));
    let work = || {
        while !failed.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            match run(seed) {
                Ok(seen) => adding.lock()(seed, seen),
                Err(broken) => {
                    failed.store(true, Ordering::Relaxed);
                    let mut worst = worst.lock();
                    if worst.as_ref().is_none_or(|(known, _)| seed < *known) {
                        *worst = Some((seed, broken));
                    }
                }
            }
        }
    };
    thread::scope(|scope| {
        let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
        for _ in 0..cores {
            scope.spawn(work);
        }
    });
    worst.into_inner().map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::Check;

    #[test]
    fn all_are_run_and_a_failure_is_told() {
        let mut sum = 0;
        let run = |seed| Ok::<_, Broken>(seed);
        all(1..5, run, |_, seen| sum += seen).expect("all hold");
        assert_eq!(sum, 10);
        let fails = |seed| match seed {
            3.. => Err(Broken {
                why: Check::Lost.caught("it broke"),
                tail: Vec::new(),
            }),
            _ => Ok(()),
        };
        let (seed, broken) = all(0..100, fails, |_, ()| {}).expect_err("one fails");
        assert!(seed >= 3 && broken.why.what == "it broke");
    }
}
