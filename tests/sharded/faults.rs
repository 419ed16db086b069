//! A shard that is lost takes only what is its own with it.

use pgherd_sandbox::{Binaries, Server};
use pgherd_tests::{Proxy, connect, until};

use crate::rig::{SCHEMA, config, key};

async fn shard() -> Server {
    let binaries = Binaries::find().expect("Postgres is needed");
    let server = Server::builder(&binaries).start().await.unwrap();
    server.sql("create role app login superuser").await.unwrap();
    server
}

#[tokio::test]
async fn a_lost_shard_leaves_the_others_alone() {
    let (mut one, two) = (shard().await, shard().await);
    let replica = {
        one.sql("create database a").await.unwrap();
        two.sql("create database b").await.unwrap();
        one.sql_in("a", SCHEMA).await.unwrap();
        two.sql_in("b", SCHEMA).await.unwrap();
        let replica = one.replica().await.unwrap();
        replica.caught_up(&one).await.unwrap();
        replica
    };
    let hosts = format!("127.0.0.1:{}\", \"127.0.0.1:{}", one.port(), replica.port());
    let places = [
        ("a".to_owned(), hosts),
        ("b".to_owned(), format!("127.0.0.1:{}", two.port())),
    ];
    let proxy = Proxy::start(&config(&places, "[timeouts]\nhold = \"20s\"")).await;
    let client = connect(&proxy.url("app", "shop")).await;
    let write = |shard: u16| {
        let id = key(shard);
        format!(
            "insert into accounts values ({id}, 'x', 1)
             on conflict (id) do update set amount = accounts.amount + 1"
        )
    };
    client.simple_query(&write(0)).await.unwrap();
    client.simple_query(&write(1)).await.unwrap();
    replica.caught_up(&one).await.unwrap();
    one.kill9();
    // The other shard goes on meanwhile, also for who comes now, and so does what any shard can say.
    for _ in 0..5 {
        client.simple_query(&write(1)).await.unwrap();
    }
    let other = connect(&proxy.url("app", "shop")).await;
    proxy.logged("there is no primary", 1).await;
    assert_eq!(other.one("select count(*) from countries").await, "2");
    let waits = client.share();
    let text = write(0);
    let waits = tokio::spawn(async move { waits.simple_query(&text).await.map(drop) });
    assert_eq!(other.one("select count(*) from countries").await, "2");
    replica.promote().await.unwrap();
    waits.await.unwrap().unwrap();
    let amount = |shard: u16| format!("select amount from accounts where id = {}", key(shard));
    until("each write was done once", async || {
        other.one(&amount(0)).await == "2" && other.one(&amount(1)).await == "6"
    })
    .await;
}
