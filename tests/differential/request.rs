//! How a statement is sent.

use pgherd_tests::{Raw, Statement};

/// The ways of sending a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mode {
    /// Each statement in a Query.
    Simple,
    /// Several statements in a Query.
    Whole,
    /// Parse, Bind, Describe, Execute and Sync, all without names.
    Unnamed,
    /// Prepared under a name, with a Sync behind, and then run.
    Named,
}

impl Mode {
    pub(crate) const ALL: [Self; 4] = [Self::Simple, Self::Whole, Self::Unnamed, Self::Named];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Simple => "simple",
            Self::Whole => "whole",
            Self::Unnamed => "unnamed",
            Self::Named => "named",
        }
    }

    /// How many statements go into one message.
    pub(crate) fn together(self) -> usize {
        match self {
            Self::Whole => 3,
            Self::Simple | Self::Unnamed | Self::Named => 1,
        }
    }
}

/// So many names are in use at a time; noisy clients use them too.
pub(crate) const NAMES: usize = 4;

/// What is sent up to an answer's end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// A Query.
    Query(String),
    /// A statement without a name; without a Sync if it may read data.
    Unnamed { text: String, reads_on: bool },
    /// A statement is prepared and described; the name's former statement is closed.
    Prepare { name: String, text: String },
    /// A prepared statement is run; without a Sync if it may read data.
    Run { name: String, reads_on: bool },
}

impl Request {
    /// The requests that a statement makes in a mode; `number` counts statements.
    pub(crate) fn of(statement: &Statement, mode: Mode, number: usize) -> Vec<Self> {
        let text = statement.text.clone();
        let reads_on = statement.reads_on();
        match mode {
            Mode::Simple | Mode::Whole => vec![Self::Query(text + ";")],
            // What is several statements can only be sent so.
            Mode::Unnamed | Mode::Named if statement.several => vec![Self::Query(text + ";")],
            Mode::Unnamed => vec![Self::Unnamed { text, reads_on }],
            Mode::Named => {
                let name = format!("named{}", number % NAMES);
                let prepare = Self::Prepare {
                    name: name.clone(),
                    text,
                };
                vec![prepare, Self::Run { name, reads_on }]
            }
        }
    }

    /// Whether its Sync is still to be sent.
    pub(crate) fn is_unsynced(&self) -> bool {
        matches!(
            self,
            Self::Unnamed { reads_on: true, .. } | Self::Run { reads_on: true, .. }
        )
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let run = |statement: &str| {
            [
                Raw::bind("", statement, &[]),
                Raw::describe('P', ""),
                Raw::execute("", 0),
                if self.is_unsynced() {
                    Raw::flush()
                } else {
                    Raw::sync()
                },
            ]
            .concat()
        };
        match self {
            Self::Query(text) => Raw::query(text),
            Self::Unnamed { text, .. } => [Raw::parse("", text), run("")].concat(),
            Self::Prepare { name, text } => [
                Raw::close('S', name),
                Raw::parse(name, text),
                Raw::describe('S', name),
                Raw::sync(),
            ]
            .concat(),
            Self::Run { name, .. } => run(name),
        }
    }
}
