//! Cancel requests.

use pgherd_sandbox::{Binaries, Server};
use pgherd_tests::{Client, Config, Database, Proxy, Raw, connect, until};
use tokio_postgres::SimpleQueryMessage;

pub(super) async fn sleeping(database: &Database, count: usize) {
    let sleeping = "select count(*) from pg_stat_activity where query like 'select pg_sleep(60)%' \
                    and datname = current_database() and state = 'active'";
    let count = count.to_string();
    until("they sleep", async || database.sql(sleeping).await == count).await;
}

#[tokio::test]
async fn a_cancel_ends_the_query_of_its_client_alone() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 2").await;
    let mut first = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    let mut second = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    first.send(&Raw::query("select pg_sleep(60)")).await;
    second.send(&Raw::query("select pg_sleep(60)")).await;
    sleeping(&database, 2).await;
    Raw::cancel(proxy.port(), &first.key).await;
    assert_eq!(first.ask(&[]).await, "T E57014 ZI");
    sleeping(&database, 1).await;
    Raw::cancel(proxy.port(), &second.key).await;
    assert_eq!(second.ask(&[]).await, "T E57014 ZI");
    assert_eq!(first.one("select 1").await, "1");
}

#[tokio::test]
async fn wrong_and_idle_keys_cancel_nothing() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 1").await;
    let mut first = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    let idle = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    first.send(&Raw::query("select pg_sleep(1)")).await;
    let mut secret = first.key.1.clone();
    secret[0] ^= 1;
    for key in [(first.key.0, secret), (0, vec![0; 4]), idle.key.clone()] {
        Raw::cancel(proxy.port(), &key).await;
    }
    assert_eq!(first.ask(&[]).await, "T D C ZI");
}

#[tokio::test]
async fn a_late_cancel_never_hits_another_client() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 1").await;
    let mut victim = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    let mut canceller = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    let port = proxy.port();
    for round in 0..150 {
        canceller.send(&Raw::query("select 1")).await;
        let key = canceller.key.clone();
        let cancel = tokio::spawn(async move { Raw::cancel(port, &key).await });
        let answer = canceller.ask(&[]).await;
        assert!(
            ["T D C ZI", "E57014 ZI", "T E57014 ZI"].contains(&&*answer),
            "{round}: {answer}"
        );
        let answer = victim
            .ask(&Raw::query("select 1 from pg_sleep(0.002)"))
            .await;
        assert_eq!(answer, "T D C ZI", "{round}");
        cancel.await.unwrap();
    }
}

#[tokio::test]
async fn a_waiting_query_can_be_cancelled() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 1").await;
    let mut holder = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    let mut waiter = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    assert_eq!(holder.ask(&Raw::query("begin read write")).await, "C ZT");
    let console = connect(&proxy.url("app", "pgherd")).await;
    waiter.send(&Raw::query("select 1")).await;
    until("it waits", async || waits(&console).await).await;
    Raw::cancel(proxy.port(), &waiter.key).await;
    assert_eq!(waiter.ask(&[]).await, "E57014 ZI");
    assert_eq!(holder.ask(&Raw::query("commit")).await, "C ZI");
    assert_eq!(waiter.one("select 1").await, "1");
}

async fn waits(console: &Client) -> bool {
    let pools = console.simple_query("show pools").await.unwrap();
    pools.iter().any(|message| match message {
        SimpleQueryMessage::Row(row) => row.get("cl_waiting") == Some("1"),
        _ => false,
    })
}

#[tokio::test]
async fn a_query_timeout_cancels_on_the_server() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[timeouts]\nquery = \"300ms\"").await;
    let client = proxy.client("app", &database).await;
    let (code, _) = client.refused("select pg_sleep(60)").await;
    assert_eq!(code, "57014");
    sleeping(&database, 0).await;
    assert_eq!(client.one("select 1").await, "1");
}

/// Who always asks for more before it is answered is never told that it has answered all.
#[tokio::test]
async fn a_query_timeout_is_for_each_query_of_a_pipeline() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[timeouts]\nquery = \"1s\"").await;
    let mut client = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    let short = Raw::query("select pg_sleep(0.3)");
    let synced = [
        Raw::parse("", "select pg_sleep(0.3)"),
        Raw::bind("", "", &[]),
        Raw::execute("", 0),
        Raw::sync(),
    ]
    .concat();
    let long = Raw::query("select pg_sleep(60)");
    client
        .send(&[short.repeat(3), synced.repeat(3)].concat())
        .await;
    client.send(&[long, short.clone()].concat()).await;
    for at in 0..6 {
        let answer = client.ask(&[]).await;
        assert!(
            ["T D C ZI", "1 2 D C ZI"].contains(&&*answer),
            "{at}: {answer}"
        );
    }
    assert_eq!(client.ask(&[]).await, "T E57014 ZI");
    // Up to Postgres 17 the server signals a process and then its group, and what follows in the pipeline may have begun in
    // between: its own client's cancel would hit it as well.
    let behind = client.ask(&[]).await;
    assert!(
        ["T D C ZI", "T E57014 ZI"].contains(&&*behind),
        "behind it: {behind}"
    );
    // What is sent when that is answered waits until nothing of the cancel is under way any more.
    for _ in 0..3 {
        assert_eq!(client.ask(&short).await, "T D C ZI");
    }
}

/// A setting of one's own is taken back by a statement of ours behind the client's, whose answer nobody may see.
#[tokio::test]
async fn behind_a_query_timeout_nobody_hears_the_answers_to_what_is_not_theirs() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[timeouts]\nquery = \"300ms\"").await;
    let options = [("options", "-c app.x=1")];
    let mut client = Raw::login(proxy.port(), "app", &database.name, &options).await;
    let whole = |text: &str| {
        let (parse, bind) = (Raw::parse("", text), Raw::bind("", "", &[]));
        [parse, bind, Raw::execute("", 0), Raw::sync()].concat()
    };
    let both = [whole("select pg_sleep(60)"), whole("reset app.x")].concat();
    loop {
        assert_eq!(client.ask(&both).await, "1 2 E57014 ZI");
        match &*client.ask(&[]).await {
            "1 2 C ZI" => break,
            // One cancel may hit both.
            "1 2 E57014 ZI" | "E57014 ZI" | "1 E57014 ZI" => {}
            other => panic!("{other}"),
        }
    }
    assert_eq!(client.one("select current_setting('app.x')").await, "1");
}

#[tokio::test]
async fn a_commit_that_is_answered_or_has_not_begun_leaves_no_query_without_its_timeout() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[timeouts]\nquery = \"300ms\"").await;
    let mut client = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    let [begin, one, long, commit] =
        ["begin", "select 1", "select pg_sleep(60)", "commit"].map(Raw::query);
    client.ask(&begin).await;
    client.ask(&one).await;
    client.send(&[&commit[..], &long].concat()).await;
    assert_eq!(client.ask(&[]).await, "C ZI");
    assert_eq!(client.ask(&[]).await, "T E57014 ZI");
    client.ask(&begin).await;
    client.ask(&one).await;
    client.send(&[long, commit].concat()).await;
    assert_eq!(client.ask(&[]).await, "T E57014 ZE");
    assert_eq!(client.ask(&[]).await, "C ZI");
}

/// Cancelled, it would be told as done although no standby has it.
#[tokio::test]
async fn a_query_timeout_leaves_a_commit_alone_that_waits_for_a_standby() {
    let server = Server::builder(&Binaries::find().unwrap())
        .start()
        .await
        .unwrap();
    server.sql("create table t (a int)").await.unwrap();
    let proxy = Proxy::start(&Config::text(format!(
        "[listen]\naddresses = [\"127.0.0.1:{{port}}\"]\n[auth]\nmethod = \"trust\"\n\
         [timeouts]\nquery = \"300ms\"\n\
         [users.postgres]\n[databases.postgres]\nhosts = [\"127.0.0.1:{}\"]\n",
        server.port()
    )))
    .await;
    let enter = async || Raw::login(proxy.port(), "postgres", "postgres", &[]).await;
    let (mut client, mut other) = (enter().await, enter().await);
    let standbys = async |names: &str| {
        let local = "set synchronous_commit = 'local'";
        let set = format!("alter system set synchronous_standby_names = '{names}'");
        for sql in [local, &set, "select pg_reload_conf()"] {
            server.sql(sql).await.unwrap();
        }
        until("it is so", async || {
            server.sql("show synchronous_standby_names").await.unwrap() == names
        })
        .await;
    };
    standbys("*").await;
    client.ask(&Raw::query("begin")).await;
    let insert = Raw::query("insert into t values (1)");
    assert_eq!(client.ask(&insert).await, "C ZT");
    client.send(&Raw::query("commit")).await;
    // The server says of none of its statements that it is done before all are.
    let text = Raw::query("begin; insert into t values (2); commit");
    let piped = ["begin", "insert into t values (3)", "commit"].map(|text| {
        [
            Raw::parse("", text),
            Raw::bind("", "", &[]),
            Raw::execute("", 0),
        ]
        .concat()
    });
    let piped = [piped.concat(), Raw::sync()].concat();
    let (mut second, mut third) = (enter().await, enter().await);
    second.send(&text).await;
    third.send(&piped).await;
    let waits = "select count(*) from pg_stat_activity where wait_event = 'SyncRep'";
    until("they wait", async || {
        server.sql(waits).await.unwrap() == "3"
    })
    .await;
    // By then the time of each COMMIT is up as well, and where that was asked about, the answer is there.
    let sleep = Raw::query("select pg_sleep(60)");
    for _ in 0..3 {
        assert_eq!(other.ask(&sleep).await, "T E57014 ZI");
    }
    assert_eq!(server.sql(waits).await.unwrap(), "3");
    standbys("").await;
    assert_eq!(client.ask(&[]).await, "C ZI");
    assert_eq!(second.ask(&[]).await, "C C C ZI");
    assert_eq!(third.ask(&[]).await, "1 2 C 1 2 C 1 2 C ZI");
}

/// What stands before a COMMIT has a limit, also where both are in one text or pipeline, and where nobody reads it.
#[tokio::test]
async fn a_query_timeout_holds_for_what_stands_before_a_commit() {
    let database = Database::new().await;
    let more = "[limits]\nmax_held_message = 8192\n[timeouts]\nquery = \"300ms\"";
    let proxy = Proxy::before(&database, more).await;
    let mut client = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    let statement = |text: &str| {
        [
            Raw::parse("", text),
            Raw::bind("", "", &[]),
            Raw::execute("", 0),
        ]
        .concat()
    };
    let sleep = "select pg_sleep(60)";
    let pipeline = [
        statement("begin"),
        statement(sleep),
        statement("commit"),
        Raw::sync(),
    ];
    let long = format!("/* {} */ {sleep}", "x".repeat(20_000));
    for (sent, told) in [
        (
            Raw::query(&format!("begin; {sleep}; commit")),
            "C T E57014 ZE",
        ),
        (pipeline.concat(), "1 2 C 1 2 E57014 ZE"),
        (
            Raw::query(&format!("{sleep}; begin; commit")),
            "T E57014 ZI",
        ),
        (Raw::query(&long), "T E57014 ZI"),
    ] {
        assert_eq!(client.ask(&sent).await, told);
        client.ask(&Raw::query("rollback")).await;
    }
    assert_eq!(client.one("select 1").await, "1");
}

/// What stands behind a COMMIT has one, too, also where both are in one text or pipeline.
#[tokio::test]
async fn a_query_timeout_holds_for_what_stands_behind_a_commit() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[timeouts]\nquery = \"300ms\"").await;
    let mut client = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    let statement = |text: &str| {
        [
            Raw::parse("", text),
            Raw::bind("", "", &[]),
            Raw::execute("", 0),
        ]
        .concat()
    };
    let sleep = "select pg_sleep(60)";
    let piped = [statement("commit"), statement(sleep), Raw::sync()];
    let mixed = [statement("commit"), Raw::query(sleep)];
    for (sent, told) in [
        (Raw::query(&format!("commit; {sleep}")), "C T E57014 ZI"),
        (
            Raw::query(&format!("begin; commit; begin; {sleep}; commit")),
            "C C C T E57014 ZE",
        ),
        (piped.concat(), "1 2 C 1 2 E57014 ZI"),
        (mixed.concat(), "1 2 C T E57014 ZI"),
    ] {
        assert_eq!(client.ask(&sent).await, told);
        client.ask(&Raw::query("rollback")).await;
    }
    assert_eq!(client.one("select 1").await, "1");
}
