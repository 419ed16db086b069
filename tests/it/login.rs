//! Who may log in, by what proof, on both legs.

use pgherd_sandbox::{Binaries, Server, Stop};
use pgherd_tests::{Config, Database, Output, Proxy, Raw, run, server, try_connect, until};

/// Runs psql with a connection string.
pub(crate) async fn psql(conninfo: &str, sql: &str) -> Output {
    let mut psql = server().await.client("psql").unwrap();
    psql.args(["-XAtq", "-d", conninfo, "-c", sql]);
    run(psql, "").await
}

/// A configuration in which the users of the server may log in by a method. `{hosts}` is one host.
fn by(method: &str, database: &Database, more: &str) -> Config {
    let (name, port) = (&database.name, database.port);
    let users: String = ["app", "scram", "md5", "plain", "tls", "clear"]
        .iter()
        .map(|user| format!("[users.{user}]\npassword = \"{user}\"\n"))
        .collect();
    Config::text(format!(
        "[listen]\naddresses = [\"127.0.0.1:{{port}}\"]\n[auth]\nmethod = \"{method}\"\n{users}\
         [databases.{name}]\nhosts = [\"127.0.0.1:{port}\"]\n{more}\n"
    ))
}

#[tokio::test]
async fn each_method_lets_in_who_knows_the_password_and_nobody_else() {
    let database = Database::new().await;
    let name = &database.name;
    for method in ["scram-sha-256", "md5", "password"] {
        let proxy = Proxy::start(&by(method, &database, "")).await;
        let at = |user: &str, password: &str, database: &str| {
            format!(
                "postgres://{user}:{password}@127.0.0.1:{}/{database}",
                proxy.port()
            )
        };
        // The server asks each of them for another proof.
        for user in ["app", "scram", "md5", "plain"] {
            let client = try_connect(&at(user, user, name)).await.expect(method);
            assert_eq!(client.one("select session_user").await, user, "{method}");
        }
        let refused = async |url: String| try_connect(&url).await.map(drop).unwrap_err();
        for (user, database) in [
            ("app", name.as_str()),
            ("nobody", name),
            ("app", "nowhere"),
            ("nobody", "nowhere"),
        ] {
            let (code, message) = refused(at(user, "wrong", database)).await;
            assert_eq!(code, "28P01", "{method} {user} {database}");
            assert_eq!(
                message,
                format!("password authentication failed for user \"{user}\"")
            );
        }
        let (code, message) = refused(at("app", "app", "nowhere")).await;
        assert_eq!(
            (&*code, &*message),
            ("3D000", "database \"nowhere\" does not exist")
        );
    }
}

/// Whoever guesses passwords can be found by what the log says of them.
#[tokio::test]
async fn the_log_says_who_was_refused_and_from_where() {
    let database = Database::new().await;
    let proxy = Proxy::start(&by("password", &database, "")).await;
    for (user, of) in [
        ("scram", database.name.as_str()),
        ("scram", "nowhere"),
        ("nobody", "nowhere"),
    ] {
        let url = format!("postgres://{user}:hunter2@127.0.0.1:{}/{of}", proxy.port());
        assert_eq!(try_connect(&url).await.map(drop).unwrap_err().0, "28P01");
        let parts = [
            "login refused",
            "peer=127.0.0.1:",
            &format!("user=\"{user}\""),
            &format!("database=\"{of}\""),
            "password authentication failed",
        ];
        until("it is logged", async || {
            let log = proxy.log();
            log.lines()
                .any(|line| parts.iter().all(|part| line.contains(part)))
        })
        .await;
    }
    assert!(!proxy.log().contains("hunter2"));
}

#[tokio::test]
async fn users_are_looked_up_on_the_server() {
    let database = Database::new().await;
    let (name, port) = (&database.name, database.port);
    let config = Config::text(format!(
        "[listen]\naddresses = [\"127.0.0.1:{{port}}\"]\n\
         [auth]\nquery = \"select usename, passwd from pg_shadow where usename = $1\"\n\
         query_user = \"app\"\n[users.app]\npassword = \"app\"\n\
         [databases.{name}]\nhosts = [\"127.0.0.1:{port}\"]\n"
    ));
    let proxy = Proxy::start(&config).await;
    let client = try_connect(&proxy.url("scram", name)).await.unwrap();
    // Its SCRAM keys have opened the server, which demands SCRAM of this user.
    assert_eq!(client.one("select session_user").await, "scram");
    for user in ["scram", "nobody"] {
        let url = format!("postgres://{user}:wrong@127.0.0.1:{}/{name}", proxy.port());
        let (code, _) = try_connect(&url).await.map(drop).unwrap_err();
        assert_eq!(code, "28P01", "{user}");
    }
}

#[tokio::test]
async fn a_password_is_passed_through_and_proved_by_the_server() {
    let database = Database::new().await;
    let (name, port) = (&database.name, database.port);
    let config = Config::text(format!(
        "[listen]\naddresses = [\"127.0.0.1:{{port}}\"]\n[auth]\nmethod = \"passthrough\"\n\
         [databases.{name}]\nhosts = [\"127.0.0.1:{port}\"]\n"
    ));
    let proxy = Proxy::start(&config).await;
    for user in ["scram", "md5", "plain"] {
        let wrong = format!("postgres://{user}:wrong@127.0.0.1:{}/{name}", proxy.port());
        for _ in 0..2 {
            let (code, _) = try_connect(&wrong).await.map(drop).unwrap_err();
            assert_eq!(code, "28P01", "{user}");
            let client = try_connect(&proxy.url(user, name)).await.unwrap();
            assert_eq!(client.one("select session_user").await, user);
        }
    }
}

#[tokio::test]
async fn clients_get_the_encryption_that_is_configured() {
    let database = Database::new().await;
    let certificate = server().await.certificate().unwrap();
    let (cert, key) = (certificate.cert.display(), certificate.key.display());
    let ca = certificate.ca.display();
    for mode in ["disable", "allow", "prefer", "require"] {
        let files = match mode {
            "disable" => String::new(),
            _ => format!("cert = \"{cert}\"\nkey = \"{key}\"\n"),
        };
        let tls = format!("[tls]\nmode = \"{mode}\"\n{files}");
        let proxy = Proxy::start(&by("scram-sha-256", &database, &tls)).await;
        let ask = async |user: &str, more: &str| {
            let (port, name) = (proxy.port(), &database.name);
            let to = format!(
                "host=127.0.0.1 port={port} user={user} password={user} dbname={name} {more}"
            );
            psql(&to, "\\conninfo").await
        };
        let encrypted = |output: &Output| output.out.contains("SSL connection");
        let plain = ask("app", "sslmode=disable").await;
        assert_eq!(plain.code == 0, mode != "require", "{mode}: {plain:?}");
        let verified = ask("app", &format!("sslmode=verify-full sslrootcert={ca}")).await;
        assert_eq!(
            verified.code == 0,
            mode != "disable",
            "{mode}: {verified:?}"
        );
        assert_eq!(encrypted(&verified), mode != "disable");
        let preferred = ask("app", "sslmode=prefer").await;
        assert_eq!(preferred.code, 0, "{mode}: {preferred:?}");
        assert_eq!(encrypted(&preferred), mode != "disable", "{mode}");
        let bound = ask("scram", "sslmode=prefer channel_binding=require").await;
        assert_eq!(bound.code == 0, mode != "disable", "{mode}: {bound:?}");
    }
}

/// Where it can be read: an error in answer to a request for encryption is none for libpq.
#[tokio::test]
async fn who_finds_no_room_is_told_under_tls() {
    let database = Database::new().await;
    let certificate = server().await.certificate().unwrap();
    let (cert, key) = (certificate.cert.display(), certificate.key.display());
    let more = format!(
        "[tls]\nmode = \"prefer\"\ncert = \"{cert}\"\nkey = \"{key}\"\n[limits]\nmax_clients = 1\n"
    );
    let proxy = Proxy::start(&by("scram-sha-256", &database, &more)).await;
    let (port, name) = (proxy.port(), &database.name);
    for mode in ["require", "prefer"] {
        let to = format!(
            "host=127.0.0.1 port={port} user=app password=app dbname={name} sslmode={mode}"
        );
        // The harness' own look whether anybody listens may still be counted.
        until("somebody takes the only place", async || {
            let _silent = Raw::open(port).await;
            let told = psql(&to, "select 1").await;
            told.err
                .contains("no more connections allowed (max_clients)")
        })
        .await;
    }
}

#[tokio::test]
async fn servers_are_reached_by_the_encryption_that_is_configured() {
    let database = Database::new().await;
    let certificate = server().await.certificate().unwrap();
    let name = &database.name;
    let ca = format!("ca = \"{}\"\n", certificate.ca.display());
    // What the users `tls`, `clear` and `scram` get, who may come only so, only so, and both ways.
    let cases = [
        ("disable", "", None, Some("f"), Some("f")),
        ("allow", "", Some("t"), Some("f"), Some("f")),
        ("prefer", "", Some("t"), Some("f"), Some("t")),
        ("require", "", Some("t"), None, Some("t")),
        ("verify-ca", &ca, Some("t"), None, Some("t")),
        ("verify-full", &ca, Some("t"), None, Some("t")),
    ];
    for (mode, files, tls, clear, both) in cases {
        let more = format!("[databases.{name}.tls]\nmode = \"{mode}\"\n{files}");
        let proxy = Proxy::start(&by("scram-sha-256", &database, &more)).await;
        for (user, expected) in [("tls", tls), ("clear", clear), ("scram", both)] {
            let question = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
            let answer = match try_connect(&proxy.url(user, name)).await {
                Ok(client) => Some(client.one(question).await),
                Err(_) => None,
            };
            assert_eq!(
                answer.as_deref(),
                expected,
                "{mode} {user}\n{}",
                proxy.log()
            );
        }
    }
}

#[tokio::test]
async fn a_server_of_another_authority_is_not_believed() {
    let database = Database::new().await;
    let other = Server::builder(&Binaries::find().unwrap())
        .tls(true)
        .start()
        .await
        .unwrap();
    let ca = other.certificate().unwrap().ca.display().to_string();
    let name = &database.name;
    let more = format!("[databases.{name}.tls]\nmode = \"verify-full\"\nca = \"{ca}\"\n");
    let proxy = Proxy::start(&by("scram-sha-256", &database, &more)).await;
    let (code, _) = try_connect(&proxy.url("app", name))
        .await
        .map(drop)
        .unwrap_err();
    assert!(code.starts_with("08"), "{code}");
}

#[tokio::test]
async fn unix_sockets_work_on_both_legs() {
    let database = Database::new().await;
    let (name, port) = (&database.name, database.port);
    let socket = server().await.socket_dir().display();
    let config = Config::text(format!(
        "[listen]\naddresses = [\"127.0.0.1:{{port}}\"]\nunix_dir = \"{{dir}}\"\nunix_port = {{port}}\n\
         [users.scram]\npassword = \"scram\"\n[databases.{name}]\nhosts = [\"{socket}:{port}\"]\n"
    ));
    let proxy = Proxy::start(&config).await;
    let dir = proxy.path("").display().to_string();
    let to = format!(
        "host={dir} port={} user=scram password=scram dbname={name}",
        proxy.port()
    );
    let output = psql(&to, "select inet_client_addr() is null").await;
    assert_eq!(output.success(), "t");
}

#[tokio::test]
async fn a_client_may_log_in_while_the_server_is_away() {
    let mut server = Server::builder(&Binaries::find().unwrap())
        .start()
        .await
        .unwrap();
    let config = Config::text(format!(
        "[listen]\naddresses = [\"127.0.0.1:{{port}}\"]\n[auth]\nmethod = \"trust\"\n\
         [users.postgres]\n[databases.postgres]\nhosts = [\"127.0.0.1:{}\"]\n\
         [timeouts]\ncheckout = \"500ms\"\ncheckout_notice = 0\n",
        server.port()
    ));
    let proxy = Proxy::start(&config).await;
    let first = pgherd_tests::connect(&proxy.url("postgres", "postgres")).await;
    first.one("select 1").await;
    server.stop(Stop::Fast).await.unwrap();
    let second = pgherd_tests::connect(&proxy.url("postgres", "postgres")).await;
    let (code, _) = second.refused("select 1").await;
    assert!(["57014", "08006", "57P03"].contains(&&*code), "{code}");
    server.restart().await.unwrap();
    pgherd_tests::until("both are served again", async || {
        first.column("select 1").await.is_ok() && second.column("select 1").await.is_ok()
    })
    .await;
}
