//! Nothing that a transaction over both shards waits for holds their connections and locks for ever.

use pgherd_sandbox::free_port;
use pgherd_tests::{Raw, connect, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::faults::tapped;
use crate::rig::key;
use crate::tap::{Fault, Rule, When};
use crate::transactions::{filled, part, sum};

#[tokio::test]
async fn a_statement_that_is_only_described_has_the_limits_of_others() {
    let rig = filled("[timeouts]\nquery = \"5s\"").await;
    let mut raw = rig.raw().await;
    for text in [
        "begin",
        "update accounts set amount = amount + 1",
        "set lock_timeout = '60s'",
    ] {
        assert_eq!(raw.ask(&Raw::query(text)).await, "C ZT", "{text}");
    }
    let holder = connect(&rig.shards[0].url("app")).await;
    holder
        .batch_execute("begin; lock countries in access exclusive mode")
        .await
        .unwrap();
    let described = [
        Raw::parse("", "select name from countries"),
        Raw::describe('S', ""),
        Raw::sync(),
    ];
    assert_eq!(raw.ask(&described.concat()).await, "1 E57014 ZE");
    assert_eq!(raw.ask(&Raw::query("rollback")).await, "C ZI");
}

#[tokio::test]
async fn a_client_that_takes_no_answer_keeps_no_locks() {
    let rig = filled("[timeouts]\ntransaction = \"12s\"").await;
    let mut raw = rig.raw().await;
    assert_eq!(raw.ask(&Raw::query("begin")).await, "C ZT");
    // More than sockets hold.
    let insert = format!(
        "insert into entries values ({}, 1, 'x'), ({}, 1, 'y') returning repeat(what, 7000000)",
        key(0),
        key(1)
    );
    raw.send(&Raw::query(&insert)).await;
    let open = "select count(*) from pg_stat_activity where state = 'idle in transaction' \
                and query ilike '%repeat%' and datname = current_database()";
    for expected in ["1", "0"] {
        for shard in &rig.shards {
            until(&format!("{expected} blocks are open"), async || {
                shard.sql(open).await == expected
            })
            .await;
        }
    }
}

#[tokio::test]
async fn a_pipeline_whose_answers_nobody_takes_keeps_no_connection() {
    let rig = filled("[pool]\nsize = 1\n[timeouts]\ntransaction = \"12s\"").await;
    let mut raw = rig.raw().await;
    let columns: Vec<String> = (0..100).map(|at| format!("id as c{at:_>60}")).collect();
    let mut all = part(&format!("select {} from accounts", columns.join(", ")));
    // More than sockets hold.
    for _ in 0..3000 {
        all.extend(Raw::describe('P', ""));
    }
    all.extend(Raw::flush());
    raw.send(&all).await;
    // It has begun.
    assert_eq!(raw.message().await.tag, '1');
    let mut other = rig.raw().await;
    let read = format!("select amount from accounts where id = {}", key(0));
    assert_eq!(other.one(&read).await, "100");
}

async fn metrics(port: u16) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let request = b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).await.unwrap();
    page
}

#[tokio::test]
async fn who_holds_others_and_gets_no_connection_of_a_shard_is_told_so_and_counted() {
    let http = free_port();
    let rig = filled(&format!(
        "[pool]\nsize = 1\n[metrics]\nlisten = \"127.0.0.1:{http}\""
    ))
    .await;
    let (mut holder, mut raw) = (rig.raw().await, rig.raw().await);
    let update = |shard| {
        let id = key(shard);
        Raw::query(&format!("update accounts set amount = 0 where id = {id}"))
    };
    for text in [Raw::query("begin"), update(1)] {
        assert_eq!(holder.ask(&text).await, "C ZT");
    }
    for text in [Raw::query("begin"), update(0)] {
        assert_eq!(raw.ask(&text).await, "C ZT");
    }
    assert_eq!(raw.ask(&update(1)).await, "E53300 ZE");
    let page = metrics(http).await;
    let name = &rig.shards[1].name;
    let line = format!(
        "pgherd_pool_refusals_total{{database=\"{name}\",user=\"app\",reason=\"checkout_timeout\"}} 1"
    );
    assert!(page.lines().any(|known| known == line), "{page}");
    for client in [&mut raw, &mut holder] {
        assert_eq!(client.ask(&Raw::query("rollback")).await, "C ZI");
    }
}

#[tokio::test]
async fn a_cancel_request_counts_while_a_shard_is_come_to() {
    let rig = filled("").await;
    let (taps, proxy) = tapped(&rig).await;
    let mut raw = Raw::login(proxy.port(), "app", "shop", &[]).await;
    let add = Raw::query("update accounts set amount = amount + 1");
    assert_eq!(raw.ask(&add).await, "C ZI");
    for tap in &taps {
        tap.arm(Rule {
            pattern: b"BEGIN\n; ",
            when: When::Before,
            fault: Fault::Pause,
        });
        raw.send(&add).await;
        tap.hit().await;
        Raw::cancel(proxy.port(), &raw.key).await;
        tap.go_on();
        assert_eq!(raw.ask(&[]).await, "E57014 ZI");
        // It was one of that statement alone.
        assert_eq!(raw.ask(&add).await, "C ZI");
    }
    assert_eq!(sum(&rig, "select sum(amount) from accounts").await, 618);
}
