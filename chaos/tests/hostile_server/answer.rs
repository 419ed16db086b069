//! Attacks on those who ask something.

use std::time::Duration;

use pgherd_chaos::hostile::attack::{Attack, Expect, Opening, Step};
use pgherd_chaos::hostile::{Answer, Client, End, Proxy, Server, attack, packet};

use super::{EXECUTABLE, GROWTH, login, recovers, settings};

/// What is wrong with an answer, given what was expected.
fn judge(answer: &Answer, expect: Expect) -> Option<&'static str> {
    let code = answer.code().unwrap_or_default();
    match (expect, answer.end) {
        (_, End::Silent | End::Asked(_)) => Some("silence"),
        (Expect::Any, _) => None,
        (Expect::Passed, End::Ready(_)) if code.is_empty() => None,
        (Expect::Told, End::Ready(b'I')) if code.starts_with("08") || code == "57P01" => None,
        (Expect::Cut, End::Closed) => None,
        _ => Some("not as expected"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attack_in_place_of_an_answer_hurts_only_its_own_client() {
    let attacks = attack::queries();
    let server = Server::start(Opening::Trust, attacks.clone())
        .await
        .unwrap();
    let settings = settings(&[("shop".to_owned(), &server)], "disable");
    let mut proxy = Proxy::start(EXECUTABLE, &settings).await.unwrap();
    let mut bystander = login(&proxy, "shop").await.unwrap();
    let mut faults = Vec::new();
    let memory = proxy.memory();
    for attack in &attacks {
        let mut client = login(&proxy, "shop").await.unwrap();
        let answer = client.query(&format!("select '{}'", attack.name)).await;
        if let Some(fault) = judge(&answer, attack.expect) {
            faults.push(format!("{}: {fault}: {answer:?}", attack.name));
        }
        if matches!(attack.expect, Expect::Passed | Expect::Told) {
            let next = client.query("select 'next'").await;
            if next.value().as_deref() != Some("next") {
                faults.push(format!(
                    "{}: the session did not go on: {next:?}",
                    attack.name
                ));
            }
        }
        let own = bystander
            .query(&format!("select 'not {}'", attack.name))
            .await;
        if own.value() != Some(format!("not {}", attack.name)) {
            faults.push(format!("{}: a bystander heard {own:?}", attack.name));
            bystander = login(&proxy, "shop").await.unwrap();
        }
        if let Some(fault) = proxy.fault() {
            panic!("{}: {fault}\n{faults:#?}", attack.name);
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
    assert!(
        proxy.memory() < memory + GROWTH,
        "{} -> {}",
        memory,
        proxy.memory()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attack_within_a_pipeline_or_a_transaction_hurts_only_its_own_client() {
    let attacks = attack::queries();
    let server = Server::start(Opening::Trust, attacks.clone())
        .await
        .unwrap();
    let settings = settings(&[("shop".to_owned(), &server)], "disable");
    let mut proxy = Proxy::start(EXECUTABLE, &settings).await.unwrap();
    let mut bystander = login(&proxy, "shop").await.unwrap();
    let mut faults = Vec::new();
    for attack in &attacks {
        for begun in [false, true] {
            let mut client = login(&proxy, "shop").await.unwrap();
            if begun {
                client.query("begin read write").await;
            }
            let text = format!("select '{}'", attack.name);
            let pipeline = [
                packet::parse("s", &text),
                packet::bind("s"),
                packet::execute(),
            ];
            client
                .send(&[pipeline.concat(), packet::sync()].concat())
                .await
                .unwrap();
            // What an extended query is answered with is less than a hostile server says, so most
            // ends are right; only silence and a wrong answer to others are not. A server that
            // falls silent after its attack is heard no longer than this.
            client.set_patience(Duration::from_secs(5));
            let mut answer = client.hear().await;
            if answer.end == End::Silent && answer.code().is_some() {
                // A COPY swallows the Sync sent before it failed, so a client sends another.
                client.send(&packet::sync()).await.unwrap();
                answer = client.hear().await;
            }
            if answer.end == End::Silent {
                faults.push(format!("{} (begun: {begun}): {answer:?}", attack.name));
            }
            drop(client);
            let own = bystander
                .query(&format!("select 'not {}'", attack.name))
                .await;
            if own.value() != Some(format!("not {}", attack.name)) {
                faults.push(format!(
                    "{} (begun: {begun}): a bystander heard {own:?}",
                    attack.name
                ));
                bystander = login(&proxy, "shop").await.unwrap();
            }
            if let Some(fault) = proxy.fault() {
                panic!("{}: {fault}\n{faults:#?}", attack.name);
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

/// Lets a client log in whose session has to be set up, on a server that does this instead.
async fn set_up(steps: Vec<Step>, patience: Duration) {
    let attack = Attack {
        name: "application_name",
        steps,
        expect: Expect::Any,
    };
    let server = Server::start(Opening::Trust, vec![attack]).await.unwrap();
    let settings = settings(&[("shop".to_owned(), &server)], "disable");
    let mut proxy = Proxy::start(EXECUTABLE, &settings).await.unwrap();
    let memory = proxy.memory();
    let mut client = Client::connect(proxy.address()).await.unwrap();
    client.set_patience(patience);
    let parameters = [
        ("user", "alice"),
        ("database", "shop"),
        ("application_name", "a"),
    ];
    let answer = client.authenticate("", &parameters).await;
    let grown = proxy.memory();
    assert!(grown < memory + GROWTH, "{memory} -> {grown}");
    assert_eq!(answer.end, End::Closed, "{answer:?}");
    assert!(
        answer.code().is_some_and(|code| code.starts_with("08")),
        "{answer:?}"
    );
    assert_eq!(recovers(&proxy, "shop").await, None);
    assert_eq!(proxy.fault(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_parameters_while_a_session_is_set_up_is_cut_off() {
    let flood = packet::parameter("TimeZone", &"x".repeat(1000));
    set_up(vec![Step::Flood(flood, usize::MAX)], Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_mute_while_a_session_is_set_up_holds_its_client_no_longer_than_a_login() {
    set_up(vec![Step::Hang], Duration::from_secs(10)).await;
}
