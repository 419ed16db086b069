//! A relay that knows where messages begin and end, and breaks a connection at such a place.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, JoinSet};

use super::case::{Direction, Position, Way};
use super::frames::Frames;
use super::leg::{Encryption, Leg};
use crate::hostile::packet;

/// How long a connection stalls.
pub(super) const STALL: Duration = Duration::from_millis(300);

/// At each end of what is sent byte by byte, this much is; what lies between goes in larger pieces.
const SLICED: usize = 1500;

/// And these are as large; no length of a buffer is a multiple of it.
const PIECE: usize = 997;

/// So many bytes that are no protocol follow behind the message that they begin in.
const GARBAGE: usize = 64;

/// Which connection is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// The one that is there already.
    Live,
    /// The next that logs in.
    New,
    /// The next that brings a cancel request.
    Cancel,
}

/// What is to be done to it, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) direction: Direction,
    pub(super) at: Position,
    pub(super) way: Way,
}

/// A message that has passed as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Passed {
    pub(super) direction: Direction,
    pub(super) tag: u8,
    pub(super) length: usize,
}

/// A relay on a port of its own, up until it is dropped.
#[derive(Debug)]
pub(super) struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    upstream: SocketAddr,
    encryption: Encryption,
    state: Mutex<State>,
    struck: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    lines: HashMap<u64, Line>,
    watch: Option<Watch>,
}

/// A connection.
#[derive(Debug)]
struct Line {
    end: Arc<Notify>,
    /// Its server's process, once that was told.
    process: Option<u32>,
    /// It was broken, or is silent.
    struck: bool,
}

/// What is looked for, and what was seen.
#[derive(Debug)]
struct Watch {
    target: Target,
    /// The first connection that is new.
    first_new: u64,
    cut: Option<Cut>,
    passed: Vec<Passed>,
}

impl Relay {
    /// Starts one that leads to an address, with TLS on one of its sides or none.
    ///
    /// # Errors
    /// As the system says.
    pub(super) async fn start(upstream: SocketAddr, encryption: Encryption) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            upstream,
            encryption,
            state: Mutex::default(),
            struck: watch::Sender::new(false),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self {
            address,
            shared,
            task,
        })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Counts the messages of a connection from here on, and breaks it where that is wanted.
    pub(super) fn watch(&self, target: Target, cut: Option<Cut>) {
        let mut state = self.shared.state.lock();
        let first_new = state.next;
        state.watch = Some(Watch {
            target,
            first_new,
            cut,
            passed: Vec::new(),
        });
        self.shared.struck.send_replace(false);
    }

    /// What has passed since then.
    pub(super) fn passed(&self) -> Vec<Passed> {
        let state = self.shared.state.lock();
        let watch = state.watch.as_ref();
        watch.map(|watch| watch.passed.clone()).unwrap_or_default()
    }

    /// Ends the counting.
    pub(super) fn unwatch(&self) {
        self.shared.state.lock().watch = None;
    }

    /// Whether the connection was broken, and when it will be.
    pub(super) fn struck(&self) -> watch::Receiver<bool> {
        self.shared.struck.subscribe()
    }

    /// Closes all connections, or those alone that were broken and are still open; tells the processes
    /// at the other end of those and of all that were broken before.
    pub(super) fn hang_up(&self, all: bool) -> Vec<u32> {
        let mut state = self.shared.state.lock();
        let mut processes = Vec::new();
        state.lines.retain(|_, line| {
            let ends = all || line.struck;
            if ends {
                processes.extend(line.process);
                line.end.notify_one();
            }
            !ends
        });
        processes
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut lines = JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        let end = Arc::new(Notify::new());
        let number = {
            let mut state = shared.state.lock();
            let number = state.next;
            state.next += 1;
            let line = Line {
                end: Arc::clone(&end),
                process: None,
                struck: false,
            };
            state.lines.insert(number, line);
            number
        };
        let shared = Arc::clone(&shared);
        lines.spawn(async move {
            let carried = carry(&shared, number, near, &end).await;
            let mut state = shared.state.lock();
            // One that was broken is kept in mind until somebody asks for its process.
            if state.lines.get(&number).is_some_and(|line| !line.struck) {
                state.lines.remove(&number);
            }
            drop(carried);
        });
        while lines.try_join_next().is_some() {}
    }
}

/// How bytes of one direction go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Pass,
    Slices,
    Discard,
}

/// One direction of a connection.
struct Lane {
    direction: Direction,
    frames: Frames,
    mode: Mode,
}

/// What is to happen behind the bytes that pass.
struct Step {
    passes: usize,
    strikes: Option<Way>,
}

async fn carry(shared: &Shared, number: u64, near: TcpStream, end: &Notify) -> io::Result<()> {
    let mut near = Leg::accept(near, &shared.encryption).await?;
    let mut far = Leg::open(shared.upstream, &shared.encryption).await?;
    let mut lanes = [
        (Direction::Up, Frames::of_client()),
        (Direction::Down, Frames::of_server()),
    ]
    .map(|(direction, frames)| Lane {
        direction,
        frames,
        mode: Mode::Pass,
    });
    let mut identity = Identity {
        number,
        cancels: false,
    };
    let (mut up, mut down) = (vec![0; 32 * 1024], vec![0; 32 * 1024]);
    loop {
        let (lane, to, bytes) = tokio::select! {
            () = end.notified() => return Ok(()),
            count = near.read(&mut up) => (&mut lanes[0], &mut far, &up[..count?]),
            count = far.read(&mut down) => (&mut lanes[1], &mut near, &down[..count?]),
        };
        if bytes.is_empty() {
            to.finish().await;
            return Ok(());
        }
        match pass(shared, &mut identity, lane, to, bytes).await? {
            Some(Way::Reset) => {
                near.resets()?;
                far.resets()?;
                return Ok(());
            }
            Some(Way::Close) => return Ok(()),
            Some(Way::Silence) => {
                end.notified().await;
                return Ok(());
            }
            _ => {}
        }
    }
}

/// Passes bytes on as far as they may go; tells how the whole connection is to end, if it is.
async fn pass(
    shared: &Shared,
    identity: &mut Identity,
    lane: &mut Lane,
    to: &mut Leg,
    mut bytes: &[u8],
) -> io::Result<Option<Way>> {
    loop {
        if lane.mode == Mode::Discard {
            return Ok(None);
        }
        let step = shared.step(identity, lane, bytes);
        let (passing, rest) = bytes.split_at(step.passes);
        match lane.mode {
            Mode::Slices => slice(to, passing).await?,
            _ => to.send(passing).await?,
        }
        bytes = rest;
        match step.strikes {
            None => return Ok(None),
            Some(Way::Stall) => {
                shared.struck.send_replace(true);
                tokio::time::sleep(STALL).await;
            }
            Some(Way::Slices) => {
                shared.struck.send_replace(true);
                lane.mode = Mode::Slices;
            }
            Some(Way::Garbage) => {
                let garbage = vec![0xff; lane.frames.owed() + GARBAGE];
                to.send(&garbage).await?;
                lane.mode = Mode::Discard;
                shared.struck.send_replace(true);
            }
            Some(way) => {
                shared.struck.send_replace(true);
                return Ok(Some(way));
            }
        }
    }
}

/// Sends bytes one by one, but for the middle of what is long.
async fn slice(to: &mut Leg, bytes: &[u8]) -> io::Result<()> {
    let middle = SLICED..bytes.len().saturating_sub(SLICED).max(SLICED);
    let mut at = 0;
    while at < bytes.len() {
        let size = if middle.contains(&at) {
            PIECE.min(middle.end - at)
        } else {
            1
        };
        to.send(&bytes[at..at + size]).await?;
        // The reader may get hold of each by itself.
        tokio::task::yield_now().await;
        at += size;
    }
    Ok(())
}

/// Which connection this is.
struct Identity {
    number: u64,
    /// It brings a cancel request.
    cancels: bool,
}

impl Shared {
    /// How far these bytes may go, and what comes then.
    fn step(&self, identity: &mut Identity, lane: &mut Lane, bytes: &[u8]) -> Step {
        let mut state = self.state.lock();
        let state = &mut *state;
        let mut passes = 0;
        loop {
            // What kind a connection is shows only in its first packet.
            if identity.cancels_by(lane, &bytes[passes..]) {
                identity.cancels = true;
            }
            let watched = state
                .watch
                .as_mut()
                .filter(|watch| watch.concerns(identity));
            let cut = watched.as_ref().and_then(|watch| watch.due(lane.direction));
            if let Some((way, stop)) = cut
                && lane.frames.offset() == stop
            {
                if let Some(watch) = state.watch.as_mut() {
                    watch.cut = None;
                }
                if let Some(line) = state.lines.get_mut(&identity.number) {
                    line.struck =
                        matches!(way, Way::Reset | Way::Close | Way::Silence | Way::Garbage);
                }
                return Step {
                    passes,
                    strikes: Some(way),
                };
            }
            if passes == bytes.len() {
                return Step {
                    passes,
                    strikes: None,
                };
            }
            let stop = cut.map(|(_, stop)| stop).filter(|stop| *stop > 0);
            let (count, whole) = lane.frames.take(&bytes[passes..], stop);
            passes += count;
            let Some(whole) = whole else { continue };
            if let Some(watch) = watched {
                watch.passed.push(Passed {
                    direction: lane.direction,
                    tag: whole.tag,
                    length: whole.length,
                });
            }
            if lane.direction == Direction::Down && whole.tag == b'K' {
                let line = state.lines.get_mut(&identity.number);
                if let Some(line) = line {
                    line.process = Some(whole.number);
                }
            }
        }
    }
}

impl Identity {
    /// Whether these are the first bytes of a client that only cancels.
    fn cancels_by(&self, lane: &Lane, bytes: &[u8]) -> bool {
        let code = bytes
            .get(4..8)
            .map(|code| code == packet::CANCEL.to_be_bytes());
        lane.direction == Direction::Up && lane.frames.is_fresh() && code == Some(true)
    }
}

impl Watch {
    /// Whether this connection is looked for.
    fn concerns(&self, identity: &Identity) -> bool {
        let new = identity.number >= self.first_new;
        match self.target {
            Target::Live => !new,
            Target::New => new && !identity.cancels,
            Target::Cancel => new && identity.cancels,
        }
    }

    /// What is to be done in the message that is under way in this direction, and behind how much of it.
    fn due(&self, direction: Direction) -> Option<(Way, usize)> {
        let cut = self.cut.filter(|cut| cut.direction == direction)?;
        let passed = self
            .passed
            .iter()
            .filter(|passed| passed.direction == direction);
        (passed.count() == cut.at.messages).then_some((cut.way, cut.at.bytes))
    }
}
