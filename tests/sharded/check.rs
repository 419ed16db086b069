//! CHECK SHARDING: rows that were put wrongly by hand are found, and nothing else.

use pgherd_tests::{Client, Config, Database, Proxy, Raw, connect, until};

use crate::rig::{Rig, SCHEMA, key, keys};
use crate::transactions::filled;

const COLUMNS: [&str; 7] = [
    "table",
    "placement",
    "shard",
    "rows",
    "misplaced",
    "state",
    "detail",
];

/// What is told, each row in a line, without the names of the shards.
async fn told(console: &Client, shards: &[Database]) -> Vec<String> {
    let rows = console.rows("CHECK SHARDING shop", COLUMNS).await;
    let line = |row: &[String; 7]| {
        let mut line = row.join("|");
        for (at, shard) in shards.iter().enumerate() {
            line = line.replace(&shard.name, &format!("s{at}"));
        }
        line
    };
    rows.iter().map(line).collect()
}

async fn console(rig: &Rig) -> Client {
    connect(&rig.proxy.url("app", "pgherd")).await
}

const SOUND: [&str; 7] = [
    "public.elsewhere|NULL|NULL|NULL|NULL|remark|is placed nowhere",
    "public.accounts|by id|s0|3|0|ok|NULL",
    "public.accounts|by id|s1|3|0|ok|NULL",
    "public.countries|replicated|s0|2|NULL|ok|NULL",
    "public.countries|replicated|s1|2|NULL|ok|NULL",
    "public.entries|by account|s0|0|0|ok|NULL",
    "public.entries|by account|s1|0|0|ok|NULL",
];

/// Those lines of what is told that are not of what is sound.
async fn odd(console: &Client, shards: &[Database]) -> Vec<String> {
    let told = told(console, shards).await;
    let odd = |line: &String| !SOUND.contains(&line.as_str());
    told.into_iter().filter(odd).collect()
}

#[tokio::test]
async fn rows_on_a_wrong_shard_are_counted() {
    let rig = filled("").await;
    let mut console = console(&rig).await;
    assert_eq!(told(&console, &rig.shards).await, SOUND);
    let (lost, away) = (keys(0).nth(20).unwrap(), keys(1).nth(20).unwrap());
    let account = format!("insert into accounts values ({lost}, 'lost', 99)");
    rig.shards[1].sql(&account).await;
    let entries = format!(
        "insert into entries values ({away}, 1, 'away'), ({}, 1, 'here'), ({away}, 2, 'away')",
        key(0)
    );
    rig.shards[0].sql(&entries).await;
    let found = odd(&console, &rig.shards).await;
    let expected = [
        format!("public.accounts|by id|s1|4|1|misplaced|belong: 1 on s0; the first: id = {lost}"),
        format!(
            "public.entries|by account|s0|3|2|misplaced|belong: 2 on s1; the first: account = {away}"
        ),
    ];
    assert_eq!(found, expected);
    // What it comes to is a notice; the first is of the look at which all was sound.
    let mut notices = Vec::new();
    while notices.len() < 2 {
        if let Some(tokio_postgres::AsyncMessage::Notice(notice)) = console.message().await {
            notices.push((notice.severity().to_owned(), notice.message().to_owned()));
        }
    }
    let notice = |severity: &str, count| {
        let text =
            format!("shop: tables: 3, misplaced rows: {count}, differences: 0, not checked: 0");
        (severity.to_owned(), text)
    };
    assert_eq!(notices, [notice("NOTICE", 0), notice("WARNING", 3)]);
}

#[tokio::test]
async fn tables_of_which_each_shard_is_to_have_all_are_compared() {
    let rig = filled("").await;
    let console = console(&rig).await;
    // As many rows, and one of them another, in another order.
    let change = "update countries set name = 'Austria!' where code = 'at'";
    rig.shards[1].sql(change).await;
    let expected = ["public.countries|replicated|s1|2|NULL|differs|its rows are not those of s0"];
    assert_eq!(odd(&console, &rig.shards).await, expected);
    // While somebody writes to it, a difference may be one of these writes.
    let mut raw = rig.raw().await;
    for text in [
        "begin",
        "insert into countries values ('ch', 'Switzerland')",
    ] {
        assert_eq!(raw.ask(&Raw::query(text)).await, "C ZT");
    }
    let expected = [
        "public.countries|replicated|s1|2|NULL|not checked|it differed while it may have been \
         written to: canceling statement due to lock timeout",
    ];
    assert_eq!(odd(&console, &rig.shards).await, expected);
    assert_eq!(raw.ask(&Raw::query("rollback")).await, "C ZI");
    rig.shards[1]
        .sql("update countries set name = 'Austria' where code = 'at'")
        .await;
    assert_eq!(odd(&console, &rig.shards).await, [""; 0]);
}

#[tokio::test]
async fn what_of_the_schemas_differs_is_told() {
    let rig = filled("").await;
    let console = console(&rig).await;
    rig.shards[1].sql("alter table accounts add more int").await;
    rig.shards[1].sql("drop table entries").await;
    let found = odd(&console, &rig.shards).await;
    assert!(found.len() > 2, "{found:?}");
    let (last, rest) = found.split_last().unwrap();
    let entries = "public.entries|by account|s1|NULL|NULL|not checked|it is not there";
    assert_eq!(last, entries);
    for line in rest {
        assert!(
            line.starts_with("NULL|NULL|s1|NULL|NULL|differs|unlike s0: "),
            "{line}"
        );
    }
}

#[tokio::test]
async fn keys_that_no_shard_has_and_tables_of_one_shard() {
    let mut shards = Vec::new();
    for _ in 0..2 {
        let database = Database::new().await;
        database.sql(SCHEMA).await;
        database
            .sql(
                "create schema own; create table own.things (id int); \
                 create table \"Odd \"\"names\" (tenant text, n int); \
                 create table days (tenant text not null, day date)",
            )
            .await;
        shards.push(database);
    }
    let more = format!(
        "columns = [\"tenant\"]\nkey_type = \"text\"\nmethod = \"list\"\n\
         schemas = [{{ name = \"own\", shard = {:?} }}]\n\
         places = [{{ values = [\"a\", \"b\"], shard = {:?} }}, {{ values = [\"ä\"], shard = {:?} }}]",
        shards[1].name, shards[0].name, shards[1].name
    );
    shards[0]
        .sql("insert into own.things values (1), (2)")
        .await;
    shards[1].sql("insert into own.things values (3)").await;
    shards[0]
        .sql("insert into \"Odd \"\"names\" values ('a', 1), ('z', 2), (null, 3), ('ä', 4)")
        .await;
    shards[1].sql("insert into days values ('ä', now())").await;
    let proxy = Proxy::start(&Rig::config(&shards, &more)).await;
    let console = connect(&proxy.url("app", "pgherd")).await;
    let found = told(&console, &shards).await;
    for expected in [
        "own.things|on s1|s0|2|2|misplaced|belong: 2 on s1",
        "own.things|on s1|s1|1|0|ok|NULL",
        "public.Odd \"names|by tenant|s0|4|3|misplaced|belong: 1 on s1, 1 on none of the shards, \
         1 without a key; the first: tenant = z",
        "public.days|by tenant|s1|1|0|ok|NULL",
    ] {
        assert!(
            found.iter().any(|line| line == expected),
            "{expected}: {found:#?}"
        );
    }
}

/// How many of its queries wait on the shards.
async fn waiting(shards: &[Database]) -> usize {
    let question = "select count(*) from pg_stat_activity where application_name = 'pgherd check' \
         and wait_event_type = 'Lock' and datname = current_database()";
    let mut count = 0;
    for shard in shards {
        count += shard.sql(question).await.parse::<usize>().unwrap();
    }
    count
}

#[tokio::test]
async fn it_ends_in_time_and_when_it_is_called_off() {
    let rig = filled("").await;
    let holder = connect(&rig.shards[1].url("app")).await;
    holder
        .batch_execute("begin; lock table entries in access exclusive mode")
        .await
        .unwrap();
    let console = console(&rig).await;
    let rows = console.rows("CHECK SHARDING shop TIMEOUT 1", COLUMNS).await;
    let late = rows.iter().filter(|row| row[6] == "the time was up");
    assert!(
        late.clone().any(|row| row[2] == rig.shards[1].name),
        "{rows:?}"
    );
    assert!(late.clone().all(|row| row[5] == "not checked"), "{rows:?}");
    let gone = async || waiting(&rig.shards).await == 0;
    until("nothing of it is left on a server", gone).await;
    for leaves in [false, true] {
        let mut raw = Raw::login(rig.proxy.port(), "app", "pgherd", &[]).await;
        raw.send(&Raw::query("CHECK SHARDING shop")).await;
        let begun = async || waiting(&rig.shards).await == 1;
        until("it waits", begun).await;
        if leaves {
            drop(raw);
        } else {
            Raw::cancel(rig.proxy.port(), &raw.key).await;
            assert_eq!(raw.ask(&[]).await, "E57014 ZI");
            assert_eq!(raw.one("select 1").await, "1");
        }
        until("nothing of it is left on a server", gone).await;
    }
}

#[tokio::test]
async fn who_may_not_see_a_table_is_followed_by_others() {
    let rig = filled("").await;
    let place = |shard: &Database| {
        let (name, port) = (&shard.name, shard.port);
        format!("[databases.{name}]\nhosts = [\"127.0.0.1:{port}\"]\n")
    };
    let config = |users: &str| {
        let names: Vec<_> = rig
            .shards
            .iter()
            .map(|it| format!("{:?}", it.name))
            .collect();
        let places: String = rig.shards.iter().map(place).collect();
        Config::text(format!(
            "[listen]\naddresses = [\"127.0.0.1:{{port}}\"]\n[auth]\nmethod = \"trust\"\n\
             [users.other]\npassword = \"other\"\nconsole = \"admin\"\n{users}{places}\
             [databases.shop]\nshards = [{}]\n[databases.shop.sharding]\n{}\n",
            names.join(", "),
            crate::rig::SHARDING
        ))
    };
    let alone = Proxy::start(&config("")).await;
    let console = connect(&alone.url("other", "pgherd")).await;
    let found = told(&console, &rig.shards).await;
    let denied = found
        .iter()
        .filter(|line| line.ends_with("|not checked|permission denied for table accounts"));
    assert_eq!(denied.count(), 2, "{found:#?}");
    let both = Proxy::start(&config("[users.app]\npassword = \"app\"\n")).await;
    let console = connect(&both.url("other", "pgherd")).await;
    assert_eq!(told(&console, &rig.shards).await, SOUND);
    assert_eq!(console.refused("CHECK SHARDING nowhere").await.0, "3D000");
}
