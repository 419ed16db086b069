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
    for sharded in config.sharded.values() {
        pgherd_actors::shards::placement(sharded)
            .map_err(|error| Failure::Configuration(error.to_string()))?;
    }
    if connect {
        super::serve::runtime()?.block_on(reach(&config))?;
    }
    println!(
        "The configuration is right: {} databases, {} users.",
        config.databases.len() + config.sharded.len(),
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
                Ok(tried) => {
                    println!("{}: {}", database.name, tried.told);
                    if let Some(warning) = tried.warning {
                        eprintln!("warning: {}: {warning}", database.name);
                    }
                }
                Err(why) => failures.push(format!("{}: {why}", database.name)),
            }
        }
    }
    for sharded in config.sharded.values() {
        match pgherd_actors::shards::compare(config, sharded).await {
            Ok(found) => {
                for remark in &found.remarks {
                    println!("{}: {remark}", sharded.name);
                }
                if found.differences.is_empty() {
                    println!("{}: {} shards, alike", sharded.name, sharded.shards.len());
                }
                let told = found.differences.iter();
                failures
                    .extend(told.map(|what| format!("{}: shards differ: {what}", sharded.name)));
            }
            Err(why) => failures.push(format!("{}: {why}", sharded.name)),
        }
    }
    if failures.is_empty() {
        Ok(())
    } else {
        Err(Failure::Unavailable(failures.join("\n")))
    }
}
