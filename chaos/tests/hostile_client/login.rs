//! Logins by people who are not who they say.

use std::time::{Duration, Instant};

use pgherd_chaos::hostile::{Answer, Client, End, packet};

use super::{ALICE, House, is_refused};

/// The first message after which a server's challenge comes.
const FIRST: &[u8] = b"n,,n=,r=abcdefghijklmnopqrstuvwx";

async fn asked(house: &House, user: &str, database: &str) -> Client {
    let mut client = house.connect().await;
    client
        .send(&packet::startup(&[("user", user), ("database", database)]))
        .await
        .unwrap();
    assert_eq!(client.hear().await.end, End::Asked(10));
    client
}

async fn challenged(house: &House, user: &str, database: &str) -> (Client, String) {
    let mut client = asked(house, user, database).await;
    client
        .send(&packet::sasl_initial("SCRAM-SHA-256", FIRST))
        .await
        .unwrap();
    let challenge = client.hear().await;
    assert_eq!(challenge.end, End::Asked(11), "{challenge:?}");
    let body = &challenge.messages.last().expect("a challenge").body;
    (client, String::from_utf8_lossy(&body[4..]).into_owned())
}

/// First messages that a server must refuse.
fn wrong_firsts() -> Vec<Vec<u8>> {
    let long = |length: usize| format!("n,,n=,r={}", "x".repeat(length)).into_bytes();
    let texts: [&[u8]; 24] = [
        b"",
        b"n",
        b"n,",
        b"n,,",
        b"n,,n=",
        b"n,,n=,",
        b"n,,n=,r",
        b"n,,n=,r=",
        b"n,,r=abcdefgh",
        b"n,,r=abcdefgh,n=",
        b"n,,n=,r=abcdefgh,r=abcdefgh",
        b"n,,n=,n=,r=abcdefgh",
        b"n,,m=ext,n=,r=abcdefgh",
        b"n,,n=,r=abcdefgh,m=ext",
        b"n,a=root,n=,r=abcdefgh",
        b"x,,n=,r=abcdefgh",
        b",,n=,r=abcdefgh",
        b"p=tls-unique,,n=,r=abcdefgh",
        b"p=tls-server-end-point,,n=,r=abcdefgh",
        b"n,,n=,r=abc\0defgh",
        b"n,,n=,r=abc\xffdefgh",
        b"n,,n=,r=\xc3\xa4\xc3\xb6",
        b"n,,=,r=abcdefgh",
        b",,,,,,,,",
    ];
    let mut all: Vec<_> = texts.iter().map(|text| text.to_vec()).collect();
    all.extend([long(1025), long(5000), long(60_000)]);
    all
}

#[tokio::test]
async fn every_wrong_first_message_of_scram_is_refused() {
    let mut house = House::build().await;
    for first in wrong_firsts() {
        let mut client = asked(&house, "alice", "shop").await;
        client
            .send(&packet::sasl_initial("SCRAM-SHA-256", &first))
            .await
            .unwrap();
        let answer = client.hear().await;
        let shown = String::from_utf8_lossy(&first[..first.len().min(60)]).into_owned();
        assert!(is_refused(&answer, "08P01"), "{shown:?}: {answer:?}");
    }
    for mechanism in [
        "",
        "SCRAM-SHA-256-PLUS",
        "SCRAM-SHA-1",
        "scram-sha-256",
        &"S".repeat(9000),
    ] {
        let mut client = asked(&house, "alice", "shop").await;
        client
            .send(&packet::sasl_initial(mechanism, FIRST))
            .await
            .unwrap();
        let answer = client.hear().await;
        assert!(is_refused(&answer, "08P01"), "{mechanism}: {answer:?}");
    }
    // The message around it.
    let named = packet::string("SCRAM-SHA-256");
    let bodies: [&[u8]; 6] = [
        b"",
        b"SCRAM-SHA-256",
        &named,
        &[&named[..], &[0, 0, 0]].concat(),
        &[&named[..], &[0x7f, 0xff, 0xff, 0xff], FIRST].concat(),
        &[&named[..], &[0xff, 0xff, 0xff, 0xfe], FIRST].concat(),
    ];
    for body in bodies {
        let mut client = asked(&house, "alice", "shop").await;
        client.send(&packet::message(b'p', body)).await.unwrap();
        let answer = client.hear().await;
        assert!(
            is_refused(&answer, "08P01"),
            "{}: {answer:?}",
            body.escape_ascii()
        );
    }
    house.stands().await;
}

/// Last messages that a server must refuse; `$r` stands for the nonce.
const WRONG_LASTS: &[&str] = &[
    "",
    "c",
    "c=biws",
    "c=biws,r=$r",
    "c=biws,r=$r,",
    "c=biws,r=$r,p",
    "c=biws,r=$r,p=",
    "c=biws,r=$r,p=AAAA",
    "c=biws,r=$r,p=!!!!",
    "c=biws,r=$r,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    "c=biws,r=$r,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=,p=AAAA",
    "c=biws,r=$r,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=,x=y",
    "c=biws,r=$r,m=x,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "c=biws,r=$rx,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "c=biws,r=,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "c=biws,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "c=biws,c=biws,r=$r,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "c=biws,r=$r,r=$r,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "r=$r,c=biws,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "r=$r,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "c=eSws,r=$r,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "c=!,r=$r,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "c=,r=$r,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "c=biws,r=$r,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==",
    "c=biws,r=$r,\u{e4}=x,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "c=biws,r=$r,\0,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
];

#[tokio::test]
async fn every_wrong_last_message_of_scram_is_refused() {
    let mut house = House::build().await;
    let mut lasts: Vec<String> = WRONG_LASTS.iter().map(|last| (*last).to_owned()).collect();
    lasts.push(format!("c=biws,r=$r,p={}", "A".repeat(60_000)));
    lasts.push(format!("c={},r=$r,p=AAAA", "A".repeat(5000)));
    for last in lasts {
        for user in ["alice", "nobody"] {
            let (mut client, challenge) = challenged(&house, user, "shop").await;
            let nonce = challenge
                .trim_start_matches("r=")
                .split(',')
                .next()
                .unwrap_or_default();
            let message = last.replace("$r", nonce);
            client
                .send(&packet::sasl_response(message.as_bytes()))
                .await
                .unwrap();
            let answer = client.hear().await;
            let code = answer.code().unwrap_or_default();
            let refused = answer.end == End::Closed && matches!(&*code, "08P01" | "28P01");
            assert!(
                refused,
                "{user}: {}: {answer:?}",
                last.chars().take(60).collect::<String>()
            );
        }
    }
    house.stands().await;
}

/// What a client learns from a failed login, with the names taken out.
async fn failure(house: &House, user: &str, database: &str) -> (String, Duration) {
    let started = Instant::now();
    let (mut client, challenge) = challenged(house, user, database).await;
    let nonce = challenge
        .trim_start_matches("r=")
        .split(',')
        .next()
        .unwrap_or_default();
    let proof = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let last = format!("c=biws,r={nonce},p={proof}");
    client
        .send(&packet::sasl_response(last.as_bytes()))
        .await
        .unwrap();
    let answer = client.hear().await;
    let took = started.elapsed();
    let parts: Vec<String> = challenge
        .split(',')
        .map(|part| match part.split_once('=') {
            Some(("i", count)) => format!("i={count}"),
            Some((name, value)) => format!("{name}:{}", value.len()),
            None => part.to_owned(),
        })
        .collect();
    (format!("{parts:?} {answer:?}").replace(user, "USER"), took)
}

#[tokio::test]
async fn who_and_what_exists_is_not_told_to_strangers() {
    let settings = "[auth]\nscram_iterations = 8192\n[timeouts]\nlogin = \"15s\"\n";
    let mut house = House::with(settings, Vec::new()).await;
    let pairs = [
        ("alice", "shop"),
        ("nobody", "shop"),
        ("alice", "nowhere"),
        ("nobody", "nowhere"),
    ];
    let told = failure(&house, "alice", "shop").await.0;
    // The quickest of many, taken in turn, is what other work on this machine disturbs least.
    let mut quickest = [Duration::MAX; 4];
    for _ in 0..20 {
        for ((user, database), quickest) in pairs.iter().zip(&mut quickest) {
            let (heard, took) = failure(&house, user, database).await;
            assert_eq!(heard, told, "{user}@{database} is told apart");
            *quickest = took.min(*quickest);
        }
    }
    let fastest = quickest.iter().min().copied().unwrap_or_default();
    let slowest = quickest.iter().max().copied().unwrap_or_default();
    // Deriving the keys of a password takes several milliseconds here.
    let close = slowest < fastest * 2 + Duration::from_millis(2);
    assert!(close, "{quickest:?} of {pairs:?}");
    // The salt of somebody who does not exist stays the same, as a stored one would.
    let salt = |challenge: String| challenge.split(',').nth(1).map(str::to_owned);
    let first = salt(challenged(&house, "nobody", "shop").await.1);
    assert_eq!(first, salt(challenged(&house, "nobody", "nowhere").await.1));
    assert_ne!(
        first,
        salt(challenged(&house, "nobody else", "shop").await.1)
    );
    house.stands().await;
}

#[tokio::test]
async fn only_those_who_have_proved_themselves_learn_what_is_missing() {
    let mut house = House::build().await;
    let refused = |answer: Result<Client, Answer>| answer.expect_err("let in").code();
    let address = house.proxy.address();
    let wrong = Client::login(address, "alice", "wrong", "nowhere").await;
    assert_eq!(refused(wrong).as_deref(), Some("28P01"));
    let right = Client::login(address, "alice", ALICE, "nowhere").await;
    assert_eq!(refused(right).as_deref(), Some("3D000"));
    house.stands().await;
}

#[tokio::test]
async fn nothing_is_open_that_nobody_opened() {
    let mut house = House::build().await;
    let address = house.proxy.address();
    for database in ["pgherd", "pgbouncer"] {
        for user in ["postgres", "pgherd", "pgbouncer", "admin", "root", "alice"] {
            for password in ["", user, "postgres", "admin", "admin_pass", "password"] {
                let login = Client::login(address, user, password, database).await;
                assert_eq!(
                    login.err().and_then(|no| no.code()).as_deref(),
                    Some("28P01"),
                    "{user}"
                );
            }
        }
        // Who may log in may not command.
        let login = Client::login(address, "alice", ALICE, database).await;
        assert_eq!(
            login.err().and_then(|no| no.code()).as_deref(),
            Some("42501")
        );
    }
    // One port, on this machine alone.
    assert_eq!(house.proxy.listening(), [address]);
    house.stands().await;
}
