//! What SQL has prepared, where a server is lost or does not serve.

use pgherd_tests::Raw;

use super::{Fault, fatal, retries, run, shop};
use crate::prepared::{ON_SERVER, pair, prepare};

/// The next messages with this in them are lost with their connection.
fn cut(needle: &'static str, passes: bool) -> Fault {
    Fault {
        needle,
        passes,
        says: Vec::new(),
        times: 1,
    }
}

#[tokio::test]
async fn an_execute_whose_server_was_lost_is_answered_unseen() {
    let (database, node, proxy, mut client) = shop("[pool]\nsize = 1").await;
    let text = "prepare s (int) as select count(*) + $1 from goods";
    assert_eq!(client.ask(&Raw::query(text)).await, "C ZI");
    let end = "select pg_terminate_backend(pid) from pg_stat_activity \
               where datname = current_database() and pid <> pg_backend_pid()";
    for expected in 1..=3 {
        // While it was idle, and perhaps before that was noticed.
        database.sql(end).await;
        assert_eq!(
            client.one(&format!("execute s({expected})")).await,
            expected.to_string()
        );
    }
    let before = retries(&proxy);
    let mut expected = 0;
    let mut check = |node: &super::Node| {
        expected += 1;
        assert_eq!((node.left(), retries(&proxy)), (0, before + expected));
    };
    for passes in [false, true] {
        node.fail(cut("execute ", passes));
        assert_eq!(client.one("execute s(7)").await, "7");
        check(&node);
        node.fail(Fault {
            says: fatal("57P01"),
            ..cut("execute ", passes)
        });
        assert_eq!(client.one("execute s(8)").await, "8");
        check(&node);
    }
    // In a block whose BEGIN is ours to send.
    assert_eq!(client.ask(&Raw::query("begin")).await, "C ZT");
    node.fail(cut("execute ", true));
    assert_eq!(client.one("execute s(9)").await, "9");
    assert_eq!(client.ask(&Raw::query("commit")).await, "C ZI");
    check(&node);
}

#[tokio::test]
async fn an_execute_that_may_have_written_is_not_repeated() {
    let (database, node, proxy, mut client) = shop("[pool]\nsize = 1").await;
    database.sql("create sequence numbers").await;
    for text in [
        "prepare w as insert into goods values ('once')",
        "prepare r (bigint) as select $1",
    ] {
        assert_eq!(client.ask(&Raw::query(text)).await, "C ZI");
    }
    // What a statement is given counts as well.
    for text in ["execute w", "execute r(nextval('numbers'))"] {
        for passes in [false, true] {
            node.fail(cut("execute ", passes));
            assert_eq!(client.ask(&Raw::query(text)).await, "E08007 ZI", "{text}");
            assert_eq!((node.left(), retries(&proxy)), (0, 0), "{text}");
        }
    }
    let batch = [
        Raw::parse("", "execute w"),
        Raw::bind("", "", &[]),
        Raw::execute("", 0),
        Raw::sync(),
    ];
    node.fail(cut("execute ", false));
    assert_eq!(client.ask(&batch.concat()).await, "E08007 ZI");
    assert_eq!((node.left(), retries(&proxy)), (0, 0));
    // Who is turned away has run nothing.
    for (code, expected) in [("57P03", 1), ("53300", 2)] {
        node.fail(Fault {
            says: fatal(code),
            ..cut("execute ", false)
        });
        assert_eq!(client.ask(&Raw::query("execute w")).await, "C ZI");
        assert_eq!((node.left(), retries(&proxy)), (0, expected));
    }
    // Once it was cut off behind the server, once each was turned away.
    let written = "select count(*), nextval('numbers') from goods";
    pgherd_tests::until("all has run that will", async || {
        let busy = "select count(*) from pg_stat_activity where datname = current_database() \
                    and state = 'active'";
        database.sql(busy).await == "1"
    })
    .await;
    assert_eq!(database.sql(written).await, "3|2");
}

#[tokio::test]
async fn a_prepare_that_was_sent_again_is_there_once() {
    let (database, node, proxy, mut client) = shop("[pool]\nsize = 1").await;
    database.sql(ON_SERVER).await;
    let mut expected = 0;
    let own = "select count(*) from pg_prepared_statements where name = 'p'";
    let there = "select count(*) from on_server where statement like 'prepare %needle%'";
    for passes in [false, true] {
        for says in [Vec::new(), fatal("57P01"), fatal("57P03")] {
            for simple in [true, false] {
                let text = "prepare p as select 'needle'";
                let batch = [
                    Raw::parse("", text),
                    Raw::bind("", "", &[]),
                    Raw::execute("", 0),
                    Raw::sync(),
                ];
                let (step, answer) = match simple {
                    true => (Raw::query(text), "C ZI"),
                    false => (batch.concat(), "1 2 C ZI"),
                };
                node.fail(Fault {
                    says: says.clone(),
                    ..cut("needle", passes)
                });
                assert_eq!(client.ask(&step).await, answer);
                expected += 1;
                assert_eq!((node.left(), retries(&proxy)), (0, expected));
                assert_eq!(client.one(there).await, "1");
                assert_eq!(client.one(own).await, "1");
                assert_eq!(client.one("execute p").await, "needle");
                assert_eq!(client.ask(&Raw::query(text)).await, "E42P05 ZI");
                // It goes for good, too.
                assert_eq!(client.ask(&Raw::query("deallocate p")).await, "C ZI");
                assert_eq!(client.ask(&Raw::query("execute p")).await, "E26000 ZI");
                assert_eq!(client.one(own).await, "0");
            }
        }
    }
}

#[tokio::test]
async fn what_is_brought_for_an_execute_may_be_lost_on_its_way() {
    let (database, node, proxy, mut client) = shop("[pool]\nsize = 1").await;
    let mut other = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    let text = Raw::query("prepare p as select 'needle'");
    assert_eq!(client.ask(&text).await, "C ZI");
    for passes in [false, true] {
        for says in [Vec::new(), fatal("57P01"), fatal("57P03")] {
            // A server that does not have it.
            node.fail(cut("new", false));
            assert_eq!(other.one("select 'new'").await, "new");
            let before = retries(&proxy);
            node.fail(Fault {
                says,
                ..cut("needle", passes)
            });
            assert_eq!(client.one("execute p").await, "needle");
            assert_eq!((node.left(), retries(&proxy)), (0, before + 1));
        }
    }
}

/// A pipeline that names something in SQL, and behind that runs a statement whose table has changed.
fn drops_and_runs() -> Vec<u8> {
    let batch = [
        Raw::parse("", "deallocate p"),
        Raw::bind("a", "", &[]),
        Raw::bind("b", "s", &[]),
        Raw::execute("b", 0),
    ];
    batch.concat()
}

#[tokio::test]
async fn what_stands_on_a_server_for_a_moment_does_not_stay_there() {
    let (database, _proxy, mut first, mut second) = pair("[pool]\nsize = 1").await;
    database
        .sql("create table shape (a int); insert into shape values (1)")
        .await;
    database.sql(ON_SERVER).await;
    let text = "select * from shape";
    assert_eq!(first.ask(&prepare("s", text)).await, "1 ZI");
    assert_eq!(first.ask(&run("s")).await, "2 D C ZI");
    assert_eq!(
        first.ask(&Raw::query("prepare p as select 1")).await,
        "C ZI"
    );
    let count = "select count(*) from on_server where name like 'pgherd_stand%'";
    // It would have to be sent again on this very server, where that stands until a Sync.
    database.sql("alter table shape add b int").await;
    let whole = [drops_and_runs(), Raw::sync()].concat();
    assert_eq!(first.ask(&whole).await, "1 2 E0A000 ZI");
    assert_eq!(second.one(count).await, "0");
    assert_eq!(first.ask(&run("s")).await, "2 D C ZI");
    // The same where the Sync comes later.
    database.sql("alter table shape add c int").await;
    first.send(&[drops_and_runs(), Raw::flush()].concat()).await;
    let mut said = Vec::new();
    while said.last() != Some(&'E') {
        said.push(first.message().await.tag);
    }
    assert_eq!(first.ask(&Raw::sync()).await, "ZI", "{said:?}");
    assert_eq!(second.one(count).await, "0");
    assert_eq!(first.ask(&run("s")).await, "2 D C ZI");
    assert_eq!(first.one("execute p").await, "1");
}

#[tokio::test]
async fn what_an_execute_names_is_not_prepared_anew_unasked() {
    let (database, _proxy, mut client, _other) = pair("[pool]\nsize = 1").await;
    database
        .sql("create table shape (a int); insert into shape values (1)")
        .await;
    let text = Raw::query("prepare p as select * from shape");
    assert_eq!(client.ask(&text).await, "C ZI");
    let described = [
        Raw::parse("e", "execute p"),
        Raw::describe('S', "e"),
        Raw::close('S', "e"),
        Raw::sync(),
    ]
    .concat();
    assert_eq!(client.ask(&described).await, "1 t T 3 ZI");
    database.sql("alter table shape add b int").await;
    // As Postgres tells it, each time until the client prepares it anew.
    for _ in 0..2 {
        assert_eq!(client.ask(&described).await, "1 t E0A000 ZI");
        assert_eq!(client.ask(&Raw::query("execute p")).await, "E0A000 ZI");
        let close = [Raw::close('S', "e"), Raw::sync()].concat();
        assert_eq!(client.ask(&close).await, "3 ZI");
    }
    assert_eq!(client.ask(&Raw::query("deallocate p")).await, "C ZI");
    assert_eq!(client.ask(&text).await, "C ZI");
    assert_eq!(client.ask(&described).await, "1 t T 3 ZI");
}
