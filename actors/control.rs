//! How the outside speaks to a session: orders, cancels and what the console shows.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use atomic_waker::AtomicWaker;
use parking_lot::Mutex;
use pgherd_net::Killer;
use pgherd_wire::cancel::CancelKey;
use pgherd_wire::error::ErrorReport;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::logins::Logins;
use crate::pins::Bound;
use crate::server::{CancelGuard, Cancels, ServerAbout};

/// What a session has been told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Order {
    /// Nothing.
    Serve = 0,
    /// Leave when no transaction is open.
    Drain = 1,
    /// Leave now.
    Terminate = 2,
}

/// The highest number of a session. What is above is for processes that are no client's, where one
/// must be named.
pub const NUMBER_MAX: i32 = i32::MAX >> 1;

/// How long a client in the middle of something has to take its farewell.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Ends a connection that is in the middle of something: its session reads the end and says
/// farewell. A client that does not take it must not hold that up.
fn end(killer: Killer) {
    killer.hang_up();
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => drop(runtime.spawn(async move {
            tokio::time::sleep(LAST_WORD).await;
            killer.kill();
        })),
        Err(_) => drop(killer.kill()),
    }
}

/// Where a session stands, for the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Standing {
    /// Not yet logged in.
    Login = 0,
    /// Between transactions.
    Idle = 1,
    /// In the queue for a server.
    Waiting = 2,
    /// On a server.
    Active = 3,
}

/// The outside's handle on a session. The session looks at it between transactions and is woken
/// by the token while it is idle; nothing of it is touched per byte.
#[derive(Debug)]
pub struct Control {
    /// The session's number: the process id that the client is told.
    pub id: i32,
    /// The client's cancel key, once its protocol version is known.
    pub key: OnceLock<CancelKey>,
    /// Fires once the session is ordered to go.
    pub token: CancellationToken,
    /// When the client connected.
    pub since: SystemTime,
    /// The same by the clock that is not set.
    born: Instant,
    /// When its last transaction began, in nanoseconds behind that; 0 if none has.
    asked: AtomicU64,
    /// Since when it waits for a server, if it does, in the same way.
    waits: AtomicU64,
    /// How many named statements it has.
    prepared: AtomicUsize,
    /// Why it keeps its server between transactions.
    pub bound: Bound,
    /// The number of the server where it has used a sequence last, or has forgotten all of them: what others remember of
    /// its own is out of date. It stands here because an idle session is to be small.
    pub sequences_on: AtomicU64,
    late: AtomicBool,
    order: AtomicU8,
    standing: AtomicU8,
    running: Mutex<Option<Arc<ServerAbout>>>,
    identity: Mutex<Option<Arc<Identity>>>,
    farewell: Mutex<Option<Box<ErrorReport>>>,
    killer: Killer,
    /// Wakes the session while it is idle: the token would cost it an entry in a list each time.
    idler: AtomicWaker,
    /// The client has called off what the session waits with for a server.
    called_off: AtomicBool,
}

/// Who a session is, once it is known.
#[derive(Debug, Default)]
pub struct Identity {
    /// The user that logged in.
    pub user: String,
    /// The database that was asked for.
    pub database: String,
    /// Our address at which it came; `None` for a unix socket.
    pub local: Option<SocketAddr>,
    /// The client's address.
    pub peer: String,
    /// Port of the client, 0 on unix sockets.
    pub port: u16,
    /// TLS version and cipher, empty when plain.
    pub tls: String,
    /// The application's name at login.
    pub application: String,
}

impl Control {
    /// A session that serves.
    pub fn new(id: i32, killer: Killer) -> Self {
        Self {
            id,
            key: OnceLock::new(),
            token: CancellationToken::new(),
            since: SystemTime::now(),
            born: clock::now(),
            asked: AtomicU64::new(0),
            waits: AtomicU64::new(0),
            prepared: AtomicUsize::new(0),
            bound: Bound::default(),
            sequences_on: AtomicU64::new(0),
            late: AtomicBool::new(false),
            order: AtomicU8::new(Order::Serve as u8),
            standing: AtomicU8::new(Standing::Login as u8),
            running: Mutex::new(None),
            identity: Mutex::new(None),
            farewell: Mutex::new(None),
            killer,
            idler: AtomicWaker::new(),
            called_off: AtomicBool::new(false),
        }
    }

    /// Tells the session to go; `why` is what the client hears. Orders only grow stricter. One that is given again is
    /// carried out again, and the first reason stays.
    pub fn order(&self, order: Order, why: ErrorReport) {
        // Whoever sees the order finds the reason as well: it waits for it here.
        let mut farewell = self.farewell.lock();
        // The session says first that it is on a server and looks for an order then; here it is the other way round, and
        // one order for all of it has one of the two see the other.
        let before = self.order.fetch_max(order as u8, Ordering::SeqCst);
        if before > order as u8 {
            return;
        }
        if before < order as u8 {
            *farewell = Some(Box::new(why));
        }
        drop(farewell);
        self.token.cancel();
        self.idler.wake();
        if order == Order::Terminate && self.standing() == Standing::Active {
            end(self.killer.clone());
        }
    }

    /// The strictest order given.
    pub fn ordered(&self) -> Order {
        match self.order.load(Ordering::SeqCst) {
            0 => Order::Serve,
            1 => Order::Drain,
            _ => Order::Terminate,
        }
    }

    /// It has come while the proxy ends: it is let in no further than it takes to be told so, or to cancel something.
    pub fn come_late(&self) {
        self.late.store(true, Ordering::Relaxed);
    }

    /// Whether it has come while the proxy ends, which therefore does not wait for it.
    pub fn is_late(&self) -> bool {
        self.late.load(Ordering::Relaxed)
    }

    /// Ready once the session is ordered to go. Only one task may wait with it at a time.
    pub fn poll_ordered(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.idler.register(cx.waker());
        // Looked at behind the registration, so that an order in between is not missed.
        match self.ordered() {
            Order::Serve => Poll::Pending,
            Order::Drain | Order::Terminate => Poll::Ready(()),
        }
    }

    /// Ready once the session is ordered to go at once. It waits as [`Control::poll_ordered`] does.
    pub fn poll_terminated(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self.poll_ordered(cx) {
            Poll::Ready(()) if self.ordered() == Order::Terminate => Poll::Ready(()),
            _ => Poll::Pending,
        }
    }

    /// The session begins to wait for a server: what the client has called off before was something else.
    pub fn begin_waiting(&self) {
        self.called_off.store(false, Ordering::Relaxed);
    }

    /// Whether the client has called off what the session waits with. Asked behind [`Control::poll_ordered`], by which
    /// the session is woken for this as well.
    pub fn is_called_off(&self) -> bool {
        self.called_off.load(Ordering::Acquire)
    }

    /// What the client is to be told when it is sent away.
    pub fn farewell(&self) -> Option<Box<ErrorReport>> {
        self.farewell.lock().take()
    }

    /// Where the session stands.
    pub fn standing(&self) -> Standing {
        match self.standing.load(Ordering::SeqCst) {
            0 => Standing::Login,
            1 => Standing::Idle,
            2 => Standing::Waiting,
            _ => Standing::Active,
        }
    }

    /// Says where the session stands.
    pub fn stand(&self, standing: Standing) {
        self.standing.store(standing as u8, Ordering::Relaxed);
    }

    /// Says that the session waits since then for a server, or for what else it needs; of several steps of one wait the first
    /// counts.
    pub fn wait(&self, since: Instant) {
        let before = self.waits.load(Ordering::Relaxed);
        let goes_on = self.standing() == Standing::Waiting
            // What it waited with before may have been refused, and another request has followed at once.
            && before >= self.asked.load(Ordering::Relaxed);
        if !goes_on {
            self.waits.store(self.age_at(since), Ordering::Relaxed);
        }
        self.stand(Standing::Waiting);
    }

    /// For how long the session has waited that waits now.
    pub fn waited(&self, now: Instant) -> Option<Duration> {
        let since = Duration::from_nanos(self.waits.load(Ordering::Relaxed));
        let waits = self.standing() == Standing::Waiting;
        let age = now.saturating_duration_since(self.born);
        waits.then(|| age.saturating_sub(since))
    }

    /// Says that the client has asked for something then, with which a transaction begins. What it has called off before was
    /// something else.
    #[inline]
    pub fn asks(&self, at: Instant) {
        self.called_off.store(false, Ordering::Relaxed);
        self.asked.store(self.age_at(at), Ordering::Relaxed);
    }

    /// When the client has asked for something last; as long as it has not, when it connected.
    pub fn asked(&self) -> SystemTime {
        self.since + Duration::from_nanos(self.asked.load(Ordering::Relaxed))
    }

    /// Says how many named statements the client has.
    #[inline]
    pub fn has_prepared(&self, count: usize) {
        self.prepared.store(count, Ordering::Relaxed);
    }

    /// How many named statements the client had when it was idle last.
    pub fn prepared(&self) -> usize {
        self.prepared.load(Ordering::Relaxed)
    }

    /// How old the session was at that moment, in nanoseconds.
    fn age_at(&self, at: Instant) -> u64 {
        let age = at.saturating_duration_since(self.born);
        age.as_secs() * 1_000_000_000 + u64::from(age.subsec_nanos())
    }

    /// Says that the session is on a server from now on, where an order to go at once reaches it by the end of its
    /// connection alone. False if that order was given before, when nobody ended the connection for it.
    #[must_use]
    pub fn engage(&self) -> bool {
        self.standing
            .store(Standing::Active as u8, Ordering::SeqCst);
        self.ordered() != Order::Terminate
    }

    /// Says who the session is.
    pub fn identify(&self, identity: Arc<Identity>) {
        *self.identity.lock() = Some(identity);
    }

    /// Who the session is.
    pub fn identity(&self) -> Option<Arc<Identity>> {
        self.identity.lock().clone()
    }

    /// The server connection that the session holds.
    pub fn running(&self) -> Option<Arc<ServerAbout>> {
        self.running.lock().clone()
    }

    /// Names the server connection whose query a cancel would hit.
    pub fn runs_on(&self, about: &Arc<ServerAbout>) {
        *self.running.lock() = Some(Arc::clone(about));
    }

    /// The session lets its server go; true when no cancel request is on its way there.
    ///
    /// From here on no cancel of this client finds the server, so an answer of true is final.
    pub fn runs_nowhere(&self) -> bool {
        let about = self.running.lock().take();
        about.is_none_or(|about| about.cancels.quiet())
    }

    /// Begins to cancel what the session runs. A request that still waits for a server is called
    /// off; it has reached none.
    pub fn cancel(&self) -> Option<CancelGuard> {
        let running = self.running.lock();
        if running.is_none() {
            self.called_off.store(true, Ordering::Release);
            self.idler.wake();
        }
        running.as_ref().map(Cancels::begin)
    }
}

/// All sessions of the process, by number.
#[derive(Debug, Default)]
pub struct Sessions {
    by_id: Mutex<HashMap<i32, Arc<Control>>>,
    next: AtomicI32,
    /// Those of them that have not proved yet who they are.
    pub logins: Arc<Logins>,
    clients: AtomicUsize,
    /// Told when a client has left: to one who waits for its seat.
    left: Notify,
    consoles: AtomicUsize,
}

/// Adds one to what is below a limit.
pub(crate) fn rise(count: &AtomicUsize, max: usize) -> bool {
    let more = |count| (count < max).then_some(count + 1);
    count
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
        .is_ok()
}

impl Sessions {
    /// A number that no living session has.
    pub fn number(&self) -> i32 {
        loop {
            let id = self.next.fetch_add(1, Ordering::Relaxed).wrapping_add(1) & NUMBER_MAX;
            if id != 0 && !self.by_id.lock().contains_key(&id) {
                return id;
            }
        }
    }

    /// Lists a session until the entry is dropped.
    pub fn enter(self: &Arc<Self>, control: &Arc<Control>) -> Entry {
        self.by_id.lock().insert(control.id, Arc::clone(control));
        Entry {
            sessions: Arc::clone(self),
            id: control.id,
            counts: Counts::Nowhere,
        }
    }

    /// The session that a cancel key names; the key is compared in constant time.
    pub fn by_key(&self, key: &CancelKey) -> Option<Arc<Control>> {
        let control = self.by_id.lock().get(&key.pid).cloned()?;
        (control.key.get() == Some(key)).then_some(control)
    }

    /// The session with this number.
    pub fn get(&self, id: i32) -> Option<Arc<Control>> {
        self.by_id.lock().get(&id).cloned()
    }

    /// All sessions at this moment.
    pub fn all(&self) -> Vec<Arc<Control>> {
        self.by_id.lock().values().cloned().collect()
    }

    /// How many sessions there are.
    pub fn count(&self) -> usize {
        self.by_id.lock().len()
    }

    /// How many there are for which the end of the proxy waits.
    pub fn awaited(&self) -> usize {
        let by_id = self.by_id.lock();
        by_id.values().filter(|control| !control.is_late()).count()
    }
}

/// A session's place in the list.
#[derive(Debug)]
pub struct Entry {
    sessions: Arc<Sessions>,
    id: i32,
    counts: Counts,
}

/// Towards which limit a session counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counts {
    /// None: it only says what it wants, and is turned away.
    Nowhere,
    /// That on clients.
    Client,
    /// That on those who look after a proxy that is full.
    Console,
}

impl Entry {
    /// Counts the session among the clients, if there is room for one more.
    pub fn count_client(&mut self, max: usize) -> bool {
        let counts = self.counts == Counts::Nowhere && rise(&self.sessions.clients, max);
        if counts {
            self.counts = Counts::Client;
        }
        counts
    }

    /// As [`Self::count_client`], once one of those who are there has left.
    pub async fn succeed_client(&mut self, max: usize) {
        let sessions = Arc::clone(&self.sessions);
        loop {
            let mut left = std::pin::pin!(sessions.left.notified());
            // Registered before looking, so that one who leaves in between is not missed.
            left.as_mut().enable();
            if self.count_client(max) {
                return;
            }
            left.await;
        }
    }

    /// Counts the session, which has no room among the clients, among the consoles beyond them.
    pub fn count_console(&mut self, max: usize) -> bool {
        let counts = self.counts == Counts::Nowhere && rise(&self.sessions.consoles, max);
        if counts {
            self.counts = Counts::Console;
        }
        counts
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        match self.counts {
            Counts::Nowhere => {}
            Counts::Client => {
                self.sessions.clients.fetch_sub(1, Ordering::Relaxed);
                self.sessions.left.notify_one();
            }
            Counts::Console => {
                self.sessions.consoles.fetch_sub(1, Ordering::Relaxed);
            }
        }
        let mut by_id = self.sessions.by_id.lock();
        by_id.remove(&self.id);
        // A table that has outlived a crowd gives its memory back.
        if by_id.capacity() > 1024 && by_id.len() < by_id.capacity() / 4 {
            by_id.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pgherd_net::Killer;
    use pgherd_wire::error::ErrorReport;
    use pgherd_wire::sqlstate;

    use super::{Control, Order};

    #[test]
    fn a_wait_of_several_steps_is_one() {
        let control = Control::new(1, Killer::default());
        let (began, second) = (control.born, Duration::from_secs(1));
        assert_eq!(control.asked(), control.since);
        assert_eq!(control.waited(began + second), None);
        control.asks(began + second);
        assert_eq!(control.asked(), control.since + second);
        control.wait(began + second);
        control.wait(began + 2 * second);
        assert_eq!(control.waited(began + 4 * second), Some(3 * second));
        assert!(control.engage());
        assert_eq!(control.waited(began + 4 * second), None);
        control.wait(began + 5 * second);
        assert_eq!(control.waited(began + 6 * second), Some(second));
        // Refused, it has asked for the next.
        control.asks(began + 7 * second);
        control.wait(began + 7 * second);
        assert_eq!(control.waited(began + 9 * second), Some(2 * second));
    }

    #[test]
    fn who_is_to_go_at_once_begins_nothing_on_a_server() {
        let why = |text: &str| ErrorReport::fatal(sqlstate::ADMIN_SHUTDOWN, text);
        let control = Control::new(1, Killer::default());
        assert!(control.engage());
        control.order(Order::Drain, why("drained"));
        assert!(control.engage(), "its transaction may end");
        control.order(Order::Terminate, why("killed"));
        control.order(Order::Terminate, why("killed again"));
        control.order(Order::Drain, why("drained again"));
        assert!(!control.engage());
        assert_eq!(
            control.farewell().map(|it| it.message).as_deref(),
            Some("killed")
        );
    }
}
