use crate::binaries::Binaries;
use crate::error::Error;
use crate::server::Server;

/// A small shop that is spread over several databases of one server, as a proxy with shards wants it: customers
/// and their orders by Postgres' own hash of the customer's number, countries the same in each.
///
/// Dropped, the server and its data are gone.
#[derive(Debug)]
pub struct Shop {
    server: Server,
    shards: u16,
}

/// The tables, for one shard of some: `$shards` and `$shard` are their number and its own.
const TABLES: &str = "
    create table countries (code text primary key, name text not null);
    create table customers (id bigint primary key, name text not null, country text not null);
    create table orders (
        customer_id bigint not null,
        id int not null,
        placed date not null,
        total numeric(8, 2) not null,
        primary key (customer_id, id)
    );
    create table placed (id bigint) partition by hash (id);
    insert into countries values ('at', 'Austria'), ('de', 'Germany'), ('fr', 'France');
    insert into customers
        select id, 'Customer ' || id, (array['at', 'de', 'fr'])[1 + id % 3]
        from generate_series(1, 1000) id
        where satisfies_hash_partition('placed'::regclass, $shards, $shard, id::bigint);
    insert into orders
        select c.id, n, date '2026-01-01' + (c.id * 7 + n)::int % 300, (c.id * 37 + n * 91) % 1000
        from customers c, generate_series(1, 10) n;
    drop table placed;
    grant select, insert, update, delete on all tables in schema public to demo;
    analyze;
";

impl Shop {
    /// The user to log in as, by password.
    pub const USER: &'static str = "demo";
    /// The user's password.
    pub const PASSWORD: &'static str = "demo";

    /// Starts the server and loads the data.
    ///
    /// # Errors
    /// As [`crate::Builder::start`] and [`Server::sql`].
    pub async fn start(shards: u16) -> Result<Self, Error> {
        let rules = ["host all all 127.0.0.1/32 scram-sha-256"];
        let server = Server::builder(&Binaries::find()?)
            .auth(&rules)
            .start()
            .await?;
        server.create_user(Self::USER, Self::PASSWORD).await?;
        let shop = Self { server, shards };
        for (shard, name) in shop.databases().enumerate() {
            let create = format!("create database {name} owner {}", Self::USER);
            shop.server.sql(&create).await?;
            let tables = TABLES
                .replace("$shards", &shards.to_string())
                .replace("$shard", &shard.to_string());
            shop.server.sql_in(&name, &tables).await?;
        }
        Ok(shop)
    }

    /// Gives the names of the databases, in the order of the shards.
    pub fn databases(&self) -> impl Iterator<Item = String> + use<> {
        (0..self.shards).map(|shard| format!("shop{shard}"))
    }

    /// Gives the server's port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.server.port()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_customer_is_on_one_shard() -> Result<(), Error> {
        let shop = Shop::start(3).await?;
        let mut all = 0;
        for name in shop.databases() {
            let count = "select count(*) from customers; select count(*) from orders";
            let counts = shop.server.sql_in(&name, count).await?;
            let (customers, orders) = counts.split_once('\n').expect("two counts");
            let customers: usize = customers.parse().expect("a number");
            assert!(customers > 250, "{customers}");
            assert_eq!(orders.parse(), Ok(customers * 10));
            all += customers;
        }
        assert_eq!(all, 1000);
        Ok(())
    }
}
