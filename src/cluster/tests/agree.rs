//! Judges that see the same come to the same verdict.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, any, proptest};

use super::*;
use crate::{Claim, Source};

/// What one host showed, as (kind, timeline), each with its time; the order within a host is that of its monitor.
fn seen(kind: u8, timeline: u32) -> Result<Look, Fault> {
    match kind {
        0..=4 => Ok(primary(timeline)),
        5..=8 => Ok(replica(timeline)),
        9 => Ok(Look {
            read_only: true,
            ..primary(timeline)
        }),
        10 => Err(Fault::Unreachable),
        11 => Err(Fault::TimedOut),
        12 => Err(Fault::Starting),
        13 => Err(Fault::Full),
        _ => Err(Fault::Stopping),
    }
}

struct Evidence {
    host: usize,
    seen: Result<Look, Fault>,
    at: Duration,
}

const HOSTS: [&str; 3] = ["a", "b", "c"];

/// Delivers all evidence, of each host in its order, between hosts in the order that the numbers say.
fn judge(evidence: &[Evidence], order: &[usize], start: Instant) -> Judge {
    let mut judge = Judge::new(Rules::default());
    judge.members(HOSTS.map(name), start);
    let mut queues: Vec<Vec<&Evidence>> = (0..HOSTS.len())
        .map(|host| evidence.iter().rev().filter(|e| e.host == host).collect())
        .collect();
    for turn in order.iter().cycle() {
        queues.retain(|queue| !queue.is_empty());
        if queues.is_empty() {
            break;
        }
        let next = turn % queues.len();
        if let Some(e) = queues[next].pop() {
            judge.saw(&name(HOSTS[e.host]), e.seen.clone(), start + e.at);
        }
    }
    judge
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn two_judges_with_the_same_evidence_agree(
        events in vec((0..3_usize, 0..15_u8, 1..4_u32, 1..2000_u64), 1..40),
        orders in vec(vec(any::<usize>(), 1..40), 2),
        claimed in proptest::option::of((0..3_usize, 1..4_u32)),
    ) {
        let start = Instant::now();
        let mut at = Duration::ZERO;
        let evidence: Vec<Evidence> = events
            .into_iter()
            .map(|(host, kind, timeline, gap)| {
                at += Duration::from_millis(gap);
                Evidence { host, seen: seen(kind, timeline), at }
            })
            .collect();
        let end = start + at;
        let mut judges: Vec<Judge> = orders.iter().map(|order| judge(&evidence, order, start)).collect();
        let mut verdicts = judges.iter_mut().map(|judge| {
            if let Some((leader, timeline)) = claimed {
                let claim = Claim { leader: Some(name(HOSTS[leader])), timeline: Some(timeline), source: Source::Patroni };
                judge.told(claim, end);
            }
            judge.verdict(end)
        });
        let (one, two) = (verdicts.next().unwrap(), verdicts.next().unwrap());
        assert_eq!(one.writer(), two.writer());
        assert_eq!(one.timeline, two.timeline);
        for (one, two) in one.hosts.iter().zip(&two.hosts) {
            assert_eq!((one.health, one.fence, one.standing), (two.health, two.fence, two.standing));
        }
    }
}
