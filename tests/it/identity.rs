//! Logins without a password: who a client is by its operating system or by its certificate.

use std::process::Command;

use pgherd_tests::{
    Authority, Config, Database, Greeting, Paper, Proxy, Raw, encrypt, run, server,
};

/// The operating system's name for whoever runs the tests.
async fn own_name() -> String {
    let mut id = Command::new("id");
    id.arg("-un");
    run(id, "").await.success().to_owned()
}

/// Gives a database whose server has this user, too.
async fn database_for(user: &str) -> Database {
    let database = Database::new().await;
    let make = format!(
        "do $$ begin create role \"{user}\" login; \
         exception when duplicate_object or unique_violation then null; end $$"
    );
    database.sql(&make).await;
    database
}

#[tokio::test]
async fn a_unix_socket_knows_its_peer() {
    let me = own_name().await;
    let database = database_for(&me).await;
    let (name, port) = (&database.name, database.port);
    let config = Config::text(format!(
        "[listen]\naddresses = [\"127.0.0.1:{{port}}\"]\nunix_dir = \"{{dir}}\"\nunix_port = {{port}}\n\
         [auth]\nunix_method = \"peer\"\n[users.other]\npassword = \"other\"\n\
         [databases.{name}]\nhosts = [\"127.0.0.1:{port}\"]\n"
    ));
    let proxy = Proxy::start(&config).await;
    let socket = proxy.path(&format!(".s.PGSQL.{}", proxy.port()));
    let enter = async |user: &str| Raw::unix(&socket).await.enter(user, name, &[]).await;
    let mut client = enter(&me).await.unwrap();
    assert_eq!(client.one("select session_user").await, me);
    for user in ["other", "nobody-at-all"] {
        let refused = enter(user).await.unwrap_err();
        assert_eq!(refused.field('C').as_deref(), Some("28000"), "{user}");
        let text = format!("Peer authentication failed for user \"{user}\"");
        assert_eq!(refused.field('M'), Some(text));
    }
    // Where there is no peer, its own proof is asked for.
    let url = format!(
        "host=127.0.0.1 port={} user=other password=other dbname={name}",
        proxy.port()
    );
    let client = pgherd_tests::connect(&url).await;
    assert_eq!(client.one("select session_user").await, "other");
    // The same by libpq, in the name of whoever the server's tools run as.
    let mut psql = server().await.client("psql").unwrap();
    let to = |user: &str| {
        let dir = proxy.path("").display().to_string();
        format!("host={dir} port={} user={user} dbname={name}", proxy.port())
    };
    psql.args(["-XAtwq", "-c", "select session_user", "-d", &to("app")]);
    let output = run(psql, "").await;
    assert!(
        output.err.contains("Peer authentication failed"),
        "{output:?}"
    );
}

/// A proxy that lets in who shows a certificate, and the authority it believes.
async fn by_certificate(mode: &str, database: &Database) -> (Proxy, Authority) {
    let authority = Authority::new();
    let (name, port) = (&database.name, database.port);
    let tls = authority.section(mode);
    let config = Config::text(format!(
        "[listen]\naddresses = [\"127.0.0.1:{{port}}\"]\n[auth]\nmethod = \"cert\"\n{tls}\
         [databases.{name}]\nhosts = [\"127.0.0.1:{port}\"]\n"
    ));
    (Proxy::start(&config).await, authority)
}

/// What becomes of a login under TLS: the user on the server, or the SQLSTATE of the refusal.
async fn shown(
    proxy: &Proxy,
    authority: &Authority,
    own: &Paper,
    (user, database): (&str, &Database),
) -> Result<String, String> {
    let raw = encrypt(proxy.port(), authority, Greeting::Request, Some(own)).await;
    let entered = raw.unwrap().enter(user, &database.name, &[]).await;
    match entered {
        Ok(mut client) => Ok(client.one("select session_user").await),
        Err(message) => Err(message.field('C').unwrap_or_default()),
    }
}

#[tokio::test]
async fn a_certificate_lets_in_whom_it_names() {
    let database = Database::new().await;
    let (proxy, authority) = by_certificate("verify-ca", &database).await;
    let own = authority.issue("app");
    let ask = async |own, user| shown(&proxy, &authority, own, (user, &database)).await;
    assert_eq!(ask(&own, "app").await.as_deref(), Ok("app"));
    let refused = Err("28000".to_owned());
    assert_eq!(ask(&own, "other").await, refused, "another's name");
    assert_eq!(ask(&own, "App").await, refused, "names have a case");
    let long = authority.issue("app\0other");
    assert_eq!(ask(&long, "app").await, refused, "a name with a NUL in it");
    let plain = Raw::open(proxy.port()).await;
    let plain = plain.enter("app", &database.name, &[]).await.unwrap_err();
    assert_eq!(plain.field('C').as_deref(), Some("28000"), "without TLS");
}

#[tokio::test]
async fn a_handshake_without_a_certificate_that_is_believed_fails() {
    let database = Database::new().await;
    let (proxy, authority) = by_certificate("verify-ca", &database).await;
    let stranger = Authority::new().issue("app");
    for own in [Some(&stranger), None] {
        let raw = encrypt(proxy.port(), &authority, Greeting::Request, own).await;
        // Under TLS 1.3 the client hears of it when it reads.
        if let Ok(mut raw) = raw {
            assert!(raw.next().await.is_none(), "{own:?}");
        }
    }
    proxy.logged("no TLS: the handshake failed", 2).await;
}
