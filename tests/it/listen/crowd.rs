//! Many clients that listen over one server connection. `LISTENERS=10000 cargo test --test it
//! listen::crowd` takes ten times as many.

use std::time::Instant;

use futures_util::future::join_all;
use pgherd_tests::{Config, Database, Proxy, Raw};

use super::{enter, next};

/// How many log in at a time.
const AT_ONCE: usize = 50;

#[tokio::test]
async fn a_thousand_clients_listen_over_one_connection() {
    let count = std::env::var("LISTENERS").map_or(1000, |count| count.parse().unwrap());
    let database = Database::new().await;
    let more =
        "[pool]\nsize = 4\n[limits]\nmax_clients = 20000\n[notifications]\nmax_listeners = 20000";
    let proxy = Proxy::start(&Config::before(&database, more)).await;
    let mut clients: Vec<Raw> = Vec::with_capacity(count);
    while clients.len() < count {
        let some = AT_ONCE.min(count - clients.len());
        let first = clients.len();
        let enter = async |number: usize| {
            let mut client = enter(&proxy, &database).await;
            let channel = number % 100;
            let listen = format!("listen c{channel}");
            assert_eq!(client.ask(&Raw::query("listen everybody")).await, "C ZI");
            assert_eq!(client.ask(&Raw::query(&listen)).await, "C ZI");
            client
        };
        clients.extend(join_all((0..some).map(|more| enter(first + more))).await);
    }
    assert!(database.backends("app").await <= 5);
    let began = Instant::now();
    database
        .sql("notify everybody, 'x'; notify c7, 'seven'; notify everybody, 'y'")
        .await;
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(next(client).await.2, "x");
        if number % 100 == 7 {
            assert_eq!(next(client).await.2, "seven");
        }
        assert_eq!(next(client).await.2, "y");
    }
    println!("{count} clients have heard it within {:?}", began.elapsed());
}
