use pgherd_sandbox::{Binaries, Server};
use tokio_postgres::{Client, NoTls};

/// A server of the test's own, whose texts are ordered by a language.
pub(crate) async fn start() -> Server {
    let binaries = Binaries::find().expect("Postgres is needed");
    Server::builder(&binaries).start().await.unwrap()
}

/// A client of a database, as the superuser.
pub(crate) async fn connect(server: &Server, database: &str) -> Client {
    let config = format!(
        "host={} port={} user=postgres dbname={database}",
        server.socket_dir().display(),
        server.port()
    );
    let (client, connection) = tokio_postgres::connect(&config, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}
