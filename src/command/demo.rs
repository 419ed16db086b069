//! A world to try pgherd in, gone without a trace when it ends.

use std::collections::BTreeMap;
use std::time::Instant;

use pgherd_actors::{Curtain, Ending, Proxy};
use pgherd_config::{Config, LoadInput, Overrides};
use pgherd_sandbox::{Demo as World, things_to_try};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::{Demo, Failure};
use writers::{WRITERS, Writers};

mod shards;
mod writers;

/// A client that is caught at its COMMIT is told what became of it, so that it sees a pause and no error.
const TOLD: [&str; 2] = ["PGHERD_FAILOVER__COMMIT_RESOLUTION", "on"];

/// Runs the demo until Ctrl-C.
pub(crate) fn run(demo: &Demo) -> Result<(), Failure> {
    let runtime = super::serve::runtime()?;
    match demo.shards {
        Some(count) => runtime.block_on(shards::show(demo.port, count)),
        None => runtime.block_on(show(demo)),
    }
}

async fn show(demo: &Demo) -> Result<(), Failure> {
    let unavailable = |error: String| Failure::Unavailable(error);
    let mut terminate = signal(SignalKind::terminate()).map_err(|e| unavailable(e.to_string()))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|e| unavailable(e.to_string()))?;
    eprintln!("Starting a primary and a replica, and loading data …");
    let mut world = tokio::select! {
        world = World::start(demo.scale) => world.map_err(|error| unavailable(error.to_string()))?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    let input = LoadInput {
        env: BTreeMap::from([TOLD.map(str::to_owned).into()]),
        overrides: Overrides {
            port: Some(demo.port),
            urls: world.urls().to_vec(),
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
        "DATABASE_URL={url}\n\n{}\n\
         Without a terminal: kill -USR1 {}\n\nCtrl-C ends it.",
        things_to_try(&url),
        std::process::id()
    );
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        curtain.ask(Ending::AtOnce);
    });
    let mut keys = keys().map_err(|error| unavailable(error.to_string()))?;
    let mut serving = std::pin::pin!(super::serve::serve(proxy));
    let outcome = loop {
        tokio::select! {
            outcome = &mut serving => break outcome,
            _ = keys.recv() => {}
        }
        tokio::select! {
            outcome = &mut serving => break outcome,
            () = fail_over(&mut world, &url) => {}
        }
    };
    eprintln!("Stopping the servers and removing their data …");
    drop(world);
    outcome
}

/// Takes the primary away under clients that write, says what they saw, and brings it back as a replica.
async fn fail_over(world: &mut World, url: &str) {
    let writers = match Writers::start(url).await {
        Ok(writers) => writers,
        Err(error) => {
            println!("Nobody can write at the moment: {error}");
            return;
        }
    };
    println!(
        "{WRITERS} clients write. Killing the primary on port {} …",
        world.primary().port()
    );
    let begun = Instant::now();
    if let Err(error) = world.fail_over().await {
        println!("The replica was not promoted: {error}");
        return;
    }
    println!(
        "The server on port {} is the primary after {} ms.",
        world.primary().port(),
        begun.elapsed().as_millis()
    );
    match writers.finish().await {
        Ok(account) => println!("failover: {account}"),
        Err(error) => println!("failover: what was written cannot be read: {error}"),
    }
    println!("The other server is being made a replica …");
    match world.heal().await {
        Ok(()) => println!("It follows. Enter does it again, Ctrl-C ends it."),
        Err(error) => println!("It does not: {error}"),
    }
}

/// A message for each line that is typed, and for each SIGUSR1.
fn keys() -> std::io::Result<mpsc::Receiver<()>> {
    let mut told = signal(SignalKind::user_defined1())?;
    let (sender, keys) = mpsc::channel(1);
    let typed = sender.clone();
    // A thread of its own, since nothing can end a read of the terminal; it goes with the process.
    std::thread::spawn(move || {
        let mut line = String::new();
        while std::io::stdin()
            .read_line(&mut line)
            .is_ok_and(|read| read > 0)
        {
            line.clear();
            if typed.blocking_send(()).is_err() {
                return;
            }
        }
    });
    tokio::spawn(
        async move { while told.recv().await.is_some() && sender.send(()).await.is_ok() {} },
    );
    Ok(keys)
}
