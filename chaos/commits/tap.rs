//! A relay before a shard that stops a connection at a message of a proxy's.

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::case::When;

/// What is moved has such a number, always of ten digits, and nothing else that is sent looks like one.
pub(super) const FIRST: i64 = 7_000_000_000;

/// How those numbers begin.
const LIKE: &[u8] = b"7000";

/// How many digits they have.
const DIGITS: usize = 10;

/// What everybody names who moves money, and nobody else.
const WORK: &[u8] = b"accounts";

/// The end of what a server answers: that it is ready, but for the last byte.
const READY: &[u8] = b"Z\0\0\0\x05";

/// How much is read at once.
const BUFFER: usize = 64 * 1024;

/// Whose connection is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// That over which the transfer of this number was the last.
    Transfer(i64),
    /// One over which no client has ever said anything: of those who end what others have left.
    Nobody,
}

/// At what a connection is stopped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    pub(super) pattern: &'static [u8],
    pub(super) when: When,
    pub(super) whose: Whose,
}

/// The relay; it ends when it is dropped.
#[derive(Debug)]
pub(super) struct Tap {
    port: u16,
    rule: Arc<Mutex<Option<Armed>>>,
    _task: JoinSet<()>,
}

/// A rule that waits for its message. Dropped, it cuts the connection that it has stopped.
#[derive(Debug)]
pub(super) struct Trap(Arc<Signals>);

#[derive(Debug)]
struct Armed(Rule, Arc<Signals>);

#[derive(Debug)]
struct Signals {
    state: watch::Sender<State>,
    order: watch::Sender<Order>,
}

/// What has become of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    /// It has not come to the message.
    Waits,
    /// It is stopped there.
    Stopped,
    /// It is closed, or goes on.
    Over,
}

/// What becomes of one that is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// It stays so for as long as both sides are there.
    Hold,
    /// It goes on.
    Pass,
    /// It is closed on both sides.
    Cut,
}

impl Tap {
    /// Starts one before the server at a port.
    ///
    /// # Errors
    /// As the system says.
    pub(super) async fn before(server: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let rule = Arc::default();
        let mut task = JoinSet::new();
        task.spawn(accept(listener, server, Arc::clone(&rule)));
        Ok(Self {
            port,
            rule,
            _task: task,
        })
    }

    /// Where it listens.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Has it stop the first connection that comes to a message.
    pub(super) fn arm(&self, rule: Rule) -> Trap {
        let signals = Arc::new(Signals {
            state: watch::Sender::new(State::Waits),
            order: watch::Sender::new(Order::Hold),
        });
        *self.rule.lock() = Some(Armed(rule, Arc::clone(&signals)));
        Trap(signals)
    }

    /// Has it stop nobody.
    pub(super) fn disarm(&self) {
        *self.rule.lock() = None;
    }
}

impl Trap {
    /// Waits until a connection is stopped; false if none is for so long.
    pub(super) async fn hit(&self, patience: Duration) -> bool {
        self.becomes(State::Stopped, patience).await
    }

    /// Waits until the connection is closed, by whomever; false if it is still there after so long.
    pub(super) async fn over(&self, patience: Duration) -> bool {
        self.becomes(State::Over, patience).await
    }

    async fn becomes(&self, wanted: State, patience: Duration) -> bool {
        let mut state = self.0.state.subscribe();
        let reached = state.wait_for(|state| *state >= wanted);
        matches!(timeout(patience, reached).await, Ok(Ok(_)))
    }

    /// Lets the connection go on.
    pub(super) fn pass(&self) {
        self.0.order.send_replace(Order::Pass);
    }

    /// Closes the connection on both sides.
    pub(super) fn cut(&self) {
        self.0.order.send_replace(Order::Cut);
    }
}

impl Drop for Trap {
    fn drop(&mut self) {
        self.cut();
    }
}

async fn accept(listener: TcpListener, server: u16, rule: Arc<Mutex<Option<Armed>>>) {
    let mut links = JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        let rule = Arc::clone(&rule);
        links.spawn(async move {
            // However it ends, both sides are closed.
            let _ = carry(near, server, &rule).await;
        });
        while links.try_join_next().is_some() {}
    }
}

/// What is known of a connection by what was sent over it.
#[derive(Default)]
struct Sent {
    works: bool,
    last: Option<i64>,
}

impl Sent {
    fn note(&mut self, bytes: &[u8]) {
        self.works |= has(bytes, WORK);
        self.last = last_transfer(bytes).or(self.last);
    }

    fn is_of(&self, whose: Whose) -> bool {
        match whose {
            Whose::Transfer(id) => self.last == Some(id),
            Whose::Nobody => !self.works,
        }
    }
}

async fn carry(mut near: TcpStream, server: u16, rule: &Mutex<Option<Armed>>) -> io::Result<()> {
    let mut far = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let (mut up, mut down) = (vec![0; BUFFER], vec![0; BUFFER]);
    let mut sent = Sent::default();
    loop {
        tokio::select! {
            count = near.read(&mut up) => {
                let bytes = &up[..count?];
                if bytes.is_empty() {
                    return Ok(());
                }
                sent.note(bytes);
                let armed = rule.lock().take_if(|Armed(rule, _)| {
                    sent.is_of(rule.whose) && has(bytes, rule.pattern)
                });
                match armed {
                    None => far.write_all(bytes).await?,
                    Some(Armed(rule, signals)) => {
                        let passes = stop(rule.when, bytes, &mut near, &mut far, &signals).await;
                        signals.state.send_replace(State::Over);
                        if !passes? {
                            return Ok(());
                        }
                    }
                }
            }
            count = far.read(&mut down) => {
                let bytes = &down[..count?];
                if bytes.is_empty() {
                    return Ok(());
                }
                near.write_all(bytes).await?;
            }
        }
    }
}

/// Stops a connection at a message; tells whether it goes on.
async fn stop(
    when: When,
    bytes: &[u8],
    near: &mut TcpStream,
    far: &mut TcpStream,
    signals: &Signals,
) -> io::Result<bool> {
    let mut order = signals.order.subscribe();
    let (mut up, mut down) = (vec![0; BUFFER], vec![0; BUFFER]);
    let mut answer = Vec::new();
    if when != When::Before {
        far.write_all(bytes).await?;
    }
    while when == When::After && !is_whole(&answer) {
        let count = far.read(&mut down).await?;
        if count == 0 {
            return Ok(false);
        }
        answer.extend_from_slice(&down[..count]);
    }
    signals.state.send_replace(State::Stopped);
    let mut more = Vec::new();
    let order = loop {
        tokio::select! {
            order = order.wait_for(|order| *order != Order::Hold) => {
                break order.map_or(Order::Cut, |order| *order);
            }
            // That somebody is gone is seen by whom it was connected with.
            count = near.read(&mut up) => match count? {
                0 => return Ok(false),
                count => more.extend_from_slice(&up[..count]),
            },
            count = far.read(&mut down) => match count? {
                0 => return Ok(false),
                count => answer.extend_from_slice(&down[..count]),
            },
        }
    };
    if order == Order::Cut {
        return Ok(false);
    }
    if when == When::Before {
        far.write_all(bytes).await?;
    }
    far.write_all(&more).await?;
    near.write_all(&answer).await?;
    Ok(true)
}

fn has(bytes: &[u8], pattern: &[u8]) -> bool {
    bytes.windows(pattern.len()).any(|it| it == pattern)
}

/// Whether a server has said all that it has to say.
fn is_whole(answer: &[u8]) -> bool {
    let end = answer.len().saturating_sub(READY.len() + 1);
    answer[end..].starts_with(READY)
}

/// The number of the last transfer that is named.
fn last_transfer(bytes: &[u8]) -> Option<i64> {
    let mut all = bytes.windows(DIGITS).rev();
    let found = all.find(|it| it.starts_with(LIKE) && it.iter().all(u8::is_ascii_digit))?;
    std::str::from_utf8(found).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{FIRST, Sent, Whose, is_whole, last_transfer};

    #[test]
    fn a_connection_is_known_by_what_was_sent_last() {
        let mut sent = Sent::default();
        sent.note(b"SELECT 1");
        assert!(sent.is_of(Whose::Nobody));
        sent.note(b"insert into moves values (3, 7000000012, 5); update accounts");
        assert!(!sent.is_of(Whose::Nobody));
        sent.note(b"insert into moves values (3, 7000000013, 5)");
        sent.note(b"PREPARE TRANSACTION");
        assert!(sent.is_of(Whose::Transfer(FIRST + 13)));
        assert!(!sent.is_of(Whose::Transfer(FIRST + 12)));
        assert_eq!(last_transfer(b"values (3, 700000001, 5)"), None);
    }

    #[test]
    fn an_answer_ends_with_the_word_that_it_does() {
        assert!(is_whole(b"C\0\0\0\x0bCOMMIT\0Z\0\0\0\x05I"));
        assert!(!is_whole(b"C\0\0\0\x0bCOMMIT\0Z\0\0\0\x05"));
        assert!(!is_whole(b""));
    }
}
