//! SCRAM that is bound to the TLS channel, on both legs.

use pgherd_tests::{
    Authority, Config, Database, Greeting, Proxy, Raw, encrypt, server, try_connect,
};

use super::login::psql;

/// A proxy that asks for a proof by a method, under TLS with a certificate of an authority.
async fn asking(method: &str, database: &Database, authority: &Authority) -> Proxy {
    let (name, port) = (&database.name, database.port);
    let tls = authority.section("prefer");
    Proxy::start(&Config::text(format!(
        "[listen]\naddresses = [\"127.0.0.1:{{port}}\"]\n[auth]\nmethod = \"{method}\"\n{tls}\
         [users.scram]\npassword = \"scram\"\n[databases.{name}]\nhosts = [\"127.0.0.1:{port}\"]\n"
    )))
    .await
}

#[tokio::test]
async fn a_client_that_requires_it_gets_it_or_knows() {
    let database = Database::new().await;
    let authority = Authority::new();
    for (method, tls, right) in [
        ("scram-sha-256", "require", true),
        ("scram-sha-256", "disable", false),
        ("password", "require", false),
        ("md5", "require", false),
        ("trust", "require", false),
    ] {
        let proxy = asking(method, &database, &authority).await;
        let to = format!(
            "host=127.0.0.1 port={} user=scram password=scram dbname={} sslmode={tls} \
             channel_binding=require",
            proxy.port(),
            database.name
        );
        let output = psql(&to, "select session_user").await;
        if right {
            assert_eq!(output.success(), "scram");
        } else {
            assert!(
                output.err.contains("channel binding"),
                "{method}: {output:?}"
            );
        }
    }
}

/// Begins a login over a connection, and gives the mechanisms that are offered.
async fn mechanisms(raw: &mut Raw, database: &Database) -> Vec<String> {
    let parameters = [("user", "scram"), ("database", &*database.name)];
    raw.startup(0x0003_0000, &parameters).await;
    let message = raw.message().await;
    assert_eq!((message.tag, &message.body[..4]), ('R', &[0, 0, 0, 10][..]));
    let names = message.body[4..].split(|byte| *byte == 0);
    names
        .filter(|name| !name.is_empty())
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect()
}

/// Chooses a mechanism with a first message, and gives the answer: its tag and SQLSTATE.
async fn choose(raw: &mut Raw, mechanism: &str, first: &str) -> (char, Option<String>) {
    let mut body = format!("{mechanism}\0").into_bytes();
    body.extend(u32::try_from(first.len()).unwrap().to_be_bytes());
    body.extend(first.as_bytes());
    raw.send(&Raw::framed(b'p', &body)).await;
    let answer = raw.message().await;
    (answer.tag, answer.field('C'))
}

#[tokio::test]
async fn it_is_offered_under_tls_alone_and_cannot_be_taken_away() {
    let database = Database::new().await;
    let authority = Authority::new();
    let proxy = asking("scram-sha-256", &database, &authority).await;
    let mut plain = Raw::open(proxy.port()).await;
    assert_eq!(mechanisms(&mut plain, &database).await, ["SCRAM-SHA-256"]);
    // A client that could have bound, and was told that we cannot: which here is true.
    let could = choose(&mut plain, "SCRAM-SHA-256", "y,,n=,r=abcdefgh").await;
    assert_eq!(could.0, 'R');
    let refused = ('E', Some("08P01".to_owned()));
    for (mechanism, first, expected) in [
        // RFC 5802, section 6: somebody has taken -PLUS from our offer.
        ("SCRAM-SHA-256", "y,,n=,r=abcdefgh", refused.clone()),
        ("SCRAM-SHA-256", "n,,n=,r=abcdefgh", ('R', None)),
        (
            "SCRAM-SHA-256-PLUS",
            "p=tls-server-end-point,,n=,r=abcdefgh",
            ('R', None),
        ),
        ("SCRAM-SHA-256-PLUS", "n,,n=,r=abcdefgh", refused.clone()),
        ("SCRAM-SHA-256-PLUS", "p=tls-unique,,n=,r=abcdefgh", refused),
    ] {
        let raw = encrypt(proxy.port(), &authority, Greeting::Request, None).await;
        let mut raw = raw.unwrap();
        let offered = mechanisms(&mut raw, &database).await;
        assert_eq!(offered, ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"]);
        let answer = choose(&mut raw, mechanism, first).await;
        assert_eq!(
            (answer.0, answer.1.filter(|_| answer.0 == 'E')),
            expected,
            "{mechanism} {first}"
        );
    }
}

#[tokio::test]
async fn a_server_that_cannot_is_not_used_where_it_is_required() {
    let database = Database::new().await;
    let (name, port) = (&database.name, database.port);
    let certificate = server().await.certificate().unwrap();
    let users: String = ["app", "scram", "md5", "plain", "clear"]
        .iter()
        .map(|user| format!("[users.{user}]\npassword = \"{user}\"\n"))
        .collect();
    let required = "channel_binding is required";
    for (binding, user, refused) in [
        ("require", "scram", None),
        // Trusted: somebody in between could let us in as well.
        ("require", "app", Some("the server does not ask for it")),
        (
            "require",
            "md5",
            Some("the server asks for a method that cannot"),
        ),
        (
            "require",
            "plain",
            Some("the server asks for a method that cannot"),
        ),
        ("prefer", "scram", None),
        ("prefer", "app", None),
        ("prefer", "md5", None),
        ("disable", "scram", None),
    ] {
        let config = Config::text(format!(
            "[listen]\naddresses = [\"127.0.0.1:{{port}}\"]\n{users}\
             [databases.{name}]\nhosts = [\"127.0.0.1:{port}\"]\nchannel_binding = \"{binding}\"\n\
             tls = {{ mode = \"verify-full\", ca = {:?} }}\n",
            certificate.ca
        ));
        let proxy = Proxy::start(&config).await;
        let entered = try_connect(&proxy.url(user, name)).await;
        match (entered, refused) {
            (Ok(client), None) => assert_eq!(client.one("select session_user").await, user),
            (Err((code, words)), Some(why)) => {
                assert_eq!(code, "08006", "{binding} {user}");
                assert!(words.contains(why), "{required}, {binding} {user}: {words}");
            }
            (other, _) => panic!("{binding} {user}: {other:?}"),
        }
    }
}
