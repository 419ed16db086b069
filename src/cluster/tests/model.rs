//! The judge before random histories: what must always hold.

use std::collections::HashMap;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof, proptest};

use super::*;
use crate::{Claim, Epoch, Fence, Offer, Source};

#[derive(Debug, Clone)]
enum Step {
    Look {
        host: usize,
        standing: Standing,
        timeline: u32,
        foreign: bool,
        read_only: bool,
    },
    Fail {
        host: usize,
        fault: Fault,
    },
    Suspect(usize),
    Claim {
        leader: Option<usize>,
        timeline: Option<u32>,
    },
    Members(u8),
    Wait(u64),
}

const HOSTS: [&str; 4] = ["a", "b", "c", "d"];

fn step() -> impl Strategy<Value = Step> {
    let host = 0..HOSTS.len();
    let standing = prop_oneof![Just(Standing::Primary), Just(Standing::Replica)];
    let look = (host.clone(), standing, 1..5_u32, any::<u8>(), any::<u8>());
    let fault = prop_oneof![
        Just(Fault::Unreachable),
        Just(Fault::Lost),
        Just(Fault::TimedOut),
        Just(Fault::Starting),
        Just(Fault::Stopping),
        Just(Fault::Full),
        Just(Fault::Refused),
        Just(Fault::Broken("text".into())),
    ];
    prop_oneof![
        12 => look.prop_map(|(host, standing, timeline, foreign, read_only)| Step::Look {
            host,
            standing,
            timeline,
            foreign: foreign < 20,
            read_only: read_only < 30,
        }),
        6 => (host.clone(), fault).prop_map(|(host, fault)| Step::Fail { host, fault }),
        1 => host.clone().prop_map(Step::Suspect),
        2 => (proptest::option::of(host), proptest::option::of(1..6_u32))
            .prop_map(|(leader, timeline)| Step::Claim { leader, timeline }),
        1 => (1..16_u8).prop_map(Step::Members),
        6 => (1..3000_u64).prop_map(Step::Wait),
    ]
}

/// What the test remembers beside the judge, by other means than the judge.
struct World {
    court: Court,
    present: u8,
    /// The last answer of each member, with what has come since.
    last: HashMap<usize, (Look, Instant)>,
    hard_since: HashMap<usize, u32>,
    /// The highest timeline on which a primary of our system was seen.
    reached: u32,
    epoch: Epoch,
    reigns: HashMap<Epoch, HostName>,
}

impl World {
    fn new() -> Self {
        Self {
            court: Court::with(Rules::default(), &HOSTS),
            present: 15,
            last: HashMap::new(),
            hard_since: HashMap::new(),
            reached: 0,
            epoch: Epoch::default(),
            reigns: HashMap::new(),
        }
    }

    fn is_present(&self, host: usize) -> bool {
        self.present & (1 << host) != 0
    }

    fn members(&mut self, set: u8) {
        let names: Vec<&str> = (0..HOSTS.len())
            .filter(|host| set & (1 << host) != 0)
            .map(|host| HOSTS[host])
            .collect();
        self.court.members(&names);
        self.present = set;
        self.last.retain(|host, _| set & (1 << host) != 0);
        self.hard_since.retain(|host, _| set & (1 << host) != 0);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Look {
                host,
                standing,
                timeline,
                foreign,
                read_only,
            } => {
                let look = Look {
                    system: if foreign { 5 } else { SYSTEM },
                    read_only,
                    ..look(standing, timeline, 1000)
                };
                self.court.saw(HOSTS[host], look.clone());
                if self.is_present(host) {
                    self.last.insert(host, (look, self.court.now));
                    self.hard_since.remove(&host);
                }
            }
            Step::Fail { host, fault } => {
                let weight = match fault {
                    Fault::Starting => 3,
                    Fault::Unreachable | Fault::Lost | Fault::Stopping => 1,
                    _ => 0,
                };
                let lives = matches!(fault, Fault::Full | Fault::Refused);
                self.court.failed(HOSTS[host], fault);
                if self.is_present(host) {
                    let hard = self.hard_since.entry(host).or_default();
                    // Three make it gone, and only an answer brings it back.
                    *hard = if lives && *hard < 3 {
                        0
                    } else {
                        *hard + weight
                    };
                }
            }
            Step::Suspect(host) => {
                let before = self.court.verdict();
                self.court.judge.suspect(&name(HOSTS[host]), self.court.now);
                assert_eq!(before, self.court.verdict(), "a hint is no evidence");
            }
            Step::Claim { leader, timeline } => {
                let claim = Claim {
                    leader: leader.map(|host| name(HOSTS[host])),
                    timeline,
                    source: Source::Patroni,
                };
                let before = self.court.verdict();
                self.court.judge.told(claim, self.court.now);
                let after = self.court.verdict();
                let heir = matches!(before.writer, Writer::Nobody(Absence::Two { .. }));
                if after.writer().is_some() && before.writer() != after.writer() && !heir {
                    // A claim may end what an older one has held back; it makes nobody a primary.
                    let host = after.host(after.writer().unwrap()).unwrap();
                    assert_eq!(host.standing, Some(Standing::Primary));
                }
            }
            Step::Members(set) => self.members(set),
            Step::Wait(millis) => self.court.wait(millis),
        }
        self.check();
    }

    fn check(&mut self) {
        let verdict = self.court.verdict();
        // The epoch only rises, and to each belongs one host.
        assert!(verdict.epoch >= self.epoch);
        assert!(verdict.epoch.as_u64() >= self.epoch.as_u64());
        self.epoch = verdict.epoch;
        if let Some(system) = verdict.system {
            let ours = self
                .last
                .values()
                .filter(|(look, _)| look.system == system && look.standing == Standing::Primary);
            self.reached = ours
                .map(|(look, _)| look.timeline)
                .fold(self.reached, u32::max);
        }
        assert!(verdict.timeline >= self.reached);
        for host in &verdict.hosts {
            if host.fence.is_some() {
                assert!(matches!(host.offer, Offer::Withheld(_)), "{host:?}");
                assert_ne!(verdict.writer(), Some(&host.name));
            }
        }
        let Some(writer) = verdict.writer() else {
            return;
        };
        let before = self.reigns.insert(verdict.epoch, writer.clone());
        assert!(
            before.is_none_or(|host| host == *writer),
            "one epoch, one host"
        );
        let host = HOSTS
            .iter()
            .position(|host| *host == writer.as_str())
            .unwrap();
        assert!(self.is_present(host));
        let (look, at) = &self.last[&host];
        assert_eq!(look.standing, Standing::Primary);
        assert!(!look.read_only);
        assert_eq!(Some(look.system), verdict.system);
        assert!(look.timeline >= self.reached, "never a lower timeline");
        assert!(
            self.hard_since.get(&host).is_none_or(|hard| *hard < 3),
            "it is gone"
        );
        let silent = self.court.now.duration_since(*at);
        let fault = verdict.host(writer).unwrap().fault.clone();
        let sent_away = fault.is_some();
        assert!(
            silent <= Duration::from_secs(5) || sent_away,
            "its word has expired"
        );
        // Whoever else is writable on that timeline has at least failed its last look.
        for (other, (look, at)) in &self.last {
            let same = look.system == SYSTEM && look.timeline == self.last[&host].0.timeline;
            let recent = self.court.now.duration_since(*at) <= Duration::from_secs(5);
            if *other != host
                && same
                && look.standing == Standing::Primary
                && !look.read_only
                && recent
            {
                let state = verdict.host(&name(HOSTS[*other])).unwrap();
                let ours = Some(look.system) == verdict.system;
                assert!(!ours || state.fault.is_some(), "two are writable");
                assert!(
                    !ours
                        || state.fence == Some(Fence::Contested)
                        || self.hard_since.get(other) >= Some(&3)
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]
    #[test]
    fn whatever_happens(steps in vec(step(), 1..80)) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
    }

    #[test]
    fn who_is_looked_at_is_never_asked_in_a_tight_loop(steps in vec(step(), 1..40)) {
        let mut world = World::new();
        for step in steps {
            let looked = match &step {
                Step::Look { host, .. } | Step::Fail { host, .. } => Some(*host),
                _ => None,
            };
            world.step(step);
            if let Some(host) = looked.filter(|host| world.is_present(*host)) {
                assert!(world.court.pace(HOSTS[host]) >= 50);
            }
        }
    }
}
