//! Clients that do not take what they have asked for.

use pgherd_tests::{Config, Database, Proxy, Raw, connect, until};

use super::{enter, next, note, shown};

#[tokio::test]
async fn a_client_that_does_not_read_is_sent_away_and_nobody_else() {
    let database = Database::new().await;
    let more = "[notifications]\nmax_waiting = 200";
    let proxy = Proxy::start(&Config::before(&database, more)).await;
    let mut slow = enter(&proxy, &database).await;
    let mut quick = enter(&proxy, &database).await;
    let mut busy = enter(&proxy, &database).await;
    for client in [&mut slow, &mut quick, &mut busy] {
        client.ask(&Raw::query("listen a")).await;
    }
    // One that is in a transaction cannot be told, and is no better off.
    busy.ask(&Raw::query("begin")).await;
    let console = connect(&proxy.url("app", "pgherd")).await;
    let many =
        "select count(pg_notify('a', repeat('x', 7000) || i)) from generate_series(1, 100) i";
    until("the slow are sent away", async || {
        database.sql(many).await;
        for _ in 0..100 {
            assert!(next(&mut quick).await.2.starts_with('x'));
        }
        shown(&console, "overflows").await == "2"
    })
    .await;
    let rest = String::from_utf8_lossy(&busy.end().await).into_owned();
    assert!(rest.contains("53400"), "{rest}");
    // What had been sent comes, in order, and nothing is left out before the end.
    let mut last = 0;
    while let Some(message) = slow.next().await {
        if message.tag != 'A' {
            break;
        }
        let number = note(&message).2.trim_start_matches('x').to_owned();
        let number: u32 = number.parse().unwrap();
        assert_eq!(number, last % 100 + 1);
        last = number;
    }
    database.sql("notify a, 'still'").await;
    assert_eq!(next(&mut quick).await.2, "still");
    assert_eq!(shown(&console, "clients").await, "1");
}

#[tokio::test]
async fn so_is_one_for_which_too_many_bytes_wait() {
    let database = Database::new().await;
    let more = "[notifications]\nmax_waiting_bytes = 20000";
    let proxy = Proxy::start(&Config::before(&database, more)).await;
    let mut busy = enter(&proxy, &database).await;
    busy.ask(&Raw::query("listen a")).await;
    busy.ask(&Raw::query("begin")).await;
    database
        .sql("select pg_notify('a', repeat('x', 7000) || i) from generate_series(1, 3) i")
        .await;
    let rest = String::from_utf8_lossy(&busy.end().await).into_owned();
    assert!(
        rest.contains("53400") && rest.contains("20000 bytes"),
        "{rest}"
    );
}

/// What it waits for does not come any more once it has left: nobody would wake it, and its server would be lost.
#[tokio::test]
async fn who_has_no_room_for_what_it_notifies_itself_is_told_of_the_commit_and_why_it_goes() {
    let database = Database::new().await;
    database.sql("create table kept (a int)").await;
    let more = "[pool]\nsize = 1\n[notifications]\nmax_waiting = 2\n\
                [failover]\ncommit_resolution = \"on\"";
    let proxy = Proxy::start(&Config::before(&database, more)).await;
    for round in 1..9 {
        let mut client = enter(&proxy, &database).await;
        assert_eq!(client.ask(&Raw::query("listen a")).await, "C ZI");
        let texts = ["begin", "insert into kept values (1)", "notify a, '1'"];
        let more = ["notify a, '2'", "notify a, '3'"];
        for text in texts.into_iter().chain(more) {
            assert_eq!(client.ask(&Raw::query(text)).await, "C ZT", "{text}");
        }
        client.send(&Raw::query("commit")).await;
        let rest = String::from_utf8_lossy(&client.end().await).into_owned();
        // Its notifications may come before the server's answer, and it goes by then.
        let unknown = rest.contains("08007") && rest.contains("too slow");
        let known = rest.contains("COMMIT\0") && rest.contains("53400");
        assert!(known || unknown, "{round}: {rest}");
        let mut other = enter(&proxy, &database).await;
        until("it is committed", async || {
            other.one("select count(*)::text from kept").await == round.to_string()
        })
        .await;
    }
}

/// Its farewell takes a while, and its server is another client's by then.
#[tokio::test]
async fn who_is_sent_away_is_not_taken_for_the_next_client_of_its_server() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 1").await;
    let mut ear = enter(&proxy, &database).await;
    let mut slow = enter(&proxy, &database).await;
    let mut other = enter(&proxy, &database).await;
    for client in [&mut ear, &mut slow] {
        assert_eq!(client.ask(&Raw::query("listen a")).await, "C ZI");
    }
    assert_eq!(slow.ask(&Raw::query("begin")).await, "C ZT");
    // It does not read that, which is more than lies in sockets.
    let much = "select repeat('x', 1000) from generate_series(1, 100000)";
    slow.send(&Raw::query(much)).await;
    let held_up = "select count(*) from pg_stat_activity \
                   where datname = current_database() and wait_event = 'ClientWrite'";
    until("nobody takes its rows", async || {
        database.sql(held_up).await == "1"
    })
    .await;
    other.send(&Raw::query("notify a, 'next'")).await;
    let console = connect(&proxy.url("app", "pgherd")).await;
    let kill = format!("kill_client {}", slow.key.0);
    console.simple_query(&kill).await.unwrap();
    assert_eq!(other.ask(&[]).await, "C ZI");
    let (from, _, payload) = next(&mut ear).await;
    assert_eq!(payload, "next");
    assert_ne!(from, slow.key.0);
}
