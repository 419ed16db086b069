//! What is refused, before anything of it ran.

use pgherd_tests::{Raw, try_connect, until};

use crate::rig::{Rig, key};

const TEMPORARY: &str = "create temp table x (y int)";

#[tokio::test]
async fn what_is_not_sure_is_refused_and_harms_nobody() {
    let rig = Rig::new("").await;
    let mut raw = rig.raw().await;
    let by_key = format!(
        "copy (select * from accounts where id = {}) to stdout",
        key(0)
    );
    for (text, expected) in [
        (
            "select * from accounts tablesample system (10)",
            "E0A000 ZI",
        ),
        ("select ctid from accounts", "E0A000 ZI"),
        ("update accounts set id = 1", "E0A000 ZI"),
        ("delete from accounts where random() < 1", "E0A000 ZI"),
        ("insert into accounts values (null)", "E23502 ZI"),
        (
            "insert into countries values ('ch', random()::text)",
            "E0A000 ZI",
        ),
        ("select * from elsewhere", "E0A000 ZI"),
        ("select * from nowhere", "E42P01 ZI"),
        ("selec 1", "E42601 ZI"),
        (
            "create table more (id int) partition by list (id)",
            "E0A000 ZI",
        ),
        ("create temp table more (id int)", "E0A000 ZI"),
        ("select 1 as a into temp more", "E0A000 ZI"),
        ("select pg_advisory_lock(1)", "E0A000 ZI"),
        ("copy accounts (owner) from stdin", "E0A000 ZI"),
        ("copy accounts to stdout (odd)", "E0A000 ZI"),
        (
            "copy (select ctid from accounts order by 1) to stdout",
            "E0A000 ZI",
        ),
        ("do $$ begin end $$", "E0A000 ZI"),
        ("prepare transaction 'x'", "E0A000 ZI"),
        ("commit prepared 'x'", "E0A000 ZI"),
        ("vacuum", "E0A000 ZI"),
        ("set role other", "C ZI"),
        ("select count(*) from countries", "E0A000 ZI"),
        ("reset role", "C ZI"),
        ("set local search_path = odd", "E0A000 ZI"),
        ("select set_config('search_path', 'odd', true)", "E0A000 ZI"),
        (
            "select set_config('search' || '_path', 'odd', true)",
            "E0A000 ZI",
        ),
        ("select pg_cancel_backend(1)", "E0A000 ZI"),
        (
            "select pg_terminate_backend(pid) from pg_stat_activity",
            "E0A000 ZI",
        ),
        // What is the same on whichever shard.
        ("select count(*) from countries", "T D C ZI"),
        ("select now() is not null, 1 + 1", "T D C ZI"),
        ("show timezone", "T D C ZI"),
        ("discard all", "C ZI"),
        ("", "I ZI"),
        ("-- ping", "I ZI"),
    ] {
        assert_eq!(raw.ask(&Raw::query(text)).await, expected, "{text}");
    }
    raw.send(&Raw::query(&by_key)).await;
    let tags: String = raw.ready().await.iter().map(|it| it.tag).collect();
    assert_eq!(tags, "HcCZ");
    for shard in &rig.shards {
        let question = "select count(*) from accounts, countries where code <> 'de'";
        assert_eq!(shard.sql(question).await, "0");
    }
    // In the extended protocol all up to the Sync is skipped.
    for text in ["select * from accounts tablesample system (10)", TEMPORARY] {
        let parse = Raw::parse("", text);
        let all = [
            parse,
            Raw::bind("", "", &[]),
            Raw::execute("", 0),
            Raw::sync(),
        ]
        .concat();
        let told = raw.ask(&all).await;
        assert!(
            told == "E0A000 ZI" || told == "1 E0A000 ZI",
            "{text}: {told}"
        );
    }
    // A call of a function by its number (of lower(text)).
    let mut call = 870_u32.to_be_bytes().to_vec();
    call.extend([0, 0, 0, 1, 0, 0, 0, 1, b'A', 0, 0]);
    assert_eq!(raw.ask(&Raw::framed(b'F', &call)).await, "E0A000 ZI");
    assert_eq!(raw.one("select 1").await, "1");
}

#[tokio::test]
async fn a_refused_unnamed_statement_leaves_none_behind() {
    let rig = Rig::new("").await;
    let mut raw = rig.raw().await;
    let prepared = [Raw::parse("", "select 1"), Raw::sync()].concat();
    assert_eq!(raw.ask(&prepared).await, "1 ZI");
    let refused = [Raw::parse("", TEMPORARY), Raw::sync()].concat();
    assert_eq!(raw.ask(&refused).await, "E0A000 ZI");
    let run = [Raw::bind("", "", &[]), Raw::execute("", 0), Raw::sync()].concat();
    assert_eq!(raw.ask(&run).await, "E26000 ZI");
}

#[tokio::test]
async fn a_message_that_is_too_large_is_not_sent_unread() {
    let rig = Rig::new("[limits]\nmax_held_message = 16384").await;
    let mut raw = rig.raw().await;
    let padding = " ".repeat(40_000);
    let query = Raw::query(&format!("select 1{padding}"));
    assert_eq!(raw.ask(&query).await, "E54000 ZI");
    let text = "insert into accounts values ($1, $2)";
    let bind = Raw::bind("", "", &[&key(1).to_string(), &padding]);
    let all = [Raw::parse("", text), bind, Raw::execute("", 0), Raw::sync()].concat();
    assert_eq!(raw.ask(&all).await, "1 E54000 ZI");
    assert_eq!(raw.one("select 1").await, "1");
}

#[tokio::test]
async fn a_sharded_database_is_not_replicated() {
    let rig = Rig::new("").await;
    let raw = Raw::open(rig.proxy.port()).await;
    let refused = raw
        .enter("app", "shop", &[("replication", "database")])
        .await;
    assert_eq!(refused.unwrap_err().field('C').as_deref(), Some("0A000"));
    let nobody = try_connect(&rig.proxy.url("app", "nothing")).await;
    assert_eq!(nobody.unwrap_err().0, "3D000");
}

#[tokio::test]
async fn a_block_whose_first_statement_was_refused_ends_as_any_failed_one() {
    let rig = Rig::new("").await;
    let mut raw = rig.raw().await;
    for text in ["insert into accounts default values", TEMPORARY] {
        assert_eq!(raw.ask(&Raw::query("begin")).await, "C ZT");
        assert_eq!(raw.ask(&Raw::query(text)).await, "E0A000 ZE", "{text}");
        assert_eq!(raw.ask(&Raw::query("select 1")).await, "E25P02 ZE");
        raw.send(&Raw::query("commit")).await;
        let answer = raw.ready().await;
        assert_eq!(answer[0].tag, 'C', "{text}");
        assert!(answer[0].body.starts_with(b"ROLLBACK"), "{text}");
        // Without a statement between, too.
        assert_eq!(raw.ask(&Raw::query("begin")).await, "C ZT");
        assert_eq!(raw.ask(&Raw::query(text)).await, "E0A000 ZE", "{text}");
        assert_eq!(raw.ask(&Raw::query("commit")).await, "C ZI");
        assert_eq!(raw.ask(&Raw::query("select 1")).await, "T D C ZI");
    }
    // One that is refused does not speak for the next, whose server is lost.
    for text in ["begin", TEMPORARY, "rollback", "begin"] {
        raw.ask(&Raw::query(text)).await;
    }
    let pid = raw
        .one("select pg_backend_pid() from countries where code = 'at'")
        .await;
    let server = &rig.shards[0];
    server
        .sql(&format!("select pg_terminate_backend({pid})"))
        .await;
    let gone = format!("select count(*) from pg_stat_activity where pid = {pid}");
    until("it is gone", async || server.sql(&gone).await == "0").await;
    assert_eq!(raw.ask(&Raw::query("commit")).await, "E40001 ZI");
}

#[tokio::test]
async fn what_a_domain_or_a_partition_does_unseen_is_refused() {
    let rig = Rig::new("").await;
    for shard in &rig.shards {
        shard
            .sql(
                "create domain moment as timestamptz default clock_timestamp(); \
                 alter table countries add at moment; drop table entries; \
                 create table entries (account bigint not null, n int not null) partition by range (n); \
                 create table entries_0 partition of entries for values from (0) to (100); \
                 create function away() returns trigger language plpgsql as \
                 $$begin new.account := new.account + 1; return new; end$$; \
                 create trigger away before insert on entries_0 for each row execute function away(); \
                 create function few() returns bool stable language sql as \
                 'select count(*) < 2 from accounts'; \
                 alter table accounts add check (few())",
            )
            .await;
    }
    let client = rig.client().await;
    let entry = format!("insert into entries values ({}, 1)", key(0));
    let account = format!("insert into accounts values ({}, 'x')", key(0));
    for text in [
        "insert into countries (code) values ('ch')",
        &entry,
        &account,
        "update accounts set amount = 2",
    ] {
        assert_eq!(client.refused(text).await.0, "0A000", "{text}");
    }
    let country = "insert into countries (code, at) values ('ch', '2026-01-01')";
    assert_eq!(client.simple_query(country).await.unwrap().len(), 1);
}

#[tokio::test]
async fn the_console_knows_a_sharded_database_by_its_name() {
    let rig = Rig::new("").await;
    let mut raw = rig.raw().await;
    assert_eq!(raw.one("select count(*) from accounts").await, "0");
    let mut console = Raw::login(rig.proxy.port(), "app", "pgbouncer", &[]).await;
    let shard = &rig.shards[1].name;
    for (name, count) in [("shop", 2), (shard.as_str(), 1)] {
        let told = console.ask(&Raw::query(&format!("pause {name}"))).await;
        assert_eq!(told, "C ZI", "{name}");
        console.send(&Raw::query("show databases")).await;
        let rows = console.ready().await;
        let rows = rows.iter().filter(|row| row.tag == 'D');
        let paused = rows.filter(|row| row.columns()[16] == "1");
        assert_eq!(paused.count(), count, "{name}");
        for verb in ["reconnect", "wait_close", "resume"] {
            let told = console.ask(&Raw::query(&format!("{verb} {name}"))).await;
            assert_eq!(told, "C ZI", "{verb} {name}");
        }
        assert_eq!(raw.one("select count(*) from accounts").await, "0");
    }
    let told = console.ask(&Raw::query("switchover shop")).await;
    assert_eq!(told, "E55000 ZI");
    assert_eq!(console.ask(&Raw::query("pause shops")).await, "E3D000 ZI");
    assert_eq!(console.ask(&Raw::query("kill shop")).await, "C ZI");
    assert_eq!(raw.message().await.field('C').as_deref(), Some("57P01"));
}
