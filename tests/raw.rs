use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::Path;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::wait::{PATIENCE, until};

/// A message of the backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its first byte.
    pub tag: char,
    /// What follows its length.
    pub body: Vec<u8>,
}

impl Message {
    /// Gives a field of an ErrorResponse or NoticeResponse, such as `C`, the SQLSTATE.
    pub fn field(&self, name: char) -> Option<String> {
        self.body.split(|byte| *byte == 0).find_map(|field| {
            let (first, rest) = field.split_first()?;
            (char::from(*first) == name).then(|| String::from_utf8_lossy(rest).into_owned())
        })
    }

    /// Gives the columns of a DataRow as text, `NULL` for null.
    ///
    /// # Panics
    /// If it is none.
    pub fn columns(&self) -> Vec<String> {
        assert_eq!(self.tag, 'D');
        let mut rest = &self.body[2..];
        let mut columns = Vec::new();
        while let Some((length, after)) = rest.split_at_checked(4) {
            let length = i32::from_be_bytes(length.try_into().expect("four bytes"));
            let (value, after) = after.split_at(usize::try_from(length).unwrap_or(0));
            columns.push(match length {
                -1 => "NULL".to_owned(),
                _ => String::from_utf8_lossy(value).into_owned(),
            });
            rest = after;
        }
        columns
    }
}

/// What bytes are read from and written to.
trait Wire: AsyncRead + AsyncWrite + Debug + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Debug + Send + Unpin> Wire for T {}

/// A client that writes the protocol byte by byte, by hand.
#[derive(Debug)]
pub struct Raw {
    stream: Box<dyn Wire>,
    /// What ParameterStatus has told.
    pub parameters: BTreeMap<String, String>,
    /// The process number and the secret of BackendKeyData.
    pub key: (u32, Vec<u8>),
}

impl Raw {
    /// Opens a connection and sends nothing.
    ///
    /// # Panics
    /// If nobody listens.
    pub async fn open(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port))
            .await
            .expect("somebody listens");
        stream.set_nodelay(true).expect("no delay");
        Self::over(stream)
    }

    /// Opens a connection to a unix socket and sends nothing. Such a socket may come a moment later
    /// than the port by which a proxy is known to be up.
    ///
    /// # Panics
    /// If nobody listens.
    pub async fn unix(path: &Path) -> Self {
        let mut stream = None;
        until("somebody listens", async || {
            stream = UnixStream::connect(path).await.ok();
            stream.is_some()
        })
        .await;
        Self::over(stream.expect("it was waited for"))
    }

    /// Goes on over a connection that exists.
    pub fn over(stream: impl AsyncRead + AsyncWrite + Debug + Send + Unpin + 'static) -> Self {
        Self {
            stream: Box::new(stream),
            parameters: BTreeMap::new(),
            key: (0, Vec::new()),
        }
    }

    /// Logs in where the user is trusted, or by a password in clear that is the user's name.
    ///
    /// # Panics
    /// If it is refused.
    pub async fn login(port: u16, user: &str, database: &str, more: &[(&str, &str)]) -> Self {
        let entered = Self::open(port).await.enter(user, database, more).await;
        entered.unwrap_or_else(|message| panic!("refused: {message:?}"))
    }

    /// Logs in as [`Raw::login`] does, over this connection.
    ///
    /// # Errors
    /// The message by which it is refused.
    ///
    /// # Panics
    /// If another proof is asked for, or the connection breaks.
    pub async fn enter(
        self,
        user: &str,
        database: &str,
        more: &[(&str, &str)],
    ) -> Result<Self, Message> {
        self.enter_as(0x0003_0000, user, database, more)
            .await
            .map(|(raw, _)| raw)
    }

    /// Logs in as [`Raw::enter`] does, by a version of the protocol; gives what was said about it, the
    /// NegotiateProtocolVersion, if it came before all else.
    ///
    /// # Errors
    /// The message by which it is refused.
    ///
    /// # Panics
    /// If another proof is asked for, or the connection breaks.
    pub async fn enter_as(
        mut self,
        version: u32,
        user: &str,
        database: &str,
        more: &[(&str, &str)],
    ) -> Result<(Self, Option<Message>), Message> {
        let mut parameters = vec![("user", user), ("database", database)];
        parameters.extend(more);
        self.startup(version, &parameters).await;
        let mut negotiated = None;
        let mut is_first = true;
        loop {
            let message = self.message().await;
            let was_first = std::mem::take(&mut is_first);
            match message.tag {
                'v' if was_first => negotiated = Some(message),
                'R' if message.body == [0, 0, 0, 3] => {
                    self.send(&Self::framed(b'p', format!("{user}\0").as_bytes()))
                        .await;
                }
                'R' => assert_eq!(message.body, [0, 0, 0, 0], "trust is expected"),
                'S' => self.note(&message),
                'K' => {
                    let number = message.body[..4].try_into().expect("four bytes");
                    self.key = (u32::from_be_bytes(number), message.body[4..].to_vec());
                }
                'Z' => return Ok((self, negotiated)),
                _ => return Err(message),
            }
        }
    }

    /// Sends a startup packet.
    pub async fn startup(&mut self, version: u32, parameters: &[(&str, &str)]) {
        let mut body = version.to_be_bytes().to_vec();
        for (name, value) in parameters {
            body.extend_from_slice(format!("{name}\0{value}\0").as_bytes());
        }
        body.push(0);
        self.send(&Self::framed(0, &body)[1..]).await;
    }

    /// Sends a CancelRequest on a connection of its own, and waits until the other side closes it.
    ///
    /// # Panics
    /// If the other side answers.
    pub async fn cancel(port: u16, key: &(u32, Vec<u8>)) {
        let mut raw = Self::open(port).await;
        let mut body = 80_877_102_u32.to_be_bytes().to_vec();
        body.extend(key.0.to_be_bytes());
        body.extend(&key.1);
        raw.send(&Self::framed(0, &body)[1..]).await;
        assert_eq!(
            raw.end().await,
            Vec::<u8>::new(),
            "a cancel request has no answer"
        );
    }

    /// Makes a message of a tag and a body.
    pub fn framed(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).expect("a short body");
        let mut bytes = vec![tag];
        bytes.extend(length.to_be_bytes());
        bytes.extend(body);
        bytes
    }

    /// Makes a Query.
    pub fn query(text: &str) -> Vec<u8> {
        Self::framed(b'Q', format!("{text}\0").as_bytes())
    }

    /// Makes a Parse without types.
    pub fn parse(name: &str, text: &str) -> Vec<u8> {
        Self::framed(b'P', format!("{name}\0{text}\0\0\0").as_bytes())
    }

    /// Makes a Bind of the portal `portal` with text values and text results.
    pub fn bind(portal: &str, statement: &str, values: &[&str]) -> Vec<u8> {
        let mut body = format!("{portal}\0{statement}\0\0\0").into_bytes();
        body.extend(
            u16::try_from(values.len())
                .expect("few values")
                .to_be_bytes(),
        );
        for value in values {
            body.extend(
                u32::try_from(value.len())
                    .expect("a short value")
                    .to_be_bytes(),
            );
            body.extend(value.as_bytes());
        }
        body.extend([0, 0]);
        Self::framed(b'B', &body)
    }

    /// Makes a Describe; `kind` is `S` for a statement, `P` for a portal.
    pub fn describe(kind: char, name: &str) -> Vec<u8> {
        Self::framed(b'D', format!("{kind}{name}\0").as_bytes())
    }

    /// Makes a Close; `kind` is `S` for a statement, `P` for a portal.
    pub fn close(kind: char, name: &str) -> Vec<u8> {
        Self::framed(b'C', format!("{kind}{name}\0").as_bytes())
    }

    /// Makes an Execute; `rows` of 0 is all.
    pub fn execute(portal: &str, rows: u32) -> Vec<u8> {
        let mut body = format!("{portal}\0").into_bytes();
        body.extend(rows.to_be_bytes());
        Self::framed(b'E', &body)
    }

    /// Makes a Sync.
    pub fn sync() -> Vec<u8> {
        Self::framed(b'S', b"")
    }

    /// Makes a Flush.
    pub fn flush() -> Vec<u8> {
        Self::framed(b'H', b"")
    }

    /// Sends bytes.
    ///
    /// # Panics
    /// If the connection is broken.
    pub async fn send(&mut self, bytes: &[u8]) {
        let send = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        let sent = timeout(PATIENCE, send).await;
        sent.expect("the other side reads")
            .expect("the connection holds");
    }

    /// Reads a byte without a frame, such as the answer to SSLRequest.
    ///
    /// # Panics
    /// If none comes.
    pub async fn byte(&mut self) -> u8 {
        let read = timeout(PATIENCE, self.stream.read_u8()).await;
        read.expect("an answer in time")
            .expect("the connection holds")
    }

    /// Reads so many bytes, wherever messages begin and end.
    ///
    /// # Panics
    /// If they do not come.
    pub async fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        let read = timeout(PATIENCE, self.stream.read_exact(&mut bytes)).await;
        read.expect("bytes in time").expect("the connection holds");
        bytes
    }

    /// Reads the next message.
    ///
    /// # Panics
    /// If none comes, or the connection ends.
    pub async fn message(&mut self) -> Message {
        self.next().await.expect("the connection holds")
    }

    /// Reads up to the end of the connection; gives the code and the hint of the last error, which are empty without one.
    ///
    /// # Panics
    /// If it does not end in time.
    pub async fn farewell(&mut self) -> (String, String) {
        let mut last = (String::new(), String::new());
        while let Some(message) = self.next().await {
            if message.tag == 'E' {
                let field = |name| message.field(name).unwrap_or_default();
                last = (field('C'), field('H'));
            }
        }
        last
    }

    /// Reads the next message; `None` if the connection has ended.
    ///
    /// # Panics
    /// If neither happens in time.
    pub async fn next(&mut self) -> Option<Message> {
        let read = async {
            let tag = self.stream.read_u8().await.ok()?;
            let length = self.stream.read_u32().await.ok()?;
            let length = usize::try_from(length.checked_sub(4)?).ok()?;
            let mut body = vec![0; length];
            self.stream.read_exact(&mut body).await.ok()?;
            Some(Message {
                tag: char::from(tag),
                body,
            })
        };
        timeout(PATIENCE, read).await.expect("a message in time")
    }

    /// Reads until ReadyForQuery, which is the last message given.
    ///
    /// # Panics
    /// If the connection ends before.
    pub async fn ready(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        loop {
            let message = self.message().await;
            if message.tag == 'S' {
                self.note(&message);
            }
            let last = message.tag == 'Z';
            messages.push(message);
            if last {
                return messages;
            }
        }
    }

    /// Sends bytes, and gives the tags and the SQLSTATEs of all answers up to ReadyForQuery, as
    /// in `1 2 D C ZI` or `E42601 ZE`. Notices and ParameterStatus are left out.
    pub async fn ask(&mut self, bytes: &[u8]) -> String {
        self.send(bytes).await;
        let messages = self.ready().await;
        brief(&messages)
    }

    /// Sends a simple query and gives the first column of its only row.
    ///
    /// # Panics
    /// If it gives anything else.
    pub async fn one(&mut self, query: &str) -> String {
        self.send(&Self::query(query)).await;
        let messages = self.ready().await;
        let mut rows = messages.iter().filter(|message| message.tag == 'D');
        let row = rows
            .next()
            .unwrap_or_else(|| panic!("{query}: {messages:?}"));
        assert!(rows.next().is_none(), "{query}: {messages:?}");
        row.columns().remove(0)
    }

    /// Reads everything until the other side closes, and gives it.
    ///
    /// # Panics
    /// If it does not close.
    pub async fn end(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let read = timeout(PATIENCE, self.stream.read_to_end(&mut rest)).await;
        // A reset is an end, too.
        let _ = read.expect("the other side closes");
        rest
    }

    fn note(&mut self, message: &Message) {
        let mut words = message
            .body
            .split(|byte| *byte == 0)
            .map(String::from_utf8_lossy);
        if let (Some(name), Some(value)) = (words.next(), words.next()) {
            self.parameters
                .insert(name.into_owned(), value.into_owned());
        }
    }
}

/// Writes messages down in short, as [`Raw::ask`] gives them.
fn brief(messages: &[Message]) -> String {
    let words = messages.iter().filter_map(|message| match message.tag {
        'N' | 'S' => None,
        'E' => Some(format!("E{}", message.field('C').unwrap_or_default())),
        'Z' => Some(format!("Z{}", char::from(message.body[0]))),
        tag => Some(tag.to_string()),
    });
    words.collect::<Vec<_>>().join(" ")
}
