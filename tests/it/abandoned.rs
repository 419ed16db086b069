//! Clients that leave in the middle.

use pgherd_tests::{Client, Database, Proxy, Raw, connect, until};
use tokio::net::TcpStream;
use tokio_postgres::SimpleQueryMessage;

const PID: &str = "select pg_backend_pid()";

/// Sees that the pool of one server connection serves on, by the same or by another backend.
async fn serves(proxy: &Proxy, database: &Database) -> Client {
    let next = proxy.client("app", database).await;
    assert_eq!(next.one("select 'served'").await, "served");
    next
}

async fn quiet(database: &Database) {
    let busy = "select count(*) from pg_stat_activity where usename = 'app' \
                and datname = current_database() and state <> 'idle'";
    until("no backend works on", async || {
        database.sql(busy).await == "0"
    })
    .await;
}

#[tokio::test]
async fn an_abandoned_transaction_is_rolled_back_and_its_server_serves_on() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 1").await;
    database.sql("create table work (a int)").await;
    for polite in [true, false] {
        let client = proxy.client("app", &database).await;
        let pid = client.one(PID).await;
        client
            .batch_execute("begin; insert into work values (1)")
            .await
            .unwrap();
        if polite {
            drop(client);
        } else {
            client.cut().await;
        }
        let next = serves(&proxy, &database).await;
        assert_eq!(next.one(PID).await, pid);
        assert_eq!(next.one("select count(*) from work").await, "0");
    }
}

#[tokio::test]
async fn a_failed_transaction_left_alone_is_ended_too() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 1").await;
    let client = proxy.client("app", &database).await;
    let pid = client.one(PID).await;
    client.batch_execute("begin; select 1/0").await.unwrap_err();
    client.cut().await;
    assert_eq!(serves(&proxy, &database).await.one(PID).await, pid);
}

#[tokio::test]
async fn an_abandoned_query_is_cancelled() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 1").await;
    let mut client = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    client.send(&Raw::query("select pg_sleep(600)")).await;
    let sleeping = "select count(*) from pg_stat_activity where query like 'select pg_sleep(600)%' \
                    and datname = current_database() and state = 'active'";
    until("it sleeps", async || database.sql(sleeping).await == "1").await;
    drop(client);
    until("it was woken", async || database.sql(sleeping).await == "0").await;
    serves(&proxy, &database).await;
}

#[tokio::test]
async fn an_abandoned_copy_in_copies_nothing() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 1").await;
    database.sql("create table goods (a int)").await;
    let mut client = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    client.send(&Raw::query("copy goods from stdin")).await;
    assert_eq!(client.message().await.tag, 'G');
    client.send(&Raw::framed(b'd', b"1\n2\n")).await;
    drop(client);
    let next = serves(&proxy, &database).await;
    assert_eq!(next.one("select count(*) from goods").await, "0");
    quiet(&database).await;
}

#[tokio::test]
async fn a_copy_in_cut_within_a_message_copies_nothing() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 1").await;
    database.sql("create table goods (a int)").await;
    let mut client = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    client.send(&Raw::query("copy goods from stdin")).await;
    assert_eq!(client.message().await.tag, 'G');
    let data = Raw::framed(b'd', &b"1\n".repeat(50_000));
    client.send(&data[..60_000]).await;
    drop(client);
    let next = serves(&proxy, &database).await;
    assert_eq!(next.one("select count(*) from goods").await, "0");
    quiet(&database).await;
}

#[tokio::test]
async fn an_abandoned_copy_out_ends() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 1").await;
    let mut client = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    let copy =
        "copy (select repeat('x', 1000) from (select generate_series(1, 100000000)) a) to stdout";
    client.send(&Raw::query(copy)).await;
    assert_eq!(client.message().await.tag, 'H');
    assert_eq!(client.message().await.tag, 'd');
    drop(client);
    serves(&proxy, &database).await;
    quiet(&database).await;
}

#[tokio::test]
async fn a_pipeline_without_sync_is_ended() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 1").await;
    database.sql("create table work (a int)").await;
    let mut client = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    let insert = [
        Raw::parse("", "insert into work values (1)"),
        Raw::bind("", "", &[]),
        Raw::execute("", 0),
        Raw::flush(),
    ];
    client.send(&insert.concat()).await;
    for tag in ['1', '2', 'C'] {
        assert_eq!(client.message().await.tag, tag);
    }
    drop(client);
    let next = serves(&proxy, &database).await;
    let count = next.one("select count(*) from work").await;
    assert_eq!(count, "0", "what was never synced must not be committed");
}

#[tokio::test]
async fn session_state_of_a_pinned_client_leaves_with_it() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 1").await;
    let client = proxy.client("app", &database).await;
    let dirty = "create temp table mine (a int); select pg_advisory_lock(9); listen news; \
                 declare c cursor with hold for select 1";
    client.batch_execute(dirty).await.unwrap();
    client.cut().await;
    let next = serves(&proxy, &database).await;
    assert_eq!(next.one("select to_regclass('pg_temp.mine')").await, "NULL");
    assert_eq!(
        next.one("select count(*) from pg_listening_channels()")
            .await,
        "0"
    );
    assert_eq!(next.one("select count(*) from pg_cursors").await, "0");
    assert_eq!(next.one("select pg_try_advisory_lock(9)").await, "t");
}

#[tokio::test]
async fn a_backend_killed_in_a_query_is_one_error_and_the_client_stays() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 1").await;
    let client = proxy.client("app", &database).await;
    let pid = client.one(PID).await;
    let kill = format!("begin; select pg_terminate_backend({pid}), pg_sleep(60)");
    let (code, message) = client.refused(&kill).await;
    assert!(["57P01", "40001"].contains(&&*code), "{code} {message}");
    // As after any error in a block, it is the client who ends it.
    assert_eq!(client.refused("select 1").await.0, "25P02");
    client.batch_execute("rollback").await.unwrap();
    assert_ne!(client.one(PID).await, pid);
}

#[tokio::test]
async fn a_backend_killed_in_an_idle_transaction_is_told_at_the_next_statement() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 1").await;
    let mut client = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    let simple = Raw::query("commit");
    let extended = [
        Raw::parse("", "commit"),
        Raw::bind("", "", &[]),
        Raw::execute("", 0),
        Raw::sync(),
    ];
    let extended = extended.concat();
    for (next, told) in [
        // A COMMIT ends its block, also one that fails.
        (simple, "E40001 ZI"),
        (extended, "E40001 ZI"),
        // Who wants to roll back has it.
        (Raw::query("rollback"), "C ZI"),
        (Raw::query("select 1"), "E40001 ZE"),
    ] {
        assert_eq!(client.ask(&Raw::query("begin read write")).await, "C ZT");
        let pid = client.one(PID).await;
        database
            .sql(&format!("select pg_terminate_backend({pid})"))
            .await;
        until("it is gone", async || database.backends("app").await == 0).await;
        assert_eq!(client.ask(&next).await, told);
    }
    assert_eq!(client.ask(&Raw::query("rollback")).await, "C ZI");
    serves(&proxy, &database).await;
}

#[tokio::test]
async fn a_setting_made_while_leaving_meets_nobody() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 1").await;
    let mut next = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    let before = next.one("show timezone").await;
    for _ in 0..5 {
        let mut leaving = Raw::login(proxy.port(), "app", &database.name, &[]).await;
        let words = [
            Raw::query("set timezone = 'Asia/Kolkata'"),
            Raw::framed(b'X', b""),
        ];
        leaving.send(&words.concat()).await;
        drop(leaving);
        assert_eq!(next.one("show timezone").await, before);
    }
}

#[tokio::test]
async fn a_setting_that_the_rollback_of_a_leaving_client_takes_back_is_brought_again() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 1").await;
    let mut stays = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    stays
        .ask(&Raw::query("set timezone = 'America/Lima'"))
        .await;
    for _ in 0..5 {
        let mut leaving = Raw::login(proxy.port(), "app", &database.name, &[]).await;
        leaving.ask(&Raw::query("begin read write")).await;
        leaving
            .ask(&Raw::query("set timezone = 'America/Lima'"))
            .await;
        drop(leaving);
        assert_eq!(stays.one("show timezone").await, "America/Lima");
    }
}

/// A client that can be cut off by a reset, so that the next word to it is known to be in vain.
async fn frail(proxy: &Proxy, database: &Database) -> Raw {
    let stream = TcpStream::connect(("127.0.0.1", proxy.port())).await;
    let stream = stream.unwrap();
    stream.set_zero_linger().unwrap();
    let entered = Raw::over(stream).enter("app", &database.name, &[]).await;
    entered.unwrap()
}

/// What a server is rid of while nobody reads its answers is not believed to be there.
#[tokio::test]
async fn what_a_leaving_client_has_its_server_forget_is_brought_again() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 1").await;
    let mut stays = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    // The server does not report it.
    let path = Raw::query("set search_path = elsewhere");
    assert_eq!(stays.ask(&path).await, "C ZI");
    let named = [Raw::parse("s", "select 'known'"), Raw::sync()].concat();
    assert_eq!(stays.ask(&named).await, "1 ZI");
    let run = [Raw::bind("", "s", &[]), Raw::execute("", 0), Raw::sync()].concat();
    assert_eq!(stays.ask(&run).await, "2 D C ZI");
    for forgets in ["discard all", "deallocate all"] {
        let mut leaving = frail(&proxy, &database).await;
        assert_eq!(leaving.ask(&path).await, "C ZI");
        let sleep = Raw::query("select pg_sleep(0.3)");
        let words = [&sleep[..], &sleep, &Raw::query(forgets)].concat();
        leaving.send(&words).await;
        let sleeps = "select count(*) from pg_stat_activity where wait_event = 'PgSleep' \
                      and datname = current_database()";
        until("it sleeps", async || database.sql(sleeps).await == "1").await;
        drop(leaving);
        assert_eq!(
            stays.one("show search_path").await,
            "elsewhere",
            "{forgets}"
        );
        // In a block nothing can be prepared anew.
        assert_eq!(stays.ask(&Raw::query("begin")).await, "C ZT");
        assert_eq!(stays.ask(&Raw::query("select 1")).await, "T D C ZT");
        assert_eq!(stays.ask(&run).await, "2 D C ZT", "{forgets}");
        assert_eq!(stays.ask(&Raw::query("commit")).await, "C ZI");
    }
}

/// What a client gets, in a block or without one, that says goodbye right behind what it asks for.
async fn answers(port: u16, database: &str, in_block: bool, asked: &[u8]) -> String {
    let mut client = Raw::login(port, "app", database, &[]).await;
    if in_block {
        client.ask(&Raw::query("begin")).await;
    }
    client
        .send(&[asked, &Raw::framed(b'X', b"")].concat())
        .await;
    let mut said = String::new();
    while let Some(message) = client.next().await {
        match message.field('C') {
            Some(code) if message.tag == 'E' => said += &code,
            _ => said.push(message.tag),
        }
    }
    said
}

#[tokio::test]
async fn a_goodbye_waits_for_the_answers_to_what_stands_before_it() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 1").await;
    database.sql("create table kept (a int)").await;
    let [insert, slow] = [
        "insert into kept values (1) returning a",
        "select pg_sleep(0.2)",
    ]
    .map(Raw::query);
    let part = [
        Raw::parse("", "select generate_series(1, 9)"),
        Raw::bind("", "", &[]),
        Raw::execute("", 3),
    ]
    .concat();
    let large = Raw::query("select repeat('x', 1000) from generate_series(1, 2000)");
    let wrong = Raw::parse("", "select from nowhere");
    let talks = [
        (false, insert.clone(), 1),
        (false, [slow.clone(), insert.clone()].concat(), 1),
        (false, [part.clone(), Raw::sync()].concat(), 0),
        (
            false,
            [wrong, part.clone(), Raw::sync(), insert.clone()].concat(),
            1,
        ),
        (false, large, 0),
        (true, insert.clone(), 0),
        (
            true,
            [insert.clone(), slow, Raw::query("commit")].concat(),
            1,
        ),
        (false, [Raw::query("select 1/0"), insert].concat(), 1),
    ];
    for (number, (in_block, asked, rows)) in talks.iter().enumerate() {
        let direct = answers(database.port, &database.name, *in_block, asked).await;
        assert!(
            direct.ends_with('Z'),
            "Postgres answers talk {number}: {direct}"
        );
        database.sql("truncate kept").await;
        let through = answers(proxy.port(), &database.name, *in_block, asked).await;
        assert_eq!(through, direct, "talk {number}");
        serves(&proxy, &database).await;
        let kept = database.sql("select count(*) from kept").await;
        assert_eq!(kept, rows.to_string(), "talk {number}");
    }
}

#[tokio::test]
async fn a_goodbye_behind_what_has_no_end_does_not_wait() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 1").await;
    database.sql("create table copied (a int)").await;
    let copy = Raw::query("copy copied from stdin");
    let unsynced = Raw::parse("", "select 1");
    for asked in [
        copy.clone(),
        [copy, Raw::framed(b'd', b"1\n")].concat(),
        unsynced.clone(),
        [Raw::query("select 1"), unsynced].concat(),
        Raw::flush(),
    ] {
        answers(proxy.port(), &database.name, false, &asked).await;
        serves(&proxy, &database).await;
        assert_eq!(database.sql("select count(*) from copied").await, "0");
    }
    quiet(&database).await;
}

#[tokio::test]
async fn who_says_goodbye_and_is_gone_has_asked_all_the_same() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 1").await;
    database.sql("create table asked (a int)").await;
    let console = connect(&proxy.url("app", "pgherd")).await;
    let insert = Raw::query("insert into asked select 1 from pg_sleep(0.3)");
    for (rows, port) in (1..).zip([database.port, proxy.port(), proxy.port()]) {
        // Who is gone before there is a server for it has no turn.
        drop(serves(&proxy, &database).await);
        until("its server is free", async || {
            let pools = console.simple_query("show pools").await.unwrap();
            let idle = |message: &SimpleQueryMessage| match message {
                SimpleQueryMessage::Row(row) => row.get("sv_idle") == Some("1"),
                _ => false,
            };
            pools.iter().any(idle)
        })
        .await;
        let mut client = Raw::login(port, "app", &database.name, &[]).await;
        client
            .send(&[insert.clone(), Raw::framed(b'X', b"")].concat())
            .await;
        drop(client);
        until("it is there", async || {
            database.sql("select count(*) from asked").await == format!("{rows}")
        })
        .await;
    }
}
