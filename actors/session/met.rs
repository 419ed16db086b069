//! The users' own settings (`app.tenant`) that a server has had, and forgets only with its connection.
//!
//! Where a new connection has NULL or an error, a server that has ever had such a setting gives an empty text. So
//! whoever has never had it needs a server that never had it either; whoever has, has to find the empty text. Policies
//! and functions read settings unseen, so that this holds for all that is sent, but for a statement that sets what it
//! would find, and, if that is wished, for one that surely asks for no setting ([`blind`]). Clients that set the same
//! meet on the same servers, and the usual path compares one pointer.

use std::fmt::Write as _;
use std::sync::Arc;

use pgherd_config::SettingsApart;
use pgherd_session::{Parameters, literal};
use pgherd_sql::sets_at_first;
use pgherd_wire::frame;
use pgherd_wire::frontend::{self, tag};

use crate::clock;
use crate::pool::{Pool, ServerLease};
use crate::server::ServerConn;
use crate::session::blind;
use crate::session::check;
use crate::session::checkout::{self, Denied, Instead};
use crate::session::relay::Relay;
use crate::session::setup;

/// A server that has had no setting that the session has not: this one, another idle one, or a new one in its place.
/// `None` if a pool for reading has nothing to give.
///
/// # Errors
/// As of the queue of the pool.
pub(super) async fn suited(
    relay: &mut Relay,
    pool: &Arc<Pool>,
    mut lease: ServerLease,
    wanted: &Parameters,
    asked: std::time::Instant,
    instead: Instead,
) -> Result<Option<ServerLease>, Denied> {
    if lease.applied.has_met_as(wanted) || !is_wanted(pool) {
        return Ok(Some(lease));
    }
    let wanted = &with_next(relay, wanted);
    loop {
        let mut unfit = match fitting(pool, relay.worker, lease, wanted) {
            Ok(lease) => return Ok(Some(lease)),
            Err(unfit) => unfit,
        };
        if blind::may_be(relay, pool, &unfit) {
            let surveyed = blind::survey(relay, unfit);
            match checkout::unless_ended(&relay.control, surveyed).await? {
                Some(lease) if blind::is_blind(relay, &lease) => {
                    relay.strange = true;
                    return Ok(Some(lease));
                }
                Some(lease) => unfit = lease,
                None => match Box::pin(checkout::queue(relay, pool, asked, instead)).await? {
                    Some(next) => {
                        lease = next;
                        continue;
                    }
                    None => return Ok(None),
                },
            }
        }
        let learned = learn(pool, unfit, wanted);
        let Some(unfit) = checkout::unless_ended(&relay.control, learned).await? else {
            // It was broken, and the next may be as unfit.
            match Box::pin(checkout::queue(relay, pool, asked, instead)).await? {
                Some(next) => lease = next,
                None => return Ok(None),
            }
            continue;
        };
        if !is_foreign(pool, &unfit.applied, wanted) {
            return Ok(Some(unfit));
        }
        return match pool.core.exchange(unfit, relay.worker, asked) {
            Ok(waiter) => {
                relay.control.wait(asked);
                checkout::wait(relay, pool, waiter, asked, instead).await
            }
            Err(_) if pool.key.reader.is_some() => Ok(None),
            Err(error) => Err(checkout::deny(relay, &error, pool)),
        };
    }
}

/// Of this server and the idle ones, one that has had just what is wanted, else one that has had nothing else: those
/// who set nothing of the kind keep servers of their own by that, too. If there is none, the server comes back.
fn fitting(
    pool: &Pool,
    worker: u16,
    mut lease: ServerLease,
    wanted: &Parameters,
) -> Result<ServerLease, ServerLease> {
    let is_same = |server: &ServerConn| server.applied.has_met_as(wanted);
    let fits = |server: &ServerConn| !is_foreign(pool, &server.applied, wanted);
    if is_same(&lease) {
        return Ok(lease);
    }
    let better = pool.core.pick(worker, |server| is_same(server));
    let better = better.or_else(|| match fits(&lease) {
        true => None,
        false => pool.core.pick(worker, |server| fits(server)),
    });
    match better {
        Some(better) => {
            lease.mark_clean();
            Ok(better)
        }
        None if fits(&lease) => Ok(lease),
        None => Err(lease),
    }
}

/// Whether a server has had what would be found there by mistake.
fn is_foreign(pool: &Pool, applied: &Parameters, wanted: &Parameters) -> bool {
    let mut strange = applied.strange_to(wanted).peekable();
    if strange.peek().is_none() {
        return false;
    }
    let now = clock::now();
    strange.any(|name| !pool.natives.has(name, now))
}

/// Whether clients are kept apart by this at all.
fn is_wanted(pool: &Pool) -> bool {
    pool.settings().pool.custom_settings_apart != SettingsApart::Never
}

/// Whether all that a server has had is the session's own, or is there from the start, or nobody minds.
pub(super) fn is_known(relay: &Relay, applied: &Parameters) -> bool {
    !is_wanted(&relay.pool) || !is_foreign(&relay.pool, applied, &relay.parameters)
}

/// What a session will have had once its next statement has run.
fn with_next(relay: &Relay, wanted: &Parameters) -> Parameters {
    let mut wanted = wanted.clone();
    sets_next(relay).iter().for_each(|name| wanted.meet(name));
    wanted
}

/// What the client's next statement sets, if that is all it does.
fn sets_next(relay: &Relay) -> Vec<Box<str>> {
    let here = relay.up.unjudged();
    let Ok(Some(header)) = frame::header(here) else {
        return Vec::new();
    };
    let Some(message) = here.get(..header.total()) else {
        return Vec::new();
    };
    let body = &message[frame::HEADER_LEN..];
    let text = match header.tag {
        tag::QUERY => frontend::Query::parse(body).map(|query| query.text),
        tag::PARSE => frontend::Parse::parse(body).map(|parse| parse.query),
        _ => return Vec::new(),
    };
    text.ok()
        .and_then(|text| sets_at_first(text, relay.lexing))
        .unwrap_or_default()
}

/// Asks a server which settings it has from its start: those that its database, its role or its configuration gives a
/// value, and those that belong to a library. `None` if it is broken.
async fn learn(pool: &Pool, lease: ServerLease, wanted: &Parameters) -> Option<ServerLease> {
    let mut lease = crate::server::vet(lease)?;
    let applied = Arc::clone(&lease.applied);
    let now = clock::now();
    let mut sql = String::from("SELECT pg_catalog.concat_ws(' ', ''");
    let mut asked = Vec::new();
    let strange = applied.strange_to(wanted);
    for name in strange.filter(|name| !pool.natives.has(name, now)) {
        let value = literal(name);
        // Writing to a String cannot fail.
        let _ = write!(
            sql,
            ", CASE WHEN pg_catalog.set_config({value}, NULL, true) OPERATOR(pg_catalog.<>) '' OR {} IS NOT NULL OR \
             EXISTS (SELECT FROM pg_catalog.pg_settings AS s WHERE \
             pg_catalog.lower(s.name) OPERATOR(pg_catalog.=) {value}::pg_catalog.text) THEN '{}' END",
            check::default_of(name),
            asked.len()
        );
        asked.push(name);
    }
    sql.push(')');
    let answer = setup::run(&mut lease, sql.as_bytes()).await.ok()?;
    let told = String::from_utf8_lossy(answer.first().unwrap_or_default()).into_owned();
    for name in told
        .split(' ')
        .filter_map(|at| asked.get(at.parse::<usize>().ok()?))
    {
        pool.natives.learn(name, now);
    }
    lease.exchange.is_over().then_some(lease)
}
