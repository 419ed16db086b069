//! The users' own settings, of which Postgres forgets none before the connection ends.

use std::collections::HashSet;

use pgherd_tests::{Client, Database, Proxy, Raw, connect, until};
use tokio_postgres::SimpleQueryMessage;

use super::{before, pair, steps};

/// What a session finds that has never had the setting.
async fn finds_nothing(client: &Client) {
    let answer = client
        .one("select coalesce(current_setting('app.x', true), 'nothing')")
        .await;
    assert_eq!(answer, "nothing");
    let (code, _) = client.refused("show app.x").await;
    assert_eq!(code, "42704");
}

#[tokio::test]
async fn nobody_finds_a_setting_that_another_has_had() {
    let (database, proxy) = before(1).await;
    let [first, second] = pair(&database, &proxy).await;
    // What reads it need not stand in the text.
    database
        .sql("create view seen as select current_setting('app.x', true) is null as nothing")
        .await;
    for (does, own) in [
        (&["set app.x = 'mine'"][..], "mine"),
        (&["reset app.x"], ""),
        (&["begin; set local app.x = 'mine'; commit"], ""),
        (&["begin", "set app.x = 'mine'", "rollback"], ""),
        (
            &["begin; select set_config('app.x', 'mi' || 'ne', true); commit"],
            "",
        ),
        (&["set app.x = 'again'", "discard all"], ""),
    ] {
        steps(&first, does).await;
        finds_nothing(&second).await;
        assert_eq!(second.one("select nothing from seen").await, "t");
        assert_eq!(first.one("show app.x").await, own, "{does:?}");
        assert_eq!(first.one("select nothing from seen").await, "f");
    }
}

#[tokio::test]
async fn a_setting_whose_name_stands_in_quotes_meets_nobody_else() {
    let (database, proxy) = before(1).await;
    let [first, second] = pair(&database, &proxy).await;
    for (name, set, back) in [
        ("app.y", "set \"App.Y\" = 'mine'", "discard all"),
        ("app.z", "set app.\"Z\" = 'mine'", "reset all"),
    ] {
        // It binds, up to here.
        steps(&first, &[set, back]).await;
        let asks = format!("select coalesce(current_setting('{name}', true), 'nothing')");
        assert_eq!(second.one(&asks).await, "nothing", "{set}");
        assert_eq!(first.one(&asks).await, "", "{set}");
    }
}

#[tokio::test]
async fn a_setting_meets_nobody_else_however_its_name_is_written() {
    let (database, proxy) = before(1).await;
    let [first, second] = pair(&database, &proxy).await;
    let asks = |name| format!("select coalesce(current_setting('{name}', true), 'nothing')");
    for (name, set) in [
        (
            "app.c",
            "begin; select set_config('app.c'::varchar, x, true) from (values ('1')) as v (x); commit",
        ),
        (
            "app.d",
            "begin; select set_config($$app.d$$, x, true) from (values ('1')) as v (x); commit",
        ),
        (
            "app.e",
            "begin; select set_config(e'app.e'::text, x, true) from (values ('1')) as v (x); commit",
        ),
        (
            "app.f",
            "do $$ begin perform set_config('app.f'::text, '1', true); end $$",
        ),
        ("app.g\u{e9}", "begin; set local app.g\u{e9} = '1'; commit"),
    ] {
        steps(&first, &[set, "discard all"]).await;
        assert_eq!(second.one(&asks(name)).await, "nothing", "{set}");
        assert_eq!(first.one(&asks(name)).await, "", "{set}");
    }
}

#[tokio::test]
async fn a_setting_that_is_refused_with_others_meets_nobody_else() {
    let (database, proxy) = before(1).await;
    let options = [("options", "-c app.x=mine -c work_mem=nonsense")];
    let raw = Raw::open(proxy.port()).await;
    let refused = raw.enter("app", &database.name, &options).await;
    assert_eq!(refused.unwrap_err().field('C').as_deref(), Some("22023"));
    let other = proxy.client("app", &database).await;
    finds_nothing(&other).await;
}

#[tokio::test]
async fn a_setting_whose_role_is_gone_meets_nobody_else() {
    let (database, proxy) = before(1).await;
    let role = format!("{}_gone", database.name);
    database.sql(&format!("create role {role}")).await;
    let options = format!("-c app.x=mine -c role={role}");
    let options = [("options", &*options)];
    let mut client = Raw::login(proxy.port(), "app", &database.name, &options).await;
    let other = proxy.client("app", &database).await;
    finds_nothing(&other).await;
    database.sql(&format!("drop role {role}")).await;
    // It goes ahead the first time, and is tried out then.
    for _ in 0..2 {
        assert_eq!(client.ask(&Raw::query("select 1")).await, "E22023 ZI");
        finds_nothing(&other).await;
    }
}

#[tokio::test]
async fn who_sets_what_cannot_be_read_keeps_the_server() {
    let (database, proxy) = before(2).await;
    let [first, second] = pair(&database, &proxy).await;
    let set =
        "begin; select set_config(e'app.\\x78', x, true) from (values ('1')) as v (x); commit";
    steps(&first, &[set]).await;
    finds_nothing(&second).await;
    let asks = "select coalesce(current_setting('app.x', true), 'nothing')";
    assert_eq!(first.one(asks).await, "");
}

#[tokio::test]
async fn where_nobody_minds_no_connection_is_opened_for_it() {
    let database = Database::new().await;
    let more = "[pool]\nsize = 1\ncustom_settings_apart = false";
    let proxy = Proxy::before(&database, more).await;
    let [first, second] = pair(&database, &proxy).await;
    let server = second.one("select pg_backend_pid()").await;
    steps(&first, &["set app.x = 'mine'"]).await;
    // An empty text is all that is found, never what somebody has set.
    let seen = "select current_setting('app.x', true) || pg_backend_pid()";
    assert_eq!(second.one(seen).await, server);
    assert_eq!(first.one(seen).await, format!("mine{server}"));
    assert_eq!(second.one(seen).await, server);
}

#[tokio::test]
async fn clients_that_set_the_same_share_their_servers() {
    let (database, proxy) = before(1).await;
    let [_other, first] = pair(&database, &proxy).await;
    let pid = "select pg_backend_pid()";
    steps(&first, &["set app.x = '0'"]).await;
    let home = first.one(pid).await;
    for number in 1..9 {
        let mut client = Raw::login(proxy.port(), "app", &database.name, &[]).await;
        if number % 2 == 0 {
            client
                .ask(&Raw::query(&format!("set app.x = '{number}'")))
                .await;
        } else {
            let set = [
                Raw::parse("", "select set_config('app.x', $1, false)"),
                Raw::bind("", "", &[&number.to_string()]),
                Raw::execute("", 0),
                Raw::sync(),
            ];
            client.ask(&set.concat()).await;
        }
        assert_eq!(client.one("show app.x").await, number.to_string());
        assert_eq!(client.one(pid).await, home, "{number}");
    }
}

#[tokio::test]
async fn those_who_set_nothing_keep_servers_of_their_own() {
    let (database, proxy) = before(2).await;
    let [first, second] = pair(&database, &proxy).await;
    steps(&first, &["set app.x = 'mine'"]).await;
    finds_nothing(&second).await;
    let pid = "select pg_backend_pid()";
    let mut all = HashSet::new();
    for _ in 0..40 {
        let servers = [first.one(pid).await, second.one(pid).await];
        assert_ne!(servers[0], servers[1]);
        all.extend(servers);
    }
    // A connection may be lost or away for a moment, and who has set something then takes that of the other, for good:
    // a few more, but nothing like one for each turn.
    assert!(all.len() <= 10, "{all:?}");
}

#[tokio::test]
async fn what_every_connection_has_from_its_start_parts_nobody() {
    let (database, proxy) = before(1).await;
    let name = &database.name;
    database
        .sql(&format!("alter database {name} set app.x = ''"))
        .await;
    let [first, second] = pair(&database, &proxy).await;
    let pid = "select pg_backend_pid()";
    steps(&first, &["set app.x = 'mine'"]).await;
    let home = first.one(pid).await;
    assert_eq!(second.one("show app.x").await, "");
    assert_eq!(second.one(pid).await, home);
    assert_eq!(first.one("show app.x").await, "mine");
}

#[tokio::test]
async fn what_a_leaving_client_has_perhaps_had_is_there_for_others() {
    let (database, proxy) = before(2).await;
    let both = pair(&database, &proxy).await;
    for client in &both {
        steps(client, &["set app.x = 'mine'", "reset app.x"]).await;
    }
    let mut leaving = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    leaving.ask(&Raw::query("begin")).await;
    let perhaps = "select case when random() > 2 then set_config('app.x', 'mine', true) end";
    assert_eq!(leaving.ask(&Raw::query(perhaps)).await, "T D C ZT");
    drop(leaving);
    for client in &both {
        client.batch_execute("begin").await.unwrap();
        assert_eq!(client.one("show app.x").await, "");
    }
}

/// A proxy whose clients share servers where what they send surely asks for no setting.
async fn sharing(size: u32) -> (Database, Proxy) {
    let database = Database::new().await;
    let more = format!(
        "[pool]\nsize = {size}\ncustom_settings_apart = \"if_asked\"\n[timeouts]\ncheckout = \"10s\""
    );
    let proxy = Proxy::before(&database, &more).await;
    (database, proxy)
}

/// A table that keeps from which server each row came.
const PIDS: &str = "create table rows (pid int default pg_backend_pid(), said text)";

#[tokio::test]
async fn who_asks_for_no_setting_shares_servers_with_those_who_set_others() {
    const CLIENTS: usize = 6;
    let (database, proxy) = sharing(2).await;
    database.sql(PIDS).await;
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let client = proxy.client("app", &database).await;
        steps(&client, &[&format!("set app.x{number} = '{number}'")]).await;
        clients.push(client);
    }
    for round in 0..5 {
        let turns = clients.iter().map(|client| async move {
            let insert = format!("insert into rows (said) values ('{round}')");
            steps(client, &[&insert, "select count(*) from rows"]).await;
            let said = "select said from rows where said = $1 limit 1";
            let row = client.query_one(said, &[&round.to_string()]).await.unwrap();
            assert_eq!(row.get::<_, String>(0), round.to_string());
        });
        futures_util::future::join_all(turns).await;
    }
    let servers = "select count(distinct pid) <= 2 and count(*) = 30 from rows";
    assert_eq!(clients[0].one(servers).await, "t");
    for (number, client) in clients.iter().enumerate() {
        assert_eq!(
            client.one(&format!("show app.x{number}")).await,
            number.to_string()
        );
        let other = (number + 1) % CLIENTS;
        let (code, _) = client.refused(&format!("show app.x{other}")).await;
        assert_eq!(code, "42704");
        let seen = format!("select current_setting('app.x{other}', true) is null");
        assert_eq!(client.one(&seen).await, "t");
    }
}

#[tokio::test]
async fn what_comes_behind_a_request_that_asks_for_nothing_gets_a_server_of_its_own() {
    let (database, proxy) = sharing(1).await;
    let [first, second] = pair(&database, &proxy).await;
    steps(&first, &["set app.x = 'mine'"]).await;
    let home = first.one("select pg_backend_pid()").await;
    // All in one write.
    let mut raw = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    let here = "select pg_backend_pid()";
    let asks = "select coalesce(current_setting('app.x', true), 'nothing')";
    let extended = |text| {
        [
            Raw::parse("", text),
            Raw::bind("", "", &[]),
            Raw::execute("", 0),
        ]
        .concat()
    };
    let messages = [
        Raw::query(here),
        extended(here),
        Raw::sync(),
        Raw::query(asks),
        extended(here),
        extended(asks),
        Raw::sync(),
    ];
    raw.send(&messages.concat()).await;
    let mut told = Vec::new();
    for _ in 0..4 {
        let answer = raw.ready().await;
        let rows = answer.iter().filter(|message| message.tag == 'D');
        told.extend(rows.flat_map(pgherd_tests::Message::columns));
    }
    assert_eq!(told[..2], [&*home, &*home]);
    assert_eq!([&*told[2], &*told[4]], ["nothing", "nothing"]);
    assert_ne!(told[3], home);
    // Nobody knows how a block goes on.
    steps(&first, &["select 1"]).await;
    second.batch_execute("begin").await.unwrap();
    assert_eq!(second.one("select 1").await, "1");
    assert_eq!(second.one(asks).await, "nothing");
    second.batch_execute("commit").await.unwrap();
}

#[tokio::test]
async fn who_calls_functions_where_others_ask_after_sequences_stays_connected() {
    let (database, proxy) = sharing(1).await;
    database
        .sql("create sequence s; create function f(int) returns int language sql as 'select $1'")
        .await;
    let [first, second] = pair(&database, &proxy).await;
    for client in [&first, &second] {
        client.one("select nextval('s')").await;
    }
    // By this it is learned that somebody asks.
    assert_eq!(first.refused("select lastval()").await.0, "55000");
    steps(&first, &["set app.x = 'mine'"]).await;
    assert_eq!(second.one("select f(1)").await, "1");
    assert_eq!(second.one("select 2").await, "2");
    assert_eq!(first.one("show app.x").await, "mine");
}

#[tokio::test]
async fn a_setting_that_fails_with_what_is_behind_it_ends_no_session() {
    let (database, proxy) = sharing(1).await;
    database
        .sql("create table t (a int primary key); insert into t values (1)")
        .await;
    let [first, _second] = pair(&database, &proxy).await;
    steps(&first, &["set app.x = 'mine'"]).await;
    let mut raw = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    let extended = |text| {
        [
            Raw::parse("", text),
            Raw::bind("", "", &[]),
            Raw::execute("", 0),
        ]
        .concat()
    };
    let messages = [
        extended("set app.y = '1'"),
        extended("insert into t values (1)"),
        Raw::sync(),
    ];
    let answer = raw.ask(&messages.concat()).await;
    assert_eq!(answer, "1 2 C 1 2 E23505 ZI");
    assert_eq!(raw.one("select a from t").await, "1");
    // What a failed pipeline has left of its settings binds it.
    drop(raw);
    assert_eq!(first.one("show app.x").await, "mine");
}

/// How often the catalogue was asked.
async fn surveys(proxy: &Proxy) -> u64 {
    let console = connect(&proxy.url("app", "pgherd")).await;
    let rows = console.simple_query("show pools").await.unwrap();
    let surveys = rows.iter().filter_map(|row| match row {
        SimpleQueryMessage::Row(row) => row.get("function_surveys")?.parse::<u64>().ok(),
        _ => None,
    });
    surveys.sum()
}

#[tokio::test]
async fn who_would_be_told_a_setting_unseen_gets_a_server_of_its_own() {
    const ASKS: &str = "coalesce(current_setting('app.x', true), 'nothing')";
    const TOLD: &str = "create function told() returns text language plpgsql as";
    let (database, proxy) = sharing(1).await;
    let [first, second] = pair(&database, &proxy).await;
    let hidden =
        "execute 'select coalesce(current_' || 'set' || 'ting(''app.x'', true), ''nothing'')' into";
    for (made, asks, gone) in [
        (
            format!("create view seen as select {ASKS} as a"),
            "select a from seen",
            "drop view seen",
        ),
        (
            format!("create table d (b int, a text default {ASKS})"),
            "insert into d values (1) returning a",
            "drop table d",
        ),
        (
            format!("create domain e as text default {ASKS}; create table d (b int, a e)"),
            "insert into d values (1) returning a",
            "drop table d; drop domain e",
        ),
        (
            format!(
                "create table d (a text); create function told() returns trigger language plpgsql as \
                 $$ begin {hidden} new.a; return new; end $$; \
                 create trigger t before insert on d for each row execute function told()"
            ),
            "insert into d values ('') returning a",
            "drop table d; drop function told()",
        ),
        (
            format!("{TOLD} $$ begin return {ASKS}; end $$"),
            "select told()",
            "drop function told()",
        ),
        (
            format!("{TOLD} $$ declare a text; begin {hidden} a; return a; end $$"),
            "select told()",
            "drop function told()",
        ),
        (
            format!(
                "create function told(a text default {ASKS}) returns text language sql as 'select $1'"
            ),
            "select told()",
            "drop function told(text)",
        ),
        (
            "create function told() returns text language sql as 'select 1';
             create operator @@@ (rightarg = text, function = current_setting)"
                .to_owned(),
            "select case when (@@@ 'app.x') = '' then told() end",
            "drop operator @@@ (none, text); drop function told()",
        ),
    ] {
        let mut maker = Raw::login(proxy.port(), "app", &database.name, &[]).await;
        let before = surveys(&proxy).await;
        let answer = maker.ask(&Raw::query(&made)).await;
        assert!(!answer.contains('E'), "{made}: {answer}");
        drop(maker);
        until("the catalogue was asked", async || {
            steps(&first, &["set app.x = 'mine'", "select 1"]).await;
            surveys(&proxy).await > before
        })
        .await;
        if asks.contains("@@@") {
            let (code, _) = second.refused(asks).await;
            assert_eq!(code, "42704", "{made}");
        } else {
            assert_eq!(second.one(asks).await, "nothing", "{made}");
            assert_eq!(first.one(asks).await, "mine", "{made}");
        }
        steps(&first, &[gone]).await;
    }
}
