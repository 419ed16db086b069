//! How a client proves who it is.
//!
//! Unknown users, wrong passwords and users without a password take the same way and the same
//! time, and end in the same words.

use std::sync::Arc;

use pgherd_config::{ClientName, Config, Method, Password, Secret as Hidden, User};
use pgherd_net::{Peer, SslMode};
use pgherd_wire::error::ErrorReport;
use pgherd_wire::scram::{self, ScramError, Verifier};
use pgherd_wire::{backend, frontend, md5, sqlstate};
use zeroize::Zeroizing;

use crate::dialogue::Dialogue;
use crate::facts::Facts;
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
        Method::Peer => peer(stream.peer(), claim, decision.map, facts, config).await,
        // The console has no server that could be asked.
        Method::Passthrough if !config.is_console(&claim.database) => {
            query::passthrough(dialogue, claim, facts, config).await
        }
        Method::Password | Method::Md5 | Method::ScramSha256 | Method::Passthrough => {
            let known = known(claim, facts, config).await?;
            let password = known.password.as_ref();
            let proof = match (decision.method, password) {
                (Method::Password | Method::Passthrough, _) => {
                    cleartext(dialogue, claim, password, facts, config).await?
                }
                (Method::Md5, Some(Password::Plain(_) | Password::Md5(_))) => {
                    hashed(dialogue, claim, password).await?
                }
                // Like those whose secrets are written here; where users are looked up, like those,
                // whose secrets are of SCRAM unless they are old.
                (Method::Md5, None) if !looks_up(claim, config) => {
                    hashed(dialogue, claim, None).await?
                }
                _ => challenge(dialogue, claim, password, facts, config).await?,
            };
            known.admit(claim)?;
            Ok(proof)
        }
    }
}

/// What is known of a user before it has proved anything.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Its password; `None` if there is none that is valid.
    pub(super) password: Option<Password>,
    /// What the server says of the role beyond its password.
    pub(super) role: Role,
}

/// Whether a role may log in, as far as is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Role {
    /// Nothing speaks against it.
    #[default]
    Login,
    /// It is `NOLOGIN`.
    NoLogin,
}

impl Known {
    fn of(password: Option<Password>) -> Self {
        Self {
            password,
            role: Role::Login,
        }
    }

    /// As in Postgres, only who has proved to be the role learns that it may not log in.
    fn admit(&self, claim: &Claim) -> Result<(), Refusal> {
        match self.role {
            Role::Login => Ok(()),
            Role::NoLogin => Err(ErrorReport::fatal(
                sqlstate::INVALID_AUTHORIZATION_SPECIFICATION,
                format!("role \"{}\" is not permitted to log in", claim.user),
            )
            .into()),
        }
    }
}

/// What is known of the user: from the configuration, else from the server's catalogue.
async fn known(claim: &Claim, facts: &Arc<Facts>, config: &Config) -> Result<Known, Refusal> {
    let configured = config.users.get(&claim.user).cloned();
    if let Some(password) = configured
        .as_deref()
        .and_then(|user: &User| user.password.clone())
    {
        return Ok(Known::of(Some(password)));
    }
    if configured.is_none() && looks_up(claim, config) {
        return query::catalogue(claim, facts, config).await;
    }
    let user = config.user(&claim.user);
    Ok(Known::of(user.and_then(|user| user.password.clone())))
}

/// Whether users that are not written in the configuration are looked up. For the console they are
/// only where it is said, as who is somebody on one server need not be the same on another.
fn looks_up(claim: &Claim, config: &Config) -> bool {
    let database = config.database(config.section(&claim.database));
    let asks = config.auth.query.is_some() || database.is_some_and(|it| it.auth_query.is_some());
    asks && (config.auth.query_database.is_some() || !config.is_console(&claim.database))
}

/// Takes the password in clear. Whatever is known of it, keys are derived from what is given, so
/// that it takes the same time for everybody.
async fn cleartext(
    dialogue: &mut Dialogue<'_>,
    claim: &Claim,
    known: Option<&Password>,
    facts: &Arc<Facts>,
    config: &Config,
) -> Result<Proof, Refusal> {
    let given = Zeroizing::new(ask_password(dialogue).await?);
    let mut verifier = verifier(claim, known, facts, config).await;
    if verifier.iterations > config.auth.scram_iterations.max(scram::ITERATIONS_MAX) {
        // Anybody may store one for itself that takes hours, and then everybody may knock with its name.
        let (user, iterations) = (&claim.user, verifier.iterations);
        tracing::warn!(
            user,
            iterations,
            "this user's password takes too long to check"
        );
        verifier = Arc::new(mock(claim, facts, config));
    }
    let text = given.clone();
    let fits = facts.derive(move || verifier.verify(text.as_bytes())).await;
    let right = match known {
        Some(Password::Plain(_) | Password::Scram(_)) => fits,
        Some(Password::Md5(hash)) => {
            md5::verify_password(hash.expose(), &claim.user, given.as_bytes())
        }
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
            Secret::password(plain.expose())
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
    if matches!(known, Some(Password::Md5(_))) {
        // As with Postgres, it looks like a wrong password to the client.
        let user = &claim.user;
        tracing::warn!(
            user,
            "this user has an md5 password, which SCRAM cannot use"
        );
    }
    let verifier = verifier(claim, known, facts, config).await;
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
        Some(Password::Plain(secret)) => Secret::password(secret.expose()),
        Some(Password::Scram(_)) => Secret::Scram(verifier.keys(client)),
        // Nobody knows the password behind a mock verifier; to be sure, a match counts for nothing.
        None | Some(Password::Md5(_)) => return Err(failed(claim)),
    };
    Ok(Proof { secret })
}

/// The verifier of what is known; where that has none, one that no password fits.
async fn verifier(
    claim: &Claim,
    known: Option<&Password>,
    facts: &Arc<Facts>,
    config: &Config,
) -> Arc<Verifier> {
    let stored = match known {
        Some(Password::Plain(secret)) => {
            let iterations = config.auth.scram_iterations;
            return facts.verifier(&claim.user, secret, iterations).await;
        }
        Some(Password::Scram(secret)) => Verifier::parse(secret.expose()).ok(),
        Some(Password::Md5(_)) | None => None,
    };
    Arc::new(stored.unwrap_or_else(|| mock(claim, facts, config)))
}

/// A verifier that no password fits, with the iterations that a user who exists would have.
fn mock(claim: &Claim, facts: &Facts, config: &Config) -> Verifier {
    let iterations = config.auth.scram_iterations;
    Verifier {
        iterations,
        ..Verifier::mock(&claim.user, &facts.mock_secret)
    }
}

async fn peer(
    peer: Peer,
    claim: &Claim,
    map: Option<&str>,
    facts: &Facts,
    config: &Config,
) -> Result<Proof, Refusal> {
    if let Peer::Unix { uid, .. } = peer {
        match facts.accounts.name(uid).await {
            Ok(account) if rules::may_be(&account, claim, map, config) => {
                return Ok(Proof {
                    secret: Secret::None,
                });
            }
            Ok(_) => {}
            // For the operator alone: it says more about the machine than about the client.
            Err(error) => tracing::warn!(user = claim.user, %error, "a peer has no name"),
        }
    }
    Err(ErrorReport::fatal(
        sqlstate::INVALID_AUTHORIZATION_SPECIFICATION,
        format!("Peer authentication failed for user \"{}\"", claim.user),
    )
    .into())
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

/// A secret as the configuration holds it.
pub(super) fn hidden(text: String) -> Hidden {
    Hidden::new(text)
}
