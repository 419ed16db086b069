//! One end of the comparison: a client of Postgres, or of pgherd.

use std::time::Duration;

use pgherd_tests::{Message, Raw};
use tokio::time::timeout;

use crate::request::Request;
use crate::transcript;

/// How long an answer may take; less than what the harness waits.
const PATIENCE: Duration = Duration::from_secs(25);
/// How long a notification may take that another server's client has already.
const SOON: Duration = Duration::from_secs(5);

/// A client, and what it has heard beside answers.
#[derive(Debug)]
pub(crate) struct Side {
    raw: Raw,
    heard: Vec<String>,
}

/// What was said to a request.
#[derive(Debug, Default)]
pub(crate) struct Said {
    /// In lines.
    pub(crate) lines: Vec<String>,
    /// Where the transaction stands; None if the connection is lost.
    pub(crate) status: Option<char>,
}

impl Side {
    pub(crate) async fn login(port: u16, database: &str) -> Self {
        let more = [("application_name", crate::stage::APPLICATION)];
        Self {
            raw: Raw::login(port, "app", database, &more).await,
            heard: Vec::new(),
        }
    }

    /// The process number that the client was told.
    pub(crate) fn number(&self) -> u32 {
        self.raw.key.0
    }

    /// Sends a request and reads the answer to its end. `data` gives what a COPY is to read.
    pub(crate) async fn perform(
        &mut self,
        request: &Request,
        data: &mut impl FnMut() -> String,
    ) -> Said {
        self.raw.send(&request.bytes()).await;
        let mut unsynced = request.is_unsynced();
        let mut said = Said::default();
        loop {
            let message = match timeout(PATIENCE, self.raw.next()).await {
                Ok(Some(message)) => message,
                Ok(None) => {
                    said.lines.push("the connection is lost".to_owned());
                    return said;
                }
                Err(_) => {
                    said.lines.push("no answer comes".to_owned());
                    return said;
                }
            };
            if let Some(line) = self.line(&message) {
                said.lines.push(line);
            }
            match message.tag {
                'Z' => {
                    said.status = message.body.first().copied().map(char::from);
                    return said;
                }
                'G' => {
                    let mut bytes = Raw::framed(b'd', data().as_bytes());
                    bytes.extend(Raw::framed(b'c', b""));
                    if unsynced {
                        unsynced = false;
                        bytes.extend(Raw::sync());
                    }
                    self.raw.send(&bytes).await;
                }
                // Nothing more comes before a Sync.
                'C' | 'E' | 'I' | 's' if unsynced => {
                    unsynced = false;
                    self.raw.send(&Raw::sync()).await;
                }
                _ => {}
            }
        }
    }

    fn line(&mut self, message: &Message) -> Option<String> {
        match message.tag {
            'A' => {
                let (pid, text) = message.body.split_at(4);
                let own = pid == self.raw.key.0.to_be_bytes();
                let whose = if own { "own" } else { "another's" };
                let text = String::from_utf8_lossy(text).replace('\0', " ");
                self.heard.push(format!("Notification {whose} {text}"));
                None
            }
            'S' => {
                let text = String::from_utf8_lossy(&message.body).into_owned();
                let (name, value) = text.trim_end_matches('\0').split_once('\0')?;
                let known = self
                    .raw
                    .parameters
                    .insert(name.to_owned(), value.to_owned());
                let news = known.as_deref() != Some(value);
                news.then(|| format!("ParameterStatus {name}={value}"))
            }
            _ => Some(transcript::line(message)),
        }
    }

    /// What a connection has said that has ended unasked.
    pub(crate) async fn farewell(&mut self) -> Vec<String> {
        let mut lines = vec!["the connection is lost, unasked".to_owned()];
        while let Ok(Some(message)) = timeout(SOON, self.raw.next()).await {
            lines.extend(self.line(&message));
        }
        lines
    }

    /// How many notifications have come.
    pub(crate) fn heard(&self) -> usize {
        self.heard.len()
    }

    /// The notifications that have come, but waits until there are as many as `count`.
    pub(crate) async fn hear(&mut self, count: usize) -> Vec<String> {
        while self.heard.len() < count {
            let Ok(Some(message)) = timeout(SOON, self.raw.next()).await else {
                break;
            };
            if let Some(line) = self.line(&message) {
                self.heard.push(format!("unasked {line}"));
            }
        }
        std::mem::take(&mut self.heard)
    }
}
