//! The same rows in one database, and spread over others.

use std::collections::BTreeMap;
use std::sync::Arc;

use pgherd_planner::Names;
use pgherd_planner::catalog::{Catalog, Loader, Part, SNAPSHOT};
use pgherd_planner::placement::{
    Distribution, Group, KeyType, KeyValue, Method, Placement, Range, Shard, Sharding,
};
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::server::database;

/// One database with all rows, and the shards.
pub(crate) struct World {
    pub(crate) whole: Client,
    pub(crate) shards: Vec<Client>,
    pub(crate) catalog: Catalog,
    pub(crate) placement: Arc<Placement>,
    pub(crate) names: Names,
}

/// Which buckets are on which shard.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Buckets {
    /// More buckets than shards, by a rule of no use.
    Uneven,
    /// All rows on the second shard.
    One,
    /// None on the first.
    Gap,
    /// One bucket a shard, as the configuration has it.
    #[allow(dead_code, reason = "the planner's own tests have no configuration")]
    Even,
    /// As a map says for some tables, and a method of its own for each other group, over three shards.
    Mixed,
}

/// A row: its table, the values of its key, and all values.
struct Row {
    table: &'static str,
    key: Option<(Group, Vec<KeyValue>)>,
    values: String,
}

struct Groups {
    users: Group,
    docs: Group,
    names: Group,
    codes: Group,
    prices: Group,
    days: Group,
    pairs: Group,
}

/// The shards of the buckets of users and of pairs, and those of the buckets of all other groups.
pub(crate) fn spread(shards: u16, buckets: Buckets) -> [Vec<Shard>; 2] {
    let plain: Vec<Shard> = (0..shards).map(Shard).collect();
    // More buckets than shards, of which one shard may have none.
    let many = |shard: &dyn Fn(u16) -> u16| (0..16).map(|n| Shard(shard(n))).collect();
    match buckets {
        Buckets::Uneven => [many(&|n| n * 7 % 11 % shards), plain],
        Buckets::One => [many(&|_| 1), many(&|_| 1)],
        Buckets::Gap => {
            let spread: Vec<Shard> = many(&|n| 1 + n % (shards - 1));
            [spread.clone(), spread]
        }
        Buckets::Even | Buckets::Mixed => [plain.clone(), plain],
    }
}

fn placement(shards: u16, buckets: Buckets) -> (Placement, Groups) {
    let mut placement = Placement::new(shards);
    let [spread, plain] = spread(shards, buckets);
    let mut group = |buckets: &[Shard]| {
        let buckets = buckets.to_vec();
        placement.group(Method::Hash { buckets }).unwrap()
    };
    let groups = match buckets {
        Buckets::Mixed => mixed(&mut placement),
        _ => Groups {
            users: group(&spread),
            docs: group(&plain),
            names: group(&plain),
            codes: group(&plain),
            prices: group(&plain),
            days: group(&plain),
            pairs: group(&spread),
        },
    };
    let sharded: [(&str, &[&str], Group); 15] = [
        ("users", &["id"], groups.users),
        ("orders", &["user_id"], groups.users),
        ("items", &["user_id"], groups.users),
        ("Upper", &["Id"], groups.users),
        ("loose", &["user_id"], groups.users),
        ("bags", &["id"], groups.users),
        ("spans", &["id"], groups.users),
        ("made", &["user_id"], groups.users),
        ("made2", &["user_id"], groups.users),
        ("docs", &["key"], groups.docs),
        ("names", &["name"], groups.names),
        ("codes", &["code"], groups.codes),
        ("prices", &["amount"], groups.prices),
        ("days", &["day"], groups.days),
        ("pairs", &["a", "b"], groups.pairs),
    ];
    let sharding = |columns: &[&str], group| {
        let columns = columns.iter().map(|name| (*name).to_owned()).collect();
        Distribution::Sharded(Sharding { columns, group })
    };
    for (name, columns, group) in sharded {
        placement.table("public", name, sharding(columns, group));
    }
    placement.table("public", "pairs2", sharding(&["a", "b"], groups.pairs));
    for name in ["products", "countries"] {
        placement.table("public", name, Distribution::Replicated);
    }
    placement.table("other", "users", Distribution::Replicated);
    placement.schema("conf", Distribution::OneShard(Shard(shards.min(2) - 1)));
    (placement, groups)
}

/// Groups of several methods, as the test of the executable has them in its configuration.
fn mixed(placement: &mut Placement) -> Groups {
    let read = |kind, text: &str| KeyValue::from_text(kind, text.as_bytes()).unwrap();
    let list = |kind: KeyType, texts: &[&str], shard: u16, default: u16| {
        let values = texts.iter();
        let values = values.map(|text| (read(kind, text), Shard(shard)));
        Method::List {
            values: values.collect(),
            default: Some(Shard(default)),
        }
    };
    // Each range begins where the one before it ends.
    let ranges = |kind: KeyType, bounds: &[&str], shards: &[u16]| {
        let bound = |at: usize| bounds.get(at).map(|text| read(kind, text));
        let range = |(at, shard): (usize, &u16)| Range {
            from: at.checked_sub(1).and_then(bound),
            to: bound(at),
            shard: Shard(*shard),
        };
        Method::Range(shards.iter().enumerate().map(range).collect())
    };
    let users = (0..16).map(|bucket| match bucket {
        3 | 7..=10 => Shard(0),
        0..=6 => Shard(2),
        _ => Shard(1),
    });
    let docs = ["00000000-0000-4000-8000-000000000014"];
    let names = ["näme 3", "näme 7", "näme 8", "näme 31"];
    let mut group = |method| placement.group(method).unwrap();
    Groups {
        users: group(Method::Hash {
            buckets: users.collect(),
        }),
        docs: group(ranges(KeyType::Uuid, &docs, &[1, 0])),
        names: group(list(KeyType::Text, &names, 2, 0)),
        codes: group(list(KeyType::Bpchar, &["c1", "c4", "c5"], 1, 2)),
        prices: group(ranges(KeyType::Numeric, &["-5", "7.5"], &[0, 2, 1])),
        days: group(ranges(KeyType::Date, &["2026-01-10"], &[1, 2])),
        pairs: group(Method::Hash {
            buckets: (0..5).map(|n| Shard(n % 3)).collect(),
        }),
    }
}

fn some(n: i64, every: i64, value: String) -> String {
    match n % every {
        0 => "NULL".into(),
        _ => value,
    }
}

fn int(group: Group, value: i64) -> Option<(Group, Vec<KeyValue>)> {
    Some((group, vec![KeyValue::Int(value)]))
}

fn rows(groups: &Groups) -> Vec<Row> {
    let mut rows = Vec::new();
    let words = ["ann", "Bob", "äpfel", "zed", "Ann", "_x", "bob", "Zoë"];
    for n in 1..=60_i64 {
        let word = words[(n * 5 % 8) as usize];
        let mood = ["sad", "ok", "happy"][(n % 3) as usize];
        let values = format!(
            "{n}, '{word} {}', {}, {}, '19{}-0{}-1{}', {}, {}, '{mood}', '{word}', '{word}{}', {}.5, {}",
            n % 9,
            some(n, 7, (20 + n % 30).to_string()),
            some(n, 11, format!("{}.{}0", n * 13 % 50, n % 10)),
            50 + n % 40,
            1 + n % 9,
            n % 10,
            some(n, 13, (n % 2 == 0).to_string()),
            some(n, 10, format!("'c{}'", n % 6)),
            n % 5,
            n % 17,
            n % 8
        );
        rows.push(Row {
            table: "users",
            key: int(groups.users, n),
            values,
        });
        if n % 4 == 0 {
            rows.push(Row {
                table: "\"Upper\"",
                key: int(groups.users, n),
                values: format!("{n}, {}, {}", n / 2, n + 1),
            });
        }
    }
    for n in 0..150_i64 {
        // Some users have no orders, and some orders no user.
        let user = 1 + n * 7 % 64;
        if user % 5 == 0 {
            continue;
        }
        let status = ["new", "paid", "sent", "Paid"][(n % 4) as usize];
        rows.push(Row {
            table: "orders",
            key: int(groups.users, user),
            values: format!(
                "{user}, {n}, {}, '{status}', '2026-0{}-1{} 0{}:00+00', {}, {}",
                some(n, 12, format!("{}.{}", n * 37 % 500, n % 100)),
                1 + n % 9,
                n % 10,
                n % 10,
                some(n, 3, format!("'note {}'", n % 20)),
                some(n, 2, (n / 2).to_string())
            ),
        });
        for item in 0..n % 3 {
            rows.push(Row {
                table: "items",
                key: int(groups.users, user),
                values: format!(
                    "{user}, {n}, {item}, {}, {}, {}.25",
                    1 + (n + item) % 14,
                    1 + n % 5,
                    n % 40
                ),
            });
        }
    }
    rows.extend(others(groups));
    rows
}

fn others(groups: &Groups) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut add = |table, key, values: String| rows.push(Row { table, key, values });
    let read = |kind, text: &str| KeyValue::from_text(kind, text.as_bytes()).unwrap();
    for n in 1..=40_i64 {
        let key = format!("00000000-0000-4000-8000-{n:012}");
        let values = format!(
            "'{key}', {}, 'title {}', '{{\"n\": {n}, \"k\": {}}}', '{{a{},b{}}}'",
            some(n, 9, (n % 20).to_string()),
            n % 6,
            n % 4,
            n % 3,
            if n % 20 == 0 { ",c" } else { "" }
        );
        add(
            "docs",
            Some((groups.docs, vec![read(KeyType::Uuid, &key)])),
            values,
        );
        let name = format!("näme {n}");
        add(
            "names",
            Some((groups.names, vec![read(KeyType::Text, &name)])),
            format!("'{name}', {}", n % 7),
        );
        let code = format!("c{n}");
        add(
            "codes",
            Some((groups.codes, vec![read(KeyType::Bpchar, &code)])),
            format!("'{code}', {}", n % 7),
        );
        let amount = format!("{}.{}0", n - 20, n % 4);
        add(
            "prices",
            Some((groups.prices, vec![read(KeyType::Numeric, &amount)])),
            format!("{amount}, 'l{}'", n % 5),
        );
        let day = format!("2026-01-{:02}", 1 + n % 28);
        if n <= 28 {
            add(
                "days",
                Some((groups.days, vec![read(KeyType::Date, &day)])),
                format!("'{day}', 'd{}'", n % 5),
            );
        }
        for (table, more) in [("pairs", 0), ("pairs2", 1)] {
            let (a, b) = (n % 8 + more, format!("b{}", n / 8));
            let key = vec![KeyValue::Int(a), read(KeyType::Text, &b)];
            add(table, Some((groups.pairs, key)), format!("{a}, '{b}', {n}"));
        }
        add("loose", int(groups.users, n), format!("{n}, {}", n % 3));
        let things = format!("array[row({n}, 'one'), row({}, 'two')]::thing[]", n % 3);
        add(
            "bags",
            int(groups.users, n),
            format!("{n}, {things}, 'a{}:1 b:2'", n % 4),
        );
        let sizes = ["array[1]", "array[1, 2]"][(n % 2) as usize];
        add(
            "spans",
            int(groups.users, n),
            format!("{n}, {}, sizes({sizes}, NULL)", 41 - n),
        );
    }
    for n in 1..=12_i64 {
        let category = some(n, 6, format!("'k{}'", n % 3));
        add(
            "products",
            None,
            format!("{n}, 'p{n}', {category}, {}.5", n * 3),
        );
        add("other.users", None, format!("{n}, 'other {n}'"));
        if n < 6 {
            add(
                "countries",
                None,
                format!("'c{n}', 'Country {n}', {}", n * 10),
            );
        }
    }
    rows
}

pub(crate) async fn load(client: &Client) -> Catalog {
    client.batch_execute(SNAPSHOT).await.unwrap();
    let mut loader = Loader::default();
    for part in Part::ALL {
        for message in client.simple_query(part.query()).await.unwrap() {
            if let SimpleQueryMessage::Row(row) = message {
                let values: Vec<Option<&str>> = (0..row.len()).map(|at| row.get(at)).collect();
                loader.row(part, &values).unwrap();
            }
        }
    }
    client.batch_execute("commit").await.unwrap();
    loader.finish()
}

impl World {
    /// Rows over so many shards.
    pub(crate) async fn new(shards: u16) -> Self {
        Self::with(shards, Buckets::Uneven).await
    }

    /// The same with buckets of a choice.
    pub(crate) async fn with(shards: u16, buckets: Buckets) -> Self {
        let mut clients = Vec::new();
        for _ in 0..=shards {
            let client = database().await;
            client
                .batch_execute(include_str!("schema.sql"))
                .await
                .unwrap();
            clients.push(client);
        }
        let whole = clients.remove(0);
        let catalog = load(&clients[0]).await;
        for other in &clients[1..] {
            assert_eq!(
                catalog.differences(&load(other).await),
                Vec::<String>::new()
            );
        }
        let (placement, groups) = placement(shards, buckets);
        let world = Self {
            whole,
            shards: clients,
            catalog,
            placement: Arc::new(placement),
            names: Names::default(),
        };
        world.fill(&rows(&groups)).await;
        world
    }

    async fn fill(&self, rows: &[Row]) {
        let mut of: BTreeMap<usize, String> = BTreeMap::new();
        let mut all = String::new();
        for row in rows {
            let insert = format!("insert into {} values ({});\n", row.table, row.values);
            let shards = match &row.key {
                Some((group, key)) => [self.placement.shard(*group, key).unwrap()].into(),
                None => self.placement.all(),
            };
            for shard in shards {
                of.entry(usize::from(shard.0))
                    .or_default()
                    .push_str(&insert);
            }
            all.push_str(&insert);
        }
        let settings = "insert into conf.settings values ('a', '1'), ('b', '2');";
        let home = self.shards.len().min(2) - 1;
        of.entry(home).or_default().push_str(settings);
        all.push_str(settings);
        self.whole.batch_execute(&all).await.unwrap();
        for (at, inserts) in of {
            self.shards[at].batch_execute(&inserts).await.unwrap();
        }
    }
}
