use std::sync::Arc;

use rustls::server::WebPkiClientVerifier;
use rustls::{
    AlertDescription, CertificateError, Connection, Error as RustlsError, ServerConfig,
    ServerConnection,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{HTTP, HttpsTls};
use crate::testing::{Authority, accept, listener};
use crate::tls::{Channel, Identity, Roots, TlsError, provider};
use crate::{ConnectError, SocketOptions, Stream, Target, connect_https};

/// The name that leads to the listeners of these tests, and their address.
const HOSTS: [&str; 2] = ["localhost", "127.0.0.1"];

/// What a server may speak.
const PROTOCOLS: [&[u8]; 2] = [b"h2", HTTP];

/// What such a server is, with these roots for the certificates that it demands of clients.
fn server(own: Identity, clients: Option<Roots>, alpn: &[&[u8]]) -> Arc<ServerConfig> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(roots) => {
            let store = Arc::new(roots.store);
            let verifier = WebPkiClientVerifier::builder_with_provider(store, provider());
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let mut config = builder.with_single_cert(own.chain, own.key).unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Arc::new(config)
}

/// Connects to such a server by a name of its, and gives what has become of both ends.
async fn meet(
    host: &str,
    tls: &HttpsTls,
    server: Arc<ServerConfig>,
) -> (Result<Stream, ConnectError>, Result<Stream, TlsError>) {
    let (listener, target) = listener();
    let Target::Tcp { port, .. } = target else {
        panic!("it listens on TCP");
    };
    let options = SocketOptions::default();
    tokio::join!(connect_https(host, port, &options, tls), async {
        let socket = accept(&listener).await.into_plain().unwrap();
        let connection = Connection::Server(ServerConnection::new(server).unwrap());
        let mut channel = Box::new(Channel::new(socket, connection, None));
        let shaken = channel.handshake().await;
        shaken.map(|()| Stream::tls(channel))
    })
}

fn fault(outcome: Result<Stream, ConnectError>) -> TlsError {
    match outcome {
        Err(ConnectError::Tls { source, .. }) => source,
        other => panic!("not a fault of TLS: {other:?}"),
    }
}

fn certificate_fault(outcome: Result<Stream, ConnectError>) -> CertificateError {
    match fault(outcome) {
        TlsError::Handshake(RustlsError::InvalidCertificate(error)) => error,
        other => panic!("not a fault of the certificate: {other:?}"),
    }
}

#[tokio::test]
async fn a_server_is_known_by_its_name_and_by_its_address() {
    let authority = Authority::new();
    let tls = HttpsTls::new(authority.roots(), None).unwrap();
    for (host, alpn) in [
        (HOSTS[0], &PROTOCOLS[..0]),
        (HOSTS[1], &PROTOCOLS[1..]),
        (HOSTS[1], &PROTOCOLS[..]),
    ] {
        let own = authority.issue("patroni", &HOSTS);
        let (near, far) = meet(host, &tls, server(own, None, alpn)).await;
        let (mut near, mut far) = (near.unwrap(), far.unwrap());
        near.write_all(b"GET").await.unwrap();
        let mut got = [0; 3];
        far.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"GET");
    }
}

#[tokio::test]
async fn who_does_not_prove_to_be_the_host_is_refused() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let tls = HttpsTls::new(authority.roots(), None).unwrap();
    let meet = async |host: &str, own: Identity| {
        let (near, far) = meet(host, &tls, server(own, None, &[])).await;
        assert!(far.is_err(), "the server is told as well");
        certificate_fault(near)
    };
    let other_name = meet(HOSTS[0], authority.issue("localhost", &["127.0.0.1"])).await;
    let other_address = meet(HOSTS[1], authority.issue("127.0.0.1", &["localhost"])).await;
    for error in [other_name, other_address] {
        assert!(
            matches!(
                error,
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
            ),
            "{error:?}"
        );
    }
    let unknown = meet(HOSTS[0], stranger.issue("patroni", &HOSTS)).await;
    assert!(
        matches!(
            unknown,
            CertificateError::UnknownIssuer | CertificateError::BadSignature
        ),
        "{unknown:?}"
    );
    let expired = meet(HOSTS[0], authority.issue_expired("patroni", &HOSTS)).await;
    assert!(
        matches!(
            expired,
            CertificateError::Expired | CertificateError::ExpiredContext { .. }
        ),
        "{expired:?}"
    );
}

#[tokio::test]
async fn what_is_shown_is_what_is_demanded() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let demanding = || {
        let own = authority.issue("patroni", &HOSTS);
        server(own, Some(clients.roots()), &[])
    };
    let own = clients.issue("pgherd", &[]);
    let tls = HttpsTls::new(authority.roots(), Some(own)).unwrap();
    let (near, far) = meet(HOSTS[0], &tls, demanding()).await;
    assert!(near.is_ok() && far.is_ok());
    let tls = HttpsTls::new(authority.roots(), None).unwrap();
    let (near, far) = meet(HOSTS[0], &tls, demanding()).await;
    assert!(far.is_err(), "nothing was shown");
    // We had no more to say when the server looked at it.
    let error = near.unwrap().read_u8().await.unwrap_err();
    let told = error.get_ref();
    let told = told.and_then(|inner| inner.downcast_ref::<RustlsError>());
    let expected = RustlsError::AlertReceived(AlertDescription::CertificateRequired);
    assert_eq!(told, Some(&expected));
}

#[tokio::test]
async fn who_speaks_plain_http_is_told_from_who_breaks_tls() {
    let tls = HttpsTls::new(Authority::new().roots(), None).unwrap();
    let (listener, target) = listener();
    let Target::Tcp { port, .. } = target else {
        panic!("it listens on TCP");
    };
    let options = SocketOptions::default();
    let (near, _far) = tokio::join!(connect_https(HOSTS[1], port, &options, &tls), async {
        let mut far = accept(&listener).await;
        far.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n")
            .await
            .unwrap();
        far
    });
    let error = fault(near);
    assert!(matches!(error, TlsError::Foreign), "{error:?}");
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let authority = Authority::new();
    let (mut own, other) = (authority.issue("one", &[]), authority.issue("two", &[]));
    own.key = other.key;
    assert!(HttpsTls::new(authority.roots(), Some(own)).is_err());
}
