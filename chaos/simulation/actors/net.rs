//! A network that a seed decides about: latency, silence, cuts.
//!
//! Each connection is two pairs of ends with a courier a direction between them. A courier carries bytes in their
//! order, and each piece for as long as the seed says; other connections overtake it. What a link may not carry waits
//! until it may again, as packets that are sent again do.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use parking_lot::Mutex;
use pgherd_net::{Connecting, Simulated, Stream, Target, Wire};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep};

use crate::simulation::Trace;

/// Who is on the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Node {
    Proxy,
    Host(usize),
    Client(usize),
}

/// The network, shared by all that are on it.
#[derive(Clone)]
pub(super) struct Net(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    /// A link carries something again.
    mended: Notify,
}

struct State {
    rng: StdRng,
    trace: Trace,
    began: Instant,
    doors: BTreeMap<Node, mpsc::Sender<Wire>>,
    /// Directions that carry nothing.
    silent: BTreeSet<(Node, Node)>,
    links: BTreeMap<u64, Link>,
    next: u64,
}

struct Link {
    from: Node,
    to: Node,
    /// The ends at which the couriers are.
    wires: [Wire; 2],
    /// It breaks after so many more bytes.
    cut: Option<usize>,
    /// Directions that have not ended.
    open: u8,
}

/// Bytes that travel together.
const PIECE: usize = 4096;

/// What becomes of a piece on its way.
enum Fate {
    Arrives,
    /// The connection breaks behind so many of its bytes.
    Breaks(usize),
}

fn address(node: Node) -> SocketAddr {
    let (last, port) = match node {
        Node::Proxy => (1, 6432),
        Node::Host(number) => (10 + u8::try_from(number).unwrap_or(0), 5432),
        Node::Client(number) => (2, 40_000 + u16::try_from(number).unwrap_or(0)),
    };
    SocketAddr::from((Ipv4Addr::new(10, 0, 0, last), port))
}

impl Net {
    pub(super) fn new(seed: u64, trace: Trace) -> Self {
        Self(Arc::new(Inner {
            state: Mutex::new(State {
                rng: StdRng::seed_from_u64(seed ^ 0x6e65_7477_6f72_6b00),
                trace,
                began: Instant::now(),
                doors: BTreeMap::new(),
                silent: BTreeSet::new(),
                links: BTreeMap::new(),
                next: 0,
            }),
            mended: Notify::new(),
        }))
    }

    /// Writes down what has happened.
    pub(super) fn note(&self, what: impl std::fmt::Display) {
        let mut state = self.0.state.lock();
        let at = state.began.elapsed();
        state.trace.note(at, what);
    }

    /// How much time has passed.
    pub(super) fn time(&self) -> Duration {
        self.0.state.lock().began.elapsed()
    }

    /// What has happened.
    pub(super) fn trace<R>(&self, read: impl FnOnce(&Trace) -> R) -> R {
        read(&self.0.state.lock().trace)
    }

    /// A number below another, as the seed wants it.
    pub(super) fn draw(&self, below: u64) -> u64 {
        self.0.state.lock().rng.random_range(0..below.max(1))
    }

    /// Waits for as long as the seed says.
    pub(super) async fn pause(&self, millis: std::ops::Range<u64>) {
        let wait = millis.start + self.draw(millis.end - millis.start);
        sleep(Duration::from_millis(wait)).await;
    }

    /// Takes who comes to a node. Nobody has to have closed before.
    pub(super) fn open(&self, node: Node, door: mpsc::Sender<Wire>) {
        self.0.state.lock().doors.insert(node, door);
    }

    /// Who comes to a node is refused.
    pub(super) fn close(&self, node: Node) {
        self.0.state.lock().doors.remove(&node);
    }

    /// One direction between two nodes carries nothing from now on, or again.
    pub(super) fn silence(&self, from: Node, to: Node, silent: bool) {
        let mut state = self.0.state.lock();
        match silent {
            true => state.silent.insert((from, to)),
            false => state.silent.remove(&(from, to)),
        };
        drop(state);
        self.0.mended.notify_waiters();
    }

    /// Tears off all connections to a node, as a machine does that has started anew.
    pub(super) fn sever(&self, node: Node) {
        let wires: Vec<Wire> = {
            let state = self.0.state.lock();
            let links = state.links.values().filter(|link| link.to == node);
            links.map(|link| link.wires[1].clone()).collect()
        };
        wires.iter().for_each(Wire::reset);
    }

    /// Has one of the connections to a node break in the middle of its next bytes.
    pub(super) fn cut(&self, node: Node) {
        let mut state = self.0.state.lock();
        let numbers: Vec<u64> = state
            .links
            .iter()
            .filter(|(_, link)| link.to == node)
            .map(|(number, _)| *number)
            .collect();
        if numbers.is_empty() {
            return;
        }
        let number = numbers[state.rng.random_range(0..numbers.len())];
        let bytes = state.rng.random_range(0..200);
        if let Some(link) = state.links.get_mut(&number) {
            link.cut = Some(bytes);
        }
    }

    /// Connects two nodes.
    pub(super) async fn connect(&self, from: Node, to: Node) -> io::Result<Stream> {
        Ok(self.link(from, to).await?.into_stream())
    }

    async fn link(&self, from: Node, to: Node) -> io::Result<Wire> {
        self.carry(from, to).await;
        let door = self.0.state.lock().doors.get(&to).cloned();
        let (near, one) = Wire::pair(address(from), address(to));
        let (two, far) = Wire::pair(address(from), address(to));
        let entered = match door {
            Some(door) => door.try_send(far).is_ok(),
            None => false,
        };
        if !entered {
            self.carry(to, from).await;
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let number = {
            let mut state = self.0.state.lock();
            state.next += 1;
            let number = state.next;
            let wires = [one.clone(), two.clone()];
            let link = Link {
                from,
                to,
                wires,
                cut: None,
                open: 2,
            };
            state.links.insert(number, link);
            number
        };
        self.note(format_args!("#{number} {from:?} -> {to:?}"));
        let (there, back) = (self.clone(), self.clone());
        let (source, sink) = (one.clone(), two.clone());
        tokio::spawn(async move { there.courier(number, false, source, sink).await });
        tokio::spawn(async move { back.courier(number, true, two, one).await });
        self.carry(to, from).await;
        Ok(near)
    }

    /// Takes the time that it takes from one node to another.
    async fn carry(&self, from: Node, to: Node) {
        let latency = {
            let mut state = self.0.state.lock();
            match state.rng.random_range(0..100) {
                0 => state.rng.random_range(20..150),
                _ => state.rng.random_range(0..4),
            }
        };
        sleep(Duration::from_millis(latency)).await;
        loop {
            let mended = self.0.mended.notified();
            if !self.0.state.lock().silent.contains(&(from, to)) {
                return;
            }
            mended.await;
        }
    }

    /// Carries what is written at one end to the other, until there is no more.
    async fn courier(&self, number: u64, back: bool, source: Wire, sink: Wire) {
        let ends = self
            .0
            .state
            .lock()
            .links
            .get(&number)
            .map(|link| (link.from, link.to));
        let Some((from, to)) = ends else { return };
        let (from, to) = if back { (to, from) } else { (from, to) };
        let (mut input, mut output) = (source.clone().into_stream(), sink.clone().into_stream());
        let mut piece = BytesMut::new();
        loop {
            piece.clear();
            piece.reserve(PIECE);
            let read = input.read_buf(&mut piece).await;
            self.carry(from, to).await;
            match read {
                Ok(0) => {
                    self.note(format_args!("#{number} {from:?} ends"));
                    let _ = output.shutdown().await;
                    break;
                }
                Err(_) => {
                    self.note(format_args!("#{number} {from:?} resets"));
                    sink.reset();
                    break;
                }
                Ok(_) => {}
            }
            match self.fate(number, back, &piece) {
                Fate::Arrives => {
                    if output.write_all(&piece).await.is_err() {
                        // Whoever is there wants no more; who sends finds out.
                        source.reset();
                        break;
                    }
                }
                Fate::Breaks(at) => {
                    let _ = output.write_all(&piece[..at]).await;
                    self.note(format_args!("#{number} breaks"));
                    // What was on its way is read first.
                    let _ = output.shutdown().await;
                    source.reset();
                    break;
                }
            }
        }
        self.left(number);
    }

    fn fate(&self, number: u64, back: bool, piece: &[u8]) -> Fate {
        let mut state = self.0.state.lock();
        let arrow = if back { "<-" } else { "->" };
        let at = state.began.elapsed();
        state
            .trace
            .note(at, format_args!("#{number} {arrow} {} bytes", piece.len()));
        state.trace.weigh(piece);
        let Some(cut) = state
            .links
            .get_mut(&number)
            .and_then(|link| link.cut.as_mut())
        else {
            return Fate::Arrives;
        };
        match cut.checked_sub(piece.len()) {
            Some(left) => {
                *cut = left;
                Fate::Arrives
            }
            None => Fate::Breaks(*cut),
        }
    }

    /// A direction has ended.
    fn left(&self, number: u64) {
        let mut state = self.0.state.lock();
        if let Some(link) = state.links.get_mut(&number) {
            link.open -= 1;
            if link.open == 0 {
                state.links.remove(&number);
            }
        }
    }
}

impl Simulated for Net {
    fn connect<'a>(&'a self, target: &'a Target) -> Connecting<'a> {
        Box::pin(async move {
            let host = match target {
                Target::Tcp { host, .. } => {
                    host.strip_prefix("host").and_then(|it| it.parse().ok())
                }
                Target::Unix { .. } => None,
            };
            let Some(host) = host else {
                return Err(io::ErrorKind::NotFound.into());
            };
            self.link(Node::Proxy, Node::Host(host)).await
        })
    }
}
