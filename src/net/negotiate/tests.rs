use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::{CertificateError, Error as RustlsError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::{SSL_REQUEST, connect_tls};
use crate::testing::{Authority, accept, listener, self_signed, self_signed_expired, server_tls};
use crate::tls::{
    ClientTls, Identity, Roots, ServerTls, ServerTlsOptions, SslMode, TlsError, TlsSetupError,
};
use crate::{ConnectError, SocketOptions, Stream, accept_tls};

const ASKING: [SslMode; 4] = [
    SslMode::Prefer,
    SslMode::Require,
    SslMode::VerifyCa,
    SslMode::VerifyFull,
];

fn tls(mode: SslMode, roots: &Roots) -> ServerTls {
    server_tls(mode, |options| options.roots = Some(roots.clone()))
}

fn own(identity: Identity) -> ClientTls {
    ClientTls::new(SslMode::Require, identity, None).unwrap()
}

fn fault(outcome: Result<Stream, ConnectError>) -> TlsError {
    match outcome {
        Err(ConnectError::Tls { source, .. }) => source,
        other => panic!("not a fault of TLS: {other:?}"),
    }
}

fn is_certificate_error(error: &TlsError, expected: fn(&CertificateError) -> bool) -> bool {
    matches!(error, TlsError::Handshake(RustlsError::InvalidCertificate(found)) if expected(found))
}

/// A server that answers an SSLRequest with these bytes and does no more; then whatever it is told on a second
/// connection, which it expects in plain text.
async fn answered(mode: SslMode, answer: &[u8]) -> (Result<Stream, ConnectError>, bool) {
    let (listener, target) = listener();
    let roots = Authority::new().roots();
    let (tls, options) = (tls(mode, &roots), SocketOptions::default());
    let server = async {
        let mut stream = accept(&listener).await;
        let mut request = [0; 8];
        stream.read_exact(&mut request).await.unwrap();
        assert_eq!(request, SSL_REQUEST);
        stream.write_all(answer).await.unwrap();
        // Until the client has made up its mind.
        std::future::pending::<()>().await;
    };
    let near = tokio::select! {
        near = connect_tls(&target, &options, &tls) => near,
        () = server => unreachable!("it never ends"),
    };
    let came_again = near.as_ref().is_ok_and(|near| near.local().is_some())
        && timeout(Duration::ZERO, listener.accept()).await.is_ok();
    (near, came_again)
}

/// A server that does TLS properly with this certificate.
async fn served(tls: &ServerTls, identity: Identity) -> Result<Stream, ConnectError> {
    let (listener, target) = listener();
    let (client_tls, options) = (own(identity), SocketOptions::default());
    let server = async {
        let mut stream = accept(&listener).await;
        stream.read_exact(&mut [0; 8]).await.unwrap();
        stream.write_all(b"S").await.unwrap();
        accept_tls(stream, &client_tls).await
    };
    let (near, far) = tokio::join!(connect_tls(&target, &options, tls), server);
    let (mut near, mut far) = (near?, far.unwrap());
    near.write_all(b"ping").await.unwrap();
    let mut got = [0; 4];
    far.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"ping");
    Ok(near)
}

#[tokio::test]
async fn yes_leads_to_tls_in_every_mode_that_asks() {
    let authority = Authority::new();
    for mode in ASKING {
        let identity = authority.issue("server", &["127.0.0.1"]);
        let near = served(&tls(mode, &authority.roots()), identity)
            .await
            .unwrap();
        let info = near.tls_info().unwrap();
        let certificate = info.peer_certificate.unwrap();
        assert_eq!(certificate.common_name.as_deref(), Some("server"));
        assert!(!CertificateDer::from(certificate.der).is_empty());
    }
}

#[tokio::test]
async fn modes_that_do_not_ask_say_nothing() {
    for mode in [SslMode::Disable, SslMode::Allow] {
        let (listener, target) = listener();
        let tls = server_tls(mode, |_| {});
        let mut near = connect_tls(&target, &SocketOptions::default(), &tls)
            .await
            .unwrap();
        assert!(!near.is_tls());
        near.write_all(b"x").await.unwrap();
        assert_eq!(accept(&listener).await.read_u8().await.unwrap(), b'x');
    }
}

#[tokio::test]
async fn no_is_taken_by_prefer_alone() {
    for mode in ASKING {
        let (near, came_again) = answered(mode, b"N").await;
        if mode == SslMode::Prefer {
            assert!(!near.unwrap().is_tls());
            assert!(!came_again, "the connection was good");
        } else {
            assert!(matches!(fault(near), TlsError::Unsupported));
        }
    }
}

#[tokio::test]
async fn an_error_is_not_repeated_to_anyone() {
    for mode in ASKING {
        let (near, came_again) = answered(mode, b"E\0\0\0\x10Mspoofed text\0\0").await;
        if mode == SslMode::Prefer {
            assert!(!near.unwrap().is_tls());
            assert!(came_again, "the first connection was spoilt");
        } else {
            let fault = fault(near);
            assert!(matches!(fault, TlsError::ServerError));
            assert!(!fault.to_string().contains("spoofed"));
        }
    }
}

#[tokio::test]
async fn garbage_and_smuggled_bytes_end_it_in_every_mode() {
    for mode in ASKING {
        let (near, _) = answered(mode, b"X").await;
        assert!(matches!(fault(near), TlsError::Answer(b'X')));
        let (near, _) = answered(mode, b"SR\0\0\0\x08\0\0\0\0").await;
        assert!(matches!(fault(near), TlsError::Smuggled));
    }
}

#[tokio::test]
async fn silence_lasts_until_the_callers_deadline() {
    let (listener, target) = listener();
    let tls = server_tls(SslMode::Require, |_| {});
    let options = SocketOptions::default();
    let outcome = timeout(
        Duration::from_millis(50),
        connect_tls(&target, &options, &tls),
    )
    .await;
    assert!(outcome.is_err());
    // The client has given up, and its connection is gone.
    let mut far = accept(&listener).await;
    let mut request = Vec::new();
    far.read_to_end(&mut request).await.unwrap();
    assert_eq!(request, SSL_REQUEST);
}

#[tokio::test]
async fn a_hang_up_is_an_error_unless_plain_text_will_do() {
    let (listener, target) = listener();
    let tls = server_tls(SslMode::Require, |_| {});
    let options = SocketOptions::default();
    let (near, ()) = tokio::join!(connect_tls(&target, &options, &tls), async {
        accept(&listener)
            .await
            .read_exact(&mut [0; 8])
            .await
            .unwrap();
    });
    assert!(matches!(fault(near), TlsError::Closed));
}

#[tokio::test]
async fn the_wrong_name_matters_to_verify_full_alone() {
    let authority = Authority::new();
    let roots = authority.roots();
    let other = || authority.issue("server", &["other.test"]);
    served(&tls(SslMode::VerifyCa, &roots), other())
        .await
        .unwrap();
    let refused = fault(served(&tls(SslMode::VerifyFull, &roots), other()).await);
    assert!(
        is_certificate_error(&refused, |error| matches!(
            error,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
        )),
        "{refused}"
    );
    let renamed = server_tls(SslMode::VerifyFull, |options| {
        options.roots = Some(roots);
        options.server_name = Some("other.test".to_owned());
    });
    served(&renamed, other()).await.unwrap();
}

#[tokio::test]
async fn the_common_name_counts_where_there_is_no_other() {
    let authority = Authority::new();
    let named = |name: &str| {
        server_tls(SslMode::VerifyFull, |options| {
            options.roots = Some(authority.roots());
            options.server_name = Some(name.to_owned());
        })
    };
    let good = [("db.test", "DB.test"), ("*.db.test", "one.db.test")];
    for (common_name, host) in good {
        served(&named(host), authority.issue(common_name, &[]))
            .await
            .unwrap();
    }
    let bad = [
        ("db.test", "db2.test"),
        ("*.db.test", "db.test"),
        ("*.db.test", "a.b.db.test"),
        ("*.test", "db.test"),
        ("*", "db.test"),
        ("*.0.0.1", "127.0.0.1"),
    ];
    for (common_name, host) in bad {
        let refused = fault(served(&named(host), authority.issue(common_name, &[])).await);
        assert!(
            matches!(refused, TlsError::Handshake(_)),
            "{common_name} {host}"
        );
    }
    // The alternative name decides, though the common name would match.
    let misleading = authority.issue("db.test", &["other.test"]);
    fault(served(&named("db.test"), misleading).await);
}

#[tokio::test]
async fn a_certificate_nobody_vouches_for_is_refused_where_one_looks() {
    let authority = Authority::new();
    let stranger = Authority::new();
    let names = &["127.0.0.1"][..];
    for mode in [SslMode::Require, SslMode::VerifyCa, SslMode::VerifyFull] {
        let tls = tls(mode, &authority.roots());
        let unknown = fault(served(&tls, stranger.issue("server", names)).await);
        assert!(
            is_certificate_error(&unknown, |error| *error == CertificateError::UnknownIssuer
                || *error == CertificateError::BadSignature),
            "{unknown}"
        );
        let expired = fault(served(&tls, authority.issue_expired("server", names)).await);
        assert!(
            is_certificate_error(&expired, |error| matches!(
                error,
                CertificateError::Expired | CertificateError::ExpiredContext { .. }
            )),
            "{expired}"
        );
    }
    let careless = server_tls(SslMode::Require, |_| {});
    served(&careless, stranger.issue_expired("server", &[]))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_self_signed_certificate_can_be_trusted_itself() {
    let (identity, roots) = self_signed(&["127.0.0.1"]);
    served(&tls(SslMode::VerifyFull, &roots), identity)
        .await
        .unwrap();
    let (identity, roots) = self_signed(&["other.test"]);
    fault(served(&tls(SslMode::VerifyFull, &roots), identity).await);
    let (identity, roots) = self_signed_expired(&["127.0.0.1"]);
    let expired = fault(served(&tls(SslMode::VerifyCa, &roots), identity).await);
    assert!(
        is_certificate_error(&expired, |error| *error == CertificateError::Expired),
        "{expired}"
    );
    let (identity, _) = self_signed(&["127.0.0.1"]);
    fault(served(&tls(SslMode::VerifyCa, &roots), identity).await);
}

/// A server from before direct TLS takes the hello for a length, and hangs up; one with manners says so in plain text.
#[tokio::test]
async fn a_server_that_wants_to_be_asked_first_is_told_apart() {
    for answer in [&b""[..], b"E\0\0\0\x10Mno such thing\0\0"] {
        let (listener, target) = listener();
        let tls = server_tls(SslMode::Require, |options| options.direct = true);
        let options = SocketOptions::default();
        let (near, hello) = tokio::join!(connect_tls(&target, &options, &tls), async {
            let mut stream = accept(&listener).await;
            let mut hello = [0; 3];
            stream.read_exact(&mut hello).await.unwrap();
            stream.write_all(answer).await.unwrap();
            hello
        });
        // A handshake record, of whichever version (RFC 8446 §5.1).
        assert_eq!(hello[..2], [0x16, 3]);
        let fault = fault(near);
        assert!(matches!(fault, TlsError::NotDirect), "{fault}");
        assert!(fault.to_string().contains("PostgreSQL 17"));
    }
}

#[test]
fn options_that_contradict_themselves_are_refused() {
    let options = |mode, direct| ServerTlsOptions {
        mode,
        direct,
        ..ServerTlsOptions::default()
    };
    let no_roots = ServerTls::new(options(SslMode::VerifyFull, false));
    assert!(matches!(no_roots, Err(TlsSetupError::NoRoots)));
    let weak = ServerTls::new(options(SslMode::Prefer, true));
    assert!(matches!(weak, Err(TlsSetupError::WeakDirect)));
}
