//! Packets out of order.

use pgherd_chaos::hostile::{End, packet};

use super::{House, is_refused};

/// Nobody is let in who says these bytes.
const LET_IN: &[u8] = b"R\0\0\0\x08\0\0\0\0";
const READY: &[u8] = b"Z\0\0\0\x05";

/// What may come first, or in the middle of a login.
fn alphabet(user: &str, database: &str) -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("ssl", packet::ssl_request()),
        ("gss", packet::gss_request()),
        (
            "startup",
            packet::startup(&[("user", user), ("database", database)]),
        ),
        (
            "another",
            packet::startup(&[("user", "mallory"), ("database", "pgherd")]),
        ),
        ("cancel", packet::cancel(1, b"abcd")),
        ("password", packet::message(b'p', b"alice's secret\0")),
        (
            "sasl",
            packet::sasl_initial("SCRAM-SHA-256", b"n,,n=,r=abcdefghijklmnop"),
        ),
        ("query", packet::query("select 1")),
    ]
}

fn holds(all: &[u8], part: &[u8]) -> bool {
    all.windows(part.len()).any(|window| window == part)
}

#[tokio::test]
async fn no_order_of_packets_lets_anybody_in() {
    let mut house = House::build().await;
    for (user, database) in [
        ("alice", "shop"),
        ("alice", "nowhere"),
        ("nobody", "shop"),
        ("nobody", "nowhere"),
    ] {
        let letters = alphabet(user, database);
        for (first, one) in &letters {
            for (second, two) in &letters {
                for (third, three) in &letters {
                    let mut client = house.connect().await;
                    // It may be closed before all is said.
                    let _ = client.send(&[&one[..], two, three].concat()).await;
                    client.finish().await;
                    let name = format!("{user}@{database}: {first}, {second}, {third}");
                    let heard = client
                        .rest()
                        .await
                        .unwrap_or_else(|| panic!("{name}: no end"));
                    let let_in = holds(&heard, LET_IN) || holds(&heard, READY);
                    assert!(!let_in, "{name}: {}", heard.escape_ascii());
                }
            }
        }
        assert_eq!(house.proxy.fault(), None);
    }
    house.stands().await;
}

#[tokio::test]
async fn no_order_of_packets_lets_anybody_in_who_waits_for_each_answer() {
    let mut house = House::build().await;
    for (user, database) in [("alice", "shop"), ("nobody", "nowhere")] {
        let letters = alphabet(user, database);
        for (first, one) in &letters {
            for (second, two) in &letters {
                let mut client = house.connect().await;
                let _ = client.send(one).await;
                match *first {
                    "ssl" | "gss" => drop(client.byte().await),
                    "cancel" => {}
                    _ => drop(client.hear().await),
                }
                let _ = client.send(two).await;
                client.finish().await;
                let name = format!("{user}@{database}: {first}; {second}");
                let heard = client
                    .rest()
                    .await
                    .unwrap_or_else(|| panic!("{name}: no end"));
                let let_in = holds(&heard, LET_IN) || holds(&heard, READY);
                assert!(!let_in, "{name}: {}", heard.escape_ascii());
            }
        }
    }
    house.stands().await;
}

#[tokio::test]
async fn a_packet_that_is_no_answer_ends_a_login_at_once() {
    let mut house = House::build().await;
    for (name, letter) in alphabet("mallory", "nowhere") {
        if matches!(name, "password" | "sasl") {
            continue;
        }
        let mut client = house.connect().await;
        client
            .send(&packet::startup(&[("user", "alice"), ("database", "shop")]))
            .await
            .unwrap();
        assert_eq!(client.hear().await.end, End::Asked(10));
        client.send(&letter).await.unwrap();
        let answer = client.hear().await;
        assert!(
            is_refused(&answer, "08P01"),
            "{name} in place of a first message: {answer:?}"
        );

        let mut client = house.connect().await;
        client
            .send(&packet::startup(&[
                ("user", "alice"),
                ("database", "nowhere"),
            ]))
            .await
            .unwrap();
        assert_eq!(client.hear().await.end, End::Asked(10));
        let first = packet::sasl_initial("SCRAM-SHA-256", b"n,,n=,r=abcdefghijklmnop");
        client.send(&first).await.unwrap();
        assert_eq!(client.hear().await.end, End::Asked(11));
        client.send(&letter).await.unwrap();
        let answer = client.hear().await;
        assert!(
            is_refused(&answer, "08P01"),
            "{name} in place of a last message: {answer:?}"
        );
    }
    house.stands().await;
}

#[tokio::test]
async fn packets_of_a_login_end_a_session() {
    let mut house = House::build().await;
    let mut bystander = house.login().await;
    for (name, letter) in alphabet("mallory", "nowhere") {
        if name == "query" {
            continue;
        }
        let mut client = house.login().await;
        client.send(&letter).await.unwrap();
        let answer = client.hear().await;
        assert!(is_refused(&answer, "08P01"), "{name}: {answer:?}");
        super::assert_served(&mut bystander).await;
    }
    house.stands().await;
}

#[tokio::test]
async fn a_request_for_encryption_has_nothing_behind_it() {
    let mut house = House::build().await;
    let startup = packet::startup(&[("user", "alice"), ("database", "shop")]);
    for request in [packet::ssl_request(), packet::gss_request()] {
        let mut client = house.connect().await;
        client
            .send(&[&request[..], &startup].concat())
            .await
            .unwrap();
        let answer = client.hear().await;
        assert!(is_refused(&answer, "08P01"), "{answer:?}");
    }
    house.stands().await;
}

#[tokio::test]
async fn encryption_may_be_asked_for_once() {
    let mut house = House::build().await;
    for request in [packet::ssl_request(), packet::gss_request()] {
        let mut client = house.connect().await;
        client.send(&request).await.unwrap();
        assert_eq!(client.byte().await, Some(b'N'));
        client.send(&request).await.unwrap();
        let rest = client.rest().await.expect("an end");
        assert!(
            rest.is_empty() || rest[0] == b'E',
            "{}",
            rest.escape_ascii()
        );
    }
    // One of each, and then a login: as libpq does.
    let mut client = house.connect().await;
    for request in [packet::gss_request(), packet::ssl_request()] {
        client.send(&request).await.unwrap();
        assert_eq!(client.byte().await, Some(b'N'));
    }
    let parameters = [("user", "alice"), ("database", "shop")];
    let answer = client.authenticate(super::ALICE, &parameters).await;
    assert_eq!(answer.end, End::Ready(b'I'), "{answer:?}");
    house.stands().await;
}
