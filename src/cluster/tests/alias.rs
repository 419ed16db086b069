//! Several names that lead to one server.

use super::*;
use crate::{Alarm, Claim, Fence, Source};

fn at(started: i64, look: Look) -> Look {
    let server = ServerId {
        started,
        port: Some(5432),
    };
    Look {
        server: Some(server),
        ..look
    }
}

/// a and b are one primary, c follows it.
fn twice() -> Court {
    let mut court = Court::new();
    court.saw("a", at(1, primary(1)));
    court.saw("b", at(1, primary(1)));
    court.saw("c", at(2, replica(1)));
    court
}

#[test]
fn one_server_by_two_names_is_no_split() {
    let mut court = twice();
    let verdict = court.verdict();
    assert_eq!(verdict.writer(), Some(&name("a")));
    assert_eq!(verdict.alarms, []);
    assert!(verdict.hosts.iter().all(|host| host.fence.is_none()));
    let claim = Claim {
        leader: Some(name("b")),
        timeline: Some(1),
        source: Source::Patroni,
    };
    court.judge.told(claim, court.now);
    assert_eq!(court.verdict().alarms, []);
    court.wait(50);
    assert_eq!(court.pace("c"), 950);
}

#[test]
fn two_servers_are_a_split_however_alike_they_are() {
    let ported = |started, port| {
        let server = Some(ServerId { started, port });
        Look {
            server,
            ..primary(1)
        }
    };
    for (one, two) in [
        (at(1, primary(1)), at(2, primary(1))),
        (ported(1, Some(5432)), ported(1, Some(5433))),
        (at(1, primary(1)), primary(1)),
        (primary(1), primary(1)),
    ] {
        let mut court = Court::new();
        court.saw("a", one);
        court.saw("b", two);
        court.saw("c", replica(1));
        assert!(matches!(court.absence(), Absence::Two { .. }));
    }
    // A unix socket has no port to tell.
    let mut court = Court::new();
    court.saw("a", ported(1, None));
    court.saw("b", ported(1, Some(5433)));
    court.saw("c", replica(1));
    assert_eq!(court.writer().as_deref(), Some("a"));
}

#[test]
fn the_name_that_is_written_to_stays_while_it_answers() {
    let mut court = Court::new();
    court.saw("a", at(2, replica(1)));
    court.saw("b", at(1, primary(1)));
    court.saw("c", at(3, replica(1)));
    assert_eq!(court.writer().as_deref(), Some("b"));
    court.members(&["a", "b", "c", "d"]);
    court.saw("a", at(1, primary(1)));
    assert_eq!(court.writer().as_deref(), Some("b"));
    assert_eq!(court.epoch(), (1, 0));
    court.is_down("b");
    assert_eq!(court.writer().as_deref(), Some("a"));
    assert_eq!(court.epoch(), (1, 1), "b may have been used until now");
}

#[test]
fn a_restart_that_one_name_has_shown_is_no_split() {
    let mut court = twice();
    court.wait(100);
    court.saw("a", at(9, primary(1)));
    assert_eq!(court.writer().as_deref(), Some("a"));
    assert_eq!(court.epoch(), (1, 0));
    court.wait(10);
    court.saw("b", at(9, primary(1)));
    assert_eq!(court.writer().as_deref(), Some("a"));
    // But if the other has not been restarted, then it is another by now.
    court.wait(100);
    court.saw("a", at(11, primary(1)));
    court.wait(10);
    court.saw("b", at(9, primary(1)));
    assert!(matches!(court.absence(), Absence::Two { .. }));
    let fences = court.verdict().hosts.into_iter().map(|host| host.fence);
    let contested = fences.filter(|fence| *fence == Some(Fence::Contested));
    assert_eq!(contested.count(), 2);
}

#[test]
fn what_one_name_shows_later_holds_for_the_other() {
    let mut court = twice();
    court.wait(50);
    court.saw("a", at(1, replica(1)));
    assert_eq!(court.absence(), Absence::Demoted { last: name("a") });
    court.wait(50);
    court.saw("c", at(2, primary(2)));
    assert_eq!(court.writer().as_deref(), Some("c"));
    let stale = |alarm: &Alarm| matches!(alarm, Alarm::Stale { .. });
    court.saw("b", at(1, replica(1)));
    assert!(!court.verdict().alarms.iter().any(stale));
}
