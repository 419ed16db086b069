use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::error::Error;

/// Version 3.0 of the protocol, as the startup message says it.
const PROTOCOL: u32 = 196_608;

/// The smallest client that can be measured with: it logs in without a password, asks simple
/// queries, counts rows and throws them away.
#[derive(Debug)]
pub(crate) struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

/// A message's tag and, if it is an error, its fields.
type Message = (u8, Option<String>);

impl Client {
    /// Connects and logs in; `buffer` is the size of the reads.
    pub(crate) async fn connect(
        port: u16,
        user: &str,
        database: &str,
        buffer: usize,
    ) -> Result<Self, Error> {
        let stream = TcpStream::connect(("127.0.0.1", port))
            .await
            .map_err(Error::io("connect"))?;
        stream
            .set_nodelay(true)
            .map_err(Error::io("set TCP_NODELAY"))?;
        let mut client = Self {
            stream,
            buffer: vec![0; buffer],
            start: 0,
            end: 0,
        };
        client.send(&startup(user, database)).await?;
        client.until(b'Z').await?;
        Ok(client)
    }

    /// Asks a query and counts the messages with rows: DataRow or CopyData.
    pub(crate) async fn count(&mut self, query: &str) -> Result<u64, Error> {
        self.send(&frame(b'Q', &text(query))).await?;
        self.until(b'Z').await
    }

    /// Sends `blocks` copies of a block of lines to a COPY FROM STDIN.
    pub(crate) async fn copy_in(
        &mut self,
        query: &str,
        block: &[u8],
        blocks: u64,
    ) -> Result<(), Error> {
        self.send(&frame(b'Q', &text(query))).await?;
        self.until(b'G').await?;
        let data = frame(b'd', block);
        for _ in 0..blocks {
            self.send(&data).await?;
        }
        self.send(&frame(b'c', b"")).await?;
        self.until(b'Z').await.map(drop)
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.stream
            .write_all(bytes)
            .await
            .map_err(Error::io("send to the server"))
    }

    /// Reads messages up to one with this tag, and counts those with rows.
    async fn until(&mut self, tag: u8) -> Result<u64, Error> {
        let mut rows = 0;
        loop {
            let (found, error) = self
                .message()
                .await
                .map_err(Error::io("read from the server"))?;
            if let Some(error) = error {
                return Err(Error::Refused(error));
            }
            if matches!(found, b'D' | b'd') {
                rows += 1;
            }
            if found == tag {
                return Ok(rows);
            }
        }
    }

    /// Reads a message: a tag, a length that counts itself, and a body, which is skipped.
    async fn message(&mut self) -> io::Result<Message> {
        while self.end - self.start < 5 {
            self.fill().await?;
        }
        let header = &self.buffer[self.start..self.start + 5];
        let tag = header[0];
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]);
        self.start += 5;
        let mut left = (length as usize)
            .checked_sub(4)
            .ok_or(io::ErrorKind::InvalidData)?;
        let mut body = Vec::new();
        while left > 0 {
            if self.start == self.end {
                self.fill().await?;
            }
            let step = left.min(self.end - self.start);
            if tag == b'E' {
                body.extend_from_slice(&self.buffer[self.start..self.start + step]);
            }
            self.start += step;
            left -= step;
        }
        Ok((tag, (tag == b'E').then(|| fields(&body))))
    }

    async fn fill(&mut self) -> io::Result<()> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let read = self.stream.read(&mut self.buffer[self.end..]).await?;
        self.end += read;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}

fn startup(user: &str, database: &str) -> Vec<u8> {
    let mut body = PROTOCOL.to_be_bytes().to_vec();
    for word in ["user", user, "database", database, ""] {
        body.extend_from_slice(&text(word));
    }
    let mut message = length(&body).to_vec();
    message.append(&mut body);
    message
}

fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![tag];
    message.extend_from_slice(&length(body));
    message.extend_from_slice(body);
    message
}

/// Gives the length field for a body; the bodies here are all small.
fn length(body: &[u8]) -> [u8; 4] {
    u32::try_from(body.len() + 4)
        .unwrap_or(u32::MAX)
        .to_be_bytes()
}

fn text(word: &str) -> Vec<u8> {
    let mut bytes = word.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

/// Makes one line of the fields of an ErrorResponse.
fn fields(body: &[u8]) -> String {
    String::from_utf8_lossy(body)
        .split('\0')
        .filter(|field| field.starts_with(['C', 'M']))
        .map(|field| &field[1..])
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_count_their_own_length() {
        assert_eq!(frame(b'Q', b"x\0"), b"Q\0\0\0\x06x\0");
        let hello = startup("a", "b");
        assert_eq!(usize::from(hello[3]), hello.len());
        assert!(hello.ends_with(b"user\0a\0database\0b\0\0"));
    }

    #[test]
    fn errors_show_code_and_message() {
        assert_eq!(fields(b"SERROR\0C28000\0Mno\0\0"), "28000 no");
    }
}
