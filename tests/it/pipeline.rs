//! Many messages in one write.

use std::time::Duration;

use pgherd_tests::{Database, Proxy, Raw};

async fn single() -> (Database, Proxy, Raw) {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 1").await;
    let client = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    (database, proxy, client)
}

fn step(text: &str) -> Vec<u8> {
    [
        Raw::parse("", text),
        Raw::bind("", "", &[]),
        Raw::execute("", 0),
    ]
    .concat()
}

#[tokio::test]
async fn many_syncs_in_one_write_are_answered_one_by_one() {
    let (_database, _proxy, mut client) = single().await;
    let one = [step("select 1"), Raw::sync()].concat();
    client.send(&one.repeat(500)).await;
    for _ in 0..500 {
        assert_eq!(client.ask(&[]).await, "1 2 D C ZI");
    }
    client.send(&Raw::sync().repeat(50)).await;
    for _ in 0..50 {
        assert_eq!(client.ask(&[]).await, "ZI");
    }
}

#[tokio::test]
async fn simple_queries_in_one_write_are_answered_one_by_one() {
    let (_database, _proxy, mut client) = single().await;
    let queries = [
        "select 1",
        "selec",
        "begin",
        "select 1/0",
        "select 1",
        "rollback",
        "",
    ];
    let all: Vec<u8> = queries.iter().flat_map(|text| Raw::query(text)).collect();
    client.send(&all).await;
    let expected = [
        "T D C ZI",
        "E42601 ZI",
        "C ZT",
        "E22012 ZE",
        "E25P02 ZE",
        "C ZI",
        "I ZI",
    ];
    for answer in expected {
        assert_eq!(client.ask(&[]).await, answer);
    }
}

#[tokio::test]
async fn an_error_skips_to_its_sync_and_no_further() {
    let (_database, _proxy, mut client) = single().await;
    let pipeline = [
        step("select 1"),
        step("select 1/0"),
        step("select 'skipped'"),
        Raw::sync(),
        step("select 2"),
        Raw::sync(),
    ];
    assert_eq!(client.ask(&pipeline.concat()).await, "1 2 D C 1 E22012 ZI");
    assert_eq!(client.ask(&[]).await, "1 2 D C ZI");
}

#[tokio::test]
async fn an_error_undoes_the_implicit_transaction() {
    let (database, _proxy, mut client) = single().await;
    database.sql("create table log (a int)").await;
    let pipeline = [
        step("insert into log values (1)"),
        step("select 1/0"),
        Raw::sync(),
    ];
    assert_eq!(client.ask(&pipeline.concat()).await, "1 2 C 1 E22012 ZI");
    assert_eq!(database.sql("select count(*) from log").await, "0");
}

#[tokio::test]
async fn flush_brings_answers_before_sync() {
    let (_database, _proxy, mut client) = single().await;
    client
        .send(&[step("select 7"), Raw::flush()].concat())
        .await;
    for tag in ['1', '2', 'D', 'C'] {
        assert_eq!(client.message().await.tag, tag);
    }
    client
        .send(&[Raw::parse("", "selec"), Raw::flush()].concat())
        .await;
    assert_eq!(client.message().await.field('C').as_deref(), Some("42601"));
    assert_eq!(
        client.ask(&[step("select 1"), Raw::sync()].concat()).await,
        "ZI"
    );
    assert_eq!(
        client.ask(&[Raw::flush(), Raw::sync()].concat()).await,
        "ZI"
    );
}

#[tokio::test]
async fn a_pipeline_keeps_its_server_connection_until_sync() {
    let (database, proxy, mut client) = single().await;
    let pid = step("select pg_backend_pid()");
    client.send(&[pid.clone(), Raw::flush()].concat()).await;
    let mut first = String::new();
    for tag in ['1', '2', 'D', 'C'] {
        let message = client.message().await;
        assert_eq!(message.tag, tag);
        if tag == 'D' {
            first = message.columns().remove(0);
        }
    }
    let other = proxy.client("app", &database).await;
    let waiting = tokio::spawn(async move { other.one("select pg_backend_pid()").await });
    client.send(&[pid, Raw::sync()].concat()).await;
    let rest = client.ready().await;
    let row = rest.iter().find(|message| message.tag == 'D').unwrap();
    assert_eq!(row.columns().remove(0), first);
    assert_eq!(waiting.await.unwrap(), first);
}

#[tokio::test]
async fn portals_give_their_rows_in_pieces() {
    let (_database, _proxy, mut client) = single().await;
    let pieces = [
        Raw::parse("", "select generate_series(1, 5)"),
        Raw::bind("p", "", &[]),
        Raw::execute("p", 2),
        Raw::execute("p", 2),
        Raw::execute("p", 2),
        Raw::close('P', "p"),
        Raw::sync(),
    ];
    assert_eq!(
        client.ask(&pieces.concat()).await,
        "1 2 D D s D D s D C 3 ZI"
    );
    assert_eq!(client.ask(&Raw::query("begin read write")).await, "C ZT");
    let open = [
        Raw::parse("", "select generate_series(1, 3)"),
        Raw::bind("p", "", &[]),
        Raw::execute("p", 1),
        Raw::sync(),
    ];
    assert_eq!(client.ask(&open.concat()).await, "1 2 D s ZT");
    assert_eq!(
        client
            .ask(&[Raw::execute("p", 0), Raw::sync()].concat())
            .await,
        "D D C ZT"
    );
    assert_eq!(client.ask(&Raw::query("commit")).await, "C ZI");
    assert_eq!(
        client
            .ask(&[Raw::execute("p", 0), Raw::sync()].concat())
            .await,
        "E34000 ZI"
    );
}

#[tokio::test]
async fn a_write_may_be_cut_anywhere() {
    let (_database, _proxy, mut client) = single().await;
    let bytes = [
        Raw::query("select 'one'"),
        Raw::parse("s", "select $1::text"),
        Raw::bind("", "s", &["two"]),
        Raw::describe('P', ""),
        Raw::execute("", 0),
        Raw::sync(),
    ]
    .concat();
    for byte in &bytes {
        client.send(&[*byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(client.ask(&[]).await, "T D C ZI");
    assert_eq!(client.ask(&[]).await, "1 2 T D C ZI");
}

#[tokio::test]
async fn copy_goes_both_ways_and_fails_where_it_must() {
    let (_database, _proxy, mut client) = single().await;
    assert_eq!(
        client.ask(&Raw::query("create table goods (a int)")).await,
        "C ZI"
    );
    let copy_in = Raw::query("copy goods from stdin");
    let data = Raw::framed(b'd', b"1\n2\n3\n");
    let done = Raw::framed(b'c', b"");
    let whole = [copy_in.clone(), data.clone(), done.clone()].concat();
    assert_eq!(client.ask(&whole).await, "G C ZI");
    let fail = [copy_in.clone(), data.clone(), Raw::framed(b'f', b"no\0")].concat();
    assert_eq!(client.ask(&fail).await, "G E57014 ZI");
    let broken = [copy_in, Raw::framed(b'd', b"x\n"), data.clone(), data, done].concat();
    assert_eq!(client.ask(&broken).await, "G E22P02 ZI");
    assert_eq!(
        client.ask(&Raw::query("copy goods to stdout")).await,
        "H d d d c C ZI"
    );
    assert_eq!(client.one("select sum(a) from goods").await, "6");
}

#[tokio::test]
async fn unnamed_statements_that_may_have_to_stay_are_few() {
    let (_database, _proxy, mut client) = single().await;
    let parse = |letter: &str| Raw::parse("", &format!("select '{}'", letter.repeat(70_000)));
    // Nothing asks for an answer yet: those of the first two come because the third may not be sent before.
    let texts = [parse("a"), parse("b"), parse("a"), parse("b")];
    client.send(&texts.concat()).await;
    for _ in 0..2 {
        assert_eq!(client.message().await.tag, '1');
    }
    let rest = [Raw::bind("", "", &[]), Raw::execute("", 0), Raw::sync()];
    assert_eq!(client.ask(&rest.concat()).await, "1 1 2 D C ZI");
}

/// What a server remarks goes to its client as it is, and in its place.
#[tokio::test]
async fn notices_come_where_postgres_says_them() {
    let (database, proxy, client) = single().await;
    let direct = Raw::login(database.port, "app", &database.name, &[]).await;
    let mut said = Vec::new();
    for mut client in [direct, client] {
        let raise = |text: &str| format!("do $$ begin raise notice '{text}'; end $$");
        let mut heard = Vec::new();
        for sent in [
            Raw::query(&format!("{}; select 1; {}", raise("a"), raise("b"))),
            Raw::query("rollback; drop table if exists absent"),
            [step(&raise("c")), step("select 1"), Raw::sync()].concat(),
            // One that is below what the client wants to hear, and one that comes before an error.
            Raw::query(&format!("set client_min_messages = error; {}", raise("d"))),
            Raw::query(&format!(
                "reset client_min_messages; {}; select 1 / 0",
                raise("e")
            )),
        ] {
            client.send(&sent).await;
            let answer = client.ready().await;
            let answer = answer.into_iter().filter(|message| message.tag != 'S');
            heard.extend(answer.map(|message| (message.tag, message.body)));
        }
        said.push(heard);
    }
    let notices = said[0].iter().filter(|(tag, _)| *tag == 'N').count();
    assert_eq!(notices, 6);
    assert_eq!(said[0], said[1]);
    drop(proxy);
}

/// A simple query ends what was sent before it without a Sync, so that nobody is waited for.
#[tokio::test]
async fn a_simple_query_ends_what_no_sync_has_ended() {
    let (database, proxy, mut client) = single().await;
    let other = proxy.client("app", &database).await;
    let (one, two) = (step("select 1"), Raw::query("select 2"));
    let begin = Raw::query("begin");
    for (sent, said) in [
        (vec![&one, &two], "1 2 D C T D C ZI"),
        (vec![&begin], "C ZT"),
        (vec![&one, &Raw::query("commit")], "1 2 D C C ZI"),
        (vec![&one, &Raw::query("selec 2")], "1 2 D C E42601 ZI"),
    ] {
        let sent: Vec<u8> = sent.into_iter().flatten().copied().collect();
        assert_eq!(client.ask(&sent).await, said);
        if said.ends_with('I') {
            let free =
                tokio::time::timeout(Duration::from_secs(20), other.simple_query("select 1"));
            free.await.expect(said).unwrap();
        }
    }
    assert_eq!(client.ask(&Raw::sync()).await, "ZI");
    // Where there is more behind it, that needs a Sync of its own.
    client.send(&[&one[..], &two, &one].concat()).await;
    assert_eq!(client.ask(&[]).await, "1 2 D C T D C ZI");
    assert_eq!(client.ask(&Raw::sync()).await, "1 2 D C ZI");
    assert_eq!(other.one("select 1").await, "1");
}
