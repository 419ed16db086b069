//! `[listen]`, `[admin]`, `[auth]` and `[tls]`.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use bytes::BytesMut;
use pgherd_net::{
    Identity, Keepalive, Network, ServerTls, ServerTlsOptions, SocketOptions, SslMode, Target,
    connect_tls,
};
use pgherd_wire::backend::Authentication;
use pgherd_wire::{frontend, sqlstate};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use super::{Client, Fake, House, Manners, SHOP};

#[tokio::test]
async fn unix_socket_and_unix_method() {
    let fake = Fake::plain().await;
    let text = format!(
        "[listen]\naddresses = [\"127.0.0.1:0\"]\nunix_dir = \"{{dir}}\"\nunix_port = 7777\n\
         unix_mode = \"0700\"\nkeepalive_idle = \"7s\"\nkeepalive_interval = \"3s\"\n\
         keepalive_count = 2\nuser_timeout = \"9s\"\n{}unix_method = \"trust\"\n\
         [users.alice]\npassword = \"other\"\n{}",
        "[auth]\nmethod = \"password\"\n", "[databases.shop]\nhosts = [\"{host}\"]\n"
    );
    let house = House::before(&fake, &text).await;
    assert_eq!(house.paths, [house.path(".s.PGSQL.7777")]);
    let mode = std::fs::metadata(&house.paths[0])
        .expect("a socket")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o700);
    let client = Client::unix(&house.paths[0])
        .await
        .login("alice", "shop")
        .await;
    client.expect("trusted").query("SELECT 1").await;
    let told = Client::enter(house.address, "alice", "shop")
        .await
        .err()
        .expect("refused");
    assert_eq!(told.code, sqlstate::INVALID_PASSWORD);
    assert_eq!(
        **house.facts.client_socket.load(),
        SocketOptions {
            keepalive: Some(Keepalive {
                idle: Duration::from_secs(7),
                interval: Duration::from_secs(3),
                count: 2,
            }),
            user_timeout: Some(Duration::from_secs(9)),
            nodelay: true,
            network: Network::Kernel,
        }
    );
}

/// What becomes of a login, by its SQLSTATE; `None` if it succeeds.
async fn refused(house: &House, user: &str) -> Option<sqlstate::SqlState> {
    let entered = Client::enter(house.address, user, "shop").await;
    entered.err().map(|report| report.code)
}

#[tokio::test]
async fn rules_and_hba_file() {
    let fake = Fake::plain().await;
    let shop = "[databases.shop]\nhosts = [\"{host}\"]\n[users.carol]\npassword = \"other\"\n";
    let rules = "[[auth.rules]]\ntype = \"host\"\nusers = [\"alice\"]\nmethod = \"trust\"\n\
                 [[auth.rules]]\ntype = \"host\"\nusers = [\"/^a\", \"bob\"]\nmethod = \"reject\"\n\
                 [[auth.rules]]\ntype = \"host\"\naddress = \"127.0.0.0/8\"\nmethod = \"password\"\n";
    let house = House::before(&fake, &format!("{rules}{shop}")).await;
    let barred = Some(sqlstate::INVALID_AUTHORIZATION_SPECIFICATION);
    assert_eq!(refused(&house, "alice").await, None);
    assert_eq!(refused(&house, "anna").await, barred);
    assert_eq!(refused(&house, "bob").await, barred);
    let wrong = Some(sqlstate::INVALID_PASSWORD);
    assert_eq!(refused(&house, "carol").await, wrong);
    write(&house.path("pg_hba.conf"), "host shop bob samehost trust\n");
    let file = format!("[auth]\nhba_file = \"pg_hba.conf\"\n{shop}");
    house.reload(&fake, &file).await;
    assert_eq!(refused(&house, "bob").await, None);
    assert_eq!(
        refused(&house, "alice").await,
        barred,
        "nobody else has a rule"
    );
}

#[tokio::test]
async fn ident_file() {
    let fake = Fake::plain().await;
    let dir = tempfile::tempdir().expect("a directory");
    let maps = dir.path().join("pg_ident.conf");
    write(&maps, "staff /^.*$ alice\nstaff nobody-here bob\n");
    let text = format!(
        "[listen]\naddresses = [\"127.0.0.1:0\"]\nunix_dir = \"{{dir}}\"\nunix_port = 7778\n\
         [auth]\nident_file = {maps:?}\n[[auth.rules]]\ntype = \"local\"\nmethod = \"peer\"\n\
         map = \"staff\"\n[databases.shop]\nhosts = [\"{{host}}\"]\n"
    );
    let house = House::before(&fake, &text).await;
    for (user, right) in [("alice", true), ("bob", false), ("root", false)] {
        let client = Client::unix(&house.paths[0]).await;
        let entered = client.login(user, "shop").await;
        assert_eq!(entered.is_ok(), right, "{user}");
    }
}

#[tokio::test]
async fn names_of_the_console_and_its_users() {
    let fake = Fake::plain().await;
    let text = format!(
        "{SHOP}[admin]\ndatabases = [\"desk\"]\nadmins = [\"boss\"]\nreaders = [\"guest\"]\n"
    );
    let house = House::before(&fake, &text).await;
    let enter = |user, database| Client::enter(house.address, user, database);
    let mut boss = enter("boss", "desk").await.expect("an admin");
    boss.query("PAUSE shop").await;
    boss.query("RESUME shop").await;
    let mut guest = enter("guest", "desk").await.expect("a reader");
    guest.query("SHOW VERSION").await;
    guest.ask("PAUSE shop").await;
    let told = super::client::error(&guest.answer().await).expect("refused");
    assert_eq!(told.code, sqlstate::INSUFFICIENT_PRIVILEGE);
    let told = enter("boss", "pgherd").await.err().expect("no such name");
    assert_eq!(told.code, sqlstate::INVALID_CATALOG_NAME);
    let told = enter("nobody", "desk").await.err().expect("no role");
    assert_eq!(told.code, sqlstate::INSUFFICIENT_PRIVILEGE);
}

#[tokio::test]
async fn auth_query_of_all_and_of_one_database() {
    let fake = Fake::plain().await;
    let databases = "[databases.shop]\nhosts = [\"{host}\"]\n\
                     [databases.own]\nhosts = [\"{host}\"]\nauth_query = \"OWN $1\"\n\
                     [databases.meta]\nhosts = [\"{host}\"]\n";
    let asker = "[users.asker]\npassword = \"x\"\n";
    let general = "[auth]\nmethod = \"password\"\nquery = \"ALL $1\"\nquery_user = \"asker\"\n\
                   query_database = \"meta\"\n";
    let house = House::before(&fake, &format!("{general}{asker}{databases}")).await;
    let enter = |database| Client::enter(house.address, "dave", database);
    assert!(enter("shop").await.is_ok());
    assert_eq!((fake.count("ALL $1"), fake.count("OWN $1")), (1, 0));
    assert!(enter("own").await.is_ok());
    assert_eq!((fake.count("ALL $1"), fake.count("OWN $1")), (1, 1));
    let routes = house.facts.routes.load();
    let asked: Vec<_> = routes.keys().filter(|key| key.user == "asker").collect();
    assert!(asked.iter().all(|key| key.database == "meta"), "{asked:?}");
    // Alone, a database's query serves that database.
    let own = "[auth]\nmethod = \"password\"\nquery_user = \"asker\"\n";
    house
        .reload(&fake, &format!("{own}{asker}{databases}"))
        .await;
    assert!(enter("own").await.is_ok());
    let told = enter("shop").await.err().expect("refused");
    assert_eq!(told.code, sqlstate::INVALID_PASSWORD);
}

#[tokio::test]
async fn scram_iterations_of_known_and_unknown_users() {
    let fake = Fake::plain().await;
    let text = "[auth]\nscram_iterations = 5000\n[users.alice]\npassword = \"secret\"\n\
                [databases.shop]\nhosts = [\"{host}\"]\n";
    let house = House::before(&fake, text).await;
    for user in ["alice", "nobody"] {
        let mut client = Client::silent(house.address).await;
        client.start(user, "shop").await;
        client.message().await.expect("mechanisms");
        let mut out = BytesMut::new();
        frontend::sasl_initial(&mut out, b"SCRAM-SHA-256", b"n,,n=,r=abc").expect("short");
        client.send(&out).await;
        let (_, body) = client.message().await.expect("a challenge");
        let Ok(Authentication::SaslContinue(first)) = Authentication::parse(&body) else {
            panic!("no challenge: {body:?}");
        };
        let first = String::from_utf8_lossy(first);
        assert!(first.ends_with(",i=5000"), "{user}: {first}");
    }
}

/// Anybody may store such a verifier for itself, and then everybody may knock with its name.
#[tokio::test]
async fn a_password_that_takes_hours_to_check_fits_nobody() {
    let fake = Fake::new(Manners {
        stored: Some(
            "SCRAM-SHA-256$2147483647:c2FsdHNhbHQ=$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\
             :AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        ),
        ..Manners::default()
    })
    .await;
    let text = "[auth]\nmethod = \"password\"\nquery = \"ALL $1\"\nquery_user = \"asker\"\n\
                [users.asker]\npassword = \"secret\"\n[databases.shop]\nhosts = [\"{host}\"]\n";
    let house = House::before(&fake, text).await;
    assert_eq!(
        refused(&house, "mallory").await,
        Some(sqlstate::INVALID_PASSWORD)
    );
    assert_eq!(fake.count("ALL $1"), 1);
    assert_eq!(refused(&house, "asker").await, None);
}

/// An authority, and identities signed by it.
struct Authority(Issuer<'static, KeyPair>, String);

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "authority");
        let pem = params.self_signed(&key).expect("signed").pem();
        Self(Issuer::new(params, key), pem)
    }

    /// A certificate for a name, and its key.
    fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &self.0).expect("signed");
        (certificate.pem(), key.serialize_pem())
    }
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).expect("written");
    let ours = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(path, ours).expect("changed");
}

#[tokio::test]
async fn client_certificates_and_verify_full() {
    let fake = Fake::plain().await;
    let authority = Authority::new();
    let house = House::before(&fake, SHOP).await;
    let (cert, key) = authority.issue("server");
    write(&house.path("own.crt"), &cert);
    write(&house.path("own.key"), &key);
    write(&house.path("ca.crt"), &authority.1);
    let (cert, key) = authority.issue("alice");
    for (mode, shown, user, right) in [
        ("require", false, "bob", true),
        ("verify-ca", true, "bob", true),
        ("verify-ca", false, "bob", false),
        ("verify-full", true, "alice", true),
        ("verify-full", true, "bob", false),
    ] {
        let tls = format!(
            "[tls]\nmode = \"{mode}\"\ncert = \"own.crt\"\nkey = \"own.key\"\nca = \"ca.crt\"\n\
             min_version = \"1.3\"\n"
        );
        house.reload(&fake, &format!("{SHOP}{tls}")).await;
        let refused = Client::enter(house.address, user, "shop")
            .await
            .err()
            .expect("plain");
        assert_eq!(refused.code, sqlstate::INVALID_AUTHORIZATION_SPECIFICATION);
        let identity = shown.then(|| Identity::from_pem(cert.as_bytes(), key.as_bytes()));
        let options = ServerTlsOptions {
            mode: SslMode::Require,
            identity: identity.transpose().expect("an identity"),
            ..ServerTlsOptions::default()
        };
        let tls = ServerTls::new(options).expect("usable");
        let target = Target::Tcp {
            host: house.address.ip().to_string(),
            port: house.address.port(),
        };
        let stream = connect_tls(&target, &SocketOptions::default(), &tls)
            .await
            .expect("TLS");
        let mut client = Client::over(stream);
        client.start(user, "shop").await;
        let first = client.message().await;
        let admitted = matches!(&first, Some((b'R', body)) if body == &[0, 0, 0, 0]);
        assert_eq!(admitted, right, "{mode} {user}: {first:?}");
    }
}
