//! A relay before a shard that stops a connection at a message of the proxy's.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// Where it stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// Before the message has reached the server.
    Before,
    /// Once the server has answered it; the answer never arrives.
    After,
}

/// What becomes of the connection then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is cut off on both sides.
    Cut,
    /// Nothing comes through it any more.
    Silence,
    /// It waits until it is told to go on.
    Pause,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    pub(crate) pattern: &'static [u8],
    pub(crate) when: When,
    pub(crate) fault: Fault,
}

/// What a client says of its tables, and nobody else.
const WORK: &[u8] = b"accounts";
/// The code of a CancelRequest, which is a client's, too.
pub(crate) const CANCEL: &[u8] = &80_877_102_u32.to_be_bytes();

#[derive(Debug, Default)]
struct Shared {
    rule: Mutex<Option<Rule>>,
    hit: Notify,
    goes_on: Notify,
}

/// The relay; it ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Tap {
    pub(crate) port: u16,
    shared: Arc<Shared>,
    _task: JoinSet<()>,
}

impl Tap {
    pub(crate) async fn before(server: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared::default());
        let mut task = JoinSet::new();
        let own = Arc::clone(&shared);
        task.spawn(async move {
            let mut links = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let shared = Arc::clone(&own);
                links.spawn(async move {
                    if let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await {
                        // However it ends, both sides are closed.
                        let _ = pass(client, server, &shared).await;
                    }
                });
            }
        });
        Self {
            port,
            shared,
            _task: task,
        }
    }

    pub(crate) fn arm(&self, rule: Rule) {
        *self.shared.rule.lock() = Some(rule);
    }

    /// Lets go on what pauses, or is about to.
    pub(crate) fn go_on(&self) {
        self.shared.goes_on.notify_one();
    }

    /// Waits until the message has come.
    pub(crate) async fn hit(&self) {
        let hit = tokio::time::timeout(pgherd_tests::PATIENCE, self.shared.hit.notified()).await;
        assert!(hit.is_ok(), "{:?} never came", self.shared.rule.lock());
    }
}

async fn pass(
    mut client: TcpStream,
    mut server: TcpStream,
    shared: &Shared,
) -> std::io::Result<()> {
    let (mut up, mut down) = (vec![0; 65536], vec![0; 65536]);
    // Whoever ends what others have left prepared says much the same.
    let mut is_clients = false;
    let has = |sent: &[u8], pattern: &[u8]| sent.windows(pattern.len()).any(|it| it == pattern);
    loop {
        tokio::select! {
            count = client.read(&mut up) => {
                let sent = &up[..count?];
                if sent.is_empty() {
                    return Ok(());
                }
                is_clients |= has(sent, WORK) || has(sent, CANCEL);
                let found = {
                    let mut rule = shared.rule.lock();
                    rule.take_if(|rule| is_clients && has(sent, rule.pattern))
                };
                let Some(rule) = found else {
                    server.write_all(sent).await?;
                    continue;
                };
                let mut answered = 0;
                if rule.when == When::After {
                    server.write_all(sent).await?;
                    answered = server.read(&mut down).await?;
                    assert_ne!(answered, 0, "the server hung up");
                }
                shared.hit.notify_one();
                if rule.fault == Fault::Pause {
                    shared.goes_on.notified().await;
                    match rule.when {
                        When::Before => server.write_all(sent).await?,
                        When::After => client.write_all(&down[..answered]).await?,
                    }
                    continue;
                }
                if rule.fault == Fault::Silence {
                    // Until the other side is gone.
                    while client.read(&mut up).await? > 0 {}
                }
                return Ok(());
            }
            count = server.read(&mut down) => {
                let said = &down[..count?];
                if said.is_empty() {
                    return Ok(());
                }
                client.write_all(said).await?;
            }
        }
    }
}
