//! A place where a server is, which may become another's, and which may fail on demand.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// What happens to the next messages with certain bytes in them.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    /// The bytes.
    pub(crate) needle: &'static str,
    /// Whether the server gets the message before.
    pub(crate) passes: bool,
    /// What the proxy is told before its connection is closed.
    pub(crate) says: Vec<u8>,
    /// How often.
    pub(crate) times: usize,
}

/// What a server raises whose statement ran out of time, or was cancelled.
pub(crate) const CANCELLED: &str =
    "do $$begin raise exception 'out of time' using errcode = '57014'; end$$";

/// The port of nobody.
pub(crate) const NOWHERE: u16 = 1;

/// The place. All connections through it end with it.
#[derive(Debug)]
pub(crate) struct Node {
    port: u16,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    target: AtomicU16,
    fault: Mutex<Option<Fault>>,
    /// What the text with certain bytes in it is replaced by that is sent next.
    swap: Mutex<Option<(&'static str, &'static str)>>,
    /// The next fault is the end of the place.
    closes: AtomicBool,
    /// Counts how often all connections were cut.
    cuts: watch::Sender<u32>,
    /// Each connection has one of the senders, so that the receiver knows when all have ended.
    alive: Mutex<Alive>,
}

type Alive = (mpsc::Sender<()>, mpsc::Receiver<()>);

impl Node {
    /// One that leads to the server at this port.
    pub(crate) async fn new(target: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            target: AtomicU16::new(target),
            fault: Mutex::new(None),
            swap: Mutex::new(None),
            closes: AtomicBool::new(false),
            cuts: watch::Sender::new(0),
            alive: Mutex::new(mpsc::channel(1)),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self { port, shared, task }
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Leads to another server from here on; connections to the old one have ended when this has.
    pub(crate) async fn lead_to(&self, target: u16) {
        self.shared.target.store(target, Ordering::SeqCst);
        let new = mpsc::channel(1);
        let (sender, mut all) = std::mem::replace(&mut *self.shared.alive.lock(), new);
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
        drop(sender);
        all.recv().await;
    }

    /// Fails in this way next.
    pub(crate) fn fail(&self, fault: Fault) {
        *self.shared.fault.lock() = Some(fault);
    }

    /// Fails in this way next, and leads nowhere from then on.
    pub(crate) fn fail_for_good(&self, fault: Fault) {
        self.shared.closes.store(true, Ordering::SeqCst);
        self.fail(fault);
    }

    /// Has the server run this in the place of the next text with these bytes in it.
    pub(crate) fn swap(&self, needle: &'static str, text: &'static str) {
        *self.shared.swap.lock() = Some((needle, text));
    }

    /// Whether that is still to come.
    pub(crate) fn is_to_swap(&self) -> bool {
        self.shared.swap.lock().is_some()
    }

    /// How often it is still to fail.
    pub(crate) fn left(&self) -> usize {
        let fault = self.shared.fault.lock();
        fault.as_ref().map_or(0, |fault| fault.times)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let shared = Arc::clone(&shared);
        let mut cuts = shared.cuts.subscribe();
        let alive = shared.alive.lock().0.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ended = converse(stream, &shared) => {}
                _cut = cuts.changed() => {}
            }
            drop(alive);
        });
    }
}

async fn converse(stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    const REQUESTS: [u32; 2] = [80_877_103, 80_877_104];
    stream.set_nodelay(true)?;
    let (mut from, mut to) = stream.into_split();
    let startup = loop {
        let packet = packet(&mut from, Vec::new()).await?;
        let code = packet.get(4..8).map(|code| code.try_into().unwrap());
        if !code.is_some_and(|code| REQUESTS.contains(&u32::from_be_bytes(code))) {
            break packet;
        }
        to.write_all(b"N").await?;
    };
    let target = shared.target.load(Ordering::SeqCst);
    let server = TcpStream::connect(("127.0.0.1", target)).await?;
    server.set_nodelay(true)?;
    let (mut answers, mut server) = server.into_split();
    server.write_all(&startup).await?;
    let fault = async {
        loop {
            let tag = from.read_u8().await?;
            let message = packet(&mut from, vec![tag]).await?;
            let message = shared.swapped(message);
            match shared.strikes(&message) {
                Some(fault) if fault.passes => {
                    server.write_all(&message).await?;
                    return Ok(fault.says);
                }
                Some(fault) => return Ok(fault.says),
                None => server.write_all(&message).await?,
            }
        }
    };
    let says: std::io::Result<Vec<u8>> = tokio::select! {
        says = fault => says,
        _ended = tokio::io::copy(&mut answers, &mut to) => return Ok(()),
    };
    to.write_all(&says?).await
}

/// Reads a packet with its length, behind what was read of it.
async fn packet(from: &mut OwnedReadHalf, mut before: Vec<u8>) -> std::io::Result<Vec<u8>> {
    let length = from.read_u32().await?;
    before.extend(length.to_be_bytes());
    let mut body = vec![0; length as usize - 4];
    from.read_exact(&mut body).await?;
    before.extend(body);
    Ok(before)
}

/// The message with another text in it, if it is a Query or a Parse.
fn with_text(message: &[u8], text: &str) -> Option<Vec<u8>> {
    let body = message.get(5..)?;
    let end = |from: usize| Some(from + body.get(from..)?.iter().position(|byte| *byte == 0)?);
    let begins = match message.first()? {
        b'Q' => 0,
        b'P' => end(0)? + 1,
        _ => return None,
    };
    let body = [&body[..begins], text.as_bytes(), &body[end(begins)?..]].concat();
    let length = u32::try_from(body.len() + 4).ok()?.to_be_bytes();
    Some([&message[..1], &length, &body].concat())
}

impl Shared {
    fn swapped(&self, message: Vec<u8>) -> Vec<u8> {
        let mut swap = self.swap.lock();
        let Some((needle, text)) = *swap else {
            return message;
        };
        let has = message
            .windows(needle.len())
            .any(|part| part == needle.as_bytes());
        match with_text(&message, text).filter(|_| has) {
            Some(swapped) => {
                *swap = None;
                swapped
            }
            None => message,
        }
    }

    fn strikes(&self, message: &[u8]) -> Option<Fault> {
        let mut fault = self.fault.lock();
        let known = fault.as_mut().filter(|fault| fault.times > 0)?;
        let needle = known.needle.as_bytes();
        if !message.windows(needle.len()).any(|part| part == needle) {
            return None;
        }
        known.times -= 1;
        let struck = known.clone();
        drop(fault);
        if self.closes.swap(false, Ordering::SeqCst) {
            self.target.store(NOWHERE, Ordering::SeqCst);
        }
        Some(struck)
    }
}
