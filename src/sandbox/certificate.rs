use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use crate::account::Account;
use crate::error::Error;

/// A certificate for `localhost` and `127.0.0.1`, from an authority made for it alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The authority, PEM.
    pub ca: PathBuf,
    /// The certificate, PEM.
    pub cert: PathBuf,
    /// The private key, PEM, readable by its owner alone.
    pub key: PathBuf,
}

impl Certificate {
    /// Writes `ca.crt`, `server.crt` and `server.key` into a directory, owned by `account`.
    ///
    /// # Errors
    /// [`Error::Certificate`] or [`Error::Io`].
    pub fn make(dir: &Path, account: Account) -> Result<Self, Error> {
        let authority_key = KeyPair::generate()?;
        let mut authority = CertificateParams::new(Vec::new())?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        authority
            .distinguished_name
            .push(DnType::CommonName, "pgherd sandbox authority");
        let ca = authority.self_signed(&authority_key)?.pem();
        let issuer = Issuer::new(authority, authority_key);

        let key = KeyPair::generate()?;
        let names = ["localhost", "127.0.0.1"].map(str::to_owned);
        let mut params = CertificateParams::new(names)?;
        params
            .distinguished_name
            .push(DnType::CommonName, "localhost");
        let cert = params.signed_by(&key, &issuer)?.pem();

        let files = Self {
            ca: dir.join("ca.crt"),
            cert: dir.join("server.crt"),
            key: dir.join("server.key"),
        };
        write(&files.ca, &ca, 0o644, account)
            .and_then(|()| write(&files.cert, &cert, 0o644, account))
            .and_then(|()| write(&files.key, &key.serialize_pem(), 0o600, account))
            .map_err(Error::io("write a certificate"))?;
        Ok(files)
    }
}

fn write(path: &Path, text: &str, mode: u32, account: Account) -> io::Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    account.own(path)
}
