//! What is heard and what is not, as from Postgres.

use pgherd_tests::{Config, Database, Proxy, Raw, connect};

use super::{at_once, enter, heard, herald, house, next, part, shown};

#[tokio::test]
async fn a_client_that_listens_keeps_no_server() {
    let (proxy, database) = house().await;
    let mut clients = Vec::new();
    for _ in 0..5 {
        let mut client = enter(&proxy, &database).await;
        assert_eq!(client.ask(&Raw::query("listen news")).await, "C ZI");
        clients.push(client);
    }
    let other = proxy.client("other", &database).await;
    other.batch_execute("notify news, 'one'").await.unwrap();
    let mut sender = enter(&proxy, &database).await;
    sender.ask(&Raw::query("notify news, 'two'")).await;
    for client in &mut clients {
        let (from, channel, payload) = next(client).await;
        assert_eq!((&*channel, &*payload), ("news", "one"));
        assert_ne!(from, client.key.0);
        let (from, _, payload) = next(client).await;
        assert_eq!(payload, "two");
        assert_ne!(from, client.key.0);
        assert_ne!(from, sender.key.0, "this is not known");
    }
    // Two of the pool, and the herald's.
    assert!(database.backends("app").await <= 3);
}

#[tokio::test]
async fn its_own_notifications_come_before_it_is_ready_and_with_its_own_number() {
    let (proxy, database) = house().await;
    let mut client = enter(&proxy, &database).await;
    let mut other = enter(&proxy, &database).await;
    client.ask(&Raw::query("listen a")).await;
    other.ask(&Raw::query("listen a")).await;
    for round in 0..50 {
        // Whoever had the server before has notified, too.
        let mut stranger = enter(&proxy, &database).await;
        stranger
            .ask(&Raw::query(&format!("notify a, 's{round}'")))
            .await;
        client
            .send(&Raw::query(&format!("notify a, 'c{round}'")))
            .await;
        let messages = client.ready().await;
        let own = messages.iter().filter(|message| message.tag == 'A');
        let own: Vec<_> = own.map(super::note).collect();
        let last = own.last().unwrap();
        assert_eq!((last.0, &*last.2), (client.key.0, &*format!("c{round}")));
        for (from, _, payload) in &own {
            assert_eq!(*from == client.key.0, payload.starts_with('c'), "{own:?}");
        }
        let heard = [next(&mut other).await, next(&mut other).await];
        let of = |payload: &str| heard.iter().find(|note| note.2 == payload).unwrap().0;
        assert_eq!(of(&format!("c{round}")), client.key.0);
        assert_ne!(of(&format!("s{round}")), other.key.0);
        assert_ne!(of(&format!("s{round}")), client.key.0);
    }
}

#[tokio::test]
async fn what_is_listened_to_follows_the_transaction() {
    let (proxy, database) = house().await;
    let mut client = enter(&proxy, &database).await;
    let none = Vec::<String>::new();
    assert_eq!(heard(&mut client, "notify a, 'before'").await, none);
    heard(&mut client, "begin").await;
    heard(&mut client, "listen a").await;
    assert_eq!(heard(&mut client, "notify a, 'within'").await, none);
    assert_eq!(heard(&mut client, "commit").await, ["within"]);
    assert_eq!(heard(&mut client, "notify a, 'after'").await, ["after"]);
    // What the transaction notified before it listens counts as well.
    heard(&mut client, "begin").await;
    heard(&mut client, "notify b, 'early'").await;
    heard(&mut client, "listen b").await;
    assert_eq!(heard(&mut client, "commit").await, ["early"]);
    // Rolled back, all or in part.
    heard(&mut client, "begin").await;
    heard(&mut client, "listen c").await;
    heard(&mut client, "rollback").await;
    assert_eq!(heard(&mut client, "notify c").await, none);
    heard(&mut client, "begin").await;
    heard(&mut client, "savepoint s").await;
    heard(&mut client, "unlisten *").await;
    heard(&mut client, "listen c").await;
    heard(&mut client, "rollback to s").await;
    heard(&mut client, "listen d").await;
    heard(&mut client, "notify c, 'c'").await;
    heard(&mut client, "notify d, 'd'").await;
    heard(&mut client, "notify a, 'a'").await;
    assert_eq!(heard(&mut client, "commit").await, ["d", "a"]);
    heard(&mut client, "begin").await;
    heard(&mut client, "notify a, 'unheard'").await;
    heard(&mut client, "unlisten a").await;
    assert_eq!(heard(&mut client, "commit").await, none);
    assert_eq!(heard(&mut client, "notify b, 'b'").await, ["b"]);
    heard(&mut client, "unlisten *").await;
    assert_eq!(heard(&mut client, "notify b, 'b'").await, none);
    heard(&mut client, "listen b").await;
    heard(&mut client, "listen b").await;
    assert_eq!(heard(&mut client, "notify b, 'once'").await, ["once"]);
    heard(&mut client, "discard all").await;
    assert_eq!(heard(&mut client, "notify b").await, none);
}

#[tokio::test]
async fn a_failed_block_refuses_it_and_nothing_is_heard_within_a_block() {
    let (proxy, database) = house().await;
    let mut client = enter(&proxy, &database).await;
    client.ask(&Raw::query("begin")).await;
    client.ask(&Raw::query("select 1/0")).await;
    assert_eq!(client.ask(&Raw::query("listen a")).await, "E25P02 ZE");
    assert_eq!(client.ask(&Raw::query("rollback")).await, "C ZI");
    assert_eq!(client.ask(&Raw::query("listen select")).await, "E42601 ZI");
    client.ask(&Raw::query("listen a")).await;
    client.ask(&Raw::query("begin")).await;
    database.sql("notify a, 'x'").await;
    assert_eq!(client.ask(&Raw::query("select 1")).await, "T D C ZT");
    let messages = client.ask(&Raw::query("commit")).await;
    assert_eq!(messages, "C A ZI");
    client.ask(&Raw::query("begin")).await;
    client.ask(&Raw::query("listen b")).await;
    let prepared = client.ask(&Raw::query("prepare transaction 'x'")).await;
    assert_eq!(prepared, "E0A000 ZI");
}

/// What a client sends in one write behind a block that has failed: that it gets out of it is known only later.
fn ways_out() -> Vec<(Vec<Vec<u8>>, Vec<&'static str>)> {
    let listen = "listen a";
    let both = |text| vec![Raw::query(text), Raw::query(listen)];
    let in_one = [part("rollback"), part(listen), Raw::sync()];
    let apart = [part("rollback"), Raw::sync(), part(listen), Raw::sync()];
    let back = [part("rollback to s"), part(listen), Raw::sync()];
    vec![
        (both("rollback"), vec!["C ZI", "C ZI"]),
        (both("commit"), vec!["C ZI", "C ZI"]),
        (both("rollback to s"), vec!["C ZT", "C ZT"]),
        (vec![Raw::query("rollback; listen a")], vec!["C C ZI"]),
        (vec![Raw::query("rollback to s; listen a")], vec!["C C ZT"]),
        (in_one.to_vec(), vec!["1 2 C 1 2 C ZI"]),
        (apart.to_vec(), vec!["1 2 C ZI", "1 2 C ZI"]),
        (back.to_vec(), vec!["1 2 C 1 2 C ZT"]),
    ]
}

/// Else it would have a listener behind on a server that is another client's next.
#[tokio::test]
async fn what_gets_out_of_a_failed_block_and_listens_behind_it_leaves_nothing_on_the_server() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 1").await;
    let mut other = enter(&proxy, &database).await;
    for (at, (sent, answers)) in ways_out().into_iter().enumerate() {
        let mut client = enter(&proxy, &database).await;
        for text in ["begin", "savepoint s"] {
            assert_eq!(client.ask(&Raw::query(text)).await, "C ZT");
        }
        assert_eq!(client.ask(&Raw::query("select 1/0")).await, "E22012 ZE");
        let told = at_once(&mut client, &sent, answers.len()).await;
        assert_eq!(told, answers, "{at}");
        assert_eq!(client.ask(&Raw::query("commit")).await, "C ZI", "{at}");
        let notified = other.ask(&Raw::query("notify a, 'x'")).await;
        assert_eq!(notified, "C ZI", "{at}");
        assert_eq!(next(&mut client).await.2, "x", "{at}");
    }
    // Answers may come before the Sync does.
    let mut client = enter(&proxy, &database).await;
    client.ask(&Raw::query("begin")).await;
    assert_eq!(client.ask(&Raw::query("select 1/0")).await, "E22012 ZE");
    client
        .send(&[part("rollback"), Raw::flush()].concat())
        .await;
    for tag in ['1', '2', 'C'] {
        assert_eq!(client.message().await.tag, tag);
    }
    let listen = [part("listen a"), Raw::sync()].concat();
    assert_eq!(client.ask(&listen).await, "1 2 C ZI");
    assert_eq!(other.ask(&Raw::query("notify a, 'y'")).await, "C ZI");
    assert_eq!(next(&mut client).await.2, "y");
}

/// What it would have waited for is nobody's then, and its server is there for others.
#[tokio::test]
async fn a_listen_that_is_not_run_after_all_holds_nobody_up() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 1").await;
    let mut client = enter(&proxy, &database).await;
    let mut other = enter(&proxy, &database).await;
    // It fails only when it is run.
    let failing = "select 1 / (random() * 0)::int";
    for listens in [false, true] {
        let pipeline = [part(failing), part("listen a"), Raw::sync()];
        assert_eq!(
            at_once(&mut client, &pipeline, 1).await,
            ["1 2 E22012 ZI"],
            "{listens}"
        );
        assert_eq!(other.one("select 1").await, "1");
        let block = ["begin", "select 1/0", "listen a"].map(Raw::query);
        let answers = at_once(&mut client, &block, 3).await;
        assert_eq!(answers, ["C ZT", "E22012 ZE", "E25P02 ZE"], "{listens}");
        assert_eq!(client.ask(&Raw::query("rollback")).await, "C ZI");
        assert_eq!(other.one("select 1").await, "1");
        assert_eq!(heard(&mut client, "notify a").await, Vec::<String>::new());
        // Nothing is left of it for the next one.
        assert_eq!(client.ask(&Raw::query("listen b")).await, "C ZI");
        assert_eq!(heard(&mut client, "notify b, 'b'").await, ["b"]);
        assert!(heard(&mut client, "notify a").await.is_empty());
    }
}

#[tokio::test]
async fn both_protocols_and_pipelines_listen() {
    let (proxy, database) = house().await;
    let mut client = enter(&proxy, &database).await;
    for name in ["", "named"] {
        let listen = [
            Raw::parse(name, "LISTEN \"Odd \"\"Name\""),
            Raw::describe('S', name),
            Raw::bind("", name, &[]),
            Raw::describe('P', ""),
            Raw::execute("", 0),
            Raw::sync(),
        ];
        client.send(&listen.concat()).await;
        let messages = client.ready().await;
        let tags: String = messages.iter().map(|message| message.tag).collect();
        assert_eq!(tags, "1tn2nCZ");
        assert_eq!(messages[5].body, b"LISTEN\0");
        let notify = "notify \"Odd \"\"Name\", 'here'";
        assert_eq!(heard(&mut client, notify).await, ["here"]);
        let unlisten = [
            Raw::parse("", "unlisten *"),
            Raw::bind("", "", &[]),
            Raw::execute("", 0),
            Raw::sync(),
        ];
        client.send(&unlisten.concat()).await;
        let messages = client.ready().await;
        assert_eq!(messages[2].body, b"UNLISTEN\0");
        assert!(heard(&mut client, notify).await.is_empty());
    }
    // What was committed before it in the same write is not heard.
    let pipeline = [
        Raw::query("notify p, 'no'"),
        Raw::query("listen p"),
        Raw::query("notify p, 'yes'"),
        Raw::query("unlisten p"),
        Raw::query("notify p, 'no more'"),
        Raw::query("select 'end'"),
    ];
    client.send(&pipeline.concat()).await;
    let mut payloads = Vec::new();
    for _ in 0..pipeline.len() {
        let messages = client.ready().await;
        let notes = messages.iter().filter(|message| message.tag == 'A');
        payloads.extend(notes.map(|message| super::note(message).2));
    }
    assert_eq!(payloads, ["yes"]);
    // Bound and never executed, it does nothing.
    let bound = [
        Raw::parse("", "listen p"),
        Raw::bind("x", "", &[]),
        Raw::sync(),
    ];
    assert_eq!(client.ask(&bound.concat()).await, "1 2 ZI");
    assert!(heard(&mut client, "notify p").await.is_empty());
}

#[tokio::test]
async fn what_cannot_be_followed_binds_or_is_refused() {
    let (proxy, database) = house().await;
    let mut client = enter(&proxy, &database).await;
    let long = format!("listen {}; select 1", "x".repeat(70));
    // It binds the session to its server, where the numbers are right, too.
    let both = format!("listen a; listen b; notify b, 'own'; {long}");
    client.send(&Raw::query(&both)).await;
    let messages = client.ready().await;
    let own = messages.iter().find(|message| message.tag == 'A').unwrap();
    assert_eq!(super::note(own).0, client.key.0);
    database.sql("notify a, 'other'").await;
    let (from, _, payload) = next(&mut client).await;
    assert_eq!(payload, "other");
    assert_ne!(from, client.key.0);
    client.ask(&Raw::query("listen c")).await;
    assert_eq!(heard(&mut client, "notify c, 'c'").await, ["c"]);
    assert_eq!(client.ask(&Raw::query("unlisten *")).await, "C ZI");
    assert!(heard(&mut client, "notify c").await.is_empty());
    // A client that the herald listens for cannot do both.
    assert_eq!(client.ask(&Raw::query("listen a")).await, "C ZI");
    let asked = "listen b; select pg_listening_channels()";
    for text in [&long, "listen b; prepare s as select 1", asked] {
        assert_eq!(client.ask(&Raw::query(text)).await, "E0A000 ZI", "{text}");
    }
    assert_eq!(heard(&mut client, "notify a, 'a'").await, ["a"]);
    // Who does not listen yet is told what is so.
    let mut asker = enter(&proxy, &database).await;
    // It is not in force yet.
    assert_eq!(asker.ask(&Raw::query(asked)).await, "C T C ZI");
    // What pools of drivers send before they hand a connection on.
    let reset = "select pg_advisory_unlock_all(); close all; unlisten *; reset all";
    client.ask(&Raw::query(reset)).await;
    assert!(heard(&mut client, "notify a").await.is_empty());
}

/// The command tags of a simple query, or the code of its error, with the payloads that were heard.
async fn tags(client: &mut Raw, query: &str) -> String {
    client.send(&Raw::query(query)).await;
    let messages = client.ready().await;
    let words = messages.iter().filter_map(|message| match message.tag {
        'C' => Some(String::from_utf8_lossy(&message.body[..message.body.len() - 1]).into_owned()),
        'E' => message.field('C'),
        'A' => Some(format!("<{}>", super::note(message).2)),
        _ => None,
    });
    words.collect::<Vec<_>>().join(", ")
}

#[tokio::test]
async fn a_text_of_several_statements_listens_as_on_postgres() {
    let (proxy, database) = house().await;
    // In another database, so that neither hears the other.
    let apart = pgherd_tests::Database::new().await;
    let mut direct = Raw::login(apart.port, "app", &apart.name, &[]).await;
    let mut client = enter(&proxy, &database).await;
    let texts = [
        "listen a; select 1",
        "notify a, 'heard'",
        "begin; listen b; notify b, 'own'; commit",
        "unlisten a; select 2; listen c; notify a, 'left'; notify c, 'come'",
        // It is undone with its text, in all or in part.
        "unlisten *; listen d; select 1/0",
        "notify c, 'still'; notify d, 'never'",
        "listen d; commit; listen e; notify d, 'kept'; select 1/0",
        "notify d, 'd'; notify e, 'e'",
        "begin; listen e; rollback; listen f; notify e, 'gone'",
        "notify f, 'f'; notify e, 'not here'",
        "begin; listen e; savepoint s; listen g; rollback to s; commit",
        "notify g, 'g'; notify e, 'e'",
        // In a block of several texts, and in one that has failed.
        "begin",
        "listen h; notify h, 'later'",
        "commit",
        "begin; select 1/0",
        "listen i; select 1",
        "rollback; listen i; notify i, 'i'",
        // Settings in the same text are still followed, and places still right.
        "listen j; set application_name = 'heard'; select nothing",
        "listen j; set work_mem = '7MB'; notify j, 'j'",
        "show work_mem",
        "unlisten *; listen k",
        "notify j, 'over'; notify k, 'k'",
        "select 1; unlisten *; reset all; notify k",
        "notify k, 'over'",
        "unlisten k; select 1",
    ];
    for text in texts {
        // Another client would find out if anything was left on the servers.
        let mut stranger = enter(&proxy, &database).await;
        let asked = "select count(*)::text from pg_listening_channels()";
        assert_eq!(stranger.one(asked).await, "0", "before {text}");
        let expected = tags(&mut direct, text).await;
        assert_eq!(tags(&mut client, text).await, expected, "{text}");
    }
    let console = connect(&proxy.url("app", "pgherd")).await;
    let pins = console.simple_query("show pins").await.unwrap();
    assert_eq!(pins.len(), 2, "nobody is bound: {pins:?}");
    // Where an error is, is told in the client's own text.
    let wrong = "listen a; select nothing";
    for one in [&mut client, &mut direct] {
        one.send(&Raw::query(wrong)).await;
        let messages = one.ready().await;
        let error = messages.iter().find(|message| message.tag == 'E').unwrap();
        assert_eq!(error.field('P').as_deref(), Some("18"));
    }
}

#[tokio::test]
async fn texts_are_told_only_to_clients_that_can_read_them() {
    let (proxy, database) = house().await;
    let latin = [("client_encoding", "LATIN1")];
    let mut client = Raw::login(proxy.port(), "app", &database.name, &latin).await;
    let mut plain = enter(&proxy, &database).await;
    for client in [&mut client, &mut plain] {
        client.ask(&Raw::query("listen a")).await;
    }
    database.sql("notify a, 'plain'").await;
    assert_eq!(next(&mut client).await.2, "plain");
    database.sql("notify a, 'é'").await;
    let farewell = client.message().await;
    assert_eq!(farewell.field('C').as_deref(), Some("0A000"));
    assert_eq!(next(&mut plain).await.2, "plain");
    assert_eq!(next(&mut plain).await.2, "é");
    assert_eq!(plain.ask(&Raw::query("listen \"é\"")).await, "C ZI");
    assert_eq!(heard(&mut plain, "notify \"é\", 'ü'").await, ["ü"]);
}

#[tokio::test]
async fn limits_hold_and_the_console_shows_it() {
    let (_, database) = house().await;
    let more =
        "[notifications]\nmax_listeners = 2\nmax_channels = 2\n[timeouts]\nserver_idle = \"1s\"";
    let proxy = Proxy::start(&Config::before(&database, more)).await;
    let mut clients = [
        enter(&proxy, &database).await,
        enter(&proxy, &database).await,
        enter(&proxy, &database).await,
    ];
    for client in &mut clients[..2] {
        assert_eq!(client.ask(&Raw::query("listen a")).await, "C ZI");
    }
    let refused = clients[2].ask(&Raw::query("listen a")).await;
    assert_eq!(refused, "E53300 ZI");
    assert_eq!(clients[0].ask(&Raw::query("listen b")).await, "C ZI");
    assert_eq!(clients[0].ask(&Raw::query("listen b")).await, "C ZI");
    assert_eq!(clients[0].ask(&Raw::query("listen c")).await, "E54000 ZI");
    let console = connect(&proxy.url("app", "pgherd")).await;
    assert_eq!(shown(&console, "database").await, database.name);
    assert_eq!(shown(&console, "clients").await, "2");
    assert_eq!(shown(&console, "channels").await, "2");
    herald(&database).await;
    // Those that have gone make room, and the last takes the connection with it.
    let [first, second, mut third] = clients;
    drop((first, second));
    pgherd_tests::until("there is room", async || {
        third.ask(&Raw::query("listen a")).await == "C ZI"
    })
    .await;
    drop(third);
    pgherd_tests::until("the herald's connection is closed", async || {
        database.backends("app").await == 0
    })
    .await;
}

#[tokio::test]
async fn what_is_listened_to_is_not_told_wrongly() {
    let (proxy, database) = house().await;
    let mut client = enter(&proxy, &database).await;
    let question = "select pg_catalog.PG_Listening_Channels()";
    // Who never listened may ask.
    assert_eq!(client.ask(&Raw::query(question)).await, "T C ZI");
    assert_eq!(client.ask(&Raw::query("listen news")).await, "C ZI");
    assert_eq!(client.ask(&Raw::query(question)).await, "E0A000 ZI");
    for name in ["", "named"] {
        let pipeline = [
            Raw::parse(name, question),
            Raw::bind("", name, &[]),
            Raw::execute("", 0),
            Raw::sync(),
        ];
        assert_eq!(client.ask(&pipeline.concat()).await, "1 E0A000 ZI");
    }
    assert_eq!(client.one("select 1").await, "1");
}

#[tokio::test]
async fn nobody_leaves_the_channel_of_the_herald_for_all() {
    let (proxy, database) = house().await;
    let mut client = enter(&proxy, &database).await;
    let mut other = enter(&proxy, &database).await;
    // The first has the pool look at the catalogue.
    client.ask(&Raw::query("select 1")).await;
    client.ask(&Raw::query("listen a")).await;
    // Whoever may see the statements of the pool's user may see its name.
    let marks = "select substring(query from '[Nn][Oo][Tt][Ii][Ff][Yy] \"?([a-z0-9_]+)') \
        from pg_stat_activity where usename = 'app' and datname = current_database() \
        and query ilike 'notify%'";
    let marks = database.sql(marks).await;
    assert!(marks.starts_with("pgherd_"), "{marks}");
    let listened = other.ask(&Raw::query(&format!("listen \"{marks}\""))).await;
    assert_eq!(listened, "C ZI");
    other
        .ask(&Raw::query(&format!("unlisten \"{marks}\"")))
        .await;
    other.ask(&Raw::query("unlisten *")).await;
    // Who listens from now on still hears.
    client.ask(&Raw::query("listen b")).await;
    client.ask(&Raw::query("listen c")).await;
    assert_eq!(heard(&mut client, "notify c, 'x'").await, ["x"]);
}
