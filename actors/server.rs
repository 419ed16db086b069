//! A connection to a server: a value that is moved, never shared.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Waker};
use std::time::Instant;

use pgherd_cluster::outcome::Origin;
use pgherd_net::{Killer, Stream};
use pgherd_session::{Exchange, Flow, Parameters, Role, Sequences, ServerStatements};
use pgherd_sql::{PinSet, Runs};
use pgherd_wire::cancel::CancelKey;

use crate::hidden::{Alteration, Sways};
use crate::judgement::Judgement;
use crate::pool::ServerLease;
use crate::upstream::Upstream;

/// A logged-in connection to a server, with everything that is known about its state.
pub struct ServerConn {
    /// The socket.
    pub stream: Stream,
    /// The thread whose runtime the socket is registered with; each runtime has one thread.
    pub home: std::thread::ThreadId,
    /// Bytes from the server to the client that leases it.
    pub flow: Flow,
    /// What the server owes.
    pub exchange: Exchange<Judgement>,
    /// The parameters that the server is set to.
    pub applied: Arc<Parameters>,
    /// Of the users' own settings that it is believed to have had, those of which that is not certain.
    pub doubted: Doubted,
    /// Plans of functions may be there that were made under other settings than those of now, of what changes the
    /// meaning of constants.
    pub misread: bool,
    /// What it last said of its part in the cluster.
    pub role: Role,
    /// The shared prepared statements that it has.
    pub statements: ServerStatements,
    /// State was changed that only a reset takes back.
    pub touched: bool,
    /// Code that may have run here unseen since the session was last known to be its client's own.
    pub ran: Runs,
    /// Why its client was bound to it and is perhaps not any more, by what has run here in the turn under way.
    pub frees: PinSet,
    /// Whose use of sequences the server remembers.
    pub sequences: Sequences,
    /// The transaction under way has used a sequence, or may have.
    pub used_sequence: bool,
    /// Its client has left it in the middle of something that may have been committed.
    pub commits: bool,
    /// The transaction under way changes what the database consists of.
    pub alters: Option<Alteration>,
    /// It has made something temporary, or may have.
    pub temporary: bool,
    /// What code that has run in it may have done to how later texts of it are read.
    pub sways: Sways,
    /// Who makes the marks of transactions here; `None` if none are wanted, or none can be made.
    pub marks: Option<Origin>,
    /// When it was last known to answer.
    pub heard: Instant,
    /// What the console shows of it and a cancel needs.
    pub about: Arc<ServerAbout>,
    /// Ends the connection's actor when the connection ends.
    pub life: Life,
}

/// No more settings are looked for at once.
const DOUBTED_MAX: usize = 128;

/// Settings that a server has perhaps had: up to the next look at its session they count as had.
#[derive(Debug, Default)]
pub struct Doubted {
    /// Their names.
    pub names: Vec<Box<str>>,
    /// There were too many of them, or some without a known name, so that nobody else may have the server.
    pub crowded: bool,
}

impl Doubted {
    /// Whether there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && !self.crowded
    }
}

impl ServerConn {
    /// It is set to these. What it has ever had of the users' own settings stays known, since it does not forget them.
    pub fn is_set_to(&mut self, parameters: &Arc<Parameters>) {
        self.misread = self.misread || !self.applied.plans_as(parameters);
        self.applied = if self.applied.is_strange_to(parameters) {
            let mut all = (**parameters).clone();
            all.meet_all(&self.applied);
            Arc::new(all)
        } else {
            Arc::clone(parameters)
        };
    }

    /// It may have had these of the users' own settings, or not.
    pub fn doubt(&mut self, names: impl IntoIterator<Item = Box<str>>) {
        for name in names {
            if !name.contains('.') || self.applied.has_met(&name) {
                continue;
            }
            if self.doubted.names.len() >= DOUBTED_MAX {
                self.doubted.crowded = true;
                return;
            }
            Arc::make_mut(&mut self.applied).meet(&name);
            self.doubted.names.push(name);
        }
    }

    /// It may have had one of them whose name is not known.
    pub fn doubt_unnamed(&mut self) {
        self.doubted.crowded = true;
    }

    /// What is doubted counts as had from now on.
    pub fn believe(&mut self) {
        self.doubted.names.clear();
    }

    /// What it is set to, and of the users' own settings only those that it has had for certain.
    pub fn certain(&self) -> Arc<Parameters> {
        if self.doubted.names.is_empty() {
            return Arc::clone(&self.applied);
        }
        let mut certain = (*self.applied).clone();
        self.doubted
            .names
            .iter()
            .for_each(|name| certain.never_met(name));
        Arc::new(certain)
    }

    /// Nothing of what a transaction has made of how texts are read is left.
    #[inline]
    pub fn reads_as_usual(&mut self) {
        (self.temporary, self.sways) = (false, Sways::Nothing);
    }

    /// All is as at its start, but for what it does not forget.
    pub fn is_reset(&mut self) {
        let forgotten = Arc::new(self.applied.forgotten());
        self.is_set_to(&forgotten);
    }

    /// Whether functions may go by plans there in which constants mean something else than they do now, as far as the
    /// catalogue knows of functions that keep plans.
    #[inline]
    pub fn is_misread(&self) -> bool {
        self.misread && self.keeps_plans()
    }

    /// The same once it is set to these.
    pub fn would_misread(&self, wanted: &Parameters) -> bool {
        (self.misread || !self.applied.plans_as(wanted)) && self.keeps_plans()
    }

    fn keeps_plans(&self) -> bool {
        self.about.upstream.hidden.0.keeps_plans()
    }

    /// It has discarded its plans, or will have done so before anything else runs there.
    pub fn discards_plans(&mut self) {
        self.misread = false;
        self.statements.forget_plans();
    }
}

impl std::fmt::Debug for ServerConn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerConn")
            .field("about", &self.about)
            .finish_non_exhaustive()
    }
}

impl Drop for ServerConn {
    /// Says goodbye if the server can hear it at once; a server that is left silently is no worse.
    fn drop(&mut self) {
        if self.exchange.is_over() && self.flow.backlog() == 0 {
            let mut cx = Context::from_waker(Waker::noop());
            let mut goodbye = &pgherd_wire::frontend::TERMINATE[..];
            let _ = pgherd_net::poll_write_from(&mut self.stream, &mut cx, &mut goodbye);
        }
    }
}

/// What others may know of a server connection while a session holds it.
#[derive(Debug)]
pub struct ServerAbout {
    /// Grows with each connection; never used twice by a process.
    pub id: u64,
    /// Where it leads.
    pub upstream: Arc<Upstream>,
    /// The key that cancels its query.
    pub key: Option<CancelKey>,
    /// The server's process.
    pub backend: i32,
    /// TLS version and cipher, empty when plain.
    pub tls: String,
    /// Its own end, as `address:port`.
    pub local: String,
    /// The other end, where its cancels go: the name of its host may lead elsewhere by then. `None` for a unix socket.
    pub peer: Option<SocketAddr>,
    /// When it was connected.
    pub since: std::time::SystemTime,
    /// Cancel requests under way, and the session that it serves.
    pub cancels: Cancels,
    /// Ends it while a session holds it.
    pub killer: KillSwitch,
    /// What is heard of it.
    pub voice: Voice,
    /// Its server was not to be seen for a while: whether the connection outlived that is asked before it is used again.
    pub doubted: AtomicBool,
}

/// Counts what is read from a server that is only read from: while that goes on it is not silent, whatever becomes of its
/// monitor's questions.
#[derive(Debug, Default)]
pub struct Voice(AtomicU32);

impl Voice {
    /// Something was read. Only the session that has the server tells, so that this need not be one operation.
    #[inline]
    pub fn heard(&self) {
        let count = self.0.load(Ordering::Relaxed);
        self.0.store(count.wrapping_add(1), Ordering::Relaxed);
    }

    /// How often; it begins anew after a while.
    pub fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Ends a connection from without, also after it has moved to another thread.
#[derive(Debug)]
pub struct KillSwitch(parking_lot::Mutex<Switch>);

#[derive(Debug)]
struct Switch {
    killer: Killer,
    killed: bool,
}

impl KillSwitch {
    /// One for a socket.
    pub fn new(stream: &Stream) -> Self {
        Self(parking_lot::Mutex::new(Switch {
            killer: stream.killer(),
            killed: false,
        }))
    }

    /// Takes the socket as it is registered now; false if the connection was to end meanwhile.
    fn renew(&self, stream: &Stream) -> bool {
        let mut switch = self.0.lock();
        switch.killer = stream.killer();
        !switch.killed
    }

    /// Ends the connection: whoever waits for an answer on it hears that it is gone. False if that was to be already.
    pub fn kill(&self) -> bool {
        let mut switch = self.0.lock();
        let before = std::mem::replace(&mut switch.killed, true);
        switch.killer.kill();
        !before
    }
}

/// Keeps a server connection from being handed on while a cancel request may still hit it.
#[derive(Debug, Default)]
pub struct Cancels {
    under_way: AtomicU32,
    doubtful: AtomicBool,
    landed: tokio::sync::Notify,
}

impl Cancels {
    /// Announces a cancel request; it is over when the guard is dropped.
    pub fn begin(about: &Arc<ServerAbout>) -> CancelGuard {
        about.cancels.under_way.fetch_add(1, Ordering::AcqRel);
        CancelGuard {
            about: Arc::clone(about),
            landed: false,
        }
    }

    /// Whether no cancel request is under way and none has got lost.
    pub fn quiet(&self) -> bool {
        // In this order: a request that gets lost raises the doubt before it is no longer under way.
        self.under_way.load(Ordering::Acquire) == 0 && !self.doubtful.load(Ordering::Acquire)
    }

    /// Waits until no cancel request is under way; false when one got lost, so that it may still
    /// arrive at any time.
    pub async fn settled(&self) -> bool {
        loop {
            let landed = self.landed.notified();
            if self.under_way.load(Ordering::Acquire) == 0 {
                return !self.doubtful.load(Ordering::Acquire);
            }
            landed.await;
        }
    }
}

/// One cancel request on its way to a server.
#[derive(Debug)]
pub struct CancelGuard {
    about: Arc<ServerAbout>,
    landed: bool,
}

impl CancelGuard {
    /// The server has closed the request's connection, hence has signalled its process.
    ///
    /// A backend that is idle drops the signal before it reads its next message, so from here on
    /// the request cannot hit a later query.
    pub fn landed(mut self) {
        self.landed = true;
    }

    /// The connection whose query is to be cancelled.
    pub fn about(&self) -> &ServerAbout {
        &self.about
    }
}

impl Drop for CancelGuard {
    fn drop(&mut self) {
        let cancels = &self.about.cancels;
        if !self.landed {
            cancels.doubtful.store(true, Ordering::Release);
        }
        cancels.under_way.fetch_sub(1, Ordering::AcqRel);
        cancels.landed.notify_waiters();
    }
}

/// Tells the connection's actor that the connection is gone, when it is dropped.
#[derive(Debug)]
pub struct Life(tokio_util::sync::CancellationToken);

impl Life {
    /// A life and the token that is cancelled at its end.
    pub fn new() -> (Self, tokio_util::sync::CancellationToken) {
        let token = tokio_util::sync::CancellationToken::new();
        (Self(token.clone()), token)
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Looks at a connection that has lain idle: one on which anything was said, or that was closed,
/// is let go. It costs no system call while nothing has happened. A connection that was last used
/// on another thread joins this one's runtime.
pub fn vet(mut lease: ServerLease) -> Option<ServerLease> {
    let here = std::thread::current().id();
    // A runtime knows nothing yet of a stream that has just joined it, so the system is asked.
    let moved = lease.home != here;
    if moved {
        lease.stream.move_here().ok()?;
        lease.home = here;
        let (about, stream) = (Arc::clone(&lease.about), &lease.stream);
        if !about.killer.renew(stream) {
            return None;
        }
    }
    if moved || !lease.stream.is_quiet() {
        let mut byte = [0];
        match lease.stream.try_read(&mut byte) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            _ => return None,
        }
    }
    Some(lease)
}
