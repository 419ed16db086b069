use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::{Just, any, prop_oneof, proptest};

use super::*;
use crate::{Health, HostName, Lag, Presence, Withheld};

fn state(name: &str, standing: Standing, offer: Offer) -> HostState {
    HostState {
        name: HostName::from(name),
        standing: Some(standing),
        timeline: Some(3),
        lsn: Some(Lsn::new(1000)),
        health: Health::Well,
        presence: Presence::There,
        fault: None,
        lag: Lag::default(),
        seen: None,
        latency: Some(Duration::from_millis(1)),
        fence: None,
        offer,
    }
}

fn replica(name: &str) -> HostState {
    state(name, Standing::Replica, Offer::Good)
}

fn primary() -> HostState {
    state("p", Standing::Primary, Offer::Good)
}

fn readers(states: &[HostState]) -> Vec<Reader<'_>> {
    let reader = |state| Reader {
        state,
        outstanding: 0,
        weight: 1,
        zone: None,
        is_full: false,
    };
    states.iter().map(reader).collect()
}

/// Random enough for counting, and the same in every run.
fn draws(count: u64) -> impl Iterator<Item = u64> {
    (1..=count).map(|n| {
        let mixed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    })
}

/// How often each is chosen in 3000 draws.
fn counts(rules: &ReadRules<'_>, readers: &[Reader<'_>]) -> Vec<usize> {
    let mut counts = vec![0; readers.len()];
    for draw in draws(3000) {
        counts[choose(rules, readers, None, draw).unwrap()] += 1;
    }
    counts
}

fn rules(strategy: Strategy, primary: PrimaryReads) -> ReadRules<'static> {
    ReadRules {
        strategy,
        primary,
        ..ReadRules::default()
    }
}

const ALL: [Strategy; 4] = [
    Strategy::LeastOutstanding,
    Strategy::RoundRobin,
    Strategy::Weighted,
    Strategy::Latency,
];

#[test]
fn all_equals_get_their_share() {
    let states = [replica("a"), replica("b"), replica("c")];
    for strategy in ALL {
        let counts = counts(&rules(strategy, PrimaryReads::Excluded), &readers(&states));
        assert!(
            counts.iter().all(|n| (800..1200).contains(n)),
            "{strategy:?} {counts:?}"
        );
    }
}

#[test]
fn one_after_the_other_is_exact() {
    let states = [replica("a"), replica("b"), replica("c")];
    let rules = rules(Strategy::RoundRobin, PrimaryReads::Excluded);
    let readers = readers(&states);
    let turns: Vec<_> = (0..6)
        .map(|n| choose(&rules, &readers, None, n).unwrap())
        .collect();
    assert_eq!(turns, [0, 1, 2, 0, 1, 2]);
}

#[test]
fn the_less_loaded_of_two_is_taken() {
    let states = [replica("a"), replica("b"), replica("c")];
    let mut readers = readers(&states);
    readers[0].outstanding = 9;
    readers[1].outstanding = 5;
    let rules = rules(Strategy::LeastOutstanding, PrimaryReads::Excluded);
    let shares = counts(&rules, &readers);
    assert_eq!(shares[0], 0, "the most loaded loses against both others");
    assert!(shares[1] > 800 && shares[2] > 1800, "{shares:?}");
    // Nine at a host of three times the weight are less than five.
    readers[0].weight = 3;
    let shares = counts(&rules, &readers);
    assert!(shares[1] == 0 && shares[0] > 800, "{shares:?}");
}

#[test]
fn weights_are_proportions_and_zero_is_nothing() {
    let states = [replica("a"), replica("b"), replica("c")];
    let mut readers = readers(&states);
    (readers[0].weight, readers[1].weight, readers[2].weight) = (0, 1, 2);
    let shares = counts(&rules(Strategy::Weighted, PrimaryReads::Excluded), &readers);
    assert_eq!(shares[0], 0);
    assert!((800..1200).contains(&shares[1]), "{shares:?}");
    readers[1].weight = 0;
    for strategy in ALL {
        let counts = counts(&rules(strategy, PrimaryReads::Excluded), &readers);
        assert_eq!(counts, [0, 0, 3000]);
    }
}

#[test]
fn the_faster_of_two_is_taken() {
    let mut states = [replica("a"), replica("b"), replica("c")];
    states[0].latency = None;
    states[1].latency = Some(Duration::from_millis(9));
    let shares = counts(
        &rules(Strategy::Latency, PrimaryReads::Excluded),
        &readers(&states),
    );
    assert_eq!(shares[0], 0);
    assert!(shares[2] > 1800, "{shares:?}");
}

#[test]
fn the_primary_is_included_excluded_or_a_fallback() {
    let states = [primary(), replica("a")];
    for strategy in ALL {
        let share = |how| counts(&rules(strategy, how), &readers(&states))[0];
        assert!(share(PrimaryReads::Included) > 1000, "{strategy:?}");
        assert_eq!(share(PrimaryReads::Excluded), 0);
        assert_eq!(share(PrimaryReads::Fallback), 0);
    }
    let alone = [primary()];
    let choice = |how| choose(&rules(Strategy::Weighted, how), &readers(&alone), None, 7);
    assert_eq!(choice(PrimaryReads::Included), Ok(0));
    assert_eq!(choice(PrimaryReads::Fallback), Ok(0));
    assert_eq!(choice(PrimaryReads::Excluded), Err(NoReader::Nobody));
}

#[test]
fn a_last_resort_comes_after_the_primary() {
    let ill = state("a", Standing::Replica, Offer::LastResort);
    let states = [primary(), ill];
    let choice = |how| choose(&rules(Strategy::Weighted, how), &readers(&states), None, 7);
    assert_eq!(choice(PrimaryReads::Included), Ok(0));
    assert_eq!(choice(PrimaryReads::Fallback), Ok(0));
    assert_eq!(choice(PrimaryReads::Excluded), Ok(1));
}

#[test]
fn who_is_too_far_behind_is_left_out() {
    let mut states = [primary(), replica("a"), replica("b")];
    states[1].lag.bytes = Some(101);
    states[2].lag.bytes = Some(100);
    let mut rules = rules(Strategy::RoundRobin, PrimaryReads::Fallback);
    rules.lag.bytes = Some(100);
    assert_eq!(counts(&rules, &readers(&states)), [0, 0, 3000]);
    rules.lag.bytes = Some(99);
    assert_eq!(counts(&rules, &readers(&states)), [3000, 0, 0]);
}

#[test]
fn hosts_of_the_zone_are_preferred_while_there_are_any() {
    let mut states = [replica("a"), replica("b"), primary()];
    let mut rules = rules(Strategy::LeastOutstanding, PrimaryReads::Fallback);
    rules.zone = Some("east");
    let zones = [Some("west"), Some("east"), Some("east")];
    let shares = |states: &[HostState]| {
        let mut readers = readers(states);
        for (reader, zone) in readers.iter_mut().zip(zones) {
            reader.zone = zone;
        }
        counts(&rules, &readers)
    };
    assert_eq!(shares(&states), [0, 3000, 0]);
    states[1].offer = Offer::Withheld(Withheld::Ill);
    assert_eq!(
        shares(&states),
        [3000, 0, 0],
        "a replica elsewhere before the primary here"
    );
}

#[test]
fn hosts_elsewhere_are_read_from_when_there_is_no_room_here() {
    let states = [replica("a"), replica("b")];
    let mut rules = rules(Strategy::LeastOutstanding, PrimaryReads::Fallback);
    let mut readers = readers(&states);
    (readers[0].zone, readers[1].zone) = (Some("east"), Some("west"));
    readers[0].outstanding = 20;
    rules.zone = Some("east");
    assert_eq!(counts(&rules, &readers), [3000, 0], "it has room yet");
    readers[0].is_full = true;
    assert_eq!(counts(&rules, &readers), [0, 3000]);
    (readers[1].is_full, readers[1].outstanding) = (true, 40);
    assert_eq!(counts(&rules, &readers), [3000, 0], "both are full");
    rules.zone = None;
    readers[0].outstanding = 40;
    assert!(counts(&rules, &readers).iter().all(|count| *count > 1000));
}

#[test]
fn a_session_reads_what_it_wrote() {
    let mut states = [primary(), replica("a"), replica("b"), replica("c")];
    let need = Need {
        timeline: 3,
        lsn: Lsn::new(1001),
    };
    states[1].lsn = Some(Lsn::new(1001));
    // The same place on a lower timeline is another history.
    states[2].lsn = Some(Lsn::new(5000));
    states[2].timeline = Some(2);
    let fallback = rules(Strategy::RoundRobin, PrimaryReads::Fallback);
    let chosen = |states: &[HostState], rules: &ReadRules<'_>| {
        let mut chosen: Vec<_> = (0..12)
            .map(|n| choose(rules, &readers(states), Some(need), n))
            .collect();
        chosen.dedup();
        chosen
    };
    assert_eq!(chosen(&states, &fallback), [Ok(1)]);
    states[1].lsn = Some(Lsn::new(1000));
    assert_eq!(chosen(&states, &fallback), [Ok(0)], "the primary has it");
    let excluded = rules(Strategy::RoundRobin, PrimaryReads::Excluded);
    assert_eq!(chosen(&states, &excluded), [Err(NoReader::NotReplayed)]);
    states[3].timeline = Some(4);
    states[3].lsn = Some(Lsn::new(2000));
    assert_eq!(chosen(&states, &excluded), [Ok(3)]);
    states[0].timeline = Some(2);
    states[3].lsn = None;
    assert_eq!(chosen(&states, &fallback), [Err(NoReader::NotReplayed)]);
}

#[test]
fn of_nobody_nobody_is_chosen() {
    for strategy in ALL {
        let none = choose(&rules(strategy, PrimaryReads::Included), &[], None, 7);
        assert_eq!(none, Err(NoReader::Nobody));
    }
}

proptest! {
    #[test]
    fn whoever_is_chosen_may_be_read_from(
        hosts in vec((any::<bool>(), 0..3_u8, 0..2000_u64, 1..5_u32, 0..3_u32, any::<u32>(), any::<bool>()), 0..6),
        strategy in prop_oneof![
            Just(Strategy::LeastOutstanding), Just(Strategy::RoundRobin), Just(Strategy::Weighted), Just(Strategy::Latency)
        ],
        how in prop_oneof![
            Just(PrimaryReads::Included), Just(PrimaryReads::Excluded), Just(PrimaryReads::Fallback)
        ],
        need in proptest::option::of((1..5_u32, 0..2000_u64)),
        bound in proptest::option::of(0..2000_u64),
        draw in any::<u64>(),
    ) {
        let states: Vec<HostState> = hosts.iter().map(|&(primary, offer, lsn, timeline, ..)| {
            let standing = if primary { Standing::Primary } else { Standing::Replica };
            let offer = [Offer::Good, Offer::LastResort, Offer::Withheld(Withheld::Ill)][usize::from(offer)];
            HostState {
                lsn: Some(Lsn::new(lsn)),
                timeline: Some(timeline),
                lag: Lag { bytes: Some(2000 - lsn), time: None },
                ..state("x", standing, offer)
            }
        }).collect();
        let mut all = readers(&states);
        for (reader, &(.., weight, outstanding, here)) in all.iter_mut().zip(&hosts) {
            (reader.weight, reader.outstanding) = (weight, outstanding);
            reader.zone = here.then_some("here");
        }
        let mut rules = rules(strategy, how);
        rules.lag.bytes = bound;
        rules.zone = Some("here");
        let need = need.map(|(timeline, lsn)| Need { timeline, lsn: Lsn::new(lsn) });
        let fits = |reader: &Reader<'_>, need: Option<Need>| {
            let state = reader.state;
            let primary = state.standing == Some(Standing::Primary);
            reader.weight > 0
                && !matches!(state.offer, Offer::Withheld(_))
                && !(primary && how == PrimaryReads::Excluded)
                && (primary || bound.is_none_or(|bound| state.lag.bytes <= Some(bound)))
                && need.is_none_or(|need| {
                    state.timeline >= Some(need.timeline) && (primary || state.lsn >= Some(need.lsn))
                })
        };
        match choose(&rules, &all, need, draw) {
            Ok(at) => assert!(fits(&all[at], need)),
            Err(NoReader::NotReplayed) => {
                assert!(!all.iter().any(|reader| fits(reader, need)));
                assert!(all.iter().any(|reader| fits(reader, None)));
            }
            Err(NoReader::Nobody) => assert!(!all.iter().any(|reader| fits(reader, None))),
        }
    }
}
