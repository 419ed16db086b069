//! What a client's statements do to its settings, followed so that any server can be brought to them.
//!
//! What a statement will do is written down when it is sent ([`Owed::Follow`]) and done here when its
//! answer says that it has succeeded. A parameter that the server reports is taken as it is
//! reported, whatever the statement said.

use std::collections::HashMap;
use std::sync::Arc;

use pgherd_session::{Block, Edit, Following, Owed, Parameters, changes_naming, changes_reading};
use pgherd_sql::{
    Change, LexOptions, Part, Pin, PinSet, Reading, Runs, Span, Step, Value, script, setting_name,
};
use pgherd_wire::backend::{self, tag};
use pgherd_wire::frame;
use pgherd_wire::frontend::{self, Bind, Execute, Target};

use crate::judgement::Judgement;
use crate::session::attempt;
use crate::session::behind;
use crate::session::meaning;
use crate::session::reasons;
use crate::session::relay::Relay;
use crate::session::replies;
use crate::session::turn::Turn;

/// A client that sets more than this keeps its server.
const SETTINGS_MAX: usize = 128;
/// The same in bytes of names and values.
const BYTES_MAX: usize = 64 * 1024;
/// More portals than this are not kept an eye on.
const PORTALS_MAX: usize = 1024;
/// The name of statements and portals of ours in a client's pipeline.
pub(super) const ASIDE: &[u8] = b"pgherd_aside";

/// Something is set of which it is not known what.
const SET: PinSet = PinSet::of(&[Pin::Set]);

/// What the portals of a transaction will do to settings once they are executed.
pub(super) type Portals = HashMap<Box<[u8]>, Step>;

/// What of the settings that the server reports was set in the transaction under way: whether for the transaction alone
/// (`SET LOCAL`), and what its COMMIT keeps, where that is another value than before.
pub(super) type Overlaid = HashMap<Box<str>, Overlay>;

/// What was set of one such setting.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    local: bool,
    kept: Option<Value>,
    /// What it keeps was perhaps taken back with a savepoint.
    doubtful: bool,
}

/// Writes down what a simple query does. Answers the text that is to run in its place, if the
/// server alone would not do all of it: what `RESET` goes back to is the client's, not the server's.
/// `edits` are those that have made `text` of the client's, and `answers`, if there are any, has one for each
/// statement that runs in the place of another.
pub(super) fn query(
    turn: &mut Turn<'_>,
    text: &[u8],
    edits: &[Edit],
    answers: &[Option<&'static [u8]>],
) -> Option<Vec<u8>> {
    let parts = match script(text, turn.relay.lexing) {
        Reading::Script(parts) => parts,
        Reading::Nothing | Reading::Unclear if answers.is_empty() => return None,
        Reading::Nothing | Reading::Unclear => others(answers.len()),
    };
    let is_inside = attempt::is_inside(turn) || turn.relay.opened.is_some();
    let is_alone = parts.len() == 1 && !is_inside && !turn.server.exchange.executes();
    let mut answers = answers.iter().copied().chain(std::iter::repeat(None));
    let mut following = Following::default();
    let mut longer: Option<Vec<u8>> = None;
    let mut copied = 0;
    // Outside of a block, it is over with itself, and with another behind it the server would not remark on that.
    let vain = |step: &Step| is_alone && is_local(step);
    for part in parts {
        if let Some(answer) = answers.next().flatten() {
            following.push_instead(answer);
        } else if let Some(sql) = remainder(turn.relay, &part.step).filter(|_| !vain(&part.step)) {
            let longer = longer.get_or_insert_default();
            longer.extend_from_slice(&text[copied..part.end]);
            longer.push(b';');
            longer.extend_from_slice(sql.as_bytes());
            copied = part.end;
            following.push(part.step);
            // Characters, as far as the text is UTF-8.
            let begins = |byte: &&u8| **byte & 0xc0 != 0x80;
            let at = text[..copied].iter().filter(begins).count();
            following.push_ours(at, sql.len() + 1);
        } else {
            following.push(part.step);
        }
    }
    if longer.is_none() {
        // Where there are both, a position is only told nearly.
        edits.iter().for_each(|edit| following.edit(*edit));
    }
    turn.server.exchange.sent(Owed::Follow(Box::new(following)));
    longer.map(|mut longer| {
        longer.extend_from_slice(&text[copied..]);
        longer
    })
}

/// Whether a step sets something for the transaction only.
fn is_local(step: &Step) -> bool {
    matches!(step, Step::Change(changes) if changes.iter().all(|change| change.span == Span::Local))
}

/// Statements that do nothing that is followed.
fn others(count: usize) -> Vec<Part> {
    let other = Part {
        step: Step::Other,
        end: 0,
    };
    vec![other; count]
}

/// Writes down where a simple query that does nothing else of interest differs from the client's.
pub(super) fn renamed(turn: &mut Turn<'_>, edits: &[Edit]) {
    if edits.is_empty() {
        return;
    }
    let mut following = Following::default();
    edits.iter().for_each(|edit| following.edit(*edit));
    turn.server.exchange.sent(Owed::Follow(Box::new(following)));
}

/// Takes note of what a portal will do once it is executed. `tail` is what was prepared: a Parse
/// message behind its name, read as `how` says; `body` the Bind message, if it is here as a whole.
pub(super) fn bind(
    turn: &mut Turn<'_>,
    portal: &[u8],
    (tail, how): (&[u8], LexOptions),
    body: Option<&[u8]>,
) {
    if tail.len() > behind::BOUND_MAX {
        return reasons::bind(turn, SET);
    }
    let end = tail.iter().position(|byte| *byte == 0);
    let (text, types) = tail.split_at(end.unwrap_or(tail.len()));
    let step = match script(text, how) {
        Reading::Script(parts) => parts.into_iter().next().map(|part| part.step),
        Reading::Nothing | Reading::Unclear => None,
    };
    let given = Given { types, body };
    let step = step.and_then(|step| given.resolve(step));
    match step {
        Some(step) if turn.portals.len() < PORTALS_MAX => {
            if is_untold(&step) {
                behind::unseen(turn.server);
            }
            turn.portals.insert(portal.into(), step);
        }
        _ => reasons::bind(turn, SET),
    }
}

/// A portal is bound. One of this name may still be there: then this is refused, and who executes it has done what was
/// bound before.
pub(super) fn rebinds(turn: &mut Turn<'_>, portal: &[u8]) {
    if turn.portals.remove(portal).is_some() && !portal.is_empty() {
        reasons::bind(turn, SET);
    }
}

/// A text is sent. What a portal with a name is still to do, it may have done unseen: by `FETCH` or `MOVE`, or by a function
/// that does so.
pub(super) fn fetches(turn: &mut Turn<'_>, judgement: &Judgement, text: &[u8]) {
    let mut portals = turn.portals.iter();
    if !portals.any(|(name, step)| !name.is_empty() && *step != Step::Other) {
        return;
    }
    let mut words = text.split(|byte| !byte.is_ascii_alphanumeric());
    let is = |word: &[u8], verb: &[u8]| word.eq_ignore_ascii_case(verb);
    if judgement.runs == Runs::Unknown || words.any(|it| is(it, b"fetch") || is(it, b"move")) {
        reasons::bind(turn, SET);
    }
}

/// Whether it sets something for the transaction of which it is not known what.
fn is_untold(step: &Step) -> bool {
    let untold = |change: &Change| change.named_by.is_some() || change.name.is_empty();
    matches!(step, Step::Change(changes) if changes.iter().any(untold))
}

/// What is bound to a statement: its Parse message from the end of the text on, and its Bind message if that is here.
struct Given<'a> {
    types: &'a [u8],
    body: Option<&'a [u8]>,
}

impl<'a> Given<'a> {
    /// A step with its parameters in place; `None` if one of them cannot be told that outlives the transaction.
    fn resolve(&self, mut step: Step) -> Option<Step> {
        let Step::Change(changes) = &mut step else {
            return Some(step);
        };
        for change in changes {
            if let Span::Parameter(number) = change.span {
                change.span = self.span(number)?;
            }
            let name = change.named_by.map(|number| self.name(number));
            match (name, change.span) {
                (Some(Some(name)), _) => (change.name, change.named_by) = (name, None),
                // What it is is over with the transaction.
                (Some(None), Span::Local) | (None, _) => {}
                (Some(None), Span::Session | Span::Parameter(_)) => return None,
            }
            if change.span == Span::Local
                && !change.name.is_empty()
                && (changes_naming(&change.name) || changes_reading(&change.name))
                && let Value::Parameter(number) = change.value
                && let Some(Some(text)) = self.text(number)
                && let Ok(text) = std::str::from_utf8(text)
            {
                change.value = Value::Text(text.into());
            }
            if change.span == Span::Session
                && let Value::Parameter(number) = change.value
            {
                change.value = match self.text(number)? {
                    None => Value::Default,
                    Some(text) => Value::Text(std::str::from_utf8(text).ok()?.into()),
                };
            }
        }
        Some(step)
    }

    /// What is bound to a parameter of type text, if that is ASCII; `None` in it is NULL.
    fn text(&self, number: u16) -> Option<Option<&'a [u8]>> {
        // Not given, text, unknown, varchar: their binary form is their text.
        if !matches!(self.oid(number), 0 | 25 | 705 | 1043) {
            return None;
        }
        let (value, _) = self.value(number)?;
        value.is_none_or(<[u8]>::is_ascii).then_some(value)
    }

    /// The setting that a parameter names.
    fn name(&self, number: u16) -> Option<Box<str>> {
        setting_name(self.text(number)??)
    }

    /// For how long a setting is made, as a parameter of type boolean says. NULL is for the session.
    fn span(&self, number: u16) -> Option<Span> {
        if !matches!(self.oid(number), 0 | 16) {
            return None;
        }
        let is_local = match self.value(number)? {
            (None, _) => false,
            (Some([byte]), Format::Binary) => *byte != 0,
            (Some(_), Format::Binary) => return None,
            (Some(text), Format::Text) => match &*text.to_ascii_lowercase() {
                b"t" | b"true" | b"on" | b"1" | b"y" | b"yes" => true,
                b"f" | b"false" | b"off" | b"0" | b"n" | b"no" => false,
                _ => return None,
            },
        };
        Some(if is_local { Span::Local } else { Span::Session })
    }

    /// The type of a parameter, 0 if the client has not said it.
    fn oid(&self, number: u16) -> u32 {
        // The zero byte behind the text and the count stand before the types.
        let at = 3 + 4 * usize::from(number);
        self.types.get(at..at + 4).map_or(0, |oid| {
            u32::from_be_bytes([oid[0], oid[1], oid[2], oid[3]])
        })
    }

    /// What is bound to a parameter, and how it is written.
    fn value(&self, number: u16) -> Option<(Option<&'a [u8]>, Format)> {
        let bind = Bind::parse(self.body?).ok()?;
        let mut formats = bind.formats.chunks_exact(2);
        let format = match bind.formats.len() {
            0 => &[0, 0][..],
            2 => formats.next()?,
            _ => formats.nth(usize::from(number))?,
        };
        let format = match format {
            [0, 0] => Format::Text,
            [0, 1] => Format::Binary,
            _ => return None,
        };
        Some((bind.parameters().nth(usize::from(number))?, format))
    }
}

/// How a value is written in a Bind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Text,
    Binary,
}

/// Writes down what the portal does that is executed next. Answers what must run behind it.
pub(super) fn execute(turn: &mut Turn<'_>, body: &[u8]) -> Option<String> {
    let portal = Execute::parse(body).ok()?.portal;
    // Executed on, it gives the rest of its rows, and does nothing any more.
    let step = match portal.is_empty() {
        true => turn.portals.remove(portal)?,
        // Its name is not free by that.
        false => std::mem::replace(turn.portals.get_mut(portal)?, Step::Other),
    };
    let sql = remainder(turn.relay, &step);
    let mut following = Following::default();
    following.push(step);
    turn.server.exchange.sent(Owed::Follow(Box::new(following)));
    sql
}

/// Puts a statement of ours into the client's pipeline, in which it runs only if what is before it
/// has succeeded.
pub(super) fn put_in(turn: &mut Turn<'_>, sql: &str) {
    let out = turn.relay.up.made();
    // In a block, the portal of the last time is still there.
    let built = frontend::close(out, Target::Portal, ASIDE)
        .and_then(|()| frontend::close(out, Target::Statement, ASIDE))
        .and_then(|()| frontend::parse(out, ASIDE, sql.as_bytes(), &[]))
        .and_then(|()| frontend::bind(out, ASIDE, ASIDE, &[], &[], &[]))
        .and_then(|()| frontend::execute(out, ASIDE, 0));
    debug_assert!(built.is_ok(), "settings are bounded");
    turn.server.exchange.sent(Owed::Aside);
}

/// What is to run behind a statement that resets settings for which the client has values of its own.
pub(super) fn remainder(relay: &Relay, step: &Step) -> Option<String> {
    if relay.startup.is_empty() {
        return None;
    }
    let own = |name: &str| relay.startup.get(name);
    // Each goes back for as long as it was reset.
    let (mut back, mut local) = (Parameters::default(), Parameters::default());
    match step {
        Step::ResetAll => {
            for (name, value) in relay.startup.iter() {
                // RESET ALL leaves them alone (GUC_NO_RESET_ALL).
                if !matches!(name, "role" | "session_authorization") {
                    back.set(name, value);
                }
            }
        }
        Step::Change(changes) => {
            for change in changes.iter().filter(|c| c.value == Value::Default) {
                if let Some(value) = own(&change.name) {
                    match change.span {
                        Span::Local => local.set(&change.name, value),
                        Span::Session | Span::Parameter(_) => back.set(&change.name, value),
                    }
                }
            }
        }
        _ => {}
    }
    back.assignment(&local)
}

/// An error whose position is that in a text to which we have added; the same with the position in
/// the client's text. `body` is the ErrorResponse behind its header.
pub(super) fn placed(turn: &Turn<'_>, body: &[u8]) -> Option<Box<[u8]>> {
    let told = |field: &[u8]| {
        std::str::from_utf8(field.strip_prefix(b"P")?)
            .ok()?
            .parse()
            .ok()
    };
    let fields = || {
        body.split(|byte| *byte == 0)
            .take_while(|field| !field.is_empty())
    };
    let position = turn.server.exchange.position(fields().find_map(told)?)?;
    let mut out = bytes::BytesMut::new();
    frame::build(&mut out, tag::ERROR_RESPONSE, |out| {
        for field in fields() {
            match field.first() {
                Some(b'P') => out.extend_from_slice(format!("P{position}").as_bytes()),
                _ => out.extend_from_slice(field),
            }
            out.extend_from_slice(&[0]);
        }
        out.extend_from_slice(&[0]);
    })
    .ok()?;
    Some(out[..].into())
}

/// A statement was answered with success.
pub(super) fn answered(turn: &mut Turn<'_>, answer: &[u8]) {
    match turn.server.exchange.next_step() {
        Some(Step::Other) | None => {
            if turn.relay.block.is_some() {
                transacted(turn, answer);
            }
        }
        Some(taken) => {
            match &taken {
                Step::Change(changes) => {
                    changes.iter().for_each(|change| overlay(turn, change));
                    let unsure = changes.iter().filter(|change| is_unsure(change));
                    turn.server.doubt(unsure.map(|change| change.name.clone()));
                    meaning::changed(turn, changes);
                    turn.server.misread |= rereads(turn.relay, &taken);
                }
                Step::RollbackTo(_) => {
                    doubt(turn);
                    meaning::goes_back(turn);
                }
                Step::ResetAll => meaning::resets(turn),
                Step::Savepoint(_) | Step::Release(_) | Step::Other => {}
            }
            let before = Arc::clone(&turn.relay.parameters);
            // What this binds for is told apart from what something behind it would, which may be skipped.
            let bound = std::mem::take(&mut turn.relay.pins);
            step(turn.relay, taken);
            let new = std::mem::replace(&mut turn.relay.pins, bound);
            reasons::have(turn, new);
            if !Arc::ptr_eq(&before, &turn.relay.parameters) {
                turn.server.is_set_to(&turn.relay.parameters);
            }
        }
    }
}

/// A statement has failed. What it calls may have been called before, and the server forgets none of the users' own
/// settings: whether it knows those that are new to it is looked up.
pub(super) fn failed(turn: &mut Turn<'_>) {
    let Some(Step::Change(changes)) = turn.server.exchange.current_step() else {
        return;
    };
    let names = changes.iter().map(|change| change.name.clone());
    let names: Vec<Box<str>> = names.collect();
    turn.server.doubt(names);
}

/// Whether functions may make plans under a change of which nothing else tells: what lasts is told by what the session is
/// set to.
fn is_reread(relay: &Relay, change: &Change) -> bool {
    let is_untold = change.name.is_empty() || change.named_by.is_some();
    let lasts = || match (change.span, &change.value) {
        (Span::Local | Span::Parameter(_), _) => false,
        // What is reported is told but once all that was sent with it is answered.
        (Span::Session, Value::Text(text)) if is_reported(relay, &change.name) => {
            relay.parameters.get(&change.name) == Some(&**text)
        }
        (Span::Session, _) => !is_reported(relay, &change.name),
    };
    is_untold || Parameters::is_planned(&change.name) && !lasts()
}

/// Whether a step may have functions make plans under other settings than those that the session is known to have.
pub(super) fn rereads(relay: &Relay, step: &Step) -> bool {
    matches!(step, Step::Change(changes) if changes.iter().any(|change| is_reread(relay, change)))
}

/// Whether a change was perhaps not made though its statement has succeeded: it calls `set_config` somewhere.
fn is_unsure(change: &Change) -> bool {
    change.span == Span::Local && change.value == Value::Unknown
}

/// The session's servers have taken a step.
pub(super) fn step(relay: &mut Relay, step: Step) {
    if let Some(spread) = relay.spread.as_deref_mut() {
        spread.journal.note(&step);
    }
    match step {
        Step::Change(changes) => change(relay, &changes),
        Step::ResetAll => reset_all(relay),
        Step::Savepoint(name) => {
            let block = block(&mut relay.block, &relay.parameters);
            if block.savepoint(name, &relay.parameters).is_err() {
                relay.pins.insert(Pin::Set);
            }
        }
        Step::Release(name) => {
            if let Some(block) = &mut relay.block {
                block.release(&name);
            }
        }
        Step::RollbackTo(name) => {
            let block = relay.block.as_deref_mut();
            match block.and_then(|block| block.rollback_to(&name)) {
                Some(before) => {
                    let now = restored(relay, &before);
                    relay.set_parameters(now);
                }
                // The savepoint was made where it could not be seen.
                None => relay.pins.insert(Pin::Set),
            }
        }
        Step::Other => {}
    }
}

/// What a transaction takes back, from its first change on.
fn block<'a>(block: &'a mut Option<Box<Block>>, now: &Arc<Parameters>) -> &'a mut Block {
    block.get_or_insert_with(|| Box::new(Block::new(Arc::clone(now))))
}

/// A statement that may end the transaction was answered.
fn transacted(turn: &mut Turn<'_>, answer: &[u8]) {
    match answer {
        b"COMMIT\0" | b"PREPARE TRANSACTION\0" => turn.relay.block = None,
        b"ROLLBACK\0" => {
            if let Some(block) = turn.relay.block.take() {
                take_back(turn, block.begin());
            }
        }
        _ => {}
    }
}

/// The server has fallen idle.
pub(super) fn idle(turn: &mut Turn<'_>, behind_sync: bool) {
    let Some(block) = turn.relay.block.take() else {
        return;
    };
    if block.has_failed() && behind_sync && turn.relay.spread.is_none() {
        // A procedure in the pipeline may have committed what came before it; over shards, none is called.
        reasons::have(turn, SET);
    }
    let now = Arc::clone(&turn.relay.parameters);
    take_back(turn, &block.end(&now));
}

fn change(relay: &mut Relay, changes: &[Change]) {
    let mut now = (*relay.parameters).clone();
    for change in changes {
        let name = &*change.name;
        if !is_unsure(change) {
            now.meet(name);
        }
        if change.span == Span::Local || is_reported(relay, name) {
            continue;
        }
        if change.named_by.is_some() || change.span != Span::Session {
            relay.pins.insert(Pin::Set);
            continue;
        }
        if name == "session_authorization" {
            // It ends the role as well; what a ROLLBACK makes of that hangs on the release.
            if now.get("role").is_some() {
                relay.pins.insert(Pin::Role);
            }
            now.remove("role");
        }
        match (&change.value, relay.startup.get(name)) {
            (Value::Text(value), _) => now.set(name, value),
            (Value::Default, Some(value)) => now.set(name, value),
            (Value::Default, None) => now.remove(name),
            (Value::Parameter(_) | Value::Untold | Value::Unknown, _) => {
                relay.pins.insert(Pin::Set);
            }
        }
    }
    settle(relay, now);
}

/// Takes note of what is set of a setting that the server reports: its report does not say for how long it holds.
fn overlay(turn: &mut Turn<'_>, change: &Change) {
    if !is_reported(turn.relay, &change.name) {
        return;
    }
    let overlay = turn.overlaid.entry(change.name.clone()).or_default();
    match change.span {
        Span::Local | Span::Parameter(_) => overlay.local = true,
        Span::Session => {
            *overlay = Overlay {
                kept: Some(change.value.clone()),
                ..Overlay::default()
            };
        }
    }
    if overlay.local && overlay.doubtful && turn.vow.is_wanted() {
        // What is said to be committed must be set, too, and what that is cannot be told.
        reasons::have(turn, SET);
    }
}

/// Part of the transaction was taken back.
fn doubt(turn: &mut Turn<'_>) {
    let mut is_unclear = false;
    for overlay in turn.overlaid.values_mut() {
        overlay.doubtful = overlay.kept.is_some();
        is_unclear |= overlay.local && overlay.doubtful;
    }
    if is_unclear && turn.vow.is_wanted() {
        reasons::have(turn, SET);
    }
}

/// The server is idle: what is set now holds.
pub(super) fn settled(turn: &mut Turn<'_>) {
    turn.overlaid.clear();
    turn.relay.settled = Arc::clone(&turn.relay.parameters);
}

/// What is set once the transaction under way is committed.
pub(super) fn committed(turn: &Turn<'_>) -> Arc<Parameters> {
    let relay = &*turn.relay;
    let overlaid = turn.overlaid.iter().filter(|(_, overlay)| overlay.local);
    let mut parameters = (*relay.parameters).clone();
    for (name, overlay) in overlaid {
        let before = match &overlay.kept {
            Some(Value::Text(text)) => Some(&**text),
            Some(Value::Default) => relay.startup.get(name),
            Some(Value::Parameter(_) | Value::Untold | Value::Unknown) | None => {
                relay.settled.get(name)
            }
        };
        match before {
            Some(value) => parameters.set(name, value),
            None => parameters.remove(name),
        }
    }
    relay.pool.shared.share(parameters)
}

/// Tells the client of what has gone from what was set `before` to what is set now, where a server would report it.
pub(super) fn tell_back(relay: &mut Relay, before: &Parameters) {
    let now = Arc::clone(&relay.parameters);
    let welcome = relay.pool.welcome.load_full();
    for name in before.differing(&now) {
        let reported = |known: &&(String, String)| known.0.eq_ignore_ascii_case(name);
        let known = welcome.iter().flat_map(|it| &it.parameters).find(reported);
        let Some((name, usual)) = known.filter(|_| is_reported(relay, name)) else {
            continue;
        };
        let value = now.get(name).unwrap_or(usual);
        // What was reported once is no longer than a message.
        let _ = backend::parameter_status(relay.down.made(), name.as_bytes(), value.as_bytes());
    }
}

fn reset_all(relay: &mut Relay) {
    let mut now = (*relay.startup).clone();
    for (name, value) in relay.parameters.iter() {
        // Those are left alone; the server reports what has become of the others that it reports.
        if matches!(name, "role" | "session_authorization") || is_reported(relay, name) {
            now.set(name, value);
        }
    }
    settle(relay, now);
}

/// Takes over what a statement has set.
fn settle(relay: &mut Relay, now: Parameters) {
    if now == *relay.parameters {
        return;
    }
    if now.len() > SETTINGS_MAX || now.bytes() > BYTES_MAX {
        relay.pins.insert(Pin::Set);
        return;
    }
    // That a setting was there once is not taken back.
    if !now.is_set_as(&relay.parameters) {
        block(&mut relay.block, &relay.parameters);
    }
    let now = relay.pool.shared.share(now);
    relay.set_parameters(now);
}

/// The server has gone back to these settings.
fn take_back(turn: &mut Turn<'_>, before: &Arc<Parameters>) {
    let now = restored(turn.relay, before);
    adopt(turn, now);
}

/// What is set where the server has gone back to what was set `before`. What it reports it has
/// reported, or will before it is idle; `before`, that may have been something for the transaction.
pub(super) fn restored(relay: &Relay, before: &Arc<Parameters>) -> Arc<Parameters> {
    let now = &relay.parameters;
    let reported: Vec<&str> = before
        .differing(now)
        .filter(|name| is_reported(relay, name))
        .collect();
    if reported.is_empty() {
        return Arc::clone(before);
    }
    let mut restored = (**before).clone();
    for name in reported {
        match now.get(name) {
            Some(value) => restored.set(name, value),
            None => restored.remove(name),
        }
    }
    relay.pool.shared.share(restored)
}

/// The client's settings are these now, and so are the server's.
fn adopt(turn: &mut Turn<'_>, now: Arc<Parameters>) {
    turn.relay.set_parameters(now);
    turn.server.is_set_to(&turn.relay.parameters);
}

/// Whether the client's next message only changes settings, so that it may run although the present
/// ones cannot be brought to a server any more.
pub(super) fn only_sets(relay: &Relay) -> bool {
    let here = relay.up.unjudged();
    let Ok(Some(header)) = frame::header(here) else {
        return false;
    };
    let Some(message) = here.get(..header.total()) else {
        return false;
    };
    let Ok(query) = frontend::Query::parse(&message[frame::HEADER_LEN..]) else {
        return false;
    };
    let sets = |step: &Step| matches!(step, Step::Change(_) | Step::ResetAll);
    header.tag == frontend::tag::QUERY
        && match script(query.text, relay.lexing) {
            Reading::Script(parts) => parts.iter().all(|part| sets(&part.step)),
            Reading::Nothing => relay.judge(query.text).unpins == PinSet::DISCARD_ALL,
            Reading::Unclear => false,
        }
}

/// The client's settings without who it is.
pub(super) fn as_itself(relay: &Relay) -> Arc<Parameters> {
    let mut own = (*relay.parameters).clone();
    own.remove("role");
    own.remove("session_authorization");
    relay.pool.shared.share(own)
}

/// Whether the server tells by itself what has become of a parameter.
pub(super) fn is_reported(relay: &Relay, name: &str) -> bool {
    let welcome = relay.pool.welcome.load();
    replies::is_settable(name)
        && welcome.as_deref().is_some_and(|welcome| {
            let mut reported = welcome.parameters.iter();
            reported.any(|(known, _)| known.eq_ignore_ascii_case(name))
        })
}

#[cfg(test)]
mod tests {
    use pgherd_sql::{LexOptions, Reading, Span, Step, Value, script};
    use pgherd_wire::frame::HEADER_LEN;
    use pgherd_wire::frontend;

    use super::{Given, is_untold};

    /// What a text does that is bound to these values in these formats, with these types said.
    fn bound(text: &str, types: &[u32], formats: &[i16], values: &[Option<&[u8]>]) -> Option<Step> {
        let Reading::Script(parts) = script(text.as_bytes(), LexOptions::default()) else {
            panic!("{text} is not told");
        };
        let count = u16::try_from(types.len()).expect("few types");
        let mut tail = vec![0];
        tail.extend(count.to_be_bytes());
        tail.extend(types.iter().flat_map(|oid| oid.to_be_bytes()));
        let mut bind = bytes::BytesMut::new();
        frontend::bind(&mut bind, b"", b"", formats, values, &[]).expect("it is short");
        let given = Given {
            types: &tail,
            body: Some(&bind[HEADER_LEN..]),
        };
        given.resolve(parts[0].step.clone())
    }

    fn told(step: Option<Step>) -> String {
        let Some(Step::Change(changes)) = step else {
            return "?".to_owned();
        };
        let told = changes.iter().map(|change| {
            let span = match change.span {
                Span::Local => "local ",
                Span::Session => "",
                Span::Parameter(_) => "either ",
            };
            let value = match &change.value {
                Value::Text(text) => format!("={text}"),
                Value::Default => " default".to_owned(),
                Value::Parameter(_) | Value::Untold | Value::Unknown => String::new(),
            };
            let named = if change.named_by.is_some() { "$" } else { "" };
            format!("{span}{named}{}{value}", change.name)
        });
        told.collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn what_is_bound_to_set_config_is_told_in_both_formats() {
        const TEXT: &str = "select set_config($1, $2, $3)";
        let name = Some(&b"app.x"[..]);
        let value = Some(&b"7"[..]);
        for (types, formats, local, expected) in [
            (&[][..], &[][..], Some(&b"t"[..]), "local app.x"),
            (&[], &[], Some(b"TRUE"), "local app.x"),
            (&[], &[], Some(b"off"), "app.x=7"),
            (&[25, 25, 16], &[1], Some(&[1]), "local app.x"),
            (&[25, 1043, 16], &[0, 0, 1], Some(&[0]), "app.x=7"),
            (&[], &[], None, "app.x=7"),
            (&[], &[], Some(b"maybe"), "?"),
            (&[], &[1], Some(&[1, 0]), "?"),
            (&[25, 25, 23], &[], Some(b"1"), "?"),
            // What its type is written as is not its text.
            (&[19, 25, 16], &[], Some(b"f"), "?"),
            (&[19, 25, 16], &[], Some(b"t"), "local $"),
        ] {
            let step = bound(TEXT, types, formats, &[name, value, local]);
            assert_eq!(told(step), expected, "{types:?} {formats:?} {local:?}");
        }
    }

    #[test]
    fn a_name_that_cannot_be_told_binds_only_for_the_session() {
        const LOCAL: &str = "select set_config($1, $2, true), set_config('app.y', $2, true)";
        for name in [
            None,
            Some(&b"App.X"[..]),
            Some(b"app.\xc3\xa9"),
            Some(b"seed"),
        ] {
            let step = bound(LOCAL, &[], &[], &[name, Some(b"7")]);
            assert!(step.as_ref().is_some_and(is_untold), "{name:?}");
            assert_eq!(told(step), "local $, local app.y");
            let session = "select set_config($1, $2, false)";
            assert_eq!(bound(session, &[], &[], &[name, Some(b"7")]), None);
        }
        let step = bound(LOCAL, &[], &[], &[Some(b"app.x"), Some(b"\xc3\xa9")]);
        assert!(!step.as_ref().is_some_and(is_untold));
        assert_eq!(told(step), "local app.x, local app.y");
    }
}
