//! What the statements of one message do to settings and savepoints, in the order of their answers.

use std::collections::VecDeque;

use pgherd_sql::Step;

/// A statement of a message.
#[derive(Debug)]
enum Statement {
    /// It is the client's.
    Client(Step),
    /// It was put in by us: its answer is kept from the client.
    Ours,
}

/// The statements of one message that are not answered yet.
#[derive(Debug, Default)]
pub struct Following {
    statements: VecDeque<Statement>,
    /// Where we put text in, in characters of the client's text, and how many.
    inserted: Vec<(usize, usize)>,
}

impl Following {
    /// Adds a statement of the client.
    pub fn push(&mut self, step: Step) {
        self.statements.push_back(Statement::Client(step));
    }

    /// Adds a statement of ours, whose answer the client does not see. It takes `length` characters
    /// behind the first `at` of the client's text.
    pub fn push_ours(&mut self, at: usize, length: usize) {
        self.statements.push_back(Statement::Ours);
        self.inserted.push((at, length));
    }

    /// Where in the client's text a position is that the server tells, both counted from 1; `None`
    /// if there is no difference.
    pub fn position(&self, told: usize) -> Option<usize> {
        let mut before = 0;
        for (at, length) in &self.inserted {
            if told.saturating_sub(before) > at + length {
                before += length;
            }
        }
        (before > 0).then(|| told.saturating_sub(before))
    }

    /// Whether the next answer is to a statement of ours.
    #[inline]
    pub fn is_ours(&self) -> bool {
        matches!(self.statements.front(), Some(Statement::Ours))
    }

    /// What the client's statement does whose answer has come; told once.
    pub(crate) fn next(&mut self) -> Option<Step> {
        match self.statements.front_mut()? {
            Statement::Client(step) => Some(std::mem::replace(step, Step::Other)),
            Statement::Ours => None,
        }
    }

    /// Goes on to the next statement. Answers whose the last one was.
    pub(crate) fn pass(&mut self) -> Asker {
        match self.statements.pop_front() {
            Some(Statement::Ours) => Asker::Us,
            Some(Statement::Client(_)) | None => Asker::Client,
        }
    }
}

/// Who wanted a statement to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asker {
    Client,
    Us,
}

#[cfg(test)]
mod tests {
    use pgherd_sql::Step;

    use super::{Asker, Following};

    #[test]
    fn answers_come_in_the_order_of_the_statements() {
        let mut following = Following::default();
        following.push(Step::ResetAll);
        following.push_ours(9, 20);
        following.push(Step::Other);
        assert_eq!(following.next(), Some(Step::ResetAll));
        assert!(!following.is_ours());
        assert_eq!(following.pass(), Asker::Client);
        assert!(following.is_ours());
        assert_eq!(following.next(), None);
        assert_eq!(following.pass(), Asker::Us);
        assert_eq!(following.next(), Some(Step::Other));
    }

    #[test]
    fn positions_are_those_of_the_clients_text() {
        let mut following = Following::default();
        // `reset a; reset b; selec` with 10 characters behind each reset.
        following.push_ours(7, 10);
        following.push_ours(16, 10);
        assert_eq!(following.position(7), None);
        assert_eq!(following.position(20), Some(10));
        assert_eq!(following.position(39), Some(19));
    }
}
