use std::time::Duration;

use crate::draft::Node;
use crate::reader::Reader;
use crate::section::Check;
use crate::setting::Setting;

section! {
    /// How it is found out which server of a database may be written to.
    pub struct Failover {
        /// Between two looks at a host while all is well.
        [Now] probe: Duration,
        /// Between two looks while anything is in doubt.
        [Now] probe_suspect: Duration,
        /// For a host to answer a look.
        [Now] probe_timeout: Duration,
        /// How long what was seen of a host is believed.
        [Now] evidence: Duration,
        /// For how long a server may acknowledge nothing that was sent to it.
        [Now] user_timeout: UserTimeout,
        /// How often the names of hosts are looked up; `None` is only when a connection is opened.
        [Now] resolve: Option<Duration>,
        /// How long before a switchover new work waits while transactions may end; `None`: those that
        /// Patroni schedules are not prepared for.
        [Now] grace: Option<Duration>,
        /// The user, from `[users]`, as whom hosts are looked at; `None` is the database's own
        /// user, or else whoever has a pool there.
        [Now] user: Option<String>,
        /// Whether the outcome of a COMMIT whose answer is lost is found out; for server connections
        /// that are opened from then on.
        [Now] commit_resolution: CommitResolution,
    }
}

/// After how long without any sign of life from its machine a connection to a server is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserTimeout {
    /// Twice as long as is believed what was seen of a host: by then nobody counts on it any more, and a fault of the
    /// network that was shorter has not cost a transaction.
    Auto,
    /// When the kernel does so by itself, after a quarter of an hour or so. A server that was only cut off still has the
    /// transactions of those that were given up, with their locks, until it finds out by itself.
    Off,
    /// As said.
    After(Duration),
}

impl Setting for UserTimeout {
    fn allowed() -> String {
        format!("\"auto\", {}; 0 for none", Duration::allowed())
    }

    fn parse(node: &Node) -> Option<Self> {
        if node.text() == Some("auto") {
            return Some(Self::Auto);
        }
        let time = Duration::parse(node)?;
        Some(if time.is_zero() {
            Self::Off
        } else {
            Self::After(time)
        })
    }

    fn show(&self) -> String {
        match self {
            Self::Auto => "auto".to_owned(),
            Self::Off => "0".to_owned(),
            Self::After(time) => time.show(),
        }
    }
}

impl Failover {
    /// After how long without any sign of life from its machine a connection to a server is given up.
    pub fn silence(&self) -> Option<Duration> {
        match self.user_timeout {
            UserTimeout::Auto => Some(self.evidence.saturating_mul(2)),
            UserTimeout::Off => None,
            UserTimeout::After(time) => Some(time),
        }
    }
}

/// Whether it is found out what became of a transaction whose COMMIT was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitResolution {
    /// Its client is told that nobody knows (08007).
    Off,
    /// Transactions that write leave a mark in the log, by which the next primary tells.
    On,
}

words! { CommitResolution { Off = "off", On = "on", } }

impl Check for Failover {
    fn check(&self, reader: &mut Reader<'_>) {
        let floor = Duration::from_millis(10);
        for (key, value) in [
            ("probe", self.probe),
            ("probe_suspect", self.probe_suspect),
            ("probe_timeout", self.probe_timeout),
        ] {
            if value < floor {
                let problem = format!("{} is too often for any server", value.show());
                reader.contradiction(key, problem, "from 10ms on");
            }
        }
        if let UserTimeout::After(time) = self.user_timeout
            && time < Duration::from_secs(1)
        {
            let problem = format!("{} is less than a lost packet takes", time.show());
            reader.contradiction("user_timeout", problem, "from 1s on");
        }
        if self.probe_suspect > self.probe {
            let problem = format!(
                "{} is longer than `probe`, {}",
                self.probe_suspect.show(),
                self.probe.show()
            );
            reader.contradiction("probe_suspect", problem, "up to `probe`");
        }
        if self.evidence < self.probe.saturating_add(self.probe_timeout) {
            let problem = format!("{} is over before the next look", self.evidence.show());
            let allowed = "at least `probe` and `probe_timeout` together";
            reader.contradiction("evidence", problem, allowed);
        }
    }
}
