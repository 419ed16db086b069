//! `[databases]` and `[users]`: where logins lead, and how they are proved there.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgherd_net::{ClientTls, Identity, SslMode};
use pgherd_wire::sqlstate;
use pgherd_wire::startup::Version;
use rcgen::{CertificateParams, KeyPair};

use super::client::error;
use super::fake::Door;
use super::{Client, Fake, House, Manners, PATIENCE, SHOP};
use crate::cluster::reads::Parting;
use crate::pool::PoolKey;
use crate::server::{Cancels, Life};
use crate::session::prove::Proof;
use crate::upstream::{Secret, Upstream};
use crate::{router, upstream};

/// A certificate that is its own authority, and its key.
fn certificate() -> (String, String) {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    (
        params.self_signed(&key).expect("signed").pem(),
        key.serialize_pem(),
    )
}

fn own_tls() -> ClientTls {
    let (certificate, key) = certificate();
    let identity = Identity::from_pem(certificate.as_bytes(), key.as_bytes());
    ClientTls::new(SslMode::Prefer, identity.expect("an identity"), None).expect("usable")
}

async fn behind(door: Door) -> Fake {
    Fake::new(Manners {
        door,
        ..Manners::default()
    })
    .await
}

#[tokio::test]
async fn names_and_parameters() {
    let fake = Fake::plain().await;
    let text = format!(
        "{SHOP}dbname = \"store\"\nparameters = {{ DateStyle = \"ISO\" }}\n\
         [users.alice]\nserver_user = \"clerk\"\n\
         [databases.fixed]\nhosts = [\"{{host}}\"]\nuser = \"keeper\"\npassword = \"x\"\n"
    );
    let house = House::before(&fake, &text).await;
    let _alice = house.client("alice").await;
    let startup = fake.startup();
    let said = |name: &str| {
        startup
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    };
    assert_eq!(said("user"), Some("clerk"));
    assert_eq!(said("database"), Some("store"));
    assert_eq!(said("DateStyle"), Some("ISO"));
    let _fixed = Client::enter(house.address, "alice", "fixed")
        .await
        .expect("let in");
    let startup = fake.startup();
    assert!(
        startup.contains(&("user".to_owned(), "keeper".to_owned())),
        "{startup:?}"
    );
    assert!(
        startup.contains(&("database".to_owned(), "fixed".to_owned())),
        "{startup:?}"
    );
}

#[tokio::test]
async fn parameters_name_neither_another_user_nor_another_database() {
    let fake = Fake::plain().await;
    let house = House::before(&fake, SHOP).await;
    let mut odd = (*way(&house)).clone();
    for (name, value) in [("user", "eve"), ("database", "hr"), ("DateStyle", "ISO")] {
        odd.parameters.insert(name.to_owned(), value.to_owned());
    }
    upstream::open(&Arc::new(odd), 1, Life::new().0)
        .await
        .expect("opened");
    let said = [
        ("user", "alice"),
        ("database", "shop"),
        ("DateStyle", "ISO"),
    ];
    let said = said.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(fake.startup(), said);
}

#[tokio::test]
async fn passwords_prove_only_those_they_belong_to() {
    let fake = behind(Door::Scram).await;
    let dir = tempfile::tempdir().expect("a directory");
    let (cert, key) = certificate();
    for (name, text) in [("own.crt", cert), ("own.key", key)] {
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("written");
        let ours = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&path, ours).expect("changed");
    }
    let own = dir.path().display();
    let text = format!(
        "{SHOP}[users.alice]\npassword = \"secret\"\n\
         [databases.bare]\nhosts = [\"{{host}}\"]\nuser = \"keeper\"\n\
         tls = {{ mode = \"prefer\", cert = \"{own}/own.crt\", key = \"{own}/own.key\" }}\n\
         [users.bob]\nserver_password = \"secret\"\n\
         [users.carol]\nserver_password = \"wrong\"\n\
         [databases.fixed]\nhosts = [\"{{host}}\"]\nuser = \"keeper\"\npassword = \"secret\"\n"
    );
    let house = House::before(&fake, &text).await;
    for (user, database, right) in [
        ("alice", "shop", true),
        ("bob", "shop", true),
        ("carol", "shop", false),
        ("carol", "fixed", true),
        ("dave", "shop", false),
        ("alice", "bare", false),
    ] {
        let entered = Client::enter(house.address, user, database).await;
        assert_eq!(entered.is_ok(), right, "{user} {database}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_know_the_password_is_not_believed() {
    let fake = behind(Door::Impostor).await;
    let text =
        format!("{SHOP}[users.alice]\npassword = \"secret\"\n[timeouts]\ncheckout = \"1s\"\n");
    let house = House::before(&fake, &text).await;
    let told = Client::enter(house.address, "alice", "shop")
        .await
        .err()
        .expect("refused");
    let detail = told.detail.unwrap_or_default();
    assert!(
        detail.contains("expected the server's SASL proof"),
        "{detail}"
    );
    assert_eq!(told.code, sqlstate::CONNECTION_FAILURE);
}

#[tokio::test]
async fn channel_binding() {
    for (binding, door, expected) in [
        ("prefer", Door::Scram, None),
        ("disable", Door::Scram, None),
        ("require", Door::Scram, Some("there is no TLS")),
        (
            "require",
            Door::Open,
            Some("the server does not ask for it"),
        ),
        ("prefer", Door::Open, None),
    ] {
        let fake = behind(door).await;
        let text = format!(
            "{SHOP}channel_binding = \"{binding}\"\n[users.alice]\npassword = \"secret\"\n"
        );
        let house = House::before(&fake, &text).await;
        let told = Client::enter(house.address, "alice", "shop").await.err();
        match expected {
            None => assert!(told.is_none(), "{binding}: {told:?}"),
            Some(why) => {
                let told = told.expect("refused");
                assert!(told.message.contains(why), "{}", told.message);
                assert_eq!(told.code, sqlstate::CONNECTION_FAILURE);
            }
        }
    }
}

#[tokio::test]
async fn a_secret_of_the_configuration_is_nobodys_to_change() {
    let fake = behind(Door::Scram).await;
    let text = "[auth]\nmethod = \"password\"\n[users.alice]\npassword = \"secret\"\n\
                [databases.shop]\nhosts = [\"{host}\"]\nuser = \"keeper\"\npassword = \"wrong\"\n";
    let house = House::before(&fake, text).await;
    for _ in 0..3 {
        // The client's own password would open the server, but it is not the keeper's.
        let told = Client::enter(house.address, "alice", "shop").await.err();
        let told = told.expect("refused");
        assert_eq!(told.code, sqlstate::INVALID_PASSWORD);
    }
    assert_eq!(fake.logins(), 0);
}

#[tokio::test]
async fn a_login_that_is_refused_for_its_own_reasons_keeps_nobody_else_out() {
    let fake = Fake::new(Manners {
        barred: Some(("secret", sqlstate::INSUFFICIENT_PRIVILEGE)),
        ..Manners::default()
    })
    .await;
    let text = format!("{SHOP}[databases.secret]\nhosts = [\"{{host}}\"]\n");
    let house = House::before(&fake, &text).await;
    let mut took = Duration::ZERO;
    for _ in 0..3 {
        let began = Instant::now();
        let told = Client::enter(house.address, "alice", "secret").await.err();
        assert_eq!(
            told.expect("refused").code,
            sqlstate::INSUFFICIENT_PRIVILEGE
        );
        took = began.elapsed();
    }
    assert!(took > Duration::from_millis(100), "it knocks less often");
    let routes = house.facts.routes.load();
    let barred = routes.get(&PoolKey::new("secret", "alice"));
    let upstream = barred.expect("a pool").upstream.load_full();
    assert_eq!(upstream.gate.0.pause(Instant::now()), None);
    house.client("alice").await;
}

#[test]
fn a_login_that_proves_nothing_does_not_bring_a_refused_secret_back() {
    assert!(!Secret::None.supersedes(&Secret::Refused));
    assert!(Secret::password("new").supersedes(&Secret::Refused));
    assert!(Secret::password("new").supersedes(&Secret::None));
}

#[tokio::test]
async fn tls_mode() {
    for (mode, plain, encrypted) in [
        ("disable", true, false),
        ("allow", true, true),
        ("prefer", true, true),
        ("require", false, true),
    ] {
        let text = format!("{SHOP}tls = {{ mode = \"{mode}\" }}\n[timeouts]\ncheckout = \"1s\"\n");
        for (door, right) in [
            (Door::Open, plain),
            (Door::Clear(own_tls()), plain),
            (Door::Encrypted(own_tls()), encrypted),
        ] {
            let fake = behind(door).await;
            let house = House::before(&fake, &text).await;
            let entered = Client::enter(house.address, "alice", "shop").await;
            assert_eq!(entered.is_ok(), right, "{mode}: {:?}", entered.err());
        }
    }
}

#[tokio::test]
async fn a_cancel_key_that_was_encrypted_stays_so() {
    let fake = behind(Door::Encrypted(own_tls())).await;
    let text = format!("{SHOP}tls = {{ mode = \"allow\" }}\n[timeouts]\nquery = \"20ms\"\n");
    let house = House::before(&fake, &text).await;
    let mut client = house.client("alice").await;
    client.ask("SLEEP").await;
    let told = super::client::error(&client.answer().await).expect("cancelled");
    assert_eq!(told.code, sqlstate::QUERY_CANCELED);
}

/// The cancel request goes the same way, or such a server would not hear it.
#[tokio::test]
async fn tls_negotiation() {
    for (negotiation, door, expected) in [
        ("postgres", Door::Old(own_tls()), None),
        ("direct", Door::Direct(own_tls()), None),
        (
            "direct",
            Door::Old(own_tls()),
            Some("direct TLS needs PostgreSQL 17 or later"),
        ),
        ("postgres", Door::Direct(own_tls()), Some("no TLS with")),
    ] {
        let fake = behind(door).await;
        let text = format!(
            "{SHOP}tls = {{ mode = \"require\", negotiation = \"{negotiation}\" }}\n\
             [timeouts]\ncheckout = \"1s\"\nquery = \"20ms\"\n"
        );
        let house = House::before(&fake, &text).await;
        let entered = Client::enter(house.address, "alice", "shop").await;
        match (entered, expected) {
            (Ok(mut client), None) => {
                client.ask("SLEEP").await;
                let told = super::client::error(&client.answer().await).expect("cancelled");
                assert_eq!(told.code, sqlstate::QUERY_CANCELED);
                assert_eq!(fake.cancels(), 1, "{negotiation}");
            }
            (Err(told), Some(why)) => {
                let text = format!("{} {}", told.message, told.detail.unwrap_or_default());
                assert!(text.contains(why), "{negotiation}: {text}");
                assert_eq!(fake.logins(), 0);
            }
            (entered, _) => panic!("{negotiation}: {:?}", entered.err()),
        }
    }
}

/// Where alice's logins to `shop` lead.
fn way(house: &House) -> Arc<Upstream> {
    let config = house.facts.config.load_full();
    let shop = config.database("shop").expect("configured");
    let key = PoolKey::new("shop", "alice");
    let proof = Proof {
        secret: Secret::None,
    };
    router::upstream(&house.facts, &config, &shop, &key, &proof).expect("an upstream")
}

#[tokio::test]
async fn cancel() {
    for (keyless, settled) in [(false, false), (true, true)] {
        let fake = Fake::new(Manners {
            keeps_cancels: true,
            keyless,
            ..Manners::default()
        })
        .await;
        let text = format!("{SHOP}[timeouts]\ncancel = \"20ms\"\n");
        let house = House::before(&fake, &text).await;
        let opened = upstream::open(&way(&house), 1, Life::new().0).await;
        let about = Arc::clone(&opened.expect("opened").0.about);
        let sent = upstream::cancel(Cancels::begin(&about));
        tokio::time::timeout(PATIENCE / 2, sent)
            .await
            .expect("given up");
        // It may arrive at any time, if it was sent.
        assert_eq!(about.cancels.settled().await, settled, "{keyless}");
    }
}

#[tokio::test]
async fn a_key_of_any_length_comes_back_as_it_was_given() {
    for length in [4, 5, 32, 256] {
        let fake = Fake::new(Manners {
            long_key: Some(length),
            ..Manners::default()
        })
        .await;
        let text = format!("{SHOP}[timeouts]\nquery = \"20ms\"\n");
        let house = House::before(&fake, &text).await;
        let mut client = house.client("alice").await;
        client.ask("SLEEP").await;
        let told = super::client::error(&client.answer().await).expect("cancelled");
        assert_eq!(told.code, sqlstate::QUERY_CANCELED);
        assert!(fake.seen.versions.lock().contains(&Version::V3_2));
        let (given, shown) = (fake.seen.given.lock(), fake.seen.shown.lock());
        assert_eq!(shown.len(), 1, "{length}");
        assert!(given.iter().any(|key| *key == shown[0]), "{length}");
        assert_eq!(shown[0].secret().len(), length);
    }
}

/// A pooler may say to each login that it refuses what a server says that is too old.
#[tokio::test]
async fn a_server_is_taken_for_old_only_where_the_older_protocol_goes_further() {
    let fake = Fake::new(Manners {
        barred: Some(("shop", sqlstate::PROTOCOL_VIOLATION)),
        ..Manners::default()
    })
    .await;
    let house = House::before(&fake, SHOP).await;
    let way = way(&house);
    let opened = upstream::open(&way, 1, Life::new().0).await;
    assert!(opened.is_err() && way.gate.0.version() == Version::V3_2);
}

#[tokio::test]
async fn renewed_certificates_of_authorities_are_read() {
    let fake = Fake::plain().await;
    let dir = tempfile::tempdir().expect("a directory");
    let ca = dir.path().join("ca.crt");
    std::fs::write(&ca, certificate().0).expect("written");
    let tls = format!(
        "tls = {{ mode = \"verify-ca\", ca = \"{}\" }}\n",
        ca.display()
    );
    let house = House::before(&fake, &format!("{SHOP}{tls}")).await;
    let made = || way(&house);
    let (first, second) = (made(), made());
    assert!(first.is_as_good_as(&second));
    let file = std::fs::File::options()
        .write(true)
        .open(&ca)
        .expect("there");
    file.set_modified(std::time::SystemTime::UNIX_EPOCH)
        .expect("changed");
    assert!(!first.is_as_good_as(&made()));
}

/// Who comes to read from a host that was left, since there is no better one, is not sent away with each news of it.
#[tokio::test]
async fn a_host_that_is_read_from_is_left_once() {
    let fake = Fake::plain().await;
    let house = House::before(&fake, SHOP).await;
    let mut client = house.client("alice").await;
    client.query("SELECT 1").await;
    let pool = house.facts.routes.load().values().next().cloned();
    let pool = pool.expect("a pool");
    for (parting, stays) in [
        (Parting::Avoid, true),
        (Parting::Leave, false),
        (Parting::Leave, true),
        (Parting::Avoid, true),
        (Parting::Leave, false),
        (Parting::Stay, true),
        (Parting::Leave, false),
    ] {
        client.query("BEGIN").await;
        client.query("SELECT 2").await;
        pool.part(parting);
        client.ask("SELECT 3").await;
        let told = error(&client.answer().await);
        assert_eq!(told.is_none(), stays, "{parting:?}: {told:?}");
        client.query("ROLLBACK").await;
    }
}
