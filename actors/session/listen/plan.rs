//! What is to be done with a LISTEN or an UNLISTEN.

use std::sync::Arc;
use std::time::Duration;

use pgherd_config::PoolMode;
use pgherd_sql::parse::{self, Channel};
use pgherd_sql::{Listened, Pin};
use pgherd_wire::error::ErrorReport;
use pgherd_wire::sqlstate;

use crate::herald::audience::{Announced, is_same_place};
use crate::herald::table::{Asked, Change};
use crate::judgement::{Judgement, Listens};
use crate::pool::PoolMessage;
use crate::server::ServerAbout;
use crate::session::listen::Stall;
use crate::session::relay::Relay;
use crate::session::shards;
use crate::session::turn::{Check, Turn};

/// How long the herald may take, however long a checkout may: the client holds a server meanwhile.
const PATIENCE: Duration = Duration::from_secs(15);

/// What is to be done.
pub(super) enum Plan {
    /// The server takes it like any other statement.
    Usual,
    /// The server takes it, and the session is bound to that server.
    Pin,
    /// Something must happen first.
    Later,
    /// It is refused.
    Refuse(Box<ErrorReport>),
    /// The marks of these changes are sent in its place.
    Send(Vec<Asked>),
}

/// Says what is to be done with a text that listens; `alone` if it does nothing to a transaction and
/// nothing else is under way.
pub(super) fn plan(turn: &mut Turn<'_>, text: &[u8], judgement: &Judgement, alone: bool) -> Plan {
    let relay = &*turn.relay;
    // A server that is bound to a session knows itself what that listens to.
    let bound = relay.mode == PoolMode::Session || relay.pins.contains(Pin::Listen);
    // The server says itself that it takes nothing in a failed transaction, unless the text gets out of that.
    if bound || judgement.plain && turn.server.exchange.has_failed() {
        return Plan::Usual;
    }
    let listening = relay.listening.as_deref();
    let listens = listening.is_some_and(|listening| listening.is_listening());
    let change = match judgement.listens {
        Listens::Opaque => None,
        _ => parse::channel(text).and_then(|channel| change(relay, channel)),
    };
    match (judgement.listens, change) {
        (Listens::Nothing, _) => Plan::Usual,
        // It ends nothing that there is.
        (Listens::Unlisten, _) if !listens => Plan::Usual,
        (Listens::Listen | Listens::Unlisten, Some(change)) if turn.server.about.backend != 0 => {
            follow(turn, vec![change])
        }
        (Listens::Listen, _) if !listens => Plan::Pin,
        (Listens::Opaque, _) if !listens => Plan::Usual,
        (Listens::Opaque, _)
            if alone
                && judgement.unpins.contains(Pin::Listen)
                && !judgement.pins.contains(Pin::Listen) =>
        {
            Plan::Usual
        }
        _ => Plan::Refuse(Box::new(unfollowed())),
    }
}

/// Says what is to be done with a text in which these statements listen, among others. A block that has failed
/// by then refuses a mark as it refuses them.
pub(super) fn several(turn: &mut Turn<'_>, found: &[Listened], judgement: &Judgement) -> Plan {
    let relay = &*turn.relay;
    let bound = relay.mode == PoolMode::Session || relay.pins.contains(Pin::Listen);
    if bound || judgement.plain && turn.server.exchange.has_failed() {
        return Plan::Usual;
    }
    let listening = relay.listening.as_deref();
    let listens = listening.is_some_and(|listening| listening.is_listening());
    let begins = |one: &Listened| matches!(one.channel, Channel::Listen(_));
    if !listens && !found.iter().any(begins) {
        // It ends nothing that there is.
        return Plan::Usual;
    }
    let changes = found.iter().map(|one| change(relay, one.channel.clone()));
    match changes.collect::<Option<Vec<_>>>() {
        Some(changes) if turn.server.about.backend != 0 => follow(turn, changes),
        _ if listens => Plan::Refuse(Box::new(unfollowed())),
        _ => Plan::Pin,
    }
}

/// What the statement changes; `None` where the herald cannot know the channel as the server does.
fn change(relay: &Relay, channel: Channel) -> Option<Change> {
    let name = |name: String| {
        let known = name.is_ascii() || is_alike(relay) && takes_any(relay);
        // The herald's own channel is nobody else's to leave.
        let free = name.as_bytes() != &**relay.pool.audience.marks();
        (known && free).then(|| name.into_bytes().into())
    };
    Some(match channel {
        Channel::Listen(of) => {
            // There the server refuses it in its own words.
            if is_standby(relay) {
                return None;
            }
            Change::Listen(name(of)?)
        }
        Channel::Unlisten(of) => Change::Unlisten(name(of)?),
        Channel::UnlistenAll => Change::UnlistenAll,
    })
}

fn follow(turn: &mut Turn<'_>, changes: Vec<Change>) -> Plan {
    match turn.listen.looked_at.take().map(|stall| *stall) {
        Some(Stall {
            announced,
            outcome: Some(outcome),
            ..
        }) => return arrived(turn, announced, outcome),
        Some(waiting) => {
            turn.listen.stall = Some(Box::new(waiting));
            return Plan::Later;
        }
        None => {}
    }
    if turn.server.exchange.executes() {
        // What was committed before it must be known to be so, and whether its block has failed.
        turn.check = Check::Quiet;
        return Plan::Later;
    }
    match announce(turn, changes) {
        Ok(announced) => {
            turn.listen.stall = Some(Box::new(Stall {
                announced,
                timer: Box::pin(tokio::time::sleep(patience(turn.relay))),
                outcome: None,
            }));
            Plan::Later
        }
        Err(report) => Plan::Refuse(Box::new(report)),
    }
}

fn arrived(
    turn: &mut Turn<'_>,
    announced: Announced,
    outcome: Result<Arc<ServerAbout>, Box<ErrorReport>>,
) -> Plan {
    let listening = turn.relay.listening.as_deref();
    match (outcome, listening) {
        (Err(report), _) => Plan::Refuse(report),
        (Ok(about), Some(listening)) if is_same_place(&about, &turn.server.about) => {
            // All that others have notified from there came before.
            listening.hold(turn.server);
            Plan::Send(announced.sent())
        }
        (Ok(_), _) => Plan::Refuse(Box::new(elsewhere())),
    }
}

fn announce(turn: &mut Turn<'_>, changes: Vec<Change>) -> Result<Announced, ErrorReport> {
    let relay = &mut *turn.relay;
    let settings = relay.pool.settings().clone();
    let listening = match relay.listening.take() {
        Some(listening) => listening,
        None => {
            let listening = relay.pool.audience.join(
                &relay.control,
                &relay.pool.circle,
                &settings.notifications,
            )?;
            // Should nobody be there to hear it, the next one looks by itself.
            let _ = relay.pool.manager.cast(PoolMessage::Listen);
            shards::listens(relay);
            Box::new(listening)
        }
    };
    let max = settings.notifications.max_channels.get();
    let announced = listening.announce(changes, max);
    relay.listening = Some(listening);
    announced
}

fn patience(relay: &Relay) -> Duration {
    let limit = relay.pool.settings().timeouts.checkout;
    limit.map_or(PATIENCE, |limit| limit.min(PATIENCE))
}

/// The herald has not come to listen in time.
pub(super) fn timed_out(relay: &Relay) -> ErrorReport {
    let report = ErrorReport::error(
        sqlstate::QUERY_CANCELED,
        "no server connection that listens for this session was ready in time (checkout timeout)",
    );
    let trouble = relay.listening.as_deref().and_then(|own| own.trouble());
    match trouble {
        Some(trouble) => report.detail(trouble),
        None => report,
    }
}

fn elsewhere() -> ErrorReport {
    ErrorReport::error(
        sqlstate::CONNECTION_FAILURE,
        "the server connection that listens leads to another server than this transaction's",
    )
    .hint("The configuration was changed. Try again.")
}

pub(super) fn unfollowed() -> ErrorReport {
    ErrorReport::error(
        sqlstate::FEATURE_NOT_SUPPORTED,
        "this LISTEN or UNLISTEN cannot be joined to those of the session before it",
    )
    .hint(
        "Send LISTEN and UNLISTEN in a text without PREPARE, EXECUTE and DEALLOCATE, with names of \
         fewer than 63 bytes that are ASCII or in the server's encoding.",
    )
}

/// What the server last said of a parameter of its own.
fn reported(relay: &Relay, name: &str) -> Option<String> {
    let welcome = relay.pool.welcome.load();
    let said = &welcome.as_deref()?.parameters;
    let found = said.iter().find(|(known, _)| known == name);
    found.map(|(_, value)| value.clone())
}

fn is_standby(relay: &Relay) -> bool {
    reported(relay, "in_hot_standby").is_some_and(|value| value == "on")
}

/// Whether the server sends text to this client as it is, without conversion.
pub(super) fn is_alike(relay: &Relay) -> bool {
    let own = relay.parameters.get("client_encoding").map(plain);
    let own = own.or_else(|| reported(relay, "client_encoding").map(|name| plain(&name)));
    let Some(servers) = reported(relay, "server_encoding").map(|name| plain(&name)) else {
        return false;
    };
    let raw = "SQLASCII";
    own.is_some_and(|own| own == servers || own == raw) || servers == raw
}

/// Whether what this parser takes for a name is one in the server's encoding: another one would refuse
/// it to the herald, and so to everybody.
fn takes_any(relay: &Relay) -> bool {
    let servers = reported(relay, "server_encoding").map(|name| plain(&name));
    servers.is_some_and(|servers| matches!(&*servers, "UTF8" | "SQLASCII"))
}

/// An encoding's name as it is compared.
fn plain(name: &str) -> String {
    let letters = name.chars().filter(char::is_ascii_alphanumeric);
    letters.collect::<String>().to_ascii_uppercase()
}
