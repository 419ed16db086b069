//! What the statements of one message do to settings and savepoints, in the order of their answers.

use std::collections::VecDeque;
use std::ops::Range;

use pgherd_sql::Step;

/// A statement of a message.
#[derive(Debug)]
enum Statement {
    /// It is the client's.
    Client(Step),
    /// Another runs in its place, and this message is what the client is answered with.
    Instead(&'static [u8]),
    /// It was put in by us: its answer is kept from the client.
    Ours,
}

/// Where a text that runs differs from the client's, counted in characters.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Edit {
    /// How many characters of the client's text stand before.
    pub at: usize,
    /// How many characters of the client's text are gone.
    pub removed: usize,
    /// How many characters stand in their place.
    pub added: usize,
}

impl Edit {
    /// Of `own`, which stands behind `before` in the client's text, for so many characters.
    pub fn of(before: &[u8], own: &[u8], added: usize) -> Self {
        Self {
            at: characters(before),
            removed: characters(own),
            added,
        }
    }
}

/// Where a text is changed, noted from its begin to its end, so that its characters are counted but once.
#[derive(Debug)]
pub struct Edits<'a> {
    text: &'a [u8],
    all: Vec<Edit>,
    /// How many bytes are counted, and as how many characters.
    counted: (usize, usize),
}

impl<'a> Edits<'a> {
    /// None so far.
    pub fn of(text: &'a [u8]) -> Self {
        Self {
            text,
            all: Vec::new(),
            counted: (0, 0),
        }
    }

    /// Notes that so many characters stand in the place of these bytes, which begin behind all that were noted before.
    pub fn push(&mut self, place: Range<usize>, added: usize) {
        let (text, (bytes, before)) = (self.text, self.counted);
        let count = |range: Range<usize>| text.get(range).map_or(0, characters);
        let at = before + count(bytes..place.start);
        let removed = count(place.clone());
        self.counted = (place.end, at + removed);
        self.all.push(Edit { at, removed, added });
    }

    /// All of them.
    pub fn into_vec(self) -> Vec<Edit> {
        self.all
    }
}

/// How many characters a text has, as far as it is UTF-8.
fn characters(text: &[u8]) -> usize {
    text.iter().filter(|byte| **byte & 0xc0 != 0x80).count()
}

/// The statements of one message that are not answered yet.
#[derive(Debug, Default)]
pub struct Following {
    statements: VecDeque<Statement>,
    /// Where we changed the text, from its begin to its end.
    edits: Vec<Edit>,
}

impl Following {
    /// Adds a statement of the client.
    pub fn push(&mut self, step: Step) {
        self.statements.push_back(Statement::Client(step));
    }

    /// Adds a statement that runs in the place of the client's, which completes with this message.
    pub fn push_instead(&mut self, reply: &'static [u8]) {
        self.statements.push_back(Statement::Instead(reply));
    }

    /// Adds a statement of ours, whose answer the client does not see. It takes `length` characters
    /// behind the first `at` of the client's text.
    pub fn push_ours(&mut self, at: usize, length: usize) {
        self.statements.push_back(Statement::Ours);
        self.edit(Edit {
            at,
            removed: 0,
            added: length,
        });
    }

    /// Adds a place where the text was changed, behind all that were added before.
    pub fn edit(&mut self, edit: Edit) {
        self.edits.push(edit);
    }

    /// Where in the client's text a position is that the server tells, both counted from 1; `None`
    /// if there is no difference.
    pub fn position(&self, told: usize) -> Option<usize> {
        let (mut added, mut removed) = (0, 0);
        for edit in &self.edits {
            if (told + removed).saturating_sub(added) > edit.at + edit.added {
                added += edit.added;
                removed += edit.removed;
            }
        }
        (added != removed).then(|| (told + removed).saturating_sub(added))
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
            Statement::Instead(_) => Some(Step::Other),
            Statement::Ours => None,
        }
    }

    /// What the client's statement does that is not answered yet.
    pub(crate) fn current(&self) -> Option<&Step> {
        match self.statements.front()? {
            Statement::Client(step) => Some(step),
            Statement::Instead(_) | Statement::Ours => None,
        }
    }

    /// What all of the client's statements do that are not answered yet.
    pub(crate) fn steps(&self) -> impl Iterator<Item = &Step> {
        self.statements
            .iter()
            .filter_map(|statement| match statement {
                Statement::Client(step) => Some(step),
                Statement::Instead(_) | Statement::Ours => None,
            })
    }

    /// Whether any of that is something.
    pub(crate) fn moves(&self) -> bool {
        self.steps().any(|step| *step != Step::Other)
    }

    /// Goes on to the next statement. Answers whose the last one was.
    pub(crate) fn pass(&mut self) -> Asker {
        match self.statements.pop_front() {
            Some(Statement::Ours) => Asker::Us,
            Some(Statement::Instead(reply)) => Asker::Instead(reply),
            Some(Statement::Client(_)) | None => Asker::Client,
        }
    }
}

/// Who wanted a statement to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asker {
    Client,
    Us,
    /// The client, of another one, for which it is given this.
    Instead(&'static [u8]),
}

#[cfg(test)]
mod tests {
    use pgherd_sql::Step;

    use super::{Asker, Edit, Edits, Following};

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

    #[test]
    fn edits_are_counted_in_characters_from_one_to_the_next() {
        let text = "exécute é; execute bé".as_bytes();
        let mut edits = Edits::of(text);
        for place in [9..11, 21..24] {
            edits.push(place, 10);
        }
        let each = [9..11, 21..24];
        let each = each.map(|place| Edit::of(&text[..place.start], &text[place], 10));
        assert_eq!(edits.into_vec(), each);
        assert_eq!(each.map(|edit| (edit.at, edit.removed)), [(8, 1), (19, 2)]);
    }

    #[test]
    fn positions_are_told_where_names_were_changed() {
        let mut following = Following::default();
        // `execute a(x); execute bcdefghijklmnop(y)` with `"pgherd_1"` in the place of both.
        for (at, removed) in [(8, 1), (22, 15)] {
            let added = 10;
            following.edit(Edit { at, removed, added });
        }
        assert_eq!(following.position(9), None);
        assert_eq!(following.position(20), Some(11));
        assert_eq!(following.position(43), Some(39));
    }
}
