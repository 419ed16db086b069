//! Transactions over both shards: blocks, and writes that go to several of them.

use pgherd_tests::{Database, Message, Raw, connect, until};

use crate::rig::{Rig, key, keys, keys_of};

/// What both shards have together.
pub(crate) async fn sum(rig: &Rig, question: &str) -> i64 {
    let mut sum = 0;
    for shard in &rig.shards {
        sum += shard.sql(question).await.parse::<i64>().unwrap();
    }
    sum
}

/// Nothing is left prepared.
async fn nothing_is_left(rig: &Rig) {
    let names: Vec<String> = rig
        .shards
        .iter()
        .map(|shard| format!("'{}'", shard.name))
        .collect();
    let question = format!(
        "select count(*) from pg_prepared_xacts where database in ({})",
        names.join(",")
    );
    until("nothing is left prepared", async || {
        rig.shards[0].sql(&question).await == "0"
    })
    .await;
}

pub(crate) async fn filled(more: &str) -> Rig {
    let rig = Rig::new(more).await;
    for (at, shard) in (0..).zip(&rig.shards) {
        for id in keys(at).take(3) {
            shard
                .sql(&format!("insert into accounts values ({id}, 'x', 100)"))
                .await;
        }
    }
    rig
}

pub(crate) fn part(text: &str) -> Vec<u8> {
    let parts = [
        Raw::parse("", text),
        Raw::bind("", "", &[]),
        Raw::execute("", 0),
    ];
    parts.concat()
}

#[tokio::test]
async fn a_block_over_both_is_committed_or_rolled_back_as_one() {
    let rig = filled("").await;
    let mut raw = rig.raw().await;
    let take = format!(
        "update accounts set amount = amount - 10 where id = {}",
        key(0)
    );
    let give = format!(
        "update accounts set amount = amount + 10 where id = {}",
        key(1)
    );
    let amounts = async |expected: &str| {
        for (shard, expected) in rig.shards.iter().zip(expected.split(' ')) {
            let question = "select amount from accounts order by id limit 1";
            assert_eq!(shard.sql(question).await, expected);
        }
    };
    for text in ["begin", &take, &give] {
        assert_eq!(raw.ask(&Raw::query(text)).await, "C ZT", "{text}");
    }
    let read = format!("select amount from accounts where id = {}", key(0));
    assert_eq!(raw.one(&read).await, "90");
    assert_eq!(
        raw.ask(&Raw::query("select amount from accounts")).await,
        "T D D D D D D C ZT"
    );
    amounts("100 100").await;
    assert_eq!(raw.ask(&Raw::query("commit")).await, "C ZI");
    amounts("90 110").await;
    for text in ["begin", &take, &give, "rollback"] {
        raw.ask(&Raw::query(text)).await;
    }
    amounts("90 110").await;
    // An error on one of them is the end of all.
    for text in ["start transaction", &take, &give] {
        assert_eq!(raw.ask(&Raw::query(text)).await, "C ZT", "{text}");
    }
    let wrong = format!("select 1 / (id - id) from accounts where id = {}", key(1));
    assert_eq!(raw.ask(&Raw::query(&wrong)).await, "E22012 ZE");
    assert_eq!(raw.ask(&Raw::query(&take)).await, "E25P02 ZE");
    assert_eq!(raw.ask(&Raw::query("commit")).await, "C ZI");
    amounts("90 110").await;
    // In the extended protocol, with nothing but it.
    let all = [part("begin"), Raw::sync()].concat();
    assert_eq!(raw.ask(&all).await, "1 2 C ZT");
    for text in [&take, &give] {
        let all = [part(text), Raw::sync()].concat();
        assert_eq!(raw.ask(&all).await, "1 2 C ZT");
    }
    let all = [part("commit"), Raw::sync()].concat();
    assert_eq!(raw.ask(&all).await, "1 2 C ZI");
    amounts("80 120").await;
    nothing_is_left(&rig).await;
    assert_eq!(raw.one("select count(*) from countries").await, "2");
}

#[tokio::test]
async fn savepoints_and_settings_are_those_of_all() {
    let rig = filled("").await;
    let mut raw = rig.raw().await;
    let set =
        |id: i64, owner: &str| format!("update accounts set owner = '{owner}' where id = {id}");
    let who = |id: i64| {
        format!(
            "select owner || current_setting('app.x') || current_setting('work_mem') from accounts where id = {id}"
        )
    };
    let (first, second) = (key(0), key(1));
    for text in [
        "set app.x = '0'",
        "begin",
        &set(first, "a"),
        "set app.x = '1'",
        "set local work_mem = '1MB'",
        "savepoint s",
        "set app.x = '2'",
        &set(first, "b"),
        // Only now the other one comes to it, with both the setting and the savepoint.
        &set(second, "b"),
    ] {
        raw.ask(&Raw::query(text)).await;
    }
    assert_eq!(raw.one(&who(second)).await, "b21MB");
    assert_eq!(raw.ask(&Raw::query("select 1 / 0")).await, "E22012 ZE");
    assert_eq!(raw.ask(&Raw::query("savepoint t")).await, "E25P02 ZE");
    assert_eq!(raw.ask(&Raw::query("rollback to s")).await, "C ZT");
    assert_eq!(raw.one(&who(first)).await, "a11MB");
    assert_eq!(raw.one(&who(second)).await, "x11MB");
    assert_eq!(raw.ask(&Raw::query("release s")).await, "C ZT");
    assert_eq!(raw.ask(&Raw::query("set app.x = '3'")).await, "C ZT");
    assert_eq!(
        raw.ask(&Raw::query("set timezone = 'Asia/Tokyo'")).await,
        "C ZT"
    );
    assert_eq!(raw.ask(&Raw::query("commit")).await, "C ZI");
    for id in [first, second] {
        let read = format!(
            "select current_setting('app.x') || current_setting('timezone') from accounts where id = {id}"
        );
        assert_eq!(raw.one(&read).await, "3Asia/Tokyo");
    }
    // A rollback takes it back, and the client is told.
    for text in [
        "begin",
        &set(first, "q"),
        &set(second, "q"),
        "set app.x = '4'",
        "set timezone = 'UTC'",
    ] {
        raw.ask(&Raw::query(text)).await;
    }
    assert_eq!(raw.ask(&Raw::query("rollback")).await, "C ZI");
    for id in [first, second] {
        let read = format!(
            "select owner || current_setting('app.x') || current_setting('timezone') from accounts where id = {id}"
        );
        let owner = if id == first { "a" } else { "x" };
        assert_eq!(raw.one(&read).await, format!("{owner}3Asia/Tokyo"));
    }
}

#[tokio::test]
async fn writes_to_both_are_one() {
    let rig = filled("").await;
    let mut raw = rig.raw().await;
    let tag = async |raw: &mut Raw, text: &str| {
        raw.send(&Raw::query(text)).await;
        let messages = raw.ready().await;
        let done = messages
            .iter()
            .find(|it| it.tag == 'C')
            .map(|it| it.body.clone());
        String::from_utf8(done.unwrap_or_else(|| panic!("{text}: {messages:?}"))).unwrap()
    };
    assert_eq!(
        tag(&mut raw, "update accounts set amount = 7").await,
        "UPDATE 6\0"
    );
    assert_eq!(sum(&rig, "select sum(amount) from accounts").await, 42);
    // One that fails on one of them changes nothing on the other.
    let fails = format!("update accounts set amount = 1 / (id - {})", key(1));
    assert_eq!(raw.ask(&Raw::query(&fails)).await, "E22012 ZI");
    assert_eq!(sum(&rig, "select sum(amount) from accounts").await, 42);
    // Rows of both, given back in their order.
    let ids: Vec<i64> = (101..=112).collect();
    let values: Vec<String> = ids.iter().map(|id| format!("({id}, 'new')")).collect();
    let insert = format!(
        "insert into accounts values {} returning id",
        values.join(", ")
    );
    raw.send(&Raw::query(&insert)).await;
    let messages = raw.ready().await;
    let rows = messages.iter().filter(|message| message.tag == 'D');
    let given: Vec<i64> = rows.map(|row| row.columns()[0].parse().unwrap()).collect();
    assert_eq!(given, ids);
    assert_eq!(sum(&rig, "select count(*) from accounts").await, 18);
    assert_eq!(raw.ask(&Raw::query(&insert)).await, "E23505 ZI");
    let own = "delete from accounts where owner = 'new' returning id";
    raw.send(&Raw::query(own)).await;
    let tags: String = raw.ready().await.iter().map(|it| it.tag).collect();
    assert_eq!(tags, format!("T{}CZ", "D".repeat(12)));
    // What is the same everywhere stays so, and so do definitions.
    assert_eq!(
        tag(
            &mut raw,
            "insert into countries values ('ch', 'Switzerland')"
        )
        .await,
        "INSERT 0 1\0"
    );
    assert_eq!(sum(&rig, "select count(*) from countries").await, 6);
    assert_eq!(
        tag(&mut raw, "alter table accounts add column note text").await,
        "ALTER TABLE\0"
    );
    assert_eq!(
        tag(&mut raw, "update accounts set note = 'n'").await,
        "UPDATE 6\0"
    );
    // now() is one for all.
    assert_eq!(
        tag(&mut raw, "update accounts set note = now()::text").await,
        "UPDATE 6\0"
    );
    let notes = rig.shards[0]
        .sql("select distinct note from accounts")
        .await;
    assert_eq!(
        rig.shards[1]
            .sql("select distinct note from accounts")
            .await,
        notes
    );
    assert_eq!(tag(&mut raw, "truncate accounts").await, "TRUNCATE TABLE\0");
    assert_eq!(sum(&rig, "select count(*) from accounts").await, 0);
    nothing_is_left(&rig).await;
}

#[tokio::test]
async fn drivers_write_to_both() {
    let rig = filled("").await;
    let client = rig.client().await;
    let insert = "insert into accounts values ($1, $2), ($3, $4) returning id";
    let insert = client.prepare(insert).await.unwrap();
    let (first, second) = (keys(0).nth(10).unwrap(), keys(1).nth(10).unwrap());
    let rows = client
        .query(&insert, &[&second, &"two", &first, &"one"])
        .await
        .unwrap();
    let ids: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(ids, [second, first]);
    let changed = client
        .execute("update accounts set amount = $1", &[&5])
        .await
        .unwrap();
    assert_eq!(changed, 8);
    client.batch_execute("begin").await.unwrap();
    for id in [first, second] {
        let changed = client
            .execute(
                "update accounts set amount = amount + 1 where id = $1",
                &[&id],
            )
            .await;
        assert_eq!(changed.unwrap(), 1);
    }
    let rows = client
        .query("select id, amount from accounts where amount > $1", &[&5])
        .await;
    assert_eq!(rows.unwrap().len(), 2);
    let commit = client.prepare("commit").await.unwrap();
    client.execute(&commit, &[]).await.unwrap();
    assert_eq!(sum(&rig, "select sum(amount) from accounts").await, 42);
    client.batch_execute("begin").await.unwrap();
    let deleted = client
        .execute("delete from accounts where amount > $1", &[&0])
        .await;
    assert_eq!(deleted.unwrap(), 8);
    client.batch_execute("rollback").await.unwrap();
    assert_eq!(sum(&rig, "select count(*) from accounts").await, 8);
    nothing_is_left(&rig).await;
}

#[tokio::test]
async fn a_table_of_ours_on_one_of_them_is_no_difference() {
    let rig = Rig::new("").await;
    rig.shards[0]
        .sql(
            "create schema pgherd; create table pgherd.decisions (transaction text primary key, \
              committed boolean not null, decided timestamptz not null default now())",
        )
        .await;
    let mut raw = rig.raw().await;
    let insert = format!("insert into accounts values ({}), ({})", key(0), key(1));
    assert_eq!(raw.ask(&Raw::query(&insert)).await, "C ZI");
    assert_eq!(sum(&rig, "select count(*) from accounts").await, 2);
}

/// Both have a row that the other waits for then, on another server. One of them is told so, and the other commits.
pub(crate) async fn deadlock(one: &mut Raw, two: &mut Raw) {
    deadlock_by(one, two, [key(0), key(1)]).await;
}

/// The same by the rows with these keys.
async fn deadlock_by(one: &mut Raw, two: &mut Raw, [first, second]: [i64; 2]) {
    for (raw, mine) in [(&mut *one, first), (&mut *two, second)] {
        assert_eq!(raw.ask(&Raw::query("begin")).await, "C ZT");
        assert_eq!(raw.ask(&add(mine)).await, "C ZT");
    }
    // Each waits for the other, and no server sees it.
    let began = std::time::Instant::now();
    one.send(&add(second)).await;
    two.send(&add(first)).await;
    let (told, other) = tokio::join!(one.ask(&[]), two.ask(&[]));
    let took = began.elapsed();
    assert!(took.as_secs() < 8, "{took:?}");
    let (lost, won) = match (told.as_str(), other.as_str()) {
        ("E40P01 ZE", "C ZT") => (one, two),
        ("C ZT", "E40P01 ZE") => (two, one),
        ended => panic!("{ended:?}"),
    };
    // Although the other has not ended its block.
    assert_eq!(won.ask(&Raw::query("commit")).await, "C ZI");
    assert_eq!(lost.ask(&Raw::query("rollback")).await, "C ZI");
}

#[tokio::test]
async fn a_deadlock_over_both_ends_with_one_victim() {
    let rig = filled("").await;
    for round in 1..=2 {
        let (mut one, mut two) = (rig.raw().await, rig.raw().await);
        deadlock(&mut one, &mut two).await;
        // What the other has done is there, and nothing else.
        let changed = sum(&rig, "select sum(amount) from accounts").await;
        assert_eq!(changed, 600 + 2 * round);
    }
    nothing_is_left(&rig).await;
}

/// A shard that is away, and has no part in it, keeps nobody from seeing it.
#[tokio::test]
async fn a_deadlock_ends_while_another_shard_is_away() {
    let rig = Rig::of(3, "").await;
    let rows = [0, 1].map(|shard| keys_of(shard, 3).next().unwrap());
    let (mut one, mut two) = (rig.raw().await, rig.raw().await);
    let insert = format!("insert into accounts values ({}), ({})", rows[0], rows[1]);
    assert_eq!(one.ask(&Raw::query(&insert)).await, "C ZI");
    let away = &rig.shards[2].name;
    let take = format!(
        "alter database {away} with allow_connections false; \
         select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = '{away}'"
    );
    rig.shards[0].sql(&take).await;
    deadlock_by(&mut one, &mut two, rows).await;
}

/// What is prepared is held by no process, so that nobody would see who waits for that while its transaction waits for them.
#[tokio::test]
async fn a_commit_does_not_wait_for_a_lock_for_ever() {
    let rig = filled("").await;
    let mut raw = rig.raw().await;
    let refer = "alter table entries add foreign key (account) references accounts \
                 deferrable initially deferred";
    assert_eq!(raw.ask(&Raw::query(refer)).await, "C ZI");
    let (here, there) = (key(0), key(1));
    let holder = connect(&rig.shards[0].url("app")).await;
    let lock = format!("begin; select from accounts where id = {here} for update");
    holder.batch_execute(&lock).await.unwrap();
    assert_eq!(raw.ask(&Raw::query("begin")).await, "C ZT");
    let entry = format!("insert into entries values ({here}, 99, 'late')");
    assert_eq!(raw.ask(&Raw::query(&entry)).await, "C ZT");
    assert_eq!(raw.ask(&add(there)).await, "C ZT");
    assert_eq!(raw.ask(&Raw::query("commit")).await, "E55P03 ZI");
    holder.batch_execute("rollback").await.unwrap();
    assert_eq!(
        sum(&rig, "select count(*) from entries where n = 99").await,
        0
    );
    nothing_is_left(&rig).await;
}

/// Somebody waits for a lock on a shard.
async fn somebody_waits(shard: &Database) {
    let question = "select count(*) from pg_locks l join pg_stat_activity a using (pid) \
                    where not l.granted and a.datname = current_database()";
    until("somebody waits", async || shard.sql(question).await != "0").await;
}

fn add(id: i64) -> Vec<u8> {
    Raw::query(&format!(
        "update accounts set amount = amount + 1 where id = {id}"
    ))
}

#[tokio::test]
async fn a_deadlock_through_a_session_of_one_shard_costs_that_nothing() {
    let rig = filled("").await;
    let (x, y, z) = (key(0), key(1), keys(1).nth(1).unwrap());
    let (mut one, mut alone, mut two) = (rig.raw().await, rig.raw().await, rig.raw().await);
    for (raw, mine) in [(&mut one, x), (&mut alone, y), (&mut two, z)] {
        assert_eq!(raw.ask(&Raw::query("begin")).await, "C ZT");
        assert_eq!(raw.ask(&add(mine)).await, "C ZT");
    }
    alone.send(&add(z)).await;
    somebody_waits(&rig.shards[1]).await;
    two.send(&add(x)).await;
    somebody_waits(&rig.shards[0]).await;
    // It comes to a second shard last.
    assert_eq!(one.ask(&add(y)).await, "E40P01 ZE");
    assert_eq!(two.ask(&[]).await, "C ZT");
    assert_eq!(two.ask(&Raw::query("commit")).await, "C ZI");
    assert_eq!(alone.ask(&[]).await, "C ZT");
    assert_eq!(alone.ask(&Raw::query("commit")).await, "C ZI");
    assert_eq!(one.ask(&Raw::query("rollback")).await, "C ZI");
    let changed = sum(&rig, "select sum(amount) from accounts").await;
    assert_eq!(changed, 604);
}

#[tokio::test]
async fn a_savepoint_saves_what_a_victim_had_done_before_it() {
    let rig = filled("").await;
    let (x, y) = (key(0), key(1));
    let (mut one, mut two) = (rig.raw().await, rig.raw().await);
    for (raw, mine) in [(&mut one, x), (&mut two, y)] {
        assert_eq!(raw.ask(&Raw::query("begin")).await, "C ZT");
        assert_eq!(raw.ask(&add(mine)).await, "C ZT");
    }
    two.send(&add(x)).await;
    somebody_waits(&rig.shards[0]).await;
    assert_eq!(one.ask(&Raw::query("savepoint a")).await, "C ZT");
    // In the extended protocol it is no other.
    let bound = [
        Raw::parse("", "update accounts set amount = amount + 1 where id = $1"),
        Raw::bind("", "", &[&y.to_string()]),
        Raw::execute("", 0),
        Raw::sync(),
    ];
    let told = one.ask(&bound.concat()).await;
    assert!(told.ends_with("E40P01 ZE"), "{told}");
    assert_eq!(one.ask(&Raw::query("rollback to a")).await, "C ZT");
    assert_eq!(one.ask(&Raw::query("commit")).await, "C ZI");
    assert_eq!(two.ask(&[]).await, "C ZT");
    assert_eq!(two.ask(&Raw::query("commit")).await, "C ZI");
    let changed = sum(&rig, "select sum(amount) from accounts").await;
    assert_eq!(changed, 603);
    nothing_is_left(&rig).await;
}

#[tokio::test]
async fn who_only_waits_for_a_lock_is_no_victim() {
    let rig = filled("").await;
    let (mut one, mut two) = (rig.raw().await, rig.raw().await);
    let (first, second) = (key(0), key(1));
    let add = |ids: &str| format!("update accounts set amount = amount + 1 where id in ({ids})");
    let both = add(&format!("{first}, {second}"));
    for text in ["begin", &both] {
        assert_eq!(one.ask(&Raw::query(text)).await, "C ZT", "{text}");
    }
    // It holds a row of one shard, and waits on the other.
    let other = keys(0).nth(1).unwrap().to_string();
    for text in ["begin", &add(&other)] {
        assert_eq!(two.ask(&Raw::query(text)).await, "C ZT", "{text}");
    }
    two.send(&Raw::query(&add(&second.to_string()))).await;
    // By then it has looked twice for a deadlock.
    let held = tokio::time::timeout(std::time::Duration::from_secs(4), two.ask(&[])).await;
    assert!(held.is_err(), "{held:?}");
    assert_eq!(one.ask(&Raw::query("commit")).await, "C ZI");
    assert_eq!(two.ask(&[]).await, "C ZT");
    assert_eq!(two.ask(&Raw::query("commit")).await, "C ZI");
    let changed = sum(&rig, "select sum(amount) from accounts").await;
    assert_eq!(changed, 604);
}

#[tokio::test]
async fn without_two_phases_only_one_is_written_to() {
    let binaries = pgherd_sandbox::Binaries::find().unwrap();
    let server = pgherd_sandbox::Server::builder(&binaries)
        .settings(&[("max_prepared_transactions", "0")])
        .start()
        .await
        .unwrap();
    server.sql("create role app login superuser").await.unwrap();
    let mut places = Vec::new();
    for name in ["a", "b"] {
        server
            .sql(&format!("create database {name}"))
            .await
            .unwrap();
        server.sql_in(name, crate::rig::SCHEMA).await.unwrap();
        places.push((name.to_owned(), format!("127.0.0.1:{}", server.port())));
    }
    let proxy = pgherd_tests::Proxy::start(&crate::rig::config(&places, "")).await;
    let mut raw = Raw::login(proxy.port(), "app", "shop", &[]).await;
    let write = |id: i64| Raw::query(&format!("insert into accounts values ({id})"));
    let read = |id: i64| Raw::query(&format!("select * from accounts where id = {id}"));
    let (first, second) = (key(0), key(1));
    // Reading there is no write.
    assert_eq!(raw.ask(&Raw::query("begin")).await, "C ZT");
    assert_eq!(raw.ask(&read(second)).await, "T C ZT");
    assert_eq!(raw.ask(&write(first)).await, "C ZT");
    assert_eq!(raw.ask(&read(second)).await, "T C ZT");
    assert_eq!(raw.ask(&Raw::query("commit")).await, "C ZI");
    assert_eq!(raw.ask(&read(first)).await, "T D C ZI");
    assert_eq!(raw.ask(&Raw::query("begin")).await, "C ZT");
    assert_eq!(raw.ask(&write(keys(0).nth(1).unwrap())).await, "C ZT");
    assert_eq!(raw.ask(&write(second)).await, "E0A000 ZE");
    assert_eq!(raw.ask(&Raw::query("rollback")).await, "C ZI");
    // To notify others is to write, on the first.
    for text in ["notify c", "select pg_notify('c', 'x')"] {
        assert_eq!(raw.ask(&Raw::query("begin")).await, "C ZT");
        raw.ask(&Raw::query(text)).await;
        assert_eq!(raw.ask(&write(second)).await, "E0A000 ZE", "{text}");
        assert_eq!(raw.ask(&Raw::query("rollback")).await, "C ZI");
    }
    assert_eq!(
        raw.ask(&Raw::query("delete from accounts")).await,
        "E0A000 ZI"
    );
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_block_with_it() {
    let rig = filled("[pool]\nsize = 1").await;
    let mut raw = rig.raw().await;
    for text in ["begin", "update accounts set amount = 0"] {
        raw.ask(&Raw::query(text)).await;
    }
    drop(raw);
    let other = rig.client().await;
    // Each shard has one connection, which has to come back.
    let changed = other
        .execute("update accounts set amount = amount + 1", &[])
        .await;
    assert_eq!(changed.unwrap(), 6);
    assert_eq!(sum(&rig, "select sum(amount) from accounts").await, 606);
}

#[tokio::test]
async fn what_cannot_be_kept_over_both_is_refused() {
    let rig = filled("").await;
    let mut raw = rig.raw().await;
    let (first, second) = (key(0), key(1));
    let read = |id: i64| format!("select amount from accounts where id = {id}");
    for begin in [
        "begin isolation level repeatable read",
        "begin isolation level serializable",
    ] {
        assert_eq!(raw.ask(&Raw::query(begin)).await, "C ZT");
        assert_eq!(raw.ask(&Raw::query(&read(first))).await, "T D C ZT");
        assert_eq!(
            raw.ask(&Raw::query(&read(second))).await,
            "E0A000 ZE",
            "{begin}"
        );
        assert_eq!(raw.ask(&Raw::query("rollback")).await, "C ZI");
    }
    assert_eq!(raw.one(&read(first)).await, "100");
    for text in ["copy accounts (owner) from stdin", "commit and chain"] {
        raw.ask(&Raw::query("begin")).await;
        assert_eq!(raw.ask(&Raw::query(&read(first))).await, "T D C ZT");
        assert_eq!(raw.ask(&Raw::query(&read(second))).await, "T D C ZT");
        assert_eq!(raw.ask(&Raw::query(text)).await, "E0A000 ZE", "{text}");
        assert_eq!(raw.ask(&Raw::query("rollback")).await, "C ZI");
    }
}

#[tokio::test]
async fn what_keeps_a_block_on_its_shard_does_so_behind_a_savepoint() {
    let rig = filled("").await;
    let mut raw = rig.raw().await;
    let read = |id: i64| Raw::query(&format!("select amount from accounts where id = {id}"));
    let (first, second) = (key(0), key(1));
    let portal = [
        Raw::parse("", &format!("select id from accounts where id = {first}")),
        Raw::bind("p", "", &[]),
        Raw::sync(),
    ];
    let keeps = "begin isolation level repeatable read read only";
    for (begin, keeping, answer, expected) in [
        (keeps, Raw::query("show port"), "T D C ZT", "E0A000 ZE"),
        ("begin read only", portal.concat(), "1 2 ZT", "E25006 ZE"),
    ] {
        for text in [begin, "savepoint s"] {
            assert_eq!(raw.ask(&Raw::query(text)).await, "C ZT", "{text}");
        }
        assert_eq!(raw.ask(&read(first)).await, "T D C ZT", "{begin}");
        assert_eq!(raw.ask(&keeping).await, answer, "{begin}");
        assert_eq!(raw.ask(&read(second)).await, "E0A000 ZE", "{begin}");
        assert_eq!(raw.ask(&Raw::query("rollback to s")).await, "C ZT");
        assert_eq!(raw.ask(&add(second)).await, expected, "{begin}");
        assert_eq!(raw.ask(&Raw::query("rollback to s")).await, "C ZT");
        // On its own it goes on.
        assert_eq!(raw.ask(&read(first)).await, "T D C ZT", "{begin}");
        assert_eq!(raw.ask(&Raw::query("commit")).await, "C ZI");
    }
    for text in ["begin", "listen c", "savepoint s"] {
        assert_eq!(raw.ask(&Raw::query(text)).await, "C ZT", "{text}");
    }
    assert_eq!(raw.ask(&read(second)).await, "E0A000 ZE");
    assert_eq!(raw.ask(&Raw::query("rollback to s")).await, "C ZT");
    assert_eq!(raw.ask(&add(second)).await, "E0A000 ZE");
    assert_eq!(raw.ask(&Raw::query("rollback")).await, "C ZI");
    assert_eq!(sum(&rig, "select sum(amount) from accounts").await, 600);
}

/// Sends these texts, each list in the extended protocol with one Sync behind it, or a single one as a simple query;
/// none of them may fail.
async fn send(raw: &mut Raw, batches: &[&[&str]]) {
    for texts in batches {
        let message = match texts {
            [text] => Raw::query(text),
            _ => {
                let parts: Vec<Vec<u8>> = texts.iter().map(|text| part(text)).collect();
                [parts.concat(), Raw::sync()].concat()
            }
        };
        let answer = raw.ask(&message).await;
        assert!(!answer.contains('E'), "{texts:?}: {answer}");
    }
}

/// What each shard has for a setting that servers report is what the client was told, and this.
async fn style(rig: &Rig, raw: &mut Raw, expected: &str) {
    let read =
        |id: i64| format!("select current_setting('datestyle') from accounts where id = {id}");
    for shard in 0..2 {
        assert_eq!(raw.one(&read(key(shard))).await, expected);
        assert_eq!(raw.parameters["DateStyle"], expected);
    }
    // Nor has anybody else met it.
    let mut other = rig.raw().await;
    for shard in [0, 1, 0, 1] {
        assert_eq!(other.one(&read(key(shard))).await, "ISO, MDY");
    }
}

#[tokio::test]
async fn a_setting_that_is_reported_late_is_not_lost() {
    let rig = filled("").await;
    let read = |id: i64| format!("select amount from accounts where id = {id}");
    let (first, second) = (read(key(0)), read(key(1)));
    for (set, expected) in [
        ("set datestyle to 'SQL, MDY'", "SQL, MDY"),
        ("set local datestyle to 'SQL, MDY'", "ISO, MDY"),
    ] {
        // Servers report at the Sync, and the block comes to the other shard before.
        let mut raw = rig.raw().await;
        send(&mut raw, &[&["begin"], &[&first], &[set, &second]]).await;
        assert_eq!(raw.parameters["DateStyle"], "SQL, MDY");
        send(&mut raw, &[&["commit"]]).await;
        style(&rig, &mut raw, expected).await;
        send(&mut raw, &[&["reset datestyle"]]).await;
        style(&rig, &mut raw, "ISO, MDY").await;
    }
}

#[tokio::test]
async fn a_setting_that_an_error_takes_back_is_taken_back() {
    let rig = filled("").await;
    let read = |id: i64| format!("select amount from accounts where id = {id}");
    for failing in [key(0), key(1)] {
        let mut raw = rig.raw().await;
        let (first, second) = (read(key(0)), read(key(1)));
        send(&mut raw, &[&["begin"], &[&first], &[&second]]).await;
        let set = "set datestyle to 'SQL, MDY'";
        send(&mut raw, &[&["savepoint s"], &[set]]).await;
        // The server that fails goes back at once, and reports no more of it at the ROLLBACK TO.
        let fails = format!("select 1 / (amount - amount) from accounts where id = {failing}");
        assert_eq!(raw.ask(&Raw::query(&fails)).await, "E22012 ZE");
        send(&mut raw, &[&["rollback to s"]]).await;
        assert_eq!(raw.parameters["DateStyle"], "ISO, MDY");
        send(&mut raw, &[&["commit"]]).await;
        style(&rig, &mut raw, "ISO, MDY").await;
    }
}

#[tokio::test]
async fn what_ends_in_a_pipeline_is_not_taken_for_what_begins_there() {
    let rig = filled("").await;
    let add = |id: i64| format!("update accounts set amount = amount + 1 where id = {id}");
    let set = "set local datestyle to 'SQL, MDY'";
    let (first, second) = (add(key(0)), add(key(1)));
    // What the next block goes back to is what was set when it began.
    for ends in [
        &["commit", "begin"][..],
        &["rollback", "begin"],
        &["commit and chain"],
    ] {
        let mut raw = rig.raw().await;
        send(&mut raw, &[&["begin"], &[&first], &[set], ends]).await;
        send(&mut raw, &[&[&first], &[&second], &["rollback"]]).await;
        style(&rig, &mut raw, "ISO, MDY").await;
    }
    // Nor is a block taken to another shard that has ended.
    let mut raw = rig.raw().await;
    send(&mut raw, &[&["begin"], &[&first]]).await;
    let all = [part("commit"), part(&second), Raw::sync()].concat();
    assert_eq!(raw.ask(&all).await, "1 2 C 1 E0A000 ZI");
    send(&mut raw, &[&[&second]]).await;
}

#[tokio::test]
async fn set_local_outside_of_a_block_is_remarked_on() {
    let rig = filled("").await;
    let startup = [("application_name", "own")];
    let mut raw = Raw::login(rig.proxy.port(), "app", "shop", &startup).await;
    let set = "set local application_name to default";
    for (begin, remarks) in [("select 1", 1), ("begin", 0)] {
        raw.ask(&Raw::query(begin)).await;
        raw.send(&Raw::query(set)).await;
        let messages = raw.ready().await;
        let remarked = |message: &&Message| message.field('C').as_deref() == Some("25P01");
        let found = messages.iter().filter(remarked).count();
        assert_eq!(found, remarks, "{begin}: {messages:?}");
        assert_eq!(raw.one("show application_name").await, "own");
    }
}

#[tokio::test]
async fn behind_the_end_of_a_failed_block_nothing_is_failed() {
    let rig = filled("").await;
    let mut raw = rig.raw().await;
    let amount = |shard: u16| format!("select amount from accounts where id = {}", key(shard));
    for (end, state) in [("commit and chain", 'E'), ("rollback", 'I')] {
        assert_eq!(raw.ask(&Raw::query("begin")).await, "C ZT");
        assert_eq!(raw.ask(&Raw::query(&amount(0))).await, "T D C ZT");
        assert_eq!(raw.ask(&Raw::query("select 1 / 0")).await, "E22012 ZE");
        let pipeline = [part(end), part(&amount(1)), Raw::sync()].concat();
        let told = raw.ask(&pipeline).await;
        assert_eq!(told, format!("1 2 C 1 E0A000 Z{state}"), "{end}");
        raw.ask(&Raw::query("rollback")).await;
    }
}

#[tokio::test]
async fn rows_that_are_locked_on_both_are_committed_as_written_ones() {
    let rig = filled("").await;
    let mut raw = rig.raw().await;
    for text in [
        "select id from accounts for update",
        "select id from accounts for no key update",
        "select id from accounts for share",
    ] {
        assert_eq!(raw.ask(&Raw::query("begin")).await, "C ZT");
        assert_eq!(
            raw.ask(&Raw::query(text)).await,
            "T D D D D D D C ZT",
            "{text}"
        );
        assert_eq!(raw.ask(&Raw::query("commit")).await, "C ZI", "{text}");
    }
    nothing_is_left(&rig).await;
}

#[tokio::test]
async fn a_number_of_rows_is_not_heeded_where_none_come() {
    let rig = filled("").await;
    let mut raw = rig.raw().await;
    let some = |portal: &str, text: &str| {
        let parts = [
            Raw::parse("", text),
            Raw::bind(portal, "", &[]),
            Raw::execute(portal, 1),
        ];
        parts.concat()
    };
    let new: Vec<i64> = [0, 1].map(|shard| keys(shard).nth(9).unwrap()).into();
    let rows = format!(
        "insert into accounts (id) values ({}), ({})",
        new[0], new[1]
    );
    for (begin, status) in [("select 1", 'I'), ("begin", 'T')] {
        raw.ask(&Raw::query(begin)).await;
        for text in [
            "update accounts set amount = 7",
            &rows,
            "delete from accounts where amount = 0",
            "insert into countries values ('ch', 'Switzerland')",
            "delete from countries where code = 'ch'",
            "truncate entries",
        ] {
            let told = raw.ask(&[some("", text), Raw::sync()].concat()).await;
            assert_eq!(told, format!("1 2 C Z{status}"), "{text}");
        }
    }
    // What was bound by the same name before gives way, as far as it does on Postgres.
    for portal in ["", "p"] {
        for shard in [0, 0, 1, 1] {
            let one = format!("select id from accounts where id = {}", key(shard));
            let told = raw.ask(&[some(portal, &one), Raw::sync()].concat()).await;
            assert_eq!(told, "1 2 D s ZT", "{one}");
            let more = [Raw::execute(portal, 0), Raw::sync()].concat();
            assert_eq!(raw.ask(&more).await, "C ZT");
            if !portal.is_empty() {
                let close = [Raw::close('P', portal), Raw::sync()].concat();
                assert_eq!(raw.ask(&close).await, "3 ZT");
            }
        }
    }
    let own = format!("update accounts set amount = 8 where id = {}", key(0));
    for text in [
        own,
        format!("select id from accounts where id = {}", key(0)),
    ] {
        let told = raw.ask(&[some("", &text), Raw::sync()].concat()).await;
        assert!(told.ends_with("ZT"), "{text}: {told}");
    }
    assert_eq!(raw.ask(&Raw::query("commit")).await, "C ZI");
    assert_eq!(sum(&rig, "select sum(amount) from accounts").await, 43);
}
