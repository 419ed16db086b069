//! Who was written to, and since when: for the console, and for the log, from which it is to be seen afterwards how a
//! failover went.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime};

use parking_lot::Mutex;
use pgherd_cluster::{
    Doubt, Health, HostName, HostState, Offer, Presence, Standing, Verdict, Withheld, Writer,
};

use crate::cluster::reads;

/// So many changes are remembered.
const KEPT: usize = 200;

/// The last changes of who may be written to.
#[derive(Debug, Default)]
pub struct Chronicle {
    entries: Mutex<VecDeque<Entry>>,
    count: AtomicU64,
    failovers: AtomicU64,
    suspicion: Mutex<Option<Suspicion>>,
}

/// A time in which hosts are suspected.
#[derive(Debug, Clone, Copy)]
struct Suspicion {
    since: Instant,
    /// The most that was said of it.
    rank: u8,
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
        let over = before.alarms.iter();
        for alarm in over.filter(|alarm| !verdict.alarms.contains(alarm)) {
            tracing::info!(database, %alarm, "an alarm is over");
        }
        for (at, state) in verdict.hosts.iter().enumerate() {
            // They are in the same places, unless there are others.
            let same = before.hosts.get(at).filter(|it| it.name == state.name);
            if let Some(known) = same.or_else(|| before.host(&state.name)) {
                compare(database, known, state);
            }
        }
        if (&before.writer, before.epoch) != (&verdict.writer, verdict.epoch) {
            self.turn(database, before, verdict);
        }
    }

    /// Writes to the log that a host is suspected, if there is more to be said of that than was, and that none is any more.
    pub(super) fn suspects(&self, database: &str, doubt: Option<(&HostName, Doubt)>, now: Instant) {
        let mut known = self.suspicion.lock();
        match (doubt, *known) {
            (Some((host, doubt)), before) if before.is_none_or(|it| it.rank < doubt.rank()) => {
                *known = Some(Suspicion {
                    since: before.map_or(now, |before| before.since),
                    rank: doubt.rank(),
                });
                match doubt {
                    // That happens, and is over soon.
                    Doubt::Slow => tracing::debug!(database, %host, %doubt, "a host is suspected"),
                    Doubt::Met | Doubt::Failed(_) => {
                        tracing::info!(database, %host, %doubt, "a host is suspected");
                    }
                }
            }
            (None, Some(before)) => {
                *known = None;
                if before.rank > Doubt::Slow.rank() {
                    let took = now.saturating_duration_since(before.since);
                    let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
                    tracing::info!(database, took_ms, "what was suspected is known");
                }
            }
            (Some(_), _) | (None, None) => {}
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
        if writer.is_some() && before.holder.is_some() && before.epoch != verdict.epoch {
            self.failovers.fetch_add(1, Ordering::Relaxed);
        }
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

    /// How often another one than before came to be written to.
    pub fn failovers(&self) -> u64 {
        self.failovers.load(Ordering::Relaxed)
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

/// Writes to the log what is new of a host.
fn compare(database: &str, before: &HostState, state: &HostState) {
    let host = state.name.as_str();
    let part = |state: &HostState| state.standing.map(|it| it.to_string());
    if (before.standing, before.timeline) != (state.standing, state.timeline) {
        tracing::info!(
            database,
            host,
            was = part(before),
            was_timeline = before.timeline,
            is = part(state),
            timeline = state.timeline,
            "a host has another part, or timeline"
        );
    }
    let fault = state.fault.as_ref().map(ToString::to_string);
    match (before.health, state.health) {
        (Health::Ill, Health::Well) => tracing::info!(database, host, "a host is well again"),
        (Health::Well | Health::Unseen, Health::Ill) => {
            tracing::warn!(database, host, fault, "a host is ill");
        }
        _ => {}
    }
    let silent =
        |state: &HostState| state.health == Health::Ill && state.presence == Presence::Silent;
    if silent(state) && !silent(before) {
        tracing::warn!(database, host, fault, "a host is silent");
    }
    if state.standing == Some(Standing::Replica)
        && reads::is_offered(before) != reads::is_offered(state)
    {
        let behind = |state: &HostState| state.offer == Offer::Withheld(Withheld::Behind);
        let (reads, what) = match reads::is_offered(state) {
            true => ("yes".to_owned(), "a host may be read from"),
            false => (state.offer.to_string(), "a host is read from no more"),
        };
        // Where writes come in bursts that may change with each look.
        match behind(before) || behind(state) {
            true => tracing::debug!(database, host, reads, "{what}"),
            false => tracing::info!(database, host, reads, "{what}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use pgherd_cluster::{Fault, HostName, Judge, Look, Lsn, Rules, Standing, Storage};

    use super::Chronicle;

    fn primary(timeline: u32) -> Look {
        Look {
            system: 1,
            timeline,
            standing: Standing::Primary,
            storage: Storage::Own,
            lsn: Lsn::new(1),
            lsn_age: Duration::ZERO,
            received: None,
            replay_age: None,
            read_only: false,
            latency: Duration::ZERO,
            server: None,
        }
    }

    #[test]
    fn a_primary_that_comes_back_is_no_failover_and_another_one_is() {
        let now = Instant::now();
        let (a, b) = (HostName::from("a"), HostName::from("b"));
        let mut judge = Judge::new(Rules::default());
        let chronicle = Chronicle::default();
        let mut before = judge.verdict(now);
        let mut counted = |act: &dyn Fn(&mut Judge)| {
            act(&mut judge);
            let verdict = judge.verdict(now);
            chronicle.note("shop", &before, &verdict);
            before = verdict;
            (chronicle.count(), chronicle.failovers())
        };
        counted(&|judge| judge.members([a.clone(), b.clone()], now));
        counted(&|judge| judge.saw(&b, Err(Fault::Unreachable), now));
        assert_eq!(counted(&|judge| judge.saw(&a, Ok(primary(1)), now)), (1, 0));
        let down = |judge: &mut Judge| judge.saw(&a, Err(Fault::Starting), now);
        assert_eq!(counted(&down), (2, 0));
        assert_eq!(counted(&|judge| judge.saw(&a, Ok(primary(1)), now)), (3, 0));
        assert_eq!(counted(&down), (4, 0));
        assert_eq!(counted(&|judge| judge.saw(&b, Ok(primary(2)), now)), (5, 1));
    }
}
