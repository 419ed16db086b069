//! What a client hears after its login, before it may ask anything.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use pgherd_session::{Again, Parameters};
use pgherd_wire::backend;
use pgherd_wire::error::ErrorReport;

use crate::clock;
use crate::pool::{Pool, ServerLease};
use crate::router;
use crate::session::checkout::overdue;
use crate::session::login::{Claim, Refusal};
use crate::session::{reads, retry, setup};
use crate::upstream::Welcome;

/// How long a login waits for a server whose greeting is not known yet.
const PATIENCE: Duration = Duration::from_secs(15);

/// How often it is looked whether there is no primary.
const LOOK: Duration = Duration::from_millis(100);

/// How long one replica is waited for before the next is asked.
const PATIENCE_WITH_ONE: Duration = Duration::from_secs(2);

/// The parameters as the client's own server would report them.
pub(super) async fn pool(
    out: &mut BytesMut,
    pool: &Arc<Pool>,
    claim: &Claim,
) -> Result<(), Refusal> {
    let asked = asked(&claim.parameters);
    let known = pool.welcome.load_full();
    let untried = !pool.proven.covers(&Parameters::default(), &asked);
    let welcome = match known {
        // A greeting that is known and values that are proven need no server: a client may log in
        // while the primary is away.
        Some(welcome) if !untried => welcome,
        _ => try_out(pool, &asked).await?,
    };
    for (name, value) in &welcome.parameters {
        let own = asked
            .get(name)
            .map(|own| match pool.proven.reported(name, own).flatten() {
                Some(reported) => reported.to_string(),
                None => own.to_owned(),
            });
        let value = own.as_deref().unwrap_or(value);
        // A server's own report fits into a message.
        let _ = backend::parameter_status(out, name.as_bytes(), value.as_bytes());
    }
    Ok(())
}

/// The console speaks UTF-8 and poses as the Postgres that its clients expect.
pub(super) fn console(out: &mut BytesMut) {
    let said = [
        (
            "server_version",
            concat!("15.0 (pgherd ", env!("CARGO_PKG_VERSION"), ")"),
        ),
        ("client_encoding", "UTF8"),
        ("server_encoding", "UTF8"),
        ("DateStyle", "ISO, MDY"),
        ("TimeZone", "UTC"),
        ("integer_datetimes", "on"),
        ("standard_conforming_strings", "on"),
    ];
    for (name, value) in said {
        let built = backend::parameter_status(out, name.as_bytes(), value.as_bytes());
        debug_assert!(built.is_ok(), "the values are short");
    }
}

/// The start-up parameters of a client as a set.
pub(super) fn asked(parameters: &[(String, String)]) -> Parameters {
    let mut asked = Parameters::default();
    for (name, value) in parameters {
        asked.set(name, value);
    }
    asked
}

/// Tries the client's parameters out on a server, which refuses here what Postgres would refuse at
/// login.
async fn try_out(pool: &Arc<Pool>, asked: &Parameters) -> Result<Arc<Welcome>, Refusal> {
    let wanted = Arc::new(asked.clone());
    let (began, mut tries) = (clock::now(), 0);
    let source = loop {
        let (source, mut lease) = tokio::select! {
            biased;
            lease = of_the_primary(pool) => (Arc::clone(pool), lease.map_err(fatal)?),
            found = of_a_replica(pool) => found,
        };
        let outcome = setup::apply(&source, &mut lease, &wanted).await;
        let is_over = lease.exchange.is_over();
        if is_over && lease.doubted.is_empty() {
            lease.mark_clean();
        }
        match outcome {
            Ok(()) => break source,
            Err(report) if is_over || overdue(pool, began).is_some() => return Err(fatal(report)),
            // The server was lost, and nothing of the client's was there: the next one may be the next primary's.
            Err(_) => {
                let host = &lease.about.upstream.name;
                pool.cluster.load().suspect(host, clock::now());
            }
        }
        drop(lease);
        tokio::time::sleep(retry::pause(Again::Unsent, tries)).await;
        tries += 1;
    };
    let welcome = source.welcome.load_full();
    let welcome = welcome.ok_or_else(|| fatal(router::unreachable(pool)))?;
    if Arc::ptr_eq(&source, pool) {
        return Ok(welcome);
    }
    let welcome = Arc::new(welcome.as_of_a_primary());
    // The first connection to a primary brings its own.
    let none: Option<Arc<Welcome>> = None;
    pool.welcome
        .compare_and_swap(&none, Some(Arc::clone(&welcome)));
    Ok(welcome)
}

fn fatal(report: ErrorReport) -> Refusal {
    Refusal::Told(Box::new(report.into_fatal()))
}

async fn of_the_primary(pool: &Arc<Pool>) -> Result<ServerLease, ErrorReport> {
    let mut leased = std::pin::pin!(router::lease(pool));
    loop {
        match tokio::time::timeout(PATIENCE, leased.as_mut()).await {
            Ok(lease) => return lease,
            Err(_) if router::is_cut_off(pool) => return Err(router::unreachable(pool)),
            // As long as there is no primary, or none that is free, the limits for that hold.
            Err(_) => {}
        }
    }
}

/// A connection of a pool for reading, once there is no primary: who only wants to read is not kept from it.
async fn of_a_replica(pool: &Arc<Pool>) -> (Arc<Pool>, ServerLease) {
    loop {
        tokio::time::sleep(LOOK).await;
        if pool.core.held().is_none() {
            continue;
        }
        for reader in reads::offered(pool) {
            let leased = tokio::time::timeout(PATIENCE_WITH_ONE, router::lease(&reader)).await;
            if let Ok(Ok(lease)) = leased {
                return (reader, lease);
            }
        }
    }
}

/// The start-up parameters as the server reports them, so that what it reports later compares equal.
pub(super) fn canonical(pool: &Pool, parameters: &[(String, String)]) -> Parameters {
    let mut canonical = Parameters::default();
    for (name, value) in parameters {
        match pool.proven.reported(name, value).flatten() {
            Some(reported) => canonical.set(name, &reported),
            None => canonical.set(name, value),
        }
    }
    canonical
}
