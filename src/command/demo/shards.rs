//! A small shop over several databases.

use pgherd_actors::{Curtain, Ending, Proxy};
use pgherd_config::{Config, LoadInput, Overrides};
use pgherd_sandbox::{Account, Home, Shop};
use tokio::signal::unix::{SignalKind, signal};

use super::super::{Failure, serve};

/// Runs it until Ctrl-C.
pub(super) async fn show(port: u16, count: u16) -> Result<(), Failure> {
    let unavailable = |error: String| Failure::Unavailable(error);
    let mut terminate = signal(SignalKind::terminate()).map_err(|e| unavailable(e.to_string()))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|e| unavailable(e.to_string()))?;
    eprintln!("Starting a server with {count} databases, and spreading a shop over them …");
    let shop = tokio::select! {
        shop = Shop::start(count) => shop.map_err(|error| unavailable(error.to_string()))?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    let home = Home::new(Account::Own).map_err(|error| unavailable(error.to_string()))?;
    let file = home.join("pgherd.toml");
    std::fs::write(&file, text(&shop)).map_err(|error| unavailable(error.to_string()))?;
    let input = LoadInput {
        file: Some(file),
        overrides: Overrides {
            port: Some(port),
            ..Overrides::default()
        },
        ..LoadInput::default()
    };
    let config = Config::load(&input)
        .map_err(|faults| Failure::Configuration(faults.to_string()))?
        .config;
    let curtain = Curtain::default();
    let proxy = Proxy::bind(config, input, curtain.clone())
        .map_err(|error| unavailable(error.to_string()))?;
    let port = proxy
        .addresses()
        .first()
        .map_or(port, std::net::SocketAddr::port);
    println!("{}\n\nCtrl-C ends it.", to_try(port));
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        curtain.ask(Ending::AtOnce);
    });
    let outcome = serve::serve(proxy).await;
    eprintln!("Stopping the server and removing its data …");
    drop(shop);
    outcome
}

/// The configuration.
fn text(shop: &Shop) -> String {
    let (user, password) = (Shop::USER, Shop::PASSWORD);
    let mut text = format!("[users.{user}]\npassword = \"{password}\"\n");
    let names: Vec<String> = shop.databases().collect();
    for name in &names {
        let port = shop.port();
        text.push_str(&format!(
            "[databases.{name}]\nhosts = [\"127.0.0.1:{port}\"]\n"
        ));
    }
    text.push_str(&format!(
        "[databases.shop]\nshards = {names:?}\n[databases.shop.sharding]\n\
         tables = [{{ name = \"customers\", key = \"id\" }}, {{ name = \"orders\", key = \"customer_id\" }}]\n\
         replicated = [\"countries\"]\n"
    ));
    text
}

fn to_try(port: u16) -> String {
    let (user, password) = (Shop::USER, Shop::PASSWORD);
    let url = |database: &str| format!("postgres://{user}:{password}@127.0.0.1:{port}/{database}");
    let (shop, one) = (url("shop"), url("shop0"));
    format!(
        "DATABASE_URL={shop}\n\n\
         Three things to try, each in another terminal:\n\n\
         1. A customer's orders, which are on one shard, and those of all, which are on each:\n\
         \x20  psql '{shop}' -c 'select * from orders where customer_id = 7'\n\
         \x20  psql '{shop}' -c 'select name, total from customers c join orders o on o.customer_id = c.id where total > 985'\n\n\
         2. What all shards have, sorted here, or added up by one of them:\n\
         \x20  psql '{shop}' -c 'select id, name from customers order by id limit 5'\n\
         \x20  psql '{shop}' -c 'select country, count(*), avg(total) from customers c join orders o on o.customer_id = c.id group by country'\n\n\
         3. One shard by itself:\n\
         \x20  psql '{one}' -c 'select count(*) from orders'"
    )
}
