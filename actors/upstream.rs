//! Where a pool's connections lead, and how one is opened.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use bytes::BytesMut;
use pgherd_net::{Peer, ServerTls, SocketOptions, SslMode, Stream, Target};
use pgherd_session::{Exchange, Flow, Role, Sequences, ServerStatements};
use pgherd_sql::{PinSet, Runs};
use pgherd_wire::backend::{self, Authentication, TransactionStatus, tag};
use pgherd_wire::cancel::CancelKey;
use pgherd_wire::error::ErrorReport;
use pgherd_wire::scram::client::{Binding, Credentials};
use pgherd_wire::scram::{self, Keys, ScramError};
use pgherd_wire::sqlstate::{self, SqlState};
use pgherd_wire::startup::Version;
use pgherd_wire::{frontend, md5, startup};
use zeroize::Zeroizing;

use crate::clock;
use crate::dialogue::{Dialogue, DialogueError};
use crate::facts::aside;
use crate::gate::{Failing, Gate};
use crate::hidden::{Hidden, Sways};
use crate::server::{
    CancelGuard, Cancels, Doubted, KillSwitch, Life, ServerAbout, ServerConn, Voice,
};
use crate::session::replies::is_settable;

/// A server's message during login may have up to this size.
const LOGIN_MESSAGE_MAX: usize = 64 * 1024;

/// A server, and as whom to log in there.
#[derive(Debug, Clone, PartialEq)]
pub struct Upstream {
    /// `host:port` or the socket's path, for people.
    pub name: String,
    /// Its address.
    pub target: Target,
    /// TCP options.
    pub socket: SocketOptions,
    /// TLS.
    pub tls: TlsChoice,
    /// How hard it may be knocked at.
    pub gate: Door,
    /// What is known of the database's own code.
    pub hidden: Depths,
    /// The database there.
    pub database: String,
    /// The user there.
    pub user: String,
    /// How the user proves itself.
    pub secret: Secret,
    /// Where that comes from.
    pub source: Source,
    /// Whether the login is bound to TLS.
    pub binding: Binding,
    /// Parameters for the start-up packet.
    pub parameters: BTreeMap<String, String>,
    /// The start-up parameter of that name, if it is for replication.
    pub replication: Option<&'static str>,
    /// How long all of connecting may take.
    pub patience: Option<Duration>,
    /// How long a cancel request may take.
    pub cancel_patience: Duration,
    /// Shared prepared statements kept on one connection.
    pub statements: usize,
    /// Bytes of their texts kept on one connection.
    pub statement_bytes: usize,
}

impl Upstream {
    /// The secret that a client brought, if one did.
    pub fn learned(&self) -> Secret {
        match self.source {
            Source::Client => self.secret.clone(),
            Source::Configured => Secret::None,
        }
    }

    /// Whether connections made for the other are as good as new ones. How long opening may take
    /// says nothing about those that are open, and whose keys they were opened with neither.
    pub fn is_as_good_as(&self, other: &Self) -> bool {
        let keys = |upstream: &Self| matches!(upstream.secret, Secret::Scram(_));
        let rest = |upstream: &Self| Self {
            patience: None,
            secret: Secret::None,
            source: Source::Configured,
            ..upstream.clone()
        };
        let secrets = (keys(self) && keys(other)) || self.secret == other.secret;
        secrets && rest(self) == rest(other)
    }
}

/// TLS settings, compared by identity.
#[derive(Debug, Clone)]
pub struct TlsChoice(pub Arc<ServerTlsPair>);

/// TLS towards a server: as configured, and for when nothing but TLS will do.
#[derive(Debug)]
pub struct ServerTlsPair {
    /// As configured.
    pub usual: ServerTls,
    /// With TLS or not at all, where the usual way also goes on without: for a server that
    /// refuses plain connections, and for a cancel key that has never travelled in the clear.
    pub strict: Option<ServerTls>,
    /// Without TLS, where the usual way prefers it: for a server that refuses encrypted logins.
    pub plain: Option<ServerTls>,
}

impl PartialEq for TlsChoice {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// The door of the host, compared by identity.
#[derive(Debug, Clone)]
pub struct Door(pub Arc<Gate>);

impl PartialEq for Door {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// What is known of the code in a database, compared by identity.
#[derive(Debug, Clone, Default)]
pub struct Depths(pub Arc<Hidden>);

impl PartialEq for Depths {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// Where a secret comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// From the configuration, which alone may change it. No secret for the user of a database, or
    /// none of a client's for any other user, takes its place.
    Configured,
    /// From a client that proved itself with it as this very user. The next one may bring another.
    Client,
}

/// What proves a user to a server.
#[derive(Clone)]
pub enum Secret {
    /// Nothing is known.
    None,
    /// What was known is refused by the server, as of a password that was changed there. Nothing is
    /// tried before a client brings another.
    Refused,
    /// The password.
    Password(Zeroizing<String>),
    /// The keys of SCRAM, learned when a client proved its password to us.
    Scram(Keys),
    /// What md5 makes of the password, known from a catalogue. It serves md5 and nothing else, and
    /// only the user whose name is hashed in it.
    Md5 {
        /// That user.
        user: String,
        /// `md5` and 32 digits.
        hash: String,
    },
}

impl Secret {
    /// A password.
    pub fn password(text: &str) -> Self {
        Self::Password(Zeroizing::new(text.to_owned()))
    }

    /// Whether this is to take the other's place, when a client has just proved itself with it.
    /// What serves fewer methods of proof is no gain, unless the other is refused; what serves none never is.
    pub fn supersedes(&self, known: &Self) -> bool {
        self.worth() > 0 && self.worth() >= known.worth() && self != known
    }

    /// How many methods of proof it serves.
    fn worth(&self) -> u8 {
        match self {
            Self::Refused | Self::None => 0,
            Self::Md5 { .. } => 1,
            Self::Scram(_) => 2,
            Self::Password(_) => 3,
        }
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::None, Self::None) | (Self::Refused, Self::Refused) => true,
            (Self::Scram(keys), Self::Scram(others)) => keys.same(others),
            (Self::Password(a), Self::Password(b)) => a == b,
            (
                Self::Md5 { user, hash },
                Self::Md5 {
                    user: other,
                    hash: theirs,
                },
            ) => user == other && hash == theirs,
            _ => false,
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Refused => "Refused",
            Self::Password(_) => "Password(…)",
            Self::Scram(_) => "Scram(…)",
            Self::Md5 { .. } => "Md5(…)",
        })
    }
}

/// What a server says after login, as the next client will want to hear it.
#[derive(Debug, Clone, Default)]
pub struct Welcome {
    /// Reported parameters in the order in which they came.
    pub parameters: Vec<(String, String)>,
    /// What it asked for at login.
    pub demand: Demand,
    /// The name of its host.
    pub host: String,
}

impl Welcome {
    /// Whether sessions begin there with other settings than at `other`, of those that a session may set.
    pub fn begins_otherwise(&self, other: &Self) -> bool {
        let defaults = |welcome: &Self| -> BTreeMap<String, String> {
            let all = welcome.parameters.iter();
            let own = all.filter(|(name, _)| is_default(name));
            own.cloned().collect()
        };
        defaults(self) != defaults(other)
    }

    /// Whether the server said that it is in recovery. Those before PostgreSQL 14 do not say.
    pub fn is_in_recovery(&self) -> bool {
        let says = |(name, value): &(String, String)| name == "in_hot_standby" && value == "on";
        self.parameters.iter().any(says)
    }

    /// What the primary would say of itself where this server is a standby of it.
    #[must_use]
    pub fn as_of_a_primary(&self) -> Self {
        let mut said = self.clone();
        for (name, value) in &mut said.parameters {
            if name == "in_hot_standby" {
                "off".clone_into(value);
            }
        }
        said
    }
}

/// Whether what a server reports of a setting is where its sessions begin, as an `ALTER ROLE … SET` may change it. The rest
/// is what the server is, or who logs in there.
fn is_default(name: &str) -> bool {
    is_settable(name) && name != "application_name"
}

/// What a server asks of who logs in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Demand {
    /// Nothing that was sent to it: it trusts, or the certificate was enough.
    #[default]
    Nothing,
    /// Proof of the password, which it has seen.
    Password,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No socket.
    #[error("{0}")]
    Connect(#[from] pgherd_net::ConnectError),
    /// The dialogue broke off.
    #[error("login to {host} as {user}: {source}")]
    Dialogue {
        /// The server.
        host: String,
        /// The user.
        user: String,
        /// What happened.
        source: DialogueError,
    },
    /// The server refused the login.
    #[error("server {host} refused the login of {user}: {}", .report.message)]
    Refused {
        /// The server.
        host: String,
        /// The user.
        user: String,
        /// What the server said, from after authentication or not.
        report: Box<ErrorReport>,
    },
    /// The server asks for what we do not have.
    #[error("login to {host} as {user}: {why}")]
    Secret {
        /// The server.
        host: String,
        /// The user.
        user: String,
        /// What is missing.
        why: String,
    },
    /// The secret that a client brought is of no use any more.
    #[error("server {host} takes another password of {user} than the one that is known")]
    Outdated {
        /// The server.
        host: String,
        /// The user.
        user: String,
    },
    /// The login cannot be bound to TLS, and must be.
    #[error("login to {host} as {user}: channel binding is required, but {why}")]
    Unbound {
        /// The server.
        host: String,
        /// The user.
        user: String,
        /// What is missing.
        why: &'static str,
    },
    /// The server is in recovery, where one was to be that may be written to.
    #[error("server {host} is a standby at the moment")]
    Standby {
        /// The server.
        host: String,
    },
    /// The server is not to be read from at the moment.
    #[error("server {host} is not to be read from at the moment")]
    Withheld {
        /// The server.
        host: String,
    },
    /// As many logins as may be were under way at the host all the time.
    #[error("{host} had no place for another login within {patience:?} (max_host_logins)")]
    Crowded {
        /// The server.
        host: String,
        /// The limit.
        patience: Duration,
    },
    /// The time was up.
    #[error("login to {host} took longer than {patience:?}")]
    TimedOut {
        /// The server.
        host: String,
        /// The limit.
        patience: Duration,
    },
}

impl OpenError {
    /// Whether trying again later can help without anybody's doing.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Refused { report, .. } => {
                let class = report.code.class();
                // Out of connections, starting up, shutting down.
                class == "53" || class == "57"
            }
            Self::Secret { .. } | Self::Outdated { .. } | Self::Unbound { .. } => false,
            Self::Connect(_)
            | Self::Dialogue { .. }
            | Self::Standby { .. }
            | Self::Withheld { .. }
            | Self::Crowded { .. }
            | Self::TimedOut { .. } => true,
        }
    }

    /// How hard its host may be knocked at behind it.
    pub fn failing(&self) -> Failing {
        match self {
            Self::Refused { report, .. } if report.code.class() == "53" => Failing::Full,
            _ => Failing::Otherwise,
        }
    }

    /// Whether it speaks against the host as one to be written to.
    pub fn is_of_host(&self) -> bool {
        match self {
            Self::Refused { report, .. } => report.code.class() == "57",
            Self::Secret { .. }
            | Self::Outdated { .. }
            | Self::Unbound { .. }
            | Self::Crowded { .. } => false,
            Self::Connect(_)
            | Self::Dialogue { .. }
            | Self::Standby { .. }
            | Self::Withheld { .. }
            | Self::TimedOut { .. } => true,
        }
    }

    /// Whether others who log in at the host would meet it as well. What is wrong with one login alone must not keep them out.
    pub fn is_of_others(&self) -> bool {
        match self {
            Self::Refused { report, .. } => ["53", "57", "58", "XX"].contains(&report.code.class()),
            Self::Secret { .. }
            | Self::Outdated { .. }
            | Self::Unbound { .. }
            | Self::Crowded { .. } => false,
            Self::Connect(_)
            | Self::Dialogue { .. }
            | Self::Standby { .. }
            | Self::Withheld { .. }
            | Self::TimedOut { .. } => true,
        }
    }

    /// Whether the server says that the password is wrong.
    pub fn is_wrong_password(&self) -> bool {
        match self {
            Self::Refused { report, .. } => report.code == sqlstate::INVALID_PASSWORD,
            Self::Outdated { .. } => true,
            _ => false,
        }
    }

    /// Whether the server has refused the user, by whatever proof.
    pub fn is_of_login(&self) -> bool {
        match self {
            Self::Refused { report, .. } => report.code.class() == "28",
            Self::Secret { .. } | Self::Outdated { .. } => true,
            _ => false,
        }
    }

    /// Whether the server has no rule for a connection of this kind.
    fn has_no_rule(&self) -> bool {
        matches!(self, Self::Refused { report, .. }
            if report.code == sqlstate::INVALID_AUTHORIZATION_SPECIFICATION)
    }

    /// Whether the server may have refused the version of the protocol.
    fn is_of_version(&self) -> bool {
        match self {
            Self::Refused { report, .. } => [
                sqlstate::FEATURE_NOT_SUPPORTED,
                sqlstate::PROTOCOL_VIOLATION,
            ]
            .contains(&report.code),
            _ => false,
        }
    }

    /// The error as a client is told of it. A server's text from before authentication stays here.
    pub fn report(&self) -> ErrorReport {
        let code: SqlState = match self {
            Self::Refused { report, .. } => report.code,
            Self::Secret { .. } | Self::Outdated { .. } => sqlstate::INVALID_PASSWORD,
            _ => sqlstate::CONNECTION_FAILURE,
        };
        match self {
            Self::Refused { host, user, .. } => {
                // What the code says may be said in our own words.
                let words = if code == sqlstate::TOO_MANY_CONNECTIONS {
                    format!("server {host} has no connection left for user \"{user}\"")
                } else if code == sqlstate::CANNOT_CONNECT_NOW {
                    format!("server {host} is starting up or shutting down")
                } else {
                    format!("server {host} refused the login of user \"{user}\"")
                };
                ErrorReport::error(code, words)
            }
            Self::Outdated { .. } => ErrorReport::error(code, self.to_string())
                .hint("It was changed there, perhaps. The next login with the new one is enough."),
            Self::Secret { .. } => ErrorReport::error(code, self.to_string())
                .hint("The configuration can name a server_password for this user."),
            other => ErrorReport::error(code, other.to_string()),
        }
    }
}

/// Waits for what lets a login in among those under way at the host.
///
/// # Errors
/// [`OpenError::Crowded`]: a host that answers no login holds each up for the upstream's patience, and whoever stands
/// behind many of them would keep its place within the limits for as long as all of them together.
pub async fn in_turn<T>(
    upstream: &Upstream,
    enter: impl Future<Output = T>,
) -> Result<T, OpenError> {
    let Some(patience) = upstream.patience else {
        return Ok(enter.await);
    };
    let entered = tokio::time::timeout(patience, enter).await;
    entered.map_err(|_| OpenError::Crowded {
        host: upstream.name.clone(),
        patience,
    })
}

/// Opens a connection and logs in; it is number `id`, and `life` ends with it.
///
/// # Errors
/// [`OpenError`], within the upstream's patience.
pub async fn open(
    upstream: &Arc<Upstream>,
    id: u64,
    life: Life,
) -> Result<(Box<ServerConn>, Welcome), OpenError> {
    open_at(upstream, None, id, life).await
}

/// As [`open`], to this one of the addresses that the name of the host leads to, or once did.
///
/// # Errors
/// As [`open`].
pub async fn open_at(
    upstream: &Arc<Upstream>,
    address: Option<SocketAddr>,
    id: u64,
    life: Life,
) -> Result<(Box<ServerConn>, Welcome), OpenError> {
    if matches!(upstream.secret, Secret::Refused) {
        return Err(outdated(upstream));
    }
    let login = Box::pin(connect_as_allowed(upstream, address, id, life));
    match upstream.patience {
        None => login.await,
        Some(patience) => tokio::time::timeout(patience, login)
            .await
            .unwrap_or_else(|_| {
                Err(OpenError::TimedOut {
                    host: upstream.name.clone(),
                    patience,
                })
            }),
    }
}

/// The secret is of no use any more.
pub fn outdated(upstream: &Upstream) -> OpenError {
    OpenError::Outdated {
        host: upstream.name.clone(),
        user: upstream.user.clone(),
    }
}

/// Connects as configured. Where the mode leaves it open whether there is TLS, and the server has
/// no rule for a connection of the kind tried first (28000), the other kind is tried, as libpq does.
async fn connect_as_allowed(
    upstream: &Arc<Upstream>,
    address: Option<SocketAddr>,
    id: u64,
    life: Life,
) -> Result<(Box<ServerConn>, Welcome), OpenError> {
    let pair = &upstream.tls.0;
    let failure = match connect(upstream, address, &pair.usual, id, life).await {
        Ok(opened) => return Ok(opened),
        Err(failure) => failure,
    };
    let Failure {
        error,
        life,
        encrypted,
    } = failure;
    let other = match pair.usual.mode() {
        SslMode::Allow => pair.strict.as_ref(),
        SslMode::Prefer if encrypted => pair.plain.as_ref(),
        _ => None,
    };
    match (other, &upstream.target) {
        (Some(other), Target::Tcp { .. }) if error.has_no_rule() => {
            connect(upstream, address, other, id, life)
                .await
                .map_err(|failure| failure.error)
        }
        _ => Err(error),
    }
}

/// Sends a cancel request and waits until it has landed, or the time for it is up.
pub async fn cancel(guard: CancelGuard) {
    let about = guard.about();
    let upstream = Arc::clone(&about.upstream);
    let Some(key) = &about.key else {
        // Nothing is sent to a server that cannot be asked, so nothing can arrive late.
        return guard.landed();
    };
    let mut packet = BytesMut::new();
    startup::cancel_request(&mut packet, key);
    let deadline = tokio::time::Instant::now() + upstream.cancel_patience;
    // The key must not travel in the clear where the connection itself does not.
    let pair = &upstream.tls.0;
    let tls = (!about.tls.is_empty()).then(|| pair.strict.as_ref().unwrap_or(&pair.usual));
    let (target, socket) = (&upstream.target, &upstream.socket);
    let sent = pgherd_net::send_cancel(target, about.peer, socket, tls, &packet, deadline).await;
    match sent {
        Ok(()) => guard.landed(),
        Err(error) => tracing::warn!(host = upstream.name, %error, "a cancel request was lost"),
    }
}

/// Why there is no connection. Its life goes back to the caller, who may try again with it.
struct Failure {
    error: OpenError,
    life: Life,
    /// It failed after TLS was agreed on.
    encrypted: bool,
}

async fn connect(
    upstream: &Arc<Upstream>,
    address: Option<SocketAddr>,
    tls: &ServerTls,
    id: u64,
    life: Life,
) -> Result<(Box<ServerConn>, Welcome), Failure> {
    let mut encrypted = false;
    let version = upstream.gate.0.version();
    let mut opened = log_in(upstream, address, tls, version, &mut encrypted).await;
    if version != Version::V3_0 && opened.as_ref().is_err_and(OpenError::is_of_version) {
        opened = log_in(upstream, address, tls, Version::V3_0, &mut encrypted).await;
        // A pooler may say so to every login that it refuses.
        if opened
            .as_ref()
            .map_or_else(OpenError::is_of_login, |_| true)
        {
            upstream.gate.0.speaks_old();
        }
    }
    let (stream, buffer, welcome, key) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            return Err(Failure {
                error,
                life,
                encrypted,
            });
        }
    };
    let tls = stream
        .tls_info()
        .map(|info| format!("{}/{}", info.version, info.cipher));
    let about = Arc::new(ServerAbout {
        id,
        upstream: Arc::clone(upstream),
        backend: key.as_ref().map_or(0, |key| key.pid),
        key,
        tls: tls.unwrap_or_default(),
        local: stream
            .local()
            .map(|local| local.to_string())
            .unwrap_or_default(),
        peer: match stream.peer() {
            Peer::Tcp(address) => Some(address),
            Peer::Unix { .. } | Peer::Gone => None,
        },
        since: SystemTime::now(),
        cancels: Cancels::default(),
        killer: KillSwitch::new(&stream),
        voice: Voice::default(),
        doubted: AtomicBool::new(false),
    });
    let mut flow = Flow::default();
    flow.buffer = buffer;
    let said = |(name, value): &(String, String)| Role::told(name.as_bytes(), value.as_bytes());
    let role = welcome.parameters.iter().find_map(said).unwrap_or_default();
    let conn = Box::new(ServerConn {
        stream,
        home: std::thread::current().id(),
        flow,
        exchange: Exchange::default(),
        applied: Arc::default(),
        doubted: Doubted::default(),
        misread: false,
        role,
        statements: ServerStatements::new(upstream.statements, upstream.statement_bytes),
        touched: false,
        ran: Runs::Nothing,
        frees: PinSet::EMPTY,
        sequences: Sequences::Nobody,
        used_sequence: false,
        commits: false,
        alters: None,
        temporary: false,
        sways: Sways::Nothing,
        marks: None,
        heard: clock::now(),
        about,
        life,
    });
    Ok((conn, welcome))
}

/// A socket with a session on it, the bytes read ahead, the greeting, and the key for cancels.
type Session = (Stream, BytesMut, Welcome, Option<CancelKey>);

async fn log_in(
    upstream: &Upstream,
    address: Option<SocketAddr>,
    tls: &ServerTls,
    version: Version,
    encrypted: &mut bool,
) -> Result<Session, OpenError> {
    let (target, socket) = (&upstream.target, &upstream.socket);
    let mut stream = pgherd_net::connect_tls_to(target, address, socket, tls).await?;
    *encrypted = stream.is_tls();
    let mut buffer = BytesMut::new();
    let end_point = stream.tls_info().and_then(|info| info.server_end_point);
    let mut login = Login {
        upstream,
        end_point,
        dialogue: Dialogue::new(&mut stream, &mut buffer, LOGIN_MESSAGE_MAX),
    };
    login.start(version)?;
    let demand = login.authenticate().await?;
    let (welcome, key) = login.welcome(demand).await?;
    Ok((stream, buffer, welcome, key))
}

/// A login under way.
struct Login<'a> {
    upstream: &'a Upstream,
    end_point: Option<Vec<u8>>,
    dialogue: Dialogue<'a>,
}

impl Login<'_> {
    fn start(&mut self, version: Version) -> Result<(), OpenError> {
        let upstream = self.upstream;
        let mut parameters: Vec<(&str, &str)> =
            vec![("user", &upstream.user), ("database", &upstream.database)];
        parameters.extend(upstream.replication.map(|value| ("replication", value)));
        let own = upstream.parameters.iter();
        let own = own.map(|(name, value)| (&**name, &**value));
        // Of two the server takes the last: who is logged in, and where, is said above and nowhere else.
        parameters.extend(own.filter(|(name, _)| !startup::is_protocols(name)));
        startup::startup(self.dialogue.out(), version, &parameters)
            .map_err(|error| self.lacks(error.to_string()))
    }

    async fn authenticate(&mut self) -> Result<Demand, OpenError> {
        let must_bind = self.upstream.binding == Binding::Require;
        let mut demand = Demand::Nothing;
        loop {
            self.send().await?;
            let request = self.expect_authentication().await?;
            let request = Authentication::parse(&request)
                .map_err(|error| self.violates(error.to_string()))?;
            match request {
                // As in libpq: whoever lets us in without it may be somebody in between.
                Authentication::Ok if must_bind => {
                    return Err(self.unbound("the server does not ask for it"));
                }
                Authentication::Cleartext | Authentication::Md5 { .. } if must_bind => {
                    return Err(self.unbound("the server asks for a method that cannot"));
                }
                Authentication::Ok => return Ok(demand),
                Authentication::Cleartext => {
                    demand = Demand::Password;
                    let password = self.password("the password itself")?.to_owned();
                    frontend::password(self.dialogue.out(), password.as_bytes())
                        .map_err(|error| self.lacks(error.to_string()))?;
                }
                Authentication::Md5 { salt } => {
                    demand = Demand::Password;
                    let response = self.md5(salt)?;
                    frontend::password(self.dialogue.out(), response.as_bytes())
                        .map_err(|error| self.lacks(error.to_string()))?;
                }
                Authentication::Sasl(mechanisms) => {
                    let mechanisms: Vec<Vec<u8>> =
                        mechanisms.iter().map(|name| name.to_vec()).collect();
                    self.scram(&mechanisms).await?;
                    // A server that has proved itself has nothing more to ask.
                    let verdict = self.expect_authentication().await?;
                    return match Authentication::parse(&verdict) {
                        Ok(Authentication::Ok) => Ok(Demand::Password),
                        _ => Err(self.violates("expected the end of authentication".into())),
                    };
                }
                Authentication::SaslContinue(_) | Authentication::SaslFinal(_) => {
                    return Err(
                        self.violates("an answer to a SASL message that was not sent".into())
                    );
                }
                Authentication::Unsupported(code) => {
                    return Err(
                        self.lacks(format!("authentication method {code} is not supported"))
                    );
                }
            }
        }
    }

    async fn scram(&mut self, mechanisms: &[Vec<u8>]) -> Result<(), OpenError> {
        let upstream = self.upstream;
        let names = mechanisms.iter().map(Vec::as_slice);
        let credentials = match &self.upstream.secret {
            Secret::Password(password) => Credentials::Password(password.as_bytes().to_vec()),
            Secret::Scram(keys) => Credentials::Keys(keys.clone()),
            Secret::None | Secret::Refused | Secret::Md5 { .. } => {
                return Err(self.has_not("proof by SCRAM"));
            }
        };
        let nonce = scram::nonce(&mut rand::rng());
        let end_point = self.end_point.as_deref();
        let exchange =
            scram::client::Exchange::new(credentials, names, upstream.binding, end_point, nonce)
                .map_err(|error| match error {
                    ScramError::NoBinding if end_point.is_none() => {
                        self.unbound("there is no TLS, or its certificate has no hash to bind to")
                    }
                    ScramError::NoBinding => self.unbound("the server does not offer it"),
                    error => self.lacks(error.to_string()),
                })?;
        let first = exchange.first();
        frontend::sasl_initial(self.dialogue.out(), exchange.mechanism().as_bytes(), &first)
            .map_err(|error| self.lacks(error.to_string()))?;
        self.send().await?;
        let body = self.expect_authentication().await?;
        let Ok(Authentication::SaslContinue(challenge)) = Authentication::parse(&body) else {
            return Err(self.violates("expected a SASL challenge".into()));
        };
        let (mut exchange, last) = match &self.upstream.secret {
            // As slow as the server's iterations say, and it may say many.
            Secret::Password(_) => {
                let (challenge, mut exchange) = (challenge.to_vec(), exchange);
                aside(move || {
                    let last = exchange.last(&challenge);
                    (exchange, last)
                })
                .await
            }
            Secret::Scram(_) | Secret::Md5 { .. } | Secret::None | Secret::Refused => {
                let mut exchange = exchange;
                let last = exchange.last(challenge);
                (exchange, last)
            }
        };
        let last = last.map_err(|error| match error {
            ScramError::OtherPassword => outdated(self.upstream),
            error => self.violates(error.to_string()),
        })?;
        frontend::sasl_response(self.dialogue.out(), &last)
            .map_err(|error| self.lacks(error.to_string()))?;
        self.send().await?;
        let body = self.expect_authentication().await?;
        let Ok(Authentication::SaslFinal(proof)) = Authentication::parse(&body) else {
            return Err(self.violates("expected the server's SASL proof".into()));
        };
        exchange.finish(proof).map_err(|error| match error {
            // Nobody has vouched for the words yet, so they must not become ours.
            ScramError::Refused(words) => OpenError::Refused {
                host: self.upstream.name.clone(),
                user: self.upstream.user.clone(),
                report: Box::new(ErrorReport::error(sqlstate::INVALID_PASSWORD, words)),
            },
            error => self.violates(error.to_string()),
        })?;
        // Without it an AuthenticationOk says nothing about who the server is.
        if exchange.is_proven() {
            Ok(())
        } else {
            Err(self.violates("the server has not shown that it knows the password".into()))
        }
    }

    /// Reads the greeting up to ReadyForQuery.
    async fn welcome(&mut self, demand: Demand) -> Result<(Welcome, Option<CancelKey>), OpenError> {
        let mut welcome = Welcome {
            demand,
            host: self.upstream.name.clone(),
            ..Welcome::default()
        };
        let mut key = None;
        loop {
            let (message, body) = self.message().await?;
            match message {
                tag::PARAMETER_STATUS if welcome.parameters.len() < PARAMETERS_MAX => {
                    let status = backend::ParameterStatus::parse(&body)
                        .map_err(|error| self.violates(error.to_string()))?;
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    welcome
                        .parameters
                        .push((text(status.name), text(status.value)));
                }
                tag::BACKEND_KEY_DATA => {
                    let data = backend::BackendKeyData::parse(&body)
                        .map_err(|error| self.violates(error.to_string()))?;
                    key = CancelKey::new(data.pid, data.secret).ok();
                }
                tag::READY_FOR_QUERY => {
                    let ready = backend::ReadyForQuery::parse(&body)
                        .map_err(|error| self.violates(error.to_string()))?;
                    if ready.status != TransactionStatus::Idle || !self.dialogue.rest().is_empty() {
                        return Err(self.violates("the server is not idle after login".into()));
                    }
                    return Ok((welcome, key));
                }
                tag::NOTICE_RESPONSE => {}
                other => return Err(self.violates(format!("unexpected message type {other}"))),
            }
        }
    }

    async fn expect_authentication(&mut self) -> Result<bytes::Bytes, OpenError> {
        loop {
            let (message, body) = self.message().await?;
            match message {
                tag::AUTHENTICATION => return Ok(body),
                tag::NEGOTIATE_PROTOCOL_VERSION | tag::NOTICE_RESPONSE => {}
                other => return Err(self.violates(format!("unexpected message type {other}"))),
            }
        }
    }

    async fn message(&mut self) -> Result<(u8, bytes::Bytes), OpenError> {
        let (message, body) = self
            .dialogue
            .message()
            .await
            .map_err(|error| self.broke(error))?;
        if message == tag::ERROR_RESPONSE {
            return Err(OpenError::Refused {
                host: self.upstream.name.clone(),
                user: self.upstream.user.clone(),
                report: Box::new(ErrorReport::parse(&body)),
            });
        }
        Ok((message, body))
    }

    async fn send(&mut self) -> Result<(), OpenError> {
        self.dialogue
            .send()
            .await
            .map_err(|error| self.broke(error))
    }

    fn password(&self, what: &str) -> Result<&str, OpenError> {
        match &self.upstream.secret {
            Secret::Password(password) => Ok(password),
            _ => Err(self.has_not(what)),
        }
    }

    /// The answer to a server's salt.
    fn md5(&self, salt: [u8; 4]) -> Result<String, OpenError> {
        let own = &self.upstream.user;
        match &self.upstream.secret {
            Secret::Password(password) => Ok(md5::response(own, password.as_bytes(), salt)),
            Secret::Md5 { user, hash } if user == own => {
                md5::response_from_hash(hash, salt).ok_or_else(|| self.has_not("proof by md5"))
            }
            Secret::Md5 { user, .. } => Err(self.lacks(format!(
                "the server asks for proof by md5, and the hash that is known is user \"{user}\"'s"
            ))),
            _ => Err(self.has_not("proof by md5")),
        }
    }

    /// The server asks for what cannot be made of that which is known.
    fn has_not(&self, what: &str) -> OpenError {
        let known = match &self.upstream.secret {
            Secret::None | Secret::Refused => "no password is known",
            Secret::Password(_) => "the password does not serve for it",
            Secret::Scram(_) => "of the password only the SCRAM keys are known",
            Secret::Md5 { .. } => "of the password only the md5 hash is known",
        };
        self.lacks(format!("the server asks for {what}, and {known}"))
    }

    fn broke(&self, source: DialogueError) -> OpenError {
        OpenError::Dialogue {
            host: self.upstream.name.clone(),
            user: self.upstream.user.clone(),
            source,
        }
    }

    fn violates(&self, why: String) -> OpenError {
        self.broke(DialogueError::Violation(why))
    }

    fn unbound(&self, why: &'static str) -> OpenError {
        OpenError::Unbound {
            host: self.upstream.name.clone(),
            user: self.upstream.user.clone(),
            why,
        }
    }

    fn lacks(&self, why: String) -> OpenError {
        OpenError::Secret {
            host: self.upstream.name.clone(),
            user: self.upstream.user.clone(),
            why,
        }
    }
}

/// More reported parameters than this are no greeting of a Postgres.
const PARAMETERS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::Welcome;

    #[test]
    fn only_what_a_session_may_set_tells_where_sessions_begin() {
        let welcome = |said: &[(&str, &str)]| Welcome {
            parameters: said
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            ..Welcome::default()
        };
        let usual = welcome(&[
            ("TimeZone", "UTC"),
            ("application_name", "pgherd"),
            ("in_hot_standby", "off"),
            ("server_version", "17.1"),
        ]);
        let upgraded = welcome(&[
            ("server_version", "17.2"),
            ("in_hot_standby", "on"),
            ("application_name", "other"),
            ("TimeZone", "UTC"),
        ]);
        assert!(!usual.begins_otherwise(&upgraded));
        let moved = welcome(&[("TimeZone", "Asia/Tokyo")]);
        assert!(usual.begins_otherwise(&moved) && moved.begins_otherwise(&usual));
        assert!(usual.begins_otherwise(&welcome(&[])));
    }
}
