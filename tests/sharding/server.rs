use std::sync::atomic::{AtomicU32, Ordering};

use pgherd_sandbox::{Binaries, Server};
use tokio::sync::OnceCell;
use tokio_postgres::{Client, NoTls};

/// One server for all tests of the process. The sandbox' guardian ends it with the process.
static SERVER: OnceCell<Server> = OnceCell::const_new();
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Gives the server that all tests of this process share.
pub(crate) async fn server() -> &'static Server {
    SERVER
        .get_or_init(|| async {
            let binaries = Binaries::find().expect("Postgres is needed");
            Server::builder(&binaries).start().await.unwrap()
        })
        .await
}

/// Makes a database whose texts are ordered by a language, and gives a client of it.
pub(crate) async fn database() -> Client {
    let name = format!("d{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let server = server().await;
    let create = format!(
        "create database {name} template template0 encoding 'UTF8' locale 'C'
         locale_provider icu icu_locale 'en-US'"
    );
    server.sql(&create).await.unwrap();
    connect(server, &name).await
}

/// A client of a database, as the superuser.
async fn connect(server: &Server, database: &str) -> Client {
    let config = format!(
        "host={} port={} user=postgres dbname={database}",
        server.socket_dir().display(),
        server.port()
    );
    let (client, connection) = tokio_postgres::connect(&config, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}
