//! All decoders behind one door, each result as a number, so that comparing takes no memory.

use std::fmt::{self, Debug, Write as _};
use std::hash::{DefaultHasher, Hasher as _};

use crate::backend::{
    Authentication, BackendKeyData, CommandComplete, DataRow, NegotiateProtocolVersion,
    ParameterStatus, ReadyForQuery, RowDescription, tag,
};
use crate::error::ErrorReport;
use crate::frame;
use crate::frontend::{
    Bind, BindHead, Close, Describe, Execute, Parse, Password, Query, SaslInitial, tag as ask,
};
use crate::startup::{self, Opening};

/// The tags of all messages whose bodies are read.
pub(super) const TAGS: &[u8] = b"QPBDCEpRZSKTvNd";

/// Who sends a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// A client that has logged in.
    Client,
    /// A server.
    Server,
    /// A client that has said nothing yet.
    Opening,
}

/// Takes up what is printed, without keeping it.
struct Digest(DefaultHasher);

impl fmt::Write for Digest {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

/// A number for what something prints; equal things give equal numbers.
fn digest(seen: &dyn Debug) -> u64 {
    let mut digest = Digest(DefaultHasher::new());
    write!(digest, "{seen:?}").expect("hashing cannot fail");
    digest.0.finish()
}

/// A number for several things.
fn digest_all(seen: impl Iterator<Item = impl Debug>) -> u64 {
    seen.fold(0, |sum, one| digest(&(sum, one)))
}

/// Reads the body of a client's message.
pub(super) fn frontend(message: u8, body: &[u8]) -> u64 {
    match message {
        ask::QUERY => digest(&Query::parse(body)),
        ask::PARSE => digest(&Parse::parse(body).map(|it| digest_all(it.type_oids()))),
        ask::BIND => digest(&Bind::parse(body).map(|it| (it, digest_all(it.parameters())))),
        ask::DESCRIBE => digest(&Describe::parse(body)),
        ask::CLOSE => digest(&Close::parse(body)),
        ask::EXECUTE => digest(&Execute::parse(body)),
        ask::PASSWORD => {
            let password = Password::parse(body).map(|it| it.text);
            let initial = SaslInitial::parse(body).map(|it| (it.mechanism, it.data));
            digest(&(password, initial))
        }
        other => u64::from(other),
    }
}

/// Reads the body of a server's message.
pub(super) fn backend(message: u8, body: &[u8]) -> u64 {
    match message {
        tag::AUTHENTICATION => digest(&Authentication::parse(body).map(|it| match it {
            Authentication::Sasl(all) => digest_all(all.iter()),
            other => digest(&other),
        })),
        tag::READY_FOR_QUERY => digest(&ReadyForQuery::parse(body)),
        tag::PARAMETER_STATUS => digest(&ParameterStatus::parse(body)),
        tag::BACKEND_KEY_DATA => digest(&BackendKeyData::parse(body).map(|it| (it.pid, it.secret))),
        tag::COMMAND_COMPLETE => digest(&CommandComplete::parse(body)),
        tag::ROW_DESCRIPTION => {
            digest(&RowDescription::parse(body).map(|it| digest_all(it.columns())))
        }
        tag::DATA_ROW => digest(&DataRow::parse(body).map(|it| digest_all(it.values()))),
        tag::NEGOTIATE_PROTOCOL_VERSION => digest(&NegotiateProtocolVersion::parse(body)),
        tag::ERROR_RESPONSE | tag::NOTICE_RESPONSE => {
            digest(&(ErrorReport::peek(body), ErrorReport::parse(body)))
        }
        other => u64::from(other),
    }
}

/// Reads the first packet of a connection, as far as it is there.
pub(super) fn opening(bytes: &[u8]) -> u64 {
    digest(&startup::opening(bytes).map(|found| {
        found.map(|(opening, used)| match &opening {
            Opening::Startup(login) => {
                let settings = digest_all(login.settings());
                digest(&(login.user(), login.database(), settings, used))
            }
            other => digest(&(other, used)),
        })
    }))
}

/// The names at the beginning of a Bind, as far as they are there.
pub(super) fn bind_head(prefix: &[u8]) -> Option<(Vec<u8>, Vec<u8>, usize)> {
    let head = BindHead::parse(prefix).expect("any bytes are a name");
    head.map(|head| (head.portal.to_vec(), head.statement.to_vec(), head.len))
}

/// Reads a stream that comes in slices, up to its end or to what is no message: a number for each
/// message, and for what was wrong at last.
pub(super) fn streamed(side: Side, slices: &[&[u8]]) -> Vec<u64> {
    let (mut pending, mut found) = (Vec::new(), Vec::new());
    let mut side = side;
    for slice in slices {
        pending.extend_from_slice(slice);
        loop {
            match step(&mut side, &pending) {
                Step::Read(number, used) => {
                    found.push(number);
                    pending.drain(..used);
                }
                Step::Wait => break,
                Step::Wrong(number) => {
                    found.push(number);
                    return found;
                }
            }
        }
    }
    found.push(pending.len() as u64);
    found
}

enum Step {
    Read(u64, usize),
    Wait,
    Wrong(u64),
}

fn step(side: &mut Side, pending: &[u8]) -> Step {
    if *side == Side::Opening {
        return match startup::opening(pending) {
            Ok(Some((opening, used))) => {
                // What follows an accepted login are messages with tags.
                if matches!(opening, Opening::Startup(_)) {
                    *side = Side::Client;
                }
                Step::Read(digest(&opening), used)
            }
            Ok(None) => Step::Wait,
            Err(error) => Step::Wrong(digest(&error)),
        };
    }
    let header = match frame::header(pending) {
        Ok(Some(header)) => header,
        Ok(None) => return Step::Wait,
        Err(error) => return Step::Wrong(digest(&error)),
    };
    match pending.get(frame::HEADER_LEN..header.total()) {
        None => Step::Wait,
        Some(body) if *side == Side::Server => {
            Step::Read(backend(header.tag, body), header.total())
        }
        Some(body) => Step::Read(frontend(header.tag, body), header.total()),
    }
}
