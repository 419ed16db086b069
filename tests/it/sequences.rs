//! What a session remembers of sequences is its own.

use pgherd_tests::{Client, Database, Proxy, Raw};

const TABLE: &str = "create sequence s; create table t (id serial, a int)";

async fn pool(size: usize) -> (Proxy, Client, Client) {
    let database = Database::new().await;
    database.sql(TABLE).await;
    let proxy = Proxy::before(&database, &format!("[pool]\nsize = {size}")).await;
    let one = proxy.client("app", &database).await;
    let two = proxy.client("app", &database).await;
    (proxy, one, two)
}

#[tokio::test]
async fn nobody_is_told_what_another_used() {
    let (_proxy, one, two) = pool(1).await;
    for ask in [
        "select lastval()",
        "select currval('s')",
        "begin; select lastval(); commit",
    ] {
        one.one("select nextval('s')").await;
        assert_eq!(two.refused(ask).await.0, "55000", "{ask}");
        let _ = two.batch_execute("rollback").await;
    }
    one.batch_execute("insert into t (a) values (1)")
        .await
        .unwrap();
    let error = two.query("select lastval()", &[]).await.unwrap_err();
    assert_eq!(error.code().map(|code| code.code()), Some("55000"));
    // Not even by its own use of another sequence.
    one.one("select nextval('s')").await;
    two.batch_execute("insert into t (a) values (1)")
        .await
        .unwrap();
    assert_eq!(two.refused("select currval('s')").await.0, "55000");
}

const FREE: &str = "select pg_advisory_unlock_all()";

/// Has one of two clients keep the server of this process, where there are two servers and both are free. No block is
/// begun for that: a server forgets what others have used before it begins one.
async fn hold<'a>(clients: [&'a Client; 2], pid: &str) -> &'a Client {
    let [first, second] = clients;
    let lock = "select pg_backend_pid(), pg_advisory_lock_shared(1)";
    let is_there = first.one(lock).await == pid;
    assert_eq!(second.one(lock).await == pid, !is_there);
    let (holder, other) = if is_there {
        (first, second)
    } else {
        (second, first)
    };
    other.batch_execute(FREE).await.unwrap();
    holder
}

#[tokio::test]
async fn nobody_is_told_what_was_used_before_the_last() {
    for (last, ask) in [
        ("select nextval('s')", "select currval('s')"),
        ("insert into t (a) values (1)", "select lastval()"),
        ("discard sequences", "select currval('s')"),
        ("discard all", "select lastval()"),
    ] {
        let database = Database::new().await;
        database.sql(TABLE).await;
        let proxy = Proxy::before(&database, "[pool]\nsize = 2").await;
        let one = proxy.client("app", &database).await;
        let two = proxy.client("app", &database).await;
        let three = proxy.client("app", &database).await;
        let here = one.one("select pg_backend_pid(), nextval('s')").await;
        // Elsewhere it uses another, or forgets what it has used.
        let holder = hold([&two, &three], &here).await;
        let there = one.one("select pg_backend_pid()").await;
        assert_ne!(there, here);
        one.batch_execute(last).await.unwrap();
        holder.batch_execute(FREE).await.unwrap();
        hold([&two, &three], &there).await;
        assert_eq!(one.one("select pg_backend_pid()").await, here);
        assert_eq!(one.refused(ask).await.0, "55000", "{last}");
    }
}

#[tokio::test]
async fn a_function_is_told_nothing_either() {
    let (_proxy, one, two) = pool(1).await;
    one.batch_execute("create function peek() returns bigint language sql as 'select lastval()'")
        .await
        .unwrap();
    one.one("select nextval('s')").await;
    assert_eq!(two.refused("select peek()").await.0, "55000");
}

#[tokio::test]
async fn ones_own_is_found_in_its_block_and_behind_it() {
    let (_proxy, one, two) = pool(2).await;
    assert_eq!(
        one.one("begin; insert into t (a) values (1); select lastval()")
            .await,
        "1"
    );
    one.batch_execute("commit").await.unwrap();
    // The first who asks is refused at most; from then on the idiom works.
    let _ = two.batch_execute("select lastval()").await;
    for number in 0..5 {
        let first = one.one("insert into t (a) values (1) returning id").await;
        two.batch_execute("insert into t (a) values (2)")
            .await
            .unwrap();
        assert_eq!(one.one("select lastval()").await, first, "{number}");
        assert_eq!(
            one.one("select currval('t_id_seq')").await,
            first,
            "{number}"
        );
        let second = two.one("select lastval()").await;
        assert_ne!(first, second);
        let row = two
            .query_one("select currval('t_id_seq')", &[])
            .await
            .unwrap();
        assert_eq!(row.get::<_, i64>(0).to_string(), second);
        one.one("select 1").await;
        two.one("select 1").await;
    }
}

#[tokio::test]
async fn a_server_is_not_kept_long_for_a_question() {
    let (_proxy, one, two) = pool(1).await;
    let _ = two.batch_execute("select lastval()").await;
    one.batch_execute("insert into t (a) values (1)")
        .await
        .unwrap();
    // The only server is free again without a word of the first.
    let began = std::time::Instant::now();
    two.one("select 1").await;
    assert!(began.elapsed().as_secs() < 30);
    assert_eq!(two.refused("select lastval()").await.0, "55000");
    one.one("select 1").await;
}

#[tokio::test]
async fn what_goes_before_a_text_takes_none_of_its_effects_away() {
    let (_proxy, one, two) = pool(1).await;
    // From here on the server must forget before anything that might ask.
    let teach = "select currval('s')";
    for _ in 0..2 {
        one.one("select nextval('s')").await;
        two.one("select nextval('s')").await;
        assert_eq!(one.refused(teach).await.0, "55000");
        one.one("select nextval('s')").await;
        two.one("select nextval('s')").await;
        one.one("select set_config('app.tenant', 'one', false)")
            .await;
        let ask = "select coalesce(current_setting('app.tenant', true), '')";
        assert_eq!(two.one(ask).await, "");
        assert_eq!(one.one(ask).await, "one");
    }
}

#[tokio::test]
async fn one_that_was_never_used_is_not_defined() {
    // Nobody has asked in this pool before, so nothing is known of who will.
    for ask in ["select currval('s')", "begin; select currval('s')"] {
        let (_proxy, one, two) = pool(1).await;
        one.one("select nextval('s')").await;
        two.batch_execute("insert into t (a) values (1)")
            .await
            .unwrap();
        assert_eq!(two.refused(ask).await.0, "55000", "{ask}");
    }
    let (_proxy, one, two) = pool(1).await;
    one.one("select nextval('s')").await;
    two.batch_execute("insert into t (a) values (1)")
        .await
        .unwrap();
    let error = two.query("select currval('s')", &[]).await.unwrap_err();
    assert_eq!(error.code().map(|code| code.code()), Some("55000"));
}

#[tokio::test]
async fn what_is_used_in_a_block_is_found_in_it_by_the_first_who_asks() {
    for begin in ["begin", "begin read write"] {
        let (_proxy, one, two) = pool(1).await;
        for other in ["select nextval('s')", "insert into t (a) values (0)"] {
            one.batch_execute(other).await.unwrap();
            two.batch_execute("insert into t (a) values (1)")
                .await
                .unwrap();
        }
        two.batch_execute(begin).await.unwrap();
        let id = two.one("insert into t (a) values (1) returning id").await;
        assert_eq!(two.one("select currval('t_id_seq')").await, id, "{begin}");
        assert_eq!(two.one("select lastval()").await, id, "{begin}");
        two.batch_execute("commit").await.unwrap();
    }
}

#[tokio::test]
async fn a_block_that_begins_in_a_pipeline_finds_its_own() {
    let database = Database::new().await;
    database.sql(TABLE).await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 1").await;
    let one = proxy.client("app", &database).await;
    let mut two = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    two.ask(&Raw::query("insert into t (a) values (1)")).await;
    one.one("select nextval('s')").await;
    let step = |text: &str| {
        [
            Raw::parse("", text),
            Raw::bind("", "", &[]),
            Raw::execute("", 0),
        ]
        .concat()
    };
    // As JDBC begins: BEGIN goes with the first statement.
    let first = [
        step("begin"),
        step("insert into t (a) values (2)"),
        Raw::sync(),
    ];
    assert_eq!(two.ask(&first.concat()).await, "1 2 C 1 2 C ZT");
    let ask = [step("select currval('t_id_seq')"), Raw::sync()];
    assert_eq!(two.ask(&ask.concat()).await, "1 2 D C ZT");
    assert_eq!(two.ask(&Raw::query("commit")).await, "C ZI");
}

/// To forget what others have used, a query of ours would have to end the pipeline.
#[tokio::test]
async fn a_question_that_ends_a_pipeline_commits_nothing_of_it() {
    let database = Database::new().await;
    database.sql(TABLE).await;
    database.sql("create table u (a int)").await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 1").await;
    let one = proxy.client("app", &database).await;
    let mut two = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    two.ask(&[Raw::parse("q", "select lastval()"), Raw::sync()].concat())
        .await;
    two.ask(&Raw::query("prepare p as select lastval()")).await;
    for (done, undone) in [
        ("insert into u values (1)", "select count(*) from u"),
        (
            "set timezone to 'Asia/Tokyo'",
            "select current_setting('timezone') = 'Asia/Tokyo'",
        ),
        (
            "set standard_conforming_strings to off",
            "select current_setting('standard_conforming_strings') = 'off'",
        ),
    ] {
        let before = one.one(undone).await;
        for ask in ["select lastval()", "execute p"] {
            one.one("select nextval('s')").await;
            let sent = [
                Raw::parse("", done),
                Raw::bind("", "", &[]),
                Raw::execute("", 0),
                Raw::query(ask),
            ];
            two.send(&sent.concat()).await;
            let told = two.ready().await;
            let codes: Vec<_> = told
                .iter()
                .filter_map(|message| message.field('C'))
                .collect();
            assert_eq!(codes, ["55000"], "{done}; {ask}");
            for client in [&one, &proxy.client("app", &database).await] {
                assert_eq!(client.one(undone).await, before, "{done}; {ask}");
            }
            assert_eq!(two.one(undone).await, before, "{done}; {ask}");
        }
    }
}
