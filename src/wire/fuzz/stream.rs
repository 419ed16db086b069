//! Streams of bytes: noise, sound messages, and sound messages that were bent.

use bytes::BytesMut;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::backend::{self, Column, TransactionStatus};
use crate::cancel::CancelKey;
use crate::error::ErrorReport;
use crate::frontend::{self, Target};
use crate::sqlstate::SYNTAX_ERROR;
use crate::startup::{self, Version};

/// What is done to a stream that was sound.
#[derive(Debug, Clone)]
enum Bend {
    Set(usize, u8),
    Insert(usize, Vec<u8>),
    Remove(usize, usize),
    /// Four bytes that look like a count or a length.
    Word(usize, u32),
    Repeat(usize, usize),
    Cut(usize),
}

fn bend() -> impl Strategy<Value = Bend> {
    let at = 0..400_usize;
    let word = prop_oneof![
        Just(0),
        Just(3),
        Just(4),
        Just(u32::MAX),
        Just(i32::MAX as u32),
        Just(1 << 31),
        Just(0x3fff_ffff),
        0..64_u32,
        any::<u32>(),
    ];
    prop_oneof![
        4 => (at.clone(), any::<u8>()).prop_map(|(at, byte)| Bend::Set(at, byte)),
        2 => (at.clone(), vec(any::<u8>(), 1..9)).prop_map(|(at, bytes)| Bend::Insert(at, bytes)),
        2 => (at.clone(), 1..9_usize).prop_map(|(at, count)| Bend::Remove(at, count)),
        4 => (at.clone(), word).prop_map(|(at, word)| Bend::Word(at, word)),
        1 => (at.clone(), 1..40_usize).prop_map(|(at, count)| Bend::Repeat(at, count)),
        1 => at.prop_map(Bend::Cut),
    ]
}

impl Bend {
    fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let size = bytes.len();
        match self {
            Self::Set(at, byte) => bytes[at % size] = *byte,
            Self::Insert(at, more) => {
                let at = at % size;
                bytes.splice(at..at, more.iter().copied());
            }
            Self::Remove(at, count) => {
                let at = at % size;
                bytes.drain(at..size.min(at + count));
            }
            Self::Word(at, word) => {
                let at = at % size;
                let end = size.min(at + 4);
                bytes[at..end].copy_from_slice(&word.to_be_bytes()[..end - at]);
            }
            Self::Repeat(at, count) => {
                let at = at % size;
                let copy = bytes[at..size.min(at + count)].to_vec();
                bytes.extend(copy);
            }
            Self::Cut(at) => bytes.truncate(at % size),
        }
    }
}

/// Noise, sound messages of either side, or such that were bent.
pub(super) fn any_stream() -> impl Strategy<Value = Vec<u8>> {
    let sound = prop_oneof![client(), server(), start()].boxed();
    let bent = (sound.clone(), vec(bend(), 1..5)).prop_map(|(mut bytes, bends)| {
        bends.iter().for_each(|bend| bend.apply(&mut bytes));
        bytes
    });
    prop_oneof![
        1 => vec(any::<u8>(), 0..200),
        1 => sound,
        4 => bent,
    ]
}

/// Sizes of slices.
pub(super) fn cuts() -> impl Strategy<Value = Vec<usize>> {
    vec(1..40_usize, 1..12)
}

/// Cuts bytes into slices of these sizes, over and over.
pub(super) fn slices<'a>(bytes: &'a [u8], sizes: &[usize]) -> Vec<&'a [u8]> {
    let mut rest = bytes;
    let mut slices = Vec::new();
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (slice, behind) = rest.split_at((*size).min(rest.len()));
        slices.push(slice);
        rest = behind;
    }
    slices
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    vec(1_u8..=255, 0..12)
}

fn values() -> impl Strategy<Value = Vec<Option<Vec<u8>>>> {
    vec(option::of(vec(any::<u8>(), 0..9)), 0..5)
}

/// What a writer writes.
fn written(write: impl FnOnce(&mut BytesMut)) -> Vec<u8> {
    let mut out = BytesMut::new();
    write(&mut out);
    out.to_vec()
}

/// Messages of a client, one behind the other.
fn client() -> impl Strategy<Value = Vec<u8>> {
    (name(), name(), values(), vec(any::<u8>(), 0..4)).prop_map(|(name, text, values, which)| {
        let borrowed: Vec<_> = values.iter().map(Option::as_deref).collect();
        written(|out| {
            for choice in which {
                let built = match choice % 10 {
                    0 => frontend::query(out, &text),
                    1 => frontend::parse(out, &name, &text, &[25, 0]),
                    2 => frontend::bind(out, &name, &text, &[1], &borrowed, &[0, 1]),
                    3 => frontend::describe(out, Target::Statement, &name),
                    4 => frontend::execute(out, &name, 7),
                    5 => frontend::close(out, Target::Portal, &name),
                    6 => frontend::copy_data(out, &text),
                    7 => frontend::copy_fail(out, &text),
                    8 => frontend::sasl_initial(out, &name, &text),
                    _ => {
                        frontend::sync(out);
                        Ok(())
                    }
                };
                built.expect("short");
            }
        })
    })
}

/// Messages of a server, one behind the other.
fn server() -> impl Strategy<Value = Vec<u8>> {
    (name(), name(), values(), vec(any::<u8>(), 0..4)).prop_map(|(name, text, values, which)| {
        let borrowed: Vec<_> = values.iter().map(Option::as_deref).collect();
        let message = String::from_utf8_lossy(&text).into_owned();
        let key = CancelKey::new(7, b"a secret").expect("a key");
        written(|out| {
            for choice in which {
                let built = match choice % 11 {
                    0 => backend::row_description(out, &[Column::text("a"), Column::text("b")]),
                    1 => backend::data_row(out, &borrowed),
                    2 => backend::command_complete(out, &name),
                    3 => backend::parameter_status(out, &name, &text),
                    4 => backend::notification(out, 3, &name, &text),
                    5 => backend::authentication_sasl(out, &["SCRAM-SHA-256", "X"]),
                    6 => backend::negotiate_protocol_version(out, Version::V3_2, &[&name, &text]),
                    7 => backend::copy_in_response(out, 0, &[0, 1]),
                    8 => {
                        let report = ErrorReport::error(SYNTAX_ERROR, message.clone());
                        report.detail(message.clone()).encode_error(out);
                        Ok(())
                    }
                    9 => {
                        backend::backend_key_data(out, &key);
                        Ok(())
                    }
                    _ => {
                        backend::ready_for_query(out, TransactionStatus::Failed);
                        Ok(())
                    }
                };
                built.expect("short");
            }
        })
    })
}

/// What a connection begins with.
fn start() -> impl Strategy<Value = Vec<u8>> {
    let pairs = vec(("[^\0]{1,8}", "[^\0]{0,8}"), 0..6);
    (pairs, 0..4_u8).prop_map(|(pairs, which)| {
        let borrowed: Vec<_> = pairs.iter().map(|(a, b)| (&**a, &**b)).collect();
        let key = CancelKey::new(7, b"a secret").expect("a key");
        written(|out| {
            if which == 0 {
                startup::ssl_request(out);
            }
            if which == 1 {
                startup::cancel_request(out, &key);
            }
            startup::startup(out, Version::V3_2, &borrowed).expect("short");
        })
    })
}
