use pgherd_planner::placement::{KeyValue, Method, Placement, Shard};
use pgherd_tests::{Client, Config, Database, Proxy, Raw, connect};

/// Two databases of one server as the shards of `shop`, and a proxy before them.
pub(crate) struct Rig {
    pub(crate) shards: Vec<Database>,
    pub(crate) proxy: Proxy,
}

pub(crate) const SCHEMA: &str = "
    create table accounts (id bigint primary key, owner text, amount int not null default 0);
    create table entries (account bigint not null, n int not null, what text, primary key (account, n));
    create table countries (code text primary key, name text);
    insert into countries values ('at', 'Austria'), ('de', 'Germany');
    create table elsewhere (id int);";

pub(crate) const SHARDING: &str = "
    tables = [{ name = \"accounts\", key = \"id\" }, { name = \"entries\", key = \"account\" }]
    replicated = [\"countries\"]";

/// A configuration before databases at these places: their names and hosts.
pub(crate) fn config(shards: &[(String, String)], more: &str) -> Config {
    let mut text = String::from(
        "[listen]\naddresses = [\"127.0.0.1:{port}\"]\n\
         [auth]\nmethod = \"trust\"\n\
         [log]\nstats_every = 0\n\
         [users.app]\npassword = \"app\"\nconsole = \"admin\"\n",
    );
    for (name, host) in shards {
        text.push_str(&format!("[databases.{name}]\nhosts = [\"{host}\"]\n"));
    }
    let names: Vec<String> = shards.iter().map(|(name, _)| format!("{name:?}")).collect();
    let names = names.join(", ");
    Config::text(format!(
        "{text}[databases.shop]\nshards = [{names}]\n[databases.shop.sharding]\n{SHARDING}\n{more}\n"
    ))
}

impl Rig {
    pub(crate) async fn new(more: &str) -> Self {
        Self::of(2, more).await
    }

    /// As [`Rig::new`], with so many databases.
    pub(crate) async fn of(count: usize, more: &str) -> Self {
        let mut shards = Vec::new();
        for _ in 0..count {
            let database = Database::new().await;
            database.sql(SCHEMA).await;
            shards.push(database);
        }
        let proxy = Proxy::start(&Self::config(&shards, more)).await;
        Self { shards, proxy }
    }

    pub(crate) fn config(shards: &[Database], more: &str) -> Config {
        let place = |shard: &Database| {
            let host = format!("127.0.0.1:{}", shard.port);
            (shard.name.clone(), host)
        };
        let places: Vec<_> = shards.iter().map(place).collect();
        config(&places, more)
    }

    pub(crate) async fn client(&self) -> Client {
        connect(&self.proxy.url("app", "shop")).await
    }

    pub(crate) async fn raw(&self) -> Raw {
        Raw::login(self.proxy.port(), "app", "shop", &[]).await
    }
}

/// Keys of the shard of this number, the first of them.
pub(crate) fn keys(shard: u16) -> impl Iterator<Item = i64> {
    keys_of(shard, 2)
}

/// The same where there are so many shards.
pub(crate) fn keys_of(shard: u16, count: u16) -> impl Iterator<Item = i64> {
    let mut placement = Placement::new(count);
    let group = placement.group(Method::hash(count)).unwrap();
    (1..).filter(move |key| placement.shard(group, &[KeyValue::Int(*key)]) == Ok(Shard(shard)))
}

pub(crate) fn key(shard: u16) -> i64 {
    keys(shard).next().unwrap()
}
