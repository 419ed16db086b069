//! A server that behaves as a test wants.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use pgherd_net::{ClientTls, Listener, SocketOptions, Stream, accept_tls, accept_tls_direct};
use pgherd_wire::backend::{self, TransactionStatus};
use pgherd_wire::cancel::CancelKey;
use pgherd_wire::error::ErrorReport;
use pgherd_wire::scram::{self, Verifier};
use pgherd_wire::sqlstate::{self, SqlState};
use pgherd_wire::startup::{self, Opening, Version};
use pgherd_wire::{frame, frontend};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::PATIENCE;

/// How a server treats logins.
#[derive(Debug, Clone, Default)]
pub(super) enum Door {
    /// Everybody may come in.
    #[default]
    Open,
    /// Nobody is answered.
    Mute,
    /// Nobody may come in, whatever database is asked for.
    Nowhere,
    /// Whoever knows the password `secret`, by SCRAM.
    Scram,
    /// As by SCRAM, but the server never shows that it knows the password.
    Impostor,
    /// Nobody without TLS.
    Encrypted(ClientTls),
    /// Nobody with TLS, though it is offered.
    Clear(ClientTls),
    /// Whoever begins with TLS, as PostgreSQL 17 takes it, and nobody else.
    Direct(ClientTls),
    /// Nobody who begins with TLS: as PostgreSQL 16 does, it takes the hello for a length, and hangs up.
    Old(ClientTls),
}

/// How a server behaves.
#[derive(Debug, Clone, Default)]
pub(super) struct Manners {
    pub(super) door: Door,
    /// It hangs up when it is asked an empty query.
    pub(super) dies_of_pings: bool,
    /// It never says that a cancel request has arrived.
    pub(super) keeps_cancels: bool,
    /// It never answers ROLLBACK.
    pub(super) keeps_transactions: bool,
    /// What it stores of every user's password, where that is not `secret` itself.
    pub(super) stored: Option<&'static str>,
    /// The database that nobody may connect to, and what they are told.
    pub(super) barred: Option<(&'static str, SqlState)>,
    /// It gives nobody a key by which to cancel.
    pub(super) keyless: bool,
    /// How long the secret of the key is, where it is not of four bytes: up to 256 from protocol 3.2 on.
    pub(super) long_key: Option<usize>,
}

/// What a server has seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    texts: Mutex<Vec<String>>,
    startups: Mutex<Vec<Vec<(String, String)>>>,
    /// Connections that are open.
    pub(super) open: AtomicUsize,
    /// Logins that went well.
    pub(super) logins: AtomicUsize,
    cancelled: Notify,
    cancels: AtomicUsize,
    /// The versions of the protocol that were asked for.
    pub(super) versions: Mutex<Vec<Version>>,
    /// The keys that were given out, and those that cancel requests bore.
    pub(super) given: Mutex<Vec<CancelKey>>,
    pub(super) shown: Mutex<Vec<CancelKey>>,
}

/// A server.
pub(super) struct Fake {
    pub(super) address: SocketAddr,
    pub(super) seen: Arc<Seen>,
    task: JoinHandle<()>,
}

impl Fake {
    pub(super) async fn new(manners: Manners) -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = Listener::bind(any, 64, false).expect("a port");
        let address = listener.local().expect("an address");
        let seen = Arc::new(Seen::default());
        let task = tokio::spawn(serve(listener, manners, Arc::clone(&seen)));
        Self {
            address,
            seen,
            task,
        }
    }

    /// A server without any peculiarity.
    pub(super) async fn plain() -> Self {
        Self::new(Manners::default()).await
    }

    /// How often a text was run or prepared.
    pub(super) fn count(&self, text: &str) -> usize {
        self.seen
            .texts
            .lock()
            .iter()
            .filter(|known| *known == text)
            .count()
    }

    /// The parameters of the last start-up packet.
    pub(super) fn startup(&self) -> Vec<(String, String)> {
        self.seen
            .startups
            .lock()
            .last()
            .cloned()
            .unwrap_or_default()
    }

    pub(super) fn logins(&self) -> usize {
        self.seen.logins.load(Ordering::Relaxed)
    }

    pub(super) fn cancels(&self) -> usize {
        self.seen.cancels.load(Ordering::Relaxed)
    }

    pub(super) fn open(&self) -> usize {
        self.seen.open.load(Ordering::Relaxed)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Looks again and again until something is so.
pub(super) async fn wait_until(what: &str, so: impl Fn() -> bool) {
    let waited = timeout(PATIENCE, async {
        while !so() {
            sleep(Duration::from_millis(2)).await;
        }
    });
    assert!(waited.await.is_ok(), "it never came about that {what}");
}

async fn serve(listener: Listener, manners: Manners, seen: Arc<Seen>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok(accepted) = listener.accept().await else {
            continue;
        };
        let Ok(stream) = accepted.into_stream(&SocketOptions::default()) else {
            continue;
        };
        let (manners, seen) = (manners.clone(), Arc::clone(&seen));
        connections.spawn(async move {
            seen.open.fetch_add(1, Ordering::Relaxed);
            let peer = Peer {
                stream,
                input: BytesMut::new(),
                out: BytesMut::new(),
            };
            let _ended = converse(peer, &manners, &seen).await;
            seen.open.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

struct Peer {
    stream: Stream,
    input: BytesMut,
    out: BytesMut,
}

impl Peer {
    async fn read(&mut self) -> Option<()> {
        (self.stream.read_buf(&mut self.input).await.ok()? > 0).then_some(())
    }

    async fn send(&mut self) -> Option<()> {
        let out = self.out.split();
        self.stream.write_all(&out).await.ok()?;
        self.stream.flush().await.ok()
    }

    async fn message(&mut self) -> Option<(u8, Bytes)> {
        loop {
            if let Some(header) = frame::header(&self.input).ok()?
                && self.input.len() >= header.total()
            {
                let mut message = self.input.split_to(header.total()).freeze();
                return Some((header.tag, message.split_off(frame::HEADER_LEN)));
            }
            self.read().await?;
        }
    }

    async fn opening(&mut self) -> Option<Opening> {
        loop {
            if let Some((opening, used)) = startup::opening(&self.input).ok()? {
                drop(self.input.split_to(used));
                return Some(opening);
            }
            self.read().await?;
        }
    }

    async fn refuse(&mut self, report: ErrorReport) -> Option<()> {
        report.encode_error(&mut self.out);
        self.send().await
    }
}

async fn converse(mut peer: Peer, manners: &Manners, seen: &Seen) -> Option<()> {
    if let Door::Direct(tls) = &manners.door {
        peer.stream = accept_tls_direct(peer.stream, tls).await.ok()?;
    }
    let startup = loop {
        match peer.opening().await? {
            // Whoever reads the key on its way could use it.
            Opening::Cancel(_)
                if matches!(manners.door, Door::Encrypted(_)) && !peer.stream.is_tls() =>
            {
                return None;
            }
            Opening::Cancel(_) if manners.keeps_cancels => std::future::pending::<()>().await,
            Opening::Cancel(key) => {
                seen.shown.lock().push(key);
                seen.cancels.fetch_add(1, Ordering::Relaxed);
                seen.cancelled.notify_one();
                return None;
            }
            Opening::Startup(startup) => break startup,
            Opening::SslRequest => match &manners.door {
                Door::Encrypted(tls) | Door::Clear(tls) | Door::Old(tls) => {
                    peer.out.extend_from_slice(b"S");
                    peer.send().await?;
                    peer.stream = accept_tls(peer.stream, tls).await.ok()?;
                }
                _ => {
                    peer.out.extend_from_slice(b"N");
                    peer.send().await?;
                }
            },
            Opening::GssEncRequest => return None,
        }
    };
    let barred = manners
        .barred
        .filter(|(name, _)| startup.get("database") == Some(*name));
    seen.startups.lock().push(startup.parameters);
    seen.versions.lock().push(startup.version);
    if let Some((_, code)) = barred {
        let report = ErrorReport::fatal(code, "nobody may connect to this database");
        return peer.refuse(report).await;
    }
    match &manners.door {
        Door::Mute => std::future::pending::<()>().await,
        Door::Nowhere => {
            let code = sqlstate::INVALID_CATALOG_NAME;
            return peer
                .refuse(ErrorReport::fatal(code, "there is no such database"))
                .await;
        }
        Door::Encrypted(_) if !peer.stream.is_tls() => {
            let code = sqlstate::INVALID_AUTHORIZATION_SPECIFICATION;
            return peer
                .refuse(ErrorReport::fatal(code, "no pg_hba.conf entry"))
                .await;
        }
        Door::Clear(_) if peer.stream.is_tls() => {
            let code = sqlstate::INVALID_AUTHORIZATION_SPECIFICATION;
            return peer
                .refuse(ErrorReport::fatal(code, "no pg_hba.conf entry"))
                .await;
        }
        Door::Scram => challenge(&mut peer, true).await?,
        Door::Impostor => challenge(&mut peer, false).await?,
        Door::Open | Door::Encrypted(_) | Door::Clear(_) | Door::Direct(_) | Door::Old(_) => {}
    }
    seen.logins.fetch_add(1, Ordering::Relaxed);
    backend::authentication_ok(&mut peer.out);
    backend::parameter_status(&mut peer.out, b"client_encoding", b"UTF8").ok()?;
    if !manners.keyless {
        let key = match manners.long_key {
            Some(length) => CancelKey::random(&mut rand::rng(), 1, length),
            None => CancelKey::new(1, b"key!").ok()?,
        };
        backend::backend_key_data(&mut peer.out, &key);
        seen.given.lock().push(key);
    }
    backend::ready_for_query(&mut peer.out, TransactionStatus::Idle);
    peer.send().await?;
    obey(peer, manners, seen).await
}

async fn challenge(peer: &mut Peer, proves: bool) -> Option<()> {
    let verifier = Verifier::from_password(b"secret", b"a salt of bytes", 4096);
    let nonce = scram::nonce(&mut rand::rng());
    let mut exchange = scram::server::Exchange::new(verifier, None, nonce);
    backend::authentication_sasl(&mut peer.out, exchange.mechanisms()).ok()?;
    peer.send().await?;
    let (_, body) = peer.message().await?;
    let initial = frontend::SaslInitial::parse(&body).ok()?;
    let first = exchange.first(initial.mechanism, initial.data?).ok()?;
    backend::authentication_sasl_continue(&mut peer.out, &first).ok()?;
    peer.send().await?;
    let (_, body) = peer.message().await?;
    match exchange.last(&body) {
        Ok((last, _)) if proves => backend::authentication_sasl_final(&mut peer.out, &last).ok(),
        Ok(_) => Some(()),
        Err(_) => {
            peer.refuse(ErrorReport::fatal(sqlstate::INVALID_PASSWORD, "no"))
                .await?;
            None
        }
    }
}

/// Answers what it is told, all of it with success, but for what a test needs otherwise.
async fn obey(mut peer: Peer, manners: &Manners, seen: &Seen) -> Option<()> {
    let mut status = TransactionStatus::Idle;
    let mut asked = None;
    let mut prepared = String::new();
    loop {
        let (tag, body) = peer.message().await?;
        match tag {
            b'Q' => {
                let text = text(frontend::Query::parse(&body).ok()?.text);
                seen.texts.lock().push(text.clone());
                match text.as_str() {
                    "" if manners.dies_of_pings => return None,
                    "" => backend::empty_query(&mut peer.out),
                    "SLEEP" => {
                        seen.cancelled.notified().await;
                        let code = sqlstate::QUERY_CANCELED;
                        ErrorReport::error(code, "cancelled").encode_error(&mut peer.out);
                    }
                    "ROLLBACK" if manners.keeps_transactions => std::future::pending::<()>().await,
                    // The look at a session for what functions left there: there is nothing.
                    look if look.contains("pg_listening_channels") => {
                        let row: [Option<&[u8]>; 2] = [Some(b""), Some(b"0")];
                        backend::data_row(&mut peer.out, &row).ok()?;
                        backend::command_complete(&mut peer.out, b"SELECT 1").ok()?;
                    }
                    other => {
                        status = behind(other, status);
                        backend::command_complete(&mut peer.out, b"DONE").ok()?;
                    }
                }
                backend::ready_for_query(&mut peer.out, status);
            }
            b'P' => {
                prepared = text(frontend::Parse::parse(&body).ok()?.query);
                seen.texts.lock().push(prepared.clone());
                peer.out.extend_from_slice(&backend::PARSE_COMPLETE);
            }
            b'B' => {
                let bind = frontend::Bind::parse(&body).ok()?;
                if bind.statement == b"pgherd_0" {
                    let code = sqlstate::INVALID_SQL_STATEMENT_NAME;
                    ErrorReport::error(code, "no such statement").encode_error(&mut peer.out);
                    while peer.message().await?.0 != b'S' {}
                    backend::ready_for_query(&mut peer.out, status);
                } else {
                    asked = bind.parameters().next().flatten().map(<[u8]>::to_vec);
                    peer.out.extend_from_slice(&backend::BIND_COMPLETE);
                }
            }
            b'E' => {
                if let Some(name) = asked.take() {
                    let stored = manners.stored.unwrap_or("secret");
                    let row = [Some(name.as_slice()), Some(stored.as_bytes())];
                    backend::data_row(&mut peer.out, &row).ok()?;
                }
                status = behind(&prepared, status);
                backend::command_complete(&mut peer.out, b"DONE").ok()?;
            }
            b'C' => peer.out.extend_from_slice(&backend::CLOSE_COMPLETE),
            b'S' => backend::ready_for_query(&mut peer.out, status),
            b'X' => return None,
            _ => {}
        }
        peer.send().await?;
    }
}

/// Where a transaction stands behind a statement.
fn behind(text: &str, before: TransactionStatus) -> TransactionStatus {
    match text {
        "BEGIN" | "BEGIN READ WRITE" => TransactionStatus::InTransaction,
        "COMMIT" | "ROLLBACK" => TransactionStatus::Idle,
        _ => before,
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
