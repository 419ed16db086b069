//! A change of the primary that is planned, by an operator or by Patroni.

use std::time::{Duration, Instant, SystemTime};

use pgherd_cluster::patroni::Switchover;
use pgherd_cluster::{HostName, Plan, Stage, Unadoptable, Verdict, Writer};
use pgherd_config::{Config, Database};

use crate::cluster::Cluster;

/// How long things may take in a change that is planned.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// For transactions to end; `None`: nothing is done for what Patroni schedules.
    grace: Option<Duration>,
    /// For work to wait.
    hold: Option<Duration>,
}

impl Patience {
    pub(super) fn of(config: &Config, database: &Database) -> Self {
        Self {
            grace: config.failover.grace,
            hold: config.effective_pool(database, None).timeouts.hold,
        }
    }
}

/// There is nothing to be switched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unplannable {
    /// There is one host, of which nothing is known.
    #[error("it has one host only, and there is nowhere to go")]
    Alone,
    /// There is no primary anyhow.
    #[error("it has no primary at the moment")]
    Leaderless,
    /// A host is not taken for the cluster.
    #[error(transparent)]
    Unadoptable(#[from] Unadoptable),
}

impl Cluster {
    /// An operator is about to change the primary: new work waits from now on, and what is not over after
    /// the grace time (without one, that of the configuration) is cut off.
    ///
    /// # Errors
    /// [`Unplannable`].
    pub fn plan(&self, grace: Option<Duration>, now: Instant) -> Result<(), Unplannable> {
        if !self.is_led() {
            return Err(Unplannable::Alone);
        }
        let verdict = self.verdict();
        let Writer::At(writer) = &verdict.writer else {
            return Err(Unplannable::Leaderless);
        };
        let patience = self.patience.load();
        let grace = grace.or(patience.grace).unwrap_or_default();
        let plan = Plan::by_hand(verdict.epoch, now, grace, patience.hold);
        *self.plan.lock() = Some(plan);
        tracing::warn!(database = self.name, %writer, ?grace, "a switchover is awaited");
        self.chronicle
            .planned(&verdict, Some("an operator is about to switch over"));
        self.turn();
        Ok(())
    }

    /// An operator says that the cluster was rebuilt: its hosts are judged anew, as if none had been seen before.
    ///
    /// # Errors
    /// [`Unplannable::Alone`] where nothing was ever judged; [`Unplannable::Unadoptable`].
    pub fn adopt(&self, host: Option<&HostName>, now: Instant) -> Result<Verdict, Unplannable> {
        if !self.is_watched() {
            return Err(Unplannable::Alone);
        }
        let before = self.verdict();
        let mut adopted = Ok(());
        self.judged(now, |judge| adopted = judge.adopt_anew(host, now));
        adopted?;
        let verdict = self.verdict();
        tracing::warn!(
            database = self.name,
            system = before.system,
            timeline = before.timeline,
            new_system = verdict.system,
            new_timeline = verdict.timeline,
            writer = verdict.writer().map(tracing::field::display),
            "an operator has taken the hosts for another cluster, or an earlier timeline"
        );
        self.doubt.notify_waiters();
        Ok(Verdict::clone(&verdict))
    }

    /// Work goes on, whatever was planned; says whether anything was.
    pub fn call_off(&self) -> bool {
        let mut plan = self.plan.lock();
        let Some(plan) = plan.as_mut().filter(|plan| plan.stage() != Stage::Over) else {
            return false;
        };
        plan.end();
        self.resumed(&self.verdict(), "a switchover is called off");
        true
    }

    /// How far a planned change is.
    pub fn stage(&self) -> Stage {
        let plan = self.plan.lock();
        plan.as_ref().map_or(Stage::Over, Plan::stage)
    }

    /// Patroni has told of this one, or of none.
    pub(super) fn schedule(&self, told: Option<&Switchover>, now: Instant) {
        let patience = self.patience.load();
        let Some(grace) = patience.grace else { return };
        let at = told.and_then(Switchover::moment);
        let mut plan = self.plan.lock();
        let called_off = |plan: &Plan| plan.is_ahead(now) && !at.is_some_and(|at| plan.is_for(at));
        if plan.as_ref().is_some_and(called_off) {
            // Nothing is left of it: should it only be missing from one answer, the next one plans it anew.
            *plan = None;
            self.resumed(&self.verdict(), "Patroni has called a switchover off");
        }
        let known =
            |plan: &Plan| plan.stage() != Stage::Over || at.is_some_and(|at| plan.is_for(at));
        let Some(at) = at.filter(|_| !plan.as_ref().is_some_and(known)) else {
            return;
        };
        let verdict = self.verdict();
        let wall = SystemTime::now();
        let begun = Plan::scheduled(verdict.epoch, at, wall, now, grace, patience.hold);
        let Some(begun) = begun.filter(|_| verdict.writer().is_some()) else {
            return;
        };
        *plan = Some(begun);
        tracing::warn!(
            database = self.name,
            "a switchover that Patroni has scheduled is awaited"
        );
        self.chronicle
            .planned(&verdict, Some("Patroni is about to switch over"));
        self.turn();
    }

    /// Brings the plan up to date with a verdict.
    pub(super) fn advance_plan(&self, verdict: &Verdict, now: Instant) {
        let mut plan = self.plan.lock();
        let Some(plan) = plan.as_mut() else { return };
        if !plan.advance(verdict, now) {
            return;
        }
        match plan.stage() {
            Stage::Grace => {}
            Stage::Cut => {
                tracing::warn!(
                    database = self.name,
                    "the grace time before a switchover is over"
                );
                self.turn();
            }
            Stage::Over => self.resumed(verdict, "a switchover is over"),
        }
    }

    fn resumed(&self, verdict: &Verdict, why: &str) {
        tracing::warn!(database = self.name, why, "writes do not wait any more");
        self.chronicle.planned(verdict, None);
        self.turn();
    }
}
