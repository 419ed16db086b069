//! Versions of the protocol: what a client asks for, and what it is told.

use pgherd_tests::{Database, Message, Proxy, Raw};

use super::cancel::sleeping;

const V3_0: u32 = 0x0003_0000;
const V3_2: u32 = 0x0003_0002;

/// A client that logs in by a version, and what it was told about that.
async fn enter(
    port: u16,
    version: u32,
    database: &Database,
    more: &[(&str, &str)],
) -> (Raw, Option<Message>) {
    let raw = Raw::open(port).await;
    let entered = raw.enter_as(version, "app", &database.name, more).await;
    entered.unwrap_or_else(|told| panic!("refused: {:?}", told.field('M')))
}

/// The body of NegotiateProtocolVersion: the version that is spoken, and the options that are unknown.
fn negotiation(version: u32, unknown: &[&str]) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    body.extend(u32::try_from(unknown.len()).unwrap().to_be_bytes());
    for name in unknown {
        body.extend(name.as_bytes());
        body.push(0);
    }
    body
}

#[tokio::test]
async fn the_key_of_3_2_is_long_and_cancels_its_own_query_alone() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 2").await;
    let port = proxy.port();
    let (mut first, told) = enter(port, V3_2, &database, &[]).await;
    assert_eq!(told, None, "there is nothing to be negotiated");
    let (mut second, _) = enter(port, V3_2, &database, &[]).await;
    assert_eq!((first.key.1.len(), second.key.1.len()), (32, 32));
    assert_ne!(first.key.1, second.key.1);
    let (old, _) = enter(port, V3_0, &database, &[]).await;
    assert_eq!(old.key.1.len(), 4);
    // Neither a part of a key nor one with a wrong end opens anything, nor another's secret.
    let (number, secret) = first.key.clone();
    let mut wrong = secret.clone();
    wrong[31] ^= 1;
    let longer = [&secret[..], &[0]].concat();
    first.send(&Raw::query("select pg_sleep(1)")).await;
    sleeping_shortly(&database).await;
    for guess in [secret[..4].to_vec(), wrong, longer, second.key.1.clone()] {
        Raw::cancel(port, &(number, guess)).await;
    }
    assert_eq!(first.ask(&[]).await, "T D C ZI");
    first.send(&Raw::query("select pg_sleep(60)")).await;
    second.send(&Raw::query("select pg_sleep(60)")).await;
    sleeping(&database, 2).await;
    Raw::cancel(port, &first.key).await;
    assert_eq!(first.ask(&[]).await, "T E57014 ZI");
    sleeping(&database, 1).await;
    Raw::cancel(port, &second.key).await;
    assert_eq!(second.ask(&[]).await, "T E57014 ZI");
    assert_eq!(first.one("select 1").await, "1");
}

/// Waits until the query of one second runs, so that there is something to be cancelled.
async fn sleeping_shortly(database: &Database) {
    let sleeping = "select count(*) from pg_stat_activity where query = 'select pg_sleep(1)' \
                    and datname = current_database() and state = 'active'";
    pgherd_tests::until("it sleeps", async || database.sql(sleeping).await == "1").await;
}

#[tokio::test]
async fn a_later_version_is_answered_with_the_latest_that_is_spoken() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "").await;
    for version in [0x0003_0003, 0x0003_0009, 0x0003_270f, 0x0003_ffff] {
        let (mut client, told) = enter(proxy.port(), version, &database, &[]).await;
        let told = told.expect("it is told first of all");
        assert_eq!(told.body, negotiation(V3_2, &[]), "{version:#x}");
        assert_eq!(client.key.1.len(), 32, "{version:#x}");
        assert_eq!(client.one("select 1").await, "1");
    }
    // 3.1 was never published, and is taken as it is.
    let (client, told) = enter(proxy.port(), 0x0003_0001, &database, &[]).await;
    assert_eq!((told, client.key.1.len()), (None, 4));
}

#[tokio::test]
async fn options_of_the_protocol_that_nobody_knows_are_named() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "").await;
    let options = [
        ("_pq_.x", "1"),
        ("application_name", "me"),
        ("_pq_.y z", ""),
    ];
    let unknown = ["_pq_.x", "_pq_.y z"];
    let (mut client, told) = enter(proxy.port(), V3_0, &database, &options).await;
    let (_, direct) = enter(database.port, V3_0, &database, &options).await;
    assert_eq!(told, direct, "as Postgres does");
    assert_eq!(told.unwrap().body, negotiation(V3_0, &unknown));
    assert_eq!(client.key.1.len(), 4);
    assert_eq!(client.one("show application_name").await, "me");
    for (version, spoken) in [(V3_2, V3_2), (0x0003_0009, V3_2)] {
        let (_, told) = enter(proxy.port(), version, &database, &options).await;
        assert_eq!(told.unwrap().body, negotiation(spoken, &unknown));
    }
}

/// What a client of another protocol is told, up to which versions there are; the connection has ended then.
async fn refusal(port: u16, version: u32, database: &Database) -> String {
    let mut raw = Raw::open(port).await;
    let parameters = [("user", "app"), ("database", &*database.name)];
    raw.startup(version, &parameters).await;
    let told = raw.end().await;
    // Before protocol 3 an error has no length, and no fields.
    let has_fields = told.get(1) == Some(&0);
    let text = String::from_utf8(told[if has_fields { 5 } else { 0 }..].to_vec()).unwrap();
    let (words, _) = text.split_once(": server supports").unwrap();
    words.to_owned()
}

#[tokio::test]
async fn other_protocols_are_refused_as_postgres_refuses_them() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "").await;
    for (version, expected) in [
        (
            0x0004_0000,
            "SFATAL\0VFATAL\0C0A000\0Munsupported frontend protocol 4.0",
        ),
        (
            0xffff_0001,
            "SFATAL\0VFATAL\0C0A000\0Munsupported frontend protocol 65535.1",
        ),
        (0x0002_0000, "EFATAL:  unsupported frontend protocol 2.0"),
        (0x0001_0007, "EFATAL:  unsupported frontend protocol 1.7"),
        (
            0,
            "SFATAL\0VFATAL\0C0A000\0Munsupported frontend protocol 0.0",
        ),
    ] {
        let direct = refusal(database.port, version, &database).await;
        let proxied = refusal(proxy.port(), version, &database).await;
        assert_eq!(direct, expected, "{version:#x}");
        assert_eq!(proxied, expected, "{version:#x}");
    }
    // Nobody else has noticed.
    let (mut client, _) = enter(proxy.port(), V3_0, &database, &[]).await;
    assert_eq!(client.one("select 1").await, "1");
}
