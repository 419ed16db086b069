//! Lengths that lie.

use std::time::Duration;

use pgherd_chaos::hostile::{Client, End, packet};

use super::{House, assert_served};

/// Lengths of no message.
const IMPOSSIBLE: [u32; 8] = [0, 1, 2, 3, 1 << 30 | 4, i32::MAX as u32, 1 << 31, u32::MAX];

/// Every kind of message that a client may send, and some that it may not.
const KINDS: &[u8] = b"BCdcfDEHFPpQSX@\0\xff";

#[tokio::test]
async fn a_start_of_an_impossible_length_ends_without_a_word() {
    let mut house = House::build().await;
    for length in [
        0,
        1,
        2,
        3,
        4,
        7,
        10_005,
        1 << 20,
        i32::MAX as u32,
        1 << 31,
        u32::MAX,
    ] {
        let mut client = house.connect().await;
        let packet = [
            &length.to_be_bytes()[..],
            &packet::V3_0.to_be_bytes(),
            &[0; 64],
        ]
        .concat();
        client.send(&packet).await.unwrap();
        let rest = client
            .rest()
            .await
            .unwrap_or_else(|| panic!("{length}: no end"));
        // As with Postgres: whoever begins so may speak anything.
        assert_eq!(rest, b"", "{length}: {}", rest.escape_ascii());
    }
    house.stands().await;
}

#[tokio::test]
async fn a_message_of_an_impossible_length_ends_a_login() {
    let mut house = House::build().await;
    for tag in KINDS {
        for length in IMPOSSIBLE.into_iter().chain([4, 70_000, 1 << 20]) {
            let mut client = house.connect().await;
            let startup = packet::startup(&[("user", "alice"), ("database", "shop")]);
            client.send(&startup).await.unwrap();
            assert_eq!(client.hear().await.end, End::Asked(10));
            let _ = client
                .send(&[packet::declares(*tag, length), vec![b'x'; 64]].concat())
                .await;
            let answer = client.hear().await;
            let code = answer.code();
            // A reset may overtake the error where more was sent than was read.
            let refused = code.is_none_or(|code| code == "08P01");
            assert!(
                refused && answer.end == End::Closed,
                "{tag} of {length}: {answer:?}"
            );
        }
    }
    house.stands().await;
}

#[tokio::test]
async fn a_message_of_an_impossible_length_ends_a_session() {
    let mut house = House::build().await;
    let mut bystander = house.login().await;
    for tag in KINDS {
        for length in IMPOSSIBLE {
            for begun in [false, true] {
                let mut client = house.login().await;
                if begun {
                    client.query("begin read write").await;
                    assert_eq!(client.query("select 'x'").await.end, End::Ready(b'T'));
                }
                let _ = client
                    .send(&[packet::declares(*tag, length), vec![b'x'; 64]].concat())
                    .await;
                let answer = client.hear().await;
                let refused = answer.code().is_none_or(|code| code == "08P01");
                let closed = answer.end == End::Closed;
                assert!(refused && closed, "{tag} of {length} ({begun}): {answer:?}");
            }
        }
        assert_served(&mut bystander).await;
        assert_eq!(house.proxy.fault(), None);
    }
    house.stands().await;
}

#[tokio::test]
async fn nothing_is_allocated_by_a_declared_length() {
    let mut house = House::build().await;
    let warm = house.login().await;
    let (memory, space) = (house.proxy.memory(), house.proxy.address_space());
    let mut clients: Vec<Client> = Vec::new();
    for tag in KINDS {
        // What is possible but never comes.
        for length in [16 << 20, 0x3fff_ffff_u32] {
            let mut client = house.login().await;
            // One that begins to use a server must not keep the others from theirs.
            if !matches!(tag, b'Q' | b'F' | b'E' | b'B') || length == 16 << 20 {
                let _ = client.send(&packet::declares(*tag, length)).await;
                let _ = client.send(&[b'x'; 4096]).await;
                clients.push(client);
            }
        }
    }
    for _ in 0..60 {
        let mut client = house.connect().await;
        let startup = packet::startup(&[("user", "alice"), ("database", "shop")]);
        client.send(&startup).await.unwrap();
        assert_eq!(client.hear().await.end, End::Asked(10));
        client.send(&packet::declares(b'p', 65_000)).await.unwrap();
        clients.push(client);
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let grown = house.proxy.memory().saturating_sub(memory);
    assert!(
        grown < 16 << 20,
        "{grown} bytes for {} clients",
        clients.len()
    );
    let reserved = house.proxy.address_space().saturating_sub(space);
    assert!(reserved < 4 << 30, "{reserved} bytes reserved");
    drop((clients, warm));
    house.stands().await;
}
