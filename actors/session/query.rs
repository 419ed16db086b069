//! Proof that only the server can give: its catalogue of passwords, or a login in the user's name.

use std::sync::Arc;

use pgherd_config::{Config, Password};
use pgherd_wire::error::ErrorReport;
use pgherd_wire::sqlstate;

use crate::dialogue::Dialogue;
use crate::facts::Facts;
use crate::pool::PoolKey;
use crate::router;
use crate::server::Life;
use crate::session::login::{Claim, Refusal};
use crate::session::prove::{Proof, ask_password, failed, hidden};
use crate::session::setup;
use crate::upstream::{self, OpenError, Secret, Upstream};

/// Asks the server for the user's secret, by `auth_query`.
///
/// Only one row in the very name that was asked for counts (a query that matches more loosely would
/// let one user in as another).
pub(super) async fn catalogue(
    claim: &Claim,
    facts: &Arc<Facts>,
    config: &Config,
) -> Result<Option<Password>, Refusal> {
    let database = config
        .auth
        .query_database
        .as_deref()
        .unwrap_or(&claim.database);
    if config.auth.query_database.is_none() && !config.databases.contains_key(database) {
        // Anybody could have a pool made for each name that comes to mind.
        tracing::warn!(
            database,
            "users are not looked up in databases that are not named: set auth.query_database"
        );
        return Ok(None);
    }
    if config.database(database).is_none() {
        return Ok(None);
    }
    let asked = config.database(&claim.database);
    let own = asked.as_deref().and_then(|asked| asked.auth_query.as_ref());
    let (Some(sql), Some(user)) = (own.or(config.auth.query.as_ref()), &config.auth.query_user)
    else {
        return Ok(None);
    };
    let secret = config
        .user(user)
        .and_then(|user| user.server_secret().cloned());
    let secret = secret.map_or(Secret::None, |secret| {
        Secret::Password(secret.expose().to_owned())
    });
    let pool = router::pool(facts, database, user, Proof { secret })
        .await
        .map_err(unavailable)?;
    let mut lease = router::lease(&pool).await.map_err(unavailable)?;
    let answer = setup::ask(&mut lease, sql.as_bytes(), claim.user.as_bytes()).await;
    if answer.is_ok() && lease.exchange.is_over() {
        lease.mark_clean();
    }
    drop(lease);
    let answer = answer.map_err(unavailable)?;
    if let Some(error) = answer.error {
        // What the server says about it is nothing for somebody who has not logged in yet.
        tracing::error!(database, user, %error, "the auth_query failed");
        let text = "the auth_query failed";
        return Err(ErrorReport::fatal(sqlstate::CONFIG_FILE_ERROR, text).into());
    }
    let [row] = answer.rows.as_slice() else {
        return Ok(None);
    };
    let text = |at: usize| {
        row.get(at)
            .and_then(Option::as_deref)
            .and_then(|value| std::str::from_utf8(value).ok())
    };
    match (text(0), text(1)) {
        (Some(name), Some(secret)) if name == claim.user && !secret.is_empty() => {
            let secret = secret.to_owned();
            Ok(Some(if secret.starts_with("SCRAM-SHA-256$") {
                Password::Scram(hidden(secret))
            } else if secret.starts_with("md5") && secret.len() == 35 {
                Password::Md5(hidden(secret))
            } else {
                Password::Plain(hidden(secret))
            }))
        }
        _ => Ok(None),
    }
}

/// The server could not be asked. Why stays in the log: this client has proved nothing yet.
fn unavailable(report: ErrorReport) -> Refusal {
    tracing::warn!(
        error = report.message,
        detail = report.detail,
        "the auth_query cannot run"
    );
    let text = "the user cannot be looked up at the moment";
    ErrorReport::fatal(sqlstate::CANNOT_CONNECT_NOW, text).into()
}

/// Takes the client's password and logs in to the server with it. Only what the server accepts is
/// believed, and only then a pool is made.
pub(super) async fn passthrough(
    dialogue: &mut Dialogue<'_>,
    claim: &Claim,
    facts: &Arc<Facts>,
    config: &Config,
) -> Result<Proof, Refusal> {
    let password = ask_password(dialogue).await?;
    let Some(settings) = config.database(&claim.database) else {
        return Err(failed(claim));
    };
    let proof = Proof {
        secret: Secret::Password(password),
    };
    let key = PoolKey {
        database: claim.database.clone(),
        user: claim.user.clone(),
    };
    let upstream: Arc<Upstream> = router::upstream(&facts.memory, config, &settings, &key, &proof)
        .map_err(|report| Refusal::Told(Box::new(report)))?;
    match upstream::open(&upstream, facts.number(), Life::new().0).await {
        Ok(_proved) => Ok(proof),
        Err(OpenError::Refused { .. } | OpenError::Secret { .. }) => Err(failed(claim)),
        Err(error) => Err(Refusal::Told(Box::new(error.report().into_fatal()))),
    }
}
