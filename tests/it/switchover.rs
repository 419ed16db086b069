//! An operator switches over by hand, and says so beforehand.

use std::time::{Duration, Instant};

use pgherd_tests::{connect, until};

use super::failover::fleet::Fleet;

#[tokio::test]
async fn transactions_may_end_while_new_work_waits_for_the_new_primary() {
    let fleet = Fleet::new().await;
    let ports = [fleet.primary.port(), fleet.replica.port()];
    let proxy = fleet.proxy(&ports, "").await;
    let (busy, client) = (fleet.client(&proxy).await, fleet.client(&proxy).await);
    let console = connect(&proxy.url("app", "pgherd")).await;
    busy.batch_execute("begin; insert into acked values (1)")
        .await
        .unwrap();
    let operator = connect(&proxy.url("app", "pgherd")).await;
    let switchover = tokio::spawn(async move {
        operator
            .batch_execute("SWITCHOVER postgres GRACE 25")
            .await
            .unwrap();
    });
    until("it is awaited", async || {
        let row = fleet.host(&console, ports[0]).await;
        row.get("writer") == Some("no")
    })
    .await;
    let waiting = tokio::spawn(async move {
        client
            .batch_execute("insert into acked values (3)")
            .await
            .unwrap();
    });
    busy.batch_execute("insert into acked values (2)")
        .await
        .unwrap();
    assert!(!switchover.is_finished(), "somebody is in a transaction");
    busy.batch_execute("commit").await.unwrap();
    switchover.await.unwrap();
    assert!(!waiting.is_finished());
    fleet.replica.caught_up(&fleet.primary).await.unwrap();
    fleet.replica.promote().await.unwrap();
    waiting.await.unwrap();
    busy.batch_execute("insert into acked values (4)")
        .await
        .unwrap();
    let sql = "select string_agg(x::text, ' ' order by x) from acked";
    assert_eq!(fleet.primary.sql(sql).await.unwrap(), "1 2");
    assert_eq!(fleet.replica.sql(sql).await.unwrap(), "1 2 3 4");
}

/// Some wish to read from a replica, and write all the same. What one of them wrote at the old primary now would be lost.
#[tokio::test]
async fn reads_go_on_and_nothing_is_written_while_work_waits_for_the_new_primary() {
    let fleet = Fleet::new().await;
    let ports = [fleet.primary.port(), fleet.replica.port()];
    let proxy = fleet.proxy(&ports, "[reads]\nfrom = \"any\"").await;
    let reader = fleet.client(&proxy).await;
    let read_on =
        async |port: u16| reader.one("select inet_server_port()").await == port.to_string();
    until("a replica is read from", async || read_on(ports[1]).await).await;
    let url = format!(
        "{}?options=-c%20pgherd.role%3Dreplica",
        proxy.url("app", "postgres")
    );
    let mut wishing = Vec::new();
    for _ in 0..8 {
        wishing.push(connect(&url).await);
    }
    let operator = connect(&proxy.url("app", "pgherd")).await;
    operator
        .batch_execute("SWITCHOVER postgres GRACE 25")
        .await
        .unwrap();
    let waiting: Vec<_> = wishing
        .into_iter()
        .map(|client| {
            tokio::spawn(async move { client.batch_execute("insert into acked values (1)").await })
        })
        .collect();
    for _ in 0..50 {
        let read = tokio::time::timeout(Duration::from_secs(1), read_on(ports[1])).await;
        assert!(read.unwrap());
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(waiting.iter().all(|insert| !insert.is_finished()));
    fleet.replica.caught_up(&fleet.primary).await.unwrap();
    fleet.replica.promote().await.unwrap();
    for insert in waiting {
        insert.await.unwrap().unwrap();
    }
    let count = "select count(*) from acked";
    assert_eq!(fleet.primary.sql(count).await.unwrap(), "0");
    assert_eq!(fleet.replica.sql(count).await.unwrap(), "8");
}

#[tokio::test]
async fn what_does_not_end_in_time_is_undone_and_a_resume_ends_the_wait() {
    let fleet = Fleet::new().await;
    let ports = [fleet.primary.port(), fleet.replica.port()];
    let proxy = fleet.proxy(&ports, "").await;
    let (busy, client) = (fleet.client(&proxy).await, fleet.client(&proxy).await);
    busy.batch_execute("begin; insert into acked values (1)")
        .await
        .unwrap();
    let operator = connect(&proxy.url("app", "pgherd")).await;
    let begun = Instant::now();
    operator
        .batch_execute("SWITCHOVER postgres GRACE 1")
        .await
        .unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(1));
    assert_eq!(busy.refused("select 1").await.0, "40001");
    let waiting = tokio::spawn(async move {
        client
            .batch_execute("insert into acked values (2)")
            .await
            .unwrap();
    });
    until("the other waits", async || {
        operator.one("select 1").await == "1"
            && !operator.column("show waiters").await.unwrap().is_empty()
    })
    .await;
    operator.batch_execute("RESUME postgres").await.unwrap();
    waiting.await.unwrap();
    busy.batch_execute("rollback").await.unwrap();
    let rows = fleet.primary.sql("select x from acked").await.unwrap();
    assert_eq!(rows, "2");
    let shown = operator.simple_query("show epochs").await.unwrap();
    let reasons = shown.iter().filter_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get("reason"),
        _ => None,
    });
    assert!(reasons.into_iter().any(|why| why.contains("an operator")));
}

/// They wait in turn for two connections, from when there are any on.
#[tokio::test]
async fn who_was_held_for_longer_than_a_checkout_may_take_has_its_time_behind_that() {
    let fleet = Fleet::new().await;
    let ports = [fleet.primary.port(), fleet.replica.port()];
    let more = "[pool]\nsize = 2\n[timeouts]\ncheckout = \"2s\"\nhold = \"30s\"\n";
    let proxy = fleet.proxy(&ports, more).await;
    let mut clients = Vec::new();
    for _ in 0..6 {
        clients.push(fleet.client(&proxy).await);
    }
    let operator = connect(&proxy.url("app", "pgherd")).await;
    operator
        .batch_execute("SWITCHOVER postgres GRACE 1")
        .await
        .unwrap();
    let held = Instant::now();
    let waiting: Vec<_> = clients
        .into_iter()
        .map(|client| {
            tokio::spawn(async move { client.batch_execute("select pg_sleep(0.2)").await })
        })
        .collect();
    until(
        "they are held, for longer than a checkout may take",
        async || {
            !operator.column("show waiters").await.unwrap().is_empty()
                && held.elapsed() > Duration::from_millis(2500)
        },
    )
    .await;
    operator.batch_execute("RESUME postgres").await.unwrap();
    for client in waiting {
        client.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_switchover_that_does_not_come_holds_nobody_for_ever() {
    let fleet = Fleet::new().await;
    let ports = [fleet.primary.port(), fleet.replica.port()];
    let proxy = fleet.proxy(&ports, "[timeouts]\nhold = \"2s\"").await;
    let client = fleet.client(&proxy).await;
    client.one("select 1").await;
    let operator = connect(&proxy.url("app", "pgherd")).await;
    operator.batch_execute("SWITCHOVER postgres").await.unwrap();
    client
        .batch_execute("insert into acked values (1)")
        .await
        .unwrap();
    let alone = fleet.proxy(&ports[..1], "").await;
    let operator = connect(&alone.url("app", "pgherd")).await;
    let (code, message) = operator.refused("SWITCHOVER postgres").await;
    assert_eq!(code, "55000", "{message}");
    assert_eq!(operator.refused("SWITCHOVER nowhere").await.0, "3D000");
}

#[tokio::test]
async fn a_cluster_that_was_rebuilt_is_adopted_when_an_operator_says_so() {
    let mut fleet = Fleet::new().await;
    let rebuilt = Fleet::new().await;
    let ports = [fleet.primary.port(), rebuilt.primary.port()];
    let more =
        "[timeouts]\nhold = \"2s\"\n[users.other]\npassword = \"other\"\nconsole = \"reader\"";
    let proxy = fleet.proxy(&ports, more).await;
    let client = fleet.client(&proxy).await;
    client
        .batch_execute("insert into acked values (1)")
        .await
        .unwrap();
    let operator = connect(&proxy.url("app", "pgherd")).await;
    let name = format!("127.0.0.1:{}", ports[1]);
    until("the other one is refused", async || {
        fleet.host(&operator, ports[1]).await.get("health") == Some("fenced")
    })
    .await;
    fleet.primary.kill9();
    let told = client.simple_query("insert into acked values (2)").await;
    let told = told.unwrap_err();
    let told = told.as_db_error().unwrap();
    assert_eq!(told.code().code(), "57P03");
    let hint = told.hint().unwrap_or_default();
    assert!(
        hint.contains(&format!("ADOPT postgres {name} on the console")),
        "{hint}"
    );
    let reader = connect(&proxy.url("other", "pgherd")).await;
    assert_eq!(reader.refused("ADOPT postgres").await.0, "42501");
    for (text, code, part) in [
        ("ADOPT nowhere".to_owned(), "3D000", "no such database"),
        (
            "ADOPT postgres nobody".to_owned(),
            "55000",
            "none of the hosts",
        ),
        (
            format!("ADOPT postgres 127.0.0.1:{}", ports[0]),
            "55000",
            "not seen to be a primary",
        ),
    ] {
        let (refused, message) = operator.refused(&text).await;
        assert_eq!(refused, code, "{text}");
        assert!(message.contains(part), "{message}");
    }
    let waiting = tokio::spawn(async move {
        client
            .batch_execute("insert into acked values (3)")
            .await
            .unwrap();
    });
    operator
        .batch_execute(&format!("ADOPT postgres {name}"))
        .await
        .unwrap();
    waiting.await.unwrap();
    let there = rebuilt.primary.sql("select x from acked").await.unwrap();
    assert_eq!(there, "3");
    proxy
        .logged("an operator has taken the hosts for another cluster", 1)
        .await;
    let epochs = operator.rows("show epochs", ["epoch", "writer"]).await;
    assert_eq!(epochs.last().unwrap().join(" "), format!("1.1 {name}"));
}
