//! How a client proves who it is.
//!
//! Unknown users, wrong passwords and users without a password take the same way and the same
//! time, and end in the same words.

use std::sync::Arc;

use pgherd_config::{ClientName, Config, Method, Password, Secret as Hidden, User};
use pgherd_net::{Peer, SslMode, Stream};
use pgherd_wire::error::ErrorReport;
use pgherd_wire::scram::{self, ScramError, Verifier};
use pgherd_wire::{backend, frontend, md5, sqlstate};
use subtle::ConstantTimeEq as _;

use crate::dialogue::Dialogue;
use crate::facts::{Facts, aside};
use crate::session::login::{Claim, Refusal};
use crate::session::{query, rules};
use crate::upstream::Secret;

/// What a login has shown, beyond that the client may come in.
#[derive(Debug, Clone)]
pub struct Proof {
    /// What can prove the user to a server in turn.
    pub secret: Secret,
}

/// Asks the client for its proof.
pub(super) async fn prove(
    dialogue: &mut Dialogue<'_>,
    claim: &Claim,
    facts: &Arc<Facts>,
    config: &Config,
) -> Result<Proof, Refusal> {
    let stream = dialogue.stream();
    // A unix socket is never encrypted and shows no certificate, whatever the mode.
    let unix = matches!(stream.peer(), Peer::Unix { .. });
    if !unix && facts.client_tls.load().mode() == SslMode::VerifyFull {
        rules::named_by_certificate(stream, claim, None, ClientName::CommonName, config)?;
    }
    let decision = rules::decide(stream, claim, config)?;
    match decision.method {
        Method::Trust | Method::Cert => Ok(Proof {
            secret: Secret::None,
        }),
        Method::Reject => Err(rules::rejected(stream, claim)),
        Method::Peer => peer(stream, claim, decision.map, config),
        Method::Passthrough => query::passthrough(dialogue, claim, facts, config).await,
        Method::Password | Method::Md5 | Method::ScramSha256 => {
            let password = known(claim, facts, config).await?;
            match (decision.method, &password) {
                (Method::Password, _) => cleartext(dialogue, claim, password.as_ref()).await,
                (Method::Md5, None | Some(Password::Plain(_) | Password::Md5(_))) => {
                    hashed(dialogue, claim, password.as_ref()).await
                }
                _ => challenge(dialogue, claim, password.as_ref(), facts, config).await,
            }
        }
    }
}

/// What is known of the user's password: from the configuration, else from the server's catalogue.
async fn known(
    claim: &Claim,
    facts: &Arc<Facts>,
    config: &Config,
) -> Result<Option<Password>, Refusal> {
    let configured = config.users.get(&claim.user).cloned();
    if let Some(password) = configured
        .as_deref()
        .and_then(|user: &User| user.password.clone())
    {
        return Ok(Some(password));
    }
    let asks = config
        .database(&claim.database)
        .is_some_and(|it| it.auth_query.is_some())
        || config.auth.query.is_some();
    if configured.is_none() && asks && !config.is_console(&claim.database) {
        return query::catalogue(claim, facts, config).await;
    }
    Ok(config
        .user(&claim.user)
        .and_then(|user| user.password.clone()))
}

async fn cleartext(
    dialogue: &mut Dialogue<'_>,
    claim: &Claim,
    known: Option<&Password>,
) -> Result<Proof, Refusal> {
    let given = ask_password(dialogue).await?;
    let right = match known {
        Some(Password::Plain(secret)) => same(secret.expose().as_bytes(), given.as_bytes()),
        Some(Password::Md5(secret)) => {
            md5::verify_password(secret.expose(), &claim.user, given.as_bytes())
        }
        Some(Password::Scram(secret)) => match Verifier::parse(secret.expose()) {
            Ok(verifier) => {
                let given = given.clone();
                aside(move || verifier.verify(given.as_bytes())).await
            }
            Err(_) => false,
        },
        None => false,
    };
    if right {
        Ok(Proof {
            secret: Secret::Password(given),
        })
    } else {
        Err(failed(claim))
    }
}

/// Asks for the password itself.
pub(super) async fn ask_password(dialogue: &mut Dialogue<'_>) -> Result<String, Refusal> {
    backend::authentication_cleartext(dialogue.out());
    dialogue.send().await?;
    let body = expect_password(dialogue).await?;
    String::from_utf8(body).map_err(|_| violation("the password is not valid UTF-8"))
}

async fn hashed(
    dialogue: &mut Dialogue<'_>,
    claim: &Claim,
    known: Option<&Password>,
) -> Result<Proof, Refusal> {
    let salt: [u8; 4] = rand::random();
    backend::authentication_md5(dialogue.out(), salt);
    dialogue.send().await?;
    let given = expect_password(dialogue).await?;
    let proof = match known {
        Some(Password::Plain(plain))
            if md5::verify(&claim.user, plain.expose().as_bytes(), salt, &given) =>
        {
            Secret::Password(plain.expose().to_owned())
        }
        Some(Password::Md5(hash)) if md5::verify_hash(hash.expose(), salt, &given) => Secret::Md5 {
            user: claim.user.clone(),
            hash: hash.expose().to_owned(),
        },
        _ => return Err(failed(claim)),
    };
    Ok(Proof { secret: proof })
}

async fn challenge(
    dialogue: &mut Dialogue<'_>,
    claim: &Claim,
    known: Option<&Password>,
    facts: &Arc<Facts>,
    config: &Config,
) -> Result<Proof, Refusal> {
    let verifier = match known {
        Some(Password::Plain(secret)) => {
            facts
                .verifier(&claim.user, secret, config.auth.scram_iterations)
                .await
        }
        Some(Password::Scram(secret)) => Arc::new(
            Verifier::parse(secret.expose()).unwrap_or_else(|_| mock(claim, facts, config)),
        ),
        Some(Password::Md5(_)) => {
            // As with Postgres, it looks like a wrong password to the client.
            let user = &claim.user;
            tracing::warn!(
                user,
                "this user has an md5 password, which SCRAM cannot use"
            );
            Arc::new(mock(claim, facts, config))
        }
        None => Arc::new(mock(claim, facts, config)),
    };
    // Of the certificate that this client saw, which a reload may have replaced since.
    let binding = dialogue
        .stream()
        .tls_info()
        .and_then(|info| info.server_end_point);
    let nonce = scram::nonce(&mut rand::rng());
    let mut exchange = scram::server::Exchange::new((*verifier).clone(), binding, nonce);
    let fits = "the message is short";
    let built = backend::authentication_sasl(dialogue.out(), exchange.mechanisms());
    debug_assert!(built.is_ok(), "{fits}");
    dialogue.send().await?;
    let body = expect(dialogue).await?;
    let initial =
        frontend::SaslInitial::parse(&body).map_err(|error| violation(&error.to_string()))?;
    let first = exchange
        .first(initial.mechanism, initial.data.unwrap_or_default())
        .map_err(|error| violation(&error.to_string()))?;
    let built = backend::authentication_sasl_continue(dialogue.out(), &first);
    debug_assert!(built.is_ok(), "{fits}");
    dialogue.send().await?;
    let body = expect(dialogue).await?;
    let (last, client) = match exchange.last(&body) {
        Ok(done) => done,
        Err(ScramError::Proof) => return Err(failed(claim)),
        Err(error) => return Err(violation(&error.to_string())),
    };
    let built = backend::authentication_sasl_final(dialogue.out(), &last);
    debug_assert!(built.is_ok(), "{fits}");
    let secret = match known {
        Some(Password::Plain(secret)) => Secret::Password(secret.expose().to_owned()),
        Some(Password::Scram(_)) => Secret::Scram(verifier.keys(client)),
        // Nobody knows the password behind a mock verifier; to be sure, a match counts for nothing.
        None | Some(Password::Md5(_)) => return Err(failed(claim)),
    };
    Ok(Proof { secret })
}

/// A verifier that no password fits, with the iterations that a user who exists would have.
fn mock(claim: &Claim, facts: &Facts, config: &Config) -> Verifier {
    let iterations = config.auth.scram_iterations;
    Verifier {
        iterations,
        ..Verifier::mock(&claim.user, &facts.mock_secret)
    }
}

fn peer(
    stream: &Stream,
    claim: &Claim,
    map: Option<&str>,
    config: &Config,
) -> Result<Proof, Refusal> {
    if let Peer::Unix { uid, .. } = stream.peer()
        && let Some(account) = account(uid)
        && rules::may_be(&account, claim, map, config)
    {
        return Ok(Proof {
            secret: Secret::None,
        });
    }
    Err(ErrorReport::fatal(
        sqlstate::INVALID_AUTHORIZATION_SPECIFICATION,
        format!("Peer authentication failed for user \"{}\"", claim.user),
    )
    .into())
}

/// The name of a system account.
fn account(uid: u32) -> Option<String> {
    let table = std::fs::read_to_string("/etc/passwd").ok()?;
    table.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

async fn expect(dialogue: &mut Dialogue<'_>) -> Result<bytes::Bytes, Refusal> {
    Ok(dialogue
        .expect(frontend::tag::PASSWORD, "a password message")
        .await?)
}

/// A password message holds one string and nothing else.
async fn expect_password(dialogue: &mut Dialogue<'_>) -> Result<Vec<u8>, Refusal> {
    let body = expect(dialogue).await?;
    match body.split_last() {
        Some((0, password)) if !password.contains(&0) => Ok(password.to_vec()),
        _ => Err(violation("invalid password packet")),
    }
}

/// The one answer to every wrong proof.
pub(super) fn failed(claim: &Claim) -> Refusal {
    ErrorReport::fatal(
        sqlstate::INVALID_PASSWORD,
        format!("password authentication failed for user \"{}\"", claim.user),
    )
    .into()
}

fn violation(why: &str) -> Refusal {
    ErrorReport::fatal(sqlstate::PROTOCOL_VIOLATION, why.to_owned()).into()
}

fn same(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

/// A secret as the configuration holds it.
pub(super) fn hidden(text: String) -> Hidden {
    Hidden::new(text)
}
