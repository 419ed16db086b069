//! TLS from the first byte (`sslnegotiation=direct`), as PostgreSQL 17 takes it.

use std::io;
use std::path::Path;

use pgherd_sandbox::{Binaries, Server};
use pgherd_tests::{Authority, Config, Database, Greeting, Output, Proxy, Raw, encrypt};

/// A proxy with a certificate, before a database that trusts everyone.
async fn proxy(mode: &str, authority: &Authority, database: &Database) -> Proxy {
    let tls = match mode {
        "disable" => String::new(),
        mode => authority.section(mode),
    };
    let more = format!("{tls}[timeouts]\nlogin = \"20s\"\n");
    let (name, port) = (&database.name, database.port);
    Proxy::start(&Config::text(format!(
        "[listen]\naddresses = [\"127.0.0.1:{{port}}\"]\nunix_dir = \"{{dir}}\"\nunix_port = {{port}}\n\
         [auth]\nmethod = \"trust\"\n[users.app]\npassword = \"app\"\n\
         [databases.{name}]\nhosts = [\"127.0.0.1:{port}\"]\n{more}"
    )))
    .await
}

#[tokio::test]
async fn a_client_that_names_the_protocol_is_served() {
    let (database, authority) = (Database::new().await, Authority::new());
    let proxy = proxy("require", &authority, &database).await;
    for protocols in [&["postgresql"][..], &["h2", "postgresql"]] {
        let direct = Greeting::Direct(protocols);
        let raw = encrypt(proxy.port(), &authority, direct, None)
            .await
            .unwrap();
        let mut client = raw.enter("app", &database.name, &[]).await.unwrap();
        assert_eq!(client.one("select 'direct'").await, "direct");
    }
}

#[tokio::test]
async fn a_client_that_names_another_protocol_is_refused_by_an_alert() {
    let (database, authority) = (Database::new().await, Authority::new());
    let proxy = proxy("prefer", &authority, &database).await;
    for protocols in [
        &["http/1.1"][..],
        &["postgres", "POSTGRESQL", "postgresql2"],
    ] {
        let direct = Greeting::Direct(protocols);
        let error = encrypt(proxy.port(), &authority, direct, None)
            .await
            .unwrap_err();
        // RFC 7301 §3.2: no_application_protocol.
        assert!(
            error.to_string().contains("NoApplicationProtocol"),
            "{error}"
        );
    }
    let served = Greeting::Request;
    encrypt(proxy.port(), &authority, served, None)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_client_that_names_no_protocol_hears_nothing_after_the_handshake() {
    let (database, authority) = (Database::new().await, Authority::new());
    let proxy = proxy("prefer", &authority, &database).await;
    let direct = Greeting::Direct(&[]);
    let mut raw = encrypt(proxy.port(), &authority, direct, None)
        .await
        .unwrap();
    assert_eq!(raw.end().await, Vec::<u8>::new());
    let text = "did not agree on the protocol postgresql (ALPN)";
    proxy.logged(text, 1).await;
    // After an SSLRequest nobody asks for it.
    let raw = encrypt(proxy.port(), &authority, Greeting::Request, None)
        .await
        .unwrap();
    raw.enter("app", &database.name, &[]).await.unwrap();
}

#[tokio::test]
async fn encryption_is_agreed_on_once() {
    let (database, authority) = (Database::new().await, Authority::new());
    let proxy = proxy("prefer", &authority, &database).await;
    let direct = Greeting::Direct(&["postgresql"]);
    let mut raw = encrypt(proxy.port(), &authority, direct, None)
        .await
        .unwrap();
    raw.send(&[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]).await;
    let refused = raw.message().await;
    assert_eq!(refused.field('C').as_deref(), Some("08P01"));
}

#[tokio::test]
async fn where_there_is_no_tls_nobody_gets_it_directly() {
    let (database, authority) = (Database::new().await, Authority::new());
    let proxy = proxy("disable", &authority, &database).await;
    let direct = Greeting::Direct(&["postgresql"]);
    let error = encrypt(proxy.port(), &authority, direct, None)
        .await
        .unwrap_err();
    let closed = [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset];
    assert!(closed.contains(&error.kind()), "{error}");
    proxy.logged("TLS is switched off", 1).await;
}

#[tokio::test]
async fn a_unix_socket_is_never_encrypted() {
    let (database, authority) = (Database::new().await, Authority::new());
    let proxy = proxy("require", &authority, &database).await;
    let socket = proxy.path(&format!(".s.PGSQL.{}", proxy.port()));
    let mut asking = Raw::unix(&socket).await;
    asking.send(&[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]).await;
    assert_eq!(asking.byte().await, b'N');
    let mut client = asking.enter("app", &database.name, &[]).await.unwrap();
    assert_eq!(client.one("select 1").await, "1");
    let mut direct = Raw::unix(&socket).await;
    // What a TLS hello begins with.
    direct.send(&[0x16, 3, 1, 1, 0, 1, 0, 0, 0xfc, 3, 3]).await;
    assert_eq!(direct.end().await, Vec::<u8>::new());
}

/// A proxy whose server connections are as the URL says.
async fn towards(database: &Database, pairs: &str) -> Proxy {
    let (name, port) = (&database.name, database.port);
    Proxy::by_hand(|command, listen| {
        command
            .args(["--listen", "127.0.0.1", "--port", &listen.to_string()])
            .arg(format!(
                "postgres://app:app@127.0.0.1:{port}/{name}?{pairs}"
            ))
            .env("PGHERD_AUTH__METHOD", "trust")
            .env("PGHERD_TIMEOUTS__CHECKOUT", "1s");
    })
    .await
}

#[tokio::test]
async fn a_server_that_does_not_know_it_is_told_apart() {
    let database = Database::new().await;
    let version: u32 = database
        .sql("show server_version_num")
        .await
        .parse()
        .unwrap();
    let proxy = towards(&database, "sslmode=require&sslnegotiation=direct").await;
    let entered = Raw::open(proxy.port()).await;
    let entered = entered.enter("app", &database.name, &[]).await;
    if version >= 170_000 {
        assert_eq!(entered.unwrap().one("select 'direct'").await, "direct");
        return;
    }
    let told = entered.unwrap_err();
    assert_eq!(told.field('C').as_deref(), Some("08006"));
    let text = ['M', 'D'].map(|field| told.field(field).unwrap_or_default());
    let text = text.concat();
    assert!(
        text.contains("direct TLS needs PostgreSQL 17 or later"),
        "{text}"
    );
}

#[tokio::test]
async fn servers_are_asked_for_the_version_of_tls_that_is_demanded() {
    let settings = [("ssl_max_protocol_version", "TLSv1.2")];
    let server = Server::builder(&Binaries::find().unwrap())
        .tls(true)
        .settings(&settings)
        .start()
        .await
        .unwrap();
    let database = Database {
        name: "postgres".to_owned(),
        port: server.port(),
    };
    server
        .sql("create role app login superuser password 'app'")
        .await
        .unwrap();
    for (lowest, right) in [("TLSv1.2", true), ("TLSv1.3", false)] {
        let pairs = format!("sslmode=require&ssl_min_protocol_version={lowest}");
        let proxy = towards(&database, &pairs).await;
        let entered = Raw::open(proxy.port()).await;
        let entered = entered.enter("app", "postgres", &[]).await;
        assert_eq!(entered.is_ok(), right, "{lowest}: {:?}", entered.err());
    }
}

/// Runs the script that connects by libpq, which must be of version 17 or later.
async fn libpq(conninfo: &str) -> Output {
    let python = super::drivers::source("target/drivers/python/bin/python");
    let script = super::drivers::source("tests/drivers/direct_tls.py");
    super::drivers::script(&[&python, &script], conninfo).await
}

#[tokio::test]
async fn libpq_connects_directly() {
    let python = super::drivers::source("target/drivers/python/bin/python");
    if !super::drivers::installed(&[&python, Path::new("python3")]) {
        return;
    }
    let (database, authority) = (Database::new().await, Authority::new());
    let proxy = proxy("require", &authority, &database).await;
    let section = authority.section("require");
    let ca = section
        .lines()
        .find_map(|line| line.strip_prefix("ca = "))
        .unwrap();
    let (port, name) = (proxy.port(), &database.name);
    let to = format!(
        "host=127.0.0.1 port={port} user=app dbname={name} sslmode=verify-full sslrootcert={}",
        ca.trim_matches('"')
    );
    for negotiation in ["direct", "postgres"] {
        let output = libpq(&format!("{to} sslnegotiation={negotiation}")).await;
        assert_eq!(output.success(), "True direct", "{negotiation}");
    }
}
