//! Clients that do not take what they have asked for.

use pgherd_tests::{Config, Database, Proxy, Raw, connect, until};

use super::{enter, next, shown};

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
        let number = super::note(&message).2.trim_start_matches('x').to_owned();
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
