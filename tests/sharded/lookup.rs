//! Keys whose shards a query gives.

use pgherd_tests::{Database, Proxy, Raw, connect, until};

use crate::copy::copy;
use crate::groups::{misplaced, told};
use crate::pull::forms;
use crate::rig::{Rig, SCHEMA};

const TABLES: &str = "
    create table items (tenant text not null, id int not null, amount int, primary key (tenant, id));
    create table orders (tenant text not null, n int not null, item int, primary key (tenant, n),
        foreign key (tenant, item) references items);
    create schema conf;
    create table conf.tenants (name text primary key, shard text);
    create table conf.places (place int primary key, shard int);";

/// Items and orders by tenants, which the first shard has a table of.
fn settings(shards: &[Database], more: &str) -> String {
    let first = &shards[0].name;
    format!(
        "columns = [{{ name = \"tenant\", group = \"tenants\" }}]\n\
         schemas = [{{ name = \"conf\", shard = \"{first}\" }}]\n\
         groups = [{{ name = \"tenants\", method = \"lookup\", key_type = \"text\", {more} \
         lookup = \"select name, shard from conf.tenants; \" }}]"
    )
}

async fn shards() -> Vec<Database> {
    let mut shards = Vec::new();
    for _ in 0..2 {
        let database = Database::new().await;
        database.sql(SCHEMA).await;
        database.sql(TABLES).await;
        shards.push(database);
    }
    shards
}

/// A rig whose first shard says of these tenants where they are.
async fn rig_of(tenants: &[(&str, usize)], more: &str) -> Rig {
    let shards = shards().await;
    let settings = settings(&shards, more);
    let proxy = Proxy::start(&Rig::config(&shards, &settings)).await;
    let rig = Rig { shards, proxy };
    for (tenant, at) in tenants {
        is_on(&rig, tenant, *at).await;
    }
    rig
}

async fn rig(tenants: &[(&str, usize)]) -> Rig {
    rig_of(tenants, "").await
}

/// Says where a tenant is from now on. A shard is named or numbered.
async fn is_on(rig: &Rig, tenant: &str, at: usize) {
    let shard = match at {
        0 => rig.shards[0].name.clone(),
        at => at.to_string(),
    };
    let text = format!(
        "insert into conf.tenants values ('{tenant}', '{shard}') \
         on conflict (name) do update set shard = excluded.shard"
    );
    rig.shards[0].sql(&text).await;
}

async fn count(rig: &Rig, at: usize, tenant: &str) -> String {
    let text = format!("select count(*) from items where tenant = '{tenant}'");
    rig.shards[at].sql(&text).await
}

/// Runs a simple query, whose messages have these tags, or its error this code.
async fn is(raw: &mut Raw, text: &str, expected: &str) {
    assert_eq!(raw.ask(&Raw::query(text)).await, expected, "{text}");
}

fn items(tenant: &str) -> String {
    format!("select amount from items where tenant = '{tenant}'")
}

/// What is prepared, bound and run without a name.
fn bound(text: &str, values: &[&str]) -> Vec<u8> {
    let all = [
        Raw::parse("", text),
        Raw::bind("", "", values),
        Raw::execute("", 0),
        Raw::sync(),
    ];
    all.concat()
}

const READ: &str = "select amount from items where tenant = $1";

#[tokio::test]
async fn tables_of_keys_that_are_looked_up_are_as_on_one_postgres() {
    let rig = rig(&[("a", 0), ("b", 1), ("c", 0), ("ä", 1)]).await;
    let one = Database::new().await;
    one.sql(SCHEMA).await;
    one.sql(TABLES).await;
    let mut raw = rig.raw().await;
    let mut direct = Raw::login(one.port, "app", &one.name, &[]).await;
    let mut same = async |text: &str, bytes: &[u8]| {
        raw.send(bytes).await;
        let found = told(&raw.ready().await);
        direct.send(bytes).await;
        assert_eq!(found, told(&direct.ready().await), "{text}");
        let failed = found.iter().any(|word| word.starts_with('E'));
        assert!(!failed, "{text}: {found:?}");
    };
    for text in [
        "insert into items values ('a', 1, 10), ('b', 1, 20), ('c', 2, 30), ('ä', 1, 40), ('b', 2, 50)",
        "insert into orders values ('b', 1, 2), ('a', 1, 1), ('ä', 7, 1), ('c', 3, null) returning n, tenant",
        "update items set amount = amount + 1",
        "update items set amount = 0 where tenant = 'b' and id = 1",
        "insert into items select tenant, id + 10, amount from items where tenant in ('a', 'b')",
        "begin",
        "delete from orders where tenant = 'c'",
        "insert into orders values ('ä', 8, 1)",
        "insert into items values ('c', 9, 1)",
        "commit",
    ] {
        same(text, &Raw::query(text)).await;
    }
    for text in [
        "select i.tenant, i.id, o.n from items i left join orders o on o.tenant = i.tenant and o.item = i.id",
        "select tenant, count(*), sum(amount) from items group by tenant order by tenant",
        "select amount from items where tenant = 'ä'",
        "select id from items where tenant in ('a', 'c') order by id",
        "select n from orders where (tenant, item) in (select tenant, id from items where amount > 20)",
        "select a.id, i.amount from accounts a right join items i on a.id = i.id",
    ] {
        for bytes in forms(text) {
            same(text, &bytes).await;
        }
    }
    for (text, values) in [
        (READ, &["b"][..]),
        (READ, &["ä"]),
        (
            "insert into items values ($1, 21, 1), ($2, 21, 2) returning id, amount",
            &["b", "a"],
        ),
        (
            "update items set amount = 7 where tenant = $1 and id = 21",
            &["a"],
        ),
    ] {
        same(text, &bound(text, values)).await;
    }
    let data = b"a\t31\t1\nb\t31\t2\n\xc3\xa4\t31\t3\nc\t31\t4\n";
    let text = "copy items from stdin";
    let found = copy(&mut raw, text, &[data]).await;
    assert_eq!(found, copy(&mut direct, text, &[data]).await);
    assert!(found.starts_with("COPY 4"), "{found}");
    for (at, others) in [(0, "('b', 'ä')"), (1, "('a', 'c')")] {
        let text = format!("select count(*) from items where tenant in {others}");
        assert_eq!(rig.shards[at].sql(&text).await, "0");
    }
    assert_eq!(misplaced(&rig).await, [""; 0]);
    let text = "insert into items values ('b', 99, 1), ('zz', 1, 1)";
    rig.shards[0].sql(text).await;
    let found = misplaced(&rig).await;
    assert_eq!(found.len(), 1, "{found:?}");
    let expected = format!("1 on {}, 1 on none of the shards", rig.shards[1].name);
    assert!(found[0].contains(&expected), "{found:?}");
}

#[tokio::test]
async fn a_key_that_has_no_shard_is_an_error() {
    let rig = rig(&[("a", 0)]).await;
    let mut raw = rig.raw().await;
    is(&mut raw, "insert into items values ('a', 1, 1)", "C ZI").await;
    for (text, expected) in [
        ("select * from items where tenant = 'b'", "E22023 ZI"),
        ("delete from items where tenant in ('a', 'b')", "E22023 ZI"),
        ("insert into items values ('b', 1, 1)", "E23514 ZI"),
        (
            "insert into items values ('a', 2, 1), ('b', 1, 1)",
            "E23514 ZI",
        ),
        (
            "insert into items select 'b', id, amount from items",
            "E23514 ZI",
        ),
        (
            "update items set tenant = 'b' where tenant = 'a' and id = 1",
            "E23514 ZI",
        ),
        // Of all keys none is named.
        ("select count(*) from items where amount = 1", "T D C ZI"),
        ("select count(*) from items where tenant <> 'b'", "T D C ZI"),
    ] {
        is(&mut raw, text, expected).await;
    }
    assert_eq!(raw.ask(&bound(READ, &["b"])).await, "1 2 E22023 ZI");
    let found = copy(&mut raw, "copy items from stdin", &[b"b\t1\t1\n"]).await;
    assert!(found.starts_with("23514 "), "{found}");
    assert_eq!(raw.one("select count(*) from items").await, "1");
    // What is not committed is not known.
    let name = &rig.shards[1].name;
    is(&mut raw, "begin", "C ZT").await;
    let text = format!("insert into conf.tenants values ('b', '{name}')");
    is(&mut raw, &text, "C ZT").await;
    is(
        &mut raw,
        "insert into items values ('b', 1, 5)",
        "E23514 ZE",
    )
    .await;
    is(&mut raw, "rollback", "C ZI").await;
}

/// Each comes to be known in another way, by one of two proxies.
#[tokio::test]
async fn a_key_that_is_not_known_is_looked_up_when_it_is_named() {
    let rig = rig(&[("a", 0)]).await;
    let settings = settings(&rig.shards, "");
    let second = Proxy::start(&Rig::config(&rig.shards, &settings)).await;
    let mut raw = rig.raw().await;
    let mut other = Raw::login(second.port(), "app", "shop", &[]).await;
    for raw in [&mut raw, &mut other] {
        is(raw, &items("a"), "T C ZI").await;
        is(raw, &items("b"), "E22023 ZI").await;
    }
    is_on(&rig, "b", 1).await;
    is(&mut raw, "insert into items values ('b', 1, 5)", "C ZI").await;
    assert_eq!(other.one(&items("b")).await, "5");
    is_on(&rig, "c", 1).await;
    is(
        &mut raw,
        "insert into items values ('a', 3, 5), ('c', 1, 5)",
        "C ZI",
    )
    .await;
    assert_eq!(other.ask(&bound(READ, &["c"])).await, "1 2 D C ZI");
    is_on(&rig, "d", 1).await;
    let text = "insert into items values ($1, 1, 5)";
    assert_eq!(raw.ask(&bound(text, &["d"])).await, "1 2 C ZI");
    is_on(&rig, "e", 1).await;
    is(&mut other, "begin", "C ZT").await;
    is(&mut other, &items("a"), "T D C ZT").await;
    is(&mut other, "insert into items values ('e', 1, 5)", "C ZT").await;
    is(&mut other, "commit", "C ZI").await;
    is_on(&rig, "f", 1).await;
    let piped = [Raw::parse("", READ), Raw::describe('S', ""), Raw::flush()];
    raw.send(&piped.concat()).await;
    for expected in ['1', 't', 'T'] {
        assert_eq!(raw.message().await.tag, expected);
    }
    let rest = [Raw::bind("", "", &["f"]), Raw::execute("", 0), Raw::sync()];
    assert_eq!(raw.ask(&rest.concat()).await, "2 C ZI");
    is_on(&rig, "two", 1).await;
    let both = [items("a"), items("two")].map(|text| Raw::query(&text));
    raw.send(&both.concat()).await;
    assert_eq!(told(&raw.ready().await), ["5", "SELECT 1\0", "ZI"]);
    assert_eq!(told(&raw.ready().await), ["SELECT 0\0", "ZI"]);
    is_on(&rig, "named", 1).await;
    let text = format!("prepare named as {READ}");
    is(&mut other, &text, "C ZI").await;
    is(&mut other, "execute named('named')", "T C ZI").await;
    is_on(&rig, "told", 1).await;
    let text = format!("explain (costs off) {}", items("told"));
    other.send(&Raw::query(&text)).await;
    let explained = told(&other.ready().await);
    assert!(!explained[0].starts_with('E'), "{explained:?}");
    is_on(&rig, "held", 1).await;
    is(&mut other, "begin", "C ZT").await;
    let text = format!("declare held cursor for {}", items("held"));
    is(&mut other, &text, "C ZT").await;
    is(&mut other, "fetch all from held", "T C ZT").await;
    is(&mut other, "commit", "C ZI").await;
    is_on(&rig, "h", 1).await;
    // What comes with rows is looked up no more than once in a second.
    until("it is copied", async || {
        let copied = copy(&mut raw, "copy items from stdin", &[b"h\t1\t1\n"]).await;
        copied.starts_with("COPY 1")
    })
    .await;
    for tenant in ["b", "c", "d", "e", "h"] {
        assert_eq!(count(&rig, 0, tenant).await, "0", "{tenant}");
        assert_eq!(count(&rig, 1, tenant).await, "1", "{tenant}");
    }
    assert_eq!(misplaced(&rig).await, [""; 0]);
}

#[tokio::test]
async fn a_hint_may_be_a_key_that_is_looked_up() {
    let shards = shards().await;
    let settings = format!(
        "method = \"lookup\"\nlookup = \"select place, shard from conf.places\"\nlookup_on = \"{name}\"\n\
         schemas = [{{ name = \"conf\", shard = \"{name}\" }}]",
        name = shards[1].name
    );
    let proxy = Proxy::start(&Rig::config(&shards, &settings)).await;
    let rig = Rig { shards, proxy };
    rig.shards[1]
        .sql("insert into conf.places values (7, 1)")
        .await;
    let mut raw = rig.raw().await;
    is(&mut raw, "insert into accounts values (7, 'x', 1)", "C ZI").await;
    let read = "select count(*) from accounts";
    for (key, expected) in [("7", "T D C ZI"), ("8", "E22023 ZI")] {
        is(
            &mut raw,
            &format!("set pgherd.sharding_key = '{key}'"),
            "C ZI",
        )
        .await;
        is(&mut raw, read, expected).await;
    }
    rig.shards[1]
        .sql("insert into conf.places values (8, 0)")
        .await;
    assert_eq!(raw.one(read).await, "0");
    // It does not lead to where it was.
    rig.shards[1]
        .sql("update conf.places set shard = 1 where place = 8")
        .await;
    is(&mut raw, "set pgherd.sharding_key = '9'", "C ZI").await;
    is(&mut raw, read, "E22023 ZI").await;
    is(&mut raw, "set pgherd.sharding_key = '8'", "C ZI").await;
    is(&mut raw, read, "E55000 ZI").await;
    is(&mut raw, "set pgherd.sharding_key = '7'", "C ZI").await;
    assert_eq!(raw.one(read).await, "1");
}

#[tokio::test]
async fn a_key_that_has_moved_is_refused_up_to_a_reload() {
    let rig = rig(&[("a", 0), ("b", 0), ("c", 1)]).await;
    let mut raw = rig.raw().await;
    let text = "insert into items values ('a', 1, 1), ('b', 1, 1), ('c', 1, 1)";
    is(&mut raw, text, "C ZI").await;
    rig.shards[0]
        .sql("delete from items where tenant = 'a'")
        .await;
    rig.shards[1]
        .sql("insert into items values ('a', 1, 1)")
        .await;
    is_on(&rig, "a", 1).await;
    rig.shards[0]
        .sql("delete from conf.tenants where name = 'c'")
        .await;
    // It is found out with the next look.
    is(&mut raw, &items("x"), "E22023 ZI").await;
    for tenant in ["a", "c"] {
        for text in [
            items(tenant),
            format!("insert into items values ('{tenant}', 2, 1)"),
            format!("delete from items where tenant in ('b', '{tenant}')"),
        ] {
            is(&mut raw, &text, "E55000 ZI").await;
        }
        assert_eq!(raw.ask(&bound(READ, &[tenant])).await, "1 E55000 ZI");
    }
    is(&mut raw, &items("b"), "T D C ZI").await;
    assert_eq!(raw.one("select count(*) from items").await, "3");
    // It stays so, if it comes back, since somebody may have written elsewhere meanwhile.
    is_on(&rig, "c", 1).await;
    is(&mut raw, &items("x"), "E22023 ZI").await;
    is(&mut raw, &items("c"), "E55000 ZI").await;
    let console = connect(&rig.proxy.url("app", "pgherd")).await;
    console.batch_execute("reload").await.unwrap();
    raw.send(&Raw::query(&items("a"))).await;
    assert_eq!(raw.farewell().await.0, "57P01");
    let client = rig.client().await;
    for tenant in ["a", "b", "c"] {
        let text = format!("select count(*) from items where tenant = '{tenant}'");
        assert_eq!(client.one(&text).await, "1", "{tenant}");
    }
    assert_eq!(misplaced(&rig).await, [""; 0]);
}

/// While nobody writes, the rows of a tenant are moved by hand, and a reload has it seen.
#[tokio::test]
async fn a_key_moves_with_a_reload() {
    let rig = rig(&[("a", 0), ("b", 0)]).await;
    let (client, bystander) = (rig.client().await, rig.client().await);
    let text = "insert into items values ('a', 1, 0), ('b', 1, 0)";
    client.batch_execute(text).await.unwrap();
    let add = "update items set amount = amount + 1 where tenant = 'a'";
    client.batch_execute(add).await.unwrap();
    let console = connect(&rig.proxy.url("app", "pgherd")).await;
    // What has changed nothing ends nobody.
    console.batch_execute("reload").await.unwrap();
    until("it is read again", async || {
        client.batch_execute(add).await.is_ok()
    })
    .await;
    console.batch_execute("pause").await.unwrap();
    // Who was led to the old place before the reload does not write there behind it.
    let waits = {
        let client = client.share();
        tokio::spawn(async move { client.simple_query(add).await })
    };
    until("it waits", async || {
        let pools = console.rows("show pools", ["cl_waiting"]).await;
        pools.iter().any(|[waiting]| waiting == "1")
    })
    .await;
    let amount = &items("a");
    assert_eq!(rig.shards[0].sql(amount).await, "2");
    rig.shards[1]
        .sql("insert into items values ('a', 1, 2)")
        .await;
    rig.shards[0]
        .sql("delete from items where tenant = 'a'")
        .await;
    is_on(&rig, "a", 1).await;
    console.batch_execute("reload").await.unwrap();
    console.batch_execute("resume").await.unwrap();
    let (ended, expected) = match waits.await.unwrap() {
        Ok(_) => (None, "3"),
        Err(error) => (error.code().map(|code| code.code().to_owned()), "2"),
    };
    assert!(
        matches!(ended.as_deref(), None | Some("57P01" | "40001")),
        "{ended:?}"
    );
    // Whoever comes finds the rows where they are, or is sent away.
    match bystander.column(amount).await {
        Ok(found) => assert_eq!(found, [expected]),
        Err(error) => {
            let code = error.code().map(|code| code.code().to_owned());
            assert!(
                matches!(code.as_deref(), Some("57P01" | "40001")),
                "{code:?}"
            );
        }
    }
    let again = rig.client().await;
    assert_eq!(again.one(amount).await, expected);
    assert_eq!(rig.shards[1].sql(amount).await, expected);
    again.batch_execute(add).await.unwrap();
    assert_eq!(rig.shards[0].sql(amount).await, "");
    assert_eq!(misplaced(&rig).await, [""; 0]);
}

#[tokio::test]
async fn without_an_answer_only_what_names_unknown_keys_is_refused() {
    let rig = rig_of(
        &[("a", 0)],
        "lookup_max_rows = 3, lookup_timeout = \"400ms\",",
    )
    .await;
    for shard in &rig.shards {
        shard.sql("alter table conf.tenants rename to away").await;
    }
    let mut raw = rig.raw().await;
    assert_eq!(raw.one("select count(*) from countries").await, "2");
    assert_eq!(raw.one("select count(*) from items").await, "0");
    is(&mut raw, &items("a"), "E42P01 ZI").await;
    for shard in &rig.shards {
        shard.sql("alter table conf.away rename to tenants").await;
    }
    is(&mut raw, &items("a"), "T C ZI").await;
    // What is known stays so.
    let mut holds = Raw::login(rig.shards[0].port, "app", &rig.shards[0].name, &[]).await;
    holds.one("begin; lock table conf.tenants; select 1").await;
    let told = raw.ask(&Raw::query(&items("b"))).await;
    let late = ["E57P03 ZI", "E57014 ZI", "E55P03 ZI"];
    assert!(late.contains(&told.as_str()), "{told}");
    is(&mut raw, &items("a"), "T C ZI").await;
    is(&mut holds, "rollback", "C ZI").await;
    let mut says = async |text: &str, tenant: &str, code: &str| {
        rig.shards[0].sql(text).await;
        is(&mut raw, &items(tenant), code).await;
        is(&mut raw, &items("a"), "T C ZI").await;
    };
    let text = "insert into conf.tenants values ('b', 'none')";
    says(text, "b", "E55000 ZI").await;
    let text = "update conf.tenants set shard = '1' where name = 'b'";
    says(text, "b", "T C ZI").await;
    let text = "insert into conf.tenants values ('c', null)";
    says(text, "c", "EF0000 ZI").await;
    let text = "update conf.tenants set shard = '0' where name = 'c'";
    says(text, "c", "T C ZI").await;
    let text = "insert into conf.tenants values ('d', '1')";
    says(text, "d", "E53400 ZI").await;
}
