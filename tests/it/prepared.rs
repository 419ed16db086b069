//! Prepared statements over shared server connections.

mod meaning;

use pgherd_tests::{Database, Proxy, Raw};

/// A view of all that a server has, whoever's it is.
pub(crate) const ON_SERVER: &str = "create view on_server as select * from pg_prepared_statements; grant select on on_server to public";

pub(crate) async fn pair(more: &str) -> (Database, Proxy, Raw, Raw) {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, more).await;
    let first = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    let second = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    (database, proxy, first, second)
}

pub(crate) fn prepare(name: &str, text: &str) -> Vec<u8> {
    [Raw::parse(name, text), Raw::sync()].concat()
}

fn run(name: &str, values: &[&str]) -> Vec<u8> {
    [
        Raw::bind("", name, values),
        Raw::execute("", 0),
        Raw::sync(),
    ]
    .concat()
}

/// Runs a prepared statement and gives the first column of its only row.
async fn value(client: &mut Raw, name: &str) -> String {
    client.send(&run(name, &[])).await;
    let messages = client.ready().await;
    let row = messages.iter().find(|message| message.tag == 'D');
    row.unwrap_or_else(|| panic!("{messages:?}"))
        .columns()
        .remove(0)
}

#[tokio::test]
async fn clients_use_the_same_name_for_different_statements() {
    let (_database, _proxy, mut first, mut second) = pair("[pool]\nsize = 1").await;
    assert_eq!(first.ask(&prepare("s", "select 'first'")).await, "1 ZI");
    assert_eq!(second.ask(&prepare("s", "select 'second'")).await, "1 ZI");
    for _ in 0..3 {
        assert_eq!(value(&mut first, "s").await, "first");
        assert_eq!(value(&mut second, "s").await, "second");
    }
}

#[tokio::test]
async fn a_statement_follows_its_client_to_other_server_connections() {
    let (_database, _proxy, mut first, mut second) = pair("[pool]\nsize = 2").await;
    assert_eq!(
        first.ask(&prepare("s", "select pg_backend_pid()")).await,
        "1 ZI"
    );
    let one = value(&mut first, "s").await;
    assert_eq!(second.ask(&Raw::query("begin read write")).await, "C ZT");
    let held = second.one("select pg_backend_pid()").await;
    let other = value(&mut first, "s").await;
    assert_ne!(other, held);
    // Whichever the second took, by now the first has met both or the one that is left.
    assert_eq!(second.ask(&Raw::query("commit")).await, "C ZI");
    assert_eq!(first.ask(&Raw::query("begin read write")).await, "C ZT");
    let within = value(&mut first, "s").await;
    assert!([one, other, held].contains(&within));
    assert_eq!(first.ask(&Raw::query("commit")).await, "C ZI");
}

#[tokio::test]
async fn equal_statements_are_prepared_once_on_a_server_connection() {
    let (database, _proxy, mut first, mut second) = pair("[pool]\nsize = 1").await;
    database.sql(ON_SERVER).await;
    assert_eq!(first.ask(&prepare("a", "select 1 as one")).await, "1 ZI");
    assert_eq!(second.ask(&prepare("b", "select 1 as one")).await, "1 ZI");
    assert_eq!(value(&mut second, "b").await, "1");
    let count = "select count(*) from on_server where statement = 'select 1 as one'";
    assert_eq!(first.one(count).await, "1");
}

#[tokio::test]
async fn a_live_name_is_taken_and_an_unknown_one_is_unknown() {
    let (_database, _proxy, mut first, mut second) = pair("[pool]\nsize = 1").await;
    assert_eq!(first.ask(&prepare("s", "select 1")).await, "1 ZI");
    assert_eq!(first.ask(&prepare("s", "select 1")).await, "E42P05 ZI");
    assert_eq!(second.ask(&run("s", &[])).await, "E26000 ZI");
    let describe = [Raw::describe('S', "s"), Raw::sync()].concat();
    assert_eq!(second.ask(&describe).await, "E26000 ZI");
    assert_eq!(first.ask(&describe).await, "t T ZI");
    assert_eq!(value(&mut first, "s").await, "1");
}

#[tokio::test]
async fn a_closed_name_is_free_again() {
    let (_database, _proxy, mut first, mut second) = pair("[pool]\nsize = 1").await;
    assert_eq!(first.ask(&prepare("s", "select 1")).await, "1 ZI");
    assert_eq!(second.ask(&prepare("s", "select 1")).await, "1 ZI");
    let close = [Raw::close('S', "s"), Raw::sync()].concat();
    assert_eq!(first.ask(&close).await, "3 ZI");
    assert_eq!(first.ask(&run("s", &[])).await, "E26000 ZI");
    assert_eq!(value(&mut second, "s").await, "1");
    assert_eq!(first.ask(&prepare("s", "select 2")).await, "1 ZI");
    assert_eq!(value(&mut first, "s").await, "2");
    assert_eq!(
        first
            .ask(&[Raw::close('S', "never"), Raw::sync()].concat())
            .await,
        "3 ZI"
    );
}

#[tokio::test]
async fn a_failed_parse_leaves_its_name_free() {
    let (_database, _proxy, mut first, _second) = pair("[pool]\nsize = 1").await;
    let failing = [
        Raw::parse("bad", "selec 1"),
        Raw::bind("", "bad", &[]),
        Raw::execute("", 0),
        Raw::parse("skipped", "select 1"),
        Raw::sync(),
        Raw::parse("good", "select 'good'"),
        Raw::bind("", "good", &[]),
        Raw::execute("", 0),
        Raw::sync(),
    ];
    assert_eq!(first.ask(&failing.concat()).await, "E42601 ZI");
    assert_eq!(first.ask(&[]).await, "1 2 D C ZI");
    assert_eq!(first.ask(&run("skipped", &[])).await, "E26000 ZI");
    assert_eq!(first.ask(&prepare("bad", "select 'mended'")).await, "1 ZI");
    assert_eq!(value(&mut first, "bad").await, "mended");
}

#[tokio::test]
async fn what_was_skipped_is_taken_back_from_its_end() {
    let (_database, _proxy, mut first, _second) = pair("[pool]\nsize = 1").await;
    assert_eq!(first.ask(&prepare("s", "select 'old'")).await, "1 ZI");
    let skipped = [
        Raw::parse("bad", "selec"),
        Raw::close('S', "s"),
        Raw::parse("s", "select 'new'"),
        Raw::parse("t", "select 't'"),
        Raw::close('S', "t"),
        Raw::sync(),
    ];
    assert_eq!(first.ask(&skipped.concat()).await, "E42601 ZI");
    assert_eq!(value(&mut first, "s").await, "old");
    assert_eq!(first.ask(&run("t", &[])).await, "E26000 ZI");
}

/// Nobody has been told of the error yet when the name is used again.
#[tokio::test]
async fn a_close_that_is_skipped_closes_nothing_for_what_comes_behind_its_sync() {
    let (_database, _proxy, mut client, _) = pair("").await;
    let failing = [
        prepare("a", "select 1"),
        Raw::execute("nowhere", 0),
        Raw::close('S', "a"),
        Raw::sync(),
    ]
    .concat();
    let described = [Raw::describe('S', "a"), Raw::sync()].concat();
    client
        .send(&[failing, run("a", &[]), described].concat())
        .await;
    assert_eq!(client.ask(&[]).await, "1 ZI");
    assert_eq!(client.ask(&[]).await, "E34000 ZI");
    assert_eq!(client.ask(&[]).await, "2 D C ZI");
    assert_eq!(client.ask(&[]).await, "t T ZI");
    // One that is not skipped does.
    let closing = [Raw::close('S', "a"), Raw::sync()].concat();
    client.send(&[closing, run("a", &[])].concat()).await;
    assert_eq!(client.ask(&[]).await, "3 ZI");
    assert_eq!(client.ask(&[]).await, "E26000 ZI");
}

#[tokio::test]
async fn an_error_behind_a_parse_keeps_what_postgres_keeps() {
    let (database, proxy, _first, _second) = pair("[pool]\nsize = 1").await;
    let pipeline = [
        Raw::parse("kept", "select 'kept'"),
        Raw::parse("bad", "select 1/0 from nowhere"),
        Raw::sync(),
    ]
    .concat();
    for port in [database.port, proxy.port()] {
        let mut client = Raw::login(port, "app", &database.name, &[]).await;
        assert_eq!(client.ask(&pipeline).await, "1 E42P01 ZI");
        assert_eq!(value(&mut client, "kept").await, "kept");
    }
}

#[tokio::test]
async fn evicted_statements_come_back() {
    let (database, _proxy, mut first, mut second) =
        pair("[pool]\nsize = 1\nmax_prepared_statements = 2").await;
    database.sql(ON_SERVER).await;
    for number in 0..5 {
        let text = format!("select {number}");
        assert_eq!(
            first.ask(&prepare(&format!("s{number}"), &text)).await,
            "1 ZI"
        );
    }
    assert_eq!(second.ask(&prepare("s0", "select 'other'")).await, "1 ZI");
    for _ in 0..2 {
        for number in 0..5 {
            assert_eq!(
                value(&mut first, &format!("s{number}")).await,
                number.to_string()
            );
        }
        assert_eq!(value(&mut second, "s0").await, "other");
    }
    let count = first.one("select count(*) from on_server").await;
    assert!(count.parse::<u32>().unwrap() <= 2, "{count}");
}

#[tokio::test]
async fn a_pipeline_may_use_more_statements_than_a_server_connection_keeps() {
    let (_database, _proxy, mut first, _second) =
        pair("[pool]\nsize = 1\nmax_prepared_statements = 2").await;
    let mut pipeline = Vec::new();
    let mut expected = String::new();
    for number in 0..6 {
        pipeline.extend(Raw::parse(
            &format!("s{number}"),
            &format!("select {number}"),
        ));
        expected += "1 ";
    }
    for number in 0..6 {
        pipeline.extend(Raw::bind("", &format!("s{number}"), &[]));
        pipeline.extend(Raw::execute("", 0));
        expected += "2 D C ";
    }
    pipeline.extend(Raw::sync());
    assert_eq!(first.ask(&pipeline).await, expected + "ZI");
}

#[tokio::test]
async fn deallocate_and_discard_all_forget_for_one_client_only() {
    for forget in ["deallocate all", "discard all"] {
        let (_database, _proxy, mut first, mut second) = pair("[pool]\nsize = 1").await;
        assert_eq!(first.ask(&prepare("s", "select 'first'")).await, "1 ZI");
        assert_eq!(second.ask(&prepare("s", "select 'second'")).await, "1 ZI");
        assert_eq!(first.ask(&Raw::query(forget)).await, "C ZI", "{forget}");
        assert_eq!(first.ask(&run("s", &[])).await, "E26000 ZI", "{forget}");
        assert_eq!(value(&mut second, "s").await, "second", "{forget}");
        assert_eq!(
            first.ask(&prepare("s", "select 'anew'")).await,
            "1 ZI",
            "{forget}"
        );
        assert_eq!(value(&mut first, "s").await, "anew", "{forget}");
    }
}

#[tokio::test]
async fn the_unnamed_statement_survives_from_sync_to_sync() {
    let (_database, _proxy, mut first, mut second) = pair("[pool]\nsize = 1").await;
    assert_eq!(first.ask(&prepare("", "select 'mine'")).await, "1 ZI");
    assert_eq!(second.ask(&prepare("", "select 'yours'")).await, "1 ZI");
    assert_eq!(value(&mut first, "").await, "mine");
    assert_eq!(value(&mut second, "").await, "yours");
    assert_eq!(first.ask(&Raw::query("select 1")).await, "T D C ZI");
    assert_eq!(first.ask(&run("", &[])).await, "E26000 ZI");
}

#[tokio::test]
async fn statements_of_sql_stay_with_their_client() {
    let (_database, _proxy, mut first, mut second) = pair("[pool]\nsize = 2").await;
    assert_eq!(
        first.ask(&Raw::query("prepare p as select 'mine'")).await,
        "C ZI"
    );
    assert_eq!(
        second.ask(&Raw::query("prepare p as select 'yours'")).await,
        "C ZI"
    );
    for _ in 0..3 {
        assert_eq!(first.one("execute p").await, "mine");
        assert_eq!(second.one("execute p").await, "yours");
    }
    assert_eq!(first.ask(&Raw::query("deallocate p")).await, "C ZI");
    assert_eq!(first.ask(&Raw::query("execute p")).await, "E26000 ZI");
    assert_eq!(second.one("execute p").await, "yours");
}

#[tokio::test]
async fn a_changed_table_gives_its_new_columns() {
    let (database, _proxy, mut first, _second) = pair("[pool]\nsize = 1").await;
    database
        .sql("create table shape (a int); insert into shape values (1)")
        .await;
    assert_eq!(
        first.ask(&prepare("s", "select * from shape")).await,
        "1 ZI"
    );
    assert_eq!(value(&mut first, "s").await, "1");
    database.sql("alter table shape add b int").await;
    assert_eq!(first.ask(&run("s", &[])).await, "2 D C ZI");
    // As on Postgres, a client that prepares anew sees the new shape.
    assert_eq!(
        first
            .ask(&[Raw::close('S', "s"), Raw::sync()].concat())
            .await,
        "3 ZI"
    );
    assert_eq!(
        first.ask(&prepare("s", "select * from shape")).await,
        "1 ZI"
    );
    assert_eq!(first.ask(&run("s", &[])).await, "2 D C ZI");
}

#[tokio::test]
async fn a_text_that_settings_give_another_meaning_is_another_statement() {
    let (database, proxy, mut american, mut british) = pair("[pool]\nsize = 1").await;
    british.ask(&Raw::query("set datestyle = 'ISO, DMY'")).await;
    let text = "select extract(month from '01/02/2024'::date)::text";
    assert_eq!(american.ask(&prepare("s", text)).await, "1 ZI");
    assert_eq!(british.ask(&prepare("s", text)).await, "1 ZI");
    for _ in 0..2 {
        assert_eq!(value(&mut american, "s").await, "1");
        assert_eq!(value(&mut british, "s").await, "2");
    }
    drop((database, proxy));
}

/// Two schemas with the same names in them, which are not the same types.
const TENANTS: &str = "create schema one; create schema two; grant usage on schema one, two to public; \
    create type one.mood as enum ('good'); create type two.mood as enum ('bad'); \
    create table one.t (m one.mood); create table two.t (m two.mood); \
    grant all on one.t, two.t to public; insert into one.t values ('good'); insert into two.t values ('bad')";

const INSERT: &str = "insert into t values ($1)";
const SELECT: &str = "select m from t limit 1";

#[tokio::test]
async fn clients_with_other_paths_share_no_statement() {
    for local in [false, true] {
        let (database, _proxy, mut one, mut two) = pair("[pool]\nsize = 1").await;
        database.sql(TENANTS).await;
        for (client, path, mood) in [(&mut one, "one", "good"), (&mut two, "two", "bad")] {
            let set = match local {
                true => format!("begin; set local search_path = {path}"),
                false => format!("set search_path = {path}; begin"),
            };
            client.ask(&Raw::query(&set)).await;
            assert_eq!(client.ask(&prepare("i", INSERT)).await, "1 ZT");
            assert_eq!(client.ask(&run("i", &[mood])).await, "2 C ZT", "{path}");
            assert_eq!(client.ask(&prepare("s", SELECT)).await, "1 ZT");
            assert_eq!(value(client, "s").await, mood);
            assert_eq!(client.ask(&Raw::query("commit")).await, "C ZI");
        }
        // And so it stays.
        for (client, path, mood) in [(&mut one, "one", "good"), (&mut two, "two", "bad")] {
            client
                .ask(&Raw::query(&format!(
                    "begin; set local search_path = {path}"
                )))
                .await;
            assert_eq!(client.ask(&run("i", &[mood])).await, "2 C ZT", "{path}");
            assert_eq!(value(client, "s").await, mood);
            assert_eq!(client.ask(&Raw::query("commit")).await, "C ZI");
        }
    }
}

#[tokio::test]
async fn a_path_that_is_set_in_the_same_write_counts() {
    let (database, _proxy, mut one, mut two) = pair("[pool]\nsize = 1").await;
    database.sql(TENANTS).await;
    let set = |path: &str| {
        let set = format!("set search_path = {path}");
        [
            Raw::parse("", &set),
            Raw::bind("", "", &[]),
            Raw::execute("", 0),
            Raw::parse("i", INSERT),
            Raw::sync(),
        ]
        .concat()
    };
    assert_eq!(one.ask(&set("one")).await, "1 2 C 1 ZI");
    assert_eq!(two.ask(&set("two")).await, "1 2 C 1 ZI");
    assert_eq!(two.ask(&run("i", &["bad"])).await, "2 C ZI");
    assert_eq!(one.ask(&run("i", &["good"])).await, "2 C ZI");
}

#[tokio::test]
async fn what_one_had_prepared_under_another_path_is_prepared_anew_for_the_next() {
    // Each other statement makes the server forget the one before.
    let more = "[pool]\nsize = 1\nmax_prepared_statements = 1";
    let (database, proxy, mut first, mut second) = pair(more).await;
    database.sql(TENANTS).await;
    let mut third = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    for client in [&mut first, &mut third] {
        client.ask(&Raw::query("set search_path = one")).await;
        assert_eq!(client.ask(&prepare("i", INSERT)).await, "1 ZI");
    }
    first.ask(&Raw::query("set search_path = two")).await;
    assert_eq!(second.ask(&prepare("x", "select 1")).await, "1 ZI");
    assert_eq!(first.ask(&run("i", &["bad"])).await, "2 C ZI");
    assert_eq!(third.ask(&run("i", &["good"])).await, "2 C ZI");
}

#[tokio::test]
async fn a_fetch_is_prepared_by_each_client_for_itself() {
    let (_database, _proxy, mut first, mut second) = pair("[pool]\nsize = 1").await;
    first.ask(&Raw::query("begin read write")).await;
    first
        .ask(&Raw::query("declare c cursor for select 1"))
        .await;
    assert_eq!(first.ask(&prepare("s", "fetch c")).await, "1 ZT");
    first.ask(&Raw::query("rollback")).await;
    // To describe the first client's statement here would end the server: its cursor is gone.
    let asked = [
        Raw::parse("s", "fetch c"),
        Raw::describe('S', "s"),
        Raw::sync(),
    ];
    assert_eq!(second.ask(&asked.concat()).await, "1 t n ZI");
    assert_eq!(second.ask(&Raw::query("select 1")).await, "T D C ZI");
}

#[tokio::test]
async fn a_text_that_was_only_tried_stays_on_no_server() {
    let (database, _proxy, mut first, mut second) = pair("[pool]\nsize = 1").await;
    database
        .sql(
            "create function tried() returns bigint language sql as \
             $$ select count(*) from pg_prepared_statements where statement like '%secret%' $$",
        )
        .await;
    assert_eq!(first.ask(&prepare("s", "select 1")).await, "1 ZI");
    let taken = first.ask(&prepare("s", "select 'secret'")).await;
    assert_eq!(taken, "E42P05 ZI");
    assert_eq!(second.one("select tried()").await, "0");
    assert_eq!(first.ask(&run("s", &[])).await, "2 D C ZI");
}
