//! tokio-postgres, in this process.

use bytes::Bytes;
use futures_util::{SinkExt, TryStreamExt, future};
use pgherd_tests::{Database, connect, until};
use tokio::task::JoinSet;
use tokio_postgres::{AsyncMessage, Client, NoTls};

use super::pool_of_two;

/// More clients than the proxy has servers.
const CLIENTS: i32 = 6;

async fn client(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    // It ends with the client.
    tokio::spawn(connection);
    client
}

/// Runs a check on the server itself, which shows that it asks for nothing unusual, and through
/// the proxy.
async fn both(check: impl AsyncFn(String, Database)) {
    let database = Database::new().await;
    check(database.url("app"), database).await;
    let database = Database::new().await;
    let proxy = pool_of_two(&database).await;
    check(proxy.url("app", &database.name), database).await;
}

fn code(error: &tokio_postgres::Error) -> &str {
    error.code().map_or("", |code| code.code())
}

#[tokio::test]
async fn statements_and_portals_over_transactions() {
    both(async |url, _| {
        let setup = "create table n (id int primary key, n int not null); \
                     insert into n select i, 0 from generate_series(0, 5) i";
        client(&url).await.batch_execute(setup).await.unwrap();
        let mut clients = JoinSet::new();
        for me in 0..CLIENTS {
            let url = url.clone();
            clients.spawn(async move { add(client(&url).await, me).await });
        }
        clients.join_all().await;
    })
    .await;
}

async fn add(mut client: Client, me: i32) {
    let add = client
        .prepare("update n set n = n + 1 where id = $1")
        .await
        .unwrap();
    let ask = client
        .prepare(&format!("select n, {me} from n where id = $1"))
        .await
        .unwrap();
    for turn in 1..=20 {
        let transaction = client.transaction().await.unwrap();
        assert_eq!(transaction.execute(&add, &[&me]).await.unwrap(), 1);
        let row = transaction.query_one(&ask, &[&me]).await.unwrap();
        assert_eq!((row.get::<_, i32>(0), row.get::<_, i32>(1)), (turn, me));
        let all = "select generate_series(1, 50)";
        let portal = transaction.bind(all, &[]).await.unwrap();
        let first = transaction.query_portal(&portal, 20).await.unwrap();
        let rest = transaction.query_portal(&portal, 0).await.unwrap();
        assert_eq!((first.len(), rest.len()), (20, 30));
        transaction.commit().await.unwrap();
    }
}

#[tokio::test]
async fn queries_in_a_pipeline() {
    both(async |url, _| {
        let client = client(&url).await;
        let statement = client
            .prepare("select $1::int, 10 / $1::int")
            .await
            .unwrap();
        for _ in 0..5 {
            let numbers: Vec<i32> = (-20..20).collect();
            let asked = numbers.iter().map(|n| async {
                let answer = client.query_one(&statement, &[n]).await;
                answer.map(|row| row.get::<_, i32>(0))
            });
            for (n, answer) in numbers.iter().zip(future::join_all(asked).await) {
                match answer {
                    Ok(seen) => assert_eq!(seen, *n),
                    Err(error) => assert_eq!((*n, code(&error)), (0, "22012")),
                }
            }
        }
    })
    .await;
}

#[tokio::test]
async fn transactions_errors_and_savepoints() {
    both(async |url, _| {
        let mut client = client(&url).await;
        client
            .batch_execute("create table u (n int unique)")
            .await
            .unwrap();
        let mut outer = client.transaction().await.unwrap();
        outer
            .execute("insert into u values (1)", &[])
            .await
            .unwrap();
        let inner = outer.transaction().await.unwrap();
        let twice = inner
            .execute("insert into u values (1)", &[])
            .await
            .unwrap_err();
        assert_eq!(code(&twice), "23505");
        let after = inner.query("select 1", &[]).await.unwrap_err();
        assert_eq!(code(&after), "25P02");
        inner.rollback().await.unwrap();
        outer
            .execute("insert into u values (2)", &[])
            .await
            .unwrap();
        outer.commit().await.unwrap();
        // One that is dropped is rolled back, by a message that nobody waits for.
        let dropped = client.transaction().await.unwrap();
        dropped
            .execute("insert into u values (3)", &[])
            .await
            .unwrap();
        drop(dropped);
        let count = client
            .query_one("select count(*) from u", &[])
            .await
            .unwrap();
        assert_eq!(count.get::<_, i64>(0), 2);
    })
    .await;
}

#[tokio::test]
async fn copy_both_ways() {
    both(async |url, _| {
        let client = client(&url).await;
        client
            .batch_execute("create table c (n int)")
            .await
            .unwrap();
        let mut sink = Box::pin(
            client
                .copy_in::<_, Bytes>("copy c from stdin")
                .await
                .unwrap(),
        );
        for n in 0..2000 {
            sink.send(Bytes::from(format!("{n}\n"))).await.unwrap();
        }
        assert_eq!(sink.as_mut().finish().await.unwrap(), 2000);
        let rows = client.copy_out("copy c to stdout").await.unwrap();
        let parts: Vec<Bytes> = rows.try_collect().await.unwrap();
        assert_eq!(
            parts.concat().iter().filter(|byte| **byte == b'\n').count(),
            2000
        );
        // A sink that is dropped fails its COPY.
        drop(
            client
                .copy_in::<_, Bytes>("copy c from stdin")
                .await
                .unwrap(),
        );
        let mut sink = Box::pin(
            client
                .copy_in::<_, Bytes>("copy c from stdin")
                .await
                .unwrap(),
        );
        sink.send(Bytes::from_static(b"no number\n")).await.unwrap();
        assert_eq!(code(&sink.as_mut().finish().await.unwrap_err()), "22P02");
        let count = client
            .query_one("select count(*) from c", &[])
            .await
            .unwrap();
        assert_eq!(count.get::<_, i64>(0), 2000);
    })
    .await;
}

const RUNNING: &str = "select count(*) from pg_stat_activity where state = 'active' \
                       and datname = current_database() and query = 'select pg_sleep(20)'";

#[tokio::test]
async fn cancel_by_token() {
    both(async |url, database| {
        let client = client(&url).await;
        for _ in 0..3 {
            let cancel = async {
                until("it runs", async || database.sql(RUNNING).await == "1").await;
                client.cancel_token().cancel_query(NoTls).await.unwrap();
            };
            let (answer, ()) = tokio::join!(client.simple_query("select pg_sleep(20)"), cancel);
            assert_eq!(code(&answer.unwrap_err()), "57014");
            client.simple_query("select 1").await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn a_listener_hears() {
    both(async |url, _| {
        let mut ear = connect(&url).await;
        ear.batch_execute("listen news").await.unwrap();
        let mouth = client(&url).await;
        mouth
            .execute("select pg_notify('news', $1)", &[&"heard"])
            .await
            .unwrap();
        match ear.message().await {
            Some(AsyncMessage::Notification(news)) => {
                assert_eq!((news.channel(), news.payload()), ("news", "heard"));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(ear.one("select 5").await, "5");
    })
    .await;
}
