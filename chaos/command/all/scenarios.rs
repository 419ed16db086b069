//! Which scenarios there are.

use std::time::Duration;

use clap::ValueEnum;

/// What a scenario asks of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Part {
    /// It measures how long clients wait, so that nobody else should use the machine.
    Pauses,
    /// It only shows whether all is right.
    Rest,
}

/// Which build of this program runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Built {
    /// The one that measures.
    ToMeasure,
    /// The one with debug assertions, which find more, and without which no bugs can be planted.
    ToCheck,
}

/// A scenario: what it is called, and how it is run for long and in short.
pub(super) struct Scenario {
    pub(super) name: &'static str,
    pub(super) long: &'static str,
    pub(super) short: &'static str,
    pub(super) part: Part,
    pub(super) built: Built,
    /// How many minutes the long form takes on two quiet cores, at most.
    minutes: u32,
}

/// How many times as long as it should a scenario may take before it is stopped.
const PATIENCE: u32 = 3;

impl Scenario {
    /// When it is stopped.
    pub(super) fn limit(&self) -> Duration {
        Duration::from_secs(60) * self.minutes * PATIENCE
    }
}

const fn pauses(
    minutes: u32,
    name: &'static str,
    long: &'static str,
    short: &'static str,
) -> Scenario {
    Scenario {
        name,
        long,
        short,
        part: Part::Pauses,
        built: Built::ToMeasure,
        minutes,
    }
}

const fn rest(
    minutes: u32,
    name: &'static str,
    long: &'static str,
    short: &'static str,
    built: Built,
) -> Scenario {
    Scenario {
        name,
        long,
        short,
        part: Part::Rest,
        built,
        minutes,
    }
}

/// All of them; those that want a quiet machine come first, and of those that do not, the long ones.
pub(super) const SCENARIOS: [Scenario; 19] = [
    pauses(
        9,
        "synchronous",
        "failover --failovers 88",
        "failover --failovers 3",
    ),
    pauses(
        10,
        "synchronous, commits resolved",
        "failover --failovers 100 --resolve",
        "failover --failovers 3 --resolve",
    ),
    pauses(
        2,
        "synchronous, reading from replicas",
        "failover --failovers 12 --reads",
        "failover --failovers 1 --reads",
    ),
    pauses(
        1,
        "asynchronous",
        "failover --failovers 4 --async",
        "failover --failovers 2 --async",
    ),
    pauses(
        1,
        "asynchronous, commits resolved",
        "failover --failovers 8 --async --resolve",
        "failover --failovers 2 --async --resolve",
    ),
    pauses(
        2,
        "control: PgBouncer, told of each primary",
        "failover --failovers 4 --control",
        "failover --failovers 1 --control",
    ),
    pauses(
        2,
        "control: PgBouncer, HAProxy finds it out",
        "failover --failovers 4 --control=haproxy",
        "failover --failovers 1 --control=haproxy",
    ),
    pauses(
        7,
        "Patroni, synchronous",
        "patroni --rounds 14",
        "patroni --faults switchover,postgres",
    ),
    pauses(
        7,
        "Patroni, commits resolved",
        "patroni --resolve --rounds 14",
        "patroni --resolve --faults postgres",
    ),
    pauses(
        3,
        "control: PgBouncer behind HAProxy",
        "patroni --control --faults switchover,postgres,node,freeze",
        "patroni --control --faults switchover",
    ),
    pauses(
        2,
        "frozen replicas",
        "replicas --rounds 15",
        "replicas --rounds 3",
    ),
    pauses(
        5,
        "shards, two proxies",
        "shards --rounds 42",
        "shards --rounds 6",
    ),
    rest(
        3,
        "full disks",
        "failover --faults full,room --failovers 16",
        "failover --faults full,room --failovers 2",
        Built::ToMeasure,
    ),
    rest(
        8,
        "planted bugs",
        "selfcheck",
        "selfcheck --bug retry-write,forget-undo,skip-fence",
        Built::ToCheck,
    ),
    rest(
        6,
        "commits over shards",
        "commits",
        "commits --every 23",
        Built::ToMeasure,
    ),
    rest(
        4,
        "cuts",
        "cuts --lanes 16",
        "cuts --every 40",
        Built::ToMeasure,
    ),
    rest(
        3,
        "simulation: whole proxies",
        "simulate --actors --seeds 60",
        "simulate --actors --seeds 10 --steps 8",
        Built::ToCheck,
    ),
    rest(
        2,
        "simulation: machines",
        "simulate --machines --seeds 2000",
        "simulate --machines --seeds 100",
        Built::ToCheck,
    ),
    rest(
        2,
        "canaries",
        "canary --seconds 10",
        "canary --seconds 2",
        Built::ToMeasure,
    ),
];

#[cfg(test)]
mod tests {
    use super::SCENARIOS;

    /// The number behind a word in the long forms of some scenarios.
    fn sum(command: &str, word: &str, without: &[&str]) -> usize {
        let lines = SCENARIOS.iter().map(|scenario| scenario.long);
        let chosen = lines.filter(|line| line.starts_with(command));
        let chosen = chosen.filter(|line| without.iter().all(|other| !line.contains(other)));
        let numbers = chosen.filter_map(|line| {
            let mut words = line.split(' ').skip_while(|it| *it != word);
            words.nth(1)?.parse::<usize>().ok()
        });
        numbers.sum()
    }

    #[test]
    fn the_long_form_has_as_many_failovers_as_is_promised() {
        let synchronous = sum("failover", "--failovers", &["--async", "--control"]);
        assert!(synchronous >= 200, "{synchronous}");
        let patroni = sum("patroni", "--rounds", &["--control"]);
        assert!(patroni >= 20, "{patroni}");
    }
}
