//! Settings for a transaction only, as those make them who work with policies for rows: nothing is looked at behind
//! them, and nothing of them meets anybody else.

use pgherd_tests::{Client, Proxy, Raw, connect, until};
use tokio_postgres::SimpleQueryMessage;
use tokio_postgres::types::ToSql;

use super::{before, pair, steps};

/// How often the pool has looked at sessions.
async fn looks(proxy: &Proxy, client: &Client) -> u64 {
    // A look comes behind the answer: the next answer is behind the look.
    client.batch_execute("select 1").await.unwrap();
    let console = connect(&proxy.url("app", "pgherd")).await;
    let rows = console.simple_query("show pools").await.unwrap();
    let looks = rows.iter().find_map(|row| match row {
        SimpleQueryMessage::Row(row) if row.get("database") != Some("pgherd") => {
            Some(row.get("function_checks")?.parse().unwrap())
        }
        _ => None,
    });
    looks.expect("a pool is shown")
}

/// What a session finds that has never had the setting.
async fn finds_nothing(client: &Client, name: &str) {
    let question = format!("select coalesce(current_setting('{name}', true), 'nothing')");
    assert_eq!(client.one(&question).await, "nothing", "{name}");
}

/// The messages of a transaction whose settings are given by parameters: the name of one, and for how long.
fn pipeline(local: &[u8], formats: &[i16]) -> Vec<u8> {
    let mut set = vec![0, 0];
    set.extend(u16::try_from(formats.len()).unwrap().to_be_bytes());
    set.extend(formats.iter().flat_map(|format| format.to_be_bytes()));
    let values = [&b"other"[..], b"app.b", b"2", local];
    set.extend(4_u16.to_be_bytes());
    for value in values {
        set.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
        set.extend(value);
    }
    set.extend([0, 0]);
    let parse = |text: &str| [Raw::parse("", text), Raw::bind("", "", &[])].concat();
    [
        parse("begin"),
        Raw::execute("", 0),
        Raw::parse(
            "",
            "select set_config('role', $1, true), pg_catalog.set_config('app.a', '1', true), \
             set_config($2, $3, $4)",
        ),
        Raw::framed(b'B', &set),
        Raw::execute("", 0),
        parse("select current_user, current_setting('app.a'), current_setting('app.b')"),
        Raw::execute("", 0),
        parse("commit"),
        Raw::execute("", 0),
        Raw::sync(),
    ]
    .concat()
}

#[tokio::test]
async fn a_transaction_that_says_who_it_is_for_is_not_looked_at() {
    let (database, proxy) = before(1).await;
    let client = proxy.client("app", &database).await;
    // The catalogue is known from here on.
    client.batch_execute("select 1").await.unwrap();
    let before = looks(&proxy, &client).await;
    let set = "select set_config('role', 'other', true), set_config('app.a', '1', true), \
               set_config('app.b', '2', true) as b, \
               set_config('app.c', '{\"\u{e9}\": \"\\n\"}' || current_user, true)";
    let shown = "select current_user || current_setting('app.a') || current_setting('app.b')";
    for _ in 0..3 {
        client.batch_execute("begin").await.unwrap();
        client.batch_execute(set).await.unwrap();
        assert_eq!(client.one(shown).await, "other12");
        client.batch_execute("commit").await.unwrap();
        steps(&client, &[&format!("begin; {set}; {shown}; commit")]).await;
        client.batch_execute("begin").await.unwrap();
        let set = "select set_config('role', $1, true), set_config('app.a', $2, true), \
                   set_config($3, $4, true)";
        let values = [&"other", &"1", &"app.b", &"2"];
        let values = values.map(|value| value as &(dyn ToSql + Sync));
        client.query(set, &values).await.unwrap();
        let row = client.query_one(shown, &[]).await.unwrap();
        assert_eq!(row.get::<_, String>(0), "other12");
        client.batch_execute("commit").await.unwrap();
        assert_eq!(client.one("select current_user").await, "app");
        assert_eq!(client.one("show app.b").await, "");
    }
    let mut raw = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    for (local, formats) in [(&b"true"[..], &[][..]), (&[1], &[0, 0, 0, 1])] {
        raw.send(&pipeline(local, formats)).await;
        let answer = raw.ready().await;
        let row = answer.iter().rfind(|message| message.tag == 'D');
        assert_eq!(row.unwrap().columns(), ["other", "1", "2"], "{answer:?}");
        assert_eq!(raw.one("select current_user").await, "app");
        assert_eq!(raw.one("show app.b").await, "");
    }
    assert_eq!(looks(&proxy, &client).await, before);
}

#[tokio::test]
async fn a_parameter_that_says_for_how_long_is_heard() {
    let (database, proxy) = before(1).await;
    let [_first, second] = pair(&database, &proxy).await;
    let mut raw = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    for (local, formats) in [(&b"off"[..], &[][..]), (&[0], &[0, 0, 0, 1])] {
        raw.send(&pipeline(local, formats)).await;
        raw.ready().await;
        // It is not bound, and what it has set follows it.
        finds_nothing(&second, "app.b").await;
        assert_eq!(raw.one("show app.b").await, "2");
        assert_eq!(raw.one("show app.a").await, "");
        raw.ask(&Raw::query("reset app.b")).await;
    }
}

#[tokio::test]
async fn a_setting_that_a_parameter_names_meets_nobody_else() {
    let (database, proxy) = before(1).await;
    let [first, second] = pair(&database, &proxy).await;
    finds_nothing(&second, "app.x").await;
    first.batch_execute("begin").await.unwrap();
    let set = "select set_config($1, $2, true)";
    first.query(set, &[&"app.x", &"mine"]).await.unwrap();
    assert_eq!(first.one("show app.x").await, "mine");
    first.batch_execute("rollback").await.unwrap();
    finds_nothing(&second, "app.x").await;
    assert_eq!(first.one("show app.x").await, "");
}

#[tokio::test]
async fn what_was_perhaps_set_is_looked_for() {
    let (database, proxy) = before(1).await;
    let [first, second] = pair(&database, &proxy).await;
    let plain = connect(&database.url("app")).await;
    for (at, fails) in [
        "begin; select set_config('X', '1', true), set_config('role', 'nobody', true)",
        "select set_config('role', 'nobody', true), set_config('X', '1', true)",
        "select set_config('X', '1', true) where false",
        "select set_config('X', '1', true) from generate_series(1, 2)",
        "select set_config('X', '1', false), set_config('role', 'nobody', false)",
        "begin; savepoint s; select set_config('X', '1', true), set_config('role', 'nobody', true)",
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("app.x{at}");
        let text = fails.replace('X', &name);
        for client in [&first, &plain] {
            let _ = client.batch_execute(&text).await;
            let _ = client.batch_execute("rollback").await;
        }
        finds_nothing(&second, &name).await;
        let seen = format!("select current_setting('{name}', true) is null");
        assert_eq!(first.one(&seen).await, plain.one(&seen).await, "{text}");
        finds_nothing(&second, &name).await;
    }
}

#[tokio::test]
async fn who_leaves_in_the_middle_leaves_no_name_behind() {
    let (database, proxy) = before(1).await;
    let client = proxy.client("app", &database).await;
    finds_nothing(&client, "app.x").await;
    let other = proxy.client("app", &database).await;
    other.batch_execute("begin; select 1").await.unwrap();
    let text = "select set_config('app.x', '1', true), set_config('app.y', '1', true); \
                select pg_sleep(600)";
    let shared = other.share();
    let runs = tokio::spawn(async move { shared.batch_execute(text).await });
    let sleeps = "select count(*) from pg_stat_activity where datname = current_database() \
                  and wait_event = 'PgSleep'";
    until("it sleeps", async || database.sql(sleeps).await == "1").await;
    other.cut().await;
    runs.await.unwrap().unwrap_err();
    finds_nothing(&client, "app.x").await;
    finds_nothing(&client, "app.y").await;
}

#[tokio::test]
async fn what_no_text_sets_plainly_leaves_no_name_behind() {
    const TEXTS: [&str; 11] = [
        "do $$ begin perform set_config('X', '1', true); end $$",
        "do 'begin set X = 1; end'",
        "with w as (select set_config('X', '1', false)) select * from w",
        "set X = E'1'",
        "begin; set local X = $$1$$; commit",
        "select set_config('X', E'1', true)",
        "prepare p as select set_config('X', '1', false); execute p",
        "select sets()",
        "select calls()",
        "insert into t values (1)",
        "select has()",
    ];
    let (database, proxy) = before(1).await;
    // Each has a setting of its own, app.x with the number of its text.
    database
        .sql(
            "create function sets() returns text language sql as \
             'select set_config(''app.x7'', ''1'', true)'; \
             create function calls() returns void language plpgsql as \
             'begin perform set_config(''app.x8'', ''1'', true); perform sets(); end'; \
             create function has() returns int language sql set app.x10 = '1' as 'select 1'; \
             create table t (a int); \
             create function wakes() returns trigger language plpgsql as \
             'begin set local app.x9 = 1; return new; end'; \
             create trigger x before insert on t for each row execute function wakes()",
        )
        .await;
    let [first, second] = pair(&database, &proxy).await;
    let plain = connect(&database.url("app")).await;
    finds_nothing(&second, "app.x0").await;
    for (at, text) in TEXTS.into_iter().enumerate() {
        let name = format!("app.x{at}");
        let text = text.replace('X', &name);
        for client in [&first, &plain] {
            client.simple_query(&text).await.unwrap();
            client.batch_execute("discard all").await.unwrap();
            assert_eq!(client.one(&format!("show {name}")).await, "", "{text}");
        }
        finds_nothing(&second, &name).await;
        assert_eq!(first.one(&format!("show {name}")).await, "", "{text}");
    }
}
