//! Which hosts may be read from, and what has arrived there.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use pgherd_cluster::{
    Epoch, Health, HostName, HostState, Look, Lsn, Offer, Standing, Verdict, Withheld,
};

/// So many places of the primary are remembered; one a look.
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
                    self.heads.pop_front();
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

/// Whether whoever reads from this host should leave it. One that is merely behind is not chosen any
/// more, but who reads there may finish.
pub fn is_lost(state: &HostState) -> bool {
    let barred = matches!(
        state.offer,
        Offer::Withheld(Withheld::Fenced | Withheld::Expired)
    );
    barred || state.health == Health::Ill
}

/// Whether a host may be chosen to be read from: what `SHOW HOSTS` says.
pub fn is_offered(state: &HostState) -> bool {
    !matches!(state.offer, Offer::Withheld(_))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use pgherd_cluster::{HostName, Judge, Look, Lsn, Rules, Standing, Storage};

    use super::Arrivals;

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
}
