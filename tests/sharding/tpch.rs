//! The twenty-two queries of TPC-H over rows like its own, in small: orders and their lines are sharded by order,
//! customers by themselves, and the rest is the same on every shard.

use std::fmt::Write as _;
use std::sync::Arc;

use pgherd_planner::Names;
use pgherd_planner::placement::{Distribution, KeyValue, Method, Placement, Shard, Sharding};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::line::{Line, Mode, asked};
use crate::queries::Tally;
use crate::server::database;
use crate::world::{World, load};

const NATIONS: [(&str, usize); 25] = [
    ("ALGERIA", 0),
    ("ARGENTINA", 1),
    ("BRAZIL", 1),
    ("CANADA", 1),
    ("EGYPT", 4),
    ("ETHIOPIA", 0),
    ("FRANCE", 3),
    ("GERMANY", 3),
    ("INDIA", 2),
    ("INDONESIA", 2),
    ("IRAN", 4),
    ("IRAQ", 4),
    ("JAPAN", 2),
    ("JORDAN", 4),
    ("KENYA", 0),
    ("MOROCCO", 0),
    ("MOZAMBIQUE", 0),
    ("PERU", 1),
    ("CHINA", 2),
    ("ROMANIA", 3),
    ("SAUDI ARABIA", 4),
    ("VIETNAM", 2),
    ("RUSSIA", 3),
    ("UNITED KINGDOM", 3),
    ("UNITED STATES", 1),
];
const REGIONS: [&str; 5] = ["AFRICA", "AMERICA", "ASIA", "EUROPE", "MIDDLE EAST"];
const TYPES: [&str; 6] = [
    "ECONOMY ANODIZED STEEL",
    "PROMO BURNISHED COPPER",
    "SMALL PLATED BRASS",
    "MEDIUM POLISHED TIN",
    "LARGE BRUSHED BRASS",
    "STANDARD POLISHED STEEL",
];
const BRANDS: [&str; 5] = ["Brand#12", "Brand#23", "Brand#34", "Brand#45", "Brand#51"];
const CONTAINERS: [&str; 5] = ["SM CASE", "MED BOX", "LG PACK", "SM PKG", "MED BAG"];
const COLOURS: [&str; 4] = ["forest", "green", "navy", "plum"];
const SEGMENTS: [&str; 3] = ["BUILDING", "AUTOMOBILE", "MACHINERY"];
const PRIORITIES: [&str; 4] = ["1-URGENT", "2-HIGH", "3-MEDIUM", "5-LOW"];
const MODES: [&str; 5] = ["AIR", "AIR REG", "MAIL", "SHIP", "TRUCK"];

const PARTS: i64 = 60;
const SUPPLIERS: i64 = 40;
const CUSTOMERS: i64 = 90;
const ORDERS: i64 = 700;

/// Inserts for all, and for each shard.
struct Rows {
    random: StdRng,
    all: String,
    shards: Vec<String>,
    placement: Arc<Placement>,
    groups: [pgherd_planner::placement::Group; 2],
}

impl Rows {
    fn pick<'t>(&mut self, list: &[&'t str]) -> &'t str {
        list.choose(&mut self.random).unwrap()
    }

    fn number(&mut self, most: i64) -> i64 {
        self.random.random_range(0..most)
    }

    fn day(&mut self, years: i64) -> (i64, i64) {
        (1992 + self.number(years), self.number(365))
    }

    /// On every shard, or on that of a key of one of the groups.
    fn add(&mut self, table: &str, key: Option<(usize, i64)>, values: &str) {
        let insert = format!("insert into {table} values ({values});\n");
        self.all.push_str(&insert);
        match key {
            None => self
                .shards
                .iter_mut()
                .for_each(|shard| shard.push_str(&insert)),
            Some((group, key)) => {
                let key = [KeyValue::Int(key)];
                let shard = self.placement.shard(self.groups[group], &key).unwrap();
                self.shards[usize::from(shard.0)].push_str(&insert);
            }
        }
    }

    fn fill(&mut self) {
        for (at, name) in REGIONS.iter().enumerate() {
            self.add("region", None, &format!("{at}, '{name}', ''"));
        }
        for (at, (name, region)) in NATIONS.iter().enumerate() {
            self.add("nation", None, &format!("{at}, '{name}', {region}, ''"));
        }
        for part in 1..=PARTS {
            let (colour, kind) = (self.pick(&COLOURS), self.pick(&TYPES));
            let (brand, container) = match part % 10 {
                0 => ("Brand#23", "MED BOX"),
                _ => (self.pick(&BRANDS), self.pick(&CONTAINERS)),
            };
            let (size, price) = (
                [15, 3, 9, 14, 23, 49][self.number(6) as usize],
                self.number(90_000),
            );
            self.add("part", None, &format!(
                "{part}, '{colour} thing {part}', 'M{}', '{brand}', '{kind}', {size}, '{container}', {price} / 100.0, ''",
                part % 3
            ));
            for n in 0..4 {
                let (supplier, quantity) = (1 + (part * 7 + n * 11) % SUPPLIERS, self.number(300));
                let cost = self.number(9_000);
                self.add(
                    "partsupp",
                    None,
                    &format!("{part}, {supplier}, {quantity}, {cost} / 100.0, ''"),
                );
            }
        }
        for supplier in 1..=SUPPLIERS {
            let (nation, balance) = (supplier * 3 % 25, self.number(900_000));
            let comment = if supplier % 7 == 0 {
                "Customer many Complaints"
            } else {
                "fine"
            };
            self.add("supplier", None, &format!(
                "{supplier}, 'Supplier {supplier}', 'a {supplier}', {nation}, '1{supplier}', {balance} / 100.0, '{comment}'"
            ));
        }
        for customer in 1..=CUSTOMERS {
            let nation = [self.number(25), 6, 7, 2][self.number(4) as usize];
            let balance = self.number(900_000);
            let segment = self.pick(&SEGMENTS);
            self.add("customer", Some((0, customer)), &format!(
                "{customer}, 'Customer {customer}', 'a {customer}', {nation}, '{}-{customer}', {balance} / 100.0 - 1000, '{segment}', 'c'",
                10 + nation
            ));
        }
        for order in 1..=ORDERS {
            self.order(order * 3);
        }
    }

    fn order(&mut self, order: i64) {
        let customer = 1 + self.number(CUSTOMERS / 3) * 3;
        let (year, day) = self.day(7);
        let (priority, price) = (self.pick(&PRIORITIES), self.number(50_000_000));
        let status = self.pick(&["F", "O", "P"]);
        let comment = if order % 5 == 0 {
            "special new requests"
        } else {
            "plain"
        };
        self.add("orders", Some((1, order)), &format!(
            "{order}, {customer}, '{status}', {price} / 100.0, date '{year}-01-01' + {day}, '{priority}', 'k', 0, '{comment}'"
        ));
        for line in 0..1 + self.number(6) {
            let part = 1 + self.number(PARTS);
            let supplier = 1 + (part * 7 + self.number(4) * 11) % SUPPLIERS;
            let mut values = format!("{order}, {part}, {supplier}, {line}, ");
            let (quantity, price) = (1 + self.number(50), self.number(9_000_000));
            let (discount, tax) = (self.number(11), self.number(9));
            let (flag, mode) = (self.pick(&["R", "A", "N"]), self.pick(&MODES));
            let shipped = day + self.number(120);
            let (commit, receipt) = (self.number(60) - 30, 1 + self.number(30));
            let _ = write!(
                values,
                "{quantity}, {price} / 100.0, {discount} / 100.0, {tax} / 100.0, '{flag}', 'O', date '{year}-01-01' + {shipped},
                 date '{year}-01-01' + {}, date '{year}-01-01' + {}, 'DELIVER IN PERSON', '{mode}', ''",
                shipped + commit,
                shipped + receipt
            );
            self.add("lineitem", Some((1, order)), &values);
        }
    }
}

async fn world(shards: u16) -> World {
    let mut placement = Placement::new(shards);
    let mut group = |shift: u16| {
        let buckets = (0..shards).map(|n| Shard((n + shift) % shards)).collect();
        placement.group(Method::Hash { buckets }).unwrap()
    };
    let groups = [group(0), group(1)];
    let sharded = [
        ("customer", "c_custkey", 0),
        ("orders", "o_orderkey", 1),
        ("lineitem", "l_orderkey", 1),
    ];
    for (table, key, group) in sharded {
        let columns = vec![key.to_owned()];
        let group = groups[group];
        placement.table(
            "public",
            table,
            Distribution::Sharded(Sharding { columns, group }),
        );
    }
    for table in ["region", "nation", "part", "supplier", "partsupp"] {
        placement.table("public", table, Distribution::Replicated);
    }
    let placement = Arc::new(placement);
    let mut rows = Rows {
        random: StdRng::seed_from_u64(asked("PGHERD_SHARDING_SEED", 1)),
        all: String::new(),
        shards: vec![String::new(); usize::from(shards)],
        placement: Arc::clone(&placement),
        groups,
    };
    rows.fill();
    let mut clients = Vec::new();
    for inserts in std::iter::once(&rows.all).chain(&rows.shards) {
        let client = database().await;
        client.batch_execute(pgherd_tpch::TABLES).await.unwrap();
        client.batch_execute(pgherd_tpch::INDEXES).await.unwrap();
        client.batch_execute(inserts).await.unwrap();
        client.batch_execute("analyze").await.unwrap();
        clients.push(client);
    }
    let whole = clients.remove(0);
    let catalog = load(&whole).await;
    World {
        whole,
        shards: clients,
        catalog,
        placement,
        names: Names::default(),
    }
}

#[tokio::test]
async fn all_queries_of_tpc_h_give_what_one_server_gives() {
    let world = world(4).await;
    let mut tally = Tally::default();
    let mut empty = Vec::new();
    let queries = pgherd_tpch::questions_with(180, "0.01");
    for (at, query) in queries.iter().enumerate() {
        let line = Line {
            kind: "?",
            mode: Mode::Sequence,
            query,
            values: Vec::new(),
        };
        let answer = crate::answer::ask(&world.whole, query).await.unwrap();
        if answer.rows.iter().flatten().all(Option::is_none) {
            empty.push(at + 1);
        }
        tally.take(&world, &line).await;
    }
    println!("{}", tally.told());
    assert_eq!(empty, Vec::<usize>::new(), "these show nothing");
    assert!(tally.wrong.is_empty(), "WRONG:\n{}", tally.wrong.join("\n"));
    assert_eq!(tally.right(), 22, "{}", tally.told());
}
