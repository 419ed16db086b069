//! Attacks on those who log in.

use std::time::{Duration, Instant};

use pgherd_chaos::hostile::attack::{Opening, Step, welcome};
use pgherd_chaos::hostile::scram::Lie;
use pgherd_chaos::hostile::{Client, End, Proxy, Server, opening, packet};

use super::{EXECUTABLE, GROWTH, login, recovers, settings};

/// What a server says that nobody has vouched for yet.
const WORDS: &str = opening::WORDS;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_opening_is_refused_in_time_and_in_our_own_words() {
    let mut servers = Vec::new();
    for (name, opening) in opening::bad() {
        servers.push((
            name.to_owned(),
            Server::start(opening, Vec::new()).await.unwrap(),
        ));
    }
    let names: Vec<_> = servers
        .iter()
        .map(|(name, server)| (name.clone(), server))
        .collect();
    let mut proxy = Proxy::start(EXECUTABLE, &settings(&names, "disable"))
        .await
        .unwrap();
    let memory = proxy.memory();
    let logins = servers.iter().map(|(name, _)| {
        let (address, name) = (proxy.address(), name.clone());
        tokio::spawn(async move {
            let started = Instant::now();
            let mut client = Client::connect(address).await.unwrap();
            client.set_patience(Duration::from_secs(25));
            let answer = client
                .authenticate("", &[("user", "alice"), ("database", &name)])
                .await;
            (name, answer, started.elapsed())
        })
    });
    let logins: Vec<_> = logins.collect();
    let mut faults = Vec::new();
    for login in logins {
        let (name, answer, took) = login.await.unwrap();
        let refused = answer.end == End::Closed
            && answer
                .error()
                .is_some_and(|error| error.field(b'S').as_deref() == Some("FATAL"));
        if !refused || answer.says(WORDS) || took > Duration::from_secs(20) {
            faults.push(format!("{name} after {took:?}: {answer:?}"));
        }
    }
    assert!(
        proxy.memory() < memory + GROWTH,
        "{} -> {}",
        memory,
        proxy.memory()
    );
    for (_, server) in &servers {
        server.set_healthy(true);
    }
    for (name, _) in &servers {
        if let Some(answer) = recovers(&proxy, name).await {
            faults.push(format!("{name} did not get well: {answer:?}"));
        }
    }
    assert_eq!(proxy.fault(), None, "{faults:#?}");
    assert!(faults.is_empty(), "{faults:#?}");
}

#[tokio::test]
async fn waiting_clients_are_not_told_what_an_unproven_server_says() {
    let impostor = packet::error(&[(b'S', "FATAL"), (b'C', "53300"), (b'M', WORDS)]);
    let opening = Opening::Steps(vec![Step::Send(impostor)]);
    let server = Server::start(opening, Vec::new()).await.unwrap();
    server.set_healthy(true);
    let settings = settings(&[("shop".to_owned(), &server)], "disable");
    let proxy = Proxy::start(EXECUTABLE, &settings).await.unwrap();
    let mut holder = login(&proxy, "shop").await.unwrap();
    let mut waiter = login(&proxy, "shop").await.unwrap();
    holder.query("begin read write").await;
    assert_eq!(holder.query("select 'x'").await.end, End::Ready(b'T'));
    server.set_healthy(false);
    // The only server is taken, and no other lets us in: the client waits, is told that it does,
    // and is sent away in the end.
    let answer = waiter.query("select 'x'").await;
    assert_eq!(answer.code().as_deref(), Some("57014"), "{answer:?}");
    assert!(answer.tags().starts_with('N'), "{answer:?}");
    assert!(!answer.says(WORDS), "{answer:?}");
}

#[tokio::test]
async fn good_but_unusual_openings_are_taken() {
    let negotiation = packet::message(b'v', &[0, 3, 0, 0, 0, 0, 0, 0]);
    let notice = packet::message(b'N', b"SNOTICE\0C00000\0Mhello\0\0");
    let ok = packet::authentication(0, &[]);
    let keyless = [ok.clone(), packet::ready(b'I')].concat();
    let openings = [
        ("scram", Opening::Scram(Lie::None)),
        (
            "bytes",
            Opening::Steps(vec![Step::Drip([ok.clone(), welcome()].concat())]),
        ),
        (
            "old",
            Opening::Steps(vec![Step::Send(
                [negotiation, ok.clone(), welcome()].concat(),
            )]),
        ),
        (
            "talk",
            Opening::Steps(vec![Step::Send([notice, ok, welcome()].concat())]),
        ),
        ("keyless", Opening::Steps(vec![Step::Send(keyless)])),
    ];
    let mut servers = Vec::new();
    for (name, opening) in openings {
        servers.push((
            name.to_owned(),
            Server::start(opening, Vec::new()).await.unwrap(),
        ));
    }
    let names: Vec<_> = servers
        .iter()
        .map(|(name, server)| (name.clone(), server))
        .collect();
    let mut proxy = Proxy::start(EXECUTABLE, &settings(&names, "disable"))
        .await
        .unwrap();
    for (name, _) in &servers {
        let mut client = login(&proxy, name)
            .await
            .unwrap_or_else(|no| panic!("{name}: {no:?}"));
        assert_eq!(
            client.query("select 'x'").await.value().as_deref(),
            Some("x"),
            "{name}"
        );
    }
    assert_eq!(proxy.fault(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_most_iterations_that_are_allowed_delay_nobody_else() {
    let busy = Server::start(Opening::Scram(Lie::Iterations(1_000_000)), Vec::new())
        .await
        .unwrap();
    let good = Server::start(Opening::Trust, Vec::new()).await.unwrap();
    let names = [("busy".to_owned(), &busy), ("good".to_owned(), &good)];
    let mut proxy = Proxy::start(EXECUTABLE, &settings(&names, "disable"))
        .await
        .unwrap();
    let mut client = login(&proxy, "good").await.unwrap();
    let address = proxy.address();
    let victim =
        tokio::spawn(async move { Client::login(address, "alice", "secret", "busy").await });
    let began = Instant::now();
    let mut longest = Duration::ZERO;
    while !victim.is_finished() {
        let asked = Instant::now();
        assert_eq!(
            client.query("select 'x'").await.value().as_deref(),
            Some("x")
        );
        // A new client needs the control plane as well.
        assert!(login(&proxy, "good").await.is_ok());
        longest = longest.max(asked.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(victim.await.unwrap().is_err());
    // Whoever is held up by the reckoning is so for all of it, however busy this machine is.
    let lasted = began.elapsed();
    let bound = Duration::from_millis(400).max(lasted / 3);
    assert!(longest < bound, "{longest:?} of {lasted:?}");
    assert_eq!(proxy.fault(), None);
}

#[tokio::test]
async fn nothing_is_said_in_plain_text_where_tls_is_required() {
    let words = packet::error(&[(b'S', "FATAL"), (b'C', "08004"), (b'M', WORDS)]);
    let answers = [
        ("no", b"N".to_vec()),
        ("an error", words),
        ("garbage", b"?".to_vec()),
        ("bytes behind yes", b"Smuggled".to_vec()),
        (
            "a welcome behind yes",
            [b"S".to_vec(), packet::authentication(0, &[]), welcome()].concat(),
        ),
        (
            "a welcome behind no",
            [b"N".to_vec(), packet::authentication(0, &[]), welcome()].concat(),
        ),
    ];
    let mut servers = Vec::new();
    for (name, answer) in answers {
        let server = Server::start(Opening::Encryption(answer), Vec::new())
            .await
            .unwrap();
        servers.push((name.to_owned(), server));
    }
    let names: Vec<_> = servers
        .iter()
        .map(|(name, server)| (name.clone(), server))
        .collect();
    let mut proxy = Proxy::start(EXECUTABLE, &settings(&names, "require"))
        .await
        .unwrap();
    let address = proxy.address();
    let logins = names.iter().map(|(name, _)| {
        let name = name.clone();
        tokio::spawn(async move { Client::login(address, "alice", "", &name).await.err() })
    });
    let logins: Vec<_> = logins.collect();
    for (login, (name, server)) in logins.into_iter().zip(&names) {
        let answer = login
            .await
            .unwrap()
            .unwrap_or_else(|| panic!("{name}: let in"));
        assert!(
            answer.code().is_some_and(|code| code.starts_with("08")),
            "{name}: {answer:?}"
        );
        assert!(!answer.says(WORDS), "{name}: {answer:?}");
        assert_eq!(server.logins(), 0, "{name}");
    }
    assert_eq!(proxy.fault(), None);
}
