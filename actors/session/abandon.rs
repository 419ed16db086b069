//! What becomes of a server whose client has left it in the middle.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use pgherd_config::PoolMode;
use pgherd_net::{poll_read_into, poll_write_from};
use pgherd_planted::{self as planted, Bug};
use pgherd_session::{CopyFlow, Exchange, Flow, Owed, Sequences, literal};
use pgherd_sql::{PinSet, Runs, Step};
use pgherd_wire::backend::{self, TransactionStatus, tag};
use pgherd_wire::error::ErrorReport;
use pgherd_wire::{frame, frontend};

use tokio::task::JoinHandle;

use crate::clock;
use crate::pool::ServerLease;
use crate::server::{Cancels, ServerConn};
use crate::session::relay::Relay;
use crate::session::{behind, follow, setup, unreplicated};
use crate::upstream;

/// How the client went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parting {
    /// It said goodbye behind what it had asked for, which Postgres would therefore finish.
    Goodbye,
    /// It was cut off, or was sent away.
    Cut,
}

/// Ends what the client left under way and gives the server back clean; a server that does not
/// get there within the rollback timeout is closed.
pub(super) async fn abandon(relay: &mut Relay, mut lease: ServerLease, parting: Parting) {
    let about = Arc::clone(&lease.about);
    let commits = std::mem::take(&mut lease.commits);
    let settings = relay.pool.settings().clone();
    let block = relay.block.take();
    // Whether they take effect is not known, nor is what the end of the transaction keeps.
    let unsettled = lease.exchange.follows() || (block.is_some() && lease.exchange.owes());
    let under_way: Vec<Box<str>> = names(lease.exchange.steps()).collect();
    // The server does not forget them, and nobody waits to look.
    lease.doubt(under_way);
    behind::suspects_all(&mut lease);
    // From here on the client's own cancel requests find nothing.
    relay.control.runs_nowhere();
    let cut = relay.up.is_mid_message();
    if planted::is(Bug::WrongClient) && !cut {
        lease.exchange = Exchange::default();
        lease.flow.discard();
        lease.mark_clean();
        return;
    }
    let pending = std::mem::take(&mut relay.up);
    let clean = async {
        finish(&mut lease, pending, cut, (parting, commits)).await?;
        if lease.exchange.status() != TransactionStatus::Idle {
            let answer = setup::run(&mut lease, b"ROLLBACK").await.ok()?;
            // A setting that it takes back is no longer the one that the server is believed to have.
            if answer.error.is_some() || !answer.reported.is_empty() {
                return None;
            }
            if let Some(block) = block {
                lease.is_set_to(&follow::restored(relay, block.begin()));
            }
        }
        if lease.doubted.crowded || !relay.pins.without(PinSet::DISCARD_ALL).is_empty() {
            // Nothing takes back what binds this session, so nobody else may have the server.
            return None;
        }
        let suspect = behind::is_suspect(&lease, settings.pool.function_check);
        let pinned = !relay.pins.is_empty() || suspect || unsettled;
        if pinned || lease.touched && relay.mode == PoolMode::Session {
            let reset = settings.pool.reset_query.as_deref()?;
            quiet(setup::run(&mut lease, reset.as_bytes()).await)?;
            lease.statements.clear();
            lease.is_reset();
            if is_discard_all(reset) {
                lease.discards_plans();
            }
            lease.sequences = Sequences::Nobody;
        }
        make_known(&mut lease).await?;
        lease.statements.settle();
        lease.ran = Runs::Nothing;
        lease.alters = None;
        lease.used_sequence = false;
        about.cancels.settled().await.then_some(())
    };
    let ended = tokio::time::timeout(settings.timeouts.rollback, clean).await;
    if ended == Ok(Some(())) && lease.exchange.is_over() {
        lease.touched = false;
        // What the client has notified is to be awaited by the next who listens.
        lease.heard = clock::now();
        lease.mark_clean();
    }
}

/// Whether a reset surely leaves no plans of functions behind.
fn is_discard_all(reset: &str) -> bool {
    let words = reset.trim_end_matches([';', ' ']).split_ascii_whitespace();
    words
        .map(str::to_ascii_lowercase)
        .eq(["discard", "all"].map(str::to_owned))
}

/// Has the server know the settings of the users' own that it has perhaps had, as it is believed to from then on: what
/// it lacks would be an error for somebody who has to find an empty text.
async fn make_known(server: &mut ServerConn) -> Option<()> {
    if server.doubted.names.is_empty() {
        return Some(());
    }
    let calls = server.doubted.names.iter().map(|name| {
        let name = literal(name);
        format!("pg_catalog.set_config({name}, NULL, true)")
    });
    let sql = format!("SELECT {}", calls.collect::<Vec<_>>().join(", "));
    quiet(setup::run(server, sql.as_bytes()).await)?;
    server.believe();
    Some(())
}

/// The settings that these steps make.
fn names<'a>(steps: impl Iterator<Item = &'a Step>) -> impl Iterator<Item = Box<str>> {
    let changes = steps.filter_map(|step| match step {
        Step::Change(changes) => Some(changes),
        _ => None,
    });
    changes.flatten().map(|change| change.name.clone())
}

fn quiet(answer: Result<setup::Answer, ErrorReport>) -> Option<()> {
    answer.ok()?.error.is_none().then_some(())
}

/// Brings the exchange to a point where nothing is owed, which perhaps `commits`.
async fn finish(
    server: &mut ServerConn,
    mut pending: Flow,
    cut: bool,
    (parting, commits): (Parting, bool),
) -> Option<()> {
    if cut {
        // The rest of a message will never come, so the server can only be left.
        return None;
    }
    if server.exchange.copy() == CopyFlow::In {
        frontend::copy_fail(pending.made(), b"the client left").ok()?;
        server.exchange.sent(Owed::CopyEnd);
    }
    // A Sync would commit what the client has never asked to commit.
    let uncommitted =
        server.exchange.unsynced() && server.exchange.status() == TransactionStatus::Idle;
    if !uncommitted && (server.exchange.unsynced() || server.exchange.skipping()) {
        pending.insert(&frontend::SYNC);
        server.exchange.sent(Owed::Sync);
    }
    let mut asked = None;
    if server.exchange.owes() && parting == Parting::Cut {
        let guard = Cancels::begin(&server.about);
        match commits {
            true => asked = Some(tokio::spawn(unreplicated::cancel_another(guard))),
            false => drop(tokio::spawn(upstream::cancel(guard))),
        }
    }
    if uncommitted {
        return None;
    }
    tokio::select! {
        done = drain(server, pending) => done,
        // Only its connection is left: it commits once a standby has it.
        () = goes_on(asked) => None,
    }
}

/// Ready once what was to be cancelled is left alone.
async fn goes_on(asked: Option<JoinHandle<bool>>) {
    let goes_on = match asked {
        Some(asked) => asked.await.unwrap_or(false),
        None => false,
    };
    if !goes_on {
        std::future::pending().await
    }
}

/// Sends what is left to be sent, and reads up to where nothing is owed.
async fn drain(server: &mut ServerConn, mut pending: Flow) -> Option<()> {
    server.flow.discard();
    // What has come already, and was kept back from the client, is not announced again.
    ignore(server, &mut pending)?;
    while server.exchange.owes() || pending.backlog() > 0 {
        poll_fn(|cx| {
            // Under TLS there may be something to send although nothing waits any more.
            let sent = poll_write_from(&mut server.stream, cx, &mut pending);
            if matches!(sent, Poll::Ready(Err(_))) {
                return Poll::Ready(None);
            }
            match poll_read_into(&mut server.stream, cx, &mut server.flow.buffer, 16 * 1024) {
                Poll::Ready(Ok(count)) if count > 0 => Poll::Ready(ignore(server, &mut pending)),
                Poll::Ready(_) => Poll::Ready(None),
                Poll::Pending if !server.exchange.owes() && sent.is_ready() => {
                    Poll::Ready(Some(()))
                }
                Poll::Pending => Poll::Pending,
            }
        })
        .await?;
    }
    (!server.exchange.doubtful()).then_some(())
}

/// No CommandComplete of a Postgres is longer.
const TAG_MAX: usize = 256;

/// Whether the CommandComplete in front, of `total` bytes, says that a server has forgotten what nobody has written down.
fn forgets(here: &[u8], total: usize) -> bool {
    let said = here.get(frame::HEADER_LEN..total);
    matches!(said, Some(b"DISCARD ALL\0" | b"DEALLOCATE ALL\0"))
}

/// Reads on without a reader. A COPY that begins only now is ended at once.
fn ignore(server: &mut ServerConn, pending: &mut Flow) -> Option<()> {
    while server.flow.resume() {
        let Some(header) = frame::header(server.flow.unjudged()).ok()? else {
            break;
        };
        let total = header.total();
        match header.tag {
            tag::READY_FOR_QUERY => {
                let Some(message) = server.flow.unjudged().get(..total) else {
                    break;
                };
                let ready = backend::ReadyForQuery::parse(&message[frame::HEADER_LEN..]).ok()?;
                server.exchange.ready(ready.status);
            }
            // The client's setting takes effect only now, and must not meet the next client.
            tag::PARAMETER_STATUS => return None,
            tag::COMMAND_COMPLETE if total <= TAG_MAX && server.flow.unjudged().len() < total => {
                break;
            }
            // Settings and statements are gone that are believed to be there.
            tag::COMMAND_COMPLETE if forgets(server.flow.unjudged(), total) => return None,
            other => {
                let here = server.flow.unjudged();
                if other == tag::ERROR_RESPONSE
                    && ErrorReport::parse(&here[frame::HEADER_LEN..total.min(here.len())])
                        .is_fatal()
                {
                    return None;
                }
                // A message of ours has failed, so the server is not what it is believed to be.
                if other == tag::ERROR_RESPONSE && server.exchange.in_setup() {
                    return None;
                }
                // What an error takes back may belong to the client, who is gone, or to the
                // server's list of statements, which is then no longer exact.
                let mut exact = true;
                server.exchange.received(other, |undo| {
                    exact &= matches!(undo, pgherd_session::Undo::Nothing);
                });
                if !exact {
                    return None;
                }
                if server.exchange.copy() == CopyFlow::In {
                    frontend::copy_fail(pending.made(), b"the client left").ok()?;
                    server.exchange.sent(Owed::CopyEnd);
                }
            }
        }
        server.flow.hide(total);
        while server.exchange.local().is_some() {}
    }
    Some(())
}
