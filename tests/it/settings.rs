//! What a client sets follows it from server to server, and is taken back as Postgres takes it back.
//!
//! Where there is one server connection for two clients, whoever is bound to it keeps the other
//! waiting for ever, so that each of these tests also shows that nobody is.

mod back;
mod follow;
mod local;
mod met;
mod pins;
mod plans;
mod refused;
mod roles;

use std::time::Duration;

use pgherd_tests::{Client, Database, Proxy, Raw};

async fn before(size: u32) -> (Database, Proxy) {
    let database = Database::new().await;
    let more = format!("[pool]\nsize = {size}\n[timeouts]\ncheckout = \"10s\"");
    let proxy = Proxy::before(&database, &more).await;
    (database, proxy)
}

/// Two clients that share one server connection.
async fn pair(database: &Database, proxy: &Proxy) -> [Client; 2] {
    [
        proxy.client("app", database).await,
        proxy.client("app", database).await,
    ]
}

async fn steps(client: &Client, statements: &[&str]) {
    for statement in statements {
        let done = tokio::time::timeout(Duration::from_secs(20), client.batch_execute(statement));
        let done = done.await.expect(statement);
        done.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
    }
}

/// The messages of an unnamed statement that is prepared, bound to these values, and executed.
fn unnamed(text: &str, values: &[&str]) -> Vec<u8> {
    [
        Raw::parse("", text),
        Raw::bind("", "", values),
        Raw::execute("", 0),
    ]
    .concat()
}
