//! Proof that only the server can give: its catalogue of passwords, or a login in the user's name.

use std::sync::Arc;

use pgherd_config::{Config, Password};
use pgherd_wire::error::ErrorReport;
use pgherd_wire::sqlstate;
use zeroize::Zeroizing;

use crate::dialogue::Dialogue;
use crate::facts::Facts;
use crate::pool::PoolKey;
use crate::router;
use crate::server::Life;
use crate::session::login::{Claim, Refusal};
use crate::session::prove::{Known, Proof, Role, ask_password, failed, hidden};
use crate::session::replication::{self, Kind};
use crate::session::setup::{self, Answer};
use crate::upstream::{self, Demand, OpenError, Secret, Source, Upstream};

/// Asks the server for the user's secret, by `auth_query`.
///
/// Only one row in the very name that was asked for counts (a query that matches more loosely would
/// let one user in as another). Its columns are the name, the secret, and if there are more whether
/// the secret is still valid (NULL is forever) and whether the role may log in.
pub(super) async fn catalogue(
    claim: &Claim,
    facts: &Arc<Facts>,
    config: &Config,
) -> Result<Known, Refusal> {
    let Some(database) = place(claim, config) else {
        return Ok(Known::default());
    };
    let asked = config.database(config.section(&claim.database));
    let asked = asked.or_else(|| config.database(database));
    let own = asked.as_deref().and_then(|asked| asked.auth_query.as_ref());
    let (Some(sql), Some(user)) = (own.or(config.auth.query.as_ref()), &config.auth.query_user)
    else {
        return Ok(Known::default());
    };
    let answer = ask(claim, facts, config, (database, user), sql).await?;
    let [row] = answer.rows.as_slice() else {
        return Ok(Known::default());
    };
    read(row, claim).map_err(|column| {
        tracing::error!(database, column, "the auth_query gives no boolean there");
        unusable()
    })
}

/// Where a user is looked up: where the configuration says, else where it wants to go. Who asks for
/// a database that does not exist is asked for the same proof in the same time as anybody else, and
/// so is looked up in another.
fn place<'a>(claim: &'a Claim, config: &'a Config) -> Option<&'a str> {
    if let Some(said) = &config.auth.query_database {
        return config.database(said).is_some().then_some(said.as_str());
    }
    let section = config.section(&claim.database);
    if config.databases.contains_key(section) {
        return Some(section);
    }
    if config.database(section).is_some() {
        // Anybody could have a pool made for each name that comes to mind.
        tracing::warn!(
            database = claim.database,
            "users are not looked up in databases that are not named: set auth.query_database"
        );
        return None;
    }
    config.databases.keys().next().map(String::as_str)
}

async fn ask(
    claim: &Claim,
    facts: &Arc<Facts>,
    config: &Config,
    (database, user): (&str, &str),
    sql: &str,
) -> Result<Answer, Refusal> {
    let secret = config
        .user(user)
        .and_then(|user| user.server_secret().cloned());
    let secret = secret.map_or(Secret::None, |secret| Secret::password(secret.expose()));
    let pool = router::pool(facts, database, user, Proof { secret })
        .await
        .map_err(unavailable)?;
    let mut lease = router::lease(&pool).await.map_err(unavailable)?;
    // Whoever had the server before may have left another search_path.
    setup::apply(&pool, &mut lease, &Arc::default())
        .await
        .map_err(unavailable)?;
    let answer = setup::ask(&mut lease, sql.as_bytes(), claim.user.as_bytes()).await;
    if answer.is_ok() && lease.exchange.is_over() {
        lease.mark_clean();
    }
    drop(lease);
    let answer = answer.map_err(unavailable)?;
    if let Some(error) = answer.error {
        // What the server says about it is nothing for somebody who has not logged in yet.
        tracing::error!(database, user, %error, "the auth_query failed");
        return Err(unusable());
    }
    Ok(answer)
}

/// Understands a row; else the number of the column that is no boolean.
fn read(row: &[Option<Vec<u8>>], claim: &Claim) -> Result<Known, usize> {
    let text = |at: usize| {
        row.get(at)
            .and_then(Option::as_deref)
            .map(|value| std::str::from_utf8(value).unwrap_or_default())
    };
    let yes = |at: usize| match text(at) {
        None => Ok(None),
        Some("t") => Ok(Some(true)),
        Some("f") => Ok(Some(false)),
        Some(_) => Err(at + 1),
    };
    let (valid, login) = (yes(2)?, yes(3)?);
    if text(0) != Some(&claim.user) {
        return Ok(Known::default());
    }
    let secret = text(1).filter(|secret| !secret.is_empty() && valid != Some(false));
    Ok(Known {
        password: secret.map(password),
        role: match login {
            Some(false) => Role::NoLogin,
            Some(true) | None => Role::Login,
        },
    })
}

fn password(secret: &str) -> Password {
    let hidden = hidden(secret.to_owned());
    if secret.starts_with("SCRAM-SHA-256$") {
        Password::Scram(hidden)
    } else if secret.starts_with("md5") && secret.len() == 35 {
        Password::Md5(hidden)
    } else {
        Password::Plain(hidden)
    }
}

fn unusable() -> Refusal {
    ErrorReport::fatal(sqlstate::CONFIG_FILE_ERROR, "the auth_query failed").into()
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

/// Takes the client's password and logs in to the server with it, as the client, whoever its pool
/// will be there. Only what the server has asked for and accepted is believed, and only then a pool
/// is made.
pub(super) async fn passthrough(
    dialogue: &mut Dialogue<'_>,
    claim: &Claim,
    facts: &Arc<Facts>,
    config: &Config,
) -> Result<Proof, Refusal> {
    let given = Zeroizing::new(ask_password(dialogue).await?);
    let places = proving(claim, facts, config, &given).await?;
    let mut rest = places.iter();
    let Some(mut upstream) = rest.next() else {
        return Err(failed(claim));
    };
    let opened = loop {
        let opened = match upstream::in_turn(upstream, upstream.gate.0.enter_to_prove()).await {
            Ok(permits) => {
                let opened = upstream::open(upstream, facts.number(), Life::new().0).await;
                drop(permits);
                opened
            }
            Err(error) => Err(error),
        };
        match (opened, rest.next()) {
            // While it is not known which server is the primary, any that answers will do.
            (Err(error), Some(next))
                if error.is_of_host() || matches!(error, OpenError::Crowded { .. }) =>
            {
                upstream = next;
            }
            (opened, _) => break opened,
        }
    };
    match opened {
        Ok((_, welcome)) => match welcome.demand {
            Demand::Password => Ok(Proof {
                secret: upstream.secret.clone(),
            }),
            Demand::Nothing => {
                // It trusts this machine, and so says nothing about somebody on another.
                let (user, host) = (&claim.user, &upstream.name);
                tracing::error!(
                    user,
                    host,
                    "the server demands no password of this user, so passthrough proves nothing"
                );
                Err(failed(claim))
            }
        },
        Err(error) if error.is_of_login() => Err(failed(claim)),
        Err(error) => Err(Refusal::Told(Box::new(error.report().into_fatal()))),
    }
}

/// Where the client can prove itself, as soon as the hosts are known. A database that does not exist has no server; so that this
/// is not told to strangers, another's is asked.
async fn proving(
    claim: &Claim,
    facts: &Arc<Facts>,
    config: &Config,
    given: &Zeroizing<String>,
) -> Result<Vec<Arc<Upstream>>, Refusal> {
    let section = config.section(&claim.database);
    let (database, name) = match config.database(section) {
        Some(database) => (database, section),
        None => match config.databases.iter().next() {
            Some((name, database)) => (Arc::clone(database), name.as_str()),
            None => return Ok(Vec::new()),
        },
    };
    let key = PoolKey::new(name, claim.user.clone());
    let nothing = Proof {
        secret: Secret::None,
    };
    router::introduced(facts, name, &claim.user).await;
    let usual = router::upstreams(facts, config, &database, &key, &nothing)
        .map_err(|report| Refusal::Told(Box::new(report)))?;
    let own = usual.iter().map(|usual| {
        let own = Upstream {
            user: claim.user.clone(),
            secret: Secret::Password(given.clone()),
            source: Source::Client,
            ..(**usual).clone()
        };
        Arc::new(match claim.replication {
            // The name that it sent for a database need not be one.
            Some(kind @ Kind::Physical) => replication::replicating(&own, kind, &[]),
            _ => own,
        })
    });
    Ok(own.collect())
}
