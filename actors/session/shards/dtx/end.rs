//! The end of a transaction over several shards.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use pgherd_session::{Flow, Outcome, Role};
use pgherd_wire::error::ErrorReport;
use pgherd_wire::sqlstate;

use super::{Dtx, Fault, Kind, session};
use crate::clock;
use crate::control::Order;
use crate::server::Cancels;
use crate::session::Bye;
use crate::session::behind;
use crate::session::follow;
use crate::session::listen;
use crate::session::relay::Relay;
use crate::session::replies;
use crate::session::setup;
use crate::session::shards::gather::{Deadlines, poll_presence};
use crate::session::shards::legs::{Leg, give_back};
use crate::session::shards::objection::resharded;
use crate::session::shards::scatter::suspect;
use crate::session::shards::{NOTIFIER, enter};
use crate::session::thinking::Thinking;
use crate::transactions::coordinator::{self, Part, Told};
use crate::upstream;

/// How long a server may take to roll back.
const GRACE: Duration = Duration::from_secs(10);

/// How long a commit may still take once its client is to go: less than until its socket is cut off.
const LAST_GRACE: Duration = Duration::from_millis(500);

impl Dtx {
    /// Ends the transaction, by committing it if that is asked for and it has not failed; answers whether it is
    /// committed.
    pub(super) async fn finish(&mut self, relay: &mut Relay, commit: bool) -> Result<bool, Fault> {
        if !commit || self.failed || !self.legs.values().all(Leg::is_sound) {
            self.roll_back(relay).await;
            self.kind = Kind::Implicit;
            self.failed = false;
            return Ok(false);
        }
        if self.group.is_retired() && self.may_have_written() {
            // It may be where nobody looks for it any more.
            self.roll_back(relay).await;
            self.kind = Kind::Implicit;
            return Err(resharded().into());
        }
        let legs = std::mem::take(&mut self.legs);
        let reading = legs.values().filter(|leg| leg.reading);
        let reading: Vec<u16> = reading.map(|leg| leg.shard).collect();
        // One that was read from may have been promoted meanwhile.
        let wrote = legs
            .values()
            .filter(|leg| !leg.reading || leg.lease.role != Role::Recovering);
        let wrote: Vec<u16> = wrote.map(|leg| leg.shard).collect();
        let notified = relay.spread.as_deref().is_some_and(|it| it.notified);
        let pools = legs
            .keys()
            .map(|shard| Arc::clone(&self.group.pools[usize::from(*shard)]));
        let pools: Vec<_> = pools.collect();
        let parts: Vec<Part> = legs
            .into_values()
            .map(|leg| Part {
                shard: leg.shard,
                lease: leg.lease,
                notifies: notified && leg.shard == NOTIFIER,
                outcome: None,
                reported: BTreeMap::new(),
            })
            .collect();
        let told = match parts.is_empty() {
            true => Ok(None),
            false => {
                let whole = Deadlines::new(relay, self.began).whole;
                let (transactions, name) = (&self.group.transactions, &self.group.config.name);
                let commit = coordinator::commit(transactions, name, parts, pools);
                outcome(relay, whole, commit).await.map(Some)
            }
        };
        for shard in wrote {
            // What is read there next must not come from before.
            enter(relay, shard);
            relay.wrote = relay.pool.age(clock::now());
        }
        let (took, thought) = (clock::since(self.began), self.thinking.end());
        relay.pool.stats.transaction(took, thought);
        let told = match told {
            Ok(told) => told,
            Err(fault) => {
                // What it has set holds if it turns out to be committed: nobody knows then with what to go on.
                let spread = relay.spread.as_deref();
                let sets = spread.is_some_and(|it| it.listened || !it.journal.is_empty());
                self.revert(relay);
                self.unhear(relay);
                self.begin_anew(relay);
                return Err(match fault {
                    Fault::Refused(report) if sets => {
                        Fault::Over(Bye::Sent(Box::new(report.into_fatal())))
                    }
                    other => other,
                });
            }
        };
        self.concluded(relay, told, &reading).await
    }

    /// Takes over what has become of the transaction, if it had a server, and gives its servers back; those of the shards
    /// in `reading` were only read from.
    async fn concluded(
        &mut self,
        relay: &mut Relay,
        told: Option<Told>,
        reading: &[u16],
    ) -> Result<bool, Fault> {
        let committed = told
            .as_ref()
            .is_none_or(|told| told.outcome == Outcome::Committed);
        if !committed {
            self.revert(relay);
        }
        // What it has notified itself comes before its end is told.
        let mut last_word = match self.hears {
            true => listen::catch_up(relay).await.err().map(|it| it.bye(relay)),
            false => None,
        };
        self.unhear(relay);
        let mut report = None;
        if let Some(told) = told {
            let ended = told.parts.iter();
            let mut ended = ended.filter(|part| part.outcome == Some(Outcome::Committed));
            let reported = ended.next().map(|part| part.reported.clone());
            if committed && !self.keep(relay, reported.as_ref()) {
                let text = "the transaction is committed, and what it has left set is not known";
                let report = ErrorReport::fatal(sqlstate::CONNECTION_FAILURE, text);
                last_word = Some(Bye::Sent(Box::new(report)));
            }
            let (parts, reported) = (told.parts, reported.as_ref());
            self.hand_back(relay, parts, reported, committed, reading)
                .await;
            report = told.report;
        }
        self.begin_anew(relay);
        match (committed, report) {
            (true, warning) => {
                // That it is committed is told first.
                self.last_word = last_word;
                if let Some(warning) = warning {
                    warning.encode_notice(relay.down.made());
                }
                Ok(true)
            }
            (false, Some(report)) => Err(Fault::Refused(Box::new(report))),
            (false, None) => Ok(false),
        }
    }

    /// Gives the servers of a transaction back. With its commit, the first of them has `reported` this.
    async fn hand_back(
        &self,
        relay: &mut Relay,
        parts: Vec<Part>,
        reported: Option<&BTreeMap<String, String>>,
        committed: bool,
        reading: &[u16],
    ) {
        for part in parts {
            if committed && Some(&part.reported) != reported {
                // It has something set that the others have not: nobody else may get it.
                continue;
            }
            let mut leg = Leg::new(part.shard, part.lease);
            leg.reading = reading.contains(&part.shard);
            leg.lease.is_set_to(match part.outcome {
                Some(Outcome::Committed) if committed => &relay.parameters,
                // It has gone back, or it has not, where the others have: only the former is certain.
                _ => &self.before,
            });
            if committed || part.outcome == Some(Outcome::Aborted) {
                leg.lease.alters = None;
                give_back(relay, leg).await;
            }
        }
    }

    /// Rolls all of it back.
    pub(super) async fn roll_back(&mut self, relay: &mut Relay) {
        self.unhear(relay);
        let legs = std::mem::take(&mut self.legs);
        let mut ends = Vec::new();
        for (_, mut leg) in legs {
            ends.push(tokio::spawn(async move {
                let ended = tokio::time::timeout(GRACE, setup::run(&mut leg.lease, b"ROLLBACK"));
                let ended = matches!(ended.await, Ok(Ok(answer)) if answer.error.is_none());
                (leg, ended)
            }));
        }
        for end in ends {
            let Ok((mut leg, ended)) = end.await else {
                continue;
            };
            if ended {
                leg.lease.is_set_to(&self.before);
                leg.lease.alters = None;
                give_back(relay, leg).await;
            }
        }
        self.revert(relay);
        self.begin_anew(relay);
    }

    /// A connection has broken: the others are rolled back, and nobody waits for that.
    pub(super) fn lose(&mut self, relay: &mut Relay) {
        self.unhear(relay);
        for (_, leg) in std::mem::take(&mut self.legs) {
            if leg.lost {
                suspect(relay, &leg);
                continue;
            }
            self.retire(relay, leg);
        }
        self.revert(relay);
        self.begin_anew(relay);
    }

    /// The session ends, or the client has left.
    pub(super) fn abandon(&mut self, relay: &mut Relay, bye: Bye) -> Option<Bye> {
        for (_, leg) in std::mem::take(&mut self.legs) {
            if !leg.lost {
                self.retire(relay, leg);
            }
        }
        Some(bye)
    }

    /// Rolls back what is on a connection, and gives it back.
    fn retire(&self, relay: &mut Relay, leg: Leg) {
        let Leg {
            mut lease,
            sent,
            shard,
            ..
        } = leg;
        enter(relay, shard);
        let how = relay.pool.settings().pool.function_check;
        if !sent || lease.flow.is_mid_message() {
            return;
        }
        // Code that no text shows may have left something there, and nobody waits to look.
        let suspect = behind::is_suspect(&lease, how);
        let before = Arc::clone(&self.before);
        tokio::spawn(async move {
            let about = Arc::clone(&lease.about);
            let idle = async {
                if lease.exchange.owes() {
                    upstream::cancel(Cancels::begin(&about)).await;
                }
                lease.flow.hand_over(&mut Flow::default());
                let answer = setup::run(&mut lease, b"ROLLBACK").await;
                answer.is_ok() && lease.exchange.is_over() && about.cancels.settled().await
            };
            if tokio::time::timeout(GRACE, idle).await == Ok(true) && !suspect {
                lease.is_set_to(&before);
                lease.alters = None;
                lease.ran = pgherd_sql::Runs::Nothing;
                lease.heard = clock::now();
                lease.mark_clean();
            }
        });
    }

    /// The client's settings are again those of before the transaction.
    fn revert(&self, relay: &mut Relay) {
        relay.block = None;
        if *self.before == *relay.parameters {
            return;
        }
        let now = Arc::clone(&relay.parameters);
        relay.set_parameters(Arc::clone(&self.before));
        follow::tell_back(relay, &now);
    }

    /// What was set for the transaction alone is over with its commit: what holds now is what a server of it has
    /// `reported` with that. Answers whether it is known what holds; it may not be if no server is left.
    fn keep(&self, relay: &mut Relay, reported: Option<&BTreeMap<String, String>>) -> bool {
        let Some(reported) = reported else {
            let spread = relay.spread.as_deref();
            return !spread.is_some_and(|spread| {
                let journal = &spread.journal;
                journal.sets_for_now(|name| follow::is_reported(relay, name))
            });
        };
        for (name, value) in reported {
            session::reported(relay, name, value);
        }
        true
    }

    /// What it was to change of what the session listens to, and has not by now, it does not change any more.
    fn unhear(&mut self, relay: &Relay) {
        if std::mem::take(&mut self.hears)
            && let Some(listening) = relay.listening.as_deref()
        {
            listening.settle();
        }
    }

    /// Whatever comes next is another transaction.
    fn begin_anew(&mut self, relay: &mut Relay) {
        relay.block = None;
        (relay.reading, relay.presumes) = (false, false);
        self.before = Arc::clone(&relay.parameters);
        if let Some(spread) = relay.spread.as_deref_mut() {
            spread.journal.clear();
            (spread.notified, spread.listened, spread.defers) = (false, false, false);
            spread.holds = false;
            spread.waiter = None;
            spread.before = Arc::clone(&self.before);
        }
        self.opening = b"BEGIN"[..].into();
        self.still = false;
        self.abilities.clear();
        self.portals.clear();
        self.cursors.clear();
        self.had_cursors = false;
        self.unchecked.clear();
        self.fresh.clear();
        self.unbound = None;
        self.home = None;
        self.unproven = None;
        self.altered = false;
        self.waiter = None;
        self.began = clock::now();
        self.thinking = Thinking::default();
    }
}

/// Waits for what becomes of a commit. It goes on by itself if nobody waits for it any more, and what came of it is not
/// known then.
async fn outcome(
    relay: &mut Relay,
    whole: Option<Instant>,
    commit: impl Future<Output = Told>,
) -> Result<Told, Fault> {
    let control = Arc::clone(&relay.control);
    let mut commit = pin!(commit);
    let mut grace = None;
    let mut timer = whole.map(|at| Box::pin(tokio::time::sleep_until(at.into())));
    poll_fn(|cx| {
        if let Poll::Ready(told) = commit.as_mut().poll(cx) {
            return Poll::Ready(Ok(told));
        }
        if control.poll_ordered(cx).is_ready() && control.ordered() == Order::Terminate {
            let grace = grace.get_or_insert_with(|| Box::pin(tokio::time::sleep(LAST_GRACE)));
            if grace.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let farewell = control.farewell();
            let in_doubt = |farewell: Box<ErrorReport>| Box::new(replies::in_doubt(*farewell));
            let bye = farewell.map_or(Bye::Left, |it| Bye::Sent(in_doubt(it)));
            return Poll::Ready(Err(Fault::Over(bye)));
        }
        if poll_presence(relay, cx).is_ready() {
            return Poll::Ready(Err(Fault::Over(Bye::Gone)));
        }
        let Some(timer) = &mut timer else {
            return Poll::Pending;
        };
        timer.as_mut().poll(cx).map(|()| {
            let why = "the transaction timeout of the pool has run out";
            Err(coordinator::unknown(why).into())
        })
    })
    .await
}
