//! The rows of a world behind a proxy: its configuration, and a client of each side.

use pgherd_planner::placement::Shard;
use pgherd_tests::{Config, Proxy, Raw};
use tokio_postgres::Client;

use crate::answer::ask;
use crate::server::server;
use crate::world::{Buckets, World, spread};

/// A world, and the same rows on one server.
pub(crate) struct Spread {
    pub(crate) world: World,
    pub(crate) proxy: Proxy,
    /// A session through the proxy.
    pub(crate) raw: Raw,
    /// One on the server that has all rows.
    pub(crate) whole: Raw,
}

impl Spread {
    /// Both sessions are begun with these parameters, those of pgherd's own only on its side.
    pub(crate) async fn new(shards: u16, buckets: Buckets, parameters: &[(&str, &str)]) -> Self {
        let world = World::with(shards, buckets).await;
        let proxy = Proxy::start(&config(&world, buckets).await).await;
        let raw = Raw::login(proxy.port(), "postgres", "all", parameters).await;
        let whole = direct(&world.whole).await;
        Self {
            world,
            proxy,
            raw,
            whole,
        }
    }
}

/// The name of the database that a client is in.
pub(crate) async fn name_of(client: &Client) -> String {
    let name = ask(client, "select current_database()").await.unwrap();
    name.rows[0][0].clone().unwrap()
}

/// One more client of a client's database.
pub(crate) async fn direct(client: &Client) -> Raw {
    let name = name_of(client).await;
    Raw::login(server().await.port(), "postgres", &name, &[]).await
}

/// What the configuration says of which buckets are where.
fn map(names: &[String], buckets: &[Shard]) -> String {
    let of = |at: usize| {
        let own = (0..buckets.len()).filter(|bucket| usize::from(buckets[*bucket].0) == at);
        let own: Vec<String> = own.map(|bucket| bucket.to_string()).collect();
        own.join(", ")
    };
    let places = names.iter().enumerate().map(|(at, name)| (name, of(at)));
    let places = places.filter(|(_, own)| !own.is_empty());
    let places: Vec<String> = places
        .map(|(name, own)| format!("{name} = \"{own}\""))
        .collect();
    places.join(", ")
}

/// What it says where some groups have other buckets than the rest.
fn hashed(names: &[String], buckets: Buckets) -> String {
    let shards = u16::try_from(names.len()).unwrap();
    let [spread, plain] = spread(shards, buckets);
    let mut text = format!(
        "buckets = {}\nbucket_map = {{ {} }}\n",
        spread.len(),
        map(names, &spread)
    );
    if plain != spread {
        let own = format!(
            ", buckets = {}, bucket_map = {{ {} }}",
            plain.len(),
            map(names, &plain)
        );
        let groups = ["docs", "names", "codes", "prices", "days", "pairs"].map(|name| {
            let own = if name == "pairs" { "" } else { &own };
            format!("{{ name = \"{name}\"{own} }}")
        });
        text.push_str(&format!("groups = [\n{}\n]\n", groups.join(",\n")));
    }
    text
}

/// What it says where each group has a method of its own, as the world has it.
fn methods(shards: &[String]) -> String {
    let [first, second, third] = shards else {
        panic!("{shards:?}");
    };
    let one_of = |kind: &str, values: &str, shard: &str, others: &str| {
        format!(
            "method = \"list\", key_type = \"{kind}\", places = [{{ values = [{values}], shard = \"{shard}\" }}, \
             {{ others = true, shard = \"{others}\" }}]"
        )
    };
    let cut = |kind: &str, at: &str, below: &str, above: &str| {
        format!(
            "method = \"range\", key_type = \"{kind}\", places = [{{ to = \"{at}\", shard = \"{below}\" }}, \
             {{ from = \"{at}\", shard = \"{above}\" }}]"
        )
    };
    let groups = [
        (
            "docs",
            cut(
                "uuid",
                "00000000-0000-4000-8000-000000000014",
                second,
                first,
            ),
        ),
        (
            "names",
            one_of(
                "text",
                "\"näme 3\", \"näme 7\", \"näme 8\", \"näme 31\"",
                third,
                first,
            ),
        ),
        (
            "codes",
            one_of("char", "\"c1\", \"c4\", \"c5\"", second, third),
        ),
        (
            "prices",
            format!(
                "method = \"range\", key_type = \"numeric\", places = [{{ to = -5, shard = \"{first}\" }}, \
                 {{ from = -5, to = \"7.5\", shard = \"{third}\" }}, {{ from = \"7.5\", shard = \"{second}\" }}]"
            ),
        ),
        ("days", cut("date", "2026-01-10", second, third)),
        ("pairs", "buckets = 5".to_owned()),
    ];
    let groups = groups.map(|(name, method)| format!("{{ name = \"{name}\", {method} }}"));
    format!(
        "buckets = 16\nbucket_map = {{ {third} = \"0-2, 4-6\", {first} = \"3, 7-10\", {second} = \"11-15\" }}\n\
         groups = [\n{}\n]\n",
        groups.join(",\n")
    )
}

/// The tables that are spread, and the groups of those that have a group of their own.
const TABLES: [(&str, &str, &str); 16] = [
    ("users", "\"id\"", ""),
    ("orders", "\"user_id\"", ""),
    ("items", "\"user_id\"", ""),
    ("Upper", "\"Id\"", ""),
    ("loose", "\"user_id\"", ""),
    ("bags", "\"id\"", ""),
    ("spans", "\"id\"", ""),
    // They are made by the collection of writes.
    ("made", "\"user_id\"", ""),
    ("made2", "\"user_id\"", ""),
    ("docs", "\"key\"", "docs"),
    ("names", "\"name\"", "names"),
    ("codes", "\"code\"", "codes"),
    ("prices", "\"amount\"", "prices"),
    ("days", "\"day\"", "days"),
    ("pairs", "[\"a\", \"b\"]", "pairs"),
    ("pairs2", "[\"a\", \"b\"]", "pairs"),
];

pub(crate) async fn config(world: &World, buckets: Buckets) -> Config {
    let server = server().await;
    let host = format!("{}:{}", server.socket_dir().display(), server.port());
    let mut text = String::from(
        "[listen]\naddresses = [\"127.0.0.1:{port}\"]\n[auth]\nmethod = \"trust\"\n\
         [log]\nstats_every = 0\n[users.postgres]\npassword = \"postgres\"\nconsole = \"admin\"\n",
    );
    let mut names = Vec::new();
    for shard in &world.shards {
        names.push(name_of(shard).await);
    }
    for name in &names {
        text.push_str(&format!("[databases.{name}]\nhosts = [\"{host}\"]\n"));
    }
    text.push_str(&format!(
        "[databases.all]\nshards = {names:?}\n[databases.all.sharding]\n\
         replicated = [\"products\", \"countries\", \"other.users\"]\n\
         schemas = [{{ name = \"conf\", shard = \"{}\" }}]\ntables = [\n",
        names[names.len().min(2) - 1]
    ));
    for (table, key, group) in TABLES {
        let group = match group {
            "" => String::new(),
            // Tables of one group lie together, also where it has the method of all.
            group => format!(", group = \"{group}\""),
        };
        text.push_str(&format!("{{ name = \"{table}\", key = {key}{group} }},\n"));
    }
    text.push_str("]\n");
    match buckets {
        // As many buckets as there are shards, which need not be said.
        Buckets::Even => {}
        Buckets::Mixed => text.push_str(&methods(&names)),
        Buckets::Uneven | Buckets::One | Buckets::Gap => text.push_str(&hashed(&names, buckets)),
    }
    Config::text(text)
}
