//! Answers of several servers at once: what was sent to them is judged here, and what of it is the client's goes
//! into a [`Sink`].
//!
//! Who holds the connections, and what becomes of them, is the caller's affair: [`gather`] borrows them. What
//! waits in a leg's `out` is sent, answers are read until all of them are over, and the first error, a cancel
//! request, a timeout or a client that leaves ends the wait. What those whose turn has not come say meanwhile
//! waits in their sockets, so little of it is held here.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use pgherd_net::{poll_read_into, poll_write_from};
use pgherd_session::{Flow, Owed, Verdict};
use pgherd_wire::backend::{self, ColumnView, RowDescription, tag};
use pgherd_wire::error::ErrorReport;
use pgherd_wire::{frame, frontend, sqlstate};
use tokio::time::Sleep;

use super::legs::Leg;
use crate::clock;
use crate::control::Order;
use crate::session::relay::Relay;
use crate::shards::{FIRST_OWN, Group, Known};
use crate::transactions::deadlocks::{self, Wait};

/// How much is read at once.
const READ: usize = 64 * 1024;
/// A message other than a row that is larger is none of a server's.
const MESSAGE_MAX: usize = 1024 * 1024;
/// What a server says in words may be as large as a row.
const SAID_MAX: usize = 64 * 1024 * 1024;
/// What the client may send meanwhile.
const KEPT_MAX: usize = 64 * 1024;

/// Somebody who waits for long looks for a deadlock this often.
const SEARCH_MAX: Duration = Duration::from_secs(4);

/// How it ends.
pub(super) enum End {
    /// All answers are over, or no more of them is wanted.
    Answered,
    /// A server has said this error: the message, for the client.
    Failed(Box<[u8]>),
    /// The client is told this.
    Stopped(Box<ErrorReport>),
    /// A leg has broken: it is marked as lost.
    Lost(Box<ErrorReport>),
    /// The client is gone, or cannot be told anything any more but why it is sent away.
    Gone,
}

/// When a statement has to be over.
#[derive(Debug)]
pub(super) struct Deadlines {
    query: Option<Instant>,
    /// And when its transaction.
    pub(super) whole: Option<Instant>,
}

impl Deadlines {
    /// Those of a statement that begins now, in a transaction that was asked for then.
    pub(super) fn new(relay: &Relay, asked: Instant) -> Self {
        let settings = relay.pool.settings();
        Self {
            query: settings.timeouts.query.map(|limit| clock::now() + limit),
            whole: settings.timeouts.transaction.map(|limit| asked + limit),
        }
    }
}

/// What becomes of the answers.
pub(super) trait Sink: Send {
    /// Takes the description of the columns, the same on all legs: a whole RowDescription or CopyOutResponse, or
    /// nothing where no rows come.
    fn columns(&mut self, relay: &mut Relay, columns: Option<&[u8]>) -> Result<(), End>;

    /// Takes what has come, until all is over or no more is wanted.
    fn poll(
        &mut self,
        relay: &mut Relay,
        legs: &mut [Leg],
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), End>>;
}

/// What comes next of a leg.
pub(super) enum Next {
    /// A row, or data of a COPY, of so many bytes; not all of them need be here.
    Row(usize),
    /// More has to be read first.
    More,
    /// Its answer is over.
    Over,
}

/// Puts one text into each leg, as a simple query.
pub(super) fn put(relay: &Relay, legs: &mut [Leg], text: &[u8]) {
    let judgement = relay.judge(text);
    for leg in legs {
        let built = frontend::query(leg.out.made(), text);
        debug_assert!(built.is_ok(), "it came in a message");
        leg.lease.exchange.sent(Owed::Query);
        leg.note(relay, &judgement, text);
        leg.begin();
    }
}

/// Sends what the legs have for their servers, and has the sink take the answers, before the deadlines.
pub(super) async fn gather(
    relay: &mut Relay,
    legs: &mut [Leg],
    sink: &mut dyn Sink,
    deadlines: &Deadlines,
) -> End {
    let mut gather = Gather {
        legs,
        sink,
        described: false,
    };
    for (at, leg) in gather.legs.iter_mut().enumerate() {
        leg.remarks = at == 0;
    }
    watched(relay, deadlines, |relay, cx| {
        if let Poll::Ready(end) = gather.poll(relay, cx) {
            return Poll::Ready(end);
        }
        poll_presence(relay, cx).map(|()| End::Gone)
    })
    .await
}

/// Polls until it ends, the client calls it off or is sent away, or a deadline has come.
pub(super) async fn watched(
    relay: &mut Relay,
    deadlines: &Deadlines,
    mut poll: impl FnMut(&mut Relay, &mut Context<'_>) -> Poll<End>,
) -> End {
    let control = Arc::clone(&relay.control);
    let timer = |at: Option<Instant>| {
        let timer = at.map(|at| tokio::time::sleep_until(at.into()));
        timer.map(Box::pin)
    };
    let mut query = timer(deadlines.query);
    let mut whole = timer(deadlines.whole);
    let mut waiting = Waiting::of(relay);
    poll_fn(|cx| {
        if let Poll::Ready(end) = poll(relay, cx) {
            return Poll::Ready(end);
        }
        if let Some(waiting) = &mut waiting
            && waiting.poll_condemned(cx).is_ready()
        {
            return Poll::Ready(End::Stopped(Box::new(deadlocks::detected())));
        }
        if control.poll_ordered(cx).is_ready() && control.ordered() == Order::Terminate {
            return Poll::Ready(End::Gone);
        }
        if control.is_called_off() {
            let text = "canceling statement due to user request";
            return Poll::Ready(stopped(text));
        }
        let mut is_over = |timer: &mut Option<Pin<Box<Sleep>>>| {
            let timer = timer.as_mut();
            timer.is_some_and(|timer| timer.as_mut().poll(cx).is_ready())
        };
        if is_over(&mut query) {
            let text = "canceling statement due to the query timeout of the pool";
            return Poll::Ready(stopped(text));
        }
        if is_over(&mut whole) {
            let text = "canceling statement due to the transaction timeout of the pool";
            return Poll::Ready(stopped(text));
        }
        Poll::Pending
    })
    .await
}

/// A transaction over several shards waits, perhaps for somebody who waits for it.
struct Waiting {
    wait: Wait,
    group: Arc<Group>,
    /// When it looks for that, and after which time again.
    search: Pin<Box<Sleep>>,
    pause: Duration,
}

impl Waiting {
    fn of(relay: &Relay) -> Option<Self> {
        let spread = relay.spread.as_deref()?;
        Some(Self {
            wait: spread.waiter.as_ref()?.begin(),
            group: Arc::clone(&spread.group),
            search: Box::pin(tokio::time::sleep(deadlocks::PATIENCE)),
            pause: deadlocks::PATIENCE,
        })
    }

    /// Ready if its wait is to be ended, so that others can go on.
    fn poll_condemned(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.search.as_mut().poll(cx).is_ready() {
            tokio::spawn(deadlocks::search(Arc::clone(&self.group)));
            let next = clock::now() + self.pause;
            self.search.as_mut().reset(next.into());
            // Whoever closes a cycle looks soon. It may wait for its client, too.
            self.pause = (self.pause * 2).min(SEARCH_MAX);
        }
        self.wait.poll_condemned(cx)
    }
}

struct Gather<'a> {
    legs: &'a mut [Leg],
    sink: &'a mut dyn Sink,
    /// The sink knows of the columns.
    described: bool,
}

impl Gather<'_> {
    fn poll(&mut self, relay: &mut Relay, cx: &mut Context<'_>) -> Poll<End> {
        for leg in self.legs.iter_mut().filter(|leg| !leg.sent) {
            match poll_write_from(&mut leg.lease.stream, cx, &mut leg.out) {
                Poll::Ready(Ok(())) => leg.sent = true,
                Poll::Ready(Err(error)) => return Poll::Ready(leg.lost(&error.to_string())),
                Poll::Pending => {}
            }
        }
        if !self.described {
            match self.poll_columns(relay, cx) {
                Poll::Ready(Ok(())) => self.described = true,
                Poll::Ready(Err(end)) => return Poll::Ready(end),
                Poll::Pending => return self.look_ahead(cx),
            }
        }
        match self.sink.poll(relay, self.legs, cx) {
            Poll::Ready(Ok(())) => Poll::Ready(End::Answered),
            Poll::Ready(Err(end)) => Poll::Ready(end),
            Poll::Pending => self.look_ahead(cx),
        }
    }

    /// Waits for what the shards say of the columns, which must be the same.
    fn poll_columns(&mut self, relay: &mut Relay, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        let mut all = true;
        for leg in self.legs.iter_mut() {
            all &= leg.poll_columns(cx)?.is_ready();
        }
        if !all {
            return Poll::Pending;
        }
        let Some((first, others)) = self.legs.split_first() else {
            return Poll::Ready(Ok(()));
        };
        for leg in others {
            alike(relay, first.described(), leg.described())?;
        }
        let columns = first.columns.clone();
        // All of them have taken what was bound.
        let mut legs = self.legs.iter_mut();
        if legs.any(|leg| std::mem::take(&mut leg.acks)) {
            relay.down.insert(&backend::BIND_COMPLETE);
        }
        Poll::Ready(self.sink.columns(relay, columns.as_deref()))
    }

    /// Looks whether a leg says an error: nobody has to wait for its turn then.
    fn look_ahead(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        for leg in self.legs.iter_mut().filter(|leg| leg.columns.is_some()) {
            if let Err(end) = leg.look(cx) {
                return Poll::Ready(end);
            }
        }
        Poll::Pending
    }
}

/// Whether what the client has bound was refused before it ran, so that there is no BindComplete before the error.
pub(super) fn is_unbound(legs: &[Leg], end: &End) -> bool {
    match end {
        End::Stopped(report) => report.code == sqlstate::PROTOCOL_VIOLATION,
        _ => legs.iter().any(|leg| leg.refused),
    }
}

impl Leg {
    /// Its description of the columns.
    pub(super) fn described(&self) -> Described<'_> {
        (self.shard, self.columns.as_deref())
    }

    /// Takes note that another answer is to come of it.
    pub(super) fn begin(&mut self) {
        self.sent = false;
        self.columns = None;
        self.parameters = None;
        self.parsed = false;
        self.refused = false;
        self.done = None;
    }

    /// Judges what has come, up to the next row.
    pub(super) fn next(&mut self) -> Result<Next, End> {
        while self.lease.flow.resume() {
            if !self.lease.exchange.owes() {
                return Ok(Next::Over);
            }
            let header = match frame::header(self.lease.flow.unjudged()) {
                Ok(Some(header)) => header,
                Ok(None) => break,
                Err(error) => return Err(self.lost(&error.to_string())),
            };
            let total = header.total();
            if matches!(header.tag, tag::DATA_ROW | tag::COPY_DATA) {
                if self.columns.is_none() {
                    return Err(self.lost("a row without a description"));
                }
                return Ok(Next::Row(total));
            }
            let most = match header.tag {
                tag::ERROR_RESPONSE | tag::NOTICE_RESPONSE => SAID_MAX,
                _ => MESSAGE_MAX,
            };
            if total > most {
                return Err(self.broken());
            }
            if self.lease.flow.unjudged().len() < total {
                break;
            }
            self.take(header.tag, total)?;
        }
        Ok(Next::More)
    }

    /// Takes a message other than a row.
    fn take(&mut self, tag: u8, total: usize) -> Result<(), End> {
        let message: Box<[u8]> = self.lease.flow.unjudged()[..total].into();
        let body = &message[frame::HEADER_LEN..];
        let verdict = match tag {
            tag::READY_FOR_QUERY => match backend::ReadyForQuery::parse(body) {
                Ok(ready) => self.lease.exchange.ready(ready.status),
                Err(error) => return Err(self.lost(&error.to_string())),
            },
            tag::ERROR_RESPONSE => {
                let report = ErrorReport::parse(body);
                if report.is_fatal() {
                    return Err(self.lost(&report.message));
                }
                self.refused = self.lease.exchange.at_bind();
                self.lease.exchange.received(tag::ERROR_RESPONSE, |_| {});
                self.lease.flow.hide(total);
                // Half a row may be on its way to the client: it goes behind that.
                return Err(End::Failed(message));
            }
            // What all of them remark on is said once.
            tag::NOTICE_RESPONSE if self.remarks => {
                self.lease.flow.hide(total);
                self.lease.flow.insert(&message);
                return Ok(());
            }
            tag::PARAMETER_STATUS => {
                self.report_of(body);
                Verdict::Swallow
            }
            tag::NOTICE_RESPONSE => Verdict::Swallow,
            _ => self.lease.exchange.received(tag, |_| {}),
        };
        if verdict == Verdict::Unexpected {
            return Err(self.broken());
        }
        self.lease.flow.hide(total);
        match tag {
            tag::ROW_DESCRIPTION | tag::COPY_OUT_RESPONSE | tag::COPY_IN_RESPONSE => {
                self.columns = Some(message);
            }
            tag::PARAMETER_DESCRIPTION => self.parameters = Some(message),
            tag::PARSE_COMPLETE => self.parsed = true,
            tag::COMMAND_COMPLETE => {
                let text = body.strip_suffix(b"\0").unwrap_or(body);
                self.done = Some(text.into());
            }
            _ => {}
        }
        Ok(())
    }

    /// Waits for the description of its columns; there may be none.
    fn poll_columns(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, End> {
        while self.columns.is_none() {
            match self.next()? {
                Next::Row(_) | Next::Over => break,
                Next::More => {
                    if self.poll_read(cx)?.is_pending() {
                        return Ok(Poll::Pending);
                    }
                }
            }
        }
        Ok(Poll::Ready(()))
    }

    /// Waits for a row that is here as a whole, if it is no larger than `most`, and tells how large it is;
    /// nothing once the answer is over.
    pub(super) fn poll_row(
        &mut self,
        most: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<usize>, End>> {
        loop {
            match self.next()? {
                Next::Row(total) if total > most || self.lease.flow.unjudged().len() >= total => {
                    return Poll::Ready(Ok(Some(total)));
                }
                Next::Over => return Poll::Ready(Ok(None)),
                Next::Row(_) | Next::More => {
                    if self.poll_read(cx)?.is_pending() {
                        return Poll::Pending;
                    }
                }
            }
        }
    }

    /// The kind of the row in front is judged, and it is one that goes on or is left out.
    pub(super) fn count(&mut self) {
        if let Some(tag) = self.lease.flow.unjudged().first().copied() {
            self.lease.exchange.received(tag, |_| {});
        }
    }

    /// Looks whether an error comes next.
    pub(super) fn look(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        while !self.lease.flow.is_mid_message() {
            match frame::header(self.lease.flow.unjudged()) {
                Ok(Some(header)) if header.tag == tag::ERROR_RESPONSE => {
                    self.next()?;
                }
                Ok(None) if self.lease.exchange.owes() => {}
                _ => break,
            }
            // Until there is something to look at, its coming has to wake us.
            if self.poll_read(cx)?.is_pending() {
                break;
            }
        }
        Ok(())
    }

    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, End> {
        let server: &mut crate::server::ServerConn = &mut self.lease;
        match poll_read_into(&mut server.stream, cx, &mut server.flow.buffer, READ) {
            Poll::Pending => Ok(Poll::Pending),
            Poll::Ready(Ok(0)) => Err(self.lost("the server closed the connection")),
            Poll::Ready(Err(error)) => Err(self.lost(&error.to_string())),
            Poll::Ready(Ok(_)) => {
                if self.reading {
                    self.lease.about.voice.heard();
                }
                Ok(Poll::Ready(()))
            }
        }
    }

    /// What it has sent makes no sense.
    pub(super) fn broken(&mut self) -> End {
        self.lost("the server broke the protocol")
    }

    pub(super) fn lost(&mut self, why: &str) -> End {
        self.lost = true;
        let name = &self.lease.about.upstream.name;
        let text = format!("connection to server {name} was lost");
        let report = ErrorReport::error(sqlstate::CONNECTION_FAILURE, text).detail(why);
        End::Lost(Box::new(report))
    }
}

/// Gives the client what waits for it: first what is ours, then what is a server's.
pub(super) fn poll_to_client(
    relay: &mut Relay,
    flow: &mut Flow,
    cx: &mut Context<'_>,
) -> Poll<std::io::Result<()>> {
    if relay.down.backlog() == 0 && flow.backlog() == 0 && !relay.held {
        return Poll::Ready(Ok(()));
    }
    // Where this is pending, TLS may hold some of it.
    relay.held = true;
    if relay.down.backlog() > 0 {
        match poll_write_from(&mut relay.client, cx, &mut relay.down) {
            Poll::Ready(Ok(())) => {}
            other => return other,
        }
    }
    let written = poll_write_from(&mut relay.client, cx, flow);
    relay.held = written.is_pending();
    written
}

/// The client has left if it is ready. What it sends meanwhile is kept, up to a bound.
pub(super) fn poll_presence(relay: &mut Relay, cx: &mut Context<'_>) -> Poll<()> {
    while relay.up.buffer.len() < KEPT_MAX {
        match poll_read_into(&mut relay.client, cx, &mut relay.up.buffer, 4096) {
            Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
            Poll::Ready(Ok(_)) => {}
            Poll::Pending => return Poll::Pending,
        }
    }
    Poll::Pending
}

/// A shard, and its description of the columns, if there is one.
pub(super) type Described<'a> = (u16, Option<&'a [u8]>);

/// Refuses to put rows together whose columns are described otherwise.
pub(super) fn alike(relay: &Relay, one: Described<'_>, two: Described<'_>) -> Result<(), End> {
    let known = relay.spread.as_deref().and_then(|it| it.group.current());
    if are_alike(known.as_deref(), one, two) {
        return Ok(());
    }
    let text = "the shards give columns of different types";
    let report = ErrorReport::error(sqlstate::FEATURE_NOT_SUPPORTED, text);
    Err(End::Stopped(Box::new(report)))
}

/// Whether a client may decode the values of one leg by the description of the other's. The numbers of tables each
/// shard has of its own, and those of types that users have made.
fn are_alike(known: Option<&Known>, one: Described<'_>, two: Described<'_>) -> bool {
    let (here, there) = (one.1, two.1);
    let (Some(here), Some(there)) = (described(here), described(there)) else {
        // None, or those of a COPY.
        return here == there;
    };
    let same = |(one_column, two_column): (ColumnView<'_>, ColumnView<'_>)| {
        let (mine, yours) = (one_column.type_oid, two_column.type_oid);
        let binary = one_column.format == 1;
        let own = mine >= FIRST_OWN && yours >= FIRST_OWN;
        one_column.name == two_column.name
            && one_column.modifier == two_column.modifier
            && one_column.format == two_column.format
            && (mine == yours
                || own
                    && known.is_some_and(|known| {
                        known.are_alike((one.0, mine), (two.0, yours), binary)
                    }))
    };
    here.len() == there.len() && here.columns().zip(there.columns()).all(same)
}

fn described(message: Option<&[u8]>) -> Option<RowDescription<'_>> {
    let message = message.filter(|it| it.first() == Some(&tag::ROW_DESCRIPTION))?;
    RowDescription::parse(message.get(frame::HEADER_LEN..)?).ok()
}

fn stopped(text: &str) -> End {
    End::Stopped(Box::new(ErrorReport::error(sqlstate::QUERY_CANCELED, text)))
}
