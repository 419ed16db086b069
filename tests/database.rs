use std::fmt::Write as _;
use std::sync::atomic::{AtomicU32, Ordering};

use pgherd_sandbox::{Binaries, Server};
use tokio::sync::OnceCell;

/// One server for all tests of the process. The sandbox' guardian ends it with the process.
static SERVER: OnceCell<Server> = OnceCell::const_new();
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Who may log in by what. The password of each is its name.
const RULES: &[&str] = &[
    "host all scram 127.0.0.1/32 scram-sha-256",
    "host all md5 127.0.0.1/32 md5",
    "host all plain 127.0.0.1/32 password",
    "host all hashed 127.0.0.1/32 password",
    "local all scram scram-sha-256",
    "hostssl all tls 127.0.0.1/32 scram-sha-256",
    "hostnossl all tls 127.0.0.1/32 reject",
    "hostssl all clear 127.0.0.1/32 reject",
    "host all all 127.0.0.1/32 trust",
    "local all all trust",
];

/// The users of the server, each with its own name as the password; `app` and `other` are trusted
/// over TCP, so that most tests need no passwords.
const ROLES: &str = "\
    create role app login superuser password 'app';\n\
    create role other login password 'other';\n\
    create role scram login password 'scram';\n\
    create role plain login password 'plain';\n\
    create role tls login password 'tls';\n\
    create role clear login password 'clear';\n\
    set password_encryption = 'md5';\n\
    create role md5 login password 'md5';\n\
    create role hashed login password 'hashed';\n";

/// Gives the server that all tests of this process share; it speaks TLS to whom wants it.
///
/// # Panics
/// If it cannot be started.
pub async fn server() -> &'static Server {
    SERVER
        .get_or_init(|| async {
            let binaries = Binaries::find().expect("Postgres is needed");
            let server = Server::builder(&binaries)
                .auth(RULES)
                .tls(true)
                .settings(&[("max_connections", "400"), ("log_statement", "all")])
                .start()
                .await
                .expect("the server starts");
            server.sql(ROLES).await.expect("the users are made");
            server
        })
        .await
}

/// A database of a test's own, on the shared server. It stays until the server goes.
#[derive(Clone, Debug)]
pub struct Database {
    /// Its name.
    pub name: String,
    /// The port of its server on 127.0.0.1.
    pub port: u16,
}

impl Database {
    /// Makes one.
    ///
    /// # Panics
    /// If it cannot be made.
    pub async fn new() -> Self {
        let server = server().await;
        let name = format!("t{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let create = format!("create database {name} template template0");
        server.sql(&create).await.expect("the database is made");
        Self {
            name,
            port: server.port(),
        }
    }

    /// Runs statements directly, as the superuser, and gives the rows with `|` between columns.
    ///
    /// # Panics
    /// If one fails.
    pub async fn sql(&self, statements: &str) -> String {
        let server = server().await;
        server
            .sql_in(&self.name, statements)
            .await
            .expect("the statements run")
    }

    /// Gives a URL of the server itself.
    pub fn url(&self, user: &str) -> String {
        format!(
            "postgres://{user}:{user}@127.0.0.1:{}/{}",
            self.port, self.name
        )
    }

    /// Counts the server connections of a user in this database, without those by which pgherd looks after
    /// its servers.
    pub async fn backends(&self, user: &str) -> usize {
        let mut question = String::from("select count(*) from pg_stat_activity where ");
        // Writing to a String cannot fail.
        let _ = write!(
            question,
            "datname = '{}' and usename = '{user}' and application_name <> 'pgherd monitor'",
            self.name
        );
        let answer = server().await.sql(&question).await.expect("the count");
        answer.parse().expect("a number")
    }
}
