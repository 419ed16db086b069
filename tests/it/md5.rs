//! Users of whom only an md5 hash is known, from the server's catalogue.

use pgherd_tests::{Config, Database, Proxy, try_connect};

/// A proxy that looks users up, and asks them for a proof by a method.
async fn looking_up(method: &str, database: &Database) -> Proxy {
    let (name, port) = (&database.name, database.port);
    Proxy::start(&Config::text(format!(
        "[listen]\naddresses = [\"127.0.0.1:{{port}}\"]\n[auth]\nmethod = \"{method}\"\n\
         query = \"select usename, passwd from pg_shadow where usename = $1\"\n\
         query_user = \"app\"\n[users.app]\npassword = \"app\"\n\
         [databases.{name}]\nhosts = [\"127.0.0.1:{port}\"]\n"
    )))
    .await
}

#[tokio::test]
async fn the_hash_that_a_client_has_proved_opens_the_server() {
    let database = Database::new().await;
    let proxy = looking_up("md5", &database).await;
    let client = try_connect(&proxy.url("md5", &database.name))
        .await
        .unwrap();
    assert_eq!(client.one("select session_user").await, "md5");
    let wrong = format!(
        "postgres://md5:wrong@127.0.0.1:{}/{}",
        proxy.port(),
        database.name
    );
    let (code, _) = try_connect(&wrong).await.map(drop).unwrap_err();
    assert_eq!(code, "28P01");
    // One whose secret is SCRAM's is asked for that instead.
    let client = try_connect(&proxy.url("scram", &database.name))
        .await
        .unwrap();
    assert_eq!(client.one("select session_user").await, "scram");
}

#[tokio::test]
async fn a_server_that_wants_more_than_the_hash_is_told_of_plainly() {
    let database = Database::new().await;
    let proxy = looking_up("md5", &database).await;
    let (code, message) = try_connect(&proxy.url("hashed", &database.name))
        .await
        .map(drop)
        .unwrap_err();
    let expected = format!(
        "login to 127.0.0.1:{} as hashed: the server asks for the password itself, \
         and of the password only the md5 hash is known",
        database.port
    );
    assert_eq!((&*code, &*message), ("28P01", &*expected));
    assert!(proxy.log().contains(&expected), "{}", proxy.log());
}

#[tokio::test]
async fn scram_cannot_be_proved_with_an_md5_secret_and_the_log_says_so() {
    let database = Database::new().await;
    let proxy = looking_up("scram-sha-256", &database).await;
    let (code, message) = try_connect(&proxy.url("md5", &database.name))
        .await
        .map(drop)
        .unwrap_err();
    assert_eq!(code, "28P01");
    assert_eq!(message, "password authentication failed for user \"md5\"");
    let log = proxy.log();
    assert!(
        log.contains("this user has an md5 password, which SCRAM cannot use"),
        "{log}"
    );
}
