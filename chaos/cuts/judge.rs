//! What may become of a round, and what that says about the rows.

use super::case::{Case, Direction, Side, Way};
use super::flow::{Kind, Round};
use super::talk::{Ending, Reply, errors};

/// Nothing but the answer.
const OK: &str = "ok";
/// The connection ended without a word.
const CLOSED: &str = "closed";
/// No answer came in time.
const HUNG: &str = "hung";
/// The client's own connection was lost.
const OWN: &str = "own end";

/// The flow whose answer has a message that goes to the client in parts.
const LARGE_ROW: &str = "large-row";

/// What a client may be told when its server is lost: by what it asks for, and when nothing is heard of the
/// server any more. This is the README's table "When a server is lost".
const ALLOWED: &[(Kind, &[&str], &[&str])] = &[
    (Kind::Login, &[OK, "08006"], &[OK, "57014"]),
    (Kind::Read, &[OK, "08006"], &[OK, "57014"]),
    (
        Kind::Unclear,
        &[OK, "08006", "08007"],
        &[OK, "08006", "08007", "57014"],
    ),
    (
        Kind::Listen,
        &[OK, "08006", "08007", "FATAL 08006"],
        // The connection that listens for all is awaited by a transaction, whose own limit may run out first.
        &[
            OK,
            "08006",
            "08007",
            "FATAL 08006",
            "57014",
            "FATAL 25P04",
            "FATAL 08007",
        ],
    ),
    (Kind::Write, &[OK, "08007"], &[OK, "08007"]),
    (Kind::Begin, &[OK, "40001"], &[OK, "40001", "57014"]),
    (Kind::Inside, &[OK, "40001"], &[OK, "40001", "57014"]),
    (
        Kind::Commit,
        &[OK, "40001", "08007"],
        &[OK, "40001", "08007"],
    ),
    (Kind::Rollback, &[OK], &[OK]),
    (
        Kind::Bound,
        &[OK, "FATAL 08006", "FATAL 08007"],
        &[OK, "FATAL 08006", "FATAL 08007"],
    ),
    (
        Kind::Cancelled,
        &[OK, "57014", "08006", "08007"],
        &[OK, "57014", "08006", "08007"],
    ),
    (Kind::Notified, &[OK], &[OK, HUNG]),
];

/// In one word, what a client heard in a round.
pub(super) fn outcome(round: &Round, reply: &Reply) -> String {
    let errors = reply.errors(round.natural);
    if let Some((code, fatal)) = errors.last() {
        return if *fatal {
            format!("FATAL {code}")
        } else {
            code.clone()
        };
    }
    match reply.ending {
        Ending::Met => OK,
        Ending::Over => "out of step",
        Ending::Closed => CLOSED,
        Ending::Hung => HUNG,
        Ending::Resigned => OWN,
    }
    .to_owned()
}

/// Whether that is all right.
pub(super) fn is_ok(outcome: &str) -> bool {
    outcome == OK
}

/// Whether a round of this kind may have such an outcome.
pub(super) fn is_allowed(case: &Case, kind: Kind, outcome: &str) -> bool {
    let cancelled = kind == Kind::Cancelled && outcome == "57014";
    if case.way.is_harmless() {
        return outcome == OK || cancelled;
    }
    match case.side {
        // It has lost its own connection; who has sent garbage is told so.
        Side::Client => match case.way {
            _ if cancelled => true,
            Way::Silence => [OK, OWN].contains(&outcome),
            Way::Garbage => outcome != HUNG,
            _ => [OK, CLOSED].contains(&outcome),
        },
        Side::Server => {
            let found = ALLOWED.iter().find(|(known, _, _)| *known == kind);
            let (_, lost, mute) = found.expect("each kind is in the table");
            // Part of a message that went to the client can have no other end.
            if outcome == CLOSED && case.flow == LARGE_ROW {
                return true;
            }
            match case.way {
                // What arrives garbled is refused by the server, in words of its own.
                Way::Garbage if case.direction == Direction::Up => {
                    ![HUNG, CLOSED].contains(&outcome)
                }
                // What stands for a length may announce what never comes.
                // And a login may be asked for what nobody knows.
                Way::Garbage if kind == Kind::Listen => ![HUNG, CLOSED].contains(&outcome),
                Way::Garbage => lost.contains(&outcome) || mute.contains(&outcome),
                Way::Silence => mute.contains(&outcome),
                _ => lost.contains(&outcome),
            }
        }
    }
}

/// What must be there of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// Once.
    Once,
    /// Not at all.
    Absent,
    /// Nobody can know.
    Either,
}

impl Presence {
    /// Whether so many are right.
    pub(super) fn allows(self, count: u64) -> bool {
        match self {
            Self::Once => count == 1,
            Self::Absent => count == 0,
            Self::Either => count <= 1,
        }
    }
}

/// What a reply says of a row that the ReadyForQuery of this number acknowledges.
pub(super) fn presence(round: &Round, reply: &Reply, ready: usize) -> Presence {
    let (segment, has_ended) = reply.segment(ready);
    let unknown = |(code, _): &(String, bool)| code == "08007";
    // Who was sent away has heard the last word about all that was asked for.
    let told = errors(segment, round.natural);
    if told.iter().any(unknown) {
        return Presence::Either;
    }
    let refused = !told.is_empty();
    match (refused, has_ended) {
        (true, _) => Presence::Absent,
        (false, true) => Presence::Once,
        (false, false) if reply.errors(round.natural).iter().any(|(_, fatal)| *fatal) => {
            Presence::Absent
        }
        (false, false) => Presence::Either,
    }
}

/// How many messages a client has to send until what it asks for here is complete.
pub(super) fn needed(rounds: &[Round], ready: usize) -> usize {
    let Some((last, before)) = rounds.split_last() else {
        return 0;
    };
    let before: usize = before.iter().map(|round| tags(&round.send).len()).sum();
    let last = tags(&last.send);
    let commits = rounds
        .last()
        .is_some_and(|round| round.kind == Kind::Commit);
    let ends = last.iter().enumerate().filter(|(_, tag)| match tag {
        // A COMMIT is done before its Sync comes.
        b'E' => commits,
        tag => matches!(tag, b'Q' | b'S' | b'F'),
    });
    // A COPY in the extended protocol ends with the Sync behind it.
    let at = if last.contains(&b'c') {
        last.len() - 1
    } else {
        ends.map(|(at, _)| at).nth(ready).unwrap_or(last.len() - 1)
    };
    before + at + 1
}

/// The tags of the messages in these bytes.
fn tags(mut bytes: &[u8]) -> Vec<u8> {
    let mut tags = Vec::new();
    while let [tag, a, b, c, d, ..] = bytes {
        tags.push(*tag);
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        bytes = bytes.get(length + 1..).unwrap_or_default();
    }
    tags
}
