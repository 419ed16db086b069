//! How far a replication session is, by the messages that have passed.
//!
//! It decides one thing: what may be said to the client when the session ends before the client
//! wants it to.

use pgherd_wire::backend::{self, TransactionStatus};
use pgherd_wire::error::ErrorReport;
use pgherd_wire::frontend;

use crate::control::Order;

/// Where the session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The server waits for a command.
    Idle(TransactionStatus),
    /// A command is under way, a backup or a COPY among them.
    Busy,
    /// WAL or changes flow, and reports on them flow back (CopyBoth).
    Streaming,
    /// The server has ended the stream or the session in its own words; the rest is silence.
    Over,
}

/// A session's way so far.
#[derive(Debug)]
pub(super) struct Phase {
    stage: Stage,
    /// ReadyForQuery messages that the server owes.
    owed: u64,
    client: Client,
}

/// What the client has done about the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Client {
    /// Nothing.
    Stays,
    /// It has ended its half of the stream.
    Done,
    /// It has said goodbye.
    Left,
}

/// How a session is ended that was told to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leave {
    /// As a walsender ends a stream of its own accord: CopyDone, the client's CopyDone, and the
    /// end of the command. Standbys, receivers and subscribers connect again after it from where
    /// they were. An error would do for most, but disables subscriptions that have
    /// `disable_on_error`; so does the sudden CommandComplete of a server that shuts down.
    Stream,
    /// By a fatal error. The end of a stream would be taken for the end of the data here.
    Fatal,
}

impl Phase {
    /// A session whose server has just become ready.
    pub(super) fn new() -> Self {
        Self {
            stage: Stage::Idle(TransactionStatus::Idle),
            owed: 0,
            client: Client::Stays,
        }
    }

    /// A message of the client passes.
    pub(super) fn requested(&mut self, tag: u8) {
        match tag {
            frontend::tag::QUERY | frontend::tag::SYNC | frontend::tag::FUNCTION_CALL => {
                self.owed = self.owed.saturating_add(1);
                if matches!(self.stage, Stage::Idle(_)) {
                    self.stage = Stage::Busy;
                }
            }
            frontend::tag::COPY_DONE if self.stage == Stage::Streaming => {
                self.client = Client::Done;
            }
            frontend::tag::TERMINATE => self.client = Client::Left,
            _ => {}
        }
    }

    /// A message of the server passes; of its body as much as is there.
    pub(super) fn answered(&mut self, tag: u8, body: &[u8]) {
        use backend::tag;
        let streaming = self.stage == Stage::Streaming;
        match tag {
            tag::COPY_BOTH_RESPONSE => {
                self.stage = Stage::Streaming;
                self.client = Client::Stays;
            }
            // The stream ends on one side, and what follows is an ordinary answer.
            tag::COPY_DONE if streaming => self.stage = Stage::Busy,
            // A walsender whose server shuts down says it so (`WalSndDone`).
            tag::COMMAND_COMPLETE if streaming => self.stage = Stage::Over,
            tag::ERROR_RESPONSE => {
                let severity = ErrorReport::peek(body).severity_v;
                if [&b"FATAL"[..], b"PANIC"].contains(&severity) {
                    self.stage = Stage::Over;
                } else if streaming {
                    self.stage = Stage::Busy;
                }
            }
            tag::READY_FOR_QUERY => {
                self.owed = self.owed.saturating_sub(1);
                let ready = backend::ReadyForQuery::parse(body);
                self.stage = match ready {
                    Ok(ready) if self.owed == 0 => Stage::Idle(ready.status),
                    _ => Stage::Busy,
                };
            }
            _ => {}
        }
    }

    /// How the session is to be left between two messages of the server, if it may be now.
    ///
    /// To drain is to let a command and a transaction end first; a stream would never end.
    pub(super) fn leave(&self, order: Order) -> Option<Leave> {
        match (order, self.stage) {
            (Order::Serve, _) | (_, Stage::Over) => None,
            (Order::Drain, Stage::Streaming) => Some(Leave::Stream),
            (Order::Drain, Stage::Idle(TransactionStatus::Idle)) | (Order::Terminate, _) => {
                Some(Leave::Fatal)
            }
            (Order::Drain, Stage::Idle(_) | Stage::Busy) => None,
        }
    }

    /// Whether the server may hang up without a word: it has said all, or the client has.
    pub(super) fn is_over(&self) -> bool {
        self.stage == Stage::Over || self.said_goodbye()
    }

    /// Whether the client has ended its half of the stream.
    pub(super) fn is_half_done(&self) -> bool {
        self.client == Client::Done
    }

    /// Whether the client said goodbye.
    pub(super) fn said_goodbye(&self) -> bool {
        self.client == Client::Left
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use pgherd_wire::error::ErrorReport;
    use pgherd_wire::sqlstate;

    use super::{Leave, Phase};
    use crate::control::Order;

    fn after(messages: &[(char, u8, &[u8])]) -> Phase {
        let mut phase = Phase::new();
        for (side, tag, body) in messages {
            match side {
                'F' => phase.requested(*tag),
                _ => phase.answered(*tag, body),
            }
        }
        phase
    }

    fn body(report: &ErrorReport) -> BytesMut {
        let mut message = BytesMut::new();
        report.encode_error(&mut message);
        message.split_off(5)
    }

    const START: [(char, u8, &[u8]); 2] = [('F', b'Q', b""), ('B', b'W', b"")];

    #[test]
    fn a_stream_is_left_cleanly_and_only_a_stream() {
        assert_eq!(Phase::new().leave(Order::Serve), None);
        assert_eq!(Phase::new().leave(Order::Drain), Some(Leave::Fatal));
        assert_eq!(after(&START).leave(Order::Drain), Some(Leave::Stream));
        assert_eq!(after(&START).leave(Order::Terminate), Some(Leave::Fatal));
        // A backup, or the first copy of a table: an end here would be taken for the whole.
        assert!(!after(&START).is_half_done());
        let [query, both] = START;
        assert!(after(&[query, both, ('F', b'c', b"")]).is_half_done());
        let copy = after(&[('F', b'Q', b""), ('B', b'H', b""), ('B', b'd', b"")]);
        assert_eq!(copy.leave(Order::Drain), None);
        assert_eq!(copy.leave(Order::Terminate), Some(Leave::Fatal));
    }

    #[test]
    fn transactions_and_what_was_sent_ahead_may_end() {
        let block = after(&[('F', b'Q', b""), ('B', b'Z', b"T")]);
        assert_eq!(block.leave(Order::Drain), None);
        let ahead = after(&[('F', b'Q', b""), ('F', b'Q', b""), ('B', b'Z', b"I")]);
        assert_eq!(ahead.leave(Order::Drain), None);
        let done = after(&[('F', b'Q', b""), ('B', b'C', b""), ('B', b'Z', b"I")]);
        assert_eq!(done.leave(Order::Drain), Some(Leave::Fatal));
    }

    #[test]
    fn nothing_is_added_to_the_servers_last_word() {
        let mut phase = after(&START);
        phase.answered(b'C', b"COPY 0\0");
        assert!(phase.is_over());
        assert_eq!(phase.leave(Order::Terminate), None);
        assert!(after(&[('F', b'X', b"")]).is_over());
        let mut phase = after(&START);
        let report = ErrorReport::fatal(sqlstate::ADMIN_SHUTDOWN, "going");
        phase.answered(b'E', &body(&report));
        assert!(phase.is_over());
    }

    #[test]
    fn a_stream_that_the_server_ends_becomes_an_answer() {
        let mut phase = after(&START);
        phase.answered(b'c', b"");
        assert_eq!(phase.leave(Order::Drain), None);
        phase.answered(b'C', b"START_STREAMING\0");
        assert!(!phase.is_over());
        phase.answered(b'Z', b"I");
        assert_eq!(phase.leave(Order::Drain), Some(Leave::Fatal));
        let mut phase = after(&START);
        let report = ErrorReport::error(sqlstate::SYNTAX_ERROR, "no");
        phase.answered(b'E', &body(&report));
        assert!(!phase.is_over());
        assert_eq!(phase.leave(Order::Drain), None);
    }
}
