//! The packets that open a connection, before messages have tags.
//!
//! Source: PostgreSQL documentation, "Message Flow: Start-up" and "SSL Session Encryption", and
//! the behaviour of `ProcessStartupPacket`. There is no 3.1 of its own: Postgres takes a client
//! that asks for it, without negotiation, as one of 3.0.

use bytes::{BufMut, BytesMut};
use thiserror::Error;

use crate::backend::negotiate_protocol_version;
use crate::cancel::{CancelKey, SECRET_LEN};
use crate::frame::{MAX_MESSAGE, TooLong, begin_untagged, put_string};
use crate::read::Reader;
use crate::sqlstate::{
    FEATURE_NOT_SUPPORTED, INVALID_AUTHORIZATION_SPECIFICATION, PROTOCOL_VIOLATION, SqlState,
};

#[cfg(test)]
mod tests;

/// The longest start-up packet in bytes, its length word not counted, as in Postgres.
pub const STARTUP_MAX: usize = 10_000;

const CANCEL_CODE: u32 = 1234 << 16 | 5678;
const SSL_CODE: u32 = 1234 << 16 | 5679;
const GSSENC_CODE: u32 = 1234 << 16 | 5680;

/// A protocol version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// Changes when the old protocol is not understood any more.
    pub major: u16,
    /// Changes when something is added.
    pub minor: u16,
}

impl Version {
    /// The version of all clients up to 2025.
    pub const V3_0: Self = Self { major: 3, minor: 0 };
    /// The latest version: long cancel keys.
    pub const V3_2: Self = Self { major: 3, minor: 2 };

    /// The version that a word of the protocol says.
    pub fn from_word(word: u32) -> Self {
        let [a, b, c, d] = word.to_be_bytes();
        Self {
            major: u16::from_be_bytes([a, b]),
            minor: u16::from_be_bytes([c, d]),
        }
    }

    /// The word of the protocol.
    pub fn to_word(self) -> u32 {
        u32::from(self.major) << 16 | u32::from(self.minor)
    }

    /// The version that is spoken with a client that asks for this one.
    pub fn spoken(self) -> Self {
        self.min(Self::V3_2)
    }

    /// Bytes of the cancel secret that Postgres gives a client of this version.
    pub fn secret_len(self) -> usize {
        if self >= Self::V3_2 { 32 } else { 4 }
    }
}

/// A first packet that opens nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StartupError {
    /// Shorter or longer than any start-up packet.
    #[error("invalid length of startup packet")]
    Length(u32),
    /// A cancel request whose key has a length that the protocol does not allow.
    #[error("invalid length of query cancel packet")]
    CancelLength(usize),
    /// A protocol that is not 3.x.
    #[error(
        "unsupported frontend protocol {}.{}: server supports 3.0 to 3.2", .0.major, .0.minor
    )]
    Version(Version),
    /// The parameters do not end with the packet.
    #[error("invalid startup packet layout: expected terminator as last byte")]
    Layout,
    /// A name or a value that is not UTF-8.
    #[error("startup parameter \"{0}\" is not valid UTF-8")]
    NotUtf8(String),
    /// Nobody wants to log in.
    #[error("no PostgreSQL user name specified in startup packet")]
    NoUser,
}

impl StartupError {
    /// Whether the client is told. Postgres keeps it to itself where the length is wrong, for then the
    /// client may speak anything.
    pub fn is_told(&self) -> bool {
        !matches!(self, Self::Length(_) | Self::CancelLength(_))
    }

    /// The refusal in the form of protocol 2, for a client that reads no other: a text without a length. Postgres, too,
    /// speaks it for this and nothing else (`send_message_to_frontend`); a version of 0.x is none of its clients'.
    pub fn in_old_form(&self) -> Option<Vec<u8>> {
        match self {
            Self::Version(version) if version.major < 3 && version.to_word() != 0 => {
                Some(format!("EFATAL:  {self}\n\0").into_bytes())
            }
            _ => None,
        }
    }

    /// The code that Postgres gives it.
    pub fn code(&self) -> SqlState {
        match self {
            Self::Version(_) => FEATURE_NOT_SUPPORTED,
            Self::NoUser => INVALID_AUTHORIZATION_SPECIFICATION,
            Self::Length(_) | Self::CancelLength(_) | Self::Layout | Self::NotUtf8(_) => {
                PROTOCOL_VIOLATION
            }
        }
    }
}

/// What the first packet of a connection may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening {
    /// TLS is asked for. Bytes behind this packet must end the connection.
    SslRequest,
    /// GSSAPI encryption is asked for. Bytes behind this packet must end the connection.
    GssEncRequest,
    /// Another connection's work is to be cancelled.
    Cancel(CancelKey),
    /// A login.
    Startup(Startup),
}

/// A login: who, where to, and the first parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Startup {
    /// The version that the client asks for, of major 3.
    pub version: Version,
    /// Names and values in the client's order, `user` and `database` among them.
    ///
    /// Bytes of an `application_name` that are not UTF-8 are written as `\xNN`, as Postgres does.
    pub parameters: Vec<(String, String)>,
}

/// Reads the first packet; `None` while it is not whole, else the packet and its bytes.
///
/// # Errors
/// What Postgres refuses as well. Nothing is kept of a length above [`STARTUP_MAX`].
pub fn opening(buf: &[u8]) -> Result<Option<(Opening, usize)>, StartupError> {
    let Some((word, rest)) = buf.split_first_chunk::<4>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*word);
    let size = usize::try_from(length)
        .unwrap_or(usize::MAX)
        .saturating_sub(4);
    if !(4..=STARTUP_MAX).contains(&size) || length > MAX_MESSAGE {
        return Err(StartupError::Length(length));
    }
    // A wrong protocol is known before the packet is whole.
    let Some((code, _)) = rest.split_first_chunk::<4>() else {
        return Ok(None);
    };
    let code = u32::from_be_bytes(*code);
    let version = Version::from_word(code);
    if ![SSL_CODE, GSSENC_CODE, CANCEL_CODE].contains(&code) && version.major != 3 {
        return Err(StartupError::Version(version));
    }
    let Some(body) = rest.get(4..size) else {
        return Ok(None);
    };
    let opening = match code {
        SSL_CODE | GSSENC_CODE if !body.is_empty() => return Err(StartupError::Length(length)),
        SSL_CODE => Opening::SslRequest,
        GSSENC_CODE => Opening::GssEncRequest,
        CANCEL_CODE => Opening::Cancel(cancel(body)?),
        _ => Opening::Startup(Startup {
            version,
            parameters: parameters(body)?,
        }),
    };
    Ok(Some((opening, size + 4)))
}

fn cancel(body: &[u8]) -> Result<CancelKey, StartupError> {
    let wrong = StartupError::CancelLength(body.len());
    let mut reader = Reader::new(body);
    let Ok(pid) = reader.i32() else {
        return Err(wrong);
    };
    CancelKey::new(pid, reader.rest()).map_err(|_| wrong)
}

fn parameters(body: &[u8]) -> Result<Vec<(String, String)>, StartupError> {
    let mut reader = Reader::new(body);
    let mut parameters = Vec::new();
    loop {
        let name = reader.string().map_err(|_| StartupError::Layout)?;
        if name.is_empty() {
            break;
        }
        let value = reader.string().map_err(|_| StartupError::Layout)?;
        let not_utf8 = || StartupError::NotUtf8(String::from_utf8_lossy(name).into_owned());
        let name = std::str::from_utf8(name).map_err(|_| not_utf8())?;
        let value = match std::str::from_utf8(value) {
            Ok(value) => value.to_owned(),
            Err(_) if name == "application_name" => value.escape_ascii().to_string(),
            Err(_) => return Err(not_utf8()),
        };
        parameters.push((name.to_owned(), value));
    }
    reader.end().map_err(|_| StartupError::Layout)?;
    Ok(parameters)
}

impl Startup {
    /// The value of a parameter; the last one counts, as in Postgres.
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut named = self
            .parameters
            .iter()
            .rev()
            .filter(|(known, _)| known == name);
        named.next().map(|(_, value)| &**value)
    }

    /// Who logs in, by a name of the length that names have.
    ///
    /// # Errors
    /// No user, or an empty one.
    pub fn user(&self) -> Result<&str, StartupError> {
        self.get("user")
            .filter(|user| !user.is_empty())
            .map(cut)
            .ok_or(StartupError::NoUser)
    }

    /// The database; named like the user where none is given.
    ///
    /// # Errors
    /// As [`Startup::user`], where it is needed.
    pub fn database(&self) -> Result<&str, StartupError> {
        match self.get("database").filter(|database| !database.is_empty()) {
            Some(database) => Ok(cut(database)),
            None => self.user(),
        }
    }

    /// The parameters other than user, database, options, replication and protocol options: those
    /// that set something.
    pub fn settings(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self
            .parameters
            .iter()
            .map(|(name, value)| (&**name, &**value));
        all.filter(|(name, _)| !is_protocols(name))
    }
}

/// The longest name in bytes, `NAMEDATALEN - 1`.
const NAME_MAX: usize = 63;

/// Cuts a name as `ProcessStartupPacket` does, so that nobody is known by more names than the server knows; but only between
/// two characters.
fn cut(name: &str) -> &str {
    let mut ends = (0..=NAME_MAX.min(name.len())).rev();
    let end = ends.find(|end| name.is_char_boundary(*end)).unwrap_or(0);
    name.split_at(end).0
}

/// Whether a name in a start-up packet is a word of the protocol, which sets nothing in the session.
pub fn is_protocols(name: &str) -> bool {
    const WORDS: [&str; 4] = ["user", "database", "options", "replication"];
    WORDS.contains(&name) || name.starts_with("_pq_.")
}

/// The NegotiateProtocolVersion that a client must get before anything else; `None` when
/// everything that it asks for is known.
pub fn negotiate(startup: &Startup) -> Option<Vec<u8>> {
    let names = startup.parameters.iter().map(|(name, _)| name.as_bytes());
    let unknown: Vec<&[u8]> = names.filter(|name| name.starts_with(b"_pq_.")).collect();
    if startup.version <= Version::V3_2 && unknown.is_empty() {
        return None;
    }
    let mut out = BytesMut::new();
    negotiate_protocol_version(&mut out, startup.version.spoken(), &unknown).ok()?;
    Some(out.to_vec())
}

/// SSLRequest.
pub fn ssl_request(out: &mut BytesMut) {
    out.put_u32(8);
    out.put_u32(SSL_CODE);
}

/// StartupMessage.
///
/// # Errors
/// Longer than [`STARTUP_MAX`], which no server takes; nothing is written then.
pub fn startup(
    out: &mut BytesMut,
    version: Version,
    parameters: &[(&str, &str)],
) -> Result<(), TooLong> {
    let sizes = parameters
        .iter()
        .map(|(name, value)| name.len() + value.len() + 2);
    let size = sizes.fold(5_usize, usize::saturating_add);
    if size > STARTUP_MAX {
        return Err(TooLong(size));
    }
    let start = begin_untagged(out);
    out.put_u32(version.to_word());
    for (name, value) in parameters {
        put_string(out, name.as_bytes());
        put_string(out, value.as_bytes());
    }
    out.put_u8(0);
    start.finish(out)
}

/// CancelRequest.
pub fn cancel_request(out: &mut BytesMut, key: &CancelKey) {
    debug_assert!(
        SECRET_LEN.contains(&key.secret().len()),
        "checked when the key was made"
    );
    let start = begin_untagged(out);
    out.put_u32(CANCEL_CODE);
    out.put_i32(key.pid);
    out.extend_from_slice(key.secret());
    let built = start.finish(out);
    debug_assert!(built.is_ok(), "a key has at most 256 bytes");
}
