//! Which hosts may be read from, and what has arrived there.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use pgherd_cluster::{
    Epoch, Health, HostName, HostState, Look, Lsn, Offer, Presence, Standing, Verdict, Withheld,
};

/// No more places of the primary are remembered; one a look.
const KEPT: usize = 64;

/// Up to when what was written is known to have arrived at each replica.
///
/// A place in the log that the primary tells is at or behind all that was committed before it was asked.
/// So a replica that has replayed up to there has all of that. No clock of a server is believed, but for
/// how old the place is that Aurora tells.
///
/// Of a replica only the last look counts: one that was restored, or has come back from a crash or with a delay, may
/// have less than it had.
#[derive(Debug, Default)]
pub struct Arrivals {
    epoch: Epoch,
    heads: VecDeque<(Instant, Lsn)>,
    hosts: HashMap<HostName, Instant>,
}

impl Arrivals {
    /// A host was seen, after it was asked at `asked`.
    pub(super) fn note(&mut self, verdict: &Verdict, host: &HostName, look: &Look, asked: Instant) {
        if self.epoch != verdict.epoch {
            // Places of another primary say nothing about this one's.
            *self = Self {
                epoch: verdict.epoch,
                ..Self::default()
            };
        }
        match look.standing {
            Standing::Primary if verdict.writer() == Some(host) => {
                if self.heads.len() == KEPT {
                    self.thin(asked);
                }
                let told = asked.checked_sub(look.lsn_age).unwrap_or(asked);
                self.heads.push_back((told, look.lsn));
            }
            Standing::Primary => {}
            Standing::Replica if look.timeline < verdict.timeline => {
                // What it follows may be another history.
                self.hosts.remove(host);
            }
            Standing::Replica => {
                let arrived = self.heads.iter().filter(|(_, lsn)| *lsn <= look.lsn);
                match arrived.map(|(moment, _)| *moment).max() {
                    Some(moment) => self.hosts.insert(host.clone(), moment),
                    None => self.hosts.remove(host),
                };
            }
        }
    }

    /// Forgets a place that is missed least, of the older half: one whose neighbours are near each other for its age. So of
    /// a replica that is far behind it is still known that it has what was written long before.
    fn thin(&mut self, now: Instant) {
        let moment = |at: usize| self.heads.get(at).map_or(now, |(moment, _)| *moment);
        let missed = |at: &usize| {
            let gap = moment(at + 1).saturating_duration_since(moment(at - 1));
            let age = now.saturating_duration_since(moment(*at));
            gap.as_nanos().saturating_mul(1_000) / age.as_nanos().max(1)
        };
        let least = (1..KEPT / 2).min_by_key(missed);
        self.heads.remove(least.unwrap_or_default());
    }

    /// A look at a host has failed: who answers the next one may be another server.
    pub(super) fn forget(&mut self, host: &HostName) {
        self.hosts.remove(host);
    }

    /// Whether all that was written until `moment` is known to be there.
    pub(super) fn has_arrived(&self, host: &HostName, moment: Instant) -> bool {
        self.hosts
            .get(host)
            .is_some_and(|arrived| *arrived >= moment)
    }
}

/// How far whoever reads from a host should keep away from it. One that is merely behind is not chosen any
/// more, but who reads there may finish.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Parting {
    /// Not at all.
    #[default]
    Stay,
    /// Who waits for a connection there goes elsewhere. Who has one may finish: the host is ill, but there, and may
    /// only have too much to do. To cut off what it does has it done once more by the next host, which has too much
    /// to do then.
    Avoid,
    /// Who has a connection there leaves as well: nothing is to be expected from the host, or it is the wrong one.
    Leave,
}

/// How far from this one.
pub fn parting(state: &HostState) -> Parting {
    let barred = matches!(
        state.offer,
        Offer::Withheld(Withheld::Fenced | Withheld::Expired)
    );
    match (state.health, state.presence) {
        _ if barred => Parting::Leave,
        (Health::Ill, Presence::Silent | Presence::Gone) => Parting::Leave,
        (Health::Ill, Presence::There) => Parting::Avoid,
        (Health::Unseen | Health::Well, _) => Parting::Stay,
    }
}

/// Whether a host may be chosen to be read from: what `SHOW HOSTS` says.
pub fn is_offered(state: &HostState) -> bool {
    !matches!(state.offer, Offer::Withheld(_))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use pgherd_cluster::{Fault, HostName, Judge, Look, Lsn, Offer, Rules, Standing, Storage};

    use super::{Arrivals, Parting, parting};

    fn look(standing: Standing, timeline: u32, lsn: u64) -> Look {
        Look {
            system: 1,
            timeline,
            standing,
            storage: Storage::Own,
            lsn: Lsn::new(lsn),
            lsn_age: Duration::ZERO,
            received: None,
            replay_age: None,
            read_only: false,
            latency: Duration::ZERO,
            server: None,
        }
    }

    #[test]
    fn a_write_has_arrived_once_a_later_place_was_replayed() {
        let (a, b) = (HostName::from("a"), HostName::from("b"));
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut judge = Judge::new(Rules::default());
        judge.members([a.clone(), b.clone()], start);
        let mut arrivals = Arrivals::default();
        let mut saw = |host: &HostName, look: Look, asked: Instant| {
            judge.saw(host, Ok(look.clone()), asked);
            let verdict = judge.verdict(asked);
            arrivals.note(&verdict, host, &look, asked);
            arrivals.hosts.get(&b).copied()
        };
        saw(&b, look(Standing::Replica, 1, 50), at(0));
        saw(&a, look(Standing::Primary, 1, 100), at(10));
        // It has not replayed yet what the primary had at 10.
        assert_eq!(saw(&b, look(Standing::Replica, 1, 99), at(20)), None);
        assert_eq!(
            saw(&b, look(Standing::Replica, 1, 100), at(30)),
            Some(at(10))
        );
        saw(&a, look(Standing::Primary, 1, 200), at(40));
        assert_eq!(
            saw(&b, look(Standing::Replica, 1, 150), at(50)),
            Some(at(10))
        );
        assert_eq!(
            saw(&b, look(Standing::Replica, 1, 300), at(60)),
            Some(at(40))
        );
        // It was replaced by a copy of long ago, and then is back where it was.
        assert_eq!(saw(&b, look(Standing::Replica, 1, 99), at(62)), None);
        assert_eq!(
            saw(&b, look(Standing::Replica, 1, 100), at(64)),
            Some(at(10))
        );
        // The other one is promoted: what was known is about another history.
        saw(&b, look(Standing::Primary, 2, 300), at(70));
        assert_eq!(saw(&a, look(Standing::Replica, 1, 900), at(80)), None);
        assert!(!arrivals.has_arrived(&a, at(0)));
    }

    #[test]
    fn a_replica_that_is_far_behind_has_what_was_written_long_before() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut arrivals = Arrivals::default();
        for second in 0..10_000 {
            if arrivals.heads.len() == super::KEPT {
                arrivals.thin(at(second));
            }
            let head = (at(second), Lsn::new(1_000 + second));
            arrivals.heads.push_back(head);
        }
        assert_eq!(arrivals.heads.len(), super::KEPT);
        for (behind, sure) in [(1, 1), (20, 20), (100, 120), (1_000, 1_200), (5_000, 6_000)] {
            let there = Lsn::new(10_999 - behind);
            let heads = arrivals.heads.iter().filter(|(_, lsn)| *lsn <= there);
            let arrived = heads.map(|(moment, _)| *moment).max().unwrap_or(start);
            assert!(arrived >= at(9_999 - sure), "{behind}");
            assert!(arrived <= at(9_999 - behind), "{behind}");
        }
    }

    #[test]
    fn what_had_arrived_at_a_host_that_fails_is_not_believed_of_the_next() {
        let (a, b) = (HostName::from("a"), HostName::from("b"));
        let now = Instant::now();
        let mut judge = Judge::new(Rules::default());
        judge.members([a.clone(), b.clone()], now);
        let mut arrivals = Arrivals::default();
        let replica = (&b, Standing::Replica);
        for (host, standing) in [replica, (&a, Standing::Primary), replica] {
            let look = look(standing, 1, 100);
            judge.saw(host, Ok(look.clone()), now);
            arrivals.note(&judge.verdict(now), host, &look, now);
        }
        assert!(arrivals.has_arrived(&b, now));
        arrivals.forget(&b);
        assert!(!arrivals.has_arrived(&b, now));
    }

    /// Whether another one is well, so that this one is offered no more, makes no difference to who reads there already.
    #[test]
    fn who_answers_somebody_is_avoided_and_who_is_silent_or_gone_is_left() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let (a, b, c) = (
            HostName::from("a"),
            HostName::from("b"),
            HostName::from("c"),
        );
        for alone in [true, false] {
            let rules = Rules {
                ill_after: 2,
                expiry: Duration::from_secs(3),
                ..Rules::default()
            };
            let mut judge = Judge::new(rules);
            judge.members([a.clone(), b.clone(), c.clone()], start);
            let replica = || Ok(look(Standing::Replica, 1, 1));
            judge.saw(&a, Ok(look(Standing::Primary, 1, 1)), start);
            judge.saw(&b, replica(), start);
            let other = if alone {
                Err(Fault::Unreachable)
            } else {
                replica()
            };
            judge.saw(&c, other, start);
            let far = |judge: &mut Judge, ms: u64| {
                let verdict = judge.verdict(at(ms));
                let state = verdict.host(&b).expect("a member");
                (parting(state), state.offer == Offer::LastResort)
            };
            let failed = |judge: &mut Judge, ms| judge.saw(&b, Err(Fault::TimedOut), at(ms));
            failed(&mut judge, 500);
            assert_eq!(far(&mut judge, 500), (Parting::Stay, false));
            // Sessions have answers of it, and so it does something.
            judge.lives(&b, at(600), at(900));
            failed(&mut judge, 1000);
            assert_eq!(far(&mut judge, 1000), (Parting::Avoid, alone));
            // It answers late, and then nobody any more.
            judge.saw(&b, replica(), at(1200));
            failed(&mut judge, 1700);
            judge.lives(&b, at(1750), at(1800));
            failed(&mut judge, 2200);
            assert_eq!(far(&mut judge, 4750), (Parting::Avoid, alone));
            assert_eq!(far(&mut judge, 4751), (Parting::Leave, alone));
            // Whom nobody hears is silent at once.
            judge.saw(&b, replica(), at(4800));
            failed(&mut judge, 5300);
            assert_eq!(far(&mut judge, 5300), (Parting::Avoid, alone));
            failed(&mut judge, 5800);
            assert_eq!(far(&mut judge, 5800), (Parting::Leave, alone));
            judge.saw(&b, replica(), at(5900));
            assert_eq!(far(&mut judge, 5900), (Parting::Avoid, alone));
            judge.saw(&b, Err(Fault::Unreachable), at(6000));
            judge.saw(&b, Err(Fault::Unreachable), at(6100));
            assert_eq!(far(&mut judge, 6100), (Parting::Leave, alone));
        }
    }
}
