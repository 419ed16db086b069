//! When the text of a prepared statement is read, and what it means since.

use pgherd_tests::Raw;

use crate::prepared::{pair, prepare};

fn described(name: &str, text: &str) -> Vec<u8> {
    [
        Raw::parse(name, text),
        Raw::describe('S', name),
        Raw::sync(),
    ]
    .concat()
}

fn run(name: &str) -> Vec<u8> {
    [Raw::bind("", name, &[]), Raw::execute("", 0), Raw::sync()].concat()
}

async fn value(client: &mut Raw, name: &str) -> String {
    client.send(&run(name)).await;
    let messages = client.ready().await;
    let row = messages.iter().find(|message| message.tag == 'D');
    row.unwrap_or_else(|| panic!("{messages:?}"))
        .columns()
        .remove(0)
}

/// Takes the server that `client` would get next, so that it gets another.
async fn take_server(holder: &mut Raw) {
    assert_eq!(holder.ask(&Raw::query("begin")).await, "C ZT");
    holder.one("select 1").await;
}

#[tokio::test]
async fn a_moment_is_that_of_the_client_who_prepared_it() {
    let (_database, _proxy, mut first, mut second) = pair("[pool]\nsize = 2").await;
    let text = "select 'now'::timestamptz::text";
    assert_eq!(first.ask(&prepare("s", text)).await, "1 ZI");
    let before = value(&mut first, "s").await;
    let apart = second.one("select clock_timestamp()::text").await;
    assert_eq!(second.ask(&prepare("s", text)).await, "1 ZI");
    let after = value(&mut second, "s").await;
    assert!(before < apart && apart < after, "{before} {apart} {after}");
    // It stays the same, wherever its client might be sent.
    assert_eq!(value(&mut first, "s").await, before);
    assert_eq!(value(&mut second, "s").await, after);
    // Nothing binds the first any more once it has none.
    let close = [Raw::close('S', "s"), Raw::sync()].concat();
    assert_eq!(first.ask(&close).await, "3 ZI");
    let mut third = Raw::login(_proxy.port(), "app", &_database.name, &[]).await;
    assert_eq!(third.one("select 1").await, "1");
}

#[tokio::test]
async fn a_text_means_what_it_means_when_its_client_prepares_it() {
    let (database, _proxy, mut first, mut second) = pair("[pool]\nsize = 1").await;
    database
        .sql(
            "create function f(text) returns text language sql as $$select 'text'$$;
             create type colour as enum ('red')",
        )
        .await;
    let text = "select f('red')";
    assert_eq!(first.ask(&prepare("s", text)).await, "1 ZI");
    assert_eq!(value(&mut first, "s").await, "text");
    database
        .sql(
            "drop function f(text);
             create function f(colour) returns text language sql as $$select 'colour'$$",
        )
        .await;
    assert_eq!(second.ask(&prepare("s", text)).await, "1 ZI");
    assert_eq!(value(&mut second, "s").await, "colour");
}

#[tokio::test]
async fn what_is_missing_is_told_by_the_parse() {
    let (database, _proxy, mut first, mut second) = pair("[pool]\nsize = 1").await;
    database.sql("create table gone (a int)").await;
    let text = "select * from gone";
    assert_eq!(first.ask(&prepare("s", text)).await, "1 ZI");
    database.sql("drop table gone").await;
    let asked = described("s", text);
    assert_eq!(second.ask(&asked).await, "E42P01 ZI");
    assert_eq!(first.ask(&run("s")).await, "E42P01 ZI");
    assert_eq!(second.ask(&run("s")).await, "E26000 ZI");
}

#[tokio::test]
async fn a_first_parse_sees_the_table_as_it_is() {
    let (database, _proxy, mut first, mut second) = pair("[pool]\nsize = 1").await;
    database
        .sql("create table shape (a int); insert into shape values (1)")
        .await;
    let text = "select * from shape";
    assert_eq!(first.ask(&described("s", text)).await, "1 t T ZI");
    database.sql("alter table shape add b int").await;
    assert_eq!(second.ask(&Raw::query("begin")).await, "C ZT");
    assert_eq!(second.ask(&described("s", text)).await, "1 t T ZT");
    assert_eq!(second.ask(&run("s")).await, "2 D C ZT");
    assert_eq!(second.ask(&Raw::query("commit")).await, "C ZI");
    // The first was told of one column, and must not be given two.
    assert_eq!(first.ask(&run("s")).await, "E0A000 ZI");
    assert_eq!(second.ask(&run("s")).await, "2 D C ZI");
    assert_eq!(first.ask(&run("s")).await, "E0A000 ZI");
    let anew = [Raw::close('S', "s"), described("s", text)].concat();
    assert_eq!(first.ask(&anew).await, "3 1 t T ZI");
    assert_eq!(first.ask(&run("s")).await, "2 D C ZI");
}

#[tokio::test]
async fn nobody_is_moved_to_other_columns() {
    let (database, proxy, mut first, mut second) = pair("[pool]\nsize = 2").await;
    database
        .sql("create table shape (a int, b int); insert into shape values (1, 2)")
        .await;
    take_server(&mut second).await;
    let text = "select * from shape";
    assert_eq!(first.ask(&described("s", text)).await, "1 t T ZI");
    assert_eq!(value(&mut first, "s").await, "1");
    let here = first.one("select pg_backend_pid()").await;
    let mut third = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    take_server(&mut third).await;
    assert_eq!(third.one("select pg_backend_pid()").await, here);
    assert_eq!(second.ask(&Raw::query("commit")).await, "C ZI");
    // Moved, it is the same.
    assert_eq!(value(&mut first, "s").await, "1");
    assert_ne!(first.one("select pg_backend_pid()").await, here);
    assert_eq!(third.ask(&Raw::query("commit")).await, "C ZI");
    database
        .sql("alter table shape drop a; alter table shape add c int default 3")
        .await;
    for _ in 0..3 {
        assert_eq!(first.ask(&run("s")).await, "E0A000 ZI");
        assert_eq!(second.ask(&Raw::query("begin")).await, "C ZT");
        second.one("select 1").await;
        assert_eq!(first.ask(&run("s")).await, "E0A000 ZI");
        assert_eq!(second.ask(&Raw::query("commit")).await, "C ZI");
    }
}

#[tokio::test]
async fn a_moved_statement_is_read_under_the_settings_of_its_time() {
    for block in [false, true] {
        let (_database, _proxy, mut first, mut second) = pair("[pool]\nsize = 2").await;
        first.ask(&Raw::query("set datestyle = 'ISO, MDY'")).await;
        let text = "select '01/02/2024'::date::text";
        assert_eq!(first.ask(&described("s", text)).await, "1 t T ZI");
        first.ask(&Raw::query("set datestyle = 'ISO, DMY'")).await;
        take_server(&mut second).await;
        if block {
            assert_eq!(first.ask(&Raw::query("begin")).await, "C ZT");
        }
        // What is set for the reading alone is not seen, neither behind it nor in what is reported.
        let pipeline = [
            Raw::bind("", "s", &[]),
            Raw::execute("", 0),
            Raw::parse("", "select '01/02/2024'::date::text"),
            Raw::bind("", "", &[]),
            Raw::execute("", 0),
            Raw::sync(),
        ];
        first.send(&pipeline.concat()).await;
        let said = first.ready().await;
        let tags: String = said.iter().map(|message| message.tag).collect();
        assert_eq!(tags, "2DC12DCZ");
        assert_eq!(said[1].columns(), ["2024-01-02"]);
        assert_eq!(said[5].columns(), ["2024-02-01"]);
        assert_eq!(first.one("show datestyle").await, "ISO, DMY");
        if block {
            assert_eq!(first.ask(&Raw::query("commit")).await, "C ZI");
        }
        assert_eq!(first.one("show datestyle").await, "ISO, DMY");
        assert_eq!(value(&mut first, "s").await, "2024-01-02");
    }
}

#[tokio::test]
async fn a_statement_is_named_in_sql_on_any_server() {
    let (_database, proxy, mut first, mut second) = pair("[pool]\nsize = 2").await;
    assert_eq!(first.ask(&prepare("s", "select 'mine'")).await, "1 ZI");
    assert_eq!(second.ask(&prepare("s", "select 'mine'")).await, "1 ZI");
    take_server(&mut second).await;
    assert_eq!(first.one("execute s").await, "mine");
    assert_eq!(second.ask(&Raw::query("commit")).await, "C ZI");
    // What one client drops is dropped for it alone, and nobody is bound by that.
    assert_eq!(first.ask(&Raw::query("deallocate s")).await, "C ZI");
    assert_eq!(first.ask(&Raw::query("execute s")).await, "E26000 ZI");
    assert_eq!(second.one("execute s").await, "mine");
    assert_eq!(value(&mut second, "s").await, "mine");
    // A session is bound or free only after it has answered, and answers the next message only then.
    for client in [&mut first, &mut second] {
        assert_eq!(client.ask(&Raw::sync()).await, "ZI");
    }
    let mut console = Raw::login(proxy.port(), "app", "pgherd", &[]).await;
    console.send(&Raw::query("show pins")).await;
    let pins = console.ready().await;
    assert!(pins.iter().all(|message| message.tag != 'D'), "{pins:?}");
}

#[tokio::test]
async fn a_long_pipeline_goes_on_behind_a_check() {
    let (_database, _proxy, mut first, mut second) = pair("[pool]\nsize = 2").await;
    let asked = described("s", "select 1 as one");
    assert_eq!(first.ask(&asked).await, "1 t T ZI");
    take_server(&mut second).await;
    let pipeline = [run("s"), run("s"), prepare("t", "select 2"), run("t")].concat();
    first.send(&pipeline).await;
    for expected in ["2 D C ZI", "2 D C ZI", "1 ZI", "2 D C ZI"] {
        assert_eq!(first.ask(&[]).await, expected);
    }
}

#[tokio::test]
async fn errors_name_statements_as_the_client_does() {
    let (_database, _proxy, mut first, _second) = pair("[pool]\nsize = 1").await;
    assert_eq!(first.ask(&prepare("mine", "select $1::int")).await, "1 ZI");
    first.send(&run("mine")).await;
    let said = first.ready().await;
    let error = said[0].field('M').unwrap();
    assert!(
        error.contains("prepared statement \"mine\" requires 1"),
        "{error}"
    );
    first.send(&run("pgherd_1")).await;
    let said = first.ready().await;
    assert_eq!(said[0].field('C').as_deref(), Some("26000"));
    assert_eq!(
        said[0].field('R').as_deref(),
        Some("FetchPreparedStatement")
    );
}

#[tokio::test]
async fn a_server_that_has_lost_a_statement_gets_it_again() {
    let (_database, _proxy, mut first, _second) = pair("[pool]\nsize = 1").await;
    assert_eq!(first.ask(&prepare("s", "select 'here'")).await, "1 ZI");
    let lost = "do $$ begin execute 'deallocate all'; end $$";
    first.ask(&Raw::query(lost)).await;
    first.ask(&run("s")).await;
    assert_eq!(value(&mut first, "s").await, "here");
}
