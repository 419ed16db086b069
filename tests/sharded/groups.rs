//! Groups of tables with methods of their own, and buckets that are where a map says, beside one database with all rows.

use pgherd_planner::placement::{KeyValue, Method};
use pgherd_tests::{Database, Message, Proxy, Raw, connect, until};
use rustix::process::Signal;

use crate::copy::copy;
use crate::pull::forms;
use crate::rig::{Rig, SCHEMA};

const TABLES: &str = "
    create table shops (region text not null, id int not null, name text, primary key (region, id));
    create table sales (region text not null, shop int not null, n int not null, account bigint, amount int,
        primary key (region, shop, n));
    create table days (day date primary key, note text, account bigint);";

const BUCKETS: usize = 16;

/// Accounts and entries by the hash, in these buckets of each shard; shops and sales by a list, and days by ranges.
fn methods(shards: &[Database], buckets: [&str; 2]) -> String {
    let [first, second] = shards else {
        panic!("two shards");
    };
    let (first, second) = (&first.name, &second.name);
    format!(
        "buckets = {BUCKETS}\n\
         bucket_map = {{ {first} = \"{}\", {second} = \"{}\" }}\n\
         columns = [{{ name = \"region\", group = \"regions\" }}, {{ name = \"day\", group = \"days\" }}]\n\
         groups = [\n\
         {{ name = \"regions\", method = \"list\", key_type = \"text\", places = [\
           {{ values = [\"eu\", \"äfrica\"], shard = \"{first}\" }}, {{ values = [\"us\"], shard = \"{second}\" }}] }},\n\
         {{ name = \"days\", method = \"range\", key_type = \"date\", places = [\
           {{ to = \"2026-03-01\", shard = \"{second}\" }}, \
           {{ from = \"2026-03-01\", to = \"2026-06-01\", shard = \"{first}\" }}] }},\n\
         ]",
        buckets[0], buckets[1]
    )
}

async fn rig(buckets: [&str; 2]) -> Rig {
    let mut shards = Vec::new();
    for _ in 0..2 {
        let database = Database::new().await;
        database.sql(SCHEMA).await;
        database.sql(TABLES).await;
        shards.push(database);
    }
    let methods = methods(&shards, buckets);
    let proxy = Proxy::start(&Rig::config(&shards, &methods)).await;
    Rig { shards, proxy }
}

/// The rows of an answer in the order of their texts, its tags, or its error, and where the session stands.
pub(crate) fn told(messages: &[Message]) -> Vec<String> {
    let (mut rows, mut rest) = (Vec::new(), Vec::new());
    for message in messages {
        let text = || String::from_utf8_lossy(&message.body).into_owned();
        match message.tag {
            'D' => rows.push(message.columns().join(" | ")),
            'C' => rest.push(text()),
            'E' => {
                rows.clear();
                rest.push(format!("E{}", message.field('C').unwrap_or_default()));
            }
            'Z' => rest.push(format!("Z{}", text())),
            _ => {}
        }
    }
    rows.sort();
    rows.extend(rest);
    rows
}

/// The shards, and one database with the same tables that is asked directly.
struct Pair {
    rig: Rig,
    one: Database,
    raw: Raw,
    direct: Raw,
}

impl Pair {
    async fn new(buckets: [&str; 2]) -> Self {
        let rig = rig(buckets).await;
        let one = Database::new().await;
        one.sql(SCHEMA).await;
        one.sql(TABLES).await;
        let raw = rig.raw().await;
        let direct = Raw::login(one.port, "app", &one.name, &[]).await;
        let mut pair = Self {
            rig,
            one,
            raw,
            direct,
        };
        pair.fill().await;
        pair
    }

    /// Sends the same to both, who answer alike without an error.
    async fn same(&mut self, text: &str, bytes: &[u8]) {
        self.raw.send(bytes).await;
        let found = told(&self.raw.ready().await);
        self.direct.send(bytes).await;
        let expected = told(&self.direct.ready().await);
        assert_eq!(found, expected, "{text}");
        let failed = found.iter().any(|word| word.starts_with('E'));
        assert!(!failed, "{text}: {found:?}");
    }

    async fn wrote(&mut self, text: &str) {
        self.same(text, &Raw::query(text)).await;
    }

    /// Runs a statement with values on both sides.
    async fn bound(&mut self, text: &str, values: &[&str]) {
        let all = [
            Raw::parse("", text),
            Raw::bind("", "", values),
            Raw::execute("", 0),
            Raw::sync(),
        ];
        self.same(text, &all.concat()).await;
    }

    /// What is refused here does not run there either; what is not is answered alike.
    async fn same_or_refused(&mut self, text: &str) {
        self.raw.send(&Raw::query(text)).await;
        let found = told(&self.raw.ready().await);
        if found == ["E0A000", "ZI"] {
            return;
        }
        self.direct.send(&Raw::query(text)).await;
        assert_eq!(found, told(&self.direct.ready().await), "{text}");
    }

    async fn copied(&mut self, text: &str, data: &str) {
        let expected = copy(&mut self.direct, text, &[data.as_bytes()]).await;
        let found = copy(&mut self.raw, text, &[data.as_bytes()]).await;
        assert_eq!(found, expected, "{text}");
        assert!(found.starts_with("COPY "), "{found}");
    }

    async fn fill(&mut self) {
        let accounts: Vec<String> = (1..=40).map(|n| format!("({n}, 'o{n}', {n})")).collect();
        let accounts = format!("insert into accounts values {}", accounts.join(", "));
        for text in [
            accounts.as_str(),
            "insert into entries values (1, 1, 'a'), (2, 1, 'b'), (3, 2, 'c'), (7, 3, 'd')",
            "insert into shops values ('eu', 1, 'one'), ('us', 2, 'two'), ('äfrica', 3, 'three'), ('us', 1, 'uno')",
            "insert into sales values ('eu', 1, 1, 7, 10), ('us', 2, 1, 8, 20), ('us', 1, 1, 7, 30), \
             ('äfrica', 3, 1, 99, 40), ('eu', 1, 2, null, 50)",
            "insert into days values ('2026-01-15', 'jan', 7), ('2026-04-15', 'apr', 8), ('-infinity', 'never', null)",
        ] {
            self.wrote(text).await;
        }
    }

    /// All rows are those of the one database, each on the shard where it belongs.
    async fn alike(&self) {
        for table in ["accounts", "entries", "shops", "sales", "days"] {
            let question = format!("select t::text from {table} t");
            let lines = |text: String| -> Vec<String> { text.lines().map(str::to_owned).collect() };
            let mut expected = lines(self.one.sql(&question).await);
            let mut found = Vec::new();
            for shard in &self.rig.shards {
                found.extend(lines(shard.sql(&question).await));
            }
            expected.sort_unstable();
            found.sort_unstable();
            assert_eq!(found, expected, "{table}");
        }
        assert_eq!(misplaced(&self.rig).await, [""; 0]);
        for (at, wrong) in [(0, "region = 'us'"), (1, "region <> 'us'")] {
            let count = format!("select count(*) from sales where {wrong}");
            assert_eq!(self.rig.shards[at].sql(&count).await, "0");
        }
        let late = "select count(*) from days where day >= '2026-03-01'";
        assert_eq!(self.rig.shards[1].sql(late).await, "0");
    }
}

/// What CHECK SHARDING finds wrong.
pub(crate) async fn misplaced(rig: &Rig) -> Vec<String> {
    let console = connect(&rig.proxy.url("app", "pgherd")).await;
    let columns = ["table", "shard", "state", "detail"];
    let rows = console.rows("CHECK SHARDING shop", columns).await;
    assert!(rows.len() > 10, "{rows:?}");
    let wrong = rows
        .iter()
        .filter(|row| !["ok", "remark"].contains(&&*row[2]));
    wrong.map(|row| row.join(" | ")).collect()
}

fn bucket(id: i64) -> usize {
    Method::bucket(&[KeyValue::Int(id)], BUCKETS)
}

const READS: &[&str] = &[
    "select s.region, s.id, a.id, a.owner from shops s join sales l on l.region = s.region and l.shop = s.id \
     join accounts a on a.id = l.account",
    "select a.id, sum(l.amount) from accounts a left join sales l on l.account = a.id group by a.id",
    "select d.day, a.owner from days d left join accounts a on a.id = d.account where d.day >= '2026-02-01'",
    "select count(*) from shops s, days d",
    "select region, count(*), sum(amount) from sales group by region order by region",
    "select * from sales l where not exists (select from accounts a where a.id = l.account)",
    "select name from shops where region = 'us' and id in (select shop from sales where region = 'us')",
    "select l.n, d.note from sales l join days d on d.account = l.account where l.region = 'eu'",
    "select region from shops union select note from days union select owner from accounts",
    "select l.amount, a.owner from sales l join accounts a on a.id = l.account where a.id = 7 and l.region = 'us'",
    "select a.owner, s.name from accounts a, shops s where a.id = 7 and s.region = 'eu' and s.id = 1",
    "select name from shops where region in ('eu', 'us') and id = 1",
    "select e.account, s.name from entries e join accounts a on a.id = e.account join shops s on s.id = e.n",
    "select region, day from shops join days on true where id = 1 and day between '2026-01-01' and '2026-04-30'",
    "select region, id, row_number() over (order by region, id) from shops",
    "select a.owner, e.what from accounts a join entries e on e.account = a.id and e.account = a.id where a.amount < 5",
    "select s.name, l.amount from shops s left join sales l using (region) where l.shop = s.id or l.shop is null",
    // No shard has these keys, and so no row does.
    "select 1 from shops where region = 'af'",
    "select count(*) from shops where region = 'af'",
    "select s.name, d.note from shops s left join days d on d.day = '2026-07-01' where s.region = 'us'",
    "select count(*) from days where day in ('2026-01-15', '2027-01-01')",
];

#[tokio::test]
async fn tables_of_several_methods_are_as_on_one_postgres() {
    let mut pair = Pair::new(["0-3, 9", "4-8, 10-15"]).await;
    for (at, shard) in pair.rig.shards.iter().enumerate() {
        let ids = shard.sql("select id from accounts order by id").await;
        let here = |id: &i64| ([0, 1, 2, 3, 9].contains(&bucket(*id))) == (at == 0);
        let expected: Vec<String> = (1..=40).filter(here).map(|id| id.to_string()).collect();
        assert_eq!(ids, expected.join("\n"));
    }
    for text in READS {
        for bytes in forms(text) {
            pair.same(text, &bytes).await;
        }
    }
    for text in [
        "update sales set amount = amount + 1",
        "update sales set amount = 0 where region = 'us' and n = 1",
        "delete from days where day = '-infinity'",
        "insert into shops values ('us', 2, 'zwei') on conflict (region, id) do update set name = excluded.name",
        "insert into shops values ('us', 5, 'x'), ('eu', 5, 'y'), ('us', 6, 'z') returning id, name",
        "update shops set region = region, name = upper(name) where region = 'äfrica'",
        "with gone as (delete from sales where region = 'eu' and n = 2 returning shop) select shop from gone",
        "begin",
        "update accounts set amount = 5 where id = 7",
        "update shops set name = 'x' where region = 'us' and id = 1",
        "insert into days values ('2026-05-05', 'may', 7), ('2026-02-05', 'feb', 7)",
        "select d.note, a.amount from days d join accounts a on a.id = d.account",
        "commit",
        "begin",
        "delete from accounts",
        "delete from shops where region = 'us'",
        "rollback",
    ] {
        pair.wrote(text).await;
    }
    for (text, values) in [
        ("select name from shops where region = $1", &["us"][..]),
        ("select name from shops where region = $1", &["af"]),
        (
            "select note from days where day = $1::date",
            &["2026-05-05"],
        ),
        ("insert into days values ($1, $2)", &["2026-05-31", "late"]),
        (
            "insert into shops values ($1, 8, 'a'), ($2, 8, 'b')",
            &["us", "eu"],
        ),
        (
            "update accounts set owner = $1 where id = $2",
            &["bound", "9"],
        ),
        (
            "select a.owner from accounts a join sales l on l.account = a.id where l.region = $1 and a.id = $2",
            &["us", "7"],
        ),
    ] {
        pair.bound(text, values).await;
    }
    pair.copied(
        "copy sales from stdin",
        "us\t2\t5\t3\t1\neu\t1\t5\t3\t2\näfrica\t3\t5\t3\t3\n",
    )
    .await;
    pair.copied(
        "copy days (note, day) from stdin (format csv)",
        "a,2026-02-02\n\"b\",2026-05-20\n",
    )
    .await;
    pair.copied(
        "copy accounts from stdin",
        "101\tc\t1\n102\td\t2\n103\te\t3\n",
    )
    .await;
    pair.alike().await;
    for text in [
        "update accounts a set amount = l.amount from sales l where l.account = a.id and l.n = 5",
        "delete from sales l using shops s where s.region = l.region and s.id = l.shop and s.name = 'none'",
        "update sales set amount = 1 where account in (select id from accounts where owner = 'bound')",
        "merge into shops s using sales l on l.region = s.region and l.shop = s.id and l.n = 5 \
         when matched then update set name = 'm' when not matched then insert (region, id) values (l.region, l.shop)",
        "insert into days select day + 1, note, account from days where day < '2026-02-01'",
    ] {
        pair.same_or_refused(text).await;
    }
    for text in READS {
        for bytes in forms(text) {
            pair.same(text, &bytes).await;
        }
    }
    pair.alike().await;
}

#[tokio::test]
async fn definitions_hold_within_a_group_and_nothing_is_stored_nowhere() {
    let mut pair = Pair::new(["0-7", "8-15"]).await;
    for text in [
        "create table stock (region text not null, id int not null, n int, primary key (region, id), \
         foreign key (region, id) references shops)",
        "create table visits (day date not null references days, who text)",
        "create index on visits (who)",
        "alter table shops add column open date",
        "alter table entries add foreign key (account) references accounts",
        "insert into stock select region, id, 7 from shops",
        "insert into visits values ('2026-01-15', 'x'), ('2026-04-15', 'y')",
        "select s.name, k.n from shops s join stock k using (region, id)",
        "select v.who, d.note, a.owner from visits v join days d using (day) join accounts a on a.id = d.account",
    ] {
        pair.wrote(text).await;
    }
    for (text, code) in [
        // What they refer to may be on another shard.
        (
            "create table wrong (region text not null, id int, account bigint references accounts)",
            "E0A000",
        ),
        (
            "alter table days add foreign key (account) references accounts",
            "E0A000",
        ),
        ("create unique index on sales (shop)", "E0A000"),
        // A column by which it is of a group.
        ("alter table accounts add column day date", "C"),
        ("alter table stock add column day date", "E0A000"),
        // No shard has these.
        ("insert into shops values ('af', 1)", "E23514"),
        ("insert into shops values ('eu', 9), ('af', 9)", "E23514"),
        ("insert into days values ('2026-06-01')", "E23514"),
    ] {
        let told = pair.raw.ask(&Raw::query(text)).await;
        assert_eq!(told, format!("{code} ZI"), "{text}");
    }
    for (text, data) in [
        ("copy shops (region, id) from stdin", "us\t9\naf\t9\n"),
        ("copy days (day) from stdin", "2026-05-01\n2026-07-01\n"),
    ] {
        let told = copy(&mut pair.raw, text, &[data.as_bytes()]).await;
        assert!(told.starts_with("23514 "), "{told}");
    }
    // A key says no more where it belongs.
    for (text, expected) in [
        ("set pgherd.sharding_key = '5'", "C ZI"),
        ("select count(*) from accounts", "E0A000 ZI"),
        ("reset pgherd.sharding_key", "C ZI"),
        ("select count(*) from accounts", "T D C ZI"),
    ] {
        assert_eq!(pair.raw.ask(&Raw::query(text)).await, expected, "{text}");
    }
    pair.one
        .sql("alter table accounts add column day date")
        .await;
    pair.alike().await;
}

/// While nobody writes, the rows of a bucket are moved by hand, and a reload says where it is now.
#[tokio::test]
async fn a_bucket_moves_with_a_reload() {
    const MOVED: usize = 3;
    let rig = rig(["0-7", "8-15"]).await;
    let client = rig.client().await;
    for id in 1..=60 {
        let insert = format!("insert into accounts values ({id}, 'x', 0)");
        client.simple_query(&insert).await.unwrap();
    }
    let mut ids = (1..=60).filter(|id| bucket(*id) == MOVED);
    let (first, count) = (ids.next().unwrap(), 1 + ids.count());
    let add = format!("update accounts set amount = amount + 1 where id = {first}");
    client.simple_query(&add).await.unwrap();
    let console = connect(&rig.proxy.url("app", "pgherd")).await;
    console.batch_execute("pause").await.unwrap();
    // Who was led to the old place before the reload does not write there behind it.
    let waits = {
        let (client, add) = (client.share(), add.clone());
        tokio::spawn(async move { client.simple_query(&add).await })
    };
    until("it waits", async || {
        let pools = console.rows("show pools", ["cl_waiting"]).await;
        pools.iter().any(|[waiting]| waiting == "1")
    })
    .await;
    // The server itself says what is in the bucket.
    let [from, to] = &rig.shards[..] else {
        panic!("two shards");
    };
    from.sql("create table hashed (id bigint) partition by hash (id)")
        .await;
    let is_moved = format!("satisfies_hash_partition('hashed'::regclass, {BUCKETS}, {MOVED}, id)");
    let rows = from
        .sql(&format!(
            "select id, owner, amount from accounts where {is_moved}"
        ))
        .await;
    assert_eq!(rows.lines().count(), count);
    for row in rows.lines() {
        let [id, owner, amount] = row.split('|').collect::<Vec<_>>()[..] else {
            panic!("{row}");
        };
        let insert = format!("insert into accounts values ({id}, '{owner}', {amount})");
        to.sql(&insert).await;
    }
    let delete = format!("delete from accounts where {is_moved}; drop table hashed");
    from.sql(&delete).await;
    let methods = methods(&rig.shards, ["0-2, 4-7", "3, 8-15"]);
    rig.proxy.rewrite(&Rig::config(&rig.shards, &methods));
    rig.proxy.signal(Signal::HUP);
    rig.proxy.logged("configuration reloaded", 1).await;
    console.batch_execute("resume").await.unwrap();
    let (ended, expected) = match waits.await.unwrap() {
        Ok(_) => (None, "2"),
        Err(error) => (error.code().map(|code| code.code().to_owned()), "1"),
    };
    assert!(
        matches!(ended.as_deref(), None | Some("57P01" | "40001")),
        "{ended:?}"
    );
    let again = rig.client().await;
    let read = format!("select amount from accounts where id = {first}");
    assert_eq!(again.one(&read).await, expected);
    assert_eq!(to.sql(&read).await, expected);
    assert_eq!(from.sql(&read).await, "");
    again.simple_query(&add).await.unwrap();
    assert_eq!(
        to.sql(&format!("{read} and amount > {expected}"))
            .await
            .len(),
        1
    );
    assert_eq!(again.one("select count(*) from accounts").await, "60");
    assert_eq!(misplaced(&rig).await, [""; 0]);
}
