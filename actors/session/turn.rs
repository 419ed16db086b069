//! One turn of a client on a server: from the first message of a transaction to its end.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use pgherd_net::{poll_read_into, poll_write_from};
use pgherd_session::{Again, CopyFlow, Described, Placed, Role};
use pgherd_sql::PinSet;
use pgherd_wire::backend::TransactionStatus;
use pgherd_wire::error::ErrorReport;
use pgherd_wire::sqlstate;

use crate::clock;
use crate::control::Order;
use crate::judgement::Judgement;
use crate::pool::ServerLease;
use crate::session::attempt::{self, Attempt, Left, Tries};
use crate::session::by_sql::Names;
use crate::session::follow::{Overlaid, Portals};
use crate::session::limit::{Awaited, Commit, Limits};
use crate::session::listen::{self, Progress};
use crate::session::mark::{self, Vow};
use crate::session::meaning::{self, Passing};
use crate::session::reasons::Undone;
use crate::session::relay::{Relay, wanted};
use crate::session::resolve::Unresolved;
use crate::session::thinking::Thinking;
use crate::session::unreplicated::Unreplicated;
use crate::session::watch::{Does, Watch};
use crate::session::{by_sql, opened, replies, requests};

/// The most that is read at once, and the size to which a busy flow's buffer grows.
pub(super) const READ_MAX: usize = 64 * 1024;
/// A first read gets this much room.
const READ_MIN: usize = 8 * 1024;
/// How often a turn reads before it lets others run.
const ROUNDS_MAX: u32 = 64;
/// A flow with more than this waiting to be written is not read into.
const BACKLOG_MAX: usize = 64 * 1024;
/// The same where the sink has just taken no more: what is read then moves about in memory before
/// it can go on.
const BACKLOG_HELD: usize = READ_MIN;
/// While more than this waits for a server, what the client has sent already waits, too.
const MADE_MAX: usize = 4 * BACKLOG_MAX;

/// How a turn fails.
#[derive(Debug)]
pub(super) enum Loss {
    /// The client said goodbye in the middle.
    Left,
    /// The client's connection broke.
    Client,
    /// The session cannot go on.
    Fatal(Box<ErrorReport>),
    /// The server refuses the client's settings, so that nothing of what was sent has run.
    Refused(Box<ErrorReport>),
    /// The server's connection broke, or the server broke the protocol.
    Server(Box<ErrorReport>),
    /// The server's connection broke while all that was asked for was a ROLLBACK, which is done by that.
    RolledBack(Box<ErrorReport>, Rollback),
    /// The server's connection broke, and what became of a transaction that was to be committed can be found out.
    Unresolved(Box<Unresolved>),
    /// Nothing has come of what was sent, and the client knows of nothing: it is to be sent again.
    Again(Again),
    /// The block in which nothing is under way goes on over several shards, with the message in front.
    Spreads,
}

/// How far a ROLLBACK is that the client waits for, and for nothing else.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rollback {
    /// There is none.
    #[default]
    None,
    /// It was asked for.
    Asked,
    /// The server has said that it is done.
    Told,
}

/// Whether the client's messages wait for something that the server is to say.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    /// They do not.
    #[default]
    None,
    /// The server was asked what a statement gives that it has got.
    UnderWay,
    /// It has just answered about this one.
    Done(Placed),
    /// What of ours goes ahead must be answered first.
    Ahead,
    /// All that is owed must come first.
    Quiet,
    /// The client has said goodbye, behind which it says nothing: it gets what it is owed, and goes.
    Goodbye,
}

/// In which of the requests under way a transaction may end.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Ends {
    /// A bit for each, the lowest for the one that is answered next. The highest stands for all that come later, too.
    requests: u64,
    /// How many come before the last of them.
    last: u64,
    /// No BEGIN was sent behind the last of them.
    is_last: bool,
}

impl Ends {
    /// The bit of what comes later than that.
    const FAR: u64 = 63;

    /// One is sent behind so many requests that are not answered; nobody knows how many if that is the most.
    fn sent(&mut self, before: u64) {
        self.requests |= match before {
            u64::MAX => u64::MAX,
            before => 1 << before.min(Self::FAR),
        };
        self.last = self.last.max(before);
        self.is_last = true;
    }

    /// A request was answered.
    #[inline]
    fn answered(&mut self) {
        if self.requests != 0 {
            self.requests >>= 1;
            self.last = self.last.saturating_sub(1);
            if self.last >= Self::FAR {
                self.requests |= 1 << Self::FAR;
            }
        }
    }

    /// Whether there is one.
    #[inline]
    fn any(&self) -> bool {
        self.requests != 0
    }

    /// Whether there is one in what is answered next.
    #[inline]
    fn is_next(&self) -> bool {
        self.requests & 1 != 0
    }
}

/// Where among the requests of a turn a COMMIT stands that is under way.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Spot {
    /// There is none, or nobody knows where.
    #[default]
    Nowhere,
    /// Behind so many statements of this request.
    Behind {
        /// How many requests of the turn come before that.
        request: u64,
        /// The statements in front of it.
        statements: u32,
    },
}

impl Spot {
    /// One is sent in this request behind so many statements; `answered` requests are.
    fn sent(self, request: u64, statements: u32, answered: u64) -> Self {
        match self {
            Self::Behind {
                request: other,
                statements: before,
            } if other == request => Self::Behind {
                request,
                statements: before.min(statements),
            },
            // Of several, the first is known.
            Self::Behind { request: other, .. } if other >= answered => self,
            Self::Nowhere | Self::Behind { .. } => Self::Behind {
                request,
                statements,
            },
        }
    }

    /// What is known of it once something runs in this request behind so many statements.
    fn followed(self, request: u64, before: u32) -> Self {
        match self {
            Self::Behind {
                request: its,
                statements,
            } if its == request && statements < before => Self::Nowhere,
            spot => spot,
        }
    }

    /// Whether it is what runs now, where so many requests of the turn are answered, and so many statements of the
    /// next.
    fn is_next(self, answered: u64, statements: u32) -> bool {
        match self {
            Self::Nowhere => false,
            Self::Behind {
                request,
                statements: before,
            } => request == answered && statements >= before,
        }
    }
}

/// A client and the server it holds.
pub(super) struct Turn<'a> {
    pub(super) relay: &'a mut Relay,
    pub(super) server: &'a mut ServerLease,
    /// The server has the client's unnamed statement.
    pub(super) unnamed_here: bool,
    /// How a statement's shape is being checked.
    pub(super) check: Check,
    /// The portal that was bound last and its statement, if it is not known yet what that gives.
    pub(super) bound: Option<(Box<[u8]>, Described)>,
    /// The parameters of the statement that is being described.
    pub(super) parameters_shape: u64,
    /// A COMMIT is under way.
    pub(super) committing: bool,
    /// A BEGIN is under way.
    pub(super) beginning: bool,
    /// How many requests of the turn come before the first BEGIN that is under way behind the last end, and before the
    /// last BEGIN.
    begins: (u64, u64),
    /// In which of the requests under way transactions end.
    ends: Ends,
    /// Where in them the COMMIT stands.
    spot: Spot,
    /// Statements of the client's that were answered of the request that is answered now.
    pub(super) statements: u32,
    /// What was noted last does to the transaction.
    pub(super) does: Does,
    /// Which portals open or end a transaction.
    pub(super) watch: Watch,
    /// A ROLLBACK is under way.
    pub(super) rollback: Rollback,
    /// What the client's portals will do to its settings.
    pub(super) portals: Portals,
    /// What the transaction under way has set of what the server reports.
    pub(super) overlaid: Overlaid,
    /// What it has made of how texts are read.
    pub(super) passing: Passing,
    /// A simple query that nothing else is under way with: what it ends is over if it succeeds.
    pub(super) alone: Option<Judgement>,
    /// What was noted last does something to settings or savepoints.
    pub(super) follows: bool,
    /// Why the session was pinned before the turn.
    pub(super) before: PinSet,
    /// What the failure of that query takes back of why it is pinned now.
    pub(super) undone: Undone,
    /// A DISCARD ALL has been answered.
    pub(super) discarded: bool,
    /// What was sent may change how later texts are to be read.
    pub(super) relexes: bool,
    /// What was bound in front of the next Execute ends all prepared statements.
    pub(super) clears: bool,
    /// What is under way of its PREPARE and DEALLOCATE.
    pub(super) names: Names,
    /// What is under way of its LISTEN and UNLISTEN.
    pub(super) listen: Progress,
    /// Which transaction is under way, should it be committed without our hearing of it.
    pub(super) vow: Vow,
    /// What it takes to begin anew.
    pub(super) attempt: Attempt,
    /// The turn begins anew once the server has answered all that it was sent.
    pub(super) again: Option<Again>,
    /// Statements answered so far.
    pub(super) queries: u64,
    /// How much is read at once from the server.
    server_room: usize,
    /// How much is read at once from the client.
    client_room: usize,
    /// How long it may take.
    pub(super) limits: Limits,
    /// How long its client took to go on with it.
    pub(super) thinking: Thinking,
    /// What the client is told of a commit whose wait for a standby we have ended.
    pub(super) unreplicated: Unreplicated,
    /// The server's socket has not taken all that TLS or we hold for it.
    held: bool,
    /// What the client has sent waits until the server has taken what waits for it.
    pub(super) crammed: bool,
}

impl<'a> Turn<'a> {
    /// A turn of `relay` on `server`, which has been brought to the client's parameters.
    pub(super) fn new(
        relay: &'a mut Relay,
        server: &'a mut ServerLease,
        limits: Limits,
        tries: Tries,
    ) -> Self {
        relay.settled = Arc::clone(&relay.parameters);
        let before = relay.pins;
        let is_apart = !before.both(meaning::APART).is_empty();
        server.statements.begin(is_apart);
        server.reads_as_usual();
        Self {
            relay,
            server,
            unnamed_here: false,
            check: Check::None,
            bound: None,
            parameters_shape: 0,
            committing: false,
            beginning: false,
            begins: (0, 0),
            ends: Ends::default(),
            spot: Spot::default(),
            statements: 0,
            does: Does::Nothing,
            watch: Watch::default(),
            rollback: Rollback::None,
            portals: Portals::new(),
            overlaid: Overlaid::new(),
            passing: Passing::default(),
            alone: None,
            follows: false,
            before,
            undone: Undone::default(),
            discarded: false,
            relexes: false,
            clears: false,
            names: Names::default(),
            listen: Progress::default(),
            vow: Vow::default(),
            attempt: Attempt::new(tries),
            again: None,
            queries: 0,
            server_room: READ_MIN,
            client_room: READ_MIN,
            limits,
            thinking: Thinking::default(),
            unreplicated: Unreplicated::default(),
            held: false,
            crammed: false,
        }
    }

    /// Relays until nothing is owed and no transaction is open.
    pub(super) async fn run(&mut self) -> Result<(), Loss> {
        let mut outcome = self.relay_all().await;
        match outcome {
            // What is left on that server goes with it.
            Err(Loss::Server(_) | Loss::Unresolved(_) | Loss::Refused(_) | Loss::Again(_)) => {
                by_sql::settle(self)
            }
            _ => by_sql::end(self),
        }
        if matches!(outcome, Err(Loss::Client)) && self.relay.control.ordered() != Order::Serve {
            outcome = Err(replies::sent_away(self));
        }
        if let Err(Loss::Fatal(report)) = &mut outcome
            && report.hint.is_none()
        {
            replies::hint(self, report);
        }
        if let Err(Loss::Server(report)) = &mut outcome
            && self.rollback != Rollback::None
            && self.server.exchange.replies_owed() == 1
            && !self.server.exchange.unsynced()
        {
            let report = std::mem::replace(report, Box::new(ErrorReport::notice("")));
            outcome = Err(Loss::RolledBack(report, self.rollback));
        }
        if let Err(Loss::Server(report)) = &outcome
            && report.code == sqlstate::TRANSACTION_RESOLUTION_UNKNOWN
        {
            mark::unresolvable(self);
        }
        if matches!(outcome, Err(Loss::Server(_) | Loss::Refused(_))) {
            self.lose_block();
        }
        match outcome {
            Err(Loss::Again(_)) => attempt::rewind(self),
            _ => {
                if matches!(outcome, Err(Loss::Left | Loss::Client | Loss::Fatal(_))) {
                    self.server.commits = replies::may_have_committed(self);
                    mark::give_up(self);
                }
                attempt::end(self);
                if !attempt::is_steady(self) && !self.has_only_read(outcome.is_ok()) {
                    self.relay.wrote = self.relay.pool.age(clock::now());
                }
            }
        }
        self.relay.pool.stats.queries(self.queries);
        outcome
    }

    /// Whether its server cannot have written: it still is in recovery, as it says in front of the last answer. One that was
    /// read from may have been promoted under the client's hands.
    fn has_only_read(&self, is_answered: bool) -> bool {
        self.relay.reading && is_answered && self.server.role == Role::Recovering
    }

    /// A statement is sent that may begin a block or end one.
    pub(super) fn transacts(&mut self, judgement: &Judgement) {
        if judgement.plain {
            return;
        }
        // What begins and ends is a chain, or a text that ends what it has begun.
        let chains = judgement.begins && judgement.single;
        if judgement.leaves && chains {
            self.leaves();
        }
        if judgement.begins {
            self.begins();
        }
        if judgement.leaves && !chains {
            self.leaves();
        }
    }

    /// A BEGIN is sent.
    pub(super) fn begins(&mut self) {
        let before = self.queries + self.server.exchange.replies_owed() as u64;
        if !self.beginning || self.ends.is_last {
            self.begins.0 = before;
        }
        self.begins.1 = before;
        self.beginning = true;
        self.ends.is_last = false;
    }

    /// What may end a transaction is sent.
    pub(super) fn leaves(&mut self) {
        let exchange = &self.server.exchange;
        // Where it is not known how many are owed, it counts until nothing is.
        let before = (!exchange.doubtful()).then(|| exchange.replies_owed());
        self.ends
            .sent(before.map_or(u64::MAX, |before| before as u64));
    }

    /// What commits is sent, behind so many statements of its text, if that is known.
    pub(super) fn commits(&mut self, behind: Option<u32>) {
        self.committing = true;
        let Some(behind) = behind else {
            return;
        };
        let (request, before) = self.place();
        let statements = behind.saturating_add(before);
        self.spot = self.spot.sent(request, statements, self.queries);
    }

    /// Where what is sent next stands: behind so many requests of the turn, and behind so many statements of its own.
    fn place(&self) -> (u64, u32) {
        let exchange = &self.server.exchange;
        let (before, is_next) = exchange.begun();
        let before = u32::try_from(before).unwrap_or(u32::MAX);
        let answered = if is_next { self.statements } else { 0 };
        let request = self.queries + exchange.replies_owed() as u64;
        (request, before.saturating_add(answered))
    }

    /// Something is sent that runs. Where it stands behind a COMMIT of the same request, the server does not say when that
    /// is done.
    #[inline]
    pub(super) fn runs(&mut self) {
        if self.spot != Spot::Nowhere {
            let (request, before) = self.place();
            self.spot = self.spot.followed(request, before);
        }
    }

    /// A request of the client's was answered up to its end; where it was the last that waits, nothing is under way.
    pub(super) fn answered(&mut self) {
        self.ends.answered();
        if !self.server.exchange.owes_client() {
            self.settle();
            return;
        }
        if self.queries > self.begins.1 {
            // Whether it has opened a block, the server has said.
            self.beginning = false;
        }
        if !self.ends.any() {
            self.committing = false;
            let inside = self.server.exchange.status() != TransactionStatus::Idle;
            self.attempt.ended(inside);
        }
    }

    /// All that was sent is answered.
    #[inline]
    pub(super) fn settle(&mut self) {
        self.committing = false;
        self.beginning = false;
        self.ends = Ends::default();
        self.spot = Spot::Nowhere;
        self.attempt.settle();
        let exchange = &self.server.exchange;
        // What a Flush has had answered is over with its Sync only.
        if exchange.status() == TransactionStatus::Idle && !exchange.unsynced() {
            // Whatever it has changed is there: who hears of it must find it so, on whichever server.
            self.server.alters = None;
            meaning::settled(self);
        }
    }

    /// The server is lost: the client stands in a failed block if it was told of one, or has sent a BEGIN, and has not
    /// sent its end. Otherwise what it has sent on would run alone.
    fn lose_block(&mut self) {
        let told = self.server.exchange.status() != TransactionStatus::Idle;
        let ends = self.committing || self.attempt.left != Left::No;
        let stays = told && !ends;
        // One that stands behind the end of another is not ended by that.
        let begins = self.beginning && !(ends && self.ends.is_last);
        self.relay.lost_block = stays || begins;
        let before = match stays {
            true => 0,
            false => self.begins.0.saturating_sub(self.queries),
        };
        self.relay.outside = u16::try_from(before).unwrap_or(u16::MAX);
    }

    async fn relay_all(&mut self) -> Result<(), Loss> {
        if self.server.exchange.is_over() {
            self.server.stream.settle();
        }
        attempt::begin(self);
        mark::begin(self);
        opened::open(self);
        requests::take(self)?;
        poll_fn(|cx| self.poll_turn(cx)).await
    }

    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Loss>> {
        for round in 0.. {
            if round == ROUNDS_MAX {
                // Others on this thread want to move, too.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let mut moved = self.listen.waits() && listen::poll_turn(self, cx)?;
            if self.relay.up.backlog() > 0 || self.held {
                self.poll_to_server(cx)?;
            }
            if self.crammed && !self.is_server_behind() {
                requests::take(self)?;
                moved = true;
            }
            if self.is_free_again() {
                requests::take(self)?;
                moved |= !self.is_free_again();
            }
            let stalled = self.is_client_behind();
            moved |= self.poll_from_server(cx)?;
            self.poll_to_client(cx)?;
            // The server was not read from, so nobody would wake us for what it has sent.
            moved |= stalled && !self.is_client_behind();
            if self.server.exchange.is_over()
                && self.relay.up.backlog() == 0
                && !self.held
                && !self.listen.is_stalled()
                && !self.is_within_message()
            {
                return Poll::Ready(Ok(()));
            }
            moved |= self.poll_from_client(cx)?;
            if !moved {
                break;
            }
        }
        let awaited = match self.server.exchange.owes() {
            true => Awaited::Server(self.queries),
            false if self.listen.waits() => Awaited::Ourselves,
            false if self.server.exchange.is_over() => Awaited::Rest,
            false => Awaited::Client,
        };
        self.thinking
            .note(matches!(awaited, Awaited::Client | Awaited::Rest));
        if awaited == Awaited::Rest && self.relay.control.poll_ordered(cx).is_ready() {
            // No transaction is open that it might end first.
            return Poll::Ready(Err(Loss::Client));
        }
        if !self.limits.any(awaited) {
            return Poll::Pending;
        }
        let ends = self.committing && self.ends.is_next() && !self.vow.keeps_back();
        let commit = match ends {
            true if self.spot.is_next(self.queries, self.statements) => Commit::UnderWay,
            true => Commit::Perhaps,
            false => Commit::No,
        };
        let over = self.limits.poll(cx, awaited, commit, &self.server.about);
        over.map(|over| Err(replies::timed_out(self, over)))
    }

    /// Whether a message that waits for quiet may go on though no answer comes: what stood before it is answered by
    /// nothing, and is written by now.
    #[inline]
    fn is_free_again(&self) -> bool {
        let quiet = self.check == Check::Quiet && !self.server.exchange.owes();
        quiet && !self.held && self.relay.up.backlog() == 0
    }

    /// Whether part of a message has been passed whose rest is still to come: the next client's bytes would be taken for
    /// it, or this client told it as a part of another server's answer.
    #[inline]
    fn is_within_message(&self) -> bool {
        self.relay.up.is_passing() || self.server.flow.is_passing()
    }

    fn poll_to_server(&mut self, cx: &mut Context<'_>) -> Result<(), Loss> {
        let before = self.relay.up.backlog();
        let outcome = poll_write_from(&mut self.server.stream, cx, &mut self.relay.up);
        self.attempt.written |= self.relay.up.backlog() < before;
        match outcome {
            Poll::Ready(Err(error)) => {
                listen::give_up(self)?;
                // Why it hung up may still be readable.
                while let Ok(true) = self.poll_from_server(cx) {}
                Err(replies::server_gone(self, &error.to_string()))
            }
            Poll::Ready(Ok(())) => {
                self.held = false;
                Ok(())
            }
            Poll::Pending => {
                self.held = true;
                Ok(())
            }
        }
    }

    /// Ends a wait for what was owed, if it has come.
    pub(super) fn go_on(&mut self) {
        let exchange = &self.server.exchange;
        let over = match self.check {
            Check::Quiet => !exchange.owes(),
            Check::Ahead => !exchange.goes_ahead(),
            _ => false,
        };
        if over {
            self.check = Check::None;
        }
    }

    /// Whether what the client has sent lies here until the server has said more.
    pub(super) fn holds_client_up(&self) -> bool {
        match self.check {
            Check::UnderWay => true,
            Check::Ahead if self.server.exchange.goes_ahead() => true,
            // A COPY waits for its data, and so for a client that may not even be there.
            Check::Quiet | Check::Goodbye
                if self.server.exchange.owes() && self.server.exchange.copy() != CopyFlow::In =>
            {
                true
            }
            Check::Goodbye => false,
            _ if self.again.is_some() => true,
            _ => self.server.exchange.is_synced_ahead() || self.server.exchange.is_crowded(),
        }
    }

    /// Whether so much waits for the server that nothing more is made for it: a short message of the client's may
    /// take a long one.
    #[inline]
    pub(super) fn is_server_behind(&self) -> bool {
        self.relay.up.backlog() >= MADE_MAX
    }

    /// Whether so much waits for the client that no more is read for it.
    fn is_client_behind(&self) -> bool {
        self.server.flow.backlog() + self.relay.down.backlog() >= BACKLOG_MAX
    }

    /// Reads from the server once; true when something came.
    fn poll_from_server(&mut self, cx: &mut Context<'_>) -> Result<bool, Loss> {
        if self.is_client_behind() || self.listen.waits_for_fence() {
            return Ok(false);
        }
        let server: &mut crate::server::ServerConn = &mut *self.server;
        let room = wanted(&server.flow).max(self.server_room);
        match poll_read_into(&mut server.stream, cx, &mut server.flow.buffer, room) {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(0)) => Err(replies::server_gone(
                self,
                "the server closed the connection",
            )),
            Poll::Ready(Err(error)) => Err(replies::server_gone(self, &error.to_string())),
            Poll::Ready(Ok(count)) => {
                self.relay.pool.stats.received_from_server(count);
                if self.relay.reading {
                    self.server.about.voice.heard();
                }
                if count >= self.server_room {
                    self.server_room = READ_MAX;
                }
                self.judge()?;
                Ok(true)
            }
        }
    }

    /// Judges what has come from the server, and takes what waited for it.
    pub(super) fn judge(&mut self) -> Result<(), Loss> {
        let held_up = self.holds_client_up();
        replies::judge(self)?;
        mark::go_on(self);
        // Where all has come and no transaction is open, what waits is for another turn.
        let waits = matches!(self.check, Check::Quiet | Check::Goodbye);
        let ends = waits && self.server.exchange.is_over();
        if held_up && !ends && !self.holds_client_up() {
            requests::take(self)?;
        }
        Ok(())
    }

    fn poll_to_client(&mut self, cx: &mut Context<'_>) -> Result<(), Loss> {
        if self.relay.down.backlog() > 0 || self.relay.held {
            match poll_write_from(&mut self.relay.client, cx, &mut self.relay.down) {
                Poll::Ready(Ok(())) => self.relay.held = false,
                Poll::Ready(Err(_)) => return Err(self.client_gone()),
                Poll::Pending => {
                    self.relay.held = true;
                    return Ok(());
                }
            }
        }
        if self.server.flow.backlog() > 0 {
            attempt::end(self);
            let server: &mut crate::server::ServerConn = self.server;
            match poll_write_from(&mut self.relay.client, cx, &mut server.flow) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Err(self.client_gone()),
                Poll::Pending => self.relay.held = true,
            }
        }
        Ok(())
    }

    /// The client takes nothing any more. Who has said goodbye need not, and what it has asked runs on.
    fn client_gone(&self) -> Loss {
        match self.check {
            Check::Goodbye => Loss::Left,
            _ => Loss::Client,
        }
    }

    /// Looks whether the client has left or is sent away while nothing is taken of what it sends, which is kept for later,
    /// up to a bound.
    fn poll_presence(&mut self, cx: &mut Context<'_>) -> Result<bool, Loss> {
        let up = &mut self.relay.up.buffer;
        if up.len() >= BACKLOG_MAX {
            return self.poll_terminated(cx);
        }
        match poll_read_into(&mut self.relay.client, cx, up, READ_MIN) {
            Poll::Pending => Ok(false),
            // It left behind what it has asked for, which Postgres would therefore finish.
            Poll::Ready(Ok(0) | Err(_)) if requests::ends_in_goodbye(self.relay) => {
                self.poll_terminated(cx)
            }
            Poll::Ready(Ok(0) | Err(_)) => Err(Loss::Client),
            Poll::Ready(Ok(count)) => {
                self.relay.pool.stats.received_from_client(count);
                Ok(true)
            }
        }
    }

    /// Looks whether the client is sent away at once, where its connection is not read and so not seen to be ended.
    /// True never comes of it.
    fn poll_terminated(&self, cx: &mut Context<'_>) -> Result<bool, Loss> {
        match self.relay.control.poll_terminated(cx) {
            Poll::Ready(()) => Err(Loss::Client),
            Poll::Pending => Ok(false),
        }
    }

    /// Reads from the client once; true when something came.
    fn poll_from_client(&mut self, cx: &mut Context<'_>) -> Result<bool, Loss> {
        let most = if self.held { BACKLOG_HELD } else { BACKLOG_MAX };
        let full = self.relay.up.backlog() >= most;
        let waits = self.listen.is_stalled() || self.check == Check::Quiet;
        let stalled = waits && self.relay.up.buffer.len() >= BACKLOG_MAX;
        // Who has said goodbye says nothing more.
        if full || stalled || self.check == Check::Goodbye {
            return self.poll_terminated(cx);
        }
        // A message that was begun goes on whatever else waits: the server waits for its rest.
        if self.holds_client_up() && !self.relay.up.is_passing() {
            return self.poll_presence(cx);
        }
        let room = wanted(&self.relay.up).max(self.client_room);
        match poll_read_into(&mut self.relay.client, cx, &mut self.relay.up.buffer, room) {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(0) | Err(_)) => Err(Loss::Client),
            Poll::Ready(Ok(count)) => {
                self.relay.pool.stats.received_from_client(count);
                if count >= self.client_room {
                    self.client_room = READ_MAX;
                }
                requests::take(self)?;
                Ok(true)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Ends, Spot};

    /// In which of the next requests a transaction is believed to end.
    fn believed(mut ends: Ends, requests: usize) -> Vec<usize> {
        let mut believed = Vec::new();
        for at in 0..requests {
            if ends.is_next() {
                believed.push(at);
            }
            ends.answered();
        }
        assert!(!ends.any());
        believed
    }

    #[test]
    fn each_end_of_a_transaction_counts_until_its_request_is_answered() {
        let mut ends = Ends::default();
        assert!(!ends.any() && !ends.is_next());
        ends.sent(0);
        ends.sent(3);
        assert_eq!(believed(ends, 5), [0, 3]);
        ends.answered();
        ends.sent(7);
        assert_eq!(believed(ends, 9), [2, 7]);
    }

    #[test]
    fn a_commit_is_next_once_what_stands_before_it_is_answered() {
        assert!(!Spot::Nowhere.is_next(0, 7));
        let one = Spot::Nowhere.sent(3, 2, 1);
        let next = [(1, 5), (3, 0), (3, 1), (3, 2), (3, 3), (4, 2)];
        let next = next.map(|(answered, statements)| one.is_next(answered, statements));
        assert_eq!(next, [false, false, false, true, true, false]);
        // The first of a request counts.
        assert_eq!(one.sent(3, 4, 1), one);
        assert!(one.sent(3, 1, 1).is_next(3, 1));
        // An answered one is forgotten, but not one that is still to come.
        let later = one.sent(5, 1, 4);
        assert!(!later.is_next(5, 0) && later.is_next(5, 1));
        assert_eq!(one.sent(5, 1, 2), one);
    }

    #[test]
    fn where_something_stands_behind_a_commit_in_its_request_nobody_knows_which_of_them_runs() {
        let one = Spot::Nowhere.sent(3, 2, 1);
        // That is the COMMIT itself, or belongs to another request.
        for (request, before) in [(3, 2), (3, 1), (4, 0), (4, 3)] {
            assert_eq!(one.followed(request, before), one);
        }
        assert_eq!(one.followed(3, 3), Spot::Nowhere);
    }

    #[test]
    fn what_is_far_behind_is_never_forgotten() {
        let mut ends = Ends::default();
        for before in [62, 63, 64, 500] {
            ends.sent(before);
        }
        let believed = believed(ends, 501);
        for at in [62, 63, 64, 500] {
            assert!(believed.contains(&at), "{believed:?}");
        }
        assert!(!believed.contains(&61));
    }

    #[test]
    fn one_that_cannot_be_placed_may_be_anywhere() {
        let mut ends = Ends::default();
        ends.sent(u64::MAX);
        ends.sent(2);
        for _ in 0..1000 {
            assert!(ends.any() && ends.is_next());
            ends.answered();
        }
    }
}
