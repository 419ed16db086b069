//! What each client has set, over shared server connections.

use pgherd_tests::{Client, Database, Proxy, Raw, connect, try_connect};

async fn before(size: u32) -> (Database, Proxy) {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, &format!("[pool]\nsize = {size}")).await;
    (database, proxy)
}

#[tokio::test]
async fn startup_parameters_are_each_clients_own() {
    let (database, proxy) = before(1).await;
    let login =
        async |more: &[(&str, &str)]| Raw::login(proxy.port(), "app", &database.name, more).await;
    let mut tokyo = login(&[
        ("application_name", "it's \"me\""),
        ("TimeZone", "Asia/Tokyo"),
        ("search_path", "a, b"),
        ("statement_timeout", "12345"),
    ])
    .await;
    let mut plain = login(&[]).await;
    let mut options = login(&[(
        "options",
        "-c work_mem=5MB --datestyle=German,YMD -c geqo=off",
    )])
    .await;
    assert_eq!(tokyo.parameters["TimeZone"], "Asia/Tokyo");
    assert_eq!(tokyo.parameters["application_name"], "it's \"me\"");
    assert_ne!(plain.parameters["TimeZone"], "Asia/Tokyo");
    assert_eq!(options.parameters["DateStyle"], "German, YMD");
    for _ in 0..2 {
        assert_eq!(tokyo.one("show timezone").await, "Asia/Tokyo");
        assert_eq!(tokyo.one("show application_name").await, "it's \"me\"");
        assert_eq!(tokyo.one("show search_path").await, "a, b");
        assert_eq!(tokyo.one("show statement_timeout").await, "12345ms");
        assert_ne!(plain.one("show timezone").await, "Asia/Tokyo");
        assert_eq!(plain.one("show application_name").await, "");
        assert_eq!(plain.one("show search_path").await, "\"$user\", public");
        assert_eq!(plain.one("show statement_timeout").await, "0");
        assert_eq!(options.one("show work_mem").await, "5MB");
        assert_eq!(options.one("show datestyle").await, "German, YMD");
        assert_eq!(options.one("show geqo").await, "off");
    }
}

/// Of two parts one may be given, and the other is the usual one, whatever the last client had.
#[tokio::test]
async fn a_part_of_a_setting_leaves_nothing_of_another_clients() {
    let (database, proxy) = before(1).await;
    let login =
        async |more: &[(&str, &str)]| Raw::login(proxy.port(), "app", &database.name, more).await;
    let mut british = login(&[]).await;
    let usual = british.one("show datestyle").await;
    let set = Raw::query("set datestyle = 'SQL, DMY'");
    assert_eq!(british.ask(&set).await, "C ZI");
    let mut iso = login(&[("DateStyle", "ISO")]).await;
    assert_eq!(iso.parameters["DateStyle"], usual);
    assert_eq!(iso.one("show datestyle").await, usual);
    assert_eq!(british.one("show datestyle").await, "SQL, DMY");
    assert_eq!(iso.one("show datestyle").await, usual);
}

#[tokio::test]
async fn a_wrong_startup_parameter_is_refused_as_postgres_does() {
    let (database, proxy) = before(1).await;
    for options in [
        "-c%20timezone=Nowhere",
        "-c%20nonsense=1",
        "-c%20work_mem=lots",
    ] {
        let ask = async |url: String| try_connect(&format!("{url}?options={options}")).await;
        let direct = ask(database.url("app")).await.map(drop).unwrap_err();
        let through = ask(proxy.url("app", &database.name))
            .await
            .map(drop)
            .unwrap_err();
        assert_eq!(through, direct);
    }
    let client = proxy.client("app", &database).await;
    assert_eq!(client.one("select 1").await, "1");
}

#[tokio::test]
async fn reported_parameters_are_kept_and_do_not_leak() {
    let (database, proxy) = before(1).await;
    let first = proxy.client("app", &database).await;
    let second = proxy.client("app", &database).await;
    let usual = second.one("show timezone").await;
    first
        .batch_execute("set timezone = 'Asia/Tokyo'")
        .await
        .unwrap();
    first
        .batch_execute("set application_name = 'first'")
        .await
        .unwrap();
    first
        .batch_execute("set intervalstyle = 'iso_8601'")
        .await
        .unwrap();
    for _ in 0..3 {
        assert_eq!(second.one("show timezone").await, usual);
        assert_eq!(second.one("show application_name").await, "");
        assert_eq!(second.one("show intervalstyle").await, "postgres");
        assert_eq!(first.one("show timezone").await, "Asia/Tokyo");
        assert_eq!(first.one("show application_name").await, "first");
        assert_eq!(first.one("show intervalstyle").await, "iso_8601");
    }
    first.batch_execute("reset timezone").await.unwrap();
    assert_eq!(second.one("show timezone").await, usual);
    assert_eq!(first.one("show timezone").await, usual);
}

async fn steps(client: &Client, statements: &[&str]) {
    for statement in statements {
        client.batch_execute(statement).await.unwrap();
    }
}

#[tokio::test]
async fn settings_end_with_their_transaction_as_postgres_ends_them() {
    let (database, proxy) = before(1).await;
    let first = proxy.client("app", &database).await;
    let second = proxy.client("app", &database).await;
    let usual = second.one("show timezone").await;
    for end in ["rollback", "commit"] {
        steps(&first, &["begin", "set local timezone = 'Asia/Tokyo'"]).await;
        assert_eq!(first.one("show timezone").await, "Asia/Tokyo");
        first.batch_execute(end).await.unwrap();
        assert_eq!(first.one("show timezone").await, usual, "{end}");
    }
    steps(
        &first,
        &["begin", "set timezone = 'Asia/Tokyo'", "rollback"],
    )
    .await;
    assert_eq!(first.one("show timezone").await, usual);
    let set = "set timezone = 'Asia/Tokyo'";
    steps(
        &first,
        &["begin", "savepoint a", set, "rollback to a", "commit"],
    )
    .await;
    assert_eq!(first.one("show timezone").await, usual);
    steps(&first, &["begin", set, "commit"]).await;
    assert_eq!(second.one("show timezone").await, usual);
    assert_eq!(first.one("show timezone").await, "Asia/Tokyo");
}

#[tokio::test]
async fn other_settings_are_kept_and_never_leak() {
    let (database, proxy) = before(2).await;
    let first = proxy.client("app", &database).await;
    let second = proxy.client("app", &database).await;
    let settings = [
        ("set work_mem = '7MB'", "show work_mem", "7MB"),
        (
            "set search_path = elsewhere",
            "show search_path",
            "elsewhere",
        ),
        (
            "select set_config('statement_timeout', '54321', false)",
            "show statement_timeout",
            "54321ms",
        ),
        ("set role other", "select current_user", "other"),
        (
            "set session my.own = 'x'",
            "select current_setting('my.own', true)",
            "x",
        ),
    ];
    for (set, show, expected) in settings {
        first.batch_execute(set).await.unwrap();
        for _ in 0..3 {
            assert_eq!(first.one(show).await, expected, "{set}");
            assert_ne!(second.one(show).await, expected, "{set}");
        }
    }
    drop(first);
    for _ in 0..4 {
        let next = proxy.client("app", &database).await;
        next.batch_execute("begin read write").await.unwrap();
        for (set, show, expected) in settings {
            assert_ne!(next.one(show).await, expected, "{set}");
        }
        assert_ne!(second.one("show work_mem").await, "7MB");
        next.batch_execute("commit").await.unwrap();
    }
}

#[tokio::test]
async fn a_server_connection_is_shared_again_after_discard_all() {
    let (database, proxy) = before(1).await;
    let first = proxy.client("app", &database).await;
    let second = proxy.client("app", &database).await;
    first.batch_execute("set work_mem = e'7MB'").await.unwrap();
    let waiting = tokio::spawn(async move { second.one("show work_mem").await });
    assert_eq!(first.one("show work_mem").await, "7MB");
    assert!(!waiting.is_finished());
    first.batch_execute("discard all").await.unwrap();
    assert_ne!(waiting.await.unwrap(), "7MB");
}

#[tokio::test]
async fn a_client_in_another_encoding_is_understood() {
    let (database, proxy) = before(1).await;
    let latin = [("client_encoding", "LATIN1")];
    let mut latin = Raw::login(proxy.port(), "app", &database.name, &latin).await;
    let mut utf8 = Raw::login(
        proxy.port(),
        "app",
        &database.name,
        &[("client_encoding", "UTF8")],
    )
    .await;
    assert_eq!(latin.parameters["client_encoding"], "LATIN1");
    for _ in 0..2 {
        let mut query = b"select ascii('".to_vec();
        query.push(0xe9);
        query.extend(b"')\0");
        latin.send(&Raw::framed(b'Q', &query)).await;
        let answer = latin.ready().await;
        assert_eq!(answer[1].columns(), ["233"]);
        assert_eq!(utf8.one("select ascii('é')").await, "233");
    }
}

#[tokio::test]
async fn discard_all_returns_to_the_startup_parameters() {
    let (database, proxy) = before(1).await;
    let url = proxy.url("app", &database.name);
    let client = connect(&format!(
        "{url}?application_name=mine&options=-c%20timezone=Asia/Tokyo"
    ))
    .await;
    client
        .batch_execute("set application_name = 'other'; set timezone = 'UTC'")
        .await
        .unwrap();
    client.batch_execute("discard all").await.unwrap();
    assert_eq!(client.one("show application_name").await, "mine");
    assert_eq!(client.one("show timezone").await, "Asia/Tokyo");
}
