//! What the console has closed, of what exists now and of what comes later.

use std::collections::HashSet;

use parking_lot::Mutex;

/// Which databases give no servers, and which take no new clients.
#[derive(Debug, Default)]
pub struct Doors {
    paused: Mutex<Names>,
    disabled: Mutex<HashSet<String>>,
}

/// All names, or none, but for some.
#[derive(Debug, Default)]
struct Names {
    all: bool,
    but: HashSet<String>,
}

impl Names {
    fn contains(&self, name: &str) -> bool {
        self.all != self.but.contains(name)
    }

    fn set(&mut self, name: &str, wanted: bool) {
        if self.all == wanted {
            self.but.remove(name);
        } else {
            self.but.insert(name.to_owned());
        }
    }
}

impl Doors {
    /// Says of one database, or of all, whether it gives servers.
    pub fn pause(&self, database: Option<&str>, paused: bool) {
        let mut names = self.paused.lock();
        match database {
            Some(name) => names.set(name, paused),
            None => {
                *names = Names {
                    all: paused,
                    but: HashSet::new(),
                };
            }
        }
    }

    /// Whether a database gives no servers.
    pub fn is_paused(&self, database: &str) -> bool {
        self.paused.lock().contains(database)
    }

    /// Whether no database gives servers.
    pub fn are_all_paused(&self) -> bool {
        let names = self.paused.lock();
        names.all && names.but.is_empty()
    }

    /// Says whether a database takes new clients.
    pub fn disable(&self, database: &str, disabled: bool) {
        let mut names = self.disabled.lock();
        if disabled {
            names.insert(database.to_owned());
        } else {
            names.remove(database);
        }
    }

    /// Whether a database takes no new clients.
    pub fn is_disabled(&self, database: &str) -> bool {
        self.disabled.lock().contains(database)
    }
}

#[cfg(test)]
mod tests {
    use super::Doors;

    #[test]
    fn the_last_word_on_a_name_counts() {
        let doors = Doors::default();
        assert!(!doors.is_paused("a"));
        doors.pause(Some("a"), true);
        assert!(doors.is_paused("a") && !doors.is_paused("b"));
        doors.pause(None, true);
        assert!(doors.is_paused("b") && doors.are_all_paused());
        doors.pause(Some("a"), false);
        assert!(!doors.is_paused("a") && doors.is_paused("b") && !doors.are_all_paused());
        doors.pause(Some("a"), true);
        assert!(doors.is_paused("a") && doors.are_all_paused());
        doors.pause(Some("a"), false);
        doors.pause(None, false);
        assert!(!doors.is_paused("a") && !doors.is_paused("b"));
    }
}
