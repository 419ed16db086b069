//! Under which settings a text is read, and for whom a server's copy of it may be.
//!
//! Postgres reads the constants of a statement when that is prepared, and once more wherever something has changed that
//! it uses, then under the settings of whoever binds it; under those its plan is made, too, in which much is worked out
//! already. Names it looks up anew where the path is another, but it keeps the types of parameters, and in a block
//! refuses to give other columns. So clients share a statement only where all that has a say in it is the same. What one
//! of them had to put on a server, or has bound there, while it was not, or was not known, is put there anew for the next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pgherd_config::FunctionCheck;
use pgherd_session::{Block, Parameters, Reach, Statement, changes_naming, changes_reading};
use pgherd_sql::{Change, Pin, PinSet, Reading, Span, Step, Value, script};
use pgherd_wire::backend::TransactionStatus;

use crate::hidden::{Alteration, Sways};
use crate::judgement::Judgement;
use crate::session::attempt::Left;
use crate::session::turn::Turn;
use crate::session::{follow, planned};

/// Settings may be others than those that are known.
const UNCLEAR: PinSet = PinSet::of(&[
    Pin::Set,
    Pin::SetConfig,
    Pin::Role,
    Pin::Function,
    Pin::Unknown,
]);

/// Whoever is bound by these has a session in which texts may mean what they mean nowhere else.
pub(super) const APART: PinSet = PinSet::of(&[
    Pin::Set,
    Pin::SetConfig,
    Pin::Role,
    Pin::Function,
    Pin::Unknown,
    Pin::TempTable,
]);

/// Settings that have a say in what the characters of a text are.
const LEXED: [&str; 3] = [
    "backslash_quote",
    "client_encoding",
    "standard_conforming_strings",
];

/// What the transaction under way has made of the settings by which texts are read, as far as its session's settings do
/// not show that.
#[derive(Debug, Default)]
pub(super) struct Passing {
    /// By their names.
    set: BTreeMap<Box<str>, Passed>,
    /// Some that the server reports are perhaps others by now than it has said.
    untold: bool,
    /// So may be any.
    any: bool,
}

/// What a setting is in passing.
#[derive(Debug)]
struct Passed {
    /// `None` where nobody knows.
    value: Option<Box<str>>,
    /// The server reports it, after which it is one of its session's.
    is_reported: bool,
}

/// Takes note of changes that have been made.
pub(super) fn changed(turn: &mut Turn<'_>, changes: &[Change]) {
    // Where an end was sent as well, nobody knows for how long.
    let ends = turn.attempt.left != Left::No;
    for change in changes {
        if change.name.is_empty() || change.named_by.is_some() {
            turn.passing.any = true;
            continue;
        }
        if !changes_reading(&change.name) && !changes_naming(&change.name) {
            continue;
        }
        let is_reported = follow::is_reported(turn.relay, &change.name);
        let passing = &mut turn.passing;
        passing.untold |= is_reported;
        let is_local = change.span != Span::Session;
        if !is_local && !is_reported && !passing.set.contains_key(&change.name) {
            // It is one of the session's by that.
            continue;
        }
        let value = match &change.value {
            // What is set for the session where something else was set in passing may go back to either.
            Value::Text(text) if !ends && (is_local || is_reported) => Some(text.clone()),
            _ => None,
        };
        let passed = Passed { value, is_reported };
        passing.set.insert(change.name.clone(), passed);
    }
}

/// The transaction has gone back to a savepoint, or may end and be followed by another.
pub(super) fn goes_back(turn: &mut Turn<'_>) {
    for passed in turn.passing.set.values_mut() {
        passed.value = None;
    }
    turn.passing.untold |= !turn.overlaid.is_empty();
}

/// All that was set is what the session began with.
pub(super) fn resets(turn: &mut Turn<'_>) {
    goes_back(turn);
    turn.passing.untold = true;
}

/// The end of a transaction is sent: what comes behind it is read as usual.
pub(super) fn leaves(turn: &mut Turn<'_>) {
    goes_back(turn);
    turn.server.statements.settle();
}

/// The end of a request is sent: outside of a block, it is that of a transaction.
#[inline]
pub(super) fn request_ends(turn: &mut Turn<'_>) {
    if turn.server.exchange.status() == TransactionStatus::Idle {
        turn.server.statements.settle();
    }
}

/// The server has said where the transaction stands, and before that, what of its settings is another.
#[inline]
pub(super) fn told(turn: &mut Turn<'_>, status: TransactionStatus) {
    let passing = &mut turn.passing;
    passing.untold = false;
    if status == TransactionStatus::Idle {
        passing.any = false;
        passing.set.clear();
    } else if !passing.set.is_empty() {
        passing.set.retain(|_, passed| !passed.is_reported);
    }
}

/// The server is idle, and nothing is owed.
#[inline]
pub(super) fn settled(turn: &mut Turn<'_>) {
    told(turn, TransactionStatus::Idle);
    turn.server.statements.settle();
    turn.server.reads_as_usual();
}

/// The settings under which a text is read now, its names included; `None` where they are not known.
pub(super) fn here(turn: &Turn<'_>) -> Option<Arc<Parameters>> {
    match turn.relay.pins.both(UNCLEAR).is_empty() {
        true => in_force(turn),
        false => None,
    }
}

/// The same, where what the client was bound for before the turn counts for nothing: nobody else has its server.
fn in_force(turn: &Turn<'_>) -> Option<Arc<Parameters>> {
    let names = |step: &Step| moves(step, changes_naming);
    let is_clear = are_constants_clear(turn)
        && sways(turn) == Sways::Nothing
        && !turn.server.temporary
        && !turn.server.exchange.steps().any(names);
    if !is_clear {
        return None;
    }
    let known = &turn.relay.parameters;
    if turn.passing.set.is_empty() {
        return Some(Arc::clone(known));
    }
    let mut here = (**known).clone();
    for (name, passed) in &turn.passing.set {
        here.set(name, passed.value.as_deref()?);
    }
    Some(Arc::new(here))
}

/// Whether it is known under which settings constants are read now.
fn are_constants_clear(turn: &Turn<'_>) -> bool {
    let (passing, exchange) = (&turn.passing, &turn.server.exchange);
    let has_set =
        turn.relay.block.is_some() || !turn.overlaid.is_empty() || !passing.set.is_empty();
    // What a block has set, an end that is under way may take back; what something outside of one has, an error.
    let goes_back =
        has_set && (turn.attempt.left != Left::No || exchange.status() == TransactionStatus::Idle);
    let bound = turn.relay.pins.without(turn.before);
    let constants = |step: &Step| moves(step, changes_reading);
    !passing.untold
        && !passing.any
        && !goes_back
        && bound.both(UNCLEAR).is_empty()
        && sways(turn) < Sways::Texts
        && !exchange.steps().any(constants)
}

/// What code that has run in the transaction may have done to how texts are read.
fn sways(turn: &Turn<'_>) -> Sways {
    let sways = turn.server.sways;
    let is_asked = || turn.relay.pool.settings().pool.function_check != FunctionCheck::Never;
    match sways != Sways::Nothing && is_asked() {
        true => sways,
        false => Sways::Nothing,
    }
}

/// Whether a statement that was sent may change one of these settings.
fn moves(step: &Step, settings: fn(&str) -> bool) -> bool {
    let is_one = |change: &Change| {
        change.name.is_empty() || change.named_by.is_some() || settings(&change.name)
    };
    match step {
        Step::Change(changes) => changes.iter().any(is_one),
        Step::ResetAll | Step::RollbackTo(_) => true,
        Step::Savepoint(_) | Step::Release(_) | Step::Other => false,
    }
}

/// Whether a server's copy of a statement stays what it is to all who share it though it is bound or described now:
/// Postgres may read its constants anew for that, and plan it.
#[inline]
pub(super) fn reads_alike(turn: &Turn<'_>, statement: &Statement<Judgement>) -> bool {
    if statement.reach != Reach::Shared || !statement.judgement.rows {
        return true;
    }
    let (now, then) = (&turn.relay.parameters, &statement.read_under);
    let set = &turn.passing.set;
    let is_alike = match set.is_empty() {
        true => Arc::ptr_eq(now, then) || now.reads_as(then),
        false => {
            let hidden = |name: &str| set.contains_key(name) || !changes_reading(name);
            let mut constants = set.iter().filter(|(name, _)| changes_reading(name));
            now.differing(then).all(hidden)
                && constants.all(|(name, passed)| {
                    passed.value.is_some() && passed.value.as_deref() == then.get(name)
                })
        }
    };
    is_alike && are_constants_clear(turn)
}

/// Whether a statement that goes to the server now will be there what it is to all who share it. What is not committed
/// yet, names may not stand for by then.
pub(super) fn fits(turn: &Turn<'_>, statement: &Statement<Judgement>) -> bool {
    let alters = || {
        let alters = turn.server.alters.as_ref();
        alters.is_some_and(Alteration::is_certain)
    };
    statement.reach != Reach::Shared
        || !statement.judgement.rows
        || in_force(turn).is_some_and(|here| statement.is_read_as(&here)) && !alters()
}

/// The settings under which constants are read in a text that is sent now, as far as they are known: what goes before it
/// is taken to succeed.
pub(super) fn as_read(turn: &Turn<'_>) -> Arc<Parameters> {
    read_otherwise(turn).unwrap_or_else(|| Arc::clone(&turn.relay.parameters))
}

/// The same, where they are others than those of the session.
pub(super) fn read_otherwise(turn: &Turn<'_>) -> Option<Arc<Parameters>> {
    let (set, exchange) = (&turn.passing.set, &turn.server.exchange);
    let constants = |step: &Step| moves(step, changes_reading);
    if !set.keys().any(|name| changes_reading(name)) && !exchange.steps().any(constants) {
        return None;
    }
    let mut read = (*turn.relay.parameters).clone();
    for (name, passed) in set {
        if let Some(value) = &passed.value {
            read.set(name, value);
        }
    }
    exchange
        .steps()
        .for_each(|step| take(turn, &mut read, step));
    Some(Arc::new(read))
}

/// The same, where this stands before it in one text.
pub(super) fn as_read_behind(turn: &Turn<'_>, text: &[u8]) -> Arc<Parameters> {
    let read = as_read(turn);
    let Reading::Script(parts) = script(text, turn.relay.lexing) else {
        return read;
    };
    let mut read = (*read).clone();
    let steps = parts.iter().map(|part| &part.step);
    steps.for_each(|step| take(turn, &mut read, step));
    Arc::new(read)
}

/// Does to settings what a statement does to them.
fn take(turn: &Turn<'_>, read: &mut Parameters, step: &Step) {
    match step {
        Step::Change(changes) => {
            let changes = changes.iter();
            changes.for_each(|change| make(turn, read, change));
        }
        Step::ResetAll => *read = (*turn.relay.startup).clone(),
        Step::Savepoint(_) | Step::Release(_) | Step::RollbackTo(_) | Step::Other => {}
    }
}

fn make(turn: &Turn<'_>, read: &mut Parameters, change: &Change) {
    match (&change.value, turn.relay.startup.get(&change.name)) {
        _ if change.name.is_empty() => {}
        (Value::Text(value), _) => read.set(&change.name, value),
        (Value::Default, Some(value)) => read.set(&change.name, value),
        (Value::Default, None) => read.remove(&change.name),
        (Value::Parameter(_) | Value::Untold | Value::Unknown, _) => {}
    }
}

/// Whether the settings under which constants are read in a text that is sent now hang on answers that are still to
/// come: should what goes before it fail, it runs all the same.
pub(super) fn hangs_on_answers(turn: &Turn<'_>) -> bool {
    let exchange = &turn.server.exchange;
    let goes_back = |step: &Step| matches!(step, Step::RollbackTo(_));
    exchange.steps().any(|step| moves(step, changes_reading))
        && (exchange.replies_owed() > 0 || exchange.steps().any(goes_back))
}

/// What tells which settings are others now than then.
pub(super) type Unlike = for<'a> fn(&'a Turn<'_>, &'a Arc<Parameters>) -> BTreeSet<&'a str>;

/// The settings that may be others now than `then`, of those under which constants are read.
pub(super) fn unlike<'a>(turn: &'a Turn<'_>, then: &'a Arc<Parameters>) -> BTreeSet<&'a str> {
    let now = &turn.relay.parameters;
    let mut names = BTreeSet::new();
    if !Arc::ptr_eq(now, then) {
        names.extend(now.differing(then));
    }
    for (name, passed) in &turn.passing.set {
        match passed.value.as_deref() {
            Some(value) if then.get(name) == Some(value) && !passed.is_reported => {
                names.remove(&**name)
            }
            _ => names.insert(&**name),
        };
    }
    if turn.passing.untold || turn.attempt.left != Left::No {
        names.extend(turn.overlaid.keys().map(|name| &**name));
    }
    for step in turn.server.exchange.steps() {
        match step {
            Step::Change(changes) => names.extend(changes.iter().map(|change| &*change.name)),
            Step::ResetAll | Step::RollbackTo(_) => {
                let block = turn.relay.block.as_deref();
                let befores = block.into_iter().flat_map(Block::befores);
                let all = befores.chain([&**now, &*turn.relay.startup]);
                names.extend(all.flat_map(Parameters::iter).map(|(name, _)| name));
            }
            Step::Savepoint(_) | Step::Release(_) | Step::Other => {}
        }
    }
    names.retain(|name| !name.is_empty() && changes_reading(name));
    names
}

/// The same, and those that may be others without a word.
pub(super) fn perhaps_unlike<'a>(
    turn: &'a Turn<'_>,
    then: &'a Arc<Parameters>,
) -> BTreeSet<&'a str> {
    let mut names = unlike(turn, then);
    if turn.passing.any || sways(turn) == Sways::Texts || !turn.relay.pins.both(UNCLEAR).is_empty()
    {
        names.extend(planned::PLANNED);
        names.extend(LEXED);
    }
    names
}
