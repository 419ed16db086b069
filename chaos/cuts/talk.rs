//! A client that leads a conversation, and remembers what it was told.

use std::io;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::flow::{Kind, Round, Until};
use crate::hostile::{Client, Message, packet};

/// How long a client waits for anything; longer than pgherd may let it.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long it waits for a notification.
const NOTICE: Duration = Duration::from_secs(3);

/// How long after its own connection has fallen silent a client gives up.
const RESIGNATION: Duration = Duration::from_millis(50);

/// How a round ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// What was waited for has come.
    Met,
    /// ReadyForQuery has come in its place.
    Over,
    /// The connection was closed or reset, or what came is no message.
    Closed,
    /// Nothing came for as long as the client is patient.
    Hung,
    /// The client's own connection is silent.
    Resigned,
}

/// What a client heard in a round.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub(super) messages: Vec<Message>,
    pub(super) ending: Ending,
}

/// A client in the middle of a conversation.
pub(super) struct Talk {
    client: Client,
    /// Tells when its connection falls silent; `None` if that does not happen.
    silent: Option<watch::Receiver<bool>>,
    /// A notification has come, or word that one may have been lost.
    notified: bool,
    cancel: Option<JoinHandle<()>>,
}

impl Drop for Talk {
    fn drop(&mut self) {
        if let Some(cancel) = &self.cancel {
            cancel.abort();
        }
    }
}

impl Reply {
    /// What came up to each ReadyForQuery and, last, behind all of them.
    fn segments(&self) -> impl Iterator<Item = &[Message]> {
        self.messages.split_inclusive(|message| message.tag == b'Z')
    }

    /// The segment that ends with a ReadyForQuery of this number, and whether it does.
    pub(super) fn segment(&self, number: usize) -> (&[Message], bool) {
        let segment = self.segments().nth(number).unwrap_or_default();
        let ready = segment.last().is_some_and(|last| last.tag == b'Z');
        (segment, ready)
    }

    /// The errors that do not belong there, each with whether it was the last word.
    pub(super) fn errors(&self, natural: &[&str]) -> Vec<(String, bool)> {
        errors(&self.messages, natural)
    }

    /// What the last ReadyForQuery says, if that is the end.
    pub(super) fn status(&self) -> Option<u8> {
        let last = self.messages.last().filter(|last| last.tag == b'Z')?;
        last.body.first().copied()
    }
}

/// The errors of these messages that do not belong there, each with whether it was the last word.
pub(super) fn errors(messages: &[Message], natural: &[&str]) -> Vec<(String, bool)> {
    let all = messages.iter().filter(|message| message.tag == b'E');
    let all = all.map(|error| {
        let fatal = error.field(b'V').is_some_and(|word| word != "ERROR");
        (error.field(b'C').unwrap_or_default(), fatal)
    });
    all.filter(|(code, _)| !natural.contains(&code.as_str()))
        .collect()
}

impl Talk {
    /// Goes on with a client that has logged in.
    fn new(client: Client) -> Self {
        Self {
            client,
            silent: None,
            notified: false,
            cancel: None,
        }
    }

    /// The client's connection may fall silent, which it does when this says so.
    pub(super) fn falls_silent(&mut self, silent: watch::Receiver<bool>) {
        self.silent = Some(silent);
    }

    /// Asks, and hears the answer.
    pub(super) async fn perform(&mut self, round: &Round) -> Reply {
        // A connection that is closed already shows when it is read, and so does one that takes nothing.
        let _ = timeout(PATIENCE, self.client.send(&round.send)).await;
        if round.kind == Kind::Cancelled {
            self.cancel = self.cancel_soon();
        }
        self.hear(round).await
    }

    /// Waits until its cancel request has come to its end.
    pub(super) async fn cancelled(&mut self) {
        if let Some(cancel) = self.cancel.as_mut() {
            // One whose connection is silent has none.
            let _ = timeout(NOTICE, cancel).await;
        }
    }

    /// Asks something that is answered with one ReadyForQuery.
    pub(super) async fn ask(&mut self, send: Vec<u8>) -> Reply {
        let round = Round {
            kind: Kind::Read,
            send,
            until: Until::Ready(1),
            natural: &[],
        };
        self.perform(&round).await
    }

    /// Sends a cancel request by the way that the client has come, once its query runs.
    fn cancel_soon(&self) -> Option<JoinHandle<()>> {
        let (process, secret) = self.client.key()?;
        let request = packet::cancel(process, secret);
        let address = self.client.peer();
        Some(tokio::spawn(async move {
            sleep(Duration::from_millis(50)).await;
            if let Ok(mut client) = Client::connect(address).await {
                let _ = client.send(&request).await;
                client.rest().await;
            }
        }))
    }

    async fn hear(&mut self, round: &Round) -> Reply {
        let mut messages = Vec::new();
        let mut ready = 0;
        // What fails in the extended protocol is over with its Sync.
        let mut extended = round.send.first() == Some(&b'P');
        let patience = match round.until {
            Until::Notified => NOTICE,
            _ => PATIENCE,
        };
        let deadline = Instant::now() + patience;
        let mut silent = self.silent.clone();
        let ending = loop {
            if round.until == Until::Notified && self.notified {
                break Ending::Met;
            }
            let heard = tokio::select! {
                biased;
                heard = self.client.message() => heard,
                () = sleep_until(deadline) => break Ending::Hung,
                () = resign(&mut silent) => break Ending::Resigned,
            };
            let Some(message) = heard.ok().flatten() else {
                break Ending::Closed;
            };
            let code = message.field(b'C');
            let tag = message.tag;
            messages.push(message);
            match (tag, round.until) {
                (b'A', _) => self.notified = true,
                (b'N', _) if code.as_deref() == Some("01000") => self.notified = true,
                (b'G', Until::Copy) => break Ending::Met,
                (b'Z', Until::Ready(wanted)) => {
                    ready += 1;
                    if ready == wanted {
                        break Ending::Met;
                    }
                }
                (b'Z', _) => break Ending::Over,
                (b'E', Until::Copy) if extended => {
                    extended = false;
                    let _ = self.client.send(&packet::sync()).await;
                }
                _ => {}
            }
        };
        Reply { messages, ending }
    }
}

async fn resign(silent: &mut Option<watch::Receiver<bool>>) {
    if let Some(silent) = silent
        && silent.wait_for(|silent| *silent).await.is_ok()
    {
        return sleep(RESIGNATION).await;
    }
    std::future::pending().await
}

/// Logs in, as somebody who is trusted or by the password.
pub(super) async fn login(
    address: std::net::SocketAddr,
    user: &str,
    database: &str,
    silent: Option<watch::Receiver<bool>>,
) -> io::Result<Result<Talk, Reply>> {
    let mut client = Client::connect(address).await?;
    let mut silent = silent;
    let parameters = [("user", user), ("database", database)];
    client.set_patience(PATIENCE);
    let answer = tokio::select! {
        answer = client.authenticate(super::stage::PASSWORD, &parameters) => answer,
        () = resign(&mut silent) => {
            let (messages, ending) = (Vec::new(), Ending::Resigned);
            return Ok(Err(Reply { messages, ending }));
        }
    };
    let ending = match answer.end {
        crate::hostile::End::Ready(_) => {
            let mut talk = Talk::new(client);
            talk.silent = silent;
            return Ok(Ok(talk));
        }
        crate::hostile::End::Silent => Ending::Hung,
        _ => Ending::Closed,
    };
    let messages = answer.messages;
    Ok(Err(Reply { messages, ending }))
}
