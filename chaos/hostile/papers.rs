//! A certificate for the proxy.

use std::io;

use pgherd_sandbox::{Account, Certificate};
use tempfile::TempDir;

/// A certificate in a directory that is removed with it.
#[derive(Debug)]
pub struct Papers {
    certificate: Certificate,
    _directory: TempDir,
}

impl Papers {
    /// Makes one for `localhost`.
    ///
    /// # Errors
    /// As the system says.
    pub fn make() -> io::Result<Self> {
        let directory = TempDir::new()?;
        let made = Certificate::make(directory.path(), Account::Own);
        Ok(Self {
            certificate: made.map_err(io::Error::other)?,
            _directory: directory,
        })
    }

    /// The certificate itself.
    pub(crate) fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The section of the proxy's configuration that shows it to clients.
    pub fn section(&self) -> String {
        let Certificate { cert, key, .. } = &self.certificate;
        format!("[tls]\nmode = \"prefer\"\ncert = {cert:?}\nkey = {key:?}\n")
    }
}
