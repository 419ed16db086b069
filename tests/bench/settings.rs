use pgherd_sandbox::Certificate;

use crate::shards::DATABASE;
use crate::target::Door;

/// The most clients of any cell, for each proxy.
pub(crate) const CLIENTS_MAX: usize = 20_000;

/// The name that two databases have together, as shards.
pub(crate) const SHARDED: &str = "spread";

/// Writes pgherd's configuration before two databases as shards by pgbench's key.
pub(crate) fn sharded(server: u16, pool_size: usize, door: &Door, shards: [&str; 2]) -> String {
    let one = Door {
        database: shards[0].to_owned(),
        ..door.clone()
    };
    let [first, second] = shards;
    pgherd(server, pool_size, &one, None)
        + &format!(
            "[databases.{second}]\n\
             hosts = [\"127.0.0.1:{server}\"]\n\
             [databases.{second}.tls]\n\
             mode = \"disable\"\n\
             [databases.{SHARDED}]\n\
             shards = [\"{first}\", \"{second}\"]\n\
             [databases.{SHARDED}.sharding]\n\
             tables = [{{ name = \"pgbench_accounts\", key = \"aid\" }}]\n\
             unlisted = \"replicated\"\n",
        )
}

/// Writes pgherd's configuration before servers that are the shards of one database.
pub(crate) fn spread(port: u16, pool_size: usize, servers: &[u16]) -> String {
    let mut text = format!(
        "[listen]\n\
         addresses = [\"127.0.0.1:{port}\"]\n\
         [auth]\n\
         method = \"trust\"\n\
         [pool]\n\
         size = {pool_size}\n\
         [log]\n\
         level = \"warn\"\n\
         connections = false\n\
         disconnections = false\n\
         stats_every = 0\n\
         [users.postgres]\n"
    );
    let mut names = Vec::new();
    for (at, server) in servers.iter().enumerate() {
        // All of them have a database of the name that they have together.
        text += &format!(
            "[databases.shard{at}]\n\
             hosts = [\"127.0.0.1:{server}\"]\n\
             dbname = \"{DATABASE}\"\n\
             [databases.shard{at}.tls]\n\
             mode = \"disable\"\n",
        );
        names.push(format!("\"shard{at}\""));
    }
    text + &format!(
        "[databases.{DATABASE}]\n\
         shards = [{}]\n\
         [databases.{DATABASE}.sharding]\n\
         tables = [\n\
         {{ name = \"customer\", key = \"c_custkey\" }},\n\
         {{ name = \"orders\", key = \"o_orderkey\" }},\n\
         {{ name = \"lineitem\", key = \"l_orderkey\" }},\n\
         {{ name = \"flock\", key = \"id\" }},\n\
         {{ name = \"flock_in\", key = \"id\" }},\n\
         ]\n\
         replicated = [\"region\", \"nation\", \"supplier\", \"part\", \"partsupp\"]\n",
        names.join(", ")
    )
}

/// Writes pgherd's configuration for the benchmark: defaults, but for what PgBouncer is given too.
pub(crate) fn pgherd(
    server: u16,
    pool_size: usize,
    door: &Door,
    certificate: Option<&Certificate>,
) -> String {
    let method = match door.password {
        Some(_) => "scram-sha-256",
        None => "trust",
    };
    let mut text = format!(
        "[listen]\n\
         addresses = [\"127.0.0.1:{}\"]\n\
         [auth]\n\
         method = \"{method}\"\n\
         [pool]\n\
         size = {}\n\
         [limits]\n\
         max_clients = {CLIENTS_MAX}\n\
         [log]\n\
         level = \"warn\"\n\
         connections = false\n\
         disconnections = false\n\
         stats_every = 0\n\
         [databases.{}]\n\
         hosts = [\"127.0.0.1:{}\"]\n\
         [users.{}]\n",
        door.port, pool_size, door.database, server, door.user,
    );
    if let Some(password) = &door.password {
        text += &format!("password = \"{password}\"\n");
    }
    let Some(certificate) = certificate else {
        return text + &format!("[databases.{}.tls]\nmode = \"disable\"\n", door.database);
    };
    text + &format!(
        "[tls]\n\
         mode = \"require\"\n\
         cert = \"{}\"\n\
         key = \"{}\"\n\
         [databases.{}.tls]\n\
         mode = \"require\"\n",
        certificate.cert.display(),
        certificate.key.display(),
        door.database,
    )
}

#[cfg(test)]
mod tests {
    use std::fs;

    use pgherd_config::{Config, LoadInput, Method, TlsMode};
    use pgherd_sandbox::Account;

    use super::*;

    fn load(text: &str, dir: &std::path::Path) -> Config {
        let file = dir.join("pgherd.toml");
        fs::write(&file, text).unwrap();
        let input = LoadInput {
            file: Some(file),
            ..LoadInput::default()
        };
        let loaded = Config::load(&input).unwrap_or_else(|faults| panic!("{faults}\n{text}"));
        // That everyone is trusted is odd anywhere else.
        let odd = loaded.warnings.iter().find(|it| it.path != "auth.method");
        assert!(odd.is_none(), "{odd:?}");
        loaded.config
    }

    #[test]
    fn every_setting_is_known_to_pgherd() {
        let home = pgherd_sandbox::Home::new(Account::Own).unwrap();
        let mut door = Door {
            port: 6433,
            user: "postgres".to_owned(),
            password: None,
            database: "bench".to_owned(),
            tls: "disable",
        };
        let plain = load(&pgherd(5432, 7, &door, None), home.path());
        assert_eq!(plain.pool.size.get(), 7);
        assert_eq!(plain.auth.method, Method::Trust);
        assert_eq!(plain.databases["bench"].tls.mode, TlsMode::Disable);

        let text = sharded(5432, 7, &door, ["bench", "twin"]);
        let spread = load(&text, home.path());
        assert_eq!(spread.sharded[SHARDED].shards, ["bench", "twin"]);

        let herd = load(&super::spread(6433, 7, &[5432, 5433]), home.path());
        assert_eq!(herd.sharded[DATABASE].shards, ["shard0", "shard1"]);
        assert_eq!(herd.databases["shard1"].tls.mode, TlsMode::Disable);

        door.password = Some("crook".to_owned());
        let certificate = Certificate::make(home.path(), Account::Own).unwrap();
        let tls = load(&pgherd(5432, 7, &door, Some(&certificate)), home.path());
        assert_eq!(tls.auth.method, Method::ScramSha256);
        assert_eq!(tls.tls.mode, TlsMode::Require);
        assert_eq!(tls.databases["bench"].tls.mode, TlsMode::Require);
        assert!(tls.users["postgres"].password.is_some());
    }
}
