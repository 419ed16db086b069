//! What a relay has to one of its sides: a connection, plain or under TLS.
//!
//! TLS ends in the relay, on the side where pgherd is: so pgherd has TLS to whatever it talks to, and the relay knows
//! where messages begin and end all the same. What is cut is the connection below TLS, without a farewell of its own.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use pgherd_sandbox::Certificate;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

/// SSLRequest: its length and the code 80877103 (PostgreSQL manual, "Message Formats").
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// On which side of a relay TLS is.
#[derive(Clone)]
pub(super) enum Encryption {
    /// On none.
    Nowhere,
    /// On that of who comes, whom this accepts.
    Near(TlsAcceptor),
    /// On that of who is led to.
    Far(TlsConnector),
}

impl std::fmt::Debug for Encryption {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Nowhere => "Nowhere",
            Self::Near(_) => "Near",
            Self::Far(_) => "Far",
        })
    }
}

impl Encryption {
    /// Where pgherd comes to the relay, which shows it this certificate.
    ///
    /// # Errors
    /// If it is none.
    pub(super) fn near(papers: &Certificate) -> io::Result<Self> {
        let cert = CertificateDer::from_pem_file(&papers.cert).map_err(io::Error::other)?;
        let key = PrivateKeyDer::from_pem_file(&papers.key).map_err(io::Error::other)?;
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_single_cert(vec![cert], key)
            .map_err(io::Error::other)?;
        Ok(Self::Near(Arc::new(config).into()))
    }

    /// Where the relay comes to pgherd, of which the authority of this certificate has to vouch.
    ///
    /// # Errors
    /// If there is none.
    pub(super) fn far(papers: &Certificate) -> io::Result<Self> {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_file(&papers.ca).map_err(io::Error::other)?;
        roots.add(ca).map_err(io::Error::other)?;
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self::Far(Arc::new(config).into()))
    }
}

/// A connection.
pub(super) enum Leg {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Leg {
    /// Takes who has come.
    ///
    /// # Errors
    /// As the system says, or who has come wants no TLS where there has to be.
    pub(super) async fn accept(mut stream: TcpStream, how: &Encryption) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let Encryption::Near(acceptor) = how else {
            return Ok(Self::Plain(stream));
        };
        let mut request = [0; SSL_REQUEST.len()];
        stream.read_exact(&mut request).await?;
        if request != SSL_REQUEST {
            return Err(io::Error::other("pgherd does not ask for TLS"));
        }
        stream.write_all(b"S").await?;
        let stream = acceptor.accept(stream).await?;
        Ok(Self::Tls(Box::new(stream.into())))
    }

    /// Goes to an address on this machine.
    ///
    /// # Errors
    /// As the system says, or there is no TLS where there has to be.
    pub(super) async fn open(address: SocketAddr, how: &Encryption) -> io::Result<Self> {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let Encryption::Far(connector) = how else {
            return Ok(Self::Plain(stream));
        };
        stream.write_all(&SSL_REQUEST).await?;
        if stream.read_u8().await? != b'S' {
            return Err(io::Error::other("pgherd grants no TLS"));
        }
        let name = ServerName::from(IpAddr::from(Ipv4Addr::LOCALHOST));
        let stream = connector.connect(name, stream).await?;
        Ok(Self::Tls(Box::new(stream.into())))
    }

    /// Reads what there is; nothing at the end. Whoever does not wait for it loses nothing.
    pub(super) async fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(into).await,
            Self::Tls(stream) => stream.read(into).await,
        }
    }

    /// Sends all of this, in a piece of its own.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.write_all(bytes).await,
            Self::Tls(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
        }
    }

    /// Ends it as who has nothing more to say.
    pub(super) async fn finish(&mut self) {
        // One that is closed already is finished as well.
        let _ = match self {
            Self::Plain(stream) => stream.shutdown().await,
            Self::Tls(stream) => stream.shutdown().await,
        };
    }

    /// Has its end be a RST.
    pub(super) fn resets(&self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.set_zero_linger(),
            Self::Tls(stream) => stream.get_ref().0.set_zero_linger(),
        }
    }
}
