//! What the judge has found.

use std::fmt;
use std::time::{Duration, Instant};

use crate::claim::Source;
use crate::epoch::Epoch;
use crate::host::HostName;
use crate::lag::Lag;
use crate::look::{Fault, Standing};
use crate::lsn::Lsn;

/// What holds of the servers of one database, as of the newest evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The reign of the writer, or of the last one there was. What was opened in an older epoch must not be used.
    pub epoch: Epoch,
    /// Who may be written to.
    pub writer: Writer,
    /// Whose reign the epoch is; `None` before there was any primary.
    pub holder: Option<Holder>,
    /// The system identifier of the cluster; `None` before there was any primary.
    pub system: Option<u64>,
    /// The highest timeline on which a primary was ever seen; zero before.
    pub timeline: u32,
    /// Every member, in the order in which they were given.
    pub hosts: Vec<HostState>,
    /// What an operator should know.
    pub alarms: Vec<Alarm>,
}

impl Verdict {
    /// What is known of one host.
    #[must_use]
    pub fn host(&self, name: &HostName) -> Option<&HostState> {
        self.hosts.iter().find(|host| host.name == *name)
    }

    /// A primary that is kept out because it is not of the cluster, or not of its present, as far as anybody knows: there an
    /// operator may know better.
    #[must_use]
    pub fn refused(&self) -> Option<&HostName> {
        let mut hosts = self.hosts.iter();
        let refused = hosts.find(|host| {
            let fenced = matches!(
                host.fence,
                Some(Fence::Foreign { .. } | Fence::Superseded { .. })
            );
            fenced && host.standing == Some(Standing::Primary)
        });
        refused.map(|host| &host.name)
    }

    /// The host that may be written to.
    #[must_use]
    pub const fn writer(&self) -> Option<&HostName> {
        match &self.writer {
            Writer::At(host) => Some(host),
            Writer::Nobody(_) => None,
        }
    }
}

/// The primary to which an epoch belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its name.
    pub host: HostName,
    /// The timeline on which it was chosen.
    pub timeline: u32,
}

/// Who may be written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Writer {
    /// This host.
    At(HostName),
    /// Nobody: writes have to wait.
    Nobody(Absence),
}

/// Why nobody may be written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Absence {
    /// Not every host has been asked yet, and one of the others may be on a higher timeline than the first that answers.
    Asking,
    /// No host was ever seen to be a primary.
    NoneSeen,
    /// The last writer's server is known not to work: nobody listens there, or it is starting.
    Gone {
        /// The last writer.
        last: HostName,
    },
    /// The last writer has not answered for longer than its word counts. It may be alive.
    Silent {
        /// The last writer.
        last: HostName,
    },
    /// The last writer is a replica now.
    Demoted {
        /// The last writer.
        last: HostName,
    },
    /// The last writer is no longer a member.
    Removed {
        /// The last writer.
        last: HostName,
    },
    /// The primary is read-only.
    ReadOnly {
        /// The primary.
        host: HostName,
    },
    /// Whoever may be the primary has no connection free to say whether it is.
    Full {
        /// All of them, in the order of the members.
        hosts: Vec<HostName>,
    },
    /// Several hosts on one timeline are writable, or were when they last answered.
    Two {
        /// All of them, in the order of the members.
        hosts: Vec<HostName>,
    },
    /// There is a primary, but another host or a source shows that it has been replaced.
    Superseded {
        /// The primary.
        host: HostName,
        /// The higher timeline.
        by: u32,
    },
}

/// What is known of one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostState {
    /// Its name.
    pub name: HostName,
    /// What it said last that it is; [`Self::fence`] says if that is not to be believed, `None` that it never said.
    pub standing: Option<Standing>,
    /// The timeline it was last seen on.
    pub timeline: Option<u32>,
    /// Where it was in the log when it was last seen.
    pub lsn: Option<Lsn>,
    /// Whether it works.
    pub health: Health,
    /// Whether it is there, ill or well.
    pub presence: Presence,
    /// What went wrong since it was last seen.
    pub fault: Option<Fault>,
    /// How far it was behind the primary when it was last seen; a primary is not behind.
    pub lag: Lag,
    /// When it was last seen.
    pub seen: Option<Instant>,
    /// How long the last answer took.
    pub latency: Option<Duration>,
    /// Why nothing may be sent to it, whatever it says.
    pub fence: Option<Fence>,
    /// Whether it may be read from.
    pub offer: Offer,
}

/// Whether a host works. One lost answer changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Health {
    /// It has never answered.
    Unseen,
    /// It answers.
    Well,
    /// It has failed several times in a row, or says that it serves nobody, and has not answered often enough since.
    Ill,
}

/// Whether a host is there at all: one that is ill may only be overloaded, and still do what it was asked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Presence {
    /// It has given a sign of life lately, or none was to be expected yet.
    There,
    /// It has given none, to us or anybody else that we know of, while it was asked several times, or for longer than its
    /// word counts: it is frozen, or cut off.
    Silent,
    /// No server works there.
    Gone,
}

/// Why a host is kept out of everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fence {
    /// It belongs to another cluster.
    Foreign {
        /// Its system identifier.
        system: u64,
    },
    /// It is a primary that has been replaced.
    Superseded {
        /// The timeline of those that replaced it.
        by: u32,
    },
    /// It is one of several writable hosts on one timeline.
    Contested,
    /// No primary has shown yet which cluster is ours, and the members belong to several.
    Ambiguous,
}

/// Whether a host may be read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Offer {
    /// Yes.
    Good,
    /// All replicas are ill, and this is one of the best of them.
    LastResort,
    /// No.
    Withheld(Withheld),
}

/// Why a host is not read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Withheld {
    /// It has never answered.
    Unseen,
    /// Not all members have been asked yet, so it is not known to which cluster it has to belong.
    Asking,
    /// It is fenced.
    Fenced,
    /// It is a replica on an older timeline than the primary's, and so may follow a history that has ended.
    Outdated,
    /// It is ill, and others are better.
    Ill,
    /// It is further behind than the bounds allow, or has not told for long.
    Behind,
    /// Its last word was that it is a primary, and that no longer counts.
    Expired,
}

/// What an operator should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Alarm {
    /// Several hosts are writable on one timeline at the same time.
    Split {
        /// All of them.
        hosts: Vec<HostName>,
        /// Their timeline.
        timeline: u32,
    },
    /// A member belongs to another cluster.
    Foreign {
        /// The member.
        host: HostName,
        /// Its system identifier.
        system: u64,
    },
    /// A primary that has been replaced still answers as one.
    Stale {
        /// The primary.
        host: HostName,
        /// Its timeline.
        timeline: u32,
        /// The timeline that replaced it.
        by: u32,
    },
    /// No replica is well: the best of the ill are offered.
    NoReplicaWell,
    /// A host does not let us look: what it was when it was last seen is taken for true.
    Blind {
        /// The host.
        host: HostName,
    },
    /// A source names another leader than the host that is writable.
    Contradicted {
        /// Who says it.
        source: Source,
        /// Whom it names.
        leader: HostName,
    },
}

impl fmt::Display for Absence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asking => f.write_str("not all hosts have been asked yet"),
            Self::NoneSeen => f.write_str("no host is a primary"),
            Self::Gone { last } => write!(f, "the primary {last} is down"),
            Self::Silent { last } => write!(f, "the primary {last} does not answer"),
            Self::Demoted { last } => write!(f, "{last} is no longer the primary"),
            Self::Removed { last } => write!(f, "the primary {last} was removed"),
            Self::ReadOnly { host } => write!(f, "the primary {host} is read-only"),
            Self::Full { hosts } => write!(
                f,
                "no connection left on {}, so that it is not known who is the primary",
                Names(hosts)
            ),
            Self::Two { hosts } => {
                write!(f, "several hosts are primaries: {}", Names(hosts))
            }
            Self::Superseded { host, by } => {
                write!(f, "the primary {host} has been replaced on timeline {by}")
            }
        }
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unseen => "unseen",
            Self::Well => "well",
            Self::Ill => "ill",
        })
    }
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign { system } => write!(f, "belongs to another cluster ({system})"),
            Self::Superseded { by } => write!(f, "was replaced on timeline {by}"),
            Self::Contested => f.write_str("is one of several primaries"),
            Self::Ambiguous => f.write_str("may belong to another cluster"),
        }
    }
}

impl fmt::Display for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Good => "yes",
            Self::LastResort => "last resort",
            Self::Withheld(Withheld::Unseen) => "no: unseen",
            Self::Withheld(Withheld::Asking) => "no: not all hosts have been asked yet",
            Self::Withheld(Withheld::Fenced) => "no: fenced",
            Self::Withheld(Withheld::Outdated) => "no: on an older timeline",
            Self::Withheld(Withheld::Ill) => "no: ill",
            Self::Withheld(Withheld::Behind) => "no: behind",
            Self::Withheld(Withheld::Expired) => "no: not heard of",
        })
    }
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Split { hosts, timeline } => write!(
                f,
                "{} are all writable on timeline {timeline}: nothing is written until one of them is gone or demoted",
                Names(hosts)
            ),
            Self::Foreign { host, system } => write!(
                f,
                "{host} belongs to another cluster (system identifier {system}) and is not used, unless an operator takes it for the cluster (ADOPT on the console)"
            ),
            Self::Stale { host, timeline, by } => write!(
                f,
                "{host} is still a primary on timeline {timeline}, but was replaced on timeline {by}; it is not used, unless an operator goes back to it (ADOPT on the console)"
            ),
            Self::NoReplicaWell => {
                f.write_str("no replica is well; the best of them are still read from if need be")
            }
            Self::Blind { host } => write!(
                f,
                "{host} refuses the monitor's login; it is taken for what it was when it was last seen"
            ),
            Self::Contradicted { source, leader } => {
                write!(
                    f,
                    "{source} says that {leader} leads, but it is not the one that is writable"
                )
            }
        }
    }
}

struct Names<'a>(&'a [HostName]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, name) in self.0.iter().enumerate() {
            let comma = if n == 0 { "" } else { ", " };
            write!(f, "{comma}{name}")?;
        }
        Ok(())
    }
}
