//! Where the sessions of a database that listen and the herald meet. It outlives the herald.
//!
//! Which user's connection listens makes no difference to anybody: LISTEN takes no right but to be connected, every
//! session hears all that is notified in its database, whoever does, and each change of what a session listens to
//! goes over a server connection of its own user ([`crate::session::listen`]). So the pools of all users of a
//! database share one. Each pool in which somebody listens has a herald, of which one has the *seat*: its connection
//! is the one. It leaves the seat when its user is not let in (any more), or its pool is closed, and the next one
//! tries as its own user. Only what all of them were refused is told to those who wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use atomic_waker::AtomicWaker;
use parking_lot::Mutex;
use pgherd_config::Notifications;
use pgherd_wire::error::ErrorReport;
use pgherd_wire::sqlstate;
use tokio::sync::Notify;

use crate::clock;
use crate::control::{Control, Order};
use crate::herald::ear::{Ear, Room};
use crate::herald::table::{Asked, Batch, Change, Channel, Listener, Note, Settled, Table};
use crate::pool::ServerLease;
use crate::server::ServerAbout;

/// All that listen in one database.
#[derive(Debug)]
pub struct Audience {
    state: Mutex<State>,
    /// Wakes the herald that has the seat.
    herald: AtomicWaker,
    /// Tells the others that they may look whether it is free.
    vacancy: Notify,
    /// The channel of the marks. Nobody else knows its name.
    marks: Channel,
    reconnects: AtomicU64,
}

/// Those of one pool among them.
#[derive(Debug, Default)]
pub struct Circle {
    listeners: AtomicUsize,
    /// Somebody has listened.
    known: AtomicBool,
    delivered: AtomicU64,
    overflows: AtomicU64,
    /// Which herald of the pool is in charge: the last that came.
    claim: AtomicU64,
    closed: AtomicBool,
}

impl Circle {
    /// One of them was given a notification.
    pub(super) fn delivered(&self) {
        self.delivered.fetch_add(1, Ordering::Relaxed);
    }
}

#[derive(Debug, Default)]
struct State {
    table: Table<Arc<Ear>>,
    /// How many heralds there have been, and which of them has the seat.
    claims: u64,
    seat: Option<u64>,
    /// The pools that were not given a connection since there was one.
    failed: Vec<Arc<Circle>>,
    about: Option<Arc<ServerAbout>>,
    /// Why there is no connection.
    trouble: Option<Trouble>,
    /// When the question was sent that is not answered yet, and the last one that is.
    sent: Option<Instant>,
    answered: Option<Instant>,
    lost: bool,
}

#[derive(Debug)]
struct Trouble {
    report: ErrorReport,
    /// Of which pool it is: no business of other users.
    of: Arc<Circle>,
    /// It does not pass by itself: what was asked up to here is refused.
    refuses: Option<u64>,
}

/// The figures of one moment.
#[derive(Debug, Clone, Default)]
pub struct Census {
    /// Somebody of the pool listens, or has.
    pub known: bool,
    /// Sessions of the pool that listen.
    pub listeners: usize,
    /// Channels that anybody listens to in the database.
    pub channels: usize,
    /// Notifications that were given to sessions of the pool.
    pub delivered: u64,
    /// Sessions of the pool that were sent away since too much waited for them.
    pub overflows: u64,
    /// Times that the connection was made anew after it was lost.
    pub reconnects: u64,
    /// The connection of the database, if there is one.
    pub about: Option<Arc<ServerAbout>>,
    /// It listens to all that is wanted.
    pub up: bool,
}

impl Census {
    /// Whether there is anything to show.
    pub fn is_of_interest(&self) -> bool {
        self.known
    }
}

/// What a session waits for before it may send a mark.
#[derive(Debug)]
pub enum Readiness {
    /// It need not wait.
    Ready(Arc<ServerAbout>),
    /// Not yet.
    Waiting,
    /// There is no connection that listens, and why.
    Refused(Box<ErrorReport>),
}

impl Default for Audience {
    fn default() -> Self {
        let name = format!("pgherd_{:032x}", rand::random::<u128>());
        Self {
            state: Mutex::default(),
            herald: AtomicWaker::new(),
            vacancy: Notify::new(),
            marks: name.into_bytes().into(),
            reconnects: AtomicU64::new(0),
        }
    }
}

impl Audience {
    /// The channel of the marks.
    pub fn marks(&self) -> &Channel {
        &self.marks
    }

    /// Whether a pool is to have a herald: somebody listens there, or its herald has a connection.
    pub fn is_wanted(&self, circle: &Circle) -> bool {
        let state = self.state.lock();
        let sits = state.seat == Some(circle.claim.load(Ordering::Relaxed));
        let listens = circle.listeners.load(Ordering::Relaxed) > 0;
        !circle.closed.load(Ordering::Relaxed) && (listens || sits && state.about.is_some())
    }

    /// Takes a session of a pool in, which leaves when what is returned is dropped.
    ///
    /// # Errors
    /// As many listen as may.
    pub fn join(
        self: &Arc<Self>,
        control: &Arc<Control>,
        circle: &Arc<Circle>,
        limits: &Notifications,
    ) -> Result<Listening, ErrorReport> {
        let room = Room {
            count: limits.max_waiting.get(),
            bytes: limits.max_waiting_bytes.get(),
        };
        let ear = Arc::new(Ear::new(Arc::clone(control), Arc::clone(circle), room));
        let mut state = self.state.lock();
        let max = limits.max_listeners.get();
        if circle.listeners.load(Ordering::Relaxed) >= max {
            let text = format!("{max} clients of this pool listen already (max_listeners)");
            return Err(ErrorReport::error(sqlstate::TOO_MANY_CONNECTIONS, text));
        }
        circle.listeners.fetch_add(1, Ordering::Relaxed);
        circle.known.store(true, Ordering::Relaxed);
        state.table.join(control.id, Arc::clone(&ear));
        drop(state);
        self.herald.wake();
        Ok(Listening {
            audience: Arc::clone(self),
            ear,
        })
    }

    /// The figures of this moment for one pool.
    pub fn census(&self, circle: &Circle) -> Census {
        let state = self.state.lock();
        Census {
            known: circle.known.load(Ordering::Relaxed),
            listeners: circle.listeners.load(Ordering::Relaxed),
            channels: state.table.channels(),
            delivered: circle.delivered.load(Ordering::Relaxed),
            overflows: circle.overflows.load(Ordering::Relaxed),
            reconnects: self.reconnects.load(Ordering::Relaxed),
            about: state.about.clone(),
            up: state.table.is_up(),
        }
    }

    /// A pool is closed: everybody who listens there is sent away.
    pub fn close(&self, circle: &Arc<Circle>, why: &str) {
        let state = self.state.lock();
        circle.closed.store(true, Ordering::Relaxed);
        let own = |ear: &&Arc<Ear>| Arc::ptr_eq(ear.circle(), circle);
        for ear in state.table.ears().filter(own) {
            let report = ErrorReport::fatal(
                sqlstate::ADMIN_SHUTDOWN,
                format!("the pool is closed: {why}"),
            );
            ear.control().order(Order::Terminate, report);
        }
        drop(state);
        self.herald.wake();
        self.vacancy.notify_waiters();
    }

    /// What a client is told about a notification of this process of the server.
    pub fn shown(&self, process: i32) -> i32 {
        self.state.lock().table.shown(process)
    }

    /// A herald of a pool comes; one that was there before it is to end.
    pub(super) fn claim(self: &Arc<Self>, circle: &Arc<Circle>) -> Claim {
        let mut state = self.state.lock();
        state.claims += 1;
        let number = state.claims;
        circle.claim.store(number, Ordering::Relaxed);
        drop(state);
        self.herald.wake();
        self.vacancy.notify_waiters();
        Claim {
            audience: Arc::clone(self),
            circle: Arc::clone(circle),
            number,
        }
    }

    /// Ready when somebody listens.
    pub(super) fn poll_listeners(&self) -> Poll<()> {
        if self.state.lock().table.listeners() > 0 {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// There is a connection.
    pub(super) fn link_up(&self, about: &Arc<ServerAbout>) {
        let mut state = self.state.lock();
        state.failed.clear();
        state.about = Some(Arc::clone(about));
        state.trouble = None;
        state.sent = None;
        state.answered = None;
        if std::mem::take(&mut state.lost) {
            self.reconnects.fetch_add(1, Ordering::Relaxed);
        }
        state.table.link_up();
    }

    /// There is none any more. `ended` is said of one that nobody needed.
    pub(super) fn link_lost(&self, ended: bool) {
        let mut state = self.state.lock();
        if state.about.take().is_some() {
            state.lost = !ended;
        }
        state.sent = None;
        state.answered = None;
        state.table.link_lost();
    }

    /// There is none as the user of this pool, for this reason. What will not pass by itself is told to those who
    /// wait now, once no pool of them has fared better.
    pub(super) fn failed(&self, circle: &Arc<Circle>, report: ErrorReport, passing: bool) {
        let mut state = self.state.lock();
        if !is_among(&state.failed, circle) {
            state.failed.push(Arc::clone(circle));
        }
        let all = has_failed_all(&state);
        let refuses = (!passing && all).then(|| state.table.asked());
        let of = Arc::clone(circle);
        state.trouble = Some(Trouble {
            report,
            of,
            refuses,
        });
        state.table.wake_all();
    }

    /// What to ask the server now, if anything.
    pub(super) fn next_batch(&self) -> Option<Batch> {
        let mut state = self.state.lock();
        let batch = state.table.next_batch()?;
        state.sent = Some(clock::now());
        Some(batch)
    }

    /// When the question was sent that the server has not answered.
    pub(super) fn asking_since(&self) -> Option<Instant> {
        self.state.lock().sent
    }

    /// The server has answered.
    pub(super) fn answered(&self) {
        let mut state = self.state.lock();
        state.answered = state.sent.take();
        state.table.answered();
        self.send_away_full(state);
    }

    /// A notification has come.
    pub(super) fn notify(&self, process: i32, channel: &[u8], payload: &[u8]) {
        let mut state = self.state.lock();
        if *channel == *self.marks {
            if let Some(token) = std::str::from_utf8(payload)
                .ok()
                .and_then(|text| u64::from_str_radix(text, 16).ok())
            {
                state.table.mark(process, token);
            }
        } else {
            let note = Arc::new(Note {
                channel: channel.into(),
                payload: payload.into(),
            });
            state.table.notify(process, &note);
        }
        self.send_away_full(state);
    }

    fn hold(self: &Arc<Self>, listener: Listener, server: &ServerAbout) -> Option<Hold> {
        let mut state = self.state.lock();
        let about = state.about.as_ref();
        let heard = about.is_some_and(|about| is_same_place(about, server));
        if !heard || server.backend == 0 {
            return None;
        }
        state.table.hold(listener, server.backend);
        Some(Hold {
            audience: Arc::clone(self),
            listener,
            process: server.backend,
        })
    }

    fn send_away_full(&self, mut state: parking_lot::MutexGuard<'_, State>) {
        let full = state.table.take_full();
        let ears: Vec<_> = full
            .into_iter()
            .filter_map(|listener| leave(&mut state, listener))
            .collect();
        drop(state);
        for ear in ears {
            ear.circle().overflows.fetch_add(1, Ordering::Relaxed);
            ear.overflow();
        }
    }
}

fn leave(state: &mut State, listener: Listener) -> Option<Arc<Ear>> {
    let ear = state.table.leave(listener)?;
    ear.circle().listeners.fetch_sub(1, Ordering::Relaxed);
    Some(ear)
}

/// Whether no pool in which somebody listens is left that may have a connection.
fn has_failed_all(state: &State) -> bool {
    let mut pools = state.table.ears().map(|ear| ear.circle());
    pools.all(|pool| is_among(&state.failed, pool))
}

fn is_among(circles: &[Arc<Circle>], circle: &Arc<Circle>) -> bool {
    circles.iter().any(|one| Arc::ptr_eq(one, circle))
}

/// A herald's place among those of its database.
#[derive(Debug)]
pub(super) struct Claim {
    audience: Arc<Audience>,
    circle: Arc<Circle>,
    number: u64,
}

/// Another herald of the pool is in charge, or the pool is closed.
#[derive(Debug)]
pub(super) struct Dismissed;

impl Claim {
    /// Whether this herald is still in charge in its pool.
    pub(super) fn holds(&self) -> Result<(), Dismissed> {
        let circle = &*self.circle;
        let latest = circle.claim.load(Ordering::Relaxed) == self.number;
        match latest && !circle.closed.load(Ordering::Relaxed) {
            true => Ok(()),
            false => Err(Dismissed),
        }
    }

    /// The same for one that has the seat. Its task is woken when somebody has something for it.
    pub(super) fn holds_the_seat(&self, cx: &Context<'_>) -> Result<(), Dismissed> {
        self.audience.herald.register(cx.waker());
        self.holds()
    }

    /// Waits until the seat is free, and takes it.
    pub(super) async fn sit(&self) -> Result<Seat<'_>, Dismissed> {
        loop {
            let mut vacancy = std::pin::pin!(self.audience.vacancy.notified());
            // What happens from here on is not missed.
            vacancy.as_mut().enable();
            self.holds()?;
            if self.take_seat() {
                return Ok(Seat(self));
            }
            vacancy.await;
        }
    }

    fn take_seat(&self) -> bool {
        let mut state = self.audience.state.lock();
        let free = state.seat.is_none();
        if free {
            state.seat = Some(self.number);
        }
        free
    }
}

/// The seat of the herald that listens for all; dropped, it is free.
#[derive(Debug)]
pub(super) struct Seat<'a>(&'a Claim);

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.0.audience.state.lock().seat = None;
        self.0.audience.vacancy.notify_waiters();
    }
}

/// A session's place in the audience; dropped, it leaves.
#[derive(Debug)]
pub struct Listening {
    audience: Arc<Audience>,
    ear: Arc<Ear>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        drop(leave(&mut self.audience.state.lock(), self.id()));
        self.audience.herald.wake();
    }
}

impl Listening {
    fn id(&self) -> i32 {
        self.ear.control().id
    }

    fn with<T>(&self, act: impl FnOnce(&mut State, i32) -> T) -> T {
        let done = act(&mut self.audience.state.lock(), self.id());
        self.audience.herald.wake();
        done
    }

    /// What it has heard.
    pub fn ear(&self) -> &Ear {
        &self.ear
    }

    /// Whether it listens to anything, or is about to.
    pub fn is_listening(&self) -> bool {
        self.audience.state.lock().table.is_listening(self.id())
    }

    /// Announces changes; their marks may be sent once they are [ready](Announced::poll_ready).
    ///
    /// # Errors
    /// The client listens to `max` channels already.
    pub fn announce(
        &self,
        changes: impl IntoIterator<Item = Change>,
        max: usize,
    ) -> Result<Announced, ErrorReport> {
        let mut announced = Announced {
            audience: Arc::clone(&self.audience),
            ear: Arc::clone(&self.ear),
            asked: Vec::new(),
        };
        for change in changes {
            let token = rand::random();
            let asked = self.with(|state, id| state.table.ask(id, token, change, max));
            announced.asked.push(asked.map_err(|error| {
                let text = format!("{error} (max_channels)");
                ErrorReport::error(sqlstate::PROGRAM_LIMIT_EXCEEDED, text)
            })?);
        }
        Ok(announced)
    }

    /// Why it takes so long.
    pub fn trouble(&self) -> Option<String> {
        let state = self.audience.state.lock();
        let trouble = state.trouble.as_ref();
        let own = trouble.filter(|trouble| Arc::ptr_eq(&trouble.of, self.ear.circle()));
        own.map(|trouble| trouble.report.message.clone())
    }

    /// Asks for a sign that everything has come that was committed up to now.
    pub fn fence(&self) -> u64 {
        self.with(|state, id| state.table.fence(id))
    }

    /// Asks for such a sign unless there was one already for all up to `since`.
    pub fn fence_since(&self, since: Instant) -> Option<u64> {
        let known = self.audience.state.lock().answered;
        if known.is_some_and(|answered| answered >= since) {
            return None;
        }
        Some(self.fence())
    }

    /// Ready when the sign has come, or cannot come.
    pub fn poll_fenced(&self, ticket: u64, cx: &Context<'_>) -> Poll<()> {
        self.ear.register(cx);
        let mut state = self.audience.state.lock();
        if state.table.is_fenced(self.id(), ticket) {
            return Poll::Ready(());
        }
        state.table.wait_on(self.id());
        Poll::Pending
    }

    /// The moment up to which everything has come.
    pub fn fenced_up_to(&self) -> Option<Instant> {
        self.audience.state.lock().answered
    }

    /// From here on, up to the end of the loan, what this server notifies is this session's, if it is one of those
    /// that the herald hears.
    pub fn hold(&self, lease: &mut ServerLease) {
        let (audience, listener) = (&self.audience, self.id());
        let server = Arc::clone(&lease.about);
        lease.guard_by(|| audience.hold(listener, &server));
    }

    /// Whether it is so.
    pub fn holds(&self, server: &ServerAbout) -> bool {
        let state = self.audience.state.lock();
        state.table.holds(self.id(), server.backend)
    }

    /// A transaction has ended, and all that it notified has come.
    pub fn settle(&self) -> Settled {
        self.with(|state, id| state.table.settle(id))
    }

    /// The session listens to nothing any more.
    pub fn unlisten_all(&self) {
        self.with(|state, id| state.table.unlisten_all(id));
    }
}

/// Changes that a session has announced, and whose marks are not sent; dropped, they are off.
#[derive(Debug)]
pub struct Announced {
    audience: Arc<Audience>,
    ear: Arc<Ear>,
    asked: Vec<Asked>,
}

impl Announced {
    /// Whether their marks may be sent.
    pub fn poll_ready(&self, cx: &Context<'_>) -> Readiness {
        self.ear.register(cx);
        let listener = self.ear.control().id;
        let mut state = self.audience.state.lock();
        if !state.table.is_among(listener) {
            // It was sent away: nothing of it is known any more.
            return Readiness::Refused(Box::new(refused()));
        }
        if let Some(about) = &state.about
            && self.asked.iter().all(|asked| state.table.is_ready(*asked))
        {
            return Readiness::Ready(Arc::clone(about));
        }
        if let Some(trouble) = &state.trouble
            && let Some(last) = trouble.refuses
            && self.asked.iter().any(|asked| asked.ticket <= last)
        {
            let own = Arc::ptr_eq(&trouble.of, self.ear.circle());
            let report = own.then(|| trouble.report.clone());
            return Readiness::Refused(Box::new(report.unwrap_or_else(refused)));
        }
        state.table.wait_on(listener);
        Readiness::Waiting
    }

    /// Their marks are sent: it is for the server to say whether they take effect.
    pub fn sent(mut self) -> Vec<Asked> {
        std::mem::take(&mut self.asked)
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        if self.asked.is_empty() {
            return;
        }
        let mut state = self.audience.state.lock();
        for asked in self.asked.drain(..) {
            state.table.take_back(asked);
        }
        drop(state);
        self.audience.herald.wake();
    }
}

/// What a server notifies is a session's as long as this lives, which is no longer than the loan of that server.
#[derive(Debug)]
struct Hold {
    audience: Arc<Audience>,
    listener: Listener,
    process: i32,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut state = self.audience.state.lock();
        state.table.release(self.listener, self.process);
    }
}

/// What a client is told where the last that was refused was another user.
fn refused() -> ErrorReport {
    let text = "there is no server connection that listens in this database";
    ErrorReport::error(sqlstate::CONNECTION_FAILURE, text)
}

/// Whether notifications of one connection's server are heard on the other.
pub fn is_same_place(one: &ServerAbout, other: &ServerAbout) -> bool {
    let (one, other) = (&one.upstream, &other.upstream);
    one.target == other.target && one.database == other.database
}
