//! Requests that ask for no setting, and so run alike on a server that has had settings which the session has not.
//!
//! Whether anybody shares servers by that is for the configuration to say: what the catalogue says may be out of date.
//!
//! It is told before a server is taken, from the messages that are here, as of reads: all of a request up to its Sync
//! or its one Query. No text in it names a setting that it asks for, and the catalogue has no view, policy, trigger or
//! default by which it would ask for one unseen; nor does it leave anything behind, so that the session is not bound to
//! a server where the next request may ask. That one waits until this is answered. In doubt it is not blind, and gets a
//! server that has had nothing else. A block never is, since nobody knows how it goes on.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pgherd_config::{FunctionCheck, PoolMode, SettingsApart};
use pgherd_sql::{Reading, Runs, SequenceEffect, Span, Step, Value, script, sets_at_first};
use pgherd_wire::frame;
use pgherd_wire::frontend::tag;

use crate::clock;
use crate::judgement::{Judgement, Listens};
use crate::pool::{Pool, ServerLease};
use crate::server::ServerConn;
use crate::session::reads;
use crate::session::relay::Relay;
use crate::session::setup::Listener;
use crate::session::survey;

/// A server that has had more than this serves nobody any more who has not: it never forgets one of them.
const MET_MAX: usize = 256;
/// A session that has set more is not sent there, so that it does not come to be bound there by one more.
const SETTINGS_MAX: usize = 64;
/// The same in bytes of names and values.
const BYTES_MAX: usize = 16 * 1024;

/// Whether the request in front may run on such a server, if its texts allow it.
pub(super) fn may_be(relay: &Relay, pool: &Pool, server: &ServerConn) -> bool {
    let settings = pool.settings();
    let is_bound = relay.mode == PoolMode::Session
        || relay.kept.is_some()
        || !relay.pins.is_empty()
        || relay.opened.is_some()
        || relay.lost_block
        || relay.listening.is_some();
    settings.pool.custom_settings_apart == SettingsApart::IfAsked
        && !is_bound
        && relay.spread.is_none()
        // What a replica does not know yet of its catalogue cannot be told.
        && pool.key.reader.is_none()
        && settings.pool.function_check == FunctionCheck::Auto
        && relay.parameters.len() < SETTINGS_MAX
        && relay.parameters.bytes() < BYTES_MAX
        && server.doubted.is_empty()
        && server.applied.count_met() <= MET_MAX
}

/// Asks the catalogue, if that is due; `None` if the server is broken.
pub(super) async fn survey(relay: &Relay, lease: ServerLease) -> Option<ServerLease> {
    let hidden = Arc::clone(&lease.about.upstream.hidden.0);
    let Some(claim) = hidden.claim(clock::now()) else {
        return Some(lease);
    };
    let mut lease = crate::server::vet(lease)?;
    let listener = Listener {
        pool: Arc::clone(&relay.pool),
        id: relay.control.id,
    };
    if let Some(found) = survey::run(&mut lease, listener).await.ok()? {
        hidden.learn(&claim, found);
    }
    relay.pool.stats.surveyed();
    lease.exchange.is_over().then_some(lease)
}

/// Whether no text of the request in front asks for a setting, nor runs what does.
pub(super) fn is_blind(relay: &Relay, server: &ServerConn) -> bool {
    let hidden = &server.about.upstream.hidden.0;
    let is_alone = is_one_statement(relay.up.unjudged());
    reads::is_request_of(relay, |text, judgement| {
        // A prepared statement is kept with what stands behind its text.
        let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
        let how = judgement.lexing;
        leaves_nothing(relay, judgement)
            && !names_settings(text)
            && match judgement.follows {
                // What is set is taken back with what fails behind it, and where that leaves a session is not known.
                true => is_alone && judgement.single && sets_only(relay, text),
                false => judgement.rows && hidden.is_blind(text, judgement.runs, how),
            }
    })
}

/// Whether nothing that may fail stands behind the first statement that a request runs. Of a simple query, that is
/// told by its text.
fn is_one_statement(mut rest: &[u8]) -> bool {
    let mut has_run = false;
    while let Ok(Some(header)) = frame::header(rest) {
        match header.tag {
            tag::QUERY => return !has_run,
            tag::SYNC => return true,
            tag::CLOSE | tag::FLUSH => {}
            _ if has_run => return false,
            tag::EXECUTE => has_run = true,
            _ => {}
        }
        let Some(behind) = rest.get(header.total()..) else {
            return false;
        };
        rest = behind;
    }
    false
}

/// Whether a text does nothing that may bind its session.
fn leaves_nothing(relay: &Relay, judgement: &Judgement) -> bool {
    let asks_sequences = || relay.pool.asks_sequences.load(Ordering::Relaxed);
    let is_kept = match judgement.sequence {
        // A function may use one unseen.
        SequenceEffect::None => judgement.runs == Runs::Unknown && asks_sequences(),
        SequenceEffect::Uses => asks_sequences(),
        SequenceEffect::Asks | SequenceEffect::Both => true,
    };
    judgement.pins.is_empty()
        && judgement.unpins.is_empty()
        && judgement.plain
        && judgement.listens == Listens::Nothing
        && !judgement.names
        && !judgement.inspects
        && !judgement.alters
        && !judgement.hides
        && !is_kept
}

/// Whether a text has the name in it of what tells settings, `current_setting` and the views, wherever it stands.
fn names_settings(text: &[u8]) -> bool {
    const NAME: &[u8] = b"setting";
    text.windows(NAME.len())
        .any(|part| part.eq_ignore_ascii_case(NAME))
}

/// Whether a text only gives values to settings of the users' own, which all stand in it.
fn sets_only(relay: &Relay, text: &[u8]) -> bool {
    let Reading::Script(parts) = script(text, relay.lexing) else {
        return false;
    };
    let is_given = |step: &Step| {
        matches!(step, Step::Change(changes) if changes.iter().all(|change| {
            change.name.contains('.')
                && change.named_by.is_none()
                && change.span == Span::Session
                && matches!(change.value, Value::Text(_))
        }))
    };
    // A call of `set_config` may stand beside others.
    sets_at_first(text, relay.lexing).is_some() && parts.iter().all(|part| is_given(&part.step))
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use pgherd_wire::frontend;

    use super::{is_one_statement, names_settings};

    #[test]
    fn a_pipeline_is_one_statement_if_nothing_is_behind_the_first() {
        let made = |word: &str| {
            let mut out = BytesMut::new();
            let built = match word {
                "query" => frontend::query(&mut out, b"select 1"),
                "parse" => frontend::parse(&mut out, b"", b"select 1", &[]),
                "bind" => frontend::bind(&mut out, b"", b"", &[], &[], &[]),
                "execute" => frontend::execute(&mut out, b"", 0),
                "close" => frontend::close(&mut out, frontend::Target::Portal, b""),
                _ => {
                    frontend::sync(&mut out);
                    Ok(())
                }
            };
            built.expect("it is short");
            out
        };
        for (words, alone) in [
            ("query query", true),
            ("parse bind execute sync query", true),
            ("parse bind execute close sync parse", true),
            ("parse bind execute bind execute sync", false),
            ("parse bind execute parse sync", false),
            ("parse bind execute query", false),
            ("parse bind execute", false),
            ("", false),
        ] {
            let request: Vec<u8> = words.split_whitespace().flat_map(made).collect();
            assert_eq!(is_one_statement(&request), alone, "{words}");
        }
    }

    #[test]
    fn what_tells_settings_is_found_by_its_name() {
        for text in [
            "select Current_Setting('app.x', true)",
            "select * from pg_settings",
            "select pg_show_all_settings()",
            "select t.current_setting from t",
        ] {
            assert!(names_settings(text.as_bytes()), "{text}");
        }
        assert!(!names_settings(b"select set_config('app.x', '1', false)"));
        assert!(!names_settings(b"select 1"));
    }
}
