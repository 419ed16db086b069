use std::time::Duration;

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
