//! Clients that have not proved yet who they are, and which of them makes room when there are too many.
//!
//! An address says little about who takes the places: behind a balancer all clients have the same. Whether somebody has
//! said anything does: every client of Postgres speaks first, and at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pgherd_wire::error::ErrorReport;
use pgherd_wire::sqlstate;

use crate::control::{Control, Order};

/// Who has been silent for so long has nothing on its way. In a crowd those who have just come must not be pushed out by
/// those behind them, or nobody of it would get in.
const SILENCE: Duration = Duration::from_millis(200);

/// Why a client is not let in, or makes room for one that is.
pub const TOO_MANY: &str = "too many clients are logging in (max_logins)";

/// The places of those who log in.
#[derive(Debug, Default)]
pub struct Logins(Mutex<Places>);

#[derive(Debug, Default)]
struct Places {
    taken: usize,
    /// Who has said nothing yet, by number: the first has been silent the longest.
    silent: BTreeMap<u64, Silent>,
    next: u64,
}

#[derive(Debug)]
struct Silent {
    since: Instant,
    control: Arc<Control>,
}

/// A place among those who log in, given back when it is dropped.
#[derive(Debug)]
pub struct LoggingIn {
    logins: Arc<Logins>,
    number: u64,
    state: State,
    /// Another client has gone, or is about to, since this one has its place.
    displaces: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The client has said nothing yet, and may have lost the place.
    Silent,
    /// It has, and keeps the place.
    Speaks,
    /// Another client has the place.
    Displaced,
}

impl Logins {
    /// How many places are taken.
    pub fn count(&self) -> usize {
        self.0.lock().taken
    }

    /// Takes a place for a client that has just come: a free one, or that of the client that has been silent the longest,
    /// which is ordered to go. `None` if all who are there have begun to speak, or have only just come.
    pub fn enter(
        self: &Arc<Self>,
        max: usize,
        control: &Arc<Control>,
        now: Instant,
    ) -> Option<LoggingIn> {
        let mut places = self.0.lock();
        let displaced = if places.taken < max {
            places.taken += 1;
            None
        } else {
            Some(places.take_longest_silent(now)?)
        };
        let number = places.next;
        places.next += 1;
        let silent = Silent {
            since: now,
            control: Arc::clone(control),
        };
        places.silent.insert(number, silent);
        drop(places);
        let displaces = displaced.is_some();
        if let Some(displaced) = displaced {
            send_away(&displaced, TOO_MANY);
        }
        Some(LoggingIn {
            logins: Arc::clone(self),
            number,
            state: State::Silent,
            displaces,
        })
    }

    /// Frees the place of the client that has been silent the longest, which is ordered to go for this reason. False if all
    /// who are there have begun to speak, or have only just come.
    pub fn displace(&self, why: &str, now: Instant) -> bool {
        let mut places = self.0.lock();
        let Some(displaced) = places.take_longest_silent(now) else {
            return false;
        };
        places.taken -= 1;
        drop(places);
        send_away(&displaced, why);
        true
    }
}

fn send_away(displaced: &Control, why: &str) {
    let why = ErrorReport::fatal(sqlstate::TOO_MANY_CONNECTIONS, why);
    displaced.order(Order::Terminate, why);
}

impl Places {
    fn take_longest_silent(&mut self, now: Instant) -> Option<Arc<Control>> {
        let first = self.silent.first_entry()?;
        let silence = now.saturating_duration_since(first.get().since);
        (silence >= SILENCE).then(|| first.remove().control)
    }
}

impl LoggingIn {
    /// The client has begun to speak, and makes room for nobody from now on.
    pub fn speaks(&mut self) {
        if self.state == State::Silent {
            let still = self.logins.0.lock().silent.remove(&self.number);
            self.state = still.map_or(State::Displaced, |_| State::Speaks);
        }
    }

    /// Whether another client has had to go for this one.
    pub fn displaces(&self) -> bool {
        self.displaces
    }

    /// Whether another client has got the place.
    pub fn is_displaced(&self) -> bool {
        match self.state {
            State::Silent => !self.logins.0.lock().silent.contains_key(&self.number),
            State::Speaks => false,
            State::Displaced => true,
        }
    }
}

impl Drop for LoggingIn {
    fn drop(&mut self) {
        self.speaks();
        if self.state == State::Speaks {
            self.logins.0.lock().taken -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use pgherd_net::Killer;

    use super::{LoggingIn, Logins, SILENCE};
    use crate::control::{Control, Order};

    fn control() -> Arc<Control> {
        Arc::new(Control::new(1, Killer::default()))
    }

    fn enter(logins: &Arc<Logins>, max: usize, now: Instant) -> (Arc<Control>, Option<LoggingIn>) {
        let control = control();
        let place = logins.enter(max, &control, now);
        (control, place)
    }

    #[test]
    fn who_has_been_silent_the_longest_makes_room() {
        let (logins, start) = (Arc::new(Logins::default()), Instant::now());
        let (first, first_place) = enter(&logins, 2, start);
        let (second, _second_place) = enter(&logins, 2, start + Duration::from_millis(1));
        let (_, none) = enter(&logins, 2, start + SILENCE / 2);
        assert!(none.is_none(), "they have only just come");
        let (third, third_place) = enter(&logins, 2, start + SILENCE);
        let third_place = third_place.expect("the place of the first");
        assert_eq!(first.ordered(), Order::Terminate);
        assert_eq!(
            (second.ordered(), third.ordered()),
            (Order::Serve, Order::Serve)
        );
        let first_place = first_place.expect("it had one");
        assert!(first_place.is_displaced() && !third_place.is_displaced());
        assert_eq!(logins.count(), 2);
        drop(first_place);
        assert_eq!(logins.count(), 2, "its place was taken, not freed");
        drop(third_place);
        assert_eq!(logins.count(), 1);
    }

    #[test]
    fn who_makes_room_for_a_seat_frees_its_place_as_well() {
        let (logins, start) = (Arc::new(Logins::default()), Instant::now());
        let (silent, silent_place) = enter(&logins, 9, start);
        let (_, mut place) = enter(&logins, 9, start);
        place.as_mut().expect("a place").speaks();
        assert!(!logins.displace("full", start + SILENCE / 2));
        assert!(logins.displace("full", start + SILENCE));
        assert_eq!(silent.ordered(), Order::Terminate);
        assert_eq!(logins.count(), 1);
        assert!(silent_place.as_ref().is_some_and(LoggingIn::is_displaced));
        drop(silent_place);
        assert_eq!(logins.count(), 1, "it is free already");
        assert!(!logins.displace("full", start + SILENCE), "it speaks");
        drop(place);
        assert_eq!(logins.count(), 0);
    }

    #[test]
    fn who_speaks_keeps_its_place() {
        let (logins, start) = (Arc::new(Logins::default()), Instant::now());
        let (first, mut first_place) = enter(&logins, 2, start);
        let (second, mut second_place) = enter(&logins, 2, start);
        first_place.as_mut().expect("a place").speaks();
        let later = start + SILENCE * 9;
        let (third, third_place) = enter(&logins, 2, later);
        let mut third_place = third_place.expect("the place of the second");
        assert_eq!(
            (first.ordered(), second.ordered()),
            (Order::Serve, Order::Terminate)
        );
        // Too late: somebody else has the place by now.
        second_place.as_mut().expect("it had one").speaks();
        assert!(second_place.as_ref().is_some_and(LoggingIn::is_displaced));
        third_place.speaks();
        let (_, none) = enter(&logins, 2, later + SILENCE);
        assert!(none.is_none() && third.ordered() == Order::Serve);
        drop((second_place, third_place));
        assert_eq!(logins.count(), 1);
        drop(first_place);
        assert_eq!(logins.count(), 0);
    }
}
