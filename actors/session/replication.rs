//! Replication connections: a client on a server connection of its own, which nobody had before it
//! and nobody gets after it.
//!
//! It lives in the session's task like any other client. The server connection is a value in that
//! task, so it ends with it; no pool knows of it, but it counts towards the same limits.

mod farewell;
mod lane;
mod open;
mod phase;
mod plan;
mod register;
mod relay;
mod route;

use std::sync::Arc;

use bytes::BytesMut;
use pgherd_net::Stream;
use pgherd_wire::error::ErrorReport;
use pgherd_wire::sqlstate;

pub use plan::Plan;
pub(super) use plan::replicating;
pub use register::{Census, Listed, Replications};
pub(super) use route::settle;

use crate::control::Control;
use crate::facts::Facts;
use crate::session::Bye;

/// Which kind of replication a client asks for by the start-up parameter `replication`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Of the whole server: standbys, `pg_basebackup`, `pg_receivewal`. It names no database.
    Physical,
    /// Of one database, where statements run too: subscribers, `pg_recvlogical`.
    Logical,
}

impl Kind {
    /// The parameter's value in a start-up packet, or `None` for an ordinary connection.
    ///
    /// Source: `ProcessStartupPacket`, which takes `database` in this very spelling and else a
    /// boolean as anywhere in Postgres.
    ///
    /// # Errors
    /// A value that is neither, worded as by Postgres (22023).
    pub fn parse(value: &str) -> Result<Option<Self>, ErrorReport> {
        if value == "database" {
            return Ok(Some(Self::Logical));
        }
        match boolean(value) {
            Some(true) => Ok(Some(Self::Physical)),
            Some(false) => Ok(None),
            None => Err(ErrorReport::fatal(
                sqlstate::INVALID_PARAMETER_VALUE,
                format!("invalid value for parameter \"replication\": \"{value}\""),
            )
            .hint("Valid values are: \"false\", 0, \"true\", 1, \"database\".")),
        }
    }

    /// What a server is asked for in turn.
    pub fn parameter(self) -> &'static str {
        match self {
            Self::Physical => "true",
            Self::Logical => "database",
        }
    }

    /// Its name in tables and metrics, as PgBouncer has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Physical => "physical",
            Self::Logical => "logical",
        }
    }
}

/// A boolean as `parse_bool` reads it: unambiguous beginnings of the words, in letters of any size.
pub(super) fn boolean(value: &str) -> Option<bool> {
    const WORDS: [(&str, usize, bool); 6] = [
        ("true", 1, true),
        ("false", 1, false),
        ("yes", 1, true),
        ("no", 1, false),
        ("on", 2, true),
        ("off", 2, false),
    ];
    let lower = value.to_ascii_lowercase();
    match lower.as_str() {
        "1" => Some(true),
        "0" => Some(false),
        _ => WORDS
            .into_iter()
            .find(|(word, least, _)| lower.len() >= *least && word.starts_with(&lower))
            .map(|(_, _, value)| value),
    }
}

/// Serves a client that has proved who it is: finds it a server, and relays until either side ends.
pub(super) async fn serve(
    mut client: Stream,
    mut input: BytesMut,
    plan: Plan,
    facts: Arc<Facts>,
    control: Arc<Control>,
) -> Bye {
    match open::open(&mut client, &mut input, &plan, &facts, &control).await {
        Ok(link) => relay::run(client, input, link, &control).await,
        Err(open::Unopened::Gone) => Bye::Gone,
        Err(open::Unopened::Told(report)) => {
            let mut last = BytesMut::new();
            report.encode_error(&mut last);
            farewell::say(client, last).await;
            Bye::Sent(report)
        }
    }
}

#[cfg(test)]
mod tests {
    use pgherd_wire::sqlstate;

    use super::Kind;

    #[test]
    fn the_parameter_is_read_as_by_postgres() {
        for value in ["true", "TRUE", "t", "tru", "yes", "y", "on", "1"] {
            assert_eq!(Kind::parse(value), Ok(Some(Kind::Physical)), "{value}");
        }
        for value in ["false", "f", "no", "n", "off", "of", "0"] {
            assert_eq!(Kind::parse(value), Ok(None), "{value}");
        }
        assert_eq!(Kind::parse("database"), Ok(Some(Kind::Logical)));
        for value in ["", "o", "Database", "2", "truest", "logical"] {
            let report = Kind::parse(value).expect_err(value);
            assert_eq!(report.code, sqlstate::INVALID_PARAMETER_VALUE);
        }
    }

    #[test]
    fn what_was_understood_is_asked_for() {
        for kind in [Kind::Physical, Kind::Logical] {
            assert_eq!(Kind::parse(kind.parameter()), Ok(Some(kind)));
        }
    }
}
