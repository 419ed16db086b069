//! Who may be written to.

use std::sync::Arc;

use super::*;
use crate::{Alarm, Fence, Offer, Unadoptable, Withheld};

#[test]
fn the_only_primary_is_the_writer() {
    let mut court = Court::seated();
    assert_eq!(court.writer().as_deref(), Some("a"));
    assert_eq!(court.epoch(), (1, 0));
    assert!(court.verdict().alarms.is_empty());
    assert_eq!(court.verdict().system, Some(SYSTEM));
}

#[test]
fn the_first_writer_is_chosen_when_all_were_asked() {
    let mut court = Court::new();
    court.saw("a", primary(1));
    court.failed("b", Fault::Unreachable);
    assert_eq!(court.absence(), Absence::Asking);
    // a is a primary that was replaced long ago, and only was the first to answer.
    court.saw("c", primary(2));
    assert_eq!(court.writer().as_deref(), Some("c"));
    assert_eq!(court.epoch(), (2, 0));
}

#[test]
fn a_silent_host_does_not_hold_up_the_first_writer_for_long() {
    let mut court = Court::new();
    // Nobody may have been asked so far: that is no silence.
    court.wait(60_000);
    court.saw("a", primary(1));
    assert_eq!(court.absence(), Absence::Asking);
    court.wait(5000);
    court.saw("a", primary(1));
    assert_eq!(court.absence(), Absence::Asking);
    court.wait(1);
    assert_eq!(court.writer().as_deref(), Some("a"));
}

#[test]
fn the_first_writer_is_not_chosen_while_another_host_does_not_say_what_it_is() {
    let waits = [
        (Fault::TimedOut, 5000),
        // There is no way to it for the moment, which says nothing of whether it is there.
        (Fault::Lost, 5000),
        (Fault::Starting, 5000),
        (Fault::Refused, 5000),
        (Fault::Full, 5000),
    ];
    for (fault, limit) in waits {
        let mut court = Court::new();
        court.failed("b", fault.clone());
        court.failed("c", Fault::Unreachable);
        // a was replaced by b long ago, which is slow or full at this moment.
        court.saw("a", primary(1));
        court.wait(limit);
        court.saw("a", primary(1));
        court.failed("b", fault.clone());
        assert_eq!(court.absence(), Absence::Asking, "{fault:?}");
        let mut other = Court::new();
        other.failed("b", fault.clone());
        other.failed("c", Fault::Unreachable);
        other.saw("a", primary(1));
        other.saw("b", primary(2));
        assert_eq!(other.writer().as_deref(), Some("b"), "{fault:?}");
        court.wait(1);
        court.saw("a", primary(1));
        assert_eq!(court.writer().as_deref(), Some("a"), "{fault:?}");
    }
}

#[test]
fn a_host_of_another_system_is_refused() {
    let mut court = Court::seated();
    let foreign = Look {
        system: 5,
        ..primary(9)
    };
    court.wait(1);
    court.saw("b", foreign.clone());
    let verdict = court.verdict();
    assert_eq!(verdict.writer(), Some(&name("a")));
    let b = verdict.host(&name("b")).unwrap();
    assert_eq!(b.fence, Some(Fence::Foreign { system: 5 }));
    assert_eq!(b.offer, Offer::Withheld(Withheld::Fenced));
    let alarm = Alarm::Foreign {
        host: name("b"),
        system: 5,
    };
    assert_eq!(verdict.alarms, [alarm]);
    assert_eq!(verdict.timeline, 1, "its timeline is not ours");
    court.is_down("a");
    assert_eq!(court.absence(), Absence::Gone { last: name("a") });
    court.saw("a", primary(1));
    assert_eq!(court.writer().as_deref(), Some("a"));
}

#[test]
fn replicas_do_not_fix_the_system() {
    let mut court = Court::new();
    let other = Look {
        system: 5,
        ..replica(1)
    };
    court.saw("a", other);
    court.saw("b", replica(1));
    court.failed("c", Fault::Unreachable);
    let verdict = court.verdict();
    assert_eq!(verdict.system, None);
    assert_eq!(
        verdict.host(&name("a")).unwrap().fence,
        Some(Fence::Ambiguous)
    );
    assert_eq!(
        verdict.host(&name("b")).unwrap().fence,
        Some(Fence::Ambiguous)
    );
    assert_eq!(court.absence(), Absence::NoneSeen);
    court.saw("c", primary(1));
    let verdict = court.verdict();
    assert_eq!(verdict.writer(), Some(&name("c")));
    assert_eq!(verdict.host(&name("b")).unwrap().fence, None);
    assert_eq!(
        verdict.host(&name("a")).unwrap().fence,
        Some(Fence::Foreign { system: 5 })
    );
}

#[test]
fn of_primaries_of_two_systems_the_first_member_fixes_it_whoever_answers_first() {
    let foreign = Look {
        system: 5,
        ..primary(4)
    };
    for first in ["a", "b"] {
        let mut court = Court::with(Rules::default(), &["a", "b"]);
        if first == "b" {
            court.saw("b", foreign.clone());
        }
        court.saw("a", primary(1));
        court.saw("b", foreign.clone());
        assert_eq!(court.writer().as_deref(), Some("a"));
        assert_eq!(court.epoch(), (1, 0));
    }
}

#[test]
fn a_higher_timeline_wins_while_the_old_primary_still_answers() {
    let mut court = Court::seated();
    court.saw("b", primary(2));
    assert_eq!(court.writer().as_deref(), Some("b"));
    assert_eq!(court.epoch(), (2, 0));
    court.saw("a", primary(1));
    let verdict = court.verdict();
    assert_eq!(verdict.writer(), Some(&name("b")));
    let a = verdict.host(&name("a")).unwrap();
    assert_eq!(a.fence, Some(Fence::Superseded { by: 2 }));
    assert_eq!(a.offer, Offer::Withheld(Withheld::Fenced));
    let alarm = Alarm::Stale {
        host: name("a"),
        timeline: 1,
        by: 2,
    };
    assert_eq!(verdict.alarms, [alarm]);
}

#[test]
fn a_primary_of_a_lower_timeline_never_comes_back() {
    let mut court = Court::seated();
    court.is_down("a");
    court.saw("b", primary(2));
    court.is_down("b");
    court.saw("a", primary(1));
    assert_eq!(court.absence(), Absence::Gone { last: name("b") });
    // Not even when nobody else is left.
    court.members(&["a", "c"]);
    assert_eq!(court.absence(), Absence::Removed { last: name("b") });
    court.wait(3_600_000);
    court.saw("a", primary(1));
    assert_eq!(court.absence(), Absence::Removed { last: name("b") });
    court.saw("a", primary(3));
    assert_eq!(court.writer().as_deref(), Some("a"));
    assert_eq!(court.epoch(), (3, 0));
}

#[test]
fn the_timeline_that_was_reached_is_remembered_however_late_the_word_of_it_comes() {
    let mut court = Court::seated();
    let early = court.now;
    court.wait(10);
    court.failed("b", Fault::Unreachable);
    court.judge.saw(&name("b"), Ok(primary(2)), early);
    let superseded = Absence::Superseded {
        host: name("a"),
        by: 2,
    };
    assert_eq!(court.absence(), superseded);
}

#[test]
fn a_read_only_primary_of_a_higher_timeline_supersedes_too() {
    let mut court = Court::seated();
    let read_only = Look {
        read_only: true,
        ..primary(2)
    };
    court.saw("b", read_only);
    assert_eq!(court.absence(), Absence::ReadOnly { host: name("b") });
    let verdict = court.verdict();
    assert_eq!(
        verdict.host(&name("a")).unwrap().fence,
        Some(Fence::Superseded { by: 2 })
    );
    assert_eq!(verdict.epoch.timeline, 1, "nobody was written to on it yet");
    court.saw("b", primary(2));
    assert_eq!(court.epoch(), (2, 0));
}

#[test]
fn a_replica_on_a_higher_timeline_shows_that_the_primary_was_replaced() {
    let mut court = Court::seated();
    court.saw("c", replica(2));
    let superseded = Absence::Superseded {
        host: name("a"),
        by: 2,
    };
    assert_eq!(court.absence(), superseded);
    // Its word does not expire: timelines are not taken back.
    court.wait(60_000);
    court.is_down("c");
    court.saw("a", primary(1));
    assert_eq!(court.absence(), superseded);
    // Unless it is rewound.
    court.saw("c", replica(1));
    assert_eq!(court.writer().as_deref(), Some("a"));
    assert_eq!(court.epoch(), (1, 0));
}

#[test]
fn of_two_writable_hosts_on_one_timeline_nobody_is_written_to() {
    let mut court = Court::seated();
    court.wait(50);
    court.saw("b", primary(1));
    let two = Absence::Two {
        hosts: vec![name("a"), name("b")],
    };
    // a may have ended when b began; that is not known yet, and no reason to cry.
    assert_eq!(court.absence(), two);
    assert!(court.verdict().alarms.is_empty());
    court.wait(50);
    court.saw("a", primary(1));
    assert_eq!(court.absence(), two);
    let verdict = court.verdict();
    let alarm = Alarm::Split {
        hosts: vec![name("a"), name("b")],
        timeline: 1,
    };
    assert_eq!(verdict.alarms, [alarm]);
    for host in ["a", "b"] {
        let host = verdict.host(&name(host)).unwrap();
        assert_eq!(host.fence, Some(Fence::Contested));
        assert_eq!(host.offer, Offer::Withheld(Withheld::Fenced));
    }
    assert_eq!(court.epoch(), (1, 0));
}

#[test]
fn a_split_ends_when_one_is_demoted() {
    let mut court = Court::seated();
    court.saw("b", primary(1));
    court.saw("a", replica(1));
    assert_eq!(court.writer().as_deref(), Some("b"));
    assert_eq!(court.epoch(), (1, 1));
}

#[test]
fn a_split_ends_when_one_is_gone() {
    let mut court = Court::seated();
    court.saw("b", primary(1));
    court.is_down("b");
    assert_eq!(court.writer().as_deref(), Some("a"));
    assert_eq!(court.epoch(), (1, 0), "nobody else was written to");
    court.saw("b", primary(1));
    court.is_down("a");
    assert_eq!(court.writer().as_deref(), Some("b"));
    assert_eq!(court.epoch(), (1, 1));
}

#[test]
fn a_split_ends_when_the_word_of_one_expires() {
    let mut court = Court::seated();
    court.wait(50);
    court.saw("b", primary(1));
    for _ in 0..4 {
        court.wait(1000);
        court.failed("a", Fault::TimedOut);
        court.saw("b", primary(1));
        assert_eq!(court.writer(), None, "it may only be slow");
    }
    court.wait(1000);
    assert_eq!(court.writer().as_deref(), Some("b"));
    assert_eq!(court.epoch(), (1, 1));
}

#[test]
fn a_split_ends_with_a_higher_timeline() {
    let mut court = Court::seated();
    court.saw("b", primary(1));
    court.saw("b", primary(2));
    assert_eq!(court.writer().as_deref(), Some("b"));
    assert_eq!(court.epoch(), (2, 0));
}

#[test]
fn a_read_only_primary_takes_no_writes_and_makes_no_split() {
    let mut court = Court::seated();
    let read_only = Look {
        read_only: true,
        ..primary(1)
    };
    court.saw("a", read_only);
    assert_eq!(court.absence(), Absence::ReadOnly { host: name("a") });
    let offer = court.verdict().host(&name("a")).unwrap().offer;
    assert_eq!(offer, Offer::Good, "it may be read");
    court.saw("b", primary(1));
    assert_eq!(court.writer().as_deref(), Some("b"));
}

#[test]
fn the_same_primary_after_a_crash_is_the_same_epoch() {
    let mut court = Court::seated();
    court.failed("a", Fault::Starting);
    assert_eq!(court.absence(), Absence::Gone { last: name("a") });
    court.wait(400);
    court.saw("a", primary(1));
    assert_eq!(court.writer().as_deref(), Some("a"));
    assert_eq!(court.epoch(), (1, 0));
}

#[test]
fn a_primary_demoted_and_another_promoted_on_the_same_timeline_is_a_new_epoch() {
    let mut court = Court::seated();
    court.saw("a", replica(1));
    assert_eq!(court.absence(), Absence::Demoted { last: name("a") });
    court.wait(50);
    court.saw("b", primary(1));
    assert_eq!(court.writer().as_deref(), Some("b"));
    assert_eq!(court.epoch(), (1, 1));
    assert!(court.verdict().alarms.is_empty());
    // And back, which is a third reign, not the first.
    court.saw("b", replica(1));
    court.saw("a", primary(1));
    assert_eq!(court.epoch(), (1, 2));
}

#[test]
fn a_switch_and_a_switch_back() {
    let mut court = Court::seated();
    court.saw("a", replica(1));
    court.saw("b", primary(2));
    court.saw("a", replica(2));
    court.saw("c", replica(2));
    assert_eq!(court.writer().as_deref(), Some("b"));
    court.saw("b", replica(2));
    assert_eq!(court.absence(), Absence::Demoted { last: name("b") });
    court.saw("a", primary(3));
    assert_eq!(court.writer().as_deref(), Some("a"));
    assert_eq!(court.epoch(), (3, 0));
    assert!(court.verdict().alarms.is_empty());
}

#[test]
fn the_same_host_on_a_higher_timeline_is_a_new_epoch() {
    let mut court = Court::seated();
    court.saw("a", primary(2));
    assert_eq!(court.writer().as_deref(), Some("a"));
    assert_eq!(court.epoch(), (2, 0));
}

#[test]
fn an_old_word_expires() {
    let mut court = Court::seated();
    court.wait(5000);
    assert_eq!(court.writer().as_deref(), Some("a"));
    court.wait(1);
    assert_eq!(court.absence(), Absence::Silent { last: name("a") });
    let offer = court.verdict().host(&name("a")).unwrap().offer;
    assert_eq!(offer, Offer::Withheld(Withheld::Expired));
}

#[test]
fn members_come_and_go() {
    let mut court = Court::with(Rules::default(), &["a", "a"]);
    assert_eq!(court.verdict().hosts.len(), 1);
    court.saw("a", primary(1));
    assert_eq!(court.writer().as_deref(), Some("a"));
    court.members(&["b", "a"]);
    let names: Vec<_> = court.verdict().hosts.into_iter().map(|h| h.name).collect();
    assert_eq!(names, [name("b"), name("a")]);
    assert_eq!(
        court.writer().as_deref(),
        Some("a"),
        "who is new is not waited for"
    );
    court.members(&["b"]);
    assert_eq!(court.absence(), Absence::Removed { last: name("a") });
    court.saw("a", primary(1));
    assert_eq!(court.absence(), Absence::Removed { last: name("a") });
    court.members(&["b", "a"]);
    assert_eq!(court.writer(), None, "what it said before is forgotten");
    court.saw("a", primary(1));
    assert_eq!(court.writer().as_deref(), Some("a"));
    assert_eq!(court.epoch(), (1, 0));
}

#[test]
fn without_members_nobody_is_chosen_and_nothing_is_settled() {
    let mut court = Court::with(Rules::default(), &[]);
    court.wait(60_000);
    assert_eq!(court.absence(), Absence::Asking);
    court.members(&["a", "b"]);
    court.saw("a", primary(1));
    assert_eq!(court.absence(), Absence::Asking);
}

#[test]
fn the_verdict_is_the_same_while_nothing_changes() {
    let mut court = Court::seated();
    let first = court.judge.verdict(court.now);
    court.wait(3000);
    assert!(Arc::ptr_eq(&first, &court.judge.verdict(court.now)));
    court.saw("a", primary(1));
    assert!(!Arc::ptr_eq(&first, &court.judge.verdict(court.now)));
}

#[test]
fn an_operator_may_adopt_another_cluster() {
    let mut court = Court::seated();
    court.saw("b", primary(3));
    court.is_down("b");
    let upgraded = Look {
        system: 5,
        ..primary(1)
    };
    court.members(&["a"]);
    court.saw("a", upgraded);
    assert_eq!(court.writer(), None);
    court.judge.adopt_anew(None, court.now).unwrap();
    let verdict = court.verdict();
    assert_eq!(verdict.writer(), Some(&name("a")));
    assert_eq!(verdict.system, Some(5));
    assert_eq!(verdict.timeline, 1);
    assert_eq!(court.epoch(), (3, 1), "the epoch rises all the same");
}

#[test]
fn to_adopt_anew_does_not_confuse_timelines() {
    let mut court = Court::seated();
    court.saw("b", primary(2));
    court.judge.adopt_anew(None, court.now).unwrap();
    assert_eq!(court.writer().as_deref(), Some("b"));
    assert_eq!(court.verdict().timeline, 2);
    assert_eq!(court.epoch(), (2, 1));
}

#[test]
fn an_operator_may_say_which_host_is_the_cluster_now() {
    let mut court = Court::seated();
    let rebuilt = Look {
        system: 5,
        ..primary(1)
    };
    court.saw("c", rebuilt);
    let adopt =
        |court: &mut Court, host: &str| court.judge.adopt_anew(Some(&name(host)), court.now);
    let before = court.epoch();
    assert_eq!(adopt(&mut court, "x"), Err(Unadoptable::Unknown));
    assert_eq!(adopt(&mut court, "b"), Err(Unadoptable::NoPrimary));
    assert_eq!(
        (court.epoch(), court.writer().as_deref()),
        (before, Some("a"))
    );
    adopt(&mut court, "c").unwrap();
    let verdict = court.verdict();
    assert_eq!(
        verdict.writer(),
        Some(&name("c")),
        "a is well, and first in the list"
    );
    assert_eq!(verdict.system, Some(5));
    assert_eq!(court.epoch(), (1, 1));
    assert_eq!(court.verdict().refused(), Some(&name("a")));
}

#[test]
fn hosts_that_are_all_full_are_named_as_such() {
    let full = |hosts: &[&str]| Absence::Full {
        hosts: hosts.iter().map(|host| name(host)).collect(),
    };
    let mut court = Court::new();
    for host in ["a", "b", "c"] {
        court.failed(host, Fault::Full);
    }
    assert_eq!(court.absence(), Absence::Asking);
    court.wait(5001);
    assert_eq!(court.absence(), full(&["a", "b", "c"]));
    // It is none of those who may be the primary.
    court.saw("b", replica(1));
    assert_eq!(court.absence(), full(&["a", "c"]));
    // It may be, and is something else.
    court.failed("c", Fault::TimedOut);
    assert_eq!(court.absence(), Absence::NoneSeen);
    court.saw("c", replica(1));
    assert_eq!(court.absence(), full(&["a"]));
    court.saw("a", primary(1));
    assert_eq!(court.writer().as_deref(), Some("a"));
}

#[test]
fn a_primary_that_comes_back_full_is_not_called_silent() {
    let mut court = Court::seated();
    court.is_down("a");
    assert_eq!(court.absence(), Absence::Gone { last: name("a") });
    court.failed("a", Fault::Full);
    let hosts = vec![name("a")];
    assert_eq!(court.absence(), Absence::Full { hosts });
    // Another may have taken over meanwhile, and say so.
    court.failed("b", Fault::Full);
    let hosts = vec![name("a"), name("b")];
    assert_eq!(court.absence(), Absence::Full { hosts });
    court.saw("b", primary(2));
    assert_eq!(court.writer().as_deref(), Some("b"));
}
