//! Which databases and users a rule is for.

use std::fmt;

use regex::Regex;

use crate::hba::fault::RuleFault;
use crate::hba::token::{Token, write_name};

/// A regular expression, written `/expression`. It need not fit from end to end.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

impl Pattern {
    /// Takes what follows the slash.
    pub(crate) fn new(expression: &str) -> Result<Self, RuleFault> {
        Regex::new(expression).map(Self).map_err(|error| {
            let text = error.to_string();
            let why = text.lines().last().unwrap_or_default();
            let why = why.strip_prefix("error: ").unwrap_or(why).to_owned();
            RuleFault::Expression(expression.to_owned(), why)
        })
    }

    /// Takes a word that begins with a slash; in quotes, too, it is an expression.
    pub(crate) fn of(token: &Token) -> Option<Result<Self, RuleFault>> {
        token.text.strip_prefix('/').map(Self::new)
    }

    /// Tells whether a name fits.
    pub(crate) fn fits(&self, name: &str) -> bool {
        self.0.is_match(name)
    }

    /// Gives what the first group took; `None` if the name does not fit, or without the group.
    pub(crate) fn first_group<'a>(&self, name: &'a str) -> Option<&'a str> {
        self.0.captures(name)?.get(1).map(|group| group.as_str())
    }

    /// Tells whether there is a group.
    pub(crate) fn has_group(&self) -> bool {
        self.0.captures_len() > 1
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Pattern {}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let expression = self.0.as_str();
        if expression.contains(|c: char| c.is_ascii_whitespace() || "\",#".contains(c)) {
            write!(f, "\"/{}\"", expression.replace('"', "\"\""))
        } else {
            write!(f, "/{expression}")
        }
    }
}

/// Which databases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatabaseName {
    /// Every one.
    All,
    /// The one with the user's name.
    SameUser,
    /// None, but physical replication, which nothing else is for.
    Replication,
    /// The one of this name.
    Named(String),
    /// Those that fit.
    Fits(Pattern),
}

/// Which users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserName {
    /// Every one.
    All,
    /// The one of this name.
    Named(String),
    /// Those that fit.
    Fits(Pattern),
}

const DATABASES: [&str; 5] = ["all", "sameuser", "samerole", "samegroup", "replication"];
const USERS: [&str; 1] = ["all"];

impl DatabaseName {
    pub(crate) fn read(token: &Token) -> Result<Self, RuleFault> {
        if token.is("samerole") || token.is("samegroup") {
            return Err(RuleFault::SameRole(token.text.clone()));
        }
        Ok(if token.is("all") {
            Self::All
        } else if token.is("sameuser") {
            Self::SameUser
        } else if token.is("replication") {
            Self::Replication
        } else if let Some(pattern) = Pattern::of(token) {
            Self::Fits(pattern?)
        } else {
            Self::Named(token.text.clone())
        })
    }

    pub(super) fn fits(&self, database: &str, user: &str) -> bool {
        match self {
            Self::All => true,
            Self::SameUser => database == user,
            Self::Replication => false,
            Self::Named(name) => name == database,
            Self::Fits(pattern) => pattern.fits(database),
        }
    }
}

impl UserName {
    pub(crate) fn read(token: &Token) -> Result<Self, RuleFault> {
        if token.text.starts_with('+') && !token.quoted {
            return Err(RuleFault::Member(token.text.clone()));
        }
        Ok(if token.is("all") {
            Self::All
        } else if let Some(pattern) = Pattern::of(token) {
            Self::Fits(pattern?)
        } else {
            Self::Named(token.text.clone())
        })
    }

    pub(super) fn fits(&self, user: &str) -> bool {
        match self {
            Self::All => true,
            Self::Named(name) => name == user,
            Self::Fits(pattern) => pattern.fits(user),
        }
    }
}

impl fmt::Display for DatabaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::SameUser => f.write_str("sameuser"),
            Self::Replication => f.write_str("replication"),
            Self::Named(name) => write_name(f, name, &DATABASES),
            Self::Fits(pattern) => pattern.fmt(f),
        }
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Named(name) => write_name(f, name, &USERS),
            Self::Fits(pattern) => pattern.fmt(f),
        }
    }
}
