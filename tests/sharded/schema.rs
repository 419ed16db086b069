//! The schemas of the shards: equal, or nothing runs.

use std::process::Command;

use pgherd_tests::{Database, Output, Proxy, Raw, connect, executable, run, until};
use rustix::process::Signal;

use crate::faults::tapped;
use crate::rig::{Rig, SCHEMA, key, keys};
use crate::tap::{Fault, Rule, When};
use crate::transactions::{filled, part, sum};

async fn check(proxy: &Proxy) -> Output {
    let file = proxy.path("pgherd.toml");
    let mut command = Command::new(executable());
    command.args(["check", "--connect", "--config"]).arg(file);
    run(command, "").await
}

#[tokio::test]
async fn shards_that_differ_run_nothing_until_they_are_alike() {
    let rig = Rig::new("").await;
    let alike = check(&rig.proxy).await;
    assert_eq!(alike.code, 0, "{alike:?}");
    let told = format!("{alike:?}");
    assert!(told.contains("shop: 2 shards, alike"), "{told}");
    assert!(
        told.contains("table public.elsewhere is placed nowhere"),
        "{told}"
    );
    rig.shards[1]
        .sql("alter table accounts alter owner set not null")
        .await;
    let differ = check(&rig.proxy).await;
    assert_eq!(differ.code, 69, "{differ:?}");
    let expected = "column owner of public.accounts is defined differently";
    assert!(format!("{differ:?}").contains(expected), "{differ:?}");
    let client = rig.client().await;
    let select = format!("select count(*) from accounts where id = {}", key(0));
    let (code, text) = client.refused(&select).await;
    assert_eq!(code, "0A000");
    assert!(text.contains("differ"), "{text}");
    rig.shards[0]
        .sql("alter table accounts alter owner set not null")
        .await;
    until("the shards are found alike", async || {
        client.column(&select).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn a_block_can_be_left_when_the_schema_has_changed() {
    let rig = Rig::new("").await;
    let client = rig.client().await;
    let select = format!("select count(*) from accounts where id = {}", key(0));
    let alter = async |shard: &Database, text: &str| {
        let direct = connect(&rig.proxy.url("app", &shard.name)).await;
        direct.simple_query(text).await.unwrap();
    };
    for end in ["commit", "rollback"] {
        client.simple_query("begin").await.unwrap();
        assert_eq!(client.one(&select).await, "0");
        for shard in &rig.shards {
            alter(shard, &format!("alter table elsewhere add by_{end} int")).await;
        }
        client.simple_query(end).await.unwrap();
        assert_eq!(client.one(&select).await, "0");
    }
    client.simple_query("begin").await.unwrap();
    assert_eq!(client.one(&select).await, "0");
    alter(&rig.shards[1], "alter table elsewhere add more int").await;
    // Somebody has found by then that the shards differ.
    assert_eq!(rig.client().await.refused(&select).await.0, "0A000");
    client.simple_query("commit").await.unwrap();
    assert_eq!(client.refused(&select).await.0, "0A000");
}

#[tokio::test]
async fn settings_that_differ_are_told() {
    let rig = Rig::new("").await;
    let set = format!(
        "alter database {} set timezone = 'Asia/Tokyo'",
        rig.shards[1].name
    );
    rig.shards[1].sql(&set).await;
    let (code, _) = rig.client().await.refused("select now()").await;
    assert_eq!(code, "0A000");
    let differ = check(&rig.proxy).await;
    assert!(format!("{differ:?}").contains("TimeZone"), "{differ:?}");
}

#[tokio::test]
async fn a_change_that_passes_through_is_known_at_once() {
    let rig = Rig::new("").await;
    let client = rig.client().await;
    let select = format!("select count(more) from accounts where id = {}", key(0));
    assert_eq!(client.refused(&select).await.0, "42703");
    for shard in &rig.shards {
        let direct = connect(&rig.proxy.url("app", &shard.name)).await;
        direct
            .simple_query("alter table accounts add more int")
            .await
            .unwrap();
        drop(direct);
    }
    assert_eq!(client.one(&select).await, "0");
    for shard in &rig.shards {
        let direct = connect(&rig.proxy.url("app", &shard.name)).await;
        direct
            .simple_query("alter table accounts drop more")
            .await
            .unwrap();
    }
    assert_eq!(client.refused(&select).await.0, "42703");
    let by_id = format!("select count(*) from accounts where id = {}", key(1));
    assert_eq!(client.one(&by_id).await, "0");
}

#[tokio::test]
async fn a_reload_that_places_rows_elsewhere_ends_sessions() {
    let rig = Rig::new("").await;
    let client = rig.client().await;
    assert_eq!(client.one("select count(*) from countries").await, "2");
    rig.proxy
        .rewrite(&Rig::config(&rig.shards, "columns = [\"tenant\"]"));
    rig.proxy.signal(Signal::HUP);
    rig.proxy.logged("configuration reloaded", 1).await;
    let ended = client.simple_query("select count(*) from countries").await;
    let code = ended.unwrap_err().code().map(|code| code.code().to_owned());
    assert_eq!(code.as_deref(), Some("57P01"));
    let again = rig.client().await;
    assert_eq!(again.one("select count(*) from countries").await, "2");
}

#[tokio::test]
async fn tables_are_made_alike_referred_to_and_counted_on_all_shards() {
    let rig = Rig::new("").await;
    let mut raw = rig.raw().await;
    for text in [
        "create table notes (like countries including all)",
        "alter table entries add foreign key (account) references accounts",
    ] {
        assert_eq!(raw.ask(&Raw::query(text)).await, "C ZI", "{text}");
    }
    for shard in 0..2 {
        let insert = format!(
            "insert into entries (account, n) values ({}, 1)",
            key(shard)
        );
        assert_eq!(raw.ask(&Raw::query(&insert)).await, "E23503 ZI");
    }
    assert_eq!(
        raw.ask(&Raw::query("analyze accounts, countries (name)"))
            .await,
        "C ZI"
    );
    for shard in &rig.shards {
        let counted = "select count(*) from pg_class where relname = 'accounts' and reltuples = 0";
        assert_eq!(shard.sql(counted).await, "1");
    }
    assert_eq!(raw.ask(&Raw::query("analyze")).await, "E0A000 ZI");
}

#[tokio::test]
async fn sequences_that_are_said_to_be_disjoint_must_be() {
    let rig = Rig::new("sequences = \"disjoint\"").await;
    for shard in &rig.shards {
        shard.sql("create sequence numbers increment by 2").await;
    }
    let client = rig.client().await;
    let draw = "select nextval('numbers')";
    let (code, text) = client.refused(draw).await;
    assert_eq!(code, "0A000");
    assert!(text.contains("disjoint"), "{text}");
    let told = check(&rig.proxy).await;
    assert_eq!(told.code, 69, "{told:?}");
    let expected = "sequence public.numbers gives the same numbers";
    assert!(format!("{told:?}").contains(expected), "{told:?}");
    rig.shards[1]
        .sql("alter sequence numbers start 2 restart")
        .await;
    until("the sequences are found disjoint", async || {
        client.column(draw).await.is_ok()
    })
    .await;
    // What would make one that is the same on both is refused.
    let (code, _) = client.refused("create sequence others").await;
    assert_eq!(code, "0A000");
    let (code, _) = client
        .refused("create table fresh (id bigserial primary key)")
        .await;
    assert_eq!(code, "0A000");
}

/// Where it was written nobody looks for it any more.
#[tokio::test]
async fn nothing_is_committed_behind_a_reload_that_places_rows_elsewhere() {
    let rig = filled("").await;
    let mut clients = Vec::new();
    for (at, (shards, end, expected)) in [
        (&[0, 1][..], "commit", "E40001 ZI"),
        (&[0, 1], "rollback", "C ZI"),
        // Its one server says how the block stands.
        (&[0], "commit", "E40001 ZE"),
        (&[1], "rollback", "C ZI"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut raw = rig.raw().await;
        assert_eq!(raw.ask(&Raw::query("begin")).await, "C ZT");
        for shard in shards {
            let id = keys(*shard).nth(at.min(2)).unwrap();
            let add = format!("update accounts set amount = amount + 1 where id = {id}");
            assert_eq!(raw.ask(&Raw::query(&add)).await, "C ZT");
        }
        clients.push((raw, end, expected));
    }
    rig.proxy
        .rewrite(&Rig::config(&rig.shards, "columns = [\"tenant\"]"));
    rig.proxy.signal(Signal::HUP);
    rig.proxy.logged("configuration reloaded", 1).await;
    for (mut raw, end, expected) in clients {
        assert_eq!(raw.ask(&Raw::query(end)).await, expected, "{end}");
        if expected.ends_with("ZE") {
            assert_eq!(raw.ask(&Raw::query("rollback")).await, "C ZI");
        }
    }
    assert_eq!(sum(&rig, "select sum(amount) from accounts").await, 600);
}

#[tokio::test]
async fn what_was_planned_before_a_wait_for_a_shard_is_not_sent_behind_a_change() {
    let rig = Rig::new("").await;
    for shard in &rig.shards {
        let anew = "drop table accounts; \
                    create table accounts (note int, id bigint primary key, amount bigint)";
        shard.sql(anew).await;
    }
    let (taps, proxy) = tapped(&rig).await;
    let mut raw = Raw::login(proxy.port(), "app", "shop", &[]).await;
    let mut other = Raw::login(proxy.port(), "app", "shop", &[]).await;
    let warm = Raw::query("update accounts set amount = 0");
    for client in [&mut raw, &mut other] {
        assert_eq!(client.ask(&warm).await, "C ZI");
    }
    taps[1].arm(Rule {
        pattern: b"BEGIN\n; ",
        when: When::Before,
        fault: Fault::Pause,
    });
    let (one, two) = (key(0), key(1));
    let insert = format!("insert into accounts values ({one}, {two}), ({two}, {one})");
    raw.send(&Raw::query(&insert)).await;
    taps[1].hit().await;
    // What stood in front of the key is gone, and the key is what comes first.
    let alter = Raw::query("alter table accounts drop column note");
    assert_eq!(other.ask(&alter).await, "C ZI");
    taps[1].go_on();
    assert_eq!(raw.ask(&[]).await, "E40001 ZI");
    assert_eq!(sum(&rig, "select count(*) from accounts").await, 0);
    assert_eq!(raw.ask(&Raw::query(&insert)).await, "C ZI");
    for (shard, id) in rig.shards.iter().zip([one, two]) {
        let found = shard.sql("select id from accounts").await;
        assert_eq!(found, id.to_string());
    }
}

/// In a block over both, whatever way a statement goes.
#[tokio::test]
async fn a_client_that_would_decode_wrongly_is_told_in_a_block_of_both() {
    let rig = filled("").await;
    let texts = [
        "select * from accounts where id = $1",
        "select * from accounts where id > $1",
        "update accounts set amount = 1 where id > $1 returning *",
    ];
    let id = key(1).to_string();
    let run = |name: &str, most: u32| {
        let run = [
            Raw::bind("", name, &[&id]),
            Raw::execute("", most),
            Raw::sync(),
        ];
        run.concat()
    };
    let read = |shard: u16| {
        let id = key(shard);
        Raw::query(&format!("select amount from accounts where id = {id}"))
    };
    let mut clients = Vec::new();
    for (at, text) in texts.into_iter().enumerate() {
        for inside in [false, true] {
            let mut raw = rig.raw().await;
            let block = async |raw: &mut Raw| {
                assert_eq!(raw.ask(&Raw::query("begin")).await, "C ZT");
                for shard in [0, 1] {
                    assert_eq!(raw.ask(&read(shard)).await, "T D C ZT");
                }
            };
            if inside {
                block(&mut raw).await;
            }
            let prepared = [Raw::parse("s", text), Raw::describe('S', "s"), Raw::sync()];
            let status = if inside { 'T' } else { 'I' };
            let expected = format!("1 t T Z{status}");
            assert_eq!(raw.ask(&prepared.concat()).await, expected, "{text}");
            if inside {
                assert_eq!(raw.ask(&Raw::query("commit")).await, "C ZI");
            }
            for most in [0, 10] {
                if most > 0 && at > 1 {
                    // What is written is not shown in pieces.
                    continue;
                }
                block(&mut raw).await;
                let told = raw.ask(&run("s", most)).await;
                assert!(told.starts_with("2 D") && told.ends_with("C ZT"), "{told}");
                assert_eq!(raw.ask(&Raw::query("rollback")).await, "C ZI");
            }
            clients.push((raw, text, at));
        }
    }
    let mut other = rig.raw().await;
    let alter = Raw::query("alter table accounts drop column owner");
    assert_eq!(other.ask(&alter).await, "C ZI");
    for (mut raw, text, at) in clients {
        for most in [0, 10] {
            if most > 0 && at > 1 {
                continue;
            }
            assert_eq!(raw.ask(&Raw::query("begin")).await, "C ZT");
            for shard in [0, 1] {
                assert_eq!(raw.ask(&read(shard)).await, "T D C ZT");
            }
            assert_eq!(raw.ask(&run("s", most)).await, "E0A000 ZE", "{text}");
            assert_eq!(raw.ask(&Raw::query("rollback")).await, "C ZI");
        }
    }
}

/// The numbers of types that users have made are those of the shard that has told of them.
#[tokio::test]
async fn what_was_told_by_one_shard_runs_on_another_in_a_block_of_both() {
    let rig = filled("").await;
    for shard in &rig.shards {
        let types = "create type mood as enum ('sad', 'happy'); \
                     alter table accounts add mood mood default 'sad'";
        shard.sql(types).await;
    }
    let mut raw = rig.raw().await;
    let prepared = [
        Raw::parse("s", "select mood from accounts where id = $1"),
        Raw::describe('S', "s"),
        Raw::sync(),
    ];
    let read = |shard: u16| {
        let id = key(shard);
        Raw::query(&format!("select amount from accounts where id = {id}"))
    };
    assert_eq!(raw.ask(&Raw::query("begin")).await, "C ZT");
    for shard in [0, 1] {
        assert_eq!(raw.ask(&read(shard)).await, "T D C ZT");
    }
    assert_eq!(raw.ask(&prepared.concat()).await, "1 t T ZT");
    for shard in [1, 0] {
        let id = key(shard).to_string();
        let run = [Raw::bind("", "s", &[&id]), Raw::execute("", 0), Raw::sync()];
        assert_eq!(raw.ask(&run.concat()).await, "2 D C ZT");
    }
    assert_eq!(raw.ask(&Raw::query("commit")).await, "C ZI");
}

#[tokio::test]
async fn what_runs_in_no_block_runs_where_there_is_one_shard() {
    for (shards, expected) in [(1, "C ZI"), (2, "E0A000 ZI")] {
        let rig = Rig::of(shards, "").await;
        let mut raw = rig.raw().await;
        for text in [
            "create index concurrently by_owner on accounts (owner)",
            "create unique index concurrently by_name on countries (name)",
            // It is known at once.
            "insert into countries values ('xx', 'Austria') on conflict (name) do nothing",
            "drop index concurrently by_owner",
        ] {
            let is_row = text.starts_with("insert");
            let expected = if is_row && shards == 2 {
                "E42P10 ZI"
            } else {
                expected
            };
            assert_eq!(raw.ask(&Raw::query(text)).await, expected, "{text}");
        }
        let text = "create index concurrently on entries (n)";
        let bound = [part(text), Raw::sync()].concat();
        let told = raw.ask(&bound).await;
        assert!(told.ends_with(expected), "{told}");
        let indexes = "select count(*) from pg_indexes where schemaname = 'public'";
        let made = if shards == 1 { "5" } else { "3" };
        assert_eq!(rig.shards[0].sql(indexes).await, made);
        assert_eq!(raw.ask(&Raw::query("begin")).await, "C ZT");
        let told = raw.ask(&Raw::query(text)).await;
        let expected = ["E25001 ZE", "E0A000 ZE"][shards - 1];
        assert_eq!(told, expected);
        assert_eq!(raw.ask(&Raw::query("rollback")).await, "C ZI");
    }
}

#[tokio::test]
async fn a_lock_is_for_a_block() {
    let whole = Database::new().await;
    whole.sql(SCHEMA).await;
    for shards in [1, 2] {
        let rig = Rig::of(shards, "").await;
        let mut raw = rig.raw().await;
        let mut one = Raw::login(whole.port, "app", &whole.name, &[]).await;
        let lock = "lock table accounts in exclusive mode";
        for bytes in [
            Raw::query(lock),
            Raw::query("/* both */ LOCK accounts, countries"),
            [part(lock), Raw::sync()].concat(),
            [
                Raw::parse("", lock),
                Raw::bind("", "", &[]),
                Raw::describe('P', ""),
                Raw::execute("", 0),
                Raw::sync(),
            ]
            .concat(),
            Raw::query(&format!("select 1; {lock}")),
            Raw::query("begin"),
            Raw::query(lock),
            Raw::query("commit"),
        ] {
            let expected = one.ask(&bytes).await;
            let text = String::from_utf8_lossy(&bytes);
            assert_eq!(raw.ask(&bytes).await, expected, "{shards}: {text}");
        }
        assert_eq!(one.ask(&Raw::query(lock)).await, "E25P01 ZI");
    }
}
