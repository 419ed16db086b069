//! Notifications for all clients of one database that listen, over one server connection: that of the pool whose
//! herald has the seat, as [`audience`] says. The heralds of its other pools wait for the seat.
//!
//! Owns: that connection. It counts towards all limits but the pool's size, is opened at the first
//!   LISTEN, and closed when nobody has listened for as long as the pool keeps an idle connection.
//! Hears: that its task has ended. What sessions want is in the [`Audience`], which outlives it.
//! Tells: each session what it listens to, over a queue of its own, without a message.
//! If it dies: the connection is closed; the next one opens another, listens to everything again, and
//!   has the clients told that notifications may have been lost.

pub mod audience;
pub mod ear;
pub mod link;
pub mod table;

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::Mutex;
use pgherd_pool::{Limits, OpenSlot, PoolCore, Quota};
use pgherd_supervise::{End, Work};
use pgherd_wire::error::ErrorReport;
use pgherd_wire::sqlstate;
use tokio::sync::Notify;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::clock;
use crate::facts::Facts;
use crate::herald::audience::{Audience, Claim, Dismissed, Seat};
use crate::herald::link::{Idleness, Link, LinkError};
use crate::pool::{Forgotten, Pool};
use crate::router;
use crate::server::{Life, ServerConn};
use crate::upstream::{self, OpenError, Upstream};

/// The actor, once it is [`Tasked`](pgherd_supervise::Tasked).
#[derive(Debug)]
pub struct Herald;

/// What it is born with.
#[derive(Debug, Clone)]
pub struct HeraldArguments {
    /// Its pool.
    pub pool: Arc<Pool>,
    /// The facts, for the limits and for numbers.
    pub facts: Arc<Facts>,
}

impl Work for Herald {
    type Arguments = HeraldArguments;

    async fn run(arguments: HeraldArguments) -> End {
        live(arguments).await;
        End::Stop
    }
}

/// How often it looks at clocks and settings.
const TICK: Duration = Duration::from_secs(1);

/// How often it looks whether there is a primary again.
const HOLD_PACE: Duration = Duration::from_millis(50);

/// How long it leaves a server alone that does not want to listen.
const PAUSE: Duration = Duration::from_secs(1);

/// Whether a herald goes on where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stay {
    /// It may have another connection at once.
    Seated,
    /// Another one is to try, if there is any.
    Leave,
}

/// Why a herald closes a connection that is well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Closing {
    /// Nobody has listened for a while.
    Unused,
    /// It leads where it is not to lead, or the database is paused.
    Unwanted,
}

/// One herald of a pool.
struct Office {
    pool: Arc<Pool>,
    facts: Arc<Facts>,
    claim: Claim,
    /// The place that it waits for, while others may have the seat.
    awaited: Mutex<Option<Awaited>>,
}

/// A place within the limits towards a host that was refused so far.
///
/// It is the one place of a pool of its own, so that it is taken, waited for and given back by the same rules. That pool
/// stays the same while it waits: limits have others make room for those they know, and know how long they wait.
#[derive(Clone)]
struct Awaited {
    host: String,
    core: Arc<PoolCore<()>>,
    freed: Arc<Notify>,
}

impl Awaited {
    fn new(host: &str, quotas: Vec<Arc<Quota>>) -> Self {
        let freed = Arc::new(Notify::new());
        let hint = {
            let freed = Arc::clone(&freed);
            move || freed.notify_one()
        };
        Self {
            host: host.to_owned(),
            core: PoolCore::new(Limits::ALONE, quotas, hint),
            freed,
        }
    }
}

async fn live(arguments: HeraldArguments) {
    let HeraldArguments { pool, facts } = arguments;
    let claim = pool.audience.claim(&pool.circle);
    let office = Office {
        pool,
        facts,
        claim,
        awaited: Mutex::default(),
    };
    while let Ok(seat) = office.sit().await {
        if let Err(Dismissed) = office.listen().await {
            return;
        }
        drop(seat);
        office.rest().await;
    }
}

/// Has the audience know that there is no connection, however the herald ends.
struct Lost<'a>(&'a Audience, bool);

impl Drop for Lost<'_> {
    fn drop(&mut self) {
        self.0.link_lost(self.1);
    }
}

impl Office {
    fn audience(&self) -> &Audience {
        &self.pool.audience
    }

    /// Takes the seat. While another has it nobody is to make room here.
    async fn sit(&self) -> Result<Seat<'_>, Dismissed> {
        let mut seat = std::pin::pin!(self.claim.sit());
        poll_fn(|cx| {
            let polled = seat.as_mut().poll(cx);
            if polled.is_pending() {
                self.awaits_none();
            }
            polled
        })
        .await
    }

    /// Leaves others to try for a while, or until there may be the place that it waits for.
    async fn rest(&self) {
        let awaited = self.awaited.lock().clone();
        let pause = tokio::time::sleep(PAUSE);
        match awaited {
            Some(awaited) => tokio::select! {
                () = pause => {}
                () = awaited.freed.notified() => {}
            },
            None => pause.await,
        }
    }

    /// Wants no place any more, or has one.
    fn awaits_none(&self) {
        let awaited = self.awaited.lock().take();
        drop(awaited);
    }

    /// Listens for all, as long as there is a connection to be had.
    async fn listen(&self) -> Result<(), Dismissed> {
        loop {
            self.await_listeners().await?;
            if self.open_and_serve().await? == Stay::Leave {
                return Ok(());
            }
        }
    }

    async fn await_listeners(&self) -> Result<(), Dismissed> {
        poll_fn(|cx| {
            self.claim.holds_the_seat(cx)?;
            let listeners = self.audience().poll_listeners();
            if listeners.is_pending() {
                self.awaits_none();
            }
            listeners.map(Ok)
        })
        .await
    }

    /// Waits, unless this herald is dismissed meanwhile.
    async fn pause(&self, pause: Duration) -> Result<(), Dismissed> {
        self.attend(tokio::time::sleep(pause)).await
    }

    /// Lets something happen, unless this herald is dismissed meanwhile.
    async fn attend<T>(&self, what: impl Future<Output = T>) -> Result<T, Dismissed> {
        let mut what = std::pin::pin!(what);
        poll_fn(|cx| {
            self.claim.holds_the_seat(cx)?;
            what.as_mut().poll(cx).map(Ok)
        })
        .await
    }

    async fn open_and_serve(&self) -> Result<Stay, Dismissed> {
        while self.pool.core.held().is_some() || self.pool.core.is_paused() {
            // There is nobody to notify as long as nobody can write, and a paused database is let go of.
            self.awaits_none();
            self.pause(HOLD_PACE).await?;
        }
        let upstream = self.pool.upstream.load_full();
        let (mut server, _place) = match self.attend(self.open(&upstream)).await? {
            Ok(opened) => opened,
            Err((report, passing)) => {
                self.audience().failed(&self.pool.circle, report, passing);
                return Ok(Stay::Leave);
            }
        };
        let host = &self.pool.key;
        let begun = clock::now();
        match self.serve(&mut server, &upstream).await {
            Ok(outcome) => outcome.map(|()| Stay::Seated),
            Err(error) => {
                tracing::warn!(
                    database = host.database,
                    user = host.user,
                    host = upstream.name,
                    %error,
                    "notifications are not heard"
                );
                let (report, passing) = (error.report(&upstream.name), error.is_passing());
                self.audience().failed(&self.pool.circle, report, passing);
                // A server that ends each connection at once is not to be asked again and again.
                Ok(match passing && clock::since(begun) > PAUSE {
                    true => Stay::Seated,
                    false => Stay::Leave,
                })
            }
        }
    }

    /// Opens a connection within the limits.
    async fn open(
        &self,
        upstream: &Arc<Upstream>,
    ) -> Result<(Box<ServerConn>, OpenSlot<()>), (ErrorReport, bool)> {
        let place = self.place(upstream)?;
        let gate = &upstream.gate.0;
        if let Some(pause) = self.pool.pause(upstream, clock::now()) {
            tokio::time::sleep(pause).await;
        }
        let opened = match upstream::in_turn(upstream, gate.enter()).await {
            Ok(permit) => {
                let opened = upstream::open(upstream, self.facts.number(), Life::new().0).await;
                drop(permit);
                opened
            }
            Err(error) => Err(error),
        };
        match opened {
            Ok((_, welcome)) if self.pool.cluster.load().is_led() && welcome.is_in_recovery() => {
                let (host, now) = (upstream.name.clone(), clock::now());
                self.pool.cluster.load().suspect(&host, now);
                let error = OpenError::Standby { host };
                Err((error.report(), true))
            }
            Ok((server, welcome)) => {
                gate.succeeded();
                self.pool.backoff.succeeded();
                self.pool.greeted(welcome);
                Ok((server, place))
            }
            Err(error) => {
                self.note_failure(&error, upstream);
                Err((error.report(), error.is_passing()))
            }
        }
    }

    fn note_failure(&self, error: &OpenError, upstream: &Arc<Upstream>) {
        let forgotten = match error.is_wrong_password() {
            true => self.pool.forget(upstream),
            false => Forgotten::Nothing,
        };
        self.pool.note_failure(error, upstream, forgotten);
        tracing::warn!(
            database = self.pool.key.database,
            user = self.pool.key.user,
            host = upstream.name,
            %error,
            "no server connection for notifications"
        );
    }

    /// A permit of each limit. Where there is none it is waited for; the clients that listen have a limit on that.
    fn place(&self, upstream: &Upstream) -> Result<OpenSlot<()>, (ErrorReport, bool)> {
        let known = self.awaited.lock().take();
        let known = known.filter(|known| known.host == upstream.name);
        let awaited = known.unwrap_or_else(|| Awaited::new(&upstream.name, self.quotas(upstream)));
        awaited.core.heard();
        awaited.core.begin_open(clock::now()).map_err(|refused| {
            *self.awaited.lock() = Some(awaited);
            let text = "no server connection is left for notifications";
            let report = ErrorReport::error(sqlstate::TOO_MANY_CONNECTIONS, text);
            (report.detail(refused.to_string()), true)
        })
    }

    fn quotas(&self, upstream: &Upstream) -> Vec<Arc<Quota>> {
        let (pool, config) = (&self.pool, self.facts.config.load_full());
        let settings = pool.settings().clone();
        let memory = &self.facts.memory;
        router::quotas(memory, &config, &settings, &pool.key, &upstream.name)
    }

    async fn serve(
        &self,
        server: &mut ServerConn,
        upstream: &Arc<Upstream>,
    ) -> Result<Result<(), Dismissed>, LinkError> {
        let about = Arc::clone(&server.about);
        let mut link = Link::new(server, self.audience());
        let patience = upstream.patience.unwrap_or(Duration::from_secs(15));
        let opening = poll_fn(|cx| link.poll_opening(cx));
        match self.attend(tokio::time::timeout(patience, opening)).await {
            Ok(Ok(opened)) => opened?,
            Ok(Err(_elapsed)) => return Err(LinkError::Mute),
            Err(dismissed) => return Ok(Err(dismissed)),
        }
        let mut lost = Lost(self.audience(), false);
        let mut closing = None;
        self.audience().link_up(&about);
        let mut clock = interval(TICK);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut idleness = Idleness::new(self.pool.settings().timeouts.server_idle);
        let outcome = poll_fn(|cx| {
            if let Err(dismissed) = self.claim.holds_the_seat(cx) {
                return Poll::Ready(Ok(Err(dismissed)));
            }
            if let Err(error) = link.poll_talk(cx) {
                return Poll::Ready(Err(error));
            }
            let closed = self.poll_clock(&mut clock, &mut idleness, upstream, cx);
            closed.map(|why| {
                closing = Some(why);
                Ok(Ok(()))
            })
        })
        .await;
        // What nobody listened to cannot have been missed.
        lost.1 = closing == Some(Closing::Unused);
        outcome
    }

    /// Ready when the connection is of no use any more, or is not to be.
    fn poll_clock(
        &self,
        clock: &mut Interval,
        idleness: &mut Idleness,
        upstream: &Arc<Upstream>,
        cx: &mut Context<'_>,
    ) -> Poll<Closing> {
        let used = self.audience().poll_listeners().is_ready();
        while clock.poll_tick(cx).is_ready() {
            if idleness.is_over(used, clock::now()) {
                return Poll::Ready(Closing::Unused);
            }
            let wanted = self.pool.upstream.load();
            if !wanted.is_as_good_as(upstream) || self.pool.core.is_paused() {
                return Poll::Ready(Closing::Unwanted);
            }
        }
        if used {
            idleness.is_over(true, clock::now());
        }
        Poll::Pending
    }
}
