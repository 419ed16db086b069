use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

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
    let pem = |text: &str| CertificateDer::from_pem_slice(text.as_bytes()).expect("PEM");
    let mut roots = RootCertStore::empty();
    roots.add(pem(&authority.certificate)).expect("a root");
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots);
    match own {
        None => builder.with_no_client_auth(),
        Some(paper) => {
            let key = PrivateKeyDer::try_from(paper.key.serialize_der()).expect("a key");
            let chain = vec![pem(&paper.certificate)];
            builder.with_client_auth_cert(chain, key).expect("a pair")
        }
    }
}
