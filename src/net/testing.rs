//! What the tests of this crate share: an authority with its certificates, and both ends of a connection.

use std::net::SocketAddr;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};

use crate::tls::{ClientTls, Identity, Roots, ServerTls, ServerTlsOptions, SslMode};
use crate::{Listener, SocketOptions, Stream, Target, connect};

/// A certificate authority that lives for one test.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "authority");
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    pub(crate) fn roots(&self) -> Roots {
        Roots::from_pem(self.pem.as_bytes()).unwrap()
    }

    pub(crate) fn issue(&self, common_name: &str, names: &[&str]) -> Identity {
        self.sign(params(common_name, names))
    }

    pub(crate) fn issue_expired(&self, common_name: &str, names: &[&str]) -> Identity {
        self.sign(expired(params(common_name, names)))
    }

    fn sign(&self, params: CertificateParams) -> Identity {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity::from_pem(certificate.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap()
    }
}

/// A certificate that is its own authority, as `openssl req -x509` makes them.
pub(crate) fn self_signed(names: &[&str]) -> (Identity, Roots) {
    self_sign(params("self", names))
}

pub(crate) fn self_signed_expired(names: &[&str]) -> (Identity, Roots) {
    self_sign(expired(params("self", names)))
}

fn self_sign(mut params: CertificateParams) -> (Identity, Roots) {
    let key = KeyPair::generate().unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = params.self_signed(&key).unwrap().pem();
    let identity = Identity::from_pem(pem.as_bytes(), key.serialize_pem().as_bytes()).unwrap();
    (identity, Roots::from_pem(pem.as_bytes()).unwrap())
}

fn params(common_name: &str, names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params
}

fn expired(mut params: CertificateParams) -> CertificateParams {
    params.not_before = date_time_ymd(2001, 1, 1);
    params.not_after = date_time_ymd(2002, 1, 1);
    params
}

pub(crate) fn listener() -> (Listener, Target) {
    let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0)), 16, false).unwrap();
    let target = Target::Tcp {
        host: "127.0.0.1".to_owned(),
        port: listener.local().unwrap().port(),
    };
    (listener, target)
}

pub(crate) async fn accept(listener: &Listener) -> Stream {
    let accepted = listener.accept().await.unwrap();
    accepted.into_stream(&SocketOptions::default()).unwrap()
}

/// Both ends of a connection over TCP.
pub(crate) async fn pair() -> (Stream, Stream) {
    let (listener, target) = listener();
    let options = SocketOptions::default();
    let (near, far) = tokio::join!(connect(&target, &options), accept(&listener));
    (near.unwrap(), far)
}

/// Both ends of a connection under TLS, by direct negotiation; the near one has connected.
pub(crate) async fn tls_pair() -> (Stream, Stream) {
    let (listener, target) = listener();
    let identity = Authority::new().issue("server", &["127.0.0.1"]);
    let client_tls = ClientTls::new(SslMode::Require, identity, None).unwrap();
    let server_tls = server_tls(SslMode::Require, |options| options.direct = true);
    let options = SocketOptions::default();
    let (near, far) = tokio::join!(crate::connect_tls(&target, &options, &server_tls), async {
        crate::accept_tls_direct(accept(&listener).await, &client_tls).await
    });
    (near.unwrap(), far.unwrap())
}

pub(crate) fn server_tls(mode: SslMode, change: impl FnOnce(&mut ServerTlsOptions)) -> ServerTls {
    let mut options = ServerTlsOptions {
        mode,
        ..ServerTlsOptions::default()
    };
    change(&mut options);
    ServerTls::new(options).unwrap()
}
