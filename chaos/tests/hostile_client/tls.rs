//! Encryption and what is bound to it.

use std::time::Duration;

use pgherd_chaos::hostile::papers::Papers;
use pgherd_chaos::hostile::{Client, End, packet};

use super::{ALICE, AT_ONCE, House, is_refused};

const STARTUP: [(&str, &str); 2] = [("user", "alice"), ("database", "shop")];

async fn house(papers: &Papers, login: &str) -> House {
    let settings = format!("{}[timeouts]\nlogin = \"{login}\"\n", papers.section());
    House::with(&settings, Vec::new()).await
}

async fn encrypted(house: &House) -> Client {
    let mut client = Client::connect_tls(house.proxy.address()).await.unwrap();
    client.set_patience(AT_ONCE);
    client
}

#[tokio::test]
async fn plus_is_offered_under_tls_alone_and_works_there() {
    let papers = Papers::make().unwrap();
    let mut house = house(&papers, "15s").await;
    let mut plain = house.connect().await;
    plain.send(&packet::startup(&STARTUP)).await.unwrap();
    assert!(!plain.hear().await.says("SCRAM-SHA-256-PLUS"));
    let mut client = encrypted(&house).await;
    client.send(&packet::startup(&STARTUP)).await.unwrap();
    assert!(client.hear().await.says("SCRAM-SHA-256-PLUS"));
    let mut client = encrypted(&house).await;
    let answer = client.authenticate(ALICE, &STARTUP).await;
    assert_eq!(answer.end, End::Ready(b'I'), "{answer:?}");
    let served = client.query("select 'served'").await;
    assert_eq!(served.value().as_deref(), Some("served"));
    house.stands().await;
}

#[tokio::test]
async fn a_channel_that_somebody_took_away_is_noticed() {
    let papers = Papers::make().unwrap();
    let mut house = house(&papers, "15s").await;
    let attempts: [(&str, &[u8]); 6] = [
        // The client could bind, and believes that we cannot.
        ("SCRAM-SHA-256", b"y,,n=,r=abcdefghijklmnop"),
        (
            "SCRAM-SHA-256",
            b"p=tls-server-end-point,,n=,r=abcdefghijklmnop",
        ),
        ("SCRAM-SHA-256-PLUS", b"n,,n=,r=abcdefghijklmnop"),
        ("SCRAM-SHA-256-PLUS", b"y,,n=,r=abcdefghijklmnop"),
        ("SCRAM-SHA-256-PLUS", b"p=tls-unique,,n=,r=abcdefghijklmnop"),
        ("SCRAM-SHA-256-PLUS", b"p=,,n=,r=abcdefghijklmnop"),
    ];
    for (mechanism, first) in attempts {
        let mut client = encrypted(&house).await;
        client.send(&packet::startup(&STARTUP)).await.unwrap();
        assert_eq!(client.hear().await.end, End::Asked(10));
        client
            .send(&packet::sasl_initial(mechanism, first))
            .await
            .unwrap();
        let answer = client.hear().await;
        assert!(
            is_refused(&answer, "08P01"),
            "{mechanism} {}: {answer:?}",
            first.escape_ascii()
        );
    }
    house.stands().await;
}

#[tokio::test]
async fn another_channel_is_not_ours() {
    let papers = Papers::make().unwrap();
    let mut house = house(&papers, "15s").await;
    let mut client = encrypted(&house).await;
    client.send(&packet::startup(&STARTUP)).await.unwrap();
    assert_eq!(client.hear().await.end, End::Asked(10));
    let first = b"p=tls-server-end-point,,n=,r=abcdefghijklmnop";
    client
        .send(&packet::sasl_initial("SCRAM-SHA-256-PLUS", first))
        .await
        .unwrap();
    let challenge = client.hear().await;
    assert_eq!(challenge.end, End::Asked(11), "{challenge:?}");
    let body = String::from_utf8_lossy(&challenge.messages[0].body[4..]).into_owned();
    let nonce = body.split(',').next().unwrap_or_default();
    // The header, and the hash of somebody else's certificate.
    let channel = "cD10bHMtc2VydmVyLWVuZC1wb2ludCwsAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let last = format!("c={channel},{nonce},p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
    client
        .send(&packet::sasl_response(last.as_bytes()))
        .await
        .unwrap();
    let answer = client.hear().await;
    assert!(is_refused(&answer, "08P01"), "{answer:?}");
    house.stands().await;
}

#[tokio::test]
async fn bytes_behind_a_request_never_enter_the_channel() {
    let papers = Papers::make().unwrap();
    let mut house = house(&papers, "15s").await;
    let mut client = house.connect().await;
    let smuggled = [packet::ssl_request(), packet::startup(&STARTUP)].concat();
    client.send(&smuggled).await.unwrap();
    let answer = client.hear().await;
    assert!(is_refused(&answer, "08P01"), "{answer:?}");
    let mut client = encrypted(&house).await;
    client.send(&packet::ssl_request()).await.unwrap();
    let answer = client.hear().await;
    assert!(is_refused(&answer, "08P01"), "{answer:?}");
    house.stands().await;
}

#[tokio::test]
async fn a_handshake_that_stops_is_cut_off() {
    let papers = Papers::make().unwrap();
    let mut house = house(&papers, "1s").await;
    // What a TLS 1.2 hello begins with; the rest never comes.
    let half_hello = [0x16, 3, 1, 1, 0, 1, 0, 0, 0xfc, 3, 3];
    let garbage = [0x55; 64];
    for begun in [&b""[..], &half_hello, &garbage] {
        let mut client = house.connect().await;
        client.send(&packet::ssl_request()).await.unwrap();
        assert_eq!(client.byte().await, Some(b'S'));
        client.send(begun).await.unwrap();
        assert!(client.rest().await.is_some(), "{}", begun.escape_ascii());
    }
    // Directly, without a request.
    let mut client = house.connect().await;
    client.send(&half_hello).await.unwrap();
    assert!(client.rest().await.is_some());
    house.stands().await;
}

#[tokio::test]
async fn a_cancel_under_tls_is_silent_as_well() {
    let papers = Papers::make().unwrap();
    let mut house = house(&papers, "15s").await;
    let mut client = encrypted(&house).await;
    client.send(&packet::cancel(1, b"abcd")).await.unwrap();
    assert_eq!(client.hear().await.messages, []);
    let mut quiet = house.login().await;
    assert!(quiet.stays_quiet(Duration::from_millis(50)).await);
    house.stands().await;
}
