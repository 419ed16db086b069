//! Tests of the whole judge.

mod agree;
mod alias;
mod aurora;
mod claims;
mod health;
mod model;
mod parts;
mod primaries;
mod reading;
mod suspicion;

use std::time::{Duration, Instant};

use crate::{
    Absence, Fault, HostName, Judge, Look, Lsn, Rules, ServerId, Standing, Storage, Verdict, Writer,
};

const SYSTEM: u64 = 7_106_835_957_012_965_359;

/// A judge with a clock that the test turns.
struct Court {
    judge: Judge,
    now: Instant,
}

fn name(host: &str) -> HostName {
    HostName::from(host)
}

fn look(standing: Standing, timeline: u32, lsn: u64) -> Look {
    Look {
        system: SYSTEM,
        timeline,
        standing,
        storage: Storage::Own,
        lsn: Lsn::new(lsn),
        lsn_age: Duration::ZERO,
        received: None,
        replay_age: None,
        read_only: false,
        latency: Duration::from_millis(1),
        server: None,
    }
}

fn primary(timeline: u32) -> Look {
    look(Standing::Primary, timeline, 1000)
}

fn replica(timeline: u32) -> Look {
    look(Standing::Replica, timeline, 1000)
}

impl Court {
    /// The members a, b and c, of whom nothing is known.
    fn new() -> Self {
        Self::with(Rules::default(), &["a", "b", "c"])
    }

    fn with(rules: Rules, names: &[&str]) -> Self {
        let mut court = Self {
            judge: Judge::new(rules),
            now: Instant::now(),
        };
        court.members(names);
        court
    }

    /// a is the primary on timeline 1, b and c follow it.
    fn seated() -> Self {
        let mut court = Self::new();
        court.all_well();
        court
    }

    fn all_well(&mut self) {
        self.saw("a", primary(1));
        self.saw("b", replica(1));
        self.saw("c", replica(1));
    }

    fn members(&mut self, names: &[&str]) {
        let names = names.iter().map(|host| name(host));
        self.judge.members(names, self.now);
    }

    fn saw(&mut self, host: &str, look: Look) {
        self.judge.saw(&name(host), Ok(look), self.now);
    }

    fn failed(&mut self, host: &str, fault: Fault) {
        self.judge.saw(&name(host), Err(fault), self.now);
    }

    /// As often as it takes to be ill, with the quick pace between.
    fn is_down(&mut self, host: &str) {
        for _ in 0..3 {
            self.failed(host, Fault::Unreachable);
            self.wait(50);
        }
    }

    fn wait(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
    }

    fn verdict(&mut self) -> Verdict {
        Verdict::clone(&self.judge.verdict(self.now))
    }

    fn writer(&mut self) -> Option<String> {
        self.verdict().writer().map(ToString::to_string)
    }

    fn absence(&mut self) -> Absence {
        match self.verdict().writer {
            Writer::Nobody(absence) => absence,
            Writer::At(host) => panic!("{host} is the writer"),
        }
    }

    /// Timeline and counter of the epoch.
    fn epoch(&mut self) -> (u32, u32) {
        let epoch = self.verdict().epoch;
        (epoch.timeline, epoch.counter)
    }

    fn pace(&self, host: &str) -> u128 {
        self.judge.pace(&name(host), self.now).as_millis()
    }
}
