//! The same bytes to Postgres itself and to the proxy before it.

use std::net::SocketAddr;
use std::time::Duration;

use pgherd_chaos::hostile::{Answer, Client, End, Proxy, malformed};
use pgherd_sandbox::{Binaries, Server};

use super::EXECUTABLE;

async fn connect(address: SocketAddr, parameters: &[(&str, &str)]) -> (Client, Answer) {
    let mut client = Client::connect(address).await.unwrap();
    client.set_patience(Duration::from_secs(5));
    let answer = client.authenticate("", parameters).await;
    (client, answer)
}

/// A server, its address, and a proxy before it.
pub(super) async fn pair(settings: &str) -> (Server, SocketAddr, Proxy) {
    let server = Server::builder(&Binaries::find().unwrap())
        .start()
        .await
        .unwrap();
    server
        .sql("create role alice login superuser")
        .await
        .unwrap();
    let direct = SocketAddr::from(([127, 0, 0, 1], server.port()));
    let settings = format!("{settings}\n[databases.postgres]\nhosts = [\"{direct}\"]\n");
    let proxy = Proxy::start(EXECUTABLE, &settings).await.unwrap();
    (server, direct, proxy)
}

fn is_accepted(answer: &Answer) -> bool {
    matches!(answer.end, End::Ready(_)) && answer.error().is_none()
}

#[tokio::test]
async fn what_is_wrong_inside_is_wrong_for_both() {
    let (_server, direct, mut proxy) = pair("[auth]\nmethod = \"trust\"\n[users.alice]\n").await;
    let parameters = [("user", "alice"), ("database", "postgres")];
    let mut faults = Vec::new();
    for case in malformed::all() {
        let mut heard = Vec::new();
        for address in [direct, proxy.address()] {
            let (mut client, welcome) = connect(address, &parameters).await;
            assert!(is_accepted(&welcome), "{}: {welcome:?}", case.name);
            let _ = client.send(&case.bytes).await;
            let answer = client.hear().await;
            // If the boundaries were lost, the next answer is not to this question.
            let next = match answer.end {
                End::Ready(_) => client.query("select 'next'").await.value(),
                _ => None,
            };
            heard.push((answer, next));
        }
        let [(direct, next_direct), (proxied, next_proxied)] = &heard[..] else {
            continue;
        };
        let agree = is_accepted(direct) == is_accepted(proxied);
        let same = !is_accepted(direct) || direct.tags() == proxied.tags();
        let kept = match proxied.end {
            End::Ready(_) => next_proxied.as_deref() == Some("next"),
            End::Closed => !is_accepted(direct),
            _ => false,
        };
        if !agree || !same || !kept || next_direct.is_none() && direct.end == End::Silent {
            faults.push(format!(
                "{}: {direct:?}\n  but {proxied:?} {next_proxied:?}",
                case.name
            ));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert_eq!(proxy.fault(), None);
}

/// Options as libpq would send them; what Postgres makes of each is found out.
const OPTIONS: &[&str] = &[
    "",
    " ",
    "   \t\n  ",
    "-c geqo=off",
    "-cgeqo=off",
    "--geqo=off",
    "-c geqo=off -c work_mem=1MB",
    "-c search_path=a,b",
    "-c search_path=a\\ b",
    "-c search_path=a\\\\b",
    "-c application-name=x",
    "--application-name=x",
    "-c application_name=x=y",
    "-c application_name=",
    "-c application_name=\\",
    "-c application_name=\\ ",
    "-c application_name='quoted'",
    "-c=",
    "-c =",
    "-c",
    "--",
    "--=",
    "--=x",
    "-c =x",
    "-c geqo",
    "--geqo",
    "-c geqo=maybe",
    "-c nothing_like_it=1",
    "-c made.up=1",
    "-c work_mem=-1",
    "-c shared_buffers=1GB",
    "-x",
    "+",
    "geqo=off",
    "-c geqo=off trailing",
    "-c geqo=off;geqo=on",
    "\\",
    "-",
];

#[tokio::test]
async fn options_mean_the_same_to_both() {
    let (_server, direct, mut proxy) = pair("[auth]\nmethod = \"trust\"\n[users.alice]\n").await;
    let mut faults = Vec::new();
    for options in OPTIONS {
        let parameters = [
            ("user", "alice"),
            ("database", "postgres"),
            ("options", *options),
        ];
        let mut heard = Vec::new();
        for address in [direct, proxy.address()] {
            let (mut client, welcome) = connect(address, &parameters).await;
            if !is_accepted(&welcome) {
                assert_ne!(welcome.end, End::Silent, "{options:?}: {welcome:?}");
                heard.push(Err(()));
                continue;
            }
            let mut values = Vec::new();
            for name in ["geqo", "work_mem", "search_path", "application_name"] {
                values.push(client.query(&format!("show {name}")).await.value());
            }
            heard.push(Ok(values));
        }
        if heard[0] != heard[1] {
            faults.push(format!("{options:?}: {:?} but {:?}", heard[0], heard[1]));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert_eq!(proxy.fault(), None);
}

#[tokio::test]
async fn a_query_for_secrets_lets_in_nobody_but_the_one_it_names() {
    let settings = "[auth]\nmethod = \"password\"\nquery_user = \"keeper\"\n\
                    query = \"select name, secret from public.secrets where asked = $1\"\n\
                    [users.keeper]\npassword = \"keeper's\"\n";
    let (server, _, mut proxy) = pair(settings).await;
    server
        .sql(
            "create role keeper login; create role good login; create role other login;
             create role two login; create role nothing login; create role empty login;
             create table secrets (asked text, name text, secret text);
             grant select on secrets to keeper;
             insert into secrets values
                ('good', 'good', 'right'), ('two', 'two', 'right'), ('two', 'two', 'right'),
                ('nothing', 'nothing', null), ('empty', 'empty', ''), ('other', 'good', 'right'),
                ('nameless', null, 'right')",
        )
        .await
        .unwrap();
    let address = proxy.address();
    for user in [
        "two",
        "nothing",
        "empty",
        "other",
        "nameless",
        "nobody",
        "' or ''='",
        "$1",
    ] {
        for password in ["right", "", "null", user] {
            let login = Client::login(address, user, password, "postgres").await;
            let code = login.err().and_then(|answer| answer.code());
            assert_eq!(code.as_deref(), Some("28P01"), "{user} by {password:?}");
        }
    }
    let mut good = Client::login(address, "good", "right", "postgres")
        .await
        .unwrap();
    assert_eq!(
        good.query("select current_user").await.value().as_deref(),
        Some("good")
    );
    assert!(
        Client::login(address, "good", "wrong", "postgres")
            .await
            .is_err()
    );
    // A query that fails tells a stranger nothing about the server.
    server
        .sql("alter table secrets rename column secret to hidden")
        .await
        .unwrap();
    let answer = Client::login(address, "stranger", "x", "postgres")
        .await
        .expect_err("let in");
    assert!(answer.error().is_some(), "{answer:?}");
    assert!(
        !answer.says("secret") && !answer.says("keeper"),
        "{answer:?}"
    );
    assert_eq!(proxy.fault(), None);
}
