//! How many clients each database and each user has.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

use parking_lot::Mutex;
use pgherd_config::Share;
use pgherd_wire::error::ErrorReport;
use pgherd_wire::sqlstate;

use crate::control::Identity;

/// The clients that have logged in, counted by database and by user.
#[derive(Debug, Default)]
pub struct Caps {
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    databases: HashMap<String, usize>,
    users: HashMap<String, usize>,
}

impl Caps {
    /// Takes a seat for a client; it is given back when it is dropped.
    ///
    /// # Errors
    /// The limit that is reached, worded for the client (53300, as with Postgres' own limits).
    pub fn enter(
        self: &Arc<Self>,
        client: &Arc<Identity>,
        database: Share,
        user: Share,
    ) -> Result<Seat, ErrorReport> {
        let mut counts = self.counts.lock();
        if is_full(&counts.databases, &client.database, database.max_clients) {
            return Err(full("database", &client.database, "max_database_clients"));
        }
        if is_full(&counts.users, &client.user, user.max_clients) {
            return Err(full("user", &client.user, "max_user_clients"));
        }
        *counts.databases.entry(client.database.clone()).or_default() += 1;
        *counts.users.entry(client.user.clone()).or_default() += 1;
        drop(counts);
        Ok(Seat {
            caps: Arc::clone(self),
            client: Arc::clone(client),
        })
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        let counts = self.counts.lock();
        counts.databases.is_empty() && counts.users.is_empty()
    }
}

fn is_full(counts: &HashMap<String, usize>, name: &str, max: Option<NonZeroUsize>) -> bool {
    max.is_some_and(|max| counts.get(name).is_some_and(|count| *count >= max.get()))
}

fn full(kind: &str, name: &str, limit: &str) -> ErrorReport {
    let text = format!("no more connections allowed for {kind} \"{name}\" ({limit})");
    ErrorReport::fatal(sqlstate::TOO_MANY_CONNECTIONS, text)
}

/// One client's place among those of its database and its user.
#[derive(Debug)]
pub struct Seat {
    caps: Arc<Caps>,
    client: Arc<Identity>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut counts = self.caps.counts.lock();
        leave(&mut counts.databases, &self.client.database);
        leave(&mut counts.users, &self.client.user);
    }
}

/// Names are forgotten with their last client: with a wildcard there is no end of them.
fn leave(counts: &mut HashMap<String, usize>, name: &str) {
    if let Some(count) = counts.get_mut(name) {
        *count -= 1;
        if *count == 0 {
            counts.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::sync::Arc;

    use pgherd_config::Share;
    use pgherd_wire::sqlstate;

    use super::Caps;
    use crate::control::Identity;

    fn client(database: &str, user: &str) -> Arc<Identity> {
        let (database, user) = (database.to_owned(), user.to_owned());
        Arc::new(Identity {
            database,
            user,
            ..Identity::default()
        })
    }

    fn most(max_clients: usize) -> Share {
        Share {
            max_clients: NonZeroUsize::new(max_clients),
            max_connections: None,
        }
    }

    #[test]
    fn seats_are_counted_by_database_and_by_user() {
        let caps = Arc::new(Caps::default());
        let first = caps
            .enter(&client("shop", "alice"), most(1), most(0))
            .expect("the first");
        let report = caps
            .enter(&client("shop", "bob"), most(1), most(0))
            .expect_err("shop is full");
        assert_eq!(report.code, sqlstate::TOO_MANY_CONNECTIONS);
        assert_eq!(
            report.message,
            "no more connections allowed for database \"shop\" (max_database_clients)"
        );
        let report = caps
            .enter(&client("other", "alice"), most(1), most(1))
            .expect_err("alice is in");
        assert_eq!(
            report.message,
            "no more connections allowed for user \"alice\" (max_user_clients)"
        );
        let second = caps
            .enter(&client("other", "bob"), most(1), most(1))
            .expect("another of both");
        drop(first);
        drop(
            caps.enter(&client("shop", "bob"), most(1), most(2))
                .expect("the seat was given back"),
        );
        drop(second);
        assert!(caps.is_empty(), "no name is kept without a client");
    }
}
