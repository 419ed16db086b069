//! What the instances of an Aurora cluster say of it, by the rows of `aurora_replica_status()`.
//!
//! Each answers for all of them, and a reader's answer may be old, above all during a failover. What an instance says of
//! itself is what counts; all else is a claim.

mod template;

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{Hash as _, Hasher as _};
use std::time::Duration;

use crate::claim::{Claim, Source};
use crate::host::HostName;
use crate::look::Standing;
use crate::lsn::Lsn;

pub use template::{HostTemplate, InvalidTemplate, Name};

/// More instances are not believed; Aurora allows sixteen.
pub const MAX_INSTANCES: usize = 64;
/// Rows of instances that were deleted stay for a while; after this long without news they count as that.
pub const ROW_EXPIRY: Duration = Duration::from_secs(300);
/// By how much the place that an instance has in its own row may be older than the row says. It is not documented that
/// the row is made when it is asked for; before 13.9 it bore the time of its last update, which came once a second or so.
pub const ROW_MARGIN: Duration = Duration::from_secs(1);
/// The `session_id` of the writer.
const WRITER: &str = "MASTER_SESSION_ID";
/// So many names are remembered of one cluster.
const MAX_NAMES: usize = 4 * MAX_INSTANCES;

/// One row of `aurora_replica_status()`.
#[derive(Debug, Clone, PartialEq)]
pub struct AuroraRow {
    /// The column `server_id`: the instance's name.
    pub name: Name,
    /// Whether the column `session_id` is that of the writer.
    pub writer: bool,
    /// The column `durable_lsn`: on the writer the place up to which all is stored, which is where a commit is
    /// acknowledged; on a reader that up to which it has applied what the writer has stored.
    pub durable: Option<Lsn>,
    /// The column `replica_lag_in_msec`.
    pub lag: Option<Duration>,
    /// How long ago `last_update_timestamp` was; `None` if it is null, as it is for the instance that answers.
    pub updated_ago: Option<Duration>,
}

/// Why a row is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuroraError {
    /// There are more than [`MAX_INSTANCES`].
    #[error("more than {MAX_INSTANCES} instances")]
    TooMany,
    /// A name cannot be that of an instance (letters, digits and hyphens, at most 63).
    #[error("{0:?} is not the name of an instance")]
    Name(String),
}

/// What one instance says.
#[derive(Debug, Clone, PartialEq)]
pub struct Testimony {
    /// Its own name.
    pub own: Name,
    /// What it says it is.
    pub standing: Standing,
    /// What it says of all instances.
    pub rows: Vec<AuroraRow>,
}

/// What all instances of a database have said last, those that have answered since they last failed.
#[derive(Debug, Default)]
pub struct Instances {
    answers: HashMap<HostName, Testimony>,
    /// Which instance each host was, when it last answered.
    known: HashMap<HostName, Name>,
    /// The names that were seen together, by the number of the cluster that they are taken for.
    clusters: BTreeMap<u64, BTreeSet<Name>>,
}

impl AuroraRow {
    /// A row by its columns, as text.
    ///
    /// # Errors
    /// [`AuroraError::Name`].
    pub fn read(
        name: &str,
        session: Option<&str>,
        durable: Option<&str>,
        lag_millis: Option<&str>,
        updated_seconds: Option<&str>,
    ) -> Result<Self, AuroraError> {
        let number = |text: Option<&str>| text.and_then(|text| text.parse::<f64>().ok());
        let time = |seconds: f64| Duration::try_from_secs_f64(seconds).ok();
        let durable = durable.and_then(|text| text.parse().ok());
        Ok(Self {
            name: Name::new(name)?,
            writer: session == Some(WRITER),
            durable: durable.filter(|place| *place > 0).map(Lsn::new),
            lag: number(lag_millis).and_then(|lag| time(lag / 1000.0)),
            updated_ago: number(updated_seconds).and_then(|ago| time(ago.max(0.0))),
        })
    }

    /// Whether it is of an instance that is still there.
    fn is_current(&self) -> bool {
        self.writer || self.updated_ago.is_none_or(|ago| ago <= ROW_EXPIRY)
    }
}

impl Testimony {
    /// What one instance says.
    ///
    /// # Errors
    /// [`AuroraError::TooMany`].
    pub fn new(own: Name, standing: Standing, rows: Vec<AuroraRow>) -> Result<Self, AuroraError> {
        if rows.len() > MAX_INSTANCES {
            return Err(AuroraError::TooMany);
        }
        Ok(Self {
            own,
            standing,
            rows,
        })
    }

    /// The row that it has of itself.
    fn own_row(&self) -> Option<&AuroraRow> {
        self.rows.iter().find(|row| row.name == self.own)
    }

    /// Up to where it has written, or applied what the writer has. If it does not say, nothing that a writer has written is
    /// known to be anywhere, and a reader is known to have nothing.
    #[must_use]
    pub fn place(&self) -> Lsn {
        let unknown = match self.standing {
            Standing::Primary => Lsn::new(u64::MAX),
            Standing::Replica => Lsn::new(0),
        };
        self.own_row()
            .and_then(|row| row.durable)
            .unwrap_or(unknown)
    }

    /// By how much [`Self::place`] may be older than the question.
    #[must_use]
    pub fn place_age(&self) -> Duration {
        let ago = self.own_row().and_then(|row| row.updated_ago);
        ROW_MARGIN.saturating_add(ago.unwrap_or_default())
    }

    /// How far it is behind the writer.
    #[must_use]
    pub fn lag(&self) -> Option<Duration> {
        self.own_row().and_then(|row| row.lag)
    }

    /// Whom it takes for the writer; nobody if it names several, as a row of a former one may still be there.
    fn writer(&self) -> Option<&Name> {
        let mut writers = self.rows.iter().filter(|row| row.writer);
        let first = writers.next()?;
        writers.next().is_none().then_some(&first.name)
    }

    /// It says that it is the writer, and its rows say the same.
    fn asserts(&self) -> bool {
        self.standing == Standing::Primary && self.writer() == Some(&self.own)
    }
}

impl Instances {
    /// A host has answered. Gives the number of the cluster that it belongs to: those whose instances name each other
    /// belong together.
    pub fn heard(&mut self, host: &HostName, testimony: Testimony) -> u64 {
        let mut names: BTreeSet<Name> = testimony
            .rows
            .iter()
            .filter(|row| row.is_current())
            .map(|row| row.name.clone())
            .collect();
        names.insert(testimony.own.clone());
        let fresh = number(&testimony.own);
        self.known.insert(host.clone(), testimony.own.clone());
        self.answers.insert(host.clone(), testimony);
        let meets = |(_, known): &(&u64, &BTreeSet<Name>)| !known.is_disjoint(&names);
        let met: Vec<u64> = self
            .clusters
            .iter()
            .filter(meets)
            .map(|(n, _)| *n)
            .collect();
        let cluster = met.first().copied().unwrap_or(fresh);
        let mut all = names.clone();
        for one in met {
            all.extend(self.clusters.remove(&one).unwrap_or_default());
        }
        // Names come and go; of too many, those that are not in use any more are forgotten.
        let kept = if all.len() > MAX_NAMES { names } else { all };
        self.clusters.insert(cluster, kept);
        cluster
    }

    /// Which instance a host is, by what it said last.
    #[must_use]
    pub fn own(&self, host: &HostName) -> Option<&Name> {
        self.known.get(host)
    }

    /// A host has failed to answer: what it said was before whatever happens now.
    pub fn failed(&mut self, host: &HostName) {
        self.answers.remove(host);
    }

    /// Only these hosts are there.
    pub fn keep(&mut self, host: impl Fn(&HostName) -> bool) {
        self.answers.retain(|name, _| host(name));
        self.known.retain(|name, _| host(name));
    }

    /// Who leads, by what all say. An instance that says so of itself is believed, unless another says the same; without
    /// one, whoever more than half of them take for the writer. `None` if nobody has said anything.
    #[must_use]
    pub fn claim(&self, template: Option<&HostTemplate>) -> Option<Claim> {
        if self.answers.is_empty() {
            return None;
        }
        let asserting: BTreeSet<&Name> = self
            .answers
            .values()
            .filter(|said| said.asserts())
            .map(|said| &said.own)
            .collect();
        let leader = match asserting.len() {
            0 => self.named_by_most(),
            1 => asserting.first().copied(),
            _ => None,
        };
        Some(Claim {
            leader: leader.map(|name| self.host(name, template)),
            timeline: None,
            source: Source::Aurora,
        })
    }

    fn named_by_most(&self) -> Option<&Name> {
        let mut votes: BTreeMap<&Name, usize> = BTreeMap::new();
        for writer in self.answers.values().filter_map(Testimony::writer) {
            *votes.entry(writer).or_default() += 1;
        }
        let (name, count) = votes.into_iter().max_by_key(|(_, count)| *count)?;
        (count * 2 > self.answers.len()).then_some(name)
    }

    /// The host by which an instance was reached, or is to be reached; where neither is known, its bare name, which is that
    /// of no host.
    fn host(&self, name: &Name, template: Option<&HostTemplate>) -> HostName {
        let mut hosts = self.answers.iter().filter(|(_, said)| said.own == *name);
        let known = hosts.next().map(|(host, _)| host.clone());
        known.unwrap_or_else(|| template.map_or_else(|| name.into(), |it| it.host(name)))
    }

    /// Whether all that have answered belong together.
    #[must_use]
    pub fn is_one_cluster(&self) -> bool {
        self.clusters.len() <= 1
    }

    /// The instances of a cluster, in the order of their names, by the hosts that the template makes of them; those of which
    /// `wanted` says so, which is also told by which hosts each is known already.
    #[must_use]
    pub fn members(
        &self,
        cluster: u64,
        template: &HostTemplate,
        wanted: impl Fn(&HostName, &[&HostName]) -> bool,
    ) -> Vec<HostName> {
        let Some(known) = self.clusters.get(&cluster) else {
            return Vec::new();
        };
        let ours = self
            .answers
            .values()
            .filter(|said| known.contains(&said.own));
        let rows = ours
            .flat_map(|said| &said.rows)
            .filter(|row| row.is_current());
        let names: BTreeSet<&Name> = rows.map(|row| &row.name).collect();
        let hosts = names.into_iter().filter_map(|name| {
            let by = self.known.iter().filter(|(_, own)| *own == name);
            let by: Vec<&HostName> = by.map(|(host, _)| host).collect();
            Some(template.host(name)).filter(|host| wanted(host, &by))
        });
        hosts.take(MAX_INSTANCES).collect()
    }
}

/// A number for a cluster that is known by the name of one of its instances. Only this process ever compares it.
fn number(name: &Name) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests;
