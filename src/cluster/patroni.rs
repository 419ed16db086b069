//! What Patroni says of its cluster: the body of `GET /cluster`.
//!
//! Any member's REST interface answers for all of them, from the distributed configuration store; one that is cut off from
//! that answers with what it knew last.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use serde_json::Value;

use crate::claim::{Claim, Source};
use crate::host::HostName;

/// A longer body is not read: hundreds of members fit into it.
pub const MAX_BODY: usize = 512 * 1024;
/// More members are not believed.
pub const MAX_MEMBERS: usize = 256;
/// The port of a member that names none.
const PORT: u16 = 5432;

/// What Patroni says of its cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatroniCluster {
    /// All members whose address is known, in Patroni's order, which is that of their names.
    pub members: Vec<PatroniMember>,
    /// Who leads. The leader of a standby cluster is a replica of another cluster, so it leads nothing here.
    pub claim: Claim,
    /// Patroni decides nothing for now: nobody is promoted unless by hand.
    pub paused: bool,
    /// A change of the leader that is planned.
    pub switchover: Option<Switchover>,
}

/// One member of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatroniMember {
    /// Its name within Patroni.
    pub name: String,
    /// Where its Postgres listens.
    pub host: HostName,
    /// What it is in the cluster.
    pub role: PatroniRole,
    /// How its Postgres is, in Patroni's words (`running`, `streaming`, `stopped`, …).
    pub state: String,
    /// The timeline it is on, if that is known.
    pub timeline: Option<u32>,
    /// How many bytes it is behind, if that is known.
    pub lag: Option<u64>,
    /// Where its REST interface is.
    pub api_url: Option<String>,
    /// It is tagged not to be read from (`noloadbalance`).
    pub no_reads: bool,
}

/// What a member is in its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PatroniRole {
    /// It holds the leader's lock.
    Leader,
    /// It holds the leader's lock of a cluster that follows another one: a replica.
    StandbyLeader,
    /// A replica that the leader waits for.
    SyncStandby,
    /// Any other replica, and what a later version may add.
    Replica,
}

/// A planned change of the leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Switchover {
    /// When, as Patroni has it (ISO 8601).
    pub at: String,
    /// The member that shall lead then, if one is named.
    pub to: Option<String>,
}

/// Why the body is not used.
#[derive(Debug, thiserror::Error)]
pub enum PatroniError {
    /// It is longer than [`MAX_BODY`].
    #[error("the answer has {0} bytes, more than the {MAX_BODY} that are read")]
    TooLong(usize),
    /// It is no JSON, or not of this form.
    #[error("not the answer of Patroni's /cluster: {0}")]
    Malformed(#[from] serde_json::Error),
    /// There are more than [`MAX_MEMBERS`].
    #[error("{0} members, more than the {MAX_MEMBERS} that are believed")]
    TooManyMembers(usize),
    /// Several members are said to lead.
    #[error("{0} and {1} are both said to lead")]
    TwoLeaders(String, String),
    /// A member's address cannot be one.
    #[error("the address of the member {name} is none: {host:?}")]
    Address {
        /// The member.
        name: String,
        /// Its address.
        host: String,
    },
}

/// Only what has to be right is typed here; of what is only shown, anything odd counts as absent.
#[derive(Deserialize)]
struct Body {
    members: Vec<Member>,
    #[serde(default)]
    pause: Value,
    #[serde(default)]
    scheduled_switchover: Value,
}

#[derive(Deserialize)]
struct Member {
    name: String,
    role: String,
    #[serde(default)]
    state: Value,
    host: Option<String>,
    port: Option<u16>,
    #[serde(default)]
    timeline: Value,
    #[serde(default)]
    lag: Value,
    #[serde(default)]
    api_url: Value,
    #[serde(default)]
    tags: Value,
}

impl PatroniCluster {
    /// Reads the body of an answer to `GET /cluster`. A member that has no address yet is left out; if it leads, there
    /// is a claim for nobody we know.
    ///
    /// # Errors
    /// [`PatroniError`] if it is too long, of another form, or says what cannot be.
    pub fn parse(body: &[u8]) -> Result<Self, PatroniError> {
        if body.len() > MAX_BODY {
            return Err(PatroniError::TooLong(body.len()));
        }
        let body: Body = serde_json::from_slice(body)?;
        if body.members.len() > MAX_MEMBERS {
            return Err(PatroniError::TooManyMembers(body.members.len()));
        }
        let leader = sole_leader(&body.members)?;
        let claim = Claim {
            leader: leader.map(Member::address).transpose()?.flatten(),
            timeline: leader.and_then(Member::timeline),
            source: Source::Patroni,
        };
        let mut members = Vec::with_capacity(body.members.len());
        for member in &body.members {
            members.extend(member.read()?);
        }
        Ok(Self {
            members,
            claim,
            paused: body.pause == Value::Bool(true),
            switchover: switchover(&body.scheduled_switchover),
        })
    }
}

/// Whether a tag is set, as Patroni takes it (`bool(value)` of whatever the YAML says).
fn is_set(tag: &Value) -> bool {
    match tag {
        Value::Null => false,
        Value::Bool(set) => *set,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(values) => !values.is_empty(),
        Value::Object(values) => !values.is_empty(),
    }
}

impl Member {
    fn read(&self) -> Result<Option<PatroniMember>, PatroniError> {
        let Some(host) = self.address()? else {
            return Ok(None);
        };
        Ok(Some(PatroniMember {
            name: self.name.clone(),
            host,
            role: role(&self.role),
            state: self.state.as_str().unwrap_or_default().to_owned(),
            timeline: self.timeline(),
            lag: self.lag.as_u64(),
            api_url: self.api_url.as_str().map(ToOwned::to_owned),
            no_reads: self.tags.get("noloadbalance").is_some_and(is_set),
        }))
    }

    /// Zero is no timeline.
    fn timeline(&self) -> Option<u32> {
        let number = self.timeline.as_u64()?;
        u32::try_from(number).ok().filter(|timeline| *timeline > 0)
    }

    /// `host:port` as the configuration writes it.
    fn address(&self) -> Result<Option<HostName>, PatroniError> {
        let Some(host) = &self.host else {
            return Ok(None);
        };
        let port = self.port.unwrap_or(PORT);
        // What would be read as something else in an address: separators of lists, users, options and ports.
        let odd = |c: char| c.is_whitespace() || c.is_control() || "@?,[]".contains(c);
        let is_v6 = host.parse::<std::net::Ipv6Addr>().is_ok();
        let is_path = host.starts_with('/');
        let misplaced = (host.contains('/') && !is_path) || (host.contains(':') && !is_v6);
        if host.is_empty() || host.len() > 253 || port == 0 || host.contains(odd) || misplaced {
            return Err(PatroniError::Address {
                name: self.name.clone(),
                host: host.clone(),
            });
        }
        Ok(Some(HostName::from(if is_v6 {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        })))
    }
}

fn role(name: &str) -> PatroniRole {
    match name {
        // `master` is what versions before 3 wrote in places.
        "leader" | "primary" | "master" => PatroniRole::Leader,
        "standby_leader" => PatroniRole::StandbyLeader,
        "sync_standby" | "quorum_standby" => PatroniRole::SyncStandby,
        _ => PatroniRole::Replica,
    }
}

fn sole_leader(members: &[Member]) -> Result<Option<&Member>, PatroniError> {
    let mut leaders = members
        .iter()
        .filter(|member| role(&member.role) == PatroniRole::Leader);
    let first = leaders.next();
    match (first, leaders.next()) {
        (Some(one), Some(two)) => Err(PatroniError::TwoLeaders(one.name.clone(), two.name.clone())),
        _ => Ok(first),
    }
}

impl Switchover {
    /// When; `None` if it is not written as Patroni writes it: `2023-09-24T10:36:00.123456+02:00`.
    #[must_use]
    pub fn moment(&self) -> Option<SystemTime> {
        let (date, rest) = self.at.split_once(['T', ' '])?;
        let zone = rest.find(['Z', '+', '-'])?;
        let (time, zone) = rest.split_at(zone);
        let [year, month, day] = numbers(date, '-')?;
        let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
        let [hour, minute, second] = numbers(time, ':')?;
        let offset = match zone {
            "Z" => 0,
            _ => {
                let [hours, minutes] = numbers(zone.get(1..)?, ':')?;
                let seconds = hours * 3600 + minutes * 60;
                if zone.starts_with('-') {
                    -seconds
                } else {
                    seconds
                }
            }
        };
        let valid = (1970..10_000).contains(&year) && (1..=12).contains(&month);
        if !valid || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset;
        let whole = Duration::from_secs(u64::try_from(seconds).ok()?);
        let part = Duration::from_nanos(nanos(fraction)?);
        UNIX_EPOCH.checked_add(whole)?.checked_add(part)
    }
}

/// What stands behind the point of seconds; what is smaller than a nanosecond counts for nothing.
fn nanos(digits: &str) -> Option<u64> {
    let all_digits = digits.bytes().all(|byte| byte.is_ascii_digit());
    let digits = digits.get(..9).unwrap_or(digits);
    let power = 9_u32.checked_sub(u32::try_from(digits.len()).ok()?)?;
    let number: u64 = digits.parse().ok().filter(|_| all_digits)?;
    Some(number * 10_u64.pow(power))
}

/// So many numbers, none of them signed.
fn numbers<const N: usize>(text: &str, separator: char) -> Option<[i64; N]> {
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit()) && part.len() <= 4;
    let read = |part: &str| part.parse().ok().filter(|_| digits(part));
    let parts: Option<Vec<i64>> = text.split(separator).map(read).collect();
    parts?.try_into().ok()
}

/// Days from 1970-01-01 in the Gregorian calendar, counted in years that begin in March, so that the day of a leap year
/// is their last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leaps = year / 4 - year / 100 + year / 400;
    year * 365 + leaps + (month * 153 + 2) / 5 + day - 1 - 719_468
}

fn switchover(value: &Value) -> Option<Switchover> {
    let text = |key| {
        value
            .get(key)
            .and_then(Value::as_str)
            .map(ToOwned::to_owned)
    };
    Some(Switchover {
        at: text("at")?,
        to: text("to"),
    })
}

#[cfg(test)]
mod tests;
