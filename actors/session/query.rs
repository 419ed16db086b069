//! Proof that only the server can give: its catalogue of passwords, or a login in the user's name.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pgherd_config::{Config, Password};
use pgherd_session::Again;
use pgherd_wire::error::ErrorReport;
use pgherd_wire::sqlstate;
use zeroize::Zeroizing;

use crate::clock;
use crate::cluster::Cluster;
use crate::dialogue::Dialogue;
use crate::facts::Facts;
use crate::pool::{Pool, PoolKey, ServerLease};
use crate::router;
use crate::server::{Life, ServerConn};
use crate::session::checkout::overdue;
use crate::session::login::{Claim, Refusal};
use crate::session::prove::{Known, Proof, Role, ask_password, failed, hidden};
use crate::session::replication::{self, Kind};
use crate::session::retry;
use crate::session::setup::{self, Answer};
use crate::upstream::{self, Demand, OpenError, Secret, Source, Upstream, Welcome};

/// How often it is looked who is to be written to.
const LOOK: Duration = Duration::from_millis(50);

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
    let (began, mut tries) = (clock::now(), 0);
    let answer = loop {
        let mut lease = router::lease(&pool).await.map_err(unavailable)?;
        match ask_by(&pool, &mut lease, sql, &claim.user).await {
            Ok(answer) => break answer,
            Err(report) if lease.exchange.is_over() => return Err(unavailable(report)),
            Err(report) if overdue(&pool, began).is_some() => return Err(unavailable(report)),
            // It only reads, and so is asked of the next server, who may be the next primary.
            Err(_) => {
                let host = &lease.about.upstream.name;
                pool.cluster.load().suspect(host, clock::now());
            }
        }
        drop(lease);
        tokio::time::sleep(retry::pause(Again::Unsent, tries)).await;
        tries += 1;
    };
    if let Some(error) = answer.error {
        // What the server says about it is nothing for somebody who has not logged in yet.
        tracing::error!(database, user, %error, "the auth_query failed");
        return Err(unusable());
    }
    Ok(answer)
}

/// The same over one connection. An error is one of the connection, if it is not between transactions then.
async fn ask_by(
    pool: &Pool,
    lease: &mut ServerLease,
    sql: &str,
    user: &str,
) -> Result<Answer, ErrorReport> {
    // Whoever had the server before may have left another search_path.
    setup::apply(pool, lease, &Arc::default()).await?;
    let answer = setup::ask(lease, sql.as_bytes(), user.as_bytes()).await?;
    if lease.exchange.is_over() {
        lease.mark_clean();
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
    let (began, mut tries) = (clock::now(), 0);
    let (upstream, opened) = loop {
        let (cluster, places) = proving(claim, facts, config, &given).await?;
        let followed = cluster.as_ref().filter(|cluster| cluster.is_led());
        let proved = log_in_at(&places, facts);
        let proved = match followed {
            Some(cluster) => tokio::select! {
                biased;
                proved = proved => proved,
                // A host that does not answer must not keep it from the one that writes go to by now.
                () = is_led_elsewhere(cluster) => continue,
            },
            None => proved.await,
        };
        let Some((upstream, opened)) = proved else {
            return Err(failed(claim));
        };
        match (&opened, followed) {
            (Err(error), Some(cluster))
                if error.is_of_host() && !is_held_up(config, claim, began) =>
            {
                cluster.suspect(&upstream.name, clock::now());
                tokio::time::sleep(retry::pause(Again::Turned, tries)).await;
                tries += 1;
            }
            _ => break (upstream, opened),
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

type Opened = Result<(Box<ServerConn>, Welcome), OpenError>;

/// Logs in at the first of these that can be asked; none if there are none.
async fn log_in_at(places: &[Arc<Upstream>], facts: &Facts) -> Option<(Arc<Upstream>, Opened)> {
    let mut rest = places.iter();
    let mut upstream = rest.next()?;
    loop {
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
            (opened, _) => return Some((Arc::clone(upstream), opened)),
        }
    }
}

/// Resolves once another server than now is the one to be written to, or none.
async fn is_led_elsewhere(cluster: &Cluster) {
    let before = cluster.changes();
    while cluster.changes() == before {
        tokio::time::sleep(LOOK).await;
    }
}

/// Whether a login has waited for as long as work waits for a primary.
fn is_held_up(config: &Config, claim: &Claim, began: Instant) -> bool {
    let Some(database) = config.database(config.section(&claim.database)) else {
        return true;
    };
    let settings = config.effective_pool(&database, config.user(&claim.user).as_deref());
    let hold = settings.timeouts.hold;
    hold.is_some_and(|limit| clock::since(began) >= limit)
}

/// Where the client can prove itself, as soon as the hosts are known. A database that does not exist has no server; so that this
/// is not told to strangers, another's is asked.
async fn proving(
    claim: &Claim,
    facts: &Arc<Facts>,
    config: &Config,
    given: &Zeroizing<String>,
) -> Result<(Option<Arc<Cluster>>, Vec<Arc<Upstream>>), Refusal> {
    let section = config.section(&claim.database);
    let (database, name) = match config.database(section) {
        Some(database) => (database, section),
        None => match config.databases.iter().next() {
            Some((name, database)) => (Arc::clone(database), name.as_str()),
            None => return Ok((None, Vec::new())),
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
    Ok((facts.topology.of(&database.name), own.collect()))
}
