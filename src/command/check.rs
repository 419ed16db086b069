//! Testing a configuration.

use std::collections::BTreeMap;

use pgherd_actors::cluster::patroni::{SourceTls, try_source};
use pgherd_actors::router::try_out;
use pgherd_config::{Config, Database, Host};

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
    let source_tls =
        SourceTls::of(&config).map_err(|error| Failure::Configuration(error.to_string()))?;
    for sharded in config.sharded.values() {
        pgherd_actors::shards::placement(sharded)
            .map_err(|error| Failure::Configuration(error.to_string()))?;
    }
    if connect {
        super::serve::runtime()?.block_on(reach(&config, &source_tls))?;
    }
    println!(
        "The configuration is right: {} databases, {} users.",
        config.databases.len() + config.sharded.len(),
        config.users.len()
    );
    Ok(())
}

/// Opens a connection to each server and gives it up again.
async fn reach(config: &Config, tls: &SourceTls) -> Result<(), Failure> {
    let mut failures = Vec::new();
    for database in config.databases.values() {
        let hosts = match database.patroni.is_empty() {
            true => database.hosts.clone(),
            false => ask(config, database, tls, &mut failures).await,
        };
        for host in &hosts {
            match try_out(config, database, host).await {
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

/// Asks Patroni at each of its sources, and gives the hosts that any of them tells of.
async fn ask(
    config: &Config,
    database: &Database,
    tls: &SourceTls,
    failures: &mut Vec<String>,
) -> Vec<Host> {
    let mut hosts = BTreeMap::new();
    for source in &database.patroni {
        match try_source(config, &database.name, tls, source).await {
            Ok(heard) => {
                println!("{}: {}", database.name, heard.told);
                let told = heard.hosts.into_iter();
                hosts.extend(told.map(|host| (host.to_string(), host)));
            }
            Err(why) => failures.push(format!("{}: {why}", database.name)),
        }
    }
    hosts.into_values().collect()
}
