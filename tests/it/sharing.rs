//! Who gets which server connection.

use pgherd_tests::{Database, Proxy};

#[tokio::test]
async fn clients_share_a_server_connection_by_transaction() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 1").await;
    let first = proxy.client("app", &database).await;
    let second = proxy.client("app", &database).await;
    let pid = "select pg_backend_pid()";
    assert_eq!(first.one(pid).await, second.one(pid).await);
    assert_eq!(database.backends("app").await, 1);
}
