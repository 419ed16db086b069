use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use super::{Place, only_ours};
use crate::{
    Method, Negotiation, Password, Role, Secret, SettingsApart, TlsMode, TlsVersion, WorkerCount,
};

const FILE: &str = "[pool]\nsize = 7\nmin = 2\n[databases.Shop]\nhosts = [\"a\"]\n\
                    [users.app]\npassword_file = \"none\"\n";

fn addresses(place: &Place) -> Vec<String> {
    place
        .config()
        .listen
        .addresses
        .iter()
        .map(SocketAddr::to_string)
        .collect()
}

#[test]
fn lie_over_each_other() {
    let place = Place::with(FILE)
        .env("PGHERD_POOL__SIZE", "30")
        .env("PGHERD_LISTEN__ADDRESSES", "127.0.0.1:1, [::1]:2")
        .env("PGHERD_LOG__CONNECTIONS", "false")
        .env("PGHERD_WORKERS__COUNT", "3")
        .env("PGHERD_DATABASES__SHOP__POOL__SIZE", "4")
        .env("PGHERD_USERS__APP__PASSWORD", "p")
        .env("PGHERD_TIMEOUTS__QUERY", "90s")
        .env("HOME", "/nowhere");
    let config = place.config();
    assert_eq!(config.pool.size.get(), 30);
    assert_eq!(config.pool.min, 2);
    assert!(!config.log.connections);
    assert_eq!(
        config.workers.count,
        WorkerCount::Exactly(NonZeroUsize::new(3).unwrap())
    );
    assert_eq!(
        config.database("Shop").unwrap().pool.size,
        NonZeroUsize::new(4)
    );
    assert_eq!(config.timeouts.query.unwrap().as_secs(), 90);
    // A secret in a variable stands for the file that the lower layer names.
    let password = config.user("app").unwrap().password.clone();
    assert_eq!(password, Some(Password::Plain(Secret::new("p"))));
    assert_eq!(addresses(&place), ["127.0.0.1:1", "[::1]:2"]);
    let both = place.env("PGHERD_USERS__APP__PASSWORD_FILE", "none");
    assert!(both.faults().contains("is given, and so is `password`"));
}

#[test]
fn say_by_a_boolean_or_a_word_whom_settings_keep_apart() {
    use SettingsApart::{Always, IfAsked, Never};
    for (word, apart) in [
        ("true", Always),
        ("\"if_asked\"", IfAsked),
        ("false", Never),
    ] {
        let text = format!("{FILE}[users.app.pool]\ncustom_settings_apart = {word}\n");
        let place = Place::with(&text)
            .env("PGHERD_USERS__APP__PASSWORD", "p")
            .env("PGHERD_POOL__CUSTOM_SETTINGS_APART", word.trim_matches('"'));
        let config = place.config();
        assert_eq!(config.pool.custom_settings_apart, apart);
        let own = &config.user("app").unwrap().pool;
        assert_eq!(own.custom_settings_apart, Some(apart));
    }
    let usual = Place::with(FILE).env("PGHERD_USERS__APP__PASSWORD", "p");
    assert_eq!(usual.config().pool.custom_settings_apart, Always);
}

#[test]
fn refuse_variables_they_do_not_know() {
    let place = Place::with("[databases.a]\nhosts = [\"a\"]\n")
        .env("PGHERD_POOL__SIZ", "1")
        .env("PGHERD_POOL__SIZE__X", "1")
        .env("PGHERD_COLOUR", "1")
        .env("PGHERD___A", "1")
        .env(&format!("PGHERD_Z{}", "__Z".repeat(50_000)), "1")
        .env("PGHERD_POOL__MIN", "many")
        .env("PGHERD_CONFIG", "ignored, as the file is given");
    let found = place.faults().replace(&"__Z".repeat(50_000), "…");
    let starts: Vec<&str> = found
        .lines()
        .map(|line| line.split(" (").next().unwrap())
        .collect();
    assert_eq!(
        starts,
        [
            "PGHERD_COLOUR: colour: no such setting",
            "PGHERD_POOL__MIN: pool.min: \"many\" is not allowed",
            "PGHERD_POOL__SIZ: pool.siz: no such setting, perhaps `size`",
            "PGHERD_POOL__SIZE__X: a part of its path is no table",
            "PGHERD_Z…: no such setting",
            "PGHERD___A: no such setting",
        ]
    );
}

#[test]
fn take_the_file_from_a_variable() {
    let mut place = Place::with("[databases.a]\nhosts = [\"a\"]\n");
    let file = place.input.file.take().unwrap();
    let place = place.env("PGHERD_CONFIG", file.to_str().unwrap());
    assert!(place.config().database("a").is_some());
}

#[test]
fn take_addresses_from_the_command_line() {
    let mut place = Place::with("[databases.a]\nhosts = [\"a\"]\n");
    place.input.overrides.port = Some(7000);
    assert_eq!(addresses(&place), ["127.0.0.1:7000"]);
    assert_eq!(place.config().listen.unix_port, 7000);
    place.input.overrides.listen = Some("*, ::1, 127.0.0.1:5".to_owned());
    assert_eq!(
        addresses(&place),
        ["0.0.0.0:7000", "[::1]:7000", "127.0.0.1:5"]
    );
    place.input.overrides.port = None;
    assert_eq!(addresses(&place)[0], "0.0.0.0:6432");
    place.input.overrides.listen = Some("no where".to_owned());
    assert!(
        place
            .faults()
            .starts_with("--listen: listen.addresses: \"no where:6432\"")
    );
}

#[test]
fn one_url_is_enough() {
    let place = Place::bare().url("postgres://app:s%40crt@db.example/shop?sslmode=require");
    let config = place.config();
    for name in ["shop", "anything"] {
        let database = config.database(name).unwrap();
        assert_eq!(database.dbname(name), name);
        assert_eq!(database.hosts[0].to_string(), "db.example:5432");
        assert_eq!(database.user.as_deref(), Some("app"));
        assert_eq!(database.password, Some(Secret::new("s@crt")));
        assert_eq!(database.tls.mode, TlsMode::Require);
    }
    assert_eq!(config.auth.method, Method::ScramSha256);
    // Who starts pgherd so wants to look at it; commands need more than an application's password.
    assert_eq!(config.console_role("app"), Role::Reader);
    let password = config.user("app").unwrap().password.clone();
    assert_eq!(password, Some(Password::Plain(Secret::new("s@crt"))));
    assert!(config.user("other").is_none());
}

#[test]
fn a_shorter_time_does_not_contradict_a_default() {
    let place = Place::with(
        "[databases.a]\nhosts = [\"a\"]\n[timeouts]\ncheckout = \"1s\"\nserver_idle = \"10s\"\n",
    );
    assert_eq!(
        place.config().timeouts.checkout,
        Some(Duration::from_secs(1))
    );
}

#[test]
fn several_urls_are_hosts_or_databases() {
    let config = Place::bare()
        .url("postgres://u:p@a/d")
        .url("postgres://u:p@b/d")
        .config();
    assert_eq!(config.database("d").unwrap().hosts.len(), 2);
    let listed = Place::bare().url("postgres://u:p@a,b/d").config();
    assert_eq!(listed.database("d").unwrap().hosts.len(), 2);
    assert!(config.database("other").is_some());
    let config = Place::bare()
        .url("postgres://u:p@a/d")
        .url("postgres://v:q@b/e")
        .config();
    assert_eq!(config.database("e").unwrap().hosts[0].to_string(), "b:5432");
    assert!(config.database("other").is_none());
    let found = Place::bare()
        .url("postgres://u:p@a/d")
        .url("postgres://v:q@a/d")
        .faults();
    assert!(
        found.starts_with("URL 2: it differs from URL 1 in more than the host"),
        "{found}"
    );
    assert!(found.ends_with("URL 2: a:5432 is there twice"), "{found}");
    let found = Place::bare()
        .url("postgres://u:p@a/d")
        .url("postgres://u:q@b/e")
        .faults();
    assert!(
        found.contains("users.u: the password differs from that in URL 1"),
        "{found}"
    );
}

#[test]
fn without_a_password_the_servers_are_asked() {
    let place = Place::bare().url("postgres://app@db/shop");
    assert_eq!(place.config().auth.method, Method::Passthrough);
    assert_eq!(place.config().database("shop").unwrap().user, None);
    let place = place.env("PGHERD_AUTH__METHOD", "trust");
    assert_eq!(place.config().auth.method, Method::Trust);
}

#[test]
fn take_the_variable_everyone_has() {
    let place = Place::bare().env("DATABASE_URL", "postgres://u:p@a/d");
    assert!(place.config().database("d").is_some());
    let place = Place::with("[databases.x]\nhosts = [\"a\"]\n").env("DATABASE_URL", "nonsense");
    assert!(
        place
            .warnings()
            .iter()
            .any(|it| it.starts_with("DATABASE_URL: it is not used"))
    );
    let found = Place::bare().faults();
    assert!(
        found.starts_with("configuration: databases: is missing"),
        "{found}"
    );
    let found = Place::bare().env("DATABASE_URL", "nonsense").faults();
    assert!(
        found.starts_with("DATABASE_URL: neither a postgres:// URL"),
        "{found}"
    );
}

#[test]
fn find_passwords_at_home_unless_others_could() {
    let place = Place::bare().url("postgres://u@a/d");
    place.write(".pgpass", "a:5432:d:u:secret\n");
    let home = place.dir.path().to_str().unwrap().to_owned();
    let place = place.env("HOME", &home);
    let config = place.config();
    assert_eq!(
        config.database("d").unwrap().password,
        Some(Secret::new("secret"))
    );
    let file = place.path(".pgpass");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(&file, open).unwrap();
    assert_eq!(place.config().database("d").unwrap().password, None);
    assert!(place.warnings()[0].contains("every user of this machine"));
    only_ours(&file);
}

#[test]
fn a_url_has_the_say_over_a_file() {
    let place = Place::with(FILE).url("postgres://app:mine@h/d");
    let config = place.config();
    assert_eq!(
        config.user("app").unwrap().server_secret(),
        Some(&Secret::new("mine"))
    );
    assert!(config.database("Shop").is_some_and(|it| !it.is_wildcard()));
}

#[test]
fn included_files_come_by_name() {
    let place = Place::with("include = [\"*.d.toml\"]\n");
    let names: Vec<String> = (0..30)
        .map(|at| format!("{:02}.d.toml", (at * 7) % 30))
        .collect();
    for (at, name) in names.iter().enumerate() {
        place.write(name, &format!("[databases.d{at}]\nhosts = [\"a\"]\n"));
    }
    let files = place.load().unwrap().files;
    assert_eq!(files.len(), 31);
    assert!(files[1..].is_sorted());
}

#[test]
fn the_user_is_over_the_database() {
    let place = Place::with(
        "[admin]\nadmins = [\"boss\"]\nreaders = [\"u\"]\n[databases.d]\nhosts = [\"a\"]\n\
         pool = { size = 5, reserve = 2 }\n[users.u]\npassword = \"p\"\n\
         pool = { min = 10, reserve = 1 }\n",
    );
    let config = place.config();
    let (database, user) = (config.database("d").unwrap(), config.user("u").unwrap());
    let pool = config.effective_pool(&database, Some(&user)).pool;
    assert_eq!((pool.size.get(), pool.reserve), (5, 1));
    // The minimum cannot be had in this pool, while it can in others of the user.
    assert_eq!(pool.min, 5);
    assert_eq!(config.console_role("boss"), Role::Admin);
    assert_eq!(config.console_role("u"), Role::Reader);
}

#[test]
fn take_from_urls_how_tls_begins() {
    let url = "postgres://u:p@db/shop?sslmode=require&sslnegotiation=direct&ssl_min_protocol_version=TLSv1.3";
    let config = Place::bare().url(url).config();
    for name in ["shop", "any other"] {
        let tls = config.database(name).unwrap().tls.clone();
        assert_eq!(tls.negotiation, Negotiation::Direct, "{name}");
        assert_eq!(tls.min_version, TlsVersion::V1_3, "{name}");
    }
    let told = Place::bare()
        .url("postgres://u:p@db/shop?pgbouncer=true")
        .warnings();
    assert!(
        told.iter()
            .any(|it| it.contains("`pgbouncer` has no effect here")),
        "{told:?}"
    );
}
