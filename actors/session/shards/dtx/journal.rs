//! What a block has set and marked, for the shards that it comes to later.

use pgherd_session::{Parameters, literal};
use pgherd_sql::{Change, Span, Step, Value};

use crate::session::shards::hint::ForNow;

/// A block of more steps stays where it is.
const STEPS_MAX: usize = 256;

/// The steps of a block that all of its servers have to take, in their order.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    steps: Vec<Step>,
    /// There was one that cannot be taken anew.
    opaque: bool,
    /// What the steps have done to hints.
    hints: ForNow,
}

impl Journal {
    /// A step was taken.
    pub(crate) fn note(&mut self, step: &Step) {
        if *step == Step::Other {
            return;
        }
        self.hints.note(step);
        if self.steps.len() >= STEPS_MAX || *step == Step::ResetAll {
            self.opaque = true;
            return;
        }
        self.steps.push(step.clone());
    }

    /// What is set of where statements run, for the transaction alone.
    pub(in crate::session::shards) fn hints(&self) -> &ForNow {
        &self.hints
    }

    /// Whether no step was taken.
    pub(crate) fn is_empty(&self) -> bool {
        self.steps.is_empty() && !self.opaque
    }

    /// Whether one of these settings may have a value that goes with the transaction.
    pub(super) fn sets_for_now(&self, is_one: impl Fn(&str) -> bool) -> bool {
        let for_now = |change: &Change| change.span != Span::Session && is_one(&change.name);
        self.opaque
            || self
                .steps
                .iter()
                .any(|step| matches!(step, Step::Change(changes) if changes.iter().any(for_now)))
    }

    /// The steps, as far as they can be taken anew.
    pub(super) fn steps(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter()
    }

    /// The transaction is over.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The statements that take all steps anew; `None` if one cannot be. `startup` is what a reset goes
    /// back to.
    pub(super) fn statements(&self, startup: &Parameters) -> Option<String> {
        if self.opaque {
            return None;
        }
        let mut sql = String::new();
        for step in &self.steps {
            match step {
                Step::Savepoint(name) => sql.push_str(&format!("SAVEPOINT {}; ", quoted(name))),
                Step::Release(name) => sql.push_str(&format!("RELEASE {}; ", quoted(name))),
                Step::RollbackTo(name) => {
                    sql.push_str(&format!("ROLLBACK TO SAVEPOINT {}; ", quoted(name)));
                }
                Step::Change(changes) => {
                    for change in changes {
                        sql.push_str(&set(change, startup)?);
                    }
                }
                Step::ResetAll => return None,
                Step::Other => {}
            }
        }
        Some(sql)
    }
}

fn set(change: &Change, startup: &Parameters) -> Option<String> {
    let value = match &change.value {
        Value::Text(text) => literal(text),
        Value::Default => startup
            .get(&change.name)
            .map_or_else(|| "NULL".to_owned(), literal),
        Value::Parameter(_) | Value::Untold | Value::Unknown => return None,
    };
    let local = match change.span {
        Span::Local => true,
        Span::Session => false,
        Span::Parameter(_) => return None,
    };
    if change.named_by.is_some() {
        return None;
    }
    let name = literal(&change.name);
    Some(format!(
        "SELECT pg_catalog.set_config({name}, {value}, {local}); "
    ))
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use pgherd_session::Parameters;
    use pgherd_sql::{Change, Span, Step, Value};

    use super::Journal;

    fn change(value: Value, span: Span) -> Step {
        let name = "app.x".into();
        let named_by = None;
        Step::Change(vec![Change {
            name,
            named_by,
            value,
            span,
        }])
    }

    #[test]
    fn steps_are_taken_anew_in_their_order() {
        let mut journal = Journal::default();
        journal.note(&Step::Savepoint("a\"b".into()));
        journal.note(&change(Value::Text("1".into()), Span::Local));
        journal.note(&Step::RollbackTo("a\"b".into()));
        journal.note(&change(Value::Default, Span::Session));
        let none = Parameters::default();
        assert_eq!(
            journal.statements(&none).unwrap(),
            "SAVEPOINT \"a\"\"b\"; SELECT pg_catalog.set_config(E'app.x', E'1', true); \
             ROLLBACK TO SAVEPOINT \"a\"\"b\"; SELECT pg_catalog.set_config(E'app.x', NULL, false); "
        );
        journal.note(&change(Value::Unknown, Span::Local));
        assert_eq!(journal.statements(&none), None, "nobody knows it");
        journal.clear();
        assert_eq!(journal.statements(&none).as_deref(), Some(""));
    }
}
