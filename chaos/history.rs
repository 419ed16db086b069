//! What happened in a run, for who has to find out what went wrong in it.

use std::fmt::{self, Display};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use parking_lot::Mutex;

/// A file with a line for each event: milliseconds since the beginning, who, what.
#[derive(Debug)]
pub struct History {
    began: Instant,
    file: Option<Mutex<BufWriter<File>>>,
    path: PathBuf,
}

impl History {
    /// Begins a file, whose directory is made if it is not there.
    ///
    /// # Errors
    /// As the system says.
    pub fn begin(path: &Path) -> io::Result<Self> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        Ok(Self {
            began: Instant::now(),
            file: Some(Mutex::new(BufWriter::new(File::create(path)?))),
            path: path.to_owned(),
        })
    }

    /// Keeps nothing.
    pub fn none() -> Self {
        Self {
            began: Instant::now(),
            file: None,
            path: PathBuf::new(),
        }
    }

    /// Adds a line.
    pub fn note(&self, who: &str, what: impl Display) {
        if let Some(file) = &self.file {
            let time = self.began.elapsed().as_secs_f64() * 1000.0;
            // A full disk costs the history, not the run.
            let _ = writeln!(file.lock(), "{time:.1} {who} {what}");
        }
    }

    /// Writes out what is still held, and gives the file's place.
    ///
    /// # Errors
    /// As the system says.
    pub fn keep(&self) -> io::Result<&Path> {
        if let Some(file) = &self.file {
            file.lock().flush()?;
        }
        Ok(&self.path)
    }

    /// Removes the file.
    ///
    /// # Errors
    /// As the system says.
    pub fn discard(&self) -> io::Result<()> {
        match self.file {
            Some(_) => fs::remove_file(&self.path),
            None => Ok(()),
        }
    }
}

/// Text on one line.
pub fn joined(parts: &[impl fmt::Debug]) -> String {
    let parts: Vec<String> = parts.iter().map(|part| format!("{part:?}")).collect();
    parts.join(" ")
}
