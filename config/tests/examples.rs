use std::num::NonZeroUsize;
use std::time::Duration;

use super::{PEM, Place};
use crate::{ChannelBinding, PatroniTls, PoolMode, Role, Roots, Scheme, TlsMode};

/// Puts an example where the files it names are.
fn place(text: &str) -> Place {
    let place = Place::with(text);
    for file in ["tls/pgherd.crt", "tls/pgherd.key", "tls/ca.crt"] {
        place.write(file, PEM);
    }
    for file in ["shop.secret", "pgherd.secret"] {
        place.write(file, "secret\n");
    }
    place.write("pg_ident.conf", include_str!("../examples/pg_ident.conf"));
    std::fs::create_dir(place.path("run")).unwrap();
    place.write(
        "tenants/acme.toml",
        include_str!("../examples/tenants/acme.toml"),
    );
    place
}

#[test]
fn minimal() {
    let place = place(include_str!("../examples/minimal.toml"));
    assert_eq!(place.warnings(), Vec::<String>::new());
    let config = place.config();
    assert_eq!(
        config
            .user("shop")
            .unwrap()
            .server_secret()
            .unwrap()
            .expose(),
        "secret"
    );
    assert!(config.user("other").is_none() && config.database("other").is_none());
}

#[test]
fn pooling() {
    let place = place(include_str!("../examples/pooling.toml"));
    assert_eq!(place.warnings(), Vec::<String>::new());
    let config = place.config();
    let shop = config.database("shop").unwrap();
    let migrations = config.database("shop-migrations").unwrap();
    let jobs = config.user("jobs").unwrap();
    let settings = config.effective_pool(&shop, Some(&jobs));
    assert_eq!(settings.pool.size.get(), 5);
    assert_eq!(settings.pool.reserve, 5);
    assert_eq!(settings.timeouts.query, Some(Duration::from_secs(600)));
    assert_eq!(settings.timeouts.checkout, Some(Duration::from_secs(10)));
    let settings = config.effective_pool(&migrations, None);
    assert_eq!(settings.pool.mode, PoolMode::Session);
    assert_eq!(settings.timeouts.query, None);
    assert_eq!(migrations.dbname("shop-migrations"), "shop");
    let alice = config.user("alice").unwrap();
    assert_eq!(config.console_role("alice"), Role::Admin);
    assert_eq!(config.console_role("web"), Role::None);
    let share = config.effective_pool(&shop, Some(&alice)).user;
    assert_eq!(
        (share.max_clients, share.max_connections),
        (NonZeroUsize::new(10), None)
    );
}

#[test]
fn tls() {
    let place = place(include_str!("../examples/tls.toml"));
    assert_eq!(place.warnings(), Vec::<String>::new());
    let config = place.config();
    let shop = config.database("shop").unwrap();
    assert_eq!(config.tls.cert, Some(place.path("tls/pgherd.crt")));
    assert_eq!(shop.tls.mode, TlsMode::VerifyFull);
    assert_eq!(shop.tls.ca, Some(Roots::File(place.path("tls/ca.crt"))));
    assert_eq!(
        config.database("reports").unwrap().tls.ca,
        Some(Roots::System)
    );
    let stock = config.database("stock").unwrap();
    assert!(stock.patroni.iter().all(|it| it.scheme == Scheme::Https));
    let expected = PatroniTls {
        ca: Roots::File(place.path("tls/ca.crt")),
        cert: Some(place.path("tls/pgherd.crt")),
        key: Some(place.path("tls/pgherd.key")),
    };
    assert_eq!(stock.patroni_tls, expected);
}

#[test]
fn rules() {
    let place = place(include_str!("../examples/rules.toml"));
    assert_eq!(place.warnings(), Vec::<String>::new());
    let config = place.config();
    let shop = config.database("shop").unwrap();
    assert_eq!(shop.channel_binding, ChannelBinding::Require);
    let auth = config.auth;
    let written: Vec<String> = auth.rules().iter().map(ToString::to_string).collect();
    assert_eq!(
        written,
        [
            "local pgherd,pgbouncer all peer map=operators",
            "hostssl all /^svc_ 10.0.0.0/8 cert",
            "host all /^svc_ all reject",
            "hostssl shop,reports all samenet scram-sha-256",
        ]
    );
    let maps = &auth.ident_file.maps;
    assert!(maps.allow("operators", "root", "dba"));
    assert!(maps.allow("operators", "eve-dba", "eve"));
    assert!(!maps.allow("operators", "eve", "dba"));
}

#[test]
fn sharding() {
    let place = place(include_str!("../examples/sharding.toml"));
    assert_eq!(place.warnings(), Vec::<String>::new());
    let config = place.config();
    let shop = config.sharded.get("shop").unwrap();
    assert_eq!((shop.shard("shop1"), shop.shard("shop")), (Some(1), None));
    assert_eq!(shop.sharding.tables.len(), 3);
    assert_eq!(shop.sharding.keys.buckets, Some(1024));
    assert_eq!(shop.sharding.keys.bucket_map.len(), 2);
    assert_eq!(
        (config.section("shop"), config.section("x")),
        ("shop0", "x")
    );
    assert!(config.database("shop").is_none());
}

#[test]
fn tenants() {
    let place = place(include_str!("../examples/tenants.toml"));
    assert_eq!(place.warnings(), Vec::<String>::new());
    let loaded = place.load().unwrap();
    assert_eq!(
        loaded.files,
        [place.path("pgherd.toml"), place.path("tenants/acme.toml")]
    );
    let config = loaded.config;
    let acme = config.database("acme").unwrap();
    let other = config.database("tiny").unwrap();
    assert!(other.is_wildcard());
    assert_eq!(other.dbname("tiny"), "tiny");
    assert_eq!(config.effective_pool(&acme, None).pool.size.get(), 40);
    assert_eq!(
        config.effective_pool(&acme, None).database.max_connections,
        NonZeroUsize::new(80)
    );
    assert_eq!(
        config.effective_pool(&other, None).database.max_connections,
        NonZeroUsize::new(10)
    );
}
