//! Certificates and keys from PEM.

use std::fs;
use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::error::TlsSetupError;

/// A certificate chain, our own first, with its private key.
#[derive(Debug)]
pub struct Identity {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

impl Identity {
    /// From PEM text.
    ///
    /// # Errors
    /// [`TlsSetupError::Pem`].
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, TlsSetupError> {
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| TlsSetupError::Pem {
            what: "private key",
            reason: error.to_string(),
        })?;
        Ok(Self {
            chain: certificates(chain)?,
            key,
        })
    }

    /// From PEM files.
    ///
    /// # Errors
    /// [`TlsSetupError::Read`], [`TlsSetupError::Pem`].
    pub fn from_files(chain: &Path, key: &Path) -> Result<Self, TlsSetupError> {
        Self::from_pem(&read(chain)?, &read(key)?)
    }
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self {
            chain: self.chain.clone(),
            key: self.key.clone_key(),
        }
    }
}

/// The certificates we trust.
#[derive(Clone, Debug)]
pub struct Roots {
    pub(super) store: RootCertStore,
    pub(super) certificates: Vec<CertificateDer<'static>>,
}

impl Roots {
    /// From PEM text of one or more certificates.
    ///
    /// # Errors
    /// [`TlsSetupError`].
    pub fn from_pem(text: &[u8]) -> Result<Self, TlsSetupError> {
        let certificates = certificates(text)?;
        let mut store = RootCertStore::empty();
        for certificate in &certificates {
            store.add(certificate.clone())?;
        }
        Ok(Self {
            store,
            certificates,
        })
    }

    /// From a PEM file of one or more certificates.
    ///
    /// # Errors
    /// [`TlsSetupError`].
    pub fn from_file(path: &Path) -> Result<Self, TlsSetupError> {
        Self::from_pem(&read(path)?)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsSetupError> {
    fs::read(path).map_err(|source| TlsSetupError::Read {
        path: path.to_owned(),
        source,
    })
}

fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsSetupError> {
    let failed = |reason: String| TlsSetupError::Pem {
        what: "certificate",
        reason,
    };
    let found: Vec<_> = CertificateDer::pem_slice_iter(text)
        .collect::<Result<_, _>>()
        .map_err(|error| failed(error.to_string()))?;
    if found.is_empty() {
        return Err(failed("there is none".to_owned()));
    }
    Ok(found)
}
