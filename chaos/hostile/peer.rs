//! One connection of a hostile server.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::attack::{Opening, Step, welcome};
use super::packet;
use super::scram::Stage;
use super::server::Script;

/// The largest packet that is read.
const PACKET_MAX: usize = 16 << 20;

/// One connection.
pub(super) struct Peer {
    stream: TcpStream,
    script: Arc<Script>,
    /// What ReadyForQuery says.
    status: u8,
    /// The text of the last Parse.
    parsed: String,
}

impl Peer {
    pub(super) fn new(stream: TcpStream, script: Arc<Script>) -> Self {
        Self {
            stream,
            script,
            status: b'I',
            parsed: String::new(),
        }
    }

    /// From the first packet to the last.
    pub(super) async fn live(mut self) -> io::Result<()> {
        self.stream.set_nodelay(true)?;
        let healthy = self.script.healthy.load(Ordering::SeqCst);
        let opening = if healthy {
            Opening::Trust
        } else {
            self.script.opening.clone()
        };
        if !self.is_login(&opening).await? {
            return Ok(());
        }
        match opening {
            Opening::Trust | Opening::Encryption(_) => {
                self.send(&packet::authentication(0, &[])).await?;
                self.send(&welcome()).await?;
            }
            Opening::Scram(lie) => {
                let mut stage = Stage::new("secret", lie);
                self.send(&stage.offer()).await?;
                let (_, first) = self.message().await?;
                self.send(&stage.challenge(&first)).await?;
                let (_, last) = self.message().await?;
                self.send(&stage.verdict(&last)).await?;
                self.send(&welcome()).await?;
            }
            Opening::Steps(steps) => self.perform(&steps, b"").await?,
        }
        self.serve().await
    }

    /// Reads packets without tags up to the start-up packet; false for a cancel request.
    async fn is_login(&mut self, opening: &Opening) -> io::Result<bool> {
        loop {
            let length = self.stream.read_u32().await? as usize;
            let packet = self.body(length).await?;
            let code = packet
                .first_chunk::<4>()
                .map_or(0, |code| u32::from_be_bytes(*code));
            match code {
                packet::SSL => match opening {
                    Opening::Encryption(answer) => self.send(answer).await?,
                    _ => self.send(b"N").await?,
                },
                packet::GSSENC => self.send(b"N").await?,
                packet::CANCEL => {
                    self.script.cancels.fetch_add(1, Ordering::SeqCst);
                    return Ok(false);
                }
                _ => {
                    self.script.logins.fetch_add(1, Ordering::SeqCst);
                    return Ok(true);
                }
            }
        }
    }

    async fn serve(&mut self) -> io::Result<()> {
        loop {
            let (tag, body) = self.message().await?;
            match tag {
                b'Q' => {
                    let text = text(&body);
                    if !self.attack(&text, b"").await? {
                        let answer = self.answer(&text);
                        self.send(&answer).await?;
                        self.send(&packet::ready(self.status)).await?;
                    }
                }
                b'P' => {
                    let after_name = body
                        .iter()
                        .position(|byte| *byte == 0)
                        .map_or(0, |at| at + 1);
                    self.parsed = text(&body[after_name..]);
                    self.send(&packet::message(b'1', &[])).await?;
                }
                b'B' => self.send(&packet::message(b'2', &[])).await?,
                b'C' => self.send(&packet::message(b'3', &[])).await?,
                b'D' => self.send(&packet::message(b'n', &[])).await?,
                b'E' => {
                    let text = self.parsed.clone();
                    if self.is_attacked_by(&text) {
                        // Its Sync is answered in the same breath: a word too much must not come when the connection is
                        // somebody else's, who could not tell it from an answer.
                        let _sync = self.message().await?;
                        let ready = packet::ready(self.status);
                        self.attack(&text, &ready).await?;
                    } else {
                        let answer = match word(&text).as_str() {
                            "BEGIN" | "COMMIT" | "ROLLBACK" => self.answer(&text),
                            _ => [packet::row(name(&text)), packet::complete("SELECT 1")].concat(),
                        };
                        self.send(&answer).await?;
                    }
                }
                b'S' => self.send(&packet::ready(self.status)).await?,
                b'X' => return Ok(()),
                _ => {}
            }
        }
    }

    /// Whether anything is written under the name in the text.
    fn is_attacked_by(&self, text: &str) -> bool {
        let mut attacks = self.script.attacks.iter();
        attacks.any(|attack| attack.name == name(text))
    }

    /// Does what is written under the name in the text, and says the rest with the end of it; false if nothing is.
    async fn attack(&mut self, text: &str, rest: &[u8]) -> io::Result<bool> {
        let script = Arc::clone(&self.script);
        let Some(attack) = script
            .attacks
            .iter()
            .find(|attack| attack.name == name(text))
        else {
            return Ok(false);
        };
        self.perform(&attack.steps, rest).await?;
        Ok(true)
    }

    /// The answer of a healthy server.
    fn answer(&mut self, text: &str) -> Vec<u8> {
        let word = word(text);
        match word.as_str() {
            "BEGIN" => self.status = b'T',
            "COMMIT" | "ROLLBACK" => self.status = b'I',
            "SELECT" => return packet::rows(name(text)),
            _ => {}
        }
        packet::complete(&word)
    }

    async fn perform(&mut self, steps: &[Step], rest: &[u8]) -> io::Result<()> {
        let last = steps.len().saturating_sub(1);
        for (at, step) in steps.iter().enumerate() {
            match step {
                Step::Send(bytes) if at == last => {
                    return self.send(&[bytes, rest].concat()).await;
                }
                Step::Send(bytes) => self.send(bytes).await?,
                Step::Drip(bytes) => {
                    for byte in bytes {
                        self.send(&[*byte]).await?;
                        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                    }
                }
                Step::Flood(bytes, times) => {
                    for _ in 0..*times {
                        self.send(bytes).await?;
                    }
                }
                Step::Hang => {
                    let mut ignored = [0; 1024];
                    while self.stream.read(&mut ignored).await? > 0 {}
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
                Step::Close => return Err(io::ErrorKind::ConnectionAborted.into()),
            }
        }
        self.send(rest).await
    }

    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    async fn message(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let tag = self.stream.read_u8().await?;
        let length = self.stream.read_u32().await? as usize;
        Ok((tag, self.body(length).await?))
    }

    async fn body(&mut self, length: usize) -> io::Result<Vec<u8>> {
        if !(4..=PACKET_MAX).contains(&length) {
            return Err(io::Error::other("the proxy sent an impossible length"));
        }
        let mut body = vec![0; length - 4];
        self.stream.read_exact(&mut body).await?;
        Ok(body)
    }
}

/// The first word of a text, in capitals.
fn word(text: &str) -> String {
    let word = text.split_whitespace().next().unwrap_or_default();
    word.trim_end_matches(';').to_ascii_uppercase()
}

/// Text up to its NUL.
fn text(body: &[u8]) -> String {
    let end = body
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(body.len());
    String::from_utf8_lossy(&body[..end]).into_owned()
}

/// What stands between the first two quotes.
fn name(text: &str) -> &str {
    text.split('\'').nth(1).unwrap_or_default()
}
