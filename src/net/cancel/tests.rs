use std::net::SocketAddr;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::send_cancel;
use crate::testing::{Authority, accept, listener, server_tls};
use crate::tls::{ClientTls, SslMode};
use crate::{ConnectError, SocketOptions, Target, accept_tls};

const PACKET: &[u8] = b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x01\0\0\0\x02";

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

#[tokio::test]
async fn the_packet_arrives_and_the_hang_up_is_the_answer() {
    let (listener, target) = listener();
    let options = SocketOptions::default();
    for reset in [false, true] {
        let (sent, ()) = tokio::join!(
            send_cancel(&target, None, &options, None, PACKET, soon()),
            async {
                let mut stream = accept(&listener).await;
                let mut got = [0; PACKET.len()];
                stream.read_exact(&mut got).await.unwrap();
                assert_eq!(got, PACKET);
                if reset {
                    let socket = stream.into_plain().unwrap();
                    SockRef::from(&*socket)
                        .set_linger(Some(Duration::ZERO))
                        .unwrap();
                }
            }
        );
        sent.unwrap();
    }
}

#[tokio::test]
async fn the_packet_travels_under_tls() {
    let (listener, target) = listener();
    let authority = Authority::new();
    let own = ClientTls::new(
        SslMode::Require,
        authority.issue("server", &["127.0.0.1"]),
        None,
    )
    .unwrap();
    let tls = server_tls(SslMode::VerifyFull, |options| {
        options.roots = Some(authority.roots())
    });
    let options = SocketOptions::default();
    let (sent, ()) = tokio::join!(
        send_cancel(&target, None, &options, Some(&tls), PACKET, soon()),
        async {
            let mut stream = accept(&listener).await;
            stream.read_exact(&mut [0; 8]).await.unwrap();
            stream.write_all(b"S").await.unwrap();
            let mut stream = accept_tls(stream, &own).await.unwrap();
            let mut got = [0; PACKET.len()];
            stream.read_exact(&mut got).await.unwrap();
            assert_eq!(got, PACKET);
        }
    );
    sent.unwrap();
}

#[tokio::test]
async fn it_goes_to_the_address_of_the_connection_wherever_the_name_leads() {
    let (listener, target) = listener();
    let Target::Tcp { port, .. } = target else {
        panic!("not TCP: {target}");
    };
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    // No resolver can have it.
    let named = Target::Tcp {
        host: "no..such".to_owned(),
        port,
    };
    let options = SocketOptions::default();
    let (sent, ()) = tokio::join!(
        send_cancel(&named, Some(address), &options, None, PACKET, soon()),
        async {
            let mut got = [0; PACKET.len()];
            let mut stream = accept(&listener).await;
            stream.read_exact(&mut got).await.unwrap();
            assert_eq!(got, PACKET);
        }
    );
    sent.unwrap();
}

#[tokio::test]
async fn a_server_that_does_not_hang_up_costs_no_more_than_the_deadline() {
    let (listener, target) = listener();
    let deadline = Instant::now() + Duration::from_millis(50);
    let options = SocketOptions::default();
    let (sent, far) = tokio::join!(
        send_cancel(&target, None, &options, None, PACKET, deadline),
        accept(&listener)
    );
    assert!(
        matches!(sent, Err(ConnectError::TimedOut { .. })),
        "{sent:?}"
    );
    drop(far);
}
