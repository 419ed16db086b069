//! The quick judgement of answers in which nothing is to be looked at: most of the traffic.

use pgherd_wire::backend::{TransactionStatus, tag};
use pgherd_wire::frame::HEADER_LEN;

use super::{CopyFlow, Doubt, Exchange, Owed};

/// The length of a ReadyForQuery.
const READY_LEN: usize = HEADER_LEN + 1;

/// An answer to all that was owed, all of which is the client's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answered {
    /// How many ReadyForQuery messages there are in it.
    pub replies: u64,
    /// What the last of them says.
    pub status: TransactionStatus,
}

impl<P> Exchange<P> {
    /// Judges `answer` at once if it is whole, answers all that is owed and nothing else, succeeds, and has
    /// nothing in it that changes the session: rows, and the ends of statements that read and write them.
    /// Message by message the judgement would be the same; `None`, and nothing has happened, if that is the
    /// way to go.
    #[inline]
    pub fn answered(&mut self, answer: &[u8]) -> Option<Answered> {
        // Where more is to come, as in a large result, this is not tried on each part of it.
        let end = answer.len().checked_sub(READY_LEN)?;
        if answer[end..READY_LEN - 1 + end] != [tag::READY_FOR_QUERY, 0, 0, 0, 5] {
            return None;
        }
        let quiet = self.following.is_none()
            && self.copy == CopyFlow::None
            && self.doubt == Doubt::None
            && !self.unsynced
            && !self.skipping;
        if !quiet || self.owed.is_empty() {
            return None;
        }
        let mut reader = Reader { rest: answer };
        let mut replies = 0;
        for owed in &self.owed {
            match owed {
                Owed::Query => reader.rows()?,
                Owed::Sync => {}
                // It is there for what it takes back, and nothing is.
                Owed::Local { reply: b"", .. } => continue,
                Owed::Execute => {
                    reader.statement()?;
                    continue;
                }
                other => {
                    reader.single(other)?;
                    continue;
                }
            }
            reader.one(tag::READY_FOR_QUERY)?;
            replies += 1;
        }
        let status = match answer[answer.len() - 1] {
            b'I' => TransactionStatus::Idle,
            b'T' => TransactionStatus::InTransaction,
            _ => return None,
        };
        if !reader.rest.is_empty() || replies == 0 {
            return None;
        }
        self.owed.clear();
        self.moves = false;
        self.status = status;
        self.has_run = false;
        Some(Answered { replies, status })
    }
}

/// The messages of an answer, one by one.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// The tag and the body of the next message.
    #[inline]
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let [tag, a, b, c, d, ..] = *self.rest else {
            return None;
        };
        let end = 1 + u32::from_be_bytes([a, b, c, d]) as usize;
        let body = self.rest.get(HEADER_LEN..end)?;
        self.rest = &self.rest[end..];
        Some((tag, body))
    }

    /// Reads a message of this kind.
    #[inline]
    fn one(&mut self, tag: u8) -> Option<()> {
        self.next().filter(|(next, _)| *next == tag).map(|_| ())
    }

    /// Reads what a message of the extended protocol is answered with.
    #[inline]
    fn single<P>(&mut self, owed: &Owed<P>) -> Option<()> {
        match owed {
            Owed::Parse { hidden: false, .. } => self.one(tag::PARSE_COMPLETE),
            Owed::Bind { .. } => self.one(tag::BIND_COMPLETE),
            Owed::DescribePortal { of: None } => {
                let (tag, _) = self.next()?;
                matches!(tag, tag::ROW_DESCRIPTION | tag::NO_DATA).then_some(())
            }
            _ => None,
        }
    }

    /// Reads up to the end of a statement of the extended protocol.
    #[inline]
    fn statement(&mut self) -> Option<()> {
        loop {
            match self.next()? {
                (tag::DATA_ROW, _) => {}
                (tag::COMMAND_COMPLETE, said) => return is_plain(said).then_some(()),
                _ => return None,
            }
        }
    }

    /// Reads the answer to a simple query of one statement, up to its ReadyForQuery.
    #[inline]
    fn rows(&mut self) -> Option<()> {
        loop {
            match self.next()? {
                (tag::DATA_ROW | tag::ROW_DESCRIPTION, _) => {}
                (tag::COMMAND_COMPLETE, said) => return is_plain(said).then_some(()),
                _ => return None,
            }
        }
    }
}

/// Whether a statement that says this has touched rows, and nothing else.
#[inline]
fn is_plain(said: &[u8]) -> bool {
    matches!(
        said.first_chunk(),
        Some(b"SELECT" | b"INSERT" | b"UPDATE" | b"DELETE")
    )
}

#[cfg(test)]
mod tests {
    use pgherd_wire::backend::{TransactionStatus, tag};
    use pgherd_wire::frame;
    use proptest::prelude::*;

    use super::{Answered, Exchange};
    use crate::exchange::{Owed, Undo, Verdict};

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(4 + body.len()).expect("a short body");
        [&[tag][..], &length.to_be_bytes(), body].concat()
    }

    fn owed(kind: u8) -> Owed<()> {
        match kind {
            0 => Owed::Query,
            1 => Owed::Sync,
            2 => Owed::Bind { of: None },
            3 => Owed::Execute,
            4 => Owed::DescribePortal { of: None },
            5 => Owed::Parse {
                hidden: false,
                undo: Undo::Unnamed,
            },
            6 => Owed::Setup,
            7 => Owed::OurSync,
            8 => Owed::DescribeStatement {
                hidden: false,
                of: None,
            },
            _ => Owed::QuerySaying(b""),
        }
    }

    fn part() -> impl Strategy<Value = Vec<u8>> {
        let said = prop_oneof![
            Just(&b"SELECT 1\0"[..]),
            Just(&b"UPDATE 0\0"[..]),
            Just(&b"BEGIN\0"[..]),
            Just(&b"DISCARD ALL\0"[..]),
            Just(&b"DEALLOCATE\0"[..]),
        ];
        prop_oneof![
            4 => Just(message(tag::READY_FOR_QUERY, b"I")),
            1 => Just(message(tag::READY_FOR_QUERY, b"T")),
            4 => said.prop_map(|said| message(tag::COMMAND_COMPLETE, said)),
            3 => Just(message(tag::DATA_ROW, b"\0\0")),
            2 => Just(message(tag::ROW_DESCRIPTION, b"\0\0")),
            2 => Just(message(tag::BIND_COMPLETE, b"")),
            2 => Just(message(tag::PARSE_COMPLETE, b"")),
            1 => Just(message(tag::NO_DATA, b"")),
            1 => Just(message(tag::NOTICE_RESPONSE, b"\0")),
            1 => Just(message(tag::PARAMETER_STATUS, b"a\0b\0")),
            1 => Just(message(tag::COPY_IN_RESPONSE, b"\0\0\0")),
        ]
    }

    /// What a server says to it if all goes well.
    fn usual(kind: u8) -> Vec<u8> {
        let row = message(tag::DATA_ROW, b"\0\0");
        let columns = message(tag::ROW_DESCRIPTION, b"\0\0");
        let complete = message(tag::COMMAND_COMPLETE, b"SELECT 1\0");
        let ready = message(tag::READY_FOR_QUERY, b"I");
        match kind {
            0 => [columns, row, complete, ready].concat(),
            2 => message(tag::BIND_COMPLETE, b""),
            3 => [row, complete].concat(),
            4 | 8 => columns,
            5 => message(tag::PARSE_COMPLETE, b""),
            _ => ready,
        }
    }

    /// What the judgement of each message comes to: `None` if not all of them are the client's.
    fn slowly(talk: &mut Exchange<()>, mut answer: &[u8]) -> Option<u64> {
        let mut replies = 0;
        while let Ok(Some(header)) = frame::header(answer) {
            let verdict = match header.tag {
                tag::READY_FOR_QUERY => {
                    replies += 1;
                    talk.ready(match answer[5] {
                        b'I' => TransactionStatus::Idle,
                        _ => TransactionStatus::InTransaction,
                    })
                }
                tag => talk.received(tag, |_| {}),
            };
            if verdict != Verdict::Forward {
                return None;
            }
            answer = &answer[header.total()..];
        }
        Some(replies)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn it_is_the_judgement_of_each_message(
            asked in prop::collection::vec(
                (prop_oneof![9 => 0..6_u8, 1 => 6..10_u8], prop::option::weighted(0.1, part())),
                1..5,
            ),
            cut in 0..40_usize,
        ) {
            let (mut quick, mut slow) = (Exchange::<()>::default(), Exchange::<()>::default());
            let mut answer = Vec::new();
            for (kind, surprise) in asked {
                quick.sent(owed(kind));
                slow.sent(owed(kind));
                answer.extend(usual(kind));
                answer.extend(surprise.unwrap_or_default());
            }
            if cut < 3 {
                answer.truncate(answer.len() - cut);
            }
            let before = format!("{quick:?}");
            match quick.answered(&answer) {
                None => prop_assert_eq!(before, format!("{quick:?}")),
                Some(answered) => {
                    prop_assert_eq!(slowly(&mut slow, &answer), Some(answered.replies));
                    prop_assert!(!quick.owes());
                    prop_assert_eq!(format!("{quick:?}"), format!("{slow:?}"));
                }
            }
        }
    }

    #[test]
    fn the_usual_answers_are_judged_at_once() {
        let row = message(tag::DATA_ROW, b"\0\0");
        let complete = message(tag::COMMAND_COMPLETE, b"SELECT 1\0");
        let ready = message(tag::READY_FOR_QUERY, b"I");
        let idle = |replies| Answered {
            replies,
            status: TransactionStatus::Idle,
        };
        let mut talk = Exchange::<()>::default();
        talk.sent(owed(0));
        let columns = message(tag::ROW_DESCRIPTION, b"\0\0");
        let answer = [&columns[..], &row, &complete, &ready].concat();
        assert_eq!(talk.answered(&answer), Some(idle(1)));
        assert!(talk.is_over());

        for kind in [5, 2, 4, 3, 1, 2, 3, 1] {
            talk.sent(owed(kind));
        }
        let bound = message(tag::BIND_COMPLETE, b"");
        let parsed = message(tag::PARSE_COMPLETE, b"");
        let first = [&parsed[..], &bound, &columns, &row, &row, &complete, &ready].concat();
        assert_eq!(talk.answered(&first), None, "another reply is owed");
        let second = [&bound[..], &complete, &ready].concat();
        assert_eq!(talk.answered(&[first, second].concat()), Some(idle(2)));
        assert!(talk.is_over());
    }
}
