//! Where a turn that only reads is run.
//!
//! What is a read is told before a server is taken, from the messages that are here: all of a request
//! up to its Sync or its one Query, each of whose statements calls no volatile function and locks
//! nothing; or a block that its BEGIN has said to be READ ONLY. In doubt it is none. Requests behind the
//! first wait until it is answered, since they may be none. Should the text not tell all, the replica
//! refuses (25006), and the request is sent again to the primary. What each server answers for itself is asked of the
//! primary ([`crate::hidden::Own`]). A client may wish otherwise.

mod wish;

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use pgherd_cluster::reads::{PrimaryReads, ReadRules, Reader, Strategy, choose};
use pgherd_cluster::{HostState, Standing};
use pgherd_config::{PoolMode, ReadFrom, ReadStrategy};
use pgherd_planted::{self as planted, Bug};
use pgherd_session::{Reach, Unnamed};
use pgherd_wire::error::ErrorReport;
use pgherd_wire::frontend::{self, BindHead, tag};
use pgherd_wire::{frame, sqlstate};

use crate::clock;
use crate::cluster::traits::AllTraits;
use crate::cluster::{Cluster, reads};
use crate::hidden::{Asks, Own};
use crate::judgement::{Judgement, reach};
use crate::pool::Pool;
use crate::session::behind;
use crate::session::relay::Relay;
use crate::session::requests;
use crate::session::shards;
use wish::Wish;

/// The pool that the turn is to be run on, if that is not the session's own.
#[inline]
pub(super) fn source(relay: &Relay) -> Option<Arc<Pool>> {
    // Where there is nothing to choose, this is all that it costs.
    if relay.pool.readers.load().is_empty() {
        return None;
    }
    is_readable(relay).then(|| place(relay)).flatten()
}

/// Whether what the client has sent for its next transaction may be run on a replica, by what it says and by what the
/// catalogue of the session's database tells of it.
pub(super) fn is_readable(relay: &Relay) -> bool {
    let bound = relay.kept.is_some() || !relay.pins.is_empty() || relay.lost_block;
    if bound || relay.mode != PoolMode::Transaction || relay.listening.is_some() {
        return false;
    }
    if shards::verifies(relay) {
        return false;
    }
    // A standby knows no serializable transactions.
    let isolation = relay.parameters.get("default_transaction_isolation");
    !isolation.is_some_and(|level| level.eq_ignore_ascii_case("serializable")) && is_read(relay)
}

/// The pool for what may be run on a replica, as the hosts of the session's database are now; none is the session's own.
pub(super) fn place(relay: &Relay) -> Option<Arc<Pool>> {
    if relay.pool.readers.load().is_empty() {
        return None;
    }
    let cluster = relay.pool.cluster.load();
    // Now and then the catalogue has to be looked at, and only the primary knows how it is.
    let due = relay.pool.upstream.load().hidden.0.is_due(clock::now());
    if due && relay.pool.core.held().is_none() {
        return None;
    }
    let waits = relay.pool.settings().reads.own_writes && !planted::is(Bug::StaleReads);
    let wrote = relay.wrote.filter(|_| waits);
    let wrote = wrote.map(|age| relay.pool.moment(age));
    // What is planned by a schema is answered by rows that have it.
    choice(
        &relay.pool,
        &cluster,
        wrote.max(shards::planned_since(relay)),
    )
}

/// A pool of hosts that have all that was written until that moment.
fn choice(pool: &Pool, cluster: &Cluster, until: Option<Instant>) -> Option<Arc<Pool>> {
    let (verdict, settings) = (cluster.verdict(), pool.settings());
    let rules = ReadRules {
        strategy: match settings.reads.strategy {
            ReadStrategy::LeastOutstanding => Strategy::LeastOutstanding,
            ReadStrategy::RoundRobin => Strategy::RoundRobin,
            ReadStrategy::Weighted => Strategy::Weighted,
            ReadStrategy::Latency => Strategy::Latency,
        },
        primary: match settings.reads.from {
            ReadFrom::Any => PrimaryReads::Included,
            ReadFrom::Primary | ReadFrom::Asked | ReadFrom::Replicas => PrimaryReads::Fallback,
        },
        zone: settings.reads.zone.as_deref(),
        ..ReadRules::default()
    };
    let traits = cluster.traits();
    let readers = pool.readers.load();
    let mut pools: Vec<Option<&Arc<Pool>>> = Vec::with_capacity(readers.len() + 1);
    let mut known: Vec<Reader<'_>> = Vec::with_capacity(readers.len() + 1);
    for reader in readers.iter() {
        let Some(host) = &reader.key.reader else {
            continue;
        };
        let state = verdict.host(host).filter(|it| is_reader(it));
        let arrived = || until.is_none_or(|moment| cluster.has_arrived(host, moment));
        if let Some(state) = state.filter(|_| arrived()) {
            pools.push(Some(reader));
            known.push(seen(state, reader, &traits));
        }
    }
    // Where work waits for there to be a primary, or for another one, a replica is the better one at any rate.
    let writer = verdict.writer().filter(|_| pool.core.held().is_none());
    if let Some(state) = writer.and_then(|host| verdict.host(host)) {
        pools.push(None);
        known.push(seen(state, pool, &traits));
    }
    let draw = match rules.strategy {
        Strategy::RoundRobin => pool.turns.fetch_add(1, Ordering::Relaxed),
        _ => rand::random(),
    };
    let at = choose(&rules, &known, None, draw).ok()?;
    pools.get(at).copied().flatten().cloned()
}

/// The pools for reading that may be used now.
pub(super) fn offered(pool: &Pool) -> Vec<Arc<Pool>> {
    let verdict = pool.cluster.load().verdict();
    let may = |reader: &&Arc<Pool>| {
        let host = reader.key.reader.as_ref();
        let state = host.and_then(|host| verdict.host(host));
        state.is_some_and(is_reader)
    };
    let readers = pool.readers.load();
    readers.iter().filter(may).cloned().collect()
}

/// Whether a pool for reading may be used for a host. One that has been promoted is written to by way of the pool that
/// leads to the primary, which knows of holds and fences.
fn is_reader(state: &HostState) -> bool {
    reads::is_offered(state) && state.standing != Some(Standing::Primary)
}

fn seen<'a>(state: &'a HostState, pool: &Pool, traits: &'a AllTraits) -> Reader<'a> {
    let outstanding = pool.core.outstanding();
    let of_host = traits.of(&state.name);
    Reader {
        state,
        outstanding: u32::try_from(outstanding).unwrap_or(u32::MAX),
        weight: of_host.weight,
        zone: of_host.zone.as_deref(),
        is_full: outstanding >= pool.settings().pool.size.get(),
    }
}

/// Whom a query that only reads holds out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Locks {
    /// Nobody.
    #[default]
    None,
    /// Who wants to write the rows, by `FOR UPDATE` and the like.
    Rows,
    /// Who asks for the same advisory lock.
    Advisory,
}

/// Tells it by words, wherever they stand.
fn locks(text: &[u8]) -> Locks {
    const STRENGTHS: [&[u8]; 4] = [b"update", b"share", b"no", b"key"];
    const ADVISORY: [&[u8]; 2] = [b"pg_advisory", b"pg_try_advisory"];
    let words = text.split(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_');
    let mut after_for = false;
    let mut found = Locks::None;
    for word in words.filter(|word| !word.is_empty()) {
        let begins = |with: &[u8]| {
            let head = word.get(..with.len());
            head.is_some_and(|head| head.eq_ignore_ascii_case(with))
        };
        if ADVISORY.iter().any(|with| begins(with)) {
            return Locks::Advisory;
        }
        if after_for && STRENGTHS.iter().any(|it| it.eq_ignore_ascii_case(word)) {
            found = Locks::Rows;
        }
        after_for = word.eq_ignore_ascii_case(b"for");
    }
    found
}

/// Whether it may name something by escapes, so that it is not known by its words.
fn is_escaped(text: &[u8]) -> bool {
    text.windows(3)
        .any(|begin| matches!(begin, [b'u' | b'U', b'&', b'"']))
}

/// What is said of a text that must not be run on a replica although its transaction only reads: an
/// advisory lock that is taken there locks nobody out, and what binds the session would bind it there.
pub(super) fn objection(relay: &Relay, text: &[u8], judgement: &Judgement) -> Option<ErrorReport> {
    if !relay.reading {
        return None;
    }
    let detail = match !judgement.pins.is_empty() || locks(text) == Locks::Advisory {
        true => "It takes a lock or leaves something behind that is of no use there.",
        // Who has wished for a replica wants its answer.
        false if relay.presumes && (asked(relay, text) == Asks::State || is_escaped(text)) => {
            "It may ask for what each server answers for itself, as a view of statistics or a sequence."
        }
        false => return None,
    };
    let text = "this cannot be run in a transaction that reads from a replica";
    let report = ErrorReport::error(sqlstate::FEATURE_NOT_SUPPORTED, text).detail(detail);
    Some(report.hint("Leave READ ONLY out, or SET pgherd.role = 'primary'."))
}

/// What a text asks for that each server answers for itself.
fn asked(relay: &Relay, text: &[u8]) -> Asks {
    let found = relay.pool.upstream.load().hidden.0.found();
    match found {
        Some(found) => found.own.asked(text),
        None => Own::default().asked(text),
    }
}

/// The same of all that the client has sent for its next transaction, as far as it is here.
fn asked_first(relay: &Relay) -> Asks {
    let most = Cell::new(Asks::Nothing);
    is_request_of(relay, |text, _| {
        most.set(most.get().max(asked(relay, text)));
        true
    });
    most.get()
}

/// Whether the block that the client has opened is read from a replica although nobody has wished for that.
pub(super) fn presumes(relay: &Relay) -> bool {
    let wish = Wish::of_session(&relay.parameters);
    let opened = relay.opened.as_ref();
    opened.is_some_and(|opened| Wish::of_text(opened.text()).unwrap_or(wish) == Wish::Auto)
}

/// The same of a statement that was prepared.
pub(super) fn objection_to(relay: &Relay, name: &[u8]) -> Option<ErrorReport> {
    if !relay.reading {
        return None;
    }
    let statements = relay.statements.as_deref()?;
    match (name, &statements.unnamed) {
        (
            b"",
            Unnamed::Parsed {
                judgement, tail, ..
            },
        ) => objection(relay, tail, judgement),
        _ => {
            let statement = &statements.get(name)?.statement;
            objection(relay, statement.query(), &statement.judgement)
        }
    }
}

/// Whether all that the client has sent for its next transaction is to be read from where one reads.
fn is_read(relay: &Relay) -> bool {
    let wish = Wish::of_session(&relay.parameters);
    let by_itself = relay.pool.settings().reads.from != ReadFrom::Asked;
    if let Some(opened) = &relay.opened {
        return !opened.is_serializable()
            && match Wish::of_text(opened.text()).unwrap_or(wish) {
                Wish::Primary => false,
                Wish::Replica => true,
                Wish::Auto => {
                    by_itself && opened.is_read_only() && asked_first(relay) == Asks::Nothing
                }
            };
    }
    let by_itself = by_itself && relay.pool.upstream.load().hidden.0.is_steady();
    is_request_of(relay, |text, judgement| {
        // Which names there are, and what they stand for, is not looked up here.
        let named = judgement.names || judgement.inspects;
        let plain = judgement.pins.is_empty() && judgement.plain && !named;
        let reads = match Wish::of_text(text).unwrap_or(wish) {
            Wish::Primary => false,
            Wish::Replica => true,
            Wish::Auto => by_itself && judgement.steady && asked(relay, text) == Asks::Nothing,
        };
        reads && plain && locks(text) == Locks::None && !is_escaped(text)
    })
}

/// Whether a request is whole, up to its Sync or its one Query, and `reads` holds for each statement of it. What is too
/// large to be judged is none.
pub(super) fn is_request_of(relay: &Relay, reads: impl Fn(&[u8], &Judgement) -> bool) -> bool {
    let statements = relay.statements.as_deref();
    let mut unnamed = match statements.map(|all| &all.unnamed) {
        Some(Unnamed::Parsed {
            judgement, tail, ..
        }) => reads(tail, judgement),
        _ => false,
    };
    let mut rest = relay.up.unjudged();
    loop {
        let Ok(Some(header)) = frame::header(rest) else {
            return false;
        };
        let Some((message, behind)) = rest.split_at_checked(header.total()) else {
            return false;
        };
        rest = behind;
        if !requests::is_held(relay, header.total()) {
            return false;
        }
        let body = &message[frame::HEADER_LEN..];
        let read = match header.tag {
            tag::QUERY => {
                return frontend::Query::parse(body)
                    .is_ok_and(|query| reads(query.text, &relay.judge(query.text)));
            }
            tag::SYNC => return true,
            tag::PARSE => match frontend::Parse::parse(body) {
                Ok(parse) => {
                    let bound = reach(parse.query, relay.lexing) == Reach::Bound;
                    let read = !bound && reads(parse.query, &relay.judge(parse.query));
                    if parse.name.is_empty() {
                        unnamed = read;
                    }
                    read
                }
                Err(_) => false,
            },
            tag::BIND => match BindHead::parse(body) {
                Ok(Some(bind)) if bind.statement.is_empty() => unnamed,
                // A statement that this request prepares was judged above.
                Ok(Some(bind)) => statements
                    .and_then(|all| all.get(bind.statement))
                    .is_none_or(|held| {
                        let statement = &held.statement;
                        // It may be bound again and again by short messages.
                        statement.tail.len() <= behind::BOUND_MAX
                            && reads(statement.query(), &statement.judgement)
                    }),
                _ => false,
            },
            tag::DESCRIBE | tag::EXECUTE | tag::CLOSE | tag::FLUSH => true,
            _ => false,
        };
        if !read {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Locks, locks};

    #[test]
    fn what_holds_others_out_is_known_by_its_words() {
        for (text, expected) in [
            ("select a from t where b = 1", Locks::None),
            ("select substring(a for 2) from t", Locks::None),
            ("select a from t For\nUpdate", Locks::Rows),
            ("select a from t for no key update skip locked", Locks::Rows),
            ("select PG_ADVISORY_xact_lock(1)", Locks::Advisory),
            ("select pg_try_advisory_lock_shared(1)", Locks::Advisory),
        ] {
            assert_eq!(locks(text.as_bytes()), expected, "{text}");
        }
    }
}
