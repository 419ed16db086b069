//! The herald's conversation with its server: one question at a time, and notifications at any.

use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use pgherd_net::{poll_read_into, poll_write_from};
use pgherd_session::Flow;
use pgherd_wire::backend::{self, tag};
use pgherd_wire::error::ErrorReport;
use pgherd_wire::{frame, frontend, sqlstate};

use crate::clock;
use crate::herald::audience::Audience;
use crate::herald::table::{Batch, Channel};
use crate::server::ServerConn;

/// A notification has a payload of up to 8,000 bytes; nothing that the server says here is larger.
const MESSAGE_MAX: usize = 64 * 1024;

/// How much is read at once.
const ROOM: usize = 16 * 1024;

/// How often is read before others may run.
const ROUNDS_MAX: u32 = 64;

/// How long the server may take to answer. Whoever listens gets no ReadyForQuery meanwhile, and holds its server; and a
/// LISTEN waits for nothing on a server that is well.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why the connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The server ended it, or it broke.
    #[error("the connection was lost: {0}")]
    Lost(String),
    /// The server does not answer.
    #[error("the server did not answer in time")]
    Mute,
    /// The server will not listen.
    #[error("the server refused to listen: {}", .0.message)]
    Refused(Box<ErrorReport>),
    /// What came is not the protocol.
    #[error("the server broke the protocol: {0}")]
    Violation(String),
}

impl LinkError {
    /// The error as clients are told of it.
    pub fn report(&self, host: &str) -> ErrorReport {
        let report = match self {
            Self::Refused(report) => return (**report).clone(),
            Self::Lost(_) | Self::Mute | Self::Violation(_) => sqlstate::CONNECTION_FAILURE,
        };
        let text = format!("the connection to server {host} that listens was lost");
        ErrorReport::error(report, text).detail(self.to_string())
    }

    /// Whether it may be otherwise the next time.
    pub fn is_passing(&self) -> bool {
        !matches!(self, Self::Refused(_))
    }
}

/// One connection while it listens.
pub struct Link<'a> {
    server: &'a mut ServerConn,
    audience: &'a Audience,
    out: Flow,
    held: bool,
}

impl<'a> Link<'a> {
    /// A connection that has just logged in. It is told at once to listen to the marks, and to send
    /// everything as it is: conversion is the clients' affair.
    pub fn new(server: &'a mut ServerConn, audience: &'a Audience) -> Self {
        let mut out = Flow::default();
        let text = format!(
            "SET client_encoding = SQL_ASCII; SET application_name = 'pgherd herald'; LISTEN {}",
            quoted_text(audience.marks())
        );
        let built = frontend::query(out.made(), text.as_bytes());
        debug_assert!(built.is_ok(), "the text is short");
        Self {
            server,
            audience,
            out,
            held: true,
        }
    }

    /// Ready when the first question is answered.
    ///
    /// # Errors
    /// [`LinkError`].
    pub fn poll_opening(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LinkError>> {
        self.write(cx)?;
        loop {
            if !self.read(cx)? {
                return Poll::Pending;
            }
            while let Some((kind, body)) = self.message()? {
                match kind {
                    tag::READY_FOR_QUERY => return Poll::Ready(Ok(())),
                    tag::ERROR_RESPONSE => return Poll::Ready(Err(refused(&body))),
                    _ => {}
                }
            }
        }
    }

    /// Talks as long as it can.
    ///
    /// # Errors
    /// [`LinkError`].
    pub fn poll_talk(&mut self, cx: &mut Context<'_>) -> Result<(), LinkError> {
        for round in 0.. {
            if round == ROUNDS_MAX {
                cx.waker().wake_by_ref();
                break;
            }
            if let Some(batch) = self.audience.next_batch() {
                self.ask(&batch)?;
            }
            self.write(cx)?;
            if !self.read(cx)? {
                break;
            }
            while let Some((kind, body)) = self.message()? {
                self.hear(kind, &body)?;
            }
        }
        self.server.flow.shrink();
        self.check_patience()
    }

    fn check_patience(&self) -> Result<(), LinkError> {
        let set = self.server.about.upstream.patience;
        let patience = set.map_or(PATIENCE, |set| set.min(PATIENCE));
        match self.audience.asking_since() {
            Some(since) if clock::since(since) > patience => Err(LinkError::Mute),
            _ => Ok(()),
        }
    }

    fn ask(&mut self, batch: &Batch) -> Result<(), LinkError> {
        let mut text = BytesMut::new();
        let words: [(&[u8], &[Channel]); 2] =
            [(b"LISTEN ", &batch.listen), (b"UNLISTEN ", &batch.unlisten)];
        for (word, channels) in words {
            for channel in channels {
                text.extend_from_slice(word);
                quote(&mut text, channel);
                text.extend_from_slice(b";");
            }
        }
        self.held = true;
        frontend::query(self.out.made(), &text)
            .map_err(|error| LinkError::Violation(error.to_string()))
    }

    fn write(&mut self, cx: &mut Context<'_>) -> Result<(), LinkError> {
        if !self.held && self.out.backlog() == 0 {
            return Ok(());
        }
        match poll_write_from(&mut self.server.stream, cx, &mut self.out) {
            Poll::Ready(Ok(())) => self.held = false,
            Poll::Ready(Err(error)) => return Err(LinkError::Lost(error.to_string())),
            Poll::Pending => self.held = true,
        }
        Ok(())
    }

    /// Reads once; true when something came.
    fn read(&mut self, cx: &mut Context<'_>) -> Result<bool, LinkError> {
        let server = &mut *self.server;
        match poll_read_into(&mut server.stream, cx, &mut server.flow.buffer, ROOM) {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(0)) => Err(LinkError::Lost("the server closed it".to_owned())),
            Poll::Ready(Ok(_)) => Ok(true),
            Poll::Ready(Err(error)) => Err(LinkError::Lost(error.to_string())),
        }
    }

    fn message(&mut self) -> Result<Option<(u8, BytesMut)>, LinkError> {
        let buffer = &mut self.server.flow.buffer;
        let header = match frame::header(buffer) {
            Ok(Some(header)) => header,
            Ok(None) => return Ok(None),
            Err(error) => return Err(LinkError::Violation(error.to_string())),
        };
        if header.total() > MESSAGE_MAX {
            return Err(LinkError::Violation("a message is too large".to_owned()));
        }
        if buffer.len() < header.total() {
            return Ok(None);
        }
        let mut message = buffer.split_to(header.total());
        let body = message.split_off(frame::HEADER_LEN);
        Ok(Some((header.tag, body)))
    }

    fn hear(&self, kind: u8, body: &[u8]) -> Result<(), LinkError> {
        match kind {
            tag::NOTIFICATION_RESPONSE => {
                let heard = backend::Notification::parse(body)
                    .map_err(|error| LinkError::Violation(error.to_string()))?;
                self.audience
                    .notify(heard.pid, heard.channel, heard.payload);
            }
            tag::READY_FOR_QUERY => self.audience.answered(),
            tag::ERROR_RESPONSE => return Err(refused(body)),
            // What a LISTEN is answered with, and what may come at any time.
            _ => {}
        }
        Ok(())
    }
}

fn refused(body: &[u8]) -> LinkError {
    let report = ErrorReport::parse(body);
    if report.is_fatal() {
        LinkError::Lost(report.message)
    } else {
        LinkError::Refused(Box::new(report))
    }
}

/// Writes a name as an identifier.
pub fn quote(out: &mut BytesMut, name: &[u8]) {
    out.extend_from_slice(b"\"");
    for part in name.split_inclusive(|byte| *byte == b'"') {
        out.extend_from_slice(part);
        if part.ends_with(b"\"") {
            out.extend_from_slice(b"\"");
        }
    }
    out.extend_from_slice(b"\"");
}

fn quoted_text(name: &[u8]) -> String {
    let mut out = BytesMut::new();
    quote(&mut out, name);
    String::from_utf8_lossy(&out).into_owned()
}

/// When the connection has been of no use for as long as the pool keeps an idle one.
#[derive(Debug)]
pub struct Idleness {
    since: Option<Instant>,
    limit: Option<Duration>,
}

impl Idleness {
    /// With a limit, or none.
    pub fn new(limit: Option<Duration>) -> Self {
        Self { since: None, limit }
    }

    /// Whether it has been so long enough.
    pub fn is_over(&mut self, used: bool, now: Instant) -> bool {
        if used {
            self.since = None;
            return false;
        }
        let since = *self.since.get_or_insert(now);
        self.limit
            .is_some_and(|limit| now.saturating_duration_since(since) >= limit)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use bytes::BytesMut;

    use super::{Idleness, quote};

    #[test]
    fn names_are_quoted_whatever_is_in_them() {
        for (name, quoted) in [
            ("a", r#""a""#),
            (r#"a"b"#, r#""a""b""#),
            (r#"""#, r#""""""#),
            ("é; x", r#""é; x""#),
        ] {
            let mut out = BytesMut::new();
            quote(&mut out, name.as_bytes());
            assert_eq!(out, quoted);
        }
    }

    #[test]
    fn idleness_counts_from_the_last_use() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut idleness = Idleness::new(Some(Duration::from_secs(5)));
        assert!(!idleness.is_over(false, at(0)));
        assert!(!idleness.is_over(true, at(4)));
        assert!(!idleness.is_over(false, at(6)));
        assert!(!idleness.is_over(false, at(10)));
        assert!(idleness.is_over(false, at(11)));
        assert!(!Idleness::new(None).is_over(false, at(99)));
    }
}
