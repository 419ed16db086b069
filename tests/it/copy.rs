//! COPY, whole and cut off at any point: neither side may be out of step afterwards.

mod alike;
mod cut;
mod ended;
mod within;

use pgherd_tests::Raw;

/// The two ways to ask for a COPY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Simple,
    Extended,
}

impl Protocol {
    const BOTH: [Self; 2] = [Self::Simple, Self::Extended];

    /// What begins a statement, up to where its answer or its data are due.
    fn begin(self, statement: &str) -> Vec<u8> {
        match self {
            Self::Simple => Raw::query(statement),
            Self::Extended => [
                Raw::parse("", statement),
                Raw::bind("", "", &[]),
                Raw::execute("", 0),
            ]
            .concat(),
        }
    }

    /// What ends it: nothing, or a Sync.
    fn end(self) -> Vec<u8> {
        match self {
            Self::Simple => Vec::new(),
            Self::Extended => Raw::sync(),
        }
    }

    /// A whole statement.
    fn statement(self, statement: &str) -> Vec<u8> {
        [self.begin(statement), self.end()].concat()
    }
}

fn data(text: &str) -> Vec<u8> {
    Raw::framed(b'd', text.as_bytes())
}

fn done() -> Vec<u8> {
    Raw::framed(b'c', b"")
}

fn fail() -> Vec<u8> {
    Raw::framed(b'f', b"changed my mind\0")
}
