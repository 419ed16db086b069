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

/// A message's tag, and its body if that was wanted.
type Message = (u8, Vec<u8>);

/// What a query gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The columns' names, and the numbers of their types.
    pub(crate) columns: Vec<(String, u32)>,
    /// The rows as they came, each a whole DataRow without its header.
    pub(crate) rows: Vec<Vec<u8>>,
}

impl Answer {
    /// The first column as text, a row a line.
    pub(crate) fn lines(&self) -> String {
        let first = |row: &Vec<u8>| match row.get(2..).map(first_value) {
            Some(Some(value)) => String::from_utf8_lossy(value).into_owned(),
            _ => String::new(),
        };
        self.rows.iter().map(first).collect::<Vec<_>>().join("\n")
    }
}

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

    /// Sends these pieces, each of whole lines, to a COPY FROM STDIN.
    pub(crate) async fn copy_pieces(
        &mut self,
        query: &str,
        pieces: &[String],
    ) -> Result<(), Error> {
        self.send(&frame(b'Q', &text(query))).await?;
        self.until(b'G').await?;
        for piece in pieces {
            self.send(&frame(b'd', piece.as_bytes())).await?;
        }
        self.send(&frame(b'c', b"")).await?;
        self.until(b'Z').await.map(drop)
    }

    /// Asks a query and keeps what it gives.
    pub(crate) async fn answer(&mut self, query: &str) -> Result<Answer, Error> {
        self.send(&frame(b'Q', &text(query))).await?;
        let mut answer = Answer::default();
        let mut refused = None;
        loop {
            let (tag, body) = self.next(b"ETD").await?;
            match tag {
                b'E' => refused = Some(fields(&body)),
                b'T' => answer.columns = columns(&body).unwrap_or_default(),
                b'D' => answer.rows.push(body),
                b'Z' => break,
                _ => {}
            }
        }
        match refused {
            Some(error) => Err(Error::Refused(error)),
            None => Ok(answer),
        }
    }

    /// Asks a query whose first column is a number, and counts the rows, which must come in its order.
    pub(crate) async fn ascending(&mut self, query: &str) -> Result<u64, Error> {
        self.send(&frame(b'Q', &text(query))).await?;
        let (mut rows, mut last) = (0, i64::MIN);
        loop {
            let (tag, body) = self.next(b"ED").await?;
            match tag {
                b'E' => return Err(Error::Refused(fields(&body))),
                b'Z' => return Ok(rows),
                b'D' => {
                    let value = body.get(2..).and_then(first_value);
                    let value = value.and_then(|it| std::str::from_utf8(it).ok());
                    let number = value.and_then(|it| it.parse().ok());
                    match number {
                        Some(number) if number >= last => last = number,
                        _ => {
                            return Err(Error::Unexpected {
                                what: "the order of the rows",
                                text: format!("{value:?} behind {last}"),
                            });
                        }
                    }
                    rows += 1;
                }
                _ => {}
            }
        }
    }

    async fn next(&mut self, wanted: &[u8]) -> Result<Message, Error> {
        self.message(wanted)
            .await
            .map_err(Error::io("read from the server"))
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
            let (found, body) = self.next(b"E").await?;
            if found == b'E' {
                return Err(Error::Refused(fields(&body)));
            }
            if matches!(found, b'D' | b'd') {
                rows += 1;
            }
            if found == tag {
                return Ok(rows);
            }
        }
    }

    /// Reads a message: a tag, a length that counts itself, and a body, which is skipped unless its tag is wanted.
    async fn message(&mut self, wanted: &[u8]) -> io::Result<Message> {
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
            if wanted.contains(&tag) {
                body.extend_from_slice(&self.buffer[self.start..self.start + step]);
            }
            self.start += step;
            left -= step;
        }
        Ok((tag, body))
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

/// The first value of a row, behind the number of its columns; `None` if it is NULL.
fn first_value(values: &[u8]) -> Option<&[u8]> {
    let (length, rest) = values.split_first_chunk::<4>()?;
    rest.get(..usize::try_from(i32::from_be_bytes(*length)).ok()?)
}

/// The names and types of a RowDescription.
fn columns(body: &[u8]) -> Option<Vec<(String, u32)>> {
    let (count, mut rest) = body.split_first_chunk::<2>()?;
    let mut found = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let end = rest.iter().position(|byte| *byte == 0)?;
        let name = String::from_utf8_lossy(&rest[..end]).into_owned();
        // The table and the column's number in it, then the type, its size and modifier, and the format.
        let (fields, after) = rest[end + 1..].split_first_chunk::<18>()?;
        let oid = [fields[6], fields[7], fields[8], fields[9]];
        found.push((name, u32::from_be_bytes(oid)));
        rest = after;
    }
    Some(found)
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
    fn rows_and_their_columns_are_read() {
        let body = b"\0\x01n\0\0\0\0\x09\0\x01\0\0\0\x14\0\x08\xff\xff\xff\xff\0\0";
        assert_eq!(columns(body), Some(vec![("n".to_owned(), 20)]));
        assert_eq!(columns(b"\0\x01n"), None);
        assert_eq!(first_value(b"\0\0\0\x0212rest"), Some(&b"12"[..]));
        assert_eq!(first_value(b"\xff\xff\xff\xff"), None);
        let answer = Answer {
            columns: Vec::new(),
            rows: vec![b"\0\x01\0\0\0\x01a".to_vec(), b"\0\x01\0\0\0\x01b".to_vec()],
        };
        assert_eq!(answer.lines(), "a\nb");
    }

    #[test]
    fn errors_show_code_and_message() {
        assert_eq!(fields(b"SERROR\0C28000\0Mno\0\0"), "28000 no");
    }
}
