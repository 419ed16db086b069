//! Reads whose rows are brought to one of the shards, which answers as one Postgres would.

use std::fmt::Write as _;

use pgherd_tests::{Database, Message, Proxy, Raw, connect, until};

use crate::rig::{Rig, SCHEMA, key, keys};

/// On each shard, six accounts and as many entries of each other's owners.
pub(crate) async fn filled(more: &str) -> Rig {
    let rig = Rig::new(more).await;
    filled_shards(&rig.shards).await;
    rig
}

pub(crate) async fn filled_shards(shards: &[Database]) {
    for (at, shard) in (0..).zip(shards) {
        for (n, id) in keys(at).take(6).enumerate() {
            let amount = n * 2 + usize::from(at);
            let (mine, other) = (amount % 4, 11 - amount);
            shard
                .sql(&format!(
                    "insert into accounts values ({id}, 'o{mine}', {amount});
                     insert into entries values ({id}, {n}, 'o{other}')"
                ))
                .await;
        }
    }
}

pub(crate) fn rows(messages: &[Message]) -> String {
    let mut shown = String::new();
    for message in messages {
        match message.tag {
            'D' => {
                let _ = write!(shown, "{} ", message.columns().join(","));
            }
            'E' => {
                let _ = write!(shown, "E{} ", message.field('C').unwrap_or_default());
            }
            _ => {}
        }
    }
    shown.trim_end().to_owned()
}

/// The query in both protocols.
pub(crate) fn forms(text: &str) -> [Vec<u8>; 2] {
    let extended = [
        Raw::parse("", text),
        Raw::bind("", "", &[]),
        Raw::describe('P', ""),
        Raw::execute("", 0),
        Raw::sync(),
    ];
    [Raw::query(text), extended.concat()]
}

/// Nothing of ours is left on the shards' connections.
pub(crate) async fn nothing_is_left(rig: &Rig) {
    for shard in &rig.shards {
        until("no transaction is open", async || {
            let open = "select count(*) from pg_stat_activity where datname = current_database()
                 and usename = 'app' and state <> 'idle'";
            shard.sql(open).await == "0"
        })
        .await;
        let tables = "select count(*) from pg_class where relname like 'pgherd%'";
        assert_eq!(shard.sql(tables).await, "0");
    }
}

#[tokio::test]
async fn what_a_table_of_ours_cannot_have_is_refused_as_such() {
    let mut shards = Vec::new();
    for _ in 0..2 {
        let database = Database::new().await;
        let schema = format!(
            "{SCHEMA} create table notes (id int primary key, k bigint not null, what text,
                 a text collate \"C\", b text collate \"POSIX\");"
        );
        database.sql(&schema).await;
        shards.push(database);
    }
    let config = Rig::config(&shards, "columns = [\"k\"]");
    let proxy = Proxy::start(&config).await;
    let rig = Rig { shards, proxy };
    for (at, shard) in (0..).zip(&rig.shards) {
        let key = key(at);
        let rows = format!(
            "insert into notes values ({at}, {key}, 'w', 'a', 'b');
             insert into entries values ({key}, 1, 'w')"
        );
        shard.sql(&rows).await;
    }
    let mut raw = rig.raw().await;
    for (text, expected, in_block) in [
        // The key by which rows are placed is not in the primary key.
        (
            "select n.id, n.what, count(*) from notes n join entries e on e.what = n.what
             group by n.id order by 1",
            "E0A000",
            "E0A000",
        ),
        (
            "select n.id, n.what, count(*) from notes n join entries e on e.what = n.what
             group by n.id, n.what order by 1",
            "0,w,2 1,w,2",
            "0,w,2 1,w,2",
        ),
        // The statement itself is wrong.
        (
            "select e.n, count(*) from accounts a join entries e on e.what = a.owner
             group by a.owner",
            "E42803",
            "E42803",
        ),
        // Whose collation it has is not certain, and nobody asks.
        (
            "select a || b, row_number() over (order by id) from notes",
            "E0A000",
            "ab,1 ab,2",
        ),
        ("select count(*) from notes where a < b", "E42P22", "E42P22"),
    ] {
        for bytes in forms(text) {
            raw.send(&bytes).await;
            assert_eq!(rows(&raw.ready().await), expected, "{text}");
            raw.ask(&Raw::query("begin")).await;
            raw.send(&bytes).await;
            assert_eq!(rows(&raw.ready().await), in_block, "in a block: {text}");
            raw.ask(&Raw::query("rollback")).await;
        }
    }
    nothing_is_left(&rig).await;
}

pub(crate) const JOIN: &str =
    "select a.amount, e.n from accounts a join entries e on e.what = a.owner
     where a.amount < 4 order by 1, 2";

#[tokio::test]
async fn tables_are_joined_windowed_and_looked_up_over_all_shards() {
    let rig = filled("").await;
    let mut raw = rig.raw().await;
    for (text, expected) in [
        (JOIN, "0,5 1,5 2,4 3,4"),
        (
            "select amount, row_number() over (order by amount) from accounts
             where amount > 8 order by 1",
            "9,1 10,2 11,3",
        ),
        (
            "select amount, (select count(*) from entries e where e.what = a.owner)
             from accounts a where amount in (0, 1) order by 1",
            "0,1 1,1",
        ),
        // The key is what groups the rest.
        (
            "select a.owner, count(e.n) from accounts a left join entries e on e.what = a.owner
             group by a.id having a.amount < 3 order by a.amount",
            "o0,1 o1,1 o2,1",
        ),
        // One table has no rows that count, wherever.
        (
            "select a.amount, e.n from accounts a left join entries e
             on e.what = a.owner and e.account is null where a.amount < 2 order by 1",
            "0,NULL 1,NULL",
        ),
        // One time for all.
        (
            "select count(*) from accounts a join entries e on e.what = a.owner
             where now() > timestamptz '2000-01-01'",
            "12",
        ),
    ] {
        for bytes in forms(text) {
            raw.send(&bytes).await;
            assert_eq!(rows(&raw.ready().await), expected, "{text}");
        }
    }
    nothing_is_left(&rig).await;
    // Not as a part of anything else.
    for (text, expected) in [(
        "update accounts a set amount = 0 from entries e where e.what = a.owner".to_owned(),
        "E0A000",
    )] {
        raw.send(&Raw::query(&text)).await;
        assert_eq!(rows(&raw.ready().await), expected, "{text}");
    }
}

#[tokio::test]
async fn parameters_and_results_are_in_binary() {
    let rig = filled("").await;
    let client = rig.client().await;
    // Each of the parameters is in another text.
    let text = "select e.what, a.amount, (a.amount + $3)::bigint as more from accounts a
         join entries e on e.what = a.owner where a.amount >= $1 and e.n > $2 order by a.amount";
    let prepared = client.prepare(text).await.unwrap();
    for (from, expected) in [(1_i32, vec![1, 2, 3]), (2, vec![2, 3])] {
        let found = client
            .query(&prepared, &[&from, &3_i32, &10_i32])
            .await
            .unwrap();
        let amounts: Vec<i32> = found.iter().map(|row| row.get(1)).collect();
        assert_eq!(amounts[..expected.len()], expected);
        for (row, amount) in found.iter().zip(amounts) {
            assert_eq!(row.get::<_, i64>(2), i64::from(amount) + 10);
        }
    }
    nothing_is_left(&rig).await;
}

#[tokio::test]
async fn all_carriers_together_have_a_limit() {
    let rig = filled("[limits]\nmax_combined_rows = 8").await;
    let mut raw = rig.raw().await;
    let all = "select count(*) from accounts a join entries e on e.what = a.owner";
    for bytes in forms(all) {
        raw.send(&bytes).await;
        assert_eq!(rows(&raw.ready().await), "E53400");
    }
    raw.send(&Raw::query(&format!("{all} where a.amount < 4")))
        .await;
    assert_eq!(rows(&raw.ready().await), "4");
    nothing_is_left(&rig).await;
}

/// Waits until somebody waits for a lock in the shard's database.
pub(crate) async fn waits(rig: &Rig, shard: usize) {
    until("the shard waits for the lock", async || {
        let waiting = "select count(*) from pg_stat_activity where datname = current_database()
             and usename = 'app' and wait_event_type = 'Lock'";
        rig.shards[shard].sql(waiting).await == "1"
    })
    .await;
}

/// Ends the one server that is busy so, and waits until it is gone.
pub(crate) async fn terminate(shard: &Database, busy: &str) {
    let pid = format!(
        "select pid from pg_stat_activity
         where datname = current_database() and pid <> pg_backend_pid() and {busy}"
    );
    let pid = shard.sql(&pid).await;
    shard
        .sql(&format!("select pg_terminate_backend({pid})"))
        .await;
    until("it is gone", async || {
        let left = format!("select count(*) from pg_stat_activity where pid = {pid}");
        shard.sql(&left).await == "0"
    })
    .await;
}

/// What a server is busy with that waits for a lock.
pub(crate) const WAITS: &str = "wait_event_type = 'Lock'";

pub(crate) const LOCK: &str = "begin; lock entries in access exclusive mode";

#[tokio::test]
async fn what_is_brought_of_a_shard_is_of_one_moment() {
    let rig = filled("").await;
    let text = "select e.what from accounts a right join entries e on a.owner = e.what
         where e.what = 'new' and a.id is null";
    for (at, number) in [(0, 90), (1, 91)] {
        let writer = connect(&rig.shards[usize::from(at)].url("postgres")).await;
        for (round, bytes) in forms(text).into_iter().enumerate() {
            writer.simple_query(LOCK).await.unwrap();
            let mut raw = rig.raw().await;
            raw.send(&bytes).await;
            waits(&rig, usize::from(at)).await;
            let id = keys(at).nth(number + round).unwrap();
            let both = format!(
                "insert into accounts values ({id}, 'new'); insert into entries values ({id}, 1, 'new');
                 commit"
            );
            writer.simple_query(&both).await.unwrap();
            assert_eq!(rows(&raw.ready().await), "");
            let undo = format!(
                "delete from accounts where id = {id}; delete from entries where account = {id}"
            );
            writer.simple_query(&undo).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_shard_may_wait_for_the_slowest() {
    let rig = filled("").await;
    let mut raw = rig.raw().await;
    let short = "set idle_in_transaction_session_timeout = '100ms'";
    assert_eq!(raw.ask(&Raw::query(short)).await, "C ZI");
    let writer = connect(&rig.shards[0].url("postgres")).await;
    writer.simple_query(LOCK).await.unwrap();
    raw.send(&Raw::query(JOIN)).await;
    waits(&rig, 0).await;
    until("the other shard has waited for long", async || {
        let idle = "select count(*) from pg_stat_activity where datname = current_database()
             and state = 'idle in transaction' and state_change < now() - interval '300 ms'";
        rig.shards[1].sql(idle).await == "1"
    })
    .await;
    writer.simple_query("rollback").await.unwrap();
    assert_eq!(rows(&raw.ready().await), "0,5 1,5 2,4 3,4");
}

#[tokio::test]
async fn a_shard_a_cancel_or_a_client_that_ends_leaves_nothing_behind() {
    let rig = filled("[pool]\nsize = 1").await;
    let ok = "0,5 1,5 2,4 3,4";
    for at in 0..2 {
        let writer = connect(&rig.shards[at].url("postgres")).await;
        for bytes in forms(JOIN) {
            let mut raw = rig.raw().await;
            for kills in [false, true] {
                writer.simple_query(LOCK).await.unwrap();
                raw.send(&bytes).await;
                waits(&rig, at).await;
                let expected = if kills {
                    // Once is made up for.
                    terminate(&rig.shards[at], WAITS).await;
                    waits(&rig, at).await;
                    terminate(&rig.shards[at], WAITS).await;
                    "E08006"
                } else {
                    Raw::cancel(rig.proxy.port(), &raw.key).await;
                    "E57014"
                };
                assert_eq!(rows(&raw.ready().await), expected);
                writer.simple_query("rollback").await.unwrap();
                nothing_is_left(&rig).await;
                raw.send(&bytes).await;
                assert_eq!(rows(&raw.ready().await), ok);
            }
            writer.simple_query(LOCK).await.unwrap();
            raw.send(&bytes).await;
            waits(&rig, at).await;
            drop(raw);
            nothing_is_left(&rig).await;
            writer.simple_query("rollback").await.unwrap();
        }
    }
}

#[tokio::test]
async fn rows_do_not_come_that_cannot_count_by_what_came_before() {
    let rig = filled("[limits]\nmax_combined_rows = 20").await;
    for (at, shard) in (0..).zip(&rig.shards) {
        let id = keys(at).nth(7).unwrap();
        let many =
            format!("insert into entries select {id}, n, 'many' from generate_series(100, 299) n");
        shard.sql(&many).await;
    }
    let mut raw = rig.raw().await;
    for (text, expected) in [
        (
            "select a.amount, e.n from entries e join accounts a on a.amount = e.n
             where a.amount > 3 order by 1",
            "4,4 4,4 5,5 5,5",
        ),
        (
            "select a.amount, (select count(*) from entries e where e.n = a.amount)
             from accounts a where a.amount < 2 order by 1",
            "0,2 1,2",
        ),
        (
            "select a.amount, e.n from accounts a left join entries e on e.n = a.amount
             where a.amount in (5, 6) order by 1, 2",
            "5,5 5,5 6,NULL",
        ),
        (
            "select e.n from entries e, accounts a where a.amount = e.n and a.amount > 50",
            "",
        ),
        // Here all of them would have to come.
        (
            "select count(*) from entries e, accounts a where a.amount < e.n and a.amount > 9",
            "E53400",
        ),
    ] {
        for bytes in forms(text) {
            raw.send(&bytes).await;
            assert_eq!(rows(&raw.ready().await), expected, "{text}");
        }
    }
    nothing_is_left(&rig).await;
}
