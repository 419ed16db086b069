//! The replies that a server owes, in order, and what each of its messages answers.
//!
//! The client's pipeline is sent on as it comes; our own messages (hidden ones) travel inside it.
//! The queue says which replies are the client's and which are ours, and what must be taken back
//! when an error makes the server skip the rest of the pipeline.
//! Source: <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-PIPELINING>.

mod usual;

use std::collections::VecDeque;

use bytes::BytesMut;
use pgherd_sql::{PinSet, Step};
use pgherd_wire::backend::{self, TransactionStatus, tag};

use crate::following::{Asker, Following};
use crate::prepared::{Gone, Held, Placed, Unnamed};

pub use usual::Answered;

/// How many replies may be owed before a client's pipeline is read no further.
const CROWD: usize = 4096;

/// What one message sent to the server is answered with.
#[derive(Debug)]
pub enum Owed<P> {
    /// A simple query of the client: answered up to ReadyForQuery.
    Query,
    /// A simple query of ours in the place of the client's, which completes with this message.
    QuerySaying(&'static [u8]),
    /// A simple query that the server is sure to refuse, whose refusal we word ourselves.
    QueryFail(Box<[u8]>),
    /// A simple query of ours: answered up to ReadyForQuery, unseen by the client.
    Setup,
    /// A statement of ours ahead of all that the client sends: Parse, Bind and Execute, with answers that the client
    /// does not see. No Sync is behind it, so if it fails, the server passes over all that was sent up to the next one,
    /// simple queries as well.
    Ahead {
        /// It opens a block, if it succeeds.
        opens: bool,
    },
    /// The client's function call: answered up to ReadyForQuery.
    FunctionCall,
    /// Sync: ReadyForQuery.
    Sync,
    /// A Sync of ours: ReadyForQuery, unseen by the client.
    OurSync,
    /// ParseComplete, unseen by the client when the Parse is ours.
    Parse {
        /// The Parse was put in by us.
        hidden: bool,
        /// What to take back if it does not happen.
        undo: Undo<P>,
    },
    /// A Parse of ours for what the server remarks on the names in it: ParseComplete, unseen by the client,
    /// which gets the notices.
    Remarks,
    /// BindComplete.
    Bind {
        /// The statement that it binds, if it has one of our names.
        of: Option<Placed>,
    },
    /// ParameterDescription, then RowDescription or NoData.
    DescribeStatement {
        /// The Describe was put in by us.
        hidden: bool,
        /// Whose description it is, if it is to be remembered.
        of: Option<Box<Described>>,
    },
    /// RowDescription or NoData.
    DescribePortal {
        /// The statement whose description it is, if it is to be remembered.
        of: Option<Box<Described>>,
    },
    /// Rows, then CommandComplete, EmptyQueryResponse or PortalSuspended; or a COPY.
    Execute,
    /// A statement of ours in the place of the client's, which completes with this message.
    ExecuteSaying(&'static [u8]),
    /// CloseComplete, unseen by the client when the Close is ours.
    Close {
        /// The Close was put in by us.
        hidden: bool,
        /// What to take back if it does not happen.
        undo: Undo<P>,
    },
    /// A message of ours that is none of these: everything up to a reply with this tag is unseen.
    Ours(u8),
    /// Nothing: the client has ended its COPY data here.
    CopyEnd,
    /// A reply that we give ourselves once its turn comes.
    Local {
        /// The whole message.
        reply: &'static [u8],
        /// What to take back if an earlier error makes the pipeline skip it.
        undo: Undo<P>,
    },
    /// A message that the server is sure to refuse, whose refusal we word ourselves.
    Fail(Box<[u8]>),
    /// A statement of ours inside of the client's pipeline: Close, Parse, Bind and Execute, with
    /// answers that the client does not see.
    Aside,
    /// Nothing: what the message behind it does to settings and savepoints.
    Follow(Box<Following>),
    /// A simple query of ours that asks for a transaction's mark: answered up to ReadyForQuery, unseen by
    /// the client, also if the transaction has failed.
    Question,
    /// The same inside of a pipeline: Close twice, Parse, Bind and Execute.
    Asking,
    /// The front of a simple query of the client's whose last statement, a COMMIT, is sent behind a
    /// [`Owed::Question`]: answered up to ReadyForQuery, which the client gets only if it has failed.
    Head,
    /// A simple query of the client's between a BEGIN and a COMMIT of ours: as [`Owed::Head`], but its
    /// CommandComplete is kept back, since without a block it would come behind the commit, and its
    /// ReadyForQuery is never the client's.
    Body,
    /// The COMMIT of ours behind it, which ends the block in any case: its ReadyForQuery is the client's.
    Tail,
}

/// What is asked to be described.
#[derive(Debug, PartialEq, Eq)]
pub struct Described {
    /// The client's name for it.
    pub name: Box<[u8]>,
    /// Where it is.
    pub placed: Placed,
}

/// What to take back when a message of a pipeline was skipped or refused.
#[derive(Debug)]
pub enum Undo<P> {
    /// Nothing.
    Nothing,
    /// A statement is not on the server, and the client's name for it not valid.
    Parsed {
        /// The statement that the server does not have after all.
        on_server: Option<Placed>,
        /// The client's name that does not exist after all.
        by_client: Option<Box<[u8]>>,
    },
    /// The client's unnamed statement does not exist.
    Unnamed,
    /// The client's unnamed statement was the same before: it does not exist if this is refused, and does if this is
    /// skipped. Whoever takes back is told [`Undo::Unnamed`] or nothing.
    Repeated,
    /// The client's unnamed statement is still this one.
    Kept(Box<Unnamed<P>>),
    /// A statement was not closed on the server.
    Gone(Box<Gone>),
    /// The client's name is still valid.
    Closed(Box<Closed<P>>),
    /// The session is not bound for these reasons: nothing of what would bind it has run.
    Bound(PinSet),
}

impl<P> Undo<P> {
    /// Bytes of what the client would have no more were it not for this.
    fn kept_bytes(&self) -> usize {
        match self {
            Self::Kept(unnamed) => match &**unnamed {
                Unnamed::Parsed { tail, .. } => tail.len(),
                Unnamed::None => 0,
            },
            Self::Closed(closed) => closed.name.len() + closed.held.bytes(),
            Self::Nothing
            | Self::Parsed { .. }
            | Self::Unnamed
            | Self::Repeated
            | Self::Gone(_)
            | Self::Bound(_) => 0,
        }
    }
}

/// A Close by the client.
#[derive(Debug)]
pub struct Closed<P> {
    /// The client's name.
    pub name: Box<[u8]>,
    /// What it stands for.
    pub held: Held<P>,
    /// What was to be closed on the server with it.
    pub gone: Option<Gone>,
}

/// What to do with a message of the server.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the client's.
    Forward,
    /// It answers a message of ours.
    Swallow,
    /// The client gets this message in its place.
    Replace(Box<[u8]>),
    /// Nothing was asked that it could answer.
    Unexpected,
}

/// Whether COPY data flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyFlow {
    /// No COPY is going on.
    None,
    /// The server waits for data from the client.
    In,
    /// The client has ended its data, and the server has not answered yet.
    Ended,
    /// The server sends data.
    Out,
    /// Both send data, as in replication.
    Both,
}

/// Whether Syncs were sent whose fate is not known. A server that waits for COPY data ignores them;
/// should the COPY have failed before it reads one, it answers it with a ReadyForQuery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doubt {
    None,
    /// The COPY goes on. If it ends well, so many were ignored.
    Copying(usize),
    /// The COPY has failed in a simple query, whose own ReadyForQuery comes first.
    Failed,
    /// Their ReadyForQuery may come now, before anything that answers what was sent behind them.
    Behind,
    /// The connection is lost, whatever was owed.
    Lost,
}

/// Whether a statement of ours that goes ahead is not answered yet, should it fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lead {
    None,
    /// Nothing that was sent runs without it.
    Sure,
    /// Nor does that, but a Sync was sent, and what were sent behind it would.
    Synced,
}

/// The conversation with one server during a lease.
#[derive(Debug)]
pub struct Exchange<P> {
    owed: VecDeque<Owed<P>>,
    /// What the message at the front does to settings and savepoints, if that is followed.
    following: Option<Box<Following>>,
    status: TransactionStatus,
    /// Something was run in a pipeline since the server has said that.
    has_run: bool,
    copy: CopyFlow,
    /// Extended-protocol messages were sent and no Sync has followed.
    unsynced: bool,
    /// The server discards everything up to a Sync that has not been sent yet.
    skipping: bool,
    doubt: Doubt,
    /// An [`Owed::Head`] has failed, and the question behind it is not answered yet.
    headless: bool,
    /// There may be an [`Undo::Kept`] in what is owed.
    keeps: bool,
    lead: Lead,
    /// There may be an [`Undo::Closed`] in it.
    closes: bool,
    /// There may be something in it that does something to settings or savepoints.
    moves: bool,
}

impl<P> Default for Exchange<P> {
    fn default() -> Self {
        Self {
            owed: VecDeque::new(),
            following: None,
            status: TransactionStatus::Idle,
            has_run: false,
            copy: CopyFlow::None,
            unsynced: false,
            skipping: false,
            doubt: Doubt::None,
            headless: false,
            keeps: false,
            lead: Lead::None,
            closes: false,
            moves: false,
        }
    }
}

impl<P> Exchange<P> {
    /// Records a message as sent to the server.
    #[inline]
    pub fn sent(&mut self, message: Owed<P>) {
        match message {
            // The server reads and ignores a Sync while it waits for COPY data.
            Owed::Sync if self.copy == CopyFlow::In && self.owed.len() == 1 => {
                let before = match self.doubt {
                    Doubt::Copying(syncs) => syncs,
                    _ => 0,
                };
                self.doubt = Doubt::Copying(before + 1);
                return;
            }
            Owed::Sync | Owed::OurSync => {
                self.unsynced = false;
                self.skipping = false;
                if self.lead == Lead::Sure {
                    self.lead = Lead::Synced;
                }
            }
            Owed::Ahead { .. } => {
                self.interrupt();
                self.lead = Lead::Sure;
            }
            Owed::CopyEnd => {
                if self.copy == CopyFlow::In {
                    self.copy = CopyFlow::Ended;
                }
                if self.owed.is_empty() {
                    return;
                }
            }
            Owed::Query
            | Owed::QuerySaying(_)
            | Owed::QueryFail(_)
            | Owed::Setup
            | Owed::Question
            | Owed::Head
            | Owed::Body
            | Owed::Tail
            | Owed::FunctionCall => self.interrupt(),
            Owed::Follow(following) => {
                self.interrupt();
                self.moves |= following.moves();
                if self.owed.is_empty() {
                    self.following = Some(following);
                } else {
                    self.owed.push_back(Owed::Follow(following));
                }
                return;
            }
            _ => {
                self.interrupt();
                self.unsynced = true;
            }
        }
        self.keeps |= is_keeping(&message);
        self.closes |= is_closing(&message);
        self.owed.push_back(message);
    }

    /// Takes back the message that was recorded last, and which was not sent after all.
    pub fn unsend(&mut self) {
        let last = self.owed.pop_back();
        self.unsynced |= matches!(last, Some(Owed::Sync));
    }

    /// Judges a message of the server other than ReadyForQuery.
    ///
    /// After [`Verdict::Forward`] of an error in the extended protocol, `undo` has been told of
    /// everything that the server skips, the latest first.
    #[inline]
    pub fn received(&mut self, message: u8, undo: impl FnMut(Undo<P>)) -> Verdict {
        match message {
            tag::PARAMETER_STATUS if self.in_setup() => return Verdict::Swallow,
            // Postgres would remark on a text once, where the client has prepared it.
            tag::NOTICE_RESPONSE if self.is_ours() => return Verdict::Swallow,
            tag::NOTICE_RESPONSE | tag::PARAMETER_STATUS => return Verdict::Forward,
            tag::NOTIFICATION_RESPONSE => return Verdict::Forward,
            _ => {}
        }
        if self.doubt == Doubt::Behind {
            // It answers what was sent behind the Syncs in doubt.
            self.doubt = Doubt::None;
        }
        if message == tag::ERROR_RESPONSE {
            return self.failed(undo);
        }
        let Some(front) = self.owed.front() else {
            return Verdict::Unexpected;
        };
        match (front, message) {
            (Owed::Setup | Owed::Question, _) => Verdict::Swallow,
            (Owed::Ahead { opens }, tag::COMMAND_COMPLETE) => {
                if *opens {
                    self.status = TransactionStatus::InTransaction;
                }
                self.done(Verdict::Swallow)
            }
            (Owed::Ahead { .. }, tag::PARSE_COMPLETE | tag::BIND_COMPLETE | tag::DATA_ROW) => {
                Verdict::Swallow
            }
            (Owed::Head, tag::COMMAND_COMPLETE) => self.completed(),
            (Owed::Head, _) if answers_query(message) => Verdict::Forward,
            (Owed::Body | Owed::Tail, tag::COMMAND_COMPLETE) => Verdict::Swallow,
            (Owed::Body, _) if answers_query(message) => Verdict::Forward,
            (Owed::Query, tag::ROW_DESCRIPTION | tag::DATA_ROW)
                if self.following.as_deref().is_some_and(Following::is_ours) =>
            {
                Verdict::Swallow
            }
            (Owed::Query | Owed::Execute, tag::COPY_IN_RESPONSE) => self.copy_in(),
            (Owed::Query | Owed::Execute, tag::COPY_OUT_RESPONSE) => self.copies(CopyFlow::Out),
            (Owed::Query | Owed::Execute, tag::COPY_BOTH_RESPONSE) => self.copies(CopyFlow::Both),
            (Owed::Query, tag::COMMAND_COMPLETE) => {
                match self.following.as_deref_mut().map(Following::pass) {
                    Some(Asker::Us) => Verdict::Swallow,
                    Some(Asker::Instead(reply)) => Verdict::Replace(reply.into()),
                    Some(Asker::Client) | None => self.completed(),
                }
            }
            (Owed::QuerySaying(reply), tag::COMMAND_COMPLETE) => Verdict::Replace((*reply).into()),
            (Owed::Query, _) if answers_query(message) => Verdict::Forward,
            // Statements in front of the one that was not prepared, which will fail for all of them.
            (Owed::QueryFail(_), tag::COMMAND_COMPLETE) => Verdict::Swallow,
            (Owed::QueryFail(_), _) if answers_query(message) => Verdict::Swallow,
            (Owed::FunctionCall, tag::FUNCTION_CALL_RESPONSE) => Verdict::Forward,
            (Owed::Parse { hidden, .. }, tag::PARSE_COMPLETE)
            | (Owed::Close { hidden, .. }, tag::CLOSE_COMPLETE) => {
                let verdict = seen(*hidden);
                self.done(verdict)
            }
            (Owed::Remarks, tag::PARSE_COMPLETE) => self.done(Verdict::Swallow),
            (Owed::Bind { .. }, tag::BIND_COMPLETE) => self.done(Verdict::Forward),
            (Owed::DescribeStatement { hidden, .. }, tag::PARAMETER_DESCRIPTION) => seen(*hidden),
            (Owed::DescribeStatement { hidden, .. }, tag::ROW_DESCRIPTION | tag::NO_DATA) => {
                let verdict = seen(*hidden);
                self.done(verdict)
            }
            // In session mode, what a Describe is of is the server's own affair.
            (Owed::DescribePortal { .. }, tag::PARAMETER_DESCRIPTION) => Verdict::Forward,
            (Owed::DescribePortal { .. }, tag::ROW_DESCRIPTION | tag::NO_DATA) => {
                self.done(Verdict::Forward)
            }
            (Owed::Ours(last), tag) if *last == tag => self.done(Verdict::Swallow),
            (Owed::Ours(_), tag::DATA_ROW) => Verdict::Swallow,
            (
                Owed::Execute,
                tag::COMMAND_COMPLETE | tag::EMPTY_QUERY_RESPONSE | tag::PORTAL_SUSPENDED,
            ) => {
                self.copy = CopyFlow::None;
                self.doubt = Doubt::None;
                self.done(Verdict::Forward)
            }
            (Owed::ExecuteSaying(reply), tag::COMMAND_COMPLETE) => {
                let verdict = Verdict::Replace((*reply).into());
                self.done(verdict)
            }
            (Owed::Execute, tag::DATA_ROW | tag::COPY_DATA | tag::COPY_DONE) => Verdict::Forward,
            (Owed::Aside | Owed::Asking, tag::COMMAND_COMPLETE) => self.done(Verdict::Swallow),
            (
                Owed::Aside | Owed::Asking,
                tag::CLOSE_COMPLETE | tag::PARSE_COMPLETE | tag::BIND_COMPLETE | tag::DATA_ROW,
            ) => Verdict::Swallow,
            _ => Verdict::Unexpected,
        }
    }

    /// Judges a ReadyForQuery of the server.
    #[inline]
    pub fn ready(&mut self, status: TransactionStatus) -> Verdict {
        self.status = status;
        self.has_run = false;
        self.copy = CopyFlow::None;
        match self.owed.front() {
            Some(Owed::Sync) => self.done(Verdict::Forward),
            Some(Owed::OurSync) => self.done(Verdict::Swallow),
            // Nothing has come yet of what is owed, so a Sync in doubt turns out to be heard.
            _ if self.doubt == Doubt::Behind => {
                self.skipping = false;
                self.unsynced &= !self.owed.is_empty();
                Verdict::Forward
            }
            Some(Owed::Query | Owed::QuerySaying(_) | Owed::QueryFail(_) | Owed::FunctionCall) => {
                if self.doubt == Doubt::Failed {
                    self.doubt = Doubt::Behind;
                }
                let verdict = self.done(Verdict::Forward);
                self.ends_unsynced();
                verdict
            }
            Some(Owed::Setup) => self.done(Verdict::Swallow),
            Some(Owed::Head | Owed::Body) => self.done(Verdict::Swallow),
            Some(Owed::Tail) => {
                let verdict = self.done(Verdict::Forward);
                self.ends_unsynced();
                verdict
            }
            Some(Owed::Question) if std::mem::take(&mut self.headless) => {
                self.owed.pop_front();
                let verdict = self.done(Verdict::Forward);
                self.ends_unsynced();
                verdict
            }
            Some(Owed::Question) => self.done(Verdict::Swallow),
            _ => Verdict::Unexpected,
        }
    }

    /// A simple query has been answered: it has ended whatever was sent before it, as a Sync does.
    fn ends_unsynced(&mut self) {
        self.unsynced &= !self.owed.is_empty() || self.skipping;
    }

    /// Whether the server is to answer what a transaction's mark is.
    #[inline]
    pub fn asks(&self) -> bool {
        let asks = |owed: &Owed<P>| matches!(owed, Owed::Question | Owed::Asking);
        self.owed.iter().any(asks)
    }

    /// Whether it answers that now.
    #[inline]
    pub fn at_question(&self) -> bool {
        matches!(self.owed.front(), Some(Owed::Question | Owed::Asking))
    }

    /// Whether it answers a Parse or a Bind now: an error is one of these.
    pub fn at_bind(&self) -> bool {
        matches!(
            self.owed.front(),
            Some(Owed::Parse { .. } | Owed::Bind { .. })
        )
    }

    /// Whether what is answered next is sure to fail, and worded by us.
    pub fn fails_next(&self) -> bool {
        matches!(self.owed.front(), Some(Owed::Fail(_)))
    }

    /// Whether a simple query of ours asks for that now.
    pub fn in_question(&self) -> bool {
        matches!(self.owed.front(), Some(Owed::Question))
    }

    /// Whether it answers what stands before that question.
    pub fn at_head(&self) -> bool {
        matches!(self.owed.front(), Some(Owed::Head | Owed::Body))
    }

    /// Whether a CommandComplete that comes now is kept back.
    pub fn keeps_back(&self) -> bool {
        matches!(self.owed.front(), Some(Owed::Body))
    }

    /// Whether a CommandComplete that comes now is that of a COMMIT of ours.
    pub fn at_tail(&self) -> bool {
        matches!(self.owed.front(), Some(Owed::Tail))
    }

    /// Whether the front of a client's text has failed, so that the rest of it must not be sent.
    pub fn is_headless(&self) -> bool {
        self.headless
    }

    /// Answers all that the client waits for as a server would whose COMMIT has succeeded; false, and nothing is written, if
    /// it waits for anything else. `told` is whether it has been told that the COMMIT is done.
    pub fn acknowledge(&self, out: &mut BytesMut, mut told: bool) -> bool {
        let before = out.len();
        for owed in &self.owed {
            let done = match owed {
                Owed::Follow(_) | Owed::Parse { hidden: true, .. } => true,
                Owed::Local { reply, .. } => {
                    out.extend_from_slice(reply);
                    true
                }
                Owed::Parse { hidden: false, .. } => {
                    out.extend_from_slice(&backend::PARSE_COMPLETE);
                    true
                }
                Owed::Bind { .. } => {
                    out.extend_from_slice(&backend::BIND_COMPLETE);
                    true
                }
                Owed::DescribePortal { .. } => {
                    out.extend_from_slice(&backend::NO_DATA);
                    true
                }
                Owed::Query => {
                    let fits = std::mem::replace(&mut told, true)
                        || backend::command_complete(out, b"COMMIT").is_ok();
                    backend::ready_for_query(out, TransactionStatus::Idle);
                    fits
                }
                Owed::Execute => {
                    !std::mem::replace(&mut told, true)
                        && backend::command_complete(out, b"COMMIT").is_ok()
                }
                Owed::Sync | Owed::Tail => {
                    backend::ready_for_query(out, TransactionStatus::Idle);
                    true
                }
                _ => false,
            };
            if !done {
                out.truncate(before);
                return false;
            }
        }
        true
    }

    /// Whether the turn of a reply of ours has come.
    #[inline]
    pub fn is_local(&self) -> bool {
        matches!(self.owed.front(), Some(Owed::Local { .. }))
    }

    /// The reply of ours whose turn has come, if any; to be sent to the client at once.
    pub fn local(&mut self) -> Option<&'static [u8]> {
        let Some(Owed::Local { reply, .. }) = self.owed.front() else {
            return None;
        };
        let reply = *reply;
        self.done(Verdict::Forward);
        Some(reply)
    }

    /// Whether nothing is owed, no transaction is open, and the connection may serve another.
    #[inline]
    pub fn is_over(&self) -> bool {
        self.owed.is_empty()
            && self.status == TransactionStatus::Idle
            && !self.unsynced
            && !self.skipping
            && self.doubt == Doubt::None
    }

    /// Whether no transaction is open and nothing that the client has asked for is owed, though the
    /// server may still be brought to the client's settings.
    pub fn is_unasked(&self) -> bool {
        self.owed
            .iter()
            .all(|owed| matches!(owed, Owed::Setup | Owed::Ahead { .. }))
            && self.status == TransactionStatus::Idle
            && !self.unsynced
            && !self.skipping
            && self.doubt == Doubt::None
    }

    /// Whether the server owes anything at all.
    pub fn owes(&self) -> bool {
        !self.owed.is_empty()
    }

    /// Whether any of that is for the client. What is ours alone may be under way before anything of the client's
    /// was sent.
    pub fn owes_client(&self) -> bool {
        let ours = |owed: &Owed<P>| {
            matches!(
                owed,
                Owed::Setup
                    | Owed::Ahead { .. }
                    | Owed::OurSync
                    | Owed::Ours(_)
                    | Owed::Follow(_)
                    | Owed::Question
                    | Owed::Asking
                    | Owed::Remarks
                    | Owed::Parse { hidden: true, .. }
                    | Owed::DescribeStatement { hidden: true, .. }
                    | Owed::Close { hidden: true, .. }
            )
        };
        !self.owed.iter().all(ours)
    }

    /// Whether any of what is owed runs statements, of whomever.
    pub fn executes(&self) -> bool {
        let only_names = |owed: &Owed<P>| {
            matches!(
                owed,
                Owed::Setup
                    | Owed::Ahead { .. }
                    | Owed::Parse { .. }
                    | Owed::Remarks
                    | Owed::Bind { .. }
                    | Owed::DescribeStatement { .. }
                    | Owed::DescribePortal { .. }
                    | Owed::Close { .. }
                    | Owed::Local { .. }
            )
        };
        !self.owed.iter().all(only_names)
    }

    /// How many ReadyForQuery messages the client waits for.
    pub fn replies_owed(&self) -> usize {
        self.owed.iter().filter(|owed| is_awaited(owed)).count()
    }

    /// Whether so much is owed that no more should be sent before some of it has come.
    #[inline]
    pub fn is_crowded(&self) -> bool {
        self.owed.len() >= CROWD
    }

    /// Whether so many Syncs were sent into a COPY, which ignores them, that no client means it.
    pub fn is_flooded(&self) -> bool {
        matches!(self.doubt, Doubt::Copying(syncs) if syncs >= CROWD)
    }

    /// Whether the unnamed statement is another one, or none, from behind the next Sync on.
    pub fn replaces_unnamed_later(&self) -> bool {
        let mut behind = self.owed.iter().skip_while(|owed| !is_sync(owed));
        behind.any(replaces_unnamed)
    }

    /// Whether what the unnamed statement is hangs on an error that may come in front of an owed Sync.
    pub fn settles_unnamed_later(&mut self) -> bool {
        if !self.keeps {
            return false;
        }
        self.keeps = self.owed.iter().any(is_keeping);
        let mut synced = false;
        for owed in self.owed.iter().rev() {
            if synced && is_keeping(owed) {
                return true;
            }
            // Either it is done, or nothing behind it is.
            if !synced && replaces_unnamed(owed) {
                return false;
            }
            synced |= is_sync(owed);
        }
        false
    }

    /// Whether the client's name of a statement that it has closed may be valid still, behind the next Sync: where an
    /// error comes in front of the Close, the server skips it.
    pub fn may_reopen(&mut self, name: &[u8]) -> bool {
        if !self.closes {
            return false;
        }
        self.closes = self.owed.iter().any(is_closing);
        let closes = |owed: &Owed<P>| match owed {
            Owed::Local { undo, .. } | Owed::Close { undo, .. } => {
                matches!(undo, Undo::Closed(closed) if *closed.name == *name)
            }
            _ => false,
        };
        let mut behind = self.owed.iter().skip_while(|owed| !closes(owed));
        behind.any(is_sync)
    }

    /// Whether there may be such a name.
    #[inline]
    pub fn closes(&self) -> bool {
        self.closes
    }

    /// Bytes of statements that are kept for the case that an error has the server skip what ends them.
    pub fn kept_bytes(&mut self) -> usize {
        if !self.keeps && !self.closes {
            return 0;
        }
        let kept = self.owed.iter().map(|owed| match owed {
            Owed::Close { undo, .. } | Owed::Local { undo, .. } => undo.kept_bytes(),
            _ => 0,
        });
        let kept = kept.sum();
        self.closes &= kept > 0;
        kept
    }

    /// Whether what the client means by one of these names hangs on a message in front of an owed Sync.
    pub fn settles_later(&self, is_one: impl Fn(&[u8]) -> bool) -> bool {
        let Some(sync) = self.owed.iter().rposition(is_sync) else {
            return false;
        };
        self.owed.iter().take(sync).any(|owed| match owed {
            Owed::Parse { undo, .. } | Owed::Close { undo, .. } | Owed::Local { undo, .. } => {
                match undo {
                    Undo::Parsed { by_client, .. } => by_client.as_deref().is_some_and(&is_one),
                    Undo::Closed(closed) => is_one(&closed.name),
                    Undo::Nothing
                    | Undo::Unnamed
                    | Undo::Repeated
                    | Undo::Kept(_)
                    | Undo::Gone(_)
                    | Undo::Bound(_) => false,
                }
            }
            _ => false,
        })
    }

    /// Something is sent that binds the session for these reasons, unless an error has the server skip it: whatever was
    /// to be taken back of them is skipped by itself only if no Sync is between the two.
    pub fn keep_bound(&mut self, pins: PinSet) {
        let end = self.owed.iter().rposition(is_sync).unwrap_or_default();
        keep(self.owed.iter_mut().take(end), pins);
    }

    /// The session is bound for these reasons, whatever is skipped of what is owed.
    pub fn have_bound(&mut self, pins: PinSet) {
        keep(self.owed.iter_mut(), pins);
    }

    /// Has the error at hand answer the simple query behind our own Sync, if what failed is our
    /// preparation for that query; false if it is anything else. `message` is the whole error.
    pub fn blame(&mut self, message: &[u8]) -> bool {
        let is_preparation = matches!(
            self.owed.front(),
            Some(
                Owed::Parse { hidden: true, .. }
                    | Owed::Remarks
                    | Owed::Close { hidden: true, .. }
                    | Owed::Ours(_)
            )
        );
        if !is_preparation {
            return false;
        }
        let sync = self.owed.iter().position(is_sync);
        let Some(at) = sync.filter(|at| matches!(self.owed[*at], Owed::OurSync)) else {
            return false;
        };
        let mut behind = self.owed.iter_mut().skip(at + 1);
        match behind.find(|owed| !matches!(owed, Owed::Follow(_))) {
            Some(query @ Owed::Query) => {
                *query = Owed::QueryFail(message.into());
                true
            }
            _ => false,
        }
    }

    /// Whether what is answered now is of ours, and goes before all that the client has sent.
    pub fn in_setup(&self) -> bool {
        matches!(self.owed.front(), Some(Owed::Setup | Owed::Ahead { .. }))
    }

    /// Whether that is a statement without which nothing of what was sent runs.
    pub fn is_ahead(&self) -> bool {
        matches!(self.owed.front(), Some(Owed::Ahead { .. }))
    }

    /// Whether such a statement may still fail.
    pub fn goes_ahead(&self) -> bool {
        self.lead != Lead::None
    }

    /// Whether what were sent now would run even if such a statement fails: there is a Sync between them.
    #[inline]
    pub fn is_synced_ahead(&self) -> bool {
        self.lead == Lead::Synced
    }

    /// Whether the next ReadyForQuery is not the client's.
    pub fn at_our_sync(&self) -> bool {
        matches!(self.owed.front(), Some(Owed::OurSync))
    }

    /// Whether what the server does now was put in by us.
    fn is_ours(&self) -> bool {
        matches!(
            self.owed.front(),
            Some(
                Owed::Setup
                    | Owed::Ahead { .. }
                    | Owed::Ours(_)
                    | Owed::Question
                    | Owed::Asking
                    | Owed::Parse { hidden: true, .. }
                    | Owed::DescribeStatement { hidden: true, .. }
            )
        )
    }

    /// Whether a CommandComplete that comes now is that of a statement of the client's.
    pub fn completes_clients(&self) -> bool {
        matches!(
            self.owed.front(),
            Some(Owed::Query | Owed::Execute | Owed::Head | Owed::Body)
        ) && !self.following.as_deref().is_some_and(Following::is_ours)
    }

    /// Whether a CommandComplete, or what comes in its place, is that of a statement which the client has sent, or of one
    /// in its place.
    pub fn completes_one(&self) -> bool {
        match self.owed.front() {
            Some(Owed::Query | Owed::Head | Owed::Body) => {
                !self.following.as_deref().is_some_and(Following::is_ours)
            }
            Some(front) => is_execute(front),
            None => false,
        }
    }

    /// How many statements of the request that was begun last are sent and not answered, and whether none is owed
    /// before it.
    pub fn begun(&self) -> (usize, bool) {
        let mut statements = 0;
        for owed in self.owed.iter().rev() {
            if is_awaited(owed) {
                return (statements, false);
            }
            statements += usize::from(is_execute(owed));
        }
        (statements, true)
    }

    /// The statement that the server describes, if that is to be remembered, and whether it was we
    /// who asked.
    pub fn describing(&self) -> Option<(&Described, bool)> {
        match self.owed.front()? {
            Owed::DescribeStatement { of, hidden } => Some((of.as_deref()?, *hidden)),
            _ => None,
        }
    }

    /// Whether the server is to describe a statement that its client has not asked about.
    pub fn surveys(&self) -> bool {
        let surveys = |owed: &Owed<P>| matches!(owed, Owed::DescribeStatement { hidden: true, .. });
        self.owed.iter().any(surveys)
    }

    /// The statement whose portal the server describes, if that is to be remembered.
    pub fn describing_portal(&self) -> Option<&Described> {
        match self.owed.front()? {
            Owed::DescribePortal { of } => of.as_deref(),
            _ => None,
        }
    }

    /// The statement that the server looks up now.
    pub fn uses(&self) -> Option<Placed> {
        match self.owed.front()? {
            Owed::Bind { of } => *of,
            Owed::DescribeStatement { of, .. } => Some(of.as_deref()?.placed),
            _ => None,
        }
    }

    /// What the statement whose answer has come just now does to settings and savepoints; `None` if
    /// that is not followed.
    #[inline]
    pub fn next_step(&mut self) -> Option<Step> {
        self.following.as_deref_mut()?.next()
    }

    /// What the statement does to settings and savepoints whose answer comes next; `None` if that is not followed.
    pub fn current_step(&self) -> Option<&Step> {
        self.following.as_deref()?.current()
    }

    /// What all statements do to settings and savepoints that were sent and are not answered, if any of them does
    /// anything.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        // This is asked for each message of a pipeline, which is long where it matters.
        let looked_at = if self.moves { self.owed.len() } else { 0 };
        let owed = self.owed.iter().take(looked_at);
        let behind = owed.filter_map(|owed| match owed {
            Owed::Follow(following) => Some(&**following),
            _ => None,
        });
        let all = self.following.as_deref().into_iter().chain(behind);
        all.flat_map(Following::steps)
    }

    /// Whether what the message at the front does to settings and savepoints is followed.
    #[inline]
    pub fn has_following(&self) -> bool {
        self.following.is_some()
    }

    /// Where in the client's text an error is that the server places at `told`, if that differs.
    pub fn position(&self, told: usize) -> Option<usize> {
        self.following.as_deref()?.position(told)
    }

    /// Whether statements were sent that do something to settings or savepoints and are not answered.
    pub fn follows(&self) -> bool {
        let follows = |owed: &Owed<P>| matches!(owed, Owed::Follow(_));
        self.following.is_some() || self.owed.iter().any(follows)
    }

    /// Whether an error that comes now is that of a simple query of the client's, or of its end.
    pub fn is_text(&self) -> bool {
        matches!(
            self.owed.front(),
            Some(Owed::Query | Owed::QuerySaying(_) | Owed::Head | Owed::Body | Owed::Tail)
        )
    }

    /// Whether a Sync is what the server answers next.
    pub fn at_sync(&self) -> bool {
        matches!(self.owed.front(), Some(Owed::Sync))
    }

    /// The transaction status of the last ReadyForQuery.
    pub fn status(&self) -> TransactionStatus {
        self.status
    }

    /// Whether the transaction is sure to have failed: the server has said so last, and nothing was sent since then
    /// that may have ended it, or gone back to a savepoint.
    pub fn has_failed(&self) -> bool {
        self.status == TransactionStatus::Failed && !self.has_run && !self.executes()
    }

    /// Whether COPY data flows.
    pub fn copy(&self) -> CopyFlow {
        self.copy
    }

    /// Whether the server discards what the client sends until a Sync.
    pub fn skipping(&self) -> bool {
        self.skipping
    }

    /// Whether extended-protocol messages were sent without a Sync behind them.
    pub fn unsynced(&self) -> bool {
        self.unsynced
    }

    /// Whether the count of replies can no longer be trusted: the connection must not be reused.
    pub fn doubtful(&self) -> bool {
        self.doubt != Doubt::None
    }

    /// The connection is lost: nothing comes any more, so that nothing is ever over on it.
    pub fn lose(&mut self) {
        self.doubt = Doubt::Lost;
    }

    fn copies(&mut self, flow: CopyFlow) -> Verdict {
        self.copy = flow;
        Verdict::Forward
    }

    /// Enters COPY IN, where the server ignores each Sync until the client ends its data.
    fn copy_in(&mut self) -> Verdict {
        self.copy = CopyFlow::In;
        let behind = self.owed.iter().skip(1);
        let syncs = behind.take_while(|owed| matches!(owed, Owed::Sync)).count();
        match self.owed.get(1 + syncs) {
            None => {}
            Some(Owed::CopyEnd) => self.copy = CopyFlow::Ended,
            // As in `interrupt`.
            Some(_) => return Verdict::Forward,
        }
        if syncs > 0 {
            self.owed.drain(1..=syncs);
            self.doubt = Doubt::Copying(syncs);
            // None of them ends the implicit transaction: the next one does.
            let extended = matches!(
                self.owed.front(),
                Some(Owed::Execute | Owed::ExecuteSaying(_))
            );
            let is_sync = |owed: &Owed<P>| matches!(owed, Owed::Sync | Owed::OurSync);
            self.unsynced |= extended && !self.owed.iter().any(is_sync);
        }
        Verdict::Forward
    }

    /// A message is sent that has no place in a COPY, and would end the connection if it were read
    /// within one. So if the Syncs before it matter at all, the COPY has failed before them, and
    /// they count.
    #[inline]
    fn interrupt(&mut self) {
        if self.copy == CopyFlow::In
            && let Doubt::Copying(syncs) = self.doubt
        {
            self.doubt = Doubt::None;
            self.unsynced = false;
            let counted = std::iter::repeat_with(|| Owed::Sync).take(syncs);
            self.owed.extend(counted);
        }
    }

    /// A statement of a simple query has ended well, and with it the data of its COPY.
    fn completed(&mut self) -> Verdict {
        if self.copy == CopyFlow::Ended {
            self.doubt = Doubt::None;
            if matches!(self.owed.get(1), Some(Owed::CopyEnd)) {
                self.owed.remove(1);
            }
        }
        self.copies(CopyFlow::None)
    }

    fn failed(&mut self, mut undo: impl FnMut(Undo<P>)) -> Verdict {
        // What has not been answered yet will not run.
        self.following = None;
        let copying = matches!(self.doubt, Doubt::Copying(_));
        let verdict = match self.owed.front_mut() {
            None => return Verdict::Unexpected,
            Some(Owed::QueryFail(report)) => return Verdict::Replace(std::mem::take(report)),
            Some(Owed::Question) => return Verdict::Swallow,
            Some(
                head @ (Owed::Query
                | Owed::QuerySaying(_)
                | Owed::FunctionCall
                | Owed::Head
                | Owed::Body
                | Owed::Tail),
            ) => {
                // What the client waits for is the answer to the whole: the rest of its text is skipped, also where the
                // front could not even be read, and no block was opened.
                self.headless |= matches!(head, Owed::Head);
                self.copy = CopyFlow::None;
                if copying {
                    self.doubt = Doubt::Failed;
                }
                return Verdict::Forward;
            }
            Some(Owed::Setup) => return Verdict::Swallow,
            Some(Owed::Ahead { .. }) => {
                self.lead = Lead::None;
                Verdict::Swallow
            }
            Some(Owed::Fail(report)) => Verdict::Replace(std::mem::take(report)),
            Some(_) => Verdict::Forward,
        };
        self.copy = CopyFlow::None;
        if copying {
            self.doubt = Doubt::Behind;
        }
        let sync = self.owed.iter().position(is_sync);
        self.skipping |= sync.is_none();
        let end = sync.unwrap_or(self.owed.len());
        // The latest first: a name may have been closed and taken again, or taken and closed.
        for (at, owed) in self.owed.drain(..end).enumerate().rev() {
            if let Owed::Parse { undo: what, .. }
            | Owed::Close { undo: what, .. }
            | Owed::Local { undo: what, .. } = owed
            {
                match what {
                    Undo::Repeated if at == 0 => undo(Undo::Unnamed),
                    Undo::Repeated => {}
                    what => undo(what),
                }
            }
        }
        verdict
    }

    fn done(&mut self, verdict: Verdict) -> Verdict {
        // What goes before a text of the client's has nothing to do with what is written down of it.
        let before = self.owed.pop_front();
        self.moves &= !self.owed.is_empty();
        self.has_run |= matches!(before, Some(Owed::Execute | Owed::ExecuteSaying(_)));
        if !matches!(
            before,
            Some(Owed::Setup | Owed::Ahead { .. } | Owed::Local { .. })
        ) {
            self.following = None;
        }
        if self.lead != Lead::None && !self.in_setup() {
            self.lead = Lead::None;
        }
        while let Some(Owed::CopyEnd | Owed::Follow(_)) = self.owed.front() {
            if let Some(Owed::Follow(following)) = self.owed.pop_front() {
                self.following = Some(following);
            }
        }
        verdict
    }
}

/// Of these reasons nothing is taken back any more.
fn keep<'a, P: 'a>(owed: impl Iterator<Item = &'a mut Owed<P>>, pins: PinSet) {
    for owed in owed {
        if let Owed::Local {
            undo: Undo::Bound(of),
            ..
        } = owed
        {
            *of = of.without(pins);
        }
    }
}

/// Whether an error in front of it has the unnamed statement stay.
fn is_keeping<P>(owed: &Owed<P>) -> bool {
    matches!(
        owed,
        Owed::Local {
            undo: Undo::Kept(_),
            ..
        }
    )
}

/// Whether an error in front of it has a statement of the client's stay.
#[inline]
fn is_closing<P>(owed: &Owed<P>) -> bool {
    matches!(
        owed,
        Owed::Close {
            undo: Undo::Closed(_),
            ..
        } | Owed::Local {
            undo: Undo::Closed(_),
            ..
        }
    )
}

/// Whether the unnamed statement is not what it was behind this.
fn replaces_unnamed<P>(owed: &Owed<P>) -> bool {
    matches!(
        owed,
        Owed::Query
            | Owed::QuerySaying(_)
            | Owed::QueryFail(_)
            | Owed::Head
            | Owed::Body
            | Owed::Parse {
                undo: Undo::Unnamed | Undo::Repeated,
                ..
            }
    )
}

/// Whether the client waits for the ReadyForQuery with which the answer ends.
#[inline]
fn is_awaited<P>(owed: &Owed<P>) -> bool {
    matches!(
        owed,
        Owed::Query
            | Owed::QuerySaying(_)
            | Owed::QueryFail(_)
            | Owed::Sync
            | Owed::Tail
            | Owed::FunctionCall
    )
}

/// Whether a statement is executed by it in the place of one of the client's.
fn is_execute<P>(owed: &Owed<P>) -> bool {
    matches!(owed, Owed::Execute | Owed::ExecuteSaying(_))
}

fn is_sync<P>(owed: &Owed<P>) -> bool {
    matches!(owed, Owed::Sync | Owed::OurSync)
}

/// A reply to a message of ours is not the client's to see.
fn seen(hidden: bool) -> Verdict {
    if hidden {
        Verdict::Swallow
    } else {
        Verdict::Forward
    }
}

/// Whether a message belongs to the answer to a simple query, beside those that may come at any
/// time and those that change the flow of COPY data. A login's or a pipeline's do not: a client
/// could take them for its own.
#[inline]
fn answers_query(message: u8) -> bool {
    matches!(
        message,
        tag::DATA_ROW
            | tag::ROW_DESCRIPTION
            | tag::COPY_DATA
            | tag::COPY_DONE
            | tag::EMPTY_QUERY_RESPONSE
    )
}

#[cfg(test)]
mod tests;
