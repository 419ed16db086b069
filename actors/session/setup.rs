//! Queries of our own on a server that a session holds, with their answers kept from the client.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use pgherd_net::{poll_read_into, poll_write_from};
use pgherd_session::{Flow, Owed, Parameters, Role, Undo, Verdict};
use pgherd_wire::backend::{self, tag};
use pgherd_wire::error::{ErrorReport, Field, Severity};
use pgherd_wire::{frame, frontend, sqlstate};

use crate::pool::Pool;
use crate::server::ServerConn;
use crate::session::{ahead, listen};
use crate::transactions::schemas;

/// The most that an answer to a query of ours may take in one message.
const ANSWER_MAX: usize = 256 * 1024;
/// The most that the rows of an answer may take together.
const ANSWERS_MAX: usize = 16 * 1024 * 1024;

/// What a server said while it answered a query of ours.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Parameters that it reported anew.
    pub(crate) reported: Vec<(String, String)>,
    /// The first rows, as many as are kept.
    pub(crate) rows: Vec<Vec<Option<Vec<u8>>>>,
    /// The first error.
    pub(crate) error: Option<ErrorReport>,
    /// The first warning, or that a wait for a standby was ended.
    pub(crate) warning: Option<ErrorReport>,
    rows_max: usize,
    /// Nobody listens if there is none.
    listener: Option<Listener>,
    bytes: usize,
}

/// Who gets notifications that come meanwhile.
#[derive(Debug)]
pub(super) struct Listener {
    /// Its pool.
    pub(super) pool: Arc<Pool>,
    /// The number that it was told at its login.
    pub(super) id: i32,
}

impl Default for Answer {
    fn default() -> Self {
        Self::of_rows(ROWS_MAX)
    }
}

impl Answer {
    /// One that keeps so many rows.
    pub(crate) fn of_rows(rows_max: usize) -> Self {
        Self {
            reported: Vec::new(),
            rows: Vec::new(),
            error: None,
            warning: None,
            rows_max,
            listener: None,
            bytes: 0,
        }
    }

    /// Whether somebody has ended its wait for a standby: what was done is stored there alone.
    pub(crate) fn is_unreplicated(&self) -> bool {
        self.warning.as_ref().is_some_and(ends_wait)
    }

    /// The first value of the first row, if there is one.
    pub(crate) fn first(&self) -> Option<&[u8]> {
        self.rows.first()?.first()?.as_deref()
    }

    /// One from a server whose client may listen.
    pub(super) fn heard_by(self, listener: Listener) -> Self {
        Self {
            listener: Some(listener),
            ..self
        }
    }
}

/// How many rows of an answer are kept, unless more are wanted.
const ROWS_MAX: usize = 2;

/// More reported parameters than this are no answer of a Postgres.
const REPORTED_MAX: usize = 256;

/// Brings a server to `wanted`, and remembers what it accepted. Of what it did not, it may have some settings of the users'
/// own all the same, which are doubted then.
pub(crate) async fn apply(
    pool: &Pool,
    server: &mut ServerConn,
    wanted: &Arc<Parameters>,
) -> Result<(), ErrorReport> {
    apply_into(pool, server, wanted, Answer::default()).await
}

/// As [`apply`], with an answer that says who listens there.
pub(super) async fn apply_into(
    pool: &Pool,
    server: &mut ServerConn,
    wanted: &Arc<Parameters>,
    answer: Answer,
) -> Result<(), ErrorReport> {
    let misread = server.would_misread(wanted);
    let transition = server.applied.transition(wanted);
    if transition.is_none() && !misread {
        server.is_set_to(wanted);
        return Ok(());
    }
    let discard = misread.then(|| ahead::DISCARD.to_owned());
    let statements: Vec<String> = transition.into_iter().chain(discard).collect();
    let answer = run_into(server, statements.join("; ").as_bytes(), answer).await?;
    if let Some(error) = answer.error {
        // What it calls may have been called before, and the server forgets none of the users' own settings.
        let strange = wanted.strange_to(&server.applied);
        let strange: Vec<Box<str>> = strange.map(Box::from).collect();
        server.doubt(strange);
        return Err(error);
    }
    for (name, value) in wanted.iter() {
        // The last of several is what it is now.
        let reported = answer
            .reported
            .iter()
            .rfind(|(reported, _)| reported.eq_ignore_ascii_case(name));
        if let Some((_, canonical)) = reported {
            pool.proven.learn(name, value, Some(canonical));
        } else if pool.proven.reported(name, value).is_none() {
            // No reported parameter, or only another spelling of what was in force already.
            pool.proven
                .learn(name, value, in_force(pool, server, name).as_deref());
        }
    }
    server.is_set_to(wanted);
    if misread {
        server.discards_plans();
    }
    Ok(())
}

/// What the server last reported of a parameter; `None` if it does not report it.
fn in_force(pool: &Pool, server: &ServerConn, name: &str) -> Option<String> {
    let welcome = pool.welcome.load_full()?;
    let (_, usual) = welcome
        .parameters
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name))?;
    let Some(own) = server.applied.get(name) else {
        return Some(usual.clone());
    };
    let reported = pool.proven.reported(name, own).flatten();
    Some(reported.map_or_else(|| own.to_owned(), |reported| reported.to_string()))
}

/// Runs a simple query and waits for its end.
pub(crate) async fn run(server: &mut ServerConn, sql: &[u8]) -> Result<Answer, ErrorReport> {
    run_into(server, sql, Answer::default()).await
}

/// As [`run`], into an answer that says what is kept.
pub(crate) async fn run_into(
    server: &mut ServerConn,
    sql: &[u8],
    answer: Answer,
) -> Result<Answer, ErrorReport> {
    let mut out = Flow::default();
    frontend::query(out.made(), sql).map_err(too_long)?;
    server.exchange.sent(Owed::Setup);
    hear(server, out, answer).await
}

/// As [`run`], for as long as it takes: a commit may wait for a standby.
pub(crate) async fn run_patiently(
    server: &mut ServerConn,
    sql: &[u8],
) -> Result<Answer, ErrorReport> {
    run_patiently_into(server, sql, Answer::default()).await
}

/// As [`run_into`], for as long as it takes.
pub(crate) async fn run_patiently_into(
    server: &mut ServerConn,
    sql: &[u8],
    mut answer: Answer,
) -> Result<Answer, ErrorReport> {
    let mut out = Flow::default();
    frontend::query(out.made(), sql).map_err(too_long)?;
    server.exchange.sent(Owed::Setup);
    poll_fn(|cx| poll_answer(server, &mut out, &mut answer, cx)).await?;
    Ok(answer)
}

/// Runs a query with one parameter of text, which never becomes part of the SQL.
pub(super) async fn ask(
    server: &mut ServerConn,
    sql: &[u8],
    parameter: &[u8],
) -> Result<Answer, ErrorReport> {
    let mut out = Flow::default();
    frontend::parse(out.made(), b"", sql, &[]).map_err(too_long)?;
    frontend::bind(out.made(), b"", b"", &[], &[Some(parameter)], &[]).map_err(too_long)?;
    frontend::execute(out.made(), b"", 0).map_err(too_long)?;
    out.insert(&frontend::SYNC);
    server.exchange.sent(Owed::Parse {
        hidden: true,
        undo: Undo::Nothing,
    });
    server.exchange.sent(Owed::Bind { of: None });
    server.exchange.sent(Owed::Execute);
    server.exchange.sent(Owed::Sync);
    hear(server, out, Answer::default()).await
}

fn too_long(error: frame::TooLong) -> ErrorReport {
    ErrorReport::error(sqlstate::PROGRAM_LIMIT_EXCEEDED, error.to_string())
}

async fn hear(
    server: &mut ServerConn,
    mut out: Flow,
    mut answer: Answer,
) -> Result<Answer, ErrorReport> {
    let patience = server.about.upstream.patience;
    let heard = poll_fn(|cx| poll_answer(server, &mut out, &mut answer, cx));
    // This belongs to making the connection ready: a mute server holds no client longer than that.
    let outcome = match patience {
        Some(patience) => tokio::time::timeout(patience, heard).await,
        None => Ok(heard.await),
    };
    match outcome {
        Ok(outcome) => outcome.map(|()| answer),
        Err(_) => Err(broken(server, "the server did not answer in time")),
    }
}

fn poll_answer(
    server: &mut ServerConn,
    out: &mut Flow,
    answer: &mut Answer,
    cx: &mut Context<'_>,
) -> Poll<Result<(), ErrorReport>> {
    // Under TLS there may be something to send although nothing waits in `out` any more.
    if let Poll::Ready(Err(error)) = poll_write_from(&mut server.stream, cx, out) {
        return Poll::Ready(Err(broken(server, &error.to_string())));
    }
    loop {
        match poll_read_into(&mut server.stream, cx, &mut server.flow.buffer, 8192) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(0)) => {
                return Poll::Ready(Err(broken(server, "the server closed the connection")));
            }
            Poll::Ready(Err(error)) => return Poll::Ready(Err(broken(server, &error.to_string()))),
            Poll::Ready(Ok(_)) => {
                read_answer(server, answer)?;
                if !server.exchange.owes() {
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

fn read_answer(server: &mut ServerConn, answer: &mut Answer) -> Result<(), ErrorReport> {
    while server.flow.resume() {
        let header = match frame::header(server.flow.unjudged()) {
            Ok(Some(header)) => header,
            Ok(None) => break,
            Err(error) => return Err(broken(server, &error.to_string())),
        };
        let total = header.total();
        if total > ANSWER_MAX {
            return Err(broken(server, "the server's answer is too large"));
        }
        let Some(message) = server.flow.unjudged().get(..total) else {
            break;
        };
        let body = &message[frame::HEADER_LEN..];
        let verdict = match header.tag {
            tag::READY_FOR_QUERY => match backend::ReadyForQuery::parse(body) {
                Ok(ready) => server.exchange.ready(ready.status),
                Err(error) => return Err(broken(server, &error.to_string())),
            },
            tag::PARAMETER_STATUS if answer.reported.len() >= REPORTED_MAX => {
                return Err(broken(server, "the server reports parameters without end"));
            }
            tag::PARAMETER_STATUS => {
                if let Ok(status) = backend::ParameterStatus::parse(body) {
                    if let Some(role) = Role::told(status.name, status.value) {
                        server.role = role;
                    }
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    answer
                        .reported
                        .push((text(status.name), text(status.value)));
                }
                Verdict::Swallow
            }
            tag::ERROR_RESPONSE => {
                let report = ErrorReport::parse(body);
                let fatal = report.is_fatal();
                answer.error.get_or_insert(report);
                if fatal {
                    return Err(broken(server, "the server ended the session"));
                }
                server.exchange.received(tag::ERROR_RESPONSE, |_| {})
            }
            tag::NOTICE_RESPONSE => {
                let notice = ErrorReport::parse(body);
                let counts = answer.warning.is_none() || ends_wait(&notice);
                if counts && notice.severity == Severity::Warning {
                    answer.warning = Some(notice);
                }
                server.exchange.received(tag::NOTICE_RESPONSE, |_| {})
            }
            tag::NOTIFICATION_RESPONSE if let Some(listener) = &answer.listener => {
                let told =
                    listen::renumbered(&listener.pool, listener.id, server.about.backend, body);
                server.flow.hide(total);
                server.flow.insert(&told.unwrap_or_default());
                continue;
            }
            tag::NOTIFICATION_RESPONSE => {
                schemas::heard(server, body);
                server.exchange.received(tag::NOTIFICATION_RESPONSE, |_| {})
            }
            tag::DATA_ROW if answer.rows.len() < answer.rows_max => {
                let Ok(row) = backend::DataRow::parse(body) else {
                    return Err(broken(server, "the server broke the protocol"));
                };
                answer.bytes += body.len();
                if answer.bytes > ANSWERS_MAX {
                    return Err(broken(server, "the server's answer is too large"));
                }
                answer.rows.push(
                    row.values()
                        .map(|value| value.map(<[u8]>::to_vec))
                        .collect(),
                );
                server.exchange.received(tag::DATA_ROW, |_| {})
            }
            other => server.exchange.received(other, |_| {}),
        };
        if verdict == Verdict::Unexpected {
            return Err(broken(server, "the server broke the protocol"));
        }
        server.flow.hide(total);
    }
    Ok(())
}

/// Whether a server says that it waits no longer for a standby, by where in its source that is said.
fn ends_wait(notice: &ErrorReport) -> bool {
    notice.other(Field::Routine) == Some("SyncRepWaitForLSN")
}

fn broken(server: &mut ServerConn, why: &str) -> ErrorReport {
    // A server that goes down may have answered all before it says so.
    server.exchange.lose();
    ErrorReport::error(
        sqlstate::CONNECTION_FAILURE,
        format!(
            "connection to server {} was lost",
            server.about.upstream.name
        ),
    )
    .detail(why)
}
