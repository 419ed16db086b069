use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use pgherd_sandbox::{Account, Home};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// A certificate authority of a test's own, with a directory that is removed with it.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate, PEM.
    pub certificate: String,
    home: Home,
}

/// A certificate and its private key, PEM.
#[derive(Debug)]
pub struct Paper {
    /// The certificate.
    pub certificate: String,
    /// The private key.
    pub key: KeyPair,
}

impl Authority {
    /// Makes one.
    ///
    /// # Panics
    /// If the directory cannot be made.
    pub fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let name = "pgherd test authority";
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.self_signed(&key).expect("signed").pem();
        Self {
            issuer: Issuer::new(params, key),
            certificate,
            home: Home::new(Account::Own).expect("a directory for papers"),
        }
    }

    /// Issues a certificate for a common name, which is good for a server on this machine as well.
    ///
    /// # Panics
    /// If the name cannot stand in a certificate.
    pub fn issue(&self, name: &str) -> Paper {
        let key = KeyPair::generate().expect("a key");
        let hosts = ["localhost", "127.0.0.1"].map(str::to_owned);
        let mut params = CertificateParams::new(hosts).expect("names");
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        Paper {
            certificate: certificate.pem(),
            key,
        }
    }

    /// Writes a certificate and its key into files of a name.
    ///
    /// # Panics
    /// If they cannot be written.
    pub fn write(&self, name: &str, paper: &Paper) -> (PathBuf, PathBuf) {
        let file = |ending: &str, text: &str| {
            let path = self.home.join(&format!("{name}.{ending}"));
            fs::write(&path, text).expect("written");
            let ours = fs::Permissions::from_mode(0o600);
            fs::set_permissions(&path, ours).expect("changed");
            path
        };
        (
            file("crt", &paper.certificate),
            file("key", &paper.key.serialize_pem()),
        )
    }

    /// Gives the section `[tls]` of a proxy that has a certificate of this authority, and believes
    /// those of clients.
    ///
    /// # Panics
    /// If the files cannot be written.
    pub fn section(&self, mode: &str) -> String {
        let (cert, key) = self.write("proxy", &self.issue("localhost"));
        let ca = self.home.join("ca.crt");
        fs::write(&ca, &self.certificate).expect("written");
        format!("[tls]\nmode = \"{mode}\"\ncert = {cert:?}\nkey = {key:?}\nca = {ca:?}\n")
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}
