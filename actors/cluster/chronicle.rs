//! Who was written to, and since when: for the console, and for the log.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use parking_lot::Mutex;
use pgherd_cluster::{Verdict, Writer};

/// So many changes are remembered.
const KEPT: usize = 200;

/// The last changes of who may be written to.
#[derive(Debug, Default)]
pub struct Chronicle {
    entries: Mutex<VecDeque<Entry>>,
    count: AtomicU64,
}

/// One change.
#[derive(Debug, Clone)]
pub struct Entry {
    /// When it took force.
    pub at: SystemTime,
    /// The epoch.
    pub epoch: String,
    /// The server that is written to from then on; `None` is nobody.
    pub writer: Option<String>,
    /// Why nobody is.
    pub why: Option<String>,
}

impl Chronicle {
    /// Takes down what is new in a verdict, and writes it to the log.
    pub(super) fn note(&self, database: &str, before: &Verdict, verdict: &Verdict) {
        let alarms = verdict.alarms.iter();
        for alarm in alarms.filter(|alarm| !before.alarms.contains(alarm)) {
            tracing::error!(database, %alarm, "an operator should look at this");
        }
        if (&before.writer, before.epoch) != (&verdict.writer, verdict.epoch) {
            self.turn(database, before, verdict);
        }
    }

    /// Takes down that writes wait for a change that is planned, and why; or, without a reason, that they do
    /// so no longer, if the verdict shows that there is somebody to write to.
    pub(super) fn planned(&self, verdict: &Verdict, why: Option<&str>) {
        let (writer, _) = words(&verdict.writer);
        let epoch = verdict.epoch.to_string();
        let waited = |last: &Entry| last.epoch == epoch && last.writer.is_none();
        let ends = writer.is_some() && self.entries.lock().back().is_some_and(waited);
        // What another primary ends is taken down as its beginning.
        if why.is_none() && !ends {
            return;
        }
        self.enter(Entry {
            at: SystemTime::now(),
            epoch,
            writer: writer.filter(|_| why.is_none()),
            why: why.map(str::to_owned),
        });
    }

    fn turn(&self, database: &str, before: &Verdict, verdict: &Verdict) {
        let (writer, why) = words(&verdict.writer);
        let (from, _) = words(&before.writer);
        let epoch = verdict.epoch.to_string();
        match (&writer, &why) {
            (Some(writer), _) => tracing::warn!(database, epoch, from, writer, "writes go here"),
            (None, why) => tracing::warn!(database, epoch, from, why, "there is no primary"),
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.enter(Entry {
            at: SystemTime::now(),
            epoch,
            writer,
            why,
        });
    }

    fn enter(&self, entry: Entry) {
        let mut entries = self.entries.lock();
        if entries.len() == KEPT {
            entries.pop_front();
        }
        entries.push_back(entry);
    }

    /// The changes, the latest last.
    pub fn entries(&self) -> Vec<Entry> {
        self.entries.lock().iter().cloned().collect()
    }

    /// How many there were, those too that are not remembered.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

fn words(writer: &Writer) -> (Option<String>, Option<String>) {
    match writer {
        Writer::At(host) => (Some(host.to_string()), None),
        Writer::Nobody(absence) => (None, Some(absence.to_string())),
    }
}
