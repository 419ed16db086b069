//! What sources say.

use super::*;
use crate::{Alarm, Claim, Source};

fn claim(leader: Option<&str>, timeline: Option<u32>) -> Claim {
    Claim {
        leader: leader.map(name),
        timeline,
        source: Source::Patroni,
    }
}

impl Court {
    fn told(&mut self, leader: Option<&str>, timeline: Option<u32>) {
        self.judge.told(claim(leader, timeline), self.now);
    }
}

#[test]
fn a_claim_makes_nobody_the_writer() {
    let mut court = Court::seated();
    court.saw("a", replica(1));
    court.told(Some("b"), Some(2));
    assert_eq!(court.absence(), Absence::Demoted { last: name("a") });
    court.saw("b", primary(2));
    assert_eq!(court.writer().as_deref(), Some("b"));
}

#[test]
fn a_claim_does_not_bring_back_the_dead() {
    let mut court = Court::seated();
    court.is_down("a");
    court.told(Some("a"), Some(1));
    assert_eq!(court.absence(), Absence::Gone { last: name("a") });
}

#[test]
fn a_claim_of_another_leader_on_the_same_timeline_only_raises_suspicion() {
    let mut court = Court::seated();
    court.wait(50);
    assert_eq!(court.pace("c"), 950);
    court.told(Some("b"), Some(1));
    assert_eq!(court.pace("c"), 0);
    let verdict = court.verdict();
    assert_eq!(verdict.writer(), Some(&name("a")));
    let alarm = Alarm::Contradicted {
        source: Source::Patroni,
        leader: name("b"),
    };
    assert_eq!(verdict.alarms, [alarm]);
    court.told(Some("a"), Some(1));
    assert!(court.verdict().alarms.is_empty());
    assert_eq!(court.pace("c"), 950);
}

#[test]
fn a_claim_of_a_higher_timeline_holds_back_the_old_primary_while_it_is_fresh() {
    let mut court = Court::seated();
    court.told(Some("elsewhere"), Some(2));
    let superseded = Absence::Superseded {
        host: name("a"),
        by: 2,
    };
    assert_eq!(court.absence(), superseded);
    court.wait(5001);
    court.saw("a", primary(1));
    assert_eq!(court.writer().as_deref(), Some("a"));
    assert_eq!(court.epoch(), (1, 0));
}

#[test]
fn a_claim_of_a_lower_timeline_is_nothing() {
    let mut court = Court::seated();
    court.saw("b", primary(2));
    court.told(Some("b"), Some(2));
    // The source of a member that is cut off from the others still says what it said.
    court.told(Some("a"), Some(1));
    let alarms = court.verdict().alarms;
    let contradicted = |alarm: &Alarm| matches!(alarm, Alarm::Contradicted { .. });
    assert!(!alarms.iter().any(contradicted), "{alarms:?}");
    assert_eq!(court.writer().as_deref(), Some("b"));
}

#[test]
fn a_claim_settles_whose_word_counts_once_the_other_fails() {
    let mut court = Court::seated();
    court.wait(50);
    court.saw("b", primary(1));
    court.told(Some("b"), None);
    assert!(matches!(court.absence(), Absence::Two { .. }));
    court.failed("a", Fault::Full);
    assert!(matches!(court.absence(), Absence::Two { .. }), "a lives");
    court.failed("a", Fault::TimedOut);
    assert_eq!(court.writer().as_deref(), Some("b"));
    assert_eq!(court.epoch(), (1, 1));
    court.wait(50);
    court.saw("a", primary(1));
    assert!(matches!(court.absence(), Absence::Two { .. }));
}

#[test]
fn a_claim_does_not_settle_a_split_of_two_that_answer() {
    let mut court = Court::seated();
    court.saw("b", primary(1));
    court.saw("a", primary(1));
    court.told(Some("b"), Some(1));
    assert!(matches!(court.absence(), Absence::Two { .. }));
}

#[test]
fn that_there_is_no_leader_raises_suspicion_for_a_while() {
    let mut court = Court::seated();
    court.told(None, None);
    court.wait(50);
    assert_eq!(court.pace("c"), 0);
    assert_eq!(court.writer().as_deref(), Some("a"));
    for _ in 0..70 {
        court.all_well();
        court.told(None, None);
        court.wait(1000);
    }
    court.all_well();
    assert_eq!(court.pace("c"), 1000);
}
