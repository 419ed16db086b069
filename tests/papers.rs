use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use pgherd_sandbox::{Account, Home};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};

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
        Self::named("pgherd test authority")
    }

    /// Makes one of this name, by which issuers are told apart.
    ///
    /// # Panics
    /// If the directory cannot be made.
    pub fn named(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
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
        self.sign(params(name, &["localhost", "127.0.0.1"]))
    }

    /// Issues a certificate that is good for a server at these hosts alone.
    ///
    /// # Panics
    /// If a host cannot stand in a certificate.
    pub fn issue_for(&self, hosts: &[&str]) -> Paper {
        self.sign(params("elsewhere", hosts))
    }

    /// Issues a certificate as [`Authority::issue`] does, but one that was good years ago.
    ///
    /// # Panics
    /// If the name cannot stand in a certificate.
    pub fn issue_expired(&self, name: &str) -> Paper {
        let mut params = params(name, &["localhost", "127.0.0.1"]);
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
        self.sign(params)
    }

    fn sign(&self, params: CertificateParams) -> Paper {
        let key = KeyPair::generate().expect("a key");
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

    /// Writes its own certificate into a file.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn file(&self) -> PathBuf {
        let file = self.home.join("ca.crt");
        fs::write(&file, &self.certificate).expect("written");
        file
    }

    /// Gives the section `[tls]` of a proxy that has a certificate of this authority, and believes
    /// those of clients.
    ///
    /// # Panics
    /// If the files cannot be written.
    pub fn section(&self, mode: &str) -> String {
        let (cert, key) = self.write("proxy", &self.issue("localhost"));
        let ca = self.file();
        format!("[tls]\nmode = \"{mode}\"\ncert = {cert:?}\nkey = {key:?}\nca = {ca:?}\n")
    }
}

fn params(name: &str, hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut params = CertificateParams::new(hosts).expect("names");
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}
