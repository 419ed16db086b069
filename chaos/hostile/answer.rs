//! What was heard from the other side.

use std::fmt;

/// One message of a server.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// Its kind.
    pub tag: u8,
    /// What follows its length.
    pub body: Vec<u8>,
}

/// How listening ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With ReadyForQuery, which said this.
    Ready(u8),
    /// The other side asked for something during login: this is the code of its request.
    Asked(u32),
    /// The connection was closed or reset.
    Closed,
    /// Nothing more came for as long as the client is patient.
    Silent,
}

/// Everything up to an end.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    /// The messages, ReadyForQuery among them.
    pub messages: Vec<Message>,
    /// How it ended.
    pub end: End,
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.body.get(..200).unwrap_or(&self.body);
        write!(f, "{}({})", char::from(self.tag), shown.escape_ascii())
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.messages.get(..20).unwrap_or(&self.messages);
        write!(
            f,
            "{:?} after {} messages: {shown:?}",
            self.end,
            self.messages.len()
        )
    }
}

impl Message {
    /// A field of an ErrorResponse or NoticeResponse.
    pub fn field(&self, kind: u8) -> Option<String> {
        let mut fields = self.body.split(|byte| *byte == 0);
        let found = fields.find(|field| field.first() == Some(&kind))?;
        Some(String::from_utf8_lossy(&found[1..]).into_owned())
    }
}

impl Answer {
    /// The SQLSTATE of the first error.
    pub fn code(&self) -> Option<String> {
        self.error()?.field(b'C')
    }

    /// The first error.
    pub fn error(&self) -> Option<&Message> {
        self.messages.iter().find(|message| message.tag == b'E')
    }

    /// The first column of the only row.
    pub fn value(&self) -> Option<String> {
        let mut rows = self.messages.iter().filter(|message| message.tag == b'D');
        let (row, None) = (rows.next()?, rows.next()) else {
            return None;
        };
        Some(String::from_utf8_lossy(row.body.get(6..)?).into_owned())
    }

    /// The tags in their order.
    pub fn tags(&self) -> String {
        self.messages
            .iter()
            .map(|message| char::from(message.tag))
            .collect()
    }

    /// Whether any message holds these bytes.
    pub fn says(&self, words: &str) -> bool {
        let held = |message: &Message| {
            message
                .body
                .windows(words.len())
                .any(|window| window == words.as_bytes())
        };
        self.messages.iter().any(held)
    }
}
