//! What a client may have asked, and what a server answers, sound or bent.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::{Owed, Undo};

/// Something that was sent to the server, and whose answer is owed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ask {
    Query(usize),
    CopyIn,
    CopyOut(usize),
    Setup,
    FunctionCall,
    Sync,
    Parse(bool),
    Bind,
    DescribeStatement,
    DescribePortal,
    Execute(usize),
    ExtendedCopyIn,
    Close(bool),
    CopyEnd,
    Local,
    Fail,
}

pub(super) fn ask() -> impl Strategy<Value = Ask> {
    let rows = 0..6_usize;
    prop_oneof![
        3 => rows.clone().prop_map(Ask::Query),
        1 => Just(Ask::CopyIn),
        1 => rows.clone().prop_map(Ask::CopyOut),
        2 => Just(Ask::Setup),
        1 => Just(Ask::FunctionCall),
        5 => Just(Ask::Sync),
        3 => any::<bool>().prop_map(Ask::Parse),
        3 => Just(Ask::Bind),
        1 => Just(Ask::DescribeStatement),
        1 => Just(Ask::DescribePortal),
        3 => rows.prop_map(Ask::Execute),
        1 => Just(Ask::ExtendedCopyIn),
        1 => any::<bool>().prop_map(Ask::Close),
        1 => Just(Ask::CopyEnd),
        2 => Just(Ask::Local),
        1 => Just(Ask::Fail),
    ]
}

/// The reply that is given in the place of the server's.
pub(super) const LOCAL: &[u8] = b"3\0\0\0\x04";

impl Ask {
    pub(super) fn owed(self) -> Owed<()> {
        let undo = || Undo::Parsed {
            on_server: None,
            by_client: None,
        };
        match self {
            Self::Query(_) | Self::CopyIn | Self::CopyOut(_) => Owed::Query,
            Self::Setup => Owed::Setup,
            Self::FunctionCall => Owed::FunctionCall,
            Self::Sync => Owed::Sync,
            Self::Parse(hidden) => Owed::Parse {
                hidden,
                undo: undo(),
            },
            Self::Bind => Owed::Bind { of: None },
            Self::DescribeStatement => Owed::DescribeStatement {
                hidden: false,
                of: None,
            },
            Self::DescribePortal => Owed::DescribePortal { of: None },
            Self::Execute(_) | Self::ExtendedCopyIn => Owed::Execute,
            Self::Close(hidden) => Owed::Close {
                hidden,
                undo: undo(),
            },
            Self::CopyEnd => Owed::CopyEnd,
            Self::Local => Owed::Local {
                reply: LOCAL,
                undo: undo(),
            },
            Self::Fail => Owed::Fail((*b"E\0\0\0\x09Mno\0\0").into()),
        }
    }

    /// What a sound server says to it.
    fn answer(self, out: &mut Vec<u8>) {
        let mut say = |tag: u8, body: &[u8]| message(out, tag, body);
        match self {
            Self::Query(rows) => {
                say(b'T', b"\0\0");
                (0..rows).for_each(|row| say(b'D', &[0, 0, b'x'][..3 - row % 2]));
                say(b'C', b"SELECT 1\0");
                say(b'Z', b"I");
            }
            Self::CopyIn => {
                say(b'G', b"\0\0\0");
                say(b'C', b"COPY 1\0");
                say(b'Z', b"I");
            }
            Self::CopyOut(rows) => {
                say(b'H', b"\0\0\0");
                (0..rows).for_each(|_| say(b'd', b"row\n"));
                say(b'c', b"");
                say(b'C', b"COPY 1\0");
                say(b'Z', b"T");
            }
            Self::Setup => {
                say(b'S', b"a\0b\0");
                say(b'C', b"SET\0");
                say(b'Z', b"I");
            }
            Self::FunctionCall => {
                say(b'V', b"\xff\xff\xff\xff");
                say(b'Z', b"I");
            }
            Self::Sync => say(b'Z', b"I"),
            Self::Parse(_) => say(b'1', b""),
            Self::Bind => say(b'2', b""),
            Self::DescribeStatement => {
                say(b't', b"\0\0");
                say(b'n', b"");
            }
            Self::DescribePortal => say(b'n', b""),
            Self::Execute(rows) => {
                (0..rows).for_each(|_| say(b'D', b"\0\0"));
                say(b's', b"");
            }
            Self::ExtendedCopyIn => {
                say(b'G', b"\0\0\0");
                say(b'C', b"COPY 1\0");
            }
            Self::Close(_) => say(b'3', b""),
            Self::Fail => say(b'E', b"SERROR\0C26000\0Mno\0\0"),
            Self::CopyEnd | Self::Local => {}
        }
    }
}

/// Appends a message.
pub(super) fn message(out: &mut Vec<u8>, tag: u8, body: &[u8]) {
    let length = u32::try_from(body.len() + 4).expect("short");
    out.push(tag);
    out.extend(length.to_be_bytes());
    out.extend(body);
}

/// What a sound server says to all of them.
pub(super) fn answers(asks: &[Ask]) -> Vec<u8> {
    let mut out = Vec::new();
    asks.iter().for_each(|ask| ask.answer(&mut out));
    out
}

/// What is done to a stream: bytes are set, put in, or left out.
#[derive(Debug, Clone)]
pub(super) enum Bend {
    Set(usize, u8),
    Word(usize, u32),
    Insert(usize, Vec<u8>),
    Remove(usize, usize),
}

pub(super) fn bends() -> impl Strategy<Value = Vec<Bend>> {
    let at = 0..300_usize;
    let word = prop_oneof![0..300_u32, Just(u32::MAX), Just(0x3fff_fff0), any::<u32>()];
    let error = {
        let mut out = Vec::new();
        message(&mut out, b'E', b"SERROR\0C42601\0Mno\0\0");
        out
    };
    let insert = prop_oneof![vec(any::<u8>(), 1..9), Just(error)];
    let bend = prop_oneof![
        3 => (at.clone(), any::<u8>()).prop_map(|(at, byte)| Bend::Set(at, byte)),
        2 => (at.clone(), word).prop_map(|(at, word)| Bend::Word(at, word)),
        2 => (at.clone(), insert).prop_map(|(at, bytes)| Bend::Insert(at, bytes)),
        2 => (at, 1..20_usize).prop_map(|(at, count)| Bend::Remove(at, count)),
    ];
    vec(bend, 0..4)
}

impl Bend {
    pub(super) fn apply(&self, bytes: &mut Vec<u8>) {
        let size = bytes.len();
        if size == 0 {
            return;
        }
        match self {
            Self::Set(at, byte) => bytes[at % size] = *byte,
            Self::Word(at, word) => {
                let at = at % size;
                let end = size.min(at + 4);
                bytes[at..end].copy_from_slice(&word.to_be_bytes()[..end - at]);
            }
            Self::Insert(at, more) => {
                let at = at % size;
                bytes.splice(at..at, more.iter().copied());
            }
            Self::Remove(at, count) => {
                let at = at % size;
                bytes.drain(at..size.min(at + count));
            }
        }
    }
}
