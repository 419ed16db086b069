//! The users' own settings, of which Postgres forgets none before the connection ends.

use pgherd_tests::{Client, Database, Proxy, Raw};

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
    let servers = [first.one(pid).await, second.one(pid).await];
    assert_ne!(servers[0], servers[1]);
    for _ in 0..10 {
        assert_eq!(first.one(pid).await, servers[0]);
        assert_eq!(second.one(pid).await, servers[1]);
    }
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
