use pgherd_sandbox::{Binaries, Server};
use pgherd_tests::{Client, Config, Proxy, connect};
use tokio_postgres::{SimpleQueryMessage, SimpleQueryRow};

/// A primary and its streaming replica, both a test's own.
pub(crate) struct Fleet {
    pub(crate) primary: Server,
    pub(crate) replica: Server,
}

impl Fleet {
    pub(crate) async fn new() -> Self {
        let binaries = Binaries::find().expect("Postgres is needed");
        let primary = Server::builder(&binaries).start().await.unwrap();
        primary
            .sql("create role app login superuser; create table acked (x int); create sequence counter")
            .await
            .unwrap();
        let replica = primary.replica().await.unwrap();
        replica.caught_up(&primary).await.unwrap();
        Self { primary, replica }
    }

    /// A proxy before the servers with these ports, in this order; `more` are further tables.
    pub(crate) async fn proxy(&self, ports: &[u16], more: &str) -> Proxy {
        Proxy::start(&self.config(ports, more)).await
    }

    /// What such a proxy is configured by.
    pub(crate) fn config(&self, ports: &[u16], more: &str) -> Config {
        let hosts: Vec<String> = ports
            .iter()
            .map(|port| format!("127.0.0.1:{port}"))
            .collect();
        self.config_of(&hosts, more)
    }

    /// The same of a proxy before these hosts.
    pub(crate) fn config_of(&self, hosts: &[String], more: &str) -> Config {
        let hosts: Vec<String> = hosts.iter().map(|host| format!("\"{host}\"")).collect();
        let hosts = hosts.join(", ");
        Config::text(format!(
            "[listen]\naddresses = [\"127.0.0.1:{{port}}\"]\n\
             [auth]\nmethod = \"trust\"\n\
             [log]\nstats_every = 0\n\
             [users.app]\npassword = \"app\"\nconsole = \"admin\"\n\
             [databases.postgres]\nhosts = [{hosts}]\n{more}\n"
        ))
    }

    pub(crate) async fn client(&self, proxy: &Proxy) -> Client {
        connect(&proxy.url("app", "postgres")).await
    }

    /// What SHOW HOSTS says of the host with this port.
    pub(crate) async fn host(&self, console: &Client, port: u16) -> SimpleQueryRow {
        let rows = console.simple_query("show hosts").await.unwrap();
        let name = format!("127.0.0.1:{port}");
        rows.into_iter()
            .find_map(|message| match message {
                SimpleQueryMessage::Row(row) if row.get("host") == Some(&name) => Some(row),
                _ => None,
            })
            .expect("the host is shown")
    }
}
