//! One client.
//!
//! Owns: the task that carries the client's bytes; dropping it ends it.
//! Hears: that its task has ended. Orders and cancels reach the task through
//!   [`Control`](crate::control::Control), without a message.
//! Tells: nobody.
//! If it dies: the task ends with it, and what the task held is released by `Drop`: a server in
//!   the middle of something is closed, never handed on.

pub mod abandon;
mod ahead;
pub mod attempt;
pub mod behind;
mod blind;
pub mod by_sql;
pub mod check;
pub mod checkout;
pub mod endings;
pub mod follow;
pub mod limit;
pub mod listen;
pub mod local;
pub mod login;
pub mod mark;
pub mod meaning;
pub mod met;
pub mod names;
pub mod opened;
pub mod planned;
pub mod prove;
pub mod proxied;
pub mod query;
pub mod reads;
pub mod reasons;
pub mod relay;
pub mod replication;
pub mod replies;
pub mod requests;
pub mod resolve;
pub mod retry;
pub mod rules;
pub mod sequence;
pub mod setup;
pub mod shape;
pub mod shards;
pub mod statements;
pub mod survey;
pub mod thinking;
pub mod turn;
pub mod unreplicated;
pub mod visit;
pub mod watch;
pub mod welcome;

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use pgherd_net::{Accepted, Stream, TlsError};
use pgherd_planted::{self as planted, Bug};
use pgherd_session::Flow;
use pgherd_supervise::{End, Work};
use pgherd_wire::cancel::CancelKey;
use pgherd_wire::error::ErrorReport;
use pgherd_wire::sqlstate;

use crate::console;
use crate::control::{Control, Entry};
use crate::facts::Facts;
use crate::failures::{LoginFailure, SessionFailure};
use crate::session::login::{Comer, Entrance, Guest, Opened, Place};
use crate::session::relay::Relay;
use crate::session::shards::Spread;

/// How long who comes while the proxy ends, or is full, may take to say what for: it must not hold the end up, nor keep others
/// from saying it.
const LATE_LOGIN: Duration = Duration::from_secs(1);
/// How long who looks after a proxy that is full may take to prove who it is.
const CROWDED_LOGIN: Duration = Duration::from_secs(5);
/// How long a client may take to read why it is not let in.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The actor, once it is [`Tasked`](pgherd_supervise::Tasked).
#[derive(Debug)]
pub struct Session;

/// What it is born with.
#[derive(Debug)]
pub struct SessionArguments {
    /// The client's socket.
    pub accepted: Accepted,
    /// The facts.
    pub facts: Arc<Facts>,
    /// The worker that it lives on.
    pub worker: u16,
}

/// How a session ends.
#[derive(Debug)]
pub enum Bye {
    /// The client said goodbye.
    Left,
    /// The client's connection broke.
    Gone,
    /// The client did not finish its login in time.
    Late,
    /// TLS did not come about.
    Insecure(Box<TlsError>),
    /// The client was never let in.
    Refused(Box<ErrorReport>),
    /// The client is sent away with this.
    Sent(Box<ErrorReport>),
}

impl Work for Session {
    type Arguments = SessionArguments;

    /// There is no future around the other: each idle client would pay for it.
    fn run(arguments: SessionArguments) -> impl Future<Output = End> + Send + 'static {
        live(arguments)
    }
}

async fn live(arguments: SessionArguments) -> End {
    let SessionArguments {
        accepted,
        facts,
        worker,
    } = arguments;
    let Ok(stream) = accepted.into_stream(&facts.client_socket.load()) else {
        return End::Stop;
    };
    let id = facts.sessions.number();
    let control = Arc::new(Control::new(id, stream.killer()));
    let mut entry = facts.sessions.enter(&control);
    // Looked at behind the entry: the end of the proxy either finds it there, or is seen here.
    if facts.is_closing() {
        control.come_late();
    }
    // Login is over soon and large; its memory must not stay with the session.
    if let Some(mut guest) = Box::pin(admit(stream, &facts, &control, &mut entry)).await {
        // Given back when the session ends, however it does.
        let _seat = guest.seat.take();
        let name = Arc::clone(&guest.identity);
        if facts.config.load().log.connections {
            tracing::info!(
                client = id,
                peer = %guest.peer,
                user = name.user,
                database = name.database,
                "login"
            );
        }
        let _watch = facts.failures.watch();
        let bye = serve(guest, facts.clone(), control, worker).await;
        if let Some(why) = bye.failure() {
            facts.failures.session(why);
        }
        if facts.config.load().log.disconnections {
            tracing::info!(
                client = id,
                user = name.user,
                database = name.database,
                ?bye,
                "end"
            );
        }
    }
    match planted::is(Bug::LeakSession) {
        true => std::mem::forget(entry),
        false => drop(entry),
    }
    End::Stop
}

/// Lets a client in, within the limits on clients and on time, or does what it has come for instead.
async fn admit(
    stream: Stream,
    facts: &Arc<Facts>,
    control: &Arc<Control>,
    entry: &mut Entry,
) -> Option<Guest> {
    let mut comer = Comer::new();
    match arrive(stream, facts, control, entry, &mut comer).await {
        Ok(Arrived::In(guest)) => Some(*guest),
        Ok(Arrived::Cancels(asker, key)) => {
            // It has a limit of its own, and must not be broken off: a server that it may still reach is closed.
            login::cancel(facts, &key).await;
            drop(asker);
            None
        }
        Err(bye) => {
            note_failure(&bye, facts, control, &comer);
            None
        }
    }
}

/// What has become of a client that has said what it wants.
enum Arrived {
    /// It is let in.
    In(Box<Guest>),
    /// It wants another's query to end.
    Cancels(Box<Stream>, CancelKey),
}

async fn arrive(
    stream: Stream,
    facts: &Arc<Facts>,
    control: &Arc<Control>,
    entry: &mut Entry,
    comer: &mut Comer,
) -> Result<Arrived, Bye> {
    let config = facts.config.load_full();
    let mut entrance = Entrance::find(facts, &config, control, entry).await;
    let crowded = matches!(entrance, Entrance::Crowded(_));
    let began = tokio::time::Instant::now();
    let limit = match crowded || control.is_late() {
        true => Some(LATE_LOGIN),
        false => config.timeouts.login,
    };
    let until = |limit: Option<Duration>| limit.map(|limit| began + limit);
    let opened = tokio::select! {
        biased;
        opened = within(until(limit), login::open(stream, facts, &mut entrance, comer)) => opened?,
        // Nothing can be told to who has not said how.
        () = called_away(control) => {
            return Err(match control.farewell().filter(|_| entrance.is_displaced()) {
                Some(report) => Bye::Refused(report),
                None => Bye::Gone,
            });
        }
    };
    let mut caller = match opened {
        Opened::Cancel(asker, key) => return Ok(Arrived::Cancels(asker, key)),
        Opened::Startup(caller) => caller,
    };
    let limit = match crowded {
        true => Some(CROWDED_LOGIN),
        false if control.is_late() => Some(LATE_LOGIN),
        false => config.timeouts.login,
    };
    let login = login::login(&mut caller, entrance, facts, control, entry);
    match within(until(limit), login).await {
        Ok(admitted) => Ok(Arrived::In(Box::new(caller.into_guest(admitted)))),
        Err(bye) => {
            if let Bye::Late = bye {
                // Told in the words of Postgres; who does not even read them is not waited for.
                let text = "canceling authentication due to timeout";
                let report = ErrorReport::fatal(sqlstate::QUERY_CANCELED, text);
                let _ = tokio::time::timeout(LAST_WORDS, caller.tell(&report)).await;
            }
            Err(bye)
        }
    }
}

/// Waits for a step of a login until a moment, if there is a limit.
async fn within<T>(
    until: Option<tokio::time::Instant>,
    step: impl Future<Output = Result<T, Bye>>,
) -> Result<T, Bye> {
    match until {
        Some(until) => tokio::time::timeout_at(until, step)
            .await
            .unwrap_or(Err(Bye::Late)),
        None => step.await,
    }
}

/// Ready when a login has to end that is under way while its client is sent away: at once where that is ordered, else
/// when it had as much time as one that comes late.
pub(crate) async fn called_away(control: &Control) {
    control.token.cancelled().await;
    let at_once = poll_fn(|cx| control.poll_terminated(cx));
    let _ = tokio::time::timeout(LATE_LOGIN, at_once).await;
}

/// Counts a login that failed, and writes it to the log if such are wanted there.
fn note_failure(bye: &Bye, facts: &Facts, control: &Control, comer: &Comer) {
    let (failure, error) = match bye {
        Bye::Refused(report) | Bye::Sent(report) => {
            (LoginFailure::of(report.code), report.message.clone())
        }
        Bye::Insecure(why) => (LoginFailure::Encryption, format!("no TLS: {why}")),
        Bye::Late => {
            let text = "it took too long (timeouts.login)";
            (LoginFailure::Timeout, text.to_owned())
        }
        // Nobody is there to be told, and who looks whether the port is open does just this.
        Bye::Gone | Bye::Left => return facts.failures.login(LoginFailure::Gone),
    };
    facts.failures.login(failure);
    if facts.config.load().log.errors {
        tracing::info!(
            client = control.id,
            peer = %comer.peer,
            user = comer.user,
            database = comer.database,
            error,
            "login refused"
        );
    }
}

impl Bye {
    /// What went wrong in a session that ends so; nothing if its client wanted that.
    fn failure(&self) -> Option<SessionFailure> {
        match self {
            Self::Left => None,
            Self::Gone => Some(SessionFailure::Gone),
            Self::Refused(report) | Self::Sent(report) => Some(SessionFailure::of(report.code)),
            Self::Late | Self::Insecure(_) => Some(SessionFailure::Other),
        }
    }
}

/// The future of what the client came for, boxed so that nothing of the login stays with it.
fn serve(
    guest: Guest,
    facts: Arc<Facts>,
    control: Arc<Control>,
    worker: u16,
) -> Pin<Box<dyn Future<Output = Bye> + Send>> {
    let Guest {
        stream,
        input,
        parameters,
        place,
        ..
    } = guest;
    match place {
        Place::Console(role) => Box::pin(console::serve(stream, input, role, facts, control)),
        Place::Replication(plan) => {
            Box::pin(replication::serve(stream, input, *plan, facts, control))
        }
        Place::Pool(pool, spread) => {
            pool.stats.login();
            let startup = pool.shared.share(welcome::canonical(&pool, &parameters));
            let mut up = Flow::default();
            if !input.is_empty() {
                up.buffer = input;
            }
            let settings = pool.settings();
            let (mode, patience) = (settings.pool.mode, settings.timeouts.client_idle);
            drop(settings);
            let lexing = relay::lexing(&startup, &pool);
            let relay = Relay {
                lexing,
                client: stream,
                up,
                down: Flow::default(),
                control,
                pool,
                worker,
                mode,
                patience,
                parameters: Arc::clone(&startup),
                settled: Arc::clone(&startup),
                startup,
                statements: None,
                block: None,
                wary: false,
                kept: None,
                bound: false,
                pins: pgherd_sql::PinSet::default(),
                held: false,
                opened: None,
                lost_block: false,
                outside: 0,
                endings: None,
                commit_fails: false,
                block_refused: false,
                untold: None,
                refusing: false,
                listening: None,
                reading: false,
                presumes: false,
                strange: false,
                wrote: None,
                spread: spread.map(|group| Box::new(Spread::new(group))),
                timer: None,
            };
            Box::pin(Box::new(relay).run())
        }
    }
}
