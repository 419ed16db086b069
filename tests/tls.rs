use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::papers::{Authority, Paper};
use crate::raw::Raw;
use crate::wait::PATIENCE;

/// SSLRequest: its length and the code 80877103 (PostgreSQL manual, "Message Formats").
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// How a client begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Greeting<'a> {
    /// With an SSLRequest, which must be granted.
    Request,
    /// With TLS at once (`sslnegotiation=direct`), offering these protocols (ALPN).
    Direct(&'a [&'a str]),
}

/// Opens a connection to a port on 127.0.0.1 under TLS, of whose other end the authority must
/// vouch, and shows a certificate of one's own, if given.
///
/// # Errors
/// What broke the handshake. Under TLS 1.3 a client is at its end before the other side has
/// checked its certificate.
///
/// # Panics
/// If nobody listens, the request for TLS is refused, or the other side keeps silent.
pub async fn encrypt(
    port: u16,
    authority: &Authority,
    greeting: Greeting<'_>,
    own: Option<&Paper>,
) -> io::Result<Raw> {
    let stream = TcpStream::connect(("127.0.0.1", port))
        .await
        .expect("somebody listens");
    stream.set_nodelay(true).expect("no delay");
    encrypt_over(stream, authority, greeting, own).await
}

/// As [`encrypt`], over a connection that exists, to whoever is at 127.0.0.1.
///
/// # Errors
/// What broke the handshake.
///
/// # Panics
/// If the request for TLS is refused, or the other side keeps silent.
pub async fn encrypt_over(
    mut stream: TcpStream,
    authority: &Authority,
    greeting: Greeting<'_>,
    own: Option<&Paper>,
) -> io::Result<Raw> {
    let mut config = config(authority, own);
    match greeting {
        Greeting::Request => {
            stream.write_all(&SSL_REQUEST).await?;
            assert_eq!(stream.read_u8().await?, b'S', "TLS is refused");
        }
        Greeting::Direct(protocols) => {
            let names = protocols.iter().map(|name| name.as_bytes().to_vec());
            config.alpn_protocols = names.collect();
        }
    }
    let name = ServerName::from(std::net::IpAddr::from(Ipv4Addr::LOCALHOST));
    let handshake = TlsConnector::from(Arc::new(config)).connect(name, stream);
    let stream = timeout(PATIENCE, handshake).await;
    stream
        .expect("the other side says something")
        .map(Raw::over)
}

fn config(authority: &Authority, own: Option<&Paper>) -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots(authority));
    match own {
        None => builder.with_no_client_auth(),
        Some(paper) => {
            let (chain, key) = pair(paper);
            builder.with_client_auth_cert(chain, key).expect("a pair")
        }
    }
}

/// The server's side of TLS, without a protocol's name (ALPN).
#[derive(Clone)]
pub struct Acceptor(TlsAcceptor);

impl Acceptor {
    /// One that shows a certificate, and demands one of an authority's, if given.
    ///
    /// # Panics
    /// If the certificate cannot be used.
    pub fn new(own: &Paper, clients: Option<&Authority>) -> Self {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("versions");
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let roots = Arc::new(roots(authority));
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
                builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
            }
        };
        let (chain, key) = pair(own);
        let config = builder.with_single_cert(chain, key).expect("a pair");
        Self(TlsAcceptor::from(Arc::new(config)))
    }

    /// Takes a client into TLS.
    ///
    /// # Errors
    /// What broke the handshake.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.0.accept(stream).await
    }
}

fn pem(text: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(text.as_bytes()).expect("PEM")
}

fn roots(authority: &Authority) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(pem(&authority.certificate)).expect("a root");
    roots
}

fn pair(paper: &Paper) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let key = PrivateKeyDer::try_from(paper.key.serialize_der()).expect("a key");
    (vec![pem(&paper.certificate)], key)
}
