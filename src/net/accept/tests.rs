use std::sync::Arc;

use rustls::crypto::ring;
use rustls::{
    ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig, ServerConnection,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{accept_tls, accept_tls_direct};
use crate::testing::{Authority, accept, listener, pair, server_tls, tls_pair};
use crate::tls::{Channel, ClientTls, Identity, SslMode, TlsError, TlsSetupError};
use crate::{ConnectError, SocketOptions, Stream, connect_tls};

/// A direct connection, the client's certificate as given; both ends' outcomes.
async fn meet(
    tls: &ClientTls,
    identity: Option<Identity>,
) -> (Result<Stream, ConnectError>, Result<Stream, TlsError>) {
    let (listener, target) = listener();
    let server_tls = server_tls(SslMode::Require, |options| {
        options.direct = true;
        options.identity = identity;
    });
    let options = SocketOptions::default();
    tokio::join!(connect_tls(&target, &options, &server_tls), async {
        let mut stream = accept(&listener).await;
        assert_eq!(stream.peek_first().await.unwrap(), Some(0x16));
        accept_tls_direct(stream, tls).await
    })
}

#[tokio::test]
async fn a_client_certificate_names_its_holder() {
    let authority = Authority::new();
    let own = authority.issue("server", &["127.0.0.1"]);
    let tls = ClientTls::new(SslMode::VerifyFull, own, Some(authority.roots())).unwrap();
    let (near, far) = meet(&tls, Some(authority.issue("alice", &[]))).await;
    let (near, far) = (
        near.unwrap().tls_info().unwrap(),
        far.unwrap().tls_info().unwrap(),
    );
    let certificate = far.peer_certificate.clone().unwrap();
    assert_eq!(certificate.common_name.as_deref(), Some("alice"));
    assert_eq!(certificate.distinguished_name, "CN=alice");
    assert_eq!(far.version, "TLSv1.3");
    assert!(far.speaks_postgres());
    // Both ends see the same server certificate.
    assert!(near.server_end_point.is_some());
    assert_eq!(near.server_end_point, far.server_end_point);
    assert_eq!(far.server_end_point.as_deref(), tls.end_point().as_deref());
}

#[tokio::test]
async fn a_client_certificate_is_demanded_or_welcome() {
    let authority = Authority::new();
    let tls = |mode| {
        ClientTls::new(
            mode,
            authority.issue("server", &[]),
            Some(authority.roots()),
        )
        .unwrap()
    };
    let stranger = || Authority::new().issue("alice", &[]);

    let (_, far) = meet(&tls(SslMode::VerifyCa), None).await;
    assert!(matches!(far, Err(TlsError::Handshake(_))), "{far:?}");
    let (_, far) = meet(&tls(SslMode::VerifyCa), Some(stranger())).await;
    assert!(matches!(far, Err(TlsError::Handshake(_))), "{far:?}");
    let (_, far) = meet(&tls(SslMode::Require), Some(stranger())).await;
    assert!(matches!(far, Err(TlsError::Handshake(_))), "{far:?}");
    let expired = authority.issue_expired("alice", &[]);
    let (_, far) = meet(&tls(SslMode::Require), Some(expired)).await;
    assert!(matches!(far, Err(TlsError::Handshake(_))), "{far:?}");

    let (_, far) = meet(&tls(SslMode::Require), None).await;
    assert!(far.unwrap().tls_info().unwrap().peer_certificate.is_none());
}

#[tokio::test]
async fn direct_tls_needs_the_protocols_name() {
    let own = Authority::new().issue("server", &[]);
    let tls = ClientTls::new(SslMode::Require, own, None).unwrap();
    for direct in [true, false] {
        let (near, far) = pair().await;
        let near = tokio::spawn(async move {
            let mut channel = nameless(near);
            channel.handshake().await.map(|()| Stream::tls(channel))
        });
        let far = match direct {
            true => accept_tls_direct(far, &tls).await,
            false => accept_tls(far, &tls).await,
        };
        match direct {
            true => assert!(matches!(far, Err(TlsError::Alpn)), "{far:?}"),
            false => assert!(far.is_ok(), "{far:?}"),
        }
        drop(near.await.unwrap());
    }
}

/// A client that knows nothing of ALPN. It trusts the certificate it meets, as `require` does.
fn nameless(stream: Stream) -> Box<Channel> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let trusting = server_tls(SslMode::Require, |_| {}).config().unwrap();
    config.clone_from(&trusting);
    config.alpn_protocols.clear();
    let name = "localhost".try_into().unwrap();
    let connection = Connection::Client(ClientConnection::new(Arc::new(config), name).unwrap());
    Box::new(Channel::new(stream.into_plain().unwrap(), connection, None))
}

#[tokio::test]
async fn a_direct_server_must_name_the_protocol_too() {
    let own = Authority::new().issue("server", &[]);
    let tls = ClientTls::new(SslMode::Require, own, None).unwrap();
    let mut config = ServerConfig::clone(&tls.config().unwrap());
    config.alpn_protocols.clear();
    let (listener, target) = listener();
    let direct = server_tls(SslMode::Require, |options| options.direct = true);
    let options = SocketOptions::default();
    let (near, far) = tokio::join!(connect_tls(&target, &options, &direct), async {
        let socket = accept(&listener).await.into_plain().unwrap();
        let connection = Connection::Server(ServerConnection::new(Arc::new(config)).unwrap());
        Channel::new(socket, connection, None).handshake().await
    });
    far.unwrap();
    let alpn = matches!(
        near,
        Err(ConnectError::Tls {
            source: TlsError::Alpn,
            ..
        })
    );
    assert!(alpn, "{near:?}");
}

#[tokio::test]
async fn what_is_no_tls_is_refused() {
    let own = Authority::new().issue("server", &[]);
    let tls = ClientTls::new(SslMode::Require, own, None).unwrap();
    let (mut near, far) = pair().await;
    near.write_all(b"\x00\x00\x00\x08 this is not a hello at all")
        .await
        .unwrap();
    let far = accept_tls(far, &tls).await;
    assert!(matches!(far, Err(TlsError::Handshake(_))), "{far:?}");

    let (near, far) = pair().await;
    drop(near);
    let far = accept_tls(far, &tls).await;
    assert!(matches!(far, Err(TlsError::Closed)), "{far:?}");

    let (_near, far) = tls_pair().await;
    assert!(matches!(accept_tls(far, &tls).await, Err(TlsError::Nested)));

    let (_near, far) = pair().await;
    let far = accept_tls(far, &ClientTls::disabled()).await;
    assert!(matches!(far, Err(TlsError::Disabled)));
}

#[tokio::test]
async fn a_refused_client_is_told_by_an_alert() {
    let own = Authority::new().issue("server", &[]);
    let tls = ClientTls::new(SslMode::Require, own, None).unwrap();
    let (mut near, far) = pair().await;
    // A handshake record that holds no handshake.
    near.write_all(&[0x16, 3, 1, 0, 4, 0xff, 0, 0, 0])
        .await
        .unwrap();
    accept_tls(far, &tls).await.unwrap_err();
    // An alert record (RFC 8446 §5.1).
    assert_eq!(near.read_u8().await.unwrap(), 0x15);
}

#[test]
fn a_mode_that_checks_needs_an_authority() {
    let own = Authority::new().issue("server", &[]);
    let outcome = ClientTls::new(SslMode::VerifyCa, own, None);
    assert!(matches!(outcome, Err(TlsSetupError::NoRoots)));
    assert!(Identity::from_pem(b"nothing", b"nothing").is_err());
}
