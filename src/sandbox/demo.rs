use crate::binaries::Binaries;
use crate::cluster::{Cluster, Replication};
use crate::error::Error;
use crate::pgbench::pgbench_init;
use crate::server::Server;

/// Real servers to try a proxy with: a primary and a streaming replica, with data.
///
/// The database holds pgbench's tables and a small farm: `farms`, `animals`, `weighings`, and
/// `counted`, whose one column `id` is for whoever writes while the primary is lost. Dropped, both servers and their data are gone.
#[derive(Debug)]
pub struct Demo {
    cluster: Cluster,
}

/// The farm: enough rows to count, group and join by eye. The user may see what the proxy has to see to
/// tell what became of a commit, also behind several failovers; files but for the server's own stay closed.
const FARM: &str = "
    create table farms (id int primary key, name text not null);
    create table animals (
        id int generated always as identity primary key,
        farm_id int not null references farms,
        name text not null,
        kind text not null,
        born date not null
    );
    create table weighings (
        animal_id int not null references animals,
        day date not null,
        kilograms numeric(6, 1) not null,
        primary key (animal_id, day)
    );
    insert into farms values (1, 'Long Meadow'), (2, 'Stony Brook'), (3, 'Windy Hill');
    insert into animals (farm_id, name, kind, born)
        select 1 + n % 3,
               (array['Ada', 'Bela', 'Cleo', 'Dora', 'Emil', 'Fritz', 'Greta'])[1 + n % 7]
                   || ' ' || (1 + n / 7),
               (array['sheep', 'goat', 'cow', 'dog'])[1 + n % 4],
               date '2020-01-01' + n * 11 % 1500
        from generate_series(0, 199) n;
    insert into weighings
        select animals.id, date '2026-01-01' + 7 * week, 20 + (animals.id * 13 + week) % 60
        from animals, generate_series(0, 51) week;
    create table counted (id bigint primary key);
    grant select, insert, update, delete on all tables in schema public to demo;
    grant usage on all sequences in schema public to demo;
    grant pg_monitor to demo;
    grant execute on function pg_read_file(text) to demo;
    analyze;
";

impl Demo {
    /// The user to log in as, by password.
    pub const USER: &'static str = "demo";
    /// The user's password.
    pub const PASSWORD: &'static str = "demo";
    /// The database.
    pub const DATABASE: &'static str = "demo";

    /// Starts both servers and loads the data; pgbench's have 100,000 accounts for each unit of
    /// scale.
    ///
    /// # Errors
    /// As [`crate::Builder::start`] and [`Server::sql`].
    pub async fn start(scale: u32) -> Result<Self, Error> {
        let rules = ["host all all 127.0.0.1/32 scram-sha-256"];
        let primary = Server::builder(&Binaries::find()?).auth(&rules);
        let cluster = Cluster::start_as(primary, 2, Replication::Synchronous).await?;
        let demo = Self { cluster };
        let primary = demo.primary();
        primary.create_user(Self::USER, Self::PASSWORD).await?;
        primary.sql("create database demo owner demo").await?;
        pgbench_init(primary, Self::DATABASE, scale).await?;
        primary.sql_in(Self::DATABASE, FARM).await?;
        demo.replica().caught_up(primary).await?;
        Ok(demo)
    }

    /// The server that is the primary at the moment.
    pub fn primary(&self) -> &Server {
        self.cluster.node(self.cluster.primary())
    }

    /// The other one.
    pub fn replica(&self) -> &Server {
        self.cluster.node(1 - self.cluster.primary())
    }

    /// Gives the URLs of both servers, with user and password.
    pub fn urls(&self) -> [String; 2] {
        [0, 1].map(|number| {
            let server = self.cluster.node(number);
            server.url_with_password(Self::USER, Self::PASSWORD, Self::DATABASE)
        })
    }

    /// Kills the primary and promotes the replica, which has all that was acknowledged. Until
    /// [`Self::heal`] it waits for nobody at a commit.
    ///
    /// # Errors
    /// As [`Server::sql`].
    pub async fn fail_over(&mut self) -> Result<(), Error> {
        self.cluster.kill9(self.cluster.primary());
        self.cluster.elect().await?;
        let alone = "alter system set synchronous_standby_names = ''; select from pg_reload_conf()";
        self.primary().sql(alone).await?;
        self.cluster.promote().await
    }

    /// Makes a replica of the primary that was killed, for which commits wait again.
    ///
    /// # Errors
    /// As [`Cluster::rejoin`].
    pub async fn heal(&mut self) -> Result<(), Error> {
        let killed = 1 - self.cluster.primary();
        self.cluster.rejoin(killed).await?;
        let both = "alter system reset synchronous_standby_names; select from pg_reload_conf()";
        self.primary().sql(both).await.map(drop)
    }
}

/// Gives a text with three things to try at a proxy with this URL.
pub fn things_to_try(url: &str) -> String {
    format!(
        "Three things to try, each in another terminal:\n\
         \n\
         1. Look at the data:\n\
         \x20  psql '{url}' -c 'select kind, count(*), min(born) from animals group by kind'\n\
         \n\
         2. See that your settings follow you from server connection to server connection:\n\
         \x20  psql '{url}' -c \"set timezone = 'Asia/Tokyo'\" -c 'select now(), pg_backend_pid()'\n\
         \n\
         3. Lose the primary: press Enter here. Clients write, the primary is killed and the replica\n\
         \x20  promoted, and you see how long they had to wait. The same with 100 clients of yours, who share\n\
         \x20  a few server connections; start this, then press Enter:\n\
         \x20  pgbench -n -c 100 -j 2 -T 30 -P 1 --max-tries=100 '{url}'\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn both_servers_hold_the_farm() -> Result<(), Error> {
        let demo = Demo::start(1).await?;
        let question = "select count(*) from weighings; \
                        select count(*) from pgbench_accounts; \
                        select pg_is_in_recovery()";
        let on_primary = demo.primary().sql_in(Demo::DATABASE, question).await?;
        assert_eq!(on_primary, "10400\n100000\nf");
        let on_replica = demo.replica().sql_in(Demo::DATABASE, question).await?;
        assert_eq!(on_replica, "10400\n100000\nt");
        Ok(())
    }

    #[tokio::test]
    async fn the_demo_user_logs_in_by_password_and_writes() -> Result<(), Error> {
        let demo = Demo::start(1).await?;
        let [primary, _] = demo.urls();
        let mut psql = demo.primary().client("psql")?;
        psql.args(["-XAtq", "-c"])
            .arg("update animals set name = 'Ada' where id = 1 returning name")
            .arg(&primary);
        assert_eq!(crate::tool::run(psql).await?.trim(), "Ada");
        let mut without = demo.primary().client("psql")?;
        without
            .args(["-XAtq", "-w", "-c", "select 1"])
            .arg(demo.primary().url(Demo::USER, Demo::DATABASE));
        assert!(crate::tool::run(without).await.is_err());
        Ok(())
    }

    #[test]
    fn things_to_try_name_the_url() {
        let text = things_to_try("postgres://demo@x/demo");
        assert_eq!(text.matches("postgres://demo@x/demo").count(), 3);
    }
}
