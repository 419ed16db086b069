//! Message by message, for logins: nothing is read beyond what is asked for one at a time.

use std::future::poll_fn;

use bytes::{Bytes, BytesMut};
use pgherd_net::{Stream, poll_read_into, poll_write_from};
use pgherd_wire::frame;
use tokio::io::AsyncWriteExt as _;

/// One side of a login.
#[derive(Debug)]
pub struct Dialogue<'a> {
    stream: &'a mut Stream,
    input: &'a mut BytesMut,
    output: BytesMut,
    message_max: usize,
}

/// Why a dialogue broke off.
#[derive(Debug, thiserror::Error)]
pub enum DialogueError {
    /// The other side hung up.
    #[error("the connection was closed")]
    Closed,
    /// The socket failed.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// A message was no message.
    #[error("protocol violation: {0}")]
    Violation(String),
}

impl<'a> Dialogue<'a> {
    /// Talks over `stream`; what was read and not yet asked for stays in `input`.
    pub fn new(stream: &'a mut Stream, input: &'a mut BytesMut, message_max: usize) -> Self {
        Self {
            stream,
            input,
            output: BytesMut::new(),
            message_max,
        }
    }

    /// Where messages to be sent are built.
    pub fn out(&mut self) -> &mut BytesMut {
        &mut self.output
    }

    /// Sends what was built.
    pub async fn send(&mut self) -> Result<(), DialogueError> {
        poll_fn(|cx| poll_write_from(self.stream, cx, &mut self.output)).await?;
        self.stream.flush().await?;
        Ok(())
    }

    /// The body of the next message, which must have this tag. Another one is refused by its first
    /// byte: the length behind it may be anything, and nobody waits for what it promises.
    pub async fn expect(&mut self, tag: u8, what: &str) -> Result<Bytes, DialogueError> {
        while self.input.is_empty() {
            self.read().await?;
        }
        match self.input.first() {
            Some(&other) if other != tag => Err(DialogueError::Violation(format!(
                "expected {what}, got message type {other}"
            ))),
            _ => Ok(self.message().await?.1),
        }
    }

    /// The next message: its tag and body.
    pub async fn message(&mut self) -> Result<(u8, Bytes), DialogueError> {
        loop {
            let header = frame::header(self.input)
                .map_err(|error| DialogueError::Violation(error.to_string()))?;
            if let Some(header) = header {
                let total = header.total();
                if total > self.message_max {
                    return Err(DialogueError::Violation(format!(
                        "a message of {total} bytes is too large here"
                    )));
                }
                if self.input.len() >= total {
                    let mut message = self.input.split_to(total).freeze();
                    return Ok((header.tag, message.split_off(frame::HEADER_LEN)));
                }
            }
            self.read().await?;
        }
    }

    /// Reads something more.
    pub async fn read(&mut self) -> Result<(), DialogueError> {
        let count = poll_fn(|cx| poll_read_into(self.stream, cx, self.input, 4096)).await?;
        if count == 0 {
            Err(DialogueError::Closed)
        } else {
            Ok(())
        }
    }

    /// What was read and not yet asked for.
    pub fn rest(&mut self) -> &mut BytesMut {
        self.input
    }

    /// The socket.
    pub fn stream(&self) -> &Stream {
        self.stream
    }
}
