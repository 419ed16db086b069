//! Reads of several shards that are answered by the shards' replicas.
//!
//! The replicas are stopped where they are, and the primaries go on: what is read tells who was asked.

use pgherd_sandbox::{Binaries, Server};
use pgherd_tests::{Client, Proxy, Raw, connect, until};

use crate::pull::{forms, rows};
use crate::rig::{SCHEMA, config, key};
use crate::tap::{Fault, Rule, Tap, When};
use crate::transactions::part;

const READS: &str = "[reads]\nfrom = \"replicas\"\n[timeouts]\nhold = \"20s\"";

/// What is read, what of the replicas, and what of the primaries. What is made in tables is made by the primary of the
/// first shard, of its own rows and those of others.
const CASES: [(&str, &str, &str); 5] = [
    (SORTED, "10 20", "11 21"),
    ("select amount from accounts", "10 20", "11 21"),
    (
        "select amount from accounts order by amount desc limit 1",
        "20",
        "21",
    ),
    (SUM, "30", "32"),
    (
        "select a.amount, e.n from accounts a join entries e on e.what = a.owner order by 1",
        "11,1 20,0",
        "11,1 21,0",
    ),
];

const SORTED: &str = "select amount from accounts order by amount";
const SUM: &str = "select sum(amount) from accounts";
/// So many of the cases need no table.
const WITHOUT_TABLE: usize = 4;

/// A primary and its replica.
struct Shard {
    name: &'static str,
    primary: Server,
    replica: Server,
}

impl Shard {
    async fn new(name: &'static str, number: u16) -> Self {
        let binaries = Binaries::find().expect("Postgres is needed");
        let primary = Server::builder(&binaries).start().await.unwrap();
        for text in [
            "create role app login superuser".to_owned(),
            format!("create database {name}"),
        ] {
            primary.sql(&text).await.unwrap();
        }
        let (id, other, amount) = (key(number), 1 - number, (number + 1) * 10);
        let rows = format!(
            "{SCHEMA} insert into accounts values ({id}, 'o{number}', {amount});
             insert into entries values ({id}, {number}, 'o{other}')"
        );
        primary.sql_in(name, &rows).await.unwrap();
        let replica = primary.replica().await.unwrap();
        replica.caught_up(&primary).await.unwrap();
        Self {
            name,
            primary,
            replica,
        }
    }

    /// The replica gets nothing any more, and the primary goes on.
    async fn part(&self) {
        let pause = "select pg_wal_replay_pause()";
        self.replica.sql(pause).await.unwrap();
        until("replay is paused", async || {
            let state = "select pg_get_wal_replay_pause_state()";
            self.replica.sql(state).await.unwrap() == "paused"
        })
        .await;
        let write = "update accounts set amount = amount + 1";
        self.primary.sql_in(self.name, write).await.unwrap();
    }

    async fn resume(&self) {
        let resume = "select pg_wal_replay_resume()";
        self.replica.sql(resume).await.unwrap();
    }

    /// Whether a client has asked the replica for its rows.
    async fn is_read(&self) -> bool {
        let asked = "select count(*) from pg_stat_activity
             where usename = 'app' and query ilike '%accounts%'";
        self.replica.sql(asked).await.unwrap() != "0"
    }
}

struct Fleet {
    shards: [Shard; 2],
    taps: [Tap; 2],
    proxy: Proxy,
}

impl Fleet {
    /// Both shards, their replicas behind taps, and a proxy that reads from these, as is seen.
    async fn new() -> Self {
        let (one, two) = tokio::join!(Shard::new("a", 0), Shard::new("b", 1));
        let taps = [
            Tap::before(one.replica.port()).await,
            Tap::before(two.replica.port()).await,
        ];
        let shards = [one, two];
        let places = shards.iter().zip(&taps).map(|(shard, tap)| {
            let hosts = [shard.primary.port(), tap.port].map(|port| format!("127.0.0.1:{port}"));
            (shard.name.to_owned(), hosts.join("\", \""))
        });
        let places: Vec<_> = places.collect();
        // What is encrypted nobody can look into.
        let plain =
            "[databases.a.tls]\nmode = \"disable\"\n[databases.b.tls]\nmode = \"disable\"\n";
        let proxy = Proxy::start(&config(&places, &format!("{plain}{READS}"))).await;
        let fleet = Self {
            shards,
            taps,
            proxy,
        };
        let client = fleet.client().await;
        // The databases have to be looked at first.
        until("reads go to the replicas", async || {
            client.column(SORTED).await.unwrap();
            fleet.shards[0].is_read().await && fleet.shards[1].is_read().await
        })
        .await;
        for shard in &fleet.shards {
            shard.part().await;
        }
        fleet
    }

    async fn client(&self) -> Client {
        connect(&self.proxy.url("app", "shop")).await
    }

    async fn raw(&self) -> Raw {
        Raw::login(self.proxy.port(), "app", "shop", &[]).await
    }
}

async fn told(raw: &mut Raw, bytes: &[u8]) -> String {
    raw.send(bytes).await;
    rows(&raw.ready().await)
}

async fn amounts(client: &Client, text: &str) -> String {
    client.column(text).await.unwrap().join(" ")
}

fn amount_of(number: u16) -> String {
    format!("select amount from accounts where id = {}", key(number))
}

fn add_to(number: u16) -> String {
    let id = key(number);
    format!("update accounts set amount = amount + 100 where id = {id}")
}

#[tokio::test]
async fn what_only_reads_several_shards_goes_to_their_replicas() {
    let fleet = Fleet::new().await;
    let mut raw = fleet.raw().await;
    for (text, replicas, primaries) in CASES {
        let there = format!("/* pgherd.role = primary */ {text}");
        for (form, bytes) in forms(text).into_iter().zip(forms(&there)) {
            assert_eq!(told(&mut raw, &form).await, replicas, "{text}");
            assert_eq!(told(&mut raw, &bytes).await, primaries, "{there}");
        }
    }
    let pipeline = [part(SORTED), part(SUM), Raw::sync()].concat();
    assert_eq!(told(&mut raw, &pipeline).await, "10 20 30");
    // All of it is read where the last can be made.
    let pipeline = [part(SORTED), part(SUM), part(CASES[4].0), Raw::sync()].concat();
    assert_eq!(told(&mut raw, &pipeline).await, "11 20 31 11,1 20,0");
    // More than is kept for a replica is put into a table.
    let wide = "select sum(amount), length(min(repeat('x', 5000000) || owner)) from accounts";
    for bytes in forms(wide) {
        assert_eq!(told(&mut raw, &bytes).await, "32,5000002");
    }
}

#[tokio::test]
async fn what_must_not_go_to_a_replica_goes_to_the_primaries() {
    let fleet = Fleet::new().await;
    let client = fleet.client().await;
    assert_eq!(amounts(&client, SORTED).await, "10 20");
    let url = fleet.proxy.url("app", "shop");
    let wishes = connect(&format!("{url}?options=-c%20pgherd.role%3Dprimary")).await;
    assert_eq!(amounts(&wishes, SORTED).await, "11 21");
    client.batch_execute("begin").await.unwrap();
    assert_eq!(amounts(&client, SORTED).await, "11 21");
    client.batch_execute("rollback").await.unwrap();
    let locks = "select amount from accounts for update";
    assert_eq!(amounts(&fleet.client().await, locks).await, "11 21");
    // A standby has no rows of an unlogged table, and says so.
    for shard in &fleet.shards {
        let unlogged = "alter table entries set unlogged";
        shard.primary.sql_in(shard.name, unlogged).await.unwrap();
        shard.resume().await;
        shard.replica.caught_up(&shard.primary).await.unwrap();
    }
    let mut raw = fleet.raw().await;
    for text in ["select n from entries", "select n from entries order by n"] {
        for bytes in forms(text) {
            assert_eq!(told(&mut raw, &bytes).await, "0 1", "{text}");
        }
    }
    for bytes in forms("select count(*) from entries") {
        assert_eq!(told(&mut raw, &bytes).await, "2");
    }
    // So is what it copies, nothing of which has been told by then.
    raw.ask(&Raw::query("set pgherd.role = replica")).await;
    for (text, expected) in [
        ("select n from entries", "H d d c C ZI"),
        ("select n from entries order by n", "H d d c C ZI"),
        ("select count(*) from entries", "H d c C ZI"),
    ] {
        let copy = Raw::query(&format!("copy ({text}) to stdout"));
        assert_eq!(raw.ask(&copy).await, expected, "{text}");
    }
}

/// What it has not written it may see later.
#[tokio::test]
async fn a_session_reads_what_it_has_written_to_each_of_the_shards() {
    let fleet = Fleet::new().await;
    let client = fleet.client().await;
    assert_eq!(amounts(&client, SORTED).await, "10 20");
    client.batch_execute(&add_to(1)).await.unwrap();
    for _ in 0..10 {
        assert_eq!(amounts(&client, SORTED).await, "10 121");
        assert_eq!(client.one(SUM).await, "131");
    }
    let other = fleet.client().await;
    assert_eq!(amounts(&other, SORTED).await, "10 20");
    for text in ["begin", &add_to(0), &add_to(1), "commit"] {
        other.batch_execute(text).await.unwrap();
    }
    for _ in 0..10 {
        assert_eq!(amounts(&other, SORTED).await, "111 221");
    }
    let third = fleet.client().await;
    assert_eq!(amounts(&third, SORTED).await, "10 20");
    let add = "update accounts set amount = amount + 1000";
    third.batch_execute(add).await.unwrap();
    for _ in 0..10 {
        assert_eq!(amounts(&third, SORTED).await, "1111 1221");
    }
    let last = fleet.client().await;
    assert_eq!(amounts(&last, SORTED).await, "10 20");
    for shard in &fleet.shards {
        shard.resume().await;
    }
    until("the replicas have it", async || {
        amounts(&last, SORTED).await == "1111 1221"
    })
    .await;
}

#[tokio::test]
async fn a_block_that_only_reads_is_read_from_the_replicas_of_all_its_shards() {
    let fleet = Fleet::new().await;
    let client = fleet.client().await;
    let (one, two) = (amount_of(0), amount_of(1));
    let sum = SUM.to_owned();
    let sorted = SORTED.to_owned();
    for texts in [
        [(&one, "10"), (&two, "20"), (&sorted, "10 20"), (&sum, "30")],
        [(&sum, "30"), (&two, "20"), (&one, "10"), (&sorted, "10 20")],
        [(&sorted, "10 20"), (&sum, "30"), (&one, "10"), (&two, "20")],
    ] {
        client.batch_execute("begin read only").await.unwrap();
        for (text, expected) in texts {
            assert_eq!(amounts(&client, text).await, expected, "{text}");
        }
        client.batch_execute("commit").await.unwrap();
        // It has written nothing.
        assert_eq!(amounts(&client, SORTED).await, "10 20");
    }
    for text in [&one, &sorted] {
        client.batch_execute("begin read only").await.unwrap();
        assert!(!amounts(&client, text).await.is_empty());
        assert_eq!(client.refused(&add_to(1)).await.0, "25006");
        client.batch_execute("rollback").await.unwrap();
    }
    // The next transaction is one like any other.
    client.batch_execute(&add_to(1)).await.unwrap();
    assert_eq!(amounts(&client, SORTED).await, "10 121");
}

#[tokio::test]
async fn a_replica_that_is_lost_costs_no_error() {
    let mut fleet = Fleet::new().await;
    let mut raw = fleet.raw().await;
    for (at, (text, replicas, primaries)) in CASES.into_iter().enumerate() {
        let first = usize::from(at >= WITHOUT_TABLE);
        for bytes in forms(text) {
            for tap in &fleet.taps[first..] {
                for when in [When::Before, When::After] {
                    until("reads go to the replicas", async || {
                        told(&mut raw, &bytes).await == replicas
                    })
                    .await;
                    tap.arm(Rule {
                        pattern: b"accounts",
                        when,
                        fault: Fault::Cut,
                    });
                    assert_eq!(told(&mut raw, &bytes).await, primaries, "{text}");
                    tap.hit().await;
                }
            }
        }
    }
    fleet.shards[0].replica.kill9();
    for _ in 0..10 {
        for (text, _, primaries) in CASES {
            for bytes in forms(text) {
                // The other one may be read from its replica still.
                let told = told(&mut raw, &bytes).await.replace("20", "21");
                assert_eq!(told.replace("31", "32"), primaries, "{text}");
            }
        }
    }
}

#[tokio::test]
async fn reads_of_several_shards_go_on_without_their_primaries() {
    let mut fleet = Fleet::new().await;
    let mut raw = fleet.raw().await;
    fleet.shards[1].primary.kill9();
    for _ in 0..10 {
        for (text, replicas, _) in CASES {
            for bytes in forms(text) {
                assert_eq!(told(&mut raw, &bytes).await, replicas, "{text}");
            }
        }
    }
    fleet.shards[0].primary.kill9();
    for _ in 0..10 {
        for (text, replicas, _) in &CASES[..WITHOUT_TABLE] {
            for bytes in forms(text) {
                assert_eq!(told(&mut raw, &bytes).await, *replicas, "{text}");
            }
        }
    }
}
