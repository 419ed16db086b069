//! What lies in the tables afterwards: all shards together have what one server has, each row where it belongs, and
//! nothing is left prepared.

use std::collections::BTreeMap;

use pgherd_tests::{connect, until};
use tokio_postgres::Client;

use crate::answer::ask;
use crate::spread::{Spread, name_of};
use crate::world::{World, load};

/// Tables of which each shard has all rows.
const REPLICATED: [&str; 3] = ["products", "countries", "other.users"];

/// What makes one query of all tables: of each, how many rows it has, and a sum of what they hash to, which hangs on no
/// order, and of which the shards' can be added up.
const TABLES: &str = "
    select string_agg(format(
               'select %L, count(*), coalesce(sum(hashtextextended(of_row::text, 7)::numeric), 0) from only %s of_row',
               c.oid::regclass, c.oid::regclass), ' union all ' order by c.oid::regclass::text)
      from pg_class c
     where relkind = 'r' and relnamespace not in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)";

/// How many rows there are, and what they hash to.
type Total = (u64, i128);

async fn totals(client: &Client, question: &str) -> Result<BTreeMap<String, Total>, String> {
    let answer = ask(client, question).await?;
    let mut found = BTreeMap::new();
    for row in answer.rows {
        let [Some(table), Some(count), Some(sum)] = &row[..] else {
            panic!("{row:?}");
        };
        let total = (count.parse().unwrap(), sum.parse().unwrap());
        found.insert(table.clone(), total);
    }
    Ok(found)
}

/// The tables of which the shards have not what one server has, and how many rows are here and there.
pub(crate) async fn differs(world: &World) -> Vec<String> {
    let question = ask(&world.whole, TABLES).await.unwrap();
    let question = question.rows[0][0].clone().unwrap();
    let whole = totals(&world.whole, &question).await.unwrap();
    let mut shards = Vec::new();
    for shard in &world.shards {
        match totals(shard, &question).await {
            Ok(found) => shards.push(found),
            Err(error) => return vec![error],
        }
    }
    let mut found = Vec::new();
    for (table, expected) in whole {
        let parts = shards.iter().map(|shard| shard[&table]);
        let same = match REPLICATED.contains(&table.as_str()) {
            true => parts.clone().all(|part| part == expected),
            false => {
                let add = |all: Total, part: Total| (all.0 + part.0, all.1 + part.1);
                parts.clone().fold(Total::default(), add) == expected
            }
        };
        if !same {
            let counts: Vec<u64> = parts.map(|part| part.0).collect();
            found.push(format!("{table}: {} and {counts:?} rows", expected.0));
        }
    }
    found
}

/// All is as it should be once all is done: what lies in the tables, their definitions, that rows are on shards where they
/// are looked for, and that nothing is left prepared.
pub(crate) async fn is_sound(both: &Spread) {
    assert_eq!(differs(&both.world).await, Vec::<String>::new());
    let whole = load(&both.world.whole).await;
    for shard in &both.world.shards {
        let differences = whole.differences(&load(shard).await);
        assert_eq!(differences, Vec::<String>::new());
    }
    let console = connect(&both.proxy.url("postgres", "pgherd")).await;
    let columns = ["table", "shard", "misplaced", "state", "detail"];
    let checked = console.rows("CHECK SHARDING", columns).await;
    let is_odd = |row: &&[String; 5]| row[3] != "ok" && row[3] != "remark";
    let odd: Vec<_> = checked.iter().filter(is_odd).collect();
    assert!(odd.is_empty(), "{odd:#?}");
    assert!(checked.len() > 10, "{checked:#?}");
    let mut names = Vec::new();
    for shard in &both.world.shards {
        names.push(format!("'{}'", name_of(shard).await));
    }
    let question = format!(
        "select count(*) from pg_prepared_xacts where database in ({})",
        names.join(", ")
    );
    until("nothing is left prepared", async || {
        let left = ask(&both.world.whole, &question).await.unwrap();
        left.rows[0][0].as_deref() == Some("0")
    })
    .await;
}
