//! Testing a configuration.

use pgherd_config::Config;

use super::{Check, Failure};

/// Checks as the arguments say.
pub(crate) fn run(check: Check) -> Result<(), Failure> {
    let connect = check.connect;
    let input = check.serving.input();
    let loaded =
        Config::load(&input).map_err(|faults| Failure::Configuration(faults.to_string()))?;
    for warning in &loaded.warnings {
        eprintln!("warning: {warning}");
    }
    let config = loaded.config;
    pgherd_actors::config::client_tls(&config)
        .map_err(|error| Failure::Configuration(format!("tls: {error}")))?;
    for database in config.databases.values() {
        pgherd_actors::router::server_tls(&database.tls).map_err(|error| {
            Failure::Configuration(format!("databases.{}.tls: {error}", database.name))
        })?;
    }
    if connect {
        super::serve::runtime()?.block_on(reach(&config))?;
    }
    println!(
        "The configuration is right: {} databases, {} users.",
        config.databases.len(),
        config.users.len()
    );
    Ok(())
}

/// Opens a connection to each server and gives it up again.
async fn reach(config: &Config) -> Result<(), Failure> {
    let mut failures = Vec::new();
    for database in config.databases.values() {
        for host in &database.hosts {
            match pgherd_actors::router::try_out(config, database, host).await {
                Ok(told) => println!("{}: {told}", database.name),
                Err(why) => failures.push(format!("{}: {why}", database.name)),
            }
        }
    }
    if failures.is_empty() {
        Ok(())
    } else {
        Err(Failure::Unavailable(failures.join("\n")))
    }
}
