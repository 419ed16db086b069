//! Where the names of hosts lead.
//!
//! A name may lead to other addresses as time goes by: an endpoint of RDS, a service of Kubernetes, an alias that an
//! operator changes. Each address is a host of its own, so that who may be written to among them is judged as ever.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// More addresses of one name are not taken up.
pub const MAX_ADDRESSES: usize = 16;
/// An address that a name no longer leads to is a host for so long after: the answers of some endpoints name one
/// replica after the other, and a name may lead elsewhere before there is a primary.
pub const LINGER: Duration = Duration::from_secs(10);

/// The addresses of each name, as its lookups have shown them.
#[derive(Debug, Default)]
pub struct Names {
    known: HashMap<String, Vec<Place>>,
}

/// An address that a name leads to, or led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    address: IpAddr,
    /// The last answer had it.
    current: bool,
    /// When an answer had it last.
    last: Instant,
}

impl Names {
    /// Forgets all names but these.
    pub fn keep<'a>(&mut self, names: impl Iterator<Item = &'a str>) {
        let kept = names.filter_map(|name| self.known.remove_entry(name));
        self.known = kept.collect();
    }

    /// A name was looked up. Addresses that are known keep their order, which answers change as they like. An answer
    /// without an address changes nothing, for a lookup that fails says nothing of the servers; but the name counts as
    /// looked up.
    pub fn answered(&mut self, name: &str, addresses: &[IpAddr], now: Instant) {
        let places = self.known.entry(name.to_owned()).or_default();
        if addresses.is_empty() {
            return;
        }
        for place in &mut *places {
            place.current = addresses.contains(&place.address);
            if place.current {
                place.last = now;
            }
        }
        places.retain(|place| now.saturating_duration_since(place.last) < LINGER);
        for address in addresses {
            let known = places.iter().any(|place| place.address == *address);
            if !known && places.len() < MAX_ADDRESSES {
                places.push(Place {
                    address: *address,
                    current: true,
                    last: now,
                });
            }
        }
    }

    /// The host at this address has shown that it may be written to: what names that lead to it led to before is left
    /// at once. Says whether there was any.
    pub fn leads(&mut self, address: IpAddr) -> bool {
        let mut left = false;
        for places in self.known.values_mut() {
            let current = |place: &Place| place.current && place.address == address;
            if places.iter().any(current) {
                let before = places.len();
                places.retain(|place| place.current);
                left |= places.len() < before;
            }
        }
        left
    }

    /// The addresses of a name; none if it could not be looked up yet, `None` if that was not tried.
    pub fn of(&self, name: &str) -> Option<impl Iterator<Item = IpAddr>> {
        let places = self.known.get(name)?;
        Some(places.iter().map(|place| place.address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "db.internal";

    fn at(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn of(names: &Names) -> Vec<IpAddr> {
        names.of(NAME).expect("it was looked up").collect()
    }

    #[test]
    fn a_failed_lookup_changes_nothing() {
        let (mut names, now) = (Names::default(), Instant::now());
        assert!(names.of(NAME).is_none());
        names.answered(NAME, &[], now);
        assert!(of(&names).is_empty());
        names.answered(NAME, &[at(1)], now);
        names.answered(NAME, &[], now + LINGER * 2);
        assert_eq!(of(&names), [at(1)]);
        names.keep(["other"].into_iter());
        assert!(names.of(NAME).is_none());
    }

    #[test]
    fn what_a_name_led_to_lingers_until_the_new_one_may_be_written_to() {
        let (mut names, now) = (Names::default(), Instant::now());
        names.answered(NAME, &[at(1)], now);
        assert!(!names.leads(at(1)), "nothing else is there");
        names.answered(NAME, &[at(2)], now);
        assert_eq!(of(&names), [at(1), at(2)]);
        assert!(!names.leads(at(1)), "the name no longer says so");
        assert!(!names.leads(at(9)));
        assert_eq!(of(&names), [at(1), at(2)]);
        assert!(names.leads(at(2)));
        assert_eq!(of(&names), [at(2)]);
    }

    #[test]
    fn what_a_name_led_to_lingers_no_longer_than_for_its_time() {
        let (mut names, now) = (Names::default(), Instant::now());
        names.answered(NAME, &[at(1)], now);
        names.answered(NAME, &[at(2)], now + LINGER / 2);
        assert_eq!(of(&names), [at(1), at(2)]);
        names.answered(NAME, &[at(2)], now + LINGER);
        assert_eq!(of(&names), [at(2)]);
    }

    #[test]
    fn answers_that_turn_round_leave_the_order_and_lose_nobody() {
        let (mut names, now) = (Names::default(), Instant::now());
        names.answered(NAME, &[at(1), at(2), at(3)], now);
        names.answered(NAME, &[at(3), at(1), at(2)], now);
        assert_eq!(of(&names), [at(1), at(2), at(3)]);
        for turn in 0..60 {
            let one = at(1 + turn % 3);
            names.answered(NAME, &[one], now + Duration::from_secs(turn.into()));
        }
        assert_eq!(of(&names).len(), 3);
    }

    #[test]
    fn there_is_a_bound() {
        let mut names = Names::default();
        let many: Vec<IpAddr> = (0..200).map(at).collect();
        names.answered(NAME, &many, Instant::now());
        assert_eq!(of(&names), many[..MAX_ADDRESSES]);
    }
}
