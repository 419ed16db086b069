//! Statements that have a key run on its shard, in either protocol, alone and in blocks.

use pgherd_tests::Raw;

use crate::rig::{Rig, key, keys};

#[tokio::test]
async fn rows_are_where_their_keys_say() {
    let rig = Rig::new("").await;
    let client = rig.client().await;
    for id in 1..=20 {
        let insert = format!("insert into accounts values ({id}, 'owner {id}')");
        client.simple_query(&insert).await.unwrap();
    }
    for (at, shard) in rig.shards.iter().enumerate() {
        let found = shard.sql("select id from accounts order by id").await;
        let expected: Vec<String> = keys(u16::try_from(at).unwrap())
            .take_while(|id| *id <= 20)
            .map(|id| id.to_string())
            .collect();
        assert_eq!(found, expected.join("\n"));
    }
    for id in 1..=20 {
        let select = format!("select owner from accounts where id = {id}");
        assert_eq!(client.one(&select).await, format!("owner {id}"));
    }
    let update = format!("update accounts set amount = 7 where id = {}", key(1));
    client.simple_query(&update).await.unwrap();
    let joined = format!(
        "select a.amount || c.name from accounts a, countries c where a.id = {} and c.code = 'at'",
        key(1)
    );
    assert_eq!(client.one(&joined).await, "7Austria");
    let delete = format!("delete from accounts where id = {}", key(1));
    client.simple_query(&delete).await.unwrap();
    let gone = format!("select count(*) from accounts where id = {}", key(1));
    assert_eq!(client.one(&gone).await, "0");
}

#[tokio::test]
async fn a_block_stays_on_its_shard() {
    let rig = Rig::new("").await;
    let (first, second) = (key(0), key(1));
    let mut raw = rig.raw().await;
    for id in [second, first] {
        let insert = format!("insert into accounts values ({id}, 'x')");
        assert_eq!(raw.ask(&Raw::query("begin")).await, "C ZT");
        assert_eq!(raw.ask(&Raw::query(&insert)).await, "C ZT");
        let read = "select count(*) from countries";
        assert_eq!(raw.one(read).await, "2");
        assert_eq!(raw.ask(&Raw::query("commit")).await, "C ZI");
    }
    // One for the other shard takes the block there, too, and so does one for both.
    let here = format!("update accounts set owner = 'y' where id = {first}");
    let there = format!("update accounts set owner = 'y' where id = {second}");
    for text in ["begin", &here, &there, "update accounts set amount = 1"] {
        assert_eq!(raw.ask(&Raw::query(text)).await, "C ZT", "{text}");
    }
    // What cannot be planned fails it, and nothing of it stays.
    let refused = "select * from elsewhere";
    assert_eq!(raw.ask(&Raw::query(refused)).await, "E0A000 ZE");
    assert_eq!(raw.ask(&Raw::query(&here)).await, "E25P02 ZE");
    assert_eq!(raw.ask(&Raw::query("select 1")).await, "E25P02 ZE");
    assert_eq!(raw.ask(&Raw::query("commit")).await, "C ZI");
    for id in [first, second] {
        let owner = format!("select owner from accounts where id = {id}");
        assert_eq!(raw.one(&owner).await, "x");
    }
    // So does one that is refused before a server is there.
    assert_eq!(raw.ask(&Raw::query("begin")).await, "C ZT");
    assert_eq!(raw.ask(&Raw::query(refused)).await, "E0A000 ZE");
    assert_eq!(raw.ask(&Raw::query(&here)).await, "E25P02 ZE");
    assert_eq!(raw.ask(&Raw::query("rollback")).await, "C ZI");
}

/// One plan does for texts that differ in their literals; what it does not fit goes its own way, and nobody is
/// told anything else for that.
#[tokio::test]
async fn literals_are_read_as_by_postgres() {
    let rig = Rig::new("").await;
    let client = rig.client().await;
    for id in 1..=20 {
        for id in [id, -id] {
            let insert = format!("insert into accounts values ({id}, 'owner {id}')");
            client.simple_query(&insert).await.unwrap();
        }
    }
    for id in 1..=20 {
        for (key, found) in [
            (format!("{id}"), id),
            (format!("{id} and 7 = 7"), id),
            (format!("'{id}'"), id),
            (format!("' {id} '"), id),
            (format!("{id}::int"), id),
            (format!("0{id}"), id),
            (format!("{id}.0"), id),
            (format!("e'{id}'"), id),
            (format!("bigint '{id}'"), id),
            (format!("-{id}"), -id),
            (format!("- {id}"), -id),
            (format!("'-{id}'"), -id),
            (format!("0 + {id}"), id),
            (format!("{id} /* 7 */ -- = 8"), id),
        ] {
            let select = format!("select owner from accounts where id = {key}");
            // What cannot be read is of both shards, and put together.
            assert_eq!(client.one(&select).await, format!("owner {found}"), "{key}");
        }
    }
    for (key, code) in [("'x'", "22P02"), ("99999999999::int", "22003")] {
        let select = format!("select owner from accounts where id = {key}");
        assert_eq!(client.refused(&select).await.0, code, "{key}");
    }
}

/// What was known of a text is not known any more once the session or the schema says something else.
#[tokio::test]
async fn a_text_that_is_known_means_what_the_session_says() {
    let rig = Rig::new("").await;
    let (first, second) = (key(0), key(1));
    let client = rig.client().await;
    for id in [first, second] {
        let insert = format!("insert into accounts values ({id}, 'x')");
        client.simple_query(&insert).await.unwrap();
    }
    let select = |id: i64| format!("select count(*) from accounts where id = {id}");
    for id in [first, second, first] {
        assert_eq!(client.one(&select(id)).await, "1");
    }
    client
        .simple_query("set search_path = pg_catalog")
        .await
        .unwrap();
    for id in [first, second] {
        client.refused(&select(id)).await;
    }
    client.simple_query("reset search_path").await.unwrap();
    for id in [first, second] {
        assert_eq!(client.one(&select(id)).await, "1");
    }
    let more = |id: i64| format!("select more from accounts where id = {id}");
    for id in [first, second] {
        assert_eq!(client.refused(&more(id)).await.0, "42703");
    }
    client
        .simple_query("alter table accounts add column more int default 7")
        .await
        .unwrap();
    for id in [first, second] {
        assert_eq!(client.one(&more(id)).await, "7");
    }
}

fn bind(statement: &str, binary: &[u8]) -> Vec<u8> {
    let mut body = format!("\0{statement}\0").into_bytes();
    body.extend([0, 1, 0, 1, 0, 1]);
    body.extend(u32::try_from(binary.len()).unwrap().to_be_bytes());
    body.extend(binary);
    body.extend([0, 0]);
    Raw::framed(b'B', &body)
}

#[tokio::test]
async fn a_prepared_statement_runs_on_the_shard_of_its_parameter() {
    let rig = Rig::new("").await;
    let (first, second) = (key(0), key(1));
    for (shard, id) in rig.shards.iter().zip([first, second]) {
        let insert = format!("insert into accounts values ({id}, current_database())");
        shard.sql(&insert).await;
    }
    let mut raw = rig.raw().await;
    let text = "select owner from accounts where id = $1";
    let prepare = [Raw::parse("s", text), Raw::describe('S', "s"), Raw::sync()].concat();
    assert_eq!(raw.ask(&prepare).await, "1 t T ZI");
    for _ in 0..3 {
        for (shard, id) in rig.shards.iter().zip([first, second]) {
            let texts = Raw::bind("", "s", &[&id.to_string()]);
            for bind in [texts, bind("s", &id.to_be_bytes())] {
                let run = [bind, Raw::execute("", 0), Raw::sync()].concat();
                raw.send(&run).await;
                let messages = raw.ready().await;
                let row = messages.iter().find(|message| message.tag == 'D');
                assert_eq!(
                    row.unwrap().columns(),
                    std::slice::from_ref(&shard.name),
                    "{messages:?}"
                );
            }
        }
    }
    // Unnamed, in one request; and both in one pipeline, which is one transaction.
    let unnamed = |id: i64| {
        let parse = Raw::parse("", text);
        [
            parse,
            Raw::bind("", "", &[&id.to_string()]),
            Raw::execute("", 0),
        ]
        .concat()
    };
    for id in [first, second, first] {
        let request = [unnamed(id), Raw::sync()].concat();
        assert_eq!(raw.ask(&request).await, "1 2 D C ZI");
    }
    let both = [unnamed(first), unnamed(second), Raw::sync()].concat();
    assert_eq!(raw.ask(&both).await, "1 2 D C 1 2 D C ZI");
    let apart = [unnamed(first), Raw::sync(), unnamed(second), Raw::sync()].concat();
    assert_eq!(raw.ask(&apart).await, "1 2 D C ZI");
    assert_eq!(raw.ask(&[]).await, "1 2 D C ZI");
}

#[tokio::test]
async fn simple_queries_in_one_write_are_led_one_by_one() {
    let rig = Rig::new("").await;
    let mut raw = rig.raw().await;
    let insert = |id: i64| Raw::query(&format!("insert into accounts values ({id}, 'x')"));
    let ids: Vec<i64> = (1..=12).collect();
    let all: Vec<u8> = ids.iter().flat_map(|id| insert(*id)).collect();
    raw.send(&all).await;
    for _ in &ids {
        assert_eq!(raw.ask(&[]).await, "C ZI");
    }
    let mut found = 0;
    for shard in &rig.shards {
        let count = shard.sql("select count(*) from accounts").await;
        found += count.parse::<usize>().unwrap();
        assert_ne!(count, "0");
    }
    assert_eq!(found, ids.len());
}

#[tokio::test]
async fn a_pipeline_sees_the_search_path_that_it_sets() {
    let rig = Rig::new("").await;
    for shard in &rig.shards {
        shard
            .sql("create schema odd; create table odd.accounts (id bigint primary key)")
            .await;
    }
    let mut raw = rig.raw().await;
    assert_eq!(
        raw.one("select count(*) from accounts where id = 1").await,
        "0"
    );
    // That table is not placed by anything, so what reads it is refused.
    let part = |text: &str| {
        [
            Raw::parse("", text),
            Raw::bind("", "", &[]),
            Raw::execute("", 0),
        ]
        .concat()
    };
    let select = "select count(*) from accounts where id = 1";
    let request = [part("set search_path = odd"), part(select), Raw::sync()].concat();
    assert_eq!(raw.ask(&request).await, "1 2 C E0A000 ZI");
    assert_eq!(raw.one(select).await, "0");
    assert_eq!(
        raw.ask(&Raw::query("set search_path = odd, public")).await,
        "C ZI"
    );
    assert_eq!(raw.ask(&Raw::query(select)).await, "E0A000 ZI");
    assert_eq!(raw.ask(&Raw::query("reset search_path")).await, "C ZI");
    assert_eq!(raw.one(select).await, "0");
}

#[tokio::test]
async fn a_pipeline_sees_the_search_path_that_is_taken_back() {
    let rig = Rig::new("").await;
    for shard in &rig.shards {
        shard
            .sql("create schema odd; create table odd.accounts (id bigint primary key)")
            .await;
    }
    let mut raw = rig.raw().await;
    let part = |text: &str| {
        [
            Raw::parse("", text),
            Raw::bind("", "", &[]),
            Raw::execute("", 0),
        ]
        .concat()
    };
    let select = "select count(*) from accounts where id = 1";
    // What is set without a Sync holds for a simple query behind it.
    let request = [part("set search_path = odd"), Raw::query(select)].concat();
    assert_eq!(raw.ask(&request).await, "1 2 C E0A000 ZI");
    assert_eq!(raw.ask(&Raw::query("reset search_path")).await, "C ZI");
    // And what a ROLLBACK in the pipeline has taken back does not hold behind it.
    assert_eq!(raw.ask(&Raw::query("set search_path = odd")).await, "C ZI");
    assert_eq!(raw.ask(&Raw::query("begin")).await, "C ZT");
    assert_eq!(
        raw.ask(&Raw::query("set search_path = public")).await,
        "C ZT"
    );
    let request = [part("rollback"), part(select), Raw::sync()].concat();
    assert_eq!(raw.ask(&request).await, "1 2 C E0A000 ZI");
}

#[tokio::test]
async fn many_clients_never_see_anothers_rows_or_settings() {
    let rig = Rig::new("[pool]\nsize = 3").await;
    let mut clients = Vec::new();
    for number in 0..24_i64 {
        let client = rig.client().await;
        clients.push(tokio::spawn(async move {
            let zone = format!("Etc/GMT+{}", number % 12);
            let set = format!("set timezone = '{zone}'");
            client.simple_query(&set).await.unwrap();
            let statement =
                "insert into entries values ($1, $2, current_setting('timezone')) returning what";
            let insert = client.prepare(statement).await.unwrap();
            for n in 0..20_i32 {
                // On this shard and on that.
                let account = number * 100 + i64::from(n);
                let row = client.query_one(&insert, &[&account, &n]).await.unwrap();
                assert_eq!(row.get::<_, String>(0), zone);
                let read = format!("select what || n from entries where account = {account}");
                assert_eq!(client.one(&read).await, format!("{zone}{n}"));
            }
        }));
    }
    for client in clients {
        client.await.unwrap();
    }
    let mut all = 0;
    for shard in &rig.shards {
        let count = shard.sql("select count(*) from entries").await;
        all += count.parse::<usize>().unwrap();
    }
    assert_eq!(all, 24 * 20);
}
