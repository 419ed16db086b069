//! Rows that go to other shards: an UPDATE of their keys, and `INSERT … SELECT`. Each statement does, and says, what it does
//! on one Postgres with all rows.

mod met;

use pgherd_tests::{Database, Message, Raw, connect};

use crate::pull::{forms, nothing_is_left};
use crate::rig::{Rig, SCHEMA, key, keys};

const TABLES: &str = "
    create type mood as enum ('sad', 'glad');
    create domain small as int check (value < 1000);
    create table things (tenant bigint primary key, n int generated always as identity,
        twice int generated always as (n * 2) stored, word varchar(5), feel mood, tags text[], at timestamptz,
        size small, body jsonb, fixed char(3), price numeric(8,2), weight float8, kept text default 'kept',
        constraint sane check (word <> 'bad'));
    create table parts (tenant bigint not null references things, n int not null, country text references countries,
        before int, primary key (tenant, n), foreign key (tenant, before) references parts);
    create table owners (tenant bigint primary key, name text unique);
    create table visits (tenant bigint not null references owners on delete cascade, n int);
    create table labels (tenant bigint primary key, word text unique);
    create table stuck (tenant bigint not null, word text references labels (word), n int);";

/// Both shards, and one Postgres with all rows.
struct Sides {
    rig: Rig,
    whole: Database,
}

/// A key of each shard, by the name of which it is one: `a3` is the fourth of the first.
fn keyed(text: &str) -> String {
    let mut text = text.to_owned();
    for at in (0..10).rev() {
        for (shard, name) in [(0, 'a'), (1, 'b')] {
            let id = keys(shard).nth(at).unwrap().to_string();
            text = text.replace(&format!("{{{name}{at}}}"), &id);
        }
    }
    text
}

impl Sides {
    async fn new(more: &str) -> Self {
        let more = format!("columns = [\"tenant\"]\n{more}");
        let rig = Rig::new(&more).await;
        let whole = Database::new().await;
        whole.sql(SCHEMA).await;
        for database in rig.shards.iter().chain([&whole]) {
            database.sql(TABLES).await;
        }
        let sides = Self { rig, whole };
        for shard in 0..2 {
            for (at, id) in (0..5).zip(keys(shard)) {
                let rows = format!(
                    "insert into things (tenant, n, word, feel, tags, at, size, body, fixed, price, weight)
                         overriding system value
                         values ({id}, {at}, 'w{id}', 'sad', '{{a,NULL,\"b c\"}}', '2026-01-0{}', {at}, '{{\"k\": {id}}}', 'f',
                                 {at}.25, {at} / 3.0);
                     insert into parts values ({id}, 1, 'at', null), ({id}, 2, null, 1), ({id}, 3, 'de', 2);
                     insert into owners values ({id}, 'o{id}');
                     insert into visits values ({id}, 1);
                     insert into labels values ({id}, 'l{id}');
                     insert into stuck values ({id}, 'l{id}', 1);
                     insert into accounts values ({id}, 'x{id}', {at})",
                    at + 1,
                );
                sides.rig.shards[usize::from(shard)].sql(&rows).await;
                sides.whole.sql(&rows).await;
            }
        }
        sides
    }

    /// All rows of a table, sorted; each shard has only its own.
    async fn rows(&self, table: &str) -> (Vec<String>, Vec<String>) {
        let question = format!("select t::text from {table} t");
        let lines = |text: String| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let mut whole = lines(self.whole.sql(&question).await);
        let mut all = Vec::new();
        for (at, shard) in (0..).zip(&self.rig.shards) {
            let key = if table == "accounts" { "id" } else { "tenant" };
            for id in lines(shard.sql(&format!("select {key} from {table}")).await) {
                let id = id.parse::<i64>().unwrap();
                assert!(
                    keys(at).take_while(|it| *it <= id).any(|it| it == id),
                    "{table}: {id} on {at}"
                );
            }
            all.extend(lines(shard.sql(&question).await));
        }
        whole.sort();
        all.sort();
        (whole, all)
    }

    async fn same(&self, text: &str) {
        for table in [
            "things", "parts", "owners", "visits", "labels", "stuck", "accounts",
        ] {
            let (whole, all) = self.rows(table).await;
            assert_eq!(all, whole, "{table} behind {text}");
        }
    }

    async fn ends(&self) -> (Raw, Raw) {
        let whole = Raw::login(self.whole.port, "app", &self.whole.name, &[]).await;
        (self.rig.raw().await, whole)
    }
}

/// The columns, the rows in any order, how it completed, and what was wrong.
fn told(messages: &[Message]) -> Vec<String> {
    let mut told = Vec::new();
    let mut rows = Vec::new();
    for message in messages {
        match message.tag {
            'T' => {
                let mut rest = &message.body[2..];
                while let Some(end) = rest.iter().position(|byte| *byte == 0) {
                    told.push(String::from_utf8_lossy(&rest[..end]).into_owned());
                    rest = &rest[end + 19..];
                }
            }
            'D' => rows.push(message.columns().join("|")),
            'C' => told.push(String::from_utf8_lossy(&message.body).into_owned()),
            'E' => {
                let field = |name| message.field(name).unwrap_or_default();
                told.push(format!("{} {} {}", field('C'), field('M'), field('D')));
            }
            'Z' => told.push(String::from_utf8_lossy(&message.body).into_owned()),
            _ => {}
        }
    }
    rows.sort();
    told.extend(rows);
    told
}

/// Runs texts on both sides, in either protocol; each must say and leave the same.
async fn both(texts: &[&str]) {
    for form in 0..2 {
        let sides = Sides::new("").await;
        let (mut here, mut there) = sides.ends().await;
        for text in texts {
            let text = keyed(text);
            for raw in [&mut here, &mut there] {
                raw.send(&forms(&text)[form]).await;
            }
            let (given, expected) = (here.ready().await, there.ready().await);
            assert_eq!(told(&given), told(&expected), "{text}");
            if given.last().unwrap().body == b"I" {
                sides.same(&text).await;
            }
        }
        drop(here);
        nothing_is_left(&sides.rig).await;
    }
}

#[tokio::test]
async fn a_row_moves_to_the_shard_of_its_new_key() {
    both(&[
        "update parts set tenant = {b0}, n = n + 10, before = before + 10 where tenant = {a0}",
        "update things set tenant = {b9} where tenant = {a0}",
        "update things set tenant = {a9}, word = upper(word), feel = 'glad', tags = tags || '{x,NULL}', \
         at = at + interval '1 day', price = 1.005, weight = weight / 7, body = body || '{\"z\": [1, null]}', fixed = 'z', \
         size = size + 1, kept = default where tenant = {b9} returning *",
        "update things t set tenant = {b9}, word = null, body = to_jsonb(t.tenant) where t.tenant = {a9} \
         returning t.tenant, t.n + 1 as next, twice, word is null as none, body",
        "update things set tenant = {a9}, word = (select min(code) from countries), \
         price = (select count(*) from parts p where p.tenant = things.tenant) where tenant = {b9} returning word, price",
        "update things set tenant = {b9}::bigint, kept = 'it''s' where tenant = {a9} and n < 0 returning tenant",
        "update things set tenant = '{b9}', kept = 'it''s' where tenant = {a9} and n >= 0",
        "update accounts set id = {b8}, amount = amount + 1, owner = null where id = {a1} returning *",
        "update parts set tenant = {b9} where tenant = {a1} and n < 3 returning n",
        "update parts set tenant = {b9}, before = null where tenant = {a1} and n = 3 returning n",
        // The same shard, both ways.
        "update things set tenant = {b8} where tenant = {b9} and false",
    ])
    .await;
}

#[tokio::test]
async fn what_one_postgres_refuses_is_refused_as_there() {
    both(&[
        // It is there already; rows refer to it; it refers to none; it is no such row.
        "update accounts set id = {b1} where id = {a1}",
        "update things set tenant = {b9} where tenant = {a1}",
        "update parts set tenant = {b9} where tenant = {a1}",
        "update parts set tenant = {b1}, n = 20, before = 99 where tenant = {a1} and n = 3",
        "update parts set tenant = {b1}, n = 20, before = null, country = 'xx' where tenant = {a1} and n = 3",
        "update parts set tenant = {b1}, before = null, n = null where tenant = {a1} and n = 3",
        "update accounts set id = {b9}, amount = null where id = {a1}",
        "update accounts set id = {b9}, amount = 1 / (amount - amount) where id = {a1}",
        "update accounts set id = {b9}, amount = 99999999999 where id = {a1}",
        "update accounts set id = {b9}, amount = 'x' where id = {a1}",
        "update accounts set id = {b9}, amount = owner where id = {a1}",
        "update accounts set id = {b9}, amount = now() where id = {a1}",
        "update accounts set id = {b9}, amount = 1, amount = 2 where id = {a1}",
        "update accounts set id = {b9} where id = {a1} and owner",
        "begin",
        "delete from parts where tenant = {a1}",
        "savepoint s",
        "update things set tenant = {b9}, word = 'bad' where tenant = {a1}",
        "rollback to s",
        "update things set tenant = {b9}, word = 'toolong' where tenant = {a1}",
        "rollback to s",
        "update things set tenant = {b9}, size = size + 1000 where tenant = {a1}",
        "rollback to s",
        "update things set tenant = {b9}, n = 5 where tenant = {a1}",
        "rollback to s",
        "update things set tenant = {b9}, twice = 5 where tenant = {a1}",
        "rollback to s",
        "update things set tenant = {b9}, feel = 'none' where tenant = {a1}",
        "rollback to s",
        "update things set tenant = {b9}, price = 10000000 where tenant = {a1}",
        "rollback to s",
        "update things set tenant = {b9} where tenant = {a1} returning n",
        "select tenant, n from things where tenant = {b9}",
        "rollback",
        "begin read only",
        "update accounts set id = {b9} where id = {a1}",
        "rollback",
    ])
    .await;
}

#[tokio::test]
async fn a_block_sees_what_it_has_moved() {
    both(&[
        "begin",
        "update accounts set id = {b9}, amount = amount + 7 where id = {a1}",
        "select owner, amount from accounts where id = {b9}",
        "select count(*) from accounts",
        "savepoint s",
        "update accounts set id = {a9} where id = {b9} returning amount",
        "update accounts set amount = 0 where id = {a9}",
        "rollback to s",
        "update accounts set id = {a8}, owner = owner || '!' where id = {b9} returning owner",
        "commit",
        "begin",
        "update accounts set id = {b9} where id = {a8}",
        "rollback",
        "update accounts set id = {b9} where id = {a8} returning amount",
    ])
    .await;
}

#[tokio::test]
async fn rows_of_a_query_are_stored_where_they_belong() {
    both(&[
        "insert into accounts select tenant + 100, word, n from things",
        "insert into accounts (amount, id, owner) select n, tenant * 10 + 500, null from parts where n = 1 \
         returning id, owner, amount",
        "insert into accounts (id, owner) select 1000 + ascii(name), code from countries",
        "insert into accounts (id, owner) select id + 2000, 'all' from accounts where id < 10 order by amount, id limit 4 \
         returning id",
        "insert into accounts select max(id) + 1, min(owner), sum(amount) from accounts",
        "insert into accounts (id, owner) select 3000, 'one' from accounts where id = {a1} returning *",
        "insert into accounts (id, owner) select id + 100, 'again' from accounts where id < 20 \
         on conflict (id) do update set owner = excluded.owner || accounts.owner, amount = accounts.amount + 1",
        "insert into accounts (id, owner) select id + 100, 'never' from accounts where id < 30 on conflict do nothing",
        "insert into things (tenant, word, feel, tags, at, size, body, fixed, price, weight, n) overriding system value \
         select tenant + 200, upper(word), 'glad', tags, at, size, body, fixed, price, weight, n from things \
         returning tenant, twice, feel, tags, body, kept",
        "insert into parts (tenant, n, country) select t.tenant, 70 + p.n, c.code from things t, parts p, countries c \
         where t.tenant > 200 and p.n = 1 and p.tenant = {a1} and c.code = 'at' returning tenant, n",
        "insert into parts (tenant, n) select tenant + 200, n + 80 from parts where tenant < 0",
        "insert into labels with w as (select tenant + 300 as t, name from owners) select t, name from w returning *",
        "insert into labels select tenant + 400, 'n' || tenant from owners union all select tenant + 500, word || 'u' from things",
        "insert into accounts (id, owner) select g, 'g' || g from generate_series(9000, 9030) g returning owner",
        "begin",
        "update accounts set amount = 99 where id = {b1}",
        "insert into accounts (id, amount) select id + 5000, amount from accounts where amount = 99 returning id - 5000 as old",
        "select count(*), sum(amount) from accounts where id > 5000",
        "rollback",
        // What one Postgres refuses.
        "insert into accounts select tenant + 0, word, n from things where tenant = {b1}",
        "insert into accounts select tenant + 6000, word, null from things where tenant = {b1}",
        "insert into accounts select tenant + 6000, word, 'x' from things",
        "insert into accounts select tenant + 6000, word, word from things",
        "insert into accounts (id) select tenant + 6000, word from things",
        "insert into accounts (id, amount) select tenant + 6000, 1 / (n - n) from things",
        "insert into things (tenant, n, word) overriding system value select tenant + 6000, n, 'toolong' from things",
        "insert into things (tenant, n) select tenant + 6000, n from things",
        "insert into parts (tenant, n) select tenant + 6000, n from parts where tenant = {b1} and n = 1",
        "insert into accounts (id) select 6000 + tenant % 2 from things on conflict (id) do update set amount = 1",
    ])
    .await;
}

#[tokio::test]
async fn rows_are_changed_that_rows_of_other_shards_find() {
    both(&[
        "delete from accounts where amount in (select n from parts where country = 'at') returning id",
        "update accounts set owner = owner || '!', amount = amount + 10 where amount = (select max(n) from things) returning *",
        "update accounts a set amount = 0 where not exists (select from things t where t.n = a.amount)",
        "delete from parts p where before in (select n from things where tenant = {b2}) and n = 3 returning tenant, n",
        "update things t set word = 'least' where price = (select min(price) from things) and now() > '2000-01-01' returning word",
        "delete from accounts where amount > (select sum(amount) from accounts) returning id",
        "begin",
        "update things set price = 77 where tenant = {a3}",
        "update accounts set owner = 'rich' where amount < (select max(price) from things where price > 70) returning owner",
        "savepoint s",
        "delete from accounts where amount in (select count(*) - 20 from parts)",
        "delete from things where n in (select amount from accounts)",
        "rollback to s",
        "commit",
        // What one Postgres refuses.
        "delete from accounts where amount in (select country from parts)",
        "update accounts set amount = 'x' where amount in (select n from parts)",
        "update accounts set amount = null where amount in (select n from things where n = 3) and id = {a3}",
        "begin read only",
        "delete from accounts where amount in (select n from things)",
        "rollback",
        "start transaction read only",
        "update accounts set amount = 5 where amount in (select n from things)",
        "rollback",
    ])
    .await;
}

#[tokio::test]
async fn rows_that_others_change_meanwhile_are_found_anew() {
    let sides = Sides::new("").await;
    let (mut one, _) = sides.ends().await;
    let (mut other, _) = sides.ends().await;
    let first = keyed("update accounts set amount = 50 where id = {a1}");
    let delete = "delete from accounts where amount in (select n from parts where country = 'at')";
    assert_eq!(one.ask(&Raw::query("begin")).await, "C ZT");
    assert_eq!(one.ask(&Raw::query(&first)).await, "C ZT");
    other.send(&Raw::query(delete)).await;
    let waits = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()";
    pgherd_tests::until("it waits", async || {
        sides.rig.shards[0].sql(waits).await == "1"
    })
    .await;
    assert_eq!(one.ask(&Raw::query("commit")).await, "C ZI");
    assert_eq!(told(&other.ready().await), ["DELETE 1\0", "I"]);
    sides.whole.sql(&first).await;
    sides.whole.sql(delete).await;
    sides.same(delete).await;
}

#[tokio::test]
async fn values_are_bound_in_binary() {
    let sides = Sides::new("").await;
    let here = sides.rig.client().await;
    let there = connect(&sides.whole.url("app")).await;
    let (a1, b9) = (keys(0).nth(1).unwrap(), keys(1).nth(9).unwrap());
    let mut given = Vec::new();
    for client in [&here, &there] {
        let moved = client
            .query(
                "update accounts set id = $1, amount = amount + $2, owner = $3 where id = $4 returning id, owner, amount",
                &[&b9, &7_i32, &"moved", &a1],
            )
            .await
            .unwrap();
        let moved: Vec<(i64, String, i32)> = moved
            .iter()
            .map(|row| (row.get(0), row.get(1), row.get(2)))
            .collect();
        let dealt = client
            .query(
                "insert into accounts (id, owner, amount) select tenant + $1, $2, n * $3 from things where n < $3 \
                 returning id, owner, amount",
                &[&7_000_i64, &"dealt", &3_i32],
            )
            .await
            .unwrap();
        let mut dealt: Vec<(i64, String, i32)> = dealt
            .iter()
            .map(|row| (row.get(0), row.get(1), row.get(2)))
            .collect();
        dealt.sort();
        let now = "insert into accounts (id, owner) select tenant + $1, (now() > $2)::text from things returning owner";
        let year = std::time::SystemTime::UNIX_EPOCH;
        let now = client.query(now, &[&8_000_i64, &year]).await.unwrap().len();
        given.push((moved, dealt, now));
    }
    assert_eq!(given[0], given[1]);
    assert_eq!(given[0].0, [(b9, "moved".to_owned(), 8)]);
    sides.same("parameters").await;
    // A key that is none.
    let update = here
        .prepare("update accounts set id = $1 where id = $2")
        .await
        .unwrap();
    let refused = here
        .execute(&update, &[&None::<i64>, &b9])
        .await
        .unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "23502");
}

#[tokio::test]
async fn what_would_come_out_otherwise_is_refused() {
    let sides = Sides::new("").await;
    let (mut raw, _) = sides.ends().await;
    for text in [
        "update accounts set id = {b9} where id in ({a1}, {b1})",
        "update accounts set id = {b9}, amount = random() * 5 where id = {a1}",
        "update accounts set id = {b9}, amount = c.amount from accounts c where accounts.id = {a1} and c.id = {a2}",
        "update accounts set id = {b9} where id = {a1} returning (select count(*) from countries)",
        "with w as (select 1) update accounts set id = {b9} where id = {a1}",
        // Rows follow it, or are bound to what stays the same.
        "update owners set tenant = {b9} where tenant = {a1}",
        "update labels set tenant = {b9} where tenant = {a1}",
        // It refers to what is not where it comes to.
        "update stuck set tenant = {b9} where tenant = {a1}",
        "insert into accounts (id, owner) select tenant + 100, random()::text from things",
        "insert into accounts (id) select tenant + 100 from things on conflict do nothing returning id",
        "insert into accounts (id) select tenant + 100 from things returning (select count(*) from countries)",
        "insert into accounts (id) select (tenant + 100)::numeric from things",
        "insert into accounts (owner) select word from things",
    ] {
        for bytes in forms(&keyed(text)) {
            let told = raw.ask(&bytes).await;
            assert!(told.ends_with("E0A000 ZI"), "{text}: {told}");
        }
    }
    let null = "insert into accounts (id) select null::bigint from things";
    assert_eq!(raw.ask(&Raw::query(null)).await, "E23502 ZI");
    sides.same("what was refused").await;
    nothing_is_left(&sides.rig).await;
}

#[tokio::test]
async fn it_takes_the_rights_of_one_postgres_and_more_or_nothing_is_done() {
    let sides = Sides::new("[users.other]\npassword = \"other\"").await;
    let text = format!(
        "update accounts set id = {} where id = {}",
        keys(1).nth(9).unwrap(),
        keys(0).nth(1).unwrap()
    );
    let mut raw = Raw::login(sides.rig.proxy.port(), "other", "shop", &[]).await;
    for (grants, expected) in [("select, insert, delete", "E42501 ZI"), ("update", "C ZI")] {
        for shard in &sides.rig.shards {
            shard
                .sql(&format!(
                    "grant {grants} on accounts to other; grant create on database {} to other",
                    shard.name
                ))
                .await;
        }
        assert_eq!(raw.ask(&Raw::query(&text)).await, expected, "{grants}");
    }
    for shard in &sides.rig.shards {
        shard.sql("revoke delete on accounts from other").await;
    }
    let back = format!(
        "update accounts set id = {} where id = {}",
        keys(0).nth(1).unwrap(),
        keys(1).nth(9).unwrap()
    );
    assert_eq!(raw.ask(&Raw::query(&back)).await, "E0A000 ZI");
}

#[tokio::test]
async fn no_more_is_kept_than_may_be() {
    let sides = Sides::new("[limits]\nmax_combined_rows = 3").await;
    let (mut raw, _) = sides.ends().await;
    let insert = "insert into accounts (id) select tenant + 100 from things";
    assert_eq!(raw.ask(&Raw::query(insert)).await, "E53400 ZI");
    sides.same(insert).await;
    let some = "insert into accounts (id) select tenant + 100 from things where n = 1";
    assert_eq!(raw.ask(&Raw::query(some)).await, "C ZI");
    for n in 4..6 {
        let text = keyed(&format!("insert into parts values ({{a1}}, {n})"));
        assert_eq!(raw.ask(&Raw::query(&text)).await, "C ZI");
    }
    let update =
        keyed("update parts set tenant = {b1}, n = n + 50, before = null where tenant = {a1}");
    assert_eq!(raw.ask(&Raw::query(&update)).await, "E53400 ZI");
}

#[tokio::test]
async fn how_rows_move_is_explained() {
    let sides = Sides::new("").await;
    let (mut raw, _) = sides.ends().await;
    for (text, expected) in [
        (
            format!(
                "explain update accounts set id = {} where id = {}",
                key(1),
                key(0)
            ),
            &[
                "Move: rows are taken",
                "Plan on shard 0",
                "Delete on accounts",
            ][..],
        ),
        (
            "explain insert into accounts (id) select tenant + 100 from things".to_owned(),
            &[
                "Insert: rows are read first",
                "Plan on shard 1",
                "Seq Scan on things",
            ],
        ),
    ] {
        for bytes in forms(&text) {
            raw.send(&bytes).await;
            let told = crate::pull::rows(&raw.ready().await);
            for part in expected {
                assert!(told.contains(part), "{text}: {part} is not in {told}");
            }
        }
    }
    sides.same("EXPLAIN").await;
}

/// One who waits for a row that moves finds on one Postgres that it has another key, and here that it is gone.
#[tokio::test]
async fn who_waits_for_a_row_that_moves_leaves_it_alone() {
    let sides = Sides::new("").await;
    let (mut one, _) = sides.ends().await;
    let (mut other, _) = sides.ends().await;
    let text = keyed("update accounts set id = {b9} where id = {a1}");
    let same = keyed("update accounts set id = {b8}, amount = 5 where id = {a1}");
    assert_eq!(one.ask(&Raw::query("begin")).await, "C ZT");
    assert_eq!(one.ask(&Raw::query(&text)).await, "C ZT");
    other.send(&Raw::query(&same)).await;
    let waits = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()";
    pgherd_tests::until("it waits", async || {
        sides.rig.shards[0].sql(waits).await == "1"
    })
    .await;
    assert_eq!(one.ask(&Raw::query("commit")).await, "C ZI");
    assert_eq!(told(&other.ready().await), ["UPDATE 0\0", "I"]);
    sides.whole.sql(&text).await;
    sides.same(&text).await;
}
