//! Bytes both ways, each for itself, until either side ends.

use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use pgherd_net::{Stream, poll_write_from};
use pgherd_session::{Flow, Owed};
use pgherd_wire::error::ErrorReport;
use pgherd_wire::{backend, frame, frontend, sqlstate};

use crate::control::{Control, Order};
use crate::server::ServerConn;
use crate::session::Bye;
use crate::session::replication::farewell;
use crate::session::replication::lane::Lane;
use crate::session::replication::open::Link;
use crate::session::replication::phase::{Leave, Phase};

/// How often a poll reads before it lets others run.
const ROUNDS_MAX: u32 = 64;
/// An error up to this size is looked at whole, to know how bad it is.
const ERROR_MAX: usize = 8 * 1024;

/// How a relay ends.
#[derive(Debug)]
enum End {
    /// The client hung up, or its connection broke.
    Client,
    /// The client's bytes are no messages.
    Violation(String),
    /// The server hung up, or its connection broke: how.
    Server(String),
    /// The session was told to go.
    Ordered(Leave),
}

impl End {
    /// A server that ends without a word under TLS is no attack to be explained: Postgres does.
    fn server(error: &io::Error) -> Self {
        Self::Server(match error.kind() {
            io::ErrorKind::UnexpectedEof => "it closed the connection".to_owned(),
            _ => error.to_string(),
        })
    }
}

/// A client and its server.
struct Relay<'a> {
    client: Stream,
    link: Link,
    up: Lane,
    down: Lane,
    phase: Phase,
    control: &'a Control,
    order: Order,
}

/// Greets the client with what its server has said, and relays until either side ends.
pub(super) async fn run(client: Stream, input: BytesMut, mut link: Link, control: &Control) -> Bye {
    // Drop must not say goodbye in the middle of a message; it is said here where it may be.
    link.server.exchange.sent(Owed::Sync);
    let mut flow = std::mem::take(&mut link.server.flow);
    greet(flow.made(), &link);
    let mut up = Flow::default();
    up.buffer = input;
    let relay = Relay {
        client,
        link,
        up: Lane::new(up),
        down: Lane::new(flow),
        phase: Phase::new(),
        control,
        order: Order::Serve,
    };
    relay.run().await
}

/// The server's own parameters, and our key in place of its own.
fn greet(out: &mut BytesMut, link: &Link) {
    for (name, value) in &link.welcome.parameters {
        // A server's own report fits into a message.
        let _ = backend::parameter_status(out, name.as_bytes(), value.as_bytes());
    }
    backend::backend_key_data(out, link.listing.key());
    backend::ready_for_query(out, backend::TransactionStatus::Idle);
}

impl Relay<'_> {
    async fn run(mut self) -> Bye {
        let end = self.relay().await;
        self.control.runs_nowhere();
        self.part(end).await
    }

    async fn relay(&mut self) -> End {
        if let Err(end) = self.judge_requests() {
            return end;
        }
        let control = self.control;
        let mut ordered = pin!(control.token.cancelled());
        poll_fn(|cx| {
            if self.order == Order::Serve && ordered.as_mut().poll(cx).is_ready() {
                self.order = control.ordered();
            }
            match self.poll(cx) {
                Ok(()) => Poll::Pending,
                Err(end) => Poll::Ready(end),
            }
        })
        .await
    }

    /// Moves what can be moved. Neither direction waits for the other.
    fn poll(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        // The order may have come between two messages.
        self.judge_answers()?;
        for _ in 0..ROUNDS_MAX {
            let stalled = (self.up.is_full(), self.down.is_full());
            let mut moved = self.poll_up(cx)?;
            moved |= self.poll_down(cx)?;
            // A source that was not read from would wake nobody.
            moved |= stalled.0 && !self.up.is_full();
            moved |= stalled.1 && !self.down.is_full();
            if !moved {
                return Ok(());
            }
        }
        // Others on this thread want to move, too.
        cx.waker().wake_by_ref();
        Ok(())
    }

    fn poll_up(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let read = self.up.poll_read(&mut self.client, cx);
        let count = read.map_err(|_| self.client_gone())?;
        if count > 0 {
            self.link.listing.received_from_client(count);
            self.judge_requests()?;
        }
        let server: &mut ServerConn = &mut self.link.server;
        if let Err(error) = self.up.poll_write(&mut server.stream, cx) {
            // Why it hung up may still be readable.
            while self.poll_down(cx)? {}
            return Err(End::server(&error));
        }
        Ok(count > 0)
    }

    fn poll_down(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let server: &mut ServerConn = &mut self.link.server;
        let read = self.down.poll_read(&mut server.stream, cx);
        let count = read.map_err(|error| End::server(&error))?;
        if count > 0 {
            self.link.listing.received_from_server(count);
            self.judge_answers()?;
        }
        let written = self.down.poll_write(&mut self.client, cx);
        written.map_err(|_| self.client_gone())?;
        Ok(count > 0)
    }

    /// A client that was told to go for good finds its reading half shut down.
    fn client_gone(&self) -> End {
        match self.phase.leave(self.control.ordered()) {
            Some(leave) if self.control.ordered() == Order::Terminate && self.may_speak() => {
                End::Ordered(leave)
            }
            _ => End::Client,
        }
    }

    /// Whether the client has whole messages only, or will have with what waits.
    fn may_speak(&self) -> bool {
        !self.down.flow.is_mid_message()
    }

    /// Lets the client's messages go on as they are; what they may be is the server's business.
    fn judge_requests(&mut self) -> Result<(), End> {
        while self.up.flow.resume() {
            let header = match frame::header(self.up.flow.unjudged()) {
                Ok(Some(header)) => header,
                Ok(None) => break,
                Err(error) => return Err(End::Violation(error.to_string())),
            };
            self.phase.requested(header.tag);
            match header.tag {
                tag @ frontend::tag::COPY_DATA => self.up.flow.pass_alike(tag, header.total()),
                _ => self.up.flow.pass(header.total()),
            }
        }
        Ok(())
    }

    /// Lets the server's messages go on as they are, up to where the session is to be left.
    fn judge_answers(&mut self) -> Result<(), End> {
        while self.down.flow.resume() {
            if let Some(leave) = self.phase.leave(self.order) {
                return Err(End::Ordered(leave));
            }
            let unjudged = self.down.flow.unjudged();
            let header = match frame::header(unjudged) {
                Ok(Some(header)) => header,
                Ok(None) => break,
                Err(error) => return Err(End::Server(error.to_string())),
            };
            let (tag, total) = (header.tag, header.total());
            let weighty = [backend::tag::ERROR_RESPONSE, backend::tag::READY_FOR_QUERY];
            if weighty.contains(&tag) && total <= ERROR_MAX && unjudged.len() < total {
                break;
            }
            let body = &unjudged[frame::HEADER_LEN..total.min(unjudged.len())];
            self.phase.answered(tag, body);
            match tag {
                backend::tag::COPY_DATA => self.down.flow.pass_alike(tag, total),
                _ => self.down.flow.pass(total),
            }
        }
        Ok(())
    }

    /// Ends both sides as far as they are not ended yet.
    async fn part(mut self, end: End) -> Bye {
        let cut = !self.may_speak();
        let report = match &end {
            End::Client => {
                self.leave_server();
                return if self.phase.said_goodbye() {
                    Bye::Left
                } else {
                    Bye::Gone
                };
            }
            End::Violation(why) => Some(ErrorReport::fatal(sqlstate::PROTOCOL_VIOLATION, why)),
            End::Ordered(_) => self.control.farewell().map(|report| *report),
            End::Server(_) if self.phase.is_over() => None,
            End::Server(why) => Some(self.lost(why)),
        };
        if !matches!(end, End::Server(_)) {
            self.leave_server();
        }
        let half_done = self.phase.is_half_done();
        let Self {
            client,
            link,
            up,
            down,
            ..
        } = self;
        // The server is free before the client has taken its last message.
        drop(link);
        let mut flow = down.flow;
        match &report {
            Some(report) if matches!(end, End::Ordered(Leave::Stream)) => {
                let up = (!half_done).then_some(up.flow);
                farewell::end_stream(client, flow, up, report).await;
            }
            report => {
                if let Some(report) = report.as_ref().filter(|_| !cut) {
                    report.encode_error(flow.made());
                }
                farewell::say(client, flow).await;
            }
        }
        report.map_or(Bye::Left, |report| Bye::Sent(Box::new(report)))
    }

    /// Hands the server what the client sent last, and says goodbye where it is no part of another
    /// message. Nothing is waited for: a server that is left silently is no worse.
    fn leave_server(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        let server: &mut ServerConn = &mut self.link.server;
        let whole = !self.up.flow.is_mid_message();
        if self.up.poll_write(&mut server.stream, &mut cx).is_err() {
            return;
        }
        if whole && self.up.is_empty() && !self.phase.said_goodbye() {
            let mut goodbye = &frontend::TERMINATE[..];
            let _ = poll_write_from(&mut server.stream, &mut cx, &mut goodbye);
        }
    }

    fn lost(&self, why: &str) -> ErrorReport {
        let upstream = &self.link.server.about.upstream;
        let host = &upstream.name;
        tracing::warn!(
            client = self.control.id,
            host,
            why,
            "a server connection for replication was lost"
        );
        ErrorReport::fatal(
            sqlstate::CONNECTION_FAILURE,
            format!("the connection to server {host} was lost: {why}"),
        )
    }
}
