//! The client's end of the console: whole messages in, buffered messages out.

use std::future::{Future, pending, poll_fn};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use pgherd_net::{Stream, poll_read_into, poll_write_from};
use pgherd_wire::error::ErrorReport;
use pgherd_wire::{frame, sqlstate};
use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use crate::clock;
use crate::control::{Control, Identity, Order, Standing};
use crate::drain::Ending;
use crate::facts::Facts;
use crate::session::Bye;

/// The largest message that a client of the console may send, in bytes.
const MESSAGE_MAX: usize = 64 * 1024;
/// What is read at once.
const READ: usize = 4096;
/// Output is sent once it has this size, so that a long table needs little memory.
const OUTPUT_MAX: usize = 64 * 1024;
/// How long a client may take its farewell.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How long a client may take to read what is sent at once.
const READING: Duration = Duration::from_secs(30);
/// How often an idle console looks whether it is the last, when clients are being waited for.
const GLANCE: Duration = Duration::from_millis(200);

/// The client and what is on its way from and to it.
#[derive(Debug)]
pub struct Desk {
    stream: Stream,
    input: BytesMut,
    /// Messages to be sent before anything more is read.
    pub out: BytesMut,
    facts: Arc<Facts>,
    control: Arc<Control>,
    ending: Option<Ending>,
    /// Until when a client that is to go may read what it was being told.
    leaving: Option<Instant>,
}

impl Desk {
    /// A client that has logged in and sent `input` since.
    pub fn new(stream: Stream, input: BytesMut, facts: Arc<Facts>, control: Arc<Control>) -> Self {
        Self {
            stream,
            input,
            out: BytesMut::new(),
            facts,
            control,
            ending: None,
            leaving: None,
        }
    }

    /// The next message: its tag and body. What was answered is sent first.
    ///
    /// # Errors
    /// The client is gone or sent away, or what came is no message.
    pub async fn message(&mut self) -> Result<(u8, Bytes), Bye> {
        loop {
            if self.control.ordered() != Order::Serve {
                return Err(self.farewell());
            }
            if let Some(message) = take(&mut self.input)? {
                self.control.asks(clock::now());
                self.control.stand(Standing::Active);
                return Ok(message);
            }
            self.flush().await?;
            if self.input.is_empty() {
                // An idle client costs no buffers.
                (self.input, self.out) = (BytesMut::new(), BytesMut::new());
            }
            self.control.stand(Standing::Idle);
            tokio::select! {
                biased;
                () = self.control.token.cancelled() => return Err(self.farewell()),
                read = read(&mut self.stream, &mut self.input) => read?,
                () = deserted(&self.facts) => return Err(Bye::Sent(Box::new(last()))),
            }
        }
    }

    /// Sends what waits to be sent, and asks for the end of the proxy if that was part of it.
    ///
    /// # Errors
    /// The client is gone, is sent away, or does not read.
    pub async fn flush(&mut self) -> Result<(), Bye> {
        let sent = if self.out.is_empty() {
            Ok(())
        } else {
            self.send().await
        };
        if let Some(ending) = self.ending.take() {
            self.facts.curtain.ask(ending);
        }
        sent
    }

    /// Sends only if much waits to be sent.
    ///
    /// # Errors
    /// The client is gone, is sent away, or does not read.
    pub async fn relieve(&mut self) -> Result<(), Bye> {
        if self.out.len() < OUTPUT_MAX {
            Ok(())
        } else {
            self.send().await
        }
    }

    /// A client that does not read keeps its answers waiting for so long, and the end of the proxy no longer than its farewell
    /// may take.
    async fn send(&mut self) -> Result<(), Bye> {
        let Self {
            stream,
            out,
            control,
            leaving,
            ..
        } = self;
        let late = Instant::now() + READING;
        let given_up = async {
            if timeout_at(late, control.token.cancelled()).await.is_ok() {
                let until = *leaving.get_or_insert_with(|| Instant::now() + LAST_WORDS);
                sleep_until(until.min(late)).await;
            }
        };
        tokio::select! {
            biased;
            sent = write(stream, out) => return sent,
            () = given_up => {}
        }
        Err(match self.leaving {
            Some(_) => self.farewell(),
            None => Bye::Sent(Box::new(ErrorReport::fatal(
                sqlstate::QUERY_CANCELED,
                "terminating connection because its answers are not read",
            ))),
        })
    }

    /// Does something that may take long, while the client may leave or be sent away.
    ///
    /// # Errors
    /// It left, or was sent away; `work` is dropped then.
    pub async fn attend<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Bye> {
        tokio::select! {
            biased;
            done = work => Ok(done),
            () = self.control.token.cancelled() => Err(self.farewell()),
            bye = listen(&mut self.stream, &mut self.input) => Err(bye),
        }
    }

    /// Ends the proxy when the answer has been sent.
    pub fn end(&mut self, ending: Ending) {
        self.ending = Some(ending);
    }

    /// Tells the client why it is sent away.
    pub async fn part(&mut self, report: &ErrorReport) {
        report.encode_error(&mut self.out);
        // A client that does not read must not hold its own farewell up.
        let _ = timeout(LAST_WORDS, write(&mut self.stream, &mut self.out)).await;
        if let Some(ending) = self.ending.take() {
            self.facts.curtain.ask(ending);
        }
    }

    fn farewell(&self) -> Bye {
        self.control.farewell().map_or(Bye::Left, Bye::Sent)
    }
}

/// Takes a whole message off the input, if there is one.
fn take(input: &mut BytesMut) -> Result<Option<(u8, Bytes)>, Bye> {
    let Some(header) = frame::header(input).map_err(|error| violation(error.to_string()))? else {
        return Ok(None);
    };
    let total = header.total();
    if total > MESSAGE_MAX {
        return Err(Bye::Sent(Box::new(ErrorReport::fatal(
            sqlstate::PROGRAM_LIMIT_EXCEEDED,
            format!("a message of {total} bytes is too large for the console"),
        ))));
    }
    if input.len() < total {
        return Ok(None);
    }
    let mut message = input.split_to(total).freeze();
    Ok(Some((header.tag, message.split_off(frame::HEADER_LEN))))
}

/// Ends the session of a client that broke the protocol.
pub fn violation(why: String) -> Bye {
    Bye::Sent(Box::new(ErrorReport::fatal(
        sqlstate::PROTOCOL_VIOLATION,
        why,
    )))
}

async fn write(stream: &mut Stream, out: &mut BytesMut) -> Result<(), Bye> {
    let written = poll_fn(|cx| poll_write_from(stream, cx, out)).await;
    written.map_err(|_| Bye::Gone)?;
    stream.flush().await.map_err(|_| Bye::Gone)
}

async fn read(stream: &mut Stream, input: &mut BytesMut) -> Result<(), Bye> {
    match poll_fn(|cx| poll_read_into(stream, cx, input, READ)).await {
        Ok(0) | Err(_) => Err(Bye::Gone),
        Ok(_) => Ok(()),
    }
}

/// Notices when the client leaves; what it sends meanwhile is kept, within the bound.
async fn listen(stream: &mut Stream, input: &mut BytesMut) -> Bye {
    while input.len() < MESSAGE_MAX {
        if let Err(bye) = read(stream, input).await {
            return bye;
        }
    }
    pending().await
}

/// Over when the proxy waits for its clients to leave and only consoles are left, which would
/// otherwise keep it for ever.
async fn deserted(facts: &Arc<Facts>) {
    facts.curtain.at_least(Ending::WhenClientsLeft).await;
    loop {
        let config = facts.config.load_full();
        let served = facts.sessions.all().iter().any(|control| {
            let is_console = |who: Arc<Identity>| config.is_console(&who.database);
            !control.is_late() && !control.identity().is_some_and(is_console)
        });
        if !served {
            return;
        }
        tokio::time::sleep(GLANCE).await;
    }
}

fn last() -> ErrorReport {
    ErrorReport::fatal(
        sqlstate::ADMIN_SHUTDOWN,
        "terminating connection because pgherd is shutting down",
    )
    .detail("The last client has left.")
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::{Bye, MESSAGE_MAX, take};

    #[test]
    fn messages_are_taken_whole() {
        let mut input = BytesMut::from(&b"Q\0\0\0\x06a\0S\0\0"[..]);
        let (tag, body) = take(&mut input).expect("sound").expect("whole");
        assert_eq!((tag, &body[..]), (b'Q', &b"a\0"[..]));
        assert!(take(&mut input).expect("sound").is_none());
        assert_eq!(&input[..], b"S\0\0");
    }

    #[test]
    fn what_is_too_long_is_refused_before_it_comes() {
        let mut input = BytesMut::from(&b"Q"[..]);
        let length = u32::try_from(MESSAGE_MAX).expect("small");
        input.extend_from_slice(&length.to_be_bytes());
        let Err(Bye::Sent(report)) = take(&mut input) else {
            panic!("not refused")
        };
        assert_eq!(report.code.as_str(), "54000");
        let Err(Bye::Sent(report)) = take(&mut BytesMut::from(&b"Q\0\0\0\x03"[..])) else {
            panic!("not refused")
        };
        assert_eq!(report.code.as_str(), "08P01");
    }
}
