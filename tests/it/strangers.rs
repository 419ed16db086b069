//! What strangers can learn of who and what exists: nothing, by any method.

use std::time::{Duration, Instant};

use pgherd_tests::{Config, Database, Message, Proxy, Raw};

/// Users of all kinds of secrets, and one that is not written here but looked up.
async fn house(method: &str, database: &Database) -> Proxy {
    let (name, port) = (&database.name, database.port);
    let verifier = database
        .sql("select rolpassword from pg_authid where rolname = 'scram'")
        .await;
    Proxy::start(&Config::text(format!(
        "[listen]\naddresses = [\"127.0.0.1:{{port}}\"]\n[auth]\nmethod = \"{method}\"\n\
         query = \"select usename, passwd from pg_catalog.pg_shadow where usename = $1\"\n\
         query_user = \"app\"\n[users.app]\npassword = \"app\"\n[users.bare]\n\
         [users.scram]\npassword = \"{verifier}\"\n\
         [databases.{name}]\nhosts = [\"127.0.0.1:{port}\"]\n"
    )))
    .await
}

/// What a message shows, but for what is random and for names.
fn shape(message: &Message, user: &str) -> String {
    let text = String::from_utf8_lossy(&message.body).into_owned();
    let named = text.replace(user, "USER");
    match (message.tag, message.body.get(..4)) {
        // Of a challenge, the lengths of its parts; chance may have written the name into it.
        ('R', Some([0, 0, 0, 11])) => {
            let parts = text.split(',').map(|part| match part.split_once('=') {
                Some(("i", count)) => format!("i={count}"),
                _ => part.len().to_string(),
            });
            format!("challenge {:?}", parts.collect::<Vec<_>>())
        }
        ('R', Some([0, 0, 0, 5])) => "salt".to_owned(),
        (tag, _) => format!("{tag} {named:?}"),
    }
}

/// Fails to log in with what is no proof, and tells what was heard and how long it took.
async fn failure(proxy: &Proxy, user: &str, database: &str) -> (Vec<String>, Duration) {
    let began = Instant::now();
    let mut raw = Raw::open(proxy.port()).await;
    let parameters = [("user", user), ("database", database)];
    raw.startup(0x0003_0000, &parameters).await;
    let mut heard = Vec::new();
    while let Some(message) = raw.next().await {
        heard.push(shape(&message, user));
        let answer = match message.body.get(..4) {
            _ if message.tag != 'R' => continue,
            Some([0, 0, 0, 3]) => b"wrong\0".to_vec(),
            Some([0, 0, 0, 5]) => b"md500000000000000000000000000000000\0".to_vec(),
            Some([0, 0, 0, 10]) => {
                let first = b"n,,n=,r=abcdefghijklmnopqrstuvwx";
                let length = u32::try_from(first.len()).unwrap().to_be_bytes();
                [b"SCRAM-SHA-256\0", &length[..], first].concat()
            }
            Some([0, 0, 0, 11]) => {
                let challenge = String::from_utf8_lossy(&message.body[4..]).into_owned();
                let nonce = challenge.split(',').next().unwrap().to_owned();
                let proof = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
                format!("c=biws,{nonce},p={proof}").into_bytes()
            }
            _ => panic!("let in: {message:?}"),
        };
        raw.send(&Raw::framed(b'p', &answer)).await;
    }
    (heard, began.elapsed())
}

#[tokio::test]
async fn who_and_what_exists_is_not_told_by_any_method() {
    let database = Database::new().await;
    let name = &*database.name;
    for method in ["scram-sha-256", "password", "md5"] {
        let proxy = house(method, &database).await;
        // With a secret in a file, with one on the server, with none at all; and nobody.
        let mut cases = vec![
            ("scram", name),
            ("tls", name),
            ("bare", name),
            ("nobody", name),
            ("scram", "nowhere"),
            ("nobody", "nowhere"),
        ];
        if method == "scram-sha-256" {
            // An md5 secret cannot serve here, which nobody is told.
            cases.extend([("app", name), ("md5", name)]);
        }
        let mut first: Option<Vec<String>> = None;
        for (user, database) in cases {
            let (heard, _) = failure(&proxy, user, database).await;
            let last = heard.last().unwrap();
            assert!(
                last.contains("C28P01"),
                "{method} {user}@{database}: {heard:?}"
            );
            assert_eq!(
                *first.get_or_insert_with(|| heard.clone()),
                heard,
                "{method} {user}@{database}"
            );
        }
    }
}

#[tokio::test]
async fn a_password_in_clear_takes_everybody_the_same_time() {
    let database = Database::new().await;
    let name = &*database.name;
    let proxy = house("password", &database).await;
    let cases = [
        ("scram", name),
        ("app", name),
        ("bare", name),
        ("scram", "nowhere"),
        ("bare", "nowhere"),
    ];
    // The quickest of many, taken in turn, is what other work on this machine disturbs least; what is told
    // apart by its time is so however often it is asked.
    let mut quickest = [Duration::MAX; 5];
    for round in 1.. {
        for ((user, database), quickest) in cases.iter().zip(&mut quickest) {
            let (_, took) = failure(&proxy, user, database).await;
            *quickest = took.min(*quickest);
        }
        let fastest = quickest.iter().min().unwrap();
        let slowest = quickest.iter().max().unwrap();
        // Deriving keys takes some milliseconds, without which the fastest would be far ahead.
        let alike = *slowest < *fastest * 2 + Duration::from_millis(1);
        if alike && round >= 12 {
            break;
        }
        assert!(round < 120, "{quickest:?}");
    }
}

/// Postgres tells its log alone of a first packet that cannot be one: whoever sent it does not speak
/// this protocol, or says goodbye before it has said anything, as node's `pg` does.
#[tokio::test]
async fn a_first_packet_of_no_length_gets_no_answer() {
    let database = Database::new().await;
    let proxy = house("trust", &database).await;
    let goodbye = Raw::framed(b'X', b"");
    let cancel = [0, 0, 0, 12, 4, 210, 22, 46, 0, 0, 0, 1];
    for (name, first) in [
        ("a goodbye", &goodbye[..]),
        ("another protocol", b"GET / HTTP/1.1\r\n\r\n"),
        ("a cancel request without a key", &cancel),
    ] {
        for port in [database.port, proxy.port()] {
            let mut stranger = Raw::open(port).await;
            stranger.send(first).await;
            assert_eq!(stranger.end().await, b"", "{name}");
        }
    }
}
