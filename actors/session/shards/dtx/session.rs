//! Statements about the transaction and the session, which all its servers have to take.

use pgherd_session::literal;
use pgherd_sql::{Block, Change, Reading, Span, Step, block, script};
use pgherd_wire::backend;
use pgherd_wire::error::ErrorReport;
use pgherd_wire::sqlstate;

use super::named::{Named, named};
use super::statement::Done;
use super::{Dtx, Fault, Kind};
use crate::session::follow;
use crate::session::relay::Relay;
use crate::session::shards::plan::unsupported;
use crate::session::shards::word::{self, Word};

/// What is said of what does not run here.
const OTHER: &str = "this statement is not supported in a transaction over several shards";

/// What a statement of the session is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Deed {
    /// BEGIN, in one form or the other.
    Begin(&'static [u8]),
    Commit,
    Rollback,
    /// It sets something, or marks, or goes back to a mark; it answers with this.
    Step(Step, &'static [u8]),
    /// It asks, and runs on one server.
    Ask,
    /// It prepares, runs or forgets a statement by its name.
    Named(Named),
    /// It is not supported here.
    Other,
}

/// It is none that runs here.
pub(super) fn other() -> ErrorReport {
    unsupported(OTHER)
}

/// A block begins behind statements that are not in one.
pub(super) fn begun_late() -> ErrorReport {
    let text = "BEGIN behind statements for several shards in one pipeline is not supported";
    unsupported(text).hint("Send a Sync between.")
}

/// What a text is, if it is of the session.
pub(super) fn deed(relay: &Relay, text: &[u8]) -> Option<Deed> {
    if let Some(named) = named(text, relay.lexing) {
        return Some(Deed::Named(named));
    }
    if word::first(text, relay.lexing) != Word::OfSession {
        return None;
    }
    match block(text, relay.lexing) {
        Some(Block::Begin) => return Some(Deed::Begin(b"BEGIN")),
        Some(Block::Start) => return Some(Deed::Begin(b"START TRANSACTION")),
        Some(Block::Commit) => return Some(Deed::Commit),
        Some(Block::Rollback) => return Some(Deed::Rollback),
        None => {}
    }
    let word = word::word(text, relay.lexing).unwrap_or_default();
    let is = |name: &[u8]| word.eq_ignore_ascii_case(name);
    if [&b"show"[..], b"fetch", b"move", b"close"]
        .iter()
        .any(|name| is(name))
    {
        return Some(Deed::Ask);
    }
    let said: &[u8] = match () {
        () if is(b"savepoint") => b"SAVEPOINT",
        () if is(b"release") => b"RELEASE",
        () if is(b"rollback") || is(b"abort") => b"ROLLBACK",
        () if is(b"set") => b"SET",
        () if is(b"reset") => b"RESET",
        () => return Some(Deed::Other),
    };
    let Reading::Script(parts) = script(text, relay.lexing) else {
        return Some(Deed::Other);
    };
    let mut steps = parts.into_iter().map(|part| part.step);
    match (steps.next(), steps.next()) {
        (Some(step), None) if step != Step::Other => Some(Deed::Step(step, said)),
        _ => Some(Deed::Other),
    }
}

impl Dtx {
    /// Runs a statement of the session.
    pub(super) async fn act(
        &mut self,
        relay: &mut Relay,
        text: &[u8],
        deed: Deed,
    ) -> Result<Done, Fault> {
        let goes_back = matches!(deed, Deed::Step(Step::RollbackTo(_), _));
        if self.failed && !matches!(deed, Deed::Commit | Deed::Rollback) && !goes_back {
            return Err(match word::ends(text, relay.lexing) {
                // Postgres would end it, and begin another one.
                true => other().into(),
                false => failed().into(),
            });
        }
        if deed == Deed::Commit {
            self.check(relay).await?;
        }
        match deed {
            Deed::Begin(said) => self.begin(relay, text, said),
            Deed::Commit | Deed::Rollback if self.kind == Kind::Implicit => {
                let text = "there is no transaction in progress";
                let report = ErrorReport::warning(sqlstate::NO_ACTIVE_SQL_TRANSACTION, text);
                report.encode_notice(relay.down.made());
                // It ends what the pipeline has done so far, all the same.
                if !self.legs.is_empty()
                    && !self.finish(relay, deed == Deed::Commit).await?
                    && deed == Deed::Commit
                {
                    return Err(uncommitted().into());
                }
                let said: &[u8] = if deed == Deed::Commit {
                    b"COMMIT"
                } else {
                    b"ROLLBACK"
                };
                Ok(Done::Complete(said.into()))
            }
            Deed::Commit => {
                let committed = self.finish(relay, true).await;
                self.kind = Kind::Implicit;
                let said: &[u8] = if committed? { b"COMMIT" } else { b"ROLLBACK" };
                Ok(Done::Complete(said.into()))
            }
            Deed::Rollback => {
                self.finish(relay, false).await?;
                Ok(Done::Complete(b"ROLLBACK"[..].into()))
            }
            Deed::Step(step, said) => {
                self.step(relay, text, step).await?;
                Ok(Done::Complete(said.into()))
            }
            Deed::Ask => {
                let done = self.ask(relay, text).await?;
                self.has_closed(relay, text, None);
                Ok(done)
            }
            Deed::Named(named) => self.named(relay, text, named, true, &[]).await,
            Deed::Other => Err(other().into()),
        }
    }

    fn begin(
        &mut self,
        relay: &mut Relay,
        text: &[u8],
        said: &'static [u8],
    ) -> Result<Done, Fault> {
        match (self.kind, self.legs.is_empty()) {
            (Kind::Implicit, true) => {
                self.kind = Kind::Block;
                self.opening = text.into();
            }
            (Kind::Implicit, false) => return Err(begun_late().into()),
            (Kind::Block, _) => {
                let text = "there is already a transaction in progress";
                let report = ErrorReport::warning(sqlstate::ACTIVE_SQL_TRANSACTION, text);
                report.encode_notice(relay.down.made());
            }
        }
        Ok(Done::Complete(said.into()))
    }

    /// Takes over what the first server has reported. While the transaction has failed, one of them may have gone back
    /// to what was set before, and the others not: that is told once all of them have.
    pub(super) fn heed(&mut self, relay: &mut Relay) {
        let home = self.home.filter(|_| !self.failed);
        let Some(leg) = home.and_then(|home| self.legs.get_mut(&home)) else {
            return;
        };
        for (name, value) in std::mem::take(&mut leg.reported) {
            reported(relay, &name, &value);
        }
    }

    /// All servers take a step.
    async fn step(&mut self, relay: &mut Relay, text: &[u8], step: Step) -> Result<(), Fault> {
        if self.kind == Kind::Implicit
            && matches!(
                step,
                Step::Savepoint(_) | Step::Release(_) | Step::RollbackTo(_)
            )
        {
            let text = "SAVEPOINT can only be used in transaction blocks";
            return Err(ErrorReport::error(sqlstate::NO_ACTIVE_SQL_TRANSACTION, text).into());
        }
        if self.kind == Kind::Implicit && is_local(&step) && !self.scripted {
            let text = "SET LOCAL can only be used in transaction blocks";
            let report = ErrorReport::warning(sqlstate::NO_ACTIVE_SQL_TRANSACTION, text);
            report.encode_notice(relay.down.made());
        }
        if self.legs.is_empty() {
            let home = self.anywhere(relay);
            self.open(relay, &[home]).await?;
        }
        let mut whole = text.to_vec();
        if let Some(more) = follow::remainder(relay, &step) {
            whole.extend_from_slice(b"\n;");
            whole.extend_from_slice(more.as_bytes());
        }
        if let Step::RollbackTo(_) = step {
            // It was taken behind the savepoint, perhaps.
            let again = format!("\n;SELECT {}", self.badge(relay).taken());
            whole.extend_from_slice(again.as_bytes());
        }
        self.have_all_run(&whole, &step).await?;
        if let Step::RollbackTo(_) = step {
            self.failed = false;
            // Those from behind the savepoint are gone, and which they are is not known.
            self.forget_all(relay).await?;
        }
        let rereads = follow::rereads(relay, &step);
        follow::step(relay, step);
        self.heed(relay);
        for leg in self.legs.values_mut() {
            leg.lease.is_set_to(&relay.parameters);
            leg.lease.misread |= rereads;
        }
        Ok(())
    }
}

impl Dtx {
    /// Has one server after the other take a step by this text.
    async fn have_all_run(&mut self, text: &[u8], step: &Step) -> Result<(), Fault> {
        let (mut asked, mut broken) = (0, None);
        for leg in self.legs.values_mut() {
            asked += 1;
            match leg.run(text).await {
                Ok(answer) => broken = answer.error,
                Err(report) => {
                    leg.lost = true;
                    broken = Some(report);
                }
            }
            if broken.is_some() {
                break;
            }
        }
        let Some(report) = broken else {
            return Ok(());
        };
        let mut is_lost = false;
        for leg in self.legs.values_mut().take(asked) {
            // Of a setting of the users' own something stays there, whatever is taken back.
            leg.may_have_taken(step);
            is_lost |= leg.lost;
        }
        Err(match is_lost {
            true => self.lost(&report.message),
            false => report.into(),
        })
    }
}

/// Whether a step is a `SET LOCAL`.
fn is_local(step: &Step) -> bool {
    let local = |change: &Change| change.span == Span::Local;
    matches!(step, Step::Change(changes) if changes.iter().any(local))
}

/// What is said where nothing else is known of why it is not committed.
pub(super) fn uncommitted() -> ErrorReport {
    let text = "the transaction was not committed";
    ErrorReport::error(sqlstate::SERIALIZATION_FAILURE, text)
}

/// A server of the transaction has reported a parameter: it is one of the client's, who is told, too.
pub(super) fn reported(relay: &mut Relay, name: &str, value: &str) {
    if !follow::is_reported(relay, name) {
        return;
    }
    let mut parameters = (*relay.parameters).clone();
    parameters.set(name, value);
    let parameters = relay.pool.shared.share(parameters);
    relay.set_parameters(parameters);
    let built = backend::parameter_status(relay.down.made(), name.as_bytes(), value.as_bytes());
    debug_assert!(built.is_ok(), "the server has sent as much");
}

/// What is said of everything in a failed transaction but its end.
pub(super) fn failed() -> ErrorReport {
    let text = "current transaction is aborted, commands ignored until end of transaction block";
    ErrorReport::error(sqlstate::IN_FAILED_SQL_TRANSACTION, text)
}

/// The moment at which the transaction began on a server, as every server reads it alike.
pub(super) fn moment() -> String {
    let form = literal("YYYY-MM-DD HH24:MI:SS.US");
    format!("SELECT pg_catalog.to_char(pg_catalog.now() AT TIME ZONE 'UTC', {form}) || '+00'")
}
