//! A world to try pgherd in, gone without a trace when it ends.

use pgherd_actors::{Curtain, Ending, Proxy};
use pgherd_config::{Config, LoadInput, Overrides};
use pgherd_sandbox::{Demo as World, things_to_try};
use tokio::signal::unix::{SignalKind, signal};

use super::{Demo, Failure};

/// Runs the demo until Ctrl-C.
pub(crate) fn run(demo: &Demo) -> Result<(), Failure> {
    super::serve::runtime()?.block_on(show(demo))
}

async fn show(demo: &Demo) -> Result<(), Failure> {
    let unavailable = |error: String| Failure::Unavailable(error);
    let mut terminate = signal(SignalKind::terminate()).map_err(|e| unavailable(e.to_string()))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|e| unavailable(e.to_string()))?;
    eprintln!("Starting a primary and a replica, and loading data …");
    let world = tokio::select! {
        world = World::start(demo.scale) => world.map_err(|error| unavailable(error.to_string()))?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    let [primary, _replica] = world.urls();
    let input = LoadInput {
        overrides: Overrides {
            port: Some(demo.port),
            urls: vec![primary],
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
        .map_or(demo.port, std::net::SocketAddr::port);
    let url = format!(
        "postgres://{}:{}@127.0.0.1:{port}/{}",
        World::USER,
        World::PASSWORD,
        World::DATABASE
    );
    println!(
        "DATABASE_URL={url}\n\n{}\n\nCtrl-C ends it.",
        things_to_try(&url)
    );
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        curtain.ask(Ending::AtOnce);
    });
    let outcome = super::serve::serve(proxy).await;
    eprintln!("Stopping the servers and removing their data …");
    drop(world);
    outcome
}
