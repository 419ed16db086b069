//! What one message does to those behind it, and to the next client, where messages of ours stand between.

use pgherd_tests::{Database, Proxy, Raw, until};

async fn raw(proxy: &Proxy, database: &Database) -> Raw {
    Raw::login(proxy.port(), "app", &database.name, &[]).await
}

/// A pool of one connection.
async fn house() -> (Proxy, Database) {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 1").await;
    (proxy, database)
}

#[tokio::test]
async fn settings_that_were_refused_as_their_client_left_are_not_taken_for_made() {
    let (proxy, database) = house().await;
    let role = format!("{}_fading", database.name);
    database
        .sql(&format!(
            "create role {role}; grant {role} to app; create table seen (who text); \
             grant insert on seen to public"
        ))
        .await;
    let mut first = raw(&proxy, &database).await;
    let mut second = raw(&proxy, &database).await;
    let mut plain = raw(&proxy, &database).await;
    for client in [&mut first, &mut second] {
        assert_eq!(
            client.ask(&Raw::query(&format!("set role {role}"))).await,
            "C ZI"
        );
    }
    assert_eq!(plain.one("select current_user").await, "app");
    database.sql(&format!("drop role {role}")).await;
    let leaving = [Raw::query("select 1"), Raw::framed(b'X', b"")];
    first.send(&leaving.concat()).await;
    let gone = first.end().await;
    assert!(!gone.starts_with(b"T"), "{gone:?}");
    let insert = Raw::query("insert into seen values (current_user)");
    assert!(second.ask(&insert).await.starts_with('E'));
    assert_eq!(database.sql("select count(*) from seen").await, "0");
    assert_eq!(plain.one("select current_user").await, "app");
}

#[tokio::test]
async fn what_a_prepared_statement_bound_is_undone_when_its_client_leaves() {
    let (proxy, database) = house().await;
    let mut client = raw(&proxy, &database).await;
    let prepare = [Raw::parse("l", "select pg_advisory_lock(1)"), Raw::sync()];
    assert_eq!(client.ask(&prepare.concat()).await, "1 ZI");
    let mut other = raw(&proxy, &database).await;
    other.ask(&Raw::query("begin")).await;
    other.ask(&Raw::query("select 1")).await;
    other.send(&Raw::framed(b'X', b"")).await;
    other.end().await;
    let lock = [Raw::bind("", "l", &[]), Raw::execute("", 0), Raw::sync()];
    assert_eq!(client.ask(&lock.concat()).await, "2 D C ZI");
    client.send(&Raw::framed(b'X', b"")).await;
    client.end().await;
    let mut next = raw(&proxy, &database).await;
    let held = "select count(*) from pg_locks where locktype = 'advisory' \
        and database = (select oid from pg_database where datname = current_database())";
    assert_eq!(next.one(held).await, "0");
}

#[tokio::test]
async fn behind_a_discard_the_client_has_its_own_start_up_values() {
    let (proxy, database) = house().await;
    let zone = [("timezone", "Asia/Tokyo"), ("work_mem", "7MB")];
    let mut client = Raw::login(proxy.port(), "app", &database.name, &zone).await;
    let both = "select current_setting('timezone') || ' ' || current_setting('work_mem')";
    let together = [Raw::query("discard all"), Raw::query(both)].concat();
    client.send(&together).await;
    client.ready().await;
    let answer = client.ready().await;
    let row = answer.iter().find(|message| message.tag == 'D').unwrap();
    assert_eq!(row.columns(), ["Asia/Tokyo 7MB"]);
}

#[tokio::test]
async fn a_failed_setting_does_not_unbind_what_stands_behind_it() {
    let database = Database::new().await;
    let more =
        "[pool]\nsize = 1\n[limits]\nmax_held_message = 8192\n[timeouts]\ncheckout = \"300ms\"";
    let proxy = Proxy::before(&database, more).await;
    let mut client = raw(&proxy, &database).await;
    let mut other = raw(&proxy, &database).await;
    let large = format!("create temp table mine (a int) /*{}*/", "x".repeat(9000));
    let together = [Raw::query("set nosuch = 1"), Raw::query(&large)].concat();
    client.send(&together).await;
    client.ready().await;
    client.ready().await;
    // The server is kept for it.
    assert_eq!(other.ask(&Raw::query("select 1")).await, "E57014 ZI");
    assert_eq!(client.one("select count(*) from mine").await, "0");
}

#[tokio::test]
async fn a_pipeline_of_more_messages_than_are_kept_count_of_comes_to_its_end() {
    let (proxy, database) = house().await;
    let mut client = raw(&proxy, &database).await;
    let count = 4200;
    let mut prepare = Vec::new();
    for number in 0..count {
        prepare.extend(Raw::parse(&format!("s{number}"), "select 1"));
    }
    prepare.extend(Raw::sync());
    client.send(&prepare).await;
    client.ready().await;
    let mut close = Raw::parse("", "select 1");
    for number in 0..count {
        close.extend(Raw::close('S', &format!("s{number}")));
    }
    close.extend(Raw::sync());
    client.send(&close).await;
    let closed = client.ready().await;
    assert_eq!(closed.iter().filter(|m| m.tag == '3').count(), count);
}

#[tokio::test]
async fn a_statement_run_by_its_name_fails_once_and_in_its_own_words() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 2").await;
    database
        .sql("create table gone (a int); grant all on gone to public")
        .await;
    let mut client = raw(&proxy, &database).await;
    let prepare = [Raw::parse("s", "select a from gone"), Raw::sync()];
    assert_eq!(client.ask(&prepare.concat()).await, "1 ZI");
    database.sql("drop table gone").await;
    // On a server that has not got it.
    let mut holder = raw(&proxy, &database).await;
    holder.ask(&Raw::query("begin read write")).await;
    let mut told = String::new();
    until("it ran where it had to be prepared", async || {
        client.send(&Raw::query("execute s")).await;
        let answer = client.ready().await;
        let errors: Vec<_> = answer.iter().filter(|m| m.tag == 'E').collect();
        assert_eq!(errors.len(), 1, "{answer:?}");
        told = errors[0].field('M').unwrap();
        assert!(!told.contains("pgherd_"), "{told}");
        true
    })
    .await;
    assert!(told.contains("gone"), "{told}");
    holder.ask(&Raw::query("rollback")).await;
}
