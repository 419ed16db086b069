//! Messages of hundreds of megabytes, and lengths that promise more than comes.

use pgherd_sandbox::{Binaries, Server};
use pgherd_tests::{Client, Config, Proxy, Raw, connect, until};

const MEGABYTE: usize = 1 << 20;
/// Megabytes of one message.
const SIZE: usize = 300;
/// What the proxy may need more than before, while so much passes.
const ROOM: u64 = 24 << 20;

/// A server that logs no statements, which are too long here, and a proxy before it.
async fn before_a_quiet_server() -> (Proxy, Server) {
    let binaries = Binaries::find().unwrap();
    let server = Server::builder(&binaries).start().await.unwrap();
    let config = Config::text(format!(
        "[listen]\naddresses = [\"127.0.0.1:{{port}}\"]\n[auth]\nmethod = \"trust\"\n\
         [pool]\nsize = 2\n[users.postgres]\n\
         [databases.postgres]\nhosts = [\"127.0.0.1:{}\"]\n",
        server.port()
    ));
    (Proxy::start(&config).await, server)
}

async fn raw(proxy: &Proxy) -> Raw {
    Raw::login(proxy.port(), "postgres", "postgres", &[]).await
}

/// The first five bytes of a message.
fn header(tag: u8, body: usize) -> Vec<u8> {
    let length = u32::try_from(body + 4).unwrap();
    [&[tag][..], &length.to_be_bytes()].concat()
}

/// Sends a message whose body has megabytes of `x` in its middle, and gives the most memory that the
/// proxy had in use meanwhile. Somebody else is served all the time.
async fn stream(
    client: &mut Raw,
    proxy: &Proxy,
    other: &Client,
    (tag, first, last): (u8, &[u8], &[u8]),
) -> u64 {
    let filling = vec![b'x'; MEGABYTE];
    let body = first.len() + SIZE * MEGABYTE + last.len();
    client.send(&[&header(tag, body), first].concat()).await;
    let mut most = 0;
    for count in 0..SIZE {
        client.send(&filling).await;
        if count % 10 == 0 {
            most = most.max(proxy.memory());
            assert_eq!(other.one("select 'served'").await, "served");
        }
    }
    client.send(last).await;
    most.max(proxy.memory())
}

#[tokio::test]
async fn three_hundred_megabytes_in_one_message_pass_through_little_memory() {
    let (proxy, server) = before_a_quiet_server().await;
    server.sql("create table big (a text)").await.unwrap();
    let other = connect(&proxy.url("postgres", "postgres")).await;
    let mut client = raw(&proxy).await;
    client.one("select 1").await;
    let before = proxy.memory();

    let size = SIZE * MEGABYTE;
    let length = u32::try_from(size).unwrap().to_be_bytes();
    client
        .send(&Raw::parse("", "select octet_length($1::text)"))
        .await;
    let bind = [&b"\0\0\0\0\0\x01"[..], &length].concat();
    let most = stream(&mut client, &proxy, &other, (b'B', &bind, b"\0\0")).await;
    assert!(most < before + ROOM, "Bind: {before} {most}");
    client
        .send(&[Raw::execute("", 0), Raw::sync()].concat())
        .await;
    let answer = client.ready().await;
    let row = answer.iter().find(|message| message.tag == 'D').unwrap();
    assert_eq!(row.columns(), [size.to_string()]);

    let query = (b'Q', &b"/*"[..], &b"*/ select 'end'\0"[..]);
    let most = stream(&mut client, &proxy, &other, query).await;
    assert!(most < before + ROOM, "Query: {before} {most}");
    let answer = client.ready().await;
    let row = answer.iter().find(|message| message.tag == 'D').unwrap();
    assert_eq!(row.columns(), ["end"]);

    client.send(&Raw::query("copy big from stdin")).await;
    assert_eq!(client.message().await.tag, 'G');
    let most = stream(&mut client, &proxy, &other, (b'd', b"", b"\n")).await;
    assert!(most < before + ROOM, "CopyData: {before} {most}");
    client.send(&Raw::framed(b'c', b"")).await;
    client.ready().await;
    let stored = client.one("select octet_length(a) from big").await;
    assert_eq!(stored, size.to_string());
}

#[tokio::test]
async fn a_statement_too_large_to_be_prepared_is_skipped_as_it_comes() {
    let (proxy, _server) = before_a_quiet_server().await;
    let other = connect(&proxy.url("postgres", "postgres")).await;
    let mut client = raw(&proxy).await;
    client.one("select 1").await;
    let before = proxy.memory();
    let parse = (b'P', &b"name\0select '"[..], &b"'\0\0\0"[..]);
    let most = stream(&mut client, &proxy, &other, parse).await;
    assert!(most < before + ROOM, "{before} {most}");
    assert_eq!(client.ask(&Raw::sync()).await, "E54000 ZI");
    assert_eq!(client.one("select 1").await, "1");
}

/// A query of so many megabytes that gives a 1.
fn long(megabytes: usize) -> String {
    format!("select 1 /*{}*/", "x".repeat(megabytes * MEGABYTE))
}

#[tokio::test]
async fn statements_that_are_closed_in_a_pipeline_are_kept_in_little_memory() {
    const COUNT: usize = 60;
    let (proxy, _server) = before_a_quiet_server().await;
    let mut client = raw(&proxy).await;
    client.one("select 1").await;
    let before = proxy.memory();
    let text = long(4);
    for number in 0..COUNT {
        // What tells them apart stands in the text.
        let text = format!("{text} -- {number}");
        client.send(&Raw::parse("s", &text)).await;
        client.send(&Raw::close('S', "s")).await;
    }
    let answer = client.ask(&Raw::sync()).await;
    assert_eq!(answer, "1 3 ".repeat(COUNT) + "ZI");
    let most = proxy.most_memory();
    assert!(most < before + 4 * ROOM, "{before} {most}");
    assert_eq!(client.one("select 1").await, "1");
}

#[tokio::test]
async fn an_error_in_front_of_a_close_has_a_long_statement_stay() {
    let (proxy, _server) = before_a_quiet_server().await;
    let mut client = raw(&proxy).await;
    let text = long(1);
    let prepare = [Raw::parse("s", &text), Raw::parse("t", &text), Raw::sync()].concat();
    assert_eq!(client.ask(&prepare).await, "1 1 ZI");
    let pipeline = [
        Raw::close('S', "s"),
        Raw::parse("", "select 1 / 0"),
        Raw::bind("", "", &[]),
        Raw::execute("", 0),
        Raw::close('S', "t"),
        Raw::sync(),
    ];
    assert_eq!(client.ask(&pipeline.concat()).await, "3 1 E22012 ZI");
    for (name, answer) in [("s", "E26000 ZI"), ("t", "2 D C ZI")] {
        let run = [Raw::bind("", name, &[]), Raw::execute("", 0), Raw::sync()];
        assert_eq!(client.ask(&run.concat()).await, answer, "{name}");
    }
}

#[tokio::test]
async fn long_statements_that_are_prepared_anew_for_each_other_go_one_by_one() {
    const COUNT: usize = 40;
    let (proxy, _server) = before_a_quiet_server().await;
    let mut client = raw(&proxy).await;
    for name in ["a", "b"] {
        // Each is more than a server connection keeps (max_prepared_bytes).
        let text = format!("{} -- {name}", long(5));
        let prepare = [Raw::parse(name, &text), Raw::sync()].concat();
        assert_eq!(client.ask(&prepare).await, "1 ZI");
    }
    let before = proxy.memory();
    let run = |name| [Raw::bind("", name, &[]), Raw::execute("", 0)].concat();
    let both = [run("a"), run("b")].concat();
    client
        .send(&[both.repeat(COUNT), Raw::sync()].concat())
        .await;
    let answer = client.ready().await;
    let rows = answer.iter().filter(|message| message.tag == 'D').count();
    assert_eq!((rows, answer.len()), (2 * COUNT, 3 * 2 * COUNT + 1));
    let most = proxy.most_memory();
    assert!(most < before + 4 * ROOM, "{before} {most}");
}

#[tokio::test]
async fn a_name_that_is_long_and_taken_is_told_in_part() {
    let (proxy, _server) = before_a_quiet_server().await;
    let mut client = raw(&proxy).await;
    let name = "n".repeat(2 * MEGABYTE);
    let parse = [Raw::parse(&name, "select 1"), Raw::sync()].concat();
    assert_eq!(client.ask(&parse).await, "1 ZI");
    client.send(&parse).await;
    let answer = client.ready().await;
    assert_eq!(answer[0].field('C').as_deref(), Some("42P05"));
    assert!(answer[0].body.len() < 2048);
}

#[tokio::test]
async fn a_message_that_breaks_off_costs_its_sender_alone() {
    let (proxy, server) = before_a_quiet_server().await;
    server.sql("create table big (a text)").await.unwrap();
    let other = connect(&proxy.url("postgres", "postgres")).await;
    other.one("select 1").await;
    let before = proxy.memory();
    let filling = vec![b'x'; MEGABYTE];
    // As much as Postgres takes, nearly.
    let whole = 0x3fff_0000;
    for (tag, prelude, first) in [
        (b'Q', Vec::new(), &b"select '"[..]),
        (
            b'B',
            Raw::parse("", "select $1::text"),
            b"\0\0\0\0\0\x01\x3f\0\0\0",
        ),
        (b'd', Raw::query("copy big from stdin"), b""),
    ] {
        let mut client = raw(&proxy).await;
        client.send(&prelude).await;
        if tag == b'd' {
            assert_eq!(client.message().await.tag, 'G');
        }
        client.send(&[&header(tag, whole), first].concat()).await;
        for _ in 0..20 {
            client.send(&filling).await;
            assert_eq!(other.one("select 'served'").await, "served");
        }
        let most = proxy.memory();
        assert!(most < before + ROOM, "{}: {before} {most}", char::from(tag));
        drop(client);
        // The server connection is in the middle of a message, so nobody can have it any more.
        until("its server is let go", async || {
            server.backend_pids().await.unwrap().len() <= 1
        })
        .await;
        assert_eq!(raw(&proxy).await.one("select 'whole'").await, "whole");
    }
}

#[tokio::test]
async fn lengths_that_postgres_refuses_are_refused_at_once() {
    let (proxy, server) = before_a_quiet_server().await;
    server.sql("create table big (a text)").await.unwrap();
    let other = connect(&proxy.url("postgres", "postgres")).await;
    for length in [1_u32 << 31, (1 << 31) + 5, u32::MAX] {
        for tag in [b'Q', b'B', b'd'] {
            let mut client = raw(&proxy).await;
            if tag == b'd' {
                client.send(&Raw::query("copy big from stdin")).await;
                assert_eq!(client.message().await.tag, 'G');
            }
            let bytes = [&[tag][..], &length.to_be_bytes(), b"some of it"].concat();
            client.send(&bytes).await;
            let refused = client.message().await;
            assert_eq!(
                refused.field('C').as_deref(),
                Some("08P01"),
                "{tag} {length}"
            );
            assert!(client.next().await.is_none());
            assert_eq!(other.one("select 'served'").await, "served");
        }
    }
    assert_eq!(server.sql("select count(*) from big").await.unwrap(), "0");
}
