//! Who is ill, who is only slow or full, and since when.

use super::*;
use crate::{Alarm, Health, Offer};

impl Court {
    fn health(&mut self, host: &str) -> Health {
        self.verdict().host(&name(host)).unwrap().health
    }

    fn offer(&mut self, host: &str) -> Offer {
        self.verdict().host(&name(host)).unwrap().offer
    }
}

#[test]
fn one_lost_answer_changes_nothing_for_reads() {
    let mut court = Court::seated();
    for fault in [
        Fault::TimedOut,
        Fault::Unreachable,
        Fault::Stopping,
        Fault::Broken("?".into()),
    ] {
        court.failed("b", fault.clone());
        assert_eq!(court.health("b"), Health::Well);
        assert_eq!(court.offer("b"), Offer::Good);
        court.failed("b", fault);
        assert_eq!(court.offer("b"), Offer::Good);
        court.saw("b", replica(1));
    }
}

#[test]
fn several_faults_in_a_row_are_an_illness_and_several_answers_its_end() {
    let mut court = Court::seated();
    court.failed("b", Fault::TimedOut);
    court.failed("b", Fault::Unreachable);
    court.failed("b", Fault::TimedOut);
    assert_eq!(court.health("b"), Health::Ill);
    court.saw("b", replica(1));
    assert_eq!(court.health("b"), Health::Ill);
    court.failed("b", Fault::TimedOut);
    court.saw("b", replica(1));
    assert_eq!(court.health("b"), Health::Ill, "the row was broken");
    court.saw("b", replica(1));
    assert_eq!(court.health("b"), Health::Well);
}

#[test]
fn who_says_that_he_serves_nobody_is_ill_at_once() {
    let mut court = Court::seated();
    court.failed("b", Fault::Starting);
    assert_eq!(court.health("b"), Health::Ill);
}

#[test]
fn a_host_that_never_answered_is_unseen_and_then_ill() {
    let mut court = Court::new();
    assert_eq!(court.health("b"), Health::Unseen);
    court.is_down("b");
    assert_eq!(court.health("b"), Health::Ill);
}

#[test]
fn a_full_primary_is_neither_ill_nor_silent() {
    let mut court = Court::seated();
    for _ in 0..100 {
        court.wait(1000);
        court.failed("a", Fault::Full);
    }
    assert_eq!(court.writer().as_deref(), Some("a"));
    assert_eq!(court.health("a"), Health::Well);
    assert_eq!(court.pace("a"), 1000, "and nothing to wonder about");
}

#[test]
fn a_slow_primary_is_not_ill() {
    let mut court = Court::seated();
    for _ in 0..10 {
        court.wait(4900);
        let slow = Look {
            latency: Duration::from_millis(3900),
            ..primary(1)
        };
        assert_eq!(court.writer().as_deref(), Some("a"));
        court.saw("a", slow);
    }
    assert_eq!(court.health("a"), Health::Well);
}

#[test]
fn a_primary_that_does_not_answer_in_time_is_the_writer_until_its_word_expires() {
    let mut court = Court::seated();
    for _ in 0..5 {
        court.wait(1000);
        court.failed("a", Fault::TimedOut);
        assert_eq!(court.writer().as_deref(), Some("a"));
    }
    court.wait(1);
    assert_eq!(court.absence(), Absence::Silent { last: name("a") });
}

#[test]
fn being_sent_away_revives_nothing() {
    let mut court = Court::seated();
    court.is_down("a");
    court.failed("a", Fault::Full);
    assert_eq!(
        court.writer(),
        None,
        "it was started anew, as what is not known"
    );
    let mut court = Court::seated();
    court.wait(5001);
    court.failed("a", Fault::Full);
    assert_eq!(court.writer(), None, "it was silent for too long");
    court.saw("a", primary(1));
    assert_eq!(court.writer().as_deref(), Some("a"));
}

#[test]
fn a_monitor_that_may_not_log_in_keeps_what_it_knew_and_says_so() {
    let mut court = Court::seated();
    for _ in 0..10 {
        court.wait(1000);
        court.failed("a", Fault::Refused);
    }
    let verdict = court.verdict();
    assert_eq!(verdict.writer(), Some(&name("a")));
    assert!(verdict.alarms.contains(&Alarm::Blind { host: name("a") }));
}

#[test]
fn a_refused_connection_must_repeat_before_the_primary_is_gone() {
    let mut court = Court::seated();
    court.failed("a", Fault::Unreachable);
    court.failed("a", Fault::Unreachable);
    assert_eq!(court.writer().as_deref(), Some("a"));
    court.failed("a", Fault::Unreachable);
    assert_eq!(court.absence(), Absence::Gone { last: name("a") });
    // It needs no hysteresis to come back: everybody waits for it.
    court.saw("a", primary(1));
    assert_eq!(court.writer().as_deref(), Some("a"));
}

#[test]
fn an_old_answer_does_not_undo_a_newer_one() {
    let mut court = Court::seated();
    let early = court.now;
    court.wait(10);
    court.saw("a", replica(1));
    court.judge.saw(&name("a"), Ok(primary(1)), early);
    assert_eq!(court.writer(), None);
}

#[test]
fn late_word_of_another_host_does_not_turn_the_clock_back() {
    let mut court = Court::seated();
    let early = court.now + Duration::from_millis(4900);
    court.wait(5001);
    court.saw("b", replica(1));
    assert_eq!(court.absence(), Absence::Silent { last: name("a") });
    // The monitors of b and c have looked at about the same time, and that of c was held up.
    court.judge.saw(&name("c"), Ok(replica(1)), early);
    assert_eq!(court.judge.verdict(early).writer(), None);
}

#[test]
fn who_answers_others_is_not_silent_and_no_less_ill() {
    let mut court = Court::seated();
    for _ in 0..10 {
        court.wait(1000);
        court.failed("a", Fault::TimedOut);
        let now = court.now;
        court.judge.lives(&name("a"), now, now);
    }
    assert_eq!(court.writer().as_deref(), Some("a"));
    assert_eq!(court.health("a"), Health::Ill);
    // A restart is not hidden by it, and a word that has expired is not revived.
    court.is_down("a");
    let now = court.now;
    court.judge.lives(&name("a"), now, now);
    assert_eq!(court.absence(), Absence::Gone { last: name("a") });
    let mut court = Court::seated();
    court.wait(5001);
    let now = court.now;
    court.judge.lives(&name("a"), now, now);
    assert_eq!(court.absence(), Absence::Silent { last: name("a") });
}

#[test]
fn whose_answers_to_others_are_old_is_silent_all_the_same() {
    let mut court = Court::seated();
    let served = court.now + Duration::from_millis(1000);
    court.wait(4000);
    court.judge.lives(&name("a"), served, court.now);
    court.wait(2000);
    assert_eq!(court.writer().as_deref(), Some("a"));
    court.wait(1);
    assert_eq!(court.absence(), Absence::Silent { last: name("a") });
}
