//! A server connection for one client: a place within the limits, then a login.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use pgherd_net::{Stream, poll_read_into};
use pgherd_pool::{Limits, OpenSlot, PoolCore, Refused};
use pgherd_wire::cancel::CancelKey;
use pgherd_wire::error::ErrorReport;
use pgherd_wire::sqlstate;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::clock;
use crate::control::{Control, Standing};
use crate::facts::Facts;
use crate::server::{Life, ServerConn};
use crate::session::checkout::PAUSED;
use crate::session::replication::register::Listing;
use crate::session::replication::{Kind, Listed, Plan};
use crate::upstream::{self, OpenError, Welcome};

/// What a client sends before its server is there is kept up to this.
const INPUT_MAX: usize = 64 * 1024;

/// A server connection that belongs to one client. Dropped, it is closed, and its place is free.
pub(super) struct Link {
    /// The connection.
    pub(super) server: Box<ServerConn>,
    /// What the server said after its login.
    pub(super) welcome: Welcome,
    /// Its row in the console's tables.
    pub(super) listing: Listing,
    /// Its place within the limits; fields drop in order, so it is free once the socket is closed.
    _place: OpenSlot<()>,
}

/// Why there is no server.
pub(super) enum Unopened {
    /// The client has left.
    Gone,
    /// The client is to be told this.
    Told(Box<ErrorReport>),
}

impl From<ErrorReport> for Unopened {
    fn from(report: ErrorReport) -> Self {
        Self::Told(Box::new(report.into_fatal()))
    }
}

/// Opens a connection to the plan's server, while the client may still leave or be sent away.
pub(super) async fn open(
    client: &mut Stream,
    input: &mut BytesMut,
    plan: &Plan,
    facts: &Facts,
    control: &Arc<Control>,
) -> Result<Link, Unopened> {
    control.wait(clock::now());
    let opened = Box::pin(reach(plan, facts));
    let (server, welcome, place) = tokio::select! {
        opened = opened => opened?,
        () = poll_fn(|cx| poll_departure(client, input, cx)) => return Err(Unopened::Gone),
        () = control.token.cancelled() => {
            return Err(control.farewell().map_or(Unopened::Gone, Unopened::Told));
        }
    };
    control.stand(Standing::Active);
    control.runs_on(&server.about);
    let pid = match server.about.backend {
        0 => control.id,
        pid => pid,
    };
    let listing = facts.replications.enter(Listed {
        kind: plan.kind,
        of: plan.key.clone(),
        about: Arc::clone(&server.about),
        client: Arc::clone(control),
        key: CancelKey::random(&mut rand::rng(), pid, plan.secret_len),
    });
    let link = Link {
        server,
        welcome,
        listing,
        _place: place,
    };
    // Behind the entry: whoever follows a new primary from here on finds this session, and cuts it off.
    let host = &link.server.about.upstream.name;
    if has_passed(plan, facts, host) {
        let text = format!("server {host} was replaced while it was connected to");
        let report = ErrorReport::fatal(sqlstate::CANNOT_CONNECT_NOW, text);
        return Err(report.hint("Connect again.").into());
    }
    Ok(link)
}

/// Whether the server that was chosen at the login is one to be left by now.
fn has_passed(plan: &Plan, facts: &Facts, server: &str) -> bool {
    let config = facts.config.load();
    let section = config.database(&plan.key.database);
    let cluster = section.and_then(|section| facts.topology.of(&section.name));
    cluster.is_some_and(|cluster| cluster.has_passed(server))
}

/// Ready when the client has left. What it sends is kept, up to a bound.
fn poll_departure(client: &mut Stream, input: &mut BytesMut, cx: &mut Context<'_>) -> Poll<()> {
    while input.len() < INPUT_MAX {
        match poll_read_into(client, cx, input, 4096) {
            Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
            Poll::Ready(Ok(_)) => {}
            Poll::Pending => break,
        }
    }
    Poll::Pending
}

/// A connection, what its server said, and its place within the limits.
type Reached = (Box<ServerConn>, Welcome, OpenSlot<()>);

async fn reach(plan: &Plan, facts: &Facts) -> Result<Reached, ErrorReport> {
    let limit = plan.settings.timeouts.checkout;
    let deadline = limit.map(|limit| Instant::now() + limit);
    resumed(plan, facts, deadline).await?;
    let place = place(plan, deadline).await?;
    let upstream = &plan.upstream;
    let gate = &upstream.gate.0;
    if let Some(pause) = gate.pause(clock::now()) {
        tokio::time::sleep(pause).await;
    }
    let opened = match upstream::in_turn(upstream, gate.enter()).await {
        Ok(permit) => {
            let opened = upstream::open(upstream, facts.number(), Life::new().0).await;
            drop(permit);
            opened
        }
        Err(error) => Err(error),
    };
    match opened {
        Ok((server, welcome)) => {
            gate.succeeded();
            Ok((server, welcome, place))
        }
        Err(error) => {
            // A server that turns replication away may be well disposed to others.
            if error.is_of_others() && !matches!(error, OpenError::Refused { .. }) {
                gate.failed(error.failing(), clock::now());
            }
            tracing::warn!(
                database = plan.key.database,
                user = plan.key.user,
                host = upstream.name,
                %error,
                "no server connection for replication"
            );
            Err(words(&error, plan.kind))
        }
    }
}

/// How often it is looked whether a database is still paused.
const LOOK: Duration = Duration::from_millis(50);

/// Waits while the console has the database paused, or killed, as clients of its pools do.
async fn resumed(plan: &Plan, facts: &Facts, deadline: Option<Instant>) -> Result<(), ErrorReport> {
    while facts.doors.is_paused(&plan.key.database) {
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(crowded().detail(PAUSED));
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// How often a permit is asked for that is refused, as the managers of pools do.
const AGAIN: Duration = Duration::from_secs(1);

/// A permit of each limit, waited for as long as a client of a pool may wait.
///
/// It is the one place of a pool of its own, so that it is taken, waited for and given back by the
/// same rules: pools with idle connections close one for it.
async fn place(plan: &Plan, deadline: Option<Instant>) -> Result<OpenSlot<()>, ErrorReport> {
    let freed = Arc::new(Notify::new());
    let hint = {
        let freed = Arc::clone(&freed);
        move || freed.notify_one()
    };
    let core = PoolCore::<()>::new(Limits::ALONE, plan.quotas.clone(), hint);
    loop {
        core.heard();
        let refused = match core.begin_open(clock::now()) {
            Ok(place) => return Ok(place),
            Err(refused) => refused,
        };
        // Who does not ask again is forgotten by those that would make room.
        let wait = tokio::time::timeout(AGAIN, freed.notified());
        let _ = match deadline {
            None => wait.await,
            Some(deadline) => tokio::time::timeout_at(deadline, wait)
                .await
                .map_err(|_| crowded().detail(reason(&refused)))?,
        };
    }
}

fn crowded() -> ErrorReport {
    ErrorReport::fatal(
        sqlstate::TOO_MANY_CONNECTIONS,
        "no server connection became free for replication (checkout timeout)",
    )
}

fn reason(refused: &Refused) -> String {
    match refused {
        Refused::Quota { name, max } => format!("{name} is {max}."),
        other => other.to_string(),
    }
}

/// What the client is told; the server's own words stay in the log.
fn words(error: &OpenError, kind: Kind) -> ErrorReport {
    let OpenError::Refused { host, user, report } = error else {
        return error.report();
    };
    let refusal = error.report();
    match report.code {
        sqlstate::INSUFFICIENT_PRIVILEGE => refusal.hint(format!(
            "User \"{user}\" needs the REPLICATION attribute on {host}."
        )),
        sqlstate::INVALID_AUTHORIZATION_SPECIFICATION => refusal.hint(match kind {
            Kind::Physical => format!(
                "The pg_hba.conf of {host} needs a line for the database \"replication\", this \
                 user, and the address of pgherd."
            ),
            Kind::Logical => format!(
                "The pg_hba.conf of {host} needs a line for this database, this user, and the \
                 address of pgherd."
            ),
        }),
        sqlstate::TOO_MANY_CONNECTIONS => refusal.hint(format!(
            "{host} has a limit on them of its own: max_wal_senders."
        )),
        _ => refusal,
    }
}
