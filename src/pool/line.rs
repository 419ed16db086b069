//! A line of tickets, in the order of their numbers.

use std::collections::VecDeque;
use std::collections::vec_deque::IntoIter;

/// An empty line keeps room for so many, and gives the rest of what a crowd has needed back.
const KEPT: usize = 64;

/// Values by ticket. Almost all come behind the last and leave from the front, which costs no more than a move, and
/// no memory once there is room; to leave from the middle takes time in proportion to the way to the nearer end.
#[derive(Debug)]
pub(crate) struct Line<T>(VecDeque<(u64, T)>);

impl<T> Line<T> {
    pub(crate) const fn new() -> Self {
        Self(VecDeque::new())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes a ticket in at its place; one that is there already gets the new value.
    pub(crate) fn insert(&mut self, ticket: u64, value: T) {
        if self.0.back().is_none_or(|(last, _)| *last < ticket) {
            self.0.push_back((ticket, value));
            return;
        }
        match self.find(ticket) {
            Ok(at) => self.0[at].1 = value,
            Err(at) => self.0.insert(at, (ticket, value)),
        }
    }

    pub(crate) fn first(&self) -> Option<&T> {
        self.0.front().map(|(_, value)| value)
    }

    pub(crate) fn last(&self) -> Option<&T> {
        self.0.back().map(|(_, value)| value)
    }

    pub(crate) fn pop_first(&mut self) -> Option<(u64, T)> {
        let first = self.0.pop_front();
        self.shrink();
        first
    }

    pub(crate) fn get_mut(&mut self, ticket: u64) -> Option<&mut T> {
        let at = self.find(ticket).ok()?;
        self.0.get_mut(at).map(|(_, value)| value)
    }

    pub(crate) fn remove(&mut self, ticket: u64) -> Option<T> {
        let at = self.find(ticket).ok()?;
        let (_, value) = self.0.remove(at)?;
        self.shrink();
        Some(value)
    }

    /// How many stand before a ticket, if it is here.
    pub(crate) fn position(&self, ticket: u64) -> Option<usize> {
        self.find(ticket).ok()
    }

    /// Where a ticket is, or where it would be.
    fn find(&self, ticket: u64) -> Result<usize, usize> {
        let Some((first, _)) = self.0.front() else {
            return Err(0);
        };
        // While nobody has left from the middle, the numbers tell.
        let told = ticket.checked_sub(*first).map(usize::try_from);
        match told {
            Some(Ok(at)) if self.0.get(at).is_some_and(|(other, _)| *other == ticket) => Ok(at),
            _ => self.0.binary_search_by_key(&ticket, |(ticket, _)| *ticket),
        }
    }

    fn shrink(&mut self) {
        if self.0.is_empty() && self.0.capacity() > KEPT {
            self.0.shrink_to(KEPT);
        }
    }
}

impl<T> IntoIterator for Line<T> {
    type Item = (u64, T);
    type IntoIter = IntoIter<(u64, T)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::{KEPT, Line};

    proptest! {
        #[test]
        fn it_is_a_map_in_the_order_of_its_tickets(
            steps in prop::collection::vec((0..5_u8, 0..24_u64), 0..120),
        ) {
            let (mut line, mut map) = (Line::new(), BTreeMap::new());
            let mut next = 0;
            for (step, (act, ticket)) in steps.into_iter().enumerate() {
                match act {
                    0 => {
                        next += 1;
                        line.insert(next, step);
                        map.insert(next, step);
                    }
                    1 => {
                        line.insert(ticket, step);
                        map.insert(ticket, step);
                        next = next.max(ticket);
                    }
                    2 => prop_assert_eq!(line.pop_first(), map.pop_first()),
                    3 => prop_assert_eq!(line.remove(ticket), map.remove(&ticket)),
                    _ => prop_assert_eq!(line.get_mut(ticket), map.get_mut(&ticket)),
                }
                let before = map.contains_key(&ticket).then(|| map.range(..ticket).count());
                prop_assert_eq!(line.position(ticket), before);
                prop_assert_eq!(line.first(), map.first_key_value().map(|(_, value)| value));
                prop_assert_eq!(line.last(), map.last_key_value().map(|(_, value)| value));
                prop_assert_eq!((line.len(), line.is_empty()), (map.len(), map.is_empty()));
            }
            prop_assert!(line.into_iter().eq(map));
        }
    }

    #[test]
    fn a_crowd_leaves_no_memory_behind() {
        let mut line = Line::new();
        (0..10_000).for_each(|ticket| line.insert(ticket, [0_u8; 64]));
        while line.pop_first().is_some() {}
        assert!(line.0.capacity() <= 2 * KEPT, "{}", line.0.capacity());
    }
}
