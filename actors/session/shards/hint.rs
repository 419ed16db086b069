//! Hints: on which shard a client wants its statements to run, by settings of its own or by a comment.
//!
//! The servers have the settings as they have those of any application, so that `SHOW` tells them, a rollback takes
//! them back, and no other client meets them. What is set for a transaction alone is in its journal.

use pgherd_planner::Hint;
use pgherd_planner::placement::Shard;
use pgherd_session::Parameters;
use pgherd_sql::{Change, LexOptions, Lexer, Reading, Span, Step, Value, script};
use pgherd_wire::error::ErrorReport;
use pgherd_wire::sqlstate;

use super::plan::unsupported;
use crate::session::relay::Relay;
use crate::session::replication::boolean;

/// A shard by its name, a key by its text, and whether answers are verified.
const SETTINGS: [&str; 3] = ["pgherd.shard", "pgherd.sharding_key", "pgherd.verify"];
/// The place of the last of them; those before it are hints.
const VERIFY: usize = 2;
/// What a comment begins with that is for us.
const MARK: &[u8] = b"pgherd.";
/// Another wish, which is not of this place.
const ROLE: &str = "pgherd.role";
/// The marks of a transaction that are followed.
const MARKS_MAX: usize = 256;

/// What a transaction has set of [`SETTINGS`] for itself alone; nothing where the session's holds.
type Set = [Option<Value>; 3];

/// It is not known what is set.
const UNKNOWN: Set = [const { Some(Value::Unknown) }; 3];

/// It, step by step.
#[derive(Debug, Default)]
pub(super) struct ForNow {
    set: Set,
    /// What it was at each savepoint.
    marks: Vec<(Box<str>, Set)>,
    /// Something was ever set, so that what a mark that is not known goes back to matters.
    ever: bool,
}

impl ForNow {
    /// A step was taken.
    pub(super) fn note(&mut self, step: &Step) {
        let place = |marks: &[(Box<str>, Set)], name: &str| {
            marks.iter().rposition(|(known, _)| **known == *name)
        };
        match step {
            Step::Change(changes) => changes.iter().for_each(|change| self.change(change)),
            Step::ResetAll => self.set = Set::default(),
            Step::Savepoint(name) if self.marks.len() < MARKS_MAX => {
                self.marks.push((name.clone(), self.set.clone()));
            }
            Step::Release(name) => {
                if let Some(at) = place(&self.marks, name) {
                    self.marks.truncate(at);
                }
            }
            Step::RollbackTo(name) => match place(&self.marks, name) {
                Some(at) => {
                    self.set = self.marks[at].1.clone();
                    self.marks.truncate(at + 1);
                }
                None if self.ever => self.set = UNKNOWN,
                None => {}
            },
            Step::Savepoint(_) | Step::Other => {}
        }
    }

    fn change(&mut self, change: &Change) {
        if change.name.is_empty() && self.ever {
            // It may be one of these.
            self.set = UNKNOWN;
        }
        let Some(at) = SETTINGS.iter().position(|name| **name == *change.name) else {
            return;
        };
        self.ever = true;
        self.set[at] = match change.span {
            Span::Local => Some(change.value.clone()),
            // It is the session's from here on.
            Span::Session => None,
            Span::Parameter(_) => Some(Value::Unknown),
        };
    }

    /// Whether nothing is set so.
    pub(super) fn is_empty(&self) -> bool {
        self.set.iter().all(Option::is_none)
    }

    /// What a setting is.
    fn value<'v>(
        &'v self,
        at: usize,
        session: &'v Parameters,
        startup: &'v Parameters,
    ) -> Result<Option<&'v str>, ErrorReport> {
        Ok(match &self.set[at] {
            None => session.get(SETTINGS[at]),
            Some(Value::Text(text)) => Some(&**text),
            Some(Value::Default) => startup.get(SETTINGS[at]),
            Some(Value::Parameter(_) | Value::Untold | Value::Unknown) => {
                let text = format!("what {} is in this transaction is not known", SETTINGS[at]);
                return Err(unsupported(text).hint("Set it by SET LOCAL."));
            }
        })
    }
}

/// What a session's settings say of where its statements run.
pub(super) fn of_session(relay: &Relay) -> Result<Option<Hint>, ErrorReport> {
    let Some(spread) = relay.spread.as_deref() else {
        return Ok(None);
    };
    let for_now = spread.journal.hints();
    let mut found = None;
    for (at, name) in SETTINGS[..VERIFY].iter().enumerate() {
        let value = for_now.value(at, &relay.parameters, &relay.startup)?;
        // Postgres leaves an empty text behind where such a setting is reset.
        let Some(value) = value.filter(|value| !value.is_empty()) else {
            continue;
        };
        let hint = hint(relay, name, value)?;
        if found.replace(hint).is_some() {
            let text = "pgherd.shard and pgherd.sharding_key are both set";
            return Err(unsupported(text).hint("RESET one of them."));
        }
    }
    Ok(found)
}

/// Whether a session's settings have its answers verified.
pub(super) fn verifies(relay: &Relay) -> Result<bool, ErrorReport> {
    let Some(spread) = relay.spread.as_deref() else {
        return Ok(false);
    };
    let for_now = spread.journal.hints();
    let value = for_now.value(VERIFY, &relay.parameters, &relay.startup)?;
    let Some(value) = value.filter(|value| !value.is_empty()) else {
        return Ok(false);
    };
    boolean(value).ok_or_else(|| {
        let text = format!(
            "parameter \"{}\" requires a Boolean value",
            SETTINGS[VERIFY]
        );
        ErrorReport::error(sqlstate::INVALID_PARAMETER_VALUE, text)
    })
}

/// What a comment in a text says of it, if there is one: `/* pgherd.shard = shop0 */`.
pub(super) fn of_text(relay: &Relay, text: &[u8]) -> Result<Option<Hint>, ErrorReport> {
    let mut found = None;
    for (name, value) in said(text, relay.lexing) {
        if !SETTINGS[..VERIFY].contains(&name) || value.is_empty() {
            let text = format!("the hint \"{name} = {value}\" cannot be read");
            let report = ErrorReport::error(sqlstate::INVALID_PARAMETER_VALUE, text);
            let hint = "Write /* pgherd.shard = name */ or /* pgherd.sharding_key = value */.";
            return Err(report.hint(hint));
        }
        if found.replace(hint(relay, name, value)?).is_some() {
            let text = "a statement with several hints is not supported";
            return Err(unsupported(text));
        }
    }
    Ok(found)
}

/// Whether a text is a `SET` of where those behind it run.
pub(super) fn is_set_by(text: &[u8], lexing: LexOptions) -> bool {
    let first = Lexer::new(text, lexing).token();
    if !matches!(first, Ok(Some(first)) if first.is_word(b"set")) {
        return false;
    }
    let Reading::Script(parts) = script(text, lexing) else {
        return false;
    };
    let is_one = |change: &Change| SETTINGS.contains(&&*change.name);
    let sets = |step: &Step| matches!(step, Step::Change(changes) if changes.iter().any(is_one));
    parts.iter().any(|part| sets(&part.step))
}

/// Whether a text has a hint in it.
pub(super) fn is_in(text: &[u8], lexing: LexOptions) -> bool {
    !said(text, lexing).is_empty()
}

fn hint(relay: &Relay, name: &str, value: &str) -> Result<Hint, ErrorReport> {
    let wrong = |text: String| ErrorReport::error(sqlstate::INVALID_PARAMETER_VALUE, text);
    if name != SETTINGS[0] {
        return match value.is_ascii() {
            true => Ok(Hint::Key(value.to_owned())),
            false => Err(unsupported("a key beyond ASCII is not supported as a hint")),
        };
    }
    let spread = relay.spread.as_deref();
    let shard = spread.and_then(|spread| spread.group.config.shard(value));
    shard.map(|shard| Hint::Shard(Shard(shard))).ok_or_else(|| {
        let report = wrong(format!("there is no shard \"{value}\""));
        let names = spread.map_or_else(String::new, |it| it.group.config.shards.join(", "));
        report.detail(format!("The shards are {names}."))
    })
}

/// The names and values in comments that are hints.
fn said(text: &[u8], lexing: LexOptions) -> Vec<(&str, &str)> {
    let may = text.windows(MARK.len()).any(|part| part == MARK);
    match may {
        true => comments(text, lexing)
            .into_iter()
            .filter_map(of_us)
            .collect(),
        false => Vec::new(),
    }
}

fn of_us(comment: &[u8]) -> Option<(&str, &str)> {
    let (name, value) = std::str::from_utf8(comment).ok()?.split_once('=')?;
    let (name, value) = (name.trim(), value.trim());
    let is_ours = name.as_bytes().starts_with(MARK) && name != ROLE;
    is_ours.then(|| (name, value.trim_matches('\'')))
}

/// The insides of all `/* … */` outside of strings and names.
fn comments(text: &[u8], lexing: LexOptions) -> Vec<&[u8]> {
    let mut lexer = Lexer::new(text, lexing);
    let mut found = Vec::new();
    let mut behind = 0;
    // What cannot be read to its end is refused by itself.
    while let Ok(token) = lexer.token() {
        let before = token.map_or(text.len(), |token| token.start);
        between(text.get(behind..before).unwrap_or_default(), &mut found);
        let Some(token) = token else { break };
        behind = token.start + token.text.len();
    }
    found
}

/// The comments in what stands between two tokens.
fn between<'t>(mut gap: &'t [u8], found: &mut Vec<&'t [u8]>) {
    while let Some(at) = gap.iter().position(|byte| matches!(byte, b'/' | b'-')) {
        let rest = &gap[at..];
        let end = match rest {
            [b'-', ..] => rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')),
            _ => end(rest),
        };
        let Some(end) = end else { return };
        if rest.starts_with(b"/*") {
            found.push(rest.get(2..end - 2).unwrap_or_default());
        }
        gap = &rest[end..];
    }
}

/// Where a comment ends; others may be in it.
fn end(comment: &[u8]) -> Option<usize> {
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(pair) = comment.get(at..at + 2) {
        match pair {
            b"/*" => (depth, at) = (depth + 1, at + 2),
            b"*/" => (depth, at) = (depth.checked_sub(1)?, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use pgherd_sql::{Change, LexOptions, Span, Step, Value};

    use super::{ForNow, said};

    #[test]
    fn hints_are_found_in_comments_only() {
        let shard = ("pgherd.shard", "a");
        for (text, expected) in [
            ("/* pgherd.shard = a */ select 1", &[shard][..]),
            (
                "select /*pgherd.shard='a'*/ 1 /* pgherd.role = replica */",
                &[shard],
            ),
            (
                "select 1 /* x /* pgherd.shard = a */ */ -- /* pgherd.shard = a */",
                &[],
            ),
            (
                "select '/* pgherd.shard = a */', \"/* pgherd.shard = a */\"",
                &[],
            ),
            (
                "-- x\n/**//* pgherd.x */ select 1 / 2 - 3 /* pgherd.shard = a */",
                &[shard],
            ),
            (
                "select $$/* pgherd.shard = a */$$ /* of pgherd.shard = a */",
                &[],
            ),
        ] {
            let found = said(text.as_bytes(), LexOptions::default());
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn what_is_set_for_a_transaction_goes_back_with_its_savepoints() {
        let set = |text: &str, span| {
            let name = "pgherd.shard".into();
            let value = Value::Text(text.into());
            let named_by = None;
            Step::Change(vec![Change {
                name,
                named_by,
                value,
                span,
            }])
        };
        let shown = |state: &ForNow| match &state.set[0] {
            Some(Value::Text(text)) => text.to_string(),
            Some(other) => format!("{other:?}"),
            None => "-".to_owned(),
        };
        let mut state = ForNow::default();
        for (step, expected) in [
            (Step::RollbackTo("unknown".into()), "-"),
            (set("a", Span::Local), "a"),
            (Step::Savepoint("s".into()), "a"),
            (set("b", Span::Local), "b"),
            (Step::Savepoint("t".into()), "b"),
            (set("c", Span::Session), "-"),
            (Step::RollbackTo("t".into()), "b"),
            (Step::RollbackTo("s".into()), "a"),
            (Step::ResetAll, "-"),
            (Step::RollbackTo("s".into()), "a"),
            (Step::Release("s".into()), "a"),
            (Step::RollbackTo("s".into()), "Unknown"),
        ] {
            state.note(&step);
            assert_eq!(shown(&state), expected, "{step:?}");
        }
    }
}
