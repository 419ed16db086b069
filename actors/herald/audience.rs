//! Where sessions that listen and the herald of their pool meet. It outlives the herald.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use atomic_waker::AtomicWaker;
use parking_lot::Mutex;
use pgherd_config::Notifications;
use pgherd_wire::error::ErrorReport;
use pgherd_wire::sqlstate;

use crate::clock;
use crate::control::{Control, Order};
use crate::herald::ear::{Ear, Room};
use crate::herald::table::{Asked, Batch, Change, Channel, Note, Settled, Table};
use crate::server::ServerAbout;

/// All that listen in one pool.
#[derive(Debug)]
pub struct Audience {
    state: Mutex<State>,
    /// Wakes the herald.
    herald: AtomicWaker,
    /// The channel of the marks. Nobody else knows its name.
    marks: Channel,
    overflows: AtomicU64,
    reconnects: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    table: Table<Arc<Ear>>,
    /// Which herald is in charge: the last that came.
    claim: u64,
    about: Option<Arc<ServerAbout>>,
    /// Why there is no connection.
    trouble: Option<Trouble>,
    /// When the question was sent that is not answered yet, and the last one that is.
    sent: Option<Instant>,
    answered: Option<Instant>,
    lost: bool,
    closed: bool,
}

#[derive(Debug)]
struct Trouble {
    report: ErrorReport,
    /// It does not pass by itself: what was asked up to here is refused.
    refuses: Option<u64>,
}

/// The figures of one moment.
#[derive(Debug, Clone, Default)]
pub struct Census {
    /// Sessions that listen.
    pub listeners: usize,
    /// Channels that anybody listens to.
    pub channels: usize,
    /// Notifications that were given to sessions.
    pub delivered: u64,
    /// Sessions that were sent away since too much waited for them.
    pub overflows: u64,
    /// Times that the connection was made anew after it was lost.
    pub reconnects: u64,
    /// The connection, if there is one.
    pub about: Option<Arc<ServerAbout>>,
    /// It listens to all that is wanted.
    pub up: bool,
}

impl Census {
    /// Whether there is anything to show.
    pub fn is_of_interest(&self) -> bool {
        self.listeners > 0 || self.about.is_some() || self.delivered > 0 || self.reconnects > 0
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
            marks: name.into_bytes().into(),
            overflows: AtomicU64::new(0),
            reconnects: AtomicU64::new(0),
        }
    }
}

impl Audience {
    /// The channel of the marks.
    pub fn marks(&self) -> &Channel {
        &self.marks
    }

    /// Whether a herald is to live: somebody listens, or a connection is there.
    pub fn is_wanted(&self) -> bool {
        let state = self.state.lock();
        !state.closed && (state.table.listeners() > 0 || state.about.is_some())
    }

    /// Takes a session in, which leaves when what is returned is dropped.
    ///
    /// # Errors
    /// As many listen as may.
    pub fn join(
        self: &Arc<Self>,
        control: &Arc<Control>,
        limits: &Notifications,
    ) -> Result<Listening, ErrorReport> {
        let room = Room {
            count: limits.max_waiting.get(),
            bytes: limits.max_waiting_bytes.get(),
        };
        let ear = Arc::new(Ear::new(Arc::clone(control), room));
        let mut state = self.state.lock();
        let max = limits.max_listeners.get();
        if state.table.listeners() >= max {
            let text = format!("{max} clients of this pool listen already (max_listeners)");
            return Err(ErrorReport::error(sqlstate::TOO_MANY_CONNECTIONS, text));
        }
        state.table.join(control.id, Arc::clone(&ear));
        drop(state);
        self.herald.wake();
        Ok(Listening {
            audience: Arc::clone(self),
            ear,
        })
    }

    /// The figures of this moment.
    pub fn census(&self) -> Census {
        let state = self.state.lock();
        Census {
            listeners: state.table.listeners(),
            channels: state.table.channels(),
            delivered: state.table.delivered(),
            overflows: self.overflows.load(Ordering::Relaxed),
            reconnects: self.reconnects.load(Ordering::Relaxed),
            about: state.about.clone(),
            up: state.table.is_up(),
        }
    }

    /// The pool is closed: everybody who listens is sent away.
    pub fn close(&self, why: &str) {
        let mut state = self.state.lock();
        state.closed = true;
        for ear in state.table.ears() {
            let report = ErrorReport::fatal(
                sqlstate::ADMIN_SHUTDOWN,
                format!("the pool is closed: {why}"),
            );
            ear.control().order(Order::Terminate, report);
        }
        drop(state);
        self.herald.wake();
    }

    /// What a client is told about a notification of this process of the server.
    pub fn shown(&self, process: i32) -> i32 {
        self.state.lock().table.shown(process)
    }

    /// A herald takes charge; one that was in charge before it is to end.
    pub(super) fn claim(&self) -> u64 {
        let mut state = self.state.lock();
        state.claim += 1;
        let claim = state.claim;
        drop(state);
        self.herald.wake();
        claim
    }

    /// Whether this herald is still in charge. Its task is woken when somebody has something for it.
    pub(super) fn is_in_charge(&self, claim: u64, cx: &Context<'_>) -> bool {
        self.herald.register(cx.waker());
        let state = self.state.lock();
        state.claim == claim && !state.closed
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

    /// There is none, for this reason. What will not pass by itself is told to those who wait now.
    pub(super) fn failed(&self, report: ErrorReport, passing: bool) {
        let mut state = self.state.lock();
        let refuses = (!passing).then(|| state.table.asked());
        state.trouble = Some(Trouble { report, refuses });
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

    fn send_away_full(&self, mut state: parking_lot::MutexGuard<'_, State>) {
        let full = state.table.take_full();
        let ears: Vec<_> = full
            .into_iter()
            .filter_map(|listener| state.table.leave(listener))
            .collect();
        drop(state);
        for ear in ears {
            self.overflows.fetch_add(1, Ordering::Relaxed);
            ear.overflow();
        }
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
        drop(self.audience.state.lock().table.leave(self.id()));
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

    /// Announces a change; its mark may be sent once it is [ready](Self::poll_ready).
    ///
    /// # Errors
    /// The client listens to `max` channels already.
    pub fn ask(&self, change: Change, max: usize) -> Result<Asked, ErrorReport> {
        let token = rand::random();
        self.with(|state, id| state.table.ask(id, token, change, max))
            .map_err(|error| {
                let text = format!("{error} (max_channels)");
                ErrorReport::error(sqlstate::PROGRAM_LIMIT_EXCEEDED, text)
            })
    }

    /// Whether the mark of a change may be sent.
    pub fn poll_ready(&self, asked: Asked, cx: &Context<'_>) -> Readiness {
        self.ear.register(cx);
        let mut state = self.audience.state.lock();
        if let Some(about) = &state.about
            && state.table.is_ready(asked)
        {
            return Readiness::Ready(Arc::clone(about));
        }
        if let Some(trouble) = &state.trouble
            && trouble.refuses.is_some_and(|last| asked.ticket <= last)
        {
            return Readiness::Refused(Box::new(trouble.report.clone()));
        }
        state.table.wait_on(self.id());
        Readiness::Waiting
    }

    /// Why it takes so long.
    pub fn trouble(&self) -> Option<String> {
        let state = self.audience.state.lock();
        state
            .trouble
            .as_ref()
            .map(|trouble| trouble.report.message.clone())
    }

    /// A change whose mark was not sent is off.
    pub fn take_back(&self, asked: Asked) {
        self.with(|state, _| state.table.take_back(asked));
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
        if state.table.is_fenced(ticket) {
            return Poll::Ready(());
        }
        state.table.wait_on(self.id());
        Poll::Pending
    }

    /// The moment up to which everything has come.
    pub fn fenced_up_to(&self) -> Option<Instant> {
        self.audience.state.lock().answered
    }

    /// From here on what a process of the server notifies is this session's, if it is one of those
    /// that the herald hears.
    pub fn hold(&self, server: &ServerAbout) {
        let mut state = self.audience.state.lock();
        let heard = state
            .about
            .as_ref()
            .is_some_and(|about| is_same_place(about, server));
        if heard && server.backend != 0 {
            state.table.hold(self.id(), server.backend);
        }
    }

    /// Whether it is so.
    pub fn holds(&self, server: &ServerAbout) -> bool {
        let state = self.audience.state.lock();
        state.table.holds(self.id(), server.backend)
    }

    /// It is so no longer.
    pub fn release(&self, server: &ServerAbout) {
        let mut state = self.audience.state.lock();
        state.table.release(self.id(), server.backend);
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

/// Whether notifications of one connection's server are heard on the other.
pub fn is_same_place(one: &ServerAbout, other: &ServerAbout) -> bool {
    let (one, other) = (&one.upstream, &other.upstream);
    one.target == other.target && one.database == other.database
}
