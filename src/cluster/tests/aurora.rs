//! Servers that share one volume, whose timeline never rises.

use super::*;
use crate::{Alarm, Claim, Fence, Source};

fn shared(started: i64, look: Look) -> Look {
    let server = ServerId {
        started,
        port: Some(5432),
    };
    Look {
        storage: Storage::Shared,
        server: Some(server),
        ..look
    }
}

/// a is the writer, b and c read.
fn seated() -> Court {
    let mut court = Court::new();
    court.saw("a", shared(1, primary(1)));
    court.saw("b", shared(2, replica(1)));
    court.saw("c", shared(3, replica(1)));
    assert_eq!(court.writer().as_deref(), Some("a"));
    court
}

#[test]
fn who_becomes_writable_later_is_the_writer_in_a_new_epoch() {
    let mut court = seated();
    court.wait(50);
    court.saw("b", shared(2, replica(1)));
    court.wait(50);
    // The former writer has not noticed, and goes on saying that it is one.
    court.saw("b", shared(2, primary(1)));
    assert_eq!(court.writer().as_deref(), Some("b"));
    assert_eq!(court.epoch(), (1, 1));
    court.saw("a", shared(1, primary(1)));
    let verdict = court.verdict();
    assert_eq!(verdict.writer(), Some(&name("b")));
    let a = verdict.host(&name("a")).unwrap();
    assert_eq!(a.fence, Some(Fence::Contested));
    assert!(!matches!(verdict.alarms.first(), Some(Alarm::Split { .. })));
    court.wait(50);
    court.saw("a", shared(9, replica(1)));
    assert_eq!(court.epoch(), (1, 1));
    assert!(
        court
            .verdict()
            .hosts
            .iter()
            .all(|host| host.fence.is_none())
    );
}

#[test]
fn who_was_restarted_may_have_been_something_else_in_between() {
    let mut court = seated();
    court.wait(50);
    court.saw("b", shared(2, replica(1)));
    court.wait(50);
    court.saw("b", shared(2, primary(1)));
    // It has come back, and nobody has seen it as a reader since: whoever is the writer of these two is not known.
    court.wait(50);
    court.saw("a", shared(9, primary(1)));
    assert!(matches!(court.absence(), Absence::Two { .. }));
    court.wait(50);
    court.saw("b", shared(8, replica(1)));
    assert_eq!(court.writer().as_deref(), Some("a"));
    assert_eq!(court.epoch(), (1, 2));
}

#[test]
fn of_two_that_were_found_so_none_is_the_writer() {
    let mut court = Court::new();
    court.saw("a", shared(1, primary(1)));
    court.saw("b", shared(2, primary(1)));
    court.saw("c", shared(3, replica(1)));
    assert!(matches!(court.absence(), Absence::Two { .. }));
    let claim = Claim {
        leader: Some(name("b")),
        timeline: None,
        source: Source::Aurora,
    };
    court.judge.told(claim, court.now);
    assert!(matches!(court.absence(), Absence::Two { .. }), "a is well");
    court.failed("a", Fault::Unreachable);
    assert_eq!(court.writer().as_deref(), Some("b"));
}

#[test]
fn servers_with_volumes_of_their_own_succeed_nobody_on_one_timeline() {
    let mut court = Court::seated();
    court.wait(50);
    court.saw("b", replica(1));
    court.wait(50);
    court.saw("b", primary(1));
    assert!(matches!(court.absence(), Absence::Two { .. }));
}
