//! The console: a client that asks about the proxy itself and commands it.
//!
//! It speaks the simple protocol, and the extended one for commands without parameters, in which
//! drivers put all they ask. Names and columns are PgBouncer's, so that its exporter and people's
//! habits work. It is no actor: it runs in the task of its session.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use pgherd_config::Role;
use pgherd_net::Stream;
use pgherd_wire::MessageError;
use pgherd_wire::backend::{self, TransactionStatus, tag as reply};
use pgherd_wire::error::ErrorReport;
use pgherd_wire::frame::{TooLong, build};
use pgherd_wire::frontend::{Execute, Query, tag};
use pgherd_wire::sqlstate;

use crate::console::answer::{Answer, answer};
use crate::console::command::{Command, read};
use crate::console::desk::{Desk, violation};
use crate::console::extended::Extended;
use crate::console::table::Formats;
use crate::control::Control;
use crate::facts::Facts;
use crate::session::Bye;

pub mod answer;
pub mod check;
pub mod clock;
pub mod command;
pub mod desk;
pub mod extended;
pub mod figures;
pub mod parameter;
#[cfg(test)]
pub(crate) mod samples;
pub mod select;
pub mod show;
pub mod table;
pub mod verb;
pub mod words;

/// Serves a client of the console, which has logged in and was told so, until it leaves or is sent
/// away. `input` is what it has sent since.
pub async fn serve(
    stream: Stream,
    input: BytesMut,
    role: Role,
    facts: Arc<Facts>,
    control: Arc<Control>,
) -> Bye {
    let desk = Desk::new(stream, input, Arc::clone(&facts), Arc::clone(&control));
    let mut console = Console {
        desk,
        role,
        facts,
        control,
        extended: Extended::default(),
        skipping: false,
    };
    let bye = console.converse().await;
    if let Bye::Sent(report) = &bye {
        console.desk.part(report).await;
    }
    bye
}

struct Console {
    desk: Desk,
    role: Role,
    facts: Arc<Facts>,
    control: Arc<Control>,
    extended: Extended,
    /// After an error in the extended protocol everything up to Sync is passed over.
    skipping: bool,
}

/// Why a message is not answered as it should be.
enum Trouble {
    /// The client is told.
    Told(Box<ErrorReport>),
    /// The session ends.
    Over(Bye),
}

impl From<ErrorReport> for Trouble {
    fn from(report: ErrorReport) -> Self {
        Self::Told(Box::new(report))
    }
}

impl From<Bye> for Trouble {
    fn from(bye: Bye) -> Self {
        Self::Over(bye)
    }
}

impl Console {
    async fn converse(&mut self) -> Bye {
        loop {
            let heard = match self.desk.message().await {
                Ok((tag, body)) => self.hear(tag, &body).await,
                Err(bye) => Err(bye),
            };
            if let Err(bye) = heard {
                return bye;
            }
        }
    }

    async fn hear(&mut self, tag: u8, body: &Bytes) -> Result<(), Bye> {
        match tag {
            tag::TERMINATE => return Err(Bye::Left),
            tag::SYNC => {
                self.skipping = false;
                self.extended.sync();
                self.ready();
                return Ok(());
            }
            _ if self.skipping => return Ok(()),
            tag::QUERY => return self.simple(body).await,
            tag::FLUSH => return self.desk.flush().await,
            // Ends of a COPY that never began.
            tag::COPY_DATA | tag::COPY_DONE | tag::COPY_FAIL => return Ok(()),
            tag::FUNCTION_CALL => {
                ErrorReport::error(
                    sqlstate::FEATURE_NOT_SUPPORTED,
                    "the console has no functions",
                )
                .encode_error(&mut self.desk.out);
                self.ready();
                return Ok(());
            }
            _ => {}
        }
        let out = &mut self.desk.out;
        let done = match tag {
            tag::PARSE => self.extended.parse(body, out).map_err(Trouble::from),
            tag::BIND => self.extended.bind(body, out).map_err(Trouble::from),
            tag::DESCRIBE => self.extended.describe(body, out).map_err(Trouble::from),
            tag::CLOSE => self.extended.close(body, out).map_err(Trouble::from),
            tag::EXECUTE => self.execute(body).await,
            other => Err(violation(format!("invalid frontend message type {other}")).into()),
        };
        match done {
            Ok(()) => self.desk.relieve().await,
            Err(Trouble::Told(report)) => {
                report.encode_error(&mut self.desk.out);
                self.skipping = true;
                Ok(())
            }
            Err(Trouble::Over(bye)) => Err(bye),
        }
    }

    fn ready(&mut self) {
        backend::ready_for_query(&mut self.desk.out, TransactionStatus::Idle);
    }

    /// Answers a simple query: its commands in order, up to the first that fails.
    async fn simple(&mut self, body: &Bytes) -> Result<(), Bye> {
        match self.commands(body).await {
            Ok(()) => {}
            Err(Trouble::Told(report)) => report.encode_error(&mut self.desk.out),
            Err(Trouble::Over(bye)) => return Err(bye),
        }
        self.extended.sync();
        self.ready();
        self.desk.flush().await
    }

    async fn commands(&mut self, body: &Bytes) -> Result<(), Trouble> {
        let query = Query::parse(body).map_err(protocol)?;
        for command in read(utf8(query.text)?)? {
            self.command(&command?).await?;
        }
        Ok(())
    }

    async fn command(&mut self, command: &Command) -> Result<(), Trouble> {
        let answer = self.answer(command).await?;
        let Answer { rows, tag, .. } = answer;
        let Some(rows) = rows else {
            return self.complete(command, tag).map_err(Trouble::from);
        };
        // The rows are a copy; nothing is held while a slow client reads them.
        let formats = Formats::default();
        table::describe(&mut self.desk.out, &command.columns(), &formats).map_err(too_long)?;
        for row in &rows {
            table::row(&mut self.desk.out, row, &formats).map_err(too_long)?;
            self.desk.relieve().await?;
        }
        self.complete(command, tag).map_err(Trouble::from)
    }

    /// Has a command carried out, and sends its notices.
    async fn answer(&mut self, command: &Command) -> Result<Answer, Trouble> {
        let (facts, control) = (Arc::clone(&self.facts), Arc::clone(&self.control));
        // What was said before is not to wait for a command that waits for others.
        if matches!(command, Command::Verb(_) | Command::Check { .. }) {
            self.desk.flush().await?;
        }
        let answer = self
            .desk
            .attend(answer(command, self.role, &facts, &control))
            .await??;
        for notice in &answer.notices {
            notice.encode_notice(&mut self.desk.out);
        }
        if let Some(ending) = answer.ending {
            self.desk.end(ending);
        }
        Ok(answer)
    }

    fn complete(&mut self, command: &Command, tag: &str) -> Result<(), ErrorReport> {
        if *command == Command::Empty {
            backend::empty_query(&mut self.desk.out);
            return Ok(());
        }
        backend::command_complete(&mut self.desk.out, tag.as_bytes()).map_err(too_long)
    }

    /// Carries a portal out, or goes on with its rows, up to the number that is wanted.
    async fn execute(&mut self, body: &Bytes) -> Result<(), Trouble> {
        let execute = Execute::parse(body).map_err(protocol)?;
        let portal = self.extended.portal(execute.portal)?;
        let (command, formats) = (Arc::clone(&portal.command), portal.formats.clone());
        let (mut rows, done) = match portal.begun.take() {
            Some(begun) => begun,
            None => {
                let Answer { rows, tag, .. } = self.answer(&command).await?;
                (rows.unwrap_or_default().into_iter(), tag)
            }
        };
        let wanted = usize::try_from(execute.max_rows)
            .ok()
            .filter(|wanted| *wanted > 0);
        for row in rows.by_ref().take(wanted.unwrap_or(usize::MAX)) {
            table::row(&mut self.desk.out, &row, &formats).map_err(too_long)?;
            self.desk.relieve().await?;
        }
        let more = rows.len() > 0;
        // Kept in any case, so that a deed is not done twice.
        self.extended.portal(execute.portal)?.begun = Some((rows, done));
        if more {
            build(&mut self.desk.out, reply::PORTAL_SUSPENDED, |_| {}).map_err(too_long)?;
            return Ok(());
        }
        self.complete(&command, done).map_err(Trouble::from)
    }
}

/// A message that does not keep to the protocol.
fn protocol(error: MessageError) -> ErrorReport {
    ErrorReport::error(sqlstate::PROTOCOL_VIOLATION, error.to_string())
}

/// An answer that does not fit into a message.
fn too_long(error: TooLong) -> ErrorReport {
    ErrorReport::error(sqlstate::PROGRAM_LIMIT_EXCEEDED, error.to_string())
}

fn utf8(text: &[u8]) -> Result<&str, ErrorReport> {
    std::str::from_utf8(text).map_err(|_| {
        ErrorReport::error(
            sqlstate::PROTOCOL_VIOLATION,
            "invalid byte sequence for encoding \"UTF8\"",
        )
    })
}

#[cfg(test)]
mod tests;
