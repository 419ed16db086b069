//! TLS towards Patroni, made ready from what the configuration says.

use std::collections::HashMap;

use pgherd_config::{Config, PatroniTls, Scheme};
use pgherd_net::{HttpsTls, Identity, TlsSetupError};

use crate::router::roots;

/// TLS towards Patroni, by the name of the database's section; only of those that have a source by https.
#[derive(Debug, Default)]
pub struct SourceTls(HashMap<String, HttpsTls>);

/// A file of this setting cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("databases.{database}.patroni_tls.{key}: {source}")]
pub struct SourceTlsError {
    database: String,
    key: &'static str,
    source: TlsSetupError,
}

impl SourceTls {
    /// Reads the files that a configuration names.
    ///
    /// # Errors
    /// [`SourceTlsError`] for the first that cannot be used.
    pub fn of(config: &Config) -> Result<Self, SourceTlsError> {
        let mut all = HashMap::new();
        for (name, database) in &config.databases {
            let mut sources = database.patroni.iter();
            if sources.any(|source| source.scheme == Scheme::Https) {
                let tls = prepare(&database.patroni_tls);
                let tls = tls.map_err(|(key, source)| SourceTlsError {
                    database: name.clone(),
                    key,
                    source,
                })?;
                all.insert(name.clone(), tls);
            }
        }
        Ok(Self(all))
    }

    /// That of a database; `None` if no source of it is asked by https.
    pub(super) fn towards(&self, name: &str) -> Option<&HttpsTls> {
        self.0.get(name)
    }
}

/// TLS as these settings say, or which of them is at fault.
fn prepare(wanted: &PatroniTls) -> Result<HttpsTls, (&'static str, TlsSetupError)> {
    let roots = roots(&wanted.ca).map_err(|error| ("ca", error))?;
    let identity = match (&wanted.cert, &wanted.key) {
        (Some(cert), Some(key)) => Some(Identity::from_files(cert, key)),
        _ => None,
    };
    let own = |error| ("cert", error);
    let identity = identity.transpose().map_err(own)?;
    HttpsTls::new(roots, identity).map_err(own)
}
