//! Conversations that Postgres and pgherd must lead alike, sent in one piece and in many.

use pgherd_tests::{Database, Message, Proxy, Raw};

use super::Protocol::{self, Extended, Simple};
use super::{data, done, fail};

const COPY: &str = "copy goods from stdin";

/// A conversation: its name, and its messages.
type Case = (&'static str, Vec<Vec<u8>>);

fn cases(by: Protocol) -> Vec<Case> {
    let copy = || by.begin(COPY);
    let (end, query) = (by.end(), Raw::query);
    let block = by.statement("begin");
    let rows = || data("1\n2\n");
    vec![
        (
            "all is well",
            vec![copy(), rows(), data("3\n"), done(), end.clone()],
        ),
        ("no data at all", vec![copy(), done(), end.clone()]),
        (
            "a row that is wrong",
            vec![
                copy(),
                rows(),
                data("x\n"),
                data("4\n"),
                done(),
                end.clone(),
            ],
        ),
        (
            "the client changes its mind",
            vec![copy(), rows(), fail(), end.clone()],
        ),
        (
            "Sync and Flush within",
            vec![
                copy(),
                rows(),
                Raw::sync(),
                Raw::flush(),
                data("3\n"),
                done(),
                end.clone(),
            ],
        ),
        (
            "Sync within, after which a row is wrong",
            vec![
                copy(),
                Raw::sync(),
                data("x\n"),
                Raw::sync(),
                done(),
                end.clone(),
            ],
        ),
        (
            "no such table",
            vec![
                by.begin("copy nothing from stdin"),
                rows(),
                data("3\n"),
                done(),
                end.clone(),
            ],
        ),
        (
            "ended twice",
            vec![copy(), rows(), done(), done(), fail(), end.clone()],
        ),
        (
            "data of nobody",
            vec![rows(), done(), fail(), by.statement("select 7")],
        ),
        (
            "out",
            vec![by.statement("copy (select generate_series(1, 5)) to stdout")],
        ),
        (
            "out, and an error in the middle",
            vec![by.statement(
                "copy (select 1 / (3000 - a) from generate_series(1, 5000) a) to stdout",
            )],
        ),
        (
            "in a block that it fails",
            vec![
                block.clone(),
                copy(),
                data("x\n"),
                data("4\n"),
                done(),
                end.clone(),
                by.statement("select 8"),
                by.statement("rollback"),
            ],
        ),
        (
            "in a block that commits",
            vec![
                block.clone(),
                copy(),
                rows(),
                done(),
                end.clone(),
                by.statement("commit"),
            ],
        ),
        (
            "in a block that is rolled back",
            vec![
                block,
                copy(),
                rows(),
                done(),
                end.clone(),
                by.statement("rollback"),
            ],
        ),
        (
            "a wrong message behind a wrong row",
            vec![copy(), data("x\n"), query("select 9"), end],
        ),
    ]
}

/// Cases that only one of the protocols can make.
fn more() -> Vec<Case> {
    let two = "copy goods from stdin; select count(*) from goods; copy goods from stdin";
    let rows = || data("1\n2\n");
    vec![
        (
            "several in one query",
            vec![Raw::query(two), rows(), done(), rows(), done()],
        ),
        (
            "the first of several fails",
            vec![Raw::query(two), data("x\n"), done(), rows(), done()],
        ),
        (
            "the second of several fails",
            vec![Raw::query(two), rows(), done(), data("x\n"), done()],
        ),
        (
            "out and in",
            vec![
                Raw::query("copy goods to stdout; copy goods from stdin; copy goods to stdout"),
                rows(),
                done(),
            ],
        ),
        (
            "in a pipeline",
            vec![
                Extended.begin("select 1"),
                Extended.begin(COPY),
                rows(),
                done(),
                Extended.begin("select 2"),
                Raw::sync(),
            ],
        ),
        (
            "a pipeline that it fails",
            vec![
                Extended.begin("select 1"),
                Extended.begin(COPY),
                data("x\n"),
                done(),
                Extended.begin("select 2"),
                Raw::sync(),
                Extended.begin("select 3"),
                Raw::sync(),
            ],
        ),
        (
            "a pipeline that never comes to it",
            vec![
                Extended.begin("select 1 / 0"),
                Extended.begin(COPY),
                rows(),
                done(),
                Raw::sync(),
                Extended.begin("select 3"),
                Raw::sync(),
            ],
        ),
        (
            "fail in a pipeline",
            vec![
                Extended.begin(COPY),
                rows(),
                fail(),
                Extended.begin("select 2"),
                Raw::sync(),
            ],
        ),
        (
            "described before",
            vec![
                Raw::parse("s", COPY),
                Raw::describe('S', "s"),
                Raw::bind("p", "s", &[]),
                Raw::describe('P', "p"),
                Raw::execute("p", 0),
                rows(),
                done(),
                Raw::close('P', "p"),
                Raw::sync(),
            ],
        ),
        (
            "both protocols in turn",
            vec![
                Simple.begin(COPY),
                rows(),
                done(),
                Extended.begin(COPY),
                rows(),
                done(),
                Raw::sync(),
                Simple.begin(COPY),
                fail(),
            ],
        ),
    ]
}

/// Writes down what is to be equal: everything but notices and parameters.
fn told(messages: &[Message]) -> Vec<String> {
    let told = messages.iter().filter_map(|message| match message.tag {
        'N' | 'S' => None,
        'E' => Some(format!("E{:?}{:?}", message.field('C'), message.field('M'))),
        tag => Some(format!("{tag} {}", String::from_utf8_lossy(&message.body))),
    });
    told.collect()
}

/// The answer to a conversation, and to a question behind it.
async fn answers(client: &mut Raw, pieces: &[Vec<u8>]) -> Vec<String> {
    for piece in pieces {
        client.send(piece).await;
    }
    let question = "select 'the end', count(*), sum(a) from goods";
    client.send(&Raw::query(question)).await;
    let mut all = Vec::new();
    loop {
        let messages = client.ready().await;
        let last = messages
            .iter()
            .any(|message| message.tag == 'D' && message.columns()[0] == "the end");
        all.extend(told(&messages));
        if last {
            return all;
        }
    }
}

#[tokio::test]
async fn postgres_and_pgherd_answer_every_conversation_alike() {
    let (here, there) = (Database::new().await, Database::new().await);
    for database in [&here, &there] {
        database.sql("create table goods (a int)").await;
    }
    let proxy = Proxy::before(&here, "[pool]\nsize = 1").await;
    let mut client = Raw::login(proxy.port(), "app", &here.name, &[]).await;
    let mut other = Raw::login(proxy.port(), "app", &here.name, &[]).await;
    let mut direct = Raw::login(there.port, "app", &there.name, &[]).await;
    for (by, cases) in [
        ("simple", cases(Simple)),
        ("extended", cases(Extended)),
        ("either", more()),
    ] {
        for (name, messages) in cases {
            let bytes: Vec<Vec<u8>> = messages.concat().chunks(7).map(<[u8]>::to_vec).collect();
            for pieces in [vec![messages.concat()], messages.clone(), bytes] {
                // Shown when it fails, also by a message that never comes.
                eprintln!("{by}: {name}, in {} pieces", pieces.len());
                let expected = answers(&mut direct, &pieces).await;
                let answered = answers(&mut client, &pieces).await;
                assert_eq!(
                    answered,
                    expected,
                    "{by}: {name}, in {} pieces",
                    pieces.len()
                );
                assert_eq!(other.one("select 'in step'").await, "in step", "{name}");
            }
        }
    }
}

#[tokio::test]
async fn a_message_that_has_no_place_in_a_copy_fails_it_and_nobody_is_out_of_step() {
    let database = Database::new().await;
    database.sql("create table goods (a int)").await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 1").await;
    let rows = || data("1\n2\n");
    let strangers = [
        (Raw::query("select 9"), 1),
        (Extended.begin("select 9"), 0),
        (Raw::describe('S', ""), 0),
    ];
    for by in Protocol::BOTH {
        for (stranger, answers) in &strangers {
            let mut client = Raw::login(proxy.port(), "app", &database.name, &[]).await;
            let mut other = Raw::login(proxy.port(), "app", &database.name, &[]).await;
            let whole = [
                by.begin(COPY),
                rows(),
                stranger.clone(),
                rows(),
                done(),
                Raw::sync(),
            ];
            client.send(&whole.concat()).await;
            // Postgres ends the connection then, and with it all that was sent to it: each request
            // gets an error, and the client is in step.
            let owed = match by {
                Simple => 2 + answers,
                // What stands behind an error is skipped up to the Sync.
                Extended => 1,
            };
            for _ in 0..owed {
                let messages = client.ready().await;
                assert!(messages.iter().any(|message| message.tag == 'E'), "{by:?}");
                assert!(!messages.iter().any(|message| message.tag == 'C'), "{by:?}");
            }
            assert_eq!(client.one("select 'in step'").await, "in step");
            assert_eq!(other.one("select count(*) from goods").await, "0");
        }
    }
}
