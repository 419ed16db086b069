//! What Aurora says of its cluster: the rows of `aurora_replica_status()`.
//!
//! Any instance answers for all of them. A reader's answer may be old, above all during a failover.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::claim::{Claim, Source};
use crate::host::HostName;

/// More instances are not believed; Aurora allows sixteen.
pub const MAX_INSTANCES: usize = 64;
/// Rows of instances that were deleted stay for a while; after this long without news they count as that.
pub const ROW_EXPIRY: Duration = Duration::from_secs(300);
/// The `session_id` of the writer.
const WRITER: &str = "MASTER_SESSION_ID";
/// What stands for the instance's name in a template.
const PLACE: &str = "{id}";

/// One row of `aurora_replica_status()`.
#[derive(Debug, Clone, PartialEq)]
pub struct AuroraRow<'a> {
    /// The column `server_id`: the instance's name.
    pub server_id: &'a str,
    /// The column `session_id`: `MASTER_SESSION_ID` for the writer.
    pub session_id: &'a str,
    /// The column `replica_lag_in_msec`.
    pub lag_millis: Option<f64>,
    /// How long ago `last_update_timestamp` was; `None` if it is null, as it is for the instance that answers.
    pub updated_ago: Option<Duration>,
}

/// What Aurora says of its cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuroraCluster {
    /// All instances, in the order of their names.
    pub members: Vec<AuroraMember>,
    /// Who is the writer; `None` if the rows name several, which says nothing.
    pub claim: Option<Claim>,
}

/// One instance.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AuroraMember {
    /// Its address, made from the template.
    pub host: HostName,
    /// Aurora calls it the writer.
    pub writer: bool,
    /// How far it is behind; `None` if unknown.
    pub lag: Option<Duration>,
}

/// How an instance's address is made from its name, such as `{id}.c1x2y3.eu-west-1.rds.amazonaws.com:5432`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostTemplate {
    before: String,
    after: String,
}

/// The text is no template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected an address with {{id}} once in it, such as {{id}}.abc.eu-west-1.rds.amazonaws.com:5432"
)]
pub struct InvalidTemplate;

/// Why the rows are not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuroraError {
    /// There are more than [`MAX_INSTANCES`].
    #[error("{0} instances, more than the {MAX_INSTANCES} that are believed")]
    TooMany(usize),
    /// A name cannot be that of an instance (letters, digits and hyphens, at most 63).
    #[error("{0:?} is not the name of an instance")]
    Name(String),
}

impl HostTemplate {
    /// The address of the instance with this name.
    ///
    /// # Errors
    /// [`AuroraError::Name`] if that can be no instance's name: what a server says must not lead us anywhere else.
    pub fn host(&self, id: &str) -> Result<HostName, AuroraError> {
        let valid = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if id.is_empty() || id.len() > 63 || !id.bytes().all(valid) {
            return Err(AuroraError::Name(id.chars().take(100).collect()));
        }
        let Self { before, after } = self;
        Ok(HostName::from(format!("{before}{id}{after}")))
    }
}

impl FromStr for HostTemplate {
    type Err = InvalidTemplate;

    fn from_str(text: &str) -> Result<Self, InvalidTemplate> {
        let (before, after) = text.split_once(PLACE).ok_or(InvalidTemplate)?;
        let odd = |c: char| c.is_whitespace() || c.is_control() || "{}@?,/".contains(c);
        if before.contains(odd) || after.contains(odd) {
            return Err(InvalidTemplate);
        }
        Ok(Self {
            before: before.to_owned(),
            after: after.to_owned(),
        })
    }
}

impl fmt::Display for HostTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{PLACE}{}", self.before, self.after)
    }
}

impl AuroraCluster {
    /// Reads the rows that one instance gave.
    ///
    /// # Errors
    /// [`AuroraError`] if there are too many, or one has a name that cannot be.
    pub fn read(rows: &[AuroraRow<'_>], template: &HostTemplate) -> Result<Self, AuroraError> {
        if rows.len() > MAX_INSTANCES {
            return Err(AuroraError::TooMany(rows.len()));
        }
        let mut members = Vec::with_capacity(rows.len());
        for row in rows {
            let writer = row.session_id == WRITER;
            let expired = row.updated_ago.is_some_and(|ago| ago > ROW_EXPIRY);
            if expired && !writer {
                continue;
            }
            let millis = row.lag_millis.filter(|lag| *lag >= 0.0);
            let lag = millis.and_then(|lag| Duration::try_from_secs_f64(lag / 1000.0).ok());
            members.push(AuroraMember {
                host: template.host(row.server_id)?,
                writer,
                lag: if writer { Some(Duration::ZERO) } else { lag },
            });
        }
        members.sort();
        Ok(Self {
            claim: claim(&members),
            members,
        })
    }
}

fn claim(members: &[AuroraMember]) -> Option<Claim> {
    let mut writers = members.iter().filter(|member| member.writer);
    let first = writers.next();
    // A former writer's row may still be there during a failover.
    if writers.next().is_some() {
        return None;
    }
    Some(Claim {
        leader: first.map(|member| member.host.clone()),
        timeline: None,
        source: Source::Aurora,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEMPLATE: &str = "{id}.c1x2y3.eu-west-1.rds.amazonaws.com:5432";

    fn row<'a>(server_id: &'a str, session_id: &'a str) -> AuroraRow<'a> {
        AuroraRow {
            server_id,
            session_id,
            lag_millis: Some(12.5),
            updated_ago: Some(Duration::from_secs(1)),
        }
    }

    fn read(rows: &[AuroraRow<'_>]) -> Result<AuroraCluster, AuroraError> {
        AuroraCluster::read(rows, &TEMPLATE.parse().unwrap())
    }

    fn leader(rows: &[AuroraRow<'_>]) -> Option<Option<String>> {
        let claim = read(rows).unwrap().claim?;
        Some(claim.leader.map(|host| host.to_string()))
    }

    #[test]
    fn the_writer_and_its_readers() {
        let rows = [row("two", "f3c1"), row("one", WRITER)];
        let cluster = read(&rows).unwrap();
        let names: Vec<&str> = cluster.members.iter().map(|m| m.host.as_str()).collect();
        assert_eq!(
            names,
            [
                "one.c1x2y3.eu-west-1.rds.amazonaws.com:5432",
                "two.c1x2y3.eu-west-1.rds.amazonaws.com:5432"
            ]
        );
        assert_eq!(cluster.members[0].lag, Some(Duration::ZERO));
        assert_eq!(cluster.members[1].lag, Some(Duration::from_micros(12500)));
        let claim = cluster.claim.unwrap();
        assert_eq!(claim.leader.as_ref(), Some(&cluster.members[0].host));
        assert_eq!((claim.timeline, claim.source), (None, Source::Aurora));
    }

    #[test]
    fn without_a_writer_the_claim_is_for_nobody_and_of_two_there_is_none() {
        assert_eq!(leader(&[row("one", "a")]), Some(None));
        assert_eq!(leader(&[row("one", WRITER), row("two", WRITER)]), None);
    }

    #[test]
    fn instances_that_were_deleted_are_left_out() {
        let old = AuroraRow {
            updated_ago: Some(Duration::from_secs(301)),
            ..row("gone", "a")
        };
        let own = AuroraRow {
            updated_ago: None,
            ..row("own", "b")
        };
        let cluster = read(&[old, own, row("one", WRITER)]).unwrap();
        assert_eq!(cluster.members.len(), 2);
    }

    #[test]
    fn a_lag_that_cannot_be_is_unknown() {
        for lag in [f64::NAN, f64::INFINITY, -1.0, f64::MAX] {
            let row = AuroraRow {
                lag_millis: Some(lag),
                ..row("one", "a")
            };
            assert_eq!(read(&[row]).unwrap().members[0].lag, None, "{lag}");
        }
    }

    #[test]
    fn a_name_leads_nowhere_else() {
        let long = "x".repeat(64);
        for name in ["", "a.b", "a b", "evil.example:1/", "ä", "a@b", &long] {
            let error = read(&[row(name, WRITER)]).unwrap_err();
            assert!(matches!(error, AuroraError::Name(_)), "{name}");
        }
        let rows = vec![row("one", "a"); MAX_INSTANCES + 1];
        assert_eq!(read(&rows).unwrap_err(), AuroraError::TooMany(65));
    }

    #[test]
    fn a_template_has_one_place() {
        assert_eq!(
            TEMPLATE.parse::<HostTemplate>().unwrap().to_string(),
            TEMPLATE
        );
        for wrong in [
            "",
            "db",
            "{id",
            "{id}.{id}",
            "{id} x",
            "u@{id}",
            "{id}?x",
            "{x}{id}",
        ] {
            assert!(wrong.parse::<HostTemplate>().is_err(), "{wrong}");
        }
    }
}
