//! What happened in a run, and a number that stands for all of it.

use std::collections::VecDeque;
use std::fmt::Display;
use std::hash::{DefaultHasher, Hasher};
use std::time::Duration;

/// The events of a run: the last of them, and the sum over all. Or nothing of them: to write down what happens takes
/// longer than what happens, and who wants to know of a run can have it again.
#[derive(Debug, Default)]
pub struct Trace {
    /// How many of them are kept for who has to find out what went wrong.
    kept: usize,
    tail: VecDeque<String>,
    sum: DefaultHasher,
    count: u64,
}

impl Trace {
    /// Keeps so many of the last events, at least one.
    pub fn kept(events: usize) -> Self {
        Self {
            kept: events.max(1),
            ..Self::default()
        }
    }

    /// Adds an event.
    pub fn note(&mut self, at: Duration, what: impl Display) {
        if self.kept == 0 {
            return;
        }
        let line = format!("{:10.3} {what}", at.as_secs_f64() * 1000.0);
        self.sum.write(line.as_bytes());
        self.count += 1;
        if self.tail.len() == self.kept {
            self.tail.pop_front();
        }
        self.tail.push_back(line);
    }

    /// Adds bytes to the sum that are too many to be shown.
    pub fn weigh(&mut self, bytes: &[u8]) {
        self.sum.write(bytes);
    }

    /// A number that two runs share only if all their events are the same.
    pub fn sum(&self) -> u64 {
        self.sum.finish()
    }

    /// How many events there were.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The last events.
    pub fn tail(&self) -> Vec<String> {
        self.tail.iter().cloned().collect()
    }
}
