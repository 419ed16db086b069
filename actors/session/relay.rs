//! A logged-in client between its transactions.

use std::future::poll_fn;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use pgherd_config::PoolMode;
use pgherd_net::{Stream, poll_read_into, poll_write_from};
use pgherd_planted::{self as planted, Bug};
use pgherd_session::{Block, ClientStatements, Flow, Parameters};
use pgherd_sql::{Encoding, LexOptions, Names, Pin, PinSet, Runs};
use pgherd_wire::backend::{self, TransactionStatus};
use pgherd_wire::error::ErrorReport;
use pgherd_wire::{frame, frontend, sqlstate};

use crate::clock;
use crate::control::{Control, Order, Standing};
use crate::herald::audience::Listening;
use crate::judgement::{self, Judgement};
use crate::pins;
use crate::pool::{Pool, ServerLease};
use crate::server::ServerAbout;
use crate::session::abandon::Parting;
use crate::session::attempt::Tries;
use crate::session::checkout::{Denied, Instead, Start, Timer};
use crate::session::endings::Endings;
use crate::session::limit::{Expired, Limits};
use crate::session::opened::Opened;
use crate::session::shards::{self, Spread, Way, dtx, glance, pipeline, scatter};
use crate::session::turn::{Loss, Rollback, Turn};
use crate::session::{
    Bye, abandon, behind, checkout, follow, listen, local, opened, reads, requests, sequence,
};

/// Room for reading from an idle client; most requests fit.
const FIRST_READ: usize = 4 * 1024;

/// What a client is told whose session ends with its server.
pub(super) const BOUND: &str = "The session was bound to that server, and its state is lost.";

/// A client and everything that is its own: it owns no server between transactions.
pub struct Relay {
    /// The client's socket.
    pub client: Stream,
    /// Bytes from the client to the server that it leases.
    pub up: Flow,
    /// Bytes to the client that come before those of the server.
    pub down: Flow,
    /// The outside's handle.
    pub control: Arc<Control>,
    /// Where its servers come from.
    pub pool: Arc<Pool>,
    /// The worker that it lives on.
    pub worker: u16,
    /// When it gives its server back.
    pub mode: PoolMode,
    /// How long it may say nothing outside of a transaction.
    pub patience: Option<Duration>,
    /// The parameters that this client has set, and which each server is brought to.
    pub parameters: Arc<Parameters>,
    /// How its texts are to be read.
    pub lexing: LexOptions,
    /// The same as they were when a server last said that it was idle: what the loss of a server goes back to.
    pub settled: Arc<Parameters>,
    /// The parameters of its start-up packet, to which DISCARD ALL returns.
    pub startup: Arc<Parameters>,
    /// Its prepared statements; most clients have none.
    pub statements: Option<Box<ClientStatements<Judgement>>>,
    /// What the end of the transaction takes back of its settings, once it has changed some.
    pub block: Option<Box<Block>>,
    /// A server has refused the settings lately, so the next is asked before anything else is sent.
    pub wary: bool,
    /// A server that the session is pinned to; few are, and so it takes room of its own.
    pub kept: Option<Box<ServerLease>>,
    /// It was said that the session is pinned.
    pub bound: bool,
    /// Why the session is pinned.
    pub pins: PinSet,
    /// TLS holds bytes for the client that its socket has not taken yet.
    pub held: bool,
    /// A block that the client has opened and that no server knows of yet.
    pub opened: Option<Box<Opened>>,
    /// The client's transaction block was lost with its server, and the client has not ended it yet.
    pub lost_block: bool,
    /// So many of the replies that the client waits for stand before that block.
    pub outside: u16,
    /// The block on the present server stands for one that was lost: its COMMIT must fail.
    pub commit_fails: bool,
    /// That block was refused before a server knew of it, and the client was told: it ends as any failed block does.
    pub block_refused: bool,
    /// The client's block was lost while it asked for nothing, and it was not told yet.
    pub untold: Option<Box<ErrorReport>>,
    /// A pipeline was refused before it had a server: what remains of it up to Sync is discarded.
    pub refusing: bool,
    /// What it listens to, if anything.
    pub listening: Option<Box<Listening>>,
    /// Which of its statements end a transaction, where the server alone knows its statements.
    pub endings: Option<Box<Endings>>,
    /// Its server is one that is only read from.
    pub reading: bool,
    /// It is because a block says READ ONLY, and not because anybody has wished for it.
    pub presumes: bool,
    /// Its server has had settings of the users' own that it has never had: it gets what asks for none of them.
    pub strange: bool,
    /// When it wrote last, or may have: in nanoseconds after the birth of its pool, which takes half of
    /// the room.
    pub wrote: Option<NonZeroU64>,
    /// Where its statements run, if its database is sharded.
    pub spread: Option<Box<Spread>>,
    /// What ends its waiting for a server, once it has had to wait.
    pub timer: Option<Timer>,
}

/// What ends a client's idleness.
enum Wake {
    Input,
    /// The server is not kept any longer for a question after a sequence.
    Unasked,
    Server,
    Heard,
    Ordered,
    TimedOut(Expired),
    Gone,
}

impl Relay {
    /// What a text of this client means for its session.
    pub(super) fn judge(&self, text: &[u8]) -> Judgement {
        judgement::judge(text, self.lexing, |effects| {
            judgement::is_reported(effects, self.pool.welcome.load().as_deref())
        })
    }

    /// Takes new parameters over, and reads later texts as they say.
    /// The client has these. What it has ever had of the users' own settings stays known.
    pub(super) fn set_parameters(&mut self, parameters: Arc<Parameters>) {
        self.lexing = lexing(&parameters, &self.pool);
        self.parameters = if self.parameters.is_strange_to(&parameters) {
            let mut all = (*parameters).clone();
            all.meet_all(&self.parameters);
            self.pool.shared.share(all)
        } else {
            parameters
        };
    }

    /// Serves the client until it leaves or is sent away.
    ///
    /// This future is what an idle client costs, so whatever is rare and large is boxed in it; so is
    /// the session itself, for which it would otherwise have room twice.
    pub async fn run(mut self: Box<Self>) -> Bye {
        let bye = self.serve().await;
        self.control.stand(Standing::Idle);
        if let Some(lease) = self.kept.take() {
            let parting = Parting::Goodbye;
            Box::pin(abandon::abandon(&mut self, *lease, parting)).await;
        }
        if let Bye::Sent(report) = &bye {
            self.record(report);
            report.encode_error(self.down.made());
        }
        if self.down.backlog() > 0 && !matches!(bye, Bye::Gone) {
            // A client that does not read must not hold its own farewell up.
            let _ = Box::pin(tokio::time::timeout(Duration::from_secs(1), self.flush())).await;
        }
        bye
    }

    async fn serve(&mut self) -> Bye {
        loop {
            if (self.down.backlog() > 0 || self.held)
                && let Some(bye) = self.hand_out().await
            {
                return bye;
            }
            match self.look() {
                Ok(Look::More) => {}
                Ok(Look::Begin) => {
                    if let Some(bye) = Box::pin(self.turn()).await {
                        return bye;
                    }
                    continue;
                }
                Ok(Look::Again) => continue,
                Ok(Look::Leave) => return Bye::Left,
                Err(report) => return Bye::Sent(Box::new(report)),
            }
            self.up.shrink();
            self.down.shrink();
            let prepared = self.statements.as_ref();
            self.control
                .has_prepared(prepared.map_or(0, |known| known.len()));
            self.control.stand(Standing::Idle);
            match self.idle().await {
                Wake::Input => {}
                Wake::Server => {
                    if let Some(bye) = Box::pin(self.turn()).await {
                        return bye;
                    }
                }
                Wake::Heard => {
                    if let Some(bye) = listen::deliver(self).await {
                        return bye;
                    }
                }
                Wake::Unasked => {
                    self.pins.remove(Pin::Sequence);
                    let kept = self.kept.take();
                    let bye = kept.and_then(|lease| self.part(*lease, clock::now()));
                    if let Some(bye) = bye {
                        return bye;
                    }
                }
                Wake::Gone => return self.gone(),
                Wake::TimedOut(what) => return Bye::Sent(Box::new(what.report())),
                Wake::Ordered => {
                    return self.control.farewell().map_or(Bye::Left, Bye::Sent);
                }
            }
        }
    }

    /// Judges what the client sent while it has no server under way.
    fn look(&mut self) -> Result<Look, ErrorReport> {
        if !self.up.resume() {
            return Ok(Look::More);
        }
        let header = match frame::header(self.up.unjudged()) {
            Ok(Some(header)) => header,
            Ok(None) => return Ok(Look::More),
            Err(error) => return Err(violation(error.to_string())),
        };
        if let Some(why) = requests::misshapen(header) {
            return Err(violation(why.to_owned()));
        }
        let total = header.total();
        match header.tag {
            frontend::tag::TERMINATE => Ok(Look::Leave),
            // Ends of a COPY that has already failed.
            frontend::tag::COPY_DATA | frontend::tag::COPY_DONE | frontend::tag::COPY_FAIL => {
                self.up.hide(total);
                Ok(Look::Again)
            }
            frontend::tag::FLUSH if self.kept.is_none() => {
                self.up.hide(total);
                Ok(Look::Again)
            }
            frontend::tag::SYNC if self.refusing || self.kept.is_none() => {
                self.refusing = false;
                self.up.hide(total);
                let status = self.status();
                backend::ready_for_query(self.down.made(), status);
                Ok(Look::Again)
            }
            _ if self.refusing => {
                self.up.hide(total);
                Ok(Look::Again)
            }
            frontend::tag::CLOSE if local::close(self, total) => Ok(Look::Again),
            frontend::tag::QUERY if opened::answer(self, total) => Ok(Look::Again),
            frontend::tag::QUERY
            | frontend::tag::PARSE
            | frontend::tag::BIND
            | frontend::tag::DESCRIBE
            | frontend::tag::EXECUTE
            | frontend::tag::CLOSE
            | frontend::tag::SYNC
            | frontend::tag::FLUSH
            | frontend::tag::FUNCTION_CALL => Ok(if self.is_judgeable(header) {
                Look::Begin
            } else {
                Look::More
            }),
            other => Err(violation(format!("invalid frontend message type {other}"))),
        }
    }

    fn is_judgeable(&self, header: frame::Header) -> bool {
        requests::is_judgeable(self, header) && (self.spread.is_none() || shards::is_whole(self))
    }

    /// Whether each request is answered before the next is sent, since that may be for another server.
    pub(super) fn is_choosy(&self) -> bool {
        self.reading || self.strange || self.spread.is_some()
    }

    /// Its next server is one of this pool for reading, or of its own pool.
    pub(super) fn reads_from(&mut self, reader: Option<&Arc<Pool>>) {
        self.reading = reader.is_some();
        self.presumes = self.reading && reads::presumes(self);
    }

    /// Runs on a server until the transaction is over; answers how the session ends, if it does.
    async fn turn(&mut self) -> Option<Bye> {
        self.block_refused &= self.lost_block;
        if let Some(report) = self.untold.take() {
            self.lost_block &= !opened::is_end(self);
            return self.refuse(&report);
        }
        let asked = clock::now();
        self.control.asks(asked);
        if self.spread.is_some() && !glance::lead(self, asked) {
            // Where the last transaction was read says nothing of this one.
            self.reads_from(None);
            match Box::pin(shards::lead(self, asked)).await {
                Ok(Way::Usual) => {}
                Ok(Way::Several(several)) => {
                    return Box::pin(scatter::run(self, *several, asked)).await;
                }
                Ok(Way::Pipeline(found)) => {
                    return Box::pin(pipeline::run(self, found, asked)).await;
                }
                Ok(Way::Spanning) => return Box::pin(dtx::run(self, asked)).await,
                Err(denied) => return self.denied(denied),
            }
        }
        let settings = self.pool.settings();
        self.patience = settings.timeouts.client_idle;
        let fresh = settings.timeouts.server_check;
        let functions = settings.pool.function_check;
        let timeouts = &settings.timeouts;
        let patience = [timeouts.checkout, timeouts.hold].into_iter().flatten();
        let patience = patience.min();
        drop(settings);
        let began = self.opened.as_ref().map_or(asked, |opened| opened.at());
        let reader = reads::source(self);
        self.reads_from(reader.as_ref());
        self.strange = false;
        let leased = match checkout::at_once(self, reader.as_ref(), fresh, asked) {
            Start::Ready(lease) => Ok((lease, asked)),
            Start::Unready(lease) => {
                let leased = checkout::checkout(self, reader, lease, asked, Instead::Replica);
                Box::pin(leased).await
            }
            Start::Kept(mut lease) => {
                let brought = Box::pin(checkout::bring_kept(self, &mut lease)).await;
                brought.map(|()| (lease, asked))
            }
        };
        let (mut lease, mut started) = match leased {
            Ok(leased) => leased,
            Err(denied) => return self.denied(denied),
        };
        // What it has waited for a primary does not count: that one may have to turn it away for a moment.
        let mut tries = Tries::until(patience.map(|limit| started + limit));
        let mut thought = Duration::ZERO;
        // Since when a server is waited for.
        let mut since = asked;
        let outcome = loop {
            if self.listening.is_some()
                && let Err(_gone) = Box::pin(listen::hold(self, &mut lease)).await
            {
                break Err(Loss::Client);
            }
            if !self.control.engage() {
                // Nothing of the client's was sent there, but it may be believed to be set as it was to be only with that.
                drop(lease);
                return self.denied(Denied::Ordered);
            }
            // What a server was waited for has a limit of its own: a failover is a pause.
            let began = began + started.saturating_duration_since(asked);
            let limits = Limits::new(&self.pool.settings(), began, &lease.about);
            let mut turn = Turn::new(self, &mut lease, limits, tries);
            let outcome = turn.run().await;
            thought += turn.thinking.end();
            drop(turn);
            match outcome {
                Err(Loss::Again(again)) => {
                    if again.was_run() {
                        since = clock::now();
                        tries.extend(patience.map(|limit| since + limit));
                    }
                    let next = Box::pin(self.again(again, lease, &mut tries, since));
                    match next.await {
                        Ok(next) => (lease, started) = next,
                        Err(denied) => return self.denied(denied),
                    }
                }
                outcome => break outcome,
            }
        };
        if let Err(Loss::Spreads) = outcome {
            return Box::pin(dtx::take_over(self, lease)).await;
        }
        let now = clock::now();
        self.pool
            .stats
            .transaction(now.saturating_duration_since(started), thought);
        // Of what was not answered nobody knows more.
        lease.alters = None;
        let used_sequence = std::mem::take(&mut lease.used_sequence);
        // Over shards nobody may ask for what a sequence gave last.
        self.keep_for_sequence(used_sequence && self.spread.is_none());
        match outcome {
            Ok(()) if behind::is_due(self, &lease, functions, now) => {
                Box::pin(self.look_behind(lease, functions, now)).await
            }
            Ok(()) => self.part(lease, now),
            Err(loss) => Box::pin(self.lost(loss, lease)).await,
        }
    }

    /// There is no server: answers how the session ends, if it does.
    pub(super) fn denied(&mut self, denied: Denied) -> Option<Bye> {
        match denied {
            Denied::Gone => Some(Bye::Gone),
            Denied::Ordered => Some(self.control.farewell().map_or(Bye::Left, Bye::Sent)),
            Denied::Refused(report) => {
                // An error ends a block, whether a server knows of it or not.
                if self.opened.take().is_some() {
                    self.lost_block = true;
                    self.block_refused = true;
                }
                self.refuse(&report)
            }
            Denied::Fatal(report) => Some(Bye::Sent(report)),
            Denied::Lost(report) => Some(Bye::Sent(Box::new(report.into_fatal()))),
        }
    }

    /// The transaction is over: the server goes back, unless the session is pinned to it.
    pub(super) fn part(&mut self, mut lease: ServerLease, now: Instant) -> Option<Bye> {
        lease.frees = PinSet::EMPTY;
        if self.pins.contains(Pin::Moment)
            && !self
                .statements
                .as_deref()
                .is_some_and(ClientStatements::is_bound)
        {
            self.pins.remove(Pin::Moment);
        }
        if self.reading && !self.pins.is_empty() {
            // Nothing that binds is let through to a replica, but what a function did may be found there.
            let text = "what was left behind on a replica is lost with it";
            let report = ErrorReport::fatal(sqlstate::FEATURE_NOT_SUPPORTED, text);
            lease.flow.hand_over(&mut self.down);
            return Some(Bye::Sent(Box::new(
                report.hint("Leave READ ONLY out, or SET pgherd.role = 'primary'."),
            )));
        }
        if self.strange {
            // That somebody asks after sequences was learned while this ran: to keep the server for that is no duty.
            self.pins.remove(Pin::Sequence);
        }
        self.keep_doubtful(&lease);
        if self.strange && self.pool.pins(self.pins, self.mode) {
            // Nothing that binds is sent there; were it so all the same, what comes next might see others' settings.
            let text = "the session cannot stay on a server that has had settings of others";
            let report = ErrorReport::fatal(sqlstate::FEATURE_NOT_SUPPORTED, text);
            // What was answered before comes first, and whole.
            lease.flow.hand_over(&mut self.down);
            return Some(Bye::Sent(Box::new(report)));
        }
        // Between two turns, only what is here is written.
        lease.flow.hand_over(&mut self.down);
        if self.pool.pins(self.pins, self.mode) {
            if !self.pins.is_empty() {
                self.pool.stats.pinned();
                self.note_pins(&lease.about);
            }
            self.kept = Some(Box::new(lease));
        } else {
            self.is_free();
            lease.ran = Runs::Nothing;
            let now = listen::settle(self).unwrap_or(now);
            checkout::checkin(&self.control, lease, now);
        }
        match self.control.ordered() {
            Order::Serve => None,
            Order::Drain | Order::Terminate => {
                Some(self.control.farewell().map_or(Bye::Left, Bye::Sent))
            }
        }
    }

    /// Says that nothing keeps the session on its server any more, if anything did.
    pub(super) fn is_free(&mut self) {
        if std::mem::take(&mut self.bound) {
            self.control.bound.free();
            tracing::debug!(client = self.control.id, "no longer bound to a server");
        }
    }

    /// Says why the session stays on this server, if there is anything new to say.
    fn note_pins(&mut self, server: &ServerAbout) {
        self.bound = true;
        let new = self.control.bound.bind(self.pins);
        if !new.is_empty() {
            self.pool.stats.pinned_for(new);
            let (client, server) = (self.control.id, server.id);
            tracing::debug!(
                client,
                server,
                reason = pins::names(new),
                "bound to a server"
            );
        }
    }

    async fn lost(&mut self, loss: Loss, mut lease: ServerLease) -> Option<Bye> {
        match loss {
            Loss::Left => {
                lease.flow.hand_over(&mut self.down);
                abandon::abandon(self, lease, Parting::Goodbye).await;
                Some(Bye::Left)
            }
            Loss::Client => {
                abandon::abandon(self, lease, Parting::Cut).await;
                Some(self.gone())
            }
            Loss::Fatal(report) => {
                lease.flow.hand_over(&mut self.down);
                abandon::abandon(self, lease, Parting::Cut).await;
                Some(Bye::Sent(report))
            }
            Loss::Server(report) | Loss::Refused(report) => self.server_lost(&report, lease),
            Loss::Unresolved(unresolved) => Box::pin(self.unresolved(*unresolved, lease)).await,
            Loss::RolledBack(report, told) => self.rolled_back(&report, told, lease),
            // It was begun anew before, or goes on elsewhere.
            Loss::Again(_) | Loss::Spreads => None,
        }
    }

    /// How a session ends from whose client nothing comes any more: it is gone, or was cut off to be sent away.
    pub(super) fn gone(&self) -> Bye {
        match self.control.ordered() {
            Order::Serve => Bye::Gone,
            Order::Drain | Order::Terminate => self.control.farewell().map_or(Bye::Left, Bye::Sent),
        }
    }

    /// The server is gone: the client is told for each reply it waits for, and stays.
    fn server_lost(&mut self, report: &ErrorReport, lease: ServerLease) -> Option<Bye> {
        let replies = lease.exchange.replies_owed();
        // Where a COPY has swallowed the client's Sync, it waits for an answer and will send another.
        let swallowed = replies == 0 && lease.exchange.owes_client();
        let unsynced = lease.exchange.unsynced() || lease.exchange.skipping() || swallowed;
        if let Some(bye) = self.lose(report, lease) {
            return Some(bye);
        }
        if replies > 0 || unsynced {
            self.record(report);
        }
        let status = self.status();
        let out = self.down.made();
        let unknown = report.code == sqlstate::TRANSACTION_RESOLUTION_UNKNOWN;
        if planted::is(Bug::AckLostCommit) && unknown {
            let _ = backend::command_complete(out, b"COMMIT");
            backend::ready_for_query(out, status);
            return None;
        }
        for at in 0..replies {
            report.encode_error(out);
            let inside = at >= usize::from(self.outside);
            let idle = TransactionStatus::Idle;
            backend::ready_for_query(out, if inside { status } else { idle });
        }
        if unsynced {
            report.encode_error(out);
            self.refusing = true;
            // A COMMIT that waited here ends the block all the same.
            self.lost_block &= !opened::is_end(self);
        } else if replies == 0 && self.lost_block {
            // Nothing was asked, so no error may be sent. The next statement gets it: were that a
            // COMMIT, a failed block would only answer ROLLBACK, which drivers take for success.
            self.untold = Some(Box::new(report.clone()));
        }
        None
    }

    /// The server is gone, and the transaction with it, which is what the client has asked for.
    fn rolled_back(
        &mut self,
        report: &ErrorReport,
        told: Rollback,
        lease: ServerLease,
    ) -> Option<Bye> {
        if let Some(bye) = self.lose(report, lease) {
            return Some(bye);
        }
        let out = self.down.made();
        if told == Rollback::Asked {
            let built = backend::command_complete(out, b"ROLLBACK");
            debug_assert!(built.is_ok(), "the tag is short");
        }
        backend::ready_for_query(out, TransactionStatus::Idle);
        None
    }

    /// Lets go of a server that is gone; answers how the session ends, if it cannot go on without it.
    pub(super) fn lose(&mut self, report: &ErrorReport, mut lease: ServerLease) -> Option<Bye> {
        self.control.runs_nowhere();
        let cluster = self.pool.cluster.load();
        cluster.suspect(&lease.about.upstream.name, clock::now());
        drop(cluster);
        self.block = None;
        let lost = std::mem::replace(&mut self.parameters, Arc::clone(&self.settled));
        self.set_parameters(Arc::clone(&self.settled));
        listen::settle(self);
        let bound = self.pool.pins(self.pins, self.mode);
        let cut = lease.flow.is_mid_message();
        lease.flow.hand_over(&mut self.down);
        // Not each of them, or nobody would be served at all.
        match planted::is(Bug::LeakLease) && lease.about.id.is_multiple_of(4) {
            true => std::mem::forget(lease),
            false => drop(lease),
        }
        self.up.discard();
        if cut {
            // Part of a message was sent on already: the client's framing cannot be mended.
            return Some(Bye::Gone);
        }
        follow::tell_back(self, &lost);
        // What bound the session to that server is gone, and going on without it would be wrong.
        bound.then(|| {
            let mut last = report.clone().into_fatal();
            last.hint = Some(BOUND.to_owned());
            Bye::Sent(Box::new(last))
        })
    }

    /// Where the client's transaction stands while it has no server.
    fn status(&self) -> TransactionStatus {
        if self.lost_block {
            TransactionStatus::Failed
        } else if self.opened.is_some() {
            TransactionStatus::InTransaction
        } else {
            TransactionStatus::Idle
        }
    }

    /// Writes an error of ours to the log, if such are wanted there.
    pub(super) fn record(&self, report: &ErrorReport) {
        if let Some(spread) = &self.spread {
            spread.refuses(report);
        }
        if self.pool.settings().log_errors {
            let (client, key, error) = (self.control.id, &self.pool.key, &report.message);
            let code = report.code.to_string();
            tracing::info!(
                client,
                user = key.user,
                database = key.database,
                code,
                error,
                "error"
            );
        }
    }

    /// Answers the client's request with an error, without a server.
    fn refuse(&mut self, report: &ErrorReport) -> Option<Bye> {
        self.record(report);
        let status = self.status();
        let out = self.down.made();
        report.encode_error(out);
        if let Ok(Some(header)) = frame::header(self.up.unjudged()) {
            if matches!(
                header.tag,
                frontend::tag::QUERY | frontend::tag::FUNCTION_CALL
            ) {
                backend::ready_for_query(out, status);
                self.up.hide(header.total());
            } else {
                self.refusing = true;
            }
        }
        None
    }

    /// How long the client, which holds no server, is waited for from now on.
    fn limit(&self) -> Option<(Instant, Expired)> {
        match &self.opened {
            Some(opened) => opened.limit(&self.pool.settings(), clock::now()),
            None => self
                .patience
                .map(|idle| (clock::now() + idle, Expired::ClientIdle)),
        }
    }

    /// Waits for the client, an order, or word from the server that the session is pinned to.
    async fn idle(&mut self) -> Wake {
        let limit = self.limit();
        let mut unasked = self
            .waits_for_question()
            .then(|| Box::pin(tokio::time::sleep(sequence::KEPT)));
        let mut timer =
            limit.map(|(at, what)| (Box::pin(tokio::time::sleep_until(at.into())), what));
        poll_fn(|cx| {
            if let Poll::Ready(outcome) = self.poll_input(cx) {
                return Poll::Ready(outcome);
            }
            if let Some(lease) = &mut self.kept
                && lease.stream.poll_readable(cx).is_ready()
            {
                return Poll::Ready(Wake::Server);
            }
            // Who is in a block may end it first, unless all are to go at once.
            let may_stay = self.opened.is_some() && self.control.ordered() != Order::Terminate;
            if self.control.poll_ordered(cx).is_ready() && !may_stay {
                return Poll::Ready(Wake::Ordered);
            }
            if listen::poll_heard(self, cx).is_ready() {
                return Poll::Ready(Wake::Heard);
            }
            if let Some(unasked) = &mut unasked
                && unasked.as_mut().poll(cx).is_ready()
            {
                return Poll::Ready(Wake::Unasked);
            }
            match &mut timer {
                Some((timer, what)) => timer.as_mut().poll(cx).map(|()| Wake::TimedOut(*what)),
                None => Poll::Pending,
            }
        })
        .await
    }

    fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<Wake> {
        let room = wanted(&self.up).max(FIRST_READ);
        match poll_read_into(&mut self.client, cx, &mut self.up.buffer, room) {
            Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(Wake::Gone),
            Poll::Ready(Ok(count)) => {
                self.pool.stats.received_from_client(count);
                Poll::Ready(Wake::Input)
            }
            Poll::Pending => {
                // No buffer is held while there is nothing to read.
                self.up.shrink();
                Poll::Pending
            }
        }
    }

    /// Writes everything that waits for the client; answers how the session ends, if it does. Who does not take it may
    /// still be sent away, and has no more time for it than for anything else.
    async fn hand_out(&mut self) -> Option<Bye> {
        self.held = false;
        let mut timer = None;
        poll_fn(|cx| {
            match poll_write_from(&mut self.client, cx, &mut self.down) {
                Poll::Ready(Ok(())) => return Poll::Ready(None),
                Poll::Ready(Err(_)) => return Poll::Ready(Some(Bye::Gone)),
                Poll::Pending => {}
            }
            if self.control.poll_terminated(cx).is_ready() {
                let farewell = self.control.farewell();
                return Poll::Ready(Some(farewell.map_or(Bye::Left, Bye::Sent)));
            }
            // Most take it at once, and need no timer.
            let timer = timer.get_or_insert_with(|| {
                let limit = self.limit();
                limit.map(|(at, what)| (Box::pin(tokio::time::sleep_until(at.into())), what))
            });
            match timer {
                Some((timer, what)) => {
                    let over = timer.as_mut().poll(cx);
                    over.map(|()| Some(Bye::Sent(Box::new(what.report()))))
                }
                None => Poll::Pending,
            }
        })
        .await
    }

    /// Writes everything that waits for the client.
    pub async fn flush(&mut self) -> std::io::Result<()> {
        self.held = false;
        poll_fn(|cx| poll_write_from(&mut self.client, cx, &mut self.down)).await
    }
}

/// How many more bytes the message at the front of the flow needs, within reason.
pub(super) fn wanted(flow: &Flow) -> usize {
    match frame::header(flow.unjudged()) {
        Ok(Some(header)) => header
            .total()
            .saturating_sub(flow.unjudged().len())
            .min(super::turn::READ_MAX),
        _ => 0,
    }
}

/// How texts are to be read by a session with these parameters.
pub(super) fn lexing(parameters: &Parameters, pool: &Pool) -> LexOptions {
    let welcome = pool.welcome.load();
    let value = |name: &str| {
        parameters.get(name).map(str::to_owned).or_else(|| {
            let all = &welcome.as_deref()?.parameters;
            let found = all
                .iter()
                .find(|(known, _)| known.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.clone())
        })
    };
    let own = value("client_encoding");
    let is_utf8 = |name: &Option<String>| name.as_deref().is_some_and(is_utf8);
    LexOptions {
        standard_conforming_strings: value("standard_conforming_strings").is_none_or(|v| v == "on"),
        names: match is_utf8(&own) && is_utf8(&value("server_encoding")) {
            true => Names::Utf8,
            false => Names::Ascii,
        },
        encoding: own.map_or(Encoding::AsciiSafe, |name| encoding(&name)),
    }
}

fn is_utf8(encoding: &str) -> bool {
    let letters = encoding.chars().filter(char::is_ascii_alphanumeric);
    letters
        .map(|letter| letter.to_ascii_uppercase())
        .eq("UTF8".chars())
        || encoding.eq_ignore_ascii_case("unicode")
}

/// What kind of encoding a name means, for a reader of SQL.
fn encoding(name: &str) -> Encoding {
    let plain: String = name
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .collect::<String>()
        .to_ascii_uppercase();
    const TRAILING: [&str; 13] = [
        "SJIS",
        "SHIFTJIS",
        "MSKANJI",
        "WIN932",
        "WINDOWS932",
        "SHIFTJIS2004",
        "SJIS2004",
        "BIG5",
        "WIN950",
        "GBK",
        "UHC",
        "GB18030",
        "JOHAB",
    ];
    if TRAILING.contains(&plain.as_str())
        || plain.starts_with("WIN9")
        || plain.starts_with("WINDOWS9")
    {
        Encoding::AsciiTrailing
    } else {
        Encoding::AsciiSafe
    }
}

/// What a look at the client's next message says.
enum Look {
    More,
    Begin,
    Again,
    Leave,
}

fn violation(message: String) -> ErrorReport {
    ErrorReport::fatal(sqlstate::PROTOCOL_VIOLATION, message)
}
#[cfg(test)]
mod tests {
    use std::future::Future;

    use super::Relay;

    fn size<A, F: Future>(_: fn(A) -> F) -> usize {
        size_of::<F>()
    }

    /// An idle client is to cost 10 KiB at most, most of which are its actor and its sockets.
    #[test]
    fn an_idle_session_is_small() {
        // The allocator gives it 384 bytes.
        assert!(size_of::<Relay>() <= 360, "{}", size_of::<Relay>());
        let waits = size(Relay::run);
        assert!(waits <= 192, "{waits}");
    }
}
