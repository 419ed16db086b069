//! How a session gets a server, and gives it back.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use pgherd_cluster::{Absence, Writer};
use pgherd_config::Timeouts;
use pgherd_net::{poll_read_into, poll_write_from};
use pgherd_planted::{self as planted, Bug};
use pgherd_pool::{Ask, LeaseError, Waiter};
use pgherd_session::Again;
use pgherd_wire::backend::TransactionStatus;
use pgherd_wire::error::ErrorReport;
use pgherd_wire::frame::TooLong;
use pgherd_wire::sqlstate;
use tokio::time::Sleep;

use crate::clock;
use crate::control::{Control, Order};
use crate::keeping::{Kept, SMALL};
use crate::pool::{Pool, ServerLease};
use crate::server::{ServerAbout, ServerConn};
use crate::session::relay::Relay;
use crate::session::setup::{self, Answer};
use crate::session::{ahead, follow, met, reads, retry, shards};
use crate::unserved::Unserved;
use crate::upstream::OpenError;

/// What ends a wait.
pub(super) type Timer = Pin<Box<Sleep>>;

/// Why a session got no server.
#[derive(Debug)]
pub enum Denied {
    /// The client left.
    Gone,
    /// The session was told to go.
    Ordered,
    /// The request is answered with this error; the session stays.
    Refused(Box<ErrorReport>),
    /// The session ends with this error.
    Fatal(Box<ErrorReport>),
    /// The server was lost with this error before anything of the client's was sent to it.
    Lost(Box<ErrorReport>),
}

/// How far a session gets without waiting.
pub(super) enum Start {
    /// It has a server to run on.
    Ready(ServerLease),
    /// It has a server that must be looked at or brought to its parameters first, or none yet.
    Unready(Option<ServerLease>),
    /// It was pinned to this server all along.
    Kept(ServerLease),
}

/// The usual path: an idle server that was heard lately and is set as the session wants it.
pub(super) fn at_once(
    relay: &mut Relay,
    reader: Option<&Arc<Pool>>,
    fresh: Option<Duration>,
    now: Instant,
) -> Start {
    if let Some(lease) = relay.kept.take() {
        return Start::Kept(*lease);
    }
    let core = &reader.unwrap_or(&relay.pool).core;
    let Some(lease) = core.try_lease(relay.worker, now) else {
        return Start::Unready(None);
    };
    if !is_fresh(&lease, fresh, now) {
        return Start::Unready(Some(lease));
    }
    match crate::server::vet(lease) {
        None => Start::Unready(None),
        Some(lease) if relay.lost_block || !is_brought(relay, &lease) => {
            Start::Unready(Some(lease))
        }
        Some(lease) => {
            relay.pool.stats.assigned(Duration::ZERO);
            // A cancel must not hit a BEGIN of ours, behind which the statement would run alone.
            if relay.opened.is_none() {
                relay.control.runs_on(&lease.about);
            }
            Start::Ready(lease)
        }
    }
}

/// A server for the session's next transaction, brought to the session's parameters, and when it
/// was there. The first to be tried is `found`. It is one of `reader`, or of the session's own pool if
/// there is none, or none that can be had.
pub(super) async fn checkout(
    relay: &mut Relay,
    mut reader: Option<Arc<Pool>>,
    mut found: Option<ServerLease>,
    asked: Instant,
    instead: Instead,
) -> Result<(ServerLease, Instant), Denied> {
    let (mut lost, mut moved) = (0, false);
    loop {
        let pool = Arc::clone(reader.as_ref().unwrap_or(&relay.pool));
        let lease = match found.take() {
            Some(lease) => Some(lease),
            None => Box::pin(queue(relay, &pool, asked, instead)).await?,
        };
        relay.strange = false;
        let lease = match lease {
            Some(lease) if !lease.applied.has_met_as(&relay.parameters) => {
                let wanted = Arc::clone(&relay.parameters);
                let suited = met::suited(relay, &pool, lease, &wanted, asked, instead);
                Box::pin(suited).await?
            }
            lease => lease,
        };
        // What only reads may run elsewhere.
        let Some(lease) = lease else {
            // Once on another replica, and then on the primary, which is the last, but if there is none.
            let led = pool.key.reader.is_none();
            let other = (led || !moved).then(|| reads::source(relay)).flatten();
            moved = !led;
            reader = other.filter(|other| !Arc::ptr_eq(other, &pool));
            relay.reads_from(reader.as_ref());
            continue;
        };
        let lease = alike(relay, &pool, lease);
        // By now, and not when it was asked for: there may have been no primary meanwhile.
        let checked = check(&pool, lease, clock::now());
        let checked = unless_ended(&relay.control, checked).await?;
        if relay.control.is_called_off() {
            // Nothing of the client's is on its way there.
            if let Some(mut lease) = checked {
                lease.mark_clean();
            }
            return Err(Denied::Refused(Box::new(called_off_report())));
        }
        let Some(mut lease) = checked else {
            in_time(&pool, asked)?;
            continue;
        };
        let started = clock::now();
        let waited = started.saturating_duration_since(asked);
        relay.pool.stats.assigned(waited);
        match bring(relay, &mut lease).await {
            Ok(()) => {}
            Err(Denied::Lost(report)) if lost > 0 && report.code == sqlstate::QUERY_CANCELED => {
                return Err(Denied::Refused(report));
            }
            // Whatever the client wants is the next server's. There may be one after the other that goes down.
            Err(Denied::Lost(_)) => {
                drop(lease);
                in_time(&pool, asked)?;
                relay.pool.retries.count(Again::Unsent);
                let rest = retry::pause(Again::Unsent, lost);
                lost += 1;
                if !rest.is_zero() {
                    pause(relay, rest).await?;
                    relay.control.wait(clock::now());
                }
                continue;
            }
            Err(denied) => return Err(denied),
        }
        // Where a setup is still to be answered, this waits for the answer: the client's cancel
        // must not hit the setup, behind which its query would run with other parameters.
        if !lease.exchange.in_setup() && relay.opened.is_none() {
            relay.control.runs_on(&lease.about);
        }
        return Ok((lease, started));
    }
}

/// Whether a server is set as the session wants it, and goes by nothing that was read under other settings.
#[inline]
fn is_brought(relay: &Relay, lease: &ServerConn) -> bool {
    Arc::ptr_eq(&lease.applied, &relay.parameters) && !lease.is_misread()
}

/// Where this server would have to discard its plans for the session, an idle one that need not, if there is one.
fn alike(relay: &Relay, pool: &Pool, mut lease: ServerLease) -> ServerLease {
    if relay.lost_block || !lease.would_misread(&relay.parameters) {
        return lease;
    }
    let better = pool.core.pick(relay.worker, |server| {
        !server.misread && Arc::ptr_eq(&server.applied, &relay.parameters)
    });
    match better {
        Some(better) => {
            lease.mark_clean();
            better
        }
        None => lease,
    }
}

/// As [`bring`], of a server that the session has kept: whatever was read there since then was read for it.
pub(super) async fn bring_kept(relay: &mut Relay, lease: &mut ServerLease) -> Result<(), Denied> {
    let misread = std::mem::take(&mut lease.misread);
    let brought = bring(relay, lease).await;
    lease.misread |= misread;
    brought
}

/// Brings a server that is between transactions to the session's parameters.
async fn bring(relay: &mut Relay, lease: &mut ServerLease) -> Result<(), Denied> {
    let control = Arc::clone(&relay.control);
    if relay.lost_block {
        return unless_ended(&control, Box::pin(fail_block(relay, lease))).await?;
    }
    if is_brought(relay, lease) || forgets(relay) {
        return Ok(());
    }
    match tune(relay, lease) {
        Tuned::Ready => Ok(()),
        Tuned::Untried => unless_ended(&control, Box::pin(try_out(relay, lease))).await?,
        Tuned::Gone => Err(Denied::Gone),
    }
}

/// Asks a server something before the client's transaction is on it, unless the session is to go at once: who is sent
/// away does not wait for a server that is mute. What is dropped then is in the middle of something, and is closed.
pub(super) async fn unless_ended<T>(
    control: &Control,
    asked: impl Future<Output = T>,
) -> Result<T, Denied> {
    let mut asked = pin!(asked);
    poll_fn(|cx| match asked.as_mut().poll(cx) {
        Poll::Ready(told) => Poll::Ready(Ok(told)),
        Poll::Pending => control.poll_terminated(cx).map(|()| Err(Denied::Ordered)),
    })
    .await
}

/// Whether a client that has set nothing is left with what the last one has set.
fn forgets(relay: &Relay) -> bool {
    planted::is(Bug::ForgetUndo) && Arc::ptr_eq(&relay.parameters, &relay.startup)
}

/// Looks at a connection that lay idle: at its socket always, and with a query that does nothing
/// if it was not heard for longer than the pool's `server_check`, or is doubted. `None` if it is not usable.
pub(crate) async fn check(pool: &Pool, lease: ServerLease, now: Instant) -> Option<ServerLease> {
    let lease = crate::server::vet(lease)?;
    if is_fresh(&lease, pool.settings().timeouts.server_check, now) {
        return Some(lease);
    }
    Box::pin(ping(lease)).await
}

/// Whether the server was heard within the time for which it is believed to be well.
fn is_fresh(lease: &ServerConn, limit: Option<Duration>, now: Instant) -> bool {
    let is_heard = limit.is_none_or(|limit| now.saturating_duration_since(lease.heard) < limit);
    is_heard && !lease.about.doubted.load(Ordering::Relaxed)
}

/// How long a server may take to answer a query that does nothing.
const PING: Duration = Duration::from_secs(5);

async fn ping(mut lease: ServerLease) -> Option<ServerLease> {
    let answer = tokio::time::timeout(PING, setup::run(&mut lease, b""))
        .await
        .ok()?
        .ok()?;
    let sound = answer.error.is_none() && lease.exchange.is_over();
    lease.heard = clock::now();
    lease.about.doubted.store(false, Ordering::Relaxed);
    sound.then_some(lease)
}

/// Gives a server back whose transaction is over. Whether it may serve another is decided here.
pub(super) fn checkin(control: &Control, mut lease: ServerLease, now: Instant) {
    // Who has left the server before, as over shards, has not waited here for what was on its way there.
    let quiet = control.runs_nowhere() && lease.about.cancels.quiet();
    let quiet = quiet || planted::is(Bug::ReuseDuringCancel);
    lease.heard = now;
    if quiet {
        lease.mark_clean();
        return;
    }
    // A cancel request is under way: nobody gets this server before it is known where it hit.
    tokio::spawn(async move {
        let about = Arc::clone(&lease.about);
        let limit = Duration::from_secs(30);
        if tokio::time::timeout(limit, about.cancels.settled()).await == Ok(true) {
            lease.mark_clean();
        }
    });
}

/// What a client may be given that waits for a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Instead {
    /// One of that pool, and nothing else.
    Nothing,
    /// While there is no primary, and it only reads, a replica that can be read from by now.
    Replica,
    /// The same where it was found before that it may be run on one: it need not be in front any more.
    Judged,
}

impl Instead {
    /// The pool for reading that is the best now.
    fn source(self, relay: &Relay) -> Option<Arc<Pool>> {
        match self {
            Self::Nothing | Self::Replica => reads::source(relay),
            Self::Judged => reads::place(relay),
        }
    }
}

/// Waits in the queue, while the client may still leave or be sent away; `None` if a pool for reading has
/// nothing to give, or there is something to be had instead.
pub(super) async fn queue(
    relay: &mut Relay,
    pool: &Arc<Pool>,
    asked: Instant,
    instead: Instead,
) -> Result<Option<ServerLease>, Denied> {
    let waiter = match pool.core.lease(relay.worker, asked) {
        Ok(Ask::Ready(lease)) => return Ok(Some(lease)),
        Ok(Ask::Wait(waiter)) => waiter,
        Err(_) if pool.key.reader.is_some() => return Ok(None),
        Err(error) => return Err(deny(relay, &error, pool)),
    };
    relay.control.wait(asked);
    wait(relay, pool, waiter, asked, instead).await
}

pub(super) async fn wait(
    relay: &mut Relay,
    pool: &Arc<Pool>,
    waiter: Waiter<Box<ServerConn>, ServerAbout>,
    began: Instant,
    instead: Instead,
) -> Result<Option<ServerLease>, Denied> {
    // Who has waited once will wait again: a timer is not set up and taken down each time.
    let mut timer = relay.timer.take();
    let outcome = wait_by(relay, pool, waiter, began, instead, &mut timer).await;
    relay.timer = timer;
    outcome
}

async fn wait_by(
    relay: &mut Relay,
    pool: &Arc<Pool>,
    waiter: Waiter<Box<ServerConn>, ServerAbout>,
    began: Instant,
    instead: Instead,
    timer: &mut Option<Timer>,
) -> Result<Option<ServerLease>, Denied> {
    let control = Arc::clone(&relay.control);
    let most = pool.settings().limits.max_waiting_bytes.get();
    let mut kept = Kept::new(&pool.keeping);
    if !kept.fits(relay.up.buffer.len(), most) {
        pool.refusals.count(Unserved::Crowded);
        return Err(Denied::Refused(Box::new(crowded(most))));
    }
    let mut waiter = pin!(waiter);
    let mut noticed = false;
    loop {
        let notice = match noticed {
            true => None,
            false => relay.pool.settings().timeouts.checkout_notice,
        };
        let notice = notice.map(|after| began + after);
        let next = [notice, next_look(pool, began)];
        let next = next.into_iter().flatten().min();
        let mut timer = next.map(|at| set(timer, at));
        let event = poll_fn(|cx| {
            if let Poll::Ready(outcome) = waiter.as_mut().poll(cx) {
                return Poll::Ready(Event::Served(outcome));
            }
            // Who is sent away is not listened to any more, which looks like one that has left.
            if control.poll_ordered(cx).is_ready() && has_to_go(relay) {
                return Poll::Ready(Event::Ordered);
            }
            // If there is no room for more of it, it is not read until it waits no longer.
            let gone = poll_presence_within(relay, SMALL, cx).is_ready()
                || (relay.up.buffer.len() >= SMALL
                    && kept.fits(relay.up.buffer.len().max(KEPT_MAX), most)
                    && poll_presence(relay, cx).is_ready());
            if gone {
                return Poll::Ready(Event::Gone);
            }
            if control.is_called_off() {
                return Poll::Ready(Event::CalledOff);
            }
            match timer.as_mut().map(|timer| timer.as_mut().poll(cx)) {
                Some(Poll::Ready(())) => Poll::Ready(Event::Time),
                _ => Poll::Pending,
            }
        })
        .await;
        match event {
            Event::Served(Ok(lease)) => return Ok(Some(lease)),
            Event::Served(Err(_)) if pool.key.reader.is_some() => return Ok(None),
            Event::Served(Err(error)) => return Err(deny(relay, &error, pool)),
            Event::Gone => return Err(Denied::Gone),
            Event::Ordered => return Err(Denied::Ordered),
            Event::CalledOff => {
                return Err(Denied::Refused(Box::new(called_off_report())));
            }
            Event::Time => {
                in_time(pool, began)?;
                let unled = instead != Instead::Nothing && pool.core.held().is_some();
                if (pool.key.reader.is_some() || unled)
                    && instead
                        .source(relay)
                        .is_some_and(|other| !Arc::ptr_eq(&other, pool))
                {
                    // Another host may be read from by now, and is the better one.
                    return Ok(None);
                }
                if notice.is_some_and(|at| clock::now() >= at) {
                    noticed = true;
                    send_notice(relay).await.map_err(|_| Denied::Gone)?;
                }
            }
        }
    }
}

/// Has the timer go off at this moment, or before: it is put off only when it has gone off too early, not for each wait.
fn set(timer: &mut Option<Timer>, at: Instant) -> Pin<&mut Sleep> {
    let at = at.into();
    let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
    if timer.is_elapsed() || timer.deadline() > at {
        timer.as_mut().reset(at);
    }
    timer.as_mut()
}

/// When it may be over for whoever waits since `began`, as far as can be told now; past if it is over.
fn next_look(pool: &Pool, began: Instant) -> Option<Instant> {
    let settings = pool.settings();
    let timeouts = &settings.timeouts;
    let over = match pool.core.held() {
        Some(held) => hold(timeouts).map(|limit| held.max(began) + limit),
        None => timeouts
            .checkout
            .map(|limit| in_turn(pool.core.released(), began) + limit),
    };
    let at_last = in_all(timeouts).map(|limit| began + limit);
    // A hold may begin or end meanwhile, or a reload change the limit, and nobody is woken for that.
    let changed = Some(clock::now() + Duration::from_secs(1));
    [over, at_last, changed].into_iter().flatten().min()
}

/// How long work waits for there to be a primary.
fn hold(timeouts: &Timeouts) -> Option<Duration> {
    match planted::is(Bug::DropHold) {
        true => Some(Duration::ZERO),
        false => timeouts.hold,
    }
}

/// For how long anybody waits at most, however often there is a primary and then none: each that is lost again begins
/// another `hold`.
fn in_all(timeouts: &Timeouts) -> Option<Duration> {
    Some(hold(timeouts)?.saturating_add(timeouts.checkout?))
}

/// Since when whoever waits since `began` waits for a place: while there was no primary, nobody had a turn.
fn in_turn(released: Option<Instant>, began: Instant) -> Instant {
    released.map_or(began, |released| released.max(began))
}

/// Ends the wait of a client that has waited too long since `began`, and counts it.
pub(super) fn in_time(pool: &Pool, began: Instant) -> Result<(), Denied> {
    let Some((why, report)) = overdue(pool, began) else {
        return Ok(());
    };
    pool.refusals.count(why);
    Err(Denied::Refused(Box::new(report)))
}

/// What is said to who has waited too long since `began`: for a place, or for there to be a primary. Whoever answers a client
/// by it counts that.
pub(crate) fn overdue(pool: &Pool, began: Instant) -> Option<(Unserved, ErrorReport)> {
    let (settings, now) = (pool.settings(), clock::now());
    let held = pool.core.held();
    let waited = too_long(&settings.timeouts, held, pool.core.released(), began, now)?;
    Some(match held {
        Some(_) => (Unserved::Hold, unled(pool, waited)),
        None => (Unserved::Checkout, timed_out(pool, waited)),
    })
}

/// How long whoever waits since `began` has waited, if that is too long by now. There is no primary since `held`, or has
/// been one since `released`.
fn too_long(
    timeouts: &Timeouts,
    held: Option<Instant>,
    released: Option<Instant>,
    began: Instant,
    now: Instant,
) -> Option<Duration> {
    let over = |limit: Option<Duration>, since: Instant| {
        let waited = now.saturating_duration_since(since);
        limit.is_some_and(|limit| waited >= limit).then_some(waited)
    };
    let of_now = match held {
        Some(held) => over(hold(timeouts), held.max(began)),
        None => over(timeouts.checkout, in_turn(released, began)),
    };
    of_now.or_else(|| over(in_all(timeouts), began))
}

/// There has been no primary for too long.
fn unled(pool: &Pool, waited: Duration) -> ErrorReport {
    let verdict = pool.cluster.load().verdict();
    let (code, what) = match &verdict.writer {
        // It is there, perhaps, and lets nobody in to find it out.
        Writer::Nobody(Absence::Full { .. }) => (
            sqlstate::TOO_MANY_CONNECTIONS,
            "primary with a connection left",
        ),
        Writer::Nobody(_) | Writer::At(_) => (sqlstate::CANNOT_CONNECT_NOW, "primary"),
    };
    let report = ErrorReport::error(
        code,
        format!(
            "database \"{}\" has had no {what} for {:.1} s (hold timeout)",
            pool.key.database,
            waited.as_secs_f64()
        ),
    );
    let report = match verdict.refused() {
        Some(host) => report.hint(format!(
            "{host} is a primary, but of another cluster or an older timeline. If it is what the database is now, an admin \
             says so by ADOPT {} {host} on the console.",
            pool.key.database
        )),
        None => report,
    };
    match &verdict.writer {
        Writer::Nobody(absence) => report.detail(absence.to_string()),
        Writer::At(host) => report.detail(format!("a switchover from {host} is awaited")),
    }
}

enum Event {
    Served(Result<ServerLease, LeaseError>),
    Gone,
    Ordered,
    CalledOff,
    Time,
}

/// Waits for so long, while the client may still leave or be sent away.
pub(super) async fn pause(relay: &mut Relay, time: Duration) -> Result<(), Denied> {
    let control = Arc::clone(&relay.control);
    relay.control.wait(clock::now());
    let mut timer = pin!(tokio::time::sleep(time));
    poll_fn(|cx| {
        if control.poll_ordered(cx).is_ready() && has_to_go(relay) {
            return Poll::Ready(Err(Denied::Ordered));
        }
        if poll_presence(relay, cx).is_ready() {
            return Poll::Ready(Err(Denied::Gone));
        }
        if control.is_called_off() {
            return Poll::Ready(Err(Denied::Refused(Box::new(called_off_report()))));
        }
        timer.as_mut().poll(cx).map(Ok)
    })
    .await
}

/// Whether who waits has to leave. Who holds servers of a transaction may bring that to its end, unless all are to go
/// at once.
fn has_to_go(relay: &Relay) -> bool {
    match relay.control.ordered() {
        Order::Serve => false,
        Order::Drain => !shards::holds_others(relay),
        Order::Terminate => true,
    }
}

/// What a client is told that has cancelled what waits for a server.
fn called_off_report() -> ErrorReport {
    ErrorReport::error(
        sqlstate::QUERY_CANCELED,
        "canceling statement due to user request",
    )
}

/// More is not kept of what a client sends while it waits, unless it was there before.
const KEPT_MAX: usize = 64 * 1024;

/// Ready when the client has left. What it sends meanwhile is kept, up to a bound.
pub(super) fn poll_presence(relay: &mut Relay, cx: &mut Context<'_>) -> Poll<()> {
    poll_presence_within(relay, KEPT_MAX, cx)
}

fn poll_presence_within(relay: &mut Relay, most: usize, cx: &mut Context<'_>) -> Poll<()> {
    while relay.up.buffer.len() < most {
        match poll_read_into(&mut relay.client, cx, &mut relay.up.buffer, 4096) {
            Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
            Poll::Ready(Ok(_)) => {}
            Poll::Pending => return Poll::Pending,
        }
    }
    Poll::Pending
}

/// What all clients that wait have sent is as much as is kept of it.
fn crowded(most: usize) -> ErrorReport {
    let text = "too much is kept for clients that wait for a server (max_waiting_bytes)";
    ErrorReport::error(sqlstate::OUT_OF_MEMORY, text).detail(format!(
        "No more than {most} bytes are, and this statement has to wait, too."
    ))
}

/// Says why the client waits. What it does not take at once stays for later: a server may be given to it at any moment,
/// which it would keep from others while it does not read.
async fn send_notice(relay: &mut Relay) -> std::io::Result<()> {
    ErrorReport::notice(why_waiting(&relay.pool)).encode_notice(relay.down.made());
    poll_fn(
        |cx| match poll_write_from(&mut relay.client, cx, &mut relay.down) {
            Poll::Ready(done) => Poll::Ready(done),
            Poll::Pending => {
                relay.held = true;
                Poll::Ready(Ok(()))
            }
        },
    )
    .await
}

fn why_waiting(pool: &Pool) -> String {
    if pool.core.held().is_some() {
        return "still waiting for a primary".to_owned();
    }
    match (pool.hindrance.now(), pool.trouble.load_full()) {
        _ if pool.core.is_paused() => "still waiting: the database is paused".to_owned(),
        (Some(limit), _) => format!("still waiting for a server connection: {limit}"),
        (None, Some(trouble)) => format!(
            "still waiting for a server connection: {}",
            trouble.report().message
        ),
        (None, None) => "still waiting for a server connection of the pool".to_owned(),
    }
}

fn timed_out(pool: &Pool, waited: Duration) -> ErrorReport {
    let key = &pool.key;
    let report = ErrorReport::error(
        sqlstate::QUERY_CANCELED,
        format!(
            "no server connection of pool {}/{} became free within {:.1} s (checkout timeout)",
            key.database,
            key.user,
            waited.as_secs_f64()
        ),
    );
    match (pool.hindrance.now(), pool.trouble.load_full()) {
        _ if pool.core.is_paused() => report.detail(PAUSED),
        (Some(limit), _) => report.detail(format!("No more may be opened: {limit}.")),
        (None, Some(trouble)) => report.detail(trouble.report().message),
        (None, None) => match pool.core.snapshot(clock::now()) {
            full if full.idle + full.leased >= full.limits.size => report.detail(format!(
                "No more may be opened: size of the pool is {}.",
                full.limits.size
            )),
            _ => report,
        },
    }
}

/// Why nobody is served, however many connections are free.
pub(super) const PAUSED: &str = "The database is paused on the console (PAUSE) until RESUME.";

/// A pool that is closed stays so, and no session can go on with it. Nor can one whose password is out of date: only another
/// login brings the new one, and no driver makes one as long as its connection stands. It is counted if the queue was full.
pub(super) fn deny(relay: &Relay, error: &LeaseError, pool: &Pool) -> Denied {
    if let LeaseError::QueueFull { .. } = error {
        pool.refusals.count(Unserved::QueueFull);
    }
    let report = Box::new(denial(error, pool));
    let fatal = match error {
        LeaseError::Closed(_) => true,
        LeaseError::Failed(reason) => {
            let why = reason.downcast_ref::<OpenError>();
            matches!(why, Some(OpenError::Outdated { .. })) && !shards::holds_others(relay)
        }
        LeaseError::QueueFull { .. } => false,
    };
    match fatal {
        true => Denied::Fatal(Box::new(report.into_fatal())),
        false => Denied::Refused(report),
    }
}

/// Words what the queue of a pool answers in place of a server.
pub(crate) fn denial(error: &LeaseError, pool: &Pool) -> ErrorReport {
    let key = &pool.key;
    match error {
        LeaseError::QueueFull { limit } => {
            let text = format!(
                "{limit} clients wait for pool {}/{} already",
                key.database, key.user
            );
            ErrorReport::error(sqlstate::TOO_MANY_CONNECTIONS, text)
                .hint("The limit is max_waiters of the pool.")
        }
        LeaseError::Failed(reason) => match reason.downcast_ref::<OpenError>() {
            Some(error) => error.report(),
            None => ErrorReport::error(sqlstate::CONNECTION_FAILURE, reason.to_string()),
        },
        LeaseError::Closed(reason) => ErrorReport::error(
            sqlstate::ADMIN_SHUTDOWN,
            format!("the pool is closed: {reason}"),
        ),
    }
}

/// How far a server is on its way to the session's parameters.
enum Tuned {
    /// It is there, or will be by a statement that goes before the client's own.
    Ready,
    /// Some of the values were never tried: whether they are refused, and how they are reported, is to be known first.
    Untried,
    /// The statement cannot be made.
    Gone,
}

/// Brings a server to the session's parameters in the same write as the client's first message.
fn tune(relay: &mut Relay, lease: &mut ServerLease) -> Tuned {
    let misread = lease.would_misread(&relay.parameters);
    let discard = misread.then_some(ahead::DISCARD);
    let Some(sql) = lease.applied.transition(&relay.parameters) else {
        if lease.applied == relay.parameters {
            // From here on it is seen at a glance that they agree.
            lease.applied = Arc::clone(&relay.parameters);
        } else if met::is_known(relay, &lease.applied) {
            relay.parameters = Arc::clone(&lease.applied);
        }
        if misread {
            if go_ahead(relay, lease, discard).is_err() {
                return Tuned::Gone;
            }
            lease.discards_plans();
        }
        return Tuned::Ready;
    };
    let (applied, wanted) = (Arc::clone(&lease.applied), Arc::clone(&relay.parameters));
    let is_reported = |name: &str| follow::is_reported(relay, name);
    let proven = &relay.pool.proven;
    if relay.wary || !proven.covers_reported(&applied, &wanted, is_reported) {
        return Tuned::Untried;
    }
    // Whoever the session becomes by that may discard plans.
    let statements = [Some(&*sql), discard].into_iter().flatten();
    if go_ahead(relay, lease, statements).is_err() {
        return Tuned::Gone;
    }
    lease.is_set_to(&relay.parameters);
    if misread {
        lease.discards_plans();
    }
    Tuned::Ready
}

/// Has the statements that bring a server to a session go ahead of the client's own. What the server does not report may
/// have become impossible, a role may have been dropped, and any of it may be cancelled: then nothing of the client's runs.
fn go_ahead<'s>(
    relay: &mut Relay,
    lease: &mut ServerLease,
    statements: impl IntoIterator<Item = &'s str>,
) -> Result<(), TooLong> {
    let statements = statements.into_iter().map(str::as_bytes);
    ahead::alone(&mut relay.up, &mut lease.exchange, statements)
}

/// Tries values out that no server of this pool has seen.
async fn try_out(relay: &mut Relay, lease: &mut ServerLease) -> Result<(), Denied> {
    let answer = Answer::default().heard_by(relay.listener());
    match setup::apply_into(&relay.pool, lease, &relay.parameters, answer).await {
        Ok(()) => {
            relay.wary = false;
            Ok(())
        }
        // It was cancelled under the settings of the client before: another server may do better.
        Err(report) if report.code == sqlstate::QUERY_CANCELED && relay.pins.is_empty() => {
            Err(Denied::Lost(Box::new(report)))
        }
        // The server is as it was, and so is the client, which may set something else.
        Err(report) if lease.exchange.is_over() && relay.pins.is_empty() => {
            let own = follow::as_itself(relay);
            if follow::only_sets(relay) && setup::apply(&relay.pool, lease, &own).await.is_ok() {
                relay.set_parameters(own);
                return Ok(());
            }
            if lease.exchange.is_over() && lease.doubted.is_empty() {
                lease.mark_clean();
            }
            Err(Denied::Refused(Box::new(report)))
        }
        Err(report) if lease.exchange.is_over() => {
            Err(Denied::Fatal(Box::new(report.into_fatal())))
        }
        Err(report) => Err(Denied::Lost(Box::new(report))),
    }
}

/// Puts a client whose transaction block was lost with its server into a failed block on the next:
/// what it has sent on in the belief that its block goes on is refused there as Postgres refuses
/// it, in both protocols, up to the client's own ROLLBACK.
async fn fail_block(relay: &mut Relay, lease: &mut ServerLease) -> Result<(), Denied> {
    let refused = |report: ErrorReport| Denied::Refused(Box::new(report));
    try_out(relay, lease).await?;
    setup::run(lease, b"BEGIN").await.map_err(refused)?;
    // There is no such savepoint: that fails the block, and the server's log says why.
    let failing = b"ROLLBACK TO SAVEPOINT pgherd_lost_this_transaction";
    setup::run(lease, failing).await.map_err(refused)?;
    if lease.exchange.status() != TransactionStatus::Failed {
        // The BEGIN has not run, and what the client sends in its block would run alone.
        let text = "a failed transaction could not be begun";
        let report = ErrorReport::error(sqlstate::QUERY_CANCELED, text);
        return Err(Denied::Lost(Box::new(report)));
    }
    relay.lost_block = false;
    relay.commit_fails = true;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use pgherd_config::{Config, LoadInput};

    use super::too_long;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_primary_that_comes_and_goes_holds_nobody_for_ever() {
        let mut input = LoadInput::default();
        input.overrides.urls = vec!["postgres://u:p@127.0.0.1:1/shop".to_owned()];
        let config = Config::load(&input).expect("a configuration").config;
        let section = config.database("shop").expect("configured");
        let mut timeouts = config.effective_pool(&section, None).timeouts;
        (timeouts.hold, timeouts.checkout) = (Some(SECOND * 30), Some(SECOND * 10));
        let began = Instant::now();
        let at = |seconds: u32| began + SECOND * seconds;
        let held = |since, now| too_long(&timeouts, Some(at(since)), None, began, at(now));
        let led = |since, now| too_long(&timeouts, None, Some(at(since)), began, at(now));
        assert_eq!((held(0, 29), held(0, 30)), (None, Some(SECOND * 30)));
        // Each of these began anew a moment ago.
        assert_eq!((led(29, 38), led(29, 39)), (None, Some(SECOND * 10)));
        assert_eq!((held(20, 39), held(20, 40)), (None, Some(SECOND * 40)));
        assert_eq!((led(35, 39), led(35, 40)), (None, Some(SECOND * 40)));
        timeouts.hold = None;
        let held = |since, now| too_long(&timeouts, Some(at(since)), None, began, at(now));
        assert_eq!(held(0, 9999), None, "it is without end");
    }
}
