//! From an accepted socket to a client that has proved who it is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use pgherd_config::{Config, Role};
use pgherd_net::{ClientTls, Peer, Stream, TlsError, accept_tls, accept_tls_direct};
use pgherd_wire::cancel::CancelKey;
use pgherd_wire::error::ErrorReport;
use pgherd_wire::startup::{self, Opening, Startup, Version};
use pgherd_wire::{backend, options, sqlstate};
use tokio::io::AsyncWriteExt as _;

use crate::caps::Seat;
use crate::control::{Control, Entry, Identity};
use crate::dialogue::{Dialogue, DialogueError};
use crate::facts::Facts;
use crate::logins::{LoggingIn, Logins, TOO_MANY};
use crate::pool::Pool;
use crate::router;
use crate::session::prove::{self, Proof};
use crate::session::replication;
use crate::session::{Bye, called_away, proxied, welcome};
use crate::shards::{self, Group};
use crate::upstream;

/// A client's message during login may have up to this size, as with Postgres.
const LOGIN_MESSAGE_MAX: usize = 64 * 1024;

/// A client that has logged in.
#[derive(Debug)]
pub struct Guest {
    /// Its socket.
    pub stream: Stream,
    /// What it has sent since.
    pub input: BytesMut,
    /// Who it is.
    pub identity: Arc<Identity>,
    /// Where it wants to go.
    pub place: Place,
    /// Its seat among the clients of its database and its user; the console has no such limits.
    pub seat: Option<Seat>,
    /// The parameters of its start-up packet.
    pub parameters: Vec<(String, String)>,
    /// From where it comes.
    pub peer: Peer,
}

/// Where a client wants to go.
#[derive(Debug)]
pub enum Place {
    /// To the servers of this pool; of a sharded database, to those of its group, of which this is the first.
    Pool(Arc<Pool>, Option<Arc<Group>>),
    /// To the console, to do this.
    Console(Role),
    /// To a server connection of its own.
    Replication(Box<replication::Plan>),
}

/// What a client said about itself, identity first: it never changes after this.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) user: String,
    pub(super) database: String,
    pub(super) parameters: Vec<(String, String)>,
    pub(super) version: Version,
    pub(super) replication: Option<replication::Kind>,
    /// From where it comes, also by way of a proxy.
    pub(super) peer: Peer,
}

/// A client that has said who it wants to be, and where.
#[derive(Debug)]
pub(super) struct Caller {
    stream: Stream,
    input: BytesMut,
    peer: Peer,
    startup: Startup,
}

/// Who comes, for the log: from where, and who it says it is, as far as it has said so. Nothing of it is proved.
#[derive(Debug)]
pub(super) struct Comer {
    pub(super) peer: Peer,
    pub(super) user: Option<String>,
    pub(super) database: Option<String>,
}

impl Comer {
    /// Somebody of whom nothing is known yet.
    pub(super) fn new() -> Self {
        Self {
            peer: Peer::Gone,
            user: None,
            database: None,
        }
    }

    /// Keeps what a start-up packet says.
    fn claims(&mut self, startup: &Startup) {
        self.user = startup.user().ok().map(str::to_owned);
        self.database = startup.database().ok().map(str::to_owned);
    }
}

/// What a client has come for.
#[derive(Debug)]
pub(super) enum Opened {
    /// Another client's query is to end. Who asks for it takes the end of its connection for the answer.
    Cancel(Box<Stream>, CancelKey),
    /// It wants to log in.
    Startup(Box<Caller>),
}

/// Whether there is room for a client that comes.
#[derive(Debug)]
pub(super) enum Entrance {
    /// There is. It counts among those who log in until it has proved who it is.
    Open(LoggingIn),
    /// There is none. It may still cancel, be told so where it can read it, and look after the proxy.
    Crowded(Box<ErrorReport>),
}

/// So many may look after a proxy that is full. They are the only ones who can make room.
const CONSOLES: usize = 4;

/// Why a client is not let in, or makes room for one that is.
const FULL: &str = "no more connections allowed (max_clients)";

/// How long a client may take to leave whose seat is another's.
const LEAVING: Duration = Duration::from_millis(200);

/// Counts a client among the clients. Where there is no room for it, one that has said nothing makes some, as it does where
/// too many log in.
async fn is_seated(place: &LoggingIn, max: usize, logins: &Logins, entry: &mut Entry) -> bool {
    if entry.count_client(max) {
        return true;
    }
    let one_leaves = place.displaces() || logins.displace(FULL, Instant::now());
    // Nobody tells whose seat is whose: in a crowd another may have had this one's, and the next is its own.
    one_leaves
        && tokio::time::timeout(LEAVING, entry.succeed_client(max))
            .await
            .is_ok()
}

impl Entrance {
    /// Takes a place, if there is one.
    pub(super) async fn find(
        facts: &Facts,
        config: &Config,
        control: &Arc<Control>,
        entry: &mut Entry,
    ) -> Self {
        let limits = &config.limits;
        let logins = &facts.sessions.logins;
        let text = match logins.enter(limits.max_logins.get(), control, Instant::now()) {
            Some(place) if is_seated(&place, limits.max_clients.get(), logins, entry).await => {
                return Self::Open(place);
            }
            Some(_) => FULL,
            None => TOO_MANY,
        };
        let report = ErrorReport::fatal(sqlstate::TOO_MANY_CONNECTIONS, text);
        Self::Crowded(Box::new(report))
    }

    /// The client has begun to speak.
    fn speaks(&mut self) {
        if let Self::Open(place) = self {
            place.speaks();
        }
    }

    /// Whether the client has said nothing for so long that another has got its place.
    pub(super) fn is_displaced(&self) -> bool {
        matches!(self, Self::Open(place) if place.is_displaced())
    }
}

impl Caller {
    /// Lets it in.
    pub(super) fn into_guest(self, admitted: Admitted) -> Guest {
        let Admitted {
            identity,
            place,
            seat,
            parameters,
        } = admitted;
        Guest {
            stream: self.stream,
            input: self.input,
            identity,
            place,
            seat,
            parameters,
            peer: self.peer,
        }
    }

    /// Says what its login has come to.
    pub(super) async fn tell(&mut self, report: &ErrorReport) {
        tell(&mut self.stream, report).await;
    }

    /// Whether it may come in where there is no room for clients.
    fn looks_after(&self, config: &Config, entry: &mut Entry) -> bool {
        let (Ok(user), Ok(database)) = (self.startup.user(), self.startup.database()) else {
            return false;
        };
        let may = config.is_console(database) && config.console_role(user) != Role::None;
        may && entry.count_console(CONSOLES)
    }
}

/// Takes a client through authentication.
pub(super) async fn login(
    caller: &mut Caller,
    entrance: Entrance,
    facts: &Arc<Facts>,
    control: &Arc<Control>,
    entry: &mut Entry,
) -> Result<Admitted, Bye> {
    let counted = match entrance {
        Entrance::Open(counted) => Some(counted),
        Entrance::Crowded(_) if caller.looks_after(&facts.config.load(), entry) => None,
        Entrance::Crowded(report) => {
            caller.tell(&report).await;
            return Err(Bye::Refused(report));
        }
    };
    let Caller {
        stream,
        input,
        peer,
        startup,
    } = caller;
    let mut dialogue = Dialogue::new(stream, input, LOGIN_MESSAGE_MAX);
    let admitted = admit(&mut dialogue, *peer, startup, counted, facts, control);
    let result = tokio::select! {
        biased;
        admitted = admitted => admitted,
        () = called_away(control) => match control.farewell() {
            Some(report) => Err(Refusal::Told(report)),
            None => return Err(Bye::Gone),
        },
    };
    match result {
        Ok(admitted) => Ok(admitted),
        Err(Refusal::Told(report)) => {
            report.encode_error(dialogue.out());
            let _ = dialogue.send().await;
            Err(Bye::Refused(report))
        }
        Err(Refusal::Broken(DialogueError::Violation(why))) => {
            let report = Box::new(ErrorReport::fatal(sqlstate::PROTOCOL_VIOLATION, why));
            report.encode_error(dialogue.out());
            let _ = dialogue.send().await;
            Err(Bye::Refused(report))
        }
        Err(Refusal::Broken(_)) => Err(Bye::Gone),
    }
}

/// Why a login fails.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The client is told.
    Told(Box<ErrorReport>),
    /// The client cannot be told.
    Broken(DialogueError),
}

impl From<DialogueError> for Refusal {
    fn from(error: DialogueError) -> Self {
        Self::Broken(error)
    }
}

impl From<ErrorReport> for Refusal {
    fn from(report: ErrorReport) -> Self {
        Self::Told(Box::new(report))
    }
}

/// Negotiates encryption until the client has said what it wants. What becomes known of it until then is left with
/// `comer`.
pub(super) async fn open(
    mut stream: Stream,
    facts: &Facts,
    entrance: &mut Entrance,
    comer: &mut Comer,
) -> Result<Opened, Bye> {
    proxied::find(&mut stream, &facts.config.load_full(), &mut comer.peer).await?;
    let mut input = BytesMut::new();
    let tls = facts.client_tls.load_full();
    let gone = |_| Bye::Gone;
    // A unix socket is never encrypted, as with Postgres.
    let offers_tls = tls.offers_tls() && stream.local().is_some();
    let first = stream.peek_first().await.map_err(gone)?;
    entrance.speaks();
    if first == Some(TLS_HANDSHAKE) {
        if !offers_tls {
            return Err(insecure(TlsError::Disabled));
        }
        stream = accept_tls_direct(stream, &tls).await.map_err(insecure)?;
    }
    let (mut asked_ssl, mut asked_gss) = (false, false);
    loop {
        let (opening, used) = match startup::opening(&input) {
            Ok(Some(found)) => found,
            Ok(None) => {
                let mut dialogue = Dialogue::new(&mut stream, &mut input, LOGIN_MESSAGE_MAX);
                dialogue.read().await.map_err(|_| Bye::Gone)?;
                continue;
            }
            Err(error) => {
                let report = ErrorReport::fatal(error.code(), error.to_string());
                if !error.is_told() {
                    return Err(Bye::Refused(Box::new(report)));
                }
                if let Some(words) = error.in_old_form() {
                    let _ = stream.write_all(&words).await;
                    let _ = stream.flush().await;
                    return Err(Bye::Refused(Box::new(report)));
                }
                return refuse(stream, report).await;
            }
        };
        let _ = input.split_to(used);
        match opening {
            Opening::Cancel(key) => return Ok(Opened::Cancel(Box::new(stream), key)),
            Opening::Startup(startup) => {
                comer.claims(&startup);
                if let Some(report) = unwelcome(&stream, &tls, facts) {
                    return refuse(stream, report).await;
                }
                return Ok(Opened::Startup(Box::new(Caller {
                    stream,
                    input,
                    peer: comer.peer,
                    startup,
                })));
            }
            // Plain bytes behind the request could have been smuggled in by somebody in between.
            Opening::SslRequest | Opening::GssEncRequest if !input.is_empty() => {
                let text = "received unencrypted data after an encryption request";
                return refuse(
                    stream,
                    ErrorReport::fatal(sqlstate::PROTOCOL_VIOLATION, text),
                )
                .await;
            }
            Opening::SslRequest if stream.is_tls() || asked_ssl => {
                let text = "received a second request for encryption";
                return refuse(
                    stream,
                    ErrorReport::fatal(sqlstate::PROTOCOL_VIOLATION, text),
                )
                .await;
            }
            Opening::SslRequest if offers_tls => {
                answer(&mut stream, b"S").await?;
                stream = accept_tls(stream, &tls).await.map_err(insecure)?;
            }
            Opening::SslRequest => {
                asked_ssl = true;
                answer(&mut stream, b"N").await?;
            }
            Opening::GssEncRequest if asked_gss || stream.is_tls() => return Err(Bye::Gone),
            Opening::GssEncRequest => {
                asked_gss = true;
                answer(&mut stream, b"N").await?;
            }
        }
    }
}

/// Why nobody is let in who comes like this, or comes now.
fn unwelcome(stream: &Stream, tls: &ClientTls, facts: &Facts) -> Option<ErrorReport> {
    if tls.requires_tls() && !stream.is_tls() && stream.local().is_some() {
        return Some(ErrorReport::fatal(
            sqlstate::INVALID_AUTHORIZATION_SPECIFICATION,
            "this pgherd takes only connections under TLS",
        ));
    }
    // With this code libpq goes on to the next host of its list.
    let text = "pgherd is shutting down";
    facts
        .is_closing()
        .then(|| ErrorReport::fatal(sqlstate::CANNOT_CONNECT_NOW, text))
}

/// The first byte of a TLS handshake record.
const TLS_HANDSHAKE: u8 = 0x16;

fn insecure(error: TlsError) -> Bye {
    Bye::Insecure(Box::new(error))
}

async fn answer(stream: &mut Stream, byte: &[u8; 1]) -> Result<(), Bye> {
    stream.write_all(byte).await.map_err(|_| Bye::Gone)
}

async fn refuse<T>(mut stream: Stream, report: ErrorReport) -> Result<T, Bye> {
    tell(&mut stream, &report).await;
    Err(Bye::Refused(Box::new(report)))
}

async fn tell(stream: &mut Stream, report: &ErrorReport) {
    let mut out = BytesMut::new();
    report.encode_error(&mut out);
    let _ = stream.write_all(&out).await;
    let _ = stream.flush().await;
}

/// Carries a cancel request to the server that the named session runs on. Whatever becomes of it,
/// the asker gets silence, and the end of its connection behind it.
pub(super) async fn cancel(facts: &Facts, key: &CancelKey) {
    let cancels = facts.cancels.load_full();
    let Ok(_permit) = cancels.try_acquire() else {
        return facts.failures.cancel();
    };
    let named = facts.sessions.by_key(key);
    let Some(control) = named.or_else(|| facts.replications.by_key(key)) else {
        return;
    };
    // A host that answers none of them must leave room for those of others.
    let share = facts.config.load().limits.max_cancels.get().div_ceil(2);
    let host = control
        .running()
        .map(|about| Arc::clone(&about.upstream.gate.0));
    let place = host.as_ref().map(|host| host.cancelling(share));
    if let Some(None) = place {
        return facts.failures.cancel();
    }
    if let Some(guard) = control.cancel() {
        upstream::cancel(guard).await;
    }
}

/// What is known of a client once it is let in.
#[derive(Debug)]
pub(super) struct Admitted {
    identity: Arc<Identity>,
    place: Place,
    seat: Option<Seat>,
    parameters: Vec<(String, String)>,
}

async fn admit(
    dialogue: &mut Dialogue<'_>,
    peer: Peer,
    startup: &Startup,
    counted: Option<LoggingIn>,
    facts: &Arc<Facts>,
    control: &Arc<Control>,
) -> Result<Admitted, Refusal> {
    if let Some(negotiation) = startup::negotiate(startup) {
        dialogue.out().extend_from_slice(&negotiation);
    }
    let mut claim = claim(startup, peer)?;
    let config = facts.config.load_full();
    replication::settle(&mut claim, &config);
    let proof = prove::prove(dialogue, &claim, facts, &config).await?;
    // Who waits for its server from here on keeps nobody else from logging in.
    drop(counted);
    let place = place(&claim, facts, &config, proof).await?;
    let identity = Arc::new(identity(&claim, dialogue.stream()));
    let seat = match &place {
        Place::Pool(pool, _) => {
            let settings = pool.settings();
            Some(
                facts
                    .caps
                    .enter(&identity, settings.database, settings.user)?,
            )
        }
        Place::Replication(plan) => Some(plan.seat(facts, &identity)?),
        Place::Console(_) => None,
    };
    control.identify(Arc::clone(&identity));
    backend::authentication_ok(dialogue.out());
    match &place {
        Place::Pool(pool, _) => welcome::pool(dialogue.out(), pool, &claim).await?,
        Place::Console(_) => welcome::console(dialogue.out()),
        // The server that is opened next says the rest.
        Place::Replication(_) => {}
    }
    if !matches!(place, Place::Replication(_)) {
        let key = control.key.get_or_init(|| {
            CancelKey::random(
                &mut rand::rng(),
                control.id,
                claim.version.spoken().secret_len(),
            )
        });
        backend::backend_key_data(dialogue.out(), key);
        backend::ready_for_query(dialogue.out(), backend::TransactionStatus::Idle);
    }
    dialogue.send().await?;
    Ok(Admitted {
        identity,
        place,
        seat,
        parameters: claim.parameters,
    })
}

fn claim(startup: &Startup, peer: Peer) -> Result<Claim, Refusal> {
    let mut parameters = Vec::new();
    let mut options = Vec::new();
    let mut kind = None;
    for (name, value) in &startup.parameters {
        let (name, value) = (name.clone(), value.clone());
        match name.as_str() {
            "user" | "database" => {}
            "replication" => kind = replication::Kind::parse(&value)?,
            "options" => {
                options = options::parse(&value).map_err(|error| {
                    ErrorReport::fatal(sqlstate::SYNTAX_ERROR, error.to_string())
                })?;
            }
            name if name.starts_with("_pq_.") => {}
            _ => parameters.push((name, value)),
        }
    }
    // A parameter of its own outweighs the options, wherever it stands: process_startup_options().
    options.extend(parameters);
    let told = |error: startup::StartupError| ErrorReport::fatal(error.code(), error.to_string());
    let user = startup.user().map_err(told)?.to_owned();
    let database = startup.database().map_err(told)?.to_owned();
    Ok(Claim {
        user,
        database,
        parameters: options,
        version: startup.version,
        replication: kind,
        peer,
    })
}

async fn place(
    claim: &Claim,
    facts: &Arc<Facts>,
    config: &Config,
    proof: Proof,
) -> Result<Place, Refusal> {
    let sharded = config.sharded.get(&claim.database);
    if claim.replication.is_some() && sharded.is_some() {
        let text = "a sharded database cannot be replicated; name one of its shards";
        return Err(ErrorReport::fatal(sqlstate::FEATURE_NOT_SUPPORTED, text).into());
    }
    if let Some(kind) = claim.replication {
        let plan = replication::Plan::make(claim, kind, facts, config, &proof)?;
        is_enabled(claim, facts)?;
        return Ok(Place::Replication(Box::new(plan)));
    }
    if config.is_console(&claim.database) {
        let role = config.console_role(&claim.user);
        if role == Role::None {
            return Err(ErrorReport::fatal(
                sqlstate::INSUFFICIENT_PRIVILEGE,
                format!("user \"{}\" may not use the console", claim.user),
            )
            .into());
        }
        return Ok(Place::Console(role));
    }
    if sharded.is_none() && config.database(&claim.database).is_none() {
        return Err(ErrorReport::fatal(
            sqlstate::INVALID_CATALOG_NAME,
            format!("database \"{}\" does not exist", claim.database),
        )
        .into());
    }
    is_enabled(claim, facts)?;
    if let Some(sharded) = sharded {
        let group = shards::group(facts, sharded, &claim.user, &proof).await?;
        let first = group.pools.first().cloned().ok_or_else(|| {
            ErrorReport::fatal(sqlstate::CONFIG_FILE_ERROR, "the database has no shard")
        })?;
        return Ok(Place::Pool(first, Some(group)));
    }
    match router::pool(facts, &claim.database, &claim.user, proof).await {
        Ok(pool) => Ok(Place::Pool(pool, None)),
        Err(report) => Err(Refusal::Told(Box::new(report))),
    }
}

/// Refuses clients of a database that the console has closed to new ones, in the words and by the code that Postgres has
/// for a database that allows no connections.
fn is_enabled(claim: &Claim, facts: &Facts) -> Result<(), ErrorReport> {
    if !facts.doors.is_disabled(&claim.database) {
        return Ok(());
    }
    let text = format!(
        "database \"{}\" is not currently accepting connections",
        claim.database
    );
    Err(ErrorReport::fatal(
        sqlstate::OBJECT_NOT_IN_PREREQUISITE_STATE,
        text,
    ))
}

fn identity(claim: &Claim, stream: &Stream) -> Identity {
    let application = claim
        .parameters
        .iter()
        .find(|(name, _)| name == "application_name");
    let (peer, port) = match claim.peer {
        Peer::Tcp(address) => (address.ip().to_string(), address.port()),
        other => (other.to_string(), 0),
    };
    Identity {
        user: claim.user.clone(),
        database: claim.database.clone(),
        local: stream.local(),
        peer,
        port,
        tls: stream
            .tls_info()
            .map(|info| format!("{}/{}", info.version, info.cipher))
            .unwrap_or_default(),
        application: application
            .map(|(_, value)| value.clone())
            .unwrap_or_default(),
    }
}
