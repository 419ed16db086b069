//! What a source outside the servers says of them.

use std::fmt;
use std::time::Instant;

use crate::host::HostName;

/// Who says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// Patroni's `GET /cluster`.
    Patroni,
    /// `aurora_replica_status()`.
    Aurora,
}

/// Who leads, according to a source. It makes nobody the writer, for it may be old or wrong (the REST interface of a
/// killed primary goes on saying that it is one for seconds): the host itself has to be seen writable. What it does is
/// to raise suspicion at once, to hold back a primary of a lower timeline than the leader's, and to settle whose word
/// counts between a writable host and one on the same timeline that no longer answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The leader; `None` if the source says that there is none.
    pub leader: Option<HostName>,
    /// The leader's timeline, where the source knows it.
    pub timeline: Option<u32>,
    /// Who says it.
    pub source: Source,
}

/// The claim that counts, and since when it says the same.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) claim: Claim,
    pub(crate) since: Instant,
    pub(crate) at: Instant,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Patroni => "Patroni",
            Self::Aurora => "Aurora",
        })
    }
}
