//! Which statements of a client in session mode end a transaction.
//!
//! There the server keeps the client's statements, under their own names, and nobody here knows what becomes of
//! them. What is remembered is what may be: a name that once stood for an end is never trusted again.

use pgherd_wire::frame;
use pgherd_wire::frontend::Parse;

use crate::session::attempt;
use crate::session::relay::Relay;
use crate::session::requests::violation;
use crate::session::turn::{Loss, Turn};
use crate::session::watch::Does;

/// Of more names than this, each may stand for an end.
const NAMES_MAX: usize = 64;

/// The statements that may end a transaction.
#[derive(Debug, Default)]
pub struct Endings {
    unnamed: Does,
    named: Vec<(Box<[u8]>, Does)>,
    many: bool,
}

impl Endings {
    /// What a statement of this name may do.
    fn of(&self, name: &[u8]) -> Does {
        let known = match name.is_empty() {
            true => self.unnamed,
            false => {
                let found = self.named.iter().find(|(known, _)| **known == *name);
                found.map_or(Does::Nothing, |(_, does)| *does)
            }
        };
        match (known, self.many) {
            (Does::Nothing, true) => Does::Ends { commits: true },
            (known, _) => known,
        }
    }

    /// A statement is prepared; `certain` is whether the server will take it for sure, in the place of the one before.
    fn parsed(&mut self, name: &[u8], does: Does, certain: bool) {
        if name.is_empty() {
            self.unnamed = match certain {
                true => does,
                false => either(self.unnamed, does),
            };
        } else if let Some((_, known)) = self.named.iter_mut().find(|(known, _)| **known == *name) {
            *known = either(*known, does);
        } else if does != Does::Nothing {
            if self.named.len() < NAMES_MAX {
                self.named.push((name.into(), does));
            } else {
                self.many = true;
            }
        }
    }
}

/// What a statement may do that is one of these.
fn either(one: Does, other: Does) -> Does {
    match (one, other) {
        (Does::Ends { commits: one }, Does::Ends { commits: other }) => Does::Ends {
            commits: one || other,
        },
        (ends @ Does::Ends { .. }, _) | (_, ends @ Does::Ends { .. }) => ends,
        _ => Does::Nothing,
    }
}

/// Takes note of the Parse in front, of `total` bytes.
pub(super) fn parsed(turn: &mut Turn<'_>, total: usize) -> Result<(), Loss> {
    let body = &turn.relay.up.unjudged()[frame::HEADER_LEN..total];
    let parse = Parse::parse(body).map_err(|error| violation(error.to_string()))?;
    let does = match may_end(parse.query) {
        true => Does::from(&turn.relay.judge(parse.query)),
        false => Does::Nothing,
    };
    // A BEGIN is believed once the server has told of its block.
    let does = either(does, Does::Nothing);
    if does == Does::Nothing && turn.relay.endings.is_none() {
        return Ok(());
    }
    let exchange = &turn.server.exchange;
    let certain = !exchange.owes() && !exchange.unsynced() && !exchange.skipping();
    let name: Box<[u8]> = parse.name.into();
    let endings = turn.relay.endings.get_or_insert_default();
    endings.parsed(&name, does, certain);
    Ok(())
}

/// What a statement of the client may do to the transaction.
pub(super) fn of(relay: &Relay, name: &[u8]) -> Does {
    let endings = relay.endings.as_deref();
    endings.map_or(Does::Nothing, |endings| endings.of(name))
}

/// Takes note of a Bind.
pub(super) fn bound(turn: &mut Turn<'_>) {
    match turn.does {
        Does::Ends { commits } => {
            turn.attempt.leaves();
            if commits {
                turn.commits(Some(0));
            }
            turn.leaves();
        }
        Does::Nothing | Does::Begins => attempt::unread(turn),
    }
}

/// Whether a text may end a transaction, by its first letter: `COMMIT`, `END`, `ROLLBACK`, `ABORT`, `PREPARE`.
fn may_end(text: &[u8]) -> bool {
    match text.trim_ascii_start() {
        [first, ..] if first.is_ascii_alphabetic() => {
            matches!(first.to_ascii_lowercase(), b'c' | b'e' | b'r' | b'a' | b'p')
        }
        // A comment, or what nobody writes.
        rest => !rest.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Does, Endings, NAMES_MAX, may_end};

    const COMMITS: Does = Does::Ends { commits: true };
    const ROLLS_BACK: Does = Does::Ends { commits: false };

    #[test]
    fn a_name_that_stood_for_an_end_may_stand_for_it_still() {
        let mut endings = Endings::default();
        endings.parsed(b"a", ROLLS_BACK, true);
        endings.parsed(b"b", Does::Nothing, true);
        assert_eq!(
            (endings.of(b"a"), endings.of(b"b")),
            (ROLLS_BACK, Does::Nothing)
        );
        endings.parsed(b"a", Does::Nothing, true);
        assert_eq!(endings.of(b"a"), ROLLS_BACK);
        endings.parsed(b"a", COMMITS, true);
        assert_eq!(endings.of(b"a"), COMMITS);
        for at in 0..NAMES_MAX {
            assert_eq!(endings.of(b"b"), Does::Nothing, "{at}");
            endings.parsed(at.to_string().as_bytes(), COMMITS, true);
        }
        assert_eq!((endings.of(b"b"), endings.of(b"a")), (COMMITS, COMMITS));
    }

    #[test]
    fn the_unnamed_statement_is_another_only_where_that_is_certain() {
        let mut endings = Endings::default();
        endings.parsed(b"", COMMITS, true);
        endings.parsed(b"", Does::Nothing, false);
        assert_eq!(endings.of(b""), COMMITS);
        endings.parsed(b"", Does::Nothing, true);
        assert_eq!(endings.of(b""), Does::Nothing);
    }

    #[test]
    fn what_may_end_a_transaction_is_seen_by_its_first_letter() {
        for text in [
            "commit",
            " End",
            "rollback",
            "\n\tABORT",
            "prepare transaction 'a'",
            "/**/ commit",
            ";commit",
        ] {
            assert!(may_end(text.as_bytes()), "{text}");
        }
        for text in [
            "",
            " ",
            "select 1",
            "insert into a values (1)",
            "update a set b = 1",
        ] {
            assert!(!may_end(text.as_bytes()), "{text}");
        }
    }
}
