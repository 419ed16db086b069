//! Which portals of a client open or end a transaction.
//!
//! What a statement does is noted at its Bind, but it is done at the Execute, which may come behind another Sync; or
//! never. So what is believed of the transaction is not taken from a Bind alone.

use pgherd_wire::frame;

use crate::judgement::Judgement;
use crate::session::attempt::Left;
use crate::session::mark;
use crate::session::turn::Turn;

/// What a statement does to the transaction.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Does {
    /// Nothing.
    #[default]
    Nothing,
    /// It opens a block, and does nothing else.
    Begins,
    /// It ends one.
    Ends {
        /// By committing it.
        commits: bool,
    },
}

impl From<&Judgement> for Does {
    fn from(judgement: &Judgement) -> Self {
        if judgement.leaves {
            Self::Ends {
                commits: judgement.commits,
            }
        } else if judgement.begins {
            Self::Begins
        } else {
            Self::Nothing
        }
    }
}

/// The portals that are bound to such statements and not executed yet: hardly ever more than one.
#[derive(Debug, Default)]
pub(super) struct Watch {
    one: Option<(Box<[u8]>, Does)>,
    /// There may be others that end a transaction.
    more: bool,
}

impl Watch {
    fn bound(&mut self, portal: &[u8], does: Does) {
        let same = self
            .one
            .as_ref()
            .is_some_and(|(known, _)| **known == *portal);
        match (does, self.one.as_ref().map(|(_, known)| *known)) {
            // Should the Bind fail, nothing behind it runs before the next Sync.
            (Does::Nothing, Some(Does::Begins)) if same => self.one = None,
            (Does::Nothing, _) => {}
            // The Bind may fail, and leave the portal what it was.
            (_, Some(Does::Ends { .. })) => self.more = true,
            (does, _) => self.one = Some((portal.into(), does)),
        }
    }
}

/// The statement noted last was bound.
#[inline]
pub(super) fn bound(turn: &mut Turn<'_>, portal: &[u8]) {
    if turn.does != Does::Nothing || turn.watch.one.is_some() {
        turn.watch.bound(portal, turn.does);
    }
}

/// The message in front executes a portal.
#[inline]
pub(super) fn executes(turn: &mut Turn<'_>) {
    if turn.watch.one.is_some() || turn.watch.more {
        executes_any(turn);
    }
}

fn executes_any(turn: &mut Turn<'_>) {
    let body = turn.relay.up.unjudged().get(frame::HEADER_LEN..);
    let body = body.unwrap_or_default();
    let name = body
        .iter()
        .position(|byte| *byte == 0)
        .map(|end| &body[..end]);
    let watch = &mut turn.watch;
    let does = match (&watch.one, name) {
        (Some((known, does)), Some(name)) if **known == *name => {
            let does = *does;
            watch.one = None;
            does
        }
        (_, Some(_)) => Does::Nothing,
        // It is cut off.
        (_, None) => {
            watch.more = true;
            Does::Nothing
        }
    };
    match does {
        Does::Begins => {
            turn.attempt.begun = true;
            mark::begun(turn);
        }
        Does::Ends { commits } => {
            turn.attempt.leaves();
            if commits {
                turn.commits(Some(0));
            }
            turn.leaves();
        }
        Does::Nothing if turn.watch.more => {
            turn.attempt.left = Left::Passed;
            turn.leaves();
        }
        Does::Nothing => {}
    }
}

/// A request has failed: of what it was to execute, some was skipped and may be executed later.
pub(super) fn failed(turn: &mut Turn<'_>) {
    turn.watch.more |= turn.attempt.left != Left::No;
}

#[cfg(test)]
mod tests {
    use super::{Does, Watch};

    const COMMITS: Does = Does::Ends { commits: true };

    fn watch(bound: &[(&str, Does)]) -> (Option<(String, Does)>, bool) {
        let mut watch = Watch::default();
        for (portal, does) in bound {
            watch.bound(portal.as_bytes(), *does);
        }
        let one = watch.one.map(|(name, does)| {
            let name = String::from_utf8(name.into()).expect("a name of ours");
            (name, does)
        });
        (one, watch.more)
    }

    #[test]
    fn a_portal_that_ends_a_transaction_is_never_forgotten() {
        let one = |name: &str, does| Some((name.to_owned(), does));
        assert_eq!(watch(&[("", COMMITS)]), (one("", COMMITS), false));
        let again = [("", COMMITS), ("", Does::Nothing)];
        assert_eq!(watch(&again), (one("", COMMITS), false));
        let begun = [("", COMMITS), ("", Does::Begins)];
        assert_eq!(watch(&begun), (one("", COMMITS), true));
        let two = [("a", COMMITS), ("b", COMMITS)];
        assert_eq!(watch(&two), (one("a", COMMITS), true));
    }

    #[test]
    fn a_portal_that_opens_a_block_is_forgotten_with_its_name() {
        let begins = ("b", Does::Begins);
        let one = Some(("b".to_owned(), Does::Begins));
        assert_eq!(watch(&[begins, ("", Does::Nothing)]), (one, false));
        assert_eq!(watch(&[begins, ("b", Does::Nothing)]), (None, false));
        let ends = [begins, ("b", COMMITS)];
        assert_eq!(watch(&ends), (Some(("b".to_owned(), COMMITS)), false));
    }
}
