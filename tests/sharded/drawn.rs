//! Rows whose key no value says: its default, or an expression.

use pgherd_tests::Raw;

use crate::rig::Rig;

const TABLE: &str = "create table notes (note uuid primary key default gen_random_uuid(), body varchar(5), \
                     made timestamptz not null default now(), n int default 7)";

async fn rig() -> (Rig, Raw) {
    let rig = Rig::new("columns = [\"note\"]").await;
    for shard in &rig.shards {
        shard.sql(TABLE).await;
    }
    let raw = rig.raw().await;
    (rig, raw)
}

/// How many rows each shard has, each of which is found by its key.
async fn counts(rig: &Rig, raw: &mut Raw) -> Vec<usize> {
    let mut counts = Vec::new();
    for shard in &rig.shards {
        let notes = shard.sql("select note from notes").await;
        counts.push(notes.lines().count());
        for note in notes.lines() {
            let found = format!("select count(*) from notes where note = '{note}'");
            assert_eq!(raw.one(&found).await, "1", "{note}");
        }
    }
    counts
}

/// What a statement returns: the first column of each row.
async fn returned(raw: &mut Raw, text: &str) -> Vec<String> {
    raw.send(&Raw::query(text)).await;
    let answer = raw.ready().await;
    assert!(answer.iter().all(|it| it.tag != 'E'), "{text}: {answer:?}");
    let rows = answer.iter().filter(|it| it.tag == 'D');
    rows.map(|row| row.columns()[0].clone()).collect()
}

#[tokio::test]
async fn rows_are_stored_where_their_drawn_keys_lead() {
    let (rig, mut raw) = rig().await;
    for _ in 0..20 {
        let insert = "insert into notes (body) values ('a') returning note";
        assert_eq!(raw.ask(&Raw::query(insert)).await, "T D C ZI");
    }
    let found = counts(&rig, &mut raw).await;
    assert_eq!(found.iter().sum::<usize>(), 20);
    assert!(found.iter().all(|count| *count > 0), "{found:?}");
    let several = "insert into notes (body, n) values ('b', 1), ('c', default), (null, '3') \
                   returning concat(body, n)";
    assert_eq!(returned(&mut raw, several).await, ["b1", "c7", "3"]);
    let moments = "select count(distinct made) from notes where n <> 7 or body = 'c'";
    assert_eq!(raw.one(moments).await, "1");
    for insert in [
        "insert into notes values (default, 'd', default, default)",
        "insert into notes default values",
        "insert into notes (note, body) values (gen_random_uuid(), 'd'), (default, 'd')",
        "insert into notes (body) select left(name, 5) from countries order by name",
    ] {
        assert_eq!(raw.ask(&Raw::query(insert)).await, "C ZI", "{insert}");
    }
    let found = counts(&rig, &mut raw).await;
    assert_eq!(found.iter().sum::<usize>(), 20 + 3 + 1 + 1 + 2 + 2);
}

#[tokio::test]
async fn parameters_blocks_and_conflicts_are_as_elsewhere() {
    let (rig, mut raw) = rig().await;
    let insert = "insert into notes (body, n) values ($1, $2) returning n";
    let prepared = [Raw::parse("s", insert), Raw::sync()].concat();
    assert_eq!(raw.ask(&prepared).await, "1 ZI");
    for _ in 0..3 {
        let executed = [
            Raw::bind("", "s", &["p", "5"]),
            Raw::execute("", 0),
            Raw::sync(),
        ];
        assert_eq!(raw.ask(&executed.concat()).await, "2 D C ZI");
    }
    let client = rig.client().await;
    client.batch_execute("begin").await.unwrap();
    for _ in 0..4 {
        let made = client.query_one(insert, &[&"t", &9]).await.unwrap();
        assert_eq!(made.get::<_, i32>(0), 9);
    }
    let seen = "select count(*) from notes where body = 't'";
    let seen = client.query_one(seen, &[]).await.unwrap();
    assert_eq!(seen.get::<_, i64>(0), 4);
    client.batch_execute("rollback").await.unwrap();
    let kept = counts(&rig, &mut raw).await;
    assert_eq!(kept.iter().sum::<usize>(), 3);
    let again = "insert into notes (body) values ('q') on conflict (note) do nothing";
    let told = raw.ask(&Raw::query(again)).await;
    assert!(["C ZI", "E0A000 ZI"].contains(&&*told), "{told}");
}

#[tokio::test]
async fn what_cannot_be_stored_is_told_as_by_postgres() {
    let (rig, mut raw) = rig().await;
    let mut direct = Raw::login(rig.shards[0].port, "app", &rig.shards[0].name, &[]).await;
    for insert in [
        "insert into notes (body) values ('too long')",
        "insert into notes (n) values ('x')",
        "insert into notes (n) values (true)",
        "insert into notes (n) values (1), (true)",
        "insert into notes (n, m) values (1, 2)",
        "insert into notes (n) values (1, 2)",
        "insert into notes (body, made) values ('a', null)",
        "insert into notes (note) values (null)",
        "insert into notes (n) values (1 / 0)",
    ] {
        let [one, other] = [
            direct.ask(&Raw::query(insert)).await,
            raw.ask(&Raw::query(insert)).await,
        ];
        assert_eq!(one, other, "{insert}");
        assert!(one.starts_with('E'), "{insert}: {one}");
    }
    assert_eq!(counts(&rig, &mut raw).await, [0, 0]);
}
