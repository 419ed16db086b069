//! What Aurora's instances are asked, and what is made of what they say.
//!
//! Aurora has no position of its log to tell, and its timeline never rises; the usual questions are refused there
//! altogether. Its functions are not among those of `pg_proc`, though they can be looked up.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pgherd_cluster::aurora::{
    AuroraError, AuroraRow, HostTemplate, Instances, MAX_INSTANCES, Name, Testimony,
};
use pgherd_cluster::{HostName, Look, ServerId, Standing, Storage};
use pgherd_config::{Address, Database};
use pgherd_wire::error::ErrorReport;

use crate::cluster::Cluster;
use crate::cluster::members::{Members, host};
use crate::server::ServerConn;
use crate::session::setup::{self, Answer};

/// Whether a server is one of Aurora's, in a way that is no error anywhere else.
const KIND: &[u8] = b"\
SELECT pg_catalog.to_regproc('pg_catalog.aurora_replica_status') IS NOT NULL \
OR EXISTS (SELECT FROM pg_catalog.pg_settings s \
WHERE s.name = 'rds.extensions' AND s.setting LIKE '%aurora_stat_utils%')";

/// Lifts what may be set for a user to end its connection between two looks. Not every version knows these, so they cannot
/// be said at the login.
const LASTING: &[u8] = b"\
SELECT pg_catalog.set_config(n, '0', false) FROM pg_catalog.unnest(ARRAY['idle_session_timeout', 'transaction_timeout']) n \
WHERE pg_catalog.current_setting(n, true) <> '0'";

/// What an instance of Aurora's is asked, in the place of [`super::look::QUESTION`]: a row for each instance.
const QUESTION: &[u8] = b"\
SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.aurora_db_instance_identifier(), \
(SELECT s.setting = 'on' AND s.source IN ('configuration file', 'command line', 'global', 'default') \
FROM pg_catalog.pg_settings s WHERE s.name = 'default_transaction_read_only'), \
(pg_catalog.date_part('epoch', pg_catalog.pg_postmaster_start_time()) * 1000000)::pg_catalog.int8, \
pg_catalog.inet_server_port(), \
r.server_id, r.session_id, r.durable_lsn, r.replica_lag_in_msec, \
pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - r.last_update_timestamp) \
FROM (SELECT 1) one LEFT JOIN pg_catalog.aurora_replica_status() r ON true";

/// What is known of a database's cluster if it is one of Aurora's.
#[derive(Debug, Default)]
pub(super) struct Aurora {
    /// Its servers share one volume.
    seen: AtomicBool,
    instances: Mutex<Instances>,
    /// It is known how instances are called, so that one host leads to all.
    searches: AtomicBool,
    template: Mutex<Option<HostTemplate>>,
    /// The instances that were found, beside the hosts that are written.
    found: Mutex<Vec<HostName>>,
}

impl Aurora {
    pub(super) fn of(database: &Database) -> Self {
        let template = template(database);
        Self {
            searches: AtomicBool::new(template.is_some()),
            template: Mutex::new(template),
            ..Self::default()
        }
    }

    /// Takes over what the configuration says now.
    pub(super) fn reconfigure(&self, database: &Database) {
        let template = template(database);
        self.searches.store(template.is_some(), Ordering::Relaxed);
        let mut known = self.template.lock();
        if *known != template {
            *known = template;
            self.found.lock().clear();
        }
    }

    /// Whether one host may lead to others.
    pub(super) fn searches(&self) -> bool {
        self.searches.load(Ordering::Relaxed)
    }

    /// The address of the instance that this host has said it is; `None` if it is not known.
    pub(super) fn instance(&self, host: &HostName) -> Option<HostName> {
        let template = self.template.lock().clone()?;
        let own = self.instances.lock().own(host)?.clone();
        Some(template.host(&own))
    }

    /// Adds the instances that were found to the hosts that are written, which stay what they are.
    pub(super) fn join(&self, written: Members) -> Members {
        let found = self.found.lock();
        let others = found.iter().filter(|name| written.get(name).is_none());
        let others: Vec<_> = others
            .filter_map(|name| Some((name.clone(), host(name)?)))
            .collect();
        written.iter().cloned().chain(others).collect()
    }
}

/// How instances are found: as it is written, or by the endpoint of a cluster.
fn template(database: &Database) -> Option<HostTemplate> {
    if let Some(written) = &database.aurora {
        return written.as_str().parse().ok();
    }
    let mut hosts = database.hosts.iter();
    hosts.find_map(|host| match &host.address {
        Address::Tcp { host, port } => HostTemplate::of_endpoint(host, *port),
        Address::Unix { .. } => None,
    })
}

/// What has come of a look at an instance.
pub(super) struct Sight {
    look: Look,
    testimony: Testimony,
}

/// Finds out where a server keeps its data.
///
/// # Errors
/// If the connection is of no use.
pub(crate) async fn storage(server: &mut ServerConn) -> Result<Storage, ErrorReport> {
    Ok(kind(&setup::run(server, KIND).await?))
}

/// As [`storage`], on a monitor's own connection, which is to last.
///
/// # Errors
/// If the connection is of no use.
pub(super) async fn storage_and_last(server: &mut ServerConn) -> Result<Storage, ErrorReport> {
    let both = [KIND, LASTING].join(&b';');
    Ok(kind(&setup::run(server, &both).await?))
}

fn kind(answer: &Answer) -> Storage {
    match answer.first() {
        Some(b"t") => Storage::Shared,
        _ => Storage::Own,
    }
}

/// Asks an instance.
///
/// # Errors
/// If the connection is of no use.
pub(super) async fn ask(server: &mut ServerConn) -> Result<Answer, ErrorReport> {
    setup::run_into(server, QUESTION, Answer::of_rows(MAX_INSTANCES + 1)).await
}

/// Reads the rows that answer [`QUESTION`].
///
/// # Errors
/// Why they cannot be.
pub(super) fn read(rows: &[Vec<Option<Vec<u8>>>], latency: Duration) -> Result<Sight, Unclear> {
    let text = |row: &[Option<Vec<u8>>], at: usize| -> Option<String> {
        let value = row.get(at)?.as_deref()?;
        std::str::from_utf8(value).ok().map(str::to_owned)
    };
    let first = rows.first().ok_or(Unclear::Shape)?;
    let standing = match text(first, 0).as_deref() {
        Some("t") => Standing::Replica,
        Some("f") => Standing::Primary,
        _ => return Err(Unclear::Shape),
    };
    let own = Name::new(&text(first, 1).ok_or(Unclear::Shape)?)?;
    let mut all = Vec::with_capacity(rows.len());
    for row in rows {
        // Without any row of the function's there is one that is empty.
        let Some(name) = text(row, 5) else { continue };
        let column = |at| text(row, at);
        let (session, durable, lag, updated) = (column(6), column(7), column(8), column(9));
        all.push(AuroraRow::read(
            &name,
            session.as_deref(),
            durable.as_deref(),
            lag.as_deref(),
            updated.as_deref(),
        )?);
    }
    let testimony = Testimony::new(own, standing, all)?;
    let started = text(first, 3).and_then(|micros| micros.parse().ok());
    let port = text(first, 4).and_then(|port| port.parse().ok());
    let look = Look {
        // Only the cluster knows; see [`Cluster::testified`].
        system: 0,
        timeline: 1,
        standing,
        storage: Storage::Shared,
        lsn: testimony.place(),
        lsn_age: testimony.place_age(),
        received: None,
        replay_age: testimony.lag(),
        read_only: standing == Standing::Primary && text(first, 2).as_deref() == Some("t"),
        latency,
        server: started.map(|started| ServerId { started, port }),
    };
    Ok(Sight { look, testimony })
}

/// Why an answer is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unclear {
    #[error("not what it was asked")]
    Shape,
    #[error("aurora_replica_status() tells of {0}")]
    Row(#[from] AuroraError),
}

impl Cluster {
    /// Whether its servers share one volume, as far as any was asked.
    pub fn is_shared(&self) -> bool {
        self.aurora.seen.load(Ordering::Relaxed)
    }

    /// The name of the instance that a host has said it is.
    pub fn instance(&self, host: &HostName) -> Option<String> {
        let instances = self.aurora.instances.lock();
        instances.own(host).map(ToString::to_string)
    }

    /// An instance has answered: takes note of what it says of the others, and gives the look at itself.
    pub(super) fn testified(&self, from: &HostName, sight: Sight, now: Instant) -> Look {
        let Sight { look, testimony } = sight;
        if !self.aurora.seen.swap(true, Ordering::Relaxed) {
            tracing::info!(database = self.name, "its servers are Aurora's");
        }
        let template = self.aurora.template.lock().clone();
        let (members, written) = (self.members.load(), self.written_members());
        let mut instances = self.aurora.instances.lock();
        instances.keep(|host| host == from || members.get(host).is_some());
        let system = instances.heard(from, testimony);
        let verdict = self.verdict();
        let is_ours = match verdict.system {
            Some(ours) => ours == system,
            None => instances.is_one_cluster(),
        };
        if let Some(template) = template.filter(|_| is_ours) {
            let holds = |host: &HostName| {
                let holder = verdict.holder.as_ref();
                holder.is_some_and(|holder| holder.host == *host)
            };
            // One that is reached by a host that is written is not reached twice, unless it is written to.
            let found = instances.members(system, &template, |host, known| {
                holds(host) || !known.iter().any(|name| written.get(name).is_some())
            });
            *self.aurora.found.lock() = found;
        }
        drop(instances);
        self.regroup("told by aurora", now);
        self.characterize();
        Look { system, ..look }
    }

    /// A host has not answered.
    pub(super) fn missed(&self, from: &HostName) {
        self.aurora.instances.lock().failed(from);
    }

    /// Takes up who leads by what all instances have said; behind the look at the one that says something new, for that
    /// contradicts nobody.
    pub(super) fn take_claim(&self, now: Instant) {
        let template = self.aurora.template.lock().clone();
        let claim = self.aurora.instances.lock().claim(template.as_ref());
        if let Some(claim) = claim {
            self.judged(now, |judge| judge.told(claim, now));
            self.rouse(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pgherd_cluster::{Lsn, Standing, Storage};

    use super::read;

    fn row(values: [&str; 10]) -> Vec<Option<Vec<u8>>> {
        let value = |text: &str| (!text.is_empty()).then(|| text.as_bytes().to_vec());
        values.into_iter().map(value).collect()
    }

    const WRITER: [&str; 5] = ["one", "MASTER_SESSION_ID", "900", "", "0.5"];
    const READER: [&str; 5] = ["two", "9a1f", "880", "18.5", ""];

    fn joined(head: [&str; 5], rows: &[[&str; 5]]) -> Vec<Vec<Option<Vec<u8>>>> {
        let all = |tail: &[&str; 5]| {
            let mut whole = [""; 10];
            whole[..5].copy_from_slice(&head);
            whole[5..].copy_from_slice(tail);
            row(whole)
        };
        rows.iter().map(all).collect()
    }

    #[test]
    fn a_reader_says_what_it_is_and_where() {
        let head = ["t", "two", "t", "1764403200123456", "5432"];
        let rows = joined(head, &[WRITER, READER]);
        let look = read(&rows, Duration::ZERO).expect("a look").look;
        assert_eq!(
            (look.standing, look.storage),
            (Standing::Replica, Storage::Shared)
        );
        assert_eq!((look.lsn, look.timeline), (Lsn::new(880), 1));
        assert_eq!(look.replay_age, Some(Duration::from_micros(18_500)));
        assert_eq!(look.lsn_age, Duration::from_secs(1));
        assert!(!look.read_only && look.server.is_some());
    }

    #[test]
    fn a_writer_whose_transactions_are_read_only_takes_no_writes() {
        let rows = joined(["f", "one", "t", "1", ""], &[WRITER, READER]);
        let look = read(&rows, Duration::ZERO).expect("a look").look;
        assert_eq!((look.standing, look.read_only), (Standing::Primary, true));
        assert_eq!(look.lsn, Lsn::new(900));
    }

    #[test]
    fn without_rows_there_is_still_the_instance() {
        let rows = joined(["t", "one", "f", "1", "5432"], &[[""; 5]]);
        let look = read(&rows, Duration::ZERO).expect("a look").look;
        assert_eq!((look.lsn, look.replay_age), (Lsn::new(0), None));
    }

    #[test]
    fn what_is_no_answer_is_not_read() {
        assert!(read(&[], Duration::ZERO).is_err());
        for head in [
            ["", "one", "", "", ""],
            ["t", "", "", "", ""],
            ["t", "a.b", "", "", ""],
        ] {
            assert!(
                read(&joined(head, &[READER]), Duration::ZERO).is_err(),
                "{head:?}"
            );
        }
        let named = ["evil.example/", "", "", "", ""];
        let rows = joined(["t", "one", "", "", ""], &[named]);
        assert!(read(&rows, Duration::ZERO).is_err());
    }
}
