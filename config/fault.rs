use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// In pgherd itself, `default.toml`.
    Default {
        /// The line, from 1.
        line: usize,
    },
    /// In a file of the operator's.
    File {
        /// The file.
        file: Arc<PathBuf>,
        /// The line, from 1.
        line: usize,
    },
    /// In an environment variable of this name.
    Variable(Arc<str>),
    /// On the command line, under this name.
    Argument(Arc<str>),
    /// Nowhere: it is missed.
    Nowhere,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default { line } => write!(f, "default.toml:{line}"),
            Self::File { file, line } => write!(f, "{}:{line}", file.display()),
            Self::Variable(name) | Self::Argument(name) => f.write_str(name),
            Self::Nowhere => f.write_str("configuration"),
        }
    }
}

/// What is wrong with a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The file is not TOML.
    #[error("{0}")]
    Syntax(String),
    /// There is no such key; the nearest that there is.
    #[error("no such setting{}", near.as_deref().map(|near| format!(", perhaps `{near}`")).unwrap_or_default())]
    Unknown {
        /// A known key that is written nearly so.
        near: Option<String>,
    },
    /// The value is of the wrong type or out of range, as it was written.
    #[error("{0} is not allowed")]
    Value(String),
    /// The key must be there.
    #[error("is missing")]
    Missing,
    /// The key is set in two files.
    #[error("is already set at {0}")]
    Twice(Origin),
    /// The same value stands twice in a list.
    #[error("{0} is there twice")]
    Repeated(String),
    /// A file cannot be used.
    #[error("{}: {why}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// Why it cannot be used.
        why: String,
    },
    /// Two settings cannot both hold.
    #[error("{0}")]
    Contradiction(String),
    /// A connection URL cannot be used.
    #[error(transparent)]
    Url(#[from] crate::url::UrlFault),
}

/// Something wrong in the configuration, or, as a warning, something odd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where it was written.
    pub origin: Origin,
    /// The path of the setting, such as `pool.size`; empty for a file as a whole.
    pub path: String,
    /// What is wrong.
    pub problem: Problem,
    /// What would be right, in words; empty if there is nothing to say.
    pub allowed: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.origin)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        write!(f, "{}", self.problem)?;
        if !self.allowed.is_empty() {
            write!(f, " (allowed: {})", self.allowed)?;
        }
        Ok(())
    }
}

/// All that is wrong in a configuration; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults(pub(crate) Vec<Fault>);

impl Faults {
    /// Gives each fault, by file and line.
    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.0.iter()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, fault) in self.0.iter().enumerate() {
            if number > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// What was found while reading.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) faults: Vec<Fault>,
    pub(crate) warnings: Vec<Fault>,
}

impl Findings {
    pub(crate) fn fault(
        &mut self,
        origin: &Origin,
        path: impl Into<String>,
        problem: Problem,
        allowed: impl Into<String>,
    ) {
        let fault = Fault {
            origin: origin.clone(),
            path: path.into(),
            problem,
            allowed: allowed.into(),
        };
        self.faults.push(fault);
    }

    pub(crate) fn warn(&mut self, origin: &Origin, path: impl Into<String>, what: &str) {
        let problem = Problem::Contradiction(what.to_owned());
        let warning = Fault {
            origin: origin.clone(),
            path: path.into(),
            problem,
            allowed: String::new(),
        };
        self.warnings.push(warning);
    }
}
