//! One look at a host: what it is asked, and how its answer is read.

use std::time::Duration;

use pgherd_cluster::outcome::Server;
use pgherd_cluster::{Fault, Look, Lsn, Pages, ServerId, Standing, Storage};
use pgherd_net::ConnectError;
use pgherd_wire::error::ErrorReport;
use pgherd_wire::sqlstate;

use crate::upstream::OpenError;

/// What is asked, with an empty `search_path`. The timeline of a primary is that of the segment it
/// writes, which is the new one as soon as it is promoted, while the control file keeps the old one
/// until the next checkpoint. That of a replica is the newest of three: what it receives, which only members of
/// `pg_read_all_stats` see, up to where it has written pages, and its last restartpoint, which may be minutes old. Functions that are refused in recovery stand behind a CASE. Where
/// a primary is, is where it inserts: what it has written may be short of what it has acknowledged
/// (`synchronous_commit = off`). At last whether the user is one of those members, what a primary says of its promotion, and
/// whether the user may read its history file.
pub(super) const QUESTION: &[u8] = b"\
SELECT r.r, \
(SELECT c.system_identifier FROM pg_catalog.pg_control_system() c), \
CASE WHEN r.r THEN (SELECT GREATEST(c.timeline_id, \
(SELECT e.min_recovery_end_timeline FROM pg_catalog.pg_control_recovery() e), \
(SELECT w.received_tli FROM pg_catalog.pg_stat_wal_receiver w))::text \
FROM pg_catalog.pg_control_checkpoint() c) \
ELSE pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8) END, \
CASE WHEN r.r THEN pg_catalog.pg_last_wal_replay_lsn() ELSE pg_catalog.pg_current_wal_insert_lsn() END, \
CASE WHEN r.r THEN pg_catalog.pg_last_wal_receive_lsn() END, \
CASE WHEN r.r THEN pg_catalog.date_part('epoch', \
pg_catalog.clock_timestamp() - pg_catalog.pg_last_xact_replay_timestamp()) END, \
(SELECT s.setting = 'on' AND s.source IN ('configuration file', 'command line', 'global', 'default') \
FROM pg_catalog.pg_settings s WHERE s.name = 'default_transaction_read_only'), \
(pg_catalog.date_part('epoch', pg_catalog.pg_postmaster_start_time()) * 1000000)::pg_catalog.int8, \
pg_catalog.inet_server_port(), \
CASE WHEN NOT r.r THEN pg_catalog.current_setting('wal_block_size') END, \
CASE WHEN NOT r.r THEN pg_catalog.pg_size_bytes(pg_catalog.current_setting('wal_segment_size')) END, \
pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE'), \
CASE WHEN NOT r.r THEN pg_catalog.pg_last_wal_replay_lsn() END, \
CASE WHEN NOT r.r THEN (SELECT c.timeline_id FROM pg_catalog.pg_control_checkpoint() c) END, \
pg_catalog.has_function_privilege(\
pg_catalog.to_regprocedure('pg_catalog.pg_read_file(pg_catalog.text)'), 'execute') \
FROM (SELECT pg_catalog.pg_is_in_recovery() AS r) r";

/// What the row that answers [`QUESTION`] says.
pub(super) struct Told {
    /// What the host is.
    pub(super) look: Look,
    /// Whether the user may see what a replica receives.
    pub(super) sees_receiver: bool,
    /// What a primary says of its promotion.
    pub(super) primary: Option<Server>,
    /// Whether the user may read files of the server.
    pub(super) reads_files: bool,
}

impl Told {
    /// Whether something is kept from the user by which it would be known at once to which timeline the host has moved on.
    pub(super) fn is_short(&self) -> bool {
        self.look.standing == Standing::Replica && !self.sees_receiver
    }
}

/// Reads the row that answers [`QUESTION`]; `None` if it is not one.
pub(super) fn read(row: &[Option<Vec<u8>>], latency: Duration) -> Option<Told> {
    let text = |at: usize| std::str::from_utf8(row.get(at)?.as_deref()?).ok();
    let (standing, radix) = match text(0)? {
        "t" => (Standing::Replica, 10),
        "f" => (Standing::Primary, 16),
        _ => return None,
    };
    let started = text(7).and_then(|micros| micros.parse().ok());
    let port = text(8).and_then(|port| port.parse().ok());
    let number = |at| text(at).and_then(|digits| digits.parse::<u64>().ok());
    let pages = number(9)
        .zip(number(10))
        .map(|(page, segment)| Pages { page, segment });
    let lsn: Lsn = text(3).unwrap_or("0/0").parse().ok()?;
    let seconds = text(5).and_then(|seconds| seconds.parse::<f64>().ok());
    let system = text(1)?.parse().ok()?;
    let timeline = u32::from_str_radix(text(2)?, radix).ok()?;
    let primary = number(7).zip(number(13)).map(|(born, checkpoint)| Server {
        system,
        born,
        timeline,
        replayed: text(12).and_then(|lsn| lsn.parse().ok()),
        checkpoint: u32::try_from(checkpoint).unwrap_or(u32::MAX),
        was_standby: false,
    });
    let look = Look {
        system,
        timeline,
        standing,
        // A replica that has replayed nothing yet has no position.
        lsn: pages.map_or(lsn, |pages| pages.end(lsn)),
        storage: Storage::Own,
        lsn_age: Duration::ZERO,
        received: text(4).and_then(|lsn| lsn.parse().ok()),
        replay_age: seconds.and_then(|age| Duration::try_from_secs_f64(age.max(0.0)).ok()),
        // What is set for a user, a database or this connection alone says nothing of the server.
        read_only: standing == Standing::Primary && text(6) == Some("t"),
        latency,
        server: started.map(|started| ServerId { started, port }),
    };
    Some(Told {
        look,
        sees_receiver: text(11) != Some("f"),
        primary,
        reads_files: text(14) == Some("t"),
    })
}

/// What helps a user that is not told all.
pub(crate) fn advice(user: &str) -> String {
    let user = user.replace('"', "\"\"");
    format!(
        "the user who looks is not told what a replica receives, so that a new timeline may be known minutes late: \
         GRANT pg_monitor TO \"{user}\""
    )
}

/// Asks a server whether the user is told by replicas what they receive, and whether it is one.
pub(crate) const RIGHTS: &[u8] = b"\
SELECT pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE'), pg_catalog.pg_is_in_recovery()";

/// What it says of a host that no connection could be opened.
pub(super) fn unopened(error: &OpenError) -> Fault {
    match error {
        OpenError::Connect(ConnectError::Refused { .. }) => Fault::Unreachable,
        OpenError::Connect(_) => Fault::Lost,
        OpenError::TimedOut { .. } | OpenError::Crowded { .. } => Fault::TimedOut,
        OpenError::Refused { report, .. } => refused(report),
        OpenError::Secret { .. } | OpenError::Outdated { .. } | OpenError::Unbound { .. } => {
            Fault::Refused
        }
        OpenError::Dialogue { .. } | OpenError::Standby { .. } | OpenError::Withheld { .. } => {
            Fault::Broken(error.to_string().into())
        }
    }
}

/// What a server's own words say of it.
pub(super) fn refused(report: &ErrorReport) -> Fault {
    let code = report.code;
    if code == sqlstate::CANNOT_CONNECT_NOW {
        Fault::Starting
    } else if code == sqlstate::QUERY_CANCELED {
        // A statement_timeout, on a host that is slow.
        Fault::TimedOut
    } else if code.class() == "57" {
        Fault::Stopping
    } else if code.class() == "53" {
        Fault::Full
    } else if matches!(code.class(), "28" | "3D" | "42") {
        Fault::Refused
    } else {
        Fault::Broken(report.message.as_str().into())
    }
}

/// Whether an answer to a question is an error of the user who asks rather than of the host, so that another user may
/// well be told: of its rights, or of what is set for it.
pub(super) fn is_of_user(report: &ErrorReport) -> bool {
    let code = report.code;
    match code.class() {
        "53" | "58" | "XX" => false,
        "57" => code == sqlstate::QUERY_CANCELED,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pgherd_cluster::outcome::Server;
    use pgherd_cluster::{Lsn, ServerId, Standing};

    use super::read;

    fn row<const N: usize>(values: [&str; N]) -> Vec<Option<Vec<u8>>> {
        let value = |text: &str| (!text.is_empty()).then(|| text.as_bytes().to_vec());
        values.into_iter().map(value).collect()
    }

    #[test]
    fn a_primary_says_its_timeline_in_hexadecimal() {
        let row = row([
            "f",
            "7123456789012345678",
            "0000001F",
            "16/B374D848",
            "",
            "",
            "f",
            "1764403200123456",
            "5432",
        ]);
        let told = read(&row, Duration::ZERO).expect("a look");
        assert!(
            told.sees_receiver && told.primary.is_none(),
            "it does not say"
        );
        let look = told.look;
        let server = ServerId {
            started: 1_764_403_200_123_456,
            port: Some(5432),
        };
        assert_eq!(look.server, Some(server));
        assert_eq!((look.standing, look.timeline), (Standing::Primary, 31));
        assert_eq!(look.lsn.to_string(), "16/B374D848");
        assert_eq!((look.received, look.read_only), (None, false));
    }

    /// Else a replica that has everything seems to lack the header of a page that is empty still.
    #[test]
    fn a_primary_that_begins_a_page_has_written_no_more_than_the_page_before() {
        let look = |lsn, page, segment| {
            let row = row([
                "f", "7", "00000001", lsn, "", "", "f", "1", "5432", page, segment,
            ]);
            let told = read(&row, Duration::ZERO).expect("a look");
            told.look.lsn.to_string()
        };
        assert_eq!(look("0/5000028", "8192", "16777216"), "0/5000000");
        assert_eq!(look("0/5002018", "8192", "16777216"), "0/5002000");
        assert_eq!(look("0/5002018", "65536", "16777216"), "0/5002018");
        assert_eq!(look("0/5002018", "", ""), "0/5002018", "it does not say");
    }

    #[test]
    fn a_replica_is_not_read_only_of_its_own_will() {
        let row = row(["t", "1", "31", "0/10", "0/20", "1.5", "t"]);
        let look = read(&row, Duration::ZERO).expect("a look").look;
        assert_eq!((look.standing, look.timeline), (Standing::Replica, 31));
        assert_eq!(look.replay_age, Some(Duration::from_millis(1500)));
        assert!(!look.read_only);
        assert_eq!(look.server, None);
    }

    #[test]
    fn a_primary_tells_of_its_promotion_and_a_user_of_its_rights() {
        let row = |standing, rights, replayed, checkpoint| {
            row([
                standing, "7", "2", "0/100", "", "", "f", "5", "5432", "", "", rights, replayed,
                checkpoint,
            ])
        };
        let read = |row: Vec<_>| read(&row, Duration::ZERO).expect("a look");
        let promoted = read(row("f", "f", "0/90", "1"));
        assert!(!promoted.is_short(), "a primary receives nothing");
        let primary = Server {
            system: 7,
            born: 5,
            timeline: 2,
            replayed: Some(Lsn::new(0x90)),
            checkpoint: 1,
            was_standby: false,
        };
        assert_eq!(promoted.primary, Some(primary));
        let never = read(row("f", "t", "", "2")).primary.expect("a primary");
        assert_eq!((never.replayed, never.checkpoint), (None, 2));
        let replica = read(row("t", "f", "", ""));
        assert!(replica.is_short() && replica.primary.is_none());
        assert!(!read(row("t", "t", "", "")).is_short());
    }

    #[test]
    fn what_is_no_answer_is_not_read() {
        for wrong in [
            ["", "1", "1", "0/1", "", "", "f"],
            ["f", "x", "1", "0/1", "", "", "f"],
            ["f", "1", "", "0/1", "", "", "f"],
            ["t", "1", "1", "nowhere", "", "", "t"],
        ] {
            assert!(read(&row(wrong), Duration::ZERO).is_none(), "{wrong:?}");
        }
        assert!(read(&[], Duration::ZERO).is_none());
    }
}
