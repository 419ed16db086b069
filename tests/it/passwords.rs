//! Secrets that nobody has written down: keys learned at a login, passwords passed through, and
//! what becomes of them when they change or end.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use pgherd_sandbox::{Binaries, Server};
use pgherd_tests::{Config, PATIENCE, Proxy, connect, try_connect, until};
use tokio::sync::OnceCell;
use tokio::time::{sleep, timeout};

/// A server that asks everybody for SCRAM, but `trusted` for nothing.
const RULES: &[&str] = &[
    "host all trusted 127.0.0.1/32 trust",
    "host all all 127.0.0.1/32 scram-sha-256",
];

static STRICT: OnceCell<Server> = OnceCell::const_new();

/// The server of the tests in this file; each has users of its own.
async fn strict() -> &'static Server {
    STRICT.get_or_init(another).await
}

async fn another() -> Server {
    let server = Server::builder(&Binaries::find().unwrap()).auth(RULES);
    let server = server.start().await.unwrap();
    server
        .sql("create role asker login superuser password 'asker'; create role trusted login;")
        .await
        .unwrap();
    server
}

/// Name and secret, and whether it is valid and the role may log in.
const QUERY: &str = "SELECT rolname, rolpassword, rolvaliduntil OPERATOR(pg_catalog.>) \
                     pg_catalog.now(), rolcanlogin FROM pg_catalog.pg_authid \
                     WHERE rolname OPERATOR(pg_catalog.=) $1";

/// A configuration that looks users up by a query, before the database `postgres` of a server.
fn looking_up(query: &str, port: u16, more: &str) -> Config {
    Config::text(format!(
        "[listen]\naddresses = [\"127.0.0.1:{{port}}\"]\n[auth]\nquery = \"\"\"{query}\"\"\"\n\
         query_user = \"asker\"\nquery_database = \"postgres\"\n[users.asker]\npassword = \"asker\"\n\
         [databases.postgres]\nhosts = [\"127.0.0.1:{port}\"]\n{more}\n"
    ))
}

fn passing_through(port: u16, more: &str) -> Config {
    Config::text(format!(
        "[listen]\naddresses = [\"127.0.0.1:{{port}}\"]\n[auth]\nmethod = \"passthrough\"\n\
         [databases.postgres]\nhosts = [\"127.0.0.1:{port}\"]\n{more}\n"
    ))
}

fn at(proxy: &Proxy, user: &str, password: &str, database: &str) -> String {
    format!(
        "postgres://{user}:{password}@127.0.0.1:{}/{database}",
        proxy.port()
    )
}

/// The SQLSTATE by which a login is refused; empty if it is not.
async fn code(url: &str) -> String {
    try_connect(url)
        .await
        .map_or_else(|(code, _)| code, |_| String::new())
}

/// Ends the server connections of a user.
async fn end_connections(server: &Server, user: &str) {
    let end = format!(
        "select count(pg_terminate_backend(pid, 10000)) from pg_stat_activity where usename = '{user}'"
    );
    server.sql(&end).await.unwrap();
}

#[tokio::test]
async fn keys_of_a_login_open_all_servers_that_store_the_same_secret() {
    let (first, second) = (strict().await, another().await);
    first.create_user("keyed", "keyed").await.unwrap();
    first.sql("create database other").await.unwrap();
    let stored = "select rolpassword from pg_authid where rolname = 'keyed'";
    let stored = first.sql(stored).await.unwrap();
    let copy = format!("create role keyed login password '{stored}'");
    second.sql(&copy).await.unwrap();
    // And one that has the same password, but stored by itself.
    let third = another().await;
    third.create_user("keyed", "keyed").await.unwrap();
    let more = format!(
        "[databases.other]\nhosts = [\"127.0.0.1:{}\"]\n\
         [databases.second]\nhosts = [\"127.0.0.1:{}\"]\ndbname = \"postgres\"\n\
         [databases.third]\nhosts = [\"127.0.0.1:{}\"]\ndbname = \"postgres\"\n",
        first.port(),
        second.port(),
        third.port()
    );
    let by_query = looking_up(QUERY, first.port(), &more);
    let by_file = Config::text(format!(
        "[listen]\naddresses = [\"127.0.0.1:{{port}}\"]\n[users.keyed]\npassword = \"{stored}\"\n\
         [databases.postgres]\nhosts = [\"127.0.0.1:{}\"]\n{more}",
        first.port()
    ));
    for config in [by_query, by_file] {
        let proxy = Proxy::start(&config).await;
        for database in ["postgres", "other", "second"] {
            let client = connect(&at(&proxy, "keyed", "keyed", database)).await;
            assert_eq!(
                client.one("select session_user").await,
                "keyed",
                "{database}"
            );
        }
        let told = try_connect(&at(&proxy, "keyed", "keyed", "third")).await;
        let (code, words) = told.map(drop).unwrap_err();
        assert_eq!(code, "28P01");
        assert!(words.contains("takes another password of keyed"), "{words}");
        assert_eq!(
            self::code(&at(&proxy, "keyed", "wrong", "second")).await,
            "28P01"
        );
    }
    // Keys of another secret are not even tried.
    let log = std::fs::read_to_string(third.log()).unwrap();
    assert!(!log.contains("password authentication failed"), "{log}");
}

/// Clients that ask on and on, and what they are told. As an application does, they log in anew where their session has
/// ended, and only there.
struct Load {
    /// By what they log in.
    url: Arc<Mutex<String>>,
    over: Arc<AtomicBool>,
    answers: Arc<AtomicUsize>,
    codes: Arc<Mutex<BTreeSet<String>>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    async fn begin(url: &str, clients: usize) -> Self {
        let mut load = Self {
            url: Arc::new(Mutex::new(url.to_owned())),
            over: Arc::default(),
            answers: Arc::default(),
            codes: Arc::default(),
            tasks: Vec::new(),
        };
        for _ in 0..clients {
            let mut client = connect(url).await;
            let (over, answers) = (Arc::clone(&load.over), Arc::clone(&load.answers));
            let (codes, url) = (Arc::clone(&load.codes), Arc::clone(&load.url));
            load.tasks.push(tokio::spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    let asked = timeout(PATIENCE, client.simple_query("select 1"));
                    match asked.await.expect("an answer, whatever it is") {
                        Ok(_) => {
                            answers.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(error) => {
                            match error.code() {
                                Some(code) => drop(codes.lock().insert(code.code().to_owned())),
                                None => assert!(error.is_closed(), "{error}"),
                            }
                            // A real client does not ask again at once, either.
                            sleep(Duration::from_millis(5)).await;
                        }
                    }
                    while client.is_closed() && !over.load(Ordering::Relaxed) {
                        let url = url.lock().clone();
                        match try_connect(&url).await {
                            Ok(new) => client = new,
                            Err((code, _)) => drop(codes.lock().insert(code)),
                        }
                        sleep(Duration::from_millis(5)).await;
                    }
                }
            }));
        }
        load
    }

    /// Waits for answers from now on.
    async fn is_served(&self) {
        let before = self.answers.load(Ordering::Relaxed);
        let wanted = before + 4 * self.tasks.len();
        let what = "clients are served";
        until(what, async || self.answers.load(Ordering::Relaxed) > wanted).await;
    }

    /// Waits until somebody was told an error of this SQLSTATE.
    async fn is_told(&self, code: &str) {
        let what = format!("a client is told {code}");
        until(&what, async || self.codes.lock().contains(code)).await;
    }

    /// Gives the SQLSTATEs of all errors.
    async fn end(self) -> BTreeSet<String> {
        self.over.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        self.codes.lock().clone()
    }
}

#[tokio::test]
async fn a_rotated_password_heals_with_the_next_login_under_load() {
    let server = strict().await;
    server.create_user("rotated", "old").await.unwrap();
    let config = looking_up(QUERY, server.port(), "[pool]\nsize = 3\n");
    let proxy = Proxy::start(&config).await;
    let url = |password: &str| at(&proxy, "rotated", password, "postgres");
    let load = Load::begin(&url("old"), 8).await;
    load.is_served().await;
    let rotate = "alter role rotated password 'new'";
    server.sql(rotate).await.unwrap();
    // Connections that are open stay so, as with Postgres itself; the login is by the new secret.
    assert_eq!(code(&url("old")).await, "28P01");
    load.is_served().await;
    end_connections(server, "rotated").await;
    proxy.logged("takes another password of rotated", 1).await;
    // A login that comes before the pool has told anybody spares them all: nobody would be told of the password.
    load.is_told("28P01").await;
    *load.url.lock() = url("new");
    let client = connect(&url("new")).await;
    assert_eq!(client.one("select session_user").await, "rotated");
    // Also those who came with the old one: who has asked meanwhile was sent away, and the others go on.
    load.is_served().await;
    let codes = load.end().await;
    // What was cut off by the end of its connection says so; the rest was told of the password.
    let known = ["28P01", "57P01", "08006", "08007", "40001"];
    assert!(
        codes.iter().all(|code| known.contains(&&**code)),
        "{codes:?}"
    );
    let log = std::fs::read_to_string(server.log()).unwrap();
    let refused = log.matches("authentication failed for user \"rotated\"");
    assert_eq!(refused.count(), 0, "keys that cannot fit are not tried");
}

/// Tools that look after roles do so at each run. No driver logs in anew as long as its connection stands, and nobody else may
/// come by.
#[tokio::test]
async fn a_password_that_is_stored_anew_heals_by_itself() {
    let server = strict().await;
    server.create_user("stored", "same").await.unwrap();
    let config = looking_up(QUERY, server.port(), "[pool]\nsize = 3\n");
    let proxy = Proxy::start(&config).await;
    let load = Load::begin(&at(&proxy, "stored", "same", "postgres"), 4).await;
    load.is_served().await;
    server
        .sql("alter role stored password 'same'")
        .await
        .unwrap();
    end_connections(server, "stored").await;
    load.is_told("28P01").await;
    load.is_served().await;
    load.end().await;
}

/// It hears later than the primary that a password was changed, and its keys fit from then on.
#[tokio::test]
async fn a_replica_that_is_behind_is_read_from_once_it_has_heard_of_a_password() {
    let primary = another().await;
    primary.create_user("late", "same").await.unwrap();
    let replica = primary.replica().await.unwrap();
    replica.caught_up(&primary).await.unwrap();
    let config = Config::text(format!(
        "[listen]\naddresses = [\"127.0.0.1:{{port}}\"]\n[auth]\nquery = \"\"\"{QUERY}\"\"\"\n\
         query_user = \"asker\"\n[users.asker]\npassword = \"asker\"\n\
         [failover]\nuser = \"asker\"\n[reads]\nfrom = \"replicas\"\n\
         [databases.postgres]\nhosts = [\"127.0.0.1:{}\", \"127.0.0.1:{}\"]\n",
        primary.port(),
        replica.port()
    ));
    let proxy = Proxy::start(&config).await;
    let url = at(&proxy, "late", "same", "postgres");
    let first = connect(&url).await;
    let place = async || first.column("select inet_server_port()").await;
    let is_read_from = async || {
        place()
            .await
            .is_ok_and(|at| at == [replica.port().to_string()])
    };
    until("the replica is read from", async || is_read_from().await).await;
    let delay = "alter system set recovery_min_apply_delay = '2s'";
    replica.sql(delay).await.unwrap();
    replica.sql("select pg_reload_conf()").await.unwrap();
    let again = "alter role late password 'same'";
    primary.sql(again).await.unwrap();
    // It brings the new keys, which do not fit the replica yet.
    let _second = connect(&url).await;
    end_connections(&replica, "late").await;
    until("it is not read from", async || {
        place()
            .await
            .is_ok_and(|at| at == [primary.port().to_string()])
    })
    .await;
    until("the replica is read from again", async || {
        is_read_from().await
    })
    .await;
}

#[tokio::test]
async fn a_login_brings_newer_keys_before_the_old_ones_are_missed() {
    let server = strict().await;
    server.create_user("early", "old").await.unwrap();
    let proxy = Proxy::start(&looking_up(QUERY, server.port(), "")).await;
    let url = |password: &str| at(&proxy, "early", password, "postgres");
    let first = connect(&url("old")).await;
    first.one("select 1").await;
    server.sql("alter role early password 'new'").await.unwrap();
    let second = connect(&url("new")).await;
    end_connections(server, "early").await;
    // Nobody is told anything: the pool has the new keys already.
    for client in [&first, &second] {
        until("it is served", async || {
            client.column("select 1").await.is_ok()
        })
        .await;
    }
    assert!(!proxy.log().contains("takes another password"));
}

#[tokio::test]
async fn passwords_and_roles_end_as_the_server_says() {
    let server = strict().await;
    server.create_user("ending", "ending").await.unwrap();
    let forms = [
        QUERY,
        // PgBouncer's own.
        "SELECT rolname, CASE WHEN rolvaliduntil < pg_catalog.now() THEN NULL ELSE rolpassword END \
         FROM pg_authid WHERE rolname=$1 AND rolcanlogin",
    ];
    for (form, barred) in forms.into_iter().zip(["28000", "28P01"]) {
        let proxy = Proxy::start(&looking_up(form, server.port(), "")).await;
        let url = |password: &str| at(&proxy, "ending", password, "postgres");
        for (change, right, wrong) in [
            ("valid until 'infinity'", "", "28P01"),
            ("valid until '2000-01-01'", "28P01", "28P01"),
            ("valid until '2999-01-01'", "", "28P01"),
            // Only who knows the password learns of it.
            ("nologin", barred, "28P01"),
            ("login", "", "28P01"),
            ("password null", "28P01", "28P01"),
            ("valid until 'infinity' password 'ending'", "", "28P01"),
        ] {
            // The pool is warm all the time; it does not open the door.
            server
                .sql(&format!("alter role ending {change}"))
                .await
                .unwrap();
            assert_eq!(code(&url("ending")).await, right, "{form} {change}");
            assert_eq!(code(&url("wrong")).await, wrong, "{form} {change}");
        }
        server.sql("alter role ending nologin").await.unwrap();
        if barred == "28000" {
            let (_, words) = try_connect(&url("ending")).await.map(drop).unwrap_err();
            assert_eq!(words, "role \"ending\" is not permitted to log in");
        }
        server.sql("alter role ending login").await.unwrap();
    }
}

#[tokio::test]
async fn an_auth_query_that_says_something_else_lets_nobody_in() {
    let server = strict().await;
    server.create_user("asking", "asking").await.unwrap();
    for (query, expected) in [
        // No boolean where one is expected: a date would be taken for anything.
        (
            "SELECT rolname, rolpassword, now() FROM pg_authid WHERE rolname = $1",
            "F0000",
        ),
        (
            "SELECT rolname, rolpassword, NULL, 'no' FROM pg_authid WHERE rolname = $1",
            "F0000",
        ),
        (
            "SELECT rolname, rolpassword FROM pg_authid WHERE rolname = $1 OR true",
            "28P01",
        ),
        (
            "SELECT upper(rolname), rolpassword FROM pg_authid WHERE rolname = $1",
            "28P01",
        ),
        ("SELECT rolname FROM pg_authid WHERE rolname = $1", "28P01"),
        ("SELECT nothing FROM nowhere WHERE rolname = $1", "F0000"),
        (
            "SELECT rolname, rolpassword, NULL, NULL FROM pg_authid WHERE rolname = $1",
            "",
        ),
    ] {
        let proxy = Proxy::start(&looking_up(query, server.port(), "")).await;
        let found = code(&at(&proxy, "asking", "asking", "postgres")).await;
        assert_eq!(found, expected, "{query}");
    }
}

#[tokio::test]
async fn users_are_looked_up_by_the_servers_own_settings() {
    let server = strict().await;
    server.create_user("pathless", "pathless").await.unwrap();
    // Where the path is another, the unqualified name is another table.
    let trap = "create view public.known as select usename, passwd from pg_catalog.pg_shadow;\
                create schema trap; create table trap.known as \
                select 'pathless'::name as usename, 'stolen'::text as passwd;";
    server.sql(trap).await.unwrap();
    let query = "SELECT usename, passwd FROM known WHERE usename = $1";
    let proxy = Proxy::start(&looking_up(query, server.port(), "[pool]\nsize = 1\n")).await;
    let asker = at(
        &proxy,
        "asker",
        "asker",
        "postgres?options=-csearch_path%3Dtrap",
    );
    let asker = connect(&asker).await;
    assert_eq!(asker.one("select passwd from known").await, "stolen");
    assert_eq!(
        code(&at(&proxy, "pathless", "stolen", "postgres")).await,
        "28P01"
    );
    assert_eq!(
        code(&at(&proxy, "pathless", "pathless", "postgres")).await,
        ""
    );
}

#[tokio::test]
async fn a_password_is_proved_in_the_clients_own_name() {
    let server = strict().await;
    server.create_user("prover", "prover").await.unwrap();
    server.create_user("keeper", "keeper").await.unwrap();
    // Whatever is known of the way to the server proves nothing of the client.
    let more = format!(
        "[databases.fixed]\nhosts = [\"127.0.0.1:{port}\"]\ndbname = \"postgres\"\n\
         user = \"keeper\"\npassword = \"keeper\"\n\
         [users.prover]\nserver_user = \"keeper\"\nserver_password = \"keeper\"\n",
        port = server.port()
    );
    let proxy = Proxy::start(&passing_through(server.port(), &more)).await;
    for database in ["postgres", "fixed"] {
        let url = |password: &str| at(&proxy, "prover", password, database);
        assert_eq!(code(&url("wrong")).await, "28P01", "{database}");
        assert_eq!(code(&url("keeper")).await, "28P01", "{database}");
        let client = connect(&url("prover")).await;
        assert_eq!(
            client.one("select session_user").await,
            "keeper",
            "{database}"
        );
        assert_eq!(
            code(&url("wrong")).await,
            "28P01",
            "with a warm pool, {database}"
        );
    }
    // A database that does not exist is told of to those alone who have proved themselves.
    let nowhere = |password: &str| at(&proxy, "prover", password, "nowhere");
    assert_eq!(code(&nowhere("wrong")).await, "28P01");
    assert_eq!(code(&nowhere("prover")).await, "3D000");
    assert_eq!(
        code(&at(&proxy, "nobody", "prover", "nowhere")).await,
        "28P01"
    );
    assert_eq!(
        code(&at(&proxy, "prover", "prover", "pgherd")).await,
        "28P01"
    );
}

#[tokio::test]
async fn users_who_pass_through_share_nothing_but_the_host() {
    let server = strict().await;
    for user in ["left", "right"] {
        server.create_user(user, user).await.unwrap();
    }
    let proxy = Proxy::start(&passing_through(server.port(), "[pool]\nsize = 1\n")).await;
    let mut clients = Vec::new();
    for user in ["left", "right", "left"] {
        let client = connect(&at(&proxy, user, user, "postgres")).await;
        assert_eq!(client.one("select session_user").await, user);
        clients.push((user, client));
    }
    // One's password is not the other's, however warm its pool.
    assert_eq!(
        code(&at(&proxy, "left", "right", "postgres")).await,
        "28P01"
    );
    for (user, client) in &clients {
        assert_eq!(client.one("select session_user").await, *user);
    }
}

#[tokio::test]
async fn a_rotated_password_that_passes_through_is_noticed() {
    let server = strict().await;
    server.create_user("passing", "old").await.unwrap();
    let proxy = Proxy::start(&passing_through(server.port(), "[pool]\nsize = 2\n")).await;
    let url = |password: &str| at(&proxy, "passing", password, "postgres");
    let first = connect(&url("old")).await;
    first.one("select 1").await;
    let mut others = Vec::new();
    for _ in 0..6 {
        others.push(connect(&url("old")).await);
    }
    let idle = connect(&url("old")).await;
    server
        .sql("alter role passing password 'new'")
        .await
        .unwrap();
    assert_eq!(code(&url("old")).await, "28P01");
    end_connections(server, "passing").await;
    // The pool finds out by itself, once, and then asks for a login.
    let refused = async || match first.column("select 1").await {
        Err(error) => error.code().is_some_and(|code| code.code() == "28P01"),
        Ok(_) => panic!("the old password is still good"),
    };
    until("the old password is refused", refused).await;
    // Who asks meanwhile is sent away: only a login brings the new one.
    for other in &others {
        let (code, words) = other.refused("select 1").await;
        assert_eq!(code, "28P01");
        assert!(
            words.contains("takes another password of passing"),
            "{words}"
        );
    }
    let log = std::fs::read_to_string(server.log()).unwrap();
    let failed = log
        .matches("authentication failed for user \"passing\"")
        .count();
    assert!(failed <= 3, "the server was asked {failed} times");
    let second = connect(&url("new")).await;
    for client in [&idle, &second] {
        assert_eq!(client.one("select session_user").await, "passing");
    }
    until("the others have ended", async || {
        others.iter().chain([&first]).all(|other| other.is_closed())
    })
    .await;
}

#[tokio::test]
async fn a_server_that_trusts_us_proves_nobody_else() {
    let server = strict().await;
    server
        .sql("alter role trusted password 'real'")
        .await
        .unwrap();
    let proxy = Proxy::start(&passing_through(server.port(), "")).await;
    // The server trusts this machine, but the client may come from anywhere.
    for password in ["made-up", "real"] {
        let refused = code(&at(&proxy, "trusted", password, "postgres")).await;
        assert_eq!(refused, "28P01");
    }
    let rules = server.data_dir().join("pg_hba.conf");
    let trusting = std::fs::read_to_string(&rules).unwrap();
    let without = trusting.replace("host all trusted 127.0.0.1/32 trust\n", "");
    std::fs::write(&rules, without).unwrap();
    server.reload();
    let real = at(&proxy, "trusted", "real", "postgres");
    until("the rule holds", async || try_connect(&real).await.is_ok()).await;
    let made_up = at(&proxy, "trusted", "made-up", "postgres");
    assert_eq!(code(&made_up).await, "28P01");
    std::fs::write(&rules, trusting).unwrap();
    server.reload();
}
