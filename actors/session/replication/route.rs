//! Where a client goes that names no database.

use std::sync::Arc;

use pgherd_config::{Config, Database};
use pgherd_wire::error::ErrorReport;
use pgherd_wire::sqlstate;

use crate::session::login::Claim;
use crate::session::replication::Kind;

/// Puts the section that leads to the server in place of the name that a physical client sent for
/// want of a database: Postgres pays no heed to it, and standbys always say `replication`.
///
/// A name that the configuration knows (the wildcard knows all) is taken at its word. Else there
/// must be one server only; where there are several the name stays, and is refused after the login.
pub(in crate::session) fn settle(claim: &mut Claim, config: &Config) {
    if claim.replication != Some(Kind::Physical)
        || config.is_console(&claim.database)
        || config.database(&claim.database).is_some()
        || config.sharded.contains_key(&claim.database)
    {
        return;
    }
    if let Some(name) = only(config) {
        name.clone_into(&mut claim.database);
    }
}

/// The first of the databases, if all of them are on the same server and log in there alike.
fn only(config: &Config) -> Option<&str> {
    let mut databases = config.databases.values();
    let first: &Arc<Database> = databases.next()?;
    let alike = |other: &Arc<Database>| {
        other.hosts == first.hosts
            && other.tls == first.tls
            && other.user == first.user
            && other.password == first.password
    };
    databases.all(alike).then_some(&first.name)
}

/// What a client hears that could be meant for one server as well as for another.
pub(super) fn ambiguous() -> ErrorReport {
    ErrorReport::fatal(
        sqlstate::INVALID_CATALOG_NAME,
        "cannot tell which server is to be replicated: pgherd stands before several",
    )
    .hint(
        "Name one of its databases (dbname=...) in the connection string. For standbys, which \
         cannot, add [databases.replication] with the hosts of their primary to the configuration.",
    )
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use pgherd_config::{Config, LoadInput};
    use pgherd_net::Peer;
    use pgherd_wire::startup::Version;

    use super::settle;
    use crate::session::login::Claim;
    use crate::session::replication::Kind;

    fn config(text: &str) -> Config {
        let dir = tempfile::tempdir().expect("a directory");
        let path: PathBuf = dir.path().join("pgherd.toml");
        std::fs::write(&path, text).expect("written");
        let input = LoadInput {
            file: Some(path),
            ..LoadInput::default()
        };
        let loaded = Config::load(&input);
        loaded.unwrap_or_else(|faults| panic!("{faults}")).config
    }

    fn settled(text: &str, kind: Option<Kind>, asked: &str) -> String {
        let mut claim = Claim {
            user: "u".to_owned(),
            database: asked.to_owned(),
            parameters: Vec::new(),
            version: Version::V3_0,
            replication: kind,
            peer: Peer::Gone,
        };
        settle(&mut claim, &config(text));
        claim.database
    }

    const ONE: &str = "[databases.a]\nhosts = [\"h:1\"]\n[databases.b]\nhosts = [\"h:1\"]\n";
    const TWO: &str = "[databases.a]\nhosts = [\"h:1\"]\n[databases.b]\nhosts = [\"h:2\"]\n";

    #[test]
    fn the_only_server_is_meant() {
        let physical = Some(Kind::Physical);
        assert_eq!(settled(ONE, physical, "replication"), "a");
        assert_eq!(settled(ONE, physical, "b"), "b");
        assert_eq!(settled(TWO, physical, "replication"), "replication");
        assert_eq!(settled(TWO, physical, "b"), "b");
        assert_eq!(settled(ONE, physical, "pgherd"), "pgherd");
    }

    #[test]
    fn a_section_of_its_own_or_for_all_is_taken() {
        let own = format!("{TWO}[databases.replication]\nhosts = [\"h:2\"]\n");
        let all = format!("{TWO}[databases.\"*\"]\nhosts = [\"h:2\"]\n");
        for text in [own, all] {
            let database = settled(&text, Some(Kind::Physical), "replication");
            assert_eq!(database, "replication");
        }
    }

    #[test]
    fn other_users_there_are_another_server() {
        let text = format!("{ONE}user = \"x\"\npassword = \"y\"\n");
        assert_eq!(
            settled(&text, Some(Kind::Physical), "replication"),
            "replication"
        );
    }

    #[test]
    fn who_names_a_database_is_not_led_elsewhere() {
        assert_eq!(settled(ONE, Some(Kind::Logical), "c"), "c");
        assert_eq!(settled(ONE, None, "c"), "c");
    }
}
