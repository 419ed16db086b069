//! Which hosts are offered to readers.

use super::*;
use crate::{Alarm, LagBounds, Offer, Withheld};

fn bounded(bytes: Option<u64>, time: Option<Duration>) -> Rules {
    Rules {
        lag: LagBounds { bytes, time },
        ..Rules::default()
    }
}

impl Court {
    fn offers(&mut self) -> Vec<Offer> {
        self.verdict().hosts.iter().map(|host| host.offer).collect()
    }
}

const ILL: Offer = Offer::Withheld(Withheld::Ill);

#[test]
fn nobody_is_read_before_it_is_known_which_cluster_is_ours() {
    let mut court = Court::new();
    court.saw("b", replica(1));
    let offer = |court: &mut Court| court.verdict().host(&name("b")).unwrap().offer;
    assert_eq!(offer(&mut court), Offer::Withheld(Withheld::Asking));
    court.failed("a", Fault::Unreachable);
    court.failed("c", Fault::Unreachable);
    assert_eq!(
        offer(&mut court),
        Offer::Good,
        "without a primary reads go on"
    );
}

#[test]
fn reads_go_on_without_a_primary() {
    let mut court = Court::seated();
    court.is_down("a");
    assert_eq!(
        court.offers(),
        [Offer::Withheld(Withheld::Expired), Offer::Good, Offer::Good]
    );
}

#[test]
fn the_best_of_ill_replicas_are_offered_and_that_is_said() {
    let mut court = Court::seated();
    court.is_down("b");
    assert_eq!(court.offers(), [Offer::Good, ILL, Offer::Good]);
    for _ in 0..3 {
        court.failed("c", Fault::TimedOut);
    }
    assert_eq!(court.offers(), [Offer::Good, ILL, Offer::LastResort]);
    assert_eq!(court.verdict().alarms, [Alarm::NoReplicaWell]);
    court.is_down("c");
    assert_eq!(
        court.offers(),
        [Offer::Good, Offer::LastResort, Offer::LastResort]
    );
    court.saw("b", replica(1));
    assert_eq!(court.offers(), [Offer::Good, Offer::LastResort, ILL]);
    court.saw("b", replica(1));
    assert_eq!(court.offers(), [Offer::Good, Offer::Good, ILL]);
    assert!(court.verdict().alarms.is_empty());
}

#[test]
fn a_replica_that_has_not_followed_to_the_primarys_timeline_is_left_out() {
    let mut court = Court::seated();
    court.saw("a", primary(2));
    let outdated = Offer::Withheld(Withheld::Outdated);
    assert_eq!(court.offers(), [Offer::Good, outdated, outdated]);
    court.saw("c", replica(2));
    assert_eq!(court.offers(), [Offer::Good, outdated, Offer::Good]);
    // One that is ill and has followed is better than one that has not.
    court.is_down("c");
    assert_eq!(court.offers(), [Offer::Good, outdated, Offer::LastResort]);
}

/// Its first looks fail, as when all of them begin at once on a busy machine.
#[test]
fn who_is_slow_at_the_beginning_is_no_reason_for_an_alarm() {
    let mut court = Court::new();
    for _ in 0..3 {
        court.failed("b", Fault::TimedOut);
    }
    court.failed("c", Fault::Unreachable);
    court.saw("a", primary(1));
    court.saw("b", replica(1));
    // It is ill until its next answer, and of c it is not known yet what it is.
    let unseen = Offer::Withheld(Withheld::Unseen);
    assert_eq!(court.offers(), [Offer::Good, Offer::LastResort, unseen]);
    assert_eq!(court.verdict().alarms, []);
    court.saw("b", replica(1));
    court.is_down("c");
    assert_eq!(court.verdict().alarms, []);
    court.is_down("b");
    assert_eq!(court.verdict().alarms, [Alarm::NoReplicaWell]);
}

#[test]
fn the_alarm_waits_for_nobody_for_ever() {
    let mut court = Court::new();
    court.saw("a", primary(1));
    court.saw("b", replica(1));
    court.failed("c", Fault::Unreachable);
    for _ in 0..3 {
        court.failed("b", Fault::TimedOut);
    }
    assert_eq!(court.verdict().alarms, [], "c may be well");
    court.wait(5001);
    assert_eq!(court.verdict().alarms, [Alarm::NoReplicaWell]);
}

#[test]
fn replicas_beyond_the_bounds_are_left_out_even_if_no_other_is_well() {
    let mut court = Court::with(bounded(Some(100), None), &["a", "b", "c"]);
    court.saw("a", look(Standing::Primary, 1, 1000));
    court.saw("b", look(Standing::Replica, 1, 900));
    court.saw("c", look(Standing::Replica, 1, 899));
    let behind = Offer::Withheld(Withheld::Behind);
    assert_eq!(court.offers(), [Offer::Good, Offer::Good, behind]);
    let lag = court.verdict().hosts[2].lag;
    assert_eq!(lag.bytes, Some(101));
    court.is_down("b");
    assert_eq!(court.offers(), [Offer::Good, Offer::LastResort, behind]);
    court.saw("c", look(Standing::Replica, 1, 1000));
    assert_eq!(court.offers(), [Offer::Good, ILL, Offer::Good]);
}

#[test]
fn replicas_are_left_out_by_time_too() {
    let second = Some(Duration::from_secs(1));
    let mut court = Court::with(bounded(None, second), &["a", "b"]);
    court.saw("a", look(Standing::Primary, 1, 1000));
    let late = Look {
        replay_age: Some(Duration::from_secs(2)),
        ..look(Standing::Replica, 1, 900)
    };
    court.saw("b", late.clone());
    assert_eq!(
        court.offers(),
        [Offer::Good, Offer::Withheld(Withheld::Behind)]
    );
    // It has all there is: that the last transaction is old says nothing.
    court.saw(
        "b",
        Look {
            lsn: Lsn::new(1000),
            ..late
        },
    );
    assert_eq!(court.offers(), [Offer::Good, Offer::Good]);
}

#[test]
fn a_replica_that_was_seen_before_the_primary_is_measured_all_the_same() {
    let mut court = Court::with(bounded(Some(100), None), &["a", "b"]);
    court.saw("b", look(Standing::Replica, 1, 10));
    court.wait(1);
    court.saw("a", look(Standing::Primary, 1, 1000));
    assert_eq!(
        court.offers(),
        [Offer::Good, Offer::Withheld(Withheld::Behind)]
    );
}

#[test]
fn a_replica_that_lets_nobody_look_is_left_out_where_there_are_bounds() {
    for (rules, blind) in [
        (Rules::default(), Offer::Good),
        (bounded(Some(100), None), Offer::Withheld(Withheld::Behind)),
    ] {
        let mut court = Court::with(rules, &["a", "b"]);
        court.saw("a", primary(1));
        court.saw("b", replica(1));
        for _ in 0..6 {
            court.wait(1000);
            court.saw("a", primary(1));
            court.failed("b", Fault::Full);
        }
        assert_eq!(court.offers(), [Offer::Good, blind]);
    }
}
