//! When hosts are looked at.

use super::*;
use crate::Epoch;

#[test]
fn a_new_host_is_due_at_once_and_a_known_one_after_the_pace() {
    let mut court = Court::new();
    assert_eq!(court.pace("a"), 0);
    court.all_well();
    assert_eq!(court.pace("a"), 1000);
    court.wait(300);
    assert_eq!(court.pace("a"), 700);
    court.wait(3000);
    assert_eq!(court.pace("a"), 0);
    assert_eq!(court.pace("nobody"), 1000);
}

#[test]
fn what_a_session_ran_into_puts_all_hosts_under_suspicion() {
    let mut court = Court::seated();
    court.wait(20);
    assert_eq!(court.pace("c"), 980);
    court.judge.suspect(&name("a"), court.now);
    assert_eq!(court.pace("a"), 30);
    assert_eq!(court.pace("c"), 30);
    court.wait(10);
    assert_eq!(
        court.writer().as_deref(),
        Some("a"),
        "a hint is no evidence"
    );
    court.all_well();
    assert_eq!(court.pace("c"), 1000);
}

#[test]
fn an_answer_to_an_older_question_does_not_dispel_the_suspicion() {
    let mut court = Court::seated();
    court.wait(20);
    court.judge.suspect(&name("a"), court.now);
    court.wait(10);
    let asked_before = Look {
        latency: Duration::from_millis(15),
        ..primary(1)
    };
    court.saw("a", asked_before);
    assert_eq!(court.pace("a"), 50);
    court.wait(50);
    court.saw("a", primary(1));
    assert_eq!(court.pace("a"), 1000);
}

#[test]
fn a_refused_connection_of_the_writer_puts_all_hosts_under_suspicion() {
    let mut court = Court::seated();
    court.wait(100);
    court.failed("a", Fault::Unreachable);
    for host in ["b", "c"] {
        assert_eq!(court.pace(host), 0);
    }
    assert_eq!(court.pace("a"), 50);
}

#[test]
fn without_a_writer_all_are_looked_at_quickly_but_not_for_ever() {
    let mut court = Court::seated();
    court.is_down("a");
    court.saw("b", replica(1));
    assert_eq!(court.pace("b"), 50);
    for _ in 0..59 {
        court.wait(1000);
        court.failed("a", Fault::Unreachable);
        court.saw("b", replica(1));
        assert_eq!(court.pace("b"), 50);
    }
    court.wait(1000);
    court.saw("b", replica(1));
    assert_eq!(court.pace("b"), 1000);
    // A new hint about a host that is known to be down is no news.
    court.judge.suspect(&name("a"), court.now);
    assert_eq!(court.pace("b"), 1000);
    court.judge.suspect(&name("b"), court.now);
    assert_eq!(court.pace("b"), 50);
}

#[test]
fn an_ill_replica_is_nothing_to_wonder_about() {
    let mut court = Court::seated();
    court.failed("c", Fault::Unreachable);
    assert_eq!(court.pace("a"), 50);
    court.is_down("c");
    court.all_but_c_well();
    assert_eq!(court.pace("a"), 1000);
    court.failed("c", Fault::Unreachable);
    assert_eq!(court.pace("a"), 1000);
    assert_eq!(court.pace("c"), 1000);
    // When it comes back it is asked at once whether it means it, and nobody else is.
    court.saw("c", replica(1));
    assert_eq!(court.pace("c"), 50);
    assert_eq!(court.pace("a"), 1000);
    court.saw("c", replica(1));
    assert_eq!(court.pace("c"), 1000);
}

impl Court {
    fn all_but_c_well(&mut self) {
        self.saw("a", primary(1));
        self.saw("b", replica(1));
    }
}

#[test]
fn a_host_that_is_gone_for_good_cannot_be_asked_in_a_tight_loop() {
    let mut court = Court::seated();
    for _ in 0..10 {
        court.failed("a", Fault::Unreachable);
        court.judge.suspect(&name("a"), court.now);
        assert_eq!(court.pace("a"), 50);
    }
    assert_eq!(
        court.verdict().epoch,
        Epoch {
            timeline: 1,
            counter: 0
        }
    );
}

#[test]
fn an_ill_host_is_looked_at_when_it_becomes_a_silent_one() {
    let mut court = Court::seated();
    for _ in 0..3 {
        court.failed("c", Fault::TimedOut);
    }
    court.wait(4500);
    court.all_but_c_well();
    court.failed("c", Fault::TimedOut);
    assert_eq!(court.pace("c"), 501);
    court.wait(501);
    court.failed("c", Fault::TimedOut);
    assert_eq!(court.pace("c"), 1000);
}

#[test]
fn a_host_that_hesitates_is_doubted_until_any_answer_comes() {
    let mut court = Court::seated();
    court.wait(100);
    assert_eq!(court.pace("b"), 900);
    court.judge.hesitates(&name("a"), court.now);
    assert_eq!(court.pace("b"), 0);
    court.wait(10);
    let slow = Look {
        latency: Duration::from_millis(60),
        ..primary(1)
    };
    court.saw("a", slow);
    court.all_but_c_well();
    court.saw("c", replica(1));
    assert_eq!(court.pace("b"), 1000);
}

#[test]
fn what_says_most_is_told_of_a_suspicion() {
    let mut court = Court::seated();
    court.wait(100);
    let doubt = |court: &Court| {
        let doubt = court.judge.doubt(court.now);
        doubt.map(|(host, doubt)| format!("{host} {doubt}"))
    };
    assert_eq!(doubt(&court), None);
    court.judge.hesitates(&name("a"), court.now);
    assert_eq!(doubt(&court).unwrap(), "a takes its time to answer");
    court.judge.suspect(&name("b"), court.now);
    assert_eq!(doubt(&court).unwrap(), "b has failed a session");
    court.failed("a", Fault::TimedOut);
    assert_eq!(doubt(&court).unwrap(), "a does not answer in time");
    court.wait(1);
    court.all_well();
    assert_eq!(doubt(&court), None);
}
